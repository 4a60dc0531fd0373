#ifndef SLIM_RUN_BLOCK_ATTENTION_H
#define SLIM_RUN_BLOCK_ATTENTION_H

#include "run/block.h"

/* Scores and weighted sums: what kinds of attention over scores share. */

/* q, k and v of a chunk: where they stand, and where the attention's output may go. */
typedef struct Heads {
    float *x[3], *o;
    int64_t ld[3], width[3];
    float *gate; /* where [q | gate] stand, NULL: there is no gate */
} Heads;

/* Attention of the chunk's samples. o may be q when v_dim is head_dim. */
typedef struct AttnRun {
    Pass *ps;
    const Ops *ops;         /* of scores, weights and sums; what they give is rounded as the pass's */
    const BlockRun *b;
    const float *q, *k, *v; /* [rows][ld*]; of a text that goes on k and v are those of its past */
    float *o;               /* [rows][ldo] */
    int64_t ldq, ldk, ldv, ldo;
    int heads, kv_heads, head_dim, v_dim;
    float scale, softcap;   /* softcap 0: none */
    int64_t window;         /* 0: all */
    bool every_key;         /* a query looks at the keys behind it, too; without a window */
    const float *sinks;     /* [heads], or NULL */
    bool select;            /* ps->out->select limits the keys of samples longer than index.top_k */
    int64_t *first_task;    /* [samples of the chunk + 1] */
} AttnRun;

/* Feeds the taps of q, k and v (told as block_tap_linear(b, last) tells), then runs the attention over them; of *at
 * window, sinks, every_key and select are given, the rest is the unit's. */
Status attention_heads(Pass *ps, BlockRun *b, int last, const Heads *h, AttnRun *at, Error *err);
/* What a variant has attention read in place of q, k and v of the chunk's rows (AttnForm), where it has. x NULL: not of
 * this part. */
Status attention_replace(Pass *ps, int64_t linear, float *const x[3], const int64_t ld[3], Error *err);
/* What it keeps of a text: keys and values as they entered the score and the sum. */
enum { ATTENTION_PAST_K, ATTENTION_PAST_V, ATTENTION_PAST_SLOTS };
void attention_past(const ModelConfig *cfg, PastShape *out);
/* Scores and products of the workers. */
void attention_need(const NeedAsk *ask, BlockNeed *out);

/* Gradients of such an attention. */
typedef struct AttnBack {
    const AttnRun *at;  /* as attention_heads left it, its ops those of the pass; no past */
    const float *go;    /* [rows][ldgo] of its output */
    int64_t ldgo;
    float *d[3];        /* [rows][ldd]: of q, k and v as they entered it */
    int64_t ldd[3];
} AttnBack;
Status attention_backward(const AttnBack *b, Error *err);
/* With attention_need's. */
void attention_back_need(const NeedAsk *ask, BlockNeed *out);
/* A row's weights from its scores: softmax over the first n keys, of those that are chosen (NULL: all). */
void attention_weights(const AttnRun *a, float *row, int64_t n, const uint32_t *chosen, int head);
/* Floats of scores one thread holds. A bound for every text up to `len`: shorter ones may take more, because their blocks are
 * cut less evenly. */
int64_t attention_scores_floats(int64_t len);

/* Rows [t0, t1) of a text of `len` tokens, and the query heads of one key head. */
typedef struct AttnTask {
    int64_t base, len, t0, t1; /* base: the text's first row within the chunk; below 0 where rows came before */
    int kv;
    const float *k, *v;        /* of the text's first row */
    const uint32_t *chosen;    /* the keys that the rows from t0 on look at, NULL: all */
} AttnTask;
/* Where nothing is rounded, keys go by in blocks (attention_online.c). Query rows of a task for so many heads that share a
 * key head; what it needs of a worker; a task, into a->o. */
bool attention_is_online(const AttnRun *a);
int64_t attention_online_rows(int64_t group);
void attention_online_need(const NeedAsk *ask, BlockNeed *out);
void attention_online(const AttnRun *a, Worker *wk, const AttnTask *task);

/* Query rows of one task for a sample of `len` tokens. */
enum { ATTENTION_ROWS_MAX = 128 };
int64_t attention_query_rows(int64_t len);

#endif
