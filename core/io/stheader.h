#ifndef SLIM_IO_STHEADER_H
#define SLIM_IO_STHEADER_H

#include "base/hash.h"
#include "base/mem.h"
#include "io/safetensors.h"

/* Tensors gathered from the headers of one or more files; names live in the arena. Zero-initialise to start. */
typedef struct TensorList {
    TensorInfo *t;
    size_t count, cap;
    Arena names;
} TensorList;

/* Reads and validates the header of one open safetensors file of `size` bytes and appends its tensors in order of
 * offset, with `file` as their file. Adds the header's bytes and the size to `hash`. Errors name the file and, where
 * there is one, the tensor. */
Status stheader_read(int fd, const char *path, uint64_t size, int file, TensorList *list, Hasher *hash, Error *err);

#endif
