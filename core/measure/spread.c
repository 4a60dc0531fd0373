#include "measure/spread.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/num.h"
#include "base/rng.h"

enum { RESAMPLES = 400 };

Status texts_of(const TokenSet *t, Texts *out, Error *err)
{
    *out = (Texts){.of_sample = mem_array((size_t)t->samples, sizeof *out->of_sample)};
    if (!out->of_sample)
        return error_nomem(err, "the texts of a data set");
    for (int s = 0; s < t->samples; s++) {
        /* windows of one text follow each other */
        if (s == 0 || !t->item || t->item[s] != t->item[s - 1])
            out->count++;
        out->of_sample[s] = out->count - 1;
    }
    out->texts = out->count;
    if (out->count == 1) {
        for (int s = 0; s < t->samples; s++)
            out->of_sample[s] = s;
        out->count = t->samples;
    }
    return ST_OK;
}

void texts_fini(Texts *t)
{
    free(t->of_sample);
    *t = (Texts){0};
}

Status unit_sums_init(UnitSums *u, int units, Error *err)
{
    *u = (UnitSums){.sum = mem_zarray((size_t)units, sizeof *u->sum),
                    .count = mem_zarray((size_t)units, sizeof *u->count), .units = units};
    if (u->sum && u->count)
        return ST_OK;
    unit_sums_fini(u);
    return error_nomem(err, "sums per text");
}

void unit_sums_fini(UnitSums *u)
{
    free(u->sum);
    free(u->count);
    *u = (UnitSums){0};
}

double unit_sums_mean(const UnitSums *u)
{
    double sum = 0, count = 0;
    for (int i = 0; i < u->units; i++) {
        sum += u->sum[i];
        count += u->count[i];
    }
    return sum / count;
}

double unit_sums_error(const UnitSums *u, uint64_t seed)
{
    double values[RESAMPLES], mean = 0, square = 0;
    int n = 0, full = 0;
    Rng rng = rng_new(seed);
    for (int i = 0; i < u->units; i++)
        full += u->count[i] > 0;
    if (full < 2)
        return NAN;
    for (int b = 0; b < RESAMPLES; b++) {
        double sum = 0, count = 0;
        for (int i = 0; i < u->units; i++) {
            int k = (int)rng_below(&rng, (uint64_t)u->units);
            sum += u->sum[k];
            count += u->count[k];
        }
        if (count == 0) /* only empty texts were drawn */
            continue;
        values[n] = sum / count;
        mean += values[n++];
    }
    mean /= n;
    for (int b = 0; b < n; b++)
        square += (values[b] - mean) * (values[b] - mean);
    return n > 1 ? sqrt(square / (n - 1)) : NAN;
}

double sorted_median(double *x, int64_t n)
{
    qsort(x, (size_t)n, sizeof *x, compare_doubles);
    return (x[(n - 1) / 2] + x[n / 2]) / 2;
}

double sorted_rank(const double *sorted, int64_t n, double share)
{
    int64_t k = (int64_t)ceil(share * (double)n) - 1;
    return sorted[k < 0 ? 0 : k >= n ? n - 1 : k];
}
