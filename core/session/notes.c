/* Messages for the person, and the commands that were run. */
#include "session/notes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "session/parts.h"
#include "session/entries.h"

enum { LOG_MAX = 2000 };

void session_log(Session *s, int level, const char *fmt, ...)
{
    Notes *n = s->notes;
    char text[ERROR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n->nlog == LOG_MAX) {
        free(n->log[0].text);
        memmove(n->log, n->log + 1, (LOG_MAX - 1) * sizeof *n->log);
        n->nlog--;
        n->gone++;
    }
    char *copy = strdup(text);
    if (!copy || !mem_grow(&n->log, &n->cap_log, n->nlog + 1, sizeof *n->log)) {
        free(copy); /* a log line is all that is lost */
        return;
    }
    n->log[n->nlog++] = (Note){level, time(NULL), copy};
}

void notes_lines(Session *s, int level, Str *text)
{
    char *save = NULL;
    for (char *line = text->s ? strtok_r(text->s, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save))
        session_log(s, level, "%s", line);
}

int session_log_lines(const Session *s)
{
    return (int)(s->notes->gone + s->notes->nlog);
}

int session_log_first(const Session *s)
{
    return (int)s->notes->gone;
}

LogLine session_log_line(const Session *s, int i)
{
    const Note *n = &s->notes->log[(size_t)i - s->notes->gone];
    return (LogLine){n->level, n->text, n->when};
}

Status session_record(Session *s, const char *line, Error *err)
{
    Notes *n = s->notes;
    char *copy = strdup(line);
    if (!copy || !mem_grow(&n->commands, &n->cap_commands, n->ncommands + 1, sizeof *n->commands)) {
        free(copy);
        return error_nomem(err, "the history of commands");
    }
    n->commands[n->ncommands++] = copy;
    entry_text(s, "cmd", line);
    entry_view(s);
    return ST_OK;
}

int session_commands(const Session *s)
{
    return (int)s->notes->ncommands;
}

const char *session_command(const Session *s, int i)
{
    return s->notes->commands[i];
}

void notes_fini(Notes *n)
{
    for (size_t i = 0; i < n->nlog; i++)
        free(n->log[i].text);
    for (size_t i = 0; i < n->ncommands; i++)
        free(n->commands[i]);
    free(n->log);
    free(n->commands);
}
