#include "src/format.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fmt_value(char *out, size_t size, double v)
{
    char buf[40], *e;
    snprintf(buf, sizeof buf, "%.4g", v);
    if (!isfinite(v) || !(e = strchr(buf, 'e'))) {
        snprintf(out, size, "%s", buf);
        return;
    }
    *e = '\0';
    snprintf(out, size, "%se%d", buf, atoi(e + 1));
}

void fmt_count(char *out, size_t size, int64_t n)
{
    char buf[32], tmp[48];
    int len = snprintf(buf, sizeof buf, "%" PRId64, n < 0 ? -n : n), o = 0;
    if (n < 0)
        tmp[o++] = '-';
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            tmp[o++] = ',';
        tmp[o++] = buf[i];
    }
    tmp[o] = '\0';
    snprintf(out, size, "%s", tmp);
}

void fmt_percent(char *out, size_t size, double share)
{
    double p = 100 * share;
    if (isnan(p))
        snprintf(out, size, "?");
    else
        snprintf(out, size, "%.*f %%",
                 p == 0 || fabs(p) >= 9.95 ? 0
                 : fabs(p) >= 0.95         ? 1
                 : fabs(p) >= 0.095        ? 2
                                           : 3,
                 p);
}

void fmt_seconds(char *out, size_t size, double s)
{
    int64_t n = s < 0 ? 0 : s > 1e12 ? (int64_t)1e12 : (int64_t)(s + 0.5);
    if (s < 9.95)
        snprintf(out, size, "%.1f s", s < 0 ? 0 : s);
    else if (n < 60)
        snprintf(out, size, "%d s", (int)n);
    else if (n < 3600)
        snprintf(out, size, "%d:%02d", (int)(n / 60), (int)(n % 60));
    else
        snprintf(out, size, "%" PRId64 ":%02d:%02d", n / 3600, (int)(n / 60 % 60), (int)(n % 60));
}
