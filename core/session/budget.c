/* What the model can come to, and a limit that the present set is held against. */
#include "session/budget.h"

#include <math.h>
#include <string.h>

#include "base/num.h"
#include "session/allot.h"
#include "session/assignment.h"
#include "session/front.h"
#include "session/parts.h"

void reach_of(const Session *s, const GroupTable *t, const int16_t *base, const bool *fixed, Reach *out)
{
    SizeReport size, opened;
    double weights = t->weights > 0 ? t->weights : 1;
    recipe_sizes(s->recipe, s->model, base, s->opt.peer, &size);
    recipe_sizes(s->recipe, s->model, s->assignment->opened, s->opt.peer, &opened);
    *out = (Reach){.low = (int64_t)size.bytes, .high = (int64_t)size.bytes, .bits_low = size.average_bits,
                   .bits_high = size.average_bits, .opened = (int64_t)opened.bytes, .kl_low = NAN, .kl_high = NAN,
                   .ppl_low = NAN, .ppl_high = NAN};
    for (int64_t i = 0; i < t->n; i++) {
        const FusedGroup *f = &s->model->groups[i];
        int64_t low = INT64_MAX, high = 0, now = 0;
        double few = INFINITY, many = 0, bits = 0;
        for (int32_t j = 0; j < f->count; j++) {
            int64_t l = group_linear(f, j);
            now += (int64_t)recipe_linear_bytes(s->recipe, s->model, l, base[l], s->opt.peer);
            bits += recipe_linear_bits(s->recipe, s->model, l, base[l]);
        }
        for (int k = 0; k < t->levels; k++)
            if (t->bytes[i * t->levels + k] >= 0) {
                low = min_i64(low, t->bytes[i * t->levels + k]);
                high = max_i64(high, t->bytes[i * t->levels + k]);
                few = fmin(few, t->bits[i * t->levels + k]);
                many = fmax(many, t->bits[i * t->levels + k]);
            }
        if (fixed[i])
            continue;
        out->low += low - now;
        out->high += high - now;
        out->bits_low += (few - bits) / weights;
        out->bits_high += (many - bits) / weights;
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
