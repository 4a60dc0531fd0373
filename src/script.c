/* Scripts, the rc file and replay: command lines from somewhere else than a prompt. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "src/internal.h"

enum { MAX_NESTING = 8 };

/* Where lines come from, and what to do with one. */
typedef struct Reader {
    App *app;
    Status (*line)(App *a, const char *line, Error *err);
    const char *name;
    bool stop_on_interrupt;
} Reader;

static Status read_lines(const Reader *r, FILE *f, Error *err)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    Status st = ST_OK;
    App *a = r->app;
    int number = 0, had_line = a->replay_line;
    char *had_file = a->replay_file;
    a->replay_file = strdup(r->name);
    while (st == ST_OK && !a->quit && (n = getline(&line, &cap, f)) >= 0) {
        a->replay_line = ++number;
        if (r->stop_on_interrupt && interrupt_take() > 0)
            st = error_set(err, ST_CANCELLED, "stopped before this command");
        else if (strlen(line) != (size_t)n)
            st = error_set(err, ST_USAGE, "the line holds a NUL byte: this is no script");
        else
            st = r->line(a, number == 1 && strncmp(line, "\xef\xbb\xbf", 3) == 0 ? line + 3 : line, err);
    }
    if (st == ST_OK && ferror(f))
        st = error_set(err, ST_IO, "cannot read on: %s", strerror(errno));
    if (st != ST_OK)
        error_prefix(err, "%s:%d: ", r->name, number);
    free(line);
    free(a->replay_file);
    a->replay_file = had_file;
    a->replay_line = had_line;
    return st;
}

Status app_script(App *a, const char *path, Error *err)
{
    if (a->depth >= MAX_NESTING)
        return error_set(err, ST_USAGE, "scripts replay each other more than %d deep", MAX_NESTING);
    bool in = strcmp(path, "-") == 0;
    if (!in && dir_exists(path))
        return error_set(err, ST_USAGE, "'%s' is a folder, not a script", path);
    FILE *f = in ? stdin : fopen(path, "r");
    if (!f)
        return error_set(err, errno == ENOENT ? ST_USAGE : ST_IO, "cannot read script '%s': %s", path, strerror(errno));
    Reader r = {a, app_execute, in ? "<stdin>" : path, a->face != FACE_UI};
    a->depth++;
    Status st = read_lines(&r, f, err);
    a->depth--;
    if (!in)
        fclose(f);
    if (st == ST_OK && a->depth == 0 && a->face == FACE_SCRIPT && a->session && session_busy(a->session))
        st = app_wait(a, err); /* jobs started with async */
    return st;
}

static Status rc_line(App *a, const char *line, Error *err)
{
    static const char *const allowed[] = {"set", "bind", "theme", NULL};
    Words w;
    RETURN_IF_ERROR(lexer_split(line, &w, err));
    Status st = ST_OK;
    bool known = w.n == 0;
    for (int i = 0; w.n && allowed[i]; i++)
        known |= strcmp(w.word[0], allowed[i]) == 0;
    if (!known)
        st = error_set(err, ST_USAGE, "'%s' has no place here: the settings file takes set, bind and theme", w.word[0]);
    else if (w.n && (a->face == FACE_UI || strcmp(w.word[0], "set") == 0))
        st = app_execute_words(a, w.n, w.word, err);
    words_fini(&w);
    return st;
}

Status app_rc(App *a, Error *err)
{
    char *path = app_rc_path();
    if (!path)
        return error_nomem(err, "the settings file's name");
    FILE *f = dir_exists(path) ? NULL : fopen(path, "r");
    Status st = ST_OK;
    if (f) {
        Reader r = {a, rc_line, path, false};
        st = read_lines(&r, f, err);
        fclose(f);
    } else if (errno != ENOENT && errno != ENOTDIR) {
        st = error_set(err, ST_IO, "cannot read '%s': %s", path, strerror(errno));
    }
    free(path);
    return st;
}

Status app_replay_range(App *a, int first, int last, Error *err)
{
    int n = a->session ? session_commands(a->session) : 0;
    if (first < 1 || last < first || last > n)
        return error_set(err, ST_USAGE, "the history holds commands 1-%d: '%d-%d' is no part of it", n, first, last);
    if (a->depth >= MAX_NESTING)
        return error_set(err, ST_USAGE, "replays start each other more than %d deep", MAX_NESTING);
    a->depth++;
    Status st = ST_OK;
    for (int i = first; i <= last && st == ST_OK && !a->quit; i++) {
        char *line = strdup(session_command(a->session, i - 1)); /* the history grows while we read it */
        if (!line)
            st = error_nomem(err, "a command line");
        else
            st = app_execute(a, line, err);
        if (st != ST_OK)
            error_prefix(err, "history:%d: ", i);
        free(line);
    }
    a->depth--;
    return st;
}
