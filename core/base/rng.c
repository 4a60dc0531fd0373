#include "base/rng.h"

static uint64_t mix(uint64_t v)
{
    v = (v ^ v >> 30) * 0xBF58476D1CE4E5B9u;
    v = (v ^ v >> 27) * 0x94D049BB133111EBu;
    return v ^ v >> 31;
}

Rng rng_new(uint64_t seed)
{
    return (Rng){seed};
}

Rng rng_of(uint64_t seed, uint64_t stream)
{
    return (Rng){mix(mix(seed + 0x9E3779B97F4A7C15u) + stream)};
}

uint64_t rng_next(Rng *r)
{
    return mix(r->state += 0x9E3779B97F4A7C15u);
}

uint64_t rng_below(Rng *r, uint64_t n)
{
    uint64_t rest = -n % n, v; /* so many of the 2^64 numbers would make some results come once more than others */
    do
        v = rng_next(r);
    while (v < rest);
    return v % n;
}

double rng_unit(Rng *r)
{
    return (double)(rng_next(r) >> 11) * 0x1p-53;
}
