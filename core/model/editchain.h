#ifndef SLIM_MODEL_EDITCHAIN_H
#define SLIM_MODEL_EDITCHAIN_H

#include <stdbool.h>

#include "base/error.h"
#include "base/hash.h"
#include "math/kernels.h"
#include "math/rotation.h"

/* What is done to the rows of a matrix, one step after the other: of a linear's weight W[out][in] or of another tensor
 * (model/overlay.h), and of the inputs x[tokens][in] of a linear. All in float32. Neighbours that only multiply are one
 * step for the columns and one for the rows, their factors multiplied in float32, unless something is rounded between
 * them. */
typedef enum ChainKind {
    CHAIN_COLS,  /* value (o, i) times v[i] */
    CHAIN_ROWS,  /* value (o, i) times v[o] */
    CHAIN_UNIT,  /* value (o, i) becomes (1 + value) * v[i] - 1: of a norm that multiplies by 1 + w */
    CHAIN_ADD,   /* v[i] more */
    CHAIN_TAKE,  /* W <- W - l2 l1 (model/lowrank.h) */
    CHAIN_CLAMP, /* row o is kept between its least value times v[o] and its largest times v[rows + o] */
    CHAIN_LIMIT, /* each row is kept within its largest absolute value times v[0] */
    CHAIN_RIGHT, /* W <- W R */
    CHAIN_LEFT   /* W <- R' W: needs all rows */
} ChainKind;

typedef struct ChainStep {
    ChainKind kind;
    DType round;         /* what the step gives is rounded to it; DT_F32: to nothing */
    const float *v;      /* NULL: none */
    const Rotation *rot; /* NULL: none */
    const struct LowRank *low; /* NULL: none */
    int64_t n;           /* values of v, or the size of the side that is turned */
} ChainStep;

typedef struct EditChain {
    const ChainStep *step; /* [n], in the order in which they are done */
    int n;
    bool whole;           /* one of them needs all rows */
    size_t scratch;       /* floats, aligned to 64 bytes, that who does them needs; 0: none */
    Digest digest;        /* of what was asked for, in order: two chains of the same matrix with the same one are equal */
    size_t cap;           /* the rest is editchain.c's */
} EditChain;

/* An empty chain is all 0. Steps keep copies of v[n], and a share of r. ST_DATA: the rotation's size doesn't divide n;
 * `of` names the matrix. */
Status editchain_scale(EditChain *c, ChainKind kind, const float *v, int64_t n, DType round, Error *err);
Status editchain_rotate(EditChain *c, ChainKind kind, const Rotation *r, int64_t n, DType round, const char *of, Error *err);
/* A share of l is kept. */
Status editchain_take(EditChain *c, const struct LowRank *l, DType round, Error *err);
/* *out = a copy of c. */
Status editchain_copy(EditChain *out, const EditChain *c, Error *err);
void editchain_fini(EditChain *c);

/* Does steps [from, to), none of them CHAIN_LEFT, to rows [r0, r0 + rows) of the matrix: w[rows][width]. scratch:
 * EditChain.scratch floats, another one for every thread. [worker] */
void editchain_rows(const EditChain *c, int from, int to, const MathKernels *k, int64_t r0, int64_t rows, int64_t width,
                    float *w, float *scratch);
/* Does step i, CHAIN_LEFT, to columns [c0, c0 + cols) of the whole matrix w[rows][width]; columns don't depend on each
 * other. [worker] */
void editchain_left(const EditChain *c, int i, const MathKernels *k, int64_t rows, int64_t width, int64_t c0, int64_t cols,
                    float *w, float *scratch);
/* The first CHAIN_LEFT from step i on, c->n when there is none. */
int editchain_next_left(const EditChain *c, int i);
/* Does all of it to a whole matrix, on this thread. */
void editchain_all(const EditChain *c, const MathKernels *k, int64_t rows, int64_t width, float *w, float *scratch);
/* Rounds to a dtype's nearest, kept as float32; DT_F32: nothing. */
void edit_round(const MathKernels *k, DType t, float *v, int64_t n);

#endif
