#ifndef SLIM_RUN_STAGEINPUT_H
#define SLIM_RUN_STAGEINPUT_H

#include "run/pass.h"

/* What the linears of a stage read: its input as it is or as an overlay changes it; that as it is, fake-quantized, or as
 * codes with a scale a row; and packed as the products want it, once for all panels. */

/* Rows of the input that one token has: a block-diagonal linear sees its groups of inputs as rows of their own. */
static inline int64_t stage_groups(const Stage *st)
{
    return st->lin[0]->lin->groups > 1 ? st->lin[0]->lin->groups : 1;
}

static inline const Ops *stage_ops(const Stage *st)
{
    return st->ops ? st->ops : &st->ps->ops;
}

static inline const Stream *stage_shape(const Stage *st)
{
    return st->shape ? st->shape : st->ps->in;
}

/* What multiplies for linear i. */
static inline const GemmOps *stage_gemms(const Stage *st, int i)
{
    const Ops *ops = stage_ops(st);
    return ops->gemms[st->lin[i]->codes ? GEMM_BF16 : ops->products];
}

/* Fills Stage.reads. */
void stage_readers(Stage *st);
/* Before the products of these stages, in one pool call each: changes what the overlay changes, lets the forms see the chunk's inputs, makes those that are
 * not the plain ones in act_scratch, and packs them. */
Status stage_inputs(Stage *const *st, int n, Error *err);

#endif
