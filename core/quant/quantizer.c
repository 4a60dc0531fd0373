#include "quant/quantizer.h"

#include <math.h>
#include <stddef.h>
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

bool qconfig_runnable(const QConfig *q)
{
    const Scheme *s = scheme_find(q);
    const WeightQuantizer *w = weight_quantizer_find(&q->weight);
    return s && s->runnable && act_quantizer_find(&q->act) && w;
}
