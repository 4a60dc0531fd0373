/* Screen 1: the table of linears that fills and re-ranks while a job runs, and the detail pane. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "session/fold.h"
#include "src/lang.h"
#include "ui/actions.h"
#include "ui/detail.h"
#include "ui/input.h"

enum { SETTLE_NS = 1000000000 }; /* arrived rows move into place when no key came for this long */

enum { C_RANK, C_STATE, C_NAME, C_COUNT, C_SCORE, C_MEAN, C_BAR, C_LEVEL, C_COST, C_GROUP, COLUMNS };

typedef struct Rank {
    ListPos pos;
    bool head;           /* the cursor is on the head of its linear's fold, also where that is open */
    int page;
    size_t skip;         /* bytes of each name not shown */
    bool parts;          /* members of an open fold show only what its name does not say */
    ScoreRange range;    /* of the scores shown, for the bars */
    char model[65];      /* fingerprint of the model that these are of: */
    size_t prefix;       /* bytes that every name begins with */
    int longest;         /* name */
    Here detail_of;      /* whose details these are: */
    Scroll detail;
    int w[COLUMNS];      /* widths of the columns as they are drawn, 0: not there */
} Rank;
static const Column columns[COLUMNS] = {
    [C_RANK] = {"#", 3, 3, 0, true},
    [C_STATE] = {"S", 2, 2, 0, false},
    [C_NAME] = {"layer", 25, 46, 0, false},
    [C_COUNT] = {"n", 0, 0, 0, true},
    [C_SCORE] = {"score", SCORE_WIDTH, SCORE_WIDTH, 0, true},
    [C_MEAN] = {"mean", 0, 0, 0, true},
    [C_BAR] = {"bar", 4, 40, 3, false},
    [C_LEVEL] = {"level", 5, 5, 2, false},
    [C_COST] = {"cost", 6, 6, 1, true},
    [C_GROUP] = {"grp", 3, 3, 4, false},
};
/* What a folded table's names need at least, on a wide screen with room for the marks, and the width of such a one. */
enum { FOLDED_NAME = 19, FOLDED_NAME_WIDE = 27, FOLDED_WIDE = 76 };

/* The rows as they are to be shown now, with the cursor on its linear or its fold's head and that row on its line of
 * the screen. Until a key means a row (session_cursor < 0) the cursor stays at the top, whatever comes there. */
static const TableRow *settle(Ui *ui, Rank *st, int64_t *n)
{
    Session *s = ui_session(ui);
    int64_t chosen = session_cursor(s), line = st->pos.cur - st->pos.top;
    bool quiet = clock_ns() - ui->last_key > SETTLE_NS;
    const TableRow *rows = session_rows(s, n, quiet || chosen < 0);
    int64_t at = chosen >= 0 ? session_row_of(s, chosen, st->head) : 0;
    if (at < 0) { /* filtered away: the row that is in its place */
        at = st->pos.cur < *n ? st->pos.cur : *n - 1;
        session_set_cursor(s, at >= 0 ? rows[at].linear : -1);
        st->head = at >= 0 && rows[at].head;
    }
    if (at != st->pos.cur) {
        st->pos.cur = at;
        st->pos.top = at - line;
    }
    list_clamp(&st->pos, *n, st->page);
    if (at > 0 && at == st->pos.top && rows[at - 1].head && !rows[at].head && st->page > 1)
        st->pos.top--; /* an open fold's first row shows whose it is */
    return rows;
}

static void place(Ui *ui, Rank *st, const TableRow *rows, int64_t n)
{
    session_set_cursor(ui_session(ui), n > 0 ? rows[st->pos.cur].linear : -1);
    st->head = n > 0 && rows[st->pos.cur].head;
}

static void hold(Ui *ui, void *state)
{
    int64_t n;
    Rank *st = state;
    const TableRow *rows = settle(ui, st, &n);
    place(ui, st, rows, n);
}

static Here here(Ui *ui, void *state)
{
    int64_t n;
    Rank *st = state;
    const TableRow *rows = settle(ui, st, &n), *row = n > 0 ? &rows[st->pos.cur] : NULL;
    return row ? (Here){row->linear, row->head ? row->fold : -1} : (Here){-1, -1};
}

static bool move_cursor(Ui *ui, Rank *st, Motion m)
{
    int64_t n;
    const TableRow *rows = settle(ui, st, &n);
    bool moved = list_move(&st->pos, m, n, st->page);
    place(ui, st, rows, n);
    return moved;
}

/* What fills the screen moves: the table, or the details. */
static bool move_rows(Ui *ui, void *state, Motion m)
{
    return ui->side_full ? detail_move(&((Rank *)state)->detail, m) : move_cursor(ui, state, m);
}

/* The other of the two moves. */
static unsigned rank_other(Ui *ui, const KeyRow *row, int key)
{
    Rank *st = ui_state(ui, &view_rank);
    (void)key;
    if (ui->side_full)
        move_cursor(ui, st, (Motion)row->arg);
    else if (ui->layout.side.h == 0)
        return ui_refuse(ui, "no details are shown beside the table; Enter shows them");
    else if (!detail_move(&st->detail, (Motion)row->arg))
        return ui_refuse(ui, row->arg == MOVE_DOWN ? "the details end here" : "the details begin here");
    return DO_PAINT;
}

/* The heading at column x of the screen: sorts by it, and turns the order round when it sorts already. */
static void click_title(Ui *ui, const Rank *st, int x)
{
    static const SortKey keys[COLUMNS] = {
        [C_RANK] = SORT_SCORE, [C_STATE] = SORT_LEVEL, [C_NAME] = SORT_NAME, [C_COUNT] = SORT_KEYS,
        [C_SCORE] = SORT_SCORE, [C_MEAN] = SORT_KEYS, [C_BAR] = SORT_SCORE, [C_LEVEL] = SORT_LEVEL,
        [C_COST] = SORT_SIZE, [C_GROUP] = SORT_MODEL,
    };
    for (int c = 0, at = 1; c < COLUMNS; c++) {
        if (!st->w[c])
            continue;
        if (x > at && x <= at + st->w[c] && keys[c] != SORT_KEYS)
            ui_sort(ui, keys[c]);
        at += 1 + st->w[c];
    }
}

static void click(Ui *ui, void *state, int y, int x)
{
    Rank *st = state;
    int64_t n;
    const TableRow *rows = settle(ui, st, &n);
    if (y < 1 && ui->layout.main.h > 0)
        click_title(ui, st, x);
    if (y < 1 || st->pos.top + y - 1 >= n)
        return;
    st->pos.cur = st->pos.top + y - 1;
    place(ui, st, rows, n);
}

/* ---- folding ---- */

static unsigned rank_fold(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    Session *s = ui_session(ui);
    FoldMode mode = session_fold_mode(s);
    do
        mode = (FoldMode)(((int)mode + row->arg + FOLD_MODES) % FOLD_MODES);
    while (mode == FOLD_EXPERTS && ui_model(ui)->cfg.moe.experts == 0);
    ui_command(ui, "fold %s", fold_mode_name(mode));
    return DO_PAINT;
}

/* Opens or closes the fold that the row of the cursor belongs to; closing one leads to its head. */
static unsigned set_fold(Ui *ui, bool open, bool flip)
{
    int64_t n;
    Session *s = ui_session(ui);
    Rank *st = ui_state(ui, &view_rank);
    const TableRow *rows = settle(ui, st, &n);
    const TableRow here = n > 0 ? rows[st->pos.cur] : (TableRow){.fold = -1};
    const Fold *f = session_fold_at(s, here.fold);
    if (!f)
        return ui_refuse(ui, "this layer stands alone: there is no fold around it");
    if (flip)
        open = !f->open;
    if (f->open == open)
        return ui_refuse(ui, open ? "this fold is open" : "this fold is closed");
    if (session_cursor(s) < 0)
        session_set_cursor(s, here.linear);
    session_fold_open(s, here.fold, open);
    if (!open)
        st->head = true;
    return DO_PAINT;
}

static unsigned rank_fold_flip(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    return set_fold(ui, false, true);
}

static unsigned rank_fold_set(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    return set_fold(ui, row->arg, false);
}

static unsigned rank_fold_all(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Session *s = ui_session(ui);
    Rank *st = ui_state(ui, &view_rank);
    bool any = false;
    for (int32_t i = 0, n = (int32_t)session_folds(s); i < n && !any; i++)
        any = session_fold_at(s, i)->open;
    session_fold_open_all(s, !any);
    st->head |= any;
    return DO_PAINT;
}

/* ---- searching ---- */

/* Case-blind substring, or the pattern language when it holds one of its signs. */
static bool name_matches(const char *name, const char *text, const Pattern *p)
{
    return p ? pattern_match(p, name) : strcasestr(name, text) != NULL;
}

/* The linear that makes a row a match: its own, or the first one inside a closed fold. -1: none. */
static int64_t match_in(Ui *ui, const TableRow *row, const char *text, const Pattern *p)
{
    const Linear *l = ui_model(ui)->linears;
    if (!row->head)
        return name_matches(l[row->linear].name, text, p) ? row->linear : -1;
    const Fold *f = session_fold_at(ui_session(ui), row->fold);
    for (int64_t k = 0; k < f->count && !f->open; k++) {
        if (name_matches(l[f->members[k]].name, text, p))
            return f->members[k];
    }
    return -1;
}

/* NULL for a text without signs of the pattern language. Caller frees. */
static Pattern *search_pattern(const char *text)
{
    Pattern *p = NULL;
    if (strpbrk(text, "*?{[") && pattern_compile(&p, text, NULL) != ST_OK)
        p = NULL;
    return p;
}

static Found find(Ui *ui, void *state, const char *text, int direction, bool from_here)
{
    Rank *st = state;
    int64_t n, best = -1, linear = -1;
    const TableRow *rows = settle(ui, st, &n);
    Pattern *p = search_pattern(text);
    Found found = {0, 0};
    for (int64_t i = 0; i < n; i++) {
        int64_t hit = match_in(ui, &rows[i], text, p);
        if (hit < 0)
            continue;
        found.of++;
        /* steps to it from the cursor; its own row counts as the farthest where another one is asked for */
        int64_t away = ((direction * (i - st->pos.cur) + n) % n + n) % n;
        away = away == 0 && !from_here ? n : away;
        if (best < 0 || away < best) {
            best = away;
            linear = hit;
            found.at = found.of;
        }
    }
    pattern_free(p);
    if (best < 0)
        return found;
    st->pos.cur = ((st->pos.cur + direction * best) % n + n) % n;
    list_clamp(&st->pos, n, st->page);
    session_set_cursor(ui_session(ui), linear);
    st->head = false; /* a fold that is opened now shows it */
    return found;
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
        st->longest = 0;
        for (int64_t i = 0; i < m->nlinears; i++) {
            int len = (int)strlen(m->linears[i].name);
            st->longest = len > st->longest ? len : st->longest;
        }
    }
    return st->longest > width ? st->prefix : 0;
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
    if (session_fold_mode(ui_session(ui)) != FOLD_NONE) {
        c[C_NAME].min = width < FOLDED_WIDE ? FOLDED_NAME : FOLDED_NAME_WIDE;
        c[C_COUNT].min = c[C_COUNT].max = n < 1000 ? 3 : 5;
        c[C_MEAN].min = c[C_MEAN].max = SCORE_WIDTH;
    }
    columns_fit(c, COLUMNS, width, w);
}

/* The column whose values a sort key orders; COLUMNS: none does. */
static int sort_column(SortKey k)
{
    return k == SORT_SCORE ? C_SCORE : k == SORT_NAME ? C_NAME : k == SORT_LEVEL ? C_LEVEL : k == SORT_SIZE ? C_COST : COLUMNS;
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

static void draw_title(Ui *ui, Rect r, const int *w)
{
    bool up;
    SortKey sort = session_sort_key(ui_session(ui), &up);
    Pen p = pen_at(ui, r.y, r.x, r.w);
    pen_puts(&p, SL_HEADER, " ");
    for (int c = 0; c < COLUMNS; c++) {
        if (!w[c])
            continue;
        char title[48], name[32];
        bool sorts = c == sort_column(sort);
        first_cells(name, sizeof name, tr(c == C_SCORE && w[C_MEAN] ? "max" : columns[c].title), w[c] - sorts);
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
    case SCORE_NONE: snprintf(out, size, "?"); *slot = SL_DIM; break;
    case SCORE_QUEUED: text_format(out, size, "queued"); *slot = SL_DIM; break;
    case SCORE_FAILED: text_format(out, size, "failed"); *slot = SL_FAILED; break;
    case SCORE_STALE: fmt_score(out, size, sc->value); *slot = SL_STALE; break;
    case SCORE_OK: fmt_score(out, size, sc->value); break;
    }
}

/* What the cells of a row show, of a linear or of a fold. */
typedef struct Cells {
    const char *text[COLUMNS];
    char rank[24], state[3], score[24], mean[24], cost[24], count[24];
    Str name;
    wchar_t mark;         /* before the name where the table is folded */
    Slot row, score_slot; /* colours of the whole row, of the score */
    bool failed;
    double bar;           /* the score, NaN: no bar */
} Cells;

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
        snprintf(c->rank, sizeof c->rank, "%lld", (long long)rank);
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
    Pattern *pattern = search_pattern(mark);
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
        Slot slot = c == C_SCORE && cells->score_slot != SL_ROW ? cells->score_slot
                    : c == C_STATE && cells->failed             ? SL_FAILED
                                                                : row;
        pen_cell(p, slot, w, columns[c].right, cells->text[c] ? cells->text[c] : "");
    }
}

static void draw_row(Ui *ui, const Rank *st, Rect r, int y, const int *w, const TableRow *row, bool here)
{
    Cells c = {.rank = ""};
    c.text[C_RANK] = c.rank;
    c.text[C_STATE] = c.state;
    c.text[C_COUNT] = c.count;
    c.text[C_SCORE] = c.score;
    c.text[C_MEAN] = c.mean;
    c.text[C_COST] = c.cost;
    if (session_fold_mode(ui_session(ui)) != FOLD_NONE)
        c.mark = row->fold >= 0 ? ui->term.glyphs.vline : L' ';
    if (row->head)
        fold_cells(ui, st, row->fold, &c);
    else
        linear_cells(ui, st, row, &c);
    Pen p = pen_at(ui, r.y + y, r.x, r.w);
    p.reverse = here;
    pen_char(&p, c.row, here ? ui->term.glyphs.mark : L' ');
    if (here)
        ui_rest_cursor(ui, p.y, r.x);
    for (int i = 0; i < COLUMNS; i++) {
        if (!w[i])
            continue;
        pen_puts(&p, c.row, " ");
        draw_cell(&p, st, i, w[i], &c);
    }
    pen_fill(&p, c.row);
    str_free(&c.name);
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
    text_format(buf, sizeof buf, "No layer passes the filter '%s'. Esc takes it away.",
             session_filter_text(ui_session(ui)));
    r.x += 2;
    r.w -= 2;
    draw_wrapped(ui, r, &y, SL_TEXT, buf);
}

static void draw_details(Ui *ui, Rank *st, const TableRow *row)
{
    Here of = row ? (Here){row->linear, row->head ? row->fold : -1} : (Here){-1, -1};
    Rect side = ui->layout.side;
    const char *keys = tr(ui->side_full ? "j k scroll  J K next layer" : "J K scroll");
    if (of.linear != st->detail_of.linear || of.fold != st->detail_of.fold)
        st->detail.top = 0;
    st->detail_of = of;
    if (of.fold >= 0)
        detail_draw_fold(ui, side, of.fold, &st->detail, keys);
    else
        detail_draw(ui, side, of.linear, &st->detail, keys);
    if (ui->side_full)
        ui_rest_cursor(ui, side.y, side.x);
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
    const TableRow *rows = settle(ui, st, &n);
    st->range = session_score_range(ui_session(ui));
    if (r.h > 0) {
        int *w = st->w;
        fit(ui, r.w - 2, w);
        st->skip = name_skip(ui, st, w[C_NAME]);
        st->parts = st->longest - (int)st->skip > w[C_NAME] - 2;
        draw_title(ui, r, w);
        for (int y = 1; y < r.h && st->pos.top + y - 1 < n; y++)
            draw_row(ui, st, r, y, w, &rows[st->pos.top + y - 1], st->pos.top + y - 1 == st->pos.cur);
        if (n == 0)
            draw_empty(ui, r);
    }
    if (ui->layout.side.h > 0)
        draw_details(ui, st, n > 0 ? &rows[st->pos.cur] : NULL);
}

static void context(Ui *ui, void *state, LineParts *out)
{
    Rank *st = state;
    Session *s = ui_session(ui);
    const Metric *m = session_metric(s);
    int n = 0, at = 0;
    const Metric *const *all = ui_metrics(ui);
    for (; all[n]; n++) {
        if (all[n] == m)
            at = n + 1;
    }
    const char *filter = session_filter_text(s);
    if (*filter) {
        int64_t shown;
        session_order(s, &shown, false);
        part_add(out, SL_TEXT, 2, "filter %s", filter)->least = 16;
        part_add(out, SL_TEXT, 1, "%lld of %lld", (long long)shown, (long long)ui_model(ui)->nlinears)->gap = 1;
    }
    if (session_fold_mode(s) != FOLD_NONE)
        part_add(out, SL_TEXT, 3, "fold %s", fold_mode_name(session_fold_mode(s)));
    if (session_order_stale(s))
        part_add(out, SL_STALE, 2, "sort stale");
    bool up;
    SortKey sort = session_sort_key(s, &up);
    int column = sort_column(sort);
    if (column == COLUMNS || !st->w[column]) /* no heading on the screen tells */
        part_add(out, SL_TEXT, 1, up ? "by %s ^" : "by %s v", sort_key_name(sort));
    if (m && m->scope != SCOPE_LINEAR)
        part_add(out, SL_TEXT, 2, "%s of the %s", m->name, scope_name(m->scope));
    else
        part_add(out, SL_TEXT, 2, "%s", m ? m->name : "no metric");
    if (m)
        part_add(out, SL_DIM, 5, "%d/%d", at, n)->gap = 1;
    part_add(out, SL_TEXT, 0, "%lld/%lld scored", (long long)(st->range.scored - st->range.failed),
             (long long)ui_model(ui)->nlinears);
    if (st->range.failed)
        part_add(out, SL_FAILED, 0, "%lld failed", (long long)st->range.failed);
}

/* Targets that select what a fold shows, one a line: what `tag` and a recipe's lists take. */
static void copy_fold(Session *s, int32_t fold_index, Str *out)
{
    char **target;
    int n;
    if (session_fold_target(s, fold_index, &target, &n, NULL) != ST_OK)
        return;
    for (int i = 0; i < n; i++) {
        str_printf(out, "%s%s", i ? "\n" : "", target[i]);
        free(target[i]);
    }
    free(target);
}

static void copy(Ui *ui, void *state, bool all, Str *out)
{
    Rank *st = state;
    Session *s = ui_session(ui);
    int64_t n;
    const TableRow *rows = settle(ui, st, &n);
    const TableRow *here = n > 0 ? &rows[st->pos.cur] : NULL;
    Rank whole = *st;
    whole.skip = 0;
    whole.parts = false;
    if (here && !all && here->head)
        copy_fold(s, here->fold, out);
    else if (here && !all)
        str_puts(out, ui_model(ui)->linears[here->linear].name);
    for (int64_t k = 0; all && k < n; k++) {
        Cells c = {.rank = "0"};
        if (rows[k].head)
            fold_cells(ui, &whole, rows[k].fold, &c);
        else
            linear_cells(ui, &whole, &rows[k], &c);
        str_printf(out, "%6s %c%c %-9s %s%s%s\n", c.rank, c.state[0], c.row == SL_EXCLUDED ? 'X' : ' ', c.score,
                   str_text(&c.name), c.count[0] ? "  n=" : "", c.count);
        str_free(&c.name);
    }
}

static const KeyRow keys[] = {
    {.place = 20, .keys = {'r'}, .command = "analyze METRIC block_error",
     .help = "run the shown metric, and what predictions need", .label = "Run", .run = act_run,
     .refuse = refuse_no_model},
    {.place = 60, .keys = {'x', K(KEY_F(7)), K(KEY_F(8))}, .command = "exclude LAYER | include LAYER",
     .help = "layer and its fused group: float, or back to quantized", .label = "Exclude", .run = act_exclude,
     .refuse = refuse_no_linear},
    {.place = 80, .keys = {'X'}, .command = "exclude tagged | include tagged",
     .help = "all tagged layers: float, or back to quantized", .run = act_exclude_tagged,
     .refuse = refuse_no_tags},
    {.place = 100, .keys = {'b'}, .command = "level LEVEL LAYER",
     .help = "next level of the recipe for this layer and its group", .run = act_level,
     .refuse = refuse_no_linear},
    {.place = 130, .keys = {' '}, .command = "tag LAYER", .help = "tag the layer, or untag it", .run = act_tag,
     .refuse = refuse_no_linear},
    {.place = 140, .keys = {'T'}, .command = "tag PATTERN", .help = "tag layers by a pattern",
     .run = act_prompt, .arg = INPUT_TAG, .refuse = refuse_no_model},
    {.place = 150, .keys = {K(KEY_F(3)), '/'}, .help = "find a name while you type", .label = "Find",
     .run = act_prompt, .arg = INPUT_SEARCH, .refuse = refuse_no_model},
    {.place = 160, .keys = {'n'}, .help = "next match", .run = act_find_next, .arg = 1,
     .refuse = refuse_no_search},
    {.place = 170, .keys = {'N'}, .help = "match before", .run = act_find_next, .arg = -1,
     .refuse = refuse_no_search},
    {.place = 180, .keys = {K(KEY_F(4)), '\\'}, .command = "filter WORDS",
     .help = "show only some: words, kind= layer=a..b score>x float failed tagged !word", .label = "Filter",
     .run = act_prompt, .arg = INPUT_FILTER, .refuse = refuse_no_model},
    {.place = 190, .keys = {K(KEY_F(6)), '>'}, .command = "sort KEY", .help = "sort by the next column",
     .label = "Sort", .run = act_sort, .arg = 1, .refuse = refuse_no_model},
    {.place = 200, .keys = {'<'}, .command = "sort KEY", .help = "sort by the column before", .run = act_sort,
     .arg = -1, .refuse = refuse_no_model},
    {.place = 210, .keys = {'I'}, .command = "sort KEY asc|desc", .help = "turn the order round",
     .run = act_sort_invert, .refuse = refuse_no_model},
    {.place = 220, .keys = {'f', K(KEY_F(2))}, .command = "fold none|block|kind|group|experts",
     .help = "fold the table: by block, by kind, by fused group, by experts, not", .label = "Fold",
     .run = rank_fold, .arg = 1, .refuse = refuse_no_model},
    {.place = 230, .keys = {'F'}, .command = "fold none|block|kind|group|experts",
     .help = "fold it the way before", .run = rank_fold, .arg = -1, .refuse = refuse_no_model},
    {.place = 240, .keys = {'o'}, .help = "open the fold of this row, or close it", .run = rank_fold_flip,
     .refuse = refuse_no_folds},
    {.place = 250, .keys = {'l', K(KEY_RIGHT)}, .help = "open the fold", .run = rank_fold_set, .arg = 1,
     .refuse = refuse_no_folds},
    {.place = 260, .keys = {'h', K(KEY_LEFT)}, .help = "close the fold", .run = rank_fold_set, .arg = 0,
     .refuse = refuse_no_folds},
    {.place = 270, .keys = {'O'}, .help = "open all folds, or close all", .run = rank_fold_all,
     .refuse = refuse_no_folds},
    {.place = 280, .keys = {'.'}, .help = "put rows that arrived into their places now", .run = act_resort,
     .refuse = refuse_no_model},
    {.place = 290, .keys = {'m'}, .command = "show METRIC", .help = "next metric", .label = "Metric",
     .run = act_metric, .arg = 1, .refuse = refuse_no_model},
    {.place = 300, .keys = {'M'}, .command = "show METRIC", .help = "metric before", .run = act_metric,
     .arg = -1, .refuse = refuse_no_model},
    {.place = 65, .keys = {'\n', '\t', K(KEY_ENTER)},
     .help = "details of the layer: histograms, scores, worst channels, what the metric means", .label = "Details",
     .run = act_detail, .refuse = refuse_no_linear},
    {.place = 312, .keys = {'J'}, .help = "details beside the table: scroll down; filling the screen: next layer",
     .run = rank_other, .arg = MOVE_DOWN, .refuse = refuse_no_linear},
    {.place = 314, .keys = {'K'}, .help = "details beside the table: scroll up; filling the screen: layer before",
     .run = rank_other, .arg = MOVE_UP, .refuse = refuse_no_linear},
    {.place = 320, .keys = {'L'}, .help = "histograms: logarithmic or linear counts", .run = act_hist_linear,
     .refuse = refuse_no_result},
    {.place = 330, .keys = {'H'}, .help = "histograms as a table of numbers", .run = act_hist_table,
     .refuse = refuse_no_result},
    {.help = NULL},
};

const View view_rank = {
    .key = '1', .keys = keys, .name = "rank", .title = "Rank", .state_size = sizeof(Rank), .side = true,
    .draw = draw, .move = move_rows, .context = context, .copy = copy, .click = click, .here = here,
    .hold = hold, .find = find,
};
