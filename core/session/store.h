#ifndef SLIM_SESSION_STORE_H
#define SLIM_SESSION_STORE_H

#include <pthread.h>

#include "io/journal.h"
#include "run/stream.h"
#include "session/assignment.h"
#include "session/job.h"
#include "session/results.h"

/* The session's folder: journal, streams of the newest layers, lock. */
typedef struct Store {
    char id[40];
    char *dir;
    Journal *journal;
    pthread_mutex_t journal_lock;
    int lock_fd;
    bool read_only, restoring;
    bool journal_lost;         /* a write failed and that was told (journal_lock) */
    char saved_view[256];
} Store;

void store_init(Store *st, bool read_only);
void store_fini(Store *st);
/* Locks the folder and opens its journal, replaying what is there; locked elsewhere: the session becomes read-only. */
Status durable_open(Session *s, JournalReplay *replay, uint64_t *torn, Error *err);
Status durable_begin(Session *s, Error *err);
void durable_end(Session *s);
void durable_line(Session *s, const Str *json, bool sync);   /* any thread; failures become a warning once */
void durable_edit(Session *s, const Edit *e);
void durable_move(Session *s, const char *what);             /* "undo", "redo" */
void durable_text(Session *s, const char *kind, const char *text);
void durable_view(Session *s);
void durable_run(Session *s, const Job *j);
/* Writes the stream, then the rows' record; sha gets the stream's digest ("" when it could not be written). Job thread.
 */
Status durable_layer(Session *s, const Job *j, int layer, const Stream *h, const Str *rows, char sha[65], Error *err);
void durable_run_end(Session *s, const Job *j, Status st);
void durable_measured(Session *s, const Measured *m);
Status durable_load_stream(Session *s, int run, int layer, const char *sha, Stream *out, Error *err);

#endif
