/* The table as it is looked at, and the screen around it. */
#include <stdio.h>
#include <string.h>

#include "session/columns.h"
#include "session/fold.h"
#include "src/commands.h"
#include "src/internal.h"

static Status show_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    return session_show(a->session, cl->words[0], err);
}
const Command command_show = {
    .name = "show",
    .args = "METRIC",
    .summary = "Show this metric's scores in the table.",
    .flags = CMD_NEEDS_MODEL | CMD_NEUTRAL,
    .completes = COMP_METRIC,
    .run = show_run,
};

static Status sort_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, 2, err));
    int key = sort_key_find(cl->words[0]);
    if (key < 0) {
        const char *names[SORT_KEYS + 1] = {0};
        Str all = {0};
        for (int i = 0; i < SORT_KEYS; i++) {
            names[i] = sort_key_name((SortKey)i);
            str_printf(&all, "%s%s", i ? ", " : "", names[i]);
        }
        const char *near = nearest_name(cl->words[0], names);
        error_set(err, ST_USAGE, "'%s' is no sort key: use %s%s%s", cl->words[0], str_text(&all),
                  near ? "; nearest: " : "", near ? near : "");
        str_free(&all);
        return ST_USAGE;
    }
    if (key == SORT_SECOND && !session_second(a->session))
        return error_set(err, ST_USAGE, "no second metric is shown: columns METRIC shows one beside the first");
    bool ascending = key == SORT_NAME || key == SORT_MODEL;
    if (cl->nwords == 2) {
        bool up = strcmp(cl->words[1], "asc") == 0;
        if (!up && strcmp(cl->words[1], "desc") != 0)
            return error_set(err, ST_USAGE, "'%s' is no direction: asc or desc", cl->words[1]);
        ascending = up;
    }
    return session_sort(a->session, (SortKey)key, ascending, err);
}
const Command command_sort = {
    .name = "sort",
    .args = "score|name|model|size|level|second [asc|desc]",
    .summary = "Order the table; second: by the metric that columns shows beside the first.",
    .flags = CMD_NEEDS_MODEL | CMD_NEUTRAL,
    .completes = COMP_SORT,
    .run = sort_run,
};

static Status fold_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    int mode = fold_mode_find(cl->words[0]);
    if (mode >= 0)
        return session_fold(a->session, (FoldMode)mode, err);
    const char *names[FOLD_MODES + 1] = {0};
    Str all = {0};
    for (int i = 0; i < FOLD_MODES; i++) {
        names[i] = fold_mode_name((FoldMode)i);
        str_printf(&all, "%s%s", i ? ", " : "", names[i]);
    }
    const char *near = nearest_name(cl->words[0], names);
    error_set(err, ST_USAGE, "'%s' is no way to fold: use %s%s%s", cl->words[0], str_text(&all),
              near ? "; nearest: " : "", near ? near : "");
    str_free(&all);
    return ST_USAGE;
}
const Command command_fold = {
    .name = "fold",
    .args = "none|block|kind|group|experts",
    .summary = "Fold the table: rows that belong together become one.",
    .help = "Together are the linears of a decoder layer, those with the same last name (every down_proj), a fused "
            "group, or the routed experts of a layer. A folded row shows maximum, mean, number and cost, and takes "
            "every key that a row takes.",
    .flags = CMD_NEEDS_MODEL | CMD_NEUTRAL,
    .completes = COMP_FOLD,
    .run = fold_run,
};

/* Joins words with blanks. */
static void join_words(const CommandLine *cl, int first, Str *out)
{
    for (int i = first; i < cl->nwords; i++)
        str_printf(out, "%s%s", i > first ? " " : "", cl->words[i]);
}

static Status filter_run(App *a, const CommandLine *cl, Error *err)
{
    Str expr = {0};
    join_words(cl, 0, &expr);
    Status st = expr.oom ? error_nomem(err, "a filter") : session_filter(a->session, str_text(&expr), err);
    str_free(&expr);
    return st;
}
const Command command_filter = {
    .name = "filter",
    .args = "[EXPR...]",
    .summary = "Show only the rows that fit; without words all rows again.",
    .help = "All words must hold: a plain word is part of the name, kind=down_proj, layer=3..7, first=2 or last=2 (blocks), "
            "score>1e2, float, failed, tagged, @NAME one that was kept (savefilter); !word negates.\n"
            "Example: filter kind=down_proj last=4 !float",
    .flags = CMD_NEEDS_MODEL | CMD_EDIT | CMD_MARKS,
    .completes = COMP_FILTER,
    .run = filter_run,
};

static Status savefilter_run(App *a, const CommandLine *cl, Error *err)
{
    Str expr = {0};
    const char *text;
    RETURN_IF_ERROR(want_words(cl, 1, -1, err));
    join_words(cl, 1, &expr);
    text = cl->nwords > 1 ? str_text(&expr) : session_filter_text(a->session);
    Status st = expr.oom ? error_nomem(err, "a filter") : session_save_filter(a->session, cl->words[0], text, err);
    str_free(&expr);
    return st;
}
const Command command_savefilter = {
    .name = "savefilter",
    .args = "NAME [EXPR...]",
    .summary = "Keep a filter, or the present one, as @NAME; an empty one takes the name away.",
    .help = "@NAME is a word of filters from then on, alone or beside others. It is kept with the session.\n"
            "Example: savefilter big score>0.01 !float",
    .flags = CMD_NEEDS_MODEL | CMD_NEUTRAL,
    .completes = COMP_FILTER,
    .run = savefilter_run,
};

static Status needs_screen(const App *a, const CommandLine *cl, bool have, Error *err)
{
    if (have)
        return ST_OK;
    return error_set(err, ST_USAGE, "'%s' needs the workbench%s", cl->command->name,
                     a->face == FACE_SCRIPT ? ": run the script with --ui" : "");
}

static Status theme_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    RETURN_IF_ERROR(needs_screen(a, cl, a->set_theme != NULL, err));
    return a->set_theme(a->ui_ctx, cl->words[0], err);
}
const Command command_theme = {
    .name = "theme",
    .args = "NAME",
    .summary = "Change the workbench's colours.",
    .flags = CMD_NO_LOG | CMD_NEUTRAL,
    .completes = COMP_THEME,
    .run = theme_run,
};

static Status screen_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    RETURN_IF_ERROR(needs_screen(a, cl, a->set_screen != NULL, err));
    return a->set_screen(a->ui_ctx, cl->words[0], err);
}
const Command command_screen = {
    .name = "screen",
    .args = "NAME",
    .summary = "Go to a screen of the workbench.",
    .flags = CMD_NO_LOG | CMD_NEUTRAL,
    .completes = COMP_SCREEN,
    .run = screen_run,
};

/* The row of the cursor in words, for those who hear the screen. */
static Status say_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 0, 0, err));
    Session *s = a->session;
    int64_t i = session_cursor(s), n;
    const int64_t *order = session_order(s, &n, false);
    i = i < 0 && n > 0 ? order[0] : i;
    if (i < 0)
        return error_set(err, ST_USAGE, "no row is shown; the filter hides them all");
    const Metric *m = session_metric(s);
    Score sc = m ? session_score(s, m, i) : (Score){.state = SCORE_NONE};
    Str b = {0};
    str_printf(&b, "%s, level %s%s", session_model(s)->linears[i].name, session_level_name(s, session_level_of(s, i)),
               session_tagged(s, i) ? ", tagged" : "");
    if (sc.state == SCORE_OK || sc.state == SCORE_STALE)
        str_printf(&b, ", rank %lld by %s, score %.4g%s", (long long)session_rank(s, i), m->name, sc.value,
                   sc.state == SCORE_STALE ? ", stale" : "");
    else
        str_printf(&b, ", %s", sc.state == SCORE_FAILED ? "failed" : sc.state == SCORE_QUEUED ? "queued" : "not measured yet");
    str_puts(&b, "\n");
    Status st = app_result(a, &b, NULL, err);
    str_free(&b);
    return st;
}
const Command command_say = {
    .name = "say",
    .args = "",
    .summary = "Tell the row of the cursor in words.",
    .flags = CMD_NEEDS_MODEL | CMD_NO_LOG | CMD_NEUTRAL,
    .run = say_run,
};

/* ST_USAGE unless the words behind the key begin with a command, or with a line (in one word) that does. */
static Status known_verb(const CommandLine *cl, Error *err)
{
    Words w;
    Str line = {0};
    join_words(cl, 1, &line);
    Status st = line.oom ? error_nomem(err, "a key binding") : lexer_split(str_text(&line), &w, err);
    str_free(&line);
    if (st != ST_OK)
        return st;
    const char *verb = w.n > 1 && strcmp(w.word[0], "async") == 0 ? w.word[1] : w.n > 0 ? w.word[0] : "";
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(verb, "!"), verb);
    if (!command_find(name))
        st = unknown_command(name, false, err);
    words_fini(&w);
    return st;
}

static Status bind_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 2, -1, err));
    RETURN_IF_ERROR(needs_screen(a, cl, a->bind_key != NULL, err));
    RETURN_IF_ERROR(known_verb(cl, err));
    Str command = {0};
    for (int i = 1; i < cl->nwords; i++) {
        str_puts(&command, i > 1 ? " " : "");
        if (cl->nwords == 2)
            str_puts(&command, cl->words[1]);
        else
            lexer_quote(&command, cl->words[i]);
    }
    Status st =
        command.oom ? error_nomem(err, "a key binding") : a->bind_key(a->ui_ctx, cl->words[0], str_text(&command), err);
    str_free(&command);
    return st;
}
const Command command_bind = {
    .name = "bind",
    .args = "KEY COMMAND...",
    .summary = "Let a key of the workbench run a command line.",
    .flags = CMD_NO_LOG | CMD_NEUTRAL,
    .completes = COMP_NONE,
    .run = bind_run,
};

static Status dump_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    RETURN_IF_ERROR(needs_screen(a, cl, a->dump_screen != NULL, err));
    return a->dump_screen(a->ui_ctx, cl->words[0], cl_given(cl, "all"), err);
}
static const Option dump_options[] = {
    {"all", ARG_FLAG, NULL, "all lines of the screen's list, also those that are scrolled away", COMP_NONE},
    {.name = NULL},
};
const Command command_dump = {
    .name = "dump",
    .args = "FILE",
    .summary = "Write what the screen shows to a text file.",
    .flags = CMD_NO_LOG,
    .options = dump_options,
    .completes = COMP_FILE,
    .run = dump_run,
};
