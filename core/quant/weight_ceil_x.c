/* ceil_x: mxfp4 whose exponent is the ceiling of log2(amax / c), c given or searched over the whole weight
 * (specs/quantization.md 7.5). */
#include "quant/mxrows.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "qir/round.h"

enum { CANDIDATES_MAX = 4096 };

static float exponent_of(float amax, double c, DType T)
{
    float v = round_to_dtype(amax / (float)c, T);
    float e = ceilf(mx_log2(round_to_dtype((v < 0.0f ? 0.0f : v) + 9.6e-7f, T), T));
    return e < -129.0f ? -129.0f : e > 125.0f ? 125.0f : e;
}

static float exponent(const QuantLoops *k, const QSpec *q, const float *x, int64_t n, DType T)
{
    return exponent_of(mx_amax(k, x, n), q->ext.ceil_x > 0 ? q->ext.ceil_x : 7.25, T);
}

typedef struct CeilSearch {
    double min, step;
    int n;
    double *sums; /* [out][n] squared errors of a row with each candidate */
} CeilSearch;

static void search_rows(const WeightTask *t, QWeight *out, int64_t row, int64_t rows, void *ctx, float *scratch)
{
    (void)scratch;
    const CeilSearch *s = ctx;
    const QuantLoops *loops = quant_loops();
    for (int64_t r = row; r < row + rows; r++) {
        double *sums = s->sums + r * s->n;
        for (int64_t i = 0; i < t->in; i += MX_BLOCK) {
            const float *x = t->w + r * t->in + i;
            int64_t n = t->in - i < MX_BLOCK ? t->in - i : MX_BLOCK;
            float amax = mx_amax(loops, x, n), last = NAN;
            double sum = 0.0;
            for (int k = 0; k < s->n; k++) {
                float e = exponent_of(amax, s->min + k * s->step, t->T);
                if (e != last) { /* few different exponents among the candidates */
                    last = e;
                    sum = mx_block_error(loops, out->dtype, x, n, e, t->T);
                }
                sums[k] += sum;
            }
        }
    }
}

static Status search(const WeightTask *t, QWeight *out, double *c, Error *err)
{
    const QExt *x = &t->q->ext;
    double max = x->search_max > 0 ? x->search_max : 12.0;
    CeilSearch s = {.min = x->search_min > 0 ? x->search_min : 6.0, .step = x->search_step > 0 ? x->search_step : 0.25};
    double n = (max - s.min) / s.step;
    if (!(n >= 0) || n >= CANDIDATES_MAX)
        return error_set(err, ST_DATA, "ceil_x searches from %g to %g by %g: at most %d steps, from low to high", s.min,
                         max, s.step, CANDIDATES_MAX - 1);
    s.n = (int)rint(n) + 1;
    s.sums = mem_zarray((size_t)t->out * (size_t)s.n, sizeof *s.sums);
    if (!s.sums)
        return error_nomem(err, "ceil_x");
    Status st = weight_rows(t, out, search_rows, &s, 0, err);
    float least = INFINITY;
    *c = s.min;
    for (int k = 0; k < s.n && st == ST_OK; k++) {
        double sum = 0.0;
        for (int64_t r = 0; r < t->out; r++)
            sum += s.sums[r * s.n + k];
        float mse = round_to_dtype((float)(sum / ((double)t->out * (double)t->in)), t->T);
        if (mse < least) {
            least = mse;
            *c = s.min + k * s.step;
        }
    }
    free(s.sums);
    return st;
}

static Status quantize(const WeightTask *t, QWeight *out, Error *err)
{
    WeightTask task = *t;
    QSpec q = *t->q;
    if (q.ext.search)
        RETURN_IF_ERROR(search(t, out, &q.ext.ceil_x, err));
    task.q = &q;
    return mx_quantize(&task, out, exponent, err);
}

static void fake_rows(const QSpec *q, float *w, int64_t rows, int64_t in, DType T, bool peer)
{
    (void)peer;
    mx_fake_rows(q, w, rows, in, T, exponent);
}

static bool looks_at_all(const QSpec *q, bool peer)
{
    (void)peer;
    return q->ext.search;
}

static uint64_t scratch_bytes(const QSpec *q, int64_t out, int64_t in, int threads)
{
    (void)threads;
    (void)in;
    return q->ext.search ? (uint64_t)out * CANDIDATES_MAX * sizeof(double) : 0;
}

const WeightQuantizer weight_ceil_x = {
    .key = {.method = "ceil_x", .dtype = QT_MXFP4, .scope = QS_PER_BLOCK, .sym = 1},
    .rowwise = true,
    .quantize = quantize,
    .rows = fake_rows,
    .whole = looks_at_all,
    .scratch = scratch_bytes,
};
