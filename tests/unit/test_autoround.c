#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "quant/autoround.h"
#include "quant/quantizer.h"
#include "tests/lib/npz.h"

/* The trained quantizer and its loop against recorded ones of the peer (golden/quant autoround_func, autoround_train), and
 * against differences of what it computes. */

static const struct {
    const char *name;
    DType T;
    int word; /* ext.scale_dtype */
} types[] = {{"f32", DT_F32, 2}, {"bf16", DT_BF16, 0}, {"f16", DT_F16, 1}};

static QSpec spec_of(int bits, int64_t group, bool sym, int scale)
{
    QSpec q = {.dtype = bits == 4 ? QT_INT4 : QT_INT8, .scope = group > 0 ? QS_PER_GROUP : QS_PER_CHANNEL, .symmetric = sym,
               .method = "autoround", .ext = {.group_size = group > 0 ? group : 0, .scale_dtype = scale}};
    return q;
}

/* A copy that training may change. */
static float *copy_of(const float *x, int64_t n)
{
    float *y = malloc((size_t)n * sizeof *y);
    assert_non_null(y);
    if (x)
        memcpy(y, x, (size_t)n * sizeof *y);
    else
        memset(y, 0, (size_t)n * sizeof *y);
    return y;
}

/* ---- golden: forward ---- */

static const int16_t *npz_i16(const Npz *z, const char *base)
{
    const NpyArray *a = npz_find(z, "%s.q", base);
    if (!a || a->kind != 'i' || a->size != 2)
        fail_msg("%s.q is missing or not int16", base);
    return a->data;
}

static void forward_case(const Npz *z, int t, int s, int bits, int64_t group, bool sym)
{
    char base[64];
    snprintf(base, sizeof base, "qf.%s.s%s.b%d.g%lld.%s", types[t].name, types[s].name, bits, (long long)group,
             sym ? "sym" : "asym");
    const NpyArray *w, *lo;
    const float *W = npz_f32(z, &w, "%s.W", base), *scale = npz_f32(z, NULL, "%s.scale", base);
    const float *zp = npz_f32(z, NULL, "%s.zp", base);
    const int16_t *want = npz_i16(z, base);
    const QSpec q = spec_of(bits, group, sym, types[s].word);
    AutoRound a = autoround_of(&q, W, w->shape[0], w->shape[1], types[t].T);
    a.rounds = a.clips = true;
    a.v = copy_of(npz_f32(z, NULL, "%s.v", base), w->count);
    const float *low = npz_f32(z, &lo, "%s.min_scale", base);
    a.low = copy_of(low, lo->count);
    a.high = copy_of(npz_f32(z, NULL, "%s.max_scale", base), lo->count);
    QWeight out, peer;
    assert_int_equal(qweight_init(&out, &q, a.out, a.in, NULL), ST_OK);
    assert_int_equal(qweight_init(&peer, &q, a.out, a.in, NULL), ST_OK);
    autoround_codes(&a, 0, a.out, false, &out);
    autoround_codes(&a, 0, a.out, true, &peer);
    float *y = copy_of(NULL, w->count);
    autoround_rows(&a, 0, a.out, y);
    for (int64_t i = 0; i < lo->count; i++)
        if (out.scale[i] != scale[i])
            fail_msg("%s: scale %lld is %.9g, wanted %.9g", base, (long long)i, (double)out.scale[i], (double)scale[i]);
    for (int64_t i = 0; i < w->count; i++) {
        int64_t g = i / a.group;
        int level = (int8_t)out.code[i];
        if (level + (int)zp[sym ? 0 : g] != want[i] || peer.code[i] != (uint8_t)want[i])
            fail_msg("%s: code %lld is %d and %d, wanted %d", base, (long long)i, level, peer.code[i], want[i]);
        if (y[i] != (float)level * scale[g])
            fail_msg("%s: value %lld is %.9g, wanted %.9g", base, (long long)i, (double)y[i], (double)((float)level * scale[g]));
    }
    qweight_fini(&out);
    qweight_fini(&peer);
    free(y);
    free(a.v);
    free(a.low);
    free(a.high);
}

static void forward_is_the_recorded_one(void **state)
{
    (void)state;
    Npz *z = npz_open("tests/golden/quant/autoround_func.npz");
    for (int t = 0; t < 2; t++)
        for (int s = 0; s < 3; s++)
            for (int bits = 4; bits <= 8; bits += 4)
                for (int g = 0; g < 2; g++)
                    for (int sym = 0; sym < 2; sym++)
                        forward_case(z, t, s, bits, g ? 32 : -1, sym);
    npz_free(z);
}

/* ---- golden: training ---- */

/* A linear y = x W' + b and what training knows of it. */
typedef struct OneLinear {
    AutoRound a;
    const float *x, *b;
    int n, rows;       /* samples, rows of each */
    float *want, *wq;  /* [n * rows][out], [out][in] */
} OneLinear;

static void product(const OneLinear *l, const float *w, const float *x, float *y)
{
    for (int r = 0; r < l->rows; r++)
        for (int64_t o = 0; o < l->a.out; o++) {
            float sum = 0;
            for (int64_t k = 0; k < l->a.in; k++)
                sum += x[r * l->a.in + k] * w[o * l->a.in + k];
            y[r * l->a.out + o] = sum + l->b[o];
        }
}

/* Loss of one sample, its gradient added to a.g. */
static double sample_loss(OneLinear *l, int s, float *y)
{
    const float *x = l->x + (int64_t)s * l->rows * l->a.in, *want = l->want + (int64_t)s * l->rows * l->a.out;
    double loss = 0;
    product(l, l->wq, x, y);
    for (int64_t i = 0; i < l->rows * l->a.out; i++) {
        float d = y[i] - want[i];
        loss += fabs((double)d);
        float g = d > 0 ? 1000.0f : d < 0 ? -1000.0f : 0;
        for (int64_t k = 0; k < l->a.in; k++)
            l->a.g[i % l->a.out * l->a.in + k] += g * x[i / l->a.out * l->a.in + k];
    }
    return loss;
}

static void check_permutations(const NpyArray *perm, uint32_t seed)
{
    const int16_t *want = perm->data;
    TorchRandom r;
    int n = (int)perm->shape[1], got[16];
    assert_true(perm->kind == 'i' && perm->size == 2 && n <= 16);
    torch_random(&r, seed);
    for (int64_t i = 0; i < perm->shape[0]; i++) {
        torch_permute(&r, n, got);
        for (int k = 0; k < n; k++)
            assert_int_equal(got[k], want[i * n + k]);
    }
}

static int differences(const float *got, const float *want, int64_t n)
{
    int bad = 0;
    for (int64_t i = 0; i < n; i++)
        bad += fabsf(got[i] - want[i]) > 1e-5f;
    return bad;
}

static void train_case(const Npz *z, int t)
{
    const NpyArray *w, *x, *p, *lo, *c = npz_find(z, "t%d.cfg", t);
    const int64_t *cfg = c->data;
    const float *W = npz_f32(z, &w, "t%d.W", t);
    int iters = (int)cfg[3], order[16];
    const QSpec q = spec_of((int)cfg[0], cfg[1], cfg[2] != 0, 2);
    OneLinear l = {.a = autoround_of(&q, W, w->shape[0], w->shape[1], DT_F32), .x = npz_f32(z, &x, "t%d.X", t),
                   .b = npz_f32(z, NULL, "t%d.b", t), .n = (int)x->shape[0], .rows = (int)x->shape[1]};
    AutoRound *a = &l.a;
    int64_t groups = a->out * a->groups;
    const float *best_v = npz_f32(z, &p, "t%d.best.value", t), *best_low = npz_f32(z, &lo, "t%d.best.min_scale", t);
    const float *best_high = npz_f32(z, NULL, "t%d.best.max_scale", t);
    assert_int_equal(lo->count, groups);
    a->rounds = a->clips = true;
    a->v = copy_of(NULL, w->count);
    a->g = copy_of(NULL, w->count);
    a->low = copy_of(NULL, groups);
    a->high = copy_of(NULL, groups);
    a->dlow = copy_of(NULL, groups);
    a->dhigh = copy_of(NULL, groups);
    for (int64_t i = 0; i < groups; i++)
        a->low[i] = a->high[i] = 1;
    l.wq = copy_of(NULL, w->count);
    l.want = copy_of(NULL, l.n * l.rows * a->out);
    float *y = copy_of(NULL, l.rows * a->out), *kept = copy_of(NULL, w->count), *klow = copy_of(NULL, groups);
    float *khigh = copy_of(NULL, groups);
    for (int s = 0; s < l.n; s++)
        product(&l, W, l.x + (int64_t)s * l.rows * a->in, l.want + (int64_t)s * l.rows * a->out);
    check_permutations(npz_find(z, "t%d.perm", t), (uint32_t)cfg[4]);
    TorchRandom r;
    torch_random(&r, (uint32_t)cfg[4]);
    torch_permute(&r, l.n, order);
    AutoRoundBest best = {0};
    int pick = l.n < AUTOROUND_BATCH ? l.n : AUTOROUND_BATCH;
    for (int it = 0; it < iters; it++) {
        double total = 0;
        torch_permute(&r, l.n, order);
        memset(a->g, 0, (size_t)w->count * sizeof *a->g);
        autoround_rows(a, 0, a->out, l.wq);
        for (int k = 0; k < AUTOROUND_BATCH; k++)
            total += sample_loss(&l, k < pick ? order[k] : 0, y) / (double)(pick * l.rows * a->in);
        if (autoround_better(&best, total / AUTOROUND_BATCH)) {
            memcpy(kept, a->v, (size_t)w->count * sizeof *kept);
            for (int64_t i = 0; i < groups; i++) { /* as the forward has cut them */
                klow[i] = fminf(fmaxf(a->low[i], 0), 1);
                khigh[i] = fminf(fmaxf(a->high[i], 0), 1);
            }
        }
        autoround_backward(a, 0, a->out);
        autoround_step(a, 0, a->out, (float)(5.0 / iters * (1 - (double)it / iters)));
    }
    int bad = differences(kept, best_v, w->count) + differences(klow, best_low, groups)
              + differences(khigh, best_high, groups);
    assert_int_equal(bad, 0);
    bad = differences(a->v, npz_f32(z, NULL, "t%d.final.value", t), w->count);
    bad += differences(a->low, npz_f32(z, NULL, "t%d.final.min_scale", t), groups);
    bad += differences(a->high, npz_f32(z, NULL, "t%d.final.max_scale", t), groups);
    if (bad > 31) /* one row goes another way once a sum is about 0 */
        fail_msg("training %d: %d of %lld last values are others", t, bad, (long long)w->count);
    float *all[] = {a->v, a->g, a->low, a->high, a->dlow, a->dhigh, l.wq, l.want, y, kept, klow, khigh};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void training_is_the_recorded_one(void **state)
{
    (void)state;
    Npz *z = npz_open("tests/golden/quant/autoround_train.npz");
    for (int t = 0; t < 3; t++)
        train_case(z, t);
    npz_free(z);
}

/* ---- backward against differences ---- */

/* What the quantizer gives where nothing is rounded: the rounding's own step taken out, which is what "straight through"
 * differentiates. level: the integers and whether they were cut, as they are at the start. */
static double smooth_value(const AutoRound *a, const float *level, const uint8_t *cut, const float *ratio0, const float *v0,
                           const float *grad)
{
    double sum = 0;
    for (int64_t r = 0; r < a->out; r++)
        for (int64_t k = 0; k < a->groups; k++) {
            int64_t g = r * a->groups + k, end = (k + 1) * a->group < a->in ? (k + 1) * a->group : a->in;
            double lo = 0, hi = 0;
            for (int64_t i = k * a->group; i < end; i++) {
                double w = (double)a->w[r * a->in + i];
                lo = w < lo ? w : lo;
                hi = w > hi ? w : hi;
            }
            lo = -lo * (double)a->low[g];
            hi *= (double)a->high[g];
            double s = (lo > hi ? lo : hi) / (a->bits == 4 ? 7 : 127);
            s = a->symmetric || hi < lo ? s : -s;
            for (int64_t i = r * a->in + k * a->group; i < r * a->in + end; i++) {
                double t = (double)level[i];
                if (!cut[i])
                    t += (double)a->w[i] / s - (double)ratio0[i] + (double)a->v[i] - (double)v0[i];
                sum += (double)grad[i] * s * t;
            }
        }
    return sum;
}

static void nudge(AutoRound *a, float *x, const float *level, const uint8_t *cut, const float *ratio, const float *v0,
                  const float *grad, double got, const char *what)
{
    const float was = *x, h = 1e-3f;
    *x = was + h;
    double up = smooth_value(a, level, cut, ratio, v0, grad);
    *x = was - h;
    double down = smooth_value(a, level, cut, ratio, v0, grad), want = (up - down) / (2 * (double)h);
    *x = was;
    if (fabs(got - want) > 1e-2 * fabs(want) + 1e-4)
        fail_msg("%s: the gradient is %.6g, differences give %.6g", what, got, want);
}

static void gradients_are_differences(void **state)
{
    (void)state;
    enum { OUT = 3, IN = 21, N = OUT * IN };
    float w[N], v[N], g[N], grad[N], level[N], ratio[N], v0[N], low[9], high[9], dlow[9], dhigh[9];
    uint8_t cut[N];
    for (int c = 0; c < 8; c++) {
        Rng rng = rng_new((uint64_t)c + 1);
        QSpec q = spec_of(c & 1 ? 8 : 4, c & 2 ? 9 : -1, c & 4, 2); /* the last group has 3 */
        AutoRound a = autoround_of(&q, w, OUT, IN, DT_F32);
        for (int i = 0; i < N; i++) {
            w[i] = (float)(rng_unit(&rng) - 0.4);
            v[i] = (float)(rng_unit(&rng) - 0.5) * 0.9f;
            grad[i] = (float)(rng_unit(&rng) - 0.5);
        }
        a.rounds = a.clips = true;
        a.v = v, a.g = g, a.low = low, a.high = high, a.dlow = dlow, a.dhigh = dhigh;
        for (int i = 0; i < 9; i++) {
            low[i] = (float)(0.6 + 0.3 * rng_unit(&rng));
            high[i] = (float)(0.6 + 0.3 * rng_unit(&rng));
        }
        memcpy(v0, v, sizeof v);
        autoround_rows(&a, 0, OUT, g);
        QWeight made;
        QSpec plain = q;
        plain.ext.group_size = 0;
        plain.scope = QS_PER_CHANNEL;
        plain.symmetric = true; /* no offsets, of which there would be too few */
        assert_int_equal(qweight_init(&made, &plain, OUT, IN, NULL), ST_OK);
        made.scale = realloc(made.scale, sizeof low);
        autoround_codes(&a, 0, OUT, false, &made);
        for (int i = 0; i < N; i++) {
            float s = made.scale[i / IN * a.groups + i % IN / a.group], top = c & 1 ? 127 : 7;
            level[i] = (float)(int8_t)made.code[i];
            ratio[i] = w[i] / s;
            float t = rintf(ratio[i] + v[i]);
            cut[i] = t > top || t < -top - 1;
        }
        memcpy(g, grad, sizeof g);
        autoround_backward(&a, 0, OUT);
        for (int i = 0; i < N; i++)
            nudge(&a, &v[i], level, cut, ratio, v0, grad, (double)g[i], "v");
        for (int64_t i = 0; i < OUT * a.groups; i++) {
            nudge(&a, &low[i], level, cut, ratio, v0, grad, (double)dlow[i], "low");
            nudge(&a, &high[i], level, cut, ratio, v0, grad, (double)dhigh[i], "high");
        }
        qweight_fini(&made);
    }
}

/* ---- the row before training ---- */

static void untrained_is_the_nearest(void **state)
{
    (void)state;
    float w[2 * 8] = {0, 0, 0, 0, 0, 0, 0, 0, -7, 7, 3.4f, -3.6f, 0.5f, 1.5f, -0.5f, 1e-9f}, y[2 * 8];
    const float want[2 * 8] = {0, 0, 0, 0, 0, 0, 0, 0, -7, 7, 3, -4, 0, 2, 0, 0};
    const QSpec q = spec_of(4, -1, true, 0);
    const WeightQuantizer *k = weight_quantizer_find(&q);
    assert_non_null(k);
    memcpy(y, w, sizeof y);
    k->rows(&q, y, 2, 8, DT_F32, false);
    for (int i = 0; i < 16; i++)
        assert_true(y[i] == want[i]);
    QWeight out;
    assert_int_equal(qweight_init(&out, &q, 2, 8, NULL), ST_OK);
    const WeightTask t = {.q = &q, .w = w, .out = 2, .in = 8, .T = DT_F32, .F = DT_F32};
    assert_int_equal(k->quantize(&t, &out, NULL), ST_OK);
    qweight_rows(&out, 0, 2, DT_F32, y);
    for (int i = 0; i < 16; i++)
        assert_true(y[i] == want[i]);
    qweight_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_is_the_recorded_one),
        cmocka_unit_test(training_is_the_recorded_one),
        cmocka_unit_test(gradients_are_differences),
        cmocka_unit_test(untrained_is_the_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
