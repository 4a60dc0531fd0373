#ifndef SLIM_BASE_RADIX_H
#define SLIM_BASE_RADIX_H

#include <stdbool.h>
#include <stdint.h>

/* A number by which to sort, and what is sorted. */
typedef struct RadixPair {
    uint64_t key;
    int64_t value;
} RadixPair;

/* Keys that are in the order of these numbers; -0 and 0 are one. NaN: none in particular. */
uint64_t radix_of_double(double v);

/* Sorts p[n] by ascending keys; pairs of one key stay in their order. Least significant byte first, without the bytes in
 * which all keys agree. false: there was no memory, and p is as it was. */
bool radix_sort(RadixPair *p, int64_t n);

#endif
