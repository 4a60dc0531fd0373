#ifndef SLIM_RUN_ROUTER_H
#define SLIM_RUN_ROUTER_H

#include "model/model.h"
#include "run/ops.h"

/* What a token chooses from: experts, and those without weights. */
int router_choices(const MoeConfig *c);
/* Floats that router_choose works in. */
size_t router_scratch_floats(const MoeConfig *c);

/* The experts of one token and their weights from its router_choices logits (specs/models.md 2.3): idx[top_k] ascending,
 * w in the same order. bias [choices] is added for the choice, NULL: none. Among equals the lowest index is taken. */
void router_choose(const MoeRule *rule, const MoeConfig *c, const Ops *ops, const float *logits, const float *bias,
                   float *scratch, int32_t *idx, float *w);

/* The weights of experts that are chosen already: idx[top_k], each once; sorted ascending with w. */
void router_weigh(const MoeRule *rule, const MoeConfig *c, const Ops *ops, const float *logits, float *scratch,
                  int32_t *idx, float *w);

/* Gradients, the choice as it is: logits become theirs from dw[top_k], those of the weights of idx as router_choose and
 * router_weigh leave it. scratch: router_scratch_floats. */
void router_back(const MoeRule *rule, const MoeConfig *c, const Ops *ops, float *logits, const int32_t *idx, const float *dw,
                 float *scratch);

#endif
