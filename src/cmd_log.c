/* The log: printed, searched, written to a file. */
#include <stdio.h>
#include <limits.h>
#include <string.h>
#include <time.h>

#include "io/file.h"
#include "src/commands.h"
#include "src/internal.h"

/* What of the log a command asks for. */
typedef struct LogAsk {
    const char *text, *kind;
    int job;
} LogAsk;

static bool asked(const LogAsk *k, const LogLine *l)
{
    if (k->text && !strcasestr(l->text, k->text))
        return false;
    if (k->job && l->job != k->job)
        return false;
    if (!k->kind)
        return true;
    return strcmp(k->kind, "warning") == 0 ? l->level == 1 : strcmp(k->kind, "error") == 0 ? l->level == 2
                                                                                          : strcmp(k->kind, log_kind_name(l->kind)) == 0;
}

static int put_log(const Session *s, const LogAsk *k, Str *out)
{
    static const char *const levels[] = {"", "warning: ", "error: "};
    int n = 0, end = session_log_lines(s);
    if (session_log_line(s, end - 1).kind == LOG_COMMAND) /* the one that asks */
        end--;
    for (int i = session_log_first(s); i < end; i++) {
        LogLine l = session_log_line(s, i);
        char when[32] = "";
        time_t t = (time_t)l.when;
        struct tm tm;
        if (!asked(k, &l))
            continue;
        if (localtime_r(&t, &tm))
            strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
        str_printf(out, "%s  %-7s  %s%s\n", when, log_kind_name(l.kind), levels[l.level < 0 || l.level > 2 ? 0 : l.level], l.text);
        n++;
    }
    return n;
}

static Status run_log(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 0, 1, err));
    const char *save = cl_str(cl, "save");
    const LogAsk k = {.text = cl->nwords ? cl->words[0] : NULL, .kind = cl_str(cl, "kind"), .job = (int)cl_int(cl, "job", 0)};
    Session *s = a->session;
    if (cl_given(cl, "job") && (cl_int(cl, "job", 0) < 1 || cl_int(cl, "job", 0) > INT_MAX))
        return error_set(err, ST_USAGE, "--job takes the number of a job, from 1 on");
    if (!s || session_log_lines(s) == 0)
        return error_set(err, ST_USAGE, "the log is empty");
    if (a->show_log && !cl->nwords && !cl->nvalues) {
        a->show_log(a->ui_ctx);
        return ST_OK;
    }
    Str text = {0};
    int n = put_log(s, &k, &text);
    Status st = ST_OK;
    if (n == 0)
        st = error_set(err, ST_DATA, "no line of %d in the log is such a one", session_log_lines(s) - session_log_first(s));
    else if (save && !cl->bang && file_exists(save) && !file_holds(save, str_text(&text), text.len))
        st = error_set(err, ST_IO, "'%s' is there already with other content: add ! to replace it", save);
    else
        st = app_result(a, &text, save, err);
    if (st == ST_OK && save)
        app_note(a, "written: %s, %d line%s", save, n, n == 1 ? "" : "s");
    str_free(&text);
    return st;
}
static const Option log_options[] = {
    {"kind", ARG_CHOICE, "note|command|job|stderr|warning|error", "only lines of this kind", COMP_NONE},
    {"job", ARG_INT, "N", "only what is about job N", COMP_NONE},
    {"save", ARG_PATH, "FILE", "write it to FILE", COMP_FILE},
    {0},
};
const Command command_log = {
    .name = "log",
    .args = "[TEXT]",
    .summary = "Print the log: commands, jobs, warnings, errors; lines with TEXT only. With ! --save replaces a file.",
    .help = "A session that is kept has it as a file, too, of at most 1 MiB, and one before it. In the workbench it is a page that "
            "follows the end.",
    .flags = CMD_NO_LOG | CMD_DESTROYS,
    .options = log_options,
    .run = run_log,
};
