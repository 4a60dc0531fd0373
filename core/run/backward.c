/* Backward by recomputation: from kept stream to kept stream, each segment forward once and then down. */
#include <stdlib.h>

#include "base/mem.h"
#include "base/num.h"
#include "run/gradient.h"
#include "run/schedule.h"

/* Inputs of the units [from, from + n): the kept stream and those computed again from it. */
typedef struct Segment {
    Stream *input; /* [n], the first borrowed */
    int from, n;
} Segment;

/* The unit behind the segment that kept stream k begins. */
static int segment_end(const Backward *b, int k)
{
    return k + 1 < b->nkept && b->kept_at[k + 1] < b->last ? b->kept_at[k + 1] : b->last;
}

static void segment_fini(Segment *g)
{
    for (int i = 1; i < g->n; i++)
        stream_fini(&g->input[i]);
    free(g->input);
    *g = (Segment){0};
}

static Status segment_make(Runner *r, const Backward *b, int k, Segment *g, Error *err)
{
    const Variant v = {.sdpa = b->sdpa};
    g->from = b->kept_at[k];
    g->n = segment_end(b, k) - g->from;
    g->input = mem_zarray((size_t)g->n, sizeof *g->input);
    if (!g->input)
        return error_nomem(err, "a backward pass");
    g->input[0] = *b->kept[k];
    Status st = ST_OK;
    for (int i = 1; st == ST_OK && i < g->n; i++) {
        st = cancel_check(runner_cancel(r), err);
        if (st == ST_OK)
            st = stream_like(&g->input[i], &g->input[0], err);
        if (st == ST_OK)
            st = runner_layer(r, g->from + i - 1, &v, &g->input[i - 1], &g->input[i], NULL, 0, err);
    }
    return st;
}

static Status segment_down(Runner *r, const Backward *b, const Segment *g, Stream *grad, Error *err)
{
    const Variant v = {.sdpa = b->sdpa};
    for (int i = g->n - 1; i >= 0 && g->from + i >= b->first; i--) {
        RETURN_IF_ERROR(cancel_check(runner_cancel(r), err));
        RETURN_IF_ERROR(unit_backward(r, g->from + i, &v, &g->input[i], grad, b->hooks, err));
        if (b->unit_done)
            RETURN_IF_ERROR(b->unit_done(b->ctx, g->from + i, &g->input[i], grad, err));
    }
    return ST_OK;
}

static Status check(const Model *m, const Backward *b, const Stream *grad, Error *err)
{
    bool fits = b->first >= 0 && b->first < b->last && b->last <= m->nunits && b->nkept > 0 &&
                b->kept_at[0] <= b->first && b->kept_at[0] >= 0;
    for (int i = 0; fits && i < b->nkept; i++)
        fits = (i == 0 || b->kept_at[i] > b->kept_at[i - 1]) && b->kept[i]->rows == grad->rows &&
               b->kept[i]->width == grad->width && b->kept[i]->samples == grad->samples;
    if (!fits)
        return error_set(err, ST_INTERNAL, "units %d to %d can't be walked down from the streams that were kept", b->first,
                         b->last);
    for (int unit = b->first; unit < b->last; unit++)
        RETURN_IF_ERROR(unit_has_gradients(m, unit, err));
    return ST_OK;
}

Status schedule_backward(Runner *r, const Backward *b, Stream *grad, Error *err)
{
    RETURN_IF_ERROR(check(runner_model(r), b, grad, err));
    Status st = ST_OK;
    for (int k = b->nkept - 1; st == ST_OK && k >= 0; k--) {
        if (b->kept_at[k] >= b->last || (k + 1 < b->nkept && b->kept_at[k + 1] <= b->first))
            continue;
        Segment g = {0};
        st = segment_make(r, b, k, &g, err);
        if (st == ST_OK)
            st = segment_down(r, b, &g, grad, err);
        segment_fini(&g);
    }
    return st;
}

uint64_t schedule_backward_bytes(const Model *m, const Backward *b, int64_t rows, int64_t longest, int threads)
{
    int units = 0;
    uint64_t most = 0;
    for (int k = 0; k < b->nkept; k++)
        units = (int)max_i64(units, segment_end(b, k) - b->kept_at[k]);
    for (int u = b->first; u < b->last; u++)
        most = max_u64(most, unit_backward_bytes(m, u, rows, longest, threads));
    uint64_t stream = (uint64_t)rows * ((uint64_t)m->cfg.stream_width * sizeof(float) + sizeof(int32_t));
    return (uint64_t)(units + 1) * stream + most;
}
