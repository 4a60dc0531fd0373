#ifndef SLIM_STAT_POOL_H
#define SLIM_STAT_POOL_H

#include "stat/tapstat.h"

#include "stat/order.h"

/* One worker's memory. */
typedef struct StatScratch {
    struct StatScratch *next;
    OrderScratch order;
    float *f;            /* floats for whatever is going on */
    size_t f_cap;
    uint32_t *count16;   /* [65536] all zero between uses; NULL until statscratch_count16 */
} StatScratch;

/* A piece nobody else holds (a new one when all are taken), NULL when memory is short. */
StatScratch *statpool_take(StatPool *p);
void statpool_give(StatPool *p, StatScratch *s);
/* n floats at s->f (contents undefined); false when memory is short. */
bool statscratch_floats(StatScratch *s, size_t n);
bool statscratch_count16(StatScratch *s);

#endif
