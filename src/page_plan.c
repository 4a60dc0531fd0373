/* The tries of a tuning plan as a page. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "src/output_plan.h"
#include "src/page.h"
#include "tune/trials.h"

enum { PLAN_W = 620, PLAN_H = 360, LEFT = 64, BOTTOM = 42 };

/* The figure of the first expectation; false: it has none. */
static bool figure_of(const Loop *l, int i, double *out)
{
    int n;
    const Expectation *e = plan_demand(loop_options(l)->plan, &n);
    const LoopTry *t = loop_try(l, i);
    const Accuracy *a = t->known ? eval_result_of(&t->result, e->dataset) : NULL;
    if (a)
        *out = decimal_value(&a->value);
    return a && t->bytes;
}

static void plan_point(const Loop *l, int i, const Axis *ax, const Axis *ay, Str *out)
{
    const LoopTry *t = loop_try(l, i);
    double v;
    if (!figure_of(l, i, &v))
        return;
    double x = axis_place(ax, (double)t->bytes / 1048576), y = axis_place(ay, v);
    Str text = {0};
    str_printf(&text, "try %d, %s: ", t->number, t->practice->id);
    plan_accuracies(t, &text);
    str_printf(out, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\">", i == loop_best(l) ? "q" : "p", x, y);
    svg_title(out, str_text(&text));
    str_printf(out, "</circle><text x=\"%.1f\" y=\"%.1f\">%d</text>\n", x + 7, y - 6, t->number);
    if (trials_on_front(l, i))
        str_printf(out, "<circle class=\"h\" cx=\"%.1f\" cy=\"%.1f\" r=\"7.5\"/>\n", x, y);
    out->oom = out->oom || text.oom;
    str_free(&text);
}

/* Figure over size, with what is demanded as a line. */
static void plan_front(const Loop *l, Str *out)
{
    int n, ne;
    const Expectation *e = plan_demand(loop_options(l)->plan, &ne);
    double lo[2] = {INFINITY, INFINITY}, hi[2] = {-INFINITY, -INFINITY}, v;
    n = 0;
    for (int i = 0; i < loop_tries(l); i++)
        if (figure_of(l, i, &v)) {
            axis_extend((double)loop_try(l, i)->bytes / 1048576, &lo[0], &hi[0]);
            axis_extend(v, &lo[1], &hi[1]);
            n++;
        }
    if (n < 2)
        return;
    const double want = e->at_most ? decimal_value(&e->target) : decimal_value(&e->target) - decimal_value(&e->tolerance);
    if (!e->relative)
        axis_extend(want, &lo[1], &hi[1]);
    const Axis ax = axis_of(lo[0], hi[0], LEFT, PLAN_W - 14), ay = axis_of(lo[1], hi[1], PLAN_H - BOTTOM, 24);
    str_puts(out, "<section><h2>");
    page_text(out, e->dataset);
    str_puts(out, " over size</h2>\n<p class=\"dim\">Orange: the best try. Ringed: no other is smaller and as good. The line is what is "
                  "demanded.</p>\n");
    svg_open(out, PLAN_W, PLAN_H, "what each try gave over its size");
    svg_axis_x(out, &ax, PLAN_H - BOTTOM, "MiB");
    svg_axis_y(out, &ay, LEFT, e->dataset);
    if (!e->relative)
        str_printf(out, "<path class=\"f\" d=\"M%d %.1fH%d\"/>\n", LEFT, axis_place(&ay, want), PLAN_W - 14);
    for (int i = 0; i < loop_tries(l); i++)
        plan_point(l, i, &ax, &ay, out);
    str_puts(out, "</svg>\n</section>\n");
}

static void cell(Str *out, bool number, const char *text)
{
    str_puts(out, number ? "<td class=\"n\">" : "<td>");
    page_text(out, text);
    str_puts(out, "</td>");
}

static void plan_row(const Loop *l, int i, Str *out)
{
    const LoopTry *t = loop_try(l, i);
    char text[80];
    Str found = {0};
    str_printf(out, "<tr><td class=\"n\">%s%d%s</td>", i == loop_best(l) ? "<b>" : "", t->number, i == loop_best(l) ? "</b>" : "");
    cell(out, false, t->practice->id);
    cell(out, false, t->practice->anti);
    snprintf(text, sizeof text, "%lld of %lld", (long long)t->floats, (long long)t->linears);
    cell(out, true, t->linears ? text : "");
    snprintf(text, sizeof text, "%.2f", (double)t->bytes / 1048576);
    cell(out, true, t->bytes ? text : "");
    plan_accuracies(t, &found);
    cell(out, false, str_text(&found));
    cell(out, false, !t->known ? "" : t->result.satisfied ? "met" : "missed");
    snprintf(text, sizeof text, "%.1f", t->seconds);
    cell(out, true, t->cached ? "known" : text);
    snprintf(text, sizeof text, "%.1f", t->result.seconds);
    cell(out, true, t->known ? text : "");
    str_puts(out, "</tr>\n");
    out->oom = out->oom || found.oom;
    str_free(&found);
}

/* A text of several lines: page_text takes one. */
static void page_lines(Str *out, const char *text, size_t len)
{
    for (const char *end = text + len, *p = text; p < end;) {
        size_t n = strcspn(p, "\n");
        char *line = strndup(p, n);
        if (line)
            page_text(out, line);
        else
            out->oom = true;
        str_putc(out, '\n');
        free(line);
        p += n + 1;
    }
}

static void plan_patterns(const Loop *l, Str *out)
{
    const int best = loop_best(l);
    const Practice *p = best >= 0 ? loop_try(l, best)->practice : NULL;
    if (!p)
        return;
    str_puts(out, "<section><h2>The best recipe: ");
    page_text(out, p->id);
    str_printf(out, "</h2>\n<details><summary>%d pattern%s in float</summary>\n<ul>\n", p->npatterns, p->npatterns == 1 ? "" : "s");
    for (int i = 0; i < p->npatterns; i++) {
        str_puts(out, "<li><code>");
        page_text(out, p->patterns[i]);
        str_puts(out, "</code></li>\n");
    }
    str_puts(out, p->npatterns ? "</ul></details>\n<pre>" : "<li>none</li></ul></details>\n<pre>");
    page_lines(out, p->text, p->len);
    str_puts(out, "</pre>\n</section>\n");
}

static void plan_head(const AutotuneView *v, Str *out)
{
    int n;
    const Expectation *e = plan_demand(loop_options(v->loop)->plan, &n);
    Str want = {0};
    page_head(out, path_base(v->plan));
    str_puts(out, "<h1>");
    page_text(out, path_base(v->plan));
    str_puts(out, "</h1>\n<p>");
    page_text(out, v->text);
    str_puts(out, "</p>\n<dl>\n<dt>strategy</dt><dd>");
    page_text(out, v->strategy);
    str_puts(out, "</dd>\n<dt>evaluated by</dt><dd>");
    page_text(out, v->evaluator);
    str_puts(out, "</dd>\n");
    for (int i = 0; i < n; i++) {
        str_clear(&want);
        trials_expectation(&e[i], &want);
        str_puts(out, "<dt>");
        page_text(out, e[i].dataset);
        str_puts(out, "</dt><dd>");
        page_text(out, str_text(&want));
        str_puts(out, "</dd>\n");
    }
    str_puts(out, "</dl>\n");
    out->oom = out->oom || want.oom;
    str_free(&want);
}

static Status page_plan(const AutotuneView *v, Str *out, Error *err)
{
    plan_head(v, out);
    plan_front(v->loop, out);
    str_puts(out, "<section><h2>Tries</h2>\n<div class=\"scroll\"><table>\n<tr><th class=\"n\">try</th><th>recipe</th><th>suppression</th>"
                  "<th class=\"n\">linears in float</th><th class=\"n\">MiB</th><th>found</th><th>demand</th>"
                  "<th class=\"n\">s to quantize</th><th class=\"n\">s to evaluate</th></tr>\n");
    for (int i = 0; i < loop_tries(v->loop); i++)
        plan_row(v->loop, i, out);
    str_puts(out, "</table></div></section>\n");
    plan_patterns(v->loop, out);
    page_end(out);
    return out->oom ? error_nomem(err, "a page") : ST_OK;
}

Status page_plan_write(const AutotuneView *v, Error *err)
{
    Str text = {0};
    char *path = path_join(v->save_path, "report.html");
    Status st = path ? page_plan(v, &text, err) : error_nomem(err, "a path");
    if (st == ST_OK)
        st = file_write_atomic(path, str_text(&text), text.len, err);
    free(path);
    str_free(&text);
    return st;
}
