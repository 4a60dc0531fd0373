#include "run/source.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "math/convert.h"

/* Rounds what is not of the pass's dtype already. */
static void settle(const Ops *ops, bool changed, DType t, float *v, int64_t n)
{
    if (ops && (changed || t != ops->dtype))
        ops_round(ops, v, n);
}

void source_encode(const float *v, int64_t n, DType t, void *dst)
{
    uint16_t *half = dst;
    if (t == DT_F32)
        memcpy(dst, v, (size_t)n * sizeof *v);
    for (int64_t i = 0; i < n && t == DT_BF16; i++)
        half[i] = bf16_of_float(v[i]);
    for (int64_t i = 0; i < n && t == DT_F16; i++)
        half[i] = f16_of_float(v[i]);
}

/* ---- weights of linears ---- */

SourceWeight source_weight(const Source *s, const Linear *l)
{
    SourceWeight w = {.linear = l, .edit = overlay_edit(s->overlay, s->model, l)};
    w.base = overlay_base(s->overlay, s->model, l, &w.file);
    return w;
}

static bool has_bytes(const SourceWeight *w)
{
    return w->file && !source_whole(w);
}

uint64_t source_whole_bytes(const SourceWeight *w)
{
    return source_whole(w) ? (uint64_t)(w->base.out * w->base.in) * sizeof(float) : 0;
}

WeightSpan source_span(const SourceWeight *w, int64_t r0, int64_t r1)
{
    return has_bytes(w) ? weight_span(&w->base, r0, r1) : (WeightSpan){0};
}

FeedPiece source_piece(const SourceWeight *w, int64_t r0, int64_t r1)
{
    WeightSpan s = source_span(w, r0, r1);
    FeedPiece p = {.nseg = 0};
    if (s.n)
        p.seg[p.nseg++] = (struct FeedSegment){w->file, w->base.weight, s.begin, s.n};
    if (s.scale_n)
        p.seg[p.nseg++] = (struct FeedSegment){w->file, w->base.store->scale, s.scale_begin, s.scale_n};
    return p;
}

uint64_t source_weight_bytes(const SourceWeight *w)
{
    return has_bytes(w) ? weight_bytes(&w->base) : 0;
}

size_t source_scratch(const SourceWeight *w)
{
    return w->edit && w->edit->weight && !w->whole ? w->edit->weight->scratch : 0;
}

/* Whether the values of the weight are others than the base's. */
static bool changes_values(const SourceWeight *w)
{
    const LinearEdit *e = w->edit;
    return e && (e->values || e->weight);
}

/* The base's rows, changed by the steps before `end`. */
static void decode_rows(const SourceWeight *w, int end, int64_t first, const void *raw, const void *scale, int64_t r0,
                        int64_t rows, float *scratch, float *out)
{
    int64_t in = w->linear->in;
    const LinearEdit *e = w->edit;
    if (w->file)
        weight_decode(math_fast(), &w->base, first, raw, scale, r0, rows, out);
    else
        memcpy(out, e->values + r0 * in, (size_t)(rows * in) * sizeof *out);
    if (end)
        editchain_rows(e->weight, 0, end, math_fast(), r0, rows, in, out, scratch);
}

void source_decode(const SourceWeight *w, const Ops *ops, int64_t first, const void *raw, const void *scale, int64_t r0,
                   int64_t rows, float *scratch, float *out)
{
    int64_t in = w->linear->in;
    if (w->whole) {
        memcpy(out, w->whole + r0 * in, (size_t)(rows * in) * sizeof *out);
        return;
    }
    decode_rows(w, w->edit && w->edit->weight ? w->edit->weight->n : 0, first, raw, scale, r0, rows, scratch, out);
    settle(ops, changes_values(w), weight_dtype(&w->base), out, rows * in);
}

const void *source_plain_rows(const SourceWeight *w, const Ops *ops, int64_t first, const void *raw, int64_t r0,
                              DType *t, int64_t *ld)
{
    const Linear *l = &w->base;
    *t = DT_F32;
    *ld = l->in;
    if (w->whole)
        return w->whole + r0 * l->in;
    if (changes_values(w) || l->store || (l->out_step && l->in_step != 1))
        return NULL;
    *t = l->weight->dtype;
    *ld = l->out_step ? l->out_step : l->in;
    if (ops->rounds && *t != ops->dtype)
        return NULL;
    return (const unsigned char *)raw + (uint64_t)((r0 - first) * *ld) * (uint64_t)dtype_size(*t);
}

/* Reads and decodes rows of the base, changed by the steps before `end`. */
static Status read_rows(const SourceWeight *w, int end, int64_t r0, int64_t rows, float *scratch, float *out, Error *err)
{
    WeightSpan span = w->file ? weight_span(&w->base, r0, r0 + rows) : (WeightSpan){0};
    unsigned char *raw = mem_aligned(span.n + 1, 1), *scale = mem_aligned(span.scale_n + 1, 1);
    Status st = raw && scale ? ST_OK : error_nomem(err, w->linear->name);
    if (st == ST_OK && span.n)
        st = checkpoint_read(w->file, w->base.weight, span.begin, span.n, raw, err);
    if (st == ST_OK && span.scale_n)
        st = checkpoint_read(w->file, w->base.store->scale, span.scale_begin, span.scale_n, scale, err);
    if (st == ST_OK)
        decode_rows(w, end, r0, raw, scale, r0, rows, scratch, out);
    free(raw);
    free(scale);
    return st;
}

Status source_weight_rows(const SourceWeight *w, const Ops *ops, int64_t r0, int64_t rows, float *out, Error *err)
{
    if (w->whole) {
        source_decode(w, ops, 0, NULL, NULL, r0, rows, NULL, out);
        return ST_OK;
    }
    const EditChain *c = w->edit ? w->edit->weight : NULL;
    float *scratch = mem_aligned(source_scratch(w), sizeof *scratch);
    Status st = scratch ? read_rows(w, c ? c->n : 0, r0, rows, scratch, out, err) : error_nomem(err, w->linear->name);
    if (st == ST_OK)
        settle(ops, changes_values(w), weight_dtype(&w->base), out, rows * w->linear->in);
    free(scratch);
    return st;
}

Status source_rows(const Source *s, const Ops *ops, const Linear *l, int64_t r0, int64_t rows, float *out, Error *err)
{
    SourceWeight w = source_weight(s, l);
    RETURN_IF_ERROR(source_prepare(&w, ops, NULL, NULL, NULL, err));
    Status st = source_weight_rows(&w, ops, r0, rows, out, err);
    source_release(&w);
    return st;
}

/* ---- whole weights ---- */

/* Rows of a block, and columns of a slice, that one task takes. */
enum { WHOLE_ROWS = 64, WHOLE_COLS = 96 };

typedef struct WholeWorker {
    float *scratch;
    Status status;
    Error err;
} WholeWorker;

typedef struct WholeRun {
    const SourceWeight *w;
    const Ops *ops;
    float *out;
    WholeWorker *worker;
    int threads;
    int64_t rows;  /* of a block */
    int from, to;  /* steps [from, to) are done to rows, behind reading them where from is 0; step `to` to columns */
} WholeRun;

/* Steps that a row goes through alone. */
static void whole_rows_task(void *ctx, int64_t index, int worker)
{
    WholeRun *r = ctx;
    WholeWorker *wk = &r->worker[worker];
    const EditChain *c = r->w->edit->weight;
    int64_t in = r->w->linear->in, r0 = index * r->rows, rows = min_i64(r->rows, r->w->linear->out - r0);
    float *out = r->out + r0 * in;
    if (wk->status != ST_OK)
        return;
    if (r->from == 0)
        wk->status = read_rows(r->w, r->to, r0, rows, wk->scratch, out, &wk->err);
    else
        editchain_rows(c, r->from, r->to, math_fast(), r0, rows, in, out, wk->scratch);
    if (r->to == c->n)
        settle(r->ops, true, DT_F32, out, rows * in);
}

static void whole_cols_task(void *ctx, int64_t index, int worker)
{
    WholeRun *r = ctx;
    int64_t in = r->w->linear->in, c0 = index * WHOLE_COLS;
    editchain_left(r->w->edit->weight, r->to, math_fast(), r->w->linear->out, in, c0, min_i64(WHOLE_COLS, in - c0), r->out,
                   r->worker[worker].scratch);
}

static Status whole_tasks(WholeRun *r, Pool *pool, const Cancel *cancel, int64_t n, PoolTask *fn, Error *err)
{
    if (pool)
        pool_run(pool, PHASE_DECODE, n, fn, r, cancel);
    for (int64_t i = 0; !pool && i < n && !cancel_level(cancel); i++)
        fn(r, i, 0);
    for (int i = 0; i < r->threads; i++)
        if (r->worker[i].status != ST_OK) {
            *err = r->worker[i].err;
            return r->worker[i].status;
        }
    return cancel_check(cancel, err);
}

static Status make_whole(WholeRun *r, Pool *pool, const Cancel *cancel, Error *err)
{
    const EditChain *c = r->w->edit->weight;
    Status st = ST_OK;
    for (r->from = 0; st == ST_OK && r->from <= c->n; r->from = r->to + 1) {
        r->to = editchain_next_left(c, r->from);
        st = whole_tasks(r, pool, cancel, div_up(r->w->linear->out, r->rows), whole_rows_task, err);
        if (st == ST_OK && r->to < c->n)
            st = whole_tasks(r, pool, cancel, div_up(r->w->linear->in, WHOLE_COLS), whole_cols_task, err);
    }
    return st;
}

Status source_prepare(SourceWeight *w, const Ops *ops, float *to, Pool *pool, const Cancel *cancel, Error *err)
{
    if (!source_whole(w) || w->whole)
        return ST_OK;
    const Linear *l = &w->base;
    WholeRun r = {.w = w, .ops = ops, .threads = pool ? pool_threads(pool) : 1,
                  .rows = w->file && l->out_step && l->in_step != 1 ? l->out : WHOLE_ROWS};
    Status st = ST_OK;
    if (!to)
        w->made = mem_aligned((size_t)(l->out * l->in), sizeof *w->made);
    r.out = to ? to : w->made;
    r.worker = mem_zarray((size_t)r.threads, sizeof *r.worker);
    if (!r.out || !r.worker)
        st = error_nomem(err, l->name);
    for (int i = 0; st == ST_OK && i < r.threads; i++)
        if (!(r.worker[i].scratch = mem_aligned(w->edit->weight->scratch, sizeof(float))))
            st = error_nomem(err, l->name);
    if (st == ST_OK)
        st = make_whole(&r, pool, cancel, err);
    for (int i = 0; r.worker && i < r.threads; i++)
        free(r.worker[i].scratch);
    free(r.worker);
    if (st == ST_OK)
        w->whole = r.out;
    else
        source_release(w);
    return st;
}

void source_release(SourceWeight *w)
{
    free(w->made);
    w->made = NULL;
    w->whole = NULL;
}

Status source_check(const Source *s, const Linear *l, Error *err)
{
    SourceWeight w = source_weight(s, l);
    if (!w.file)
        return ST_OK;
    if (!weight_readable(&w.base))
        return error_set(err, ST_DATA, "%s: weights of type %s cannot be run", w.base.weight->name,
                         dtype_name(w.base.weight->dtype));
    return weight_verify(s->model, &w.base, err);
}

/* ---- biases ---- */

Status source_bias(const Source *s, const Ops *ops, const Linear *l, float **out, Error *err)
{
    const LinearEdit *e = overlay_edit(s->overlay, s->model, l);
    bool changed = e && e->bias;
    *out = NULL;
    if (!changed && !l->bias)
        return ST_OK;
    float *b = mem_aligned((size_t)l->out, sizeof *b);
    if (!b)
        return error_nomem(err, l->name);
    if (changed)
        memcpy(b, e->bias, (size_t)l->out * sizeof *b);
    Status st = changed ? ST_OK : weight_bias(s->model, l, b, err);
    if (st != ST_OK) {
        free(b);
        return st;
    }
    settle(ops, changed, l->bias ? l->bias->dtype : DT_F32, b, l->out);
    *out = b;
    return ST_OK;
}

/* ---- norms, embedding, head and the like ---- */

SourceTensor source_tensor(const Source *s, const TensorInfo *t)
{
    SourceTensor r = {.tensor = t, .base = t, .file = s->model->ckpt, .edit = overlay_tensor(s->overlay, t)};
    if (r.edit && r.edit->values)
        r.file = NULL;
    if (r.edit && r.edit->derived) {
        r.base = r.edit->derived;
        r.file = r.edit->file;
    }
    return r;
}

size_t source_tensor_scratch(const SourceTensor *t)
{
    return t->edit && t->edit->rows ? t->edit->rows->scratch : 0;
}

static int64_t tensor_width(const SourceTensor *t)
{
    const TensorInfo *i = t->tensor;
    return i->ndim ? i->shape[i->ndim - 1] : 1;
}

void source_tensor_decode(const SourceTensor *t, const Ops *ops, const void *raw, int64_t at, int64_t n, float *scratch,
                          float *out)
{
    const TensorEdit *e = t->edit;
    int64_t width = tensor_width(t);
    if (t->file)
        math_widen(math_fast(), t->base->dtype, raw, n, out);
    else
        memcpy(out, e->values + at, (size_t)n * sizeof *out);
    if (e && e->rows)
        editchain_rows(e->rows, 0, e->rows->n, math_fast(), at / width, n / width, width, out, scratch);
    settle(ops, e && (e->values || e->rows), t->base->dtype, out, n);
}

Status source_values(const SourceTensor *t, const Ops *ops, int64_t at, int64_t n, void *raw, float *scratch, float *out,
                     Error *err)
{
    uint64_t size = (uint64_t)dtype_size(t->base->dtype);
    RETURN_IF_ERROR(weight_check_plain(t->base, err));
    if (t->file)
        RETURN_IF_ERROR(checkpoint_read(t->file, t->base, (uint64_t)at * size, (uint64_t)n * size, raw, err));
    source_tensor_decode(t, ops, raw, at, n, scratch, out);
    return ST_OK;
}

/* Whole rows [at, at + n) into memory that the caller frees. */
static Status values_apart(const SourceTensor *t, const Ops *ops, int64_t at, int64_t n, float **out, Error *err)
{
    void *raw = mem_aligned((size_t)n, sizeof(float));
    float *v = mem_aligned((size_t)n, sizeof *v), *scratch = mem_aligned(source_tensor_scratch(t), sizeof *scratch);
    Status st = raw && v && scratch ? source_values(t, ops, at, n, raw, scratch, v, err)
                                    : error_nomem(err, t->tensor->name);
    free(raw);
    free(scratch);
    if (st != ST_OK) {
        free(v);
        v = NULL;
    }
    *out = v;
    return st;
}

Status source_small(const Source *s, const Ops *ops, const TensorInfo *t, float **out, Error *err)
{
    SourceTensor from = source_tensor(s, t);
    *out = NULL;
    RETURN_IF_ERROR(weight_check_plain(t, err));
    return values_apart(&from, ops, 0, (int64_t)(t->nbytes / (uint64_t)dtype_size(t->dtype)), out, err);
}

Status source_norm_bias(const Source *s, const Ops *ops, const TensorInfo *norm, float **out, Error *err)
{
    const TensorInfo *own = model_norm_bias(s->model, norm);
    const float *b = overlay_norm_bias(s->overlay, norm);
    size_t n = norm->ndim ? (size_t)norm->shape[norm->ndim - 1] : 1;
    *out = NULL;
    if (own)
        return source_small(s, ops, own, out, err);
    if (!b)
        return ST_OK;
    if (!(*out = mem_aligned(n, sizeof **out)))
        return error_nomem(err, norm->name);
    memcpy(*out, b, n * sizeof **out);
    settle(ops, true, DT_F32, *out, (int64_t)n);
    return ST_OK;
}

Status source_bytes(const Source *s, const TensorInfo *t, uint64_t begin, uint64_t n, void *dst, Error *err)
{
    SourceTensor from = source_tensor(s, t);
    if (!from.edit || (!from.edit->rows && !from.edit->values && !from.edit->derived))
        return checkpoint_read(s->model->ckpt, t, begin, n, dst, err);
    int64_t size = dtype_size(t->dtype), width = tensor_width(&from), at = (int64_t)begin / size, count = (int64_t)n / size;
    int64_t first = at / width * width; /* a row is changed as a whole */
    float *v;
    RETURN_IF_ERROR(values_apart(&from, NULL, first, round_up(at + count, width) - first, &v, err));
    source_encode(v + (at - first), count, t->dtype, dst);
    free(v);
    return ST_OK;
}
