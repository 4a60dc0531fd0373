#ifndef SLIM_METRIC_ALONE_H
#define SLIM_METRIC_ALONE_H

#include "measure/logitpass.h"
#include "measure/predicted.h"
#include "measure/shiftpass.h"
#include "metric/leveled.h"
#include "metric/ranges.h"
#include "metric/rows.h"
#include "quant/headquant.h"

/* What the sweeps over single units share: the KL divergence when one unit is quantized and everything else is float.
 * alone.c runs them; what a unit quantizes is an AloneKind. */

struct AlonePass;
struct AloneUnit;

typedef struct AloneKind {
    /* [job] before the first batch: what forms need of the calibration texts. */
    Status (*prepare)(struct AlonePass *a, Error *err);
    /* [job] the unit's variant for its batch. fits stays false, with a reason in score.why or none, where nothing of it can
     * be quantized. */
    Status (*begin)(struct AlonePass *a, struct AloneUnit *u, Error *err);
    /* [job] after it, also after an error. */
    void (*end)(struct AloneUnit *u);
    void (*close)(struct AlonePass *a); /* may be NULL */
    bool levels; /* units are at levels of the plan: those that come first are swept at the others, too */
} AloneKind;

/* A further layer that a set of linears touches. */
typedef struct AlonePart {
    Perturb change;
    Variant v;
    LayerForms forms;
} AlonePart;

/* One unit of the sweep. */
typedef struct AloneUnit {
    int64_t unit;
    int layer;
    double first;        /* order: the largest goes first */
    bool fits;           /* something of it is quantized */
    Variant v;
    UnitScore score;
    /* linears */
    int at;              /* the plan's level number that all of them take, 0: each its own */
    int16_t *level;      /* [nlinears] its linears', 0 elsewhere */
    LayerForms forms;
    AlonePart *part;     /* [nparts] by layer, where the unit is a set */
    int nparts;
    /* attentions */
    AttnForm attn;
} AloneUnit;

typedef struct AlonePass {
    Runner *r;
    const PassPlan *p;
    const Metric *metric;
    const AloneKind *kind;
    const PassSink *sink;
    TokenSet probe;           /* its arrays: own_start, and ids of a set */
    int64_t *own_start;
    int32_t *own_ids;
    uint64_t *digest;         /* [units of the scope] of the plan's levels */
    QConfig *config;          /* [nlevels] the plan's; methods that need data as their grid without */
    QuantLevel *level;        /* [nlevels] */
    FormsOptions opt;
    FormTypes types;
    RangeSet ranges;          /* of inputs, where a level needs them */
    HeadQuant *heads;         /* [layers] of attentions */
    const Scores *known;
    AloneUnit *unit;          /* [n] in order */
    int64_t n, done, total;
    Predicted predicted;
    LogitRows plain;          /* of the probe in float */
    /* the batch at work: units [at, at + nbatch) */
    int64_t at;
    int nbatch, copies;
    Stream plain_normed;      /* of the chunk */
    int chunk0;               /* its first sample, -1: none */
    double *kl, *nll;         /* [predicted][copies] */
    ShiftRows rows;
} AlonePass;

/* A MetricPass's functions for a pass of this kind, whose plan has one metric. */
Status alone_run(Runner *r, const PassPlan *p, const PassSink *sink, const AloneKind *kind, Error *err);
int64_t alone_steps(const PassPlan *p);
bool alone_answered(const PassPlan *p, const Scores *s);
/* Bytes of what travels and of its results, and of streams and scratch, without what the kind holds. */
uint64_t alone_bytes(const PassPlan *p, int threads);
uint64_t alone_need(const PassPlan *p, int threads);

#define ALONE_EXPLAIN                                                                                                 \
    "KL divergence from float in nats a token when this alone is quantized and everything else stays float: the damage " \
    "itself.\nThe last layer goes first, then from the top of block_error downward; rows arrive as they are measured.\n"
#define ALONE_FEW "half a pass of 128 tokens for each unit; --tokens N for more"
extern const MetricPart alone_parts[];

/* The KL of sets (PassPlan.sets), each with all its linears quantized and everything else float, on the tokens of alone:
 * the unit of a score is the set's number. No row of metric_table, for sets belong to a question (session/interact.h). */
extern const MetricPass pass_together;
extern const Metric metric_together;

#endif
