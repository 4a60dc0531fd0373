#include "metric/sampleparts.h"

#include <math.h>
#include <string.h>

static const char error_name[] = "error";

const MetricPart sample_parts[] = {
    [SAMPLE_ERROR] = {error_name, "", "standard error of the score over the texts"},
    [SAMPLE_MOST] = {"sample", "", "the text with most of the score, from 0 on"},
    [SAMPLE_SHARE] = {"share", "%", "its part of the score"},
    {NULL, NULL, NULL},
};

void sample_add(UnitScore *u, double x, int sample)
{
    double n = u->samples, mean = n > 0 ? u->sum / n : 0, error = u->part[SAMPLE_ERROR];
    double square = n > 1 ? error * error * n * (n - 1) : 0;
    double most = n > 0 ? u->sum > 0 ? u->part[SAMPLE_SHARE] / 100 * u->sum : 0 : -1;
    if (n > 0)
        square += (x - mean) * (x - mean) * n / (n + 1);
    u->sum += x;
    u->samples++;
    u->part[SAMPLE_ERROR] = n > 0 ? sqrt(square / ((n + 1) * n)) : (double)NAN;
    if (x > most) {
        most = x;
        u->part[SAMPLE_MOST] = sample;
    }
    u->part[SAMPLE_SHARE] = u->sum > 0 ? 100 * most / u->sum : (double)NAN;
}

int metric_error_part(const Metric *m)
{
    for (int k = 0; k < metric_parts(m); k++)
        if (strcmp(m->parts[k].name, error_name) == 0)
            return k;
    return -1;
}

bool errors_meet(double a, double error_a, double b, double error_b)
{
    return a - 2 * error_a <= b + 2 * error_b;
}
