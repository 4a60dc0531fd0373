/* Rankings as text for people, JSON, CSV and YAML. */
#include "src/output.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "metric/sampleparts.h"
#include "text/csv.h"

/* Order of a ranking; direction is folded into the score by the caller. */
static int by_rank(const void *pa, const void *pb)
{
    const RankedRow *a = pa, *b = pb;
    if (a->failed != b->failed)
        return a->failed ? -1 : 1;
    if (a->unseen != b->unseen)
        return a->unseen ? 1 : -1;
    if (!a->failed && !a->unseen && a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return a->unit < b->unit ? -1 : a->unit > b->unit;
}

/* Marks the scored rows whose scores do not differ surely from those above them. */
static void mark_ties(const Session *s, const Metric *m, RankedRow *rows, int64_t n)
{
    int part = metric_error_part(m);
    for (int64_t i = 1; part >= 0 && i < n; i++) {
        if (!rows[i].rank || !rows[i - 1].rank)
            continue;
        double above = rows[i - 1].score * m->direction, here = rows[i].score * m->direction;
        rows[i].tied = errors_meet(above, session_unit_parts(s, m, rows[i - 1].unit)[part], here,
                                   session_unit_parts(s, m, rows[i].unit)[part]);
    }
}

/* ranking_make, and its counts. */
static Status make_rows(const Session *s, const Metric *m, const bool *selected, RankedRow **out, RankCount *count,
                        Error *err)
{
    *count = (RankCount){0};
    const Model *model = session_model(s);
    int64_t units = scope_units(model, m->scope), k = 0;
    RankedRow *rows = mem_zarray((size_t)units + 1, sizeof *rows);
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
        rows[k++] = (RankedRow){.unit = i, .parameters = parameters, .failed = failed, .unseen = unseen,
                              .score = failed || unseen ? (double)NAN : sc.value * m->direction,
                              .reason = failed && !sc.reason ? "the score is not finite" : sc.reason};
    }
    qsort(rows, (size_t)k, sizeof *rows, by_rank);
    int rank = 0;
    for (int64_t i = 0; i < k; i++) {
        if (!rows[i].failed && !rows[i].unseen) {
            rows[i].score *= m->direction;
            rows[i].rank = ++rank;
        }
    }
    mark_ties(s, m, rows, k);
    *out = rows;
    return ST_OK;
}

/* Rows of a ranking: those that have a score, failed or were not seen. */
static int64_t rows_of(const RankCount *c)
{
    return c->scored + c->failed + c->unseen;
}

Status ranking_make(const Session *s, const Metric *m, const bool *selected, RankedRow **out, int64_t *n, Error *err)
{
    RankCount count;
    RETURN_IF_ERROR(make_rows(s, m, selected, out, &count, err));
    *n = rows_of(&count);
    return ST_OK;
}

int64_t ranking_cut(const RankedRow *rows, int64_t n, int topk)
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
    RankedRow *rows;
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

/* Whether a stopped analysis gave every unit a score of the texts until then: how many, of how many. */
static bool some_texts(const Session *s, const Metric *m, int64_t *done, int64_t *total)
{
    const char *step;
    return !m->pass->has && !m->pass->stream && session_stopped(s, done, total, &step) && step == m->pass->step &&
           strcmp(step, "text") == 0 && *done < *total;
}

/* The arithmetics in which the rows that have a score were made. */
static unsigned rows_ariths(const Session *s, const Metric *m, const RankedRow *rows, int64_t n)
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

/* What each unit was fed, NULL where that isn't said. */
static const char *inputs_text(const Session *s, const Metric *m)
{
    return m->pass->inputs[session_options(s)->peer];
}

/* Schemes a score depends on, for metrics that look at quantization errors: the recipe's, or that of the analysis. */
static bool scheme_text(const Session *s, const Metric *m, Str *out)
{
    const Recipe *r = session_recipe(s);
    bool sees = !metric_any_level(m) && (m->pass != &pass_statistics || m->needs & NEED_WEIGHT);
    QConfig q;
    str_clear(out);
    if (m->loaded)
        return false;
    if (m->pass->fixed || (sees && session_scheme(s, m->pass, &q))) {
        char text[80] = "";
        if (!m->pass->fixed)
            qconfig_describe(&q, text, sizeof text);
        str_puts(out, m->pass->fixed ? m->pass->fixed : text);
        return true;
    }
    if (!sees || !r || recipe_entries(r) == 0)
        return false;
    for (int i = 0; i < recipe_entries(r); i++) {
        char text[80];
        qconfig_describe(&recipe_entry(r, i)->q, text, sizeof text);
        str_printf(out, "%s%s", i ? ", " : "", text);
    }
    return true;
}

/* scope_unit_pattern; what quantizes no linears is told by the unit's own name. */
static bool unit_pattern(const Model *model, const Metric *m, int64_t unit, int32_t k, Str *out)
{
    if (!m->pass->fixed)
        return scope_unit_pattern(model, m->scope, unit, k, out);
    str_clear(out);
    scope_unit_name(model, m->scope, unit, out);
    return k == 0;
}

/* Rows without a score, which are no candidates for anything. */
static void failed_text(const Model *model, const Metric *m, const RankedRow *rows, int64_t n, Str *out)
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

/* The score's further numbers: " | sqnr 31.2 dB". */
static void parts_text(const Session *s, const Metric *m, int64_t unit, Str *out)
{
    const double *part = session_unit_parts(s, m, unit);
    for (int k = 0; part && k < metric_parts(m); k++)
        if (!isnan(part[k]))
            str_printf(out, "%s%s %.4g%s%s", k ? ", " : " | ", m->parts[k].name, part[k], m->parts[k].unit[0] ? " " : "",
                       m->parts[k].unit);
}

static void parts_json(const Session *s, const Metric *m, int64_t unit, Str *out)
{
    const double *part = session_unit_parts(s, m, unit);
    for (int k = 0; part && k < metric_parts(m); k++) {
        str_printf(out, "%s\"%s\":", k ? "," : ",\"parts\":{", m->parts[k].name);
        str_double(out, part[k]);
    }
    str_puts(out, part ? "}" : "");
}

/* How a metric that quantizes was made: its scheme, what units were fed, the arithmetic. */
static void how_text(const Session *s, const Metric *m, const RankedRow *rows, int64_t n, Str *out)
{
    Str text = {0};
    if (!inputs_text(s, m))
        return;
    str_printf(out, "Scheme: %s", scheme_text(s, m, &text) ? str_text(&text) : "none");
    str_printf(out, "; inputs: %s; arithmetic: ", inputs_text(s, m));
    str_clear(&text);
    unsigned set = rows_ariths(s, m, rows, n);
    arith_names(set ? set : 1u << session_options(s)->arith, &text);
    str_printf(out, "%s\n", str_text(&text));
    out->oom = out->oom || text.oom;
    str_free(&text);
}

/* The text block of specs/analysis.md 7, without the peer's log prefixes; a ranking that lacks something says so. */
static void ranking_text(const Session *s, const Metric *m, const RankRequest *r, const RankedRow *rows, int64_t n,
                         const RankCount *count, Str *out)
{
    const Model *model = session_model(s);
    static const char line[] = "--------------------------------------------------------------------------------\n";
    int64_t cut = ranking_cut(rows, n, r->topk), shown = cut - count->failed, missing = missing_rows(count), done, total;
    Str name = {0};
    bool other = ariths_text(rows_ariths(s, m, rows, n), &name);
    rows += count->failed;
    str_printf(out, "=== Layer Analysis Results (%s method) ===\nPatterns analyzed: [",
               m->peer_name ? m->peer_name : m->name);
    for (int i = 0; i < r->npatterns; i++) {
        str_puts(out, i ? ", " : "");
        python_repr(out, r->patterns[i]);
    }
    str_puts(out, r->npatterns ? "]\n" : "'*']\n");
    str_printf(out, "Total layers analyzed: %lld", (long long)(count->scored + count->failed));
    if (missing)
        str_printf(out, " of %lld", (long long)count->wanted);
    str_putc(out, '\n');
    if (m->loaded)
        str_printf(out, "%s: %s\n", m->loaded->kept ? "Kept of a run" : "Loaded from", m->loaded->file);
    if (m->family == FAMILY_INPUT && !m->loaded && !session_options(s)->peer)
        str_printf(out, "%s describes inputs and does not rank damage: block_error does\n", m->name);
    if (other && !inputs_text(s, m))
        str_printf(out, "Arithmetic: %s\n", str_text(&name));
    if (!m->loaded) {
        str_clear(&name);
        work_name_changes(session_recipe(s), &name);
        if (name.len)
            str_printf(out, "Model: as %s of %s make%s it\n", str_text(&name), recipe_name(session_recipe(s)),
                       strchr(str_text(&name), ',') ? "" : "s");
    }
    how_text(s, m, rows - count->failed, n, out);
    str_printf(out, "Layer Sensitivity Scores (%s score = more sensitive to quantization):\n",
               m->direction < 0 ? "lower" : "higher");
    str_puts(out, line);
    failed_text(model, m, rows - count->failed, count->failed, out);
    for (int64_t i = 0; i < shown; i++) {
        str_clear(&name);
        scope_unit_name(model, m->scope, rows[i].unit, &name);
        str_printf(out, "%3lld. %-50s | Score: %12.4e", (long long)i + 1, str_text(&name), rows[i].score);
        bool peers = session_options(s)->peer && inputs_text(s, m); /* a text that others read */
        if (!peers)
            parts_text(s, m, rows[i].unit, out);
        str_puts(out, !peers && rows[i].tied ? ", may rank with the one above\n" : "\n");
    }
    str_puts(out, line);
    str_printf(out,
               "Top %lld most sensitive layers selected for disable_names\n\n=== YAML Format for quantization ===\n\n",
               (long long)shown);
    str_printf(out, "top %lld:\n", (long long)shown);
    for (int64_t i = 0; i < shown; i++) {
        if (m->scope == SCOPE_LINEAR) /* as the peer: without what it is fused with */
            str_printf(out, "  - '%s'\n", model->linears[rows[i].unit].name);
        for (int32_t k = 0; m->scope != SCOPE_LINEAR && unit_pattern(model, m, rows[i].unit, k, &name); k++)
            str_printf(out, "  - '%s'\n", str_text(&name));
    }
    out->oom = out->oom || name.oom;
    str_free(&name);
    str_puts(out, "\n=== End of YAML Format ===\n");
    if (!missing && r->stopped && some_texts(s, m, &done, &total))
        str_printf(out, "===========ANALYSIS STOPPED: all have scores, of %lld of %lld texts===========\n", (long long)done,
                   (long long)total);
    else if (!missing)
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

static void ranking_json(Session *s, const Metric *m, const RankedRow *rows, int64_t n, const RankCount *count, Str *out)
{
    int64_t done, total;
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
    if (m->loaded) {
        str_puts(out, ",\"arithmetic\":null,\"loaded\":");
        str_json(out, m->loaded->file);
    } else {
        arith_json(set, session_options(s)->arith, out);
        output_changes_json(session_recipe(s), out);
    }
    if (inputs_text(s, m)) {
        str_puts(out, ",\"inputs\":");
        str_json(out, inputs_text(s, m));
    }
    str_puts(out, ",\"calibration\":");
    if (m->pass->data_free)
        str_puts(out, "null");
    else
        output_data_json(&d, "samples", out);
    if (!m->pass->data_free)
        coverage_json(s, out);
    bool part = missing_rows(count) || some_texts(s, m, &done, &total);
    str_puts(out, part ? ",\"complete\":false,\"layers\":[" : ",\"layers\":[");
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
        parts_json(s, m, rows[i].unit, out);
        if (rows[i].tied)
            str_puts(out, ",\"tied\":true");
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

static void ranking_csv(const Session *s, const Metric *m, const RankedRow *rows, int64_t n, Str *out)
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
        str_putc(out, ',');
        const double *part = session_unit_parts(s, m, rows[i].unit);
        for (int k = 0; part && k < metric_parts(m); k++) {
            str_printf(out, "%s%s=", k ? " " : "", m->parts[k].name);
            str_double(out, part[k]);
        }
        str_putc(out, ',');
        csv_field(out, scheme_text(s, m, &text) ? str_text(&text) : "");
        str_printf(out, ",%s\n", inputs_text(s, m) ? inputs_text(s, m) : "");
    }
    out->oom = out->oom || text.oom;
    str_free(&text);
}

/* A ready `exclude:` list: the first topk groups of scores, fused groups completed so that the set can be deployed. */
static Status ranking_yaml(const Session *s, const Metric *m, const RankRequest *r, const RankedRow *rows, int64_t n,
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
    if (inputs_text(s, m) && scheme_text(s, m, &pattern))
        str_printf(out, "# scheme %s, inputs %s\n", str_text(&pattern), inputs_text(s, m));
    str_puts(out, shown > count->failed ? "exclude:\n" : "exclude: []\n");
    for (int64_t i = count->failed; i < shown; i++) {
        int32_t group = m->scope == SCOPE_LINEAR ? model->linears[rows[i].unit].group : -1;
        if (group >= 0 && done[group])
            continue;
        for (int32_t k = 0; unit_pattern(model, m, rows[i].unit, k, &pattern); k++)
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
        str_puts(out, "metric,rank,name,score,group,kind,parameters,reason,arithmetic,parts,scheme,inputs\n");
    if (f == OUT_JSON && nmetrics > 1)
        str_puts(out, "{\"runs\":[\n");
    for (int i = 0; i < nmetrics; i++) {
        RankedRow *rows;
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
