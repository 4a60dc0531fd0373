#include <string.h>

#include "base/num.h"
#include "tune/standing.h"

/* standing_high (specs/tuning.md 4): how many rows of the ranking have to stay in float with the first suppression, by halving;
 * then fewer and fewer of them with any of the suppressions, by steps that double. */

typedef struct High {
    const Standing *s;
    Play *p;
    const RankRow *rows;
    int64_t n;
    int built;  /* practices so far: the peer's numbers */
    int idx;    /* the suppression that comes next */
} High;

static Draft draft(High *h, int anti, int64_t level)
{
    return (Draft){.anti = anti, .number = h->built++, .rows = h->rows, .n = min_i64(level > 0 ? level : 0, h->n)};
}

/* *yes: whether the demand is met; false: return. */
static bool met(High *h, const Draft *d, bool *yes)
{
    const EvalResult *r;
    if (!play_try(h->p, d, &r))
        return false;
    *yes = r->satisfied;
    return true;
}

/* The fewest rows that do with the first suppression, supposing that more never do worse. false: return. */
static bool halve(High *h, int64_t *level)
{
    int64_t lo = 1, hi = h->n;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        Draft d = draft(h, 0, mid);
        bool yes;
        if (!met(h, &d, &yes))
            return false;
        if (yes)
            hi = mid;
        else
            lo = mid + 1;
    }
    *level = lo;
    return true;
}

/* One level with each suppression in turn, from the one that did last; false: return. */
static bool any_at(High *h, int64_t level, Draft *best, bool *yes)
{
    *yes = false;
    for (int k = 0; k < h->s->n && !*yes; k++) {
        Draft d = draft(h, h->idx, level);
        if (!met(h, &d, yes))
            return false;
        if (*yes)
            *best = d;
        else
            h->idx = (h->idx + 1) % h->s->n;
    }
    return true;
}

/* Fewer rows, by steps of 1, 2, 4, ... and of 1 again where none does. false: return. */
static bool descend(High *h, int64_t level, Draft *best)
{
    int64_t step = 1;
    while (level - step >= 0) {
        bool yes;
        if (!any_at(h, level - step, best, &yes))
            return false;
        if (yes) {
            level -= step;
            step = max_i64(min_i64(2 * step, level), 1);
        } else if (step == 1) {
            break;
        } else {
            step = 1;
        }
    }
    return true;
}

/* As the peer: what halving comes to isn't tried, the best is asked again at the end, and whatever it is ends the search. */
static void play_peer(High *h)
{
    bool yes;
    if (!play_ranking(h->p, &h->s->wish, &h->rows, &h->n))
        return;
    Draft first = draft(h, 0, 0);
    int64_t level;
    if (!met(h, &first, &yes))
        return;
    if (yes) {
        play_end(h->p, STEP_MET, &first, NULL);
        return;
    }
    if (!halve(h, &level))
        return;
    Draft best = draft(h, 0, level);
    if (descend(h, level, &best) && met(h, &best, &yes))
        play_end(h->p, STEP_MET, &best, NULL);
}

void standing_play(const void *state, Play *p)
{
    High h = {.s = state, .p = p};
    if (p->kit->peer) {
        play_peer(&h);
        return;
    }
    bool yes;
    Draft best = draft(&h, 0, 0);
    if (!met(&h, &best, &yes))
        return;
    if (yes) {
        play_end(p, STEP_MET, &best, NULL);
        return;
    }
    if (!play_ranking(p, &h.s->wish, &h.rows, &h.n))
        return;
    int64_t level = 0;
    if (h.n > 0) {
        if (!halve(&h, &level))
            return;
        best = draft(&h, 0, level);
        if (!met(&h, &best, &yes))
            return;
    } else if (!any_at(&h, 0, &best, &yes)) {
        return;
    }
    if (!yes) {
        play_end(p, STEP_NOT_MET, &best,
                 h.n ? "the demand is missed with every row of the ranking in float: the template leaves too little in float, or the "
                       "demand is out of reach"
                     : "the demand is missed, and the ranking has no rows to leave in float");
        return;
    }
    if (descend(&h, level, &best))
        play_end(p, STEP_MET, &best, NULL);
}

static const Field fields[] = {
    FIELD_TYPE,
    {.key = "anti_outlier_strategies", .type = F_CHECKED, .value = standing_check_strategies, .least = 1, .required = true},
    {.key = "template", .type = F_CHECKED, .value = standing_check_template},
    {.key = "metadata", .type = F_OBJECT, .object = &standing_metadata_object},
    FIELD_RANKING,
    FIELD_END,
};

/* The peer's own default can't be built, so its plans need a template. */
static void check(Check *c, const YamlNode *map)
{
    if (check_peer(c) && !yaml_get(map, "template")) {
        size_t was = check_push(c, "template");
        check_fail(c, map, "is missing");
        check_pop(c, was);
    }
}

static const Object object = {.fields = fields, .check = check};

const StrategyType strategy_standing_high = {
    .name = "standing_high",
    .object = &object,
    .peer = true,
    .settings = standing_settings,
    .open = standing_open,
    .close = standing_close,
    .play = standing_play,
    .make = standing_make,
    .id = standing_id,
};
