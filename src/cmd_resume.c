/* Sessions that are kept: gone on with, listed, deleted. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/file.h"
#include "session/autotune.h"
#include "session/settings.h"
#include "base/mem.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/output.h"

/* ---- listing and deleting ---- */

static Status find_sessions(char **dir, SessionInfo **list, int *n, Error *err)
{
    *dir = app_state_dir();
    if (!*dir)
        return error_nomem(err, "the state folder's name");
    Status st = session_list(*dir, list, n, err);
    if (st != ST_OK)
        free(*dir);
    return st;
}

static bool is_named(const SessionInfo *i, const char *name)
{
    return strcmp(i->id, name) == 0 || (i->name[0] && strcmp(i->name, name) == 0);
}

void offer_sessions(const App *a, bool closed, OfferWord *put, void *ctx)
{
    SessionInfo *list = NULL;
    int n = 0;
    if (!a->options.state_dir || session_list(a->options.state_dir, &list, &n, NULL) != ST_OK)
        return;
    for (int i = 0; i < n; i++) {
        Str text = {0};
        str_printf(&text, "%s: ", path_base(list[i].model));
        session_info_text(&list[i], &text);
        if (closed && !list[i].locked)
            put(ctx, list[i].name[0] ? list[i].name : list[i].id, str_text(&text));
        else if (!closed && (!a->session || !is_named(&list[i], session_id(a->session))))
            put(ctx, list[i].id, str_text(&text));
        str_free(&text);
    }
    free(list);
}

static void put_session(const SessionInfo *i, Str *b)
{
    char when[32];
    time_t t = (time_t)i->when;
    struct tm tm;
    strftime(when, sizeof when, "%Y-%m-%d %H:%M", localtime_r(&t, &tm));
    str_printf(b, "%-24s  %s  %s  ", i->id, when, i->locked ? "open  " : "closed");
    size_t at = b->len;
    str_bytes(b, i->bytes);
    str_printf(b, "%*s  ", at + 9 > b->len ? (int)(at + 9 - b->len) : 0, "");
    if (i->name[0])
        str_printf(b, "%s  ", i->name);
    str_puts(b, i->model);
    str_puts(b, "  ");
    session_info_text(i, b);
    if (i->unwritten)
        str_printf(b, ", %d not exported", i->unwritten);
    str_putc(b, '\n');
}

Status sessions_list(App *a, Error *err)
{
    char *dir;
    SessionInfo *list;
    int n;
    RETURN_IF_ERROR(find_sessions(&dir, &list, &n, err));
    Str b = {0};
    uint64_t sum = 0;
    for (int i = 0; i < n; i++) {
        put_session(&list[i], &b);
        sum += list[i].bytes;
    }
    Status st = n ? app_result(a, &b, NULL, err) : ST_OK;
    str_clear(&b);
    str_bytes(&b, sum);
    if (n)
        app_note(a, "%d session%s, %s in '%s/sessions'", n, n == 1 ? "" : "s", str_text(&b), dir);
    else
        app_note(a, "no session is kept yet");
    str_free(&b);
    free(list);
    free(dir);
    return st;
}

Status sessions_delete(App *a, const char *const *ids, int64_t days, Error *err)
{
    char *dir;
    SessionInfo *list;
    int n, deleted = 0;
    uint64_t freed = 0;
    RETURN_IF_ERROR(find_sessions(&dir, &list, &n, err));
    Status st = ST_OK;
    for (int i = 0; ids && ids[i] && st == ST_OK; i++) {
        const char *id = ids[i];
        for (int k = 0; k < n; k++)
            if (is_named(&list[k], ids[i])) {
                freed += list[k].bytes;
                id = list[k].id;
                break;
            }
        st = session_delete(dir, id, err);
        deleted += st == ST_OK;
    }
    int64_t before = (int64_t)time(NULL) - days * 24 * 3600;
    for (int k = 0; !ids && k < n && st == ST_OK; k++) {
        if (list[k].locked || list[k].when > before)
            continue;
        st = session_delete(dir, list[k].id, err);
        freed += st == ST_OK ? list[k].bytes : 0;
        deleted += st == ST_OK;
    }
    Str size = {0};
    str_bytes(&size, freed);
    if (st == ST_OK || deleted)
        app_note(a, "%d session%s deleted, %s freed", deleted, deleted == 1 ? "" : "s", str_text(&size));
    str_free(&size);
    free(list);
    free(dir);
    return st;
}

/* ---- going on ---- */

/* The metric that is shown, or all that have scores where that one has none. */
static void what_ran(const Session *s, const Metric **list)
{
    const Metric *shown = session_metric(s);
    int n = 0;
    if (shown && session_has_run(s, shown))
        list[n++] = shown;
    for (int i = 0; !(shown && list[0] == shown) && metric_table[i]; i++)
        if (session_has_run(s, metric_table[i]))
            list[n++] = metric_table[i];
}

/* Finishes the stopped job without a screen and prints what is known. */
static Status resume_headless(App *a, Error *err)
{
    Status st = session_go_on(a->session, NULL, err);
    TuneView v;
    if (st == ST_OK && session_tuning(a->session, &v, NULL) == ST_OK && v.state == TUNING_RUNS)
        return tune_finish(a, OUT_TEXT, err);
    AutotuneView plan;
    if (st == ST_OK && session_autotuning(a->session, &plan) && plan.state == AUTOTUNE_RUNS)
        return plan_finish(a, OUT_TEXT, err);
    if (st == ST_OK)
        st = app_wait(a, err);
    const Metric **list = mem_zarray((size_t)metric_count() + 1, sizeof *list);
    if (list)
        what_ran(a->session, list);
    if ((st == ST_OK || st == ST_CANCELLED) && list && list[0]) {
        RankRequest r = {.metrics = list, .topk = 15};
        Str text = {0};
        Error second = {0};
        if (output_ranking(a->session, OUT_TEXT, &r, &text, &second) == ST_OK)
            app_result(a, &text, NULL, &second);
        str_free(&text);
    }
    free(list);
    app_note_memory(a);
    return st;
}

void session_follow(App *a, const CommandLine *cl)
{
    Session *s = a->session;
    int64_t done, total;
    const char *step;
    Error why = {0};
    int waiting = 0;
    bool run = !(cl && cl_given(cl, "no-run")) && !session_unkept(s), stopped = session_stopped(s, &done, &total, &step);
    Str what = {0};
    str_printf(&what, "session %s: ", session_name(s)[0] ? session_name(s) : session_id(s));
    if (!stopped && run && session_go_on(s, &waiting, NULL) == ST_OK)
        str_puts(&what, "its jobs go on");
    else if (!stopped)
        str_printf(&what, "%d command%s of it", session_commands(s), session_commands(s) == 1 ? "" : "s");
    else if (!run)
        str_printf(&what, "stopped at %s %lld of %lld; r goes on", step, (long long)done, (long long)total);
    else if (session_go_on(s, &waiting, &why) == ST_OK)
        str_printf(&what, "goes on at %s %lld of %lld; ^C stops it", step, (long long)done, (long long)total);
    else
        str_printf(&what, "stopped at %s %lld of %lld: %s", step, (long long)done, (long long)total, why.text);
    if (waiting)
        str_printf(&what, "; %d job%s that waited %s behind it", waiting, waiting == 1 ? "" : "s", waiting == 1 ? "is" : "are");
    session_log(s, why.status != ST_OK, "%s", str_text(&what));
    str_free(&what);
}

static Status open_session(App *a, const CommandLine *cl, bool screen, Error *err)
{
    RETURN_IF_ERROR(app_become(a, FACE_UI, err)); /* for the state folder */
    a->face = screen ? FACE_UI : FACE_CLI;
    a->options.force = cl_given(cl, "force");
    apply_progress(a, cl);
    char id[40] = "";
    if (cl_given(cl, "from"))
        RETURN_IF_ERROR(session_take_file(a->options.state_dir, cl_str(cl, "from"), id, err));
    Status st = session_restore(&a->session, &a->options, id[0] ? id : cl->nwords ? cl->words[0] : NULL, err);
    if (st != ST_OK && id[0])
        session_delete(a->options.state_dir, id, NULL);
    RETURN_IF_ERROR(st);
    a->log_seen = session_log_old(a->session);
    const char *threads = cl_str(cl, "threads");
    return threads ? session_set(a->session, "threads", threads, err) : ST_OK;
}

static bool searches(const App *a)
{
    TuneView t;
    AutotuneView plan;
    return (session_tuning(a->session, &t, NULL) == ST_OK && t.state == TUNING_STOPPED) ||
           (session_autotuning(a->session, &plan) && plan.state == AUTOTUNE_STOPPED);
}

/* Of several ranks all but rank 0 read the session before that one begins to write. What is no analysis or measurement rank 0
 * goes on with alone: then nothing is open elsewhere. */
static Status open_on_ranks(App *a, const CommandLine *cl, Error *err)
{
    Dist *d = a->options.dist;
    uint8_t divided = cl_given(cl, "headless") && !cl_given(cl, "from");
    if (divided && !dist_leads(d)) {
        RETURN_IF_ERROR(open_session(a, cl, false, err));
        divided = !searches(a);
    }
    RETURN_IF_ERROR(dist_from_last(d, &divided, sizeof divided, err));
    ranks_keep_session();
    if (!divided) {
        a->options.dist = NULL;
        session_free(a->session);
        a->session = NULL;
        if (cl_given(cl, "headless"))
            app_note(a, "note: of this session nothing is divided over ranks: rank 0 of %d does all of it", dist_size(d));
    }
    return ST_OK;
}

/* The kept session of this name, or this ID. */
static Status find_named(const char *name, SessionInfo *out, bool *found, Error *err)
{
    char *dir;
    SessionInfo *list;
    int n;
    *found = false;
    RETURN_IF_ERROR(find_sessions(&dir, &list, &n, err));
    for (int i = 0; i < n && !*found; i++) {
        *out = list[i];
        *found = is_named(&list[i], name);
    }
    free(list);
    free(dir);
    return ST_OK;
}

/* Whether two folders are the same one; one that is gone is known by its name. */
static bool same_folder(const char *a, const char *b)
{
    char *x = realpath(a, NULL), *y = realpath(b, NULL);
    bool same = strcmp(x ? x : a, y ? y : b) == 0;
    free(x);
    free(y);
    return same;
}

Status session_named(App *a, const CommandLine *cl, const char *name, bool *found, Error *err)
{
    SessionInfo i;
    RETURN_IF_ERROR(find_named(name, &i, found, err));
    if (!*found)
        return ST_OK;
    if (cl->nwords && !same_folder(cl->words[0], i.model))
        return error_set(err, ST_USAGE, "session '%s' is of the model in '%s': leave the model out, or name another session",
                         name, i.model);
    RETURN_IF_ERROR(session_restore(&a->session, &a->options, i.id, err));
    a->log_seen = session_log_old(a->session);
    session_follow(a, cl);
    return ST_OK;
}

Status run_kept(App *a, const CommandLine *cl, Error *err)
{
    const char *name = cl_str(cl, "session");
    SessionInfo i;
    bool found;
    if (!name)
        return ST_OK;
    if (a->face != FACE_CLI)
        return error_set(err, ST_USAGE, "--session belongs to the program's command line: here 'save NAME' names the session");
    if (!dist_leads(a->dist)) /* rank 0 keeps it */
        return ST_OK;
    RETURN_IF_ERROR(find_named(name, &i, &found, err));
    if (found)
        return error_set(err, ST_USAGE, i.locked ? "session '%s' is open already: 'slimscope attach %s' looks at its job"
                                                 : "session '%s' is kept already: 'slimscope resume %s' goes on with it; another "
                                                   "name begins one", name, name);
    a->options.state_dir = app_state_dir();
    return a->options.state_dir ? ST_OK : error_nomem(err, "the state folder's name");
}

/* The line of the history that opens the model again. */
static Status record_open(App *a, const CommandLine *cl, Error *err)
{
    const char *type = cl_str(cl, "model_type");
    char *full = absolute_path(cl_str(cl, "model_path"));
    Str line = {0};
    str_puts(&line, "open ");
    lexer_quote(&line, full ? full : "");
    if (type) {
        str_puts(&line, " --model_type ");
        lexer_quote(&line, type);
    }
    str_printf(&line, " # fingerprint %.16s", session_model(a->session)->fingerprint);
    Status st = !full || line.oom ? error_nomem(err, "the history of commands") : session_record(a->session, line.s, err);
    str_free(&line);
    free(full);
    return st;
}

Status run_named(App *a, const CommandLine *cl, Error *err)
{
    const char *name = cl_str(cl, "session");
    if (!name || !dist_leads(a->dist))
        return ST_OK;
    if (!session_is_saved(a->session)) /* the log says why */
        return error_set(err, ST_IO, "session '%s' can't be kept: leave --session out to run without", name);
    RETURN_IF_ERROR(session_set_name(a->session, name, err));
    if (cl->command == &command_analyze)
        ranks_keep_session();
    RETURN_IF_ERROR(record_open(a, cl, err));
    app_note(a, "kept as session %s: 'slimscope attach %s' looks at it while it runs, 'slimscope resume %s' opens it", name, name, name);
    return ST_OK;
}

static Status resume_job(App *a, const CommandLine *cl, Error *err)
{
    int id;
    if (cl->nvalues)
        return error_set(err, ST_USAGE,
                         "here 'resume' goes on with a stopped job; sessions are opened by 'slimscope resume'");
    RETURN_IF_ERROR(want_words(cl, 0, 1, err));
    RETURN_IF_ERROR(app_need_model(a, err));
    RETURN_IF_ERROR(job_word(cl, &id, err));
    RETURN_IF_ERROR(session_resume_job(a->session, id, err));
    return app_waits(a) ? app_wait(a, err) : ST_OK;
}

static Status run_resume(App *a, const CommandLine *cl, Error *err)
{
    static const char *const alone[] = {"list", "delete", "prune", NULL};
    if (a->face != FACE_CLI)
        return resume_job(a, cl, err);
    if (dist_size(a->options.dist) > 1)
        RETURN_IF_ERROR(open_on_ranks(a, cl, err));
    if (!dist_leads(a->dist))
        return a->session ? resume_headless(a, err) : ST_OK;
    for (int i = 0; alone[i]; i++)
        if (cl_given(cl, alone[i]) && (cl->nvalues > 1 + cl_given(cl, "progress") || (cl->nwords && i != 1)))
            return error_set(err, ST_USAGE, "--%s stands alone", alone[i]);
    if (cl_given(cl, "list"))
        return sessions_list(a, err);
    if (cl_given(cl, "delete"))
        return cl->nwords ? sessions_delete(a, cl->words, 0, err)
                          : error_set(err, ST_USAGE, "--delete needs the names of sessions: resume --list shows them");
    if (cl_given(cl, "prune"))
        return cl_int(cl, "prune", 0) >= 0 && cl_int(cl, "prune", 0) <= 100000
                   ? sessions_delete(a, NULL, cl_int(cl, "prune", 0), err)
                   : error_set(err, ST_USAGE, "--prune takes a number of days");
    RETURN_IF_ERROR(want_words(cl, 0, 1, err));
    bool headless = cl_given(cl, "headless"), sized = cl_given(cl, "size");
    bool screen = !headless && (sized || (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)));
    if (!headless && !screen)
        return error_set(err, ST_USAGE,
                         "the workbench needs a terminal: add --headless to finish the session's job without one");
    ScreenOptions o;
    RETURN_IF_ERROR(screen_options(cl, &o, err));
    RETURN_IF_ERROR(open_session(a, cl, screen, err));
    if (!screen)
        return resume_headless(a, err);
    session_follow(a, cl);
    return app_run_screen(a, &o, err);
}
static const Option resume_options[] = {
    {"list", ARG_FLAG, NULL, "print the sessions that are kept, newest first", COMP_NONE},
    {"delete", ARG_FLAG, NULL, "delete the sessions that are named", COMP_NONE},
    {"prune", ARG_INT, "DAYS", "delete the sessions that nothing was done in for so many days", COMP_NONE},
    {"headless", ARG_FLAG, NULL, "finish the session's stopped job without a screen and print the ranking", COMP_NONE},
    {"from", ARG_PATH, "FILE", "open the session that 'session save' wrote to FILE, as a new one", COMP_FILE},
    {"no-run", ARG_FLAG, NULL, "leave a stopped analysis as it is: r goes on with it later", COMP_NONE},
    {"force", ARG_FLAG, NULL, "go on although the model is not the one of the session", COMP_NONE},
    {"threads", ARG_INT, "N", "compute threads (default: as the session has it)", COMP_NONE},
    OPTIONS_SCREEN,
    OPTION_PROGRESS,
    {0},
};
const Command command_resume = {
    .name = "resume",
    .args = "[SESSION]",
    .summary = "Go on with a session (the newest one) and its stopped analysis; inside one: with a stopped job.",
    .help = "A session is kept as long as anything was done in it. An analysis that was stopped or killed goes on from its "
            "last whole layer. The model must be the one that the session was begun with, weights included.",
    .flags = CMD_CLI | CMD_LONG | CMD_NO_LOG | CMD_RANKS,
    .options = resume_options,
    .run = run_resume,
};
