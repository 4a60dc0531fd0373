/* slimscope shell: a readline prompt on a terminal, plain lines otherwise. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <readline/history.h>
#include <readline/readline.h>

#include "io/file.h"
#include "src/internal.h"

enum { HISTORY_LINES = 1000 };

/* ---- the history file: at most HISTORY_LINES lines, each kept once; a lost write loses no work and is not told ----
 */

static char *history_path(bool make)
{
    char *dir = app_state_dir();
    if (dir && make && dir_make(dir, NULL) != ST_OK) {
        free(dir);
        return NULL;
    }
    char *path = dir ? path_join(dir, "history") : NULL;
    free(dir);
    return path;
}

static void load_history(void)
{
    using_history();
    stifle_history(HISTORY_LINES);
    char *path = history_path(false);
    if (path)
        read_history(path); /* none yet: an empty history */
    free(path);
}

static void keep_line(const char *line)
{
    if (!line[strspn(line, " \t")])
        return;
    for (int i = history_length - 1; i >= 0; i--) {
        HIST_ENTRY *e = history_get(history_base + i);
        if (e && strcmp(e->line, line) == 0)
            free_history_entry(remove_history(i)); /* a line is kept once, where it was used last */
    }
    add_history(line);
}

static void save_history(void)
{
    char *path = history_path(true);
    if (path)
        write_history(path); /* a lost prompt history loses no work */
    free(path);
}

/* ---- completion through readline ---- */

static App *completing; /* readline's callback has no argument of its own */

static char *no_match(const char *text, int state)
{
    (void)text;
    (void)state;
    return NULL;
}

static char *candidate(const char *text, int state)
{
    static char **list;
    static int next;
    (void)text;
    if (state == 0) {
        char *line = strndup(rl_line_buffer, (size_t)rl_point);
        list = line ? app_complete(completing, line) : NULL;
        next = 0;
        free(line);
    }
    char *one = list ? list[next] : NULL;
    if (one) {
        next++;
        return one; /* readline frees it */
    }
    free(list);
    list = NULL;
    return NULL;
}

static char **complete(const char *text, int start, int end)
{
    (void)start;
    (void)end;
    rl_attempted_completion_over = 1;
    char **m = rl_completion_matches(text, candidate);
    if (m && !m[1]) {
        size_t n = strlen(m[0]);
        bool open_end = n && strchr("/.=", m[0][n - 1]);
        rl_completion_suppress_append = open_end;
    }
    return m;
}

static void completion_setup(App *a)
{
    completing = a;
    rl_readline_name = "slimscope";
    rl_attempted_completion_function = complete;
    rl_completion_entry_function = no_match;
    rl_basic_word_break_characters = " \t";
    rl_completer_word_break_characters = " \t";
    rl_filename_completion_desired = 0;
}

/* ---- the loop ---- */

/* One line; an error is told and forgotten on a terminal. */
static Status shell_line(App *a, const char *line, bool tty, Error *err)
{
    Error own = {0};
    Status st = app_execute(a, line, &own);
    if (st == ST_OK)
        return ST_OK;
    if (tty) {
        tell("%s\n", own.text);
        return ST_OK;
    }
    *err = own;
    return st;
}

/* ^C at the prompt drops the line; on an empty one it says how to leave. */
static int prompt_interrupted(void)
{
    if (completing && completing->session)
        session_pump(completing->session); /* who is attached gets an answer while nobody types */
    if (interrupt_take() == 0)
        return 0;
    if (rl_end == 0)
        fputs("\n'quit' or ^D leaves", stderr);
    rl_replace_line("", 0);
    rl_crlf();
    rl_on_new_line();
    rl_redisplay();
    return 0;
}

static Status terminal_loop(App *a, Error *err)
{
    completion_setup(a);
    load_history();
    rl_signal_event_hook = prompt_interrupted;
    rl_event_hook = prompt_interrupted; /* a signal between two keys interrupts no read: readline asks every 100 ms */
    while (!a->quit) {
        char *line = readline("slimscope> ");
        if (!line) {
            fputc('\n', stdout);
            break;
        }
        interrupt_take(); /* a ^C at the prompt stops nothing later */
        keep_line(line);
        shell_line(a, line, true, err);
        fflush(stdout);
        free(line);
    }
    save_history();
    return ST_OK;
}

static Status plain_loop(App *a, Error *err)
{
    char *line = NULL;
    size_t cap = 0;
    Status st = ST_OK;
    while (st == ST_OK && !a->quit) {
        ssize_t n = getline(&line, &cap, stdin);
        if (n < 0)
            break;
        st = strlen(line) == (size_t)n ? shell_line(a, line, false, err)
                                       : error_set(err, ST_USAGE, "the line holds a NUL byte");
        fflush(stdout);
    }
    if (st == ST_OK && ferror(stdin))
        st = error_set(err, ST_IO, "cannot read on: %s", strerror(errno));
    free(line);
    return st;
}

Status app_shell(App *a, Error *err)
{
    bool tty = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    Status st = tty ? terminal_loop(a, err) : plain_loop(a, err);
    while (st == ST_OK && a->next) {
        st = app_go_on(a, err);
        app_pass_log(a, NULL);
        st = st == ST_OK ? (tty ? terminal_loop(a, err) : plain_loop(a, err)) : st;
    }
    if (st == ST_OK && !a->quit && a->session && session_busy(a->session))
        st = app_wait(a, err); /* jobs started with async, at the end of the input */
    return st;
}
