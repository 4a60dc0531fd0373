/* compare: two measurements, metrics or runs side by side. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/comparing.h"
#include "src/commands.h"
#include "src/compare.h"
#include "src/output.h"

/* ---- marks ---- */

static Status mark_run(App *a, const CommandLine *cl, OutFormat f, Str *b, Error *err)
{
    (void)f, (void)b;
    Session *s = a->session;
    RETURN_IF_ERROR(want_words(cl, 3, 3, err));
    bool first = strcmp(cl->words[1], "A") == 0;
    if (!first && strcmp(cl->words[1], "B") != 0)
        return error_set(err, ST_USAGE, "'%s' is no mark: A or B", cl->words[1]);
    bool none = strcmp(cl->words[2], "none") == 0;
    RETURN_IF_ERROR(session_mark(s, first ? MARK_A : MARK_B, none ? NULL : cl->words[2], err));
    const char *other = session_marked(s, first ? MARK_B : MARK_A);
    if (none)
        app_note(a, "nothing is marked %s now", cl->words[1]);
    else
        app_note(a, "%s is %s now%s", session_marked(s, first ? MARK_A : MARK_B), cl->words[1],
                 !*other ? "; mark the other one, too"
                 : !session_marked_metric(s, MARK_A) == !session_marked_metric(s, MARK_B)
                     ? "; 'compare' sets the two side by side"
                     : "; the other mark is on the other list: mark a second one here");
    return ST_OK;
}

static Status keep_run(App *a, const CommandLine *cl, OutFormat f, Str *b, Error *err)
{
    (void)f, (void)b;
    int columns;
    RETURN_IF_ERROR(want_words(cl, 2, 2, err));
    RETURN_IF_ERROR(session_keep_scores(a->session, cl->words[1], &columns, err));
    app_note(a, "%d column%s kept as %s.METRIC", columns, columns == 1 ? "" : "s", cl->words[1]);
    return ST_OK;
}

static Status drop_run(App *a, const CommandLine *cl, OutFormat f, Str *b, Error *err)
{
    (void)f, (void)b;
    int columns, measured;
    RETURN_IF_ERROR(want_words(cl, 2, 2, err));
    RETURN_IF_ERROR(session_drop_kept(a->session, cl->words[1], &columns, &measured, err));
    app_note(a, "%s is dropped: %d column%s, %d measurement%s", cl->words[1], columns, columns == 1 ? "" : "s", measured,
             measured == 1 ? "" : "s");
    return ST_OK;
}

static Status swap_run(App *a, const CommandLine *cl, OutFormat f, Str *b, Error *err)
{
    (void)f, (void)b;
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    session_swap_marks(a->session);
    app_note(a, "A is %s, B is %s now", session_marked(a->session, MARK_A), session_marked(a->session, MARK_B));
    return ST_OK;
}

/* ---- the command ---- */

static void offer_metrics(const App *a, OfferWord *put, void *ctx)
{
    for (const Metric *const *m = session_metrics(a->session); *m; m++)
        put(ctx, (*m)->name, (*m)->title);
}

static void offer_letters(const App *a, OfferWord *put, void *ctx)
{
    (void)a;
    put(ctx, "A", "the first of the two");
    put(ctx, "B", "the other one");
}

static void offer_things(const App *a, OfferWord *put, void *ctx)
{
    offer_measurements(a, put, ctx);
    for (const Metric *const *m = session_metrics(a->session); *m; m++)
        if (session_has_run(a->session, *m))
            put(ctx, (*m)->name, (*m)->title);
    put(ctx, "none", "takes the mark away");
}

/* Each run once, in the order in which they came. */
static void offer_kept(const App *a, OfferWord *put, void *ctx)
{
    char run[THING_MAX], last[THING_MAX] = "";
    for (const Metric *const *m = session_metrics(a->session); *m; m++) {
        session_kept_run(a->session, (*m)->name, run);
        if (*run && strcmp(run, last) != 0)
            put(ctx, run, (*m)->loaded->file);
        snprintf(last, sizeof last, "%s", run);
    }
    for (int i = session_measurements(a->session); i < session_measurements_all(a->session); i++) {
        session_kept_run(a->session, session_measurement(a->session, i).name, run);
        if (strcmp(run, last) != 0)
            put(ctx, run, "measurements of another session");
        snprintf(last, sizeof last, "%s", run);
    }
}

static void offer_linears(const App *a, OfferWord *put, void *ctx)
{
    const Model *m = session_model(a->session);
    for (int64_t i = 0; m && i < m->nlinears; i++)
        put(ctx, m->linears[i].name, "");
}

static const struct Kind {
    const char *name;
    bool model; /* needs a model that is open */
    Status (*run)(App *a, const CommandLine *cl, OutFormat f, Str *b, Error *err);
    const char *means;
    void (*offer[3])(const App *a, OfferWord *put, void *ctx); /* of its first word, and of those behind it */
    int files;  /* how many of its words may be files */
} kinds[] = {
    {"measurements", false, compare_measurements, "two of them, or files that measure wrote as JSON",
     {offer_measurements, offer_measurements}, 2},
    {"list", true, compare_list, "all that was measured", {NULL}, 0},
    {"metrics", true, compare_metrics, "how far two metrics rank alike", {offer_metrics, offer_metrics}, 0},
    {"runs", false, compare_runs, "scores of a file against the session's or another file's", {NULL}, 2},
    {"hist", true, compare_hist, "a layer's weight as A and as B quantize it", {offer_linears, offer_things, offer_things}, 0},
    {"mark", true, mark_run, "what is to be compared", {offer_letters, offer_things}, 0},
    {"keep", true, keep_run, "the present scores under a name, to be compared with later ones", {NULL}, 0},
    {"drop", true, drop_run, "a run that was kept, or what was loaded or brought in", {offer_kept}, 0},
    {"swap", true, swap_run, "A becomes B, and B A", {NULL}, 0},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static const struct Kind *kind_find(const char *name, Error *err)
{
    const char *names[KINDS + 1] = {0};
    Str all = {0};
    for (int i = 0; i < KINDS; i++) {
        names[i] = kinds[i].name;
        str_printf(&all, "%s%s", i ? ", " : "", names[i]);
        if (strcmp(name, names[i]) == 0) {
            str_free(&all);
            return &kinds[i];
        }
    }
    const char *near = nearest_name(name, names);
    error_set(err, ST_USAGE, "'%s' is nothing that is compared: %s%s%s", name, str_text(&all), near ? "; nearest: " : "",
              near ? near : "");
    str_free(&all);
    return NULL;
}

static Status compare_run(App *a, const CommandLine *cl, Error *err)
{
    bool metrics = a->session && session_marked_metric(a->session, MARK_A) && session_marked_metric(a->session, MARK_B);
    const struct Kind *k = kind_find(cl->nwords ? cl->words[0] : metrics ? "metrics" : "measurements", err);
    if (!k)
        return ST_USAGE;
    if (k->model)
        RETURN_IF_ERROR(app_need_model(a, err));
    Str b = {0};
    Status st = k->run(a, cl, out_format(cl_str(cl, "format")), &b, err);
    if (st == ST_OK && b.oom)
        st = error_nomem(err, "a comparison");
    if (st == ST_OK)
        st = app_result(a, &b, cl_str(cl, "out"), err);
    str_free(&b);
    return st;
}

static void compare_offer(const App *a, const char *const *words, int n, OfferWord *put, void *ctx)
{
    const struct Kind *k = n > 0 && n < 4 ? kind_find(words[0], NULL) : NULL;
    for (int i = 0; n == 0 && i < KINDS; i++)
        put(ctx, kinds[i].name, kinds[i].means);
    if (k && k->offer[n - 1])
        k->offer[n - 1](a, put, ctx);
    if (k && n <= k->files)
        offer_results(words[n], put, ctx);
}

static const Option compare_options[] = {
    {"format", ARG_CHOICE, "text|json", "of the result (default text)", COMP_NONE},
    {"out", ARG_PATH, "FILE", "write the result to FILE (whole or not at all) instead of standard output", COMP_FILE},
    {"topk", ARG_INT, "N", "rows of two metrics or runs that the text shows (default 10)", COMP_NONE},
    {"linear", ARG_FLAG, NULL, "hist: counts linear instead of logarithmic", COMP_NONE},
    {"table", ARG_FLAG, NULL, "hist: numbers instead of a drawing", COMP_NONE},
    {"size", ARG_STR, "CxR", "hist: columns and rows of the text (default 80x40)", COMP_NONE},
    {"glyphs", ARG_CHOICE, "auto|braille|block|ascii", "hist: characters to draw with (auto: blocks in a UTF-8 locale)", COMP_NONE},
    {0},
};
const Command command_compare = {
    .name = "compare",
    .args = "[list | measurements | metrics | runs | hist | mark | swap | keep | drop] [THING...]",
    .summary = "Set two measurements side by side, with the error of their difference, two metrics or two runs.",
    .help = "measurements takes none, [A [B]] or two files that measure wrote with --format json, which need no model. A "
            "measurement is named by its number in 'compare list', or is the present one, the previous one or base (what the "
            "recipe gives by itself); without names A is held against B, where two are marked, else the present one against "
            "the previous one. 'mark A|B THING' marks a measurement or a metric, 'mark A none' takes the mark away. The error "
            "of a difference is paired: over blocks of 16 tokens, so that what a hard text does to both cancels. A difference "
            "below two of its errors is undecided. metrics takes two: how far they rank alike, and the layers that they rank "
            "most differently, first those of which the cause is known; a group, attention or block has the largest score of "
            "its linears. 'keep NAME' makes the present scores columns NAME.METRIC that nothing changes any more, as a new "
            "calibration set does with what it makes stale. runs takes files that load takes, as the JSON and CSV of analyze: "
            "one against this session's scores, or two, which needs no model: what other texts, another scheme or another "
            "arithmetic change in a ranking.",
    .flags = CMD_NEUTRAL | CMD_CLI,
    .options = compare_options,
    .completes = COMP_FILE,
    .run = compare_run,
    .offer = compare_offer,
};
