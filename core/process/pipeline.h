#ifndef SLIM_PROCESS_PIPELINE_H
#define SLIM_PROCESS_PIPELINE_H

#include "process/processor.h"
#include "text/calib.h"

/* The one driver of quantization (specs/quantization.md 8, 10): a recipe's stages in order of work, each over the units
 * of the model, in each unit its processors in list order. Ours: all calibrate in one pass, but what follows a processor
 * that changes the model has its own. The peer's: the list's items one after the other over the same input, each through
 * what those before it deployed, and the last one that ran gives the next unit's input. What comes of it goes to sinks:
 * files, a measurement, or both. At any time one linear's weight is in memory (and what its method declares), never the
 * model. */

/* A work that has been looked through: every processor started, the passes known. */
/* The work's data outlives it. ST_USAGE: a level can't be run by this build; ST_DATA: a processor can't, or a spec
 * doesn't go with a linear's shape. */
Status pipeline_new(Pipeline **out, const Model *m, const Work *w, Error *err);
void pipeline_free(Pipeline *p);
const Work *pipeline_work(const Pipeline *p);
const Model *pipeline_model(const Pipeline *p);
/* [nlevels] of the work. */
const QuantLevel *pipeline_levels(const Pipeline *p);
/* Last unit where the main list has something to find by a forward, -1: none, no texts are needed. */
int pipeline_last_data(const Pipeline *p);
/* Prior stages, whether one of them needs texts, and its texts, borrowed (before the run, and before the order is asked for). */
int pipeline_priors(const Pipeline *p);
bool pipeline_prior_data(const Pipeline *p, int stage);
void pipeline_set_prior(Pipeline *p, int stage, const TokenSet *texts);
/* Where a prior stage is: behind so many of its units, or behind so many steps of a search that follows them. */
typedef struct PriorAt {
    int stage; /* -1: they are over, the main list begins */
    bool search;
    int64_t done, of;
} PriorAt;
typedef void PriorFn(void *ctx, const PriorAt *at);
void pipeline_watch_priors(Pipeline *p, PriorFn *fn, void *ctx);
/* Where the training of a unit is: behind so many steps; share: its loss beside that of the first one. Until done is of, what the
 * runner tells of its passes is none of the run's progress. */
typedef struct TrainAt {
    int unit, units;
    int64_t done, of;
    double share;
} TrainAt;
typedef void TrainFn(void *ctx, const TrainAt *at);
void pipeline_watch_training(Pipeline *p, TrainFn *fn, void *ctx);
/* work_order, and what prior stages see: what decides results beside levels, texts and model. */
Digest pipeline_order(const Pipeline *p);
/* Whether the calibration's own stream leaves each unit as the finished model would; otherwise (the peer's items run one
 * after the other) a measurement needs a stream of its own. */
bool pipeline_flow_is_output(const Pipeline *p);
/* Which pass a level belongs to: 0 unless order matters. */
int pipeline_pass_of(const Pipeline *p, int level);
/* [nlinears] the levels of linears whose input is fake-quantized, 0: the others (RunnerAsk.level). */
const int16_t *pipeline_acts(const Pipeline *p);
/* Streams of the calibration set that a run holds: a second one where units are run through several times. rerun: as
 * SinkWants. */
int pipeline_streams(const Pipeline *p, bool rerun);
/* PROCESSOR_* of all its processors, those of prior stages among them. */
unsigned pipeline_needs(const Pipeline *p);
/* Whether a pass of its runs has to see all rows at once. */
bool pipeline_whole(const Pipeline *p);
/* Whether attentions of the unit read quantized queries, keys or values; how they do goes into h (may be NULL). */
bool pipeline_attends(const Pipeline *p, int unit, Hasher *h);
/* The first unit with a quantized linear or attention; [layers] without one. */
int pipeline_first(const Pipeline *p);
/* What its processors change in the model, NULL when none of them does. The runner of its run is made with it, and it lives
 * as long as the pipeline, which then runs once. */
Overlay *pipeline_overlay(const Pipeline *p);
/* By what the run has turned the residual stream: states of the changed model are those of the unchanged one times this.
 * NULL: it is as it was. */
const Rotation *pipeline_turned(const Pipeline *p);
/* Fills in what processors will give beside the linears and what they will change in the tensors that are written: the
 * plan's changes, which the caller has made. inner: the dtype to which the run rounds. */
Status pipeline_promise(const Pipeline *p, DType inner, SavePlan *plan, Error *err);
/* Bytes that the passes need beside the runner's: Hessians, weights quantized as a whole, ranges of keys and values, what
 * processors hold. */
uint64_t pipeline_bytes(const Pipeline *p, const PassSize *size);
/* Of ranks that divide the main list's texts: all of them, of which each run has its rank's. For pipeline_bytes; borrowed. */
void pipeline_set_whole(Pipeline *p, const TokenSet *texts);
/* What the prior stage that takes most takes, its streams and the runner included. */
uint64_t pipeline_prior_bytes(const Pipeline *p, int threads, ArithMode arith);

/* ---- sinks ---- */

/* What a sink wants of a run. */
typedef struct SinkWants {
    int first, end; /* units [first, end); end 0: none, and no stage before them */
    bool flow;      /* the stream behind each of them; else forwards run only as far as processors need them */
    bool rerun;     /* the peer's: one more pass of every unit, through what was deployed */
    const FormMakers *makers; /* of a sink that takes: the ranks that each take a part of the weights. NULL: this one all */
} SinkWants;

typedef struct SinkOps {
    const char *name;
    bool takes; /* takes the weights out of the unit: comes last, and there is at most one */
    /* Before the first unit. */
    Status (*open)(void *self, const Pipeline *p, Runner *r, SinkWants *wants, Error *err);
    /* Puts the calibration stream at the input of the last unit it can, not beyond `most` (*flow is initialised when
     * ST_OK). NULL: it can only be begun with the texts. At most one sink has it. */
    Status (*start)(void *self, int most, int *unit, Stream *flow, Error *err);
    /* One unit from its first on, whose processors are through; flow: its output, NULL when no forward ran. */
    Status (*unit)(void *self, UnitRun *u, const Stream *flow, Error *err);
    Status (*finish)(void *self, Error *err); /* after the last unit; NULL: nothing */
    /* What a processor found for a unit, until the run has come to its end; and what an earlier run left, *data NULL: nothing
     * (else the caller's). Both NULL: it keeps nothing. */
    Status (*keep)(void *self, int unit, const void *data, size_t n, Error *err);
    Status (*found)(void *self, int unit, void **data, size_t *n, Error *err);
    /* After all, also after an error, once open was called. keep: what is finished may serve another run. */
    void (*close)(void *self, bool keep);
} SinkOps;
typedef struct Sink {
    const SinkOps *ops;
    void *self;
} Sink;

/* For a processor's stage: what the unit reads in the pass that comes. */
const Stream *unit_input(const UnitRun *u);
/* For its learn: what its own pass gave; where the original's passes are taken it may lie where the input was. */
const Stream *unit_output(const UnitRun *u);
/* For sinks, within unit: runs a stream through the finished unit, in place. */
Status unit_follow(UnitRun *u, Stream *s, Error *err);
/* The finished unit's forms, as unit_follow runs them, go to the sink: no other one may ask for a pass behind it. o: what they
 * go by from then on, filled in here; what it points to, and what attn does, lives as long as the pipeline and its runner. */
Status unit_keep(UnitRun *u, LayerForms *out, AttnForms *attn, FormsOptions *o, Error *err);
/* Linears that ran in float although they have a level, because calibration saw no token of theirs. */
bool unit_unseen(const UnitRun *u, int64_t i);
/* Of a sink that takes: quantized weight i of the unit, with its input's parameters. *w is the caller's
 * (qweight_fini), everything else borrowed. */
Status unit_take(UnitRun *u, int64_t i, SaveLinear *out, QWeight *w, Error *err);
/* In place of qweight_fini: its memory serves the next one. */
void unit_done(UnitRun *u, QWeight *w);
/* Has every processor hand over what it made beside the linears. */
Status unit_gifts(const UnitRun *u, const Gifts *to, Error *err);

/* ---- the run ---- */

typedef struct PipelineOptions {
    const TokenSet *calib;        /* of the main list; NULL: it needs none */
    const Sink *sinks;            /* [nsinks] */
    int nsinks;
    bool sdpa;                    /* Variant.sdpa in every pass */
    struct Dist *dist;            /* ranks of which each has some of the texts; pipeline_divides must say so. NULL: one */
} PipelineOptions;
/* Whether ranks can divide the texts of its runs: every processor then finds what one rank with all of them would. */
bool pipeline_divides(const Pipeline *p);
Status pipeline_run(Pipeline *p, Runner *r, const PipelineOptions *o, Error *err);

#endif
