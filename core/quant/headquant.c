#include "quant/headquant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

const double head_ratios[HEAD_PARTS] = {0.9999, 0.9999, 1.0}, cache_ratios[HEAD_PARTS] = {0, 1.0, 1.0};
static const char *const part_names[HEAD_PARTS] = {"queries", "keys", "values"};

/* The first value of a sample that is not finite. */
typedef struct HeadBad {
    bool any, nan;
    int64_t row, channel;
} HeadBad;

/* ---- the window ---- */

static void sift(float *heap, int64_t n, int64_t i)
{
    for (int64_t k; (k = 2 * i + 1) < n; i = k) {
        k += k + 1 < n && heap[k + 1] > heap[k];
        if (heap[i] >= heap[k])
            return;
        float v = heap[i];
        heap[i] = heap[k];
        heap[k] = v;
    }
}

/* The `most` least of what it is shown, the greatest of them on top. */
static void keep_least(float *heap, int64_t *n, int64_t most, float v)
{
    if (*n == most) {
        if (v < heap[0]) {
            heap[0] = v;
            sift(heap, most, 0);
        }
        return;
    }
    int64_t i = (*n)++;
    for (; i > 0 && heap[(i - 1) / 2] < v; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = v;
}

/* A heap becomes ascending. */
static void sort_heap(float *heap, int64_t n)
{
    while (n-- > 1) {
        float top = heap[0];
        heap[0] = heap[n];
        heap[n] = top;
        sift(heap, n, 0);
    }
}

/* Begins and ends of windows: low[i] and high[i] are those of the i-th. */
static void shortest(const float *low, const float *high, int64_t n, int64_t step, float *lo, float *hi)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if ((double)high[i * step] - (double)low[i] < (double)high[best * step] - (double)low[best])
            best = i;
    *lo = low[best];
    *hi = high[best * step];
}

/* All values sorted: where a window holds few of them. */
static bool window_of_all(const float *x, int64_t rows, int64_t width, int64_t ld, int64_t in, float *lo, float *hi)
{
    int64_t n = 0;
    float *all = mem_array((size_t)(rows * width), sizeof *all);
    if (!all)
        return false;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < width; i++)
            keep_least(all, &n, rows * width, x[r * ld + i]);
    sort_heap(all, n);
    shortest(all, all + in - 1, n - in + 1, 1, lo, hi);
    free(all);
    return true;
}

bool head_window(const float *x, int64_t rows, int64_t width, int64_t ld, double ratio, float *lo, float *hi)
{
    int64_t n = rows * width, in = (int64_t)(ratio * (double)n), tails, nl = 0, nh = 0;
    in = in < 1 ? 1 : in > n ? n : in;
    tails = n - in + 1; /* a window begins among so many of the least, and ends among as many of the greatest values */
    if (2 * tails >= n && n > 2)
        return window_of_all(x, rows, width, ld, in, lo, hi);
    float *low = mem_array(2 * (size_t)tails, sizeof *low), *high = low + tails;
    if (!low)
        return false;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < width; i++) {
            float v = x[r * ld + i];
            keep_least(low, &nl, tails, v);
            keep_least(high, &nh, tails, -v);
        }
    sort_heap(low, tails);
    sort_heap(high, tails);
    for (int64_t i = 0; i < tails; i++) /* the greatest but tails - 1 - i ends the i-th window */
        high[i] = -high[i];
    shortest(low, high + tails - 1, tails, -1, lo, hi);
    free(low);
    return true;
}

/* ---- watching ---- */

/* What a side without a spec has. */
static const QSpec plain = {.dtype = QT_INT8, .scope = QS_PER_HEAD, .symmetric = true, .method = "minmax"};

static const QSpec *spec_of(const HeadQuant *h, int part)
{
    return h->spec[part] ? h->spec[part] : &plain;
}

/* Who quantizes values with one scale: those of a head as those of a tensor. */
static const ActQuantizer *quantizer_of(const QSpec *q)
{
    QSpec own = *q;
    if (own.scope == QS_PER_HEAD)
        own.scope = QS_PER_TENSOR;
    bool known = q->symmetric && (q->scope == QS_PER_HEAD || q->scope == QS_PER_TOKEN || q->scope == QS_PER_BLOCK);
    return known && q->dtype != QT_FLOAT ? act_quantizer_find(&own) : NULL;
}

bool head_quant_runs(const QSpec *q)
{
    return quantizer_of(q) != NULL && strcmp(q->method, "minmax") == 0;
}

bool head_quant_static(const QSpec *q)
{
    return q->scope == QS_PER_HEAD;
}

/* Whether the attention of this Tap.linear stays float: the unit's first is told by -1. */
static bool skips(const HeadQuant *h, int64_t linear)
{
    return h->skip[linear >= 0];
}

static bool wants_tap(void *self, Tap tap)
{
    const HeadQuant *h = self;
    return tap.layer == h->unit && tap.kind >= TAP_Q && tap.kind <= TAP_V && h->ratio[tap.kind - TAP_Q] > 0 &&
           head_quant_static(spec_of(h, tap.kind - TAP_Q)) && !skips(h, tap.linear);
}

static int attention_of(const HeadQuant *h, int64_t linear)
{
    int i = 0;
    while (i < h->n && h->linear[i] != linear)
        i++;
    return i;
}

static HeadSide *side_of(HeadQuant *h, Tap tap)
{
    return &h->side[attention_of(h, tap.linear)][tap.kind - TAP_Q];
}

static Status tap_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *err)
{
    HeadQuant *h = self;
    const ModelConfig *c = h->m->units[h->unit].cfg;
    if (attention_of(h, tap.linear) == HEAD_ATTENTIONS)
        return error_set(err, ST_INTERNAL, "layer %d has more than %d attentions", h->unit, HEAD_ATTENTIONS);
    if (attention_of(h, tap.linear) == h->n)
        h->linear[h->n++] = tap.linear;
    HeadSide *s = side_of(h, tap);
    int64_t dim = h->channels ? 1 : tap.kind == TAP_V ? c->v_dim : c->head_dim;
    free(s->lo);
    free(s->bad);
    free(s->param);
    *s = (HeadSide){.heads = width / dim, .width = dim, .samples = samples, .start = start};
    size_t n = (size_t)(samples ? samples : 1) * (size_t)s->heads;
    s->lo = mem_array(2 * n, sizeof *s->lo);
    s->hi = s->lo + n;
    s->bad = mem_zarray((size_t)samples, sizeof *s->bad);
    if (!s->lo || !s->bad)
        return error_nomem(err, "ranges of heads");
    for (size_t i = 0; i < n; i++) {
        s->lo[i] = INFINITY;
        s->hi[i] = -INFINITY;
    }
    return ST_OK;
}

static bool all_finite(HeadSide *s, int sample, const float *x, int64_t rows, int64_t width, int64_t ld)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < width; c++)
            if (!isfinite(x[r * ld + c])) {
                s->bad[sample] = (HeadBad){true, isnan(x[r * ld + c]), r, c};
                return false;
            }
    return true;
}

/* With the sample's last tile: all of it is there. */
static void tap_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width,
                     int64_t ld)
{
    HeadQuant *h = self;
    HeadSide *s = side_of(h, tap);
    int64_t len = s->start[sample + 1] - s->start[sample];
    if (row0 + rows < len || !len)
        return;
    x -= row0 * ld;
    if (!all_finite(s, sample, x, len, width, ld))
        return;
    double ratio = h->ratio[tap.kind - TAP_Q];
    for (int64_t i = 0; i < s->heads; i++)
        if (!head_window(x + i * s->width, len, s->width, ld, ratio, &s->lo[sample * s->heads + i],
                         &s->hi[sample * s->heads + i]))
            atomic_store(&h->oom, true);
}

static Status tap_end(void *self, Tap tap, Error *err)
{
    HeadQuant *h = self;
    HeadSide *s = side_of(h, tap);
    if (atomic_load(&h->oom))
        return error_nomem(err, "ranges of heads");
    for (int i = 1; i < s->samples; i++)
        for (int64_t k = 0; k < s->heads; k++) {
            s->lo[k] = fminf(s->lo[k], s->lo[i * s->heads + k]);
            s->hi[k] = fmaxf(s->hi[k], s->hi[i * s->heads + k]);
        }
    return ST_OK;
}

/* ---- samples of several ranks ---- */

/* The range over this rank's samples, and what is not finite in each; of sides that are not fixed yet. */
static Status pack_sides(void *self, int layer, Pack *out, Error *err)
{
    (void)layer;
    HeadQuant *h = self;
    for (int i = 0; i < h->n; i++)
        for (int part = 0; part < HEAD_PARTS; part++) {
            HeadSide *s = &h->side[i][part];
            if (!s->lo)
                continue;
            pack_i64(out, s->samples);
            pack_put(out, s->lo, (size_t)s->heads * sizeof *s->lo);
            pack_put(out, s->hi, (size_t)s->heads * sizeof *s->hi);
            pack_put(out, s->bad, (size_t)s->samples * sizeof *s->bad);
            s->gathered = 0;
        }
    return out->oom ? error_nomem(err, "ranges of heads") : ST_OK;
}

static Status merge_side(HeadSide *s, Unpack *in, Error *err)
{
    const int64_t n = unpack_i64(in), heads = s->heads;
    float *lo = unpack_array(in, heads, sizeof *lo), *hi = unpack_array(in, heads, sizeof *hi);
    HeadBad *bad = unpack_array(in, n, sizeof *bad), *all = NULL;
    if (lo && hi && bad)
        all = realloc(s->gathered ? s->bad : NULL, (size_t)(s->gathered + n) * sizeof *all + 1);
    if (all && !s->gathered)
        free(s->bad);
    s->bad = all ? all : s->bad;
    for (int64_t k = 0; all && k < heads; k++) {
        s->lo[k] = s->gathered ? fminf(s->lo[k], lo[k]) : lo[k];
        s->hi[k] = s->gathered ? fmaxf(s->hi[k], hi[k]) : hi[k];
    }
    if (all) {
        memcpy(all + s->gathered, bad, (size_t)n * sizeof *bad);
        s->samples = s->gathered += (int)n;
    }
    free(lo);
    free(hi);
    free(bad);
    return all ? ST_OK : error_nomem(err, "ranges of heads");
}

static Status merge_sides(void *self, int layer, Unpack *in, Error *err)
{
    (void)layer;
    HeadQuant *h = self;
    for (int i = 0; i < h->n; i++)
        for (int part = 0; part < HEAD_PARTS; part++)
            if (h->side[i][part].lo)
                RETURN_IF_ERROR(merge_side(&h->side[i][part], in, err));
    return ST_OK;
}

Observer head_quant_observer(HeadQuant *h)
{
    static const ObserverOps ops = {.name = "ranges of heads", .wants_tap = wants_tap, .tap_begin = tap_begin,
                                    .tap_tile = tap_tile, .tap_end = tap_end, .pack = pack_sides, .merge = merge_sides};
    return (Observer){&ops, h};
}

/* ---- scales, and what computes with them ---- */

static Status fix_side(const HeadQuant *h, HeadSide *s, int part, Error *err)
{
    for (int i = 0; i < s->samples; i++)
        if (s->bad[i].any)
            return error_set(err, ST_DATA, "%s in the %s, first at sample %d token %lld channel %lld",
                             s->bad[i].nan ? "NaN" : "Inf", part_names[part], i, (long long)s->bad[i].row,
                             (long long)s->bad[i].channel);
    s->param = mem_array((size_t)s->heads, sizeof *s->param);
    if (!s->param)
        return error_nomem(err, "scales of heads");
    const QSpec *q = spec_of(h, part);
    const ActQuantizer *a = quantizer_of(q);
    for (int64_t i = 0; i < s->heads; i++)
        s->param[i] = a->param(q, s->lo[i], s->hi[i], h->T);
    free(s->lo);
    free(s->bad);
    s->lo = s->hi = NULL;
    s->bad = NULL;
    return ST_OK;
}

Status head_quant_fix(HeadQuant *h, Error *err)
{
    if (!h->n)
        return error_set(err, ST_DATA, "its attention has no scores");
    if (h->gather)
        RETURN_IF_ERROR(h->gather(h->ctx, head_quant_observer(h), err));
    for (int i = 0; i < h->n; i++)
        for (int part = 0; part < HEAD_PARTS; part++)
            if (h->side[i][part].samples && !h->side[i][part].param)
                RETURN_IF_ERROR(fix_side(h, &h->side[i][part], part, err));
    return ST_OK;
}

/* Heads of a part, and values of one. */
static void shape_of(const HeadQuant *h, int part, int64_t *heads, int64_t *width)
{
    const ModelConfig *c = h->m->units[h->unit].cfg;
    *heads = part ? c->kv_heads : c->heads;
    *width = part == 2 ? c->v_dim : c->head_dim;
}

/* Every head of every row by scales of its own. */
static void fake_dynamic(const HeadQuant *h, int part, float *x, int64_t rows, int64_t ld)
{
    const QSpec *q = spec_of(h, part);
    const ActQuantizer *a = quantizer_of(q);
    int64_t heads, width;
    shape_of(h, part, &heads, &width);
    for (int64_t r = 0; r < rows; r++)
        a->rows(q, NULL, x + r * ld, heads, width, width, h->T, h->peer, x + r * ld);
}

static void fake_static(const HeadQuant *h, const HeadSide *s, int part, float *x, int64_t rows, int64_t ld)
{
    const QSpec *q = spec_of(h, part);
    const ActQuantizer *a = quantizer_of(q);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < s->heads; i++) {
            const ActParam p = {.p = s->param[i], .lo = -INFINITY, .hi = INFINITY};
            float *row = x + r * ld + i * s->width;
            a->rows(q, &p, row, 1, s->width, s->width, h->T, h->peer, row);
        }
}

static void fake_heads(void *self, int64_t linear, int part, float *x, int64_t rows, int64_t ld)
{
    const HeadQuant *h = self;
    if (skips(h, linear) || !(h->ratio[part] > 0))
        return;
    if (!head_quant_static(spec_of(h, part))) {
        fake_dynamic(h, part, x, rows, ld);
        return;
    }
    int at = attention_of(h, linear);
    if (at < h->n && h->side[at][part].param)
        fake_static(h, &h->side[at][part], part, x, rows, ld);
}

AttnForm head_quant_form(HeadQuant *h)
{
    return (AttnForm){.replace = fake_heads, .self = h};
}

static Status fix_seen(void *self, int64_t linear, Error *err)
{
    HeadQuant *h = self;
    int at = attention_of(h, linear);
    if (h->gather)
        RETURN_IF_ERROR(h->gather(h->ctx, head_quant_observer(h), err));
    for (int part = 0; at < h->n && part < HEAD_PARTS; part++)
        if (h->side[at][part].samples && !h->side[at][part].param) {
            Status st = fix_side(h, &h->side[at][part], part, err);
            if (st != ST_OK)
                return error_prefix(err, st, "layer %d: ", h->unit);
        }
    return ST_OK;
}

AttnForm head_quant_calibrating(HeadQuant *h)
{
    return (AttnForm){.prepare = fix_seen, .replace = fake_heads, .self = h};
}

uint64_t head_quant_bytes(const Model *m, bool channels, int samples)
{
    uint64_t most = 0, all = 0;
    for (int i = 0; i < model_depth(m); i++) {
        const ModelConfig *c = m->units[i].cfg;
        uint64_t heads = (uint64_t)(c->heads + 2 * c->kv_heads) * HEAD_ATTENTIONS;
        heads *= channels ? (uint64_t)(c->head_dim > c->v_dim ? c->head_dim : c->v_dim) : 1;
        most = heads > most ? heads : most;
        all += heads * sizeof(QParam) + sizeof(HeadQuant);
    }
    return all + (uint64_t)samples * (most * 2 * sizeof(float) + HEAD_ATTENTIONS * HEAD_PARTS * sizeof(HeadBad));
}

void head_quant_fini(HeadQuant *h)
{
    for (int i = 0; i < HEAD_ATTENTIONS; i++)
        for (int part = 0; part < HEAD_PARTS; part++) {
            free(h->side[i][part].lo);
            free(h->side[i][part].bad);
            free(h->side[i][part].param);
        }
    memset(h->side, 0, sizeof h->side);
    h->n = 0;
}
