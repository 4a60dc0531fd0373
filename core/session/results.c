/* What passes and measurements found: kept, marked stale, scored. */
#include "session/results.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/assignment.h"
#include "session/bases.h"
#include "session/madewith.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/table.h"
#include "session/texts.h"

void results_init(Results *r)
{
    r->stopped.run = r->before.run = -1;
}

Status results_open(Results *r, const Model *m, Error *err)
{
    r->news = mem_array(SCORE_NEWS, sizeof *r->news);
    r->compared = mem_array((size_t)m->nlinears, sizeof *r->compared);
    r->levels_seen = 0;
    r->needs_met = 0;
    if (!r->news || !r->compared)
        return error_nomem(err, "scores");
    return scores_init(&r->scores, m, err);
}

static void forget_before(Results *r)
{
    free(r->before.selected);
    free(r->before.metrics);
    r->before = (Stopped){.run = -1};
}

void results_forget_stopped(Results *r)
{
    free(r->stopped.selected);
    free(r->stopped.metrics);
    r->stopped = (Stopped){.run = -1};
}

void results_run_begins(Results *r)
{
    forget_before(r);
    r->before = r->stopped;
    r->stopped = (Stopped){.run = -1};
}

void results_run_ended(Results *r, int run, bool well)
{
    bool newest = r->stopped.run == run, same = well && r->before.pass == r->stopped.pass;
    if (!newest || (!well && r->stopped.done > 0)) {
        forget_before(r);
        return;
    }
    results_forget_stopped(r);
    if (!same) {
        r->stopped = r->before;
        r->before = (Stopped){.run = -1};
    }
    forget_before(r);
}

void measured_fini(Measured *m)
{
    recipe_free(m->recipe);
    free(m->level);
    free(m->blocks);
    rules_fini(&m->rules);
    free(m->rules_text);
}

static void forget_measured(Results *r)
{
    for (size_t i = 0; i < r->nmeasured; i++)
        measured_fini(&r->measured[i]);
    r->nmeasured = 0;
    r->last_measured = 0;
}

void results_close(Results *r)
{
    scores_fini(&r->scores);
    bases_close(r);
    r->loss_whole++;
    free(r->news);
    free(r->compared);
    r->news = NULL;
    r->compared = NULL;
    r->version++;
    r->loss_version++;
    forget_measured(r);
    results_forget_stopped(r);
    forget_before(r);
}

void results_fini(Results *r)
{
    results_close(r);
    free(r->measured);
    free(r->unwritten.dir);
    quantize_done_free(r->quantized);
}

static void tell(Results *r, const Metric *m, int64_t unit)
{
    r->news[r->nnews++ % SCORE_NEWS] = (ScoreNews){m, unit};
}

void results_store(Results *rs, LinearResult *r, unsigned needs)
{
    tell(rs, NULL, r->linear);
    rs->needs_met |= needs;
    scores_put_linear(&rs->scores, r, needs);
    rs->version++;
}

Status results_store_unit(Results *rs, const PassScore *p, Error *err)
{
    rs->version++;
    rs->loss_version++;
    tell(rs, p->metric, p->s.unit);
    return scores_put(&rs->scores, p->metric, &p->s, err);
}

void results_step(Results *r, int run, int64_t done, int64_t total, const char *sha)
{
    Stopped *st = &r->stopped;
    if (st->run == run && st->done == done - 1)
        memcpy(st->prev_sha, st->sha, sizeof st->prev_sha);
    else
        st->prev_sha[0] = 0;
    st->run = run;
    st->done = done;
    st->total = total;
    snprintf(st->sha, sizeof st->sha, "%s", sha);
}

/* ---- measurements ---- */

Status results_room(Results *r, size_t more, Error *err)
{
    const size_t was = r->cap_measured;
    bool fine = mem_grow(&r->measured, &r->cap_measured, r->nmeasured + more, sizeof *r->measured);
    r->version += r->cap_measured != was; /* who keeps what session_measurement gave asks again: they lie elsewhere now */
    return fine ? ST_OK : error_nomem(err, "measurements");
}

Status results_measured(Results *r, Measured *m, Error *err)
{
    Status st = results_room(r, 1, err);
    if (st != ST_OK) {
        measured_fini(m);
        return st;
    }
    m->rules_text = m->ruled ? rules_lines(&m->rules, m->recipe) : NULL;
    size_t i = 0; /* the newest measurement of an assignment replaces an older one and moves to the end */
    while (i < r->nmeasured && !(digest_cmp(&r->measured[i].key, &m->key) == 0 &&
                                 r->measured[i].effect.tokens == m->effect.tokens))
        i++;
    if (i < r->nmeasured) {
        m->id = r->measured[i].id;
        measured_fini(&r->measured[i]);
        memmove(&r->measured[i], &r->measured[i + 1], (r->nmeasured - i - 1) * sizeof *r->measured);
        r->nmeasured--;
    } else {
        m->id = ++r->last_measured;
    }
    r->measured[r->nmeasured++] = *m;
    r->version++;
    r->loss_version++;
    return ST_OK;
}

const Measured *results_find(const Session *s, const int16_t *level, int64_t tokens)
{
    const Results *r = s->results;
    if (!s->model || !r->nmeasured)
        return NULL;
    Digest key = assignment_key(s, level);
    const Measured *best = NULL;
    for (size_t i = 0; i < r->nmeasured; i++)
        if (digest_cmp(&r->measured[i].key, &key) == 0 &&
            (!best || r->measured[i].effect.tokens == tokens ||
             (best->effect.tokens != tokens && r->measured[i].effect.tokens >= best->effect.tokens)))
            best = &r->measured[i];
    return best;
}

Measured *results_newest(const Session *s)
{
    const Results *r = s->results;
    if (!s->model || !r->nmeasured)
        return NULL;
    Digest now = fit_key(s);
    for (size_t i = r->nmeasured; i-- > 0;)
        if (digest_cmp(&r->measured[i].fit, &now) == 0)
            return &r->measured[i];
    return NULL;
}

const Effect *session_effect(Session *s, int64_t *differs)
{
    if (differs)
        *differs = 0;
    const Measured *m = results_find(s, s->assignment->level, 0);
    if (m)
        return &m->effect;
    m = results_newest(s);
    if (!m)
        return NULL;
    for (int64_t i = 0; differs && i < s->model->nlinears; i++)
        *differs += m->level[i] != s->assignment->level[i];
    if (differs && *differs == 0) /* as recorded by a program that took other things into its key */
        *differs = 1;
    return &m->effect;
}

const Effect *session_other_effect(Session *s, const char **recipe)
{
    const Results *r = s->results;
    *recipe = NULL;
    if (!s->model || !r->nmeasured || session_effect(s, NULL))
        return NULL;
    const Measured *m = &r->measured[r->nmeasured - 1];
    if (m->recipe && strcmp(recipe_name(m->recipe), recipe_name(s->recipe)) != 0)
        *recipe = recipe_name(m->recipe);
    return &m->effect;
}

/* ---- identity ---- */

/* base: NULL: whatever a recipe makes of the model. */
static void identity_of(const Session *s, const Digest *base, char out[65])
{
    Hasher h;
    hasher_init(&h);
    hasher_str(&h, s->model ? s->model->fingerprint : "");
    hasher_str(&h, s->calib_path ? s->calib_print : session_calib(s));
    texts_hash(s, &h);
    hasher_u64(&h, arith_table[s->opt.arith].code);
    hasher_u64(&h, s->opt.peer);
    hasher_u64(&h, (uint64_t)s->opt.max_samples);
    hasher_u64(&h, (uint64_t)s->opt.seq_len);
    if (base && base_changed(base))
        hasher_bytes(&h, base->b, sizeof base->b);
    Digest d = hasher_end(&h);
    digest_hex(&d, out);
}

void identity_now(const Session *s, char out[65])
{
    const Digest base = base_now(s);
    identity_of(s, &base, out);
}

static uint64_t text_digest(const char *text, bool peer)
{
    Hasher h;
    hasher_init(&h);
    hasher_str(&h, text);
    hasher_u64(&h, peer);
    Digest d = hasher_end(&h);
    uint64_t first;
    memcpy(&first, d.b, sizeof first);
    return first;
}

ScoreOrigin origin_of_identity(const Session *s, const char *identity, bool changed)
{
    const char *model = s->model ? s->model->fingerprint : "";
    Str eval = {0};
    str_printf(&eval, "%s %s %lld %lld", identity, s->eval_path ? s->eval_print : session_eval(s), (long long)s->opt.ctx,
               (long long)s->opt.eval_tokens);
    ScoreOrigin o = {.model = text_digest(changed ? identity : model, s->opt.peer), /* weights change with the texts then */
                     .data = text_digest(identity, false), .eval = text_digest(str_text(&eval), false)};
    str_free(&eval);
    return o;
}

ScoreOrigin origin_now(const Session *s)
{
    const Digest base = base_now(s);
    char now[65];
    identity_of(s, &base, now);
    return origin_of_identity(s, now, base_changed(&base));
}

ScoreOrigin origin_unchanged(const Session *s)
{
    char now[65];
    identity_of(s, NULL, now);
    return origin_of_identity(s, now, false);
}

/* Everything that a measurement depends on but the level of each linear; the order of work tells what changes the model. */
static void hash_setting(const Session *s, const Recipe *r, Hasher *h)
{
    char id[65];
    identity_of(s, NULL, id);
    hasher_str(h, id);
    hasher_str(h, s->eval_path ? s->eval_print : session_eval(s));
    hasher_u64(h, (uint64_t)s->opt.ctx);
    hasher_u64(h, s->opt.seed);
    for (int i = 0; i < recipe_entries(r); i++) {
        qspec_hash(h, &recipe_entry(r, i)->q.act);
        qspec_hash(h, &recipe_entry(r, i)->q.weight);
    }
}

static Digest end_setting(const Session *s, const Recipe *r, Hasher *h)
{
    const Work work = {.recipe = r, .peer = s->opt.peer};
    if (work_ordered(&work)) {
        Digest order = work_order(&work);
        hasher_bytes(h, order.b, sizeof order.b);
    }
    work_hash_attention(r, h);
    return hasher_end(h);
}

Digest recipe_key(const Session *s, const Recipe *r, const int16_t *level)
{
    Hasher h;
    hasher_init(&h);
    hash_setting(s, r, &h);
    hasher_bytes(&h, level, (size_t)s->model->nlinears * sizeof *level);
    return end_setting(s, r, &h);
}

Digest assignment_key(const Session *s, const int16_t *level)
{
    return recipe_key(s, s->recipe, level);
}

Digest recipe_fit_key(const Session *s, const Recipe *r)
{
    Hasher h;
    hasher_init(&h);
    hasher_str(&h, "all assignments");
    hash_setting(s, r, &h);
    return end_setting(s, r, &h);
}

Digest fit_key(const Session *s)
{
    return recipe_fit_key(s, s->recipe);
}

void results_mark_stale(Session *s)
{
    Results *r = s->results;
    r->loss_whole++;
    r->version++; /* predictions, too, are of the present data and arithmetic */
    r->loss_version++;
    r->levels_seen = 0;
    if (!r->scores.m)
        return;
    bases_follow(s);
    const ScoreOrigin now = origin_now(s);
    scores_mark_stale(&r->scores, &now);
    table_scores_changed(s->table);
}

DataInfo session_calib_info(const Session *s)
{
    return s->results->calib_info;
}

DataInfo session_eval_info(const Session *s)
{
    return s->results->eval_info;
}

const QuantizeDone *session_quantized(const Session *s)
{
    return s->results->quantized;
}

/* ---- scores ---- */

void scored_levels(const Session *s, int16_t *out)
{
    const Assignment *a = s->assignment;
    for (int64_t i = 0; i < s->model->nlinears; i++)
        out[i] = scored_level(a, i);
}

/* Whether all are still scored at what values were compared with. */
static bool compared_hold(const Session *s)
{
    const Results *r = s->results;
    const Assignment *a = s->assignment;
    if (r->compared_opened != a->opened_version)
        return false;
    for (int64_t i = 0; i < s->model->nlinears; i++)
        if (r->compared[i] != scored_level(a, i))
            return false;
    return true;
}

/* Chooses among the values of all metrics. Without memory they stay as they are. */
static void choose_all(const Session *s, const ScoreOrigin *now)
{
    Results *r = s->results;
    size_t n = (size_t)s->model->nlinears;
    int16_t *level = mem_array(n, sizeof *level);
    uint64_t *key = mem_array(n + (size_t)model_depth(s->model) + 1, sizeof *key);
    for (int k = 0; level && key && metric_table[k]; k++) {
        if (!r->scores.unit[k])
            continue;
        scored_keys(s, metric_table[k], level, key);
        for (int64_t u = 0; u < scope_units(s->model, metric_table[k]->scope); u++)
            scores_choose(&r->scores, metric_table[k], u, key[u], now);
    }
    scored_levels(s, r->compared);
    r->compared_opened = s->assignment->opened_version;
    r->chosen++;
    free(level);
    free(key);
}

/* Among those that the news are about. */
static void choose_news(const Session *s, const ScoreOrigin *now)
{
    Results *r = s->results;
    for (uint64_t at = r->news_seen; at < r->nnews; at++) {
        const ScoreNews *n = &r->news[at % SCORE_NEWS];
        if (n->metric && n->unit >= 0 && n->unit < scope_units(s->model, n->metric->scope))
            scores_choose(&r->scores, n->metric, n->unit, scored_key(s, n->metric, n->unit, r->compared), now);
    }
}

void results_compare_levels(const Session *s)
{
    Results *r = s->results;
    const Assignment *a = s->assignment;
    bool edited = r->levels_seen != a->version + 1, news = r->news_seen != r->nnews;
    if (!edited && !news)
        return;
    const ScoreOrigin now = origin_now(s);
    if (!r->levels_seen || r->nnews - r->news_seen > SCORE_NEWS || (edited && !compared_hold(s)))
        choose_all(s, &now);
    else if (news)
        choose_news(s, &now);
    r->levels_seen = a->version + 1;
    r->news_seen = r->nnews;
}

/* What is there of a unit; SCORE_NONE without a reason: nothing. */
static Score unit_score(const Session *s, const Metric *m, int64_t unit)
{
    const Assignment *a = s->assignment;
    const Scores *sc = &s->results->scores;
    bool linear = m->scope == SCOPE_LINEAR;
    if (!m->pass->has)
        results_compare_levels(s);
    if (!metric_has(m, sc, unit))
        return (Score){.state = SCORE_NONE, .value = NAN};
    if (linear && m->pass == &pass_statistics && (m->needs & NEED_INPUT) && session_unseen(s, unit))
        return (Score){.state = SCORE_NONE, .value = NAN, .reason = "no token reached it"};
    const UnitSlot *slot = m->pass->has ? NULL : scores_unit(sc, m, unit);
    if (slot && slot->s.absent)
        return (Score){.state = SCORE_NONE, .value = NAN, .reason = slot->s.why};
    char *why = s->results->why;
    QConfig own;
    const QConfig *q = linear ? level_config(a, a->level[unit] ? a->level[unit] : a->home[unit]) : NULL;
    q = linear && session_scheme(s, m->pass, &own) ? &own : q;
    why[0] = 0;
    double v = metric_score(m, sc, unit, q, why, WHY_MAX);
    if (isnan(v) && slot && slot->s.why[0]) /* its own text lasts */
        return (Score){.state = SCORE_FAILED, .value = NAN, .reason = slot->s.why};
    if (isnan(v) || why[0])
        return (Score){.state = SCORE_FAILED, .value = NAN, .reason = why[0] ? why : "not defined for this input"};
    return (Score){.state = metric_stale(m, sc, unit) ? SCORE_STALE : SCORE_OK, .value = v};
}

Score session_unit_score(const Session *s, const Metric *m, int64_t unit)
{
    Score sc = unit_score(s, m, unit);
    if (sc.state == SCORE_NONE && !sc.reason && queue_will_score(s, m, unit))
        sc.state = SCORE_QUEUED;
    return sc;
}

Score results_score(const Session *s, const Metric *m, int64_t linear)
{
    int64_t unit = scope_unit_of(s->model, m->scope, linear);
    return unit < 0 ? (Score){.state = SCORE_NONE, .value = NAN} : unit_score(s, m, unit);
}

Score session_score(const Session *s, const Metric *m, int64_t linear)
{
    int64_t unit = scope_unit_of(s->model, m->scope, linear);
    return unit < 0 ? (Score){.state = SCORE_NONE, .value = NAN} : session_unit_score(s, m, unit);
}

const double *session_unit_parts(const Session *s, const Metric *m, int64_t unit)
{
    results_compare_levels(s);
    const UnitSlot *u = m->parts ? scores_unit(&s->results->scores, m, unit) : NULL;
    return u ? u->s.part : NULL;
}

int64_t session_unit_tokens(const Session *s, const Metric *m, int64_t unit)
{
    const Scores *sc = &s->results->scores;
    const UnitSlot *u = scores_unit(sc, m, unit);
    if (m->pass != &pass_statistics)
        return u && !m->pass->data_free ? u->s.tokens : -1;
    return m->scope == SCOPE_LINEAR && sc->linear[unit].needs ? sc->linear[unit].r.in.rows : -1;
}

bool session_has_run(const Session *s, const Metric *m)
{
    const Results *r = s->results;
    bool statistics = m->pass == &pass_statistics;
    if (!s->model || (statistics && (m->needs & ~r->needs_met)) || (!m->pass->has && !m->loaded && !r->scores.unit[metric_index(m)]))
        return false;
    for (int64_t u = 0; u < scope_units(s->model, m->scope); u++)
        if (metric_has(m, &r->scores, u))
            return true;
    return false;
}

const LinearResult *session_result(const Session *s, int64_t linear)
{
    const LinearStats *l = &s->results->scores.linear[linear];
    return l->needs ? &l->r : NULL;
}

unsigned session_unit_ariths(const Session *s, const Metric *m, int64_t unit)
{
    return metric_ariths(m, &s->results->scores, unit);
}
