/* tune --config: recipes tried one after the other by a plan. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "session/autotune.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/output.h"
#include "src/output_plan.h"

/* Prints what the plan came to. */
static Status plan_print(App *a, OutFormat f, const AutotuneView *v, Error *err)
{
    Str text = {0};
    Status st = output_plan(f, v, &text, err);
    if (st == ST_OK)
        st = app_result(a, &text, NULL, err);
    str_free(&text);
    return st;
}

Status plan_show(App *a, OutFormat f, Error *err)
{
    AutotuneView v;
    if (!session_autotuning(a->session, &v))
        return error_set(err, ST_USAGE, "no plan was tuned by yet: tune --config PLAN.yaml --save_path DIR");
    return plan_print(a, f, &v, err);
}

Status plan_finish(App *a, OutFormat f, Error *err)
{
    AutotuneView v;
    Error second = {0};
    Status waited = app_wait(a, err);
    if (!session_autotuning(a->session, &v))
        return waited;
    Status said = v.loop ? plan_print(a, f, &v, &second) : ST_OK;
    app_note_memory(a);
    if (v.state == AUTOTUNE_STOPPED)
        return error_set(err, ST_CANCELLED, "%s", v.text);
    if (v.status != ST_OK)
        return error_set(err, v.status, "%s", v.text);
    return said == ST_OK ? ST_OK : error_set(err, said, "%s", second.text);
}

Status plan_tune(App *a, const CommandLine *cl, Error *err)
{
    static const char *const others[] = {"recipe", "exclude", "full", "free", "out"};
    AutotuneOptions o = {.plan = cl_str(cl, "config"), .save_path = cl_str(cl, "save_path"),
                         .model_type = cl_str(cl, "model_type"), .practices = getenv("MSMODELSLIM_CUSTOM_PRACTICE_REPO")};
    if (o.practices && !*o.practices)
        o.practices = NULL;
    if (cl_given(cl, "until"))
        return error_set(err, ST_USAGE, "give --until or --config, not both");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (cl_given(cl, others[i]))
            return error_set(err, ST_USAGE, "--%s does not go with --config: the plan says what is tried", others[i]);
    if (!o.save_path)
        return error_set(err, ST_USAGE, "'tune --config' needs --save_path DIR: tries, their history and the result lie there");
    if (cl_str(cl, "timeout"))
        RETURN_IF_ERROR(duration_parse(cl_str(cl, "timeout"), &o.timeout, err));
    RETURN_IF_ERROR(check_peer_options(a, cl, err));
    RETURN_IF_ERROR(open_for_effect(a, cl, false, err));
    RETURN_IF_ERROR(ranks_for_devices(a, cl, NULL, err));
    OutFormat f = out_format(cl_str(cl, "format"));
    if (!app_waits(a) && cl_given(cl, "format"))
        return error_set(err, ST_USAGE, "the plan goes on in the background: --format does not apply");
    ranks_keep_tries();
    RETURN_IF_ERROR(session_autotune(a->session, &o, err));
    return app_waits(a) ? plan_finish(a, f, err) : ST_OK;
}

/* ---- answer ---- */

static Status run_answer(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 0, 1, err));
    if (cl->nwords)
        return session_answer(a->session, cl->words[0], err);
    const char *question = session_question(a->session);
    if (!question)
        return error_set(err, ST_USAGE, "nothing was asked");
    Str text = {0};
    str_printf(&text, "%s\n", question);
    Status st = app_result(a, &text, NULL, err);
    str_free(&text);
    return st;
}
const Command command_answer = {
    .name = "answer",
    .args = "[TEXT]",
    .summary = "Answer what a running job asks, as a plan does whose evaluation is manual. Without TEXT: the question.",
    .help = "The figure of a data set, as a person found it: a number, bad (the model's answers are garbage), or stop.",
    .flags = CMD_NEEDS_MODEL | CMD_NO_LOG,
    .run = run_answer,
};
