/* The guide: what was said and tried of each entry, its records in the journal, and what is done. */
#include "session/guide_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "base/mem.h"
#include "session/allot.h"
#include "session/assignment.h"
#include "session/calibset.h"
#include "session/engine.h"
#include "session/entries.h"
#include "session/fields.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/results.h"
#include "session/sizes.h"
#include "session/tuning.h"

int guide_count(void)
{
    int n = 0;
    while (guide_rows[n].id)
        n++;
    return n;
}

Guide *guide_of(Session *s)
{
    if (!s->guide)
        s->guide = calloc(1, sizeof *s->guide);
    return s->guide;
}

void guide_free(Guide *g)
{
    for (int i = 0; g && i < GUIDE_ITEMS_MAX; i++) {
        free(g->mark[i].note);
        free(g->mark[i].skip);
        candidate_free(&g->candidate[i]);
    }
    for (int i = 0; g && i < GUIDE_STEPS; i++)
        free(g->skip[i]);
    free(g);
}

/* ---- entries and steps by their names ---- */


static int find_item(const char *id)
{
    for (int i = 0; guide_rows[i].id; i++)
        if (ascii_casecmp(guide_rows[i].id, id) == 0)
            return i;
    return -1;
}

static int find_step(const char *id)
{
    for (int i = 0; i < GUIDE_STEPS; i++)
        if (ascii_casecmp(guide_steps[i].id, id) == 0)
            return i;
    return -1;
}

static Status no_such(const char *id, Error *err)
{
    return error_set(err, ST_USAGE, "the guide has no '%s': S1 to S5 are its steps, S1a, S1b and so on what they list", id);
}

/* The guide of an open model. */
static Status need(Session *s, Guide **g, Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    *g = guide_of(s);
    return *g ? ST_OK : error_nomem(err, "the guide");
}

static Status keep_text(char **to, const char *text, Error *err)
{
    char *copy = text ? strdup(text) : NULL;
    if (text && !copy)
        return error_nomem(err, "the guide");
    free(*to);
    *to = copy;
    return ST_OK;
}

/* ---- what a person says ---- */

static Status set_goal(Session *s, Guide *g, const char *text, Error *err)
{
    Goal goal;
    RETURN_IF_ERROR(goal_parse(text, &goal, err));
    if (goal.kind != GOAL_KL && goal.kind != GOAL_PPL)
        return error_set(err, ST_USAGE, "the guide's goal is a loss, kl=0.05 or ppl=+1%%; for bytes there are fit and tune");
    g->goal = goal;
    g->have_goal = true;
    g->version++;
    entry_guide(s, "goal", "", text, 0, 0);
    return ST_OK;
}

Status session_guide_goal(Session *s, const char *goal, Error *err)
{
    Guide *g;
    RETURN_IF_ERROR(need(s, &g, err));
    return set_goal(s, g, goal, err);
}

Status session_guide_skip(Session *s, const char *id, const char *reason, Error *err)
{
    Guide *g;
    RETURN_IF_ERROR(need(s, &g, err));
    int step = find_step(id), item = find_item(id);
    if (step < 0 && item < 0)
        return no_such(id, err);
    if (reason && !reason[strspn(reason, " \t")])
        return error_set(err, ST_USAGE, "why is %s skipped? guide skip %s 'engine cannot rotate'", id, id);
    RETURN_IF_ERROR(keep_text(step >= 0 ? &g->skip[step] : &g->mark[item].skip, reason, err));
    g->version++;
    entry_guide(s, "skip", step >= 0 ? guide_steps[step].id : guide_rows[item].id, reason, 0, 0);
    return ST_OK;
}

static Status add_note(Guide *g, int item, const char *text, Error *err)
{
    GuideMark *m = &g->mark[item];
    Str all = {0};
    str_printf(&all, "%s%s%s", m->note ? m->note : "", m->note ? "; " : "", text);
    Status st = all.oom ? error_nomem(err, "the guide") : keep_text(&m->note, str_text(&all), err);
    str_free(&all);
    return st;
}

Status session_guide_note(Session *s, const char *id, const char *text, Error *err)
{
    Guide *g;
    RETURN_IF_ERROR(need(s, &g, err));
    int step = find_step(id), item = find_item(id);
    for (int i = 0; step >= 0 && item < 0 && guide_rows[i].id; i++) /* of a step: of its first entry */
        item = guide_rows[i].step == step ? i : item;
    if (item < 0)
        return no_such(id, err);
    if (!text[strspn(text, " \t")])
        return error_set(err, ST_USAGE, "no evidence is given: guide evidence %s \"GPQA float 51.5\"", id);
    RETURN_IF_ERROR(add_note(g, item, text, err));
    g->version++;
    entry_guide(s, "note", guide_rows[item].id, text, 0, 0);
    return ST_OK;
}

Status session_guide_answer(Session *s, const char *id, const char *answer, const char *note, Error *err)
{
    Guide *g;
    RETURN_IF_ERROR(need(s, &g, err));
    int item = find_item(id), a = ANSWER_YES;
    if (item < 0 || guide_rows[item].kind != GUIDE_ASK)
        return item < 0 ? no_such(id, err) : error_set(err, ST_USAGE, "%s asks nothing: S1a and S1b do", guide_rows[item].id);
    while (a < ANSWERS && ascii_casecmp(guide_answers[a], answer) != 0)
        a++;
    if (a == ANSWERS)
        return error_set(err, ST_USAGE, "the answer to %s is yes, no or unknown, not '%s'", guide_rows[item].id, answer);
    if (note && note[0])
        RETURN_IF_ERROR(add_note(g, item, note, err));
    g->mark[item].answer = (GuideAnswer)a;
    g->version++;
    if (note && note[0])
        entry_guide(s, "note", guide_rows[item].id, note, 0, 0);
    entry_guide(s, "answer", guide_rows[item].id, guide_answers[a], 0, 0);
    return ST_OK;
}

/* ---- runs ---- */

static void tried(Session *s, Guide *g, int item, int measured, int against)
{
    GuideMark *m = &g->mark[item];
    m->measured = measured;
    m->against = against;
    m->tried = ++g->clock;
    g->version++;
    entry_guide(s, "ran", guide_rows[item].id, NULL, measured, against);
}

/* Another set of texts was measured: against what was measured with the one before. One that helps is in already. */
static void tried_texts(Session *s, Guide *g, int item)
{
    const GuideView *v;
    if (session_guide(s, &v, NULL) != ST_OK || !v->item[item].measured)
        return;
    bool helps = v->item[item].state == GUIDE_HAS;
    tried(s, g, item, v->item[item].measured, v->item[item].against);
    if (!helps)
        return;
    g->mark[item].applied = ++g->clock;
    entry_guide(s, "applied", guide_rows[item].id, NULL, 0, 0);
}

/* Id of the newest measurement with this key, 0: none. */
static int measured_id(const Session *s, const Digest *key)
{
    const Results *r = s->results;
    for (size_t i = r->nmeasured; i-- > 0;)
        if (digest_cmp(&r->measured[i].key, key) == 0)
            return r->measured[i].id;
    return 0;
}

void guide_ended(Session *s, int job, Status st)
{
    Guide *g = s->guide;
    for (int i = 0; g && guide_rows[i].id; i++) {
        GuideMark *m = &g->mark[i];
        if (!m->job || m->job != job)
            continue;
        m->job = 0;
        g->version++;
        if (st == ST_OK && guide_rows[i].kind == GUIDE_ANALYZE)
            session_texts_begin(s); /* what ranges are found of is told by text */
        if (st == ST_OK && guide_rows[i].kind == GUIDE_CALIB)
            tried_texts(s, g, i);
        else if (st == ST_OK)
            tried(s, g, i, measured_id(s, &m->key), measured_id(s, &m->base));
    }
}

/* The measurement of the set that a search ended with: the best it tried, else what is open now. NULL: none. */
static const Measured *set_of_search(const Session *s)
{
    const Tuning *t = s->tuning;
    const Results *r = s->results;
    for (size_t i = r->nmeasured; t->best >= 0 && i-- > 0;)
        if (r->measured[i].effect.kl_mean == t->tries[t->best].effect.kl_mean && r->measured[i].effect.ppl_quant == t->tries[t->best].effect.ppl_quant)
            return &r->measured[i];
    return results_find(s, s->assignment->level, 0);
}

static void keep_search(Session *s, Guide *g, int item, const GuideSearch *search, int measured)
{
    GuideMark *m = &g->mark[item];
    m->search = *search;
    m->measured = measured;
    m->against = 0;
    m->tried = ++g->clock;
    g->version++;
    entry_guide_search(s, guide_rows[item].id, search->goal, guide_ends[search->end], search->tries, measured, search->more);
}

void guide_searched(Session *s)
{
    static const GuideEnd ends[] = {[TUNING_MET] = END_MET, [TUNING_MISSED] = END_MISSED, [TUNING_STOPPED] = END_STOPPED, [TUNING_FAILED] = END_FAILED};
    const Tuning *t = s->tuning;
    Guide *g = guide_of(s);
    if (!g)
        return;
    const Measured *m = t->ntries ? set_of_search(s) : NULL;
    GuideSearch search = {.end = ends[t->state], .tries = t->ntries};
    snprintf(search.goal, sizeof search.goal, "%s", t->goal.text);
    if (m && m->level) {
        SizeReport was, is;
        sizes_of(s, s->recipe, s->assignment->opened, &was);
        sizes_of(s, s->recipe, m->level, &is);
        search.more = (int64_t)is.bytes - (int64_t)was.bytes;
    }
    for (int i = 0; guide_rows[i].id; i++)
        if (guide_rows[i].kind == GUIDE_SEARCH)
            keep_search(s, g, i, &search, m ? m->id : 0);
}

static Status measure_open(Session *s, int *jobs, Error *err)
{
    if (results_find(s, s->assignment->level, 0))
        return ST_OK;
    RETURN_IF_ERROR(session_measure(s, false, err));
    ++*jobs;
    return ST_OK;
}

static void waits(Session *s, GuideMark *m, const Digest *key)
{
    m->job = s->queue->next_job;
    m->base = assignment_key(s, s->assignment->level);
    m->key = key ? *key : m->base;
}

static Status run_candidate(Session *s, Guide *g, int item, int *jobs, Error *err)
{
    const Candidate *c = guide_candidate(s, g, item);
    const GuideRow *row = &guide_rows[item];
    char title[80];
    if (!c->recipe)
        return error_set(err, ST_USAGE, "%s can't be tried: %s", row->id, c->reason.text);
    RETURN_IF_ERROR(measure_open(s, jobs, err));
    if (measured_id(s, &c->key)) {
        Digest base = assignment_key(s, s->assignment->level);
        if (*jobs == 0)
            tried(s, g, item, measured_id(s, &c->key), measured_id(s, &base));
        return ST_OK;
    }
    snprintf(title, sizeof title, "%s: %.70s", row->id, row->title);
    RETURN_IF_ERROR(job_measure(s, c->recipe, c->level, false, title, err));
    ++*jobs;
    waits(s, &g->mark[item], &c->key);
    return ST_OK;
}

/* Each rule to float, left out alone. */
static Status run_give_back(Session *s, Guide *g, int item, int *jobs, Error *err)
{
    const GuideRow *row = &guide_rows[item];
    const Candidate *c = guide_candidate(s, g, item);
    char title[80];
    int before = *jobs;
    if (!c->recipe)
        return error_set(err, ST_USAGE, "%s can't be tried: %s", row->id, c->reason.text);
    int16_t *level = mem_array((size_t)s->model->nlinears, sizeof *level);
    Status st = level ? measure_open(s, jobs, err) : error_nomem(err, "the guide");
    for (int i = 0; st == ST_OK && i < s->assignment->rules.n; i++) {
        if (!guide_without(s, i, level) || results_find(s, level, 0))
            continue;
        snprintf(title, sizeof title, "%s: without %.60s", row->id, s->assignment->rules.row[i].rule->text);
        st = job_measure(s, s->recipe, level, false, title, err);
        *jobs += st == ST_OK;
    }
    free(level);
    if (st == ST_OK && *jobs > before)
        waits(s, &g->mark[item], NULL);
    return st;
}

static Status run_analyses(Session *s, Guide *g, int item, int *jobs, Error *err)
{
    const GuideRow *row = &guide_rows[item];
    int before = s->queue->next_job;
    RETURN_IF_ERROR(session_analyze(s, row->metrics, NULL, 0, false, err));
    *jobs += s->queue->next_job - before;
    if (s->queue->next_job > before)
        waits(s, &g->mark[item], NULL);
    else
        tried(s, g, item, 0, 0);
    return ST_OK;
}

static Status run_loo(Session *s, Guide *g, int item, int *jobs, Error *err)
{
    int queued = 0;
    RETURN_IF_ERROR(session_texts_loo(s, NULL, 0, false, &queued, err));
    *jobs += queued;
    if (queued)
        waits(s, &g->mark[item], NULL);
    else
        tried(s, g, item, 0, 0);
    return ST_OK;
}

static Status run_search(Session *s, Guide *g, int item, int *jobs, Error *err)
{
    if (!g->have_goal)
        return error_set(err, ST_USAGE, "%s needs a goal: guide goal ppl=+1%%", guide_rows[item].id);
    int before = s->queue->next_job;
    Status st = session_tune(s, g->goal.text, &(TuneOptions){0}, err);
    *jobs += s->queue->next_job - before;
    return st;
}

static Status run_item(Session *s, Guide *g, int item, int *jobs, Error *err)
{
    int before = *jobs;
    switch (guide_rows[item].kind) {
    case GUIDE_VARY: case GUIDE_FLOAT: case GUIDE_FIT: return run_candidate(s, g, item, jobs, err);
    case GUIDE_GIVE_BACK: return run_give_back(s, g, item, jobs, err);
    case GUIDE_ANALYZE: return run_analyses(s, g, item, jobs, err);
    case GUIDE_SEARCH: return run_search(s, g, item, jobs, err);
    case GUIDE_LOO: return run_loo(s, g, item, jobs, err);
    default: break;
    }
    RETURN_IF_ERROR(measure_open(s, jobs, err));
    if (*jobs > before)
        waits(s, &g->mark[item], NULL);
    return ST_OK;
}

/* Every entry in this state, of a step or (-1) of all; one job serves several. *n: how many entries. */
static Status run_those(Session *s, Guide *g, int step, GuideState state, int *n, int *jobs, Error *err)
{
    const GuideView *v;
    bool run[GUIDE_ITEMS_MAX] = {false};
    *n = 0;
    RETURN_IF_ERROR(session_guide(s, &v, err));
    for (int i = 0; i < v->nitems; i++) {
        run[i] = (step < 0 || v->item[i].step == step) && v->item[i].can_run && v->item[i].state == state;
        *n += run[i];
    }
    for (int i = 0; i < guide_count(); i++)
        if (run[i])
            RETURN_IF_ERROR(run_item(s, g, i, jobs, err));
    return ST_OK;
}

static Status run_step(Session *s, Guide *g, int step, int *jobs, Error *err)
{
    const GuideView *v;
    int n;
    RETURN_IF_ERROR(run_those(s, g, step, GUIDE_TODO, &n, jobs, err));
    if (n)
        return ST_OK;
    RETURN_IF_ERROR(session_guide(s, &v, err));
    return error_set(err, ST_USAGE, "%s has nothing to run: %s", guide_steps[step].id, v->step[step].line.text);
}

Status session_guide_again(Session *s, const char *id, int *jobs, Error *err)
{
    Guide *g;
    const GuideView *v;
    int queued = 0, n = 0;
    RETURN_IF_ERROR(need(s, &g, err));
    RETURN_IF_ERROR(session_guide(s, &v, err));
    RETURN_IF_ERROR(engine_meet(s, s->recipe, err));
    int item = id ? find_item(id) : -1, step = id ? find_step(id) : -1;
    if (id && item < 0 && step < 0)
        return no_such(id, err);
    if (item >= 0 && v->item[item].state != GUIDE_OLD)
        return error_set(err, ST_USAGE, "%s was not tried against what was open before: guide run %s", v->item[item].id, v->item[item].id);
    Status st = item >= 0 ? run_item(s, g, item, &queued, err) : run_those(s, g, step, GUIDE_OLD, &n, &queued, err);
    if (st == ST_OK && item < 0 && !n)
        return error_set(err, ST_USAGE, "nothing was tried against what was open before: guide run goes on");
    g->version++;
    if (jobs)
        *jobs = queued;
    return st;
}

Status session_guide_run(Session *s, const char *id, int *jobs, Error *err)
{
    Guide *g;
    const GuideView *v;
    int n = 0;
    RETURN_IF_ERROR(need(s, &g, err));
    RETURN_IF_ERROR(session_guide(s, &v, err));
    RETURN_IF_ERROR(engine_meet(s, s->recipe, err));
    int item = id ? find_item(id) : v->next, step = id ? find_step(id) : -1;
    if (id && item < 0 && step < 0)
        return no_such(id, err);
    if (item < 0 && step < 0)
        return error_set(err, ST_USAGE, "nothing comes next: %s", v->status.text);
    if (item >= 0 && v->item[item].state == GUIDE_RUNNING)
        return error_set(err, ST_USAGE, "%s runs already", v->item[item].id);
    if (item >= 0 && v->item[item].state == GUIDE_SKIPPED)
        return error_set(err, ST_USAGE, "%s is skipped: guide todo %s takes that back", v->item[item].id, v->item[item].id);
    if (item >= 0 && !v->item[item].can_run)
        return error_set(err, ST_USAGE, "%s has nothing to run: %s", v->item[item].id,
                         v->item[item].reason.parts ? v->item[item].reason.text : "it is known; answer it");
    Status st = item >= 0 ? run_item(s, g, item, &n, err) : run_step(s, g, step, &n, err);
    g->version++;
    if (jobs)
        *jobs = n;
    return st;
}

/* ---- taking what was tried ---- */

/* By rules: those of a fit take the place of an earlier one's, floats stand beside what is there, and what is given back is
 * the rule itself. */
static Status take_levels(Session *s, GuideKind kind, const int16_t *level, Error *err)
{
    size_t n = (size_t)s->model->nlinears;
    const RuleList *l = &s->assignment->rules;
    int64_t changed;
    int16_t *less = mem_array(n, sizeof *less);
    if (!less)
        return error_nomem(err, "the guide");
    int at = -1;
    for (int i = 0; kind == GUIDE_GIVE_BACK && at < 0 && i < l->n; i++)
        at = guide_without(s, i, less) && memcmp(less, level, n * sizeof *less) == 0 ? i : -1;
    free(less);
    if (at >= 0)
        return session_rule_delete(s, l->row[at].rule->text, &changed, err);
    return levels_apply(s, level, kind == GUIDE_FIT ? LEVELS_ANEW : LEVELS_BESIDE, &changed, err);
}

/* The entry of that name, and what it would change; `own` holds what is made for it alone. */
static Status what_changes(Session *s, const char *id, bool beside, Guide **g, int *item, const Candidate **c, Candidate *own, Error *err)
{
    *own = (Candidate){0};
    RETURN_IF_ERROR(need(s, g, err));
    *item = find_item(id);
    if (*item < 0)
        return no_such(id, err);
    *c = beside ? own : guide_candidate(s, *g, *item);
    return beside ? guide_beside(s, *item, own, err) : ST_OK;
}

/* One processor in the place of another: the difference, behind what it says of it. */
static Status tell_replaced(const Recipe *was, const Recipe *is, bool instead, const char *delta, Str *out, Error *err)
{
    if (!instead || delta[0] == '+' || was == is)
        return ST_OK;
    str_putc(out, '\n');
    return recipe_diff(was, is, out, err);
}

static Status take(Session *s, Guide *g, int item, const Candidate *c, Str *what, Error *err)
{
    char delta[PHRASE_MAX];
    snprintf(delta, sizeof delta, "%s", c->delta.text);
    Recipe *was = recipe_hold(s->recipe), *r = recipe_hold(c->recipe);
    Status st = r == was ? take_levels(s, guide_rows[item].kind, c->level, err) : recipe_adopt(s, r, NULL, NULL, err);
    if (st == ST_OK) {
        g->mark[item].applied = ++g->clock;
        g->version++;
        entry_guide(s, "applied", guide_rows[item].id, NULL, 0, 0);
    }
    if (st == ST_OK && what) {
        str_printf(what, "%s is in: %s; undo takes it back", guide_rows[item].id, delta);
        st = tell_replaced(was, r, guide_rows[item].change.instead, delta, what, err);
    }
    recipe_free(was);
    recipe_free(r);
    return st;
}

Status session_guide_apply(Session *s, const char *id, bool beside, Str *what, Error *err)
{
    Guide *g;
    int item;
    const Candidate *c;
    Candidate own;
    RETURN_IF_ERROR(what_changes(s, id, beside, &g, &item, &c, &own, err));
    Status st = c->recipe ? take(s, g, item, c, what, err)
                          : error_set(err, ST_USAGE, "%s can't be applied: %s", guide_rows[item].id,
                                      c->reason.parts ? c->reason.text : "it changes nothing by itself");
    candidate_free(&own);
    return st;
}

static Status tell_change(const Session *s, int item, const Candidate *c, Str *out, Error *err)
{
    str_printf(out, "%s %s: %s\n", guide_rows[item].id, guide_rows[item].title, c->delta.text);
    if (c->recipe != s->recipe)
        return recipe_diff(s->recipe, c->recipe, out, err);
    for (int64_t i = 0; i < s->model->nlinears; i++)
        if (c->level[i] != s->assignment->level[i])
            str_printf(out, "  %s: %s -> %s\n", s->model->linears[i].name, session_level_name(s, s->assignment->level[i]),
                       session_level_name(s, c->level[i]));
    return ST_OK;
}

Status session_guide_preview(Session *s, const char *id, bool beside, Str *out, Error *err)
{
    Guide *g;
    int item;
    const Candidate *c;
    Candidate own;
    RETURN_IF_ERROR(what_changes(s, id, beside, &g, &item, &c, &own, err));
    Status st = c->recipe ? tell_change(s, item, c, out, err)
                          : error_set(err, ST_USAGE, "%s changes nothing: %s", guide_rows[item].id,
                                      c->reason.parts ? c->reason.text : "it only measures");
    candidate_free(&own);
    return st;
}

/* ---- the journal ---- */

static Status restore_skip(Session *s, const char *id, const char *text, const cJSON *o, Error *err)
{
    (void)o;
    return session_guide_skip(s, id, text, err);
}

static Status restore_note(Session *s, const char *id, const char *text, const cJSON *o, Error *err)
{
    (void)o;
    return session_guide_note(s, id, text ? text : "", err);
}

static Status restore_answer(Session *s, const char *id, const char *text, const cJSON *o, Error *err)
{
    (void)o;
    return session_guide_answer(s, id, text ? text : "", NULL, err);
}

static Status restore_ran(Session *s, const char *id, const char *text, const cJSON *o, Error *err)
{
    (void)text, (void)err;
    tried(s, s->guide, find_item(id), (int)whole_in(o, "measured", 0, INT32_MAX, 0), (int)whole_in(o, "against", 0, INT32_MAX, 0));
    return ST_OK;
}

static Status restore_applied(Session *s, const char *id, const char *text, const cJSON *o, Error *err)
{
    (void)text, (void)o, (void)err;
    s->guide->mark[find_item(id)].applied = ++s->guide->clock;
    s->guide->version++;
    return ST_OK;
}

static Status restore_search(Session *s, const char *id, const char *text, const cJSON *o, Error *err)
{
    const char *end = text_of(o, "end");
    GuideSearch search = {.end = END_FAILED, .tries = (int)whole_in(o, "tries", 0, INT32_MAX, 0), .more = whole_in(o, "more", INT64_MIN / 2, INT64_MAX / 2, 0)};
    (void)err;
    for (int i = 0; end && i < ENDS; i++)
        search.end = strcmp(end, guide_ends[i]) == 0 ? (GuideEnd)i : search.end;
    snprintf(search.goal, sizeof search.goal, "%s", text ? text : "");
    keep_search(s, s->guide, find_item(id), &search, (int)whole_in(o, "measured", 0, INT32_MAX, 0));
    return ST_OK;
}

static const struct {
    const char *name;
    Status (*apply)(Session *s, const char *id, const char *text, const cJSON *o, Error *err);
} records[] = {
    {"skip", restore_skip}, {"note", restore_note}, {"answer", restore_answer}, {"ran", restore_ran}, {"applied", restore_applied},
    {"search", restore_search},
};

Status guide_restore(Session *s, const cJSON *o, Error *err)
{
    const char *what = text_of(o, "do"), *id = text_of(o, "item"), *text = text_of(o, "text");
    Guide *g;
    RETURN_IF_ERROR(need(s, &g, err));
    if (!what || !id)
        return error_set(err, ST_DATA, "a record of the guide is damaged");
    if (strcmp(what, "goal") == 0)
        return set_goal(s, g, text ? text : "", err);
    if (find_item(id) < 0 && !(strcmp(what, "skip") == 0 && find_step(id) >= 0))
        return ST_OK; /* of a list that has another entry there */
    for (size_t i = 0; i < sizeof records / sizeof *records; i++)
        if (strcmp(what, records[i].name) == 0)
            return records[i].apply(s, id, text, o, err);
    return error_set(err, ST_DATA, "a record of the guide is of an unknown kind '%s'", what);
}
