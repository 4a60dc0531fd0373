#ifndef SLIM_RUN_PASS_H
#define SLIM_RUN_PASS_H

#include "run/rotary.h"
#include "run/rowplan.h"
#include "run/stage.h"

/* Inside run/: what the blocks of a model may ask of the pass that runs them. */

/* Scratch of one compute thread. Grown on the job thread between batches. */
typedef struct Worker {
    float *panel[2]; /* widened panels of output rows, [rows][in] */
    struct PanelKey {
        uint64_t serial; /* of the stage run */
        int64_t linear, panel;
    } key[2];
    float *tile;     /* one output tile, [band rows][panel rows] */
    float *scores;   /* attention scores, [query rows][keys] */
    unsigned char *gemm; /* GemmOps.scratch */
    size_t panel_cap[2], tile_cap, scores_cap, gemm_cap; /* in elements */
} Worker;

/* What passes share: threads and their buffers, the reader of weights, tables. Nothing here says how the pass at work
 * computes. */
struct Runner {
    const Model *m;
    RunnerOptions opt;
    Source src;
    Ops ops;             /* where nothing else is said; a pass has its own */
    Feed *feed;
    Worker *worker;
    int threads;
    RopeSet rope;
    float *scratch;      /* activations of one chunk of rows */
    size_t scratch_cap;
    uint64_t piece;      /* bytes of the largest piece of weights, were there no limit */
    uint64_t serial;
    int64_t last_progress;
};

/* What a layer's linears and norms are to the decoder: slots of Pass.lin and .norm. */
typedef enum LinearRole {
    L_Q, L_K, L_V, L_O, L_GATE, L_UP, L_DOWN, L_Q_A, L_KV_A, L_KV_B, L_INDEX_Q, L_INDEX_K, L_INDEX_W, L_QKVZ, L_BA,
    L_ROUTER, L_SHARED_GATE, L_O_A, L_COMP_KV, L_COMP_GATE, L_INDEX_COMP_KV, L_INDEX_COMP_GATE, LINEAR_ROLES
} LinearRole;
typedef enum NormRole {
    NORM_INPUT, NORM_POST, NORM_AFTER_ATTN, NORM_AFTER_FFN, NORM_Q, NORM_K, NORM_Q_A, NORM_KV_A, NORM_INDEX,
    INDEX_BIAS, SINKS, NORM_DELTA, CONV, A_LOG, DT_BIAS, NORM_COMP, NORM_INDEX_COMP,
    /* what follows keeps the checkpoint's values in every arithmetic */
    COMP_APE, INDEX_COMP_APE, HYPER_ATTN_FN, HYPER_ATTN_BASE, HYPER_ATTN_SCALE, HYPER_FFN_FN, HYPER_FFN_BASE,
    HYPER_FFN_SCALE, WIDE_SINKS, NORM_ROLES
} NormRole;

/* One pass over one layer. */
typedef struct Pass {
    Runner *r;
    Ops ops;                /* the arithmetic at work */
    int layer, layers;      /* which of how many, for the progress */
    const LayerTensors *t;  /* of the half at work */
    const Stream *in;
    Stream *out;
    TapHub hub;
    RowPlan plan;
    const LinearForm *const *forms; /* of the layer's linears, NULL: all float */
    LinearRun lin[LINEAR_ROLES];    /* lin NULL where the layer has none */
    float *norm[NORM_ROLES];        /* widened norm weights and other small tensors, NULL where the layer has none */
    bool experts;           /* the feed-forward block is moe_run's */
    bool dense;             /* it is dense; with Arch.halves it may be both */
    float *sum;             /* what experts gave, added behind the layer's last block; NULL: nothing */
    float *mix;             /* hyper-connections: how it is added, [rows][hyper_mix_floats] */
    bool local;             /* rotated by ModelConfig.rope_local */
    VariantDtype dtype;
    bool sdpa;              /* Variant.sdpa */
    uint64_t piece_max;     /* bytes of weights read as one piece */
    uint64_t fixed;         /* bytes held whatever the chunk: streams, workers, pieces of weights */
    /* the present chunk: bands [b0, b1) of the plan, rows [row0, row0+rows), samples [s0, s1) */
    int64_t b0, b1, row0, rows;
    int s0, s1;
    double *work_done, work_total; /* multiply-adds of this layer */
} Pass;

/* Bits of the observers of a tap of this layer. */
uint64_t pass_tap_mask(const Pass *ps, TapKind kind, int64_t linear);
/* Feeds one tap from the chunk's rows [rows][ld], at once. */
Status pass_feed_tap(Pass *ps, TapKind kind, int64_t linear, const float *x, int64_t width, int64_t ld, Error *err);
/* Fills *l for the pass over ps's rows, which are planned; ended also after an error. */
Status pass_linear_start(Pass *ps, LinearRun *l, int32_t index, Error *err);
void pass_linear_end(LinearRun *l);

/* The first piece of a stage over n linears of the layer, beginning with role `first`. */
void pass_first_piece(const Pass *ps, int first, int n, bool gate, FeedPiece *p);
/* Makes the whole stream the present chunk. */
void pass_take_all(Pass *ps);
/* The sample that the chunk's row t belongs to. */
int pass_sample_of_row(const Pass *ps, int64_t t);

/* Element-wise work: fn(ctx, i, worker) does rows [i * PASS_TILE, pass_tile_end(i, rows)). */
enum { PASS_TILE = 64 };
int64_t pass_tile_end(int64_t index, int64_t rows);
Status pass_tiles(const Pass *ps, PoolTask *fn, void *ctx, int64_t rows, Error *err);

/* Room for the activations of a chunk, kept until it is dropped: blocks that see all rows at once do without. */
Status scratch_reserve(Runner *r, size_t floats, Error *err);
void scratch_drop(Runner *r);
/* Makes every worker's buffers hold at least these many elements. */
typedef struct WorkerNeed {
    size_t panel[2], tile, scores;
    size_t gemm; /* bytes of GemmOps.scratch */
    size_t own;  /* bytes of GemmOps.own: not ours to reserve */
} WorkerNeed;
/* Adds what products up to m x n x k need in this arithmetic. */
void worker_need_gemm(WorkerNeed *need, const GemmOps *g, int64_t m, int64_t n, int64_t k);
Status workers_reserve(Runner *r, const WorkerNeed *need, Error *err);
uint64_t worker_need_bytes(const WorkerNeed *need);

/* The rows of table e for these tokens, each repeated to `width` values, into out [rows][width]. */
Status embed_ids(Runner *r, const Ops *ops, const TensorInfo *e, const int32_t *ids, int64_t rows, int64_t width,
                 float *out, Error *err);

/* runner_final_norm and runner_logits in the arithmetic of a pass. */
Status exit_norm(Runner *r, const Ops *ops, const Stream *h, Stream *out, const Observer *obs, int nobs, Error *err);
Status exit_logits(Runner *r, const Ops *ops, const Stream *normed, LogitsPanel *fn, void *ctx, Error *err);

/* Largest piece of weights read at once under a memory limit (0: none). */
uint64_t feed_piece_max(uint64_t mem_limit);
void runner_progress(Runner *r, const char *phase, int64_t done, int64_t total, double wdone, double wtotal, bool now);

#endif
