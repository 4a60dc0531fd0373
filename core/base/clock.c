#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

Status duration_parse(const char *text, double *seconds, Error *err)
{
    static const char units[] = "dhms", capitals[] = "DHMS";
    static const double worth[] = {86400, 3600, 60, 1};
    double sum = 0;
    int unit = -1;
    const char *p = text;
    while (*p >= '0' && *p <= '9') {
        char *end;
        unsigned long long n = strtoull(p, &end, 10);
        const char *at = *end ? strchr(units, *end) : NULL;
        const char *capital = *end ? strchr(capitals, *end) : NULL;
        int now = at ? (int)(at - units) : capital ? (int)(capital - capitals) : -1;
        if (now <= unit)
            break;
        sum += (double)n * worth[now];
        unit = now;
        p = end + 1;
    }
    if (unit < 0 || *p || sum > 1e9)
        return error_set(err, ST_USAGE, "'%s' is no time: write 2d, 1h30m or 90s", text);
    *seconds = sum;
    return ST_OK;
}
