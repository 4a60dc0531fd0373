#include "ui/detail.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "session/fold.h"
#include "src/lang.h"
#include "ui/plot.h"

static void line(Ui *ui, Rect r, int *y, Slot slot, const char *text)
{
    if (*y >= r.y + r.h)
        return;
    Pen p = pen_at(ui, *y, r.x, r.w);
    pen_puts(&p, slot, tr(text));
    (*y)++;
}

static const QConfig *config_of(Session *s, int64_t linear)
{
    const Recipe *r = session_recipe(s);
    int level = session_level_of(s, linear);
    if (level == 0)
        level = 1;
    return r && level - 1 < recipe_entries(r) ? &recipe_entry(r, level - 1)->q : NULL;
}

static void draw_identity(Ui *ui, Rect r, int *y, int64_t i)
{
    Session *s = ui_session(ui);
    const Model *m = ui_model(ui);
    const Linear *l = &m->linears[i];
    const FusedGroup *g = &m->groups[l->group];
    char buf[400], name[300], cost[24], bytes[24];
    text_elide(name, sizeof name, l->name, r.w, ui->term.glyphs.ellipsis);
    line(ui, r, y, SL_STRONG, name);
    int level = session_level_of(s, i);
    uint64_t size = session_recipe(s) ? recipe_linear_bytes(session_recipe(s), m, i, level, session_options(s)->peer) : 0;
    fmt_bytes(bytes, sizeof bytes, (double)size);
    fmt_delta(cost, sizeof cost, session_linear_cost(s, i));
    snprintf(buf, sizeof buf, "%lldx%lld %s%s %s%s%s%s", (long long)l->out, (long long)l->in,
             session_level_name(s, level), level == 0 ? " (X)" : "", bytes, tr(level == 0 ? ", costs " : ", float "), cost,
             session_tagged(s, i) ? tr("  *tagged") : "");
    draw_wrapped(ui, r, y, SL_TEXT, buf);
    if (g->count < 2)
        return;
    if (l->expert >= 0) {
        text_format(buf, sizeof buf, "group %s: all %d linears of the layer's %d experts", g->label, g->count,
                 m->cfg.moe.experts);
        draw_wrapped(ui, r, y, SL_DIM, buf);
        return;
    }
    int n = text_format(buf, sizeof buf, "group %s:", g->label);
    for (int k = 0; k < g->count && n < (int)sizeof buf - 40; k++) {
        const char *full = m->linears[group_linear(g, k)].name, *base = strrchr(full, '.');
        n += snprintf(buf + n, sizeof buf - (size_t)n, " %s", base ? base + 1 : full);
    }
    draw_wrapped(ui, r, y, SL_DIM, buf);
}

static Slot score_line(Session *s, const Metric *m, int64_t i, char *buf, size_t size)
{
    Score sc = session_score(s, m, i);
    char v[24], rank[32] = "";
    fmt_score(v, sizeof v, sc.value);
    switch (sc.state) {
    case SCORE_NONE:
        if (sc.reason)
            text_format(buf, size, "%s ? not measured: %s", m->name, sc.reason);
        else
            text_format(buf, size, "%s ? not measured; r runs it", m->name);
        return SL_DIM;
    case SCORE_QUEUED: text_format(buf, size, "%s queued", m->name); return SL_DIM;
    case SCORE_FAILED: snprintf(buf, size, "%s ! %s", m->name, sc.reason ? sc.reason : tr("failed")); return SL_FAILED;
    case SCORE_OK:
    case SCORE_STALE: break;
    }
    if (m == session_metric(s) && session_rank(s, i) > 0)
        snprintf(rank, sizeof rank, "  #%lld", (long long)session_rank(s, i));
    Str of = {0};
    if (m->scope != SCOPE_LINEAR) { /* of itself alone: the pane has its name at the top */
        scope_unit_name(session_model(s), m->scope, scope_unit_of(session_model(s), m->scope, i), &of);
        if (strcmp(str_text(&of), session_model(s)->linears[i].name) == 0)
            str_clear(&of);
    }
    bool unit = m->unit && *m->unit;
    snprintf(buf, size, "%s %s%s%s%s%s%s%s", m->name, v, unit ? " " : "", unit ? m->unit : "", of.len ? tr(" of ") : "",
             str_text(&of), rank, sc.state == SCORE_STALE ? tr(" s stale") : "");
    str_free(&of);
    return sc.state == SCORE_STALE ? SL_STALE : SL_TEXT;
}

/* The arithmetic behind a score, when it is another than the one that is set. */
static void draw_made_in(Ui *ui, Rect r, int *y, const Metric *m, int64_t i)
{
    Session *s = ui_session(ui);
    int64_t unit = scope_unit_of(session_model(s), m->scope, i);
    unsigned set = unit < 0 ? 0 : session_unit_ariths(s, m, unit);
    Str names = {0};
    char buf[120];
    if (!set || set == 1u << session_options(s)->arith)
        return;
    arith_names(set, &names);
    text_format(buf, sizeof buf, "scored in %s arithmetic", str_text(&names));
    draw_wrapped(ui, r, y, SL_STALE, buf);
    str_free(&names);
}

/* The further numbers of a score, behind the picture. Few of them with what each is; of many that stands below (draw_part_words). */
enum { PARTS_TOLD = 4 };
static void draw_parts(Ui *ui, Rect r, int *y, const Metric *m, int64_t linear)
{
    Session *s = ui_session(ui);
    int64_t unit = m && m->parts ? scope_unit_of(session_model(s), m->scope, linear) : -1;
    const double *part = unit < 0 ? NULL : session_unit_parts(s, m, unit);
    const int n = part ? metric_parts(m) : 0;
    Str text = {0};
    if (n)
        line(ui, r, y, SL_HEADER, "parts of the score");
    for (int k = 0; k < n; k++) {
        char value[24];
        const MetricPart *p = &m->parts[k];
        fmt_value(value, sizeof value, part[k]);
        str_printf(&text, "%s%s %s%s%s", text.len ? "  " : "", p->name, value, p->unit[0] ? " " : "", p->unit);
        if (n > PARTS_TOLD)
            continue;
        str_printf(&text, ": %s", p->text);
        draw_wrapped(ui, r, y, SL_TEXT, str_text(&text));
        str_clear(&text);
    }
    if (text.len)
        draw_wrapped(ui, r, y, SL_TEXT, str_text(&text));
    str_free(&text);
}

static void draw_part_words(Ui *ui, Rect r, int *y, const Metric *m)
{
    for (int k = 0; metric_parts(m) > PARTS_TOLD && k < metric_parts(m); k++) {
        char text[240];
        snprintf(text, sizeof text, "%s: %s", m->parts[k].name, m->parts[k].text);
        draw_wrapped(ui, r, y, SL_DIM, text);
    }
}

static void draw_shown(Ui *ui, Rect r, int *y, const Metric *shown, int64_t i)
{
    char buf[400];
    if (!shown)
        return;
    Slot slot = score_line(ui_session(ui), shown, i, buf, sizeof buf);
    draw_wrapped(ui, r, y, slot == SL_TEXT ? SL_STRONG : slot, buf);
    draw_made_in(ui, r, y, shown, i);
}

/* What the other metrics say, after each other: behind the picture of the input, which tells more. */
static void draw_others(Ui *ui, Rect r, int *y, const Metric *shown, int64_t i)
{
    Session *s = ui_session(ui);
    char buf[400];
    Str others = {0};
    const Metric *const *all = ui_metrics(ui);
    for (int k = 0; all[k]; k++) {
        const Metric *m = all[k];
        ScoreState state = session_score(s, m, i).state;
        if (m == shown || m->scope != SCOPE_LINEAR || state == SCORE_NONE || state == SCORE_QUEUED)
            continue;
        score_line(s, m, i, buf, sizeof buf);
        str_printf(&others, "%s%s", others.len ? "  " : "", buf);
    }
    if (others.len)
        line(ui, r, y, SL_HEADER, "other metrics");
    draw_wrapped(ui, r, y, SL_DIM, str_text(&others));
    str_free(&others);
}

static void moments(char *out, size_t size, double min, double max, double mean, double std)
{
    char a[24], b[24], c[24], d[24];
    fmt_value(a, sizeof a, min);
    fmt_value(b, sizeof b, max);
    fmt_value(c, sizeof c, mean);
    fmt_value(d, sizeof d, std);
    snprintf(out, size, "%s..%s mean %s std %s", a, b, c, d);
}

/* Why the input quantizes badly or well: channels far from the others, and how few of the codes its values get. `bad`: what is bad of
 * that, else the rest. */
static void draw_reasons(Ui *ui, Rect r, int *y, const TapSummary *in, const char *steps, const HistGrid *grid, bool bad)
{
    char step[24], wide[24], buf[240];
    const int codes = histview_codes_holding(&in->hist, grid, 0.99, NULL), all = grid->hi - grid->lo + 1;
    if (in->channel_max && in->std > 0 && (plot_outliers(in, buf, sizeof buf) > 0) == bad)
        draw_wrapped(ui, r, y, bad ? SL_OUTLIER : SL_DIM, buf);
    if (codes == 0 || (codes * 16 < all) != bad)
        return;
    fmt_value(step, sizeof step, grid->step);
    fmt_value(wide, sizeof wide, in->std / grid->step);
    text_format(buf, sizeof buf, "99 %% of the values round to %d of %d codes; an %s step is %s, std %s steps", codes, all, steps, step, wide);
    draw_wrapped(ui, r, y, bad ? SL_OUTLIER : SL_DIM, buf);
}

static void draw_hist(Ui *ui, Rect r, int *y, int rows, const HistDraw *v)
{
    int left = r.y + r.h - *y;
    Sheet c;
    if (rows > left)
        rows = left;
    if (rows < 5 || v->h->n == 0 || canvas_init(&c, r.w, rows, ui->term.glyphs.hist, NULL) != ST_OK)
        return;
    c.vline = ui->term.glyphs.vline;
    if (ui->plot.table)
        plot_table(&c, 0, rows, v);
    else
        plot_bars(&c, 0, rows, v);
    ui_canvas(ui, *y, r.x, &c);
    canvas_fini(&c);
    *y += rows;
}

/* How many of the set's tokens the router sent to this expert. */
static void draw_routed(Ui *ui, Rect r, int *y, int64_t tokens)
{
    char buf[120], n[24], all[24];
    int64_t total = session_calib_info(ui_session(ui)).tokens;
    fmt_count(n, sizeof n, tokens);
    fmt_count(all, sizeof all, total);
    if (total > 0)
        text_format(buf, sizeof buf, "routed here: %s of %s tokens", n, all);
    else
        text_format(buf, sizeof buf, "routed here: %s tokens", n);
    draw_wrapped(ui, r, y, tokens ? SL_DIM : SL_WARN, buf);
}

static void draw_input(Ui *ui, Rect r, int *y, int rows, const LinearResult *res, const QConfig *q)
{
    const TapSummary *in = &res->in;
    char buf[200], m[160], n[24];
    if (ui_model(ui)->linears[res->linear].expert >= 0)
        draw_routed(ui, r, y, in->rows);
    if (session_unseen(ui_session(ui), res->linear))
        return;
    fmt_count(n, sizeof n, in->rows);
    text_format(buf, sizeof buf, "input%s: %s x %lld, %d texts",
             ui->plot.table    ? ""
             : ui->plot.linear ? " (linear)"
                               : " (log)",
             n, (long long)in->width, in->samples);
    draw_wrapped(ui, r, y, SL_HEADER, buf);
    if (in->bad)
        draw_wrapped(ui, r, y, SL_FAILED, in->bad_text);
    moments(m, sizeof m, in->min, in->max, in->mean, in->std);
    draw_wrapped(ui, r, y, SL_TEXT, m);
    const char *steps = "int8";
    HistGrid grid = q ? plot_act_grid(q, in, &steps) : (HistGrid){0, 0, 0};
    HistDraw v = {.h = &in->hist, .min = in->min, .max = in->max, .grid = grid, .steps = steps, .linear = ui->plot.linear, .mean = in->mean,
                  .std = in->std};
    if (!ui->plot.table)
        draw_reasons(ui, r, y, in, steps, &grid, true);
    draw_hist(ui, r, y, rows, &v);
    if (ui->plot.table)
        draw_reasons(ui, r, y, in, steps, &grid, true);
    draw_reasons(ui, r, y, in, steps, &grid, false);
}

static void draw_weight(Ui *ui, Rect r, int *y, int rows, const LinearResult *res)
{
    const WeightSummary *w = &res->weight;
    char m[160];
    if (w->hist.n == 0)
        return;
    line(ui, r, y, SL_HEADER, "weight");
    if (w->bad)
        draw_wrapped(ui, r, y, SL_FAILED, w->bad_text);
    moments(m, sizeof m, w->min, w->max, w->mean, w->std);
    draw_wrapped(ui, r, y, SL_TEXT, m);
    HistDraw v = {.h = &w->hist, .min = w->min, .max = w->max, .steps = "", .linear = ui->plot.linear, .mean = w->mean, .std = w->std};
    draw_hist(ui, r, y, rows, &v);
}

/* Of which model the histograms are, where there are two. */
static void draw_changes(Ui *ui, Rect r, int *y, bool before, bool known)
{
    char buf[200];
    Str names = {0};
    work_name_changes(session_recipe(ui_session(ui)), &names);
    if (names.len && before && !known)
        text_format(buf, sizeof buf, "before %s: not watched with these texts (A: behind)", str_text(&names));
    else
        text_format(buf, sizeof buf, before ? "before %s (A: behind)" : "behind %s (A: before)", str_text(&names));
    if (names.len)
        draw_wrapped(ui, r, y, SL_HEADER, buf);
    str_free(&names);
}

/* Lines of a histogram with its axis, and how many it may grow to; a table has more bins than fit beside each other. */
enum { HIST_ROWS = 9, HIST_MOST = 14, TABLE_ROWS = 19, TABLE_MOST = 27 };

static int content(Ui *ui, Rect r, int64_t linear, int spare)
{
    Session *s = ui_session(ui);
    int y = r.y;
    if (linear < 0) {
        line(ui, r, &y, SL_DIM, "no row");
        return y;
    }
    draw_identity(ui, r, &y, linear);
    const bool before = ui->plot.before && work_change(session_recipe(s), 0);
    const LinearResult *res = before ? session_result_before(s, linear) : session_result(s, linear);
    const Metric *m = session_metric(s);
    draw_shown(ui, r, &y, m, linear);
    detail_standing(ui, r, &y, linear);
    draw_changes(ui, r, &y, before, res != NULL);
    if (res) {
        int least = ui->plot.table ? TABLE_ROWS : HIST_ROWS, most = ui->plot.table ? TABLE_MOST : HIST_MOST;
        int grow = (spare + 1) / 2, weight = spare - grow;
        draw_input(ui, r, &y, least + grow < most ? least + grow : most, res, config_of(s, linear));
        draw_parts(ui, r, &y, m, linear);
        draw_others(ui, r, &y, m, linear);
        draw_weight(ui, r, &y, least + weight < most ? least + weight : most, res);
    } else {
        draw_parts(ui, r, &y, m, linear);
        draw_others(ui, r, &y, m, linear);
    }
    if (m && m->explain) {
        y++;
        draw_wrapped(ui, r, &y, SL_DIM, m->explain);
        draw_part_words(ui, r, &y, m);
    }
    return y;
}

enum { TALL = 1 << 20 };

int detail_lines(Ui *ui, Rect r, DetailContent *content_of, int64_t what)
{
    Rect tall = {r.y, r.x + 1, TALL, r.w - 1};
    draw_clip(ui, 0, 0);
    int lines = content_of(ui, tall, what, 0) - r.y;
    draw_clip(ui, 0, ui->rows);
    return lines;
}

bool detail_move(Scroll *pos, Motion m)
{
    ListPos p = {.cur = pos->top};
    int64_t last = pos->lines - pos->page + 1;
    bool moved = list_move(&p, m, last > 1 ? last : 1, pos->page);
    pos->top = (int)p.cur;
    return moved;
}

void detail_scrolled(Ui *ui, Rect r, DetailContent *content_of, int64_t what, Scroll *pos, const char *keys)
{
    if (r.h < 1 || r.w < 10)
        return;
    Rect tall = {r.y, r.x + 1, TALL, r.w - 1};
    pos->lines = detail_lines(ui, r, content_of, what);
    bool over = pos->lines > r.h;
    pos->page = over ? r.h - 1 : r.h;
    int last = pos->lines > pos->page ? pos->lines - pos->page : 0;
    pos->top = pos->top > last ? last : pos->top < 0 ? 0 : pos->top;
    draw_clip(ui, r.y, r.y + pos->page);
    tall.y = r.y - pos->top;
    content_of(ui, tall, what, over ? 0 : r.h - pos->lines);
    draw_clip(ui, 0, ui->rows);
    if (!over)
        return;
    LineParts l = {.n = 0};
    part_add(&l, SL_HEADER, 0, "lines %d-%d of %d", pos->top + 1, pos->top + pos->page, pos->lines);
    part_add(&l, SL_HEADER, 1, "%s", keys);
    Pen p = pen_at(ui, r.y + r.h - 1, r.x + 1, r.w - 1);
    pen_parts(&p, SL_HEADER, &l, 0);
    pen_fill(&p, SL_HEADER);
}

void detail_draw(Ui *ui, Rect r, int64_t linear, Scroll *pos, const char *keys)
{
    if (ui->plot.kind != PLOT_ALL && linear >= 0)
        plot_pane(ui, r, linear);
    else
        detail_scrolled(ui, r, content, linear, pos, keys);
}
