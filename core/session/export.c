/* The assignment as a recipe or in another tool's words: preview, checks, atomic write. */
#include "session/assignment.h"
#include "session/parts.h"
#include "session/results.h"
#include "session/sizes.h"
#include "session/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "export/export.h"
#include "io/file.h"

enum { MAX_COMMENTS = 8, COMMENT_LEN = 240 };

typedef struct Comments {
    char text[MAX_COMMENTS][COMMENT_LEN];
    const char *list[MAX_COMMENTS + 1];
    int n;
} Comments;

static void add_comment(Comments *c, const char *key, const char *value)
{
    if (c->n == MAX_COMMENTS)
        return;
    char *t = c->text[c->n];
    snprintf(t, COMMENT_LEN, "%s: %s", key, value);
    t[text_fit_terminal(t, strlen(t), false)] = '\0'; /* YAML wants UTF-8 without control characters, too */
    c->list[c->n++] = t;
    c->list[c->n] = NULL;
}

/* Where the decision came from. No time stamp: the same work gives the same bytes. */
static void provenance(Session *s, Comments *c)
{
    char line[COMMENT_LEN];
    memset(c, 0, sizeof *c);
    add_comment(c, "tool", "slimscope " SLIMSCOPE_VERSION);
    snprintf(line, sizeof line, "%s, fingerprint %.16s", path_base(s->model->path), s->model->fingerprint);
    add_comment(c, "model", line);
    const DataInfo *d = &s->results->calib_info;
    if (d->samples) {
        snprintf(line, sizeof line, "%s, sha256 %.16s, %d samples, %lld tokens", path_base(d->name), d->sha256,
                 d->samples, (long long)d->tokens);
        add_comment(c, "calibration", line);
    }
    const Metric *m = s->table->metric;
    if (m && session_has_run(s, m)) {
        unsigned set = 0;
        Str names = {0};
        for (int64_t u = 0; u < scope_units(s->model, m->scope); u++)
            set |= session_unit_ariths(s, m, u);
        arith_names(set, &names);
        snprintf(line, sizeof line, "%s, %s arithmetic", m->name, str_text(&names));
        str_free(&names);
        add_comment(c, "metric", line);
    }
    int64_t differs;
    const Effect *e = session_effect(s, &differs);
    if (e && differs == 0) {
        snprintf(line, sizeof line,
                 "KL %.4g +- %.2g nats/token, perplexity float %.4g, quantized %.4g (%lld tokens of %s), %s arithmetic",
                 e->kl_mean, e->kl_se, e->ppl_float, e->ppl_quant, (long long)e->tokens, path_base(session_eval(s)),
                 arith_name(e->arith));
        add_comment(c, "measured", line);
    } else {
        add_comment(c, "measured", "not measured with this assignment");
    }
}

static void check_measured(Session *s, Export *e)
{
    int64_t differs = 0;
    const Effect *f = session_effect(s, &differs);
    if (!f)
        export_add_check(e, false, false, "nothing was measured: 'measure' tells what this costs");
    else if (differs)
        export_add_check(e, false, false, "the measurement is stale: %lld linear%s had another level, measure again",
                         (long long)differs, differs == 1 ? "" : "s");
    else
        export_add_check(e, true, false, "measured: KL %.4g, perplexity %.4g (float %.4g)", f->kl_mean, f->ppl_quant,
                         f->ppl_float);
}

static void amount(const Budget *b, double v, char out[32])
{
    static const double mib = 1024 * 1024;
    if (b->bits)
        snprintf(out, 32, "%.2f bits", v);
    else
        snprintf(out, 32, v < mib ? "%.0f KiB" : "%.2f MiB", v < mib ? v / 1024 : v / mib);
}

/* Against the budget, where one is set: a remark, as it is the user's own wish. */
static void check_budget(Session *s, Export *e)
{
    Budget b;
    char used[32], limit[32], over[32];
    if (!session_budget(s, &b))
        return;
    amount(&b, b.used, used);
    amount(&b, b.limit, limit);
    amount(&b, b.used - b.limit, over);
    if (b.used > b.limit)
        export_add_check(e, false, false, "over the budget of %s by %s: 'trim' takes the least useful group back", limit, over);
    else
        export_add_check(e, true, false, "within the budget: %s of %s", used, limit);
}

/* What was typed as several rules may be written as fewer. */
static void check_rows(Session *s, Export *e)
{
    int on = 0;
    for (int i = 0; i < session_whatifs(s); i++)
        on += session_whatif(s, i)->on;
    if (e->added > 0 && on > e->added)
        export_add_check(e, true, false, "%d what-if rows are written as %d pattern%s that select%s the same", on,
                         e->added, e->added == 1 ? "" : "s", e->added == 1 ? "s" : "");
}

/* ---- scores beside it ---- */

static void columns_free(ExportColumn *c, int n)
{
    for (int i = 0; i < n; i++)
        free((void *)c[i].value);
    free(c);
}

/* A column for each metric that there are scores of. */
static Status score_columns(Session *s, ExportColumn **out, int *n, Error *err)
{
    const Metric *const *m = session_metrics(s);
    ExportColumn *c = mem_zarray(metric_list_len(m) + 1, sizeof *c);
    *n = 0;
    for (int k = 0; c && m[k]; k++) {
        if (!session_has_run(s, m[k]))
            continue;
        double *v = mem_array((size_t)s->model->nlinears + 1, sizeof *v);
        if (!v) {
            columns_free(c, *n);
            return error_nomem(err, "an export");
        }
        for (int64_t i = 0; i < s->model->nlinears; i++) {
            Score score = session_score(s, m[k], i);
            v[i] = score.state == SCORE_OK ? score.value : NAN;
        }
        c[(*n)++] = (ExportColumn){m[k]->name, v};
    }
    *out = c;
    return c ? ST_OK : error_nomem(err, "an export");
}

/* ---- the whole ---- */

static Status write_form(Session *s, const ExportForm *f, const char *const *comments, const char *old, Export *out,
                         Error *err)
{
    ExportInput in = {.model = s->model, .recipe = s->recipe, .level = s->assignment->level,
                      .level_name = (const char (*)[48])s->assignment->level_name, .sizing = sizing_of(s, s->recipe),
                      .runtime = s->opt.runtime, .comments = comments, .against = old};
    ExportColumn *c = NULL;
    RETURN_IF_ERROR(score_columns(s, &c, &in.ncolumns, err));
    in.column = c;
    Status st = export_write(f, &in, out, err);
    columns_free(c, in.ncolumns);
    return st;
}

Status session_export_preview(Session *s, const char *path, const char *as, Export *out, Error *err)
{
    const ExportForm *f;
    memset(out, 0, sizeof *out);
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    RETURN_IF_ERROR(export_form_choose(as, path, &f, err));
    const bool recipe = f == export_form_table[0];
    Comments c;
    provenance(s, &c);
    char *old = NULL;
    size_t len;
    if (recipe && path && file_exists(path))
        RETURN_IF_ERROR(file_read(path, 1u << 20, &old, &len, err));
    Status st = write_form(s, f, c.list, old, out, err);
    if (st == ST_OK) {
        check_measured(s, out);
        check_budget(s, out);
    }
    if (st == ST_OK && recipe)
        check_rows(s, out);
    free(old);
    return st;
}

static const ExportCheck *blocked_by(const Export *e)
{
    for (int i = 0; i < e->nchecks; i++)
        if (!e->checks[i].ok && e->checks[i].blocking)
            return &e->checks[i];
    return NULL;
}

Status session_export(Session *s, const char *path, const char *as, bool force, Error *err)
{
    if (s->opt.read_only)
        return error_set(err, ST_USAGE, "opened with --read-only: nothing is written");
    Export e;
    Status st = session_export_preview(s, path, as, &e, err);
    if (st == ST_OK && file_exists(path) && !force) {
        st = file_holds(path, str_text(&e.text), e.text.len)
                 ? ST_OK
                 : error_set(err, ST_IO, "'%s' is there already with other content: add ! to replace it", path);
        export_fini(&e);
        return st;
    }
    const ExportCheck *why = st == ST_OK && !force ? blocked_by(&e) : NULL;
    if (why)
        st = error_set(err, why->rule ? ST_DATA : ST_FAIL,
                       "not written: %s: mend it, or add ! to write all the same", why->text);
    if (st == ST_OK)
        st = file_write_atomic(path, str_text(&e.text), e.text.len, err);
    export_fini(&e);
    return st;
}
