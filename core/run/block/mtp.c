#include "run/lineargrad.h"
#include "run/opsback.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* ---- the token after a text's last ---- */

typedef struct Best {
    float *logit;  /* [rows] the highest so far */
    int32_t *id;
} Best;

/* The first of equal ones; a row without a number keeps 0. */
static void best_panel(void *ctx, int worker, int64_t row0, int64_t rows, int64_t v0, int64_t nv, const float *logits,
                       int64_t ld, const float *w)
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
static Status next_ids(Runner *r, const Ops *ops, const Stream *in, const float *state, int32_t *id,
                       Error *err)
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
            memcpy(last.data + s * w, state + (in->start[s + 1] - 1) * w, (size_t)w * sizeof *last.data);
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
static Status shifted_ids(Runner *r, const Ops *ops, const Stream *in, const float *state, int32_t *ids,
                          Error *err)
{
    int32_t *next = mem_array((size_t)in->samples, sizeof *next);
    Status st = next ? next_ids(r, ops, in, state, next, err) : error_nomem(err, "the tokens behind the texts");
    for (int s = 0; s < in->samples && st == ST_OK; s++)
        for (int64_t t = in->start[s]; t < in->start[s + 1]; t++)
            ids[t] = t + 1 < in->start[s + 1] ? in->ids[t + 1] : next[s];
    free(next);
    return st;
}

/* ---- the step ---- */

typedef struct Joined {
    Pass *ps;
    BlockRun *b;
    const float *state;
    float *x;              /* [rows][2 hidden]: embedding, then the state */
} Joined;

static void norm_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const Joined *j = ctx;
    const Pass *ps = j->ps;
    const ModelConfig *c = ps->cfg;
    int64_t h = c->hidden;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, ps->rows); t++) {
        float *x = j->x + t * 2 * h;
        ops_norm(&ps->front, c->norm, x, j->b->small[MTP_ENORM], j->b->shift[MTP_ENORM], c->eps, h, x);
        ops_norm(&ps->front, c->norm, j->state + t * h, j->b->small[MTP_HNORM], j->b->shift[MTP_HNORM], c->eps, h,
                 x + h);
    }
}

/* Embeddings of the next tokens (the state's half is overwritten) and the two norms: what comes in. */
static Status join(Joined *j, Error *err)
{
    Pass *ps = j->ps;
    int32_t *ids = mem_array((size_t)ps->rows, sizeof *ids);
    Status st = ids ? shifted_ids(ps->r, &ps->front, ps->in, j->state, ids, err) : error_nomem(err, "token ids");
    if (st == ST_OK)
        st = embed_ids(ps->r, &ps->front, j->b->b->small[MTP_EMBED], ids, ps->rows, 2 * ps->cfg->hidden, j->x, err);
    free(ids);
    return st == ST_OK ? pass_tiles(ps, PHASE_ELEMENTS, norm_task, j, ps->rows, err) : st;
}

/* out = eh_proj(x), over all rows at once: a form may have to see them all. */
static Status project(Joined *j, float *out, Error *err)
{
    Pass *ps = j->ps;
    LinearRun *lin = &j->b->lin[MTP_EH_PROJ];
    const Projection p = {j->x, 1, {MTP_EH_PROJ}, {out}, {0}};
    int64_t floats = ps->rows * stage_input_floats(&lin, 1, ops_gemms(&ps->ops));
    float *act = NULL;
    if (floats && !(act = mem_aligned((size_t)floats, sizeof *act)))
        return error_nomem(err, "the activations of a layer");
    Status st = block_project(ps, j->b, &p, act, NULL, err);
    free(act);
    return st;
}

static uint64_t whole_bytes(const ModelConfig *c, int64_t rows, int made)
{
    /* as read, and as the products want it: fake-quantized with its scales, or packed; `made`: changed before, a branch's */
    return (uint64_t)(rows * (2 * c->hidden + stage_acts_floats(2 * c->hidden, 1 + made))) * sizeof(float);
}

/* Beside that, for gradients. */
static uint64_t back_bytes(const ModelConfig *c, int64_t rows, bool changed)
{
    return (uint64_t)(rows * 2 * c->hidden * (1 + changed)) * sizeof(float);
}

static Status check_room(const Pass *ps, const BlockRun *b, Error *err)
{
    uint64_t streams = (uint64_t)(ps->in->rows * ps->in->width) * sizeof(float) * (ps->in == ps->out ? 1 : 2);
    const LinearRun *eh = &b->lin[MTP_EH_PROJ];
    int made = (eh->inputs != NULL) + (eh->low != NULL);
    uint64_t bytes = streams + whole_bytes(ps->cfg, ps->in->rows, made), limit = ps->r->opt.mem_limit;
    bytes += ps->grad ? back_bytes(ps->cfg, ps->in->rows, eh->inputs) : 0;
    if (!ps->in->ids)
        return error_set(err, ST_INTERNAL, "layer %d needs the tokens of its hidden states", ps->layer);
    if (limit && bytes > limit)
        return error_set(err, ST_NOMEM,
                         "layer %d needs %.1f MB for the hidden states of %lld tokens and the embeddings beside them but "
                         "the limit is %.1f MB: raise --mem, or use fewer texts (--max-samples, --seq-len)",
                         ps->layer, (double)bytes / 1e6, (long long)ps->in->rows, (double)limit / 1e6);
    return ST_OK;
}

/* In a variant's arithmetic the step counts as the layer's first norm, what is behind it as what follows that. */
static Status forward(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err)
{
    Joined j = {.ps = ps, .b = b, .state = buf->in};
    RETURN_IF_ERROR(check_room(ps, b, err));
    j.x = mem_aligned((size_t)(ps->rows * 2 * ps->cfg->hidden), sizeof *j.x);
    Status st = j.x ? join(&j, err) : error_nomem(err, "the activations of a layer");
    if (st == ST_OK)
        st = project(&j, buf->out, err);
    free(j.x);
    return st;
}

static void need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    (void)b;
    out->whole = out->least = whole_bytes(ask->cfg, ask->rows, ask->inputs + ask->branches);
}

/* ---- gradients: of the state; which tokens come next is no question of it ---- */

typedef struct JoinedDown {
    const Pass *ps;
    const BlockRun *b;
    const float *state, *dx; /* dx: [rows][2 hidden] */
    float *grad;
} JoinedDown;

static void unnorm_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const JoinedDown *j = ctx;
    const Pass *ps = j->ps;
    const ModelConfig *c = ps->cfg;
    int64_t h = c->hidden;
    for (int64_t t = index * PASS_TILE; t < pass_tile_end(index, ps->rows); t++)
        ops_norm_back(&ps->front, c->norm, j->state + t * h, j->b->small[MTP_HNORM], c->eps, h, j->dx + t * 2 * h + h, false,
                      j->grad + t * h);
}

static Status backward(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err)
{
    LinearRun *l = &b->lin[MTP_EH_PROJ];
    int64_t h = ps->cfg->hidden;
    size_t values = (size_t)(ps->rows * 2 * h);
    Joined j = {.ps = ps, .b = b, .state = buf->in, .x = mem_aligned(values, sizeof *j.x)};
    float *dx = mem_aligned(values, sizeof *dx), *edited = l->inputs ? mem_aligned(values, sizeof *edited) : NULL;
    Status st = j.x && dx && (!l->inputs || edited) ? check_room(ps, b, err) : error_nomem(err, "the activations of a layer");
    if (st == ST_OK)
        st = join(&j, err);
    const LinearBack a = {.x = j.x, .ldx = 2 * h, .g = buf->out, .ldg = h, .dx = dx, .lddx = 2 * h, .rows = ps->rows,
                          .edited = edited};
    if (st == ST_OK)
        st = grad_linear(ps, l, &a, err);
    JoinedDown d = {ps, b, buf->in, dx, buf->out};
    if (st == ST_OK)
        st = pass_tiles(ps, PHASE_ELEMENTS, unnorm_task, &d, ps->rows, err);
    free(j.x);
    free(dx);
    free(edited);
    return st;
}

static void backward_need(const Block *b, const NeedAsk *ask, BlockNeed *out)
{
    need(b, ask, out);
    out->whole = out->least = out->whole + back_bytes(ask->cfg, ask->rows, ask->inputs);
}

const BlockOps mtp_ops = {.whole = true, .need = need, .forward = forward, .backward = backward,
                          .backward_need = backward_need};
