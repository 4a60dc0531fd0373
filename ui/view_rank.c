/* Screen 1: the table of linears that fills and re-ranks while a job runs, and the detail pane. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ui/actions.h"
#include "ui/detail.h"

enum { SETTLE_NS = 1000000000 }; /* arrived rows move into place when no key came for this long */

typedef struct Rank {
    ListPos pos;
    int page;
    size_t skip;         /* bytes of each name not shown */
    double low, high;    /* of the scores shown, for the bars: smallest above zero, largest */
    int64_t scored;
} Rank;

enum { C_RANK, C_STATE, C_NAME, C_SCORE, C_BAR, C_LEVEL, C_COST, C_GROUP, COLUMNS };
static const Column columns[COLUMNS] = {
    [C_RANK] = {"#", 3, 3, 0, true},
    [C_STATE] = {"S", 2, 2, 0, false},
    [C_NAME] = {"layer", 24, 46, 0, false},
    [C_SCORE] = {"score", SCORE_WIDTH, SCORE_WIDTH, 0, true},
    [C_BAR] = {"bar", 6, 24, 3, false},
    [C_LEVEL] = {"level", 5, 5, 2, false},
    [C_COST] = {"cost", 6, 6, 1, true},
    [C_GROUP] = {"grp", 3, 3, 4, false},
};

static int64_t index_of(const int64_t *order, int64_t n, int64_t linear)
{
    for (int64_t i = 0; i < n; i++) {
        if (order[i] == linear)
            return i;
    }
    return -1;
}

/* The order as it is to be shown now, with the cursor on its linear and that linear on its line of the screen. Until
 * somebody chooses a row (session_cursor < 0) the cursor stays at the top, whatever comes there. */
static const int64_t *settle(Ui *ui, Rank *st, int64_t *n)
{
    Session *s = ui_session(ui);
    int64_t chosen = session_cursor(s), line = st->pos.cur - st->pos.top;
    bool quiet = clock_ns() - ui->last_key > SETTLE_NS;
    const int64_t *order = session_order(s, n, quiet || chosen < 0);
    int64_t at = chosen >= 0 ? index_of(order, *n, chosen) : 0;
    if (at < 0) { /* filtered away: the row that is in its place */
        at = st->pos.cur < *n ? st->pos.cur : *n - 1;
        session_set_cursor(s, at >= 0 ? order[at] : -1);
    }
    if (at != st->pos.cur) {
        st->pos.cur = at;
        st->pos.top = at - line;
    }
    list_clamp(&st->pos, *n, st->page);
    return order;
}

static void place(Ui *ui, const Rank *st, const int64_t *order, int64_t n)
{
    session_set_cursor(ui_session(ui), n > 0 && st->pos.cur > 0 ? order[st->pos.cur] : -1);
}

static int64_t linear(Ui *ui, void *state)
{
    int64_t n;
    Rank *st = state;
    const int64_t *order = settle(ui, st, &n);
    return n > 0 ? order[st->pos.cur] : -1;
}

static bool move_rows(Ui *ui, void *state, Motion m)
{
    int64_t n;
    Rank *st = state;
    const int64_t *order = settle(ui, st, &n);
    bool moved = list_move(&st->pos, m, n, st->page);
    place(ui, st, order, n);
    return moved;
}

static void click(Ui *ui, void *state, int y, int x)
{
    Rank *st = state;
    int64_t n;
    (void)x;
    const int64_t *order = settle(ui, st, &n);
    if (y < 1 || st->pos.top + y - 1 >= n)
        return;
    st->pos.cur = st->pos.top + y - 1;
    place(ui, st, order, n);
}

/* Case-blind substring, or the pattern language when it holds one of its signs. */
static bool name_matches(const char *name, const char *text, const Pattern *p)
{
    return p ? pattern_match(p, name) : strcasestr(name, text) != NULL;
}

static bool find(Ui *ui, void *state, const char *text, int direction, bool from_here)
{
    Rank *st = state;
    int64_t n;
    const int64_t *order = settle(ui, st, &n);
    Pattern *p = NULL;
    if (strpbrk(text, "*?{[") && pattern_compile(&p, text, NULL) != ST_OK)
        p = NULL;
    bool found = false;
    for (int64_t k = from_here ? 0 : 1; k < n && !found; k++) {
        int64_t i = ((st->pos.cur + direction * k) % n + n) % n;
        if (name_matches(ui_model(ui)->linears[order[i]].name, text, p)) {
            st->pos.cur = i;
            list_clamp(&st->pos, n, st->page);
            session_set_cursor(ui_session(ui), order[i]); /* at the top too: this layer is meant */
            found = true;
        }
    }
    pattern_free(p);
    return found;
}

static void measure_scores(Ui *ui, Rank *st)
{
    Session *s = ui_session(ui);
    const Metric *m = session_metric(s);
    st->low = INFINITY;
    st->high = -INFINITY;
    st->scored = 0;
    for (int64_t i = 0; m && i < ui_model(ui)->nlinears; i++) {
        Score sc = session_score(s, m, i);
        if (sc.state == SCORE_FAILED)
            st->scored++;
        if (sc.state != SCORE_OK && sc.state != SCORE_STALE)
            continue;
        st->scored++;
        if (sc.value > 0)
            st->low = fmin(st->low, sc.value);
        st->high = fmax(st->high, sc.value);
    }
}

/* Share of a score's bar, logarithmic over at most four decades; none for what isn't above zero. */
static double bar_share(const Rank *st, double v)
{
    double low = fmax(st->low, st->high * 1e-4);
    if (!(v > 0) || !(st->high > 0))
        return 0;
    if (!(st->high > low) || v <= low)
        return v < st->high ? 0.04 : 1;
    return 0.04 + 0.96 * log(v / low) / log(st->high / low);
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

/* What the name column leaves out of each name at this width. */
static size_t name_skip(Ui *ui, int width)
{
    const Model *m = ui_model(ui);
    size_t skip = m->nlinears > 0 ? common_prefix(m) : 0;
    for (int64_t i = 0; i < m->nlinears && skip > 0; i++) {
        if ((int)strlen(m->linears[i].name) > width)
            return skip;
    }
    return 0;
}

/* Widths for this session: ranks as wide as their number, the level column as its longest name. */
static void fit(Ui *ui, int width, int *w)
{
    Column c[COLUMNS];
    memcpy(c, columns, sizeof c);
    int64_t n = ui_model(ui)->nlinears;
    c[C_RANK].min = c[C_RANK].max = n < 1000 ? 3 : n < 10000 ? 4 : 6;
    for (int i = 0; i < session_levels(ui_session(ui)); i++) {
        int len = text_width(session_level_name(ui_session(ui), i));
        if (len > c[C_LEVEL].min && len <= 16)
            c[C_LEVEL].min = c[C_LEVEL].max = len;
    }
    columns_fit(c, COLUMNS, width, w);
}

static void draw_title(Ui *ui, Rect r, const int *w)
{
    static const SortKey keys[COLUMNS] = {
        [C_RANK] = SORT_MODEL, [C_STATE] = SORT_KEYS, [C_NAME] = SORT_NAME, [C_SCORE] = SORT_SCORE, [C_BAR] = SORT_KEYS,
        [C_LEVEL] = SORT_LEVEL, [C_COST] = SORT_SIZE, [C_GROUP] = SORT_KEYS,
    };
    bool up;
    SortKey sort = session_sort_key(ui_session(ui), &up);
    Pen p = pen_at(ui, r.y, r.x, r.w);
    pen_puts(&p, SL_HEADER, " ");
    for (int c = 0; c < COLUMNS; c++) {
        if (!w[c])
            continue;
        char title[24];
        const char *gap = (int)strlen(columns[c].title) + 2 <= w[c] ? " " : "";
        snprintf(title, sizeof title, "%s%s%s", columns[c].title, keys[c] == sort ? gap : "",
                 keys[c] != sort ? "" : up ? "^" : "v");
        pen_puts(&p, SL_HEADER, " ");
        pen_cell(&p, SL_HEADER, w[c], columns[c].right, title);
    }
    pen_fill(&p, SL_HEADER);
}

static void score_text(const Score *sc, char *out, size_t size, Slot *slot)
{
    *slot = SL_ROW;
    switch (sc->state) {
    case SCORE_NONE: snprintf(out, size, "?"); *slot = SL_DIM; break;
    case SCORE_QUEUED: snprintf(out, size, "queued"); *slot = SL_DIM; break;
    case SCORE_FAILED: snprintf(out, size, "failed"); *slot = SL_FAILED; break;
    case SCORE_STALE: fmt_score(out, size, sc->value); *slot = SL_STALE; break;
    case SCORE_OK: fmt_score(out, size, sc->value); break;
    }
}

static void draw_row(Ui *ui, const Rank *st, Rect r, int y, const int *w, int64_t i, bool here)
{
    Session *s = ui_session(ui);
    const Linear *l = &ui_model(ui)->linears[i];
    const Metric *m = session_metric(s);
    Score sc = m ? session_score(s, m, i) : (Score){.state = SCORE_NONE};
    int level = session_level_of(s, i);
    int64_t rank = session_rank(s, i);
    bool tagged = session_tagged(s, i);
    char num[24], score[24], cost[24], state[3];
    Slot score_slot, row = level == 0 ? SL_EXCLUDED : tagged ? SL_TAGGED : SL_ROW;
    score_text(&sc, score, sizeof score, &score_slot);
    if (score_slot == SL_ROW)
        score_slot = row;
    num[0] = '\0';
    if (rank > 0)
        snprintf(num, sizeof num, "%lld", (long long)rank);
    state[0] = tagged ? '*' : ' ';
    state[1] = sc.state == SCORE_FAILED  ? '!'
               : level == 0              ? 'X'
               : sc.state == SCORE_STALE ? 's'
               : sc.state == SCORE_OK    ? ' '
                                         : '?';
    state[2] = '\0';
    fmt_delta(cost, sizeof cost, linear_cost(s, i));
    Pen p = pen_at(ui, r.y + y, r.x, r.w);
    p.reverse = here;
    pen_char(&p, row, here ? ui->term.glyphs.mark : L' ');
    if (here)
        ui_rest_cursor(ui, p.y, r.x);
    const char *text[COLUMNS] = {
        [C_RANK] = num, [C_STATE] = state, [C_SCORE] = score, [C_LEVEL] = session_level_name(s, level), [C_COST] = cost,
        [C_GROUP] = ui_model(ui)->groups[l->group].label,
    };
    for (int c = 0; c < COLUMNS; c++) {
        if (!w[c])
            continue;
        pen_puts(&p, row, " ");
        if (c == C_NAME)
            pen_name(&p, row, w[c], l->name + st->skip);
        else if (c == C_BAR && (sc.state == SCORE_OK || sc.state == SCORE_STALE))
            pen_bar(&p, w[c], bar_share(st, sc.value), false);
        else
            pen_cell(&p,
                     c == C_SCORE                               ? score_slot
                     : c == C_STATE && sc.state == SCORE_FAILED ? SL_FAILED
                                                                : row,
                     w[c], columns[c].right, text[c] ? text[c] : "");
    }
    pen_fill(&p, row);
}

static void draw_welcome(Ui *ui, Rect r)
{
    static const char text[] =
        "No model is open.\n\n"
        ":open FOLDER opens a Hugging Face checkpoint: a folder with config.json and *.safetensors.\n"
        "Tab completes names; ? shows the keys; q leaves.";
    int y = r.y + 1;
    r.x += 2;
    r.w -= 4;
    draw_wrapped(ui, r, &y, SL_TEXT, text);
}

static void draw_empty(Ui *ui, Rect r)
{
    int y = r.y + 2;
    char buf[UI_SEARCH_MAX + 80];
    snprintf(buf, sizeof buf, "No layer passes the filter '%s'. Esc takes it away.",
             session_filter_text(ui_session(ui)));
    r.x += 2;
    r.w -= 2;
    draw_wrapped(ui, r, &y, SL_TEXT, buf);
}

static void draw(Ui *ui, void *state)
{
    Rank *st = state;
    Rect r = ui->layout.main;
    if (!ui_model(ui)) {
        draw_welcome(ui, r);
        return;
    }
    int64_t n;
    if (r.h > 0)
        st->page = r.h - 1;
    const int64_t *order = settle(ui, st, &n);
    if (r.h > 0) {
        int w[COLUMNS];
        measure_scores(ui, st);
        fit(ui, r.w - 2, w);
        st->skip = name_skip(ui, w[C_NAME]);
        draw_title(ui, r, w);
        for (int y = 1; y < r.h && st->pos.top + y - 1 < n; y++)
            draw_row(ui, st, r, y, w, order[st->pos.top + y - 1], st->pos.top + y - 1 == st->pos.cur);
        if (n == 0)
            draw_empty(ui, r);
    }
    if (ui->layout.side.h > 0) {
        detail_draw(ui, ui->layout.side, n > 0 ? order[st->pos.cur] : -1);
        if (r.h == 0)
            ui_rest_cursor(ui, ui->layout.side.y, ui->layout.side.x);
    }
}

static void context(Ui *ui, void *state, Str *out)
{
    Rank *st = state;
    Session *s = ui_session(ui);
    const Metric *m = session_metric(s);
    int n = 0, at = 0;
    for (; metric_table[n]; n++) {
        if (metric_table[n] == m)
            at = n + 1;
    }
    const char *filter = session_filter_text(s);
    if (*filter)
        str_printf(out, "filter %s  ", filter);
    if (session_order_stale(s))
        str_puts(out, "sort stale  ");
    str_puts(out, m ? m->name : "no metric");
    if (ui->cols >= 80 && m)
        str_printf(out, " %d/%d", at, n);
    str_printf(out, "  %lld/%lld scored", (long long)st->scored, (long long)ui_model(ui)->nlinears);
}

static void copy(Ui *ui, void *state, bool all, Str *out)
{
    Rank *st = state;
    Session *s = ui_session(ui);
    const Metric *m = session_metric(s);
    int64_t n;
    const int64_t *order = settle(ui, st, &n);
    if (n > 0 && !all)
        str_puts(out, ui_model(ui)->linears[order[st->pos.cur]].name);
    for (int64_t k = 0; all && k < n; k++) {
        Score sc = m ? session_score(s, m, order[k]) : (Score){.state = SCORE_NONE};
        char v[24];
        Slot slot;
        score_text(&sc, v, sizeof v, &slot);
        str_printf(out, "%6lld %c%c %-9s %s\n", (long long)session_rank(s, order[k]),
                   session_tagged(s, order[k]) ? '*' : ' ', session_level_of(s, order[k]) == 0 ? 'X' : ' ', v,
                   ui_model(ui)->linears[order[k]].name);
    }
}

const View view_rank = {
    .key = '1', .name = "rank", .title = "Rank", .state_size = sizeof(Rank), .side = true,
    .draw = draw, .move = move_rows, .context = context, .copy = copy, .click = click, .linear = linear, .find = find,
};
