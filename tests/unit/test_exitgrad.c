/* The loss behind the last unit against its definition written out in float64, its gradient against finite differences, and
 * what is drawn against the distribution it is drawn from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "run/exitgrad.h"

#include "tests/lib/bench.h"
#include "tests/lib/random_model.h"

static void filled(Stream *h, int samples, const int64_t *start, int64_t width, uint64_t seed)
{
    Rng g = rng_new(seed);
    assert_int_equal(stream_init(h, samples, start, width, NULL), ST_OK);
    for (int64_t i = 0; i < h->rows * width; i++)
        h->data[i] = (float)(4 * rng_unit(&g) - 2) * (i % width == 3 ? 20 : 1);
}

/* The losses of rows with these labels. */
static double loss_of(Runner *r, const Stream *h, const int32_t *label)
{
    Stream normed;
    int64_t vocab = runner_model(r)->cfg.vocab;
    assert_int_equal(runner_final_norm(r, h, &normed, NULL, 0, NULL), ST_OK);
    float *z = test_logits(r, &normed);
    double loss = 0;
    for (int64_t t = 0; t < h->rows; t++) {
        double sum = 0;
        for (int64_t v = 0; v < vocab && label[t] >= 0; v++)
            sum += exp((double)z[t * vocab + v] - (double)z[t * vocab + label[t]]);
        loss += label[t] >= 0 ? log(sum) : 0;
    }
    free(z);
    stream_fini(&normed);
    return loss;
}

/* Along random directions the loss grows as the gradient says; each row's directions touch that row alone. */
static void check_differences(const char *dir, NormKind norm, double cap)
{
    TestRun b;
    Stream h, grad;
    static const int64_t start[] = {0, 3, 3, 8};
    test_run_open(&b, dir, ARITH_FP32, 2, NULL);
    b.m->cfg.norm = norm;
    b.m->cfg.final_softcap = cap;
    int64_t n = b.m->cfg.stream_width;
    filled(&h, 3, start, n, 5);
    int32_t label[8] = {1, LABEL_DRAW, LABEL_NONE, 0, LABEL_DRAW, 7, (int32_t)b.m->cfg.vocab - 1, LABEL_DRAW};
    const ExitLoss loss = {.label = label, .seed = 11};
    assert_int_equal(exit_gradient(b.r, &h, &loss, &grad, NULL), ST_OK);
    assert_int_equal(grad.samples, 3);
    Rng g = rng_new(77);
    for (int t = 0; t < 8; t++) {
        double along = 0, size = 0;
        assert_true(label[t] >= 0 || t == 2);
        Stream up, down;
        assert_int_equal(stream_copy(&up, &h, NULL), ST_OK);
        assert_int_equal(stream_copy(&down, &h, NULL), ST_OK);
        for (int64_t i = t * n; i < (t + 1) * n; i++) {
            float d = (float)(rng_unit(&g) - 0.5) * 0.02f;
            up.data[i] += d;
            down.data[i] -= d;
            along += (double)grad.data[i] * ((double)up.data[i] - (double)down.data[i]);
            size += (double)grad.data[i] * (double)grad.data[i];
        }
        double want = loss_of(b.r, &up, label) - loss_of(b.r, &down, label);
        assert_true(fabs(want - along) <= 2e-3 * sqrt(size) * 0.02 * sqrt((double)n) + 2e-5);
        assert_true(t == 2 ? size == 0 : size > 0);
        stream_fini(&up);
        stream_fini(&down);
    }
    stream_fini(&grad);
    stream_fini(&h);
    test_run_close(&b);
}

static void the_gradient_is_that_of_the_loss(void **state)
{
    (void)state;
    static const char llama[] = "tests/golden/models/llama/fp32", gemma[] = "tests/golden/models/gemma2/fp32";
    check_differences(llama, NORM_LLAMA, 0);
    check_differences(gemma, NORM_UNIT, 30);
    check_differences(llama, NORM_LATE, 0.5); /* logits near the cap */
    check_differences(gemma, NORM_LAYER, 0.2);
}

/* A vocabulary of several panels and pieces; every row is the same, so its tokens are draws of one distribution. */
enum { ROWS = 900, VOCAB = 1300 };
static const RandomShape wide = {"llama", 1, 2, 1, 16, 32, 48, VOCAB, 0, DT_F32, 9};

static void same_rows(Stream *h, int64_t width)
{
    static const int64_t start[] = {0, ROWS};
    filled(h, 1, start, width, 3);
    for (int64_t t = 1; t < ROWS; t++)
        memcpy(h->data + t * width, h->data, (size_t)width * sizeof *h->data);
}

static void drawn_at(const char *dir, int threads, const uint64_t *key, int32_t *label, float *first)
{
    TestRun b;
    Stream h, grad;
    test_run_open(&b, dir, ARITH_FP32, threads, NULL);
    same_rows(&h, b.m->cfg.stream_width);
    for (int t = 0; t < ROWS; t++)
        label[t] = LABEL_DRAW;
    assert_int_equal(exit_gradient(b.r, &h, &(ExitLoss){.label = label, .key = key, .seed = 42}, &grad, NULL), ST_OK);
    memcpy(first, grad.data, (size_t)grad.width * sizeof *first);
    stream_fini(&grad);
    stream_fini(&h);
    test_run_close(&b);
}

static void tokens_are_drawn_from_the_rows_distribution(void **state)
{
    (void)state;
    char dir[64];
    int32_t one[ROWS], three[ROWS], back[ROWS];
    uint64_t key[ROWS];
    float g[2][64];
    random_model_write(&wide, dir);
    drawn_at(dir, 1, NULL, one, g[0]);
    drawn_at(dir, 3, NULL, three, g[1]);
    assert_memory_equal(one, three, sizeof one);
    assert_memory_equal(g[0], g[1], 32 * sizeof(float));
    for (int t = 0; t < ROWS; t++)
        key[t] = (uint64_t)(ROWS - 1 - t);
    drawn_at(dir, 2, key, back, g[1]); /* a row's token goes by its key, wherever it stands */
    for (int t = 0; t < ROWS; t++)
        assert_int_equal(back[t], one[ROWS - 1 - t]);

    /* against the probabilities, in twenty classes of tokens */
    TestRun b;
    Stream h, normed;
    test_run_open(&b, dir, ARITH_FP32, 1, NULL);
    same_rows(&h, b.m->cfg.stream_width);
    assert_int_equal(runner_final_norm(b.r, &h, &normed, NULL, 0, NULL), ST_OK);
    float *z = test_logits(b.r, &normed);
    double p[20] = {0}, sum = 0, chi = 0;
    int count[20] = {0};
    for (int v = 0; v < VOCAB; v++) {
        p[v / 65] += exp((double)z[v]);
        sum += exp((double)z[v]);
    }
    for (int t = 0; t < ROWS; t++)
        count[one[t] / 65]++;
    for (int c = 0; c < 20; c++) {
        double want = p[c] / sum * ROWS;
        chi += ((double)count[c] - want) * ((double)count[c] - want) / want;
    }
    assert_true(chi < 43.8); /* 19 degrees of freedom, 0.1 % */
    free(z);
    stream_fini(&normed);
    stream_fini(&h);
    test_run_close(&b);
    random_model_remove(dir);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    TestRun b;
    Stream h, grad;
    Error e;
    static const int64_t start[] = {0, 2};
    test_run_open(&b, "tests/golden/models/llama/fp32", ARITH_FP32, 1, NULL);
    filled(&h, 1, start, b.m->cfg.stream_width, 5);
    int32_t beyond[] = {1, (int32_t)b.m->cfg.vocab}, draw[] = {LABEL_DRAW, 1};
    assert_int_equal(exit_gradient(b.r, &h, &(ExitLoss){.label = beyond}, &grad, &e), ST_DATA);
    assert_non_null(strstr(e.text, "outside the vocabulary"));
    h.data[3] = NAN;
    assert_int_equal(exit_gradient(b.r, &h, &(ExitLoss){.label = draw}, &grad, &e), ST_DATA);
    assert_string_equal(e.text, "the logits of sample 0 token 0 are no numbers");
    stream_fini(&h);
    test_run_close(&b);
    test_run_open(&b, "tests/golden/models/deepseek_v4/fp32", ARITH_FP32, 1, NULL);
    assert_int_equal(exit_has_gradients(b.m, &e), ST_USAGE);
    assert_non_null(strstr(e.text, "hyper-connections"));
    test_run_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_gradient_is_that_of_the_loss),
        cmocka_unit_test(tokens_are_drawn_from_the_rows_distribution),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
