#ifndef SLIM_METRIC_METRIC_H
#define SLIM_METRIC_METRIC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "qir/scheme.h"
#include "run/runner.h"
#include "stat/keyhist.h"

typedef enum MetricScope { SCOPE_LINEAR, SCOPE_BLOCK, SCOPE_ATTENTION, SCOPE_MODEL } MetricScope;

/* What a metric needs from the pass; the union of all metrics asked for decides what is collected. */
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
/* Weight specs among levels[n] that a pass has to be asked for, each once, at most LOCAL_EXTRA. */
int local_error_specs(const QConfig *levels, int n, QSpec out[LOCAL_EXTRA]);
/* Whether e has the weight errors of all of them. */
bool local_error_covers(const LocalError *e, const QSpec *specs, int n);

enum { METRIC_MAX = 16 };
typedef struct LinearResult {
    int64_t linear;
    TapSummary in;
    WeightSummary weight;
    LocalError err;
} LinearResult;
void linear_result_fini(LinearResult *r);

/* A row of metric_table: one file core/metric/NAME.c, one line in core/registry.c, one test. */
typedef struct Metric {
    const char *name;        /* "kurtosis" */
    const char *title;       /* column head */
    const char *unit;        /* "" when none */
    MetricScope scope;
    int direction;           /* +1: higher is more sensitive */
    bool additive;           /* sums over linears predict: local_error */
    unsigned needs;
    const char *explain;     /* two or three lines: what it is, when to trust it */
    /* Score of one linear at its level (NULL q: the open recipe has none). NaN = not defined; a reason goes into
     * why. */
    double (*score)(const LinearResult *r, const QConfig *q, char *why, int why_size);
} Metric;
extern const Metric *const metric_table[]; /* NULL-terminated, core/registry.c */
const Metric *metric_find(const char *name);

/* ---- the analysis pass ---- */

typedef struct AnalyzeRequest {
    unsigned needs;              /* union of NEED_* */
    const bool *selected;        /* [nlinears], NULL = all: which linears to collect */
    const QSpec *weights;        /* [nweights] of local_error_specs: NEED_WEIGHT collects their errors, too */
    int nweights;
    bool peer;                   /* attention rounds as the peer's does: Variant.sdpa */
    int first_layer;             /* resume: start here with `h` holding this layer's input */
    const struct Ranks *ranks;   /* NULL: this process sees all samples; else results are those of all ranks' samples */
    Stream *h;                   /* in: first_layer's input (from runner_embed for 0); consumed in place */
    /* [job thread] the finished linears of one layer, in linear order; the results' buffers pass to the callback
     * (also when it fails), the array doesn't. h: the layer's output. May be NULL. */
    Status (*layer_done)(void *ctx, int layer, LinearResult *results, int n, const Stream *h, Error *err);
    void *ctx;
} AnalyzeRequest;
/* One float pass over the layers; stops early with ST_CANCELLED (finished layers were delivered). */
Status analyze_run(Runner *r, const AnalyzeRequest *req, Error *err);
/* Bytes the collection holds beyond the runner's own (for the planner): samples of `rows` tokens in all, the longest
 * of `longest`; nweights as in the request. */
uint64_t analyze_bytes(const Model *m, unsigned needs, int nweights, int64_t rows, int64_t longest, int threads);

#endif
