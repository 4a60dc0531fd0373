#ifndef SLIM_SAVE_LAYOUT_H
#define SLIM_SAVE_LAYOUT_H

#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/safetensors.h"

/* Where every tensor of an output lies, worked out before any is written (specs/formats.md 4). */
typedef struct OutTensor {
    const char *name;
    const char *label;   /* its entry of the description */
    int64_t shape[TENSOR_MAX_DIMS];
    uint64_t nbytes;
    uint64_t offset;     /* of the first byte, from the start of its file */
    int32_t item, part;  /* which module of the walk, and which of its tensors */
    int32_t file;
    const char *own;     /* name of a file of its own, NULL: among the others. Borrowed */
    int16_t ndim;
    int16_t dtype;       /* a DType */
} OutTensor;

typedef struct SaveLayout {
    OutTensor *t;        /* in write order */
    size_t n, cap;
    int files;           /* the last nown of them are files of their own */
    int nown;
    const char **own;    /* [nown] what these are called */
    uint64_t *size;      /* [files] whole file */
    uint64_t *head;      /* [files] length of the header with its 8 bytes */
    size_t *order;       /* [n] tensors file by file as they lie: by dtype, then name */
    size_t *begin;       /* [files + 1] into order */
    uint64_t payload;    /* bytes of all tensors but those in files of their own */
    Arena names;
} SaveLayout;

/* Appends a tensor; the name is made of `module` and `suffix` (either may be ""). label is borrowed. */
Status layout_add(SaveLayout *l, const char *module, const char *suffix, DType dtype, int ndim, const int64_t *shape,
                  const char *label, int32_t item, int32_t part, Error *err);
/* Cuts the list into files: a tensor that would bring the pending ones to `limit` bytes or beyond starts a new one.
 * limit 0: one file. */
void layout_cut(SaveLayout *l, uint64_t limit);
/* Once all others have their file: those with one of their own get it. */
Status layout_own(SaveLayout *l, Error *err);
/* Files that hold what the index lists. */
int layout_shards(const SaveLayout *l);
/* Once every tensor has its file: order, offsets and sizes. Names may not repeat. */
Status layout_place(SaveLayout *l, Error *err);
/* The file's header as stored: 8 bytes of length, then JSON padded with blanks. */
Status layout_header(const SaveLayout *l, int file, Str *out, Error *err);
void layout_free(SaveLayout *l);

#endif
