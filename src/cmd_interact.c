/* interact: what groups do together against what each does alone. */
#include <stdlib.h>
#include <string.h>

#include "src/commands.h"
#include "src/internal.h"
#include "src/output.h"

/* The cost beforehand. */
static void tell_cost(App *a, const InteractCost *c, bool dry)
{
    Str text = {0};
    if (a->face == FACE_UI && !dry) { /* which asked before */
        app_note(a, "interactions of %lld groups: %lld sets run; you can go on working, ^C stops it", (long long)c->groups,
                 (long long)c->sets);
        return;
    }
    str_printf(&text, "%lld groups alone, together and %lld pairs of the %lld that do most: ", (long long)c->groups,
               (long long)c->pairs, (long long)c->among);
    if (c->sets)
        str_printf(&text, "%lld sets %s, %lld tokens each, about %.2g float passes over 4,000 tokens", (long long)c->sets,
                   dry ? "to measure" : "are measured", (long long)c->tokens, c->passes);
    else
        str_puts(&text, "all of it is known");
    app_note(a, "%s", str_text(&text));
    str_free(&text);
}

static Status print(App *a, OutFormat f, Error *err)
{
    Str text = {0};
    InteractView v;
    RETURN_IF_ERROR(session_interactions(a->session, &v, err));
    output_interactions(a->session, f, &v, &text);
    Status st = text.oom ? error_nomem(err, "the interactions") : app_result(a, &text, NULL, err);
    str_free(&text);
    return st;
}

static Status run(App *a, const CommandLine *cl, Error *err)
{
    OutFormat f = out_format(cl_str(cl, "format"));
    InteractCost cost;
    RETURN_IF_ERROR(open_for_effect(a, cl, true, err));
    const InteractAsk ask = {.targets = cl->words, .n = cl->nwords, .pairs = cl_int(cl, "pairs", 15),
                             .dry = cl_given(cl, "dry-run")};
    if (ask.pairs < 0 || ask.pairs > 1000)
        return error_set(err, ST_USAGE, "--pairs takes a number from 0 to 1000");
    RETURN_IF_ERROR(session_interact(a->session, &ask, &cost, err));
    if (cost.sets || ask.dry)
        tell_cost(a, &cost, ask.dry);
    if (ask.dry)
        return ST_OK;
    if (!app_waits(a) && cost.sets)
        return ST_OK;
    Status st = app_waits(a) ? app_wait(a, err) : ST_OK;
    if (st == ST_OK)
        st = print(a, f, err);
    app_note_memory(a);
    app_note_profile(a, f);
    return st;
}

static const Option options[] = {
    {"pairs", ARG_INT, "N", "at most so many pairs, of the groups that do most (default 15: 6 groups)", COMP_NONE},
    {"dry-run", ARG_FLAG, NULL, "tell what it would cost, and measure nothing", COMP_NONE},
    {"format", ARG_CHOICE, "text|json", "of the result (default text)", COMP_NONE},
    {"tokens", ARG_INT, "N", "on N tokens of the calibration texts' beginnings (default 128, as alone)", COMP_NONE},
    {"model_path", ARG_PATH, "DIR", "the model's folder", COMP_FILE},
    {"model_type", ARG_STR, "TYPE", "the model's family (default: read from config.json)", COMP_NONE},
    {"recipe", ARG_PATH, "FILE", "quantization recipe (default: W8A8 static)", COMP_FILE},
    {"exclude", ARG_LIST, "PATTERN...", "keep these linears in float, with their fused groups", COMP_LAYER},
    {"calib_dataset", ARG_PATH, "FILE", "calibration set (default mix_calib.jsonl)", COMP_FILE},
    OPTIONS_RUN,
    OPTION_PROGRESS,
    {0},
};
const Command command_interact = {
    .name = "interact",
    .args = "[TARGET...]",
    .summary = "Measure interactions: the KL of groups quantized together against the sum of each alone; the worst pairs.",
    .help = "Of the groups that the present set gives back, or of those that have a target. Each set is quantized with everything "
            "else in float, on the tokens of alone; static ranges are those of the float pass. What is known is not measured "
            "again, also after a stop. Where the sum and the joint effect differ much, predictions of such sets do too.",
    .flags = CMD_LONG | CMD_CLI,
    .completes = COMP_LAYER,
    .options = options,
    .run = run,
};
