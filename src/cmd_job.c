/* Jobs and the end: wait, cancel, quit. */
#include <stdint.h>
#include <string.h>

#include "session/attach.h"
#include "src/commands.h"
#include "src/internal.h"

static Status run_wait(App *a, const CommandLine *cl, Error *err)
{
    (void)cl;
    if (a->face == FACE_UI) /* its scripts go on when jobs are done; a person is never made to wait */
        return a->session && session_works(a->session)
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

Status job_word(const CommandLine *cl, int *id, Error *err)
{
    int64_t n = 0;
    *id = 0;
    if (!cl->nwords)
        return ST_OK;
    if (!parse_int(cl->words[0] + (cl->words[0][0] == '#'), &n) || n < 1 || n > INT32_MAX)
        return error_set(err, ST_USAGE, "'%s' is no job: give its number, as Jobs shows it", cl->words[0]);
    *id = (int)n;
    return ST_OK;
}

static Status run_cancel(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 0, 1, err));
    int id = 0, level = cl_given(cl, "now") ? 2 : 1;
    RETURN_IF_ERROR(job_word(cl, &id, err));
    if (!a->session)
        return error_set(err, ST_USAGE, "no job is running");
    return id ? session_cancel_job(a->session, id, level, err) : session_cancel(a->session, level, err);
}
static const Option cancel_options[] = {
    {"now", ARG_FLAG, NULL, "leave the layer that is being computed", COMP_NONE},
    {0},
};
const Command command_cancel = {
    .name = "cancel",
    .args = "[JOB]",
    .summary = "Stop the running job, or job JOB, after the present tile; finished rows stay, others run on.",
    .help = "A job that waits never starts. One that was stopped is not gone on with any more.",
    .flags = CMD_NO_LOG,
    .options = cancel_options,
    .run = run_cancel,
};

static Status run_pause(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 0, 1, err));
    int id = 0;
    RETURN_IF_ERROR(job_word(cl, &id, err));
    return a->session ? session_pause_job(a->session, id, true, err) : error_set(err, ST_USAGE, "no job is running");
}
const Command command_pause = {
    .name = "pause",
    .args = "[JOB]",
    .summary = "Let the running job, or job JOB, stand still after the present tile; 'resume [JOB]' goes on with it.",
    .help = "It keeps its memory and all that it has. A job that waits does not start, and those behind it do.",
    .flags = CMD_NO_LOG,
    .run = run_pause,
};

static Status run_priority(App *a, const CommandLine *cl, Error *err)
{
    static const struct {
        const char *word;
        int by;
    } places[] = {{"up", -1}, {"down", 1}, {"first", -INT32_MAX}, {"last", INT32_MAX}};
    RETURN_IF_ERROR(want_words(cl, 2, 2, err));
    int id = 0;
    RETURN_IF_ERROR(job_word(cl, &id, err));
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (strcmp(cl->words[1], places[i].word) == 0)
            return a->session ? session_move_job(a->session, id, places[i].by, err)
                              : error_set(err, ST_USAGE, "there is no job %d", id);
    return error_set(err, ST_USAGE, "'%s' is no place: up, down, first or last", cl->words[1]);
}
const Command command_priority = {
    .name = "priority",
    .args = "JOB up|down|first|last",
    .summary = "Move a job that waits within the queue.",
    .flags = CMD_NO_LOG,
    .run = run_priority,
};

static Status run_discard(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    int id = 0;
    bool all = strcmp(cl->words[0], "ended") == 0;
    if (!all)
        RETURN_IF_ERROR(job_word(cl, &id, err));
    return a->session ? session_discard_job(a->session, id, err) : error_set(err, ST_USAGE, "no job ran or waits yet");
}
const Command command_discard = {
    .name = "discard",
    .args = "JOB|ended",
    .summary = "Take a job that has ended, or all that have, off the list. What it found stays.",
    .help = "A stopped analysis is not gone on with any more; the rows it scored stay, and what a stopped quantization wrote.",
    .flags = CMD_NO_LOG,
    .run = run_discard,
};

static Status run_profile(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 0, 0, err));
    ProfileReport r = {0};
    if (a->session)
        session_profile(a->session, &r);
    if (!r.workers)
        return error_set(err, ST_USAGE, "no job has a profile: 'set profile=on', then run one");
    Str text = {0};
    output_profile(&r, &text);
    Status st = app_result(a, &text, NULL, err);
    str_free(&text);
    return st;
}
const Command command_profile = {
    .name = "profile",
    .args = "",
    .summary = "Print where the CPU time of the last job went, by the parts of its work.",
    .help = "After 'set profile=on': times are those of jobs that ran since.",
    .flags = CMD_NO_LOG,
    .run = run_profile,
};

static Status run_quit(App *a, const CommandLine *cl, Error *err)
{
    const bool own = a->session && !session_attached(a->session, &(AttachView){0});
    if (own && session_busy(a->session) && !cl->bang)
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
