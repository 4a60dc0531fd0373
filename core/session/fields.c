#include "session/fields.h"

#include <stdio.h>
#include <string.h>

const char *text_of(const cJSON *o, const char *key)
{
    const cJSON *v = json_get(o, key);
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

double num_of(const cJSON *o, const char *key, double missing)
{
    const cJSON *v = json_get(o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : missing;
}

bool whole_of(double v, int64_t lo, int64_t hi, int64_t *out)
{
    const double past = 9223372036854775808.0; /* 2^63 */
    if (!(v >= -past && v < past) || v != (double)(int64_t)v || (int64_t)v < lo || (int64_t)v > hi)
        return false;
    *out = (int64_t)v;
    return true;
}

int64_t whole_in(const cJSON *o, const char *key, int64_t lo, int64_t hi, int64_t missing)
{
    int64_t v = missing;
    const cJSON *n = json_get(o, key);
    if (cJSON_IsNumber(n))
        whole_of(n->valuedouble, lo, hi, &v);
    return v;
}

bool digest_parse(const char *hex, Digest *d)
{
    if (!hex || strlen(hex) != 64)
        return false;
    for (int i = 0; i < 32; i++) {
        unsigned v;
        if (sscanf(hex + 2 * i, "%2x", &v) != 1)
            return false;
        d->b[i] = (uint8_t)v;
    }
    return true;
}
