#ifndef SLIM_SESSION_NOTES_H
#define SLIM_SESSION_NOTES_H

#include "session/session.h"

/* Messages for the person, and the commands that were run. Owner thread. */
typedef struct Note {
    int level;
    LogKind kind;
    int job;
    int64_t when; /* seconds since the epoch */
    char *text;
} Note;
typedef struct Notes {
    Note *log;
    size_t nlog, cap_log;
    size_t gone; /* lines before log[0] that had to make room */
    size_t old;  /* lines that earlier sittings left */
    JobView *about;  /* the job whose lines come, NULL: none */
    Arena lines;        /* of the commands: for as long as the session, so they pin no holes in the heap */
    const char **commands;
    size_t ncommands, cap_commands;
} Notes;

/* Each line of a text (which is cut up) as a message of its own. */
void notes_lines(Session *s, int level, Str *text);
/* Reads what earlier sittings left in the folder's file, before anything else is logged. */
void notes_restore(Session *s, const char *folder);
void notes_fini(Notes *n);

#endif
