#ifndef SLIM_RUN_BLOCK_COMPRESSED_H
#define SLIM_RUN_BLOCK_COMPRESSED_H

#include "run/block.h"
#include "run/block/compressor.h"

/* Inside compressed attention: what its forward (compressed.c) and its gradients (compressed_back.c) share. */

enum {
    QUERY_ROWS = 32 /* query rows of one attention task, which takes them through all heads */
};

/* Where a chunk's intermediate values stand. */
typedef struct CompressedRun {
    Pass *ps;
    BlockRun *b;
    const ModelConfig *m;
    const CompressConfig *c;
    CompressKind kind;
    int64_t window;
    int64_t rate;
    float *qr;    /* [rows][q_rank] */
    float *q;     /* [rows][heads][head_dim]; in the end what attention gives */
    float *kv;    /* [rows][head_dim] */
    float *y[STAGE_MAX]; /* outputs of the first stage, in its order */
    float *comp_kv, *comp_gate, *index_kv, *index_gate, *index_w;
    float *index_q; /* [rows][index_heads][index_dim] */
    float *entry;       /* [rows / rate][head_dim], a text's from its first row / rate on */
    float *index_entry; /* [rows / rate][index_dim] */
    float *o;     /* [rows][groups * group_rank] */
    float *raw_qr, *raw_kv, *raw_q, *kept_q; /* room for qr, kv and q before their norms, q as it enters the scores; NULL: nobody wants it */
    int64_t *first_task; /* [samples of the chunk + 1] */
    int64_t *start;      /* [samples + 1] rows of the groups of heads */
} CompressedRun;

/* A row of the chunk: its text, its position in it and the tables of its text. */
typedef struct RowAt {
    int sample;
    int64_t pos;
    const RopeTable *rope;
} RowAt;

/* Query rows [t0, t1) of a sample's text, whose first row would be the chunk's row `base`, and their keys: those of the window from row
 * lo on, then the compressed ones. */
typedef struct QueryTile {
    int sample;
    int64_t base, t0, t1, lo, window, entries;
    float *keys;   /* [window + entries][head_dim] */
    float *scores; /* [t1 - t0][window + entries] */
    float *chosen; /* [t1 - t0][entries], 1 where the indexer lets the row look; NULL: everywhere */
    float *part;   /* [t1 - t0][entries] */
} QueryTile;

CompressedRun comp_of(Pass *ps, BlockRun *b);
/* All up to the last linear, with the intermediate values at `at` (comp_row_floats a row). buf->x, buf->act: used. */
Status comp_run(CompressedRun *r, const ChunkBuffers *buf, float *at, Error *err);
int64_t comp_row_floats(const ModelConfig *m);
/* The chunk's row t; from: the sample of one before it, -1: not known. */
RowAt comp_row_at(const CompressedRun *r, int64_t t, int from);
/* Rotates the last dimensions of x[dim] as of position `pos`. */
void comp_rotate(const CompressedRun *r, const RopeTable *rope, int64_t pos, bool back, float *x, int64_t dim);
/* Keys of a tile, at most. */
int64_t comp_most_keys(const ModelConfig *m, int64_t window, int64_t longest);
/* The tile that begins at row t0 of a sample's text, its keys in the worker's scores, its choice made. */
void comp_tile(const CompressedRun *r, int s, int64_t t0, Worker *wk, QueryTile *b);
/* Shares of row t's keys from their scores, 0 where it does not look. */
void comp_shares(const CompressedRun *r, const QueryTile *b, int64_t t, float *row, float sink);

BlockFn compressed_backward;
/* Beside the forward's. */
void compressed_back_need(const Block *b, const NeedAsk *ask, BlockNeed *out);

#endif
