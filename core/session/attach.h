#ifndef SLIM_SESSION_ATTACH_H
#define SLIM_SESSION_ATTACH_H

#include "io/journal.h"
#include "session/wire.h"

/* A connection to the process that has a session open and serves it (session/serve.h). */
typedef struct Attach Attach;

/* Connects to the process that has the session with this id or name open, and waits, ATTACH_PATIENCE seconds at most, until it
 * has said who it is. ST_DATA: no such session; ST_USAGE: no process has it open, or one that can't be attached to. */
enum { ATTACH_PATIENCE = 10 };
Status attach_open(Attach **out, const char *state_dir, const char *id, Error *err);
void attach_free(Attach *a);
int attach_fd(const Attach *a); /* readable when it said something; -1 once it has closed */
/* The next line that it said, and its text of n bytes, both borrowed until the next call; NULL: none now. */
const WireLine *attach_next(Attach *a, const char **text, size_t *n);
/* It has closed the connection, and attach_next gave all that it said. */
bool attach_over(const Attach *a);
/* The first line, WIRE_HELLO. */
const WireLine *attach_hello(const Attach *a);
/* Asks to stop this job, 0: all of them; level as session_cancel. What comes of it is said by lines. */
Status attach_cancel(Attach *a, int job, int level, Error *err);

/* A session that shows what the journal of the other process's holds, and grows with it: nothing in it can be changed or run,
 * but session_cancel and session_cancel_job stop jobs there. session_fd and session_pump work as for any other; rows come with
 * their records, which the disk may hold up longer than what is said of a job. Takes `a`, but not on an error. */
Status session_attach(Session **out, const SessionOptions *o, Attach *a, Error *err);
/* What an attached session knows of the other process. */
typedef struct AttachView {
    const WireLine *hello;
    const WireLine *job;       /* that runs; NULL: none does */
    const WireLine *ended;     /* the last that ended since this one was attached; NULL: none */
    double elapsed, eta;       /* of the job now; eta < 0: not known */
    bool over, died;           /* it has closed; without a last word */
} AttachView;
/* false: s is a session of its own. */
bool session_attached(const Session *s, AttachView *v);

/* ---- for core/session ---- */
unsigned attached_pump(Session *s);
/* ST_USAGE where the session is an attached one. */
Status attached_refuses(const Session *s, Error *err);
/* Of the job that runs there: seconds so far. */
double attach_elapsed(const Attach *a);
/* Opens the journal that attached_pump follows, after a first replay. */
Status attach_follow(Attach *a, Session *s, JournalReplay *replay, JournalEnd *end, Error *err);

#endif
