/* The rows of the Rank screen: which columns there is room for, what their cells say, how they are drawn. */
#include "ui/rank.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metric/sampleparts.h"
#include "session/columns.h"
#include "src/lang.h"

static const Column columns[COLUMNS] = {
    [C_RANK] = {"#", 3, 3, 0, true},
    [C_STATE] = {"S", 2, 2, 0, false},
    [C_NAME] = {"layer", 25, 46, 0, false},
    [C_COUNT] = {"n", 0, 0, 0, true},
    [C_SCORE] = {"score", SCORE_WIDTH, SCORE_WIDTH, 0, true},
    [C_MEAN] = {"mean", 0, 0, 0, true},
    [C_INTERVAL] = {"95%", 0, 0, 8, true},
    [C_BAR] = {"bar", 4, 40, 9, false},
    [C_SECOND] = {"", 0, 0, 1, true},
    [C_SECOND_RANK] = {"#2", 0, 0, 2, true},
    [C_LEVEL] = {"level", 5, 5, 6, false},
    [C_COST] = {"cost", 6, 6, 5, true},
    [C_GROUP] = {"grp", 3, 3, 7, false},
    [C_KIND] = {"kind", 0, 0, 4, false},
    [C_ADVICE] = {"advice", 0, 0, 3, false},
};
/* What a folded table's names need at least, on a wide screen with room for the marks, and the width of such a one. */
enum { FOLDED_NAME = 19, FOLDED_NAME_WIDE = 27, FOLDED_WIDE = 76 };

Pattern *rank_pattern(const char *text)
{
    Pattern *p = NULL;
    if (strpbrk(text, "*?{[") && pattern_compile(&p, text, NULL) != ST_OK)
        p = NULL;
    return p;
}

/* Share of a score's bar, logarithmic over at most four decades; none for what isn't above zero. */
static double bar_share(const Rank *st, double v)
{
    double high = st->range.high, low = fmax(st->range.low, high * 1e-4);
    if (!(v > 0) || !(high > 0))
        return 0;
    if (!(high > low) || v <= low)
        return v < high ? 0.04 : 1;
    return 0.04 + 0.96 * log(v / low) / log(high / low);
}

/* Bytes that every name begins with, up to a dot: left out where names would not fit. */
static size_t common_prefix(const Model *m)
{
    const char *first = m->linears[0].name, *dot = strchr(first, '.');
    size_t n = dot ? (size_t)(dot - first) + 1 : 0;
    for (int64_t i = 1; i < m->nlinears && n > 0; i++) {
        if (strncmp(m->linears[i].name, first, n) != 0)
            n = 0;
    }
    return n;
}

/* What the name column leaves out of each name at this width. All names are looked at once for a model. */
static size_t name_skip(Ui *ui, Rank *st, int width)
{
    const Model *m = ui_model(ui);
    if (strcmp(st->model, m->fingerprint) != 0) {
        snprintf(st->model, sizeof st->model, "%s", m->fingerprint);
        st->prefix = m->nlinears > 0 ? common_prefix(m) : 0;
        st->longest = st->kind_longest = 0;
        for (int64_t i = 0; i < m->nlinears; i++) {
            int len = (int)strlen(m->linears[i].name);
            const char *dot = strrchr(m->linears[i].name, '.');
            int kind = dot ? (int)strlen(dot + 1) : 0;
            st->longest = len > st->longest ? len : st->longest;
            st->kind_longest = kind > st->kind_longest ? kind : st->kind_longest;
        }
    }
    return st->longest > width ? st->prefix : 0;
}

/* The columns that are there only for some sessions. */
static void optional(Ui *ui, const Rank *st, Column *c)
{
    enum { ADVICE = 10, KIND = 14 };
    Session *s = ui_session(ui);
    const Metric *m = session_metric(s);
    if (m && metric_error_part(m) >= 0) {
        c[C_RANK].min = ++c[C_RANK].max; /* for the sign of a tie */
        c[C_INTERVAL].min = c[C_INTERVAL].max = 3;
    }
    if (session_second(s)) {
        c[C_SECOND].min = c[C_SECOND].max = SCORE_WIDTH;
        c[C_SECOND_RANK].min = c[C_SECOND_RANK].max = c[C_RANK].min;
    }
    if (session_columns(s) & COLUMN_KIND)
        c[C_KIND].min = c[C_KIND].max = st->kind_longest < 4 ? 4 : st->kind_longest < KIND ? st->kind_longest : KIND;
    if (session_columns(s) & COLUMN_ADVICE)
        c[C_ADVICE].min = c[C_ADVICE].max = ADVICE;
}

/* Widths for this session: ranks as wide as their number, the level column as its longest name. */
void rank_fit(Ui *ui, Rank *st, int width)
{
    Column c[COLUMNS];
    memcpy(c, columns, sizeof c);
    int64_t n = ui_model(ui)->nlinears;
    name_skip(ui, st, width);
    c[C_RANK].min = c[C_RANK].max = n < 1000 ? 3 : n < 10000 ? 4 : 6;
    for (int i = 0; i < session_levels(ui_session(ui)); i++) {
        int len = text_width(session_level_name(ui_session(ui), i));
        if (len > c[C_LEVEL].min && len <= 16)
            c[C_LEVEL].min = c[C_LEVEL].max = len;
    }
    if (session_fold_mode(ui_session(ui)) != FOLD_NONE) {
        c[C_NAME].min = width < FOLDED_WIDE ? FOLDED_NAME : FOLDED_NAME_WIDE;
        c[C_COUNT].min = c[C_COUNT].max = n < 1000 ? 3 : 5;
        c[C_MEAN].min = c[C_MEAN].max = SCORE_WIDTH;
    }
    optional(ui, st, c);
    columns_fit(c, COLUMNS, width, st->w);
    st->skip = name_skip(ui, st, st->w[C_NAME]);
    st->parts = st->longest - (int)st->skip > st->w[C_NAME] - 2;
}

int rank_sort_column(SortKey k)
{
    static const int column[SORT_KEYS] = {[SORT_SCORE] = C_SCORE, [SORT_NAME] = C_NAME,     [SORT_MODEL] = COLUMNS,
                                          [SORT_SIZE] = C_COST,   [SORT_LEVEL] = C_LEVEL, [SORT_SECOND] = C_SECOND};
    return column[k];
}

/* The first `width` cells of a word. */
static void first_cells(char *out, size_t size, const char *s, int width)
{
    const char *end = s, *next = s;
    int w;
    while (text_next(&next, &w) && (width -= w) >= 0)
        end = next;
    snprintf(out, size, "%.*s", (int)(end - s), s);
}

/* A heading's word: of the scores the metric, of a fold's that they are the largest. */
static const char *title_of(Ui *ui, const Rank *st, int c)
{
    const Metric *m = session_metric(ui_session(ui));
    if (c == C_SECOND)
        return session_second(ui_session(ui))->name;
    if (c == C_SCORE && m && !st->w[C_MEAN])
        return m->name;
    return tr(c == C_SCORE && st->w[C_MEAN] ? "max" : columns[c].title);
}

void rank_draw_title(Ui *ui, Rect r, Rank *st)
{
    enum { NAME_LEFT = 9 }; /* cells that the heading of names keeps */
    bool up;
    SortKey sort = session_sort_key(ui_session(ui), &up);
    Pen p = pen_at(ui, r.y, r.x, r.w);
    int w[COLUMNS], over = text_width(title_of(ui, st, C_SCORE)) + 2 * (sort == SORT_SCORE) - st->w[C_SCORE];
    memcpy(w, st->w, sizeof w);
    if (over > w[C_NAME] - NAME_LEFT)
        over = w[C_NAME] - NAME_LEFT;
    st->borrowed = over > 0 && !w[C_COUNT] ? over : 0;
    w[C_NAME] -= st->borrowed;
    w[C_SCORE] += st->borrowed;
    pen_puts(&p, SL_HEADER, " ");
    for (int c = 0; c < COLUMNS; c++) {
        if (!w[c])
            continue;
        char title[64], name[48];
        bool sorts = c == rank_sort_column(sort);
        first_cells(name, sizeof name, title_of(ui, st, c), w[c] - sorts);
        const char *gap = text_width(name) + 2 <= w[c] ? " " : "";
        snprintf(title, sizeof title, "%s%s%s", name, sorts ? gap : "", !sorts ? "" : up ? "^" : "v");
        pen_puts(&p, SL_HEADER, " ");
        pen_cell(&p, SL_HEADER, w[c], columns[c].right, title);
    }
    pen_fill(&p, SL_HEADER);
}

static void score_text(const Score *sc, char *out, size_t size, Slot *slot)
{
    *slot = SL_ROW;
    switch (sc->state) {
    case SCORE_NONE: text_format(out, size, sc->reason ? "no token" : "?"); *slot = SL_DIM; break;
    case SCORE_QUEUED: text_format(out, size, "queued"); *slot = SL_DIM; break;
    case SCORE_FAILED: text_format(out, size, "failed"); *slot = SL_FAILED; break;
    case SCORE_STALE: fmt_score(out, size, sc->value); *slot = SL_STALE; break;
    case SCORE_OK: fmt_score(out, size, sc->value); break;
    }
}

/* What the cells of a row show, of a linear or of a fold. */
typedef struct Cells {
    const char *text[COLUMNS];
    char rank[24], state[3], score[24], mean[24], cost[24], count[24], interval[24], second[24], second_rank[24];
    Str name;
    wchar_t mark;         /* before the name where the table is folded */
    Slot row, score_slot, second_slot; /* colours of the whole row, of the scores */
    bool failed;
    double bar;           /* the score, NaN: no bar */
} Cells;

/* Half of the 95 % interval: "9%". */
static void interval_text(double share, char *out, size_t size)
{
    if (isnan(share))
        out[0] = '\0';
    else if (share < 0.005 || share >= 0.995)
        snprintf(out, size, share < 0.5 ? "<1%%" : ">1x");
    else
        snprintf(out, size, "%.0f%%", 100 * share);
}

/* What stands beside the shown metric: the interval, the second metric, kind and advice. */
static void more_cells(Ui *ui, const Rank *st, int64_t i, Cells *c)
{
    Session *s = ui_session(ui);
    const Metric *second = session_second(s);
    const char *dot = strrchr(ui_model(ui)->linears[i].name, '.');
    if (st->w[C_INTERVAL])
        interval_text(session_interval(s, session_metric(s), i), c->interval, sizeof c->interval);
    if (second && st->w[C_SECOND]) {
        Score sc = session_score(s, second, i);
        int64_t rank = session_second_rank(s, i);
        score_text(&sc, c->second, sizeof c->second, &c->second_slot);
        if (rank > 0)
            snprintf(c->second_rank, sizeof c->second_rank, "%lld", (long long)rank);
    }
    c->text[C_KIND] = dot ? dot + 1 : "";
    c->text[C_ADVICE] = st->w[C_ADVICE] ? tr(session_advice(s, i).word) : "";
}

static void linear_cells(Ui *ui, const Rank *st, const TableRow *shown, Cells *c)
{
    int64_t i = shown->linear;
    Session *s = ui_session(ui);
    const Linear *l = &ui_model(ui)->linears[i];
    const Metric *m = session_metric(s);
    Score sc = m ? session_score(s, m, i) : (Score){.state = SCORE_NONE};
    int level = session_level_of(s, i);
    int64_t rank = session_rank(s, i);
    bool tagged = session_tagged(s, i);
    c->row = level == 0 ? SL_EXCLUDED : tagged ? SL_TAGGED : SL_ROW;
    score_text(&sc, c->score, sizeof c->score, &c->score_slot);
    if (rank > 0)
        snprintf(c->rank, sizeof c->rank, "%s%lld", st->w[C_INTERVAL] && session_tied(s, i) ? "=" : "", (long long)rank);
    c->failed = sc.state == SCORE_FAILED;
    c->state[0] = tagged ? '*' : ' ';
    c->state[1] = c->failed                 ? '!'
                  : level == 0              ? 'X'
                  : sc.state == SCORE_STALE ? 's'
                  : sc.state == SCORE_OK    ? ' '
                                            : '?';
    fmt_delta(c->cost, sizeof c->cost, session_linear_cost(s, i));
    c->bar = sc.state == SCORE_OK || sc.state == SCORE_STALE ? sc.value : NAN;
    if (st->parts && shown->fold >= 0)
        fold_member_name(ui, shown->fold, i, st->skip, &c->name);
    else
        str_puts(&c->name, l->name + st->skip);
    c->text[C_LEVEL] = session_level_name(s, level);
    c->text[C_GROUP] = ui_model(ui)->groups[l->group].label;
    more_cells(ui, st, i, c);
}

static void fold_cells(Ui *ui, const Rank *st, int32_t fold_index, Cells *c)
{
    Session *s = ui_session(ui);
    const Fold *f = session_fold_at(s, fold_index);
    const Metric *m = session_metric(s);
    Score sc = {.state = f->stale ? SCORE_STALE : SCORE_OK, .value = f->max};
    if (f->scored == 0)
        sc = m ? session_score(s, m, f->members[0]) : (Score){.state = SCORE_NONE};
    c->row = f->floats == f->count ? SL_EXCLUDED : f->tagged ? SL_TAGGED : SL_ROW;
    score_text(&sc, c->score, sizeof c->score, &c->score_slot);
    if (f->scored > 0)
        fmt_score(c->mean, sizeof c->mean, f->mean);
    if (f->worst >= 0)
        snprintf(c->rank, sizeof c->rank, "%lld", (long long)session_rank(s, f->worst));
    c->failed = f->failed > 0;
    c->state[0] = f->tagged ? '*' : ' ';
    c->state[1] = c->failed              ? '!'
                  : f->floats == f->count ? 'X'
                  : f->floats             ? 'x'
                  : f->stale              ? 's'
                  : f->scored < f->count  ? '?'
                                          : ' ';
    fmt_delta(c->cost, sizeof c->cost, f->cost);
    snprintf(c->count, sizeof c->count, "%lld", (long long)f->count);
    c->bar = f->max;
    session_fold_name(s, fold_index, &c->name);
    if (c->name.len > st->skip && c->name.s[0] != '*')
        memmove(c->name.s, c->name.s + st->skip, c->name.len - st->skip + 1);
    c->text[C_LEVEL] = f->level >= 0 ? session_level_name(s, f->level) : tr("mixed");
    c->text[C_GROUP] = "";
    c->mark = f->open ? L'-' : L'+';
}

/* The name, with what was searched for marked in it. */
static void draw_name(Pen *p, Slot slot, int w, const char *name)
{
    const char *mark = p->ui->marked;
    char shown[1024];
    text_elide(shown, sizeof shown, name, w, p->ui->term.glyphs.ellipsis);
    Pen over = *p;
    pen_cell(p, slot, w, false, shown);
    if (!*mark)
        return;
    Pattern *pattern = rank_pattern(mark);
    const char *hit = pattern ? pattern_match(pattern, name) ? shown : NULL : strcasestr(shown, mark);
    size_t len = hit ? pattern ? strlen(shown) : strlen(mark) : 0;
    pattern_free(pattern);
    if (!hit)
        return;
    char part[1024];
    snprintf(part, sizeof part, "%.*s", (int)(hit - shown), shown);
    over.x += text_width(part);
    over.end = p->x;
    snprintf(part, sizeof part, "%.*s", (int)len, hit);
    pen_puts(&over, SL_MATCH, part);
}

static Slot cell_slot(int c, const Cells *cells)
{
    if (c == C_SCORE && cells->score_slot != SL_ROW)
        return cells->score_slot;
    if (c == C_SECOND && cells->second_slot != SL_ROW)
        return cells->second_slot;
    return c == C_STATE && cells->failed ? SL_FAILED : cells->row;
}

static void draw_cell(Pen *p, const Rank *st, int c, int w, const Cells *cells)
{
    Slot row = cells->row;
    if (c == C_NAME && cells->mark && w > 2) {
        pen_char(p, row, cells->mark);
        pen_puts(p, row, " ");
        draw_name(p, row, w - 2, str_text(&cells->name));
    } else if (c == C_NAME) {
        draw_name(p, row, w, str_text(&cells->name));
    } else if (c == C_BAR && !isnan(cells->bar)) {
        pen_bar(p, w, bar_share(st, cells->bar), false);
    } else {
        pen_cell(p, cell_slot(c, cells), w, columns[c].right, cells->text[c] ? cells->text[c] : "");
    }
}

/* The cells of a row, and which texts stand in which columns. */
static void row_cells(Ui *ui, const Rank *st, const TableRow *row, Cells *c)
{
    *c = (Cells){.second_slot = SL_ROW};
    c->text[C_RANK] = c->rank;
    c->text[C_STATE] = c->state;
    c->text[C_COUNT] = c->count;
    c->text[C_SCORE] = c->score;
    c->text[C_MEAN] = c->mean;
    c->text[C_INTERVAL] = c->interval;
    c->text[C_SECOND] = c->second;
    c->text[C_SECOND_RANK] = c->second_rank;
    c->text[C_COST] = c->cost;
    if (row->head)
        fold_cells(ui, st, row->fold, c);
    else
        linear_cells(ui, st, row, c);
}

void rank_draw_row(Ui *ui, const Rank *st, Rect r, int y, const TableRow *row, bool here, bool ranged)
{
    Cells c;
    row_cells(ui, st, row, &c);
    if (session_fold_mode(ui_session(ui)) != FOLD_NONE && !c.mark)
        c.mark = row->fold >= 0 ? ui->term.glyphs.vline : L' ';
    if (ranged)
        c.row = SL_TAGGED;
    Pen p = pen_at(ui, r.y + y, r.x, r.w);
    p.reverse = here;
    pen_char(&p, c.row, here ? ui->term.glyphs.mark : ranged ? L'|' : L' ');
    if (here)
        ui_rest_cursor(ui, p.y, r.x);
    for (int i = 0; i < COLUMNS; i++) {
        if (!st->w[i])
            continue;
        pen_puts(&p, c.row, " ");
        draw_cell(&p, st, i, st->w[i], &c);
    }
    pen_fill(&p, c.row);
    str_free(&c.name);
}

void rank_copy_row(Ui *ui, const Rank *st, const TableRow *row, Str *out)
{
    Cells c;
    Rank whole = *st;
    whole.skip = 0;
    whole.parts = false;
    row_cells(ui, &whole, row, &c);
    str_printf(out, "%6s %c%c %-9s %s%s%s\n", c.rank[0] ? c.rank : row->head ? "" : "0", c.state[0],
               c.row == SL_EXCLUDED ? 'X' : ' ', c.score, str_text(&c.name), c.count[0] ? "  n=" : "", c.count);
    str_free(&c.name);
}
