/* The what-if list, its previews, and predictions from the additive metric. */
#include "session/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

/* Figures of one pattern; c->before holds what earlier rows select and gets this row's hits added. */
static Status figures(const Session *s, const char *text, Scratch *c, WhatIf *w, Error *err)
{
    const Model *m = s->model;
    Pattern *p;
    RETURN_IF_ERROR(pattern_compile(&p, text, err));
    memset(c->hits, 0, (size_t)m->nlinears);
    *w = (WhatIf){.pattern = text, .on = true};
    w->hits = pattern_hits(p, m, c->hits);
    pattern_free(p);
    Status st = pattern_lint(text, m, c->before, &w->lint, err);
    for (int64_t i = 0; i < m->nlinears; i++)
        if (c->hits[i]) {
            w->on &= s->level[i] == 0;
            w->fresh += !c->before[i];
            c->before[i] = true;
        }
    w->on &= w->hits > 0;
    close_groups(m, c->hits);
    double all = 0, mine = 0;
    for (int64_t i = 0; i < m->nlinears; i++) {
        double e = level_error(s, i, s->home[i]);
        all += e;
        if (!c->hits[i])
            continue;
        mine += e;
        w->bytes += (int64_t)recipe_linear_bytes(s->recipe, m, i, 0) -
                    (int64_t)recipe_linear_bytes(s->recipe, m, i, s->home[i]);
    }
    w->share = all > 0 ? mine / all : NAN;
    return st;
}

int session_whatifs(Session *s)
{
    return (int)s->nwhatif;
}

const WhatIf *session_whatif(Session *s, int i)
{
    Scratch c;
    PatternRow *row = &s->whatif[i];
    row->view = (WhatIf){.pattern = row->text, .share = NAN};
    if (scratch_init(&c, s, NULL) != ST_OK)
        return &row->view;
    for (int k = 0; k < i; k++) {
        Pattern *p;
        if (pattern_compile(&p, s->whatif[k].text, NULL) == ST_OK) {
            pattern_hits(p, s->model, c.before);
            pattern_free(p);
        }
    }
    figures(s, row->text, &c, &row->view, NULL);
    scratch_fini(&c);
    return &row->view;
}

Status session_preview(Session *s, const char *pattern, WhatIf *out, Error *err)
{
    Scratch c;
    RETURN_IF_ERROR(scratch_init(&c, s, err));
    for (int64_t i = 0; i < s->model->nlinears; i++)
        c.before[i] = s->level[i] == 0;
    Status st = figures(s, pattern, &c, out, err);
    scratch_fini(&c);
    return st;
}

/* k of predicted KL = k * sum of local errors: least squares through the origin over the measurements so far. */
static bool fit_k(const Session *s, double *k)
{
    double xy = 0, xx = 0;
    for (size_t i = 0; i < s->nmeasured; i++) {
        double x = s->measured[i].local_sum, y = s->measured[i].effect.kl_mean;
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

Prediction session_predict(Session *s)
{
    Prediction p = {.share_back = NAN, .kl = NAN};
    if (!s->model || !s->recipe)
        return p;
    recipe_sizes(s->recipe, s->model, s->level, &p.size);
    double all = 0, back = 0;
    for (int64_t i = 0; i < s->model->nlinears; i++) {
        double e = level_error(s, i, s->home[i]);
        all += e;
        back += e - level_error(s, i, s->level[i]);
    }
    p.have = isfinite(all) && all > 0;
    if (!p.have)
        return p;
    p.share_back = back / all;
    double k;
    p.calibrated = fit_k(s, &k);
    if (p.calibrated)
        p.kl = k * local_sum(s, s->level);
    return p;
}

static const Measured *find_measured(const Session *s, const int16_t *level)
{
    if (!s->model || !s->nmeasured)
        return NULL;
    Digest key = assignment_key(s, level);
    const Measured *best = NULL;
    for (size_t i = 0; i < s->nmeasured; i++)
        if (digest_cmp(&s->measured[i].key, &key) == 0 &&
            (!best || s->measured[i].effect.tokens >= best->effect.tokens))
            best = &s->measured[i];
    return best;
}

const Effect *session_effect(Session *s, int *stale_edits)
{
    if (stale_edits)
        *stale_edits = 0;
    const Measured *m = find_measured(s, s->level);
    if (m)
        return &m->effect;
    if (!s->nmeasured)
        return NULL;
    m = &s->measured[s->nmeasured - 1];
    if (stale_edits)
        *stale_edits = s->version > m->version ? (int)(s->version - m->version) : 1;
    return &m->effect;
}

const Effect *session_base_effect(Session *s)
{
    const Measured *m = find_measured(s, s->opened);
    return m ? &m->effect : NULL;
}
