/* fit, front and tune: levels for a goal, by prediction and by measuring. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/autotune.h"
#include "session/goal.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/output.h"

#define OPTION_FREE {"free", ARG_FLAG, NULL, "what rules decided may change, too", COMP_NONE}
#define OPTION_FORMAT {"format", ARG_CHOICE, "text|json", "of the result (default text)", COMP_NONE}

/* ---- fit ---- */

static int16_t *levels_now(const Session *s)
{
    int64_t n = session_model(s)->nlinears;
    int16_t *level = mem_array((size_t)n, sizeof *level);
    for (int64_t i = 0; level && i < n; i++)
        level[i] = (int16_t)session_level_of(s, i);
    return level;
}

static Status run_fit(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    const FitOptions o = {.free = cl_given(cl, "free"), .dry = cl_given(cl, "dry-run")};
    FitDone d;
    Str text = {0};
    int16_t *was = levels_now(a->session);
    Status st = was ? session_fit(a->session, cl->words[0], &o, &d, err) : error_nomem(err, "the levels");
    if (st == ST_OK && a->face == FACE_UI && !o.dry && !cl_given(cl, "format")) { /* the screen shows the rest */
        output_fit_line(a->session, cl->words[0], &d, &text);
        app_note(a, "%s", str_text(&text));
        fit_done_free(&d);
    } else if (st == ST_OK) {
        st = output_fit(a->session, out_format(cl_str(cl, "format")), cl->words[0], &d, was, o.dry, &text, err);
        if (st == ST_OK)
            st = app_result(a, &text, NULL, err);
        fit_done_free(&d);
    }
    str_free(&text);
    free(was);
    return st;
}
static const Option fit_options[] = {
    {"dry-run", ARG_FLAG, NULL, "show what would change, and change nothing", COMP_NONE},
    OPTION_FREE,
    OPTION_FORMAT,
    {0},
};
const Command command_fit = {
    .name = "fit",
    .args = "GOAL",
    .summary = "Give fused groups levels for a goal, by prediction: bytes=+20M, bits=5.2, kl=0.01, ppl=+1%.",
    .help = "One undo step, done by rules. Levels are those of the recipe, and float; what a group loses is its KL alone, or its "
            "block_error. bytes and bits give the least expected loss within a budget, kl and ppl the fewest bytes, which "
            "takes a measurement before. The choice is exact up to units of 1/4096 of the bytes between the smallest model "
            "and the largest. Groups that rules or the recipe decide stay; so do levels that --runtime does not load.",
    .flags = CMD_NEEDS_MODEL | CMD_EDIT,
    .options = fit_options,
    .run = run_fit,
};

/* ---- front ---- */

static Status run_front(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 0, 0, err));
    FrontRow *rows;
    int64_t n;
    Str text = {0};
    RETURN_IF_ERROR(session_front(a->session, cl_given(cl, "free"), &rows, &n, err));
    Status st = output_front(a->session, out_format(cl_str(cl, "format")), rows, n, &text, err);
    if (st == ST_OK)
        st = app_result(a, &text, NULL, err);
    str_free(&text);
    free(rows);
    return st;
}
static const Option front_options[] = {
    OPTION_FREE,
    OPTION_FORMAT,
    {0},
};
const Command command_front = {
    .name = "front",
    .args = "",
    .summary = "Print what bytes buy: the best sets from the smallest model to the largest, foretold and measured.",
    .help = "Each row gives one more fused group another level, the one that takes most loss per byte away. > is the knee, "
            "behind which bytes buy least. JSON has every row.",
    .flags = CMD_NEEDS_MODEL | CMD_NO_LOG,
    .options = front_options,
    .run = run_front,
};

/* ---- tune ---- */

static Status tune_print(App *a, OutFormat f, Error *err)
{
    TuneView v;
    Str text = {0};
    RETURN_IF_ERROR(session_tuning(a->session, &v, err));
    Status st = output_tune(a->session, f, &v, &text, err);
    if (st == ST_OK)
        st = app_result(a, &text, NULL, err);
    str_free(&text);
    return st;
}

/* The search's end as a status: ST_FAIL when its goal is not held. */
static Status verdict(App *a, Error *err)
{
    TuneView v;
    RETURN_IF_ERROR(session_tuning(a->session, &v, err));
    if (v.state == TUNING_MISSED || v.state == TUNING_FAILED)
        return error_set(err, ST_FAIL, "tune %s: %s", v.goal, v.text);
    return ST_OK;
}

Status tune_finish(App *a, OutFormat f, Error *err)
{
    Status st = app_wait(a, err);
    Error second = {0};
    Status said = tune_print(a, f, &second);
    if (st == ST_OK && said != ST_OK)
        return error_set(err, said, "%s", second.text);
    return st == ST_OK ? verdict(a, err) : st;
}

static const char *const plan_words[] = {"save_path", "timeout", "device", "trust_remote_code"};

static Status run_tune(App *a, const CommandLine *cl, Error *err)
{
    const char *goal = cl_str(cl, "until"), *out = cl_str(cl, "out");
    RETURN_IF_ERROR(want_words(cl, 0, 0, err));
    OutFormat f = out_format(cl_str(cl, "format"));
    if (cl_given(cl, "config"))
        return plan_tune(a, cl, err);
    if (!goal && a->face != FACE_CLI) {
        RETURN_IF_ERROR(app_need_model(a, err));
        AutotuneView v;
        return session_autotuning(a->session, &v) ? plan_show(a, f, err) : tune_print(a, f, err);
    }
    if (!goal)
        return error_set(err, ST_USAGE, "tune needs a goal (--until kl=0.1, ppl=+1%% or bytes=+20M) or a plan (--config PLAN.yaml)");
    for (size_t i = 0; i < sizeof plan_words / sizeof *plan_words; i++)
        if (cl_given(cl, plan_words[i]))
            return error_set(err, ST_USAGE, "--%s belongs to --config PLAN.yaml", plan_words[i]);
    Goal parsed;
    Status st = goal_parse(goal, &parsed, err);
    if (st != ST_OK)
        return error_prefix(err, st, "--until: ");
    RETURN_IF_ERROR(open_for_effect(a, cl, false, err));
    if (!app_waits(a) && (cl_given(cl, "format") || out))
        return error_set(err, ST_USAGE, "the search goes on in the background: --format and --out do not apply");
    const TuneOptions o = {.free = cl_given(cl, "free"), .full = cl_given(cl, "full")};
    RETURN_IF_ERROR(session_tune(a->session, goal, &o, err));
    if (!app_waits(a))
        return ST_OK;
    st = tune_finish(a, f, err);
    if (out && dist_leads(a->dist) && (st == ST_OK || st == ST_FAIL || st == ST_CANCELLED)) {
        Error second = {0};
        Status wrote = session_export(a->session, out, NULL, true, &second);
        if (wrote != ST_OK && st == ST_OK)
            st = error_set(err, wrote, "%s", second.text);
        else if (wrote != ST_OK)
            app_note(a, "%s", second.text);
    }
    app_note_memory(a);
    app_note_profile(a, f);
    return st;
}
static const Option tune_options[] = {
    {"config", ARG_PATH, "PLAN", "a tuning plan (YAML): recipes are tried until its demand is met", COMP_FILE},
    {"save_path", ARG_PATH, "DIR", "of --config: its tries, reports and result; it goes on with what is there", COMP_FILE},
    {"timeout", ARG_STR, "TIME", "of --config: no new try after 2d, 1h30m, 90s", COMP_NONE},
    {"until", ARG_STR, "GOAL", "kl=0.1, ppl=+1% or bytes=+20M (against the recipe), bytes=300M", COMP_NONE},
    OPTIONS_EFFECT,
    OPTION_FREE,
    OPTION_FORMAT,
    OPTION_DEVICE,
    {"trust_remote_code", ARG_CHOICE, "True|False",
     "accepted for compatibility: code that comes with a model is never run", COMP_NONE},
    {"out", ARG_PATH, "FILE", "write the best set as a recipe (YAML) to FILE; one that is there is replaced", COMP_FILE},
    OPTIONS_EFFECT_RUN,
    OPTION_READ,
    {0},
};
const Command command_tune = {
    .name = "tune",
    .args = "",
    .summary = "Search the fewest bytes that hold a goal, by measuring few sets (about 8); or recipes, by a plan.",
    .help = "Runs block_error and alone where they are not known, measures everything quantized and the twelve groups with most "
            "loss per byte given back, then what the line through the results points to, and at last takes groups back one "
            "at a time. Every measurement stays. The best set becomes the assignment, one undo step; so it does on ^C, and "
            "where the goal is not held (exit 1), and resume goes on. Without --until: what the newest search found.\n"
            "--config tries whole recipes by a plan's strategy (standing_high, binary_fallback, fewest_bytes, ...), each "
            "evaluated as the plan says (native, command, manual, service_oriented), until its demand is met: 0 MET, 1 NOT "
            "MET. What was learned lies in --save_path: the same command goes on there.",
    .flags = CMD_LONG | CMD_CLI | CMD_RANKS,
    .options = tune_options,
    .run = run_tune,
};
