#ifndef SLIM_METRIC_SCOPE_H
#define SLIM_METRIC_SCOPE_H

#include "base/str.h"
#include "model/model.h"

/* What one score is of: the units of a scope, which linears belong to them, and what they are called. */
typedef enum MetricScope { SCOPE_LINEAR, SCOPE_GROUP, SCOPE_BLOCK, SCOPE_ATTENTION, SCOPE_MODEL, METRIC_SCOPES } MetricScope;

/* "linear", "group", "block", "attention", "model". */
const char *scope_name(MetricScope s);
/* How many units it has: linears, fused groups, layers (of the last two kinds but one), one. */
int64_t scope_units(const Model *m, MetricScope s);
/* The unit that a linear belongs to, -1: to none. */
int64_t scope_unit_of(const Model *m, MetricScope s, int64_t linear);
/* Linears [*from, *to) of the model, among which all of the unit's lie: scope_unit_of tells them from others. */
void scope_linears(const Model *m, MetricScope s, int64_t unit, int64_t *from, int64_t *to);
/* Appends a unit's name: the linear's; the module of a fused group ("model.layers.3.mlp.experts"), or what its members
 * make ("model.layers.3.self_attn.qkv"); "model.layers.3"; "model.layers.3.self_attn"; "model". */
void scope_unit_name(const Model *m, MetricScope s, int64_t unit, Str *out);
/* Pattern k of those that exclude the unit from quantization, whole fused groups for a linear; false: there are no more.
 * Clears *out. */
bool scope_unit_pattern(const Model *m, MetricScope s, int64_t unit, int32_t k, Str *out);

#endif
