#ifndef SLIM_RUN_TAPS_H
#define SLIM_RUN_TAPS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/pool.h"
#include "run/observer.h"
#include "run/stream.h"

enum { TAPS_MAX_OBSERVERS = 64 };

/* The observers of one pass. */
typedef struct TapHub {
    const Observer *obs;
    int nobs;
    const Cancel *cancel;
} TapHub;

/* Bit i: observer i wants this tap (the panels of this weight). Job thread. */
uint64_t taps_wanted(const TapHub *h, Tap tap);
uint64_t taps_weight_wanted(const TapHub *h, int64_t linear);

Status taps_begin(const TapHub *h, uint64_t mask, Tap tap, const Stream *shape, int64_t width, Error *err);
Status taps_end(const TapHub *h, uint64_t mask, Tap tap, Error *err);
Status taps_weight_begin(const TapHub *h, uint64_t mask, int64_t linear, int panels, Error *err);
Status taps_weight_end(const TapHub *h, uint64_t mask, int64_t linear, Error *err);
Status taps_energy(const TapHub *h, uint64_t mask, int64_t linear, const double *sums, int64_t n, int64_t rows,
                   Error *err);
bool taps_energy_wanted(const TapHub *h, uint64_t mask);
Status taps_layer_end(const TapHub *h, int layer, Error *err);

/* How what every process packed of its samples reaches all of them. */
typedef struct Ranks {
    /* [job] *all: [*n] packs in the order of the samples, `mine` among them; borrowed until the next call. A rank that
     * nobody needs the whole of gets none. */
    Status (*gather)(void *ctx, const Pack *mine, const Pack *const **all, int *n, Error *err);
    void *ctx;
    struct Dist *dist;
    const struct Share *share; /* which samples this rank has; NULL: all */
} Ranks;
/* After a layer: what its observer saw of this rank's samples is exchanged for what all ranks saw. An observer that cannot
 * be packed: ST_INTERNAL naming it. */
Status taps_gather(const Observer *o, int layer, const Ranks *ranks, Error *err);

/* Rows of samples [s0, s0+n) at x: one pool task a sample, handed over in tiles. row0: packed row that x points to. */
typedef struct TapFeed {
    const TapHub *hub;
    uint64_t mask;
    Tap tap;
    const Stream *shape;
    int s0;
    int64_t row0;
    const float *x;
    int64_t width, ld;
} TapFeed;
void taps_task(void *feed, int64_t sample, int worker);
void taps_weight_panel(const TapHub *h, uint64_t mask, int64_t linear, int panel, int64_t row0, int64_t rows,
                       const float *w, int64_t in);

/* Several kinds of task in one pool_run, so that small ones fill the gaps that large ones leave. */
enum { BATCH_MAX = 16 };
typedef struct Batch {
    struct BatchPart {
        Phase phase;
        PoolTask *fn;
        void *ctx;
        int64_t n;
    } part[BATCH_MAX];
    int n;
    Profile *profile; /* of the pool */
} Batch;
void batch_add(Batch *b, Phase phase, PoolTask *fn, void *ctx, int64_t n);
/* Runs and empties the batch; ST_CANCELLED when `cancel` was raised. */
Status batch_run(Batch *b, Pool *pool, const Cancel *cancel, Error *err);

#endif
