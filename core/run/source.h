#ifndef SLIM_RUN_SOURCE_H
#define SLIM_RUN_SOURCE_H

#include "model/overlay.h"
#include "model/weight.h"
#include "run/feed.h"
#include "run/ops.h"

/* The one door to the values of a model: the checkpoint's, changed as an overlay says. Passes, quantizers and savers
 * ask here, so a change is seen by all of them or by none. Without edits it reads what the checkpoint holds, byte for
 * byte.
 *
 * Arithmetic of an edit: float32 in the order of model/overlay.h, then one rounding: to the dtype of `ops` in its model
 * mode (ops NULL: none), or to the dtype in which the values are asked for as bytes.
 *
 * scratch in the following: so many floats as source_scratch or source_tensor_scratch say, aligned to 64 bytes, another one
 * for every thread; NULL where that is 0. */
typedef struct Source {
    const Model *model;
    const Overlay *overlay; /* NULL: the checkpoint as it is */
} Source;

/* ---- weights of linears ---- */

/* How one weight is read. Who reads ahead asks for the span of rows, has its bytes read and decodes them. Of a weight that
 * was turned from the left no row is had without all the others: source_whole. All of it is made first, whole; then there
 * is nothing to read for any span, and rows are decoded as ever. */
typedef struct SourceWeight {
    const Linear *linear;
    Linear base;            /* where the values lie that the edit works on: the checkpoint's, or a derived tensor */
    const Checkpoint *file; /* which has that tensor; NULL: the values are in memory, there is nothing to read */
    const LinearEdit *edit; /* NULL: none */
    const float *whole;     /* [out][in] as it is decoded; NULL: not made, or not needed */
    float *made;            /* the same, to be freed; NULL: the caller's */
} SourceWeight;
/* l: one of the model's linears, or a loose one (model/storage.h), which nobody changes. */
SourceWeight source_weight(const Source *s, const Linear *l);
static inline bool source_whole(const SourceWeight *w)
{
    return w->edit && w->edit->weight && w->edit->weight->whole;
}
/* Bytes of a weight that has to be whole; 0 for all others. */
uint64_t source_whole_bytes(const SourceWeight *w);
/* Makes whole a weight that has to be, of memory of its own, or in to[out][in] where that isn't NULL; nothing for all
 * others. pool NULL: on this thread. Not while tasks of the pool run. */
Status source_prepare(SourceWeight *w, const Ops *ops, float *to, Pool *pool, const Cancel *cancel, Error *err);
/* Frees what was made. */
void source_release(SourceWeight *w);
/* Floats of scratch that decoding takes. */
size_t source_scratch(const SourceWeight *w);
/* Bytes of base.weight and of its scales that hold rows [r0, r1); all 0 when there is nothing to read. */
WeightSpan source_span(const SourceWeight *w, int64_t r0, int64_t r1);
/* The same as what a feed reads. */
FeedPiece source_piece(const SourceWeight *w, int64_t r0, int64_t r1);
/* Bytes that reading all of it takes. */
uint64_t source_weight_bytes(const SourceWeight *w);
/* Rows [r0, r0 + rows) as float32 [rows][in]. raw and scale: what the span of rows [first, end) read, as in
 * weight_decode. */
void source_decode(const SourceWeight *w, const Ops *ops, int64_t first, const void *raw, const void *scale, int64_t r0,
                   int64_t rows, float *scratch, float *out);
/* The rows as they lie in raw, where source_decode would do nothing but widen them: plain floats, unchanged, that the
 * arithmetic doesn't round, or rows that were made; *t their dtype, *ld elements from one to the next. NULL: they have to
 * be decoded. */
const void *source_plain_rows(const SourceWeight *w, const Ops *ops, int64_t first, const void *raw, int64_t r0,
                              DType *t, int64_t *ld);
/* As source_decode straight from the file; any thread. source_rows makes a weight whole for the one call. */
Status source_weight_rows(const SourceWeight *w, const Ops *ops, int64_t r0, int64_t rows, float *out, Error *err);
Status source_rows(const Source *s, const Ops *ops, const Linear *l, int64_t r0, int64_t rows, float *out, Error *err);
/* Refuses (ST_DATA) a weight that can't be read, or whose file contradicts config.json (reads up to 16 bytes). */
Status source_check(const Source *s, const Linear *l, Error *err);
/* The linear's bias as float32 [out], *out NULL without one (caller frees). */
Status source_bias(const Source *s, const Ops *ops, const Linear *l, float **out, Error *err);

/* ---- norms, embedding, head and the like ---- */

typedef struct SourceTensor {
    const TensorInfo *tensor; /* that was asked for */
    const TensorInfo *base;   /* whose values the edit works on */
    const Checkpoint *file;   /* which has it; NULL: the values are in memory */
    const TensorEdit *edit;   /* NULL: none */
} SourceTensor;
SourceTensor source_tensor(const Source *s, const TensorInfo *t);
size_t source_tensor_scratch(const SourceTensor *t);
/* Values [at, at + n), whole rows of the last dimension, as float32 out of their bytes (of base's dtype; not looked at
 * without a file). */
void source_tensor_decode(const SourceTensor *t, const Ops *ops, const void *raw, int64_t at, int64_t n, float *scratch,
                          float *out);
/* The same from the file. raw: room for n values of base's dtype. Any thread. */
Status source_values(const SourceTensor *t, const Ops *ops, int64_t at, int64_t n, void *raw, float *scratch, float *out,
                     Error *err);
/* A whole small tensor; caller frees. ST_DATA: no float type. */
Status source_small(const Source *s, const Ops *ops, const TensorInfo *t, float **out, Error *err);
/* What is added to what the norm with this weight gives: its bias, or one that was added, as float32; *out NULL: nothing.
 * Caller frees. */
Status source_norm_bias(const Source *s, const Ops *ops, const TensorInfo *norm, float **out, Error *err);
/* Bytes [begin, begin + n) of the tensor in its own dtype, changed values rounded to it; any type as long as it isn't
 * changed. begin and n are multiples of an element then. Any thread. */
Status source_bytes(const Source *s, const TensorInfo *t, uint64_t begin, uint64_t n, void *dst, Error *err);
/* n values as bytes of dtype t (F32, F16 or BF16), rounded to the nearest. */
void source_encode(const float *v, int64_t n, DType t, void *dst);

#endif
