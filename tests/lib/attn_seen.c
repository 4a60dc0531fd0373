#include "tests/lib/attn_seen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static int place(AttnSeen *s, int64_t linear)
{
    int i = 0;
    while (i < s->n && s->linear[i] != linear)
        i++;
    if (i == s->n)
        s->linear[s->n++] = linear;
    return i;
}

static bool seen_wants(void *self, Tap tap)
{
    const AttnSeen *s = self;
    return tap.layer == s->unit && tap.kind >= TAP_Q && tap.kind <= TAP_V;
}

static Status seen_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *e)
{
    (void)e;
    AttnSeen *s = self;
    int i = place(s, tap.linear), part = tap.kind - TAP_Q;
    s->start = start;
    s->samples = samples;
    s->width[i][part] = width;
    s->x[i][part] = mem_array((size_t)(start[samples] * width), sizeof(float));
    s->scale[i][part] = mem_zarray((size_t)width, sizeof(float));
    return ST_OK;
}

static void seen_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width, int64_t ld)
{
    AttnSeen *s = self;
    int part = tap.kind - TAP_Q, i = place(s, tap.linear);
    for (int64_t r = 0; r < rows; r++)
        memcpy(s->x[i][part] + (s->start[sample] + row0 + r) * width, x + r * ld, (size_t)width * sizeof *x);
}

const ObserverOps attn_seen_ops = {
    .name = "seen", .wants_tap = seen_wants, .tap_begin = seen_begin, .tap_tile = seen_tile};

void attn_seen_end(AttnSeen *s)
{
    for (int i = 0; i < s->n; i++)
        for (int part = 0; part < 3; part++) {
            free(s->x[i][part]);
            free(s->scale[i][part]);
        }
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

void attn_seen_window(const AttnSeen *s, int at, int part, int64_t c0, int64_t dim, double ratio, float *lo, float *hi)
{
    *lo = INFINITY;
    *hi = -INFINITY;
    for (int i = 0; i < s->samples; i++) {
        int64_t rows = s->start[i + 1] - s->start[i], n = rows * dim, in = (int64_t)(ratio * (double)n), best = 0;
        float *all = mem_array((size_t)n, sizeof *all);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < dim; c++)
                all[r * dim + c] = s->x[at][part][(s->start[i] + r) * s->width[at][part] + c0 + c];
        qsort(all, (size_t)n, sizeof *all, by_value);
        in = in < 1 ? 1 : in;
        for (int64_t k = 1; k + in <= n; k++)
            if ((double)all[k + in - 1] - (double)all[k] < (double)all[best + in - 1] - (double)all[best])
                best = k;
        *lo = fminf(*lo, all[best]);
        *hi = fmaxf(*hi, all[best + in - 1]);
        free(all);
    }
}
