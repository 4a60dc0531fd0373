/* The definition of the products in plain C, and what processors without vectors of their own compute with. */
#include "math/tile.h"

#include <math.h>
#include <string.h>

#include "math/convert.h"
#include "math/flush.h"

enum { WIDE = 16, NARROW = 8 };

static int cols_of(const TileCall *c)
{
    return c->wide ? WIDE : NARROW;
}

static void finish(const TileCall *c, int i, int j, float sum)
{
    float *y = c->y + i * c->ldy + j;
    *y = c->add ? *y + sum : sum;
}

static void f32(const TileCall *c)
{
    const float *x = c->x, *w = c->w;
    int cols = cols_of(c);
    for (int i = 0; i < c->rows; i++)
        for (int j = 0; j < cols; j++) {
            float sum = 0;
            for (int64_t k = 0; k < c->k; k++)
                sum = fmaf(x[i * c->ldx + k], w[k * cols + j], sum);
            finish(c, i, j, sum);
        }
}

/* Element k of output j of a panel of pairs. */
static float of_pair(const TileCall *c, int64_t k, int j)
{
    uint32_t pair = ((const uint32_t *)c->w)[k / 2 * cols_of(c) + j];
    return float_of_bits(k % 2 ? pair & 0xffff0000u : pair << 16);
}

static void f32_pairs(const TileCall *c)
{
    const float *x = c->x;
    for (int i = 0; i < c->rows; i++)
        for (int j = 0; j < cols_of(c); j++) {
            float sum = 0;
            for (int64_t k = 0; k < c->k; k++)
                sum = fmaf(x[i * c->ldx + k], of_pair(c, k, j), sum);
            finish(c, i, j, sum);
        }
}

static void bf16(const TileCall *c)
{
    const float *x = c->x;
    for (int i = 0; i < c->rows; i++)
        for (int j = 0; j < cols_of(c); j++) {
            float sum = 0;
            for (int64_t k = 0; k < c->k; k += 2)
                for (int odd = 1; odd >= 0; odd--)
                    sum = flushed_step(x[i * c->ldx + k + odd], flushed(of_pair(c, k + odd, j)), sum);
            float *y = c->y + i * c->ldy + j;
            *y = c->add ? flushed(*y + sum) : sum;
        }
}

static void pack(const void *w, int64_t stride, int64_t n, int64_t words, int cols, uint32_t *out)
{
    for (int64_t t = 0; t < words; t++)
        for (int64_t j = 0; j < cols; j++)
            if (j < n)
                memcpy(out + t * cols + j, (const unsigned char *)w + j * stride + t * 4, sizeof *out);
            else
                out[t * cols + j] = 0;
}

static void to_bf16(const float *x, int64_t n, uint16_t *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = bf16_of_float(flushed(x[i]));
}

const TileOps tile_generic = {
    .wide = WIDE, .narrow = NARROW, .f32 = f32, .f32_pairs = f32_pairs, .bf16 = bf16,
    .pack = pack, .round = to_bf16,
};
