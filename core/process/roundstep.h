#ifndef SLIM_PROCESS_ROUNDSTEP_H
#define SLIM_PROCESS_ROUNDSTEP_H

#include "process/roundunit.h"
#include "process/unitranks.h"
#include "quant/autoround.h"
#include "run/gradient.h"

/* Inside roundunit.c: the texts of a step, and ranks that train one unit together. Each rank runs some of a step's texts through
 * the unit and back, and moves some rows of every weight, by what all texts say of them. Sums end with texts and are made in
 * their order, so the bits are those of one rank. */

/* Who trains. */
typedef struct RoundRanks {
    Dist *dist;           /* NULL: one rank */
    int samples;          /* texts of all ranks */
    const int64_t *start; /* [samples + 1] their rows */
    const int64_t *cut;   /* [ranks + 1] the texts [cut[r], cut[r + 1]) are in rank r's streams; NULL: one rank has all */
} RoundRanks;
/* Borrows what the task has. */
RoundRanks round_ranks_of(const RoundTask *t);
/* to[ranks + 1]: rows of a weight that each rank moves, in whole tiles of `tile` outputs; outputs of `parts` parts of their own
 * are tiled one part behind the other. */
Status round_ranks_rows(const RoundRanks *r, int64_t out, int64_t parts, int64_t tile, int64_t *to, Error *err);
/* Of data, `size` bytes for each of the rows that to (round_ranks_rows) deals out, or of the texts that a cut does: each rank has
 * its own, afterwards all have all. */
Status round_ranks_exchange(const RoundRanks *r, void *data, const int64_t *to, size_t size, Error *err);

/* The texts of a step, in its order; text[from .. to) are this rank's. */
typedef struct RoundBatch {
    int n, from, to;
    int text[AUTOROUND_BATCH];           /* of all ranks' texts */
    int64_t start[AUTOROUND_BATCH + 1];  /* [n + 1] their rows, one behind the other */
    int64_t *cut;                        /* [ranks + 1] rank r has text[cut[r] .. cut[r + 1]); NULL: one rank has all */
    Stream in, want;                     /* of this rank's: what the unit reads, and what it would give; empty where it has none */
} RoundBatch;
/* Text `text[i]` may come more than once. Every rank calls it. round_batch_fini also after an error. */
Status round_batch_take(const RoundRanks *r, const RoundTask *t, const int *text, int n, RoundBatch *b, Error *err);
/* n texts from `at` on of this rank's own streams, none of another rank's. */
Status round_batch_own(const RoundRanks *r, const RoundTask *t, int at, int n, RoundBatch *b, Error *err);
void round_batch_fini(RoundBatch *b);

/* What a backward pass of this rank's texts told of one linear (LinearGrad): rows of its inputs and of the gradient of what it
 * gave, text behind text. */
typedef struct RoundRows {
    float *x, *g; /* [rows][in of all its parts], [rows][out]; with room for `room` of them */
    int64_t room;
    int64_t rows, of[AUTOROUND_BATCH]; /* in all; of each text of the batch */
} RoundRows;
Status round_rows_add(RoundRows *k, const RoundBatch *b, const LinearGrad *g, int64_t in, int64_t out, Error *err);
/* rows[n].of becomes that of all ranks' texts. Every rank calls it. */
Status round_rows_count(const RoundRanks *r, const RoundBatch *b, RoundRows *rows, int n, Error *err);
/* Behind that: own[rows of this rank][width] becomes part of all ranks' rows, in the texts' order, which the caller frees. */
Status round_rows_all(const RoundRanks *r, const RoundBatch *b, const RoundRows *k, const float *own, int64_t width, float **all,
                      Error *err);
/* The row behind those of g's that are of the same text as row `row`; *text: that one's place in the batch. */
int64_t round_text_end(const RoundBatch *b, const LinearGrad *g, int64_t row, int *text);

#endif
