/* The present assignment measured under other calibration texts: without one text, or with another set. Each is an ordinary
 * measurement under its own key, so what is there already is not run again, after a kill neither. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/file.h"
#include "session/assignment.h"
#include "session/engine.h"
#include "session/entries.h"
#include "session/fields.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/results.h"
#include "session/start.h"
#include "session/texts.h"

void trial_fini(Trial *t)
{
    free(t->path);
    free(t->name);
    *t = (Trial){0};
}

/* ---- the session as it would be ---- */

/* What a trial puts other things in the place of. */
typedef struct Before {
    char *path, *name, print[65];
    TextsChange change;
} Before;

/* The set that is open, less one text. */
static Status less_one(const Session *s, int number, TextsChange *to, Error *err)
{
    const TextsChange *now = texts_now(s);
    int n = now ? now->nout : 0, at = 0;
    *to = now ? *now : (TextsChange){0};
    texts_base(s, to->base);
    to->out = mem_array((size_t)n + 1, sizeof *to->out);
    if (!to->out)
        return error_nomem(err, "the calibration set");
    while (at < n && now->out[at] < number) {
        to->out[at] = now->out[at];
        at++;
    }
    to->out[at] = number;
    for (int i = at; i < n; i++)
        to->out[i + 1] = now->out[i];
    to->nout = n + 1;
    return ST_OK;
}

/* Until trial_end the session has the trial's texts: all that is asked of it in between is of them. */
static Status trial_begin(Session *s, const Trial *t, Before *b, Error *err)
{
    TextsChange change = {0};
    *b = (Before){.path = s->calib_path, .name = s->calib_name, .change = s->texts->change};
    memcpy(b->print, s->calib_print, sizeof b->print);
    if (t->number)
        RETURN_IF_ERROR(less_one(s, t->number, &change, err));
    s->texts->change = change;
    s->texts->aside = true;
    if (!t->number) {
        s->calib_path = t->path;
        s->calib_name = t->name;
        memcpy(s->calib_print, t->print, sizeof s->calib_print);
    }
    return ST_OK;
}

static void trial_end(Session *s, const Trial *t, const Before *b)
{
    if (t->number)
        free(s->texts->change.out); /* all else is borrowed */
    s->texts->change = b->change;
    s->texts->aside = false;
    s->calib_path = b->path;
    s->calib_name = b->name;
    memcpy(s->calib_print, b->print, sizeof b->print);
}

/* Whether a trial says something of the set that is open. */
static bool applies(const Session *s, const Trial *t)
{
    char base[128];
    const TextsChange *c = texts_now(s);
    texts_base(s, base);
    if (!t->number)
        return true;
    for (int i = 0; c && i < c->nout; i++)
        if (c->out[i] == t->number)
            return false;
    return strcmp(base, t->base) == 0;
}

static const Measured *measured_of(Session *s, const Trial *t, int64_t tokens)
{
    Before b;
    if (!applies(s, t) || trial_begin(s, t, &b, NULL) != ST_OK)
        return NULL;
    const Measured *m = results_find(s, s->assignment->level, tokens);
    trial_end(s, t, &b);
    return m && (tokens == 0 || m->effect.tokens == tokens) ? m : NULL;
}

/* ---- queueing ---- */

static void trial_title(const Trial *t, char *out, size_t size)
{
    if (t->number)
        snprintf(out, size, "measure without text %d", t->number);
    else
        snprintf(out, size, "measure with %.50s", path_base(t->name));
}

static Status need_measure(const Session *s, Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    return session_busy(s) ? error_set(err, ST_USAGE, "a job runs: stop it or wait, then measure other texts") : ST_OK;
}

/* How many tokens the measurements are over: those of the present one, where it is there. */
static const Measured *present(const Session *s, bool full)
{
    const Measured *m = results_find(s, s->assignment->level, 0);
    return m && (!full || m->effect.whole) ? m : NULL;
}

static Status queue_trial(Session *s, const Trial *t, bool full, int *queued, Error *err)
{
    Before b;
    char title[80];
    const Measured *now = present(s, full);
    if (now && measured_of(s, t, now->effect.tokens))
        return ST_OK;
    RETURN_IF_ERROR(trial_begin(s, t, &b, err));
    trial_title(t, title, sizeof title);
    Status st = job_measure(s, s->recipe, s->assignment->level, full, title, err);
    trial_end(s, t, &b);
    *queued += st == ST_OK;
    return st;
}

/* The measurement that the others are held against. */
static Status queue_present(Session *s, bool full, int *queued, Error *err)
{
    if (present(s, full))
        return ST_OK;
    RETURN_IF_ERROR(job_measure(s, s->recipe, s->assignment->level, full, "measure with the set as it is", err));
    (*queued)++;
    return ST_OK;
}

static bool same_trial(const Trial *a, const Trial *b)
{
    return a->number == b->number && strcmp(a->base, b->base) == 0 && strcmp(a->print, b->print) == 0;
}

/* Takes *t over; one that is there is kept. */
static Status keep_trial(Session *s, Trial *t, int *at, Error *err)
{
    Texts *x = s->texts;
    for (*at = 0; *at < x->ntrials; (*at)++)
        if (same_trial(&x->trial[*at], t)) {
            trial_fini(t);
            return ST_OK;
        }
    if (!mem_grow(&x->trial, &x->cap_trials, (size_t)x->ntrials + 1, sizeof *x->trial)) {
        trial_fini(t);
        return error_nomem(err, "a list of sets");
    }
    x->trial[x->ntrials++] = *t;
    x->version++;
    entry_trial(s, &x->trial[*at]);
    return ST_OK;
}

static Status run_one(Session *s, Trial *t, bool full, int *queued, Error *err)
{
    int at;
    RETURN_IF_ERROR(keep_trial(s, t, &at, err));
    return queue_trial(s, &s->texts->trial[at], full, queued, err);
}

/* ---- by block_error ---- */

static const Metric *loss_metric(void)
{
    return metric_find("block_error");
}

/* A linear of a group, -1: it has none. */
static int64_t linear_of(const Model *m, MetricScope scope, int64_t unit)
{
    int64_t from, to;
    scope_linears(m, scope, unit, &from, &to);
    while (from < to && scope_unit_of(m, scope, from) != unit)
        from++;
    return from < to ? from : -1;
}

double session_loss(Session *s)
{
    const Metric *m = loss_metric();
    double sum = 0;
    for (int64_t u = 0; u < scope_units(s->model, m->scope); u++) {
        int64_t i = linear_of(s->model, m->scope, u);
        if (i < 0 || s->assignment->level[i] == 0)
            continue;
        Score sc = session_unit_score(s, m, u);
        sum += sc.state == SCORE_OK ? sc.value : (double)NAN;
    }
    return sum;
}

void texts_loss_found(Session *s, const Job *j)
{
    const Metric *m = loss_metric();
    char base[128];
    double sum = 0;
    texts_base(s, base);
    for (int64_t u = 0; u < scope_units(s->model, m->scope); u++)
        sum += j->found[u] < 0 ? 0 : j->found[u];
    for (int k = 0; k < s->texts->ntrials; k++) {
        Trial *t = &s->texts->trial[k];
        if (t->number != j->without || strcmp(t->base, base) != 0)
            continue;
        t->scored = true;
        t->key = j->key;
        t->loss = sum;
        s->texts->version++;
        entry_trial(s, t);
        session_log(s, 0, "without text %d block_error adds up to %.4g", t->number, sum);
    }
}

/* NaN where it was not found at the present levels and settings. */
static double loss_of(Session *s, const Trial *t)
{
    Before b;
    if (!t->scored || !applies(s, t) || trial_begin(s, t, &b, NULL) != ST_OK)
        return NAN;
    const Digest key = assignment_key(s, s->assignment->level);
    trial_end(s, t, &b);
    return digest_cmp(&key, &t->key) == 0 ? t->loss : (double)NAN;
}

static Status queue_loss(Session *s, const Trial *t, int *queued, Error *err)
{
    Before b;
    Job *j = NULL;
    if (isfinite(loss_of(s, t)))
        return ST_OK;
    RETURN_IF_ERROR(trial_begin(s, t, &b, err));
    Status st = start_aside(s, loss_metric(), NULL, 0, &j, err);
    size_t n = (size_t)scope_units(s->model, loss_metric()->scope);
    if (st == ST_OK && !(j->found = mem_array(n + 1, sizeof *j->found))) {
        job_free(j);
        st = error_nomem(err, "a job");
    }
    if (st == ST_OK) {
        for (size_t u = 0; u < n; u++) { /* below 0: it is float now, and no loss */
            int64_t i = linear_of(s->model, loss_metric()->scope, (int64_t)u);
            j->found[u] = i < 0 || s->assignment->level[i] == 0 ? -1 : (double)NAN;
        }
        j->without = t->number;
        j->key = assignment_key(s, s->assignment->level);
        snprintf(j->title, sizeof j->title, "block_error without text %d", t->number);
        st = job_enqueue(s, j, err);
    }
    trial_end(s, t, &b);
    *queued += st == ST_OK;
    return st;
}

/* The texts that are worth it where none was named: flagged ones, else the four that widen ranges most. */
static Status choose(const TextTable *t, bool *hit, Error *err)
{
    enum { MOST = 4 };
    if (!t->sums.ranged)
        return error_set(err, ST_USAGE, "which texts? calib loo N...; after analyze text_range the suspicious ones are known");
    for (int n = 0; n < t->n && (t->sums.flagged || n < MOST); n++) {
        int best = -1;
        for (int i = 0; i < t->n; i++) {
            const TextRanges *r = &t->row[i].ranges, *b = best < 0 ? NULL : &t->row[best].ranges;
            if (hit[i] || !t->row[i].used || !r->sets || (t->sums.flagged && !t->row[i].flag))
                continue;
            if (!b || r->widens > b->widens || (r->widens == b->widens && r->middle > b->middle))
                best = i;
        }
        if (best < 0)
            break;
        hit[best] = true;
    }
    return ST_OK;
}

static Status look_at_targets(Session *s, const char *const *targets, int n, bool **hit, int *total, Error *err)
{
    RETURN_IF_ERROR(texts_target(s, targets, n, hit, total, err));
    const TextTable *t = session_texts(s, NULL);
    Status st = !t ? error_nomem(err, "the texts") : n ? ST_OK : choose(t, *hit, err);
    for (int i = 0; st == ST_OK && i < *total; i++)
        if ((*hit)[i] && !t->row[i].used)
            st = error_set(err, ST_USAGE, "text %d is not used (%s): there is nothing to leave out", i + 1,
                           text_state_name(t->row[i].state));
    if (st == ST_OK && t->sums.used < 2)
        st = error_set(err, ST_USAGE, "one text is used: without it there would be none");
    if (st != ST_OK)
        free(*hit);
    return st;
}

Status session_texts_loo(Session *s, const char *const *targets, int n, bool full, int *queued, Error *err)
{
    bool *hit;
    int total;
    *queued = 0;
    RETURN_IF_ERROR(need_measure(s, err));
    RETURN_IF_ERROR(engine_meet(s, s->recipe, err));
    RETURN_IF_ERROR(look_at_targets(s, targets, n, &hit, &total, err));
    Status st = queue_present(s, full, queued, err);
    for (int i = 0; st == ST_OK && i < total; i++) {
        Trial t = {.number = i + 1};
        texts_base(s, t.base);
        if (hit[i])
            st = run_one(s, &t, full, queued, err);
    }
    free(hit);
    return st;
}

Status session_texts_loo_loss(Session *s, const char *const *targets, int n, int *queued, Error *err)
{
    const char *const metric[] = {loss_metric()->name, NULL};
    bool *hit;
    int total;
    *queued = 0;
    RETURN_IF_ERROR(need_measure(s, err));
    RETURN_IF_ERROR(look_at_targets(s, targets, n, &hit, &total, err));
    Status st = isfinite(session_loss(s)) ? ST_OK : session_analyze(s, metric, NULL, 0, false, err);
    *queued += session_busy(s);
    for (int i = 0; st == ST_OK && i < total; i++) {
        Trial t = {.number = i + 1};
        int at;
        texts_base(s, t.base);
        if (hit[i] && (st = keep_trial(s, &t, &at, err)) == ST_OK)
            st = queue_loss(s, &s->texts->trial[at], queued, err);
    }
    free(hit);
    return st;
}

static Status set_trial(Session *s, const char *name, Trial *t, Error *err)
{
    CalibFile *file;
    *t = (Trial){.name = strdup(name)};
    bool named = file_exists(name);
    t->path = named ? realpath(name, NULL) : s->opt.find_data ? s->opt.find_data(s->opt.find_ctx, name, err) : strdup(name);
    if (!t->name || !t->path)
        return err->status != ST_OK ? err->status : error_nomem(err, "a path");
    RETURN_IF_ERROR(calib_open(&file, t->path, s->opt.peer, NULL, err));
    calib_free(file);
    return data_print(t->path, t->print, err);
}

Status session_calib_compare(Session *s, const char *const *names, int n, bool full, int *queued, Error *err)
{
    Error why = {0};
    *queued = 0;
    RETURN_IF_ERROR(need_measure(s, err));
    RETURN_IF_ERROR(engine_meet(s, s->recipe, err));
    Trial *t = mem_zarray((size_t)n + 1, sizeof *t);
    Status st = t ? ST_OK : error_nomem(err, "a list of sets");
    for (int i = 0; st == ST_OK && i < n; i++) /* all of them are looked at before the first one runs */
        if ((st = set_trial(s, names[i], &t[i], &why)) != ST_OK)
            error_set(err, st, "%s", why.text);
    if (st == ST_OK)
        st = queue_present(s, full, queued, err);
    for (int i = 0; t && i < n; i++) {
        if (st == ST_OK)
            st = run_one(s, &t[i], full, queued, err);
        else
            trial_fini(&t[i]);
    }
    free(t);
    return st;
}

/* ---- what came of it ---- */

int session_calib_trials(Session *s)
{
    return s->model ? s->texts->ntrials : 0;
}

CalibTrial session_calib_trial(Session *s, int i)
{
    const Trial *t = &s->texts->trial[i];
    const Measured *now = results_find(s, s->assignment->level, 0);
    const Measured *m = measured_of(s, t, now ? now->effect.tokens : 0);
    CalibTrial c = {.number = t->number, .name = t->number ? NULL : t->name, .applies = applies(s, t),
                    .loss = loss_of(s, t)};
    if (!m)
        return c;
    c.effect = &m->effect;
    c.made = &m->made;
    c.paired = (Paired){.state = PAIR_SET, .kl = NAN, .kl_se = NAN, .ppl = NAN, .ppl_se = NAN};
    if (now)
        c.paired = paired_of(&m->effect, m->blocks, &now->effect, now->blocks);
    return c;
}

void texts_put_loo(Session *s, TextRow *row, int n)
{
    const double now = session_calib_trials(s) ? session_loss(s) : (double)NAN;
    for (int i = 0; i < session_calib_trials(s); i++) {
        int number = s->texts->trial[i].number;
        CalibTrial c = number && number <= n ? session_calib_trial(s, i) : (CalibTrial){0};
        if (number && number <= n && isfinite(c.loss) && now > 0)
            row[number - 1].loss = 1 - c.loss / now;
        if (c.effect && c.applies && c.paired.state == PAIR_OK) {
            row[number - 1].loo = c.paired.kl;
            row[number - 1].loo_se = c.paired.kl_se;
        }
    }
}

/* ---- the journal ---- */

void trial_record(Str *b, const Trial *t)
{
    str_printf(b, "\"number\":%d", t->number);
    str_puts(b, ",\"base\":");
    str_json(b, t->base);
    if (t->scored) {
        char key[65];
        digest_hex(&t->key, key);
        str_printf(b, ",\"key\":\"%s\",\"loss\":", key);
        str_double(b, t->loss);
    }
    if (t->number)
        return;
    str_puts(b, ",\"path\":");
    str_json(b, t->path);
    str_puts(b, ",\"name\":");
    str_json(b, t->name);
    str_printf(b, ",\"print\":\"%s\"", t->print);
}

Status trial_restore(Session *s, const cJSON *o, Error *err)
{
    Trial t = {.number = (int)whole_in(o, "number", 0, INT32_MAX, -1)};
    const char *base = text_of(o, "base"), *path = text_of(o, "path"), *name = text_of(o, "name"), *print = text_of(o, "print");
    int at;
    if (t.number < 0 || !base || (!t.number && (!path || !name || !print || strlen(print) != 64)))
        return error_set(err, ST_DATA, "a record of a calibration set that was tried is damaged");
    snprintf(t.base, sizeof t.base, "%s", base);
    if (!t.number) {
        t.path = strdup(path);
        t.name = strdup(name);
        memcpy(t.print, print, sizeof t.print);
        if (!t.path || !t.name) {
            trial_fini(&t);
            return error_nomem(err, "a list of sets");
        }
    }
    const Trial found = {.scored = digest_parse(text_of(o, "key"), &t.key), .key = t.key, .loss = num_of(o, "loss", NAN)};
    RETURN_IF_ERROR(keep_trial(s, &t, &at, err));
    if (found.scored) {
        s->texts->trial[at].scored = true;
        s->texts->trial[at].key = found.key;
        s->texts->trial[at].loss = found.loss;
    }
    return ST_OK;
}
