#include "src/output.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/file.h"

OutFormat out_format(const char *name)
{
    static const char *const names[] = {
        [OUT_TEXT] = "text", [OUT_JSON] = "json", [OUT_CSV] = "csv", [OUT_YAML] = "yaml"};
    for (int i = 0; name && i < 4; i++)
        if (strcmp(name, names[i]) == 0)
            return (OutFormat)i;
    return OUT_TEXT;
}

void str_double(Str *out, double v)
{
    char buf[40];
    if (!isfinite(v)) {
        str_puts(out, "null");
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(buf, sizeof buf, "%.*g", digits, v);
        if (strtod(buf, NULL) == v)
            break;
    }
    str_puts(out, buf);
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

/* ---- ranking ---- */

/* Order of a ranking; direction is folded into the score by the caller. */
static int by_rank(const void *pa, const void *pb)
{
    const RankRow *a = pa, *b = pb;
    if (a->failed != b->failed)
        return a->failed ? -1 : 1;
    if (a->unseen != b->unseen)
        return a->unseen ? 1 : -1;
    if (!a->failed && !a->unseen && a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return a->unit < b->unit ? -1 : a->unit > b->unit;
}

/* ranking_make, and its counts. */
static Status make_rows(const Session *s, const Metric *m, const bool *selected, RankRow **out, RankCount *count,
                        Error *err)
{
    *count = (RankCount){0};
    const Model *model = session_model(s);
    int64_t units = scope_units(model, m->scope), k = 0;
    RankRow *rows = mem_zarray((size_t)units + 1, sizeof *rows);
    if (!rows)
        return error_nomem(err, "a ranking");
    for (int64_t i = 0; i < model->nlinears; i++) {
        int64_t unit = scope_unit_of(model, m->scope, i);
        if (unit >= 0)
            rows[unit].parameters += model->linears[i].out * model->linears[i].in;
        if (unit >= 0 && (!selected || selected[i]))
            rows[unit].rank = 1; /* wanted */
    }
    for (int64_t i = 0; i < units; i++) {
        int64_t parameters = rows[i].parameters;
        if (!rows[i].rank)
            continue;
        count->wanted++;
        Score sc = session_unit_score(s, m, i);
        bool failed = sc.state == SCORE_FAILED || (sc.state == SCORE_OK && !isfinite(sc.value));
        bool unseen = sc.state == SCORE_NONE && sc.reason;
        if (!failed && !unseen && sc.state != SCORE_OK && sc.state != SCORE_STALE)
            continue;
        count->failed += failed;
        count->unseen += unseen;
        count->scored += !failed && !unseen;
        rows[k++] = (RankRow){i, parameters, failed, unseen, failed || unseen ? (double)NAN : sc.value * m->direction,
                              failed && !sc.reason ? "the score is not finite" : sc.reason, 0};
    }
    qsort(rows, (size_t)k, sizeof *rows, by_rank);
    int rank = 0;
    for (int64_t i = 0; i < k; i++) {
        if (!rows[i].failed && !rows[i].unseen) {
            rows[i].score *= m->direction;
            rows[i].rank = ++rank;
        }
    }
    *out = rows;
    return ST_OK;
}

/* Rows of a ranking: those that have a score, failed or were not seen. */
static int64_t rows_of(const RankCount *c)
{
    return c->scored + c->failed + c->unseen;
}

Status ranking_make(const Session *s, const Metric *m, const bool *selected, RankRow **out, int64_t *n, Error *err)
{
    RankCount count;
    RETURN_IF_ERROR(make_rows(s, m, selected, out, &count, err));
    *n = rows_of(&count);
    return ST_OK;
}

int64_t ranking_cut(const RankRow *rows, int64_t n, int topk)
{
    int64_t i = 0;
    while (i < n && rows[i].failed)
        i++;
    for (int groups = 0; i < n && !rows[i].unseen; i++) {
        if (i == 0 || rows[i - 1].failed || rows[i].score != rows[i - 1].score)
            groups++;
        if (groups > topk)
            break;
    }
    return i;
}

Status ranking_count(const Session *s, const Metric *m, const bool *selected, RankCount *out, Error *err)
{
    RankRow *rows;
    RETURN_IF_ERROR(make_rows(s, m, selected, &rows, out, err));
    free(rows);
    return ST_OK;
}

/* A string as Python's repr() writes it: the peer prints its pattern list so. */
static void python_repr(Str *out, const char *s)
{
    char q = strchr(s, '\'') && !strchr(s, '"') ? '"' : '\'';
    str_putc(out, q);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == (unsigned char)q || c == '\\')
            str_printf(out, "\\%c", c);
        else if (c == '\t')
            str_puts(out, "\\t");
        else if (c < 0x20 || c == 0x7f)
            str_printf(out, "\\x%02x", c);
        else
            str_putc(out, (char)c);
    }
    str_putc(out, q);
}

/* Units that no pass came by. */
static int64_t missing_rows(const RankCount *c)
{
    return c->wanted - rows_of(c);
}

/* The arithmetics in which the rows that have a score were made. */
static unsigned rows_ariths(const Session *s, const Metric *m, const RankRow *rows, int64_t n)
{
    unsigned set = 0;
    for (int64_t i = 0; i < n; i++)
        set |= session_unit_ariths(s, m, rows[i].unit);
    return set;
}

/* What to say of them beside the figures: nothing when it is the default's. */
static bool ariths_text(unsigned set, Str *out)
{
    str_clear(out);
    if (!(set & ~1u))
        return false;
    arith_names(set, out);
    return true;
}

/* Rows without a score, which are no candidates for anything. */
static void failed_text(const Model *model, const Metric *m, const RankRow *rows, int64_t n, Str *out)
{
    enum { MOST = 15 };
    Str name = {0};
    int64_t failed = 0;
    for (; failed < n && rows[failed].failed; failed++) {
        if (failed >= MOST)
            continue;
        str_clear(&name);
        scope_unit_name(model, m->scope, rows[failed].unit, &name);
        str_printf(out, "  !  %-50s | no score: %s\n", str_text(&name), rows[failed].reason);
    }
    if (failed > MOST)
        str_printf(out, "  !  and %lld more without a score\n", (long long)(failed - MOST));
    out->oom = out->oom || name.oom;
    str_free(&name);
}

/* The text block of specs/analysis.md 7, without the peer's log prefixes; a ranking that lacks something says so. */
static void ranking_text(const Session *s, const Metric *m, const RankRequest *r, const RankRow *rows, int64_t n,
                         const RankCount *count, Str *out)
{
    const Model *model = session_model(s);
    static const char line[] = "--------------------------------------------------------------------------------\n";
    int64_t cut = ranking_cut(rows, n, r->topk), shown = cut - count->failed, missing = missing_rows(count);
    Str name = {0};
    bool other = ariths_text(rows_ariths(s, m, rows, n), &name);
    rows += count->failed;
    str_printf(out, "=== Layer Analysis Results (%s method) ===\nPatterns analyzed: [", m->name);
    for (int i = 0; i < r->npatterns; i++) {
        str_puts(out, i ? ", " : "");
        python_repr(out, r->patterns[i]);
    }
    str_puts(out, r->npatterns ? "]\n" : "'*']\n");
    str_printf(out, "Total layers analyzed: %lld", (long long)(count->scored + count->failed));
    if (missing)
        str_printf(out, " of %lld", (long long)count->wanted);
    str_putc(out, '\n');
    if (other)
        str_printf(out, "Arithmetic: %s\n", str_text(&name));
    str_printf(out, "Layer Sensitivity Scores (%s score = more sensitive to quantization):\n",
               m->direction < 0 ? "lower" : "higher");
    str_puts(out, line);
    failed_text(model, m, rows - count->failed, count->failed, out);
    for (int64_t i = 0; i < shown; i++) {
        str_clear(&name);
        scope_unit_name(model, m->scope, rows[i].unit, &name);
        str_printf(out, "%3lld. %-50s | Score: %12.4e\n", (long long)i + 1, str_text(&name), rows[i].score);
    }
    str_puts(out, line);
    str_printf(out,
               "Top %lld most sensitive layers selected for disable_names\n\n=== YAML Format for quantization ===\n\n",
               (long long)shown);
    str_printf(out, "top %lld:\n", (long long)shown);
    for (int64_t i = 0; i < shown; i++) {
        if (m->scope == SCOPE_LINEAR) /* as the peer: without what it is fused with */
            str_printf(out, "  - '%s'\n", model->linears[rows[i].unit].name);
        for (int32_t k = 0; m->scope != SCOPE_LINEAR && scope_unit_pattern(model, m->scope, rows[i].unit, k, &name); k++)
            str_printf(out, "  - '%s'\n", str_text(&name));
    }
    out->oom = out->oom || name.oom;
    str_free(&name);
    str_puts(out, "\n=== End of YAML Format ===\n");
    if (!missing)
        str_puts(out, "===========ANALYSIS COMPLETE===========\n");
    else
        str_printf(out, "===========ANALYSIS %s: %lld of %lld===========\n", r->stopped ? "STOPPED" : "PARTIAL",
                   (long long)(count->wanted - missing), (long long)count->wanted);
}

/* The fused group a linear is in, or nothing for a linear alone and for other units. */
static bool group_of(const Model *m, const Metric *metric, int64_t unit, Str *out)
{
    str_clear(out);
    if (metric->scope != SCOPE_LINEAR || m->groups[m->linears[unit].group].count < 2)
        return false;
    scope_unit_name(m, SCOPE_GROUP, m->linears[unit].group, out);
    return true;
}

static const char *kind_of(const Model *m, const Metric *metric, int64_t unit)
{
    return metric->scope == SCOPE_LINEAR ? linear_kind_name(m->linears[unit].kind) : scope_name(metric->scope);
}

/* Schemes a score depends on: the recipe's, for metrics that look at quantization errors. */
static bool scheme_text(const Session *s, const Metric *m, Str *out)
{
    const Recipe *r = session_recipe(s);
    bool sees = m->pass != &pass_statistics || m->needs & NEED_WEIGHT;
    if (!sees || !r || recipe_entries(r) == 0)
        return false;
    for (int i = 0; i < recipe_entries(r); i++) {
        char text[80];
        qconfig_describe(&recipe_entry(r, i)->q, text, sizeof text);
        str_printf(out, "%s%s", i ? ", " : "", text);
    }
    return true;
}

static void data_json(Str *out, const DataInfo *d, const char *count)
{
    str_puts(out, "{\"name\":");
    str_json(out, d->name ? path_base(d->name) : "");
    str_puts(out, ",\"sha256\":");
    str_json(out, d->sha256);
    str_printf(out, ",\"%s\":%d,\"tokens\":%lld}", count, d->samples, (long long)d->tokens);
}

/* ,"experts":{…} of a pass that came by routed experts */
static void coverage_json(const Session *s, Str *out)
{
    Coverage c;
    if (!session_coverage(s, &c))
        return;
    str_printf(out, ",\"experts\":{\"measured\":%lld,\"unseen\":%lld,\"fewest\":%lld,\"median\":",
               (long long)(c.experts - c.unseen), (long long)c.unseen, (long long)c.fewest_tokens);
    str_double(out, c.median);
    str_putc(out, '}');
}

/* ,"arithmetic":... of units that were scored in one; several: "mixed", and each row names its own. */
static void arith_json(unsigned set, ArithMode none, Str *out)
{
    Str names = {0};
    arith_names(set ? set : 1u << none, &names);
    str_puts(out, ",\"arithmetic\":");
    str_json(out, set & (set - 1) ? "mixed" : str_text(&names));
    out->oom = out->oom || names.oom;
    str_free(&names);
}

static void ranking_json(Session *s, const Metric *m, const RankRow *rows, int64_t n, const RankCount *count, Str *out)
{
    const Model *model = session_model(s);
    Str text = {0};
    DataInfo d = session_calib_info(s);
    unsigned set = rows_ariths(s, m, rows, n);
    str_puts(out, "{\"model\":");
    str_json(out, model->path);
    str_puts(out, ",\"metric\":");
    str_json(out, m->name);
    str_puts(out, ",\"scheme\":");
    if (scheme_text(s, m, &text))
        str_json(out, str_text(&text));
    else
        str_puts(out, "null");
    arith_json(set, session_options(s)->arith, out);
    str_puts(out, ",\"calibration\":");
    data_json(out, &d, "samples");
    coverage_json(s, out);
    str_puts(out, missing_rows(count) ? ",\"complete\":false,\"layers\":[" : ",\"layers\":[");
    for (int64_t i = 0; i < n; i++) {
        int64_t tokens = session_unit_tokens(s, m, rows[i].unit);
        str_puts(out, i ? ",\n{\"rank\":" : "\n{\"rank\":");
        if (rows[i].rank)
            str_printf(out, "%d", rows[i].rank);
        else
            str_puts(out, "null");
        str_puts(out, ",\"name\":");
        str_clear(&text);
        scope_unit_name(model, m->scope, rows[i].unit, &text);
        str_json(out, str_text(&text));
        str_puts(out, ",\"score\":");
        str_double(out, rows[i].score);
        str_puts(out, ",\"group\":");
        if (group_of(model, m, rows[i].unit, &text))
            str_json(out, str_text(&text));
        else
            str_puts(out, "null");
        out->oom = out->oom || text.oom;
        str_puts(out, ",\"kind\":");
        str_json(out, kind_of(model, m, rows[i].unit));
        str_printf(out, ",\"parameters\":%lld", (long long)rows[i].parameters);
        if (tokens >= 0)
            str_printf(out, ",\"tokens\":%lld", (long long)tokens);
        if (set & (set - 1))
            arith_json(session_unit_ariths(s, m, rows[i].unit), session_options(s)->arith, out);
        if (rows[i].reason) {
            str_puts(out, ",\"reason\":");
            str_json(out, rows[i].reason);
        }
        str_putc(out, '}');
    }
    str_puts(out, "\n]");
    out->oom = out->oom || text.oom;
    str_free(&text);
}

/* A CSV field, quoted where it must be (RFC 4180). */
static void csv_field(Str *out, const char *s)
{
    if (!strpbrk(s, ",\"\r\n")) {
        str_puts(out, s);
        return;
    }
    str_putc(out, '"');
    for (; *s; s++) {
        if (*s == '"')
            str_putc(out, '"');
        str_putc(out, *s);
    }
    str_putc(out, '"');
}

static void ranking_csv(const Session *s, const Metric *m, const RankRow *rows, int64_t n, Str *out)
{
    const Model *model = session_model(s);
    Str text = {0};
    for (int64_t i = 0; i < n; i++) {
        str_printf(out, "%s,", m->name);
        if (rows[i].rank)
            str_printf(out, "%d", rows[i].rank);
        str_putc(out, ',');
        str_clear(&text);
        scope_unit_name(model, m->scope, rows[i].unit, &text);
        csv_field(out, str_text(&text));
        str_putc(out, ',');
        if (isfinite(rows[i].score))
            str_double(out, rows[i].score);
        str_putc(out, ',');
        if (group_of(model, m, rows[i].unit, &text))
            csv_field(out, str_text(&text));
        str_printf(out, ",%s,%lld,", kind_of(model, m, rows[i].unit), (long long)rows[i].parameters);
        csv_field(out, rows[i].reason ? rows[i].reason : "");
        str_putc(out, ',');
        arith_names(session_unit_ariths(s, m, rows[i].unit), out);
        str_putc(out, '\n');
    }
    out->oom = out->oom || text.oom;
    str_free(&text);
}

/* A ready `exclude:` list: the first topk groups of scores, fused groups completed so that the set can be deployed. */
static Status ranking_yaml(const Session *s, const Metric *m, const RankRequest *r, const RankRow *rows, int64_t n,
                           const RankCount *count, Str *out, Error *err)
{
    const Model *model = session_model(s);
    bool *done = mem_zarray((size_t)model->ngroups + 1, sizeof *done);
    if (!done)
        return error_nomem(err, "an exclude list");
    int64_t shown = ranking_cut(rows, n, r->topk), missing = missing_rows(count);
    if (missing)
        str_printf(out, "# %s: %lld of %lld have a score\n", r->stopped ? "stopped" : "partial",
                   (long long)(count->wanted - missing), (long long)count->wanted);
    Str pattern = {0};
    if (ariths_text(rows_ariths(s, m, rows, n), &pattern))
        str_printf(out, "# %s arithmetic\n", str_text(&pattern));
    str_puts(out, shown > count->failed ? "exclude:\n" : "exclude: []\n");
    for (int64_t i = count->failed; i < shown; i++) {
        int32_t group = m->scope == SCOPE_LINEAR ? model->linears[rows[i].unit].group : -1;
        if (group >= 0 && done[group])
            continue;
        for (int32_t k = 0; scope_unit_pattern(model, m->scope, rows[i].unit, k, &pattern); k++)
            str_printf(out, "  - '%s'\n", str_text(&pattern));
        if (group >= 0)
            done[group] = true;
    }
    out->oom = out->oom || pattern.oom;
    str_free(&pattern);
    free(done);
    return ST_OK;
}

Status output_ranking(Session *s, OutFormat f, const RankRequest *r, Str *out, Error *err)
{
    int nmetrics = 0;
    while (r->metrics[nmetrics])
        nmetrics++;
    if (f == OUT_YAML && nmetrics > 1)
        return error_set(err, ST_USAGE, "--format yaml writes one exclude list: ask for one metric, not %d", nmetrics);
    if (f == OUT_CSV)
        str_puts(out, "metric,rank,name,score,group,kind,parameters,reason,arithmetic\n");
    if (f == OUT_JSON && nmetrics > 1)
        str_puts(out, "{\"runs\":[\n");
    for (int i = 0; i < nmetrics; i++) {
        RankRow *rows;
        RankCount count;
        RETURN_IF_ERROR(make_rows(s, r->metrics[i], r->selected, &rows, &count, err));
        int64_t n = rows_of(&count);
        Status st = ST_OK;
        if (i && f != OUT_CSV)
            str_puts(out, f == OUT_JSON ? ",\n" : "\n");
        if (f == OUT_TEXT)
            ranking_text(s, r->metrics[i], r, rows, n, &count, out);
        else if (f == OUT_JSON)
            ranking_json(s, r->metrics[i], rows, n, &count, out);
        else if (f == OUT_CSV)
            ranking_csv(s, r->metrics[i], rows, n, out);
        else
            st = ranking_yaml(s, r->metrics[i], r, rows, n, &count, out, err);
        if (f == OUT_JSON && nmetrics > 1)
            str_putc(out, '}');
        free(rows);
        RETURN_IF_ERROR(st);
    }
    if (f == OUT_JSON) {
        str_puts(out, nmetrics > 1 ? "\n]" : "");
        output_profile_json(r->profile, out);
        str_puts(out, "}\n");
    }
    return out->oom ? error_nomem(err, "the result's text") : ST_OK;
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

void output_prediction(const Prediction *p, Str *out)
{
    if (!p->have) {
        str_puts(out, "nothing: local_error is not known for every layer (analyze local_error)");
        return;
    }
    if (p->calibrated)
        str_printf(out, "KL %.4g", p->kl);
    if (isfinite(p->band))
        str_printf(out, " +- %.2g", p->band);
    if (p->calibrated)
        str_printf(out, " from %d measurement%s", p->measurements, p->measurements == 1 ? " (error unknown)" : "s");
    else
        str_puts(out, "no KL before a measurement");
    str_printf(out, "; %.1f %% of the local error given back", 100 * p->share_back);
}

static void number_json(Str *out, const char *name, double v)
{
    str_printf(out, ",\"%s\":", name);
    str_double(out, v);
}

void output_prediction_json(const Prediction *p, Str *out)
{
    str_printf(out, ",\"prediction\":{\"measurements\":%d", p->measurements);
    number_json(out, "kl", p->kl);
    number_json(out, "error", p->band);
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

/* The bootstrap error of a mean; one text alone has none. */
static void plus_minus(Str *out, const char *number, double se)
{
    char text[32];
    snprintf(text, sizeof text, number, se);
    str_printf(out, isfinite(se) ? " +- %s" : " (error unknown: too few texts)", text);
}

static void effect_text(Session *s, const Effect *e, Str *out)
{
    const Recipe *r = session_recipe(s);
    DataInfo ev = session_eval_info(s), ca = session_calib_info(s);
    Prediction p = session_predict(s);
    str_printf(out, "=== Measured effect of quantization ===\nmodel            %s\n", session_model(s)->path);
    str_printf(out, "recipe           %s\nassignment       ", recipe_name(r));
    levels_text(s, out);
    str_printf(out, "\narithmetic       %s\n", arith_name(e->arith));
    str_printf(out, "calibration      %s: %d texts, %lld tokens\n", path_base(ca.name), ca.samples,
               (long long)ca.tokens);
    str_printf(out, "evaluation       %s: %d windows, %lld tokens, %lld predicted\n", path_base(ev.name), e->texts,
               (long long)e->tokens, (long long)e->predicted);
    str_printf(out, "KL divergence    %.4e", e->kl_mean);
    plus_minus(out, "%.1e", e->kl_se);
    str_printf(out, " nats per token (median %.2e, 99 %% below %.2e, max %.2e)\n", e->kl_median, e->kl_p99, e->kl_max);
    str_printf(out, "same top token   %.2f %%", 100 * e->top1);
    plus_minus(out, "%.2f", 100 * e->top1_se);
    str_printf(out, "\nperplexity       float %.3f, quantized %.3f (", e->ppl_float, e->ppl_quant);
    change_text(out, e);
    str_printf(out, ")\noutput MSE       %.4e", e->out_mse);
    plus_minus(out, "%.1e", e->out_mse_se);
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
    if (e->from_cache)
        str_puts(out, "computed         nothing: measured before\n");
    else
        str_printf(out, "computed         %d layers from layer %d on, %.1f s\n", e->layers_run, e->first_layer_run,
                   e->seconds);
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
    str_puts(out, ",\"arithmetic\":");
    str_json(out, arith_name(e->arith));
    str_puts(out, ",\"calibration\":");
    data_json(out, &ca, "samples");
    str_puts(out, ",\"evaluation\":");
    data_json(out, &ev, "windows");
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
