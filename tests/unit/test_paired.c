#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "measure/paired.h"
#include "tests/lib/bench.h"

/* Figures to hold the errors against: numpy of the same formula (sqrt(sum((s - m c)^2) * n / (n - 1)) / sum(c)). */
static const double kl_a[] = {1.5, 0.25, 3, 0.75, 2}, kl_b[] = {1, 0.5, 2.75, 0.5, 1.25};
static const int tokens[] = {16, 16, 7, 16, 3};
static const double nll_a[] = {0.5, -0.25, 1, 0.125, 0.25}, nll_b[] = {0.25, -0.5, 1.5, 0, 0.5};
static const int agree_a[] = {12, 16, 3, 15, 1}, agree_b[] = {14, 15, 2, 15, 2};
enum { BLOCKS = 5 };

static TokenBlocks *make(const double *kl, const double *nll, const int *agree)
{
    TokenBlocks *b = calloc(1, sizeof *b + BLOCKS * sizeof *b->b);
    assert_non_null(b);
    strcpy(b->set, "set");
    b->n = BLOCKS;
    for (int i = 0; i < BLOCKS; i++)
        b->b[i] = (TokenBlock){(float)kl[i], (float)(40 + i), (float)nll[i], (uint16_t)tokens[i], (uint16_t)agree[i]};
    return b;
}

static Effect effect_of(const TokenBlocks *b)
{
    double kl = 0, nll = 0, base = 0, agree = 0, n = 0;
    for (int64_t i = 0; i < b->n; i++) {
        kl += (double)b->b[i].kl;
        base += (double)b->b[i].nll_float;
        nll += (double)b->b[i].nll_more;
        agree += b->b[i].agree;
        n += b->b[i].tokens;
    }
    return (Effect){.tokens = (int64_t)n + 2, .predicted = (int64_t)n, .kl_mean = kl / n, .top1 = agree / n,
                    .ppl_float = exp(base / n), .ppl_quant = exp((base + nll) / n)};
}

static void errors_are_those_of_the_formula(void **state)
{
    (void)state;
    TokenBlocks *a = make(kl_a, nll_a, agree_a), *b = make(kl_b, nll_b, agree_b);
    assert_true(fabs(blocks_error(a, block_kl) - 0.06776732942278102) < 1e-12);
    assert_true(fabs(blocks_error(a, block_agree) - 0.09338456208353015) < 1e-12);
    Effect ea = effect_of(a), eb = effect_of(b);
    Paired p = paired_of(&ea, a, &eb, b), back = paired_of(&eb, b, &ea, a), self = paired_of(&ea, a, &ea, a);
    assert_int_equal(p.state, PAIR_OK);
    assert_true(fabs(p.kl - 1.5 / 58) < 1e-12 && fabs(p.kl_se - 0.018607291292965497) < 1e-12);
    assert_true(fabs(p.ppl - (exp(-0.125 / 58) - 1)) < 1e-12 && fabs(p.ppl_se - 0.013350579576100903) < 1e-12);
    assert_true(fabs(p.top1 - -1.0 / 58) < 1e-12 && fabs(p.top1_se - 0.05038403320793021) < 1e-12);
    assert_true(back.kl == -p.kl && back.kl_se == p.kl_se && back.top1 == -p.top1);
    assert_true(self.kl == 0 && self.kl_se == 0 && self.ppl == 0 && self.ppl_se == 0 && self.top1 == 0);
    assert_int_equal(verdict_of(self.kl, self.kl_se), VERDICT_SAME);
    a->n = b->n = 1;
    ea = effect_of(a);
    eb = effect_of(b);
    p = paired_of(&ea, a, &eb, b);
    assert_true(p.kl > 0 && isnan(p.kl_se) && verdict_of(p.kl, p.kl_se) == VERDICT_UNDECIDED);
    free(a);
    free(b);
}

/* What both share in each block is no part of the difference's error. */
static void what_the_text_does_to_both_cancels(void **state)
{
    (void)state;
    enum { N = 400 };
    TokenBlocks *a = calloc(1, sizeof *a + N * sizeof *a->b), *b = calloc(1, sizeof *b + N * sizeof *b->b);
    assert_true(a && b);
    Rng rng = rng_new(3);
    double square = 0;
    a->n = b->n = N;
    for (int i = 0; i < N; i++) {
        double text = 100 * rng_unit(&rng), own = rng_unit(&rng) - 0.5;
        a->b[i] = (TokenBlock){.kl = (float)(text + own), .tokens = 16};
        b->b[i] = (TokenBlock){.kl = (float)text, .tokens = 16};
        square += own * own;
    }
    double paired = blocks_paired_error(a, b, block_kl), alone = blocks_error(a, block_kl);
    assert_true(fabs(paired / (sqrt(square) / N / 16) - 1) < 0.02);
    assert_true(alone > 50 * paired);
    free(a);
    free(b);
}

static void what_does_not_compare_is_named(void **state)
{
    (void)state;
    TokenBlocks *a = make(kl_a, nll_a, agree_a), *b = make(kl_b, nll_b, agree_b);
    Effect ea = effect_of(a), eb = effect_of(b), other = eb;
    other.arith = ARITH_EXACT;
    assert_int_equal(paired_of(&ea, a, &other, b).state, PAIR_ARITH);
    other = eb;
    other.tokens += 16;
    assert_int_equal(paired_of(&ea, a, &other, b).state, PAIR_TOKENS);
    Paired p = paired_of(&ea, a, &eb, NULL);
    assert_int_equal(p.state, PAIR_NO_BLOCKS);
    assert_true(p.kl == ea.kl_mean - eb.kl_mean && isnan(p.kl_se));
    strcpy(b->set, "other");
    p = paired_of(&ea, a, &eb, b);
    assert_true(p.state == PAIR_SET && isnan(p.kl) && isnan(p.kl_se) && isnan(p.ppl));
    strcpy(b->set, "set");
    b->b[2].nll_float += 1;
    eb = effect_of(b);
    assert_int_equal(paired_of(&ea, a, &eb, b).state, PAIR_MODEL);
    for (int s = PAIR_OK; s <= PAIR_NO_BLOCKS; s++)
        assert_true((s == PAIR_OK) == (pair_why((PairState)s)[0] == '\0'));
    free(a);
    free(b);
}

static void two_errors_decide(void **state)
{
    (void)state;
    assert_int_equal(verdict_of(-0.2, 0.1), VERDICT_BETTER);
    assert_int_equal(verdict_of(0.2, 0.1), VERDICT_WORSE);
    assert_int_equal(verdict_of(0.19, 0.1), VERDICT_UNDECIDED);
    assert_int_equal(verdict_of(-0.19, 0.1), VERDICT_UNDECIDED);
    assert_int_equal(verdict_of(0, 0.1), VERDICT_SAME);
    assert_int_equal(verdict_of(-3, (double)NAN), VERDICT_UNDECIDED);
    assert_int_equal(verdict_of((double)NAN, (double)NAN), VERDICT_UNDECIDED);
    assert_string_equal(verdict_word(VERDICT_BETTER), "better");
}

static void check_layout(const int *len, int windows, int64_t want, int most)
{
    TokenSet *t = test_tokens(len, windows, 50, 1);
    TokenBlocks *b;
    int32_t *of;
    assert_int_equal(blocks_new(t, &b, &of, NULL), ST_OK);
    assert_int_equal(b->n, want);
    assert_string_equal(b->set, t->sha256);
    int64_t at = 0;
    int32_t block = -1;
    for (int w = 0; w < windows; w++)
        for (int i = 0; i + 1 < len[w]; i++) {
            block += i % most == 0;
            assert_int_equal(of[at++], block);
        }
    assert_int_equal(block + 1, want);
    int64_t sum = 0;
    for (int64_t i = 0; i < b->n; i++) {
        assert_true(b->b[i].tokens > 0 && b->b[i].tokens <= most && b->b[i].kl == 0 && b->b[i].agree == 0);
        sum += b->b[i].tokens;
    }
    assert_int_equal(sum, at);
    free(b);
    free(of);
    test_tokens_free(t);
}

static void blocks_are_of_sixteen_within_a_window(void **state)
{
    (void)state;
    static const int some[] = {40, 1, 25, 140, 2, 17, 18}, huge[] = {BLOCKS_MAX * BLOCK_TOKENS + 1, 30};
    check_layout(some, 7, 3 + 0 + 2 + 9 + 1 + 1 + 2, BLOCK_TOKENS);
    check_layout(huge, 1, BLOCKS_MAX, BLOCK_TOKENS);
    check_layout(huge, 2, BLOCKS_MAX / 2 + 1, 2 * BLOCK_TOKENS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_those_of_the_formula), cmocka_unit_test(what_the_text_does_to_both_cancels),
        cmocka_unit_test(what_does_not_compare_is_named),  cmocka_unit_test(two_errors_decide),
        cmocka_unit_test(blocks_are_of_sixteen_within_a_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
