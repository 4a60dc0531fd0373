/* What the model can come to, and a limit that the present set is held against. */
#include "session/budget.h"

#include <math.h>
#include <string.h>

#include "base/num.h"
#include "session/allot.h"
#include "session/assignment.h"
#include "session/front.h"
#include "session/parts.h"

/* What a group takes at these levels: of one that has one level what the table says. */
static void group_now(const Session *s, const GroupTable *t, int64_t g, const int16_t *base, int64_t *bytes, double *bits)
{
    const FusedGroup *f = &s->model->groups[g];
    int16_t first = base[group_linear(f, 0)];
    int32_t same = 1;
    while (same < f->count && base[group_linear(f, same)] == first)
        same++;
    *bytes = t->bytes[g * t->levels + first];
    *bits = t->bits[g * t->levels + first];
    if (same == f->count && *bytes >= 0)
        return;
    *bytes = 0;
    *bits = 0;
    for (int32_t j = 0; j < f->count; j++) {
        int64_t l = group_linear(f, j);
        *bytes += (int64_t)recipe_linear_bytes(s->recipe, s->model, l, base[l], s->opt.peer);
        *bits += recipe_linear_bits(s->recipe, s->model, l, base[l]);
    }
}

void reach_of(const Session *s, const GroupTable *t, const int16_t *base, const bool *fixed, Reach *out)
{
    double weights = t->weights > 0 ? t->weights : 1;
    *out = (Reach){.low = t->others, .high = t->others, .opened = t->opened_bytes, .kl_low = NAN, .kl_high = NAN,
                   .ppl_low = NAN, .ppl_high = NAN};
    for (int64_t i = 0; i < t->n; i++) {
        int64_t low, high;
        double few, many;
        group_now(s, t, i, base, &low, &few);
        high = low;
        many = few;
        for (int k = 0; k < t->levels && !fixed[i]; k++)
            if (t->bytes[i * t->levels + k] >= 0) {
                low = min_i64(low, t->bytes[i * t->levels + k]);
                high = max_i64(high, t->bytes[i * t->levels + k]);
                few = fmin(few, t->bits[i * t->levels + k]);
                many = fmax(many, t->bits[i * t->levels + k]);
            }
        out->low += low;
        out->high += high;
        out->bits_low += few / weights;
        out->bits_high += many / weights;
    }
}

Status bytes_refused(const Goal *goal, int64_t low, int64_t high, int64_t opened, Error *err)
{
    const double mib = 1048576;
    if (goal->more)
        return error_set(err, ST_USAGE, "%s is out of reach: from %+.1f to %+.1f MiB can be had", goal->text,
                         (double)(low - opened) / mib, (double)(high - opened) / mib);
    return error_set(err, ST_USAGE, "%s is out of reach: from %.1f to %.1f MiB can be had", goal->text, (double)low / mib,
                     (double)high / mib);
}

Status reach_refuses(const Reach *r, const Goal *goal, Error *err)
{
    double want = goal->value + (goal->more ? (double)r->opened : 0);
    return want >= (double)r->low ? ST_OK : bytes_refused(goal, r->low, r->high, r->opened, err);
}

Status session_reach(Session *s, Reach *out, Error *err)
{
    const Outlook *o;
    RETURN_IF_ERROR(outlook_reach(s, &o, err));
    *out = o->reach;
    return ST_OK;
}

Status budget_parse(const char *text, Goal *out, Error *err)
{
    Goal g = {0};
    if (strcmp(text, "none") != 0 && (goal_parse(text, &g, NULL) != ST_OK || (g.kind != GOAL_BYTES && g.kind != GOAL_BITS)))
        return error_set(err, ST_USAGE, "budget is +20M (above the recipe), 300M (of the model), 5.2bits (per weight) or "
                         "none, not '%s'", text);
    *out = g;
    return ST_OK;
}

bool session_budget(Session *s, Budget *out)
{
    const Goal *g = &s->opt.budget;
    Reach r;
    *out = (Budget){0};
    if (!g->text[0] || !s->model || session_reach(s, &r, NULL) != ST_OK)
        return false;
    const SizeReport now = session_predict(s).size;
    *out = (Budget){.bits = g->kind == GOAL_BITS, .more = g->more, .limit = g->value};
    out->used = out->bits ? now.average_bits : (double)now.bytes - (g->more ? (double)r.opened : 0);
    out->low = out->bits ? r.bits_low : (double)r.low - (g->more ? (double)r.opened : 0);
    out->high = out->bits ? r.bits_high : (double)r.high - (g->more ? (double)r.opened : 0);
    return true;
}
