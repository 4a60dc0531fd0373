/* Sweeps of attentions and caches against plain runs of the whole model, each with one layer's q, k and v replaced by plain
 * loops, in every architecture. */
#include <glob.h>
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
#include "metric/metric.h"
#include "metric/rows.h"
#include "model/block.h"

#include "tests/lib/attn_seen.h"
#include "tests/lib/bench.h"

static Error err;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

/* ---- the sweep ---- */

typedef struct Swept {
    UnitScore unit[64];
    bool told[64];
    int n, steps;
} Swept;

static Status on_step(void *ctx, const PassStep *step, Error *e)
{
    (void)e;
    Swept *s = ctx;
    s->steps++;
    for (int64_t i = 0; i < step->nscore; i++) {
        s->unit[step->score[i].s.unit] = step->score[i].s;
        s->n += !s->told[step->score[i].s.unit];
        s->told[step->score[i].s.unit] = true;
    }
    return ST_OK;
}

static void sweep(const TestRun *b, const TokenSet *t, const Metric *m, Swept *out)
{
    const Metric *list[] = {m, NULL};
    int16_t *level = mem_zarray((size_t)b->m->nlinears, sizeof *level);
    PassPlan p = {.m = b->m, .pass = m->pass, .metrics = list, .level = level, .tokens = t, .probe = t->start[t->samples]};
    *out = (Swept){0};
    ok(m->pass->run(b->r, &p, &(PassSink){on_step, out}, &err));
    assert_int_equal(out->n, m->pass->steps(&p));
    assert_true(m->pass->bytes(&p, 2) > 0 && m->pass->need(&p, 2) > 0);
    free(level);
}

/* ---- plain loops ---- */

/* A scale for each channel: its head's, all the same. */
static float scale_of(const AttnSeen *s, int at, int part, int64_t c0, int64_t dim, double ratio)
{
    float lo, hi;
    attn_seen_window(s, at, part, c0, dim, ratio, &lo, &hi);
    return fmaxf(fmaxf(-fminf(lo, 0), fmaxf(hi, 0)) / 127, 0x1p-23f);
}

static void make_scales(AttnSeen *s, const ModelConfig *c, bool cache)
{
    for (int i = 0; i < s->n; i++)
        for (int part = cache; part < 3; part++) {
            int64_t dim = cache ? 1 : part == 2 ? c->v_dim : c->head_dim;
            for (int64_t at = 0; at < s->width[i][part]; at += dim) {
                float scale = scale_of(s, i, part, at, dim, cache || part == 2 ? 1 : 0.9999);
                for (int64_t k = 0; k < dim; k++)
                    s->scale[i][part][at + k] = scale;
            }
        }
}

static void replace(void *self, int64_t linear, int part, float *x, int64_t rows, int64_t ld)
{
    const AttnSeen *s = self;
    int at = s->linear[0] == linear ? 0 : 1;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < s->width[at][part] && s->scale[at][part][0] > 0; c++) {
            float q = nearbyintf(x[r * ld + c] / s->scale[at][part][c]);
            x[r * ld + c] = fminf(fmaxf(q, -128), 127) * s->scale[at][part][c];
        }
}

/* [rows][vocab] of the model with `unit` run as v. */
static float *logits_of(const TestRun *b, const TokenSet *t, int unit, const Variant *v)
{
    Stream h, normed;
    ok(runner_embed(b->r, t, &h, &err));
    for (int l = 0; l < b->m->cfg.layers; l++)
        ok(runner_layer(b->r, l, l == unit ? v : NULL, &h, &h, NULL, 0, &err));
    ok(runner_final_norm(b->r, &h, &normed, NULL, 0, &err));
    float *z = test_logits(b->r, &normed);
    stream_fini(&normed);
    stream_fini(&h);
    return z;
}

/* Mean KL over the rows that predict a token. */
static double divergence(const TokenSet *t, const float *plain, const float *changed, int64_t vocab)
{
    double sum = 0;
    int64_t n = 0;
    for (int i = 0; i < t->samples; i++)
        for (int64_t r = t->start[i]; r + 1 < t->start[i + 1]; r++, n++) {
            const float *a = plain + r * vocab, *b = changed + r * vocab;
            double za = 0, zb = 0, kl = 0, top = -INFINITY;
            for (int64_t k = 0; k < vocab; k++)
                top = fmax(top, fmax((double)a[k], (double)b[k]));
            for (int64_t k = 0; k < vocab; k++) {
                za += exp((double)a[k] - top);
                zb += exp((double)b[k] - top);
            }
            for (int64_t k = 0; k < vocab; k++) {
                double la = (double)a[k] - top - log(za), lb = (double)b[k] - top - log(zb);
                kl += exp(la) * (la - lb);
            }
            sum += kl;
        }
    return sum / (double)n;
}

static double by_hand(const TestRun *b, const TokenSet *t, int unit, bool cache, const float *plain)
{
    AttnSeen s = {.unit = unit};
    Observer obs = {&attn_seen_ops, &s};
    Stream h;
    ok(runner_embed(b->r, t, &h, &err));
    for (int l = 0; l <= unit; l++)
        ok(runner_layer(b->r, l, NULL, &h, &h, &obs, 1, &err));
    make_scales(&s, b->m->units[unit].cfg, cache);
    AttnForm form = {.replace = replace, .self = &s};
    float *z = logits_of(b, t, unit, &(Variant){.attn = &form});
    double kl = divergence(t, plain, z, b->m->cfg.vocab);
    free(z);
    attn_seen_end(&s);
    stream_fini(&h);
    return kl;
}

/* ---- tests ---- */

static bool has_scores(const Unit *u)
{
    for (int nth = 0; unit_block(u, ROLE_ATTENTION, nth); nth++)
        if (unit_block(u, ROLE_ATTENTION, nth)->type->scores)
            return true;
    return false;
}

static void sweeps_are_plain_runs(void **state)
{
    (void)state;
    static const int lengths[] = {41, 5, 18};
    glob_t found;
    int absent = 0, scored = 0;
    double worst = 0;
    assert_int_equal(glob("tests/golden/models/*/fp32", 0, NULL, &found), 0);
    for (size_t k = 0; k < found.gl_pathc; k++) {
        TestRun b;
        Swept got;
        test_run_open(&b, found.gl_pathv[k], ARITH_FP32, 2, NULL);
        TokenSet *t = test_tokens(lengths, 3, b.m->cfg.vocab, 5);
        float *plain = logits_of(&b, t, -1, NULL);
        for (int cache = 0; cache < 2; cache++) {
            sweep(&b, t, cache ? &metric_alone_cache : &metric_alone_attention, &got);
            for (int l = 0; l < b.m->cfg.layers; l++) {
                const UnitScore *u = &got.unit[l];
                assert_true(got.told[l]);
                assert_int_equal(u->absent, !has_scores(&b.m->units[l]));
                absent += u->absent;
                scored += !u->absent;
                if (u->absent) {
                    assert_true(strstr(u->why, "not applicable") && isnan(u->value));
                    continue;
                }
                double want = by_hand(&b, t, l, cache, plain), off = fabs(u->value - want);
                worst = fmax(worst, off / (want + 1e-9));
                if (!(off <= 2e-3 * want + 1e-9))
                    fail_msg("%s layer %d %s: %.9g, not %.9g", found.gl_pathv[k], l, cache ? "cache" : "attention", u->value,
                             want);
                assert_true(u->tokens == 64 && u->samples == 3 && u->part[0] >= 0);
            }
        }
        free(plain);
        test_tokens_free(t);
        test_run_close(&b);
    }
    printf("# %d layers, worst relative difference %.2e\n", scored, worst);
    assert_true(found.gl_pathc > 15 && absent > 0 && scored > 60);
    globfree(&found);
}

static void nothing_depends_on_threads(void **state)
{
    (void)state;
    static const int lengths[] = {20, 12};
    TestRun b;
    Swept got;
    test_run_open(&b, "tests/golden/models/llama/fp32", ARITH_FP32, 1, NULL);
    TokenSet *t = test_tokens(lengths, 2, b.m->cfg.vocab, 5);
    sweep(&b, t, &metric_alone_cache, &got);
    Swept again;
    test_run_close(&b);
    test_run_open(&b, "tests/golden/models/llama/fp32", ARITH_FP32, 2, NULL);
    sweep(&b, t, &metric_alone_cache, &again);
    for (int l = 0; l < b.m->cfg.layers; l++)
        assert_true(got.unit[l].value == again.unit[l].value && again.unit[l].part[1] == got.unit[l].part[1]);
    test_tokens_free(t);
    test_run_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sweeps_are_plain_runs),
        cmocka_unit_test(nothing_depends_on_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
