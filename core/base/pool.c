#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/priority.h"

Status cancel_check(const Cancel *c, Error *err)
{
    return cancel_level(c) ? error_set(err, ST_CANCELLED, "cancelled") : ST_OK;
}

void cancel_sleep(const Cancel *c)
{
    const struct timespec nap = {.tv_nsec = 20000000}; /* a sleeper costs nothing to speak of, and hears of the end soon */
    while (atomic_load_explicit(&c->hold, memory_order_relaxed) && !atomic_load_explicit(&c->level, memory_order_relaxed))
        nanosleep(&nap, NULL);
}

struct Pool {
    int threads;
    pthread_t *ids;
    int started;
    pthread_mutex_t lock;
    pthread_cond_t work, idle;
    uint64_t round; /* increases with each pool_run */
    int busy;
    bool quit;
    PoolTask *fn;
    void *ctx;
    const Cancel *cancel;
    Profile *profile;
    Phase phase;
    int64_t n;
    _Atomic int64_t next;
};

typedef struct WorkerArg {
    Pool *pool;
    int worker;
} WorkerArg;

static void work(Pool *p, int worker)
{
    for (;;) {
        int64_t i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (i >= p->n || cancel_level(p->cancel))
            return;
        Phase was = profile_enter(p->profile, worker, p->phase);
        p->fn(p->ctx, i, worker);
        profile_leave(p->profile, worker, was);
    }
}

static void *worker_main(void *arg)
{
    WorkerArg a = *(WorkerArg *)arg;
    free(arg);
    Pool *p = a.pool;
    thread_computes(false); /* what its starter chose besides it has by inheritance */
    uint64_t seen = 0;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->quit && p->round == seen)
            pthread_cond_wait(&p->work, &p->lock);
        if (p->quit)
            break;
        seen = p->round;
        pthread_mutex_unlock(&p->lock);
        work(p, a.worker);
        pthread_mutex_lock(&p->lock);
        if (--p->busy == 0)
            pthread_cond_signal(&p->idle);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

int pool_threads_of(int threads)
{
    cpu_set_t set;
    if (threads > 0)
        return threads;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

Status pool_new(Pool **out, int threads, Error *err)
{
    *out = NULL;
    threads = pool_threads_of(threads);
    Pool *p = calloc(1, sizeof *p);
    if (!p)
        return error_nomem(err, "the worker pool");
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->idle, NULL);
    p->ids = calloc((size_t)threads, sizeof *p->ids);
    p->threads = p->ids ? threads : 1;

    sigset_t all, old; /* signals are for the thread that has the terminal */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int i = 1; i < p->threads; i++) {
        WorkerArg *a = malloc(sizeof *a);
        if (a)
            *a = (WorkerArg){p, i};
        if (!a || pthread_create(&p->ids[p->started], NULL, worker_main, a) != 0) {
            free(a);
            break;
        }
        p->started++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!p->ids || p->started != p->threads - 1) {
        pool_free(p);
        return error_set(err, ST_NOMEM,
                         "cannot start %d compute threads: memory or the system's limit of threads is too small, try a "
                         "smaller --threads", threads);
    }
    *out = p;
    return ST_OK;
}

void pool_free(Pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->started; i++)
        pthread_join(p->ids[i], NULL);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->idle);
    pthread_mutex_destroy(&p->lock);
    free(p->ids);
    free(p);
}

int pool_threads(const Pool *p)
{
    return p->threads;
}

void pool_set_profile(Pool *p, Profile *profile)
{
    p->profile = profile;
}

Profile *pool_profile(const Pool *p)
{
    return p->profile;
}

void pool_run(Pool *p, Phase phase, int64_t n, PoolTask *fn, void *ctx, const Cancel *cancel)
{
    if (n <= 0)
        return;
    pthread_mutex_lock(&p->lock);
    p->phase = phase;
    p->fn = fn;
    p->ctx = ctx;
    p->cancel = cancel;
    p->n = n;
    atomic_store(&p->next, 0);
    p->busy = p->started;
    p->round++;
    if (p->started)
        pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    work(p, 0);
    pthread_mutex_lock(&p->lock);
    while (p->busy)
        pthread_cond_wait(&p->idle, &p->lock);
    pthread_mutex_unlock(&p->lock);
}
