/* The what-if list, its previews, and predictions from the additive metric. */
#include "session/whatif.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/assignment.h"
#include "session/parts.h"
#include "session/results.h"

typedef struct Scratch {
    bool *hits, *before;
} Scratch;

static Status scratch_init(Scratch *c, const Session *s, Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    c->hits = mem_zarray((size_t)s->model->nlinears, 1);
    c->before = mem_zarray((size_t)s->model->nlinears, 1);
    if (c->hits && c->before)
        return ST_OK;
    free(c->hits);
    free(c->before);
    return error_nomem(err, "the what-if list");
}

static void scratch_fini(Scratch *c)
{
    free(c->hits);
    free(c->before);
}

/* The linears of a set into a fresh ascending list. */
static Status list_of(const bool *set, int64_t n, int32_t **out, int64_t *count, Error *err)
{
    *count = 0;
    for (int64_t i = 0; i < n; i++)
        *count += set[i];
    *out = mem_array((size_t)*count, sizeof **out);
    if (!*out)
        return error_nomem(err, "the what-if list");
    int32_t *at = *out;
    for (int64_t i = 0; i < n; i++)
        if (set[i])
            *at++ = (int32_t)i;
    return ST_OK;
}

/* What of a row doesn't change with levels and scores; c->before holds what earlier rows select. */
static Status fix_row(const Session *s, PatternRow *row, Scratch *c, Error *err)
{
    const Model *m = s->model;
    WhatIf *w = &row->view;
    Pattern *p;
    RETURN_IF_ERROR(pattern_compile(&p, row->text, err));
    memset(c->hits, 0, (size_t)m->nlinears);
    *w = (WhatIf){.pattern = row->text};
    w->hits = pattern_hits(p, m, c->hits);
    pattern_free(p);
    RETURN_IF_ERROR(pattern_lint(row->text, m, c->before, &w->lint, err));
    for (int64_t i = 0; i < m->nlinears; i++)
        w->fresh += c->hits[i] && !c->before[i];
    RETURN_IF_ERROR(list_of(c->hits, m->nlinears, &row->own, &row->nown, err));
    close_groups(m, c->hits);
    Status st = list_of(c->hits, m->nlinears, &row->closed, &row->nclosed, err);
    if (st != ST_OK) {
        free(row->own);
        row->own = NULL;
    }
    row->fixed = st == ST_OK;
    return st;
}

/* Local error of all linears at their home levels; one sum serves every row until an edit or a result comes. */
static double error_of_all(Session *s)
{
    WhatIfs *w = s->whatifs;
    if (!w->error_known || w->error_version != s->assignment->version || w->error_results != s->results->version) {
        w->error_all = local_sum(s, s->assignment->home);
        w->error_version = s->assignment->version;
        w->error_results = s->results->version;
        w->error_known = true;
    }
    return w->error_all;
}

/* What changes with levels and scores: touches only the linears that the row selects. */
static void figures(Session *s, PatternRow *row)
{
    WhatIf *w = &row->view;
    double all = error_of_all(s), mine = 0;
    w->pattern = row->text;
    w->on = row->nown > 0;
    w->bytes = 0;
    for (int64_t k = 0; k < row->nown; k++)
        w->on &= s->assignment->level[row->own[k]] == 0;
    for (int64_t k = 0; k < row->nclosed; k++) {
        int32_t i = row->closed[k];
        mine += level_error(s, i, s->assignment->home[i]);
        w->bytes += (int64_t)recipe_linear_bytes(s->recipe, s->model, i, 0, s->opt.peer) -
                    (int64_t)recipe_linear_bytes(s->recipe, s->model, i, s->assignment->home[i], s->opt.peer);
    }
    w->share = all > 0 ? mine / all : NAN;
}

Status whatif_add(WhatIfs *w, const char *text, bool *added, Error *err)
{
    if (added)
        *added = false;
    for (size_t i = 0; i < w->n; i++)
        if (strcmp(w->row[i].text, text) == 0)
            return ST_OK;
    char *copy = strdup(text);
    if (!copy || !mem_grow(&w->row, &w->cap, w->n + 1, sizeof *w->row)) {
        free(copy);
        return error_nomem(err, "the what-if list");
    }
    w->row[w->n++] = (PatternRow){.text = copy};
    if (added)
        *added = true;
    return ST_OK;
}

void whatif_clear(WhatIfs *w)
{
    for (size_t i = 0; i < w->n; i++) {
        free(w->row[i].text);
        free(w->row[i].own);
        free(w->row[i].closed);
    }
    free(w->row);
    *w = (WhatIfs){0};
}

int session_whatifs(Session *s)
{
    return (int)s->whatifs->n;
}

/* Fixes rows up to i, earlier ones first: what is fresh in a row depends on them. */
static Status fix_rows(Session *s, int i, Error *err)
{
    Scratch c;
    if (s->whatifs->row[i].fixed)
        return ST_OK;
    RETURN_IF_ERROR(scratch_init(&c, s, err));
    Status st = ST_OK;
    for (int k = 0; k <= i && st == ST_OK; k++) {
        PatternRow *row = &s->whatifs->row[k];
        if (!row->fixed)
            st = fix_row(s, row, &c, err);
        for (int64_t j = 0; row->fixed && j < row->nown; j++)
            c.before[row->own[j]] = true;
        if (k < i) /* an earlier row that cannot be read takes nothing */
            st = ST_OK;
    }
    scratch_fini(&c);
    return st;
}

const WhatIf *session_whatif(Session *s, int i)
{
    PatternRow *row = &s->whatifs->row[i];
    if (!s->model || fix_rows(s, i, NULL) != ST_OK) {
        row->view = (WhatIf){.pattern = row->text, .share = NAN};
        return &row->view;
    }
    figures(s, row);
    return &row->view;
}

Status session_preview(Session *s, const char *pattern, WhatIf *out, Error *err)
{
    Scratch c;
    PatternRow row = {.text = (char *)pattern};
    RETURN_IF_ERROR(scratch_init(&c, s, err));
    for (int64_t i = 0; i < s->model->nlinears; i++)
        c.before[i] = s->assignment->level[i] == 0;
    Status st = fix_row(s, &row, &c, err);
    if (st == ST_OK) {
        figures(s, &row);
        *out = row.view;
    }
    free(row.own);
    free(row.closed);
    scratch_fini(&c);
    return st;
}

/* k of predicted KL = k * sum of local errors: least squares through the origin over the measurements so far. */
static bool fit_k(const Session *s, double *k)
{
    double xy = 0, xx = 0;
    for (size_t i = 0; i < s->results->nmeasured; i++) {
        double x = s->results->measured[i].local_sum, y = s->results->measured[i].effect.kl_mean;
        if (!(x > 0) || !isfinite(y))
            continue;
        xy += x * y;
        xx += x * x;
    }
    if (!(xx > 0))
        return false;
    *k = xy / xx;
    return true;
}

static Prediction predict(const Session *s)
{
    Prediction p = {.share_back = NAN, .kl = NAN};
    recipe_sizes(s->recipe, s->model, s->assignment->level, s->opt.peer, &p.size);
    double all = 0, back = 0;
    for (int64_t i = 0; i < s->model->nlinears; i++) {
        double e = level_error(s, i, s->assignment->home[i]);
        all += e;
        back += e - level_error(s, i, s->assignment->level[i]);
    }
    p.have = isfinite(all) && all > 0;
    if (!p.have)
        return p;
    p.share_back = back / all;
    double k;
    p.calibrated = fit_k(s, &k);
    if (p.calibrated)
        p.kl = k * local_sum(s, s->assignment->level);
    return p;
}

Prediction session_predict(Session *s)
{
    WhatIfs *w = s->whatifs;
    if (!s->model || !s->recipe)
        return (Prediction){.share_back = NAN, .kl = NAN};
    if (!w->predicted_known || w->predicted_version != s->assignment->version ||
        w->predicted_results != s->results->version) {
        w->predicted = predict(s);
        w->predicted_version = s->assignment->version;
        w->predicted_results = s->results->version;
        w->predicted_known = true;
    }
    return w->predicted;
}
