#include "src/reportdata.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "src/axis.h"

/* ---- a metric over the layers ---- */

/* Row of a unit's name behind its layer, an expert's number left out; -1: none. */
static int kind_row(LayerMap *h, const char *rest)
{
    char kind[LAYERMAP_NAME];
    size_t n = 0;
    for (const char *s = *rest == '.' ? rest + 1 : rest; *s && n + 1 < sizeof kind; s++) {
        bool digit = *s >= '0' && *s <= '9' && s > rest && s[-1] == '.';
        kind[n++] = digit ? '*' : *s;
        while (digit && s[1] >= '0' && s[1] <= '9')
            s++;
    }
    kind[n] = '\0';
    if (!n)
        snprintf(kind, sizeof kind, "layer");
    for (int k = 0; k < h->kinds; k++)
        if (strcmp(h->kind[k], kind) == 0)
            return k;
    if (h->kinds == LAYERMAP_KINDS)
        return -1;
    memcpy(h->kind[h->kinds], kind, sizeof kind);
    return h->kinds++;
}

static void take_unit(const Session *s, const Metric *m, int64_t unit, const char *name, LayerMap *h)
{
    const char *prefix = model_layers_prefix(session_model(s));
    size_t n = strlen(prefix);
    char *end = NULL;
    long layer = strncmp(name, prefix, n) == 0 ? strtol(name + n, &end, 10) : -1;
    int row = end && end > name + n && layer >= 0 && layer < h->layers ? kind_row(h, end) : -1;
    Score score = session_unit_score(s, m, unit);
    bool scored = score.state == SCORE_OK || score.state == SCORE_STALE;
    if (row < 0) {
        h->left_out++;
        return;
    }
    size_t at = (size_t)row * (size_t)h->layers + (size_t)layer;
    h->failed[at] = h->failed[at] || score.state == SCORE_FAILED;
    if (!scored || !isfinite(score.value))
        return;
    if (isnan(h->value[at]) || score.value * m->direction > h->value[at] * m->direction)
        h->value[at] = score.value;
    axis_extend(score.value, &h->lo, &h->hi);
}

static LayerMap *layermap_new(int layers)
{
    LayerMap *h = calloc(1, sizeof *h);
    size_t cells = (size_t)LAYERMAP_KINDS * (size_t)layers;
    if (!h)
        return NULL;
    *h = (LayerMap){.layers = layers, .lo = INFINITY, .hi = -INFINITY};
    h->value = mem_array(cells + 1, sizeof *h->value);
    h->failed = mem_zarray(cells + 1, sizeof *h->failed);
    if (!h->value || !h->failed) {
        layermap_free(h);
        return NULL;
    }
    for (size_t i = 0; i < cells; i++)
        h->value[i] = NAN;
    return h;
}

Status layermap_make(const Session *s, const Metric *m, LayerMap **out, Error *err)
{
    LayerMap *h = layermap_new(model_depth(session_model(s)));
    Str name = {0};
    for (int64_t u = 0; h && u < scope_units(session_model(s), m->scope); u++) {
        str_clear(&name);
        scope_unit_name(session_model(s), m->scope, u, &name);
        take_unit(s, m, u, str_text(&name), h);
    }
    bool fine = h && !name.oom;
    str_free(&name);
    *out = fine ? h : NULL;
    if (!fine)
        layermap_free(h);
    return fine ? ST_OK : error_nomem(err, "the report");
}

void layermap_free(LayerMap *h)
{
    if (!h)
        return;
    free(h->value);
    free(h->failed);
    free(h);
}

double layermap_share(const LayerMap *h, double v)
{
    if (!(h->hi > h->lo))
        return 1;
    return h->lo > 0 ? log(v / h->lo) / log(h->hi / h->lo) : (v - h->lo) / (h->hi - h->lo);
}

/* ---- which metrics, which layers ---- */

const Metric *report_beside(const Session *s, const Metric *shown)
{
    for (const Metric *const *m = session_metrics(s); *m; m++)
        if (*m != shown && session_has_run(s, *m))
            return *m;
    return NULL;
}

const Metric *report_metric(const Session *s)
{
    const Metric *m = session_metric(s);
    return m && session_has_run(s, m) ? m : report_beside(s, m);
}

bool report_both(const Session *s, const Metric *x, const Metric *y, int64_t i, double v[2])
{
    Score a = session_score(s, x, i), b = session_score(s, y, i);
    v[0] = a.value;
    v[1] = b.value;
    return (a.state == SCORE_OK || a.state == SCORE_STALE) && (b.state == SCORE_OK || b.state == SCORE_STALE) && isfinite(a.value) &&
           isfinite(b.value);
}

static bool has_hist(const Session *s, int64_t linear)
{
    const LinearResult *r = session_result(s, linear);
    return r && (r->in.hist.n || r->weight.hist.n);
}

Status report_worst(const Session *s, const Metric *m, int most, int64_t *linear, double *score, int *n, Error *err)
{
    RankedRow *row;
    int64_t rows;
    *n = 0;
    RETURN_IF_ERROR(ranking_make(s, m, NULL, &row, &rows, err));
    for (int64_t k = 0; k < rows && *n < most; k++) {
        int64_t from, to;
        if (row[k].failed || row[k].unseen)
            continue;
        scope_linears(session_model(s), m->scope, row[k].unit, &from, &to);
        for (int64_t i = from; i < to; i++)
            if (scope_unit_of(session_model(s), m->scope, i) == row[k].unit && has_hist(s, i)) {
                linear[*n] = i;
                score[(*n)++] = row[k].score;
                break; /* one of a unit */
            }
    }
    free(row);
    return ST_OK;
}

/* ---- what was measured over what it costs ---- */

FrontSpan report_span(const Session *s)
{
    FrontSpan v = {{INFINITY, INFINITY}, {-INFINITY, -INFINITY}, 0};
    for (int i = 0; i < session_measurements(s); i++) {
        Measurement m = session_measurement(s, i);
        SizeReport size;
        if (!session_measurement_size(s, &m, &size) || !isfinite(m.effect->kl_mean))
            continue;
        axis_extend((double)size.bytes / 1048576, &v.lo[0], &v.hi[0]);
        axis_extend(m.effect->kl_mean, &v.lo[1], &v.hi[1]);
        v.n++;
    }
    return v;
}

bool report_on_front(const FrontRow *r, const FrontSpan *v)
{
    return isfinite(r->kl.value) && r->kl.low > 0 && isfinite(r->kl.high) && isnan(r->kl_measured) && r->kl.value > v->hi[1] / 300;
}
