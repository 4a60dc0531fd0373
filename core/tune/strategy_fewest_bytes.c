#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "tune/search.h"
#include "tune/standing.h"

/* fewest_bytes, ours: groups go back to float in the order of what they cost per byte, as few of them as the demand asks. One
 * bound of KL or perplexity is searched as `tune --until` does (search.h); any other demand by doubling and halving, and then
 * taking the last groups back one at a time. */

enum { TAKE_BACK = 5 };

static const Field fields[] = {
    FIELD_TYPE,
    {.key = "template", .type = F_CHECKED, .value = standing_check_template},
    {.key = "metadata", .type = F_OBJECT, .object = &standing_metadata_object},
    FIELD_RANKING,
    FIELD_END,
};
static const Object object = {.fields = fields};

static const void *settings(Arena *a, const YamlNode *map)
{
    const StandingSettings *read = standing_settings(a, map);
    StandingSettings *s = arena_alloc(a, sizeof *s);
    if (!read || !s)
        return NULL;
    *s = *read;
    if (!yaml_get(map, "scope"))
        s->scope = RANK_GROUPS;
    return s;
}

static Status open_it(void **state, const void *set, const StrategyKit *kit, Error *err)
{
    Standing *s;
    RETURN_IF_ERROR(standing_new(&s, set, NULL, true, kit, err));
    *state = s;
    return ST_OK;
}

/* ---- groups as the search takes them ---- */

typedef struct Search {
    Play *p;
    const RankRow *rows;
    int64_t n;
    double *v;         /* [n][2] */
    int64_t *bytes;    /* [n][2] */
    int16_t *set;      /* [n] of the search: 0 float, 1 as the template says */
    bool *in;          /* [n] in float, of the draft in work */
    TuneTable table;
    TunePath path;
    int built;
    Error err;
} Search;

static void search_free(Search *s)
{
    free(s->v);
    free(s->bytes);
    free(s->set);
    free(s->in);
    tune_path_free(&s->path);
}

/* What is no number stands above all others; what costs nothing still costs something, so that it can go back, last. */
static Status make_table(Search *s)
{
    size_t n = (size_t)s->n;
    s->v = mem_zarray(2 * n + 1, sizeof *s->v);
    s->bytes = mem_zarray(2 * n + 1, sizeof *s->bytes);
    s->set = mem_zarray(n + 1, sizeof *s->set);
    s->in = mem_zarray(n + 1, sizeof *s->in);
    if (!s->v || !s->bytes || !s->set || !s->in)
        return error_nomem(&s->err, "a search");
    double most = 0;
    for (int64_t i = 0; i < s->n; i++)
        most = isfinite(s->rows[i].score) && s->rows[i].score > most ? s->rows[i].score : most;
    for (int64_t i = 0; i < s->n; i++) {
        double score = s->rows[i].score;
        s->v[2 * i + 1] = !isfinite(score) ? 1000 * (most > 0 ? most : 1) : score > 0 ? score : most * 1e-12 + 1e-300;
        s->bytes[2 * i] = 1 + (s->rows[i].bytes > 0 ? s->rows[i].bytes : 1); /* a level of no bytes would be no level */
        s->bytes[2 * i + 1] = 1;
    }
    s->table = (TuneTable){.n = s->n, .levels = 2, .v = s->v, .bytes = s->bytes};
    return tune_path(&s->path, &s->table, &s->err);
}

static Draft draft(Search *s)
{
    for (int64_t i = 0; i < s->n; i++)
        s->in[i] = s->set[i] == 0;
    return (Draft){.number = s->built++, .rows = s->rows, .n = s->n, .in = s->in};
}

static Draft prefix(Search *s, int64_t moves)
{
    tune_path_set(&s->path, moves, s->set, NULL, NULL);
    return draft(s);
}

/* ---- one bound of KL or perplexity ---- */

/* The bound that can be searched by a curve: the only expectation, of kl or ppl. */
static bool curved(const StrategyKit *k)
{
    const Expectation *e = k->expect;
    return k->nexpect == 1 && e->at_most && ((strcmp(e->dataset, "kl") == 0 && !e->relative) || strcmp(e->dataset, "ppl") == 0);
}

/* What a result says of it, and what it may be: KL, or ln(perplexity / the float model's). false: it says neither. */
static bool figure(const StrategyKit *k, const EvalResult *r, double *is, double *most)
{
    const Expectation *e = k->expect;
    const Accuracy *a = eval_result_of(r, e->dataset);
    bool ppl = strcmp(e->dataset, "ppl") == 0;
    if (r->state != EVAL_DONE || !a || (ppl && !a->has_base))
        return false;
    double base = ppl ? decimal_value(&a->base) : 0, target = decimal_value(&e->target);
    *is = ppl ? log(decimal_value(&a->value) / base) : decimal_value(&a->value);
    *most = e->relative ? log1p(target / 100) : ppl ? log(target / base) : target;
    if (r->satisfied && *is > *most) /* the decimals decide */
        *is = *most;
    if (!r->satisfied && *is <= *most)
        *is = nextafter(*most, INFINITY);
    return isfinite(*is) && isfinite(*most);
}

typedef struct Results {
    TuneResult *r; /* [n] */
    int n;
    double most;
} Results;

static Status add_result(Search *s, Results *all, double is)
{
    TuneResult *more = realloc(all->r, (size_t)(all->n + 1) * sizeof *more);
    int16_t *set = mem_array((size_t)s->n + 1, sizeof *set);
    if (more)
        all->r = more;
    if (!more || !set) {
        free(set);
        return error_nomem(&s->err, "a search");
    }
    memcpy(set, s->set, (size_t)s->n * sizeof *set);
    TuneResult *r = &all->r[all->n++];
    *r = (TuneResult){.point = {.kl = is, .ppl = is, .set = set}};
    tune_sums(&s->table, set, &r->point.s, &r->bytes);
    return ST_OK;
}

static void end_with(Search *s, const int16_t *set)
{
    memcpy(s->set, set, (size_t)s->n * sizeof *set);
    Draft d = draft(s);
    play_end(s->p, STEP_MET, &d, NULL);
}

static const char missed[] = "the demand is missed with every group of the ranking in float";
static const char lost[] = "a try has no figure of the demand, so the search can't go on";

static Status by_curve(Search *s, Results *all)
{
    const StrategyKit *k = s->p->kit;
    for (;;) {
        const TuneGoal goal = {.what = strcmp(k->expect->dataset, "ppl") == 0 ? TUNE_PPL : TUNE_KL, .at_most = all->most, .bytes = INT64_MAX};
        TuneNext next;
        RETURN_IF_ERROR(tune_next(&s->table, &s->path, &goal, all->r, all->n, s->set, NULL, &next, &s->err));
        if (next.stage == TUNE_DONE) {
            Draft d = prefix(s, s->path.nmoves);
            if (next.best >= 0)
                end_with(s, all->r[next.best].point.set);
            else
                play_end(s->p, STEP_NOT_MET, &d, missed);
            return ST_OK;
        }
        const EvalResult *r;
        Draft d = draft(s);
        double is, most;
        if (!play_try(s->p, &d, &r))
            return ST_OK;
        if (!figure(k, r, &is, &most)) /* garbage: worse than anything that was measured */
            is = 10 * (all->n ? fabs(all->r[0].point.kl) : 1) + 10 * all->most + 1;
        RETURN_IF_ERROR(add_result(s, all, is));
    }
}

/* ---- any other demand ---- */

static bool met(Search *s, const Draft *d, bool *yes)
{
    const EvalResult *r;
    if (!play_try(s->p, d, &r))
        return false;
    *yes = r->satisfied;
    return true;
}

/* The shortest prefix that was seen to do, none shorter by one: doubling, then halving. false: return. */
static bool shortest(Search *s, int64_t *moves)
{
    int64_t lo = 0, hi = 1;
    bool yes = false;
    for (;; hi *= 2) {
        hi = min_i64(hi, s->path.nmoves);
        Draft d = prefix(s, hi);
        if (!met(s, &d, &yes))
            return false;
        if (yes)
            break;
        if (hi == s->path.nmoves) {
            play_end(s->p, STEP_NOT_MET, &d, missed);
            return false;
        }
        lo = hi;
    }
    while (hi - lo > 1) {
        int64_t mid = lo + (hi - lo) / 2;
        Draft d = prefix(s, mid);
        if (!met(s, &d, &yes))
            return false;
        *(yes ? &hi : &lo) = mid;
    }
    *moves = hi;
    return true;
}

static void by_halving(Search *s)
{
    int64_t moves;
    if (!shortest(s, &moves))
        return;
    tune_path_set(&s->path, moves, s->set, NULL, NULL);
    /* the last move can't be left out: the prefix without it missed */
    for (int64_t i = moves - 2, tried = 0; i >= 0 && tried < TAKE_BACK; i--, tried++) {
        const TuneMove *m = &s->path.move[i];
        bool yes;
        s->set[m->group] = m->from;
        Draft d = draft(s);
        if (!met(s, &d, &yes))
            return;
        if (!yes)
            s->set[m->group] = m->to;
    }
    Draft d = draft(s);
    play_end(s->p, STEP_MET, &d, NULL);
}

/* The ranking is here, the template alone has missed the demand. */
static Status search(Search *s, const EvalResult *first)
{
    Results all = {0};
    double is;
    RETURN_IF_ERROR(make_table(s));
    if (s->path.nmoves == 0) {
        Draft d = prefix(s, 0);
        play_end(s->p, STEP_NOT_MET, &d, "the demand is missed, and the ranking has no groups to leave in float");
        return ST_OK;
    }
    if (!curved(s->p->kit)) {
        by_halving(s);
        return ST_OK;
    }
    if (!figure(s->p->kit, first, &is, &all.most)) {
        if (first->state == EVAL_DONE) {
            Draft d = prefix(s, 0);
            play_end(s->p, STEP_NOT_MET, &d, lost);
        } else {
            by_halving(s); /* garbage has no place on a curve */
        }
        return ST_OK;
    }
    tune_path_set(&s->path, 0, s->set, NULL, NULL);
    Status st = add_result(s, &all, is);
    if (st == ST_OK)
        st = by_curve(s, &all);
    for (int i = 0; i < all.n; i++)
        free((void *)(uintptr_t)all.r[i].point.set);
    free(all.r);
    return st;
}

static void play(const void *state, Play *p)
{
    const Standing *standing = state;
    Search s = {.p = p};
    const EvalResult *first;
    Draft d = {.number = s.built++};
    if (!play_try(p, &d, &first))
        return;
    if (first->satisfied) {
        play_end(p, STEP_MET, &d, NULL);
        return;
    }
    if (!play_ranking(p, &standing->wish, &s.rows, &s.n))
        return;
    Status st = search(&s, first);
    if (st != ST_OK)
        play_fail(p, st, s.err.text);
    search_free(&s);
}

const StrategyType strategy_fewest_bytes = {
    .name = "fewest_bytes",
    .object = &object,
    .settings = settings,
    .open = open_it,
    .close = standing_close,
    .play = play,
    .make = standing_make,
    .id = standing_id,
};
