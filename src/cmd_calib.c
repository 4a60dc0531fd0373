/* calib: the calibration set: which it is, which of its texts are in, what each does. */
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "session/calibset.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/output.h"

/* A word as it was typed: history has files with their folders, and one may be called as a number is. */
static const char *plain(const char *word)
{
    return word[0] == '/' && file_exists(word) ? path_base(word) : word;
}

/* What the set is called now, without its folder. */
static const char *called(const App *a)
{
    return path_base(session_calib_title(a->session));
}

/* The words behind the verb as they were typed; caller frees, NULL when memory is short. */
static const char **texts_meant(const CommandLine *cl, Error *err)
{
    int n = cl->nwords - 1;
    const char **target = calloc((size_t)n + 1, sizeof *target);
    if (!target)
        error_nomem(err, "a list of texts");
    for (int i = 0; target && i < n; i++)
        target[i] = plain(cl->words[i + 1]);
    return target;
}

static Status take(App *a, const CommandLine *cl, bool out, Error *err)
{
    int n = cl->nwords - 1, moved = 0;
    const char **target = texts_meant(cl, err);
    if (!target)
        return ST_NOMEM;
    Status st = session_texts_take(a->session, target, n, out, &moved, err);
    free(target);
    if (st == ST_OK && moved)
        app_note(a, "%d text%s %s; calibration is %s now", moved, moved == 1 ? "" : "s", out ? "taken out" : "taken back",
                 called(a));
    else if (st == ST_OK)
        app_note(a, out ? "out already" : "in already");
    return st;
}

static Status drop_run(App *a, const CommandLine *cl, Error *err)
{
    return take(a, cl, true, err);
}

static Status keep_run(App *a, const CommandLine *cl, Error *err)
{
    return take(a, cl, false, err);
}

static Status add_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(session_texts_add(a->session, cl->words[1], err));
    app_note(a, "added; calibration is %s now", called(a));
    return ST_OK;
}

static Status save_run(App *a, const CommandLine *cl, Error *err)
{
    Str text = {0};
    int n = 0;
    const char *path = cl->words[1];
    Status st = session_texts_save(a->session, &text, &n, err);
    if (st == ST_OK && !cl->bang && file_exists(path) && !file_holds(path, str_text(&text), text.len))
        st = error_set(err, ST_IO, "'%s' is there already with other content: add ! to replace it", path);
    if (st == ST_OK)
        st = app_result(a, &text, path, err);
    str_free(&text);
    if (st == ST_OK)
        app_note(a, "written: %s, %d text%s", path, n, n == 1 ? "" : "s");
    return st;
}

static Status tag_run(App *a, const CommandLine *cl, Error *err)
{
    int n = cl->nwords - 1, moved = 0;
    const char **target = texts_meant(cl, err);
    if (!target)
        return ST_NOMEM;
    Status st = session_texts_tag(a->session, target, n, !cl_given(cl, "off"), &moved, err);
    free(target);
    return st;
}

static Status sort_run(App *a, const CommandLine *cl, Error *err)
{
    int k = text_sort_find(plain(cl->words[1]));
    if (k < 0) {
        Str names = {0};
        for (int i = 0; i < TEXT_SORTS; i++)
            str_printf(&names, "%s%s", i ? ", " : "", text_sort_name((TextSort)i));
        error_set(err, ST_USAGE, "texts are sorted by %s, not by '%s'", str_text(&names), cl->words[1]);
        str_free(&names);
        return ST_USAGE;
    }
    bool up = k == TEXT_SORT_NUMBER || k == TEXT_SORT_SCRIPT || k == TEXT_SORT_TEXT || k == TEXT_SORT_STATE;
    if (cl->nwords > 2 && strcmp(cl->words[2], "asc") != 0 && strcmp(cl->words[2], "desc") != 0)
        return error_set(err, ST_USAGE, "'%s' is no order: asc or desc", cl->words[2]);
    return session_texts_sort(a->session, (TextSort)k, cl->nwords > 2 ? strcmp(cl->words[2], "asc") == 0 : up);
}

static Status filter_run(App *a, const CommandLine *cl, Error *err)
{
    Str expr = {0};
    for (int i = 1; i < cl->nwords; i++)
        str_printf(&expr, "%s%s", i > 1 ? " " : "", plain(cl->words[i]));
    Status st = expr.oom ? error_nomem(err, "the filter") : session_texts_filter(a->session, str_text(&expr), err);
    str_free(&expr);
    return st;
}

static Status list_run(App *a, const CommandLine *cl, Error *err)
{
    Str text = {0};
    OutFormat f = out_format(cl_str(cl, "format"));
    Status st = session_texts_wait(a->session, err);
    if (st == ST_OK)
        st = output_texts(a->session, f, &text, err);
    if (st == ST_OK)
        st = app_result(a, &text, cl_str(cl, "out"), err);
    str_free(&text);
    return st;
}

static Status show_run(App *a, const CommandLine *cl, Error *err)
{
    int64_t number;
    Str text = {0};
    if (!parse_int(plain(cl->words[1]), &number))
        return error_set(err, ST_USAGE, "'%s' is no text: give its number, as calib list shows it", cl->words[1]);
    Status st = session_texts_wait(a->session, err);
    if (st == ST_OK)
        st = output_text(a->session, number, &text, err);
    if (st == ST_OK)
        st = app_result(a, &text, NULL, err);
    str_free(&text);
    return st;
}

/* Waits for what was queued and prints what came of it; in the workbench it goes on in the background. */
static Status finish(App *a, const CommandLine *cl, int queued, Error *err)
{
    Str text = {0};
    const Effect *e = session_effect(a->session, NULL);
    if (queued && e && e->seconds > 0)
        app_note(a, "%d measurement%s, about %.0f s each", queued, queued == 1 ? "" : "s", e->seconds);
    if (queued && !app_waits(a))
        return ST_OK;
    if (queued)
        RETURN_IF_ERROR(app_wait(a, err));
    Status st = output_trials(a->session, out_format(cl_str(cl, "format")), &text, err);
    if (st == ST_OK)
        st = app_result(a, &text, cl_str(cl, "out"), err);
    str_free(&text);
    return st;
}

static Status loo_run(App *a, const CommandLine *cl, Error *err)
{
    int n = cl->nwords - 1, queued;
    const char **target = calloc((size_t)n + 1, sizeof *target);
    if (!target)
        return error_nomem(err, "a list of texts");
    for (int i = 0; i < n; i++)
        target[i] = plain(cl->words[i + 1]);
    bool loss = cl_str(cl, "by") && strcmp(cl_str(cl, "by"), "block_error") == 0;
    Status st = loss ? session_texts_loo_loss(a->session, target, n, &queued, err)
                     : session_texts_loo(a->session, target, n, cl_given(cl, "full"), &queued, err);
    free(target);
    return st == ST_OK ? finish(a, cl, queued, err) : st;
}

static Status compare_run(App *a, const CommandLine *cl, Error *err)
{
    int queued;
    RETURN_IF_ERROR(session_calib_compare(a->session, cl->words + 1, cl->nwords - 1, cl_given(cl, "full"), &queued, err));
    return finish(a, cl, queued, err);
}

static Status trials_run(App *a, const CommandLine *cl, Error *err)
{
    return finish(a, cl, 0, err);
}

/* What the first word may be, besides a file. */
static const struct Verb {
    const char *name, *args;
    int min, max; /* words behind it; max -1: any number */
    bool model;
    bool shows; /* App.shows */
    Status (*run)(App *a, const CommandLine *cl, Error *err);
} verbs[] = {
    {"list", "[--format text|json|csv]", 0, 0, true, true, list_run},
    {"show", "N", 1, 1, true, true, show_run},
    {"drop", "N|PART...", 1, -1, true, false, drop_run},
    {"keep", "N|PART...", 1, -1, true, false, keep_run},
    {"add", "FILE", 1, 1, true, false, add_run},
    {"save", "FILE", 1, 1, true, true, save_run},
    {"loo", "[N|PART...] [--by kl|block_error] [--full]", 0, -1, true, true, loo_run},
    {"compare", "FILE... [--full]", 1, -1, true, true, compare_run},
    {"trials", "[--format text|json]", 0, 0, true, true, trials_run},
    {"tag", "N|PART... [--off]", 1, -1, true, false, tag_run},
    {"sort", "COLUMN [asc|desc]", 1, 2, false, false, sort_run},
    {"filter", "[WORDS]", 0, -1, false, false, filter_run},
};
enum { VERBS = sizeof verbs / sizeof *verbs };

static const struct Verb *find_verb(const char *word)
{
    for (size_t i = 0; i < VERBS; i++)
        if (strcmp(verbs[i].name, plain(word)) == 0)
            return &verbs[i];
    return NULL;
}

static Status calib_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, -1, err));
    RETURN_IF_ERROR(app_session(a, err));
    const struct Verb *v = find_verb(cl->words[0]);
    if (!v) {
        RETURN_IF_ERROR(want_words(cl, 1, 1, err));
        a->shows = true;
        return session_set_calib(a->session, cl->words[0], err);
    }
    int n = cl->nwords - 1;
    if (n < v->min || (v->max >= 0 && n > v->max))
        return error_set(err, ST_USAGE, "calib %s %s: %s", v->name, v->args,
                         n < v->min ? "it needs more" : "that is too much");
    if (v->model)
        RETURN_IF_ERROR(app_need_model(a, err));
    a->shows = v->shows;
    return v->run(a, cl, err);
}

static const Option calib_options[] = {
    {"off", ARG_FLAG, NULL, "calib tag: take tags away", COMP_NONE},
    {"full", ARG_FLAG, NULL, "calib loo, compare: over the whole evaluation set", COMP_NONE},
    {"by", ARG_CHOICE, "kl|block_error", "calib loo: measure KL (default), or add block_error up, which is quicker", COMP_NONE},
    {"format", ARG_CHOICE, "text|json|csv", "of calib list, loo, compare and trials (default text)", COMP_NONE},
    {"out", ARG_PATH, "FILE", "of these: write it to FILE instead of standard output", COMP_FILE},
    {0},
};
const Command command_calib = {
    .name = "calib",
    .args = "FILE | drop|keep|add|save|list|show|loo|compare|trials|tag|sort|filter ...",
    .summary = "Choose the calibration set (a .jsonl or .json file, or a shipped set), or which of its texts are in.",
    .help = "drop 5 7-9 takes texts out, by number or by a part of them (or 'tagged', 'flagged'), keep 5 takes them back, add FILE "
            "puts a file's texts behind the others: undo takes each back, and every output names the set as it is "
            "(\"mix_calib.jsonl - 2 texts\"). save FILE writes the texts that are in as JSON lines, which msModelSlim reads, too. "
            "list and show N print what each text is and which ranges it sets (after analyze text_range). loo N... measures the present "
            "decision without each of these texts (without numbers: the flagged ones), --by block_error adds up that metric's scores without it "
            "instead, compare FILE... on other sets, both against "
            "the set as it is, on the evaluation set, with the paired error of the difference; what is measured already is not run "
            "again, and trials prints it all. A file that is called "
            "as one of these words is written with its folder: ./add.",
    .flags = CMD_INPUT | CMD_EDIT | CMD_DESTROYS | CMD_LONG,
    .completes = COMP_FILE,
    .options = calib_options,
    .run = calib_run,
};
