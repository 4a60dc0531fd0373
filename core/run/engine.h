#ifndef SLIM_RUN_ENGINE_H
#define SLIM_RUN_ENGINE_H

#include "run/pass.h"

/* Inside run/: what the kinds of block share. */

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
Status mla_heads(Pass *ps, const ChunkBuffers *b, Heads *h, Error *err);
int64_t mla_row_floats(const ModelConfig *c);
/* Rotates x[ModelConfig.mla.rope] in place by one row of a table. Neighbouring pairs come out as [first ones | second
 * ones]: in q and k alike, so their product does not notice. */
void mla_rotate(const Pass *ps, bool interleaved, float *x, const float *cos, const float *sin);

/* What the indexer's three linears gave, [rows] of the chunk. */
typedef struct IndexRun {
    Pass *ps;
    float *q; /* [heads][dim] a row; rotated in place */
    float *k; /* [dim] a row; normed and rotated in place */
    float *w; /* [heads] a row */
    int64_t *first_task; /* [samples of the chunk + 1] */
} IndexRun;
/* Which keys the chunk's rows look at, into ps->out->select, for samples longer than ModelConfig.index.top_k; nothing
 * when there is none. Makes use of ix. (specs/models.md 2.5) */
Status indexer_choose(IndexRun *ix, Error *err);
/* Takes over for the chunk's rows what the layer before chose. */
Status indexer_inherit(Pass *ps, Error *err);
/* Whether a pass over samples up to `longest` rows chooses keys at all; bytes of the choices for a row. */
bool indexer_acts(const ModelConfig *c, int64_t longest);
int64_t indexer_row_bytes(const ModelConfig *c, int64_t longest);

/* The values out_proj reads in a layer of linear attention, [rows][value_heads * value_dim], somewhere in b->mid, of
 * which a row takes delta_row_floats. */
Status delta_values(Pass *ps, const ChunkBuffers *b, float **out, Error *err);
int64_t delta_row_floats(const DeltaConfig *d);
/* Floats of state a worker holds in its scores. */
size_t delta_state_floats(const DeltaConfig *d);

/* A hyper-connection of the layer, fn's role: HYPER_ATTN_FN or HYPER_FFN_FN. x[rows][hidden] = norm of the sum of the
 * copies that the block reads; mix: what hyper_write needs, hyper_mix_floats a row. */
Status hyper_read(const Pass *ps, const Ops *ops, NormRole fn, NormRole norm, const float *state, int64_t rows,
                  float *x, float *mix, Error *err);
/* The state behind the block, which gave y[rows][hidden]; out may be state. */
Status hyper_write(const Pass *ps, const float *mix, const float *state, const float *y, int64_t rows, float *out,
                   Error *err);
/* x[rows][hidden]: the one vector the model ends with, before its norm. */
Status hyper_end(Runner *r, const Ops *ops, const float *state, int64_t rows, float *x, Error *err);
int64_t hyper_mix_floats(const ModelConfig *c);
/* Bytes of GEMM scratch a worker needs for it. */
size_t hyper_gemm_bytes(const ModelConfig *c);

/* The values wo_b reads in a layer of compressed attention, [rows][groups * group_rank], somewhere in b->mid, of which
 * a row takes compressed_row_floats. */
Status compressed_values(Pass *ps, const ChunkBuffers *b, float **out, Error *err);
int64_t compressed_row_floats(const ModelConfig *c);
/* Floats of scratch a worker holds in its scores, and keys a query row has at most, for texts up to `longest`. */
size_t compressed_scores_floats(const ModelConfig *c, int64_t longest);
int64_t compressed_keys(const ModelConfig *c, int64_t longest);
/* The linears the layer's first stage is made of; returns how many. And the floats of a row of their fake-quantized
 * inputs. */
int compressed_first(const LayerTensors *t, int32_t index[STAGE_MAX]);
int64_t compressed_first_acts(Pass *ps);

/* The feed-forward block of a layer with experts, which reads ps->out; what it gives, [rows][hidden], goes into *sum
 * (freed by the caller, as ps->mix is; NULL without rows). Sets the chunk to the whole stream. */
Status moe_run(Pass *ps, float **sum, Error *err);
/* Bytes it needs for `rows` rows of which `most` go to one expert; act: room for any variant's inputs. */
uint64_t moe_bytes(const Model *m, int64_t rows, int64_t most, int threads, bool act);

/* Causal attention of the chunk's samples. o may be q when v_dim is head_dim. */
typedef struct AttnRun {
    Pass *ps;
    const float *q, *k, *v; /* [rows][ld*] */
    float *o;               /* [rows][ldo] */
    int64_t ldq, ldk, ldv, ldo;
    int heads, kv_heads, head_dim, v_dim;
    float scale, softcap;   /* softcap 0: none */
    int64_t window;         /* 0: all */
    const float *sinks;     /* [heads], or NULL */
    bool select;            /* ps->out->select limits the keys of samples longer than index.top_k */
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

/* The small tensors of a layer that are widened before it runs; NULL where it has none. */
void layer_small_tensors(const Model *m, const LayerTensors *t, const TensorInfo *norm[NORM_ROLES]);
/* Bytes of position tables and of a layer's small tensors, widened. */
uint64_t layer_beside_bytes(const Model *m, int64_t longest);
/* What the workers of a layer pass need for samples up to `longest` rows. */
WorkerNeed layer_worker_need(const Model *m, bool model_mode, int64_t longest, int64_t largest_block);

/* What the decoder layer of multi-token prediction reads, made of ps->in (the last decoder layer's output) into
 * ps->out, which may be the same. Needs the tokens' ids. Plans ps's rows and lets the plan go. (specs/models.md 1.6) */
Status mtp_start(Pass *ps, Error *err);
/* Bytes it needs for so many rows. */
uint64_t mtp_bytes(const Model *m, int64_t rows);

#endif
