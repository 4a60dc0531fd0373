/* The folder of a session on disk, and the thread that writes it. */
#include "session/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/file.h"
#include "session/logfile.h"
#include "session/streamfile.h"

#define SYNC_EVERY_NS INT64_C(1000000000)
/* Bytes that wait. Records of a person are small and come slowly: so many are there only when the disk has stopped. */
enum { WAITING_MAX = 256 << 20, WAITING_JOB = 16 << 20 };

typedef struct KeeperEntry {
    struct KeeperEntry *next;
    char *json;            /* a record, or lines of the log, or: */
    bool log;
    KeptLayer layer;
    Stream copy;           /* of the layer's stream */
    const Stream *stream;  /* the copy, or the caller's who waits; NULL: a record */
    bool drop;             /* neither: removes the streams of other passes than keep_run */
    int keep_run;
    size_t bytes;
    bool sync;
} KeeperEntry;

struct Keeper {
    char *dir;
    Journal *journal;      /* writer thread only, once that runs */
    int lock_fd;
    void (*wake)(void *);
    void *wake_ctx;
    pthread_t thread;
    bool thread_on;
    int64_t last_sync;     /* writer thread */
    bool dirty;            /* writer thread */
    int warned_run;        /* the last pass of which a stream that was not written was told; writer thread */
    bool log_failed;       /* the file of the log can't be written; writer thread */

    pthread_mutex_t lock;  /* all below; never held over work */
    pthread_cond_t work, done;
    KeeperEntry *head, *tail;
    size_t bytes;          /* that wait */
    uint64_t layers_in, layers_out; /* handed over, and written */
    uint64_t all_in, all_out;
    bool quit;
    bool broken, broken_told;
    Error why;
    bool warned;           /* a stream or the log could not be written, and that is to be told */
    Error warning;
    int run, layer;        /* newest layer on the disk with its stream; run -1: none */
    char sha[65];
};

/* ---- failures ---- */

/* Nothing is written from here on. */
static void give_up(Keeper *kp, const Error *why)
{
    pthread_mutex_lock(&kp->lock);
    if (!kp->broken) {
        kp->broken = true;
        kp->why = *why;
        snprintf(kp->why.text, sizeof kp->why.text, "session not saved: %.900s", why->text);
    }
    pthread_mutex_unlock(&kp->lock);
    kp->wake(kp->wake_ctx);
}

bool keeper_works(Keeper *kp)
{
    pthread_mutex_lock(&kp->lock);
    bool works = !kp->broken;
    pthread_mutex_unlock(&kp->lock);
    return works;
}

static void tell_warning(Keeper *kp, const Error *why)
{
    pthread_mutex_lock(&kp->lock);
    kp->warned = true;
    kp->warning = *why;
    pthread_mutex_unlock(&kp->lock);
    kp->wake(kp->wake_ctx);
}

static void warn_stream(Keeper *kp, int run, const Error *why)
{
    bool news = kp->warned_run != run;
    kp->warned_run = run;
    if (news)
        tell_warning(kp, why);
}

bool keeper_said(Keeper *kp, int *level, Error *said)
{
    bool any = true;
    pthread_mutex_lock(&kp->lock);
    if (kp->warned) {
        kp->warned = false;
        *level = 1; /* rows are kept all the same */
        *said = kp->warning;
    } else if (kp->broken && !kp->broken_told) {
        kp->broken_told = true;
        *level = 2;
        *said = kp->why;
    } else {
        any = false;
    }
    pthread_mutex_unlock(&kp->lock);
    return any;
}

/* ---- the writer ---- */

static void entry_free(KeeperEntry *e)
{
    free(e->json);
    str_free(&e->layer.head);
    str_free(&e->layer.tail);
    stream_fini(&e->copy);
    free(e);
}

static Status sync_now(Keeper *kp, Error *err)
{
    kp->last_sync = clock_ns();
    kp->dirty = false;
    return journal_sync(kp->journal, err);
}

/* The stream first: the record names it. */
static Status write_layer(Keeper *kp, const KeptLayer *l, const Stream *h, Error *err)
{
    char sha[65] = "";
    Error why = {0};
    if (streamfile_write(kp->dir, l->run, l->layer, h, l->carried, sha, &why) != ST_OK)
        warn_stream(kp, l->run, &why);
    Str b = {0};
    str_append(&b, str_text(&l->head), l->head.len);
    str_json(&b, sha);
    str_append(&b, str_text(&l->tail), l->tail.len);
    Status s = b.oom || l->head.oom || l->tail.oom ? error_nomem(err, "a layer's record")
                                                   : journal_append(kp->journal, b.s, true, err);
    str_free(&b);
    if (s != ST_OK || !sha[0])
        return s;
    pthread_mutex_lock(&kp->lock);
    kp->run = l->run;
    kp->layer = l->layer;
    memcpy(kp->sha, sha, sizeof kp->sha);
    pthread_mutex_unlock(&kp->lock);
    return ST_OK;
}

static Status write_entry(Keeper *kp, KeeperEntry *e, Error *err)
{
    if (e->stream) {
        RETURN_IF_ERROR(write_layer(kp, &e->layer, e->stream, err));
        kp->last_sync = clock_ns();
        kp->dirty = false;
        return ST_OK;
    }
    if (e->drop) {
        streamfile_keep_only(kp->dir, e->keep_run);
        return ST_OK;
    }
    if (e->log) {
        Error why = {0};
        if (!kp->log_failed && logfile_append(kp->dir, e->json, strlen(e->json), &why) != ST_OK) {
            kp->log_failed = true;
            tell_warning(kp, &why);
        }
        return ST_OK;
    }
    RETURN_IF_ERROR(journal_append(kp->journal, e->json, false, err));
    kp->dirty = true;
    return ST_OK;
}

/* Sleeps until there is something to do. NULL: it is time to sync (at once when that was asked), or to end. */
static KeeperEntry *next_entry(Keeper *kp, bool asked, bool *quit)
{
    pthread_mutex_lock(&kp->lock);
    while (!kp->head && !kp->quit) {
        int64_t left = kp->last_sync + SYNC_EVERY_NS - clock_ns();
        if (!kp->dirty) {
            pthread_cond_wait(&kp->work, &kp->lock);
            continue;
        }
        if (asked || left <= 0)
            break;
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += (long)left;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&kp->work, &kp->lock, &until);
    }
    KeeperEntry *e = kp->head;
    if (e) {
        kp->head = e->next;
        if (!kp->head)
            kp->tail = NULL;
        kp->bytes -= e->bytes;
        pthread_cond_broadcast(&kp->done);
    }
    *quit = !e && kp->quit;
    pthread_mutex_unlock(&kp->lock);
    return e;
}

static void entry_done(Keeper *kp, KeeperEntry *e)
{
    pthread_mutex_lock(&kp->lock);
    kp->layers_out += e->stream != NULL;
    kp->all_out++;
    pthread_cond_broadcast(&kp->done);
    pthread_mutex_unlock(&kp->lock);
    entry_free(e);
}

/* A folder that was just made is no more durable than its name in the folder above. */
static void sync_folders(const Keeper *kp)
{
    char *journal = path_join(kp->dir, "journal"), *at = journal;
    for (int up = 0; at && up < 4; up++) {
        file_sync_name(at);
        char *slash = strrchr(at, '/');
        if (!slash || slash == at)
            break;
        *slash = 0;
    }
    free(journal);
}

static void *keeper_main(void *arg)
{
    Keeper *kp = arg;
    bool quit = false, asked = false, broken = false;
    sync_folders(kp);
    while (!quit) {
        KeeperEntry *e = next_entry(kp, asked, &quit);
        Error err = {0};
        Status s = ST_OK;
        broken = broken || !keeper_works(kp);
        if (e && !broken) {
            asked |= e->sync;
            s = write_entry(kp, e, &err);
        }
        if (e)
            entry_done(kp, e);
        bool late = clock_ns() - kp->last_sync >= SYNC_EVERY_NS;
        if (s == ST_OK && kp->dirty && (!e || late))
            s = sync_now(kp, &err);
        asked = asked && kp->dirty;
        if (s != ST_OK) {
            give_up(kp, &err);
            (void)journal_sync(kp->journal, NULL); /* what is whole so far */
            kp->dirty = asked = false;
            broken = true;
        }
    }
    return NULL;
}

/* ---- handing over ---- */

static void push(Keeper *kp, KeeperEntry *e)
{
    pthread_mutex_lock(&kp->lock);
    if (kp->tail)
        kp->tail->next = e;
    else
        kp->head = e;
    kp->tail = e;
    kp->all_in++;
    kp->bytes += e->bytes;
    pthread_cond_signal(&kp->work);
    pthread_mutex_unlock(&kp->lock);
}

void keeper_put(Keeper *kp, Str *json, bool sync)
{
    Error err = {0};
    KeeperEntry *e = json->oom ? NULL : calloc(1, sizeof *e);
    pthread_mutex_lock(&kp->lock);
    bool full = kp->bytes > WAITING_MAX, broken = kp->broken;
    pthread_mutex_unlock(&kp->lock);
    if (!e)
        error_nomem(&err, "a journal record");
    else if (full)
        error_set(&err, ST_IO, "the disk has not taken what waits for it");
    if (!e || full || broken) {
        if (err.status != ST_OK)
            give_up(kp, &err);
        str_free(json);
        free(e);
        return;
    }
    *e = (KeeperEntry){.bytes = json->len, .sync = sync};
    e->json = str_detach(json);
    push(kp, e);
}

void keeper_put_patiently(Keeper *kp, Str *json)
{
    pthread_mutex_lock(&kp->lock);
    while (kp->bytes > WAITING_JOB)
        pthread_cond_wait(&kp->done, &kp->lock);
    pthread_mutex_unlock(&kp->lock);
    keeper_put(kp, json, false);
}

void keeper_log(Keeper *kp, Str *text)
{
    KeeperEntry *e = text->oom || !keeper_works(kp) ? NULL : calloc(1, sizeof *e);
    if (!e) {
        str_free(text);
        return;
    }
    e->log = true;
    e->bytes = text->len;
    e->json = str_detach(text);
    push(kp, e);
}

void keeper_keep_streams(Keeper *kp, int run)
{
    KeeperEntry *e = keeper_works(kp) ? calloc(1, sizeof *e) : NULL;
    if (!e)
        return; /* they take room, and that is all */
    e->drop = true;
    e->keep_run = run;
    push(kp, e);
}

void keeper_flush(Keeper *kp)
{
    pthread_mutex_lock(&kp->lock);
    for (uint64_t want = kp->all_in; kp->all_out < want;)
        pthread_cond_wait(&kp->done, &kp->lock);
    pthread_mutex_unlock(&kp->lock);
}

/* Waits until no layer is on its way. */
static void wait_layers(Keeper *kp)
{
    pthread_mutex_lock(&kp->lock);
    while (kp->layers_in != kp->layers_out)
        pthread_cond_wait(&kp->done, &kp->lock);
    pthread_mutex_unlock(&kp->lock);
}

void keeper_layer(Keeper *kp, KeptLayer *l, const Stream *h, bool lend)
{
    wait_layers(kp);
    Error err = {0};
    KeeperEntry *e = keeper_works(kp) ? calloc(1, sizeof *e) : NULL;
    if (!e || (!lend && stream_copy(&e->copy, h, NULL) != ST_OK)) {
        if (keeper_works(kp)) {
            error_nomem(&err, "a layer's record");
            give_up(kp, &err);
        }
        free(e);
        str_free(&l->head);
        str_free(&l->tail);
        return;
    }
    e->layer = *l;
    l->head = l->tail = (Str){0};
    e->stream = lend ? h : &e->copy;
    e->bytes = e->layer.head.len + e->layer.tail.len;
    e->sync = true;
    pthread_mutex_lock(&kp->lock);
    kp->layers_in++;
    pthread_mutex_unlock(&kp->lock);
    push(kp, e);
    if (lend)
        wait_layers(kp);
}

bool keeper_pass(Keeper *kp, int run, int *layer, char sha[65])
{
    pthread_mutex_lock(&kp->lock);
    bool found = kp->run == run && run >= 0;
    *layer = kp->layer;
    memcpy(sha, kp->sha, sizeof kp->sha);
    pthread_mutex_unlock(&kp->lock);
    return found;
}

/* ---- opening and closing ---- */

/* Takes dir/lock. When another process has it, *holder gets its pid text and *fd is -1. */
static Status take_lock(const char *dir, int *fd, char holder[32], Error *err)
{
    holder[0] = 0;
    char *path = path_join(dir, "lock");
    if (!path)
        return error_nomem(err, "a path");
    Status s = ST_OK;
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0) {
        s = file_error(err, "open", path, errno);
    } else if (flock(*fd, LOCK_EX | LOCK_NB) == 0) {
        s = file_write_pid(*fd, "write", path, err);
    } else {
        long pid = file_read_pid(*fd);
        if (pid > 0)
            snprintf(holder, 32, "%ld", pid);
        else
            strcpy(holder, "unknown");
        close(*fd);
        *fd = -1;
    }
    free(path);
    return s;
}

static Status open_journal(Journal **out, const char *dir, JournalMode mode, JournalReplay *replay, void *ctx,
                           JournalEnd *end, Error *err)
{
    char *path = path_join(dir, "journal");
    if (!path)
        return error_nomem(err, "a path");
    Status s = journal_open(out, path, mode, replay, ctx, end, err);
    free(path);
    return s;
}

static void keeper_free(Keeper *kp)
{
    if (kp->lock_fd >= 0)
        close(kp->lock_fd);
    pthread_cond_destroy(&kp->work);
    pthread_cond_destroy(&kp->done);
    pthread_mutex_destroy(&kp->lock);
    free(kp->dir);
    free(kp);
}

static Status start_writer(Keeper *kp, Error *err)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&kp->thread, NULL, keeper_main, kp);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        return error_set(err, ST_NOMEM, "cannot start the thread that writes the session: memory or the system's limit of "
                                        "threads is too small");
    kp->thread_on = true;
    return ST_OK;
}

static Keeper *keeper_new(const char *dir)
{
    Keeper *kp = calloc(1, sizeof *kp);
    if (!kp)
        return NULL;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&kp->work, &attr);
    pthread_condattr_destroy(&attr);
    pthread_cond_init(&kp->done, NULL);
    pthread_mutex_init(&kp->lock, NULL);
    kp->lock_fd = -1;
    kp->run = kp->warned_run = -1;
    kp->last_sync = clock_ns();
    kp->dir = strdup(dir);
    if (kp->dir)
        return kp;
    keeper_free(kp);
    return NULL;
}

Status keeper_open(Keeper **out, const char *dir, JournalReplay *replay, void *ctx, void (*wake)(void *), void *wake_ctx,
                  char holder[32], JournalEnd *end, Error *err)
{
    *out = NULL;
    holder[0] = 0;
    *end = (JournalEnd){0};
    Keeper *kp = keeper_new(dir);
    if (!kp)
        return error_nomem(err, "the session folder");
    kp->wake = wake;
    kp->wake_ctx = wake_ctx;
    Status s = take_lock(dir, &kp->lock_fd, holder, err);
    if (s == ST_OK && !holder[0])
        s = open_journal(&kp->journal, dir, JOURNAL_KEEP, replay, ctx, end, err);
    if (s == ST_OK && !holder[0]) {
        kp->dirty = true; /* its name and a cut may not be on the disk */
        s = start_writer(kp, err);
    }
    if (s == ST_OK && !holder[0]) {
        *out = kp;
        return ST_OK;
    }
    journal_close(kp->journal, NULL);
    keeper_free(kp);
    return s;
}

Status keeper_read(const char *dir, JournalReplay *replay, void *ctx, JournalEnd *end, Error *err)
{
    Journal *j;
    RETURN_IF_ERROR(open_journal(&j, dir, JOURNAL_READ, replay, ctx, end, err));
    return journal_close(j, err);
}

Status keeper_close(Keeper *kp, Error *err)
{
    if (!kp)
        return ST_OK;
    pthread_mutex_lock(&kp->lock);
    kp->quit = true;
    pthread_cond_signal(&kp->work);
    pthread_mutex_unlock(&kp->lock);
    if (kp->thread_on)
        pthread_join(kp->thread, NULL);
    Status s = kp->broken ? error_set(err, kp->why.status, "%s", kp->why.text) : ST_OK;
    Status closed = journal_close(kp->journal, s == ST_OK ? err : NULL);
    keeper_free(kp);
    return s == ST_OK ? closed : s;
}
