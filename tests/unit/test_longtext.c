#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "run/runner.h"
#include "tests/lib/bench.h"

/* Texts of several blocks of keys: what attention over blocks gives is what whole rows in float64 give. Of a float32
 * checkpoint `exact` rounds nothing, and `fast` is as far from it as bf16 products are. */

static const int lengths[] = {1400, 257, 3, 1};
enum { TEXTS = sizeof lengths / sizeof *lengths };

static void run(const char *arch, ArithMode arith, int threads, Stream *h)
{
    char dir[128];
    TestRun b;
    Error e = {0};
    snprintf(dir, sizeof dir, "tests/golden/models/%s/fp32", arch);
    test_run_open(&b, dir, arith, threads, NULL);
    TokenSet *t = test_tokens(lengths, TEXTS, b.m->cfg.vocab, 11);
    assert_int_equal(runner_embed(b.r, t, h, &e), ST_OK);
    for (int i = 0; i < b.m->cfg.layers; i++)
        if (runner_layer(b.r, i, NULL, h, h, NULL, 0, &e) != ST_OK)
            fail_msg("%s: %s", arch, e.text);
    test_tokens_free(t);
    test_run_close(&b);
}

/* The median of the rows' relative root mean square differences, of the states behind the last layer: a row whose largest
 * scores are nearly equal may be far off in any arithmetic. */
static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double apart(const Stream *a, const Stream *b)
{
    double *row = malloc((size_t)a->rows * sizeof *row);
    assert_non_null(row);
    for (int64_t t = 0; t < a->rows; t++) {
        double d = 0, all = 1e-30;
        for (int64_t k = 0; k < a->width; k++) {
            double x = (double)a->data[t * a->width + k], y = (double)b->data[t * b->width + k];
            assert_true(isfinite(y));
            d += (x - y) * (x - y);
            all += x * x;
        }
        row[t] = sqrt(d / all);
    }
    qsort(row, (size_t)a->rows, sizeof *row, ascending);
    double median = row[a->rows / 2];
    free(row);
    return median;
}

/* Plain, with windows, with a softcap, with sinks, of latent heads. */
static const char *const archs[] = {"llama", "mistral", "gemma2", "gpt_oss", "deepseek_v2"};

static void blocks_of_keys_give_what_whole_rows_give(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        Stream want, got;
        run(archs[i], ARITH_EXACT, 2, &want);
        run(archs[i], ARITH_FP32, 2, &got);
        double plain = apart(&want, &got);
        stream_fini(&got);
        run(archs[i], ARITH_FAST, 2, &got);
        double fast = apart(&want, &got);
        print_message("%s: fp32 within %.2g, fast within %.2g\n", archs[i], plain, fast);
        assert_true(plain < 1e-5);
        assert_true(fast < 0.1 && fast > plain);
        stream_fini(&want);
        stream_fini(&got);
    }
}

static void threads_change_no_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        Stream one, three;
        run(archs[i], ARITH_FP32, 1, &one);
        run(archs[i], ARITH_FP32, 3, &three);
        assert_memory_equal(one.data, three.data, (size_t)(one.rows * one.width) * sizeof *one.data);
        stream_fini(&one);
        stream_fini(&three);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_of_keys_give_what_whole_rows_give),
        cmocka_unit_test(threads_change_no_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
