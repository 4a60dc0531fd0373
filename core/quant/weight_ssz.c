/* ssz: alternating least squares of scale and levels (specs/quantization.md 7.2). Ours also per_group, where every group
 * is fitted for itself. */
#include "quant/weightrows.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "qir/loops.h"
#include "qir/round.h"

enum { STEPS = 50 };
#define LEAST_GAIN 1e-5 /* of the error: ours stops below it */

static int steps_of(const QSpec *q)
{
    return q->ext.steps > 0 ? q->ext.steps : STEPS;
}

static float minmax_scale(const QuantLoops *k, const float *w, int64_t n, int bits, DType T)
{
    float mn, mx;
    k->range(w, n, &mn, &mx);
    return intquant_param(mn, mx, bits, true, T).scale;
}

/* Each step can only lower the error of exact arithmetic: stops where it hardly does. */
static float fit_scale(const QuantLoops *k, const float *w, int64_t n, int bits, int steps, DType T)
{
    float best = minmax_scale(k, w, n, bits, T);
    IntFit f;
    k->fit(w, n, best, bits, T, DT_F32, &f);
    double least = f.err;
    for (int step = 0; step < steps && f.qq > 0; step++) {
        float s = round_to_dtype((float)(f.xq / f.qq), T);
        if (!(s > 0.0f) || !isfinite(s))
            break;
        k->fit(w, n, s, bits, T, DT_F32, &f);
        if (!(f.err < least))
            break;
        bool last = least - f.err < LEAST_GAIN * least;
        least = f.err;
        best = s;
        if (last)
            break;
    }
    return best;
}

static void own_rows(const WeightTask *t, QWeight *out, int64_t row, int64_t rows, void *ctx, float *scratch)
{
    (void)ctx;
    (void)scratch;
    const QuantLoops *k = quant_loops();
    int bits = weight_bits(t->q);
    for (int64_t g = row * out->groups; g < (row + rows) * out->groups; g++) {
        const float *w = t->w + g * out->group;
        out->scale[g] = fit_scale(k, w, out->group, bits, steps_of(t->q), t->T);
        k->quantize(w, out->group, (QParam){.scale = out->scale[g]}, bits, t->T,
                          (int8_t *)out->code + g * out->group);
    }
}

/* ---- the peer: all rows take the same number of steps ---- */

typedef struct PeerRow {
    float cur;        /* scale of the present iterate */
    IntFit fit;       /* of cur */
    float mse, best;
    float best_scale;
} PeerRow;

typedef struct PeerFit {
    PeerRow *row;
    DType M;          /* dtype of the error */
    bool first;
} PeerFit;

static void peer_step(const WeightTask *t, QWeight *out, int64_t row, int64_t rows, void *ctx, float *scratch)
{
    (void)scratch;
    const QuantLoops *k = quant_loops();
    PeerFit *p = ctx;
    int bits = weight_bits(t->q);
    for (int64_t g = row * out->groups; g < (row + rows) * out->groups; g++) {
        const float *w = t->w + g * out->group;
        PeerRow *r = &p->row[g];
        if (p->first) {
            r->cur = minmax_scale(k, w, out->group, bits, t->T);
        } else {
            float num = round_to_dtype((float)r->fit.xq, t->T), den = round_to_dtype((float)r->fit.qq, t->T);
            float least = round_to_dtype(1e-30f, t->T); /* 0 in float16 */
            r->cur = round_to_dtype(num / (den < least ? least : den), t->T);
        }
        k->fit(w, out->group, r->cur, bits, t->T, p->M, &r->fit);
        r->mse = round_to_dtype((float)(r->fit.err / (double)out->group), p->M);
    }
}

static bool converged(const PeerRow *r, DType M)
{
    float floor_ = round_to_dtype(1e-4f, M), d = round_to_dtype(r->best - r->mse, M);
    float share = round_to_dtype(d / (r->best < floor_ ? floor_ : r->best), M);
    return share < 1e-10f || fabsf(d) < 1e-10f;
}

static void peer_codes(const WeightTask *t, QWeight *out, int64_t row, int64_t rows, void *ctx, float *scratch)
{
    (void)scratch;
    const PeerFit *p = ctx;
    for (int64_t g = row * out->groups; g < (row + rows) * out->groups; g++) {
        out->scale[g] = p->row[g].best_scale;
        intquant_quantize(t->w + g * out->group, out->group, (QParam){.scale = out->scale[g]}, weight_bits(t->q), t->T,
                          (int8_t *)out->code + g * out->group);
    }
}

static Status peer_quantize(const WeightTask *t, QWeight *out, Error *err)
{
    int64_t n = t->out * out->groups;
    PeerFit p = {.row = mem_zarray((size_t)n, sizeof *p.row), .M = t->F == t->T ? t->T : DT_F32, .first = true};
    if (!p.row)
        return error_nomem(err, "ssz");
    Status st = weight_rows(t, out, peer_step, &p, 0, err);
    for (int64_t i = 0; i < n; i++) {
        p.row[i].best = p.row[i].mse;
        p.row[i].best_scale = p.row[i].cur;
    }
    p.first = false;
    bool done = false;
    for (int k = 0; k < steps_of(t->q) && !done && st == ST_OK; k++) {
        st = weight_rows(t, out, peer_step, &p, 0, err);
        done = true;
        for (int64_t i = 0; i < n && done; i++)
            done = converged(&p.row[i], p.M);
        for (int64_t i = 0; i < n && !done; i++) {
            PeerRow *r = &p.row[i];
            bool better = r->mse < r->best;
            /* blended as best * (1 - mask) + cur * mask, so what is not finite stays */
            r->best_scale = better ? r->cur : isfinite(r->cur) ? r->best_scale : NAN;
            r->best = better ? r->mse : isfinite(r->mse) ? r->best : NAN;
        }
    }
    if (st == ST_OK)
        st = weight_rows(t, out, peer_codes, &p, 0, err);
    free(p.row);
    return st;
}

static Status quantize(const WeightTask *t, QWeight *out, Error *err)
{
    return t->peer ? peer_quantize(t, out, err) : weight_rows(t, out, own_rows, NULL, 0, err);
}

static void fake_rows(const QSpec *q, float *w, int64_t rows, int64_t in, DType T, bool peer)
{
    (void)peer;
    const QuantLoops *k = quant_loops();
    int64_t group = qspec_group(q, in);
    int bits = weight_bits(q);
    for (int64_t i = 0; i < rows * in; i += group) {
        float s = fit_scale(k, w + i, group, bits, steps_of(q), T);
        k->fake(w + i, group, (QParam){.scale = s}, bits, T, w + i);
    }
}

static void code_rows(const QSpec *q, float *w, int64_t rows, int64_t in, DType T, float *scale)
{
    const QuantLoops *k = quant_loops();
    int bits = weight_bits(q);
    for (int64_t r = 0; r < rows; r++) {
        scale[r] = fit_scale(k, w + r * in, in, bits, steps_of(q), T);
        k->codes(w + r * in, in, (QParam){.scale = scale[r]}, bits, T, w + r * in);
    }
}

static bool looks_at_all(const QSpec *q, bool peer)
{
    (void)q;
    return peer;
}

static uint64_t scratch_bytes(const QSpec *q, int64_t out, int64_t in, int threads)
{
    (void)threads;
    return (uint64_t)out * (uint64_t)(in / qspec_group(q, in)) * sizeof(PeerRow);
}

#define SSZ(NAME, DTYPE, SCOPE, OWNER, CODES)                                               \
    const WeightQuantizer NAME = {                                                          \
        .key = {.method = "ssz", .dtype = DTYPE, .scope = SCOPE, .sym = 1, .owner = OWNER}, \
        .rowwise = true,                                                                    \
        .quantize = quantize,                                                               \
        .rows = fake_rows,                                                                  \
        .codes = CODES,                                                                     \
        .whole = looks_at_all,                                                              \
        .scratch = scratch_bytes,                                                           \
    }

SSZ(weight_ssz_int8, QT_INT8, QS_PER_CHANNEL, QUANT_BOTH, code_rows);
SSZ(weight_ssz_int4, QT_INT4, QS_PER_CHANNEL, QUANT_BOTH, code_rows);
SSZ(weight_ssz_int8_group, QT_INT8, QS_PER_GROUP, QUANT_OURS, NULL);
SSZ(weight_ssz_int4_group, QT_INT4, QS_PER_GROUP, QUANT_OURS, NULL);
