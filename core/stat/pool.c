#include "stat/pool.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/mem.h"

struct StatPool {
    pthread_mutex_t lock;
    StatScratch *idle;
};

Status statpool_new(StatPool **out, Error *err)
{
    StatPool *p = mem_zarray(1, sizeof *p);
    if (!p)
        return error_nomem(err, "statistics");
    pthread_mutex_init(&p->lock, NULL);
    *out = p;
    return ST_OK;
}

void statpool_free(StatPool *p)
{
    if (!p)
        return;
    while (p->idle) {
        StatScratch *s = p->idle;
        p->idle = s->next;
        order_scratch_fini(&s->order);
        free(s->f);
        free(s->count16);
        free(s);
    }
    pthread_mutex_destroy(&p->lock);
    free(p);
}

StatScratch *statpool_take(StatPool *p)
{
    pthread_mutex_lock(&p->lock);
    StatScratch *s = p->idle;
    if (s)
        p->idle = s->next;
    pthread_mutex_unlock(&p->lock);
    return s ? s : mem_zarray(1, sizeof *s);
}

void statpool_give(StatPool *p, StatScratch *s)
{
    pthread_mutex_lock(&p->lock);
    s->next = p->idle;
    p->idle = s;
    pthread_mutex_unlock(&p->lock);
}

bool statscratch_floats(StatScratch *s, size_t n)
{
    if (n <= s->f_cap)
        return true;
    float *f = mem_aligned(n, sizeof *f);
    if (!f)
        return false;
    free(s->f);
    s->f = f;
    s->f_cap = n;
    return true;
}

bool statscratch_count16(StatScratch *s)
{
    if (!s->count16)
        s->count16 = mem_zarray(65536, sizeof *s->count16);
    return s->count16 != NULL;
}
