#ifndef SLIM_TEST_BENCH_H
#define SLIM_TEST_BENCH_H

#include <stdint.h>

#include "metric/metric.h"
#include "run/runner.h"

/* A model with a runner on it, for a test. Anything that fails fails the test. */
typedef struct TestRun {
    Model *m;
    Pool *pool;
    Runner *r;
} TestRun;
void test_run_open(TestRun *b, const char *dir, ArithMode arith, int threads, const Cancel *cancel);
/* The same within `limit` bytes. */
void test_run_open_within(TestRun *b, const char *dir, ArithMode arith, int threads, uint64_t limit,
                          const Cancel *cancel);
void test_run_close(TestRun *b);

/* Samples of the given lengths with random ids below vocab, each its own text. Freed with test_tokens_free. */
TokenSet *test_tokens(const int *lengths, int samples, int64_t vocab, uint64_t seed);
void test_tokens_free(TokenSet *t);
/* A tensor of floats or int64 as float32; caller frees. */
float *test_tensor(const Checkpoint *c, const TensorInfo *t);

/* The logits of a pass, from all panels. */
typedef struct TestLogits {
    float *v; /* [rows][vocab] */
    int64_t vocab;
} TestLogits;
/* A LogitsPanel; ctx is a TestLogits. */
void test_keep_logits(void *ctx, int worker, int64_t row0, int64_t rows, int64_t v0, int64_t nv, const float *logits,
                      int64_t ld, const float *w);
/* [rows][vocab] of a stream behind the final norm; caller frees. */
float *test_logits(Runner *r, const Stream *normed);
/* The largest difference, in parts of the largest value wanted; INFINITY when a value is no number. */
double test_worst(const float *want, const float *got, int64_t n);

/* A metric's score of a linear that has these statistics. */
double test_score(const Metric *m, const LinearResult *r, const QConfig *q, char *why, int why_size);

#endif
