#include "run/block/attention.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "run/sdpa.h"

/* Scores one thread holds at once: about what its second-level cache takes. */
enum { SCORES_VALUES = 128 << 10, QUERY_ROWS_MAX = ATTENTION_ROWS_MAX, QUERY_ROWS_MIN = 16 };

int64_t attention_query_rows(int64_t len)
{
    int64_t rows = len > 0 ? SCORES_VALUES / len : QUERY_ROWS_MAX;
    rows = rows > QUERY_ROWS_MAX ? QUERY_ROWS_MAX : rows < QUERY_ROWS_MIN ? QUERY_ROWS_MIN : rows;
    int64_t blocks = div_up(len, rows); /* equal blocks rather than a short last one */
    return blocks > 0 ? (div_up(len, blocks) + 7) / 8 * 8 : rows;
}

int64_t attention_scores_floats(int64_t len)
{
    int64_t most = SCORES_VALUES + 8 * len, small = QUERY_ROWS_MAX * len, least = QUERY_ROWS_MIN * len;
    most = most < small ? most : small;
    return most > least ? most : least;
}

static int64_t task_rows(const AttnRun *a, int64_t len)
{
    return attention_is_online(a) ? attention_online_rows(a->heads / a->kv_heads) : attention_query_rows(len);
}

/* Of the rows behind the first `seen` ones. */
static int64_t sample_tasks(const AttnRun *a, int64_t len, int64_t seen)
{
    return div_up(len - seen, task_rows(a, len)) * a->kv_heads;
}

/* Softmax of one row over the keys whose bits are set (n of them visible); the others get 0. */
static void chosen_softmax(const AttnRun *a, float *row, int64_t n, const uint32_t *bits, int head)
{
    const Ops *ops = a->ops;
    int64_t k = 0;
    for (int64_t s = 0; s < n; s++)
        if (bits[s / 32] >> s % 32 & 1)
            row[k++] = row[s];
    if (a->sinks)
        ops_softmax_sink(ops, row, k, a->sinks[head]);
    else
        ops_softmax(ops, row, k);
    for (int64_t s = n - 1; s >= 0; s--)
        row[s] = bits[s / 32] >> s % 32 & 1 ? row[--k] : 0;
}

void attention_weights(const AttnRun *a, float *row, int64_t n, const uint32_t *chosen, int head)
{
    if (chosen)
        chosen_softmax(a, row, n, chosen, head);
    else if (a->sinks)
        ops_softmax_sink(a->ops, row, n, a->sinks[head]);
    else
        ops_softmax(a->ops, row, n);
}

/* One query head of a task (a layer with windows chooses no keys). */
static void attend(const AttnRun *a, Worker *wk, const AttnTask *task, int head)
{
    const Ops *ops = a->ops;
    int64_t base = task->base, len = task->len, t0 = task->t0, t1 = task->t1;
    const uint32_t *chosen = task->chosen;
    int64_t d = a->head_dim, dv = a->v_dim, kv = (int64_t)head * a->kv_heads / a->heads;
    int64_t words = a->ps->out ? a->ps->out->select_words : 0;
    int64_t lo = a->window > 0 && t0 - a->window + 1 > 0 ? t0 - a->window + 1 : 0;
    int64_t keys = (a->every_key ? len : t1) - lo;
    GemmArgs g = {
        .m = t1 - t0,
        .n = keys,
        .k = d,
        .x = a->q + (base + t0) * a->ldq + head * d,
        .ldx = a->ldq,
        .w = task->k + lo * a->ldk + kv * d,
        .ldw = a->ldk,
        .y = wk->scores,
        .ldy = keys,
    };
    bool fused = a->ps->sdpa && ops->rounds && !chosen && !a->sinks && a->softcap <= 0;
    bool masked = a->every_key || (a->window > 0 && len >= a->window); /* a mask is given instead of "causal" */
    float sum[ATTENTION_ROWS_MAX];
    if (fused)
        ops_product(ops, &g, wk->gemm);
    else
        ops_scores(ops, &g, a->scale, wk->gemm);
    for (int64_t t = t0; t < t1; t++) {
        float *row = wk->scores + (t - t0) * keys;
        int64_t first = a->window > 0 && t - a->window + 1 > lo ? t - a->window + 1 - lo : 0;
        int64_t n = (a->every_key ? len : t + 1) - lo - first;
        memset(row, 0, (size_t)first * sizeof *row);
        if (a->softcap > 0)
            ops_softcap(ops, row + first, n, a->softcap);
        if (fused)
            sum[t - t0] = sdpa_weights(ops, row + first, a->scale, n, sdpa_vector_keys(t, len, masked) - lo - first);
        else
            attention_weights(a, row + first, n, chosen ? chosen + (t - t0) * words : NULL, head);
        memset(row + first + n, 0, (size_t)(keys - first - n) * sizeof *row);
    }
    GemmArgs pv = {
        .m = t1 - t0,
        .n = dv,
        .k = keys,
        .x = wk->scores,
        .ldx = keys,
        .w = task->v + lo * a->ldv + kv * dv,
        .ldw = a->ldv,
        .w_by_k = true,
        .y = a->o + (base + t0) * a->ldo + head * dv,
        .ldy = a->ldo,
    };
    if (!fused) {
        ops_gemm(ops, &pv, wk->gemm);
        for (int64_t t = 0; t < pv.m && !ops->rounds && a->ps->ops.rounds; t++)
            ops_round(&a->ps->ops, pv.y + t * pv.ldy, dv);
        return;
    }
    ops_product(ops, &pv, wk->gemm);
    for (int64_t t = 0; t < pv.m; t++)
        ops_scale(ops, pv.y + t * pv.ldy, 1.0f / sum[t], dv);
}

static void attention_task(void *ctx, int64_t index, int worker)
{
    const AttnRun *a = ctx;
    const Pass *ps = a->ps;
    Worker *wk = &ps->r->worker[worker];
    int lo = 0, hi = ps->s1 - ps->s0; /* the sample: the last whose first task is not after index */
    while (hi - lo > 1) {
        int mid = lo + (hi - lo) / 2;
        if (a->first_task[mid] <= index)
            lo = mid;
        else
            hi = mid;
    }
    int s = ps->s0 + lo;
    int64_t begin = ps->in->start[s], seen = stream_seen(ps->in, s), len = stream_length(ps->in, s);
    int64_t rows = task_rows(a, len), rest = index - a->first_task[lo], t0 = seen + rest / a->kv_heads * rows;
    AttnTask t = {.base = begin - ps->row0 - seen, .len = len, .t0 = t0, .t1 = min_i64(t0 + rows, len),
                  .kv = (int)(rest % a->kv_heads)};
    t.k = ps->in->past ? past_at(ps, a->b, ATTENTION_PAST_K, s) : a->k + t.base * a->ldk;
    t.v = ps->in->past ? past_at(ps, a->b, ATTENTION_PAST_V, s) : a->v + t.base * a->ldv;
    if (a->select && len > ps->cfg->index.top_k)
        t.chosen = ps->out->select + (begin + t0 - seen) * ps->out->select_words;
    if (attention_is_online(a)) {
        attention_online(a, wk, &t);
        return;
    }
    int group = a->heads / a->kv_heads;
    for (int j = 0; j < group && !cancel_level(ps->r->opt.cancel); j++)
        attend(a, wk, &t, t.kv * group + j);
}

static Status attention_run(AttnRun *a, Error *err)
{
    const Pass *ps = a->ps;
    int n = ps->s1 - ps->s0;
    a->first_task[0] = 0;
    for (int i = 0; i < n; i++)
        a->first_task[i + 1] = a->first_task[i] + sample_tasks(a, stream_length(ps->in, ps->s0 + i),
                                                               stream_seen(ps->in, ps->s0 + i));
    Batch b = {.n = 0};
    batch_add(&b, PHASE_ATTENTION, attention_task, a, a->first_task[n]);
    return batch_run(&b, ps->r->opt.pool, ps->r->opt.cancel, err);
}

typedef struct ReplaceRun {
    const AttnForm *form;
    int64_t linear, rows;
    float *const *x;
    const int64_t *ld;
} ReplaceRun;

static void replace_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const ReplaceRun *r = ctx;
    int64_t t = index * PASS_TILE;
    for (int part = 0; part < 3; part++)
        if (r->x[part])
            r->form->replace(r->form->self, r->linear, part, r->x[part] + t * r->ld[part],
                             pass_tile_end(index, r->rows) - t, r->ld[part]);
}

Status attention_replace(Pass *ps, int64_t linear, float *const x[3], const int64_t ld[3], Error *err)
{
    ReplaceRun r = {ps->attn, linear, ps->rows, x, ld};
    if (ps->attn && ps->attn->prepare)
        RETURN_IF_ERROR(ps->attn->prepare(ps->attn->self, linear, err));
    return ps->attn ? pass_tiles(ps, PHASE_QUANT_ACT, replace_task, &r, ps->rows, err) : ST_OK;
}

Status attention_heads(Pass *ps, BlockRun *b, int last, const Heads *h, AttnRun *at, Error *err)
{
    const ModelConfig *c = ps->cfg;
    for (int i = 0; i < 3; i++)
        RETURN_IF_ERROR(pass_feed_tap(ps, (TapKind)(TAP_Q + i), block_tap_linear(b, last), h->x[i], h->width[i],
                                      h->ld[i], err));
    RETURN_IF_ERROR(attention_replace(ps, block_tap_linear(b, last), h->x, h->ld, err));
    Ops wide = ps->ops; /* torch's attention of replaced inputs is not the fused one: float32, rounded in the end */
    if (ps->attn && ps->sdpa)
        ops_widen(&wide);
    *at = (AttnRun){.ps = ps, .ops = &wide, .b = b, .q = h->x[0], .k = h->x[1], .v = h->x[2], .o = h->o, .ldq = h->ld[0], .ldk = h->ld[1],
                    .ldv = h->ld[2], .ldo = (int64_t)c->heads * c->v_dim, .heads = c->heads, .kv_heads = c->kv_heads,
                    .head_dim = c->head_dim, .v_dim = c->v_dim, .scale = (float)c->attn_scale,
                    .softcap = (float)c->attn_softcap, .window = at->window, .every_key = at->every_key,
                    .sinks = at->sinks, .select = at->select};
    if (ps->in->past) {
        past_put(ps, b, ATTENTION_PAST_K, h->x[1], h->ld[1]);
        past_put(ps, b, ATTENTION_PAST_V, h->x[2], h->ld[2]);
        at->ldk = (int64_t)c->kv_heads * c->head_dim;
        at->ldv = (int64_t)c->kv_heads * c->v_dim;
    }
    at->first_task = mem_array((size_t)(ps->s1 - ps->s0) + 1, sizeof *at->first_task);
    if (!at->first_task)
        return error_nomem(err, "attention");
    Status st = attention_run(at, err);
    free(at->first_task);
    return st;
}

void attention_past(const ModelConfig *cfg, PastShape *out)
{
    out->row[ATTENTION_PAST_K] = (int64_t)cfg->kv_heads * cfg->head_dim;
    out->row[ATTENTION_PAST_V] = (int64_t)cfg->kv_heads * cfg->v_dim;
}

void attention_need(const NeedAsk *ask, BlockNeed *out)
{
    int64_t d = max_i64(ask->cfg->head_dim, ask->cfg->v_dim);
    out->worker.scores = (size_t)attention_scores_floats(ask->longest);
    attention_online_need(ask, out);
    need_product(ask, &out->worker, ATTENTION_ROWS_MAX, ask->longest, d);
    need_product(ask, &out->worker, ATTENTION_ROWS_MAX, d, ask->longest);
}
