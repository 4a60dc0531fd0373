#include "run/panels.h"

#include <stdlib.h>
#include <time.h>

#include "base/mem.h"

int panels_slots(int threads)
{
    return threads + threads / 2 + 1;
}

Status panels_init(PanelRing *r, int threads, Error *err)
{
    *r = (PanelRing){.slots = panels_slots(threads)};
    r->slot = mem_zarray((size_t)r->slots, sizeof *r->slot);
    if (!r->slot)
        return error_nomem(err, "the panels of weights");
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->changed, &attr);
    pthread_condattr_destroy(&attr);
    r->made = true;
    return ST_OK;
}

void panels_fini(PanelRing *r)
{
    if (r->made) {
        pthread_cond_destroy(&r->changed);
        pthread_mutex_destroy(&r->lock);
    }
    free(r->slot);
    free(r->data);
    *r = (PanelRing){0};
}

Status panels_reserve(PanelRing *r, size_t entry_bytes, Error *err)
{
    entry_bytes = (entry_bytes + 63) / 64 * 64;
    if (entry_bytes <= r->slot_bytes)
        return ST_OK;
    free(r->data);
    r->slot_bytes = 0;
    r->data = mem_aligned((size_t)r->slots, entry_bytes);
    if (!r->data)
        return error_nomem(err, "the panels of weights");
    r->slot_bytes = entry_bytes;
    return ST_OK;
}

void panels_begin(PanelRing *r, const PanelWork *work)
{
    r->work = *work;
    r->begun = 0;
    for (int i = 0; i < r->slots; i++)
        r->slot[i] = (struct PanelSlot){.entry = -1};
}

static void wait_a_little(PanelRing *r)
{
    struct timespec until; /* looks up whether to stop: what is waited for may have been dropped */
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 20 * 1000 * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&r->changed, &r->lock, &until);
}

/* With the lock held, let go of while the entry is prepared. */
static void prepare_next(PanelRing *r, int worker)
{
    int64_t entry = r->begun++;
    struct PanelSlot *s = &r->slot[entry % r->slots];
    *s = (struct PanelSlot){.entry = entry, .left = r->work.users(r->work.ctx, entry)};
    pthread_mutex_unlock(&r->lock);
    r->work.prepare(r->work.ctx, entry, worker, r->data + (size_t)(entry % r->slots) * r->slot_bytes);
    pthread_mutex_lock(&r->lock);
    s->ready = true;
    pthread_cond_broadcast(&r->changed);
}

const void *panels_get(PanelRing *r, int64_t entry, int worker, const Cancel *cancel)
{
    const struct PanelSlot *mine = &r->slot[entry % r->slots];
    const void *got = NULL;
    pthread_mutex_lock(&r->lock);
    while (!cancel_level(cancel)) {
        if (mine->entry == entry && mine->ready) {
            got = r->data + (size_t)(entry % r->slots) * r->slot_bytes;
            break;
        }
        if (r->begun < r->work.entries && r->slot[r->begun % r->slots].left == 0)
            prepare_next(r, worker);
        else
            wait_a_little(r);
    }
    pthread_mutex_unlock(&r->lock);
    return got;
}

void panels_done(PanelRing *r, int64_t entry)
{
    pthread_mutex_lock(&r->lock);
    if (--r->slot[entry % r->slots].left == 0)
        pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}
