#ifndef SLIM_TESTS_NOISE_H
#define SLIM_TESTS_NOISE_H

#include <stdint.h>

/* Numbers that look random, the same on every machine, which a seed goes through. */

/* In [-0.5, 0.5). */
float noise_next(uint32_t *seed);
/* n of them around a value; caller frees. */
float *noise_vector(int64_t n, float around, uint32_t *seed);

#endif
