#ifndef SLIM_METRIC_PASS_H
#define SLIM_METRIC_PASS_H

#include "metric/scores.h"
#include "run/runner.h"
#include "run/schedule.h"

struct Metric;
struct Ranks;
struct MetricPass;

/* Passes over the model that metrics are made by. A metric with a pass of its own is one file with both rows. */

/* Sets of linears, of whatever layers, each changed together: set i has linear[start[i]] to linear[start[i + 1] - 1],
 * ascending. */
typedef struct PassSets {
    int64_t n;
    const int64_t *start;                /* [n + 1] */
    const int32_t *linear;
} PassSets;

/* What a pass is to find. */
typedef struct PassPlan {
    const Model *m;
    const struct MetricPass *pass;
    const struct Metric *const *metrics; /* NULL-terminated: rows of metric_table made by this pass */
    unsigned needs;                      /* union of theirs, and what else is to be collected on the way */
    const bool *selected;                /* [nlinears], NULL: all */
    const QConfig *levels;               /* [nlevels] of the recipe */
    int nlevels;
    const int16_t *level;                /* [nlinears] what each linear is scored at: levels[level - 1], 0: float */
    const TokenSet *tokens;
    bool peer;                           /* attention rounds as the peer's does: Variant.sdpa */
    uint64_t seed;
    const Overlay *overlay;              /* what processors have changed in the model that the runner shows; NULL: nothing */
    const struct Ranks *ranks;           /* NULL: this process sees all samples */
    /* resume: the first step that is not done; with MetricPass.stream its input, which is consumed, else what the scores
     * were; with MetricPass.reads those of these, too (NULL: nothing) */
    int64_t first;
    Stream *h;
    const Scores *before;
    const TokenSet *eval;                /* MetricPass.eval */
    const PassSets *sets;                /* of pass_together: its units */
    int64_t probe;                       /* tokens that a pass over few of them takes, 0: its own number */
    bool data_labels;                    /* gradients are of the texts' next tokens, not of tokens drawn from the model */
} PassPlan;

/* One metric's value of one unit. */
typedef struct PassScore {
    const struct Metric *metric;
    UnitScore s;
} PassScore;

/* What came of the steps below `done`. */
typedef struct PassStep {
    int64_t done, total;
    LinearResult *linear;    /* [nlinear] pass_statistics: finished linears, in their order; their buffers pass to the sink
                              * (also when it fails), the array doesn't */
    int nlinear;
    const PassScore *score;  /* [nscore] every value that is known by now, by metric and unit, of several levels
                              * the present one last; borrowed */
    int64_t nscore;
    bool news;               /* score: only those that no step before told */
    const Stream *h;         /* MetricPass.stream: the input of step `done` */
} PassStep;
typedef struct PassSink {
    Status (*step)(void *ctx, const PassStep *step, Error *err); /* [job] */
    void *ctx;
} PassSink;

/* How ranks divide a pass (metric/divide.h). */
typedef enum PassDivides {
    DIVIDES_NOT,     /* rank 0 does all of it */
    DIVIDES_SAMPLES, /* each rank takes some of the texts (PassPlan.tokens); what observers saw is gathered (PassPlan.ranks) */
    DIVIDES_UNITS,   /* each takes some of the layers (PassPlan.selected), with all texts */
    DIVIDES_ITSELF   /* by PassPlan.ranks: each tells the sink what it found */
} PassDivides;

typedef struct MetricPass {
    const char *name;
    const char *step;   /* what a stop loses at most one of, "layer", "text": the unit of progress and resume */
    const char *probe;  /* scheme that the peer makes its metrics with (qir/scheme.h); NULL: it has none of them */
    const char *fixed;  /* what it quantizes whatever the levels are, for people; NULL: linears, at their levels */
    const char *inputs[2]; /* of what each unit is fed, for people: "float"; [1]: by the peer's rules. NULL: as the model is */
    bool stream;        /* its steps are the model's layers, and going on after a stop needs the stream that the one before
                         * left; otherwise the scores do */
    bool any_level;     /* what it finds does not depend on levels: UnitScore.levels is 0 */
    bool eval;          /* reads the evaluation set, too */
    bool data_free;     /* looks at weights only: no texts are read */
    const struct Metric *const *reads; /* NULL-terminated: metrics whose values it goes by, where they are known. NULL: none */
    unsigned detail;    /* needs of the detail pane, when it can be filled on the way */
    PassDivides divides;
    bool (*whole)(const PassPlan *p, int ranks); /* what a plan asks for that its texts can't be divided for between so many:
                                                  * then rank 0 does all of it; NULL: never */
    bool collects;      /* its float pass takes PassPlan.needs of pass_statistics along (metric/collect.h) */
    /* What of the units is kept as statistics of linears: whether they have `needs`. NULL: its metrics have values. */
    bool (*has)(const Scores *s, MetricScope scope, int64_t unit, unsigned needs);
    /* Before a plan is queued: adds what a new pass must collect so that nothing is lost that an earlier one learnt. May be
     * NULL. */
    void (*keep)(PassPlan *p, const Scores *s);
    /* Whether the scores hold already all that the plan would find. NULL: every unit has a value that is not stale. */
    bool (*answered)(const PassPlan *p, const Scores *s);
    /* Steps in all; with the tokens known. */
    int64_t (*steps)(const PassPlan *p);
    /* Bytes of its tables, beyond the runner's. And of streams and scratch; NULL: of one stream with all tokens. A pass in
     * chunks takes what the runner's limit leaves. */
    uint64_t (*bytes)(const PassPlan *p, int threads);
    uint64_t (*need)(const PassPlan *p, int threads);
    /* Steps [p->first, steps), the sink after each, or after several. ST_CANCELLED when the runner's cancel was raised:
     * what the sink got stays. */
    Status (*run)(Runner *r, const PassPlan *p, const PassSink *sink, Error *err);
} MetricPass;

/* Statistics of inputs, weights and outputs in one float pass: NEED_* (metric/result.h). */
extern const MetricPass pass_statistics;
/* Its bytes, for planners that have no tokens yet: samples of `rows` tokens in all, the longest of `longest`, errors of
 * `weights` kinds of weights. */
uint64_t pass_statistics_bytes(const Model *m, unsigned needs, int weights, int64_t rows, int64_t longest, int threads);

/* Whether the metric is among the plan's; whether one of a unit's linears is selected, and, where steps are layers, is still
 * to come. */
bool pass_asks(const PassPlan *p, const struct Metric *m);
bool pass_selects(const PassPlan *p, MetricScope scope, int64_t unit);

/* First linear that reads the same as linear i, which changes of inputs may have taken apart: under which passes show its
 * input (TAP_LINEAR_IN, LinearForm.prepare). */
int64_t pass_input(const PassPlan *p, int64_t i);

/* The texts of all ranks. */
const TokenSet *pass_texts(const PassPlan *p);

/* The beginnings of texts that stand for all: the first `rows` rows (or all) of so many samples. */
typedef struct PassProbe {
    int64_t rows;
    int samples;
} PassProbe;
/* As many tokens in all as the plan says, else `tokens`, at least `least` of a text. */
PassProbe pass_probe(const PassPlan *p, int64_t tokens, int64_t least);

/* For passes whose steps are layers. MetricPass.steps. */
int64_t pass_layers(const PassPlan *p);
typedef Status PassLayerDone(void *ctx, int unit, Stream **streams, int nstreams, Error *err); /* Schedule.unit_done */
/* The job on every unit from the plan's first on, over its texts or the stream that a stopped pass left. */
Status pass_by_layer(Runner *r, const PassPlan *p, LayerJob job, PassLayerDone *done, void *ctx, Error *err);
/* Tells the sink what a unit gave: scores of it alone, linears, and its output, *gave; the rest is filled in. */
Status pass_tell_layer(const PassPlan *p, const PassSink *sink, int unit, const PassStep *gave, Error *err);

/* Whether what `pass` finds comes with `by`, too, for a plan that asks for it. */
bool pass_gives(const MetricPass *by, const MetricPass *pass);
/* The pass that gives all of these metrics (NULL-terminated) in one plan, NULL: none does. */
const MetricPass *pass_of_all(const struct Metric *const *metrics);
/* Whether running the plan will give this unit a score of the metric. */
bool pass_plan_covers(const PassPlan *p, const struct Metric *m, int64_t unit);
/* Plan.pass's answered. */
bool pass_answered(const PassPlan *p, const Scores *s);

#endif
