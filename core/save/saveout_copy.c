#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/kernels.h"
#include "model/check.h"
#include "save/saveout.h"

enum { COPY_BYTES = 4 << 20 };

/* Where the model's values come from. */
static Source save_source(const SavePlan *plan)
{
    return (Source){plan->model, plan->overlay};
}

bool save_has_bias(const SavePlan *plan, int64_t i)
{
    return overlay_has_bias(plan->overlay, plan->model, i) || save_changes_has_bias(plan->changes, i);
}

static Status copy_range(const SavePlan *plan, const TensorInfo *t, uint64_t begin, uint64_t n, SavePut *put, void *ctx,
                         Error *err)
{
    Source src = save_source(plan);
    size_t piece = n < COPY_BYTES ? (size_t)n : COPY_BYTES;
    char *buf = malloc(piece ? piece : 1);
    if (!buf)
        return error_nomem(err, t->name);
    Status st = ST_OK;
    for (uint64_t at = 0; at < n && st == ST_OK; at += piece) {
        if (n - at < piece)
            piece = (size_t)(n - at);
        st = source_bytes(&src, t, begin + at, piece, buf, err);
        if (st == ST_OK)
            st = put(ctx, at, buf, piece, err);
    }
    free(buf);
    return st;
}

static Status copy_tensor(const SavePlan *plan, const TensorInfo *t, SavePut *put, void *ctx, Error *err)
{
    return copy_range(plan, t, 0, t->nbytes, put, ctx, err);
}

/* rows x cols values at `at`, `row_step` and `col_step` apart, put in row order. */
static Status copy_view(const SavePlan *plan, const TensorInfo *t, int64_t at, int64_t rows, int64_t cols,
                        int64_t row_step, int64_t col_step, SavePut *put, void *ctx, Error *err)
{
    Source src = save_source(plan);
    size_t e = (size_t)dtype_size(t->dtype);
    if (rows == 0 || cols == 0)
        return ST_OK;
    if (col_step == 1 && (row_step == cols || rows == 1))
        return copy_range(plan, t, (uint64_t)at * e, (uint64_t)(rows * cols) * e, put, ctx, err);
    size_t span = (size_t)((rows - 1) * row_step + (cols - 1) * col_step + 1) * e;
    char *all = malloc(span), *row = malloc((size_t)cols * e);
    Status st = all && row ? source_bytes(&src, t, (uint64_t)at * e, span, all, err)
                           : error_nomem(err, t->name);
    for (int64_t r = 0; r < rows && st == ST_OK; r++) {
        for (int64_t c = 0; c < cols; c++)
            memcpy(row + (size_t)c * e, all + (size_t)(r * row_step + c * col_step) * e, e);
        st = put(ctx, (uint64_t)(r * cols) * e, row, (size_t)cols * e, err);
    }
    free(all);
    free(row);
    return st;
}

/* A weight that is not as the checkpoint's bytes say: codes are written as the BF16 values they stand for, what was
 * changed in the weight's dtype. */
static Status copy_rows(const SavePlan *plan, const Linear *l, SavePut *put, void *ctx, Error *err)
{
    Source src = save_source(plan);
    DType t = weight_dtype(l);
    size_t e = (size_t)dtype_size(t);
    int64_t step = COPY_BYTES / (l->in * (int64_t)sizeof(float));
    step = step < 1 ? 1 : step > l->out ? l->out : step;
    float *w = mem_array((size_t)(step * l->in), sizeof *w);
    void *out = mem_array((size_t)(step * l->in), e);
    SourceWeight weight = source_weight(&src, l);
    Status st = w && out ? source_check(&src, l, err) : error_nomem(err, l->name);
    if (st == ST_OK)
        st = source_prepare(&weight, NULL, NULL, NULL, NULL, err);
    for (int64_t r = 0; r < l->out && st == ST_OK; r += step) {
        int64_t rows = l->out - r < step ? l->out - r : step;
        st = source_weight_rows(&weight, NULL, r, rows, w, err);
        if (st != ST_OK)
            break;
        source_encode(w, rows * l->in, t, out);
        st = put(ctx, (uint64_t)(r * l->in) * e, out, (size_t)(rows * l->in) * e, err);
    }
    source_release(&weight);
    free(w);
    free(out);
    return st;
}

/* One that the checkpoint lacks has the model's dtype. */
static DType bias_dtype(const SavePlan *plan, int64_t linear)
{
    const Linear *l = &plan->model->linears[linear];
    return l->bias ? l->bias->dtype : plan->model->cfg.dtype;
}

/* A bias that was changed or added; 0 where one was promised and did not come. */
static Status copy_bias(const SavePlan *plan, int64_t linear, SavePut *put, void *ctx, Error *err)
{
    Source src = save_source(plan);
    const Linear *l = &plan->model->linears[linear];
    DType t = bias_dtype(plan, linear);
    float *b;
    RETURN_IF_ERROR(source_bias(&src, NULL, l, &b, err));
    if (!b)
        b = mem_zarray((size_t)l->out, sizeof *b);
    void *out = mem_array((size_t)l->out, (size_t)dtype_size(t));
    Status st = b && out ? ST_OK : error_nomem(err, l->name);
    if (st == ST_OK) {
        source_encode(b, l->out, t, out);
        st = put(ctx, 0, out, (size_t)l->out * (size_t)dtype_size(t), err);
    }
    free(b);
    free(out);
    return st;
}

Status save_copy_linear(const SavePlan *plan, int64_t linear, bool bias, SavePut *put, void *ctx, Error *err)
{
    const Linear *l = &plan->model->linears[linear];
    const LinearEdit *e = overlay_linear(plan->overlay, linear);
    if (bias && (!l->bias || (e && e->bias)))
        return copy_bias(plan, linear, put, ctx, err);
    if (!bias && (l->store || e))
        return copy_rows(plan, l, put, ctx, err);
    if (l->out_step == 0)
        return copy_tensor(plan, bias ? l->bias : l->weight, put, ctx, err);
    if (bias)
        return copy_view(plan, l->bias, l->bias_at, l->out, 1, l->bias_step ? l->bias_step : 1, 1, put, ctx, err);
    return copy_view(plan, l->weight, l->at, l->out, l->in, l->out_step, l->in_step, put, ctx, err);
}

/* ---- an item of the walk ---- */

static DType source_dtype(const SavePlan *plan, const SaveItem *it, bool bias)
{
    if (save_is_added(it))
        return save_added_dtype(plan, it);
    if (it->kind == SI_TENSOR)
        return it->coded ? DT_BF16 : it->t->dtype;
    return bias ? bias_dtype(plan, it->linear) : weight_dtype(&plan->model->linears[it->linear]);
}

DType save_item_dtype(const SavePlan *plan, const SaveItem *it, bool bias)
{
    return it->wide ? DT_F32 : source_dtype(plan, it, bias);
}

typedef struct Widen {
    SavePut *put;
    void *ctx;
    DType from;
} Widen;

static Status put_widened(void *ctx, uint64_t at, const void *data, size_t n, Error *err)
{
    enum { PIECE = 1024 };
    const Widen *w = ctx;
    const unsigned char *from = data;
    float x[PIECE];
    for (size_t i = 0, count = n / 2; i < count; i += PIECE) {
        size_t k = count - i < PIECE ? count - i : PIECE;
        math_widen(math_fast(), w->from, from + 2 * i, (int64_t)k, x);
        RETURN_IF_ERROR(w->put(w->ctx, 2 * at + i * sizeof *x, x, k * sizeof *x, err));
    }
    return ST_OK;
}

Status save_copy_item(const SavePlan *plan, const SaveItem *it, bool bias, SavePut *put, void *ctx, Error *err)
{
    DType source = source_dtype(plan, it, bias);
    Widen w = {put, ctx, source};
    if (it->wide && source != DT_F32) {
        put = put_widened;
        ctx = &w;
    }
    if (it->coded)
        return copy_rows(plan, it->coded, put, ctx, err);
    if (save_is_added(it))
        return save_copy_added(plan, it, put, ctx, err);
    bool apart = it->head && overlay_untied(plan->overlay);
    const TensorInfo *t = apart ? overlay_head(plan->overlay, plan->model) : it->t;
    return it->kind == SI_TENSOR ? copy_tensor(plan, t, put, ctx, err)
                                 : save_copy_linear(plan, it->linear, bias, put, ctx, err);
}

/* ---- looking at what is copied ---- */

typedef struct Look {
    const SavePlan *plan;
    const SaveItem *it;
    bool bias;
    SavePut *put;
    void *ctx;
} Look;

/* Shape of what is copied. */
static int item_shape(const Look *l, int64_t shape[TENSOR_MAX_DIMS])
{
    const Linear *n = l->it->coded ? l->it->coded : l->it->kind == SI_LINEAR ? &l->plan->model->linears[l->it->linear] : NULL;
    if (n) {
        shape[0] = n->out;
        shape[1] = n->in;
        return l->bias ? 1 : 2;
    }
    if (save_is_added(l->it)) {
        shape[0] = save_added_values(l->plan, l->it);
        return 1;
    }
    for (int d = 0; d < l->it->t->ndim; d++)
        shape[d] = l->it->t->shape[d];
    return l->it->t->ndim;
}

static Status bad_value(const Look *l, int64_t index, bool nan, Error *err)
{
    int64_t shape[TENSOR_MAX_DIMS];
    Str at = {0};
    tensor_position(shape, item_shape(l, shape), index, &at);
    Status st = error_set(err, ST_DATA, "'%s%s' has %s at %s: the model is damaged; 'slimscope check' names every such "
                          "tensor", l->it->name, l->it->kind != SI_LINEAR ? "" : l->bias ? ".bias" : ".weight",
                          nan ? "NaN" : "Inf", str_text(&at));
    str_free(&at);
    return st;
}

static Status put_looked(void *ctx, uint64_t at, const void *data, size_t n, Error *err)
{
    const Look *l = ctx;
    DType t = save_item_dtype(l->plan, l->it, l->bias);
    int64_t size = dtype_size(t), bad;
    bool nan;
    bad = values_first_bad(t, data, (int64_t)n / size, &nan);
    if (bad >= 0)
        return bad_value(l, (int64_t)at / size + bad, nan, err);
    return l->put ? l->put(l->ctx, at, data, n, err) : ST_OK;
}

Status save_copy_sound(const SavePlan *plan, const SaveItem *it, bool bias, SavePut *put, void *ctx, Error *err)
{
    Look l = {plan, it, bias, put, ctx};
    return save_copy_item(plan, it, bias, put_looked, &l, err);
}
