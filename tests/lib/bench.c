#include "tests/lib/bench.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "math/convert.h"

void test_run_open(TestRun *b, const char *dir, ArithMode arith, int threads, const Cancel *cancel)
{
    test_run_open_within(b, dir, arith, threads, 0, cancel);
}

void test_run_open_within(TestRun *b, const char *dir, ArithMode arith, int threads, uint64_t limit,
                          const Cancel *cancel)
{
    Error e = {0};
    if (model_open(&b->m, dir, NULL, &e) != ST_OK || pool_new(&b->pool, threads, &e) != ST_OK)
        fail_msg("%s: %s", dir, e.text);
    RunnerOptions o = {.pool = b->pool, .arith = arith, .mem_limit = limit, .cancel = cancel};
    if (runner_new(&b->r, b->m, &o, &e) != ST_OK)
        fail_msg("%s", e.text);
}

void test_run_close(TestRun *b)
{
    runner_free(b->r);
    pool_free(b->pool);
    model_free(b->m);
}

TokenSet *test_tokens(const int *lengths, int samples, int64_t vocab, uint64_t seed)
{
    TokenSet *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->samples = samples;
    t->start = calloc((size_t)samples + 1, sizeof *t->start);
    t->item = calloc((size_t)samples + 1, sizeof *t->item);
    assert_non_null(t->start);
    assert_non_null(t->item);
    for (int s = 0; s < samples; s++) {
        t->start[s + 1] = t->start[s] + lengths[s];
        t->item[s] = s;
    }
    size_t n = (size_t)t->start[samples];
    t->ids = malloc((n + 1) * sizeof *t->ids);
    assert_non_null(t->ids);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        t->ids[i] = (int32_t)((seed >> 33) % (uint64_t)vocab);
    }
    Hasher h;
    hasher_init(&h);
    hasher_bytes(&h, t->start, (size_t)(samples + 1) * sizeof *t->start);
    hasher_bytes(&h, t->ids, n * sizeof *t->ids);
    Digest d = hasher_end(&h);
    digest_hex(&d, t->sha256);
    return t;
}

void test_tokens_free(TokenSet *t)
{
    free(t->start);
    free(t->item);
    free(t->ids);
    free(t);
}

float *test_tensor(const Checkpoint *c, const TensorInfo *t)
{
    size_t n = (size_t)(t->nbytes / (uint64_t)dtype_size(t->dtype));
    void *raw = malloc(t->nbytes);
    float *out = malloc(n * sizeof *out);
    assert_non_null(raw);
    assert_non_null(out);
    assert_int_equal(checkpoint_read(c, t, 0, t->nbytes, raw, NULL), ST_OK);
    assert_true(t->dtype == DT_F32 || t->dtype == DT_F64 || t->dtype == DT_I64 || t->dtype == DT_BF16 ||
                t->dtype == DT_F16);
    for (size_t i = 0; i < n; i++)
        out[i] = t->dtype == DT_F32    ? ((float *)raw)[i]
                 : t->dtype == DT_F64  ? (float)((double *)raw)[i]
                 : t->dtype == DT_I64  ? (float)((int64_t *)raw)[i]
                 : t->dtype == DT_BF16 ? bf16_to_float(((uint16_t *)raw)[i])
                                       : f16_to_float(((uint16_t *)raw)[i]);
    free(raw);
    return out;
}

void test_keep_logits(void *ctx, int worker, int64_t row0, int64_t rows, int64_t v0, int64_t nv, const float *logits,
                      int64_t ld, const float *w)
{
    (void)worker, (void)w;
    const TestLogits *l = ctx;
    for (int64_t i = 0; i < rows; i++)
        memcpy(l->v + (row0 + i) * l->vocab + v0, logits + i * ld, (size_t)nv * sizeof *logits);
}

float *test_logits(Runner *r, const Stream *normed)
{
    Error e = {0};
    int64_t vocab = runner_model(r)->cfg.vocab;
    TestLogits l = {calloc((size_t)(normed->rows * vocab), sizeof *l.v), vocab};
    assert_non_null(l.v);
    if (runner_logits(r, normed, test_keep_logits, &l, &e) != ST_OK)
        fail_msg("%s", e.text);
    return l.v;
}

double test_worst(const float *want, const float *got, int64_t n)
{
    double max = 0, diff = 0;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(want[i]) || isnan(got[i]))
            return INFINITY;
        max = fmax(max, fabs((double)want[i]));
        diff = fmax(diff, fabs((double)want[i] - (double)got[i]));
    }
    return diff / max;
}

double test_score(const Metric *m, const LinearResult *r, const QConfig *q, char *why, int why_size)
{
    LinearStats stats = {.r = *r};
    Scores s = {.linear = &stats};
    return metric_score(m, &s, 0, q, why, why_size);
}
