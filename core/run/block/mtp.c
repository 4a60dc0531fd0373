#include "run/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { ROW_TILE = 64 };

/* ---- the token after a text's last ---- */

typedef struct Best {
    float *logit;  /* [rows] the highest so far */
    int32_t *id;
} Best;

/* The first of equal ones; a row without a number keeps 0. */
static void best_panel(void *ctx, int worker, int64_t row0, int64_t rows, int64_t v0, int64_t nv, const float *logits, int64_t ld,
                       const float *w)
{
    (void)worker;
    (void)w;
    Best *b = ctx;
    for (int64_t t = 0; t < rows; t++)
        for (int64_t v = 0; v < nv; v++)
            if (logits[t * ld + v] > b->logit[row0 + t]) {
                b->logit[row0 + t] = logits[t * ld + v];
                b->id[row0 + t] = (int32_t)(v0 + v);
            }
}

/* What the model itself puts behind each text: id[samples], of those that are not empty. */
static Status next_ids(Runner *r, const Ops *ops, const Stream *in, int32_t *id, Error *err)
{
    Stream last = {0}, normed = {0};
    int64_t *start = mem_array((size_t)in->samples + 1, sizeof *start), w = in->width;
    Best best = {mem_array((size_t)in->samples, sizeof *best.logit), id};
    Status st = ST_OK;
    if (start && best.logit) {
        for (int s = 0; s <= in->samples; s++)
            start[s] = s;
        st = stream_init(&last, in->samples, start, w, err);
    } else {
        st = error_nomem(err, "the tokens behind the texts");
    }
    for (int s = 0; s < in->samples && st == ST_OK; s++) {
        best.logit[s] = -INFINITY;
        id[s] = 0;
        if (in->start[s + 1] > in->start[s])
            memcpy(last.data + s * w, in->data + (in->start[s + 1] - 1) * w, (size_t)w * sizeof *last.data);
        else
            memset(last.data + s * w, 0, (size_t)w * sizeof *last.data);
    }
    if (st == ST_OK)
        st = exit_norm(r, ops, &last, &normed, NULL, 0, err);
    if (st == ST_OK)
        st = exit_logits(r, ops, &normed, best_panel, &best, err);
    stream_fini(&last);
    stream_fini(&normed);
    free(start);
    free(best.logit);
    return st;
}

/* Every token's successor in its text. */
static Status shifted_ids(Runner *r, const Ops *ops, const Stream *in, int32_t *ids, Error *err)
{
    int32_t *next = mem_array((size_t)in->samples, sizeof *next);
    Status st = next ? next_ids(r, ops, in, next, err) : error_nomem(err, "the tokens behind the texts");
    for (int s = 0; s < in->samples && st == ST_OK; s++)
        for (int64_t t = in->start[s]; t < in->start[s + 1]; t++)
            ids[t] = t + 1 < in->start[s + 1] ? in->ids[t + 1] : next[s];
    free(next);
    return st;
}

/* ---- the step ---- */

typedef struct Joined {
    Pass *ps;
    float *x;              /* [rows][2 hidden]: embedding, then the state */
    float *enorm, *hnorm;
} Joined;

static void norm_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const Joined *j = ctx;
    const Runner *r = j->ps->r;
    const Ops *ops = &j->ps->ops;
    const Stream *in = j->ps->in;
    int64_t h = r->m->cfg.hidden, end = (index + 1) * ROW_TILE < in->rows ? (index + 1) * ROW_TILE : in->rows;
    for (int64_t t = index * ROW_TILE; t < end; t++) {
        float *x = j->x + t * 2 * h;
        ops_norm(ops, r->m->arch->norm, x, j->enorm, r->m->cfg.eps, h, x);
        ops_norm(ops, r->m->arch->norm, in->data + t * h, j->hnorm, r->m->cfg.eps, h, x + h);
    }
}

/* Embeddings of the next tokens (the state's half is overwritten) and the two norms. */
static Status join(Joined *j, Error *err)
{
    Runner *r = j->ps->r;
    const Ops *ops = &j->ps->ops;
    const Stream *in = j->ps->in;
    int32_t *ids = mem_array((size_t)in->rows, sizeof *ids);
    Status st = ids ? shifted_ids(r, ops, in, ids, err) : error_nomem(err, "token ids");
    if (st == ST_OK)
        st = embed_ids(r, ops, r->m->mtp.embed, ids, in->rows, 2 * r->m->cfg.hidden, j->x, err);
    free(ids);
    if (st == ST_OK)
        st = source_small(&r->src, ops, r->m->mtp.enorm, &j->enorm, err);
    if (st == ST_OK)
        st = source_small(&r->src, ops, r->m->mtp.hnorm, &j->hnorm, err);
    RETURN_IF_ERROR(st);
    Batch b = {.n = 0};
    batch_add(&b, norm_task, j, (in->rows + ROW_TILE - 1) / ROW_TILE);
    return batch_run(&b, r->opt.pool, r->opt.cancel, err);
}

/* ps->out = eh_proj(x), over all rows at once: a form may have to see them all. */
static Status project(Joined *j, LinearRun *lin, Error *err)
{
    Pass *ps = j->ps;
    Runner *r = ps->r;
    int64_t h = r->m->cfg.hidden;
    float *act = NULL;
    WorkerNeed need = layer_worker_need(r->m, ps->ops.model, ps->plan.longest_sample, ps->plan.largest);
    RETURN_IF_ERROR(workers_reserve(r, &need, err));
    pass_take_all(ps);
    if (lin->form && lin->form->act && !(act = mem_aligned((size_t)(ps->rows * 2 * h), sizeof *act)))
        return error_nomem(err, "the activations of a layer");
    Stage st = {.ps = ps, .n = 1, .lin = {lin}, .x = j->x, .y = {ps->out->data}, .ldy = {h}, .act_scratch = act,
                .in_mask = pass_tap_mask(ps, TAP_LINEAR_IN, lin->index)};
    Status s = stage_run(&st, NULL, NULL, err);
    if (s == ST_OK)
        s = pass_feed_tap(ps, TAP_LINEAR_OUT, lin->index, ps->out->data, h, h, err);
    free(act);
    return s;
}

uint64_t mtp_bytes(const Model *m, int64_t rows)
{
    return m->mtp_layers ? (uint64_t)(rows * m->cfg.hidden) * 4 * sizeof(float) : 0; /* as read, and fake-quantized */
}

static Status check_room(const Pass *ps, Error *err)
{
    const Runner *r = ps->r;
    uint64_t streams = (uint64_t)(ps->in->rows * ps->in->width) * sizeof(float) * (ps->in == ps->out ? 1 : 2);
    uint64_t need = streams + mtp_bytes(r->m, ps->in->rows);
    if (!ps->in->ids)
        return error_set(err, ST_INTERNAL, "layer %d needs the tokens of its hidden states", ps->layer);
    if (r->opt.mem_limit && need > r->opt.mem_limit)
        return error_set(err, ST_NOMEM,
                         "layer %d needs %.1f MB for the hidden states of %lld tokens and the embeddings beside them but "
                         "the limit is %.1f MB: raise --mem, or use fewer texts (--max-samples, --seq-len)",
                         ps->layer, (double)need / 1e6, (long long)ps->in->rows, (double)r->opt.mem_limit / 1e6);
    return ST_OK;
}

/* In a variant's arithmetic the step counts as the layer's first norm, what is behind it as what follows that. */
Status mtp_start(Pass *ps, Error *err)
{
    Runner *r = ps->r;
    bool model = ps->ops.model;
    Joined j = {.ps = ps};
    LinearRun lin = {0};
    RETURN_IF_ERROR(check_room(ps, err));
    j.x = mem_aligned((size_t)(ps->in->rows * 2 * r->m->cfg.hidden), sizeof *j.x);
    Status st = j.x ? rowplan_make(&ps->plan, ps->in, err) : error_nomem(err, "the activations of a layer");
    ps->ops.model = model && ps->dtype != VARIANT_WIDE;
    if (st == ST_OK)
        st = join(&j, err);
    if (st == ST_OK)
        st = pass_linear_start(ps, &lin, r->m->mtp.eh_proj, err);
    ps->ops.model = model && ps->dtype == VARIANT_MODEL;
    if (st == ST_OK)
        st = project(&j, &lin, err);
    ps->ops.model = model;
    pass_linear_end(&lin);
    rowplan_fini(&ps->plan);
    free(j.x);
    free(j.enorm);
    free(j.hnorm);
    ps->in = ps->out;
    ps->dtype = ps->dtype == VARIANT_MIXED ? VARIANT_WIDE : ps->dtype;
    return st;
}
