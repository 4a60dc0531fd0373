/* history and replay: what was done, as commands. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/file.h"
#include "src/commands.h"
#include "src/internal.h"
#include "text/lexer.h"

/* ---- compaction: undo and redo are replayed as their effect ---- */

/* The history being compacted. `kept` are borrowed lines. An edit whose undo saw no other command in between is
 * dropped; an edit that something (an export, a measurement) saw before it was undone is kept, with its undo, so that
 * what was written is written again. */
typedef struct Compactor {
    const char **kept;
    int n;
    struct Undone {
        const char *line; /* NULL: the undo was kept as a command */
    } *undone;            /* what redo would bring back, newest last */
    int nundone;
} Compactor;

/* The command of a recorded line, NULL when this build doesn't know it. */
static const Command *line_command(const char *line)
{
    char verb[32];
    size_t n = strcspn(line, " \t");
    if (n >= sizeof verb)
        return NULL;
    memcpy(verb, line, n);
    verb[n] = 0;
    return command_find(verb);
}

/* Of commands that may be an undo step: how one that was none is recorded (App.shows). */
static const char no_change[] = " # no change", no_step[] = " # no step";

static bool is_edit(const char *line)
{
    const Command *c = line_command(line);
    return c && (c->flags & CMD_EDIT) && !str_ends_with(line, no_change) && !str_ends_with(line, no_step);
}

static bool is_neutral(const char *line)
{
    const Command *c = line_command(line);
    return c && ((c->flags & CMD_NEUTRAL) || ((c->flags & CMD_EDIT) && str_ends_with(line, no_change)));
}

/* Index of the newest kept line that is more than a view, -1 when there is none. */
static int newest_mark(const Compactor *c)
{
    int i = c->n - 1;
    while (i >= 0 && is_neutral(c->kept[i]))
        i--;
    return i;
}

static void drop(Compactor *c, int i)
{
    memmove(&c->kept[i], &c->kept[i + 1], (size_t)(c->n - i - 1) * sizeof *c->kept);
    c->n--;
}

static void compact_line(Compactor *c, const char *line)
{
    const Command *cmd = line_command(line);
    int last = newest_mark(c);
    if (cmd == &command_undo) {
        if (last >= 0 && is_edit(c->kept[last])) {
            c->undone[c->nundone++] = (struct Undone){c->kept[last]};
            drop(c, last);
        } else {
            c->undone[c->nundone++] = (struct Undone){NULL};
            c->kept[c->n++] = line;
        }
    } else if (cmd == &command_redo && c->nundone) {
        const char *back = c->undone[--c->nundone].line;
        if (back)
            c->kept[c->n++] = back;
        else if (last >= 0 && line_command(c->kept[last]) == &command_undo)
            drop(c, last);
        else
            c->kept[c->n++] = line;
    } else {
        if (is_edit(line))
            c->nundone = 0;
        c->kept[c->n++] = line;
    }
}

/* A line for each model that the commands opened, by its fingerprint. */
static void put_models(const Session *s, Str *out)
{
    char last[PRINT_MARK] = "", print[PRINT_MARK];
    for (int i = 0; i < session_commands(s); i++) {
        Words w;
        if (!line_print(session_command(s, i), print) || lexer_split(session_command(s, i), &w, NULL) != ST_OK)
            continue;
        if (strcmp(print, last) != 0)
            str_printf(out, "# model %s, fingerprint %s\n", w.n > 1 ? w.word[1] : "", print);
        memcpy(last, print, sizeof last);
        words_fini(&w);
    }
    const Model *m = session_model(s);
    if (m && strncmp(m->fingerprint, last, PRINT_MARK - 1) != 0)
        str_printf(out, "# model %s, fingerprint %.16s\n", m->path, m->fingerprint);
}

/* A replayable script of the session's commands. */
Status history_script(const Session *s, Str *out, Error *err)
{
    int n = session_commands(s);
    Compactor c = {.kept = mem_zarray((size_t)n + 1, sizeof *c.kept),
                   .undone = mem_zarray((size_t)n + 1, sizeof *c.undone)};
    Status st = c.kept && c.undone ? ST_OK : error_nomem(err, "the history");
    for (int i = 0; i < n && st == ST_OK; i++)
        compact_line(&c, session_command(s, i));
    if (st == ST_OK) {
        const SessionOptions *o = session_options(s);
        str_puts(out, "#!slimscope -x\n# slimscope " SLIMSCOPE_VERSION "\n");
        put_models(s, out);
        DataInfo d = session_calib_info(s);
        if (d.samples)
            str_printf(out, "# calibration %s, sha256 %.16s\n", d.name, d.sha256);
        str_printf(out, "# seed %llu, %s arithmetic\n", (unsigned long long)o->seed, arith_name(o->arith));
        for (int i = 0; i < c.n; i++)
            str_printf(out, "%s\n", c.kept[i]);
    }
    free(c.kept);
    free(c.undone);
    return st;
}

static Status run_history(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 0, 1, err));
    const char *save = cl_str(cl, "save");
    const char *text = cl->nwords ? cl->words[0] : NULL;
    int n = a->session ? session_commands(a->session) : 0;
    Str b = {0};
    Status st = ST_OK;
    if (save && !n)
        st = error_set(err, ST_USAGE, "nothing has been done yet: there is no history to save");
    else if (save)
        st = history_script(a->session, &b, err);
    if (st == ST_OK && save && !cl->bang && file_exists(save) && !file_holds(save, str_text(&b), b.len))
        st = error_set(err, ST_IO, "'%s' is there already with other content: add ! to replace it", save);
    for (int i = 0; i < n && !save; i++)
        if (!text || strcasestr(session_command(a->session, i), text))
            str_printf(&b, "%4d  %s\n", i + 1, session_command(a->session, i));
    if (st == ST_OK && text && !b.len)
        st = error_set(err, ST_DATA, "none of %d command%s holds '%s'", n, n == 1 ? "" : "s", text);
    if (st == ST_OK)
        st = app_result(a, &b, save, err);
    if (st == ST_OK && save)
        app_note(a, "written: %s", save);
    str_free(&b);
    return st;
}
static const Option history_options[] = {
    {"save", ARG_PATH, "FILE", "write a script that does it all again; undone edits are left out", COMP_FILE},
    {0},
};
const Command command_history = {
    .name = "history",
    .args = "[TEXT]",
    .summary = "Print the commands of this session, with TEXT those that hold it. With ! --save replaces an existing file.",
    .flags = CMD_NO_LOG | CMD_DESTROYS,
    .options = history_options,
    .run = run_history,
};

/* "A-B" or "A", both from 1. */
static bool parse_range(const char *text, int64_t *first, int64_t *last)
{
    const char *dash = strchr(text, '-');
    if (!dash) {
        *last = 0;
        bool good = parse_int(text, first);
        *last = *first;
        return good;
    }
    char *head = strndup(text, (size_t)(dash - text));
    bool good = head && parse_int(head, first) && parse_int(dash + 1, last);
    free(head);
    return good;
}

static Status run_replay(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    int64_t first = 0, last = 0;
    bool was = a->force;
    Status st;
    int64_t pace = cl_int(cl, "pace", 0);
    if (pace < 0 || pace > 60000)
        return error_set(err, ST_USAGE, "--pace takes milliseconds from 0 to 60000");
    if (cl_given(cl, "pace") && a->face != FACE_UI)
        return error_set(err, ST_USAGE, "--pace is for the workbench: here nobody watches");
    a->pace_ms = (int)pace;
    a->force = was || cl_given(cl, "force");
    if (file_exists(cl->words[0]) || !parse_range(cl->words[0], &first, &last))
        st = app_script(a, cl->words[0], err);
    else if (first > INT32_MAX || last > INT32_MAX)
        st = error_set(err, ST_USAGE, "'%s' is no part of the history", cl->words[0]);
    else
        st = app_replay_range(a, (int)first, (int)last, err);
    a->force = was;
    return st;
}
static const Option replay_options[] = {
    {"force", ARG_FLAG, NULL, "also on another model than the one it was recorded with", COMP_NONE},
    {"pace", ARG_INT, "MS", "in the workbench: wait MS milliseconds between commands; ^C stops before the next one", COMP_NONE},
    {0},
};
const Command command_replay = {
    .name = "replay",
    .args = "FILE|A-B",
    .summary = "Run a script, or commands A to B of this session's history, again.",
    .flags = CMD_NO_LOG,
    .completes = COMP_FILE,
    .options = replay_options,
    .run = run_replay,
};
