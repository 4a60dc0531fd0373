#ifndef SLIM_QUANT_FLATLINEAR_H
#define SLIM_QUANT_FLATLINEAR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/pool.h"

/* One linear while FlatQuant's transforms are trained (specs/outlier_suppression.md 14): what it reads and its weight are
 * transformed, clipped and fake-quantized to 4 bits, symmetric, per token and per row; and the gradients of that, straight
 * through the rounding.
 *
 * A row is seen as a matrix X[l][r]: X <- L' X R of what is read, X * diag before; of the weight with L^-T, R^-T and X / diag.
 * Then a weight's row is clamped to [least * sigmoid(c), largest * sigmoid(c')], an input's step is of its largest absolute
 * value times sigmoid(c''). Of a linear whose outputs are heads of values the rows of each head are W <- O' W behind that. */
typedef struct FlatTransform {
    int64_t l, r;
    const float *left, *left_t, *right; /* [l][l] L and L', [r][r] R */
    const float *inv_left, *inv_left_t, *inv_right; /* L^-T, its transpose, R^-T */
    const float *diag;                  /* [l * r], NULL: none */
    /* Gradients are added here; diag_grad NULL without a diagonal. */
    double *left_grad, *right_grad, *inv_left_grad, *inv_right_grad, *diag_grad;
} FlatTransform;

typedef struct FlatLinear {
    int64_t out, in;
    FlatTransform *t;          /* of what it reads; its l * r is `in` */
    FlatTransform *heads;      /* O is its R; NULL: the outputs stay */
    bool left_only;            /* at run time R is left out: who makes the input has it */
    const double *clip;        /* [2 * out + 1] c of each row, c' of each row, c'' */
    double *clip_grad;         /* the same; added to */
    const float *w;            /* [out][in] as it is */
    float *wq;                 /* [out][in] what flat_weight makes of it */
    float *gw;                 /* [out][in] gradient of that: flat_input adds to it */
} FlatLinear;
enum { FLAT_CLIPS = 1, FLAT_BITS = 4 };
static inline int64_t flat_clips(int64_t out)
{
    return 2 * out + FLAT_CLIPS;
}

/* Floats of scratch that flat_act needs for linears up to this size. */
int64_t flat_act_floats(int64_t in, int64_t l, int64_t r);
/* [worker] What the products read: x[rows][in], ld apart, into out[rows][in]. */
void flat_act(const FlatLinear *f, const float *x, int64_t rows, int64_t ld, float *out, float *scratch);

/* Buffers of the passes below, for linears of up to this many inputs and outputs a head, by a pool of so many threads. */
typedef struct FlatRoom {
    float *worker;   /* [threads][per_worker] */
    int64_t per_worker;
    float *part;     /* [FLAT_WAVE][per_part] what a block of rows adds to gradients */
    int64_t per_part;
    float *act;      /* [act_rows][in] what the products read of a chunk of rows */
    int64_t act_cap;
} FlatRoom;
enum { FLAT_WAVE = 16, FLAT_ROWS = 64 };
/* Makes the room for this linear, too; chunks of up to `rows` rows. ST_NOMEM. Freed with flat_room_fini. */
Status flat_room(FlatRoom *room, const FlatLinear *f, int64_t rows, int threads, Error *err);
void flat_room_fini(FlatRoom *room);
uint64_t flat_room_bytes(const FlatLinear *f, int64_t rows, int threads);

/* wq from w. */
Status flat_weight(FlatLinear *f, const FlatRoom *room, Pool *pool, const Cancel *cancel, Error *err);
/* Gradients through flat_weight, from gw, which is lost. */
Status flat_weight_back(FlatLinear *f, const FlatRoom *room, Pool *pool, const Cancel *cancel, Error *err);
/* Of a chunk of rows: x[rows][in] what reaches it, g[rows][out] the gradient of what it gives, dx[rows][in] that times wq;
 * dx becomes the gradient of x, gw gets g' times what the products read. */
typedef struct FlatChunk {
    const float *x, *g;
    float *dx;
    int64_t rows, ldx, ldg, lddx;
} FlatChunk;
Status flat_input_back(FlatLinear *f, const FlatChunk *c, const FlatRoom *room, Pool *pool, const Cancel *cancel, Error *err);

#endif
