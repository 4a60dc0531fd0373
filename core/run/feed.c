#include "run/feed.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "run/shelf.h"

enum { READ_STEP = 4 << 20 }; /* one pread: the thread looks up whether it should stop in between */

typedef enum SlotState { SLOT_EMPTY, SLOT_QUEUED, SLOT_READING, SLOT_READY } SlotState;

typedef struct FeedSlot {
    SlotState state;
    bool taken;
    FeedPiece piece;
    unsigned char *buf;
    uint64_t cap;
    Status status;
    Error err;
} FeedSlot;

struct Feed {
    pthread_t thread;
    bool started, quit;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    FeedSlot slot[2];
    Profile *profile;
    Shelf *shelf; /* NULL: none */
};

static uint64_t padded(uint64_t n)
{
    return (n + 63) & ~(uint64_t)63;
}

static bool same_piece(const FeedPiece *a, const FeedPiece *b)
{
    if (a->nseg != b->nseg)
        return false;
    for (int i = 0; i < a->nseg; i++)
        if (a->seg[i].tensor != b->seg[i].tensor || a->seg[i].begin != b->seg[i].begin || a->seg[i].n != b->seg[i].n)
            return false;
    return true;
}

static bool must_quit(Feed *f)
{
    pthread_mutex_lock(&f->lock);
    bool quit = f->quit;
    pthread_mutex_unlock(&f->lock);
    return quit;
}

/* Fills the slot's buffer; runs without the lock, on a slot in state SLOT_READING. */
static Status read_piece(Feed *f, FeedSlot *s, Error *err)
{
    uint64_t need = 0, at = 0;
    for (int i = 0; i < s->piece.nseg; i++)
        need += padded(s->piece.seg[i].n);
    if (need > s->cap) {
        free(s->buf);
        s->cap = 0;
        s->buf = mem_aligned(need, 1);
        if (!s->buf)
            return error_nomem(err, "a piece of the weights");
        s->cap = need;
    }
    for (int i = 0; i < s->piece.nseg; i++) {
        const struct FeedSegment *g = &s->piece.seg[i];
        for (uint64_t done = 0; done < g->n;) {
            uint64_t n = g->n - done < READ_STEP ? g->n - done : READ_STEP;
            if (must_quit(f))
                return ST_CANCELLED;
            if (!f->shelf || !shelf_copy(f->shelf, g->tensor, g->begin + done, n, s->buf + at + done))
                RETURN_IF_ERROR(checkpoint_read(g->file, g->tensor, g->begin + done, n, s->buf + at + done, err));
            done += n;
        }
        at += padded(g->n);
    }
    return ST_OK;
}

static void *feed_main(void *arg)
{
    Feed *f = arg;
    pthread_mutex_lock(&f->lock);
    while (!f->quit) {
        FeedSlot *s = f->slot[0].state == SLOT_QUEUED   ? &f->slot[0]
                      : f->slot[1].state == SLOT_QUEUED ? &f->slot[1]
                                                        : NULL;
        if (!s) {
            pthread_cond_wait(&f->changed, &f->lock);
            continue;
        }
        s->state = SLOT_READING;
        pthread_mutex_unlock(&f->lock);
        int64_t begin = profile_begin(f->profile);
        Status st = read_piece(f, s, &s->err);
        profile_end(f->profile, PHASE_READ, begin);
        pthread_mutex_lock(&f->lock);
        s->status = st;
        s->state = SLOT_READY;
        pthread_cond_broadcast(&f->changed);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

Status feed_new(Feed **out, Profile *profile, Error *err)
{
    *out = NULL;
    Feed *f = calloc(1, sizeof *f);
    if (!f)
        return error_nomem(err, "the weight reader");
    f->profile = profile;
    pthread_mutex_init(&f->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&f->changed, &attr);
    pthread_condattr_destroy(&attr);

    sigset_t all, old; /* signals are for the thread that has the terminal */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    f->started = pthread_create(&f->thread, NULL, feed_main, f) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!f->started) {
        feed_free(f);
        return error_set(err, ST_NOMEM,
                         "cannot start the thread that reads weights: memory or the system's limit of threads is too small");
    }
    *out = f;
    return ST_OK;
}

void feed_free(Feed *f)
{
    if (!f)
        return;
    if (f->started) {
        pthread_mutex_lock(&f->lock);
        f->quit = true;
        pthread_cond_broadcast(&f->changed);
        pthread_mutex_unlock(&f->lock);
        pthread_join(f->thread, NULL);
    }
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f->slot[0].buf);
    free(f->slot[1].buf);
    free(f);
}

void feed_from_shelf(Feed *f, Shelf *s)
{
    pthread_mutex_lock(&f->lock);
    f->shelf = s;
    pthread_mutex_unlock(&f->lock);
}

static FeedSlot *find_slot(Feed *f, const FeedPiece *p)
{
    for (int i = 0; i < 2; i++) {
        FeedSlot *s = &f->slot[i];
        if (s->state != SLOT_EMPTY && !s->taken && same_piece(&s->piece, p))
            return s;
    }
    return NULL;
}

/* With the lock held: the piece is queued, or was already. */
static FeedSlot *want_locked(Feed *f, const FeedPiece *p)
{
    FeedSlot *s = find_slot(f, p);
    if (s)
        return s;
    for (int i = 0; i < 2 && !s; i++)
        if (f->slot[i].state == SLOT_EMPTY)
            s = &f->slot[i];
    if (!s)
        s = f->slot[0].taken ? &f->slot[1] : &f->slot[0];
    while (s->state == SLOT_READING)
        pthread_cond_wait(&f->changed, &f->lock);
    s->piece = *p;
    s->state = SLOT_QUEUED;
    pthread_cond_broadcast(&f->changed);
    return s;
}

void feed_want(Feed *f, const FeedPiece *p)
{
    if (f->shelf && p->nseg && !shelf_copy(f->shelf, p->seg[0].tensor, 0, 0, NULL))
        return; /* the next layer's, which will lie there */
    pthread_mutex_lock(&f->lock);
    want_locked(f, p);
    pthread_mutex_unlock(&f->lock);
}

Status feed_take(Feed *f, const FeedPiece *p, const void *data[FEED_SEGMENTS], const Cancel *cancel, Error *err)
{
    pthread_mutex_lock(&f->lock);
    FeedSlot *s = want_locked(f, p);
    while (s->state != SLOT_READY && !cancel_level(cancel)) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += 20 * 1000 * 1000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        pthread_cond_timedwait(&f->changed, &f->lock, &until);
    }
    Status st = ST_CANCELLED;
    if (s->state == SLOT_READY) {
        st = s->status;
        if (st == ST_OK) {
            s->taken = true;
            uint64_t at = 0;
            for (int i = 0; i < p->nseg; i++) {
                data[i] = s->buf + at;
                at += padded(p->seg[i].n);
            }
        } else {
            s->state = SLOT_EMPTY;
            if (err)
                *err = s->err;
        }
    }
    pthread_mutex_unlock(&f->lock);
    if (st == ST_CANCELLED)
        return error_set(err, ST_CANCELLED, "cancelled");
    return st;
}

void feed_done(Feed *f)
{
    pthread_mutex_lock(&f->lock);
    for (int i = 0; i < 2; i++)
        if (f->slot[i].taken) {
            f->slot[i].taken = false;
            f->slot[i].state = SLOT_EMPTY;
        }
    pthread_mutex_unlock(&f->lock);
}
