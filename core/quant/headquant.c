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

/* Inserts v where it belongs; what is beyond `most` falls off. */
static void keep_least(float *list, int64_t *n, int64_t most, float v)
{
    int64_t at = *n < most ? (*n)++ : most - 1;
    for (; at > 0 && list[at - 1] > v; at--)
        list[at] = list[at - 1];
    list[at] = v;
}

bool head_window(const float *x, int64_t rows, int64_t width, int64_t ld, double ratio, float *lo, float *hi)
{
    int64_t n = rows * width, in = (int64_t)(ratio * (double)n), tails, nl = 0, nh = 0;
    in = in < 1 ? 1 : in;
    tails = n - in + 1; /* a window ends among so many of the least and of the greatest values */
    float *low = mem_array(2 * (size_t)tails, sizeof *low), *high = low + tails;
    if (!low)
        return false;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < width; i++) {
            float v = x[r * ld + i];
            if (nl < tails || v < low[tails - 1])
                keep_least(low, &nl, tails, v);
            if (nh < tails || -v < high[tails - 1])
                keep_least(high, &nh, tails, -v);
        }
    int64_t best = 0;
    for (int64_t i = 1; i < tails; i++) /* the i-th least value, and the greatest but tails - 1 - i */
        if (-(double)high[tails - 1 - i] - (double)low[i] < -(double)high[tails - 1 - best] - (double)low[best])
            best = i;
    *lo = low[best];
    *hi = -high[tails - 1 - best];
    free(low);
    return true;
}

/* ---- watching ---- */

static bool wants_tap(void *self, Tap tap)
{
    const HeadQuant *h = self;
    return tap.layer == h->unit && tap.kind >= TAP_Q && tap.kind <= TAP_V && h->ratio[tap.kind - TAP_Q] > 0;
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
    size_t n = (size_t)samples * (size_t)s->heads;
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

Observer head_quant_observer(HeadQuant *h)
{
    static const ObserverOps ops = {.name = "ranges of heads", .wants_tap = wants_tap, .tap_begin = tap_begin,
                                    .tap_tile = tap_tile, .tap_end = tap_end};
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
    for (int64_t i = 0; i < s->heads; i++)
        s->param[i] = intquant_param(s->lo[i], s->hi[i], 8, true, h->T);
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
    for (int i = 0; i < h->n; i++)
        for (int part = 0; part < HEAD_PARTS; part++)
            if (h->side[i][part].samples && !h->side[i][part].param)
                RETURN_IF_ERROR(fix_side(h, &h->side[i][part], part, err));
    return ST_OK;
}

static void fake_heads(void *self, int64_t linear, int part, float *x, int64_t rows, int64_t ld)
{
    const HeadQuant *h = self;
    const HeadSide *s = &h->side[attention_of(h, linear)][part];
    if (!s->param)
        return;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < s->heads; i++) {
            float *row = x + r * ld + i * s->width;
            intquant_fake(row, s->width, s->param[i], 8, h->T, row);
        }
}

AttnForm head_quant_form(HeadQuant *h)
{
    return (AttnForm){.replace = fake_heads, .self = h};
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
