#ifndef SLIM_PROCESS_PROCESSOR_H
#define SLIM_PROCESS_PROCESSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "math/rotation.h"
#include "process/work.h"
#include "quant/attnforms.h"
#include "quant/forms.h"
#include "recipe/field.h"
#include "run/runner.h"
#include "save/saver.h"
#include "text/calib.h"

/* Processors: one row per type of spec.process that this build runs (recipe/field.h says what its mapping holds, this
 * here how it is run). The pipeline (pipeline.h) walks a recipe's list and asks the rows; nothing else knows the types. A
 * group is no row: the recipe puts its children, which share one forward, in its place. */

/* One unit of the model (a decoder layer, by its index) on its way through the processors. */
typedef struct UnitRun {
    Runner *runner;
    const Model *model;
    const Work *work;
    int unit;
    int64_t first, n;      /* its linears: [first, first + n) of the model */
    LayerForms *forms;     /* what they compute as in the next pass */
    AttnForms attn;        /* what the unit's attentions read in the next pass, which ends with none */
    Overlay *overlay;      /* what processors change in the model; NULL: none of this work's does */
    bool gives;            /* somebody takes what processors make beside the linears' weights */
    const TokenSet *texts; /* of the stage; NULL: it needs none */
    Rotation **kept;       /* what a prior stage found for those behind it, NULL: nothing; whoever sets it leaves it to the
                            * pipeline to free */
    Observer obs[8];       /* of the next pass, which ends with none */
    int nobs;
    Rotation **turned;     /* by which a processor has turned the residual stream, NULL: by none; as kept */
    struct PipelineRun *run; /* the pipeline's own */
} UnitRun;
/* For a processor's stage: has the next pass watched. The observer outlives the pass. */
Status unit_observe(UnitRun *u, Observer o, Error *err);

/* For the finish of a processor of a prior stage: tells how far its search is. */
void unit_search(const UnitRun *u, int64_t done, int64_t of);
/* For a processor that trains the unit: tells how far it is; share: the loss beside that of the first step. */
void unit_trained(const UnitRun *u, int64_t done, int64_t of, double share);
/* Where several ranks divide the texts (Processor.divides), each watches its own; every rank then makes the same calls in the
 * same order. What of them is found must have the bits of one rank with all texts: sums are made in the order of the texts. */

/* The ranks; NULL: there is one, which has all texts, or the stage is not divided. */
struct Dist *unit_dist(const UnitRun *u);
/* Has what the observer saw of this rank's texts in the unit become what all ranks saw of theirs. */
Status unit_gather(const UnitRun *u, Observer o, Error *err);
/* Rows of a linear's input: of the ranks before this one, which itself has `rows`, and of all. Of an expert while its block is at
 * work. */
typedef struct UnitPlace {
    int64_t before, all;
} UnitPlace;
Status unit_place(const UnitRun *u, int64_t linear, int64_t rows, UnitPlace *out, Error *err);
/* Samples of all ranks, and stream_beginnings of what all of them have at the unit's input. */
int unit_samples(const UnitRun *u);
Status unit_beginnings(const UnitRun *u, int n, int64_t rows, Stream *out, Error *err);

/* The next pass without forms, and the dtype in which weights are quantized. */
Variant unit_plain(const UnitRun *u);
DType unit_weight_dtype(const UnitRun *u);
/* What was found for the unit at such a cost that a run that goes on takes it over: whether somebody keeps it, to have it kept,
 * and what an earlier run has left (*data NULL: nothing; the caller's). */
bool unit_keeps(const UnitRun *u);
Status unit_keep_found(UnitRun *u, const void *data, size_t n, Error *err);
Status unit_found(UnitRun *u, void **data, size_t *n, Error *err);

/* Where a processor hands what it made for a unit beside the linears' weights. */
typedef struct Gifts {
    Status (*cache)(void *self, const SaveCache *c, Error *err);
    /* Values of a tensor that its promise told (save_changes_made), while its unit is given. */
    Status (*tensor)(void *self, const SaveValues *v, Error *err);
    Status (*debug)(void *self, const SaveDebug *d, Error *err); /* for --debug; NULL: nobody asks */
    void *self;
} Gifts;

typedef enum ProcessorNeeds {
    PROCESSOR_FORWARD = 1 << 0, /* something of it may have to be found by a forward over the texts */
    PROCESSOR_TURN = 1 << 1,    /* it changes the model for what stands behind it, which therefore runs in a pass of its
                                 * own */
    PROCESSOR_OUTPUTS = 1 << 2, /* it may turn outputs of linears (overlay_rotate_outputs): a weight has to be held whole */
    PROCESSOR_INPUTS = 1 << 3,  /* it may change inputs at run time (overlay_input_*) */
    PROCESSOR_AHEAD = 1 << 4,   /* what it changes it changes in begin: its pass is that of what stands behind it */
    PROCESSOR_WHOLE = 1 << 5,   /* its pass has to see all rows at once (AttnForm.prepare) */
    PROCESSOR_BRANCHES = 1 << 7, /* it has low-rank branches run beside linears (overlay_branch) */
    PROCESSOR_AGAIN = 1 << 6,   /* the unit runs again with what its pass found: for what stands behind it, and for the next
                                 * unit */
    PROCESSOR_TRAINS = 1 << 8   /* what its levels come to depends on its settings, too */
} ProcessorNeeds;

typedef struct ProcessorCtx {
    const Model *model;
    const Work *work;
    const QuantLevel *levels; /* [work.nlevels] */
    const RecipeStep *step; /* lives as long as the recipe */
    bool prior;             /* it stands in a prior stage */
} ProcessorCtx;

/* The texts of a pass, and the threads. */
typedef struct PassSize {
    int samples, threads;
    int64_t rows, longest; /* of all texts, of the longest */
    int all_samples;       /* where ranks divide the texts: of all of them, of which samples and rows are this one's; else 0 */
    int64_t all_rows, all_longest;
} PassSize;
static inline int64_t pass_rows(const PassSize *s)
{
    return s->all_rows > s->rows ? s->all_rows : s->rows;
}

typedef struct Processor {
    bool divides;   /* what it finds is the same when ranks divide the texts (FormsOptions.dist, unit_gather) */
    unsigned needs; /* PROCESSOR_*: what its kind may need, whatever its settings */
    unsigned (*more)(const void *self); /* and what these settings add to it; NULL: nothing */
    Status (*start)(void **self, const ProcessorCtx *ctx, Error *err);
    void (*end)(void *self);
    /* Before the first unit of its stage, and before its texts become a stream (u->unit is -1, it has no forms): changes the
     * model outside its units, through u->overlay. NULL: nothing. */
    Status (*begin)(void *self, UnitRun *u, Error *err);
    /* Behind the last unit of a prior stage, as begin. NULL: nothing. */
    Status (*finish)(void *self, UnitRun *u, Error *err);
    /* Whether something of it has to be found by a forward through this unit; -1: through any. NULL: never. */
    bool (*forward)(const void *self, int unit);
    /* Makes the unit what this processor has it compute in the next pass: sets forms, adds observers. NULL: nothing. */
    Status (*stage)(void *self, UnitRun *u, FormStage stage, const FormTypes *t, Error *err);
    /* Behind its own pass (or at its turn, when it needs none): changes the model, through u->overlay, for what follows.
     * No pass runs. NULL: nothing. */
    Status (*learn)(void *self, UnitRun *u, Error *err);
    /* Whether the unit's attentions (-1: those of any) read what it quantizes: what the unit gives depends on its settings
     * then. NULL: never. */
    bool (*attends)(const void *self, int unit);
    /* Hands over what it made beside the linears' weights. NULL: nothing. */
    Status (*give)(void *self, const UnitRun *u, const Gifts *to, Error *err);
    /* What it will give and what it will change beside the values of tensors, before the run: fills in the plan, which has
     * `changes`, or refuses. inner: dtype in which its own pass computes behind a layer's first linears. NULL: nothing. */
    Status (*promise)(void *self, DType inner, SavePlan *plan, Error *err);
    /* Whether what it deployed in this unit (-1: in any) returns float32 in the peer's arithmetic. NULL: no. */
    bool (*widens)(const void *self, int unit);
    /* Bytes that it holds at most beside what passes and linears take. NULL: none. */
    uint64_t (*bytes)(const void *self, const PassSize *size);
    /* What of its settings decides results beside the levels: for digests of the order of work. NULL: nothing. */
    void (*hash)(const void *settings, Hasher *h);
} Processor;

extern const ProcessorType processor_linear_quant, processor_dynamic_cache, processor_fa3_quant, processor_iter_smooth,
    processor_smooth_quant, processor_flex_smooth_quant, processor_flex_awq_ssz,
    processor_awq, processor_adapt_rotation; /* of core/registry.c, which has all rows */

#endif
