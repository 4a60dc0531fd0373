/* Screen 2, below the rules: what the present set does, predicted and measured. */
#include "ui/whatif.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "src/lang.h"
#include "src/output_plan.h"

static void figure(char *out, size_t size, double v, double se)
{
    char a[24], b[24];
    fmt_value(a, sizeof a, v);
    fmt_value(b, sizeof b, se >= 10 ? round(se) : round(se * 1e6) / 1e6);
    if (se < 10)
        snprintf(b, sizeof b, "%.2g", se);
    if (isfinite(se) && se > 0)
        snprintf(out, size, "%s+-%s", a, b);
    else
        snprintf(out, size, "%s", a);
}

/* A name and its text; what doesn't fit goes on under the text. */
static void panel_line(Ui *ui, Rect r, int *y, const char *name, Slot slot, const char *text)
{
    if (*y >= r.y + r.h)
        return;
    Pen p = pen_at(ui, *y, r.x, r.w);
    pen_puts(&p, SL_STRONG, tr(name));
    Rect right = {r.y, r.x + 11, r.h, r.w - 12};
    draw_wrapped(ui, right, y, slot, text);
}

static void effect_line(Ui *ui, Rect r, int *y, const char *name, Slot slot, const Effect *e)
{
    char kl[64], top[64], ppl[24], change[48], buf[400];
    figure(kl, sizeof kl, e->kl_mean, e->kl_se);
    figure(top, sizeof top, 100 * e->top1, 100 * e->top1_se);
    fmt_value(ppl, sizeof ppl, e->ppl_quant);
    fmt_change(change, sizeof change, e->ppl_change, e->ppl_change_se);
    snprintf(buf, sizeof buf, "KL %s  ppl %s (%s)  top-1 %s %%", kl, ppl, change, top);
    panel_line(ui, r, y, name, slot, buf);
}

static void effect_more(Ui *ui, Rect r, int *y, const Effect *e, const char *more)
{
    char p99[24], most[24], mse[64], buf[400];
    figure(mse, sizeof mse, e->out_mse, e->out_mse_se);
    fmt_value(p99, sizeof p99, e->kl_p99);
    fmt_value(most, sizeof most, e->kl_max);
    text_format(buf, sizeof buf, "KL p99 %s max %s  MSE %s  %s", p99, most, mse, more);
    panel_line(ui, r, y, "", SL_TEXT, buf);
}

static const struct VerdictLook {
    Slot slot;
    const char *label;
} verdicts[] = {
    [VERDICT_SAME] = {.slot = SL_TEXT, .label = "the same"},
    [VERDICT_BETTER] = {.slot = SL_OK, .label = "better"},
    [VERDICT_WORSE] = {.slot = SL_ERR, .label = "worse"},
    [VERDICT_UNDECIDED] = {.slot = SL_WARN, .label = "undecided"},
};

/* What the present measurement is different in from another, and whether that is more than its error. */
static void rival_line(Ui *ui, Rect r, int *y, const char *against, const Paired *p)
{
    Verdict v = verdict_of(p->kl, p->kl_se);
    char kl[64], change[48], tokens[24], buf[400], says[160];
    snprintf(kl, sizeof kl, "%+.3g", p->kl);
    if (isfinite(p->kl_se))
        snprintf(kl, sizeof kl, "%+.3g+-%.2g", p->kl, p->kl_se);
    fmt_change(change, sizeof change, p->ppl, p->ppl_se);
    fmt_count(tokens, sizeof tokens, p->tokens);
    if (p->state != PAIR_OK)
        snprintf(says, sizeof says, "%s", tr(pair_why(p->state)));
    else if (v != VERDICT_UNDECIDED)
        snprintf(says, sizeof says, "%s", tr(verdicts[v].label));
    else
        text_format(says, sizeof says, p->whole ? "undecided at all %s tokens" : "undecided at %s tokens; R takes all", tokens);
    snprintf(buf, sizeof buf, "%s KL %s  ppl %s: %s", tr(against), kl, change, says);
    panel_line(ui, r, y, "", p->state == PAIR_OK ? verdicts[v].slot : SL_DIM, buf);
}

/* The measurements that the present one is held against. */
static void draw_rivals(Ui *ui, Rect r, int *y)
{
    const Session *s = ui_session(ui);
    Measurement base, before;
    Paired p;
    bool first = session_rival(s, RIVAL_BASE, &base, &p);
    if (first)
        rival_line(ui, r, y, "to the first", &p);
    if (session_rival(s, RIVAL_PREVIOUS, &before, &p) && !(first && before.id == base.id))
        rival_line(ui, r, y, "to the one before", &p);
}

/* Why nothing is predicted. */
static void unpredicted(Session *s, const Prediction *pr, char *buf, size_t size)
{
    const Metric *m = metric_find("block_error");
    int64_t failed = 0;
    for (int64_t g = 0; m && g < session_model(s)->ngroups; g++)
        failed += session_unit_score(s, m, g).state == SCORE_FAILED;
    if (failed)
        text_format(buf, size, "nothing: %lld of the layers cannot be scored (3 says why)", (long long)failed);
    else
        text_format(buf, size, "nothing yet: block_error is not known for %lld of %lld groups (:analyze block_error)",
                    (long long)pr->unknown, (long long)pr->groups);
}

/* "0.083 (0.055 to 0.12, roughly)" */
static void range_text(char *out, size_t size, const char *format, double scale, const TuneRange *r)
{
    char value[24], low[24], high[24];
    snprintf(value, sizeof value, format, scale * r->value);
    snprintf(low, sizeof low, format, scale * r->low);
    snprintf(high, sizeof high, format, scale * r->high);
    text_format(out, size, r->rough ? "%s~ (%s to %s, roughly)" : "%s~ (%s to %s)", value, low, high);
}

/* Of a set that is measured: how well the others foretell it. */
static void hindsight_line(Ui *ui, Rect r, int *y, const Prediction *pr)
{
    char buf[200];
    if (isfinite(pr->without))
        text_format(buf, sizeof buf, "KL %.3g~ by the other measurements: %+.0f %% off", pr->without, 100 * pr->miss);
    else
        text_format(buf, sizeof buf, "nothing more: this set is measured");
    panel_line(ui, r, y, "predicted", isfinite(pr->without) ? SL_PREDICTED : SL_DIM, buf);
}

static void draw_predicted(Ui *ui, Rect r, int *y)
{
    Prediction pr = session_predict(ui_session(ui));
    char buf[300], share[24], kl[96], ppl[96];
    fmt_percent(share, sizeof share, pr.share_back);
    range_text(kl, sizeof kl, "%.3g", 1, &pr.kl);
    range_text(ppl, sizeof ppl, "%+.2g%%", 100, &pr.ppl);
    if (pr.have && pr.measured) {
        hindsight_line(ui, r, y, &pr);
        return;
    }
    if (!pr.have)
        unpredicted(ui_session(ui), &pr, buf, sizeof buf);
    else if (!pr.measurements)
        text_format(buf, sizeof buf, "no KL before a measurement: share of the expected loss given back %s~", share);
    else if (r.w < 80) /* the line of figures has no more room either */
        text_format(buf, sizeof buf, "KL %s, from %d measured", kl, pr.measurements);
    else
        text_format(buf, sizeof buf,
                    pr.measurements == 1 ? "KL %s  ppl %s  from %d measurement  (expected loss -%s)"
                                         : "KL %s  ppl %s  from %d measurements  (expected loss -%s)",
                    kl, ppl, pr.measurements, share);
    panel_line(ui, r, y, "predicted", SL_PREDICTED, buf);
}

static void draw_size(Ui *ui, Rect r, int *y)
{
    Prediction pr = session_predict(ui_session(ui));
    char buf[300], bytes[24], whole[24];
    fmt_bytes(bytes, sizeof bytes, (double)pr.size.bytes);
    fmt_bytes(whole, sizeof whole, (double)pr.size.float_bytes);
    text_format(buf, sizeof buf, "%s of %s in float  %.2f bits  %lld of %lld linears float", bytes, whole,
             pr.size.average_bits, (long long)pr.size.floats, (long long)(pr.size.floats + pr.size.quantized));
    panel_line(ui, r, y, "size", SL_TEXT, buf);
}

/* "used 9.0 MiB of 20.0 MiB, 11.0 MiB left; can be had: 0 B to 101 MiB" */
static void draw_budget(Ui *ui, Rect r, int *y)
{
    Budget b;
    char part[5][24], buf[300];
    if (!session_budget(ui_session(ui), &b))
        return;
    const double v[5] = {b.used, b.limit, fabs(b.limit - b.used), b.low, b.high};
    for (int k = 0; k < 5; k++) {
        if (b.bits)
            snprintf(part[k], sizeof part[k], k == 2 || k == 4 ? "%.2f bits" : "%.2f", v[k]);
        else
            fmt_bytes(part[k], sizeof part[k], v[k]);
    }
    bool over = b.used > b.limit;
    text_format(buf, sizeof buf, over ? "used %s of %s, over by %s: - takes a group back; can be had: %s to %s"
                                      : "used %s of %s, %s left; can be had: %s to %s",
                part[0], part[1], part[2], part[3], part[4]);
    panel_line(ui, r, y, "budget", over ? SL_ERR : SL_TEXT, buf);
}

/* The kept sets beside each other, and how the last two differ. */
static void draw_sets(Ui *ui, Rect r, int *y)
{
    Session *s = ui_session(ui);
    int n = session_kept_sets(s);
    Str b = {0};
    for (int i = 0; i < n; i++) {
        const KeptView v = session_kept_set(s, i);
        char size[24], now[32] = "";
        fmt_bytes(size, sizeof size, (double)v.predicted.size.bytes);
        if (v.present)
            snprintf(now, sizeof now, " (%s)", tr("this one"));
        str_printf(&b, "%s%s%s %s", i ? "   " : "", v.name, now, size);
        if (v.measurement >= 0)
            str_printf(&b, " KL %.4g", session_measurement(s, v.measurement).effect->kl_mean);
        else if (isfinite(v.predicted.kl.value))
            str_printf(&b, " KL %.3g~", v.predicted.kl.value);
    }
    if (n)
        panel_line(ui, r, y, "sets", SL_TEXT, str_text(&b));
    str_free(&b);
}

/* "2.mlp.down_proj" */
static void group_name(Ui *ui, int64_t group, Str *out)
{
    static const char prefix[] = "model.layers.";
    Str name = {0};
    scope_unit_name(ui_model(ui), SCOPE_GROUP, group, &name);
    const char *text = str_text(&name);
    str_puts(out, strncmp(text, prefix, sizeof prefix - 1) == 0 ? text + sizeof prefix - 1 : text);
    str_free(&name);
}

/* The sum of single effects against the joint one, and the pair that is farthest from its sum. */
static void draw_interactions(Ui *ui, Rect r, int *y)
{
    InteractView v;
    char buf[400];
    Str pair = {0};
    if (session_interactions(ui_session(ui), &v, NULL) != ST_OK)
        return;
    const char *of = v.present ? "" : tr(" (of another set)");
    if (v.known < v.wanted)
        text_format(buf, sizeof buf, v.runs ? "%lld of %lld sets of %lld groups measured" : "stopped at %lld of %lld sets of "
                    "%lld groups; i goes on", (long long)v.known, (long long)v.wanted, (long long)v.groups);
    else
        text_format(buf, sizeof buf, "each alone %.3g, %lld groups together %.3g+-%.1g: interaction %+.1f%%%s", v.sum,
                    (long long)v.groups, v.joint, v.error, v.sum > 0 ? 100 * (v.joint / v.sum - 1) : 0, of);
    panel_line(ui, r, y, "interact", v.runs ? SL_RUNNING : v.present ? SL_TEXT : SL_DIM, buf);
    if (v.npairs) {
        const InteractPair *p = v.pair;
        group_name(ui, p->a, &pair);
        str_puts(&pair, " x ");
        group_name(ui, p->b, &pair);
        text_format(buf, sizeof buf, "worst pair %s: %.3g alone, %.3g together, %+.1f%%", str_text(&pair), p->apart, p->joint,
                    p->apart > 0 ? 100 * (p->joint / p->apart - 1) : 0);
        panel_line(ui, r, y, "", v.present ? SL_TEXT : SL_DIM, buf);
    }
    str_free(&pair);
}

/* The search by measuring: what it does or did. */
static void draw_tuning(Ui *ui, Rect r, int *y)
{
    TuneView v;
    char buf[300];
    if (session_tuning(ui_session(ui), &v, NULL) != ST_OK)
        return;
    snprintf(buf, sizeof buf, "%s: %s", v.goal, v.text);
    panel_line(ui, r, y, "tune", v.state == TUNING_RUNS ? SL_RUNNING : SL_TEXT, buf);
}

/* The tuning plan: what it does or came to, and its newest tries. */
static void draw_plan(Ui *ui, Rect r, int *y)
{
    enum { SHOWN = 6 };
    AutotuneView v;
    if (!session_autotuning(ui_session(ui), &v))
        return;
    Str text = {0};
    str_printf(&text, "%s: %s", path_base(v.plan), v.text);
    panel_line(ui, r, y, "plan", v.state == AUTOTUNE_RUNS ? SL_RUNNING : v.id ? SL_OK : SL_TEXT, str_text(&text));
    int n = v.loop ? loop_tries(v.loop) : 0, best = v.loop ? loop_best(v.loop) : -1;
    for (int i = n > SHOWN ? n - SHOWN : 0; i < n; i++) {
        const LoopTry *t = loop_try(v.loop, i);
        str_clear(&text);
        str_printf(&text, "%c %d %s  ", i == best ? '*' : ' ', t->number, t->practice->id);
        plan_accuracies(t, &text);
        if (t->known && t->result.satisfied)
            str_puts(&text, tr("  holds"));
        panel_line(ui, r, y, "", i == best ? SL_OK : SL_TEXT, str_text(&text));
    }
    str_free(&text);
}

/* Its tries: above everything while it runs. */
static void draw_tries(Ui *ui, Rect r, int *y, bool runs)
{
    TuneView v;
    char buf[300], size[24];
    if (session_tuning(ui_session(ui), &v, NULL) != ST_OK || (v.state == TUNING_RUNS) != runs)
        return;
    for (int i = 0; i < v.ntries; i++) {
        const TuneTry *t = &v.tries[i];
        fmt_delta(size, sizeof size, (double)(t->bytes - v.base_bytes));
        text_format(buf, sizeof buf, "%c %d  %s  %lld float  KL %.4g  ppl %+.2f%%%s", t->best ? '*' : ' ', i + 1, size,
                    (long long)t->floats, t->effect.kl_mean, 100 * t->effect.ppl_change, t->holds ? tr("  holds") : "");
        panel_line(ui, r, y, "", t->best ? SL_OK : SL_TEXT, buf);
    }
}

/* Without a measurement of this recipe: what there is of others, which says nothing about it. */
static void draw_elsewhere(Ui *ui, Rect r, int *y)
{
    const char *recipe;
    const Effect *e = session_other_effect(ui_session(ui), &recipe);
    char buf[300], kl[24], change[48];
    panel_line(ui, r, y, "measured", SL_DIM, e ? "not yet with this recipe and data; r quantizes and measures"
                                               : "not yet; r quantizes and measures");
    if (!e)
        return;
    fmt_value(kl, sizeof kl, e->kl_mean);
    fmt_change(change, sizeof change, e->ppl_change, e->ppl_change_se);
    if (recipe)
        text_format(buf, sizeof buf, "another recipe (%.80s): KL %s  ppl %s", recipe, kl, change);
    else if (e->arith != session_options(ui_session(ui))->arith)
        text_format(buf, sizeof buf, "in %s arithmetic: KL %s  ppl %s", arith_name(e->arith), kl, change);
    else
        text_format(buf, sizeof buf, "another recipe's or data's: KL %s  ppl %s", kl, change);
    panel_line(ui, r, y, "", SL_DIM, buf);
}

static void draw_measured(Ui *ui, Rect r, int *y)
{
    Session *s = ui_session(ui);
    int64_t stale = 0;
    const Effect *e = session_effect(s, &stale), *base = session_base_effect(s);
    char buf[200], secs[24], tokens[24];
    if (!e) {
        draw_elsewhere(ui, r, y);
        return;
    }
    fmt_seconds(secs, sizeof secs, e->seconds);
    fmt_count(tokens, sizeof tokens, e->predicted);
    if (e->from_cache)
        text_format(buf, sizeof buf, "from cache");
    else
        text_format(buf, sizeof buf, "layers from %d on ran, %s", e->first_layer_run, secs);
    effect_line(ui, r, y, stale ? "STALE" : "measured", stale ? SL_STALE : SL_TEXT, e);
    if (stale) {
        char differ[120];
        text_format(differ, sizeof differ,
                    stale == 1 ? "STALE: %lld linear differs since; r measures again"
                               : "STALE: %lld linears differ since; r measures again",
                    (long long)stale);
        panel_line(ui, r, y, "", SL_STALE, differ);
    }
    effect_more(ui, r, y, e, buf);
    if (base && base != e)
        effect_line(ui, r, y, "at first", SL_TEXT, base);
    if (!stale)
        draw_rivals(ui, r, y);
    char ppl[48];
    fmt_value(ppl, sizeof ppl, e->ppl_float);
    text_format(buf, sizeof buf, "ppl %s  (%s tokens, %d texts; +- over blocks of 16 tokens)", ppl, tokens, e->texts);
    panel_line(ui, r, y, "float", SL_TEXT, buf);
}

/* The first rule of an engine that the set breaks, and how many more. */
static void draw_rules(Ui *ui, Whatif *w, Rect r, int *y)
{
    Session *s = ui_session(ui);
    const Runtime *runtime = session_options(s)->runtime;
    if (w->recipe != session_recipe(s) || w->version != session_edit_version(s) || w->runtime != runtime) {
        RuntimeReport report;
        w->recipe = session_recipe(s);
        w->version = session_edit_version(s);
        w->runtime = runtime;
        w->broken[0] = '\0';
        if (session_runtime(s, &report, NULL) == ST_OK && report.n) {
            if (report.n > 1)
                snprintf(w->broken, sizeof w->broken, "%.300s (%zu more)", report.f[0].text, report.n - 1);
            else
                snprintf(w->broken, sizeof w->broken, "%.300s", report.f[0].text);
        }
        runtime_report_fini(&report);
    }
    if (w->broken[0])
        panel_line(ui, r, y, "engine", runtime ? SL_ERR : SL_WARN, w->broken);
}

/* What the set as a whole does, what decides first: a low screen shows the first lines. */
int whatif_figures(Ui *ui, Rect r, int64_t what, int spare)
{
    (void)what, (void)spare;
    int y = r.y;
    draw_tuning(ui, r, &y);
    draw_plan(ui, r, &y);
    draw_tries(ui, r, &y, true);
    draw_predicted(ui, r, &y);
    draw_measured(ui, r, &y);
    draw_size(ui, r, &y);
    draw_budget(ui, r, &y);
    draw_sets(ui, r, &y);
    draw_interactions(ui, r, &y);
    draw_tries(ui, r, &y, false);
    draw_rules(ui, ui_state(ui, &view_whatif), r, &y);
    return y;
}
