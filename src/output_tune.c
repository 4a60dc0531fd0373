/* What fit, front and tune found, as text and JSON. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "src/output.h"

static void put_number(Str *out, const char *name, double v)
{
    str_printf(out, ",\"%s\":", name);
    str_double(out, v);
}

static void put_range(Str *out, const char *name, const TuneRange *r)
{
    if (!isfinite(r->value))
        return;
    str_printf(out, ",\"%s\":{\"value\":", name);
    str_double(out, r->value);
    put_number(out, "low", r->low);
    put_number(out, "high", r->high);
    str_printf(out, ",\"rough\":%s}", r->rough ? "true" : "false");
}

void str_delta(Str *out, double bytes)
{
    str_putc(out, bytes < 0 ? '-' : '+');
    str_bytes(out, (uint64_t)fabs(bytes));
}

/* The level of a fused group, -1: its linears differ. */
static int group_level(const Model *m, int64_t g, const int16_t *level)
{
    const FusedGroup *f = &m->groups[g];
    int first = level[group_linear(f, 0)];
    for (int32_t j = 1; j < f->count; j++)
        if (level[group_linear(f, j)] != first)
            return -1;
    return first;
}

/* ---- fit ---- */

static void put_foretold(Str *out, const TuneRange *kl, const TuneRange *ppl)
{
    if (!isfinite(kl->value)) {
        str_puts(out, "no KL before a measurement");
        return;
    }
    str_printf(out, "KL %.3g (%.2g to %.2g%s)", kl->value, kl->low, kl->high, kl->rough ? ", roughly" : "");
    if (isfinite(ppl->value))
        str_printf(out, ", perplexity %+.2g %% (%+.2g to %+.2g)", 100 * ppl->value, 100 * ppl->low, 100 * ppl->high);
}

/* Groups by the level that they get. */
static void put_groups(Session *s, const int16_t *was, const int16_t *level, Str *out)
{
    const Model *m = session_model(s);
    Str name = {0};
    for (int k = 0; k < session_levels(s); k++) {
        int64_t n = 0;
        for (int64_t g = 0; g < m->ngroups; g++) {
            if (group_level(m, g, level) != k || group_level(m, g, was) == k)
                continue;
            str_clear(&name);
            scope_unit_name(m, SCOPE_GROUP, g, &name);
            if (!n++)
                str_printf(out, "to %-9s", session_level_name(s, k));
            str_printf(out, " %s", str_text(&name));
        }
        if (n)
            str_putc(out, '\n');
    }
    out->oom = out->oom || name.oom;
    str_free(&name);
}

static void fit_text(Session *s, const char *goal, const FitDone *d, const int16_t *was, bool dry, Str *out)
{
    str_printf(out, "%s %s: %lld fused group%s (%lld linear%s) at another level, ", goal, dry ? "would need" : "needs",
               (long long)d->groups, d->groups == 1 ? "" : "s", (long long)d->changed, d->changed == 1 ? "" : "s");
    str_delta(out, (double)d->after.bytes - (double)d->before.bytes);
    str_puts(out, "\nsize        ");
    str_bytes(out, d->after.bytes);
    str_printf(out, ", %.2f bits per weight\nforetold    ", d->after.average_bits);
    put_foretold(out, &d->kl, &d->ppl);
    str_printf(out, "\nleft alone  %lld group%s held by rules, %lld by the recipe", (long long)d->left.held,
               d->left.held == 1 ? "" : "s", (long long)d->left.excluded);
    if (d->left.refused)
        str_printf(out, "; %lld level%s of groups the engine does not load", (long long)d->left.refused,
                   d->left.refused == 1 ? "" : "s");
    str_putc(out, '\n');
    put_groups(s, was, d->level, out);
}

void output_fit_line(Session *s, const char *goal, const FitDone *d, Str *out)
{
    const Model *m = session_model(s);
    int64_t floats = 0;
    for (int64_t g = 0; g < m->ngroups; g++)
        floats += group_level(m, g, d->level) == 0;
    str_printf(out, "fit %s: ", goal);
    if (!d->groups) {
        str_puts(out, "nothing to change");
        return;
    }
    str_printf(out, "%lld group%s changed, %lld float, ", (long long)d->groups, d->groups == 1 ? "" : "s", (long long)floats);
    str_delta(out, (double)d->after.bytes - (double)d->before.bytes);
    if (isfinite(d->kl.value))
        str_printf(out, ", KL %.3g~; u undoes it", d->kl.value);
    else
        str_printf(out, ", loss %+.1f %%~; u undoes it",
                   d->sum_before > 0 ? 100 * (d->sum - d->sum_before) / d->sum_before : 0);
}

static void fit_json(Session *s, const char *goal, const FitDone *d, const int16_t *was, bool dry, Str *out)
{
    const Model *m = session_model(s);
    Str name = {0};
    str_puts(out, "{\"goal\":");
    str_json(out, goal);
    str_printf(out, ",\"applied\":%s,\"linears\":%lld,\"groups\":%lld,\"bytes_before\":%llu,\"bytes\":%llu",
               dry ? "false" : "true", (long long)d->changed, (long long)d->groups, (unsigned long long)d->before.bytes,
               (unsigned long long)d->after.bytes);
    put_number(out, "average_bits", d->after.average_bits);
    put_number(out, "expected_loss_before", d->sum_before);
    put_number(out, "expected_loss", d->sum);
    put_range(out, "kl", &d->kl);
    put_range(out, "perplexity_change", &d->ppl);
    str_printf(out, ",\"held\":%lld,\"excluded\":%lld,\"refused\":%lld,\"changes\":[", (long long)d->left.held,
               (long long)d->left.excluded, (long long)d->left.refused);
    for (int64_t g = 0, n = 0; g < m->ngroups; g++) {
        int k = group_level(m, g, d->level);
        if (k == group_level(m, g, was))
            continue;
        str_clear(&name);
        scope_unit_name(m, SCOPE_GROUP, g, &name);
        str_puts(out, n++ ? ",\n{\"group\":" : "\n{\"group\":");
        str_json(out, str_text(&name));
        str_puts(out, ",\"level\":");
        str_json(out, session_level_name(s, k));
        str_putc(out, '}');
    }
    str_puts(out, "]}\n");
    str_free(&name);
}

Status output_fit(Session *s, OutFormat f, const char *goal, const FitDone *d, const int16_t *was, bool dry, Str *out,
                  Error *err)
{
    (f == OUT_JSON ? fit_json : fit_text)(s, goal, d, was, dry, out);
    return out->oom ? error_nomem(err, "the result's text") : ST_OK;
}

/* ---- front ---- */

/* A number in a column, "-" for none. */
static void put_cell(Str *out, const char *format, double v)
{
    char text[32] = "-";
    if (isfinite(v))
        snprintf(text, sizeof text, format, v);
    str_printf(out, " %11s", text);
}

/* Of a long front the text has about this many rows: all measured ones, the ends, the knee, and some between. */
enum { FRONT_SHOWN = 24 };

static bool row_shown(const FrontRow *r, int64_t i, int64_t n)
{
    int64_t step = n > FRONT_SHOWN ? (n + FRONT_SHOWN - 1) / FRONT_SHOWN : 1;
    return r->knee || isfinite(r->kl_measured) || i % step == 0 || i == n - 1;
}

static void front_text(Session *s, const FrontRow *rows, int64_t n, Str *out)
{
    Str name = {0};
    str_puts(out, "        size   float      KL~    from       to   ppl~ %   measured KL  ppl %   last\n");
    for (int64_t i = 0; i < n; i++) {
        const FrontRow *r = &rows[i];
        if (!row_shown(r, i, n))
            continue;
        str_clear(&name);
        str_bytes(&name, (uint64_t)r->bytes);
        str_printf(out, "%c %11s %6lld", r->knee ? '>' : ' ', str_text(&name), (long long)r->floats);
        put_cell(out, "%.4g", r->kl.value);
        put_cell(out, "%.2g", r->kl.low);
        put_cell(out, "%.2g", r->kl.high);
        put_cell(out, "%+.2f", 100 * r->ppl.value);
        put_cell(out, "%.4g", r->kl_measured);
        put_cell(out, "%+.2f", 100 * r->ppl_measured);
        str_clear(&name);
        if (r->group >= 0)
            scope_unit_name(session_model(s), SCOPE_GROUP, r->group, &name);
        if (r->group >= 0)
            str_printf(out, "   %s %s%s", str_text(&name), session_level_name(s, r->to), r->knee ? " (knee)" : "");
        str_putc(out, '\n');
    }
    out->oom = out->oom || name.oom;
    str_free(&name);
}

static void front_json(Session *s, const FrontRow *rows, int64_t n, Str *out)
{
    Str name = {0};
    str_puts(out, "{\"front\":[");
    for (int64_t i = 0; i < n; i++) {
        const FrontRow *r = &rows[i];
        str_printf(out, "%s\n{\"bytes\":%lld,\"float_groups\":%lld", i ? "," : "", (long long)r->bytes, (long long)r->floats);
        put_number(out, "expected_loss", r->sum);
        put_range(out, "kl", &r->kl);
        put_range(out, "perplexity_change", &r->ppl);
        if (isfinite(r->kl_measured)) {
            put_number(out, "kl_measured", r->kl_measured);
            put_number(out, "perplexity_change_measured", r->ppl_measured);
        }
        if (r->group >= 0) {
            str_clear(&name);
            scope_unit_name(session_model(s), SCOPE_GROUP, r->group, &name);
            str_puts(out, ",\"group\":");
            str_json(out, str_text(&name));
            str_puts(out, ",\"level\":");
            str_json(out, session_level_name(s, r->to));
        }
        str_printf(out, "%s}", r->knee ? ",\"knee\":true" : "");
    }
    str_puts(out, "]}\n");
    out->oom = out->oom || name.oom;
    str_free(&name);
}

Status output_front(Session *s, OutFormat f, const FrontRow *rows, int64_t n, Str *out, Error *err)
{
    (f == OUT_JSON ? front_json : front_text)(s, rows, n, out);
    return out->oom ? error_nomem(err, "the result's text") : ST_OK;
}

/* ---- tune ---- */

static const char *const state_words[] = {[TUNING_NONE] = "none",       [TUNING_RUNS] = "running", [TUNING_STOPPED] = "stopped",
                                          [TUNING_MET] = "met",         [TUNING_MISSED] = "missed", [TUNING_FAILED] = "failed"};

static void tune_text(const TuneView *v, Str *out)
{
    str_printf(out, "=== tune %s: %s ===\n", v->goal, v->text);
    if (v->ntries)
        str_puts(out, "   #         size     against recipe  float         KL       ppl   ppl change  same top\n");
    for (int i = 0; i < v->ntries; i++) {
        const TuneTry *t = &v->tries[i];
        Str size = {0}, delta = {0};
        str_bytes(&size, (uint64_t)t->bytes);
        str_delta(&delta, (double)(t->bytes - v->base_bytes));
        str_printf(out, " %c%2d  %11s  %17s  %5lld  %9.5f  %8.3f  %+9.2f %%  %6.2f %%%s\n", t->best ? '*' : ' ', i + 1,
                   str_text(&size), str_text(&delta), (long long)t->floats, t->effect.kl_mean, t->effect.ppl_quant,
                   100 * t->effect.ppl_change, 100 * t->effect.top1, t->holds ? "  holds" : "");
        out->oom = out->oom || size.oom || delta.oom;
        str_free(&size);
        str_free(&delta);
    }
}

static void tune_json(Session *s, const TuneView *v, Str *out)
{
    const Model *m = session_model(s);
    str_puts(out, "{\"model\":");
    str_json(out, m->path);
    str_puts(out, ",\"recipe\":");
    str_json(out, recipe_name(session_recipe(s)));
    str_puts(out, ",\"goal\":");
    str_json(out, v->goal);
    str_printf(out, ",\"state\":\"%s\",\"met\":%s,\"recipe_bytes\":%lld,\"measurements\":[", state_words[v->state],
               v->state == TUNING_MET ? "true" : "false", (long long)v->base_bytes);
    for (int i = 0; i < v->ntries; i++) {
        const TuneTry *t = &v->tries[i];
        str_printf(out, "%s\n{\"bytes\":%lld,\"bytes_back\":%lld,\"float\":%lld,\"holds\":%s,\"best\":%s", i ? "," : "",
                   (long long)t->bytes, (long long)(t->bytes - v->base_bytes), (long long)t->floats,
                   t->holds ? "true" : "false", t->best ? "true" : "false");
        put_number(out, "kl", t->effect.kl_mean);
        put_number(out, "kl_se", t->effect.kl_se);
        put_number(out, "perplexity", t->effect.ppl_quant);
        put_number(out, "perplexity_change", t->effect.ppl_change);
        put_number(out, "top1", t->effect.top1);
        put_number(out, "seconds", t->effect.seconds);
        str_putc(out, '}');
    }
    str_puts(out, "]");
    put_number(out, "block_error_seconds", v->block_seconds);
    put_number(out, "alone_seconds", v->alone_seconds);
    put_number(out, "measure_seconds", v->measure_seconds);
    str_puts(out, ",\"float\":[");
    for (int64_t i = 0, n = 0; i < m->nlinears; i++)
        if (session_level_of(s, i) == 0) {
            str_puts(out, n++ ? "," : "");
            str_json(out, m->linears[i].name);
        }
    str_puts(out, "]}\n");
}

Status output_tune(Session *s, OutFormat f, const TuneView *v, Str *out, Error *err)
{
    if (f == OUT_JSON)
        tune_json(s, v, out);
    else
        tune_text(v, out);
    return out->oom ? error_nomem(err, "the result's text") : ST_OK;
}
