/* Marks of what is to be compared. */
#include "session/kept.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "session/assignment.h"
#include "session/entries.h"
#include "session/fields.h"
#include "session/loaded.h"
#include "session/parts.h"
#include "session/results.h"

/* ---- runs ---- */

void kept_made_of(const Session *s, char *out, size_t size)
{
    DataInfo d = session_calib_info(s);
    int n = d.samples ? snprintf(out, size, "%s, %d text%s, %lld tokens #%.4s, ", path_base(d.name), d.samples,
                                 d.samples == 1 ? "" : "s", (long long)d.tokens, d.sha256)
                      : 0;
    snprintf(out + n, size - (size_t)n, "%s", arith_name(s->results->scores.arith));
}

void session_scores_from(const Session *s, const Metric *m, Str *out)
{
    char what[300];
    ScoreState state = SCORE_NONE;
    kept_made_of(s, what, sizeof what);
    for (int64_t u = 0; !m->loaded && state != SCORE_OK && state != SCORE_STALE && u < scope_units(s->model, m->scope); u++)
        state = session_unit_score(s, m, u).state;
    if (m->loaded)
        str_printf(out, "%s: %s", m->loaded->kept ? "kept" : "file", m->loaded->file);
    else if (state == SCORE_STALE)
        str_puts(out, "now: STALE, of other data, levels or settings");
    else if (m->pass->data_free)
        str_puts(out, "now: from the weights alone");
    else
        str_printf(out, "now: %s", what);
}

Status session_keep_scores(Session *s, const char *name, int *columns, Error *err)
{
    char what[300];
    kept_made_of(s, what, sizeof what);
    RETURN_IF_ERROR(loaded_keep(s, s, name, what, false, columns, err));
    return *columns ? ST_OK : error_set(err, ST_USAGE, "nothing is scored yet: analyze METRIC");
}

void kept_outdated(Session *s)
{
    DataInfo d = session_calib_info(s);
    char name[32], what[300];
    int columns = 0;
    Error err = {0};
    char now[65];
    if (!s->model || !s->results->scores.m || s->restoring || !d.samples)
        return;
    identity_now(s, now);
    if (strcmp(now, s->results->identity) != 0)
        return; /* stale already */
    snprintf(name, sizeof name, "%s", path_base(d.name));
    char *dot = strrchr(name, '.');
    if (dot && dot > name)
        *dot = '\0';
    kept_made_of(s, what, sizeof what);
    if (loaded_keep(s, s, name, what, true, &columns, &err) != ST_OK)
        session_log(s, 1, "the scores with %s are not kept: %s", path_base(d.name), err.text);
    else if (columns)
        session_log(s, 0, "the scores with %s are kept as %s.METRIC; Compare (4) sets them beside new ones", path_base(d.name), name);
}

/* ---- dropping them ---- */

/* Marks of what is there no more. */
static void unmark(Session *s)
{
    for (int k = 0; k < MARKS; k++)
        if (s->kept->mark[k][0] && !session_marked_metric(s, k) && session_marked_measurement(s, k) < 0) {
            s->kept->mark[k][0] = '\0';
            s->kept->version++;
        }
}

static void drop(Session *s, const char *run, int *columns, int *measured)
{
    *columns = loaded_drop(s, run);
    *measured = foreign_drop(s, run);
    unmark(s);
}

Status session_drop_kept(Session *s, const char *run, int *columns, int *measured, Error *err)
{
    if (metric_find(run))
        return error_set(err, ST_USAGE, "the scores of %s are this session's: only what was kept or brought in is dropped", run);
    drop(s, run, columns, measured);
    if (!*columns && !*measured)
        return error_set(err, ST_USAGE, "nothing was kept, loaded or brought in as '%s'", run);
    entry_drop(s, run);
    return ST_OK;
}

Status drop_restore(Session *s, const cJSON *record, Error *err)
{
    const char *run = text_of(record, "run");
    int columns, measured;
    if (!run)
        return error_set(err, ST_DATA, "the record of a run that was dropped is damaged");
    drop(s, run, &columns, &measured);
    return ST_OK;
}

void session_kept_run(const Session *s, const char *name, char run[THING_MAX])
{
    const char *at = strchr(name, '@'), *dot = strrchr(name, '.');
    const Metric *m = session_metric_find(s, name);
    run[0] = '\0';
    if (m && m->loaded && m->loaded->kept && dot)
        snprintf(run, THING_MAX, "%.*s", (int)(dot - name), name);
    else if (m && m->loaded)
        snprintf(run, THING_MAX, "%s", name);
    else if (!m && at)
        snprintf(run, THING_MAX, "%s", at + 1);
}

/* ---- marks ---- */

static const char *const letters[MARKS] = {[MARK_A] = "A", [MARK_B] = "B"};

void kept_close(Kept *k)
{
    for (int i = 0; i < k->nforeign; i++)
        measured_fini(&k->foreign[i].m);
    free(k->foreign);
    *k = (Kept){.version = k->version + 1};
}

/* Of what is no metric either. */
static Status measurement_named(const Session *s, const char *thing, int *i, Error *err)
{
    bool number = thing[strspn(thing, "#0123456789@")] == '\0', words = strcmp(thing, "present") == 0 ||
                  strcmp(thing, "previous") == 0 || strcmp(thing, "base") == 0;
    if (number || words || strchr(thing, '@'))
        return session_measurement_find(s, thing, i, err);
    return error_set(err, ST_USAGE, "'%s' is no measurement of 'compare list' and no metric: 'help analyses' tells those", thing);
}

static void put_mark(Session *s, int which, const char *thing)
{
    snprintf(s->kept->mark[which], THING_MAX, "%s", thing);
    s->kept->version++;
    entry_mark(s, letters[which], thing);
}

Status session_mark(Session *s, int which, const char *thing, Error *err)
{
    int i;
    char name[THING_MAX] = "";
    const Metric *m = thing ? session_metric_find(s, thing) : NULL;
    if (m && !session_has_run(s, m))
        return error_set(err, ST_USAGE, "%s has no scores yet: analyze %s", m->name, m->name);
    if (m) {
        snprintf(name, sizeof name, "%s", m->name);
    } else if (thing) {
        RETURN_IF_ERROR(measurement_named(s, thing, &i, err));
        snprintf(name, sizeof name, "%s", session_measurement(s, i).name);
    }
    if (name[0] && strcmp(name, s->kept->mark[!which]) == 0) /* it can't be both */
        put_mark(s, !which, "");
    put_mark(s, which, name);
    return ST_OK;
}

const char *session_marked(const Session *s, int which)
{
    return s->kept->mark[which];
}

void session_swap_marks(Session *s)
{
    char a[THING_MAX];
    snprintf(a, sizeof a, "%s", s->kept->mark[MARK_A]);
    char b[THING_MAX];
    snprintf(b, sizeof b, "%s", s->kept->mark[MARK_B]);
    put_mark(s, MARK_A, b);
    put_mark(s, MARK_B, a);
}

const Metric *session_marked_metric(const Session *s, int which)
{
    return session_metric_find(s, session_marked(s, which));
}

int session_marked_measurement(const Session *s, int which)
{
    int i;
    const char *name = session_marked(s, which);
    return *name && session_measurement_find(s, name, &i, NULL) == ST_OK ? i : -1;
}

uint64_t session_compare_version(const Session *s)
{
    return s->kept->version + s->results->version + session_edit_version(s);
}

Status mark_restore(Session *s, const cJSON *record, Error *err)
{
    const char *which = text_of(record, "which"), *thing = text_of(record, "thing");
    for (int k = 0; which && thing && k < MARKS; k++) {
        if (strcmp(which, letters[k]) != 0)
            continue;
        snprintf(s->kept->mark[k], THING_MAX, "%s", thing);
        s->kept->version++;
        return ST_OK;
    }
    return error_set(err, ST_DATA, "the record of a mark is damaged");
}
