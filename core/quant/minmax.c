/* The minmax method of int8 and int4 activations (specs/quantization.md 4, 5), and the float activation that leaves its input
 * alone. */
#include <stddef.h>

#include "quant/quantizer.h"
#include "qir/round.h"

/* ---- running and mean extremes ---- */

typedef struct Extremes {
    int64_t samples;
    float mn, mx;
    double sum_mn, sum_mx; /* every sample weighs the same, however long it is */
} Extremes;

static void extremes_feed(void *self, const float *x, int64_t n, float mn, float mx, bool peer)
{
    (void)x, (void)n, (void)peer;
    Extremes *e = self;
    e->mn = e->samples == 0 || mn < e->mn ? mn : e->mn;
    e->mx = e->samples == 0 || mx > e->mx ? mx : e->mx;
    e->sum_mn += (double)mn;
    e->sum_mx += (double)mx;
    e->samples++;
}

static void extremes_range(const void *self, const QSpec *q, bool peer, DType T, float *mn, float *mx)
{
    (void)peer;
    const Extremes *e = self;
    *mn = e->mn;
    *mx = e->mx;
    if (q->ext.mean) {
        *mn = round_to_dtype((float)(e->sum_mn / (double)e->samples), T);
        *mx = round_to_dtype((float)(e->sum_mx / (double)e->samples), T);
    }
}

const ActObserver act_observer_minmax = {
    .size = sizeof(Extremes),
    .feed = extremes_feed,
    .range = extremes_range,
};

/* ---- int8, int4 ---- */

static int bits_of(const QSpec *q)
{
    return q->dtype == QT_INT4 ? 4 : 8;
}

static QParam int_param(const QSpec *q, float mn, float mx, DType T)
{
    return intquant_param(mn, mx, bits_of(q), q->symmetric, T);
}

/* Symmetric whatever the spec says: rows of a dynamic quantizer. */
static QParam int_sample(const QSpec *q, float mn, float mx, DType T)
{
    return intquant_param(mn, mx, bits_of(q), true, T);
}

/* Those of all rows, or a row's own. */
static QParam int_row(const QSpec *q, const ActParam *p, const float *x, int64_t in, DType T)
{
    float mn, mx;
    if (p)
        return p->p;
    intquant_range(x, in, &mn, &mx);
    return int_sample(q, mn, mx, T);
}

static void int_rows(const QSpec *q, const ActParam *p, const float *x, int64_t rows, int64_t in, int64_t ld, DType T,
                      bool peer, float *out)
{
    (void)peer;
    for (int64_t r = 0; r < rows; r++)
        intquant_fake(x + r * ld, in, int_row(q, p, x + r * ld, in, T), bits_of(q), T, out + r * in);
}

static void int_codes(const QSpec *q, const ActParam *p, const float *x, int64_t rows, int64_t in, int64_t ld, DType T,
                       float *out, float *scale)
{
    for (int64_t r = 0; r < rows; r++) {
        QParam own = int_row(q, p, x + r * ld, in, T);
        intquant_codes(x + r * ld, in, own, bits_of(q), T, out + r * in);
        scale[r] = own.scale;
    }
}

const ActQuantizer act_float = {
    .key = {.method = "none", .dtype = QT_FLOAT, .scope = QS_PER_TENSOR, .sym = 1},
};

const ActQuantizer act_minmax_tensor = {
    .key = {.method = "minmax", .dtype = QT_INT8, .scope = QS_PER_TENSOR, .sym = -1},
    .observer = &act_observer_minmax,
    .param = int_param,
    .rows = int_rows,
    .codes = int_codes,
};

const ActQuantizer act_minmax_token = {
    .key = {.method = "minmax", .dtype = QT_INT8, .scope = QS_PER_TOKEN, .sym = 1},
    .dynamic = true,
    .sample = int_sample,
    .rows = int_rows,
    .codes = int_codes,
};

/* The peer's rows have scales of their own while it calibrates, too (specs/quantization.md 5). */
const ActQuantizer act_minmax_token4 = {
    .key = {.method = "minmax", .dtype = QT_INT4, .scope = QS_PER_TOKEN, .sym = 1, .owner = QUANT_OURS},
    .dynamic = true,
    .rows = int_rows,
    .codes = int_codes,
};

/* Fixed parameters for decoding, rows of their own in the prefill that measuring runs. */
const ActQuantizer act_pd_mix = {
    .key = {.method = "minmax", .dtype = QT_INT8, .scope = QS_PD_MIX, .sym = 0},
    .observer = &act_observer_minmax,
    .dynamic = true,
    .param = int_param,
    .sample = int_sample,
    .rows = int_rows,
    .codes = int_codes,
};
