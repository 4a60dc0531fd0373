#include <stdio.h>

#include "model/open.h"

/* How blocks hang on the state that units hand on: a plain residual stream, and hyper-connections. */

static const SmallSlot residual_smalls[RESIDUAL_SMALLS + 1] = {
    [RESIDUAL_BEFORE] = {"norm", SMALL_ROUNDED}, [RESIDUAL_BEFORE_BIAS] = {"norm_bias", SMALL_ROUNDED},
    [RESIDUAL_AFTER] = {"after_norm", SMALL_ROUNDED}, [RESIDUAL_AFTER_BIAS] = {"after_norm_bias", SMALL_ROUNDED}};
static const SmallSlot hyper_smalls[HYPER_SMALLS + 1] = {
    [HYPER_BEFORE] = {"norm", SMALL_ROUNDED}, [HYPER_FN] = {"hyper_fn", SMALL_KEPT},
    [HYPER_BASE] = {"hyper_base", SMALL_KEPT}, [HYPER_SCALE] = {"hyper_scale", SMALL_KEPT}};

/* The norm `name`, with a bias where the kind of norm may have one; nothing without a name. */
static Status take_norm(Open *o, int unit, const char *name, const TensorInfo *out[2])
{
    const ModelConfig *c = &o->m->cfg;
    char bias[NAME_MAX_BYTES];
    if (!name)
        return ST_OK;
    RETURN_IF_ERROR(open_unit_take(o, unit, c->hidden, 0, "hidden_size", &out[0], "%s.weight", name));
    if (c->norm != NORM_LAYER)
        return ST_OK;
    snprintf(bias, sizeof bias, "%s%d.%s.bias", open_layers_prefix(o), unit, name);
    return open_take(o, bias, true, c->hidden, 0, "hidden_size", &out[1]);
}

static Status take_residual(Open *o, int unit, Block *b)
{
    const JoinSpec *j = b->spec->join;
    RETURN_IF_ERROR(take_norm(o, unit, j->before, &b->small[RESIDUAL_BEFORE]));
    return take_norm(o, unit, j->after, &b->small[RESIDUAL_AFTER]);
}

static Status take_hyper(Open *o, int unit, Block *b)
{
    const JoinSpec *j = b->spec->join;
    int64_t n = o->m->cfg.hyper.copies;
    char name[64];
    RETURN_IF_ERROR(take_norm(o, unit, j->before, &b->small[HYPER_BEFORE]));
    snprintf(name, sizeof name, "%s%d.%s", open_layers_prefix(o), unit, j->hyper);
    return open_hyper(o, name, n * (2 + n), 3, &b->small[HYPER_FN]);
}

const BlockType block_residual = {
    .name = "residual", .role = ROLE_JOIN, .smalls = residual_smalls, .take = take_residual};
const BlockType block_hyper = {.name = "hyper", .role = ROLE_JOIN, .smalls = hyper_smalls, .take = take_hyper};
