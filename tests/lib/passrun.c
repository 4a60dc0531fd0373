#include "tests/lib/passrun.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/bench.h"

static void ok(Status st, const Error *e)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, e->text);
}

static Status take(void *ctx, const PassStep *step, Error *e)
{
    Got *g = ctx;
    g->s = realloc(g->s, (size_t)(g->n + step->nscore) * sizeof *g->s + 1);
    assert_non_null(g->s);
    if (step->nscore)
        memcpy(g->s + g->n, step->score, (size_t)step->nscore * sizeof *g->s);
    g->n += step->nscore;
    return step->done == g->keep ? stream_copy(&g->kept, step->h, e) : ST_OK;
}

void test_pass(Runner *r, const PassPlan *p, Got *g)
{
    Error e = {0};
    ok(p->pass->run(r, p, &(PassSink){take, g}, &e), &e);
}

void got_free(Got *g)
{
    free(g->s);
    stream_fini(&g->kept);
}

const UnitScore *got_score(const Got *g, const Metric *m, int64_t unit)
{
    for (int64_t i = 0; i < g->n; i++)
        if (g->s[i].metric == m && g->s[i].s.unit == unit)
            return &g->s[i].s;
    fail_msg("%s has no score of unit %lld", m->name, (long long)unit);
    return NULL;
}

void got_same(const Got *a, const Got *b)
{
    assert_int_equal(a->n, b->n);
    for (int64_t i = 0; i < a->n; i++)
        assert_memory_equal(&a->s[i], &b->s[i], sizeof *a->s);
}

double test_part(const UnitScore *u, const Metric *m, const char *name)
{
    for (int k = 0; m->parts[k].name; k++)
        if (strcmp(m->parts[k].name, name) == 0)
            return u->part[k];
    fail_msg("%s has no part %s", m->name, name);
    return NAN;
}

void test_near(double got, double want, double tol)
{
    if (!(fabs(got - want) <= tol * fabs(want)) && !(isnan(got) && isnan(want)))
        fail_msg("%.17g, not %.17g", got, want);
}

TokenSet *test_calib_tokens(const char *dir, const Model *m)
{
    CalibFile *c = NULL;
    Tokenizer *tok = NULL;
    TokenSet *t = NULL;
    Error e = {0};
    ok(calib_open(&c, "tests/golden/analysis/_models/calib5.jsonl", true, NULL, &e), &e);
    ok(tokenizer_open(&tok, dir, &e), &e);
    ok(tokens_make(&t, c, tok, 0, 0, m->cfg.vocab, NULL, &e), &e);
    tokenizer_free(tok);
    calib_free(c);
    return t;
}

/* ---- a forward whose values are kept ---- */

static bool keep_wants(void *self, Tap tap)
{
    (void)self;
    return tap.kind == TAP_LINEAR_IN || tap.kind == TAP_LINEAR_OUT;
}

/* One thread, so samples come in their order. */
static void keep_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width, int64_t ld)
{
    (void)row0;
    KeptForward *k = self;
    Kept *kept = tap.kind == TAP_LINEAR_IN ? &k->in[tap.linear] : &k->out[tap.linear];
    if (!kept->at)
        kept->at = calloc((size_t)k->t->samples, sizeof *kept->at);
    assert_non_null(kept->at);
    kept->width = width;
    kept->x = realloc(kept->x, (size_t)((kept->rows + rows) * width) * sizeof *kept->x);
    assert_non_null(kept->x);
    for (int64_t r = 0; r < rows; r++)
        memcpy(kept->x + (kept->rows + r) * width, x + r * ld, (size_t)width * sizeof *x);
    kept->at[sample] += rows;
    kept->rows += rows;
}

void kept_forward(KeptForward *k, const char *dir, const TokenSet *t)
{
    static const ObserverOps ops = {.name = "keeper", .wants_tap = keep_wants, .tap_tile = keep_tile};
    TestRun b;
    Stream h;
    Error e = {0};
    test_run_open(&b, dir, ARITH_FP32, 1, NULL);
    *k = (KeptForward){.t = t, .n = b.m->nlinears, .in = calloc((size_t)b.m->nlinears, sizeof *k->in),
                       .out = calloc((size_t)b.m->nlinears, sizeof *k->out)};
    assert_true(k->in && k->out);
    ok(runner_embed(b.r, t, &h, &e), &e);
    for (int l = 0; l < b.m->cfg.layers; l++)
        ok(runner_layer(b.r, l, NULL, &h, &h, &(Observer){&ops, k}, 1, &e), &e);
    stream_fini(&h);
    test_run_close(&b);
}

void kept_free(KeptForward *k)
{
    for (int64_t i = 0; i < k->n; i++) {
        free(k->in[i].x);
        free(k->in[i].at);
        free(k->out[i].x);
        free(k->out[i].at);
    }
    free(k->in);
    free(k->out);
}

/* ---- quantizers, written out ---- */

void test_fake_weight(double *w, int64_t out, int64_t in, int bits)
{
    int top = (1 << (bits - 1)) - 1;
    for (int64_t r = 0; r < out; r++) {
        double max = 0;
        for (int64_t j = 0; j < in; j++)
            max = fmax(max, fabs(w[r * in + j]));
        double s = fmax(max / top, ldexp(1, -23));
        for (int64_t j = 0; j < in; j++)
            w[r * in + j] = s * fmin(fmax(nearbyint(w[r * in + j] / s), -top - 1), top);
    }
}

void test_fake_input(double *x, int64_t rows, int64_t in, bool fixed, double lo, double hi)
{
    for (int64_t r = 0; r < rows; r++) {
        double max = 0, s, o = 0;
        for (int64_t j = 0; j < in; j++)
            max = fmax(max, fabs(x[r * in + j]));
        s = fixed ? (fmax(hi, 0) - fmin(lo, 0)) / 255 : max / 127;
        s = fmax(s, ldexp(1, -23));
        o = fixed ? nearbyint(-fmin(lo, 0) / s) - 128 : 0;
        for (int64_t j = 0; j < in; j++)
            x[r * in + j] = s * (fmin(fmax(nearbyint(x[r * in + j] / s + o), -128), 127) - o);
    }
}

double *test_doubles(const float *x, int64_t n)
{
    double *d = malloc((size_t)n * sizeof *d);
    assert_non_null(d);
    for (int64_t i = 0; i < n; i++)
        d[i] = (double)x[i];
    return d;
}

float *test_weight(const Model *m, int64_t linear)
{
    char name[160];
    snprintf(name, sizeof name, "%s.weight", m->linears[linear].name);
    return test_tensor(m->ckpt, checkpoint_find(m->ckpt, name));
}
