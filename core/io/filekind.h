#ifndef SLIM_IO_FILEKIND_H
#define SLIM_IO_FILEKIND_H

#include <stddef.h>

/* What a file is that should have been another kind, by its first n bytes (64 are enough), with what to do: "is a gzip
 * file: unpack it". NULL when it is none of the known ones. For error texts. */
const char *file_foreign_kind(const void *bytes, size_t n);

#endif
