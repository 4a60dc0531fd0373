/* grow and trim: a fused group more or less, by prediction. */
#include <math.h>
#include <stdlib.h>

#include "metric/scope.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/output.h"

static Status how_many(const CommandLine *cl, int *n, Error *err)
{
    enum { MOST = 1000000 };
    char *end = NULL;
    RETURN_IF_ERROR(want_words(cl, 0, 1, err));
    long v = cl->nwords ? strtol(cl->words[0], &end, 10) : 1;
    if (cl->nwords && (end == cl->words[0] || *end || v < 1 || v > MOST))
        return error_set(err, ST_USAGE, "%s takes how many groups, from 1 on, not '%s'", cl->command->name, cl->words[0]);
    *n = (int)v;
    return ST_OK;
}

/* "model.layers.2.mlp.down_proj float, +3.0 MiB, KL 0.71~ to 0.6~" */
static void put_done(Session *s, const GrowDone *d, int wanted, Str *out)
{
    const Prediction now = session_predict(s);
    double back = d->sum_before > 0 ? 100 * (d->sum_before - d->sum) / d->sum_before : 0;
    if (d->groups > 1)
        str_printf(out, "%lld groups%s, last ", (long long)d->groups, d->groups < wanted ? " (no more can)" : "");
    scope_unit_name(session_model(s), SCOPE_GROUP, d->group, out);
    str_printf(out, " to %s, ", session_level_name(s, d->level));
    str_delta(out, (double)d->bytes);
    if (isfinite(now.kl.value) && isfinite(d->before.kl.value))
        str_printf(out, ", KL %.3g~ to %.3g~", d->before.kl.value, now.kl.value);
    else
        str_printf(out, ", expected loss %+.1f %%~", -back);
}

static Status change(App *a, const CommandLine *cl, int sign, Error *err)
{
    int n = 0;
    GrowDone d;
    Str text = {0};
    RETURN_IF_ERROR(how_many(cl, &n, err));
    RETURN_IF_ERROR(session_grow(a->session, sign * n, &d, err));
    put_done(a->session, &d, n, &text);
    app_note(a, "%s: %s", cl->command->name, str_text(&text));
    str_free(&text);
    return ST_OK;
}

static Status run_grow(App *a, const CommandLine *cl, Error *err)
{
    return change(a, cl, 1, err);
}
const Command command_grow = {
    .name = "grow",
    .args = "[N]",
    .summary = "Give the next fused group back, the one of most loss per byte (or the next N).",
    .help = "By prediction (block_error, alone), one undo step. Groups that rules of yours decide stay, as those the recipe "
            "keeps float.",
    .flags = CMD_NEEDS_MODEL | CMD_EDIT,
    .run = run_grow,
};

static Status run_trim(App *a, const CommandLine *cl, Error *err)
{
    return change(a, cl, -1, err);
}
const Command command_trim = {
    .name = "trim",
    .args = "[N]",
    .summary = "Take the least useful fused group back that was given back, by loss per byte (or N of them).",
    .help = "It gets the recipe's level again, also where a rule of yours gave it back: the rule goes, or gets an exception. "
            "One undo step.",
    .flags = CMD_NEEDS_MODEL | CMD_EDIT,
    .run = run_trim,
};
