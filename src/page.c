/* The session as a page: what is open, what was decided and measured, rankings. */
#include "session/calibset.h"
#include "src/page.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/file.h"
#include "src/reportdata.h"

enum { ROWS_SHOWN = 20, ROWS_MOST = 2000 };

void page_text(Str *out, const char *s)
{
    static const char *const code['>' + 1] = {['<'] = "&lt;", ['>'] = "&gt;", ['&'] = "&amp;", ['"'] = "&quot;", ['\''] = "&#39;"};
    size_t n = strlen(s);
    char *fit = malloc(n + 1);
    if (!fit) {
        out->oom = true;
        return;
    }
    memcpy(fit, s, n);
    n = text_fit_terminal(fit, n, false);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)fit[i];
        if (c <= '>' && code[c])
            str_puts(out, code[c]);
        else
            str_putc(out, fit[i]);
    }
    free(fit);
}

void page_number(Str *out, double v)
{
    if (!isfinite(v))
        return;
    str_puts(out, "<data value=\"");
    str_double(out, v);
    str_printf(out, "\">%.4g</data>", v);
}

/* A cell of a table with a number. */
static void page_cell(Str *out, double v)
{
    str_puts(out, "<td class=\"n\">");
    page_number(out, v);
    str_puts(out, "</td>");
}

static const char style[] =
    ":root{color-scheme:light dark;--bg:#fff;--fg:#1c2530;--dim:#5c6875;--line:#d8dee6;--soft:#f3f5f8;--a:#1f66d6;--b:#b4470f;--warn:#b3261e}\n"
    "@media (prefers-color-scheme:dark){:root{--bg:#12161c;--fg:#e3e8ee;--dim:#9aa6b4;--line:#2e3743;--soft:#1a2029;--a:#6aaeff;--b:#ff9d66;"
    "--warn:#ff8a80}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;padding:1.5rem 1rem 4rem;max-width:1100px;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}\n"
    "h1{font-size:1.6rem;margin:.2em 0;overflow-wrap:anywhere}h2{font-size:1.2rem;margin:2.2em 0 .5em;border-bottom:1px solid var(--line);"
    "padding-bottom:.2em}h3{font-size:1rem;margin:1.2em 0 .3em;overflow-wrap:anywhere}\n"
    "p{margin:.4em 0}.dim{color:var(--dim)}.warn{color:var(--warn)}\n"
    "dl{display:grid;grid-template-columns:minmax(6rem,max-content) 1fr;gap:.15em 1em;margin:.5em 0}dt{color:var(--dim)}dd{margin:0;"
    "overflow-wrap:anywhere}\n"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.87rem;font-variant-numeric:tabular-nums}\n"
    "th,td{padding:.2em .8em .2em 0;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap}th{color:var(--dim);"
    "font-weight:600}.n{text-align:right}th:last-child,td:last-child{padding-right:0}\n"
    "details{margin:.6em 0}summary{cursor:pointer;color:var(--a)}\n"
    "svg{display:block;max-width:100%;height:auto}.wide svg{max-width:none}text{fill:var(--fg);font:12px system-ui,sans-serif}.d{fill:var(--dim)}\n"
    ".ax{stroke:var(--line);fill:none}.p{fill:var(--a);fill-opacity:.65}.q{fill:var(--b)}.l{stroke:var(--a);fill:none}.e{stroke:var(--dim);fill:none}"
    ".r{fill:var(--a);fill-opacity:.13}.h{fill:none;stroke:var(--b);stroke-width:1.5}.c{fill:var(--a);stroke:var(--line);stroke-width:.5}.f{fill:none;stroke:var(--warn)}.k{fill:var(--a)}\n"
    ".pair{display:flex;flex-wrap:wrap;gap:0 2rem}.pair>div{flex:1 1 300px;max-width:480px}\n";

void page_head(Str *out, const char *title)
{
    str_puts(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>");
    page_text(out, title);
    str_printf(out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n", style);
}

void page_end(Str *out)
{
    str_puts(out, "</body>\n</html>\n");
}

/* ---- what is open ---- */

static void term(Str *out, const char *name, const char *value)
{
    str_printf(out, "<dt>%s</dt><dd>", name);
    page_text(out, value);
    str_puts(out, "</dd>\n");
}

static void data_term(Str *out, const char *name, const char *path, const DataInfo *d)
{
    Str b = {0};
    str_puts(&b, path ? path_base(path) : "none");
    if (d->samples)
        str_printf(&b, ", %d texts, %lld tokens, sha256 %.16s", d->samples, (long long)d->tokens, d->sha256);
    else
        str_puts(&b, " (not read yet)");
    term(out, name, str_text(&b));
    out->oom = out->oom || b.oom;
    str_free(&b);
}

static void opened(Session *s, Str *out)
{
    const Model *m = session_model(s);
    const Recipe *r = session_recipe(s);
    DataInfo calib = session_calib_info(s), eval = session_eval_info(s);
    Str b = {0};
    str_puts(out, "<h1>");
    page_text(out, path_base(m->path));
    str_puts(out, "</h1>\n<dl>\n");
    str_printf(&b, "%s, %d layers, %lld linears in %lld fused groups, %.4g million parameters", m->arch ? m->arch->title : m->cfg.model_type,
               m->cfg.layers, (long long)m->nlinears, (long long)m->ngroups, (double)m->params / 1e6);
    term(out, "model", str_text(&b));
    str_clear(&b);
    str_printf(&b, "%.16s", m->fingerprint);
    term(out, "fingerprint", str_text(&b));
    str_clear(&b);
    str_puts(&b, r ? recipe_name(r) : "none");
    for (int k = 0; r && k < recipe_entries(r); k++) {
        char text[80];
        qconfig_describe(&recipe_entry(r, k)->q, text, sizeof text);
        str_printf(&b, "%s%s", k ? ", " : ": ", text);
    }
    term(out, "recipe", str_text(&b));
    str_clear(&b);
    str_printf(&b, "%s%s", arith_name(session_options(s)->arith), session_options(s)->peer ? ", as msModelSlim computes" : "");
    term(out, "arithmetic", str_text(&b));
    data_term(out, "calibration", session_calib_title(s), &calib);
    data_term(out, "evaluation", session_eval(s), &eval);
    term(out, "made by", "slimscope " SLIMSCOPE_VERSION);
    str_puts(out, "</dl>\n");
    out->oom = out->oom || b.oom;
    str_free(&b);
}

/* ---- the decision ---- */

static void level_counts(Session *s, Str *out)
{
    const Model *m = session_model(s);
    str_puts(out, "<div class=\"scroll\"><table><thead><tr><th>level</th><th class=\"n\">linears</th></tr></thead><tbody>\n");
    for (int k = 0; k < session_levels(s); k++) {
        int64_t n = 0;
        for (int64_t i = 0; i < m->nlinears; i++)
            n += session_level_of(s, i) == k;
        str_puts(out, "<tr><td>");
        page_text(out, session_level_name(s, k));
        str_printf(out, "</td><td class=\"n\">%lld</td></tr>\n", (long long)n);
    }
    str_puts(out, "</tbody></table></div>\n");
}

static Status rules(Session *s, Str *out, Error *err)
{
    const WhatIf *list;
    int n;
    RETURN_IF_ERROR(session_whatif_list(s, &list, &n, err));
    if (!n)
        return ST_OK;
    str_puts(out, "<h3>What was changed of the recipe</h3>\n<div class=\"scroll\"><table><thead><tr><th>rule</th><th>gives</th>"
                  "<th class=\"n\">linears</th><th class=\"n\">bytes</th></tr></thead><tbody>\n");
    for (int i = 0; i < n; i++) {
        const WhatIf *w = &list[i];
        str_puts(out, "<tr><td>");
        page_text(out, w->pattern);
        str_puts(out, "</td><td>");
        page_text(out, w->to == WHATIF_QUANTIZE ? "the recipe's level" : session_level_name(s, w->to));
        str_printf(out, "%s</td><td class=\"n\">%lld</td><td class=\"n\">%+lld</td></tr>\n", w->on ? "" : " (off)", (long long)w->hits,
                   (long long)w->bytes);
    }
    str_puts(out, "</tbody></table></div>\n");
    return ST_OK;
}

static void assignment(Session *s, Str *out)
{
    const Model *m = session_model(s);
    const int64_t n = m->nlinears < ROWS_MOST ? m->nlinears : ROWS_MOST;
    str_printf(out, "<details><summary>level of %s linear</summary><div class=\"scroll\"><table><thead><tr><th>linear</th><th>level</th>"
                    "<th class=\"n\">outputs</th><th class=\"n\">inputs</th></tr></thead><tbody>\n", n < m->nlinears ? "the first 2,000" : "each");
    for (int64_t i = 0; i < n; i++) {
        str_puts(out, "<tr><td>");
        page_text(out, m->linears[i].name);
        str_puts(out, "</td><td>");
        page_text(out, session_level_name(s, session_level_of(s, i)));
        str_printf(out, "</td><td class=\"n\">%lld</td><td class=\"n\">%lld</td></tr>\n", (long long)m->linears[i].out,
                   (long long)m->linears[i].in);
    }
    str_puts(out, "</tbody></table></div></details>\n");
}

static Status decision(Session *s, Str *out, Error *err)
{
    Prediction p = session_predict(s);
    if (p.no_memory)
        return error_nomem(err, "the prediction");
    str_puts(out, "<section><h2>The decision</h2>\n<p>");
    str_bytes(out, p.size.bytes);
    str_puts(out, " of ");
    str_bytes(out, p.size.float_bytes);
    str_printf(out, " in float, %.4g bits a weight, %lld of %lld linears quantized.</p>\n<p class=\"dim\">predicted: ", p.size.average_bits,
               (long long)p.size.quantized, (long long)(p.size.quantized + p.size.floats));
    Str text = {0};
    output_prediction(&p, &text);
    page_text(out, str_text(&text));
    out->oom = out->oom || text.oom;
    str_free(&text);
    str_puts(out, "</p>\n");
    level_counts(s, out);
    RETURN_IF_ERROR(rules(s, out, err));
    assignment(s, out);
    str_puts(out, "</section>\n");
    return ST_OK;
}

/* ---- measurements ---- */

static void plus_minus(Str *out, double v, double se)
{
    str_puts(out, "<td class=\"n\">");
    page_number(out, v);
    if (isfinite(se))
        str_printf(out, " &#177; %.2g", se);
    str_puts(out, "</td>");
}

static void measured_row(const Session *s, const Measurement *m, Str *out)
{
    const Effect *e = m->effect;
    SizeReport size;
    int64_t floats = 0;
    for (int64_t i = 0; i < session_model(s)->nlinears; i++)
        floats += m->level[i] == 0;
    str_printf(out, "<tr><td>#%d%s</td><td>", m->id, m->present ? " (present)" : m->base ? " (base)" : "");
    page_text(out, m->recipe ? recipe_name(m->recipe) : "recipe not known");
    str_printf(out, "</td><td class=\"n\">%lld</td><td class=\"n\">", (long long)floats);
    if (session_measurement_size(s, m, &size))
        str_bytes(out, size.bytes);
    str_puts(out, "</td>");
    plus_minus(out, e->kl_mean, e->kl_se);
    plus_minus(out, e->ppl_quant, e->ppl_quant_se);
    page_cell(out, e->ppl_float);
    plus_minus(out, e->top1, e->top1_se);
    page_cell(out, e->kl_p99);
    str_printf(out, "<td class=\"n\">%lld</td><td>%s</td></tr>\n", (long long)e->tokens, arith_name(e->arith));
}

static void measured(Session *s, Str *out)
{
    str_puts(out, "<section><h2>Measured against float</h2>\n");
    if (!session_measurements(s)) {
        str_puts(out, "<p class=\"dim\">Nothing is measured yet.</p></section>\n");
        return;
    }
    str_puts(out, "<div class=\"scroll\"><table><thead><tr><th></th><th>recipe</th><th class=\"n\">float</th><th class=\"n\">size</th>"
                  "<th class=\"n\">KL, nats</th><th class=\"n\">perplexity</th><th class=\"n\">in float</th><th class=\"n\">same first token</th>"
                  "<th class=\"n\">KL, 99 %</th><th class=\"n\">tokens</th><th>arithmetic</th></tr></thead><tbody>\n");
    for (int i = 0; i < session_measurements(s); i++) {
        Measurement m = session_measurement(s, i);
        measured_row(s, &m, out);
    }
    str_puts(out, "</tbody></table></div>\n<p class=\"dim\">Errors are standard errors over blocks of tokens. Differences of KL below 1 to 2 % are "
                  "noise.</p>\n</section>\n");
}

/* ---- rankings ---- */

static void ranking_head(const Metric *m, Str *out)
{
    str_printf(out, "<div class=\"scroll\"><table><thead><tr><th class=\"n\">rank</th><th>%s</th><th class=\"n\">", scope_name(m->scope));
    page_text(out, m->name);
    str_puts(out, "</th>");
    for (int k = 0; k < metric_parts(m); k++) {
        str_puts(out, "<th class=\"n\">");
        page_text(out, m->parts[k].name);
        str_puts(out, "</th>");
    }
    str_printf(out, "<th>%s</th></tr></thead><tbody>\n", m->scope == SCOPE_LINEAR ? "level" : "");
}

static void ranking_row(const Session *s, const Metric *m, const RankedRow *r, Str *name, Str *out)
{
    const double *part = session_unit_parts(s, m, r->unit);
    str_clear(name);
    scope_unit_name(session_model(s), m->scope, r->unit, name);
    str_puts(out, "<tr><td class=\"n\">");
    if (r->rank)
        str_printf(out, "%d", r->rank);
    str_puts(out, "</td><td>");
    page_text(out, str_text(name));
    str_puts(out, "</td>");
    page_cell(out, r->score);
    for (int k = 0; k < metric_parts(m); k++)
        page_cell(out, part ? part[k] : NAN);
    str_puts(out, r->failed ? "<td class=\"warn\">" : "<td class=\"dim\">");
    if (r->reason)
        page_text(out, r->reason);
    else if (m->scope == SCOPE_LINEAR)
        page_text(out, session_level_name(s, session_level_of(s, r->unit)));
    str_puts(out, "</td></tr>\n");
}

static Status ranking(const Session *s, const Metric *m, Str *out, Error *err)
{
    RankedRow *row;
    int64_t n;
    Str name = {0};
    RETURN_IF_ERROR(ranking_make(s, m, NULL, &row, &n, err));
    str_puts(out, "<section><h2>");
    page_text(out, m->title);
    str_puts(out, "</h2>\n<p class=\"dim\">");
    page_text(out, m->explain);
    if (m->loaded) {
        str_puts(out, "</p>\n<p class=\"warn\">Loaded from ");
        page_text(out, m->loaded->file);
    }
    str_printf(out, "</p>\n<p class=\"dim\">%s is more sensitive%s%s.</p>\n", m->direction < 0 ? "Lower" : "Higher", m->unit[0] ? "; unit " : "",
               m->unit);
    ranking_head(m, out);
    for (int64_t i = 0; i < n && i < ROWS_MOST; i++) {
        if (i == ROWS_SHOWN) {
            str_printf(out, "</tbody></table></div>\n<details><summary>%lld more</summary>", (long long)((n < ROWS_MOST ? n : ROWS_MOST) - i));
            ranking_head(m, out);
        }
        ranking_row(s, m, &row[i], &name, out);
    }
    str_printf(out, "</tbody></table></div>%s\n", n > ROWS_SHOWN ? "</details>" : "");
    if (n > ROWS_MOST)
        str_printf(out, "<p class=\"dim\">%lld rows are left out here: rank --format csv has all.</p>\n", (long long)(n - ROWS_MOST));
    str_puts(out, "</section>\n");
    out->oom = out->oom || name.oom;
    str_free(&name);
    free(row);
    return ST_OK;
}

Status page_report(Session *s, Str *out, Error *err)
{
    const Metric *shown = report_metric(s), *other = shown ? report_beside(s, shown) : NULL;
    page_head(out, path_base(session_model(s)->path));
    opened(s, out);
    RETURN_IF_ERROR(decision(s, out, err));
    measured(s, out);
    RETURN_IF_ERROR(page_front(s, out, err));
    if (shown) {
        RETURN_IF_ERROR(page_heat(s, shown, out, err));
        if (other)
            page_scatter(s, shown, other, out);
        RETURN_IF_ERROR(page_layers(s, shown, out, err));
    }
    for (const Metric *const *m = session_metrics(s); *m; m++)
        if (session_has_run(s, *m))
            RETURN_IF_ERROR(ranking(s, *m, out, err));
    page_end(out);
    return out->oom ? error_nomem(err, "the report") : ST_OK;
}
