/* interact: what the groups of a set do together against what each does alone. */
#include "session/interact.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "metric/alone.h"
#include "session/assignment.h"
#include "session/entries.h"
#include "session/fields.h"
#include "session/groups.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/results.h"
#include "session/start.h"
#include "session/whatif.h"

/* Tokens that alone takes, where none are set. */
enum { TOKENS = 128, PASS_TOKENS = 4000 };

static void score_fini(SetScore *k)
{
    free(k->group);
    free(k->digest);
    *k = (SetScore){0};
}

void interactions_clear(Interactions *i)
{
    for (size_t k = 0; k < i->nscore; k++)
        score_fini(&i->score[k]);
    free(i->score);
    free(i->group);
    free(i->level);
    free(i->pair);
    *i = (Interactions){0};
}

void set_job_fini(SetJob *j)
{
    free(j->start);
    free(j->group);
    free(j->digest);
    free(j->linear_start);
    free(j->linear);
    *j = (SetJob){0};
}

static int64_t tokens_want(const Session *s)
{
    return s->opt.tokens ? s->opt.tokens : TOKENS;
}

/* ---- what is known ---- */

static const SetScore *known(const Session *s, const int32_t *group, const uint64_t *digest, int64_t n, uint64_t data)
{
    const Interactions *all = &s->whatifs->interactions;
    for (size_t i = 0; i < all->nscore; i++) {
        const SetScore *k = &all->score[i];
        if (k->n == n && k->data == data && k->want == tokens_want(s) &&
            memcmp(k->group, group, (size_t)n * sizeof *group) == 0 &&
            memcmp(k->digest, digest, (size_t)n * sizeof *digest) == 0)
            return k;
    }
    return NULL;
}

/* A copy of what `from` borrows joins. */
static Status add_score(Session *s, const SetScore *from, Error *err)
{
    Interactions *all = &s->whatifs->interactions;
    SetScore k = *from;
    k.group = mem_array((size_t)k.n, sizeof *k.group);
    k.digest = mem_array((size_t)k.n, sizeof *k.digest);
    if (!k.group || !k.digest || !mem_grow(&all->score, &all->cap, all->nscore + 1, sizeof *all->score)) {
        score_fini(&k);
        return error_nomem(err, "what a set does");
    }
    memcpy(k.group, from->group, (size_t)k.n * sizeof *k.group);
    memcpy(k.digest, from->digest, (size_t)k.n * sizeof *k.digest);
    all->score[all->nscore++] = k;
    return ST_OK;
}

Status interact_store(Session *s, const Job *j, const PassScore *score, int64_t n, Error *err)
{
    size_t first = s->whatifs->interactions.nscore;
    for (int64_t i = 0; i < n; i++) {
        const UnitScore *u = &score[i].s;
        int64_t at = j->sets.start[u->unit];
        const SetScore k = {.group = j->sets.group + at, .digest = j->sets.digest + at,
                            .n = j->sets.start[u->unit + 1] - at, .data = j->origin.data, .want = j->sets.want,
                            .tokens = u->tokens, .kl = u->value, .error = u->part[0]};
        RETURN_IF_ERROR(add_score(s, &k, err));
    }
    entry_together(s, first);
    return ST_OK;
}

/* ---- the question ---- */

typedef struct Ask {
    const GroupTable *t;
    int32_t *group;    /* [n] by falling v */
    int16_t *level;    /* [n] */
    int64_t n, among;
    bool given_back;
} Ask;

typedef struct Weighed {
    int32_t group;
    int16_t level;
    double v;
} Weighed;

static int by_effect(const void *a, const void *b)
{
    const Weighed *x = a, *y = b;
    double vx = isnan(x->v) ? -1 : x->v, vy = isnan(y->v) ? -1 : y->v;
    return vx != vy ? (vx < vy ? 1 : -1) : (x->group > y->group) - (x->group < y->group);
}

/* Groups of which more pairs than this are more than so many. */
static int64_t among(int64_t groups, int64_t pairs)
{
    int64_t n = 1;
    while (n < groups && (n + 1) * n / 2 <= pairs)
        n++;
    return n > 1 ? n : 0;
}

/* Whether the set asks for a group: named, or given back by the present set; the level it is looked at. */
static int16_t asked_level(const Session *s, const GroupTable *t, int64_t g, const bool *named, const int16_t *set,
                           const int16_t *home)
{
    const FusedGroup *f = &s->model->groups[g];
    bool hit = !named && set[g] != home[g] && t->bytes[g * t->levels + set[g]] > t->bytes[g * t->levels + home[g]];
    for (int32_t j = 0; named && j < f->count; j++)
        hit = hit || named[group_linear(f, j)];
    if (!hit || s->model->linears[group_linear(f, 0)].layer >= s->model->cfg.layers)
        return 0;
    return named && set[g] ? set[g] : home[g];
}

static Status collect(const Session *s, Ask *a, const bool *named, const int16_t *set, const int16_t *home, Error *err)
{
    const GroupTable *t = a->t;
    Weighed *w = mem_array((size_t)t->n, sizeof *w);
    if (!w)
        return error_nomem(err, "the groups");
    for (int64_t g = 0; g < t->n; g++) {
        int16_t k = asked_level(s, t, g, named, set, home);
        if (k)
            w[a->n++] = (Weighed){(int32_t)g, k, t->v[g * t->levels + k]};
    }
    qsort(w, (size_t)a->n, sizeof *w, by_effect);
    a->group = mem_array((size_t)a->n, sizeof *a->group);
    a->level = mem_array((size_t)a->n, sizeof *a->level);
    Status st = a->group && a->level ? ST_OK : error_nomem(err, "the groups");
    for (int64_t i = 0; st == ST_OK && i < a->n; i++) {
        a->group[i] = w[i].group;
        a->level[i] = w[i].level;
    }
    free(w);
    if (st == ST_OK && a->n < 2)
        return error_set(err, ST_USAGE, named ? "interactions are of two groups or more: %lld of those named quantize%s"
                                              : "interactions are of two groups or more: %lld %s given back; name targets, or "
                                                "give groups back first",
                         (long long)a->n, named ? (a->n == 1 ? "s" : "") : a->n == 1 ? "is" : "are");
    return st;
}

static void ask_fini(Ask *a)
{
    free(a->group);
    free(a->level);
}

static Status ask_open(Session *s, const InteractAsk *o, Ask *a, Error *err)
{
    *a = (Ask){.given_back = !o->n};
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    RETURN_IF_ERROR(group_table(s, &a->t, err));
    size_t n = (size_t)a->t->n;
    bool *named = mem_zarray((size_t)s->model->nlinears, 1);
    int16_t *set = mem_array(n, sizeof *set), *home = mem_array(n, sizeof *home);
    Status st = named && set && home ? ST_OK : error_nomem(err, "the groups");
    int64_t count;
    for (int i = 0; st == ST_OK && i < o->n; i++)
        st = session_target(s, o->targets[i], named, &count, err);
    if (st == ST_OK) {
        group_set(s, a->t, s->assignment->level, set);
        group_set(s, a->t, s->assignment->home, home);
        st = collect(s, a, o->n ? named : NULL, set, home, err);
    }
    a->among = among(a->n, o->pairs);
    free(named);
    free(set);
    free(home);
    return st;
}

/* ---- its sets ---- */

/* Set i of the question: each group alone, all together, then pairs. false: there is none. members[n] are places in the
 * question's list. */
static bool set_at(int64_t groups, int64_t among_n, int64_t i, int64_t *members, int64_t *n)
{
    if (i < groups) {
        *n = 1;
        members[0] = i;
        return true;
    }
    if (i == groups) {
        *n = groups;
        for (int64_t k = 0; k < groups; k++)
            members[k] = k;
        return true;
    }
    i -= groups + 1;
    for (int64_t a = 0; a < among_n; a++) {
        int64_t pairs = among_n - 1 - a;
        if (i < pairs) {
            *n = 2;
            members[0] = a;
            members[1] = a + 1 + i;
            return true;
        }
        i -= pairs;
    }
    return false;
}

typedef struct Member {
    int32_t group;
    uint64_t digest;
} Member;

static int by_group(const void *a, const void *b)
{
    const Member *x = a, *y = b;
    return (x->group > y->group) - (x->group < y->group);
}

/* Groups and digests of a set, ascending. */
static void spell(const GroupTable *t, const int32_t *group, const int16_t *level, const int64_t *members, int64_t n,
                  Member *scratch, int32_t *g, uint64_t *d)
{
    for (int64_t k = 0; k < n; k++) {
        int64_t at = members[k];
        scratch[k] = (Member){group[at], t->digest[group[at] * t->levels + level[at]]};
    }
    qsort(scratch, (size_t)n, sizeof *scratch, by_group);
    for (int64_t k = 0; k < n; k++) {
        g[k] = scratch[k].group;
        d[k] = scratch[k].digest;
    }
}

/* Room to spell a set of n groups. */
typedef struct Speller {
    int64_t *members;
    Member *scratch;
    int32_t *group;
    uint64_t *digest;
} Speller;

static Status speller_new(Speller *sp, int64_t n, Error *err)
{
    size_t k = (size_t)n + 2;
    *sp = (Speller){mem_array(k, sizeof *sp->members), mem_array(k, sizeof *sp->scratch), mem_array(k, sizeof *sp->group),
                    mem_array(k, sizeof *sp->digest)};
    return sp->members && sp->scratch && sp->group && sp->digest ? ST_OK : error_nomem(err, "the sets");
}

static void speller_free(Speller *sp)
{
    free(sp->members);
    free(sp->scratch);
    free(sp->group);
    free(sp->digest);
}

static int64_t pairs_of(int64_t n)
{
    return n * (n - 1) / 2;
}

/* A set joins a job, with its linears. */
static void append(const Session *s, SetJob *j, const int32_t *group, const uint64_t *digest, int64_t n)
{
    int64_t at = j->start[j->n], l = j->linear_start[j->n];
    for (int64_t k = 0; k < n; k++) {
        const FusedGroup *f = &s->model->groups[group[k]];
        j->group[at] = group[k];
        j->digest[at++] = digest[k];
        for (int32_t i = 0; i < f->count; i++)
            j->linear[l++] = (int32_t)group_linear(f, i);
    }
    j->n++;
    j->start[j->n] = at;
    j->linear_start[j->n] = l;
}

static int by_linear(const void *a, const void *b)
{
    const int32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* The sets of the question that are not known. */
static Status make_sets(const Session *s, const Ask *a, uint64_t data, SetJob *j, Error *err)
{
    int64_t sets = a->n + 1 + pairs_of(a->among), groups = 2 * a->n + 2 * pairs_of(a->among), n, most = 0;
    for (int64_t i = 0; i < a->n; i++)
        most += s->model->groups[a->group[i]].count;
    int64_t linears = 2 * most; /* alone and together; pairs: */
    for (int64_t i = 0; i < a->among; i++)
        linears += (a->among - 1) * s->model->groups[a->group[i]].count;
    *j = (SetJob){.want = tokens_want(s), .start = mem_zarray((size_t)sets + 1, sizeof *j->start),
                  .linear_start = mem_zarray((size_t)sets + 1, sizeof *j->linear_start),
                  .group = mem_array((size_t)groups, sizeof *j->group), .digest = mem_array((size_t)groups, sizeof *j->digest),
                  .linear = mem_array((size_t)linears, sizeof *j->linear)};
    Speller sp;
    Status st = speller_new(&sp, a->n, err);
    if (st == ST_OK && (!j->start || !j->linear_start || !j->group || !j->digest || !j->linear))
        st = error_nomem(err, "the sets");
    for (int64_t i = 0; st == ST_OK && set_at(a->n, a->among, i, sp.members, &n); i++) {
        spell(a->t, a->group, a->level, sp.members, n, sp.scratch, sp.group, sp.digest);
        if (!known(s, sp.group, sp.digest, n, data) && !(i == a->n + 1 && a->n == 2))
            append(s, j, sp.group, sp.digest, n);
    }
    for (int64_t i = 0; st == ST_OK && i < j->n; i++)
        qsort(j->linear + j->linear_start[i], (size_t)(j->linear_start[i + 1] - j->linear_start[i]), sizeof *j->linear,
              by_linear);
    speller_free(&sp);
    j->sets = (PassSets){.n = j->n, .start = j->linear_start, .linear = j->linear};
    return st;
}

/* ---- the job ---- */

static Status fill_job(Session *s, const Ask *a, Job *j, Error *err)
{
    const ScoreOrigin now = origin_now(s);
    j->metrics = mem_zarray(2, sizeof *j->metrics);
    if (!j->metrics)
        return error_nomem(err, "a job");
    j->metrics[0] = &metric_together;
    RETURN_IF_ERROR(job_take_levels(s, j, err));
    scored_levels(s, j->level);
    for (int64_t i = 0; i < a->n; i++) {
        const FusedGroup *f = &s->model->groups[a->group[i]];
        for (int32_t k = 0; k < f->count; k++)
            j->level[group_linear(f, k)] = a->level[i];
    }
    RETURN_IF_ERROR(scores_init(&j->before, s->model, err));
    RETURN_IF_ERROR(scores_copy_units(&j->before, &s->results->scores, pass_together.reads, &now, err));
    j->origin = now;
    j->plan = (PassPlan){.m = s->model, .pass = &pass_together, .metrics = j->metrics, .levels = j->levels,
                         .nlevels = j->nlevels, .level = j->level, .peer = j->opt.peer, .seed = j->opt.seed,
                         .before = &j->before, .sets = &j->sets.sets, .probe = j->opt.tokens};
    j->view->total = j->sets.n;
    snprintf(j->title, sizeof j->title, "interactions of %lld groups", (long long)a->n);
    return ST_OK;
}

/* The sets are taken over. */
static Status enqueue(Session *s, const Ask *a, SetJob *sets, Error *err)
{
    Job *j;
    Status st = start_analysis_of(s, TEXTS_CALIB, &j, err);
    if (st != ST_OK) {
        set_job_fini(sets);
        return st;
    }
    j->sets = *sets;
    *sets = (SetJob){0};
    st = fill_job(s, a, j, err);
    if (st != ST_OK) {
        job_free(j);
        return st;
    }
    return job_enqueue(s, j, err);
}

/* The question is the one that is looked at from now on. */
static void ask_keep(Session *s, Ask *a)
{
    Interactions *i = &s->whatifs->interactions;
    free(i->group);
    free(i->level);
    i->group = a->group;
    i->level = a->level;
    i->ngroups = a->n;
    i->among = a->among;
    i->given_back = a->given_back;
    i->looked = false;
    a->group = NULL;
    a->level = NULL;
}

Status session_interact(Session *s, const InteractAsk *o, InteractCost *cost, Error *err)
{
    Ask a;
    SetJob sets = {0};
    *cost = (InteractCost){0};
    Status st = ask_open(s, o, &a, err);
    if (st == ST_OK)
        st = make_sets(s, &a, origin_now(s).data, &sets, err);
    if (st == ST_OK)
        *cost = (InteractCost){.groups = a.n, .among = a.among, .pairs = pairs_of(a.among), .sets = sets.n,
                               .tokens = tokens_want(s), .passes = (double)sets.n * (double)tokens_want(s) / 2 / PASS_TOKENS};
    if (st == ST_OK && !o->dry && sets.n)
        st = enqueue(s, &a, &sets, err);
    if (st == ST_OK && !o->dry) {
        ask_keep(s, &a);
        entry_interact(s);
    }
    set_job_fini(&sets);
    ask_fini(&a);
    return st;
}

/* ---- what came of it ---- */

static int by_excess(const void *a, const void *b)
{
    const InteractPair *x = a, *y = b;
    double dx = fabs(x->joint - x->apart), dy = fabs(y->joint - y->apart);
    return dx != dy ? (dx < dy ? 1 : -1) : x->a != y->a ? (x->a < y->a ? -1 : 1) : (x->b > y->b) - (x->b < y->b);
}

static bool is_running(const Session *s)
{
    for (size_t i = 0; i < s->queue->njobs; i++) {
        const JobRow *r = s->queue->jobs[i];
        if (r->job && r->job->plan.sets && (r->view.state == JOB_RUNNING || r->view.state == JOB_WAITING))
            return true;
    }
    return false;
}

/* Whether the question is about what the present set gives back. */
static bool is_of_present(Session *s, const Interactions *i)
{
    Ask now;
    bool same = false;
    if (i->given_back && ask_open(s, &(InteractAsk){.pairs = 0}, &now, NULL) == ST_OK) {
        same = now.n == i->ngroups;
        for (int64_t k = 0; same && k < now.n; k++) {
            same = false;
            for (int64_t m = 0; !same && m < i->ngroups; m++)
                same = i->group[m] == now.group[k] && i->level[m] == now.level[k];
        }
    }
    if (i->given_back)
        ask_fini(&now);
    return same;
}

/* Takes the sets that are known into the view; single: [ngroups] scratch. */
static void add_up(Session *s, const GroupTable *t, Interactions *i, Speller *sp, double *single, InteractView *v)
{
    const uint64_t data = origin_now(s).data;
    int64_t n, npairs = 0;
    for (int64_t k = 0; set_at(i->ngroups, i->among, k, sp->members, &n); k++) {
        spell(t, i->group, i->level, sp->members, n, sp->scratch, sp->group, sp->digest);
        const SetScore *got = known(s, sp->group, sp->digest, n, data);
        v->wanted++;
        v->known += got != NULL;
        v->tokens = got ? got->tokens : v->tokens;
        if (k < i->ngroups) {
            single[k] = got ? got->kl : NAN;
            v->sum += single[k];
        } else if (k == i->ngroups) {
            v->joint = got ? got->kl : NAN;
            v->error = got ? got->error : NAN;
        } else if (got && isfinite(got->kl)) {
            int64_t a = sp->members[0], b = sp->members[1];
            i->pair[npairs++] = (InteractPair){.a = i->group[a], .b = i->group[b], .apart = single[a] + single[b],
                                               .joint = got->kl, .error = got->error};
        }
    }
    qsort(i->pair, (size_t)npairs, sizeof *i->pair, by_excess);
    v->pair = i->pair;
    v->npairs = npairs;
}

Status session_interactions(Session *s, InteractView *out, Error *err)
{
    Interactions *i = s->model ? &s->whatifs->interactions : NULL;
    const GroupTable *t;
    Speller sp;
    *out = (InteractView){.joint = NAN, .error = NAN};
    if (!i || !i->group)
        return error_set(err, ST_USAGE, "no interactions were asked for yet: interact");
    RETURN_IF_ERROR(group_table(s, &t, err));
    for (int64_t k = 0; k < i->ngroups; k++)
        if (i->level[k] >= t->levels)
            return error_set(err, ST_USAGE, "the interactions are of levels that this recipe has not: interact again");
    if (i->looked && i->version == s->assignment->version && i->results == s->results->version &&
        i->opened == s->assignment->opened_version && i->scores == i->nscore) {
        *out = i->view;
        out->runs = is_running(s);
        return ST_OK;
    }
    free(i->pair);
    i->pair = mem_array((size_t)pairs_of(i->among) + 1, sizeof *i->pair);
    double *single = mem_array((size_t)i->ngroups, sizeof *single);
    Status st = speller_new(&sp, i->ngroups, err);
    if (st == ST_OK && (!i->pair || !single))
        st = error_nomem(err, "the interactions");
    if (st == ST_OK)
        add_up(s, t, i, &sp, single, out);
    out->groups = i->ngroups;
    out->group = i->group;
    out->among = i->among;
    out->runs = is_running(s);
    out->present = is_of_present(s, i);
    i->view = *out;
    i->looked = st == ST_OK;
    i->version = s->assignment->version;
    i->results = s->results->version;
    i->opened = s->assignment->opened_version;
    i->scores = i->nscore;
    speller_free(&sp);
    free(single);
    return st;
}

/* ---- the journal ---- */

static Status damaged(Error *err)
{
    return error_set(err, ST_DATA, "a record of interactions is damaged");
}

Status interact_restore(Session *s, const cJSON *record, Error *err)
{
    const cJSON *g = json_get(record, "groups"), *l = json_get(record, "levels");
    int n = cJSON_GetArraySize(g);
    int64_t x;
    Ask a = {.n = n, .among = whole_in(record, "among", 0, n, 0), .given_back = cJSON_IsTrue(json_get(record, "given_back")),
             .group = mem_array((size_t)n, sizeof *a.group), .level = mem_array((size_t)n, sizeof *a.level)};
    bool good = n > 1 && cJSON_GetArraySize(l) == n && a.group && a.level;
    g = good ? g->child : NULL;
    l = good ? l->child : NULL;
    for (int i = 0; good && i < n; i++, g = g->next, l = l->next) {
        good = cJSON_IsNumber(g) && whole_of(g->valuedouble, 0, s->model->ngroups - 1, &x);
        a.group[i] = good ? (int32_t)x : 0;
        good = good && cJSON_IsNumber(l) && whole_of(l->valuedouble, 1, s->assignment->nlevels - 1, &x);
        a.level[i] = good ? (int16_t)x : 0;
    }
    if (good)
        ask_keep(s, &a);
    ask_fini(&a);
    return good ? ST_OK : damaged(err);
}

static Status restore_set(Session *s, const cJSON *set, SetScore *k, Error *err)
{
    const cJSON *g = json_get(set, "g"), *d = json_get(set, "d"), *kl = json_get(set, "kl"), *se = json_get(set, "se");
    k->n = cJSON_GetArraySize(g);
    k->group = mem_array((size_t)k->n, sizeof *k->group);
    k->digest = mem_array((size_t)k->n, sizeof *k->digest);
    bool good = k->n > 0 && cJSON_GetArraySize(d) == k->n && k->group && k->digest;
    g = good ? g->child : NULL;
    d = good ? d->child : NULL;
    for (int64_t i = 0, x; good && i < k->n; i++, g = g->next, d = d->next) {
        good = cJSON_IsNumber(g) && whole_of(g->valuedouble, 0, s->model->ngroups - 1, &x) && cJSON_IsString(d);
        k->group[i] = good ? (int32_t)x : 0;
        k->digest[i] = good ? strtoull(d->valuestring, NULL, 16) : 0;
    }
    k->kl = cJSON_IsNumber(kl) ? kl->valuedouble : NAN;
    k->error = cJSON_IsNumber(se) ? se->valuedouble : NAN;
    Status st = good ? add_score(s, k, err) : damaged(err);
    score_fini(k);
    return st;
}

Status interact_restore_scores(Session *s, const cJSON *record, Error *err)
{
    const char *data = text_of(record, "data");
    const cJSON *set;
    if (!data)
        return damaged(err);
    cJSON_ArrayForEach(set, json_get(record, "sets"))
    {
        SetScore k = {.data = strtoull(data, NULL, 16), .want = whole_in(record, "want", 0, INT64_MAX, 0),
                      .tokens = whole_in(record, "tokens", 0, INT64_MAX, 0)};
        RETURN_IF_ERROR(restore_set(s, set, &k, err));
    }
    return ST_OK;
}
