#include "quant/sparse.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/num.h"
#include "math/convert.h"
#include "qir/round.h"
#include "quant/ranking.h"

enum { ROWS = 64 };
#define KEPT 0.02
#define HALF_MAX 65504.0f

float sparse_round(float x, bool keep)
{
    uint32_t bits = bits_of_float(x), sign = bits & 0x80000000u, size = bits & 0x7fffffffu;
    const int e = (int)(size >> 23) - 127;
    if (size == 0)
        return 0;
    if (e < -14) /* no normal number of float16 */
        return keep ? x : float_of_bits(sign);
    if (e < -8)
        size = (size & 0x7f800000u) + ((size & 0x7fffffu) > 0x400000u ? 1u << 23 : 0);
    else if (!keep) /* the nearest, ties to even, by the bits that go */
        size = (size + 0xfffffu + (size >> 21 & 1u)) & ~0x1fffffu;
    return float_of_bits(sign | size);
}

int64_t sparse_count(const QSpec *q, int64_t values)
{
    return (int64_t)(q->ext.sparse_ratio * (double)values);
}

typedef struct Settle {
    const WeightTask *t;
    const float *w, *importance;
    QWeight *out;
    float cut; /* what loses as much stays */
    atomic_llong zeros;
} Settle;

/* As what is left of a weight enters the rounding; without the peer's overflow at the upper end of float16. */
static float half_of(const WeightTask *t, float w)
{
    return round_to_dtype(t->peer ? w : fmaxf(-HALF_MAX, fminf(HALF_MAX, w)), DT_F16);
}

static float loss(const Settle *s, float w, int64_t i)
{
    float half = half_of(s->t, w), d = fabsf(w - round_to_dtype(sparse_round(half, false), DT_F16));
    if (s->t->T == DT_F16)
        d = round_to_dtype(d, DT_F16);
    return s->importance ? d * sqrtf(s->importance[i]) : d;
}

static void loss_row(const void *ctx, int64_t row, float *out)
{
    const Settle *s = ctx;
    for (int64_t i = 0; i < s->t->in; i++)
        out[i] = loss(s, s->w[row * s->t->in + i], i);
}

static void settle_rows(void *ctx, int64_t index, int worker)
{
    (void)worker;
    Settle *s = ctx;
    const int64_t in = s->t->in;
    uint16_t *code = (uint16_t *)(void *)s->out->code;
    int64_t zeros = 0;
    for (int64_t row = index * ROWS, end = min_i64(row + ROWS, s->t->out); row < end; row++)
        for (int64_t i = 0; i < in; i++) {
            float w = s->w[row * in + i], v = sparse_round(half_of(s->t, w), loss(s, w, i) >= s->cut);
            if (!s->t->peer)
                v = fmaxf(-HALF_MAX, fminf(HALF_MAX, v));
            v = round_to_dtype(v, DT_F16);
            code[row * in + i] = s->out->half == DT_BF16 ? bf16_of_float(v) : f16_of_float(v);
            zeros += v == 0;
        }
    atomic_fetch_add(&s->zeros, zeros);
}

Status sparse_settle(const WeightTask *t, float *w, const float *importance, QWeight *out, Error *err)
{
    Settle s = {.t = t, .w = w, .importance = importance, .out = out};
    int64_t n = t->out * t->in, at = (int64_t)(KEPT * (double)n - 1), tasks = div_up(t->out, ROWS);
    Ranking r = {.rows = t->out, .width = t->in, .row = loss_row, .ctx = &s, .pool = t->pool, .cancel = t->cancel};
    RankCut cut;
    RETURN_IF_ERROR(ranking_init(&r, err));
    Status st = ranking_find(&r, n - max_i64(at, 0), &cut, err);
    ranking_fini(&r);
    RETURN_IF_ERROR(st);
    s.cut = cut.at;
    out->half = t->stored == DT_BF16 ? DT_BF16 : DT_F16;
    if (t->pool)
        pool_run(t->pool, PHASE_QUANT_WEIGHT, tasks, settle_rows, &s, t->cancel);
    for (int64_t i = 0; !t->pool && i < tasks; i++)
        settle_rows(&s, i, 0);
    out->zeros = s.zeros;
    return cancel_check(t->cancel, err);
}

uint64_t sparse_bytes(int64_t in, int threads)
{
    return ranking_bytes(in, threads);
}
