#include "base/radix.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { BYTES = sizeof(uint64_t), VALUES = 256 };

uint64_t radix_of_double(double v)
{
    uint64_t bits;
    v += 0.0; /* -0 becomes 0 */
    memcpy(&bits, &v, sizeof bits);
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

static unsigned byte_of(uint64_t key, int at)
{
    return key >> (8 * at) & (VALUES - 1);
}

/* From where on the pairs of each value of the byte go; false: all have the same. */
static bool begins_of(int64_t *count, int64_t n)
{
    int64_t at = 0;
    for (int v = 0; v < VALUES; v++) {
        int64_t own = count[v];
        if (own == n)
            return false;
        count[v] = at;
        at += own;
    }
    return true;
}

bool radix_sort(RadixPair *p, int64_t n)
{
    if (n < 2)
        return true;
    RadixPair *other = mem_array((size_t)n, sizeof *other), *from = p, *to = other;
    int64_t(*count)[VALUES] = mem_zarray(BYTES, sizeof *count);
    if (!other || !count) {
        free(other);
        free(count);
        return false;
    }
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < BYTES; k++)
            count[k][byte_of(p[i].key, k)]++;
    for (int k = 0; k < BYTES; k++) {
        if (!begins_of(count[k], n))
            continue;
        for (int64_t i = 0; i < n; i++)
            to[count[k][byte_of(from[i].key, k)]++] = from[i];
        RadixPair *was = from;
        from = to;
        to = was;
    }
    if (from != p)
        memcpy(p, from, (size_t)n * sizeof *p);
    free(other);
    free(count);
    return true;
}
