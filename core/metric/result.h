#ifndef SLIM_METRIC_RESULT_H
#define SLIM_METRIC_RESULT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "qir/scheme.h"
#include "stat/keyhist.h"

/* What a metric needs from pass_statistics; the union of all metrics asked for decides what is collected. */
enum {
    NEED_ORDER = 1,     /* sampled order statistics of the input, per sample (kurtosis, quantile) */
    NEED_STD = 2,       /* per-sample channel extremes and sums (std) */
    NEED_CHANNEL = 4,   /* mean square per input channel, token extremes (local_error) */
    NEED_WEIGHT = 8,    /* weight panels: column sums of quantization errors (local_error) */
    NEED_OUTPUT = 16,   /* output energy */
    NEED_HIST = 32,     /* key histograms of input and weight, per-channel maxima, moments: the detail pane */
    NEED_WHIST = 64,    /* key histogram and moments of the weight only */
    NEED_INPUT = NEED_ORDER | NEED_STD | NEED_CHANNEL | NEED_OUTPUT | NEED_HIST /* any: the input is watched */
};

/* Everything one analysis pass learnt about one linear. Linears that share an input share `in` values (copies). */
typedef struct TapSummary {
    int64_t values, rows, width;
    int samples;
    double min, max, mean, std;
    double kurtosis, quantile, std_score; /* specs/analysis.md 2.2; NaN when undefined or not collected */
    double token_max_sq;                  /* mean over tokens of max|x|^2 */
    double mean_sq;                       /* mean over values of x^2 */
    float *channel_max;                   /* [width] max|x|, NULL when not collected */
    KeyHist hist;
    bool bad;                             /* a NaN or Inf was seen */
    char bad_text[160];                   /* "NaN first at sample 7 token 211 channel 88" */
} TapSummary;

typedef struct WeightSummary {
    double min, max, mean, std;
    KeyHist hist;
    bool bad;
    char bad_text[160];
} WeightSummary;

/* Local error parts: what a level can be scored by afterwards without a pass. Weight kinds that are always there: int8,
 * int4 per_channel symmetric minmax; others are those the pass was asked for. Activation kinds: static symmetric, static
 * asymmetric, per token int8, per token int4, e4m3 elements, e2m1 elements. */
enum { LOCAL_ACTS = 6, LOCAL_EXTRA = 8 };
typedef struct LocalError {
    bool have;
    double weight_err[2];       /* sum_j m2_j ||dW_:j||^2 for int8, int4 */
    double act_err[LOCAL_ACTS]; /* sum_j min(s^2/12, m2_j) ||W_:j||^2, and what stands for s^2/12 in the others */
    double output_sq;           /* mean ||y||^2 */
    int extras;
    struct {
        uint64_t key;           /* of the weight's spec */
        double err;             /* as weight_err; NaN where it does not fit the weight */
    } extra[LOCAL_EXTRA];
} LocalError;
/* e / mean||y||^2 at a level (DECISIONS); 0 for float; NaN when the scheme's parts were not collected. gptq counts as the
 * minmax of its grid, which it can only improve on. */
double local_error_score(const LocalError *e, const QConfig *q);
/* Weight specs among levels[n] that a pass has to be asked for, each once, the first LOCAL_EXTRA of them: a level beyond
 * has no score, which says why. */
int local_error_specs(const QConfig *levels, int n, QSpec out[LOCAL_EXTRA]);
/* Whether e has the weight errors of all of them. */
bool local_error_covers(const LocalError *e, const QSpec *specs, int n);

typedef struct LinearResult {
    int64_t linear;
    TapSummary in;
    WeightSummary weight;
    LocalError err;
} LinearResult;
void linear_result_fini(LinearResult *r);

#endif
