#ifndef SLIM_PROCESS_PIPELINE_IMPL_H
#define SLIM_PROCESS_PIPELINE_IMPL_H

#include "process/pipeline.h"

/* Inside pipeline*.c. */

typedef struct PipelineStep {
    const Processor *row;
    const char *type;
    void *self;
    const void *settings; /* RecipeStep's */
    int item, entry, entries; /* of the recipe's list; as RecipeStep has them */
} PipelineStep;

/* Processors that calibrate together. */
typedef struct PlanPass {
    int first, n; /* steps */
    bool data;    /* one of them needs a forward somewhere */
} PlanPass;

typedef struct Plan {
    PipelineStep *steps;
    PlanPass *passes;
    int nsteps, npasses;
    int flow; /* ours: the pass whose output is what the next unit reads; no forward comes behind it */
    int last_data; /* last unit where a forward has to find something, -1: none */
} Plan;

struct Pipeline {
    const Model *m;
    Work work;
    QConfig *own;       /* levels, when the work has none */
    QuantLevel *levels; /* [work.nlevels] */
    int16_t *acts;      /* [nlinears] the level where the input is fake-quantized, else 0 */
    Overlay *overlay; /* NULL: no processor changes the model */
    Rotation *kept, *turned; /* UnitRun's */
    Plan *plan; /* [nplans] of each stage of the recipe; the last is the main list */
    int nplans;
    const TokenSet **prior; /* [nplans] texts of the prior stages, NULL: none were given */
    const TokenSet *whole; /* pipeline_set_whole; NULL: texts aren't divided */
    PriorFn *watch;     /* NULL: nobody asks how far they are */
    void *watch_ctx;
    TrainFn *watch_training; /* the same of units that are trained */
    void *watch_training_ctx;
};

static inline const Plan *main_plan(const Pipeline *p)
{
    return &p->plan[p->nplans - 1];
}

/* Whether linears that a pass deployed in this unit (-1: in any) return float32 in the peer's arithmetic. */
bool pass_widens(const Plan *p, const PlanPass *pass, int unit);

#endif
