#ifndef SLIM_RUN_BLOCK_MOE_H
#define SLIM_RUN_BLOCK_MOE_H

#include "run/block/router.h"
#include "run/lineargrad.h"

/* Inside the block of a layer's experts: what its forward (moe.c) and its gradients (moe_back.c) share. */

/* Experts that run together, in one pool call for each step: what is gathered for them lies one after the other. */
typedef struct Group {
    int e[STAGES_MAX], n;
    int64_t base, rows;    /* the first one's first entry; rows of all */
} Group;
enum { GROUP_ROWS = 4096 }; /* enough for all workers, whatever the memory */

typedef struct ExpertRun {
    Pass ps;               /* over its rows */
    Stream shape;          /* as packed samples */
    LinearRun lin[3];      /* gate, up, down */
    Stage gu, down;
} ExpertRun;

typedef struct MoeRun {
    Pass *ps;
    BlockRun *b;
    const MoeRule *rule;
    int64_t rows;
    float *x, *y;          /* [rows][hidden]: what the block reads, the sum of what the experts give */
    float *logits;         /* [rows][choices] */
    float *w;              /* [rows][top_k] */
    int32_t *idx;          /* [rows][top_k], ascending */
    const float *router, *bias;  /* widened; NULL: the router is a linear; there is no bias */
    float *mix;            /* what the join needs, NULL: nothing */
    float *scratch;        /* [threads][router_scratch_floats] */
    int64_t *first;        /* [choices + 1] of each expert in entry */
    struct MoeEntry {
        int64_t row;
        float w;
    } *entry;              /* [rows * top_k] by expert, then by row */
    int64_t *all;          /* [experts] rows of all processes (Pass.route), NULL: there is one */
    int64_t most;          /* rows of the expert that has most */
    int64_t room;          /* rows that a group of experts has at most */
    int64_t *start;        /* [STAGES_MAX][samples + 1] rows of the experts at work */
    struct ExpertRun *run; /* [STAGES_MAX] */
    int acts;              /* acts_of */
    float *gather, *mid, *up, *out, *act; /* [room][...], those that the shared expert uses for all rows */
    Group group;           /* at work */
    bool shared;           /* the shared expert is */
    int64_t mix_floats;    /* of a row of mix */
    bool back, edits;      /* for gradients; inputs of linears are changed */
} MoeRun;

/* Of m ps, b, rule, rows and back are given. What the block reads, who takes it, and room for the experts' values. Freed with
 * moe_fini, also after an error. */
Status moe_begin(MoeRun *m, const ChunkBuffers *buf, Error *err);
void moe_fini(MoeRun *m);
/* y += what all experts give; changes logits. */
Status moe_outputs(MoeRun *m, Error *err);
/* The pass and the two stages of the group's k-th expert, whose rows of x are at their place in gather (moe_gather_task, by
 * pass_tiles over the group's rows); ended also after an error. */
Status moe_start_expert(MoeRun *m, int k, Error *err);
void moe_end_expert(MoeRun *m, int k);
void moe_gather_task(void *ctx, int64_t index, int worker);

/* Gradients (BlockOps.backward), and bytes they take beside the forward's: as block_bytes there; edits: as MoeRun's. */
BlockFn moe_backward;
uint64_t moe_back_bytes(const ModelConfig *c, int64_t rows, int64_t most, int64_t mix, bool edits);

#endif
