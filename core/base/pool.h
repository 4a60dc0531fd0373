#ifndef SLIM_BASE_POOL_H
#define SLIM_BASE_POOL_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/error.h"
#include "base/profile.h"

/* Asks a job to stop or to stand still. Set from any thread (also from a signal handler), read at every task. */
typedef struct Cancel {
    atomic_int level; /* 0 run, 1 stop after the current tile and keep results, 2 stop at once */
    atomic_int hold;  /* not 0: who reads the level sleeps until this is 0 again, or the level is raised */
} Cancel;

/* Sleeps for as long as `c` is held and not raised. */
void cancel_sleep(const Cancel *c);

static inline int cancel_level(const Cancel *c)
{
    if (!c)
        return 0;
    if (atomic_load_explicit(&c->hold, memory_order_relaxed))
        cancel_sleep(c);
    return atomic_load_explicit(&c->level, memory_order_relaxed);
}

/* ST_CANCELLED, with its text, once `c` (may be NULL) was raised. */
Status cancel_check(const Cancel *c, Error *err);

/* A fixed set of compute threads. The thread that calls pool_run works too, so `threads` counts it. */
typedef struct Pool Pool;

/* One task. `worker` is in [0, pool_threads): for per-worker scratch. */
typedef void PoolTask(void *ctx, int64_t index, int worker);

/* threads <= 0: every core of the affinity mask. Workers run at nice +5 and block all signals. Caller frees with
 * pool_free. */
Status pool_new(Pool **out, int threads, Error *err);
void pool_free(Pool *p);
int pool_threads(const Pool *p);
/* Threads that pool_new gives for this number. */
int pool_threads_of(int threads);
/* Whom the tasks' CPU time is told to from the next pool_run on (base/profile.h, of pool_threads workers), NULL: nobody.
 * Outlives what it is set for. */
void pool_set_profile(Pool *p, Profile *profile);
Profile *pool_profile(const Pool *p);
/* Runs tasks 0..n-1, handed out in ascending order, and returns when all are done. Not reentrant. After `cancel`
 * (may be NULL) is raised the remaining tasks are skipped. phase: the part of the work that the tasks are, PHASE_OTHER
 * where they say it themselves. */
void pool_run(Pool *p, Phase phase, int64_t n, PoolTask *fn, void *ctx, const Cancel *cancel);

#endif
