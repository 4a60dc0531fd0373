#ifndef SLIM_TEST_PASSRUN_H
#define SLIM_TEST_PASSRUN_H

#include "metric/metric.h"

/* Passes of metrics run in a test, and forwards whose values are kept to check them. Anything that fails fails the test. */

/* What came of a pass; the input of step `keep` is kept (-1: none). */
typedef struct Got {
    PassScore *s;
    int64_t n;
    int64_t keep;
    Stream kept;
} Got;
/* Runs the plan's pass; scores are added to *g, which begins as {.keep = -1}. */
void test_pass(Runner *r, const PassPlan *p, Got *g);
void got_free(Got *g);
const UnitScore *got_score(const Got *g, const Metric *m, int64_t unit);
/* Every score has the same bits. */
void got_same(const Got *a, const Got *b);
/* A part by its name. */
double test_part(const UnitScore *u, const Metric *m, const char *name);
void test_near(double got, double want, double tol);

/* The recorded texts in the ids of a model folder's tokenizer; tokens_free. */
TokenSet *test_calib_tokens(const char *dir, const Model *m);

/* Inputs and outputs of linears as one thread computes them, all samples' rows one behind the other. */
typedef struct Kept {
    float *x;
    int64_t *at;   /* [samples] rows of each; NULL: none came */
    int64_t rows, width;
} Kept;
typedef struct KeptForward {
    const TokenSet *t;
    int64_t n;
    Kept *in, *out; /* [n] by linear; inputs by the first that reads them */
} KeptForward;
void kept_forward(KeptForward *k, const char *dir, const TokenSet *t);
void kept_free(KeptForward *k);

/* ---- quantizers, written out in float64 ---- */

/* Rows of a weight to the symmetric grid of so many bits, in place. */
void test_fake_weight(double *w, int64_t out, int64_t in, int bits);
/* Rows of an input to int8: all by the one asymmetric range [lo, hi] (fixed), or each by its own symmetric one. */
void test_fake_input(double *x, int64_t rows, int64_t in, bool fixed, double lo, double hi);
/* A copy, and a linear's weight as float32 [out][in]; caller frees. */
double *test_doubles(const float *x, int64_t n);
float *test_weight(const Model *m, int64_t linear);

#endif
