#ifndef SLIM_RUN_ENGINE_H
#define SLIM_RUN_ENGINE_H

#include "model/weight.h"
#include "run/feed.h"
#include "run/ops.h"
#include "run/rotary.h"
#include "run/runner.h"
#include "run/taps.h"

/* Inside run/: what runner.c, decoder.c, linear.c and attention.c share. */

/* Scratch of one compute thread. Grown on the job thread between batches. */
typedef struct Worker {
    float *panel[2]; /* widened panels of output rows, [rows][in] */
    struct PanelKey {
        uint64_t serial; /* of the stage run */
        int64_t linear, panel;
    } key[2];
    float *tile;     /* one output tile, [block rows][panel rows] */
    float *scores;   /* attention scores, [query rows][keys] */
    double *exact;   /* gemm_exact */
    size_t panel_cap[2], tile_cap, scores_cap, exact_cap; /* in elements */
} Worker;

struct Runner {
    const Model *m;
    RunnerOptions opt;
    Ops ops;
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

/* How packed rows are cut. Blocks are the row tiles of a GEMM: whole samples up to BLOCK_MAX rows together, longer
 * samples in several. They depend on the samples alone, so results depend neither on threads nor on chunks. */
enum { BLOCK_GOOD = 512, BLOCK_MAX = 1024 };
typedef struct BlockPlan {
    int64_t n;
    int64_t *start; /* [n+1] rows */
    int *sample;    /* [n+1] the sample that begins with the block, -1 inside a sample */
    int64_t longest_sample, largest; /* rows */
} BlockPlan;
Status blocks_plan(BlockPlan *p, const Stream *shape, Error *err);
void blocks_fini(BlockPlan *p);
/* The block after the chunk that begins at block b0: whole samples, up to `rows` rows, at least one unit. */
int64_t blocks_end(const BlockPlan *p, int64_t b0, int64_t rows);
/* Rows of the largest unit that cannot be cut. */
int64_t blocks_largest_unit(const BlockPlan *p);

/* Output rows of one panel of a weight with `in` columns. */
int64_t panel_rows(int64_t in);
int64_t panel_count(int64_t out, int64_t in);

/* One linear during a layer pass; lives through all chunks. */
typedef struct LinearRun {
    const Linear *lin;
    int64_t index;          /* into Model.linears */
    const LinearForm *form; /* NULL: float */
    float *bias;            /* widened, or NULL */
    bool bias_apart;        /* R(R(x·w) + bias) */
    int64_t panels;
    uint64_t weight_mask;   /* observers of the panels */
    double *energy;         /* [blocks][panels] sums of y^2, NULL when nobody asks */
} LinearRun;

enum { STAGE_MAX = FEED_SEGMENTS / 2 }; /* the projections of compressed attention */

/* What a layer's linears and norms are to the decoder: slots of LayerRun.lin and .norm. */
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
typedef struct LayerRun {
    Runner *r;
    int layer, layers;      /* which of how many, for the progress */
    const LayerTensors *t;  /* of the half at work */
    const Stream *in;
    Stream *out;
    TapHub hub;
    BlockPlan blocks;
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
    /* the present chunk: blocks [b0, b1), rows [row0, row0+rows), samples [s0, s1) */
    int64_t b0, b1, row0, rows;
    int s0, s1;
    double work_done, work_total; /* multiply-adds of this layer */
} LayerRun;

/* Bits of the observers of a tap of this layer. */
uint64_t layer_tap_mask(const LayerRun *lr, TapKind kind, int64_t linear);
/* Feeds one tap from the chunk's rows [rows][ld], at once. */
Status layer_feed_tap(LayerRun *lr, TapKind kind, int64_t linear, const float *x, int64_t width, int64_t ld,
                      Error *err);
/* Fills *l for the pass over lr's rows, whose blocks are planned; ended also after an error. */
Status layer_linear_start(LayerRun *lr, LinearRun *l, int32_t index, Error *err);
void layer_linear_end(LinearRun *l);

/* The first piece of a stage over n linears of the layer, beginning with role `first`. */
void layer_next_stage(const LayerRun *lr, int first, int n, bool gate, FeedPiece *p);
/* Makes the whole stream the present chunk. */
void layer_take_all(LayerRun *lr);
/* The sample that the chunk's row t belongs to. */
int layer_sample_of_row(const LayerRun *lr, int64_t t);

/* Activations of a chunk, by row; those that RowNeed has no room for are NULL. */
typedef struct ChunkBuffers {
    float *x, *mid, *act, *tap, *up, *mix;
    const float *in;
    float *out;
    FeedPiece next; /* what is read after the last stage; nseg 0: nothing */
} ChunkBuffers;

/* q, k and v of a chunk: where they stand, and where the attention's output may go. */
typedef struct Heads {
    float *x[3], *o;
    int64_t ld[3], width[3];
    float *gate; /* Arch.out_gate: where [q | gate] stand, else NULL */
} Heads;
/* Projects b->x to rotated heads in b->mid, of which a row takes mla_row_floats. */
Status mla_heads(LayerRun *lr, const ChunkBuffers *b, Heads *h, Error *err);
int64_t mla_row_floats(const ModelConfig *c);
/* Rotates x[ModelConfig.mla.rope] in place by one row of a table. Neighbouring pairs come out as [first ones | second
 * ones]: in q and k alike, so their product does not notice. */
void mla_rotate(const LayerRun *lr, bool interleaved, float *x, const float *cos, const float *sin);

/* What the indexer's three linears gave, [rows] of the chunk. */
typedef struct IndexRun {
    LayerRun *lr;
    float *q; /* [heads][dim] a row; rotated in place */
    float *k; /* [dim] a row; normed and rotated in place */
    float *w; /* [heads] a row */
    int64_t *first_task; /* [samples of the chunk + 1] */
} IndexRun;
/* Which keys the chunk's rows look at, into lr->out->select, for samples longer than ModelConfig.index.top_k; nothing
 * when there is none. Makes use of ix. (specs/models.md 2.5) */
Status indexer_choose(IndexRun *ix, Error *err);
/* Takes over for the chunk's rows what the layer before chose. */
Status indexer_inherit(LayerRun *lr, Error *err);
/* Whether a pass over samples up to `longest` rows chooses keys at all; bytes of the choices for a row. */
bool indexer_acts(const ModelConfig *c, int64_t longest);
int64_t indexer_row_bytes(const ModelConfig *c, int64_t longest);

/* The values out_proj reads in a layer of linear attention, [rows][value_heads * value_dim], somewhere in b->mid, of
 * which a row takes delta_row_floats. */
Status delta_values(LayerRun *lr, const ChunkBuffers *b, float **out, Error *err);
int64_t delta_row_floats(const DeltaConfig *d);
/* Floats of state a worker holds in its scores. */
size_t delta_state_floats(const DeltaConfig *d);

/* A hyper-connection of the layer, fn's role: HYPER_ATTN_FN or HYPER_FFN_FN. x[rows][hidden] = norm of the sum of the
 * copies that the block reads; mix: what hyper_write needs, hyper_mix_floats a row. */
Status hyper_read(const LayerRun *lr, NormRole fn, NormRole norm, const float *state, int64_t rows, float *x,
                  float *mix, Error *err);
/* The state behind the block, which gave y[rows][hidden]; out may be state. */
Status hyper_write(const LayerRun *lr, const float *mix, const float *state, const float *y, int64_t rows, float *out,
                   Error *err);
/* x[rows][hidden]: the one vector the model ends with, before its norm. */
Status hyper_end(Runner *r, const float *state, int64_t rows, float *x, Error *err);
int64_t hyper_mix_floats(const ModelConfig *c);
/* Doubles of scratch a worker needs for it. */
size_t hyper_exact_doubles(const ModelConfig *c);

/* The values wo_b reads in a layer of compressed attention, [rows][groups * group_rank], somewhere in b->mid, of which
 * a row takes compressed_row_floats. */
Status compressed_values(LayerRun *lr, const ChunkBuffers *b, float **out, Error *err);
int64_t compressed_row_floats(const ModelConfig *c);
/* Floats of scratch a worker holds in its scores, and keys a query row has at most, for texts up to `longest`. */
size_t compressed_scores_floats(const ModelConfig *c, int64_t longest);
int64_t compressed_keys(const ModelConfig *c, int64_t longest);
/* The linears the layer's first stage is made of; returns how many. And the floats of a row of their fake-quantized
 * inputs. */
int compressed_first(const LayerTensors *t, int32_t index[STAGE_MAX]);
int64_t compressed_first_acts(LayerRun *lr);

/* The feed-forward block of a layer with experts, which reads lr->out; what it gives, [rows][hidden], goes into *sum
 * (freed by the caller, as lr->mix is; NULL without rows). Sets the chunk to the whole stream. */
Status moe_run(LayerRun *lr, float **sum, Error *err);
/* Bytes it needs for `rows` rows of which `most` go to one expert; act: room for any variant's inputs. */
uint64_t moe_bytes(const Model *m, int64_t rows, int64_t most, int threads, bool act);

/* Linears that read the same input, run as one batch (specs/models.md 2.3). Row pointers are those of the chunk's
 * first row. Without rows the weights are read for their observers and nothing else happens. */
typedef struct Stage {
    LayerRun *lr;
    int n;
    LinearRun *lin[STAGE_MAX];
    const float *x;         /* input, [rows][in]; of a block-diagonal linear [rows * groups][in] */
    const Stream *shape;    /* rows of a block-diagonal linear's input, NULL: the layer's */
    bool gate;              /* two linears: y[0] = R(R(act(lin 0)) * lin 1) */
    float *y[STAGE_MAX];    /* outputs, NULL: only `sum` (or the gate) is wanted */
    int64_t ldy[STAGE_MAX];
    const float *res;       /* residual, with `sum`: sum = R(res + y) */
    float *sum;
    int64_t lds;
    float *act_scratch;     /* room for fake-quantized inputs, [distinct][rows][in] */
    uint64_t in_mask;       /* observers of the input */
    /* filled by stage_run */
    const float *xin[STAGE_MAX];
    const void *raw[STAGE_MAX], *raw_scale[STAGE_MAX]; /* what the present piece's span of each linear read */
    int64_t g0, g1;         /* stage panels of the present piece */
    int64_t raw_panel[STAGE_MAX]; /* first panel of each linear in the present piece */
} Stage;
/* Runs the stage over the chunk's rows; more tasks (taps that read what is ready) come along in `extra`. next: first
 * piece of what follows, read ahead (may be NULL). */
Status stage_run(Stage *st, Batch *extra, const FeedPiece *next, Error *err);
/* The first piece of a stage over these linears. */
void stage_first_piece(const LinearRun *const *lin, int n, bool gate, uint64_t piece_max, FeedPiece *out);
/* Distinct activation transforms among the forms: how many inputs act_scratch holds. */
int stage_distinct_acts(LinearRun *const *lin, int n);

/* Causal attention of the chunk's samples. o may be q when v_dim is head_dim. */
typedef struct AttnRun {
    LayerRun *lr;
    const float *q, *k, *v; /* [rows][ld*] */
    float *o;               /* [rows][ldo] */
    int64_t ldq, ldk, ldv, ldo;
    int heads, kv_heads, head_dim, v_dim;
    float scale, softcap;   /* softcap 0: none */
    int64_t window;         /* 0: all */
    const float *sinks;     /* [heads], or NULL */
    bool select;            /* lr->out->select limits the keys of samples longer than index.top_k */
    int64_t *first_task;    /* [samples of the chunk + 1] */
} AttnRun;
Status attention_run(AttnRun *a, Batch *extra, Error *err);
/* Query rows of one task for a sample of `len` tokens; floats of scores one thread holds. */
enum { ATTENTION_ROWS_MAX = 128 };
int64_t attention_query_rows(int64_t len);
int64_t attention_scores_floats(int64_t len);

/* Float32 values that one row needs during a layer. */
typedef struct RowNeed {
    int64_t x;   /* the normed input of a stage */
    int64_t mid; /* q, k, v; later the gated feed-forward values in the same place */
    int64_t act; /* fake-quantized inputs of a variant */
    int64_t tap; /* an output before its residual add, when it is watched */
    int64_t up;  /* the second factor of the gate, when the two are watched */
    int64_t mix; /* hyper-connections: how the block's output enters the state */
} RowNeed;
int64_t row_need_floats(const RowNeed *n);
/* Without taps; act: room for any variant's inputs. */
RowNeed layer_row_need(const Model *m, bool act);
/* Rows that one chunk takes when memory is no question: enough to make re-reading the weights for the next one
 * cheap. */
enum { CHUNK_ROWS = 4096 };

/* Room for the activations of a chunk, kept until it is dropped: blocks that see all rows at once do without. */
Status scratch_reserve(Runner *r, size_t floats, Error *err);
void scratch_drop(Runner *r);
/* Makes every worker's buffers hold at least these many elements. */
typedef struct WorkerNeed {
    size_t panel[2], tile, scores, exact;
    size_t blas; /* bytes that OpenBLAS packs operands into, its own */
} WorkerNeed;
Status workers_reserve(Runner *r, const WorkerNeed *need, Error *err);
uint64_t worker_need_bytes(const WorkerNeed *need);
/* The small tensors of a layer that are widened before it runs; NULL where it has none. */
void layer_small_tensors(const Model *m, const LayerTensors *t, const TensorInfo *norm[NORM_ROLES]);
/* Bytes of position tables and of a layer's small tensors, widened. */
uint64_t layer_beside_bytes(const Model *m, int64_t longest);
/* What the workers of a layer pass need for samples up to `longest` rows. */
WorkerNeed layer_worker_need(const Model *m, bool model_mode, int64_t longest, int64_t largest_block);

/* The rows of table e for these tokens, each repeated to `width` values, into out [rows][width]. */
Status embed_ids(Runner *r, const TensorInfo *e, const int32_t *ids, int64_t rows, int64_t width, float *out,
                 Error *err);

/* What the decoder layer of multi-token prediction reads, made of lr->in (the last decoder layer's output) into lr->out,
 * which may be the same. Needs the tokens' ids. Plans lr's blocks and lets them go. (specs/models.md 1.6) */
Status mtp_start(LayerRun *lr, Error *err);
/* Bytes it needs for so many rows. */
uint64_t mtp_bytes(const Model *m, int64_t rows);

/* Reads and widens a small tensor; caller frees. */
Status load_vector(Runner *r, const TensorInfo *t, float **out, Error *err);
/* The same with the checkpoint's values in every arithmetic. */
Status load_kept(Runner *r, const TensorInfo *t, float **out, Error *err);
/* The n values at + i * step of a tensor of any shape. */
Status load_values(Runner *r, const TensorInfo *t, int64_t at, int64_t step, int64_t n, float **out, Error *err);
/* Largest piece of weights read at once under a memory limit (0: none). */
uint64_t feed_piece_max(uint64_t mem_limit);
void runner_progress(Runner *r, const char *phase, int64_t done, int64_t total, double wdone, double wtotal, bool now);

#endif
