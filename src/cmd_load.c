/* Sessions that go on, and scores of other programs and sessions as columns of the table. */
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "session/comparing.h"
#include "src/commands.h"
#include "src/compare.h"
#include "src/internal.h"

static Status load_scores(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(app_need_model(a, err));
    Str what = {0};
    Status st = session_load_scores(a->session, cl->words[1], cl_str(cl, "as"), &what, err);
    for (char *line = what.s, *next; st == ST_OK && line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        app_note(a, "%s", line);
    }
    str_free(&what);
    return st;
}

static Status load_session(App *a, const CommandLine *cl, Error *err)
{
    int columns, measured;
    RETURN_IF_ERROR(app_need_model(a, err));
    const char *as = cl_str(cl, "as") ? cl_str(cl, "as") : cl->words[1];
    RETURN_IF_ERROR(session_keep_other(a->session, cl->words[1], as, &columns, &measured, err));
    app_note(a, "of session %s: %d column%s %s.METRIC, %d measurement%s NUMBER@%s", cl->words[1], columns, columns == 1 ? "" : "s", as,
             measured, measured == 1 ? "" : "s", as);
    return ST_OK;
}

static Status load_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, 2, err));
    const char *what = path_base(cl->words[0]); /* recorded with its folder, where a file is called so */
    bool session = strcmp(what, "session") == 0, scores = strcmp(what, "scores") == 0;
    if (cl->nwords == 2 && session)
        return load_session(a, cl, err);
    if (cl->nwords == 2 && scores)
        return load_scores(a, cl, err);
    if (cl->nwords == 2 || session || scores || cl_given(cl, "as"))
        return error_set(err, ST_USAGE, "'load %s' is not known: load scores FILE, load session ID; load SESSION alone goes on with one",
                         cl->words[0]);
    return session_go_to(a, cl->words[0], "load", cl->bang, err);
}

static void load_offer(const App *a, const char *const *words, int n, OfferWord *put, void *ctx)
{
    if (n == 0) {
        put(ctx, "scores", "a file that another program, or analyze, wrote");
        put(ctx, "session", "another session: its scores and its measurements");
        offer_sessions(a, true, put, ctx);
        offer_results(words[0], put, ctx);
    }
    if (n == 1 && strcmp(words[0], "scores") == 0)
        offer_results(words[1], put, ctx);
    if (n == 1 && strcmp(words[0], "session") == 0)
        offer_sessions(a, false, put, ctx);
}

static const Option load_options[] = {
    {"as", ARG_STR, "NAME", "the column's name (default: the file's name without its end)", COMP_NONE},
    {0},
};
const Command command_load = {
    .name = "load",
    .args = "SESSION|FILE | scores FILE | session ID",
    .summary = "Go on with a session in the place of this one; or bring in scores of another program or session as columns.",
    .help = "load SESSION opens a kept session by its name, or the FILE that save wrote, which becomes a session of its own; this one "
            "stays kept. load scores takes: the log of msModelSlim's analyze, an imatrix of llama.cpp (.dat or .gguf: the sum of the mean squares of a layer's "
            "inputs), JSON (what rank writes, or {NAME: SCORE}), CSV (what rank and export write, or name,score), or a recipe "
            "(.yaml: 1 for what it leaves float). Then show, sort, rank and export know it by its name, and say where it comes "
            "from; a file with several columns gives NAME.COLUMN each. Names that are no layers are counted. "
            "Of load session, by its id, come the scores that are not stale as NAME.METRIC and the measurements as "
            "NUMBER@NAME, to be compared with those here.",
    .flags = CMD_INPUT | CMD_DESTROYS,
    .completes = COMP_FILE,
    .options = load_options,
    .run = load_run,
    .offer = load_offer,
};
