#ifndef SLIM_PROCESS_CACHEWATCH_H
#define SLIM_PROCESS_CACHEWATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "qir/scheme.h"
#include "run/observer.h"

/* Ranges of the keys and values of one layer as they enter the cache, per channel (specs/quantization.md 5, 10.3). */
typedef struct CacheWatch {
    int layer;
    bool last; /* of the last sample only, as the peer; otherwise of all */
    struct CacheSide {
        int samples;
        int64_t width;  /* kv heads * head dim */
        float *mn, *mx; /* [samples][width]; the first row is of all samples in the end */
        bool done;
    } side[4];          /* keys, values; those of the layer's second attention */
} CacheWatch;

/* Zero-initialise, then set layer and last. The watch outlives the passes it is in. */
Observer cache_watch_observer(CacheWatch *w);
void cache_watch_fini(CacheWatch *w);
/* Least and largest value of every channel of the keys (side 0) or values (1), of a second attention 2 and 3, [*n] each,
 * borrowed. ST_DATA when they were not seen or hold NaN or Inf. */
Status cache_watch_range(const CacheWatch *w, int side, const float **mn, const float **mx, int64_t *n, Error *err);
/* Scales and offsets of a side, [*n] each; caller frees *scale, which holds *offset too. ST_DATA
 * as above. */
Status cache_watch_params(const CacheWatch *w, int side, const QSpec *q, DType T, float **scale, float **offset,
                          int64_t *n, Error *err);

#endif
