#ifndef SLIM_MODEL_CHECK_H
#define SLIM_MODEL_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pool.h"
#include "base/str.h"
#include "io/safetensors.h"

/* Reading every tensor of a checkpoint once, for what a broken download or a failed conversion leaves behind
 * (DECISIONS, `slimscope check`). */

/* A finite value is absurd above SCAN_HUGE (float16 ends at 65504; trained weights stay far below); a tensor is absurd
 * when its largest magnitude is neither zero nor as large as SCAN_TINY. */
#define SCAN_HUGE 1e5
#define SCAN_TINY 1e-20
/* Rows shorter than this are not looked at as constant: scales and small convolutions have them. */
enum { SCAN_ROW_MIN = 16 };

typedef struct TensorScan {
    int64_t nans, infs, huge; /* values; integers have none */
    int64_t bad_at, huge_at;  /* index of the first NaN or Inf, of the first huge value; -1 */
    bool bad_is_nan;
    double max_abs;           /* of the finite values; integers: their bit pattern, so 0 means all zero */
    int64_t rows;             /* rows looked at: of float tensors with two dimensions or more */
    int64_t constant_rows, constant_at; /* rows of one value repeated, index of the first; -1 */
    char *unreadable;         /* why it could not be read to the end, NULL normally */
} TensorScan;

typedef struct ScanOptions {
    Pool *pool;
    Cancel *cancel; /* may be NULL */
    /* From any worker, one at a time; may raise `cancel`. May be NULL. */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
    /* [checkpoint_count], may be NULL: where positive the tensor holds scales of codes up to this magnitude. Their
     * products must not be absurd, rows are not looked at, and U8 means F8_E8M0. */
    const double *codes;
} ScanOptions;

/* Index of the first NaN or Inf among n values as a file holds them, *nan: which of the two; -1: there is none, as in
 * every type of whole numbers. */
int64_t values_first_bad(DType t, const void *p, int64_t n, bool *nan);
/* Appends where a value stands in a tensor of this shape: "[3,17]". */
void tensor_position(const int64_t *shape, int ndim, int64_t index, Str *out);

/* Scans all tensors into a fresh [checkpoint_count] array (tensorscan_free). Pieces of a few MiB, in file order; the
 * result does not depend on threads. A tensor that cannot be read is a finding of its own, not a failure. */
Status tensorscan_run(const Checkpoint *c, const ScanOptions *o, TensorScan **out, Error *err);
void tensorscan_free(TensorScan *scan, int64_t n);

typedef enum ScanVerdict { SCAN_FINE, SCAN_NOTE, SCAN_BAD } ScanVerdict;
/* What to make of a tensor. Bad: unreadable, NaN or Inf, absurd magnitudes, a matrix that is all zero. Constant rows
 * are bad in a matrix, a note in the embedding and the head (padded vocabularies have them); so is a vector or an
 * integer tensor that is all zero. Offsets of codes, told by their names, may be all zero. */
ScanVerdict tensorscan_verdict(const TensorInfo *t, const TensorScan *s);

#endif
