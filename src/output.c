#include "src/output.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/file.h"
#include "session/effectrecord.h"

OutFormat out_format(const char *name)
{
    static const char *const names[] = {
        [OUT_TEXT] = "text", [OUT_JSON] = "json", [OUT_CSV] = "csv", [OUT_YAML] = "yaml"};
    for (int i = 0; name && i < 4; i++)
        if (strcmp(name, names[i]) == 0)
            return (OutFormat)i;
    return OUT_TEXT;
}

void str_bytes(Str *out, uint64_t bytes)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    int u = 0;
    for (; v >= 1024 && u < 4; u++)
        v /= 1024;
    str_printf(out, u ? "%.1f %s" : "%.0f %s", v, unit[u]);
}

void output_data_json(const DataInfo *d, const char *count, Str *out)
{
    str_puts(out, "{\"name\":");
    str_json(out, d->name ? path_base(d->name) : "");
    str_puts(out, ",\"sha256\":");
    str_json(out, d->sha256);
    str_printf(out, ",\"%s\":%d,\"tokens\":%lld}", count, d->samples, (long long)d->tokens);
}

/* ---- profile ---- */

/* Row i of what is shown: the table's order, what no part claims last. */
static int phase_shown(int i)
{
    return i + 1 < PHASES ? i + 1 : PHASE_OTHER;
}

void output_profile(const ProfileReport *r, Str *out)
{
    str_printf(out, "CPU time %.2f s in %.2f s, %d thread%s\n", r->total, r->wall, r->workers, r->workers == 1 ? "" : "s");
    for (int i = 0; i < PHASES; i++) {
        int k = phase_shown(i);
        if (r->calls[k])
            str_printf(out, "  %-36s %9.3f s  %5.1f %%  %9lld calls\n", phase_table[k].text, r->cpu[k],
                       r->total > 0 ? 100 * r->cpu[k] / r->total : 0, (long long)r->calls[k]);
        else if (k == PHASE_OTHER)
            str_printf(out, "  %-36s %9.3f s  %5.1f %%\n", phase_table[k].text, r->cpu[k],
                       r->total > 0 ? 100 * r->cpu[k] / r->total : 0);
    }
}

void output_profile_json(const ProfileReport *r, Str *out)
{
    if (!r || !r->workers)
        return;
    str_printf(out, ",\"profile\":{\"cpu_seconds\":%.6f,\"seconds\":%.6f,\"threads\":%d,\"parts\":{", r->total, r->wall,
               r->workers);
    for (int i = 0; i < PHASES; i++) {
        int k = phase_shown(i);
        str_printf(out, "%s\n\"%s\":{\"cpu_seconds\":%.6f,\"calls\":%lld}", i ? "," : "", phase_table[k].name,
                   r->cpu[k], (long long)r->calls[k]);
    }
    str_puts(out, "}}");
}

/* ---- prediction ---- */

/* "KL 0.083 (0.055 to 0.12", of a measurement or a sum of them. */
static void kl_range(const TuneRange *r, Str *out)
{
    str_printf(out, "KL %.3g (%.2g to %.2g%s)", r->value, r->low, r->high, r->rough ? ", roughly" : "");
}

static void change_range(const TuneRange *r, Str *out)
{
    if (isfinite(r->value))
        str_printf(out, ", perplexity %+.2g %% (%+.2g to %+.2g)", 100 * r->value, 100 * r->low, 100 * r->high);
}

void output_prediction(const Prediction *p, Str *out)
{
    out->oom = out->oom || p->no_memory;
    if (!p->have) {
        str_printf(out, "nothing: block_error is not known for %lld of %lld groups (analyze block_error)",
                   (long long)p->unknown, (long long)p->groups);
        return;
    }
    if (p->measured && isfinite(p->without)) {
        str_printf(out, "KL %.3g by the other measurements, %+.0f %%", p->without, 100 * p->miss);
    } else if (p->measured) {
        str_puts(out, "nothing: it is measured");
    } else if (p->measurements) {
        kl_range(&p->kl, out);
        change_range(&p->ppl, out);
        str_printf(out, " from %d measurement%s", p->measurements, p->measurements == 1 ? "" : "s");
    } else {
        str_puts(out, "no KL before a measurement");
    }
    str_printf(out, "; %.1f %% of the expected loss given back", 100 * p->share_back);
}

static void number_json(Str *out, const char *name, double v)
{
    str_printf(out, ",\"%s\":", name);
    str_double(out, v);
}

static void range_json(Str *out, const char *name, const TuneRange *r)
{
    str_printf(out, ",\"%s\":{\"value\":", name);
    str_double(out, r->value);
    number_json(out, "low", r->low);
    number_json(out, "high", r->high);
    str_printf(out, ",\"rough\":%s}", r->rough ? "true" : "false");
}

void output_prediction_json(const Prediction *p, Str *out)
{
    out->oom = out->oom || p->no_memory;
    str_printf(out, ",\"prediction\":{\"measurements\":%d,\"groups\":%lld,\"unknown\":%lld,\"alone\":%lld", p->measurements,
               (long long)p->groups, (long long)p->unknown, (long long)p->alone);
    if (p->have && p->measured) {
        number_json(out, "kl_by_others", p->without);
    } else if (p->have && p->measurements) {
        range_json(out, "kl", &p->kl);
        range_json(out, "perplexity_change", &p->ppl);
    }
    number_json(out, "share_back", p->share_back);
    str_putc(out, '}');
}

/* ---- measured effect ---- */

/* Of the perplexity, with the error of both together. */
static void change_text(Str *out, const Effect *e)
{
    str_printf(out, "%+.1f %%", 100 * e->ppl_change);
    if (isfinite(e->ppl_change_se))
        str_printf(out, " +- %.1f", 100 * e->ppl_change_se);
}

static void figures_text(Str *out, const Effect *e)
{
    str_printf(out, "KL %.4g", e->kl_mean);
    if (isfinite(e->kl_se))
        str_printf(out, " +- %.2g", e->kl_se);
    str_printf(out, ", perplexity %.4g (", e->ppl_quant);
    change_text(out, e);
    str_printf(out, "), top-1 agreement %.1f %%", 100 * e->top1);
}

void output_measured(Session *s, Str *out)
{
    int64_t differs;
    const char *recipe;
    const Effect *e = session_effect(s, &differs), *other = session_other_effect(s, &recipe);
    if (e && differs)
        str_printf(out, "STALE, %lld linear%s since: ", (long long)differs, differs == 1 ? " differs" : "s differ");
    else if (other && recipe)
        str_printf(out, "not with this recipe; with another recipe (%s): ", recipe);
    else if (other && other->arith != session_options(s)->arith)
        str_printf(out, "not in %s arithmetic; in %s: ", arith_name(session_options(s)->arith), arith_name(other->arith));
    else if (other)
        str_puts(out, "not with these data and settings; with others: ");
    if (e || other)
        figures_text(out, e ? e : other);
    else
        str_puts(out, "not yet");
}

void output_changes_json(const Recipe *r, Str *out)
{
    const char *type = work_change(r, 0);
    if (!type)
        return;
    str_puts(out, ",\"processors\":[");
    for (int i = 0; (type = work_change(r, i)) != NULL; i++) {
        str_puts(out, i ? "," : "");
        str_json(out, type);
    }
    str_putc(out, ']');
}

/* What changes the model, as a line. */
static void changes_text(const Recipe *r, Str *out)
{
    Str names = {0};
    work_name_changes(r, &names);
    if (names.len)
        str_printf(out, "processors       %s, before anything is quantized\n", str_text(&names));
    out->oom = out->oom || names.oom;
    str_free(&names);
}

void output_measured_json(Session *s, Str *out)
{
    int64_t differs;
    const char *recipe;
    const Effect *e = session_effect(s, &differs), *other = session_other_effect(s, &recipe);
    if (!e && !other) {
        str_puts(out, ",\"measured\":null");
        return;
    }
    str_printf(out, ",\"measured\":{\"of\":\"%s\"",
               e ? differs ? "stale" : "present" : recipe ? "another recipe" : "other settings");
    if (e)
        str_printf(out, ",\"differs\":%lld", (long long)differs);
    if (recipe) {
        str_puts(out, ",\"recipe\":");
        str_json(out, recipe);
    }
    e = e ? e : other;
    str_puts(out, ",\"arithmetic\":");
    str_json(out, arith_name(e->arith));
    number_json(out, "kl", e->kl_mean);
    number_json(out, "kl_se", e->kl_se);
    number_json(out, "perplexity_change", e->ppl_change);
    number_json(out, "perplexity_change_se", e->ppl_change_se);
    str_putc(out, '}');
}

/* "float" count and each level's name with its count, in level order. */
static void levels_text(const Session *s, Str *out)
{
    int64_t n = session_model(s)->nlinears;
    bool any = false;
    for (int level = 0; level < session_levels(s); level++) {
        int64_t count = 0;
        for (int64_t i = 0; i < n; i++)
            count += session_level_of(s, i) == level;
        if (!count)
            continue;
        str_printf(out, "%s%lld of %lld linears %s", any ? ", " : "", (long long)count, (long long)n,
                   session_level_name(s, level));
        any = true;
    }
}

/* The error of a mean, which less than two of `of` have not. */
static void plus_minus(Str *out, const char *number, double se, const char *of)
{
    char text[32];
    snprintf(text, sizeof text, number, se);
    if (isfinite(se))
        str_printf(out, " +- %s", text);
    else
        str_printf(out, " (error unknown: too few %s)", of);
}

/* ---- differences of measurements ---- */

/* "1,024" */
static void put_count(Str *out, int64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%lld", (long long)n);
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            str_putc(out, ',');
        str_putc(out, digits[i]);
    }
}

void output_verdict(const Paired *p, Str *out)
{
    Verdict v = verdict_of(p->kl, p->kl_se);
    if (p->state == PAIR_NO_BLOCKS) {
        str_puts(out, pair_why(p->state));
    } else if (p->state != PAIR_OK) {
        str_printf(out, "not comparable: %s", pair_why(p->state));
    } else if (v == VERDICT_UNDECIDED) {
        str_puts(out, "undecided at ");
        put_count(out, p->tokens);
        str_puts(out, p->whole ? " tokens, which are all there are" : " tokens: --full decides");
    } else {
        str_puts(out, verdict_word(v));
    }
}

void output_paired(const Paired *p, Str *out)
{
    if (isfinite(p->kl))
        str_printf(out, "KL %+.3g", p->kl);
    if (isfinite(p->kl_se))
        str_printf(out, " +- %.2g", p->kl_se);
    if (isfinite(p->ppl))
        str_printf(out, ", perplexity %+.2f %%", 100 * p->ppl);
    if (isfinite(p->ppl_se))
        str_printf(out, " +- %.2f", 100 * p->ppl_se);
    str_puts(out, isfinite(p->kl) ? ": " : "");
    output_verdict(p, out);
}

void output_paired_json(const Paired *p, Str *out)
{
    str_printf(out, "{\"comparable\":%s", p->state == PAIR_OK || p->state == PAIR_NO_BLOCKS ? "true" : "false");
    if (p->state != PAIR_OK) {
        str_puts(out, ",\"reason\":");
        str_json(out, pair_why(p->state));
    }
    number_json(out, "kl", p->kl);
    number_json(out, "kl_se", p->kl_se);
    number_json(out, "perplexity_change", p->ppl);
    number_json(out, "perplexity_change_se", p->ppl_se);
    number_json(out, "top1", p->top1);
    number_json(out, "top1_se", p->top1_se);
    str_puts(out, ",\"verdict\":");
    if (p->state == PAIR_OK)
        str_json(out, verdict_word(verdict_of(p->kl, p->kl_se)));
    else
        str_puts(out, "null");
    str_printf(out, ",\"tokens\":%lld,\"whole_set\":%s}", (long long)p->tokens, p->whole ? "true" : "false");
}

/* What a measurement of the present assignment is held against (RIVAL_...). */
static const char *const rivals[RIVALS] = {[RIVAL_BASE] = "base", [RIVAL_PREVIOUS] = "previous"};

/* *m, *p: of a rival that is not the one before it, too. */
static bool rival_of(const Session *s, int k, Measurement *m, Paired *p)
{
    Measurement base;
    Paired same;
    if (!session_rival(s, (Rival)k, m, p))
        return false;
    return k == RIVAL_BASE || !session_rival(s, RIVAL_BASE, &base, &same) || base.id != m->id;
}

static void rivals_text(const Session *s, Str *out)
{
    Measurement m;
    Paired p;
    for (int k = 0; k < RIVALS; k++) {
        if (!rival_of(s, k, &m, &p))
            continue;
        str_printf(out, "against #%-8d ", m.id);
        output_paired(&p, out);
        str_printf(out, " (%s)\n", rivals[k]);
    }
}

static void rivals_json(const Session *s, Str *out)
{
    Measurement m;
    Paired p;
    int n = 0;
    for (int k = 0; k < RIVALS; k++) {
        if (!rival_of(s, k, &m, &p))
            continue;
        str_printf(out, n++ ? ",\"%s\":{\"number\":%d,\"difference\":" : ",\"against\":{\"%s\":{\"number\":%d,\"difference\":",
                   rivals[k], m.id);
        output_paired_json(&p, out);
        str_putc(out, '}');
    }
    if (n)
        str_putc(out, '}');
}

static void effect_text(Session *s, const Effect *e, Str *out)
{
    const Recipe *r = session_recipe(s);
    DataInfo ev = session_eval_info(s), ca = session_calib_info(s);
    Prediction p = session_predict(s);
    str_printf(out, "=== Measured effect of quantization ===\nmodel            %s\n", session_model(s)->path);
    str_printf(out, "recipe           %s\n", recipe_name(r));
    changes_text(r, out);
    str_puts(out, "assignment       ");
    levels_text(s, out);
    str_printf(out, "\narithmetic       %s\n", arith_name(e->arith));
    str_printf(out, "calibration      %s: %d texts, %lld tokens\n", path_base(ca.name), ca.samples,
               (long long)ca.tokens);
    str_printf(out, "evaluation       %s: %d windows, %lld tokens, %lld predicted\n", path_base(ev.name), e->texts,
               (long long)e->tokens, (long long)e->predicted);
    str_printf(out, "KL divergence    %.4e", e->kl_mean);
    plus_minus(out, "%.1e", e->kl_se, "tokens");
    str_printf(out, " nats per token (median %.2e, 99 %% below %.2e, max %.2e)\n", e->kl_median, e->kl_p99, e->kl_max);
    str_printf(out, "same top token   %.2f %%", 100 * e->top1);
    plus_minus(out, "%.2f", 100 * e->top1_se, "tokens");
    str_printf(out, "\nperplexity       float %.3f, quantized %.3f (", e->ppl_float, e->ppl_quant);
    change_text(out, e);
    str_printf(out, ")\noutput MSE       %.4e", e->out_mse);
    plus_minus(out, "%.1e", e->out_mse_se, "texts");
    str_puts(out, " (last decoder layer, calibration set)\n");
    str_puts(out, "size             ");
    str_bytes(out, p.size.bytes);
    str_puts(out, " of ");
    str_bytes(out, p.size.float_bytes);
    str_printf(out, " in float, %.2f bits per weight\n", p.size.average_bits);
    if (p.have) {
        str_puts(out, "predicted        ");
        output_prediction(&p, out);
        str_putc(out, '\n');
    }
    rivals_text(s, out);
    if (e->from_cache)
        str_puts(out, "computed         nothing: measured before\n");
    else
        str_printf(out, "computed         %d layers from layer %d on, %.1f s\n", e->layers_run, e->first_layer_run,
                   e->seconds);
}

/* What compare measurements FILE FILE reads. */
static void blocks_json(const Session *s, const Effect *e, Str *out)
{
    str_printf(out, ",\"whole_set\":%s", e->whole ? "true" : "false");
    for (int i = 0; i < session_measurements(s); i++) {
        Measurement m = session_measurement(s, i);
        if (m.effect == e && m.blocks)
            blocks_record(out, m.blocks);
    }
}

/* ,"name":{"mean":…,"se":…} */
static void mean_json(Str *out, const char *name, double mean, double se)
{
    str_printf(out, ",\"%s\":{\"mean\":", name);
    str_double(out, mean);
    str_puts(out, ",\"se\":");
    str_double(out, se);
}

static void assignment_json(const Session *s, Str *out)
{
    const Model *m = session_model(s);
    str_puts(out, ",\"levels\":{");
    bool first = true;
    for (int level = 0; level < session_levels(s); level++) {
        bool open = false;
        for (int64_t i = 0; i < m->nlinears; i++) {
            if (session_level_of(s, i) != level)
                continue;
            if (!open) {
                str_puts(out, first ? "\n" : ",\n");
                str_json(out, session_level_name(s, level));
                str_puts(out, ":[");
            } else {
                str_putc(out, ',');
            }
            str_json(out, m->linears[i].name);
            open = true;
            first = false;
        }
        if (open)
            str_putc(out, ']');
    }
    str_puts(out, "}");
}

static void effect_json(Session *s, const Effect *e, const ProfileReport *profile, Str *out)
{
    DataInfo ev = session_eval_info(s), ca = session_calib_info(s);
    Prediction p = session_predict(s);
    str_puts(out, "{\"model\":");
    str_json(out, session_model(s)->path);
    str_puts(out, ",\"recipe\":");
    str_json(out, recipe_name(session_recipe(s)));
    output_changes_json(session_recipe(s), out);
    str_puts(out, ",\"arithmetic\":");
    str_json(out, arith_name(e->arith));
    str_puts(out, ",\"calibration\":");
    output_data_json(&ca, "samples", out);
    str_puts(out, ",\"evaluation\":");
    output_data_json(&ev, "windows", out);
    str_printf(out, ",\"predicted_tokens\":%lld", (long long)e->predicted);
    mean_json(out, "kl", e->kl_mean, e->kl_se);
    number_json(out, "median", e->kl_median);
    number_json(out, "p99", e->kl_p99);
    number_json(out, "max", e->kl_max);
    str_putc(out, '}');
    mean_json(out, "top1", e->top1, e->top1_se);
    str_putc(out, '}');
    mean_json(out, "perplexity_float", e->ppl_float, e->ppl_float_se);
    str_putc(out, '}');
    mean_json(out, "perplexity_quantized", e->ppl_quant, e->ppl_quant_se);
    str_putc(out, '}');
    mean_json(out, "perplexity_change", e->ppl_change, e->ppl_change_se);
    str_putc(out, '}');
    mean_json(out, "output_mse", e->out_mse, e->out_mse_se);
    str_putc(out, '}');
    str_printf(out, ",\"bytes\":%llu,\"float_bytes\":%llu", (unsigned long long)p.size.bytes,
               (unsigned long long)p.size.float_bytes);
    number_json(out, "average_bits", p.size.average_bits);
    if (p.have)
        output_prediction_json(&p, out);
    if (e->unseen.linears)
        str_printf(out, ",\"unseen_experts\":%lld,\"unseen_linears\":%lld", (long long)e->unseen.experts,
                   (long long)e->unseen.linears);
    rivals_json(s, out);
    blocks_json(s, e, out);
    assignment_json(s, out);
    output_profile_json(profile, out);
    str_puts(out, "}\n");
}

Status output_effect(Session *s, OutFormat f, const Effect *e, const ProfileReport *profile, Str *out, Error *err)
{
    if (f == OUT_JSON)
        effect_json(s, e, profile, out);
    else
        effect_text(s, e, out);
    return out->oom ? error_nomem(err, "the result's text") : ST_OK;
}
