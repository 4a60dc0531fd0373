/* What input lines for goals and budgets tell while they are typed. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "session/budget.h"
#include "src/lang.h"
#include "ui/input.h"

/* What rounding leaves of nothing is nothing. */
static double least(double v)
{
    return fabs(v) < 1e-9 ? 0 : v;
}

/* "can be had: +0 to +101M, 8.00 to 16.00 bits, KL 0.021~ to 0.75~" */
static void tell_reach(Ui *ui, char *out, size_t size)
{
    Reach r;
    char low[24], high[24];
    if (session_reach(ui_session(ui), &r, NULL) != ST_OK)
        return;
    fmt_delta(low, sizeof low, (double)(r.low - r.opened));
    fmt_delta(high, sizeof high, (double)(r.high - r.opened));
    int n = text_format(out, size, "can be had: %s to %s, %.2f to %.2f bits", r.low == r.opened ? "+0" : low, high,
                        r.bits_low, r.bits_high);
    if (!isfinite(r.kl_low) || n < 0 || (size_t)n >= size)
        return;
    fmt_change(low, sizeof low, least(r.ppl_low), NAN);
    fmt_change(high, sizeof high, r.ppl_high, NAN);
    text_format(out + n, size - (size_t)n, ", KL %.2g~ to %.2g~, ppl %s~ to %s~", least(r.kl_low), r.kl_high, low, high);
}

/* What a goal that is only begun is of. */
static const struct GoalHelp {
    const char *begins, *text;
} goal_help[] = {
    {"bytes", N_("bytes=+20M: more than the recipe gives by itself; bytes=300M: of the whole model")},
    {"bits", N_("bits=5.2: bits of a weight, the mean over all linears with their scales")},
    {"kl", N_("kl=0.1: KL divergence from float, the mean in nats a token")},
    {"ppl", N_("ppl: change of perplexity against float, as +1%")},
};

static const char *help_of(const char *text)
{
    size_t n = strcspn(text, "=");
    for (size_t i = 0; n && i < sizeof goal_help / sizeof *goal_help; i++)
        if (strncmp(goal_help[i].begins, text, n) == 0 && (!text[n] || !text[n + 1]))
            return goal_help[i].text;
    return NULL;
}

static void tell_look(Ui *ui, const char *text, AskNote *out)
{
    FitLook l;
    Reach r;
    Error err = {0};
    char more[24];
    if (session_fit_look(ui_session(ui), text, &l, &err) != ST_OK || session_reach(ui_session(ui), &r, &err) != ST_OK) {
        tell_reach(ui, out->figures, out->size);
        snprintf(out->note, out->size, "%.*s", (int)out->size - 1, err.text);
        out->slot = SL_ERR;
        return;
    }
    fmt_delta(more, sizeof more, (double)(l.bytes - r.opened));
    int n = text_format(out->figures, out->size, l.groups == 1 ? "%lld group at another level than the recipe's, %s, %.2f bits"
                                                               : "%lld groups at another level than the recipe's, %s, %.2f bits",
                        (long long)l.groups, more, l.bits);
    if (isfinite(l.kl.value) && n > 0 && (size_t)n < out->size)
        snprintf(out->figures + n, out->size - (size_t)n, ", KL %.3g~ (%.2g to %.2g)", l.kl.value, l.kl.low, l.kl.high);
}

void ask_fit(Ui *ui, const char *text, AskNote *out)
{
    const char *help = help_of(text);
    if (*text && !help) {
        tell_look(ui, text, out);
        return;
    }
    tell_reach(ui, out->figures, out->size);
    if (help)
        snprintf(out->note, out->size, "%s", tr(help));
}

void ask_tune(Ui *ui, const char *text, AskNote *out)
{
    Goal g;
    Error err = {0};
    const char *help = help_of(text);
    tell_reach(ui, out->figures, out->size);
    if (help)
        snprintf(out->note, out->size, "%s", tr(help));
    else if (*text && goal_parse(text, &g, &err) != ST_OK)
        snprintf(out->note, out->size, "%.*s", (int)out->size - 1, err.text);
    else if (*text && g.kind == GOAL_BITS)
        text_format(out->note, out->size, "tune searches kl=, ppl= or bytes; o fits bits by prediction");
    const Effect *e = session_effect(ui_session(ui), NULL);
    if (!out->note[0] && e) {
        char secs[24];
        fmt_seconds(secs, sizeof secs, e->seconds);
        text_format(out->note, out->size, "measures about 8 sets, the last took %s; +20M kl=0.1 ppl=+1%%", secs);
        return;
    }
    out->slot = *text && !help && out->note[0] ? SL_ERR : SL_OK;
}

void ask_budget(Ui *ui, const char *text, AskNote *out)
{
    Goal g;
    Error err = {0};
    tell_reach(ui, out->figures, out->size);
    if (*text && budget_parse(text, &g, &err) != ST_OK && !help_of(text) && strncmp("none", text, strlen(text)) != 0) {
        snprintf(out->note, out->size, "%.*s", (int)out->size - 1, err.text);
        out->slot = SL_ERR;
    }
}

int ask_over(Ui *ui, int64_t bytes, double bits, char *out, size_t size)
{
    Budget b;
    char more[24];
    if (!session_budget(ui_session(ui), &b))
        return 0;
    double left = b.limit - b.used - (b.bits ? bits : (double)bytes);
    if (b.bits)
        snprintf(more, sizeof more, "%.2f bits", fabs(left));
    else
        fmt_bytes(more, sizeof more, fabs(left));
    if (left >= 0)
        text_format(out, size, ", %s of the budget left", more);
    else
        text_format(out, size, ", over the budget by %s", more);
    return left < 0;
}
