#include "process/adaptwatch.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "model/rotmap.h"
#include "run/source.h"

/* Of one input of the present unit. */
typedef struct AdaptTap {
    int64_t linear;  /* the first that sees it */
    int copies;      /* linears that are meant and see it: the peer keeps it once for each */
    bool expert;
    const TensorInfo *norm; /* NULL: none in front of it */
    int64_t seen;    /* tokens so far */
    int64_t base;    /* of the batch under way: tokens before it */
    const int64_t *start; /* [samples + 1] its samples' */
    int samples;
    float *x;        /* [rows][hidden] */
    int64_t rows;
    size_t cap;
    double *sum;     /* [samples of the batch][hidden] */
} AdaptTap;

struct AdaptWatch {
    const Model *m;
    const AdaptWatchSettings *set;
    bool peer;
    bool *on;       /* [nunits] */
    int unit;
    int64_t step;   /* every so many-th token of a tap */
    AdaptTap *tap;  /* [ntaps] of the unit, by linear */
    int ntaps;
    size_t tap_cap;
    float *x;       /* [rows][hidden] of the units before */
    int64_t rows;
    size_t cap;
};

/* ---- what is meant ---- */

static bool is_meant(const AdaptWatch *w, const Linear *l)
{
    const char *name = l->name + strlen(model_layers_prefix(w->m));
    const char *dot = strchr(name, '.');
    for (int i = 0; dot && i < w->set->nparts; i++)
        if (strstr(dot + 1, w->set->parts[i]))
            return true;
    return false;
}

/* The step that turns the linear's inputs with the stream, and the norm in front of it. */
static Status reads_stream(const TurnSteps *s, const Linear *l, int64_t linear, const TensorInfo **norm, Error *err)
{
    bool reads = false;
    *norm = NULL;
    for (int64_t i = 0; i < s->n; i++) {
        if (s->step[i].linear != linear)
            continue;
        reads = reads || (s->step[i].action == TURN_INPUTS && s->step[i].matrix == TURN_STREAM);
        if (s->step[i].action == TURN_ABSORB)
            *norm = s->step[i].norm[0];
    }
    return reads ? ST_OK
                 : error_set(err, ST_DATA, "layer_type: '%s' doesn't read the residual stream, which the rotation is for",
                             l->name);
}

static Status check_unit(AdaptWatch *w, int unit, Error *err)
{
    const Unit *u = &w->m->units[unit];
    TurnSteps s;
    Status st = rotmap_steps(w->m, unit, &s, err);
    for (int64_t i = u->first; st == ST_OK && i < u->first + u->count; i++) {
        const TensorInfo *norm;
        if (!is_meant(w, &w->m->linears[i]))
            continue;
        w->on[unit] = true;
        st = reads_stream(&s, &w->m->linears[i], i, &norm, err);
    }
    free(s.step);
    return st;
}

Status adapt_watch_new(AdaptWatch **out, const Model *m, const AdaptWatchSettings *set, bool peer, Error *err)
{
    AdaptWatch *w = *out = mem_zarray(1, sizeof *w);
    if (!w)
        return error_nomem(err, "adapt_rotation");
    *w = (AdaptWatch){.m = m, .set = set, .peer = peer, .on = mem_zarray((size_t)m->nunits, sizeof *w->on)};
    if (!w->on)
        return error_nomem(err, "adapt_rotation");
    bool any = false;
    for (int i = 0; i < m->cfg.layers; i++) {
        RETURN_IF_ERROR(check_unit(w, i, err));
        any = any || w->on[i];
    }
    return any ? ST_OK
               : error_set(err, ST_DATA, "layer_type: no linear of a layer has '%s' in its name", set->parts[0]);
}

static void drop_taps(AdaptWatch *w)
{
    for (int i = 0; i < w->ntaps; i++) {
        free(w->tap[i].x);
        free(w->tap[i].sum);
    }
    w->ntaps = 0;
}

void adapt_watch_free(AdaptWatch *w)
{
    if (!w)
        return;
    drop_taps(w);
    free(w->tap);
    free(w->x);
    free(w->on);
    free(w);
}

bool adapt_watch_wants(const AdaptWatch *w, int unit)
{
    return unit < w->m->cfg.layers && w->on[unit];
}

/* ---- one unit ---- */

static Status add_tap(AdaptWatch *w, const TurnSteps *s, int64_t linear, Error *err)
{
    const Linear *l = &w->m->linears[linear];
    for (int i = 0; i < w->ntaps; i++)
        if (w->tap[i].linear == l->input) {
            w->tap[i].copies++;
            return ST_OK;
        }
    if (!mem_grow(&w->tap, &w->tap_cap, (size_t)w->ntaps + 1, sizeof *w->tap))
        return error_nomem(err, "adapt_rotation");
    AdaptTap *t = &w->tap[w->ntaps++];
    *t = (AdaptTap){.linear = l->input, .copies = 1, .expert = l->expert >= 0};
    return reads_stream(s, l, linear, &t->norm, err);
}

Status adapt_watch_unit(AdaptWatch *w, int unit, int64_t tokens, Error *err)
{
    const Unit *u = &w->m->units[unit];
    TurnSteps s;
    drop_taps(w);
    w->unit = unit;
    Status st = rotmap_steps(w->m, unit, &s, err);
    bool experts = false;
    for (int64_t i = u->first; st == ST_OK && i < u->first + u->count; i++)
        if (is_meant(w, &w->m->linears[i])) {
            experts = experts || w->m->linears[i].expert >= 0;
            st = add_tap(w, &s, i, err);
        }
    free(s.step);
    int64_t all = experts ? tokens * w->m->cfg.moe.top_k : tokens;
    w->step = all > w->set->most ? (all + w->set->most - 1) / w->set->most : 1;
    return st;
}

/* ---- the observer ---- */

static AdaptTap *tap_of(const AdaptWatch *w, Tap tap)
{
    for (int i = 0; i < w->ntaps; i++)
        if (tap.kind == TAP_LINEAR_IN && w->tap[i].linear == tap.linear)
            return &w->tap[i];
    return NULL;
}

static bool wants_tap(void *self, Tap tap)
{
    return tap_of(self, tap) != NULL;
}

/* The peer's one row for a sample. */
static bool means(const AdaptWatch *w, const AdaptTap *t)
{
    return w->peer && !t->expert;
}

static Status tap_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *err)
{
    AdaptWatch *w = self;
    AdaptTap *t = tap_of(w, tap);
    int64_t step = w->peer ? 1 : w->step, more;
    t->base = t->seen;
    t->start = start;
    t->samples = samples;
    t->seen += start[samples] - start[0];
    more = means(w, t) ? samples : (t->seen + step - 1) / step - (t->base + step - 1) / step;
    if (!mem_grow(&t->x, &t->cap, (size_t)((t->rows + more) * width), sizeof *t->x))
        return error_nomem(err, "what adapt_rotation watches");
    free(t->sum);
    t->sum = means(w, t) ? mem_zarray((size_t)(samples * width), sizeof *t->sum) : NULL;
    if (means(w, t) && !t->sum)
        return error_nomem(err, "what adapt_rotation watches");
    t->rows += more;
    return ST_OK;
}

static void tap_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width, int64_t ld)
{
    const AdaptWatch *w = self;
    AdaptTap *t = tap_of(w, tap);
    int64_t step = w->peer ? 1 : w->step, first = t->base + t->start[sample] - t->start[0] + row0;
    for (int64_t r = 0; r < rows && !t->sum; r++)
        if ((first + r) % step == 0)
            memcpy(t->x + (first + r) / step * width, x + r * ld, (size_t)width * sizeof *x);
    for (int64_t r = 0; r < rows && t->sum; r++)
        for (int64_t i = 0; i < width; i++)
            t->sum[sample * width + i] += (double)x[r * ld + i];
}

static Status tap_end(void *self, Tap tap, Error *err)
{
    (void)err;
    const AdaptWatch *w = self;
    AdaptTap *t = tap_of(w, tap);
    if (!t->sum)
        return ST_OK;
    int64_t width = w->m->cfg.hidden, kept = t->rows - t->samples;
    for (int s = 0; s < t->samples; s++) { /* a sample without a token leaves no row */
        int64_t tokens = t->start[s + 1] - t->start[s];
        for (int64_t i = 0; i < width; i++)
            t->x[kept * width + i] = (float)(t->sum[s * width + i] / (double)(tokens ? tokens : 1));
        kept += tokens > 0;
    }
    t->rows = kept;
    return ST_OK;
}

Observer adapt_watch_observer(AdaptWatch *w)
{
    static const ObserverOps ops = {
        .name = "adapt_rotation", .wants_tap = wants_tap, .tap_begin = tap_begin, .tap_tile = tap_tile, .tap_end = tap_end};
    return (Observer){&ops, w};
}

/* ---- what is kept ---- */

/* Rows as they were before the norm's weights. */
static Status without_norm(const AdaptWatch *w, AdaptTap *t, const UnitRun *u, Error *err)
{
    const Source s = {.model = w->m, .overlay = u->overlay};
    int64_t n = w->m->cfg.hidden;
    float *g;
    if (!t->norm)
        return ST_OK;
    RETURN_IF_ERROR(source_small(&s, NULL, t->norm, &g, err));
    for (int64_t i = 0; i < n; i++)
        g[i] = w->m->cfg.norm == NORM_UNIT ? 1 + g[i] : g[i];
    for (int64_t r = 0; r < t->rows; r++)
        for (int64_t i = 0; i < n; i++)
            t->x[r * n + i] = g[i] == 0 ? 0 : t->x[r * n + i] / g[i];
    free(g);
    return ST_OK;
}

/* Row `want` of the layer's rows, of which each tap has its own as often as linears see them. */
static const float *layer_row(const AdaptWatch *w, int64_t want)
{
    for (int i = 0; i < w->ntaps; i++) {
        const AdaptTap *t = &w->tap[i];
        int64_t all = t->rows * (w->peer ? t->copies : 1);
        if (want < all)
            return t->x + want % t->rows * w->m->cfg.hidden;
        want -= all;
    }
    return NULL;
}

Status adapt_watch_take(AdaptWatch *w, const UnitRun *u, Error *err)
{
    int64_t n = w->m->cfg.hidden, all = 0;
    if (!adapt_watch_wants(w, u->unit))
        return ST_OK;
    for (int i = 0; i < w->ntaps; i++) {
        RETURN_IF_ERROR(without_norm(w, &w->tap[i], u, err));
        all += w->tap[i].rows * (w->peer ? w->tap[i].copies : 1);
    }
    int64_t take = min_i64(all, w->set->most);
    if (!mem_grow(&w->x, &w->cap, (size_t)((w->rows + take) * n), sizeof *w->x))
        return error_nomem(err, "what adapt_rotation watches");
    for (int64_t r = 0; r < take; r++) { /* all of them, or at equal distances */
        double at = take > 1 ? (double)r * ((double)(all - 1) / (double)(take - 1)) : 0;
        memcpy(w->x + (w->rows + r) * n, layer_row(w, all > take ? (int64_t)at : r), (size_t)n * sizeof *w->x);
    }
    w->rows += take;
    drop_taps(w);
    return ST_OK;
}

float *adapt_watch_rows(AdaptWatch *w, int64_t *rows)
{
    *rows = w->rows;
    return w->x;
}

int64_t adapt_watch_most(const AdaptWatch *w, int64_t tokens)
{
    int64_t rows = 0, each = min_i64(w->set->most, tokens * (w->m->cfg.moe.top_k ? w->m->cfg.moe.top_k : 1));
    for (int i = 0; i < w->m->cfg.layers; i++)
        rows += w->on[i] ? each : 0;
    return rows;
}
