#ifndef SLIM_BASE_RNG_H
#define SLIM_BASE_RNG_H

#include <stdint.h>

/* splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): a counter with a bijective
 * mix, so that any state is a good start. The same numbers on every machine. Not for secrets. */
typedef struct Rng {
    uint64_t state;
} Rng;

/* The numbers of a seed. */
Rng rng_new(uint64_t seed);
/* The numbers that number `stream` of a seed's streams has for itself: those of a unit do not depend on what the units
 * before it drew. */
Rng rng_of(uint64_t seed, uint64_t stream);
/* The next 64 bits. */
uint64_t rng_next(Rng *r);
/* A whole number in [0, n), each equally often; n > 0. */
uint64_t rng_below(Rng *r, uint64_t n);
/* A number in [0, 1), of 53 bits. */
double rng_unit(Rng *r);

#endif
