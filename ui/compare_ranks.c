/* Screen 4: metrics with scores, of this session, of runs that were kept and of files, and two of them side by side. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "src/lang.h"
#include "ui/compare.h"

/* ---- the list ---- */

static void make_list(Ui *ui, Compare *st)
{
    Session *s = ui_session(ui);
    const Metric *const *all = session_metrics(s);
    uint64_t version = session_compare_version(s);
    int n = 0;
    if (st->metric && st->metric_version == version)
        return;
    st->metric_version = version;
    while (all[n])
        n++;
    free(st->metric);
    st->metric = mem_zarray((size_t)n + 1, sizeof *st->metric);
    st->nmetrics = 0;
    for (int i = 0; st->metric && i < n; i++)
        if (session_has_run(s, all[i]))
            st->metric[st->nmetrics++] = all[i];
}

const Metric *compare_metric(Ui *ui, Compare *st)
{
    make_list(ui, st);
    list_clamp(&st->pos[PAGE_METRICS], st->nmetrics, st->seen[PAGE_METRICS]);
    return st->nmetrics ? st->metric[st->pos[PAGE_METRICS].cur] : NULL;
}

enum { M_MARK, M_NAME, M_SCOPE, M_FROM, M_COLUMNS };
static const Column metric_columns[M_COLUMNS] = {
    [M_MARK] = {"", 1, 1, 0, false},
    [M_NAME] = {"scores", 24, 34, 0, false},
    [M_SCOPE] = {"of each", 9, 9, 2, false},
    [M_FROM] = {"made with", 28, 120, 1, false},
};

static const char *mark_of(Session *s, const char *name)
{
    return strcmp(session_marked(s, MARK_A), name) == 0 ? "A" : strcmp(session_marked(s, MARK_B), name) == 0 ? "B" : "";
}

static void draw_metric(Ui *ui, Rect r, const int *w, const Metric *m, bool here)
{
    char cut[200];
    Str from = {0};
    session_scores_from(ui_session(ui), m, &from);
    Pen p = pen_at(ui, r.y, r.x, r.w);
    p.reverse = here;
    pen_char(&p, SL_ROW, here ? ui->term.glyphs.mark : L' ');
    if (here)
        ui_rest_cursor(ui, r.y, r.x);
    for (int c = 0; c < M_COLUMNS; c++) {
        if (!w[c])
            continue;
        pen_puts(&p, SL_ROW, " ");
        if (c == M_MARK)
            pen_cell(&p, SL_TAGGED, w[c], false, mark_of(ui_session(ui), m->name));
        else if (c == M_NAME)
            pen_name(&p, m == session_metric(ui_session(ui)) ? SL_STRONG : SL_ROW, w[c], m->name);
        else if (c == M_SCOPE)
            pen_cell(&p, SL_DIM, w[c], false, tr(scope_name(m->scope)));
        text_cut(cut, sizeof cut, str_text(&from), w[c], ui->term.glyphs.ellipsis);
        if (c == M_FROM)
            pen_cell(&p, SL_DIM, w[c], false, cut);
    }
    pen_fill(&p, SL_ROW);
    str_free(&from);
}

static void draw_title(Ui *ui, Rect r, const Column *c, int n, const int *w)
{
    Pen p = pen_at(ui, r.y, r.x, r.w);
    pen_puts(&p, SL_HEADER, " ");
    for (int i = 0; i < n; i++) {
        if (!w[i])
            continue;
        pen_puts(&p, SL_HEADER, " ");
        pen_cell(&p, SL_HEADER, w[i], c[i].right, tr(c[i].title));
    }
    pen_fill(&p, SL_HEADER);
}

void compare_draw_metrics(Ui *ui, Compare *st, Rect r)
{
    int w[M_COLUMNS], y = r.y + 1;
    Rect in = {r.y, r.x + 2, r.h, r.w - 4};
    st->seen[PAGE_METRICS] = r.h - 1;
    compare_metric(ui, st);
    if (!st->nmetrics) {
        draw_wrapped(ui, in, &y, SL_STRONG, "Nothing is scored yet.");
        y++;
        draw_wrapped(ui, in, &y, SL_TEXT,
                     "r on Rank (1) scores all layers by the shown metric. With another calibration set (:calib FILE) the scores so far "
                     "are kept, to be compared with the new ones; :load scores FILE and :load session ID bring in others.");
        return;
    }
    columns_fit(metric_columns, M_COLUMNS, r.w - 2, w);
    draw_title(ui, r, metric_columns, M_COLUMNS, w);
    const ListPos *pos = &st->pos[PAGE_METRICS];
    for (int i = 1; i < r.h && pos->top + i - 1 < st->nmetrics; i++)
        draw_metric(ui, (Rect){r.y + i, r.x, 1, r.w}, w, st->metric[pos->top + i - 1], pos->top + i - 1 == pos->cur);
}

/* ---- two of them ---- */

void compare_ranks_fini(Compare *st)
{
    free(st->metric);
    free(st->shown);
    if (st->ranked)
        metric_pair_fini(&st->ranks);
    st->ranked = false;
}

/* Whether a row has the same rank in both, but for halves of ties. */
static bool stays(const PairRow *r)
{
    return fabs(r->rank_a - r->rank_b) < 1;
}

static int by_order(const void *a, const void *b, void *of)
{
    const Compare *sorted = of;
    const int64_t i = *(const int64_t *)a, k = *(const int64_t *)b;
    const PairRow *x = &sorted->ranks.row[i], *y = &sorted->ranks.row[k];
    double u = sorted->order == BY_A ? x->rank_a : x->rank_b, v = sorted->order == BY_A ? y->rank_a : y->rank_b;
    return u < v ? -1 : u > v ? 1 : (i > k) - (i < k);
}

void compare_order_ranks(Compare *st)
{
    free(st->shown);
    st->shown = mem_array((size_t)(st->ranked ? st->ranks.n : 0) + 1, sizeof *st->shown);
    st->nshown = 0;
    for (int64_t i = 0; st->shown && st->ranked && i < st->ranks.n; i++)
        if (!st->moved_only || !stays(&st->ranks.row[i]))
            st->shown[st->nshown++] = i;
    if (st->order != BY_MOVE && st->nshown)
        qsort_r(st->shown, (size_t)st->nshown, sizeof *st->shown, by_order, st);
}

/* While scores arrive it is made anew once a second at most. */
void compare_ranks_settle(Ui *ui, Compare *st)
{
    enum { EVERY_NS = 1000000000 };
    Session *s = ui_session(ui);
    uint64_t version = session_compare_version(s);
    bool known = st->ranked || st->rank_why.status != ST_OK;
    if (known && (st->rank_version == version || (session_busy(s) && clock_ns() - st->rank_made < EVERY_NS)))
        return;
    const Metric *a = session_marked_metric(s, MARK_A), *b = session_marked_metric(s, MARK_B);
    if (st->ranked)
        metric_pair_fini(&st->ranks);
    st->rank_version = version;
    st->rank_why = (Error){.status = ST_OK};
    if (!a || !b)
        error_set(&st->rank_why, ST_USAGE, "no two metrics are marked: q leads back to the list");
    st->ranked = a && b && metric_pair(s, a, b, &st->ranks, &st->rank_why) == ST_OK;
    st->rank_made = clock_ns();
    compare_order_ranks(st);
}

static const PairRow *row_at(const Compare *st, int64_t i)
{
    return &st->ranks.row[st->shown[i]];
}

int64_t compare_rank_linear(Ui *ui, const Compare *st)
{
    const Model *m = ui_model(ui);
    int64_t from, to, at = st->pos[PAGE_RANKS].cur;
    if (!st->ranked || at >= st->nshown)
        return -1;
    int64_t unit = row_at(st, at)->unit;
    scope_linears(m, st->ranks.scope, unit, &from, &to);
    while (from < to && scope_unit_of(m, st->ranks.scope, from) != unit)
        from++;
    return from < to ? from : -1;
}

enum { R_A, R_B, R_MOVE, R_NAME, R_VALUE_A, R_VALUE_B, R_COLUMNS };
static const Column rank_columns[R_COLUMNS] = {
    [R_A] = {"A #", 5, 6, 0, true},       [R_B] = {"B #", 5, 6, 0, true},      [R_MOVE] = {"B is", 6, 6, 0, true},
    [R_NAME] = {"layer", 24, 60, 0, false}, [R_VALUE_A] = {"A", 9, 9, 1, true}, [R_VALUE_B] = {"B", 9, 9, 2, true},
};

/* Where B ranks it as seen from A: ^12 higher, v7 lower. */
static void move_text(char *out, size_t size, const PairRow *r)
{
    double up = r->rank_a - r->rank_b;
    if (stays(r))
        snprintf(out, size, "=");
    else
        snprintf(out, size, "%c%g", up > 0 ? '^' : 'v', fabs(up));
}

static void draw_rank(Ui *ui, Rect r, const int *w, const MetricPair *p, const PairRow *row, bool here)
{
    char cell[R_COLUMNS][32];
    Str name = {0};
    snprintf(cell[R_A], 32, "%g", row->rank_a);
    snprintf(cell[R_B], 32, "%g", row->rank_b);
    move_text(cell[R_MOVE], 32, row);
    fmt_score(cell[R_VALUE_A], 32, row->a);
    fmt_score(cell[R_VALUE_B], 32, row->b);
    scope_unit_name(ui_model(ui), p->scope, row->unit, &name);
    Pen pen = pen_at(ui, r.y, r.x, r.w);
    pen.reverse = here;
    pen_char(&pen, SL_ROW, here ? ui->term.glyphs.mark : L' ');
    if (here)
        ui_rest_cursor(ui, r.y, r.x);
    for (int c = 0; c < R_COLUMNS; c++) {
        if (!w[c])
            continue;
        Slot slot = row->why != DISAGREE_NOT ? SL_WARN : stays(row) ? SL_DIM : SL_ROW;
        pen_puts(&pen, SL_ROW, " ");
        if (c == R_NAME)
            pen_name(&pen, slot, w[c], str_text(&name));
        else
            pen_cell(&pen, c == R_MOVE ? slot : SL_ROW, w[c], rank_columns[c].right, cell[c]);
    }
    pen_fill(&pen, SL_ROW);
    str_free(&name);
}

static void put_coefficient(char *out, size_t size, double v)
{
    if (isfinite(v))
        snprintf(out, size, "%.3f", v);
    else
        snprintf(out, size, "?");
}

static void draw_agreement(Ui *ui, const MetricPair *p, Rect r, int *y)
{
    char spearman[16], kendall[16], text[300];
    const Agreement *a = &p->agreement;
    Rect in = {r.y, r.x + 1, r.h, r.w - 2};
    const Metric *const both[] = {p->a, p->b};
    for (int i = 0; i < 2; i++) {
        Str from = {0};
        session_scores_from(ui_session(ui), both[i], &from);
        text_format(text, sizeof text, "%c  %s  %s", i ? 'B' : 'A', both[i]->name, str_text(&from));
        char cut[300];
        text_cut(cut, sizeof cut, text, in.w, ui->term.glyphs.ellipsis);
        draw_wrapped(ui, in, y, i ? SL_ADDED : SL_REMOVED, cut);
        str_free(&from);
    }
    put_coefficient(spearman, sizeof spearman, a->spearman);
    put_coefficient(kendall, sizeof kendall, a->kendall);
    text_format(text, sizeof text, "Spearman %s  Kendall %s  in both: %lld of the top %lld", spearman, kendall,
                (long long)a->both_top, (long long)a->top);
    draw_wrapped(ui, in, y, SL_STRONG, text);
}

const PairRow *compare_rank_row(const Compare *st)
{
    int64_t at = st->pos[PAGE_RANKS].cur;
    return st->ranked && at < st->nshown ? row_at(st, at) : NULL;
}

/* The cause of the cursor's row, where it is known. */
static void why_text(Ui *ui, const Compare *st, Str *out)
{
    const PairRow *r = compare_rank_row(st);
    if (r && r->why != DISAGREE_NOT)
        metric_pair_why(ui_session(ui), &st->ranks, r, out);
}

static void draw_rows(Ui *ui, Compare *st, Rect r)
{
    ListPos *pos = &st->pos[PAGE_RANKS];
    int w[R_COLUMNS];
    columns_fit(rank_columns, R_COLUMNS, r.w - 2, w);
    st->seen[PAGE_RANKS] = r.h - 1;
    list_clamp(pos, st->nshown, st->seen[PAGE_RANKS]);
    draw_title(ui, (Rect){r.y, r.x, 1, r.w}, rank_columns, R_COLUMNS, w);
    for (int y = 1; y < r.h && pos->top + y - 1 < st->nshown; y++)
        draw_rank(ui, (Rect){r.y + y, r.x, 1, r.w}, w, &st->ranks, row_at(st, pos->top + y - 1), pos->top + y - 1 == pos->cur);
    if (!st->nshown) {
        int y = r.y + 1;
        draw_wrapped(ui, (Rect){r.y, r.x + 2, r.h, r.w - 4}, &y, SL_DIM, "Both rank every layer alike; d shows all of them.");
    }
}

void compare_draw_ranks(Ui *ui, Compare *st, Rect r)
{
    enum { WHY_ROWS = 2 };
    int y = r.y;
    compare_ranks_settle(ui, st);
    if (!st->ranked) {
        y++;
        draw_wrapped(ui, (Rect){r.y, r.x + 2, r.h, r.w - 4}, &y, SL_ERR, st->rank_why.text);
        return;
    }
    Str why = {0};
    list_clamp(&st->pos[PAGE_RANKS], st->nshown, st->seen[PAGE_RANKS]);
    why_text(ui, st, &why);
    draw_agreement(ui, &st->ranks, r, &y);
    int below = why.len ? WHY_ROWS : 0;
    draw_rows(ui, st, (Rect){y, r.x, r.y + r.h - y - below, r.w});
    y = r.y + r.h - below;
    if (below)
        draw_wrapped(ui, (Rect){y, r.x + 1, below, r.w - 2}, &y, SL_WARN, str_text(&why));
    str_free(&why);
}
