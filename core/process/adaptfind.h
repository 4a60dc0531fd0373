#ifndef SLIM_PROCESS_ADAPTFIND_H
#define SLIM_PROCESS_ADAPTFIND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/pool.h"
#include "math/rotation.h"

/* The search of adapt_rotation's first stage (specs/outlier_suppression.md 12): a rotation under which activations lose
 * least when they are rounded to a few bits, a row a scale. */
typedef struct AdaptTask {
    float *acts;           /* [rows][n] inputs, unrotated; their memory is worked in */
    int64_t rows, n;
    const Rotation *start; /* R0, of size n */
    int bits, steps;
    /* the original's iteration: what the activations say nothing of is filled with what rounding left there, and nobody
     * looks at what came of it */
    bool peer;
    Pool *pool;            /* NULL: this thread only */
    const Cancel *cancel;  /* may be NULL */
    void (*told)(void *ctx, int64_t done, int64_t of); /* behind every step; NULL: nobody asks */
    void *ctx;
} AdaptTask;

/* h[n][n] = R0 E. Each step turns P = acts R0 E by the orthogonal matrix that takes it nearest to its own rounded values:
 * Z, the polar factor of P' Q(P) (orthogonal Procrustes: Schoenemann 1966), found by Newton's iteration without inverses
 * (Higham, Functions of Matrices, 8.3). Ours adds a small multiple of the identity first: directions that P has nothing of
 * stay where they are as far as an orthogonal matrix can leave them. The best step's E is kept; 5 steps without a better
 * one end it, from the 7th on. The same bytes for every number of threads. ST_DATA (not the peer): what was found is no
 * rotation. */
Status adapt_find(const AdaptTask *t, float *h, Error *err);
/* Bytes it takes beside acts and h. */
uint64_t adapt_bytes(int64_t rows, int64_t n, int threads);
/* x[rows][n] rounded to so many bits, a scale for each row, into q. */
void adapt_round(const float *x, int64_t rows, int64_t n, int bits, float *q);
/* The largest |m'm - 1| of an m[n][n]. pool NULL: this thread only. ST_NOMEM. */
Status adapt_deviation(const float *m, int64_t n, Pool *pool, double *worst, Error *err);

#endif
