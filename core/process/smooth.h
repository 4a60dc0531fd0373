#ifndef SLIM_PROCESS_SMOOTH_H
#define SLIM_PROCESS_SMOOTH_H

#include "model/subgraph.h"
#include "process/names.h"
#include "process/processor.h"
#include "process/smoothstats.h"

/* What the processors share that smooth: they scale channels where a sub-graph (model/subgraph.h) lets the scale be moved
 * from what gives the channels into what reads them. A method says which statistics it wants and makes scales of them;
 * everything else is here (specs/outlier_suppression.md 2): which sub-graphs, statistics from one forward through the
 * unsmoothed unit, the order in which they are applied, each on the weights that those before it left, and the fold into
 * the overlay. Two arithmetics: ours in float32; the peer's (Work.peer) with every operation on a scale or a weight
 * rounded to the model's dtype. */

/* Keys that they have in common; a method's settings begin with it. */
typedef struct SmoothSettings {
    unsigned types; /* bit SubgraphType: enabled; bit SMOOTH_RUN_TIME: "non-fusion" (ours), channels that no enabled type
                     * folds are scaled at run time */
    bool asymmetric;
    NameLists names; /* patterns of keys of sub-graphs; ours: and of their targets */
} SmoothSettings;
enum { SMOOTH_RUN_TIME = SUBGRAPH_TYPES, SMOOTH_EVERY_TYPE = (1 << SUBGRAPH_TYPES) - 1 };

/* Scales that went into a unit, for debug info. */
typedef struct SmoothRecord {
    int64_t linear;
    bool shift, rows;    /* a shift; factors of rows, else of columns */
    int64_t n;
    DType dtype;         /* in which they were found */
    const float *values; /* the arena's; the same for linears that share them */
} SmoothRecord;
typedef struct SmoothRecords {
    SmoothRecord *at;
    size_t n, cap;
    Arena arena;
} SmoothRecords;

/* What a method is told besides the sub-graph. */
typedef struct SmoothCtx {
    const Model *model;
    Runner *runner;       /* sees the overlay */
    Overlay *overlay;
    UnitRun *unit;        /* NULL: no pipeline runs (tests) */
    SmoothRecords *records; /* NULL: nobody asks for them */
    const void *settings; /* the method's */
    const Stream *input;  /* of the unit, with SMOOTH_BLOCK_INPUTS: the peer's all of it, ours the beginnings of texts, as many
                           * rows as SmoothMethod.tokens at most */
    bool peer;
    DType T, A;           /* the peer's weights are values of dtype T, its activations of A; ours: DT_F32, nothing is
                           * rounded */
} SmoothCtx;

/* What a method gives: arrays of its caller's, [width] and, source, [channels of the source]. */
typedef struct SmoothScale {
    float *target; /* factors of the targets' columns */
    float *source; /* the source's or norm's channels are divided by these */
    float *shift;  /* subtracted from the channels before; NULL: the sub-graph can't have one */
    bool shifted;  /* shift is filled in */
    bool none;     /* the method leaves this sub-graph as it is */
} SmoothScale;

/* The peer puts norms of its own in the place of the model's (2.5): some have a bias, which is saved, zero or not. */
typedef enum SmoothNorms {
    SMOOTH_NORMS_KEPT,
    SMOOTH_NORMS_BIAS,     /* all have one */
    SMOOTH_NORMS_SHIFTED   /* where there is one already, or a shift may need it */
} SmoothNorms;

typedef struct SmoothMethod {
    const char *name;
    unsigned needs;      /* SMOOTH_*: process/smoothstats.h */
    SubgraphUser user;   /* whose tables the peer takes */
    unsigned types;      /* bit SubgraphType: that it can do at all */
    bool run_time;       /* and scales at run time */
    SmoothNorms peer_norms;
    int64_t tokens;      /* SMOOTH_TOKENS: ours keeps at most so many rows, at an even stride; 0: all */
    /* The scales of one sub-graph, on the weights as they are by now. ST_DATA: they can't be made. */
    Status (*scale)(const SmoothCtx *c, const Subgraph *g, const SmoothStats *s, SmoothScale *out, Error *err);
    /* Bytes that it takes beside statistics and inputs; NULL: one weight. */
    uint64_t (*bytes)(const void *settings, const Model *m, const Subgraph *g, const PassSize *size, bool peer);
} SmoothMethod;


/* ---- for methods ---- */

/* Weights as they are by now: runner_weight(c->runner, ...). */

/* Reads the keys they have in common; false: no memory. */
bool smooth_settings(SmoothSettings *s, Arena *a, const YamlNode *map);
/* Object.check of a method's keys: enable_subgraph_type. */
void smooth_check(Check *c, const YamlNode *map);
void smooth_hash(const SmoothSettings *s, Hasher *h);
/* "this build has no SCOPE DTYPE sym|asym METHOD quantizer" into text, which it gives back: what a search would need. */
enum { LACK_MAX = 192 };
const char *smooth_lacks(const QSpec *q, char text[LACK_MAX]);

/* Per channel the largest |W| (signed: the largest W) over the rows of all targets. */
Status smooth_columns(const SmoothCtx *c, const Subgraph *g, bool is_signed, float *out, Error *err);
/* x^e as torch gives it on values of dtype t: exponent and result are rounded (specs/outlier_suppression.md 0). */
float smooth_pow(DType t, float x, double e);
/* Of s[width] of an ov sub-graph: the source's scales as the mean over the heads that share a head of values, and the
 * target's as those repeated. */
void smooth_share(const SmoothCtx *c, const OvShape *ov, const float *s, SmoothScale *out);

/* Puts scales into the model: factors into targets, their reciprocals into what gives the channels, or into the targets'
 * inputs at run time. s: as a method gives them; factors for a norm that multiplies by 1 + w become what its file can
 * say. ST_DATA: one of them is no positive number; nothing is changed. */
Status smooth_fold(const SmoothCtx *c, const Subgraph *g, const SmoothScale *s, Error *err);
/* Behind scales that can't be made: the first value of the unit that is no number, ST_DATA and its name; ST_OK: all are, *err
 * stays. g: the unit's n sub-graphs. */
Status smooth_blame(const SmoothCtx *c, const SmoothWatch *w, const Subgraph *g, int n, Error *err);
/* Whether channels of the sub-graph may be shifted, too: a shift becomes a bias of all that reads the norm; where a router
 * or experts do, it can't. */
bool smooth_shifts(const SmoothCtx *c, const Subgraph *g);
/* Whether the norm of the sub-graph is put a bias into whatever is found. */
bool smooth_norm_biased(const SmoothCtx *c, const SmoothMethod *m, const Subgraph *g);
/* The peer's norms of these sub-graphs, before the forward that is watched: whose epsilon is 1e-6. Nothing in our
 * arithmetic. */
Status smooth_norms(const SmoothCtx *c, const SmoothMethod *m, const Subgraph *g, int n, Error *err);
/* One sub-graph from what its taps saw: scales of method m, and their fold. *applied: false where no token came by, or the
 * method leaves it as it is. */
Status smooth_apply(const SmoothCtx *c, const SmoothMethod *m, const SmoothWatch *w, const Subgraph *g, bool *applied,
                    Error *err);

extern const SmoothMethod iter_smooth_method, smooth_quant_method;

/* ---- for their rows: members of Processor ---- */

/* Processor.start of method m; set: its settings, which begin with SmoothSettings. */
Status smooth_start(void **self, const ProcessorCtx *ctx, const SmoothMethod *m, Error *err);
void smooth_end(void *self);
unsigned smooth_more(const void *self);
bool smooth_forward(const void *self, int unit);
Status smooth_stage(void *self, UnitRun *u, FormStage stage, const FormTypes *t, Error *err);
Status smooth_learn(void *self, UnitRun *u, Error *err);
Status smooth_give(void *self, const UnitRun *u, const Gifts *to, Error *err);
Status smooth_promise(void *self, DType inner, SavePlan *plan, Error *err);
uint64_t smooth_bytes(const void *self, const PassSize *size);
#define SMOOTH_PROCESSOR                                                                                             \
    .divides = true, .needs = PROCESSOR_FORWARD | PROCESSOR_TURN, .more = smooth_more, .end = smooth_end,            \
    .forward = smooth_forward,                                                                                        \
    .stage = smooth_stage, .learn = smooth_learn, .give = smooth_give, .promise = smooth_promise, .bytes = smooth_bytes

#endif
