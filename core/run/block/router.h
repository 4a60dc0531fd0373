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

#endif
