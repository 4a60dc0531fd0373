/* compare metrics: two rankings of a session side by side. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "session/comparing.h"
#include "session/disagree.h"
#include "src/compare.h"

enum { ROWS_SHOWN = 10 };

Status compare_rows(const CommandLine *cl, int64_t *rows, Error *err)
{
    *rows = cl_int(cl, "topk", ROWS_SHOWN);
    return *rows > 0 ? ST_OK : error_set(err, ST_USAGE, "--topk needs a number of rows, 1 or more");
}

/* ---- agreement ---- */

static void coefficient(Str *out, const char *name, double v)
{
    if (isfinite(v))
        str_printf(out, "%s %.3f, ", name, v);
    else
        str_printf(out, "%s not defined (all scores are equal), ", name);
}

void output_agreement(const Agreement *a, Str *out)
{
    coefficient(out, "Spearman", a->spearman);
    coefficient(out, "Kendall tau-b", a->kendall);
    str_printf(out, "in both: %lld of the top tenth (%lld)", (long long)a->both_tenth, (long long)a->tenth);
    if (a->top != a->tenth)
        str_printf(out, ", %lld of the top %lld", (long long)a->both_top, (long long)a->top);
    str_printf(out, " (Jaccard %.2f)", agree_jaccard(a->both_top, a->top));
}

static void number_json(Str *out, const char *name, double v)
{
    str_printf(out, ",\"%s\":", name);
    str_double(out, v);
}

void output_agreement_json(const Agreement *a, Str *out)
{
    str_printf(out, ",\"both\":%lld", (long long)a->n);
    number_json(out, "spearman", a->spearman);
    number_json(out, "kendall", a->kendall);
    str_printf(out, ",\"tenth\":{\"size\":%lld,\"both\":%lld", (long long)a->tenth, (long long)a->both_tenth);
    number_json(out, "jaccard", agree_jaccard(a->both_tenth, a->tenth));
    str_printf(out, "},\"top\":{\"size\":%lld,\"both\":%lld", (long long)a->top, (long long)a->both_top);
    number_json(out, "jaccard", agree_jaccard(a->both_top, a->top));
    str_putc(out, '}');
}

/* ---- two metrics ---- */

static Status find_metric(const Session *s, const char *name, const Metric **out, Error *err)
{
    const Metric *const *all = session_metrics(s);
    const char **names = calloc(metric_list_len(all) + 1, sizeof *names);
    if (!names)
        return error_nomem(err, "a list of metrics");
    for (int i = 0; all[i]; i++)
        names[i] = all[i]->name;
    const char *near = nearest_name(name, names);
    *out = session_metric_find(s, name);
    if (!*out)
        error_set(err, ST_USAGE, "there is no metric '%s'%s%s: 'help analyses' tells them all", name,
                  near ? "; nearest: " : "", near ? near : "");
    free(names);
    return *out ? ST_OK : ST_USAGE;
}

static void put_why(const Session *s, const MetricPair *p, const PairRow *r, Str *out)
{
    Str why = {0};
    metric_pair_why(s, p, r, &why);
    str_puts(out, str_text(&why));
    out->oom = out->oom || why.oom;
    str_free(&why);
}

static void put_origin(const Session *s, const Metric *m, const char *letter, Str *out)
{
    str_printf(out, "%s  %s  ", letter, m->name);
    session_scores_from(s, m, out);
    str_putc(out, '\n');
}

static void pair_text(const Session *s, const MetricPair *p, int64_t rows, Str *out)
{
    str_printf(out, "%s against %s, over %lld of %lld %ss", p->a->name, p->b->name, (long long)p->n, (long long)p->units,
               scope_name(p->scope));
    if (p->a->scope != p->b->scope)
        str_printf(out, " (one has the largest %s of its linears)", (p->a->scope == p->scope ? p->b : p->a)->name);
    str_putc(out, '\n');
    put_origin(s, p->a, "A", out);
    put_origin(s, p->b, "B", out);
    output_agreement(&p->agreement, out);
    str_printf(out, "\n%16.16s       # %16.16s       #    moved  layer\n", p->a->name, p->b->name);
    for (int64_t i = 0; i < p->n && i < rows; i++) {
        const PairRow *r = &p->row[i];
        str_printf(out, "%16.6g %7g %16.6g %7g %+8g  ", r->a, r->rank_a, r->b, r->rank_b, r->rank_a - r->rank_b);
        scope_unit_name(session_model(s), p->scope, r->unit, out);
        str_putc(out, '\n');
        if (r->why != DISAGREE_NOT) {
            str_puts(out, "        ");
            put_why(s, p, r, out);
            str_putc(out, '\n');
        }
    }
    if (p->n > rows)
        str_printf(out, "      ... and %lld more that moved less\n", (long long)(p->n - rows));
}

static void pair_json(const Session *s, const MetricPair *p, Str *out)
{
    Str name = {0};
    str_puts(out, "{\"a\":");
    str_json(out, p->a->name);
    str_puts(out, ",\"b\":");
    str_json(out, p->b->name);
    str_printf(out, ",\"scope\":\"%s\",\"units\":%lld", scope_name(p->scope), (long long)p->units);
    output_agreement_json(&p->agreement, out);
    number_json(out, "median_ratio", p->agreement.median_ratio);
    str_puts(out, ",\"rows\":[");
    for (int64_t i = 0; i < p->n; i++) {
        const PairRow *r = &p->row[i];
        str_clear(&name);
        scope_unit_name(session_model(s), p->scope, r->unit, &name);
        str_puts(out, i ? ",\n{\"name\":" : "\n{\"name\":");
        str_json(out, str_text(&name));
        number_json(out, "a", r->a);
        number_json(out, "rank_a", r->rank_a);
        number_json(out, "b", r->b);
        number_json(out, "rank_b", r->rank_b);
        if (r->why != DISAGREE_NOT) {
            str_clear(&name);
            metric_pair_why(s, p, r, &name);
            str_puts(out, ",\"reason\":");
            str_json(out, str_text(&name));
        }
        str_putc(out, '}');
    }
    str_puts(out, "]}\n");
    out->oom = out->oom || name.oom;
    str_free(&name);
}

Status compare_metrics(App *a, const CommandLine *cl, OutFormat f, Str *out, Error *err)
{
    const Metric *m[2];
    int64_t rows;
    MetricPair p;
    bool marked = cl->nwords < 2;
    RETURN_IF_ERROR(want_words(cl, marked ? 0 : 3, 3, err));
    RETURN_IF_ERROR(compare_rows(cl, &rows, err));
    for (int i = 0; i < 2; i++)
        if (!marked)
            RETURN_IF_ERROR(find_metric(a->session, cl->words[1 + i], &m[i], err));
        else if (!(m[i] = session_marked_metric(a->session, i)))
            return error_set(err, ST_USAGE, "no metric is marked %c: compare mark %c METRIC", "AB"[i], "AB"[i]);
    if (m[0] == m[1])
        return error_set(err, ST_USAGE, "both are %s", m[0]->name);
    RETURN_IF_ERROR(metric_pair(a->session, m[0], m[1], &p, err));
    if (f == OUT_JSON)
        pair_json(a->session, &p, out);
    else
        pair_text(a->session, &p, rows, out);
    metric_pair_fini(&p);
    return ST_OK;
}
