/* The guide as it is shown: states, evidence, the goal, what comes next. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "session/assignment.h"
#include "session/calibset.h"
#include "session/guide_impl.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/results.h"
#include "session/tuning.h"

enum { FEWEST_TEXTS = 10, MOST_TEXTS = 50 };

/* ---- figures ---- */

static bool by_ppl(const Guide *g)
{
    return g->have_goal && g->goal.kind == GOAL_PPL;
}

static void put_figure(const Guide *g, const Effect *e, Phrase *out)
{
    if (by_ppl(g))
        phrase_add(out, "perplexity %+.2f %%", 100 * e->ppl_change);
    else
        phrase_add(out, "KL %.3g", e->kl_mean);
}

static const Measured *by_id(const Session *s, int id)
{
    for (size_t i = 0; id && i < s->results->nmeasured; i++)
        if (s->results->measured[i].id == id)
            return &s->results->measured[i];
    return NULL;
}

/* What was measured, against what is or was open: "perplexity +3.10 % (#4), -2.00 % +-0.50 % against #2: better". */
static Verdict put_evidence(const Guide *g, const Measured *m, const Measured *than, Phrase *out)
{
    *out = (Phrase){.parts = 0};
    put_figure(g, &m->effect, out);
    phrase_add(out, " (#%d)", m->id);
    if (!than || than == m)
        return VERDICT_UNDECIDED;
    const Paired p = paired_of(&m->effect, m->blocks, &than->effect, than->blocks);
    if (p.state != PAIR_OK && p.state != PAIR_NO_BLOCKS) {
        phrase_add(out, "; not comparable with #%d: %s", than->id, pair_why(p.state));
        return VERDICT_UNDECIDED;
    }
    bool ppl = by_ppl(g);
    Verdict v = ppl ? verdict_of(p.ppl, p.ppl_se) : verdict_of(p.kl, p.kl_se);
    const char *word = v == VERDICT_BETTER ? "better" : v == VERDICT_WORSE ? "worse" : v == VERDICT_SAME ? "the same" : "within the noise";
    if (ppl)
        phrase_add(out, ", %+.2f %% +-%.2f %% against #%d: %s", 100 * p.ppl, 100 * p.ppl_se, than->id, word);
    else
        phrase_add(out, ", %+.2g +-%.1g against #%d: %s", p.kl, p.kl_se, than->id, word);
    return v;
}

/* ---- entries ---- */

static void put_cost(const Session *s, const GuideRow *row, const GuideItem *it, Phrase *out)
{
    double seconds = -1;
    const Queue *q = s->queue;
    for (size_t i = 0; i < q->njobs; i++)
        if (q->jobs[i]->view.kind == JOB_MEASURE && q->jobs[i]->view.state == JOB_DONE)
            seconds = q->jobs[i]->view.elapsed;
    if (!it->can_run)
        return;
    if (row->kind == GUIDE_ANALYZE)
        phrase_set(out, "an analysis of every group");
    else if (row->kind == GUIDE_SEARCH)
        phrase_set(out, "an analysis, then about 8 measurements");
    else if (row->kind == GUIDE_LOO)
        phrase_set(out, "up to five measurements, each calibrated anew");
    else
        phrase_set(out, "a measurement");
    if (seconds >= 0 && row->kind != GUIDE_ANALYZE)
        phrase_add(out, row->kind == GUIDE_SEARCH ? " of %.1f s" : ", %.1f s the last time", seconds);
}

static void view_ask(const Guide *g, int i, const Measured *now, GuideItem *it)
{
    const GuideMark *m = &g->mark[i];
    it->asks = true;
    it->can_run = !now;
    if (now && i == 0)
        phrase_set(&it->evidence, "float perplexity here %.4g +-%.2g on %lld tokens", now->effect.ppl_float,
                 now->effect.ppl_float_se, (long long)now->effect.tokens);
    else if (now)
        phrase_set(&it->evidence, "top-1 agrees for %.1f %% of the tokens; the worst token's KL is %.3g", 100 * now->effect.top1,
                 now->effect.kl_max);
    it->state = m->answer == ANSWER_NONE && !now ? GUIDE_TODO : m->answer == ANSWER_NONE ? GUIDE_ASKS : m->answer == ANSWER_NO ? GUIDE_STOP : GUIDE_DONE;
    if (m->answer == ANSWER_NO)
        phrase_set(&it->reason, "%s", it->risk);
    else if (m->answer == ANSWER_NONE && now)
        phrase_set(&it->reason, "e answers it: guide answer %s yes|no|unknown", it->id);
    if (m->answer != ANSWER_NONE) {
        phrase_add(&it->evidence, it->evidence.parts ? "; answered %s" : "answered %s", guide_answers[m->answer]);
    }
}

static bool is_noise(const Effect *e)
{
    return verdict_of(e->ppl_change, e->ppl_change_se) == VERDICT_UNDECIDED;
}

static void view_noise(const Measured *now, GuideItem *it)
{
    it->can_run = !now;
    it->state = now ? GUIDE_DONE : GUIDE_TODO;
    if (now)
        phrase_set(&it->evidence, "perplexity %+.2f %% against float, noise %.2f %%: %s", 100 * now->effect.ppl_change,
                 100 * PAIR_ERRORS * now->effect.ppl_change_se, is_noise(&now->effect) ? "no regression" : "a real change");
}

static void view_texts(const Session *s, GuideItem *it)
{
    const DataInfo d = session_calib_info(s);
    it->can_run = !d.samples;
    it->state = d.samples ? GUIDE_DONE : GUIDE_TODO;
    if (!d.samples)
        return;
    phrase_set(&it->evidence, "%.60s: %d texts, %lld tokens", d.name, d.samples, (long long)d.tokens);
    if (d.samples < FEWEST_TEXTS)
        phrase_add(&it->evidence, ": fewer than 10, so ranges depend on chance");
    else if (d.samples > MOST_TEXTS)
        phrase_add(&it->evidence, ": more than 50 take time and change little");
}

static void view_analyze(Session *s, const Guide *g, int i, GuideItem *it)
{
    const GuideRow *row = &guide_rows[i];
    bool have = true;
    for (int k = 0; row->metrics[k]; k++) {
        const Metric *m = metric_find(row->metrics[k]);
        if (!m) {
            it->state = GUIDE_MISSING;
            phrase_set(&it->reason, "this build has no %s", row->metrics[k]);
            return;
        }
        have = have && session_has_run(s, m);
    }
    it->can_run = true;
    it->state = have && g->mark[i].tried ? GUIDE_DONE : GUIDE_TODO;
    if (it->state == GUIDE_DONE && strcmp(row->metrics[0], "block_error") == 0) {
        Prediction p = session_predict(s);
        phrase_set(&it->evidence, "%lld of %lld groups weighed, %lld by their own KL", (long long)(p.groups - p.unknown),
                 (long long)p.groups, (long long)p.alone);
    } else if (it->state == GUIDE_DONE) {
        const TextTable *t = session_texts(s, NULL);
        if (!t)
            phrase_set(&it->evidence, "screen 6 shows what each text does");
        else if (!t->sums.flagged)
            phrase_set(&it->evidence, "none of %d texts widens many ranges alone", t->sums.used);
        else
            phrase_set(&it->evidence, "%d of %d texts widen many ranges alone: calib drop flagged, then S4c", t->sums.flagged, t->sums.used);
    }
}

/* Whether it was made to see what the set is without a text, or what another set is. */
static bool is_trial(Session *s, const Measured *m)
{
    for (int k = 0; k < session_calib_trials(s); k++)
        if (session_calib_trial(s, k).effect == &m->effect)
            return true;
    return false;
}

/* The newest measurement of the same levels that was made with other texts, which were the set then. */
static const Measured *before_texts(Session *s, const Measured *now)
{
    size_t bytes = (size_t)s->model->nlinears * sizeof *s->assignment->level;
    for (size_t i = s->results->nmeasured; i-- > 0;) {
        const Measured *m = &s->results->measured[i];
        bool levels = m->level && memcmp(m->level, s->assignment->level, bytes) == 0 && m->recipe == s->recipe;
        if (m != now && levels && digest_cmp(&m->fit, &(Digest){0}) != 0 && !is_trial(s, m))
            return m;
    }
    return NULL;
}

static void view_calib(Session *s, const Guide *g, const Measured *now, GuideItem *it)
{
    const Measured *before = before_texts(s, now);
    it->can_run = !now && before;
    it->state = now && before ? GUIDE_DONE : before ? GUIDE_TODO : GUIDE_LATER;
    if (now && before) {
        Verdict v = put_evidence(g, now, before, &it->evidence);
        it->state = v == VERDICT_BETTER ? GUIDE_HAS : GUIDE_DONE;
        it->measured = now->id;
        it->against = before->id;
    } else if (!before) {
        phrase_set(&it->reason, "the set is as it was: calib drop, calib add or calib FILE change it");
    }
}

/* What came in last, "the change" where it came from elsewhere. */
static const char *last_applied(const Guide *g)
{
    int last = -1;
    for (int i = 0; guide_rows[i].id; i++)
        if (g->mark[i].applied && (last < 0 || g->mark[i].applied > g->mark[last].applied))
            last = i;
    return last < 0 ? "another recipe" : guide_rows[last].id;
}

/* What the set is without single texts, as far as it was measured under what is open. */
static void view_loo(Session *s, const Guide *g, int i, GuideItem *it)
{
    const Metric *ranged = metric_find("text_range");
    int n = 0, better = 0, text = 0;
    double most = 0;
    for (int k = 0; k < session_calib_trials(s); k++) {
        const CalibTrial t = session_calib_trial(s, k);
        if (!t.number || !t.applies || !t.effect || t.paired.state != PAIR_OK)
            continue;
        const double gain = by_ppl(g) ? -t.paired.ppl : -t.paired.kl;
        bool helps = verdict_of(-gain, by_ppl(g) ? t.paired.ppl_se : t.paired.kl_se) == VERDICT_BETTER;
        n++;
        better += helps;
        text = helps && gain > most ? t.number : text;
        most = helps && gain > most ? gain : most;
    }
    it->can_run = ranged && session_has_run(s, ranged);
    it->state = n ? GUIDE_DONE : g->mark[i].tried ? GUIDE_OLD : it->can_run ? GUIDE_TODO : GUIDE_LATER;
    if (!it->can_run)
        phrase_set(&it->reason, "which texts matter is not known: S4b first");
    if (n && better)
        phrase_set(&it->evidence, "%d of %d is better without it, most of all #%d: calib drop %d, then S4c", better, n, text, text);
    else if (n)
        phrase_set(&it->evidence, "none of %d texts makes it worse by more than the noise", n);
    else if (it->state == GUIDE_OLD)
        phrase_set(&it->evidence, "texts were left out of another set, or under another recipe");
}

static void view_candidate(Session *s, Guide *g, int i, const Measured *now, GuideItem *it)
{
    const Candidate *c = guide_candidate(s, g, i);
    const GuideMark *mark = &g->mark[i];
    const Measured *m = NULL;
    for (size_t k = s->results->nmeasured; c->recipe && k-- > 0 && !m;)
        m = digest_cmp(&s->results->measured[k].key, &c->key) == 0 ? &s->results->measured[k] : NULL;
    it->delta = c->delta;
    it->reason = c->reason;
    it->state = c->state;
    it->can_run = it->can_apply = c->recipe != NULL;
    if (m) {
        Verdict v = put_evidence(g, m, now, &it->evidence);
        it->state = v == VERDICT_BETTER ? GUIDE_BETTER : GUIDE_DONE;
        it->measured = m->id;
        it->against = now && now != m ? now->id : 0;
        it->verdict = v;
        if (guide_rows[i].kind == GUIDE_GIVE_BACK)
            it->state = GUIDE_BETTER; /* it holds the goal with fewer bytes */
    } else if (mark->measured && by_id(s, mark->measured)) { /* of an earlier state of things */
        put_evidence(g, by_id(s, mark->measured), by_id(s, mark->against), &it->evidence);
        it->state = it->state == GUIDE_TODO && guide_rows[i].kind == GUIDE_VARY ? GUIDE_OLD : it->state;
        it->measured = mark->measured;
        it->against = mark->against;
        if (it->state == GUIDE_OLD)
            phrase_set(&it->reason, "that was before %s came in: guide again (m) measures it against what is open", last_applied(g));
        else if (it->state == GUIDE_TODO)
            phrase_set(&it->reason, "what was found is of another set: guide run measures this one");
    } else if (it->state == GUIDE_TODO && guide_rows[i].aside
               && !(guide_rows[i].with && guide_has_processor(s->recipe, guide_rows[i].with))) {
        it->state = GUIDE_LATER;
        phrase_set(&it->reason, "%s", guide_rows[i].aside);
    }
}

/* "goal ppl=+1% held after 8 measurements: KL 0.0086 (#12), +0.43 MiB". */
static void tell_search(const Session *s, const Guide *g, const GuideMark *mark, Phrase *out)
{
    static const char *const ends[ENDS] = {[END_MET] = "goal %s held after %d measurements", [END_MISSED] = "goal %s not held after %d measurements",
                                           [END_STOPPED] = "goal %s: stopped after %d measurements, resume goes on",
                                           [END_FAILED] = "goal %s: failed after %d measurements; 3 tells why"};
    const Measured *m = by_id(s, mark->measured);
    phrase_set(out, ends[mark->search.end], mark->search.goal, mark->search.tries);
    if (!m)
        return;
    phrase_add(out, ": ");
    put_figure(g, &m->effect, out);
    phrase_add(out, " (#%d)", m->id);
    phrase_add(out, ", %+.2f MiB", (double)mark->search.more / 1048576);
}

static void view_search(Session *s, Guide *g, int i, GuideItem *it)
{
    const Tuning *t = s->tuning;
    const GuideMark *mark = &g->mark[i];
    const Measured *m = by_id(s, mark->measured);
    const Digest now = fit_key(s);
    it->can_run = g->have_goal;
    it->state = mark->tried ? GUIDE_DONE : g->have_goal ? GUIDE_TODO : GUIDE_LATER;
    if (!g->have_goal)
        phrase_set(&it->reason, "it needs a goal: guide goal ppl=+1%%");
    if (t->state == TUNING_RUNS) {
        it->state = GUIDE_RUNNING;
        phrase_set(&it->evidence, "%s", t->text);
    } else if (mark->search.end) {
        tell_search(s, g, mark, &it->evidence);
        it->measured = mark->measured;
        if (g->have_goal && m && digest_cmp(&m->fit, &now) != 0) {
            it->state = GUIDE_OLD;
            phrase_set(&it->reason, "that was under another recipe or other data: guide again (m) searches under what is open");
        } else if (g->have_goal && strcmp(mark->search.goal, g->goal.text) != 0) {
            it->state = GUIDE_TODO;
            phrase_set(&it->reason, "it searched for %s: guide run searches for %s", mark->search.goal, g->goal.text);
        }
    } else if (mark->tried && mark->note) { /* as older programs noted it */
        phrase_set(&it->evidence, "%s", mark->note);
    }
}

/* The newest place in the order at which a change of S4 or S5 was taken. */
static int improved_late(const Guide *g)
{
    int at = 0;
    for (int i = 0; guide_rows[i].id; i++)
        if (guide_rows[i].step >= 3 && g->mark[i].applied > at)
            at = g->mark[i].applied;
    return at;
}

static bool job_open(const Session *s, int id)
{
    for (size_t i = s->queue->njobs; id > 0 && i-- > 0;)
        if (s->queue->jobs[i]->view.id == id)
            return s->queue->jobs[i]->view.state == JOB_WAITING || s->queue->jobs[i]->view.state == JOB_RUNNING;
    return false;
}

static void view_item(Session *s, Guide *g, int i, const Measured *now, bool met)
{
    const GuideRow *row = &guide_rows[i];
    const GuideMark *m = &g->mark[i];
    GuideItem *it = &g->item[i];
    *it = (GuideItem){.id = row->id, .title = row->title, .why = row->why, .risk = row->risk, .step = row->step};
    switch (row->kind) {
    case GUIDE_ASK: view_ask(g, i, now, it); break;
    case GUIDE_NOISE: view_noise(now, it); break;
    case GUIDE_TEXTS: view_texts(s, it); break;
    case GUIDE_ANALYZE: view_analyze(s, g, i, it); break;
    case GUIDE_LOO: view_loo(s, g, i, it); break;
    case GUIDE_CALIB: view_calib(s, g, now, it); break;
    case GUIDE_SEARCH: view_search(s, g, i, it); break;
    default: view_candidate(s, g, i, now, it); break;
    }
    const char *skip = m->skip ? m->skip : g->skip[row->step];
    if (it->state == GUIDE_DONE && row->step == 1 && m->tried && m->tried < improved_late(g))
        it->state = GUIDE_TODO; /* the best alpha moves with what came behind */
    if (job_open(s, m->job))
        it->state = GUIDE_RUNNING;
    else if (skip)
        it->state = GUIDE_SKIPPED;
    else if (met && (it->state == GUIDE_TODO || it->state == GUIDE_OLD) && row->kind != GUIDE_GIVE_BACK)
        it->state = GUIDE_MET;
    if (skip && it->state == GUIDE_SKIPPED)
        phrase_set(&it->reason, "%s", skip);
    if (m->note)
        snprintf(it->note, sizeof it->note, "%s", m->note);
    put_cost(s, row, it, &it->cost);
}

/* ---- steps ---- */

/* The first of these states that an entry of the step has decides. */
static GuideState step_state(const GuideView *v, const GuideStep *st)
{
    static const GuideState order[] = {GUIDE_RUNNING, GUIDE_STOP, GUIDE_BETTER, GUIDE_TODO, GUIDE_OLD, GUIDE_ASKS, GUIDE_MET, GUIDE_DONE, GUIDE_HAS, GUIDE_SKIPPED, GUIDE_LATER};
    for (size_t k = 0; k < sizeof order / sizeof *order; k++)
        for (int i = st->first; i < st->first + st->n; i++)
            if (v->item[i].state == order[k])
                return order[k];
    return GUIDE_MISSING;
}

/* Of what is better in a step the best, or the first that isn't worse than it by more than the noise. */
static int best_of(const Session *s, const Guide *g, const GuideStep *st)
{
    const Measured *best = NULL;
    for (int i = st->first; i < st->first + st->n; i++) {
        const Measured *m = g->item[i].state == GUIDE_BETTER ? by_id(s, g->item[i].measured) : NULL;
        if (m && (!best || (by_ppl(g) ? m->effect.ppl_change < best->effect.ppl_change : m->effect.kl_mean < best->effect.kl_mean)))
            best = m;
    }
    for (int i = st->first; best && i < st->first + st->n; i++) {
        const Measured *m = g->item[i].state == GUIDE_BETTER ? by_id(s, g->item[i].measured) : NULL;
        if (!m)
            continue;
        const Paired p = paired_of(&m->effect, m->blocks, &best->effect, best->blocks);
        if (m == best || (p.state == PAIR_OK && verdict_of(by_ppl(g) ? p.ppl : p.kl, by_ppl(g) ? p.ppl_se : p.kl_se) != VERDICT_WORSE))
            return i;
    }
    return -1;
}

/* How much an entry has to say of its step: what runs or stops, what helps, the newest evidence. */
static int has_to_say(const Guide *g, int i)
{
    const GuideItem *it = &g->item[i];
    enum { MOST = 1 << 24 };
    return it->state == GUIDE_RUNNING ? 4 * MOST : it->state == GUIDE_STOP ? 3 * MOST : it->state == GUIDE_BETTER ? 2 * MOST
           : it->evidence.parts ? MOST + g->mark[i].tried + (guide_rows[i].kind == GUIDE_NOISE ? MOST / 2 : 0) : 0;
}

static void step_line(const Session *s, const Guide *g, GuideStep *st)
{
    int best = st->first, todo = 0, first = -1;
    for (int i = st->first; i < st->first + st->n; i++) {
        best = has_to_say(g, i) > has_to_say(g, best) ? i : best;
        if (g->item[i].state == GUIDE_TODO && g->item[i].can_run) {
            first = first < 0 ? i : first;
            todo++;
        }
    }
    best = st->state == GUIDE_BETTER && best_of(s, g, st) >= 0 ? best_of(s, g, st) : best;
    const GuideItem *it = &g->item[best];
    if (st->state == GUIDE_SKIPPED) {
        st->line = it->reason;
    } else if (has_to_say(g, best)) {
        const Phrase *what = it->state == GUIDE_STOP ? &it->reason : &it->evidence;
        phrase_set(&st->line, "%s ", it->id);
        if (!what->parts)
            phrase_add(&st->line, "%s", it->title);
        phrase_join(&st->line, what);
    } else if (todo) {
        phrase_set(&st->line, "%d to do, %s first", todo, g->item[first].id);
    } else if (it->reason.parts) {
        st->line = it->reason;
    } else {
        phrase_set(&st->line, "%s", it->title);
    }
}

static void view_steps(const Session *s, Guide *g, GuideView *v)
{
    v->take = -1;
    for (int k = 0; k < GUIDE_STEPS; k++) {
        GuideStep *st = &v->step[k];
        *st = (GuideStep){.id = guide_steps[k].id, .title = guide_steps[k].title, .why = guide_steps[k].why, .first = -1};
        for (int i = 0; i < v->nitems; i++) {
            if (v->item[i].step != k)
                continue;
            st->first = st->first < 0 ? i : st->first;
            st->n++;
        }
        st->state = step_state(v, st);
        step_line(s, g, st);
        v->take = v->take < 0 ? best_of(s, g, st) : v->take;
    }
}

/* ---- the goal ---- */

static bool holds(const Guide *g, const Effect *e)
{
    return (by_ppl(g) ? e->ppl_change : e->kl_mean) <= g->goal.value;
}

static void view_goal(const Guide *g, const Measured *now, GuideView *v)
{
    v->goal = g->have_goal ? g->goal.text : "";
    v->measured = now != NULL;
    v->met = now && (g->have_goal ? holds(g, &now->effect) : is_noise(&now->effect));
    if (!now && g->have_goal)
        phrase_set(&v->status, "goal %s: what is open is not measured yet", v->goal);
    else if (!now)
        phrase_set(&v->status, "no goal yet, o sets one: guide goal ppl=+1%%");
    if (!now)
        return;
    if (!g->have_goal) {
        phrase_set(&v->status, v->met ? "DONE: the drop is no more than its noise; " : "no goal yet, o sets one (guide goal ppl=+1%%); ");
        put_figure(g, &now->effect, &v->status);
        phrase_add(&v->status, " (#%d)", now->id);
        return;
    }
    double se = by_ppl(g) ? 100 * now->effect.ppl_change_se : now->effect.kl_se;
    double off = by_ppl(g) ? 100 * (now->effect.ppl_change - g->goal.value) : now->effect.kl_mean - g->goal.value;
    phrase_set(&v->status, v->met ? "goal %s MET" : "goal %s NOT MET", v->goal);
    if (isfinite(se) && fabs(off) < PAIR_ERRORS * se)
        phrase_add(&v->status, ", within its noise");
    phrase_add(&v->status, ": ");
    put_figure(g, &now->effect, &v->status);
    phrase_add(&v->status, by_ppl(g) ? " +-%.2g %% (#%d)" : " +-%.2g (#%d)", se, now->id);
}

static void view_back(const Guide *g, GuideView *v)
{
    const GuideState s2 = v->step[1].state;
    v->back = (Phrase){.parts = 0};
    if (g->mark[0].answer == ANSWER_NO)
        phrase_set(&v->back, "stop: the float model itself is wrong on the engine; put engine, template or prompt right first");
    else if (g->mark[1].answer == ANSWER_NO)
        phrase_set(&v->back, "garbled outputs mean outliers: S2 first");
    else if (improved_late(g) && !v->met)
        phrase_set(&v->back, "what came in from S4 or S5 moves the best alpha: try S2a to S2d once more");
    if (v->back.parts && g->mark[0].answer != ANSWER_NO && (s2 == GUIDE_MISSING || s2 == GUIDE_SKIPPED))
        phrase_add(&v->back, s2 == GUIDE_MISSING ? ", which this build does not run" : ", which is skipped");
    v->stopped = g->mark[0].answer == ANSWER_NO;
}

/* The first entry that is to be tried and can be; outliers first where the outputs are garbled. */
static void view_next(const Guide *g, GuideView *v)
{
    v->next = -1;
    bool garbled = g->mark[1].answer == ANSWER_NO;
    for (int pass = garbled ? 0 : 1; pass < 2 && v->next < 0; pass++)
        for (int i = 0; i < v->nitems && v->next < 0; i++)
            if ((pass || v->item[i].step == 1) && v->item[i].state == GUIDE_TODO && v->item[i].can_run)
                v->next = i;
    if (v->met || v->stopped)
        v->next = -1;
}

/* What the view was made from. */
static bool unchanged(const Session *s, Guide *g)
{
    uint64_t jobs = (uint64_t)s->queue->next_job * 2 + session_texts_reading(s);
    for (size_t i = 0; i < s->queue->njobs; i++)
        jobs = jobs * 31 + (uint64_t)s->queue->jobs[i]->view.state;
    const Digest fit = fit_key(s);
    uint64_t data;
    memcpy(&data, fit.b, sizeof data);
    const uint64_t now[] = {s->assignment->version, s->assignment->opened_version, s->results->version, g->version, jobs,
                            data ^ (uint64_t)s->tuning->state ^ (uint64_t)(uintptr_t)s->opt.runtime};
    bool same = g->fresh && memcmp(now, g->seen, sizeof now) == 0;
    memcpy(g->seen, now, sizeof now);
    g->fresh = true;
    return same;
}

Status session_guide(Session *s, const GuideView **out, Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    Guide *g = guide_of(s);
    if (!g)
        return error_nomem(err, "the guide");
    GuideView *v = &g->view;
    *out = v;
    if (unchanged(s, g))
        return ST_OK;
    const Measured *now = results_find(s, s->assignment->level, 0);
    v->item = g->item;
    v->nitems = guide_count();
    view_goal(g, now, v);
    for (int i = 0; i < v->nitems; i++)
        view_item(s, g, i, now, v->met);
    view_steps(s, g, v);
    view_back(g, v);
    view_next(g, v);
    return ST_OK;
}
