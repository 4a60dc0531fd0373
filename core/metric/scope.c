#include "metric/scope.h"

#include <string.h>

#include "base/ascii.h"
#include "model/block.h"

const char *scope_name(MetricScope s)
{
    static const char *const names[METRIC_SCOPES] = {[SCOPE_LINEAR] = "linear", [SCOPE_GROUP] = "group",
                                                     [SCOPE_BLOCK] = "block", [SCOPE_ATTENTION] = "attention",
                                                     [SCOPE_MODEL] = "model"};
    return names[s];
}

/* ---- layers and their attention ---- */

/* Bytes of the names of a layer's linears up to the number of the layer: "model.layers.3". */
static size_t layer_head(const Model *m, int64_t layer)
{
    const char *a = m->linears[m->units[layer].first].name;
    for (const char *p = a; *p; p += strcspn(p, "."), p += *p == '.') {
        size_t n = strcspn(p, ".");
        size_t digits = 0;
        while (digits < n && ascii_is_digit(p[digits]))
            digits++;
        if (n && digits == n)
            return (size_t)(p - a) + n;
    }
    return strcspn(a, ".");
}

/* Whether one of the layer's attention blocks has the linear. */
static bool in_attention(const Model *m, int64_t linear)
{
    const Unit *u = &m->units[m->linears[linear].layer];
    const Block *b;
    for (int nth = 0; (b = unit_block(u, ROLE_ATTENTION, nth)) != NULL; nth++)
        for (int i = 0; i < block_linears(b->type); i++)
            if (b->linear[i] == linear)
                return true;
    return false;
}

/* Bytes of a linear's name up to the module below its layer. */
static size_t module_head(const Model *m, int64_t linear)
{
    const char *name = m->linears[linear].name;
    size_t head = layer_head(m, m->linears[linear].layer);
    return name[head] == '.' ? head + 1 + strcspn(name + head + 1, ".") : head;
}

/* ---- units ---- */

int64_t scope_units(const Model *m, MetricScope s)
{
    switch (s) {
    case SCOPE_LINEAR: return m->nlinears;
    case SCOPE_GROUP: return m->ngroups;
    case SCOPE_BLOCK:
    case SCOPE_ATTENTION: return model_depth(m);
    default: return 1;
    }
}

int64_t scope_unit_of(const Model *m, MetricScope s, int64_t linear)
{
    const Linear *l = &m->linears[linear];
    switch (s) {
    case SCOPE_LINEAR: return linear;
    case SCOPE_GROUP: return l->group;
    case SCOPE_BLOCK: return l->layer;
    case SCOPE_ATTENTION: return in_attention(m, linear) ? l->layer : -1;
    default: return l->layer < m->cfg.layers ? 0 : -1; /* no other layer leads to the logits */
    }
}

void scope_linears(const Model *m, MetricScope s, int64_t unit, int64_t *from, int64_t *to)
{
    switch (s) {
    case SCOPE_LINEAR:
        *from = unit;
        *to = unit + 1;
        break;
    case SCOPE_GROUP:
        *from = m->groups[unit].first;
        *to = group_linear(&m->groups[unit], m->groups[unit].count - 1) + 1;
        break;
    case SCOPE_BLOCK:
    case SCOPE_ATTENTION:
        *from = m->units[unit].first;
        *to = *from + m->units[unit].count;
        break;
    default:
        *from = 0;
        *to = m->nlinears;
    }
}

static void group_name(const Model *m, const FusedGroup *g, Str *out)
{
    const char *first = m->linears[g->first].name;
    size_t n = strlen(first);
    if (g->count < 2) {
        str_puts(out, first);
        return;
    }
    for (int up = m->linears[g->first].expert >= 0 ? 2 : 1; up > 0; up--) /* above the linear, above the expert */
        while (n > 0 && first[--n] != '.')
            ;
    size_t at = n;
    while (at > 0 && first[at - 1] != '.')
        at--;
    str_append(out, first, n);
    if (strlen(g->label) != n - at || strncmp(first + at, g->label, n - at) != 0) /* experts' module is called so */
        str_printf(out, "%s%s", n ? "." : "", g->label);
}

static void attention_name(const Model *m, int64_t layer, Str *out)
{
    const Unit *u = &m->units[layer];
    int64_t at = u->first;
    for (int64_t i = at; i < u->first + u->count && !in_attention(m, at); i++)
        at = i;
    str_append(out, m->linears[at].name, module_head(m, at));
}

void scope_unit_name(const Model *m, MetricScope s, int64_t unit, Str *out)
{
    if ((s == SCOPE_BLOCK || s == SCOPE_ATTENTION) && !m->units[unit].count) { /* nothing has its name */
        str_printf(out, "unit %lld", (long long)unit);
        return;
    }
    switch (s) {
    case SCOPE_LINEAR: str_puts(out, m->linears[unit].name); break;
    case SCOPE_GROUP: group_name(m, &m->groups[unit], out); break;
    case SCOPE_BLOCK: str_append(out, m->linears[m->units[unit].first].name, layer_head(m, unit)); break;
    case SCOPE_ATTENTION: attention_name(m, unit, out); break;
    default: str_puts(out, "model"); break;
    }
}

bool scope_unit_pattern(const Model *m, MetricScope s, int64_t unit, int32_t k, Str *out)
{
    str_clear(out);
    if (s == SCOPE_LINEAR || s == SCOPE_GROUP) {
        const FusedGroup *g = &m->groups[s == SCOPE_GROUP ? unit : m->linears[unit].group];
        if (k >= g->count)
            return false;
        str_puts(out, m->linears[group_linear(g, k)].name);
        return true;
    }
    if (k > 0)
        return false;
    if (s != SCOPE_MODEL)
        scope_unit_name(m, s, unit, out);
    str_puts(out, s == SCOPE_MODEL ? "*" : ".*");
    return true;
}
