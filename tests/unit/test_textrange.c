/* Which text sets a range: against plain loops over a forward, and against passes that really leave each text out. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "metric/textrange.h"
#include "metric/watch.h"

#include "tests/lib/bench.h"
#include "tests/lib/passrun.h"

#define DEMO "lab_models/demo"
#define MOE "tests/golden/models/qwen3_moe/fp32"

static const Metric *const one[] = {&metric_text_range, NULL};

static void run_pass(TestRun *b, const TokenSet *t, Got *g)
{
    PassPlan p = {.m = b->m, .pass = &pass_watch, .metrics = one, .tokens = t};
    test_pass(b->r, &p, g);
}

/* Least and greatest value of one sample's rows. */
static void plain_range(const Kept *k, int sample, float *lo, float *hi)
{
    int64_t row = 0;
    *lo = INFINITY;
    *hi = -INFINITY;
    for (int s = 0; s < sample; s++)
        row += k->at[s];
    for (int64_t i = row * k->width; i < (row + k->at[sample]) * k->width; i++) {
        *lo = fminf(*lo, k->x[i]);
        *hi = fmaxf(*hi, k->x[i]);
    }
}

static void extremes_are_those_of_plain_loops(void **state)
{
    (void)state;
    const int lengths[] = {40, 1, 90, 17, 33};
    enum { N = 5 };
    TestRun b;
    KeptForward k;
    Got g = {.keep = -1};
    test_run_open(&b, DEMO, ARITH_FP32, 2, NULL);
    TokenSet *t = test_tokens(lengths, N, b.m->cfg.vocab, 3);
    run_pass(&b, t, &g);
    kept_forward(&k, DEMO, t);
    for (int64_t i = 0; i < b.m->nlinears; i++) {
        const Kept *kept = &k.in[b.m->linears[i].input];
        const UnitScore *u = got_score(&g, one[0], i);
        float lo[N], hi[N], least = INFINITY, most = -INFINITY;
        for (int s = 0; s < N; s++) {
            plain_range(kept, s, &lo[s], &hi[s]);
            least = fminf(least, lo[s]);
            most = fmaxf(most, hi[s]);
        }
        assert_int_equal((int)u->part[TEXT_RANGE_TEXTS], N);
        test_near(u->part[TEXT_RANGE_LO], (double)least, 1e-6);
        test_near(u->part[TEXT_RANGE_HI], (double)most, 1e-6);
        assert_true(lo[(int)u->part[TEXT_RANGE_LO_TEXT] - 1] == least);
        assert_true(hi[(int)u->part[TEXT_RANGE_HI_TEXT] - 1] == most);
        double factor = 0;
        for (int s = 0; s < N; s++) { /* the range of the other four */
            float l = INFINITY, h = -INFINITY;
            double a, z;
            for (int o = 0; o < N; o++) {
                l = o == s ? l : fminf(l, lo[o]);
                h = o == s ? h : fmaxf(h, hi[o]);
            }
            assert_true(text_range_without(u->part, s + 1, &a, &z));
            test_near(a, (double)l, 1e-6);
            test_near(z, (double)h, 1e-6);
            factor = fmax(factor, text_range_factor(u->part, s + 1));
        }
        test_near(u->value, factor, 1e-12);
        assert_true(u->value >= 1);
        assert_true(u->value == text_range_factor(u->part, (int)u->part[TEXT_RANGE_TEXT]));
    }
    kept_free(&k);
    got_free(&g);
    test_tokens_free(t);
    test_run_close(&b);
}

/* The same texts but one, with the numbers that they had. */
static void leave_out(const TokenSet *t, int out, TokenSet *to)
{
    *to = (TokenSet){.samples = t->samples - 1, .start = calloc((size_t)t->samples + 1, sizeof *to->start),
                     .ids = calloc((size_t)t->start[t->samples], sizeof *to->ids),
                     .item = calloc((size_t)t->samples, sizeof *to->item)};
    for (int s = 0, n = 0; s < t->samples; s++) {
        if (s == out)
            continue;
        memcpy(to->ids + to->start[n], t->ids + t->start[s], (size_t)(t->start[s + 1] - t->start[s]) * sizeof *t->ids);
        to->item[n] = s;
        to->start[n + 1] = to->start[n] + t->start[s + 1] - t->start[s];
        n++;
    }
}

static void the_range_without_a_text_is_that_of_a_pass_without_it(void **state)
{
    (void)state;
    const int lengths[] = {20, 64, 5, 31};
    TestRun b;
    Got all = {.keep = -1};
    int narrower = 0, renumbered = 0;
    test_run_open(&b, DEMO, ARITH_FP32, 2, NULL);
    TokenSet *t = test_tokens(lengths, 4, b.m->cfg.vocab, 7);
    run_pass(&b, t, &all);
    for (int out = 0; out < 4; out++) {
        Got g = {.keep = -1};
        TokenSet less;
        leave_out(t, out, &less);
        run_pass(&b, &less, &g);
        for (int64_t i = 0; i < b.m->nlinears; i++) {
            const UnitScore *with = got_score(&all, one[0], i), *without = got_score(&g, one[0], i);
            double lo, hi;
            assert_true(text_range_without(with->part, out + 1, &lo, &hi));
            test_near(lo, without->part[TEXT_RANGE_LO], 1e-6);
            test_near(hi, without->part[TEXT_RANGE_HI], 1e-6);
            narrower += hi < with->part[TEXT_RANGE_HI];
            renumbered += (int)without->part[TEXT_RANGE_HI_TEXT] == 4;
            assert_int_not_equal((int)without->part[TEXT_RANGE_HI_TEXT], out + 1);
        }
        got_free(&g);
        free(less.start);
        free(less.ids);
        free(less.item);
    }
    assert_true(narrower > 0 && renumbered > 0);
    got_free(&all);
    test_tokens_free(t);
    test_run_close(&b);
}

static void an_expert_of_one_text_is_told(void **state)
{
    (void)state;
    const int lengths[] = {2, 1};
    TestRun b;
    KeptForward k;
    Got g = {.keep = -1};
    int sole = 0, none = 0;
    test_run_open(&b, MOE, ARITH_FP32, 2, NULL);
    TokenSet *t = test_tokens(lengths, 2, b.m->cfg.vocab, 1);
    run_pass(&b, t, &g);
    kept_forward(&k, MOE, t);
    for (int64_t i = 0; i < b.m->nlinears; i++) {
        const Kept *kept = &k.in[b.m->linears[i].input];
        const UnitScore *u = got_score(&g, one[0], i);
        int from = -1, texts = 0;
        for (int s = 0; kept->at && s < 2; s++) {
            texts += kept->at[s] > 0;
            from = kept->at[s] > 0 ? s : from;
        }
        assert_int_equal((int)u->part[TEXT_RANGE_TEXTS], texts);
        assert_int_equal(u->absent, texts < 2);
        sole += texts == 1;
        none += texts == 0;
        if (texts == 1) {
            double lo, hi;
            assert_string_equal(u->why, "only one text reaches it");
            assert_int_equal((int)u->part[TEXT_RANGE_TEXT], from + 1);
            assert_false(text_range_without(u->part, from + 1, &lo, &hi));
            assert_true(isnan(text_range_factor(u->part, from + 1)));
        }
    }
    assert_true(sole > 0 && none > 0);
    kept_free(&k);
    got_free(&g);
    test_tokens_free(t);
    test_run_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(extremes_are_those_of_plain_loops),
        cmocka_unit_test(the_range_without_a_text_is_that_of_a_pass_without_it),
        cmocka_unit_test(an_expert_of_one_text_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
