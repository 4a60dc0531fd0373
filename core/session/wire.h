#ifndef SLIM_SESSION_WIRE_H
#define SLIM_SESSION_WIRE_H

#include "base/str.h"
#include "session/session.h"

/* What the process that has a session open (session/serve.h) and those that are attached to it (session/attach.h) say to each
 * other: JSON objects, one a line, over a stream socket named `attach` in the session's folder, which only its owner may
 * open. What was found is not said: it stands in the journal, beside the socket. */
enum { WIRE_FORMAT = 1, WIRE_LINE_MAX = 16 << 10, WIRE_WAITS_MAX = 16 };

typedef enum WireKind {
    WIRE_HELLO,   /* the first line: who serves, and of what */
    WIRE_JOB,     /* how far the job is that runs */
    WIRE_LOG,     /* a line of the session's log */
    WIRE_END,     /* a job has ended */
    WIRE_IDLE,    /* nothing runs or waits any more; with the status of what ran, of the first that failed */
    WIRE_BYE,     /* the last line: the session is closed, and all of it is on the disk */
    WIRE_REFUSED, /* what was asked can't be done */
    WIRE_CANCEL,  /* asks: stop a job, or all of them */
    WIRE_KINDS    /* a kind of a newer slimscope: not for this one */
} WireKind;

/* One line; only what its kind has is set. */
typedef struct WireLine {
    WireKind kind;
    int format, ranks;         /* hello: WIRE_FORMAT of the sender; ranks that share the work */
    long pid;
    char version[24], id[40], name[40], host[64], model[512], words[512]; /* words: of its command line, cut to this */
    int job;                   /* job, end, cancel (0: all of them) */
    JobState state;            /* job, end */
    JobKind what;
    bool paused;
    int64_t done, total;
    double elapsed, eta;       /* seconds; eta < 0: not known */
    uint64_t peak, bound;
    char title[80], phase[40];
    int waits[WIRE_WAITS_MAX], nwaits; /* job: ids of those that wait behind it */
    Status status;             /* end, idle */
    int level;                 /* log: 0 to 2; cancel: 1 after the tile, 2 at once */
    LogKind log;
    char text[ERROR_TEXT_MAX]; /* log, refused; of end and idle what went wrong */
} WireLine;

/* Appends the line with its line break. */
void wire_put(Str *out, const WireLine *l);
/* Reads a line of n bytes without its break. One of an unknown kind is ST_OK with WIRE_KINDS; ST_DATA: no line of this wire. */
Status wire_parse(WireLine *out, const char *line, size_t n, Error *err);

/* The socket in the session's folder. listens: one that waits for others, in the place of what an ended process left there;
 * the caller holds the session's lock. Else a connection to the process that listens: ST_USAGE when none does. Never waits. */
Status wire_open(const char *dir, bool listens, int *fd, Error *err);
/* Takes the name of the socket out of the folder. */
void wire_remove(const char *dir);
/* Whether there is such a name. */
bool wire_exists(const char *dir);

/* Bytes that came and make no whole line yet. Zero-initialised; free(b) ends it. */
typedef struct WireIn {
    char *b;
    size_t len, cap, taken;
} WireIn;
/* Reads what is there. false: the other end is closed, or sends lines that are too long. */
bool wire_read(WireIn *in, int fd);
/* The next whole line (borrowed until the next call), without its break; NULL: there is none yet. */
const char *wire_next(WireIn *in, size_t *n);

#endif
