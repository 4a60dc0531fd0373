/* Jobs and the end: wait, cancel, resume, quit. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "src/commands.h"
#include "src/internal.h"
#include "src/output.h"

static Status run_wait(App *a, const CommandLine *cl, Error *err)
{
    (void)cl;
    if (a->face == FACE_UI) /* its scripts go on when jobs are done; a person is never made to wait */
        return a->session && session_busy(a->session)
                   ? error_set(err, ST_USAGE, "the workbench does not wait: results come while you work")
                   : ST_OK;
    return app_wait(a, err);
}
const Command command_wait = {
    .name = "wait",
    .args = "",
    .summary = "Wait until every job is done.",
    .flags = CMD_NO_LOG,
    .run = run_wait,
};

static Status run_cancel(App *a, const CommandLine *cl, Error *err)
{
    if (!a->session)
        return error_set(err, ST_USAGE, "no job is running");
    return session_cancel(a->session, cl_given(cl, "now") ? 2 : 1, err);
}
static const Option cancel_options[] = {
    {"now", ARG_FLAG, NULL, "leave the layer that is being computed", COMP_NONE},
    {0},
};
const Command command_cancel = {
    .name = "cancel",
    .args = "",
    .summary = "Stop the running job after the present tile; finished rows stay, waiting jobs run on.",
    .flags = CMD_NO_LOG,
    .options = cancel_options,
    .run = run_cancel,
};

static Status list_sessions(App *a, Error *err)
{
    char *dir = app_state_dir();
    if (!dir)
        return error_nomem(err, "the state folder's name");
    SessionInfo *list;
    int n;
    Status st = session_list(dir, &list, &n, err);
    free(dir);
    Str b = {0};
    for (int i = 0; i < n && st == ST_OK; i++) {
        char when[32];
        time_t t = (time_t)list[i].when;
        struct tm tm;
        strftime(when, sizeof when, "%Y-%m-%d %H:%M", localtime_r(&t, &tm));
        str_printf(&b, "%-32s  %s  %s  %s\n", list[i].id, when, list[i].locked ? "open  " : "closed", list[i].model);
    }
    if (st == ST_OK && n > 0)
        st = app_result(a, &b, NULL, err);
    else if (st == ST_OK)
        app_note(a, "no session is kept yet");
    str_free(&b);
    free(list);
    return st;
}

/* Finishes the stopped job without a screen and prints what is known. */
static Status resume_headless(App *a, Error *err)
{
    Status st = session_resume_job(a->session, err);
    if (st == ST_OK)
        st = app_wait(a, err);
    const Metric *list[2] = {session_metric(a->session), NULL};
    if ((st == ST_OK || st == ST_CANCELLED) && list[0] && session_has_run(a->session, list[0])) {
        RankRequest r = {.metrics = list, .topk = 15};
        Str text = {0};
        Error second = {0};
        if (output_ranking(a->session, OUT_TEXT, &r, &text, &second) == ST_OK)
            app_result(a, &text, NULL, &second);
        str_free(&text);
    }
    app_note_memory(a);
    return st;
}

static Status run_resume(App *a, const CommandLine *cl, Error *err)
{
    bool list = cl_given(cl, "list"), headless = cl_given(cl, "headless");
    if (a->face != FACE_CLI) {
        if (cl->nwords || cl->nvalues)
            return error_set(err, ST_USAGE,
                             "here 'resume' goes on with the stopped job; sessions are opened by 'slimscope resume'");
        RETURN_IF_ERROR(app_need_model(a, err));
        RETURN_IF_ERROR(session_resume_job(a->session, err));
        return app_waits(a) ? app_wait(a, err) : ST_OK;
    }
    RETURN_IF_ERROR(want_words(cl, 0, 1, err));
    if (list && (cl->nwords || headless))
        return error_set(err, ST_USAGE, "--list stands alone");
    if (list)
        return list_sessions(a, err);
    bool screen = !headless && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    if (!headless && !screen)
        return error_set(err, ST_USAGE,
                         "the workbench needs a terminal: add --headless to finish the session's job without one");
    RETURN_IF_ERROR(app_become(a, FACE_UI, err)); /* for the state folder */
    a->face = screen ? FACE_UI : FACE_CLI;
    apply_progress(a, cl);
    RETURN_IF_ERROR(session_restore(&a->session, &a->options, cl->nwords ? cl->words[0] : NULL, err));
    if (!screen)
        return resume_headless(a, err);
    ScreenOptions o = {.glyphs = "auto", .color = -1};
    return app_run_screen(a, &o, err);
}
static const Option resume_options[] = {
    {"list", ARG_FLAG, NULL, "print the sessions that are kept, newest first", COMP_NONE},
    {"headless", ARG_FLAG, NULL, "finish the session's stopped job without a screen and print the ranking", COMP_NONE},
    OPTION_PROGRESS,
    {0},
};
const Command command_resume = {
    .name = "resume",
    .args = "[SESSION]",
    .summary = "Go on with a session (the newest one); inside one: go on with the stopped job.",
    .flags = CMD_CLI | CMD_LONG | CMD_NO_LOG,
    .options = resume_options,
    .run = run_resume,
};

static Status run_quit(App *a, const CommandLine *cl, Error *err)
{
    if (a->session && session_busy(a->session) && !cl->bang)
        return error_set(err, ST_USAGE, "a job runs: 'wait' for it, or 'quit!' to leave it; finished rows are kept");
    a->quit = true;
    return ST_OK;
}
const Command command_quit = {
    .name = "quit",
    .args = "",
    .summary = "Leave. With ! a running job is stopped; its finished rows are kept.",
    .flags = CMD_NO_LOG | CMD_DESTROYS,
    .run = run_quit,
};
