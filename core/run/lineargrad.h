#ifndef SLIM_RUN_LINEARGRAD_H
#define SLIM_RUN_LINEARGRAD_H

#include "run/block.h"
#include "run/gradient.h"

/* Inside run/: gradients through the linears of a block, and what the backward halves of blocks share. */

/* Of a backward pass: who is told of its linears, and room for a weight. */
typedef struct PassGrad {
    const GradHooks *hooks; /* NULL: nobody */
    float *late;            /* gradient of the unit's output, for a block that is added behind its last one; changed. NULL: none is */
    float *weight;          /* rows of a weight, [outs][in] */
    unsigned char *packed;  /* the same as products want it */
} PassGrad;
/* Inputs of a packed panel of a weight's columns. */
enum { GRAD_COLS = 256 };
/* Bytes of that room for this unit. */
uint64_t passgrad_bytes(const Unit *u, const Linear *linears, const GemmOps *g);
Status passgrad_init(PassGrad *p, const Unit *u, const Linear *linears, const GemmOps *g, Error *err);
void passgrad_fini(PassGrad *p);

/* One linear over rows that may be the chunk's (row NULL) or some of them. Outputs [rows][out], inputs [rows][in], of a
 * block-diagonal one [rows][groups * in]. */
typedef struct LinearBack {
    const float *x, *g;
    int64_t ldx, ldg;
    float *dx;
    int64_t lddx;
    const int32_t *row; /* of the pass's stream; NULL: the chunk's */
    int64_t rows;
    float *edited; /* [rows][in], where the linear's input is changed (grad_edits) */
} LinearBack;
/* dx = g times the weight, as the form gives it; back through what is done to the input; hooks told in between. Not while
 * tasks run. */
Status grad_linear(Pass *ps, LinearRun *l, const LinearBack *a, Error *err);
/* Floats a row of LinearBack.edited for any of the block's linears: before a run, and during it. */
int64_t grad_edits(const Block *b, const NeedAsk *ask);
int64_t grad_edits_of(const Pass *ps, const BlockRun *b);

/* Parts of buf->mid, one behind the other; without a base they are only counted. */
typedef struct Cut {
    float *base;
    int64_t rows, floats; /* floats: of a row, so far */
} Cut;
static inline float *cut(Cut *c, int64_t floats)
{
    float *p = c->base && floats ? c->base + c->floats * c->rows : NULL;
    c->floats += floats;
    return p;
}

/* y += x, n values. */
Status grad_add(const Pass *ps, const float *x, float *y, int64_t n, Error *err);
/* dy[rows][hidden], of what the block's last linear, in `slot`, gave of x, from buf->out; that of the state stays there. */
Status grad_begin(Pass *ps, BlockRun *b, int slot, const float *x, const ChunkBuffers *buf, float *dy, Error *err);
/* buf->out += what dx[rows][hidden], of what block_read gave, is of the state. */
Status grad_end(Pass *ps, BlockRun *b, const ChunkBuffers *buf, const float *dx, Error *err);
/* Room for the two: as need_ends. */
void grad_need_ends(const Block *b, const NeedAsk *ask, int last, BlockNeed *out);

#endif
