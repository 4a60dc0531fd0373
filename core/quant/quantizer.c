#include "quant/quantizer.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

const ActQuantizer *act_quantizer_find(const QSpec *q)
{
    for (int i = 0; act_quantizer_table[i]; i++)
        if (quantkey_takes(&act_quantizer_table[i]->key, q))
            return act_quantizer_table[i];
    return NULL;
}

const WeightQuantizer *weight_quantizer_find(const QSpec *q)
{
    for (int i = 0; weight_quantizer_table[i]; i++)
        if (quantkey_takes(&weight_quantizer_table[i]->key, q))
            return weight_quantizer_table[i];
    return NULL;
}

ActParam act_param_of(const ActQuantizer *a, const QSpec *q, float mn, float mx, DType T, bool peer)
{
    bool cut = a->cut && peer;
    return (ActParam){.p = a->param(q, mn, mx, a->wide ? DT_F32 : T), .lo = cut ? mn : -INFINITY,
                      .hi = cut ? mx : INFINITY};
}

/* What the peer's loader takes and no saver can write: kept in a recipe, not run. */
static const QuantKey peer_act_keys[] = {
    {.method = "minmax", .dtype = QT_INT8, .scope = QS_PER_TOKEN, .sym = 0, .owner = QUANT_PEER},
    {.method = "minmax", .dtype = QT_INT8, .scope = QS_PER_CHANNEL, .sym = -1, .owner = QUANT_PEER},
    {.method = "minmax", .dtype = QT_FP8_E4M3, .scope = QS_PER_CHANNEL, .sym = 1, .owner = QUANT_PEER},
};

const QuantKey *act_quantizer_key(int i)
{
    int n = 0;
    for (; act_quantizer_table[n]; n++)
        if (n == i)
            return &act_quantizer_table[n]->key;
    i -= n;
    return i < (int)(sizeof peer_act_keys / sizeof peer_act_keys[0]) ? &peer_act_keys[i] : NULL;
}

const QuantKey *weight_quantizer_key(int i)
{
    return weight_quantizer_table[i] ? &weight_quantizer_table[i]->key : NULL;
}

void act_observe(const ActObserver *o, void *self, const float *x, const int64_t *start, int samples, int64_t width,
                 const float *mn, const float *mx, bool peer)
{
    for (int i = 0; i < samples; i++) {
        int64_t n = (start[i + 1] - start[i]) * width;
        if (n > 0)
            o->feed(self, o->values ? x + start[i] * width : NULL, n, mn[i], mx[i], peer);
    }
}

Status act_observe_pack(const ActObserver *o, const float *x, const int64_t *start, int samples, int64_t width,
                        const float *mn, const float *mx, Pack *out, Error *err)
{
    pack_i64(out, samples);
    for (int i = 0; i < samples; i++) {
        int64_t n = (start[i + 1] - start[i]) * width;
        pack_i64(out, n);
        pack_put(out, &mn[i], sizeof mn[i]);
        pack_put(out, &mx[i], sizeof mx[i]);
        if (o->values)
            pack_put(out, x + start[i] * width, (size_t)n * sizeof *x);
    }
    return out->oom ? error_nomem(err, "activation ranges") : ST_OK;
}

Status act_observe_packed(const ActObserver *o, void *self, Unpack *in, bool peer, Error *err)
{
    int64_t samples = unpack_i64(in);
    for (int64_t i = 0; i < samples && !in->bad; i++) {
        float mn, mx;
        int64_t n = unpack_i64(in);
        unpack_get(in, &mn, sizeof mn);
        unpack_get(in, &mx, sizeof mx);
        float *x = o->values ? unpack_array(in, n, sizeof *x) : NULL;
        if (!in->bad && n > 0)
            o->feed(self, x, n, mn, mx, peer);
        free(x);
    }
    return in->bad ? error_nomem(err, "activation ranges") : ST_OK;
}

enum { COLUMN_ROWS = 256 };

void act_columns(const ActQuantizer *a, const QSpec *q, const float *x, int64_t rows, int64_t in, int64_t ld, DType T,
                 float *out)
{
    float col[COLUMN_ROWS];
    for (int64_t c = 0; c < in; c++) {
        float mn = INFINITY, mx = -INFINITY;
        for (int64_t r = 0; r < rows; r++) {
            mn = fminf(mn, x[r * ld + c]);
            mx = fmaxf(mx, x[r * ld + c]);
        }
        ActParam p = {.p = a->sample(q, mn, mx, T), .lo = -INFINITY, .hi = INFINITY};
        for (int64_t r = 0; r < rows; r += COLUMN_ROWS) {
            int64_t n = rows - r < COLUMN_ROWS ? rows - r : COLUMN_ROWS;
            for (int64_t i = 0; i < n; i++)
                col[i] = x[(r + i) * ld + c];
            a->rows(q, &p, col, 1, n, n, T, true, col);
            for (int64_t i = 0; i < n; i++)
                out[(r + i) * in + c] = col[i];
        }
    }
}

bool weight_quantizer_rowwise(const WeightQuantizer *w, const QSpec *q, bool peer)
{
    return w->rowwise && !(w->whole && w->whole(q, peer));
}

QuantLevel quant_level(const QConfig *c)
{
    QuantLevel l = {.config = c, .scheme = scheme_find(c), .act = act_quantizer_find(&c->act),
                    .weight = weight_quantizer_find(&c->weight)};
    l.runs = l.scheme && l.scheme->runnable && l.act && l.weight;
    return l;
}

bool qconfig_runnable(const QConfig *q)
{
    return quant_level(q).runs;
}
