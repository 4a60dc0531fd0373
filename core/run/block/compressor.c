#include "run/block/compressor.h"

#include <math.h>
#include <string.h>

enum { COMPRESS_STEP = 64 }; /* features worked on at once */

/* Where slot j of entry w has feature f, in what the tokens gave and in the position table. Slots of an overlapping
 * compressor begin with the window before, whose first half of features counts; false when there is none. */
static bool slot_of(const Compressor *c, int64_t w, int64_t j, int64_t f, int64_t *at, int64_t *ape)
{
    int64_t row, first = 0;
    if (!c->overlap) {
        row = w * c->rate + j;
    } else if (j < c->rate) {
        if (w == 0)
            return false;
        row = (w - 1) * c->rate + j;
    } else {
        row = w * c->rate + j - c->rate;
        first = c->dim;
    }
    *at = row * c->width + first + f;
    *ape = row % c->rate * c->width + first + f;
    return true;
}

/* `n` features of entry w, from feature f on. */
static void mix_slots(const Compressor *c, const Ops *o, int64_t w, int64_t f, int64_t n, float *out)
{
    float max[COMPRESS_STEP], sum[COMPRESS_STEP], part[COMPRESS_STEP];
    int64_t slots = c->overlap ? 2 * c->rate : c->rate, at, ape;
    for (int64_t i = 0; i < n; i++) {
        max[i] = -INFINITY;
        sum[i] = out[i] = 0;
    }
    for (int64_t j = 0; j < slots; j++) {
        if (!slot_of(c, w, j, f, &at, &ape))
            continue;
        for (int64_t i = 0; i < n; i++) {
            float g = c->gate[at + i] + c->ape[ape + i];
            max[i] = g > max[i] || isnan(g) ? g : max[i];
        }
    }
    for (int pass = 0; pass < 2; pass++)
        for (int64_t j = 0; j < slots; j++) {
            if (!slot_of(c, w, j, f, &at, &ape))
                continue;
            for (int64_t i = 0; i < n; i++)
                part[i] = c->gate[at + i] + c->ape[ape + i] - max[i];
            o->f->exp(part, n);
            if (pass == 0) {
                o->k->add(sum, part, sum, n);
                continue;
            }
            for (int64_t i = 0; i < n; i++)
                part[i] /= sum[i];
            ops_round(o, part, n);
            o->k->mul(part, c->kv + at, part, n);
            ops_round(o, part, n);
            o->k->add(out, part, out, n);
        }
    ops_round(o, out, n);
}

void compressor_entry(const Compressor *c, const Ops *o, int64_t w, float *out)
{
    for (int64_t f = 0; f < c->dim; f += COMPRESS_STEP)
        mix_slots(c, o, w, f, c->dim - f < COMPRESS_STEP ? c->dim - f : COMPRESS_STEP, out + f);
}

/* p = softmax over the slots: dkv = p g, dgate = p g (kv - out). */
static void slots_back(const Compressor *c, const Ops *o, int64_t w, int64_t f, int64_t n, const float *out, const float *g,
                       float *dkv, float *dgate)
{
    float max[COMPRESS_STEP], sum[COMPRESS_STEP] = {0}, part[COMPRESS_STEP];
    int64_t slots = c->overlap ? 2 * c->rate : c->rate, at, ape;
    for (int64_t i = 0; i < n; i++)
        max[i] = -INFINITY;
    for (int64_t j = 0; j < slots; j++)
        for (int64_t i = 0; slot_of(c, w, j, f, &at, &ape) && i < n; i++)
            max[i] = fmaxf(max[i], c->gate[at + i] + c->ape[ape + i]);
    for (int pass = 0; pass < 2; pass++)
        for (int64_t j = 0; j < slots; j++) {
            if (!slot_of(c, w, j, f, &at, &ape))
                continue;
            for (int64_t i = 0; i < n; i++)
                part[i] = c->gate[at + i] + c->ape[ape + i] - max[i];
            o->f->exp(part, n);
            if (pass == 0)
                o->k->add(sum, part, sum, n);
            for (int64_t i = 0; i < n && pass == 1; i++) {
                dkv[at + i] = part[i] / sum[i] * g[i];
                dgate[at + i] = dkv[at + i] * (c->kv[at + i] - out[i]);
            }
        }
}

void compressor_back(const Compressor *c, const Ops *o, int64_t w, const float *out, const float *g, float *dkv, float *dgate)
{
    for (int64_t f = 0; f < c->dim; f += COMPRESS_STEP)
        slots_back(c, o, w, f, c->dim - f < COMPRESS_STEP ? c->dim - f : COMPRESS_STEP, out + f, g + f, dkv, dgate);
}

/* A float's bits so that greater numbers have greater keys; NaN has the least. */
static uint32_t key_of(float x)
{
    uint32_t u;
    if (isnan(x))
        return 0;
    x += 0.0f; /* -0 is 0 */
    memcpy(&u, &x, sizeof u);
    return u >> 31 ? ~u : u | 0x80000000u;
}

void choose_greatest(float *x, int64_t n, int64_t k)
{
    uint32_t least = 0; /* the k-th greatest key: its bits from the highest on */
    for (int bit = 31; bit >= 0 && n > k; bit--) {
        uint32_t trial = least | (uint32_t)1 << bit;
        int64_t above = 0;
        for (int64_t i = 0; i < n; i++)
            above += key_of(x[i]) >= trial;
        least = above >= k ? trial : least;
    }
    int64_t more = 0;
    for (int64_t i = 0; i < n; i++)
        more += key_of(x[i]) > least;
    int64_t equal = k - more; /* of those that are equal to the k-th, the first ones */
    for (int64_t i = 0; i < n; i++) {
        uint32_t key = key_of(x[i]);
        bool taken = n <= k || key > least || (key == least && equal-- > 0);
        x[i] = taken ? 1.0f : 0.0f;
    }
}
