#ifndef SLIM_EVALUATE_CHILD_H
#define SLIM_EVALUATE_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pool.h"
#include "base/str.h"

/* Programs that an evaluation starts. Each runs in a session and process group of its own, without input, with no file
 * of ours open and no signal blocked, and what it leaves behind ends with it. It never outlives us: a watcher (a shell
 * that reads from a pipe which we alone hold open) ends the group when we are gone, also after a kill -9. */
typedef struct Child Child;

typedef struct ChildSpec {
    const char *const *argv; /* NULL-terminated; argv[0] as child_find gave it, or a path. No shell reads the words */
    const char *const *env;  /* "NAME=value" in place of ours or beside it, NULL-terminated; may be NULL */
    const char *log;         /* file that gets standard output and error, behind what is in it */
    const char *errors;      /* another file for standard error, NULL: the same */
    uint64_t most;           /* bytes that may be written to the log before the program is ended; 0: any number */
    double grace;            /* seconds from SIGTERM to SIGKILL */
} ChildSpec;

typedef enum ChildFate {
    CHILD_EXITED,  /* number: its exit code */
    CHILD_KILLED,  /* number: the signal it died of */
    CHILD_TIMEOUT, /* was ended by us, after its time or for the length of its log */
    CHILD_FLOODED
} ChildFate;

typedef struct ChildEnd {
    ChildFate fate;
    int number;
} ChildEnd;

/* Finds a program as a shell does: a name with a '/' is a path (returned as it is when it can be run), else the folders
 * of `path` (a PATH; NULL: ours) are searched. NULL: not there, or no memory. Caller frees. */
char *child_find(const char *name, const char *path);

/* Starts the program. ST_FAIL or ST_IO: it could not be started; err says why. Caller ends it with child_stop. */
Status child_start(Child **out, const ChildSpec *spec, Error *err);
/* Whether it still runs; when it doesn't, how it ended is in *end (may be NULL). */
bool child_running(Child *c, ChildEnd *end);
/* SIGTERM to the whole group, SIGKILL after the grace, and frees c (NULL is fine). Nothing of it runs afterwards. */
void child_stop(Child *c);

/* Starts the program and waits until it ends by itself, or `seconds` have passed (it is ended then), or its log is too long.
 * ST_CANCELLED: it was ended because of `cancel` (may be NULL), within 0.1 s and the grace. Nothing of it runs afterwards. */
Status child_run(const ChildSpec *spec, double seconds, const Cancel *cancel, ChildEnd *end, Error *err);
/* Says in words how a program ended ("exit code 3", "killed by signal 9", "no end within 60 s"). */
const char *child_end_text(const ChildEnd *end, double seconds, char *buf, size_t size);
/* Appends the last line of a log that isn't blank, fit for a terminal and cut to `longest` bytes; nothing when there is
 * none. */
void child_last_line(const char *log, size_t longest, Str *out);

#endif
