#ifndef SLIM_RUN_PASS_H
#define SLIM_RUN_PASS_H

#include "model/block.h"
#include "run/panels.h"
#include "run/rotary.h"
#include "run/rowplan.h"
#include "run/stage.h"

/* Inside run/: what the blocks of a model may ask of the pass that runs them. */

/* Scratch of one compute thread. Grown on the job thread between batches. */
typedef struct Worker {
    float *rows;     /* a panel of a weight before it is packed, [rows][in]; NULL: the GEMM packs in place */
    float *tile;     /* one output tile, [band rows][panel rows] */
    float *scores;   /* attention scores, [query rows][keys] */
    float *edit;     /* scratch of what changes weights and inputs (EditChain.scratch) */
    unsigned char *gemm; /* GemmOps.scratch */
    size_t rows_cap, tile_cap, scores_cap, edit_cap, gemm_cap; /* in elements */
    Profile *profile; /* of the pool */
    int number;
} Worker;

/* Within a task that does several things: this one begins, and ends (base/profile.h). */
static inline Phase worker_enter(const Worker *w, Phase phase)
{
    return profile_enter(w->profile, w->number, phase);
}

static inline void worker_leave(const Worker *w, Phase back)
{
    profile_leave(w->profile, w->number, back);
}

/* What passes share: threads and their buffers, the reader of weights, tables. Nothing here says how the pass at work
 * computes. */
struct Runner {
    const Model *m;
    RunnerOptions opt;
    Source src;
    Ops ops;             /* where nothing else is said; a pass has its own */
    Feed *feed;
    struct Shelf *shelf; /* RunnerOptions.together; NULL: none */
    PanelRing ring;
    Worker *worker;
    int threads;
    RopeSet rope;
    float *scratch;      /* activations of one chunk of rows */
    size_t scratch_cap;
    uint64_t held;       /* runner_hold */
    struct Ready *ready; /* runner_keep_ready; NULL: weights are made ready anew in every pass */
    uint64_t piece;      /* bytes of the largest piece of weights, were there no limit */
    int64_t last_progress;
};

struct BlockOps;

/* One block during a pass; lives through all chunks. Slots as in Block. */
typedef struct BlockRun {
    const Block *b;
    const struct BlockOps *ops;
    LinearRun lin[BLOCK_LINEARS_MAX]; /* lin NULL where it has none */
    float *small[BLOCK_SMALLS_MAX];   /* widened, NULL where it has none or reads it itself */
    float *shift[BLOCK_SMALLS_MAX];   /* of a small that is a norm's weight: bias added to that norm; NULL: none */
    double eps[BLOCK_SMALLS_MAX];     /* of that norm, where it isn't the model's; 0: it is */
    struct BlockRun *join;            /* of Block.join, NULL as there */
    bool front;                       /* the unit's first block: reads in the arithmetic of what comes in */
} BlockRun;

/* One pass over one unit, or over some of its blocks. A value: whoever needs one that differs makes a copy. */
typedef struct Pass {
    Runner *r;
    Ops ops;                /* the arithmetic of the unit's blocks */
    Ops front;              /* that of what comes in: of the first block's norm */
    const Unit *u;
    const ModelConfig *cfg; /* the unit's */
    int layer, layers;      /* number of the unit; of how many, for the progress */
    const Stream *in;       /* what the first block reads; samples and rows of the pass */
    Stream *out;            /* what the blocks leave, and the others read */
    TapHub hub;
    RowPlan plan;
    const LinearForm *const *forms; /* of the unit's linears, NULL: all float */
    const AttnForm *attn;   /* Variant.attn */
    const RouteForm *route; /* Variant.route */
    bool sdpa;              /* Variant.sdpa */
    bool bare;              /* Variant.bare */
    uint64_t piece_max;     /* bytes of weights read as one piece */
    uint64_t fixed;         /* bytes held whatever the chunk: streams, workers, pieces of weights */
    /* the present chunk: bands [b0, b1) of the plan, rows [row0, row0+rows), samples [s0, s1) */
    int64_t b0, b1, row0, rows;
    int s0, s1;
    struct PassLate *late;  /* what is added behind the last block */
    struct PassGrad *grad;  /* of a backward pass (run/lineargrad.h); NULL: it is none */
    double *work_done, work_total; /* multiply-adds of this pass */
} Pass;

/* What a block with Block.late gave, [rows][hidden], and what its join needs to add it; freed by the pass. */
typedef struct PassLate {
    const BlockRun *b;
    float *y, *mix;
} PassLate;

/* Bits of the observers of a tap of this unit. */
uint64_t pass_tap_mask(const Pass *ps, TapKind kind, int64_t linear);
/* Feeds one tap from the chunk's rows [rows][ld], at once. */
Status pass_feed_tap(Pass *ps, TapKind kind, int64_t linear, const float *x, int64_t width, int64_t ld, Error *err);
/* Fills *l for the pass over ps's rows, which are planned; ended also after an error. */
Status pass_linear_start(Pass *ps, LinearRun *l, int32_t index, Error *err);
void pass_linear_end(LinearRun *l);

/* Makes the whole stream the present chunk. */
void pass_take_all(Pass *ps);
/* The sample that the chunk's row t belongs to. */
int pass_sample_of_row(const Pass *ps, int64_t t);

/* Element-wise work: fn(ctx, i, worker) does rows [i * PASS_TILE, pass_tile_end(i, rows)). */
enum { PASS_TILE = 64 };
int64_t pass_tile_end(int64_t index, int64_t rows);
Status pass_tiles(const Pass *ps, Phase phase, PoolTask *fn, void *ctx, int64_t rows, Error *err);

/* Room for the activations of a chunk, kept until it is dropped: blocks that see all rows at once do without. */
Status scratch_reserve(Runner *r, size_t floats, Error *err);
void scratch_drop(Runner *r);
/* Makes every worker's buffers hold at least these many elements, and the ring such panels. */
typedef struct WorkerNeed {
    size_t panel; /* bytes of a packed panel: shared by all */
    size_t rows, tile, scores, edit;
    size_t gemm; /* bytes of GemmOps.scratch */
} WorkerNeed;
/* Adds what products up to m x n x k need in this arithmetic. */
void worker_need_gemm(WorkerNeed *need, const GemmOps *g, int64_t m, int64_t n, int64_t k);
Status workers_reserve(Runner *r, const WorkerNeed *need, Error *err);
/* Bytes for so many threads together. */
uint64_t worker_need_bytes(const WorkerNeed *need, int threads);

/* The rows of table e for these tokens, each repeated to `width` values, into out [rows][width]. */
Status embed_ids(Runner *r, const Ops *ops, const TensorInfo *e, const int32_t *ids, int64_t rows, int64_t width,
                 float *out, Error *err);

/* x[rows][hidden]: the one vector that a model with hyper-connections ends with, before its norm (block/hyper.c). */
Status hyper_end(Runner *r, const Ops *ops, const float *state, int64_t rows, float *x, Error *err);
/* runner_final_norm and runner_logits in the arithmetic of a pass. */
Status exit_norm(Runner *r, const Ops *ops, const Stream *h, Stream *out, const Observer *obs, int nobs, Error *err);
Status exit_logits(Runner *r, const Ops *ops, const Stream *normed, LogitsPanel *fn, void *ctx, Error *err);

/* Largest piece of weights read at once under a memory limit (0: none). */
uint64_t feed_piece_max(uint64_t mem_limit);
void runner_progress(Runner *r, const char *phase, int64_t done, int64_t total, double wdone, double wtotal, bool now);

#endif
