#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "run/block/attention.h"
#include "run/opsback.h"

/* Gradients of softmax(scale q k') v. A task is one key head of a sample, so that what its queries add to keys and values comes
 * in one order; it goes by blocks of query rows, whose weights are computed again: with P of a block and D = dO V',
 *   dV += P' dO,  dS = P (D - sum(P D)) scale,  dQ = dS K,  dK += dS' Q.
 * What a sink takes of a row, P has not, and the sums hold all the same. */

enum { TURN = 8 };

/* y[cols][ldy] = x[rows][ldx]' */
static void transpose(const float *x, int64_t rows, int64_t cols, int64_t ldx, float *y, int64_t ldy)
{
    for (int64_t i = 0; i < rows; i += TURN)
        for (int64_t j = 0; j < cols; j += TURN) {
            const float *from = x + i * ldx + j;
            float *to = y + j * ldy + i;
            if (i + TURN <= rows && j + TURN <= cols) {
                for (int b = 0; b < TURN; b++)
                    for (int a = 0; a < TURN; a++)
                        to[b * ldy + a] = from[a * ldx + b];
                continue;
            }
            for (int64_t a = 0; a < rows - i && a < TURN; a++)
                for (int64_t b = 0; b < cols - j && b < TURN; b++)
                    to[b * ldy + a] = from[a * ldx + b];
        }
}

/* One block of query rows of one head. */
typedef struct Rows {
    const AttnBack *b;
    const AttnTask *task;
    int head;
    int64_t lo, keys;  /* keys [lo, lo + keys) of the text */
    float *p, *d, *t;  /* [rows][keys]; t also [keys][rows] */
    void *scratch;
} Rows;

static int64_t rows_of(const Rows *r)
{
    return r->task->t1 - r->task->t0;
}

/* p = the weights; t = the slope of the cap, where scores are capped. Without keys that are not seen: 0. */
static void weights(const Rows *r)
{
    const AttnRun *a = r->b->at;
    const AttnTask *task = r->task;
    int64_t kv = task->kv, keys = r->keys;
    GemmArgs qk = {.m = rows_of(r), .n = keys, .k = a->head_dim, .x = a->q + (task->base + task->t0) * a->ldq + r->head * (int64_t)a->head_dim,
                   .ldx = a->ldq, .w = task->k + r->lo * a->ldk + kv * a->head_dim, .ldw = a->ldk, .y = r->p, .ldy = keys,
                   .alpha = a->scale};
    ops_product(a->ops, &qk, r->scratch);
    for (int64_t t = task->t0; t < task->t1; t++) {
        float *row = r->p + (t - task->t0) * keys, *slope = r->t + (t - task->t0) * keys;
        int64_t first = a->window > 0 && t - a->window + 1 > r->lo ? t - a->window + 1 - r->lo : 0;
        int64_t n = (a->every_key ? task->len : t + 1) - r->lo - first;
        memset(row, 0, (size_t)first * sizeof *row);
        memset(row + first + n, 0, (size_t)(keys - first - n) * sizeof *row);
        if (a->softcap > 0) {
            ops_softcap(a->ops, row + first, n, a->softcap);
            for (int64_t i = first; i < first + n; i++)
                slope[i] = 1 - row[i] / a->softcap * (row[i] / a->softcap);
        }
        attention_weights(a, row + first, n, task->chosen ? task->chosen + (t - task->t0) * r->b->at->ps->out->select_words : NULL, r->head);
    }
}

/* d = the gradient of the scores before their scale and cap, times the scale. */
static void score_gradients(const Rows *r)
{
    const AttnRun *a = r->b->at;
    const AttnTask *task = r->task;
    int64_t kv = task->kv, keys = r->keys;
    GemmArgs gv = {.m = rows_of(r), .n = keys, .k = a->v_dim, .x = r->b->go + (task->base + task->t0) * r->b->ldgo + r->head * (int64_t)a->v_dim,
                   .ldx = r->b->ldgo, .w = task->v + r->lo * a->ldv + kv * a->v_dim, .ldw = a->ldv, .y = r->d, .ldy = keys};
    ops_product(a->ops, &gv, r->scratch);
    for (int64_t t = task->t0; t < task->t1; t++) {
        int64_t at = (t - task->t0) * keys, first = a->window > 0 && t - a->window + 1 > r->lo ? t - a->window + 1 - r->lo : 0;
        int64_t n = (a->every_key ? task->len : t + 1) - r->lo - first;
        float *row = r->d + at;
        memset(row, 0, (size_t)first * sizeof *row);
        memset(row + first + n, 0, (size_t)(keys - first - n) * sizeof *row);
        ops_softmax_back(r->p + at + first, row + first, n, a->scale);
        if (a->softcap > 0)
            a->ops->k->mul(row + first, r->t + at + first, row + first, n);
    }
}

/* What the block's rows add to keys and values, and their own gradients. */
static void hand_out(const Rows *r)
{
    const AttnBack *b = r->b;
    const AttnRun *a = b->at;
    const AttnTask *task = r->task;
    int64_t rows = rows_of(r), at = task->base + task->t0, key = task->base + r->lo, kv = task->kv;
    int64_t d = a->head_dim, dv = a->v_dim;
    GemmArgs dq = {.m = rows, .n = d, .k = r->keys, .x = r->d, .ldx = r->keys, .w = task->k + r->lo * a->ldk + kv * d,
                   .ldw = a->ldk, .w_by_k = true, .y = b->d[0] + at * b->ldd[0] + r->head * d, .ldy = b->ldd[0]};
    ops_product(a->ops, &dq, r->scratch);
    transpose(r->p, rows, r->keys, r->keys, r->t, rows);
    GemmArgs gv = {.m = r->keys, .n = dv, .k = rows, .x = r->t, .ldx = rows, .w = b->go + at * b->ldgo + r->head * dv,
                   .ldw = b->ldgo, .w_by_k = true, .y = b->d[2] + key * b->ldd[2] + kv * dv, .ldy = b->ldd[2], .beta = 1};
    ops_product(a->ops, &gv, r->scratch);
    transpose(r->d, rows, r->keys, r->keys, r->t, rows);
    GemmArgs dk = {.m = r->keys, .n = d, .k = rows, .x = r->t, .ldx = rows, .w = a->q + at * a->ldq + r->head * d,
                   .ldw = a->ldq, .w_by_k = true, .y = b->d[1] + key * b->ldd[1] + kv * d, .ldy = b->ldd[1], .beta = 1};
    ops_product(a->ops, &dk, r->scratch);
}

static void task_of_head(void *ctx, int64_t index, int worker)
{
    const AttnBack *b = ctx;
    const AttnRun *a = b->at;
    const Pass *ps = a->ps;
    Worker *wk = &ps->r->worker[worker];
    int s = ps->s0 + (int)(index / a->kv_heads), group = a->heads / a->kv_heads;
    int64_t len = stream_length(ps->in, s), step = attention_query_rows(len);
    AttnTask task = {.base = ps->in->start[s] - ps->row0, .len = len, .kv = (int)(index % a->kv_heads)};
    task.k = a->k + task.base * a->ldk;
    task.v = a->v + task.base * a->ldv;
    for (int64_t t = 0; t < len; t++) {
        memset(b->d[1] + (task.base + t) * b->ldd[1] + task.kv * (int64_t)a->head_dim, 0, (size_t)a->head_dim * sizeof(float));
        memset(b->d[2] + (task.base + t) * b->ldd[2] + task.kv * (int64_t)a->v_dim, 0, (size_t)a->v_dim * sizeof(float));
    }
    for (int j = 0; j < group; j++)
        for (task.t0 = 0; task.t0 < len && !cancel_level(ps->r->opt.cancel); task.t0 = task.t1) {
            task.t1 = min_i64(task.t0 + step, len);
            if (a->select && len > ps->cfg->index.top_k)
                task.chosen = ps->out->select + (ps->in->start[s] + task.t0) * ps->out->select_words;
            int64_t lo = a->window > 0 ? max_i64(0, task.t0 - a->window + 1) : 0;
            Rows r = {.b = b, .task = &task, .head = task.kv * group + j, .lo = lo,
                      .keys = (a->every_key ? len : task.t1) - lo, .p = wk->scores, .scratch = wk->gemm};
            r.d = r.p + (task.t1 - task.t0) * r.keys;
            r.t = r.d + (task.t1 - task.t0) * r.keys;
            weights(&r);
            score_gradients(&r);
            hand_out(&r);
        }
}

Status attention_backward(const AttnBack *b, Error *err)
{
    const Pass *ps = b->at->ps;
    Batch batch = {.n = 0};
    batch_add(&batch, PHASE_ATTENTION, task_of_head, (void *)(uintptr_t)b, (int64_t)(ps->s1 - ps->s0) * b->at->kv_heads);
    return batch_run(&batch, ps->r->opt.pool, ps->r->opt.cancel, err);
}

void attention_back_need(const NeedAsk *ask, BlockNeed *out)
{
    int64_t d = max_i64(ask->cfg->head_dim, ask->cfg->v_dim);
    attention_need(ask, out);
    out->worker.scores = max_u64(out->worker.scores, 3 * (uint64_t)attention_scores_floats(ask->longest));
    need_product(ask, &out->worker, ask->longest, d, ATTENTION_ROWS_MAX);
}
