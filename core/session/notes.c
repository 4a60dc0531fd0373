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
#include "session/keeper.h"
#include "session/logfile.h"

enum { LOG_MAX = 2000 };

const char *log_kind_name(LogKind k)
{
    static const char *const names[] = {[LOG_NOTE] = "note", [LOG_COMMAND] = "command", [LOG_JOB] = "job", [LOG_STDERR] = "stderr"};
    return names[k];
}

/* Keeps a line; false: there was no memory, and a log line is all that is lost. */
static bool keep_line(Notes *n, const LogLine *l)
{
    const char *text = l->text;
    if (n->nlog == LOG_MAX) {
        free(n->log[0].text);
        memmove(n->log, n->log + 1, (LOG_MAX - 1) * sizeof *n->log);
        n->nlog--;
        n->gone++;
    }
    char *copy = strdup(text);
    if (!copy || !mem_grow(&n->log, &n->cap_log, n->nlog + 1, sizeof *n->log)) {
        free(copy);
        return false;
    }
    n->log[n->nlog++] = (Note){l->level, l->kind, l->job, l->when, copy};
    return true;
}

static void put_line(Session *s, LogKind kind, int level, const char *text)
{
    Notes *n = s->notes;
    const LogLine l = {.level = level, .kind = kind, .job = n->about ? n->about->id : 0, .text = text, .when = time(NULL)};
    if (n->about && level == 1 && kind == LOG_NOTE)
        n->about->warned++;
    if (!keep_line(n, &l) || !s->keeper || s->restoring)
        return;
    Str line = {0};
    logfile_line(&l, &line);
    keeper_log(s->keeper, &line);
    str_free(&line);
}

static void restore_line(void *ctx, const LogLine *l)
{
    keep_line(ctx, l);
}

void notes_restore(Session *s, const char *folder)
{
    logfile_read(folder, LOG_MAX, restore_line, s->notes);
    s->notes->old = s->notes->nlog;
}

int session_log_old(const Session *s)
{
    return (int)s->notes->old;
}

void session_log(Session *s, int level, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    put_line(s, LOG_NOTE, level, text);
}

void session_note(Session *s, LogKind kind, int level, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    put_line(s, kind, level, text);
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
    return (LogLine){n->level, n->kind, n->job, n->text, n->when};
}

Status session_record(Session *s, const char *line, Error *err)
{
    Notes *n = s->notes;
    const char *copy = arena_strdup(&n->lines, line);
    if (!copy || !mem_grow(&n->commands, &n->cap_commands, n->ncommands + 1, sizeof *n->commands))
        return error_nomem(err, "the history of commands");
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
    arena_free(&n->lines);
    free(n->log);
    free(n->commands);
}
