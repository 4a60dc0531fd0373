#ifndef SLIM_RUN_SCHEDULE_H
#define SLIM_RUN_SCHEDULE_H

#include "base/mem.h"
#include "base/rng.h"
#include "run/runner.h"
#include "run/source.h"

/* Hooks 2 and 3 of the runner: jobs on one unit, and the order of units and streams. A unit is an entry of Model.units;
 * the embedding before them and the final norm and the head behind them are steps around the units. */

typedef struct LayerCtx {
    Runner *runner;
    int layer;        /* the unit */
    Stream **streams; /* in: every stream's input of this unit; the job leaves the next unit's input there */
    int nstreams;
    Arena *arena;     /* emptied before every unit */
    Rng *rng;         /* begins anew at every unit: depends on the schedule's seed and the unit alone */
    const Source *src; /* the unit's weights and small tensors as the runner's passes see them */
} LayerCtx;
/* The unit, or a part of it (blocks [from_block, to_block) of Model.units[layer]), without observers: as runner_layer and
 * unit_forward. */
Status layer_forward(LayerCtx *ctx, const Variant *v, const Stream *in, Stream *out, Error *err);
Status layer_forward_part(LayerCtx *ctx, int from_block, int to_block, const Variant *v, const Stream *in, Stream *out,
                          Error *err);

/* Replaying job on one unit; may run forwards any number of times. */
typedef struct LayerJob {
    const char *name;
    Status (*run)(void *self, LayerCtx *ctx, Error *err);
    void *self;
} LayerJob;

/* What runs before and after the units. */
typedef struct Outside {
    const TokenSet *const *tokens; /* [nstreams] embedded into the streams, which are initialised; NULL: they hold the
                                    * first unit's input already */
    Stream *normed;                /* [nstreams] initialised with the final norm of each stream; NULL: no such step.
                                    * The last unit must be the model's last before its logits. */
    LogitsPanel *logits;           /* with `normed`: the head over each of them, as runner_logits; NULL: no such step */
    void *const *logits_ctx;       /* [nstreams] */
    const Observer *obs;           /* of the final norm */
    int nobs;
} Outside;

/* Units [first, last) in order, job on each, then unit_done (may be NULL; the streams then hold that unit's output). */
typedef struct Schedule {
    int first, last;
    LayerJob job;
    Status (*unit_done)(void *ctx, int unit, Stream **streams, int nstreams, Error *err);
    void *ctx;
    uint64_t seed;          /* of the job's random numbers */
    const Outside *outside; /* NULL: the units alone */
} Schedule;
/* Forward. Stops with ST_CANCELLED between two units, too. After an error streams that were initialised here are
 * freed. */
Status schedule_forward(Runner *r, Stream **streams, int nstreams, const Schedule *s, Error *err);

/* The plain float pass as a job: self is a FloatPass. */
typedef struct FloatPass {
    const Observer *obs;
    int nobs;
    bool sdpa; /* Variant.sdpa */
} FloatPass;
Status float_pass_run(void *self, LayerCtx *ctx, Error *err);

/* ---- backward, by recomputation ---- */

typedef struct Backward {
    int first, last;            /* units: the gradient comes in behind `last - 1` and goes out before `first` */
    const Stream *const *kept;  /* [nkept] inputs of the units kept_at[i], which ascend; the first is at `first` or before */
    const int *kept_at;
    int nkept;
    bool sdpa;                  /* Variant.sdpa */
    const struct GradHooks *hooks; /* of its linears (run/gradient.h), NULL: none */
    /* [job] the unit's input, and the gradient of it; both borrowed. May be NULL. */
    Status (*unit_done)(void *ctx, int unit, const Stream *in, const Stream *grad, Error *err);
    void *ctx;
} Backward;
/* Gradients of a plain float pass, in place in `grad` (shape of the kept streams). From the last kept stream to the first
 * the inputs of the units behind it are computed again, then its units walked down: each block's BlockOps.backward, in
 * reverse. A kind of block without one: ST_USAGE naming it, before any work. */
Status schedule_backward(Runner *r, const Backward *b, Stream *grad, Error *err);
/* Bytes for a stream of `rows` rows (longest sample `longest`), scratch among them. */
uint64_t schedule_backward_bytes(const Model *m, const Backward *b, int64_t rows, int64_t longest, int threads);

/* ---- sweep: many changes of the model, one at a time ---- */

/* One change: `unit` runs as `variant` says, every other unit in float, but for those of `then`. */
typedef struct Perturb {
    int unit;
    const Variant *variant; /* its forms see sample numbers of the chunk at work */
    const struct Perturb *then; /* the same stream is changed again at this later unit (its `until` is not read); NULL: not */
    int until;              /* its stream is handed over behind unit until - 1, and dropped; unit < until <= Sweep.last */
} Perturb;

typedef struct SweepSink {
    /* [job] samples [s0, s0 + plain->samples) behind unit until - 1 of perturbation p: as float computes them and as
     * changed; both borrowed. In order of `until`, then of the list. */
    Status (*stream)(void *ctx, int p, int s0, const Stream *plain, const Stream *changed, Error *err);
    /* [job] every perturbation's samples below `done` were handed over: there is a ranking. May be NULL. */
    Status (*chunk)(void *ctx, int done, int samples, Error *err);
    void *ctx;
} SweepSink;

typedef struct Sweep {
    const TokenSet *tokens;
    const Perturb *perturb; /* [n] */
    int n;
    int last;               /* units [0, last) run */
    int first_sample;       /* resume: where an earlier sweep's chunk ended */
    int64_t chunk_rows;     /* samples of about so many rows travel together, 0: SWEEP_ROWS; fewer where memory is short */
    bool sdpa;              /* Variant.sdpa of the float units */
} Sweep;
enum { SWEEP_ROWS = 4096 };
/* The texts in chunks of samples. The perturbed copies of a chunk travel as extra samples of one stream: of every unit
 * the weights are read once for the copies that pass through it in float, and once for each that is changed there. What
 * a sample gives depends neither on the chunk nor on the other copies. Cancel and resume by chunk. A form with `prepare`
 * has to see all samples at once: ST_USAGE when they take several chunks. */
Status schedule_sweep(Runner *r, const Sweep *s, const SweepSink *sink, Error *err);
/* Streams that are held at once beside the float one, at most. */
int schedule_sweep_copies(const Sweep *s);
/* Bytes of streams and scratch for chunks of `rows` rows (longest sample `longest`) that so many copies go through. */
uint64_t schedule_sweep_bytes(const Model *m, int copies, int64_t rows, int64_t longest, int threads);

#endif
