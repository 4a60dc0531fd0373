#include "save/dequant.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "math/convert.h"

typedef struct Gather {
    const char *module;
    DequantFetch *fetch;
    void *ctx;
    char *why;
    size_t size;
} Gather;

static bool refuse(const Gather *g, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(g->why, g->size, fmt, ap);
    va_end(ap);
    return false;
}

static const void *get(const Gather *g, const char *suffix, const TensorInfo **t)
{
    char name[600];
    snprintf(name, sizeof name, "%.500s%s", g->module, suffix);
    return g->fetch(g->ctx, name, t);
}

double dequant_value(const void *p, int64_t i, DType dtype)
{
    uint16_t h;
    float f;
    if (dtype == DT_F32) {
        memcpy(&f, (const char *)p + i * 4, 4);
        return (double)f;
    }
    memcpy(&h, (const char *)p + i * 2, 2);
    return (double)(dtype == DT_BF16 ? bf16_to_float(h) : f16_to_float(h));
}

/* How rows lie in the stored weight. */
static bool open_weight(Dequant *d, const Gather *g, const char *label)
{
    const TensorInfo *t;
    d->code = get(g, ".weight", &t);
    if (!d->code)
        return refuse(g, "its weight is missing or can't be read");
    d->dtype = t->dtype;
    int64_t r = t->ndim == 2 ? t->shape[0] : 0, c = t->ndim == 2 ? t->shape[1] : 0;
    bool int4 = strncmp(label, "W4A", 3) == 0;
    if (strcmp(label, "W16A16S") == 0 && dtype_plain(t->dtype) && r == d->out && c == d->in)
        d->pack = PACK_FLOAT;
    else if (t->dtype == DT_U8 && r == d->out && c * 2 == d->in)
        d->pack = PACK_FP4;
    else if (t->dtype == DT_I8 && int4 && r * 2 == d->out && c == d->in)
        d->pack = PACK_ROWS;
    else if ((t->dtype == DT_I8 || t->dtype == DT_F8_E4M3) && r == d->out && c == d->in)
        d->pack = PACK_NONE;
    else
        return refuse(g, "its weight is %s [%lld, %lld], which is no form of %s [%lld, %lld]", dtype_name(t->dtype),
                      (long long)r, (long long)c, label, (long long)d->out, (long long)d->in);
    return true;
}

static bool open_static(Dequant *d, const Gather *g)
{
    const TensorInfo *t, *deq;
    const float *in = get(g, ".input_scale", &t);
    d->deq = get(g, ".deq_scale", &deq);
    if (!in || !d->deq || t->dtype != DT_F32 || t->nbytes != 4 || deq->ndim != 1 || deq->shape[0] != d->out
        || (deq->dtype != DT_F32 && deq->dtype != DT_I64))
        return refuse(g, "neither weight_scale nor input_scale and deq_scale are there as expected");
    d->deq_dtype = deq->dtype;
    d->input_scale = *in;
    return true;
}

static bool open_scale(Dequant *d, const Gather *g)
{
    const TensorInfo *t, *o;
    d->scale = get(g, ".weight_scale", &t);
    if (!d->scale)
        return open_static(d, g);
    bool mx = t->dtype == DT_U8;
    int64_t groups = t->ndim == 2 ? t->shape[1] : t->ndim == 1 ? 1 : 0;
    if (t->ndim < 1 || t->shape[0] != d->out || groups < 1 || groups > d->in || (mx && groups != (d->in + 31) / 32)
        || (!mx && t->dtype != DT_F32 && t->dtype != DT_BF16 && t->dtype != DT_F16))
        return refuse(g, "its weight_scale has an unexpected shape or type");
    d->scale_dtype = t->dtype;
    d->groups = groups;
    d->group = mx ? 32 : (d->in + groups - 1) / groups;
    d->offset = get(g, ".weight_offset", &o);
    if (d->offset && (o->dtype != DT_F32 || o->nbytes != (uint64_t)(d->out * groups) * 4))
        return refuse(g, "its weight_offset does not fit its weight_scale");
    d->outer = get(g, ".weight_dual_scale", &o);
    if (d->outer && (o->dtype != DT_F32 || o->ndim != 3 || o->shape[0] != d->out || o->shape[1] < 1))
        return refuse(g, "its weight_dual_scale has an unexpected shape or type");
    d->outer_blocks = d->outer ? o->shape[1] : 0;
    if (d->outer && d->outer_block <= 0)
        d->outer_block = (d->in + d->outer_blocks - 1) / d->outer_blocks;
    if (d->outer && (d->in + d->outer_block - 1) / d->outer_block != d->outer_blocks)
        return refuse(g, "its weight_dual_scale has %lld blocks of %lld inputs", (long long)d->outer_blocks,
                      (long long)d->outer_block);
    return true;
}

/* Tensors that the weight does without, of their expected lengths. */
static bool check_rest(const Dequant *d, const Gather *g)
{
    static const struct {
        const char *suffix;
        bool each_out;
    } rows[] = {
        {".quant_bias", true}, {".deq_scale", true}, {".bias", true}, {".scale_bias", true}, {".input_scale", false},
        {".input_offset", false}, {".input_zero_point", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const TensorInfo *t;
        if (get(g, rows[i].suffix, &t) && t->shape[0] != (rows[i].each_out ? d->out : 1))
            return refuse(g, "its %s has %lld entries", rows[i].suffix + 1, (long long)t->shape[0]);
    }
    return true;
}

bool dequant_open(Dequant *d, const char *module, const char *label, int64_t out, int64_t in, int64_t dual_block,
                  DequantFetch *fetch, void *ctx, char *why, size_t size)
{
    Gather g = {module, fetch, ctx, why, size};
    *d = (Dequant){.out = out, .in = in, .groups = 1, .group = in, .outer_block = dual_block};
    return open_weight(d, &g, label) && (d->pack == PACK_FLOAT || open_scale(d, &g)) && check_rest(d, &g);
}

static float e4m3(uint8_t v)
{
    int e = v >> 3 & 15, m = v & 7;
    if (e == 15 && m == 7)
        return NAN;
    float x = e ? ldexpf(1 + (float)m / 8, e - 7) : ldexpf((float)m / 8, -6);
    return v & 0x80 ? -x : x;
}

static float code_of(const Dequant *d, int64_t n, int64_t k)
{
    static const float grid[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    uint8_t b;
    switch (d->pack) {
    case PACK_ROWS:
        b = d->code[n / 2 * d->in + k];
        b = n % 2 ? b >> 4 : b & 15;
        return (float)((int)b - (b > 7 ? 16 : 0));
    case PACK_FP4:
        b = d->code[(n * d->in + k) / 2];
        b = k % 2 ? b >> 4 : b & 15;
        return b & 8 ? -grid[b & 7] : grid[b & 7];
    default:
        b = d->code[n * d->in + k];
        return d->dtype == DT_F8_E4M3 ? e4m3(b) : (float)(int8_t)b;
    }
}

static float scale_of(const Dequant *d, int64_t n, int64_t g)
{
    if (d->deq) {
        float v;
        if (d->deq_dtype == DT_I64) {
            int64_t bits;
            memcpy(&bits, (const char *)d->deq + n * 8, 8);
            v = float_of_bits((uint32_t)bits);
        } else {
            memcpy(&v, (const char *)d->deq + n * 4, 4);
        }
        return v / d->input_scale;
    }
    int64_t at = n * d->groups + g;
    if (d->scale_dtype != DT_U8)
        return (float)dequant_value(d->scale, at, d->scale_dtype);
    uint8_t e = ((const uint8_t *)d->scale)[at];
    return e == 255 ? NAN : ldexpf(1, (int)e - 127);
}

void dequant_row(const Dequant *d, int64_t n, float *y)
{
    for (int64_t k = 0; k < d->in && d->pack == PACK_FLOAT; k++)
        y[k] = (float)dequant_value(d->code, n * d->in + k, d->dtype);
    if (d->pack == PACK_FLOAT)
        return;
    for (int64_t g = 0; g < d->groups; g++) {
        float s = scale_of(d, n, g), o = d->offset ? d->offset[n * d->groups + g] : 0;
        int64_t end = (g + 1) * d->group < d->in ? (g + 1) * d->group : d->in;
        for (int64_t k = g * d->group; k < end; k++) {
            y[k] = (code_of(d, n, k) - o) * s;
            if (d->outer)
                y[k] *= d->outer[n * d->outer_blocks + k / d->outer_block];
        }
    }
}
