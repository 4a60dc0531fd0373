#ifndef SLIM_IO_SAFETENSORS_H
#define SLIM_IO_SAFETENSORS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/pool.h"

enum { TENSOR_MAX_DIMS = 6 };

/* Where a tensor's bytes lie. Row-major. */
typedef struct TensorInfo {
    const char *name;
    int64_t shape[TENSOR_MAX_DIMS];
    int ndim;
    DType dtype;
    int file;        /* index of the file within the checkpoint */
    uint64_t offset; /* of the first byte, from the start of that file */
    uint64_t nbytes;
} TensorInfo;

/* A model folder's tensors: model.safetensors, or the shards of model.safetensors.index.json, or those of a folder that
 * lost its index. Opening reads headers only. The index says in which shard a tensor is read that several have. Of many
 * shards only some are kept open. */
typedef struct Checkpoint Checkpoint;

/* Validates every header field (offsets, overlaps, gaps, sizes, dtypes, duplicate names, header up to 100 MB, shard
 * names that would leave the folder, index against shards). `dir` is a folder; a path to one .safetensors file is taken
 * too. ST_DATA of a folder without weights says what it has instead. */
Status checkpoint_open(Checkpoint **out, const char *dir, Error *err);
void checkpoint_free(Checkpoint *c);
int64_t checkpoint_count(const Checkpoint *c);
const TensorInfo *checkpoint_at(const Checkpoint *c, int64_t i); /* order of files, then of offsets */
const TensorInfo *checkpoint_find(const Checkpoint *c, const char *name); /* NULL when absent */
/* Whether a tensor of this type is there: for many names it spares looking for each. */
bool checkpoint_has(const Checkpoint *c, DType t);
/* The shard in which the index says that a tensor is, while no shard has it; NULL for all others. */
const char *checkpoint_promised(const Checkpoint *c, const char *name);
/* What of the folder is odd and does not stop it from being read, in words; NULL when nothing is. */
const char *checkpoint_note(const Checkpoint *c);
int checkpoint_files(const Checkpoint *c);
const char *checkpoint_file_path(const Checkpoint *c, int file);
/* Bytes [begin, begin+n) of the tensor into dst, by pread; any thread. A short read names file, tensor, wanted and
 * found bytes. */
Status checkpoint_read(const Checkpoint *c, const TensorInfo *t, uint64_t begin, uint64_t n, void *dst, Error *err);
/* Weight bytes read so far (headers and the fingerprint's places not counted): the cause behind "first paint reads no
 * weight". */
uint64_t checkpoint_bytes_read(const Checkpoint *c);
/* SHA-256 over every header, every file size and the weights at fixed places (io/fingerprint.h; at most some 100 KiB a
 * shard), as 64 hex digits: a fine-tune differs from its base. A change of a few values may escape it: checkpoint_hash. */
const char *checkpoint_fingerprint(const Checkpoint *c);
/* The path of a file whose size or time of change is not what it was at the opening, NULL: there is none. *other: its
 * content is another, too, as far as the fingerprint sees. */
const char *checkpoint_changed(const Checkpoint *c, bool *other);
/* How a long reading is followed and stopped. */
typedef struct CheckpointWatch {
    const Cancel *cancel; /* may be NULL */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
} CheckpointWatch;
/* SHA-256 of every byte of a file, as sha256sum gives it. */
Status checkpoint_hash(const Checkpoint *c, int file, const CheckpointWatch *watch, Digest *out, Error *err);

/* Writing: one file, tensors in the order added. */
typedef struct TensorOut {
    const char *name;
    DType dtype;
    int ndim;
    int64_t shape[TENSOR_MAX_DIMS];
    const void *data;
} TensorOut;
/* Written atomically. `metadata` pairs (key, value, key, value, NULL) may be NULL. */
Status safetensors_write(const char *path, const TensorOut *t, int64_t n, const char *const *metadata, Error *err);

#endif
