#include <math.h>
#include <string.h>

#include "base/num.h"
#include "run/block/attention.h"

/* Softmax over keys that come in blocks (Milakov and Gimelshein 2018; Dao et al. 2022): of each query the largest score so
 * far, the sum of exponentials and the weighted sum of values stand relative to it, and are scaled when a block has a
 * larger one. Blocks begin at multiples of KEYS of the text, so a row's bytes depend neither on tasks nor on its
 * neighbours. Keys and values are packed once for all queries of a task. */

enum { ROWS = 48, KEYS = 256, SPAN = 1056 };

/* The rows of one task: of a text, for the query heads that share a key head. */
typedef struct Online {
    const AttnRun *a;
    const AttnTask *task;
    const GemmOps *gemm;
    int group;
    float *scores;       /* [ROWS][KEYS] */
    float *out, *max;    /* [group][rows][v_dim], [group][rows] */
    double *sum;         /* [group][rows] */
    void *keys, *values; /* packed */
    void *scratch;
} Online;

bool attention_is_online(const AttnRun *a)
{
    const Ops *ops = &a->ps->ops;
    return !ops->rounds && ops_gemms(ops)->pack_by_k;
}

int64_t attention_online_rows(int64_t group)
{
    return max_i64(ROWS, SPAN / group / ROWS * ROWS);
}

/* Parts of the scratch begin in lines of their own. */
static int64_t lines(int64_t bytes)
{
    return round_up(bytes, 64);
}

static int64_t packed_bytes(const GemmOps *g, int64_t n, int64_t k)
{
    return lines((int64_t)g->packed_bytes(n, k));
}

/* Floats of Worker.scores that a task takes. */
static int64_t scores_floats(const ModelConfig *c, const GemmOps *g)
{
    int64_t group = c->heads / max_i64(c->kv_heads, 1), rows = attention_online_rows(max_i64(group, 1)) * group;
    int64_t bytes = lines(ROWS * KEYS * 4) + lines(rows * c->v_dim * 4) + lines(rows * 4) + lines(rows * 8);
    return (bytes + packed_bytes(g, KEYS, c->head_dim) + packed_bytes(g, c->v_dim, KEYS) + 64) / 4;
}

void attention_online_need(const NeedAsk *ask, BlockNeed *out)
{
    const ModelConfig *c = ask->cfg;
    need_product(ask, &out->worker, ROWS, KEYS, c->head_dim);
    need_product(ask, &out->worker, ROWS, c->v_dim, KEYS);
    for (int i = 0; i < NEED_GEMMS; i++)
        if (ask->gemms[i] && ask->gemms[i]->pack_by_k)
            out->worker.scores = (size_t)max_i64((int64_t)out->worker.scores, scores_floats(c, ask->gemms[i]));
}

/* Cuts the worker's scores into what a task needs. */
static Online online_of(const AttnRun *a, Worker *wk, const AttnTask *t)
{
    Online o = {.a = a, .task = t, .gemm = ops_gemms(&a->ps->ops), .group = a->heads / a->kv_heads, .scratch = wk->gemm};
    int64_t rows = (t->t1 - t->t0) * o.group;
    unsigned char *at = (unsigned char *)(((uintptr_t)wk->scores + 63) / 64 * 64);
    o.scores = (void *)at;
    at += lines(ROWS * KEYS * 4);
    o.out = (void *)at;
    at += lines(rows * a->v_dim * 4);
    o.max = (void *)at;
    at += lines(rows * 4);
    o.sum = (void *)at;
    at += lines(rows * 8);
    o.keys = at;
    o.values = at + packed_bytes(o.gemm, KEYS, a->head_dim);
    return o;
}

/* The keys that query t looks at, [*first, *end). */
static void visible(const Online *o, int64_t t, int64_t *first, int64_t *end)
{
    const AttnRun *a = o->a;
    *first = a->window > 0 ? max_i64(0, t - a->window + 1) : 0;
    *end = a->every_key ? o->task->len : t + 1;
}

/* Scores of keys that the query has not chosen, of those from key `from` on, become -inf. */
static void hide_unchosen(const uint32_t *bits, int64_t from, float *row, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!(bits[(from + i) / 32] >> (from + i) % 32 & 1))
            row[i] = -INFINITY;
}

static bool has_nan(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (isnan(x[i]))
            return true;
    return false;
}

/* Query t's scores of keys [k0, k0 + n) to exponentials relative to its largest so far, *max and *sum with them.
 * Returns by how much (a logarithm) what stood before is scaled. */
static float take_row(const Online *o, int64_t t, int64_t k0, int64_t n, float *row, float *max, double *sum)
{
    const AttnRun *a = o->a;
    const Ops *ops = &a->ps->ops;
    int64_t first, end;
    visible(o, t, &first, &end);
    first = min_i64(max_i64(first - k0, 0), n);
    end = max_i64(min_i64(end - k0, n), first);
    memset(row, 0, (size_t)first * sizeof *row);
    memset(row + end, 0, (size_t)(n - end) * sizeof *row);
    row += first;
    n = end - first;
    if (a->softcap > 0)
        ops_softcap(ops, row, n, a->softcap);
    if (o->task->chosen)
        hide_unchosen(o->task->chosen + (t - o->task->t0) * a->ps->out->select_words, k0 + first, row, n);
    float before = *max, top = ops->k->max(row, n);
    *max = top > before ? top : before;
    if (*max == -INFINITY && !has_nan(row, n)) { /* no key that counts yet */
        memset(row, 0, (size_t)n * sizeof *row);
        return 0;
    }
    float scale = before == -INFINITY ? -INFINITY : before - *max, factor = scale;
    if (scale < 0)
        ops->f->exp(&factor, 1);
    *sum = ops->f->exp_sum(row, n, *max, scale < 0 ? *sum * (double)factor : *sum);
    return scale;
}

/* Keys [k0, k0 + n) for queries [t, t + rows) of head j. begun: they have seen keys before. */
static void take_block(const Online *o, int j, int64_t t, int64_t rows, int64_t k0, int64_t n, bool begun)
{
    const AttnRun *a = o->a;
    const Ops *ops = &a->ps->ops;
    const AttnTask *task = o->task;
    int64_t at = j * (task->t1 - task->t0) + t - task->t0, dv = a->v_dim;
    float factor[ROWS];
    GemmArgs qk = {.m = rows, .n = n, .k = a->head_dim,
                   .x = a->q + (task->base + t) * a->ldq + ((int64_t)task->kv * o->group + j) * a->head_dim, .ldx = a->ldq,
                   .packed = o->keys, .y = o->scores, .ldy = KEYS, .alpha = a->scale};
    o->gemm->tile(&qk, o->scratch);
    for (int64_t i = 0; i < rows; i++)
        factor[i] = take_row(o, t + i, k0, n, o->scores + i * KEYS, &o->max[at + i], &o->sum[at + i]);
    if (begun)
        ops->f->exp(factor, rows);
    for (int64_t i = 0; i < rows && begun; i++)
        if (factor[i] != 1)
            ops->k->scale(o->out + (at + i) * dv, factor[i], o->out + (at + i) * dv, dv);
    GemmArgs pv = {.m = rows, .n = dv, .k = n, .x = o->scores, .ldx = KEYS, .packed = o->values, .y = o->out + at * dv,
                   .ldy = dv, .beta = begun ? 1.0f : 0.0f};
    o->gemm->tile(&pv, o->scratch);
}

static void finish_rows(const Online *o)
{
    const AttnRun *a = o->a;
    const AttnTask *task = o->task;
    int64_t rows = task->t1 - task->t0, dv = a->v_dim;
    for (int64_t j = 0; j < o->group; j++)
        for (int64_t t = 0; t < rows; t++) {
            int64_t at = j * rows + t, head = (int64_t)task->kv * o->group + j;
            a->ps->ops.k->scale(o->out + at * dv, (float)(1.0 / o->sum[at]),
                                a->o + (task->base + task->t0 + t) * a->ldo + head * dv, dv);
        }
}

void attention_online(const AttnRun *a, Worker *wk, const AttnTask *task)
{
    Online o = online_of(a, wk, task);
    int64_t rows = task->t1 - task->t0, lo, hi, unused;
    visible(&o, task->t0, &lo, &unused);
    visible(&o, task->t1 - 1, &unused, &hi);
    for (int64_t i = 0; i < rows * o.group; i++) {
        float sink = a->sinks ? a->sinks[(int64_t)task->kv * o.group + i / rows] : -INFINITY;
        o.max[i] = sink;
        o.sum[i] = a->sinks ? 1 : 0;
    }
    int64_t begin = lo / KEYS * KEYS;
    memset(o.out, 0, (size_t)(rows * o.group * a->v_dim) * sizeof *o.out);
    for (int64_t k0 = begin; k0 < hi && !cancel_level(a->ps->r->opt.cancel); k0 += KEYS) {
        int64_t n = min_i64(KEYS, hi - k0);
        o.gemm->pack(DT_F32, task->k + k0 * a->ldk + task->kv * (int64_t)a->head_dim, n, a->head_dim, a->ldk,
                     o.keys);
        o.gemm->pack_by_k(task->v + k0 * a->ldv + task->kv * (int64_t)a->v_dim, a->v_dim, n, a->ldv, o.values);
        for (int j = 0; j < o.group; j++)
            for (int64_t t = task->t0, m; t < task->t1; t += m) {
                int64_t first, end;
                m = min_i64(ROWS, task->t1 - t);
                visible(&o, t, &first, &unused);
                visible(&o, t + m - 1, &unused, &end);
                if (end > k0 && first < k0 + n)
                    take_block(&o, j, t, m, k0, min_i64(n, end - k0), k0 > begin || a->sinks);
            }
    }
    finish_rows(&o);
}
