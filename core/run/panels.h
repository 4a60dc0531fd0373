#ifndef SLIM_RUN_PANELS_H
#define SLIM_RUN_PANELS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pool.h"

/* Panels of weights, made ready for products once and shared by the workers of one pool call. Entries are used in
 * ascending order by tasks that are handed out in ascending order; a ring holds as many as are in use at a time. A
 * worker whose entry isn't there prepares the next one that nobody has begun, its own or a later one, and waits only
 * when the ring is full: so all are busy however dear a panel is. What an entry holds does not depend on who made it. */
typedef struct PanelWork {
    int64_t entries;
    /* Tasks that will use the entry (at least 1), each with one panels_get and one panels_done. */
    int64_t (*users)(const void *ctx, int64_t entry);
    /* [worker] Fills dst with the entry. */
    void (*prepare)(void *ctx, int64_t entry, int worker, void *dst);
    void *ctx;
} PanelWork;

typedef struct PanelRing {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool made;
    unsigned char *data;  /* [slots][slot_bytes] */
    int slots;
    size_t slot_bytes;
    struct PanelSlot {
        int64_t entry, left; /* users that are not done yet; 0: free */
        bool ready;
    } *slot;
    PanelWork work;
    int64_t begun;        /* entries that somebody prepares or has prepared */
} PanelRing;

Status panels_init(PanelRing *r, int threads, Error *err);
void panels_fini(PanelRing *r);
/* Room for entries of up to so many bytes. */
Status panels_reserve(PanelRing *r, size_t entry_bytes, Error *err);
/* Slots a ring of so many threads has: one for each worker, and some ahead; at least the two that a task may use. */
int panels_slots(int threads);
/* Before the pool call; drops what is left of the one before. */
void panels_begin(PanelRing *r, const PanelWork *work);
/* [worker] The entry, ready, 64-byte aligned, until panels_done; NULL after `cancel` was raised. */
const void *panels_get(PanelRing *r, int64_t entry, int worker, const Cancel *cancel);
void panels_done(PanelRing *r, int64_t entry);

#endif
