#ifndef SLIM_SESSION_NOTES_H
#define SLIM_SESSION_NOTES_H

#include "session/session.h"

/* Messages for the person, and the commands that were run. Owner thread. */
typedef struct Note {
    int level;
    int64_t when; /* seconds since the epoch */
    char *text;
} Note;
typedef struct Notes {
    Note *log;
    size_t nlog, cap_log;
    size_t gone; /* lines before log[0] that had to make room */
    char **commands;
    size_t ncommands, cap_commands;
} Notes;

/* Each line of a text (which is cut up) as a message of its own. */
void notes_lines(Session *s, int level, Str *text);
void notes_fini(Notes *n);

#endif
