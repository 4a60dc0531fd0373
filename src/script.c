/* Scripts, the rc file and replay: command lines from somewhere else than a prompt. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "src/internal.h"

enum { MAX_NESTING = 8, SCRIPT_MAX_BYTES = 16 << 20 };

/* Where lines come from, and what to do with one. */
typedef struct Reader {
    App *app;
    Status (*line)(App *a, const char *line, Error *err);
    const char *name;
    bool stop_on_interrupt;
} Reader;

/* ---- the model of a script ---- */

/* 16 hex digits behind `key`. */
static bool print_behind(const char *line, const char *key, char print[PRINT_MARK])
{
    const char *at = strstr(line, key);
    if (!at)
        return false;
    at += strlen(key);
    for (int i = 0; i < PRINT_MARK - 1; i++)
        if (!strchr("0123456789abcdef", at[i]) || !at[i])
            return false;
    memcpy(print, at, PRINT_MARK - 1);
    print[PRINT_MARK - 1] = 0;
    return true;
}

bool line_print(const char *line, char print[PRINT_MARK])
{
    return strncmp(line, "open ", 5) == 0 && print_behind(line, " # fingerprint ", print);
}

Status script_line(App *a, ScriptModels *m, const char *line, Error *err)
{
    const char *verb = line + strspn(line, " \t");
    if (strncmp(verb, "# model ", 8) == 0 || strncmp(verb, "open ", 5) == 0) {
        bool named = verb[0] == '#' ? print_behind(verb, ", fingerprint ", m->print[m->n]) : line_print(verb, m->print[m->n]);
        m->n += named && m->n + 1 < SCRIPT_MODELS;
        return ST_OK;
    }
    const Model *open = a->session ? session_model(a->session) : NULL;
    if (!open || !m->n || a->force || m->force || strchr("#\r\n", *verb))
        return ST_OK;
    for (int i = 0; i < m->n; i++)
        if (strncmp(open->fingerprint, m->print[i], PRINT_MARK - 1) == 0)
            return ST_OK;
    return error_set(err, ST_DATA,
                     "the model at '%s' is not the one that this was recorded with: its fingerprint is %.16s, not %s: "
                     "--force runs it all the same", open->path, open->fingerprint, m->print[0]);
}

/* ---- lines ---- */

/* The next line without its end into *line; *more: there was one. */
static Status next_line(FILE *f, Str *line, bool *more, Error *err)
{
    enum { LONGEST = 1 << 20 };
    int c = 0;
    str_clear(line);
    str_puts(line, "");
    for (size_t n = 0; (c = getc(f)) != EOF && c != '\n'; n++) {
        if (c == '\0')
            return error_set(err, ST_USAGE, "the line holds a NUL byte: this is no script");
        if (n == LONGEST)
            return error_set(err, ST_USAGE, "the line has more than %d bytes: this is no script", LONGEST);
        str_putc(line, (char)c);
    }
    if (line->oom)
        return error_nomem(err, "a line of the script");
    *more = c == '\n' || line->len > 0;
    return ferror(f) ? error_set(err, ST_IO, "cannot read on: %s", strerror(errno)) : ST_OK;
}

static Status read_lines(const Reader *r, FILE *f, Error *err)
{
    Str line = {0};
    bool more = true;
    Status st = ST_OK;
    App *a = r->app;
    int number = 0, had_line = a->replay_line;
    char *had_file = a->replay_file;
    a->replay_file = strdup(r->name);
    ScriptModels models = {0};
    while (st == ST_OK && !a->quit && more) {
        a->replay_line = ++number;
        st = next_line(f, &line, &more, err);
        if (st != ST_OK || !more)
            break;
        if (r->stop_on_interrupt && interrupt_take() > 0)
            st = error_set(err, ST_CANCELLED, "stopped before this command");
        else
            st = script_line(a, &models, line.s, err);
        if (st == ST_OK)
            st = r->line(a, number == 1 && strncmp(line.s, "\xef\xbb\xbf", 3) == 0 ? line.s + 3 : line.s, err);
    }
    if (st != ST_OK)
        error_prefix(err, st, "%s:%d: ", r->name, number);
    str_free(&line);
    free(a->replay_file);
    a->replay_file = had_file;
    a->replay_line = had_line;
    return st;
}

/* The workbench must not wait between lines: it runs them itself, one after the other as jobs end. */
static Status hand_to_screen(App *a, const char *name, const char *text, Error *err)
{
    if (!a->run_lines)
        return error_set(err, ST_USAGE,
                         "the workbench replays a script only from its start: slimscope --ui --script FILE");
    return a->run_lines(a->ui_ctx, name, text, err);
}

static Status script_on_screen(App *a, const char *path, Error *err)
{
    char *text;
    size_t len;
    RETURN_IF_ERROR(file_read(path, SCRIPT_MAX_BYTES, &text, &len, err));
    Status st = strlen(text) == len ? hand_to_screen(a, path, text, err)
                                    : error_set(err, ST_USAGE, "'%s' holds a NUL byte: it is no script", path);
    free(text);
    return st;
}

Status app_script(App *a, const char *path, Error *err)
{
    if (a->face == FACE_UI)
        return script_on_screen(a, path, err);
    if (a->depth >= MAX_NESTING)
        return error_set(err, ST_USAGE, "scripts replay each other more than %d deep", MAX_NESTING);
    bool in = strcmp(path, "-") == 0;
    if (!in && dir_exists(path))
        return error_set(err, ST_USAGE, "'%s' is a folder, not a script", path);
    FILE *f = in ? stdin : fopen(path, "r");
    if (!f)
        return file_error(err, "read script", path, errno);
    Reader r = {a, app_execute, in ? "<stdin>" : path, true};
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
        st = file_error(err, "read", path, errno);
    }
    free(path);
    return st;
}

static Status replay_on_screen(App *a, int first, int last, Error *err)
{
    Str text = {0};
    for (int i = first; i <= last; i++)
        str_printf(&text, "%s\n", session_command(a->session, i - 1));
    Status st = text.oom ? error_nomem(err, "the replay") : hand_to_screen(a, "history", str_text(&text), err);
    str_free(&text);
    return st;
}

Status app_replay_range(App *a, int first, int last, Error *err)
{
    int n = a->session ? session_commands(a->session) : 0;
    if (first < 1 || last < first || last > n)
        return error_set(err, ST_USAGE, "the history holds commands 1-%d: '%d-%d' is no part of it", n, first, last);
    if (a->face == FACE_UI)
        return replay_on_screen(a, first, last, err);
    if (a->depth >= MAX_NESTING)
        return error_set(err, ST_USAGE, "replays start each other more than %d deep", MAX_NESTING);
    a->depth++;
    Status st = ST_OK;
    ScriptModels models = {0};
    for (int i = first; i <= last && st == ST_OK && !a->quit; i++) {
        char *line = strdup(session_command(a->session, i - 1)); /* the history grows while we read it */
        st = line ? script_line(a, &models, line, err) : error_nomem(err, "a command line");
        if (st == ST_OK)
            st = app_execute(a, line, err);
        if (st != ST_OK)
            error_prefix(err, st, "history:%d: ", i);
        free(line);
    }
    a->depth--;
    return st;
}
