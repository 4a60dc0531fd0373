/* Screen 1: the table of linears that fills and re-ranks while a job runs, and the detail pane. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "session/columns.h"
#include "src/lang.h"
#include "ui/actions.h"
#include "ui/input.h"
#include "ui/plot.h"
#include "ui/rank.h"

enum { SETTLE_NS = 1000000000 }; /* arrived rows move into place when no key came for this long */

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
    if (plot_full(ui)) {
        bool map = plot_is_map(ui->plot.kind), step = m == MOVE_DOWN || m == MOVE_UP;
        return map && step ? plot_move(ui, 0, m == MOVE_DOWN ? 1 : -1) : move_cursor(ui, state, m);
    }
    return ui->side_full ? detail_move(&((Rank *)state)->detail, m) : move_cursor(ui, state, m);
}

/* The other of the two moves. */
static unsigned rank_other(Ui *ui, const KeyRow *row, int key)
{
    Rank *st = ui_state(ui, &view_rank);
    (void)key;
    if (ui->side_full)
        return move_cursor(ui, st, (Motion)row->arg) ? DO_PAINT : act_end(ui, (Motion)row->arg);
    if (ui->layout.side.h == 0)
        return ui_refuse(ui, "no details are shown beside the table; Enter shows them");
    else if (ui->plot.kind != PLOT_ALL)
        return ui_refuse(ui, "a plot has no more lines; Enter shows it larger");
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
        [C_COST] = SORT_SIZE, [C_GROUP] = SORT_MODEL, [C_INTERVAL] = SORT_SCORE, [C_SECOND] = SORT_SECOND,
        [C_SECOND_RANK] = SORT_SECOND, [C_KIND] = SORT_KEYS, [C_ADVICE] = SORT_KEYS,
    };
    for (int c = 0, at = 1; c < COLUMNS; c++) {
        int w = st->w[c] + (c == C_SCORE ? st->borrowed : c == C_NAME ? -st->borrowed : 0);
        if (!st->w[c])
            continue;
        if (x > at && x <= at + w && keys[c] != SORT_KEYS)
            ui_sort(ui, keys[c]);
        at += 1 + w;
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
    if (plot_full(ui))
        return plot_move(ui, row->arg ? 1 : -1, 0) ? DO_PAINT : ui_refuse(ui, "the cursor is at the end");
    return set_fold(ui, row->arg, false);
}

static const char *refuse_no_aside(Ui *ui)
{
    return plot_full(ui) ? NULL : refuse_no_folds(ui);
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

static Found find(Ui *ui, void *state, const char *text, int direction, bool from_here)
{
    Rank *st = state;
    int64_t n, best = -1, linear = -1;
    const TableRow *rows = settle(ui, st, &n);
    Pattern *p = rank_pattern(text);
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
    const char *keys = tr(ui->side_full ? "j k scroll  J K next layer  d plots" : "J K scroll  d plots");
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
        rank_fit(ui, st, r.w - 2);
        rank_draw_title(ui, r, st);
        int64_t anchor = st->range_on ? session_row_of(ui_session(ui), st->anchor, false) : -1;
        for (int64_t y = 1, row = st->pos.top; y < r.h && row < n; y++, row++)
            rank_draw_row(ui, st, r, (int)y, &rows[row], row == st->pos.cur, rank_in_range(st, anchor, row));
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
        part_add(out, SL_TEXT, 3, "filter %s", filter)->least = 16;
        part_add(out, SL_TEXT, 1, "%lld of %lld", (long long)shown, (long long)ui_model(ui)->nlinears)->gap = 1;
    }
    int64_t rows;
    session_rows(s, &rows, false);
    if (rows > st->page)
        part_add(out, SL_DIM, 5, "row %lld of %lld", (long long)st->pos.cur + 1, (long long)rows);
    if (session_fold_mode(s) != FOLD_NONE)
        part_add(out, SL_TEXT, 3, "fold %s", fold_mode_name(session_fold_mode(s)));
    if (session_order_stale(s))
        part_add(out, SL_STALE, 2, "sort stale");
    bool up;
    SortKey sort = session_sort_key(s, &up);
    int column = rank_sort_column(sort);
    if (column == COLUMNS || !st->w[column]) /* no heading on the screen tells */
        part_add(out, SL_TEXT, 2, up ? "by %s ^" : "by %s v", sort_key_name(sort));
    if (!m || st->w[C_MEAN] || !st->w[C_SCORE]) /* no heading has its name */
        part_add(out, SL_TEXT, 1, "%s", m ? m->name : tr("no metric"));
    if (m && m->scope != SCOPE_LINEAR)
        part_add(out, SL_TEXT, 5, "per %s", tr(scope_name(m->scope)));
    if (m)
        part_add(out, SL_DIM, 6, "metric %d of %d", at, n);
    part_add(out, SL_TEXT, 0, "%lld/%lld", (long long)(st->range.scored - st->range.failed), (long long)ui_model(ui)->nlinears);
    part_add(out, SL_TEXT, 4, "scored")->gap = 1;
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
    if (here && !all && here->head)
        copy_fold(s, here->fold, out);
    else if (here && !all)
        str_puts(out, ui_model(ui)->linears[here->linear].name);
    for (int64_t k = 0; all && k < n; k++)
        rank_copy_row(ui, st, &rows[k], out);
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
    {.place = 142, .keys = {'*'}, .command = "tag *.KIND", .help = "tag all layers of the same kind, as every down_proj",
     .run = rank_tag_like, .arg = TAG_KIND, .refuse = refuse_no_linear},
    {.place = 144, .keys = {'['}, .command = "tag BLOCK.*", .help = "tag all of the same block", .run = rank_tag_like,
     .arg = TAG_BLOCK, .refuse = refuse_no_linear},
    {.place = 146, .keys = {']'}, .command = "tag --off BLOCK.*", .help = "untag all of the same block",
     .run = rank_tag_like, .arg = UNTAG_BLOCK, .refuse = refuse_no_linear},
    {.place = 148, .keys = {'v'}, .command = "tag LAYER...", .help = "begin a range of rows; again: tag it",
     .run = rank_range, .refuse = refuse_no_linear},
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
    {.place = 250, .keys = {'l', K(KEY_RIGHT)}, .help = "open the fold; in a plot that fills the screen: right", .run = rank_fold_set, .arg = 1,
     .refuse = refuse_no_aside},
    {.place = 260, .keys = {'h', K(KEY_LEFT)}, .help = "close the fold; in a plot that fills the screen: left", .run = rank_fold_set, .arg = 0,
     .refuse = refuse_no_aside},
    {.place = 270, .keys = {'O'}, .help = "open all folds, or close all", .run = rank_fold_all,
     .refuse = refuse_no_folds},
    {.place = 280, .keys = {'.'}, .help = "put rows that arrived into their places now", .run = act_resort,
     .refuse = refuse_no_model},
    {.place = 290, .keys = {'m'}, .command = "show METRIC", .help = "next metric", .label = "Metric",
     .run = act_metric, .arg = 1, .refuse = refuse_no_model},
    {.place = 300, .keys = {'M'}, .command = "show METRIC", .help = "metric before", .run = act_metric,
     .arg = -1, .refuse = refuse_no_model},
    {.place = 303, .keys = {'c'}, .command = "columns METRIC",
     .help = "the next other metric beside this one, with its ranks; behind the last: none", .run = rank_second,
     .refuse = refuse_no_model},
    {.place = 306, .keys = {'C'}, .command = "columns kind advice", .help = "columns for kind, advice, both, none",
     .run = rank_columns, .refuse = refuse_no_model},
    {.place = 308, .keys = {'='}, .command = "compare mark A|B METRIC",
     .help = "compare the shown metric with the one beside it, or the one shown before", .run = act_compare,
     .refuse = refuse_no_model},
    {.place = 65, .keys = {'\n', '\t', K(KEY_ENTER)},
     .help = "details of the layer: histograms, scores, worst channels, what the metric means", .label = "Details",
     .run = act_detail, .refuse = refuse_no_linear},
    {.place = 312, .keys = {'J'}, .help = "details beside the table: scroll down; filling the screen: next layer",
     .run = rank_other, .arg = MOVE_DOWN, .refuse = refuse_no_linear},
    {.place = 314, .keys = {'K'}, .help = "details beside the table: scroll up; filling the screen: layer before",
     .run = rank_other, .arg = MOVE_UP, .refuse = refuse_no_linear},
    {.place = 112, .keys = {'d'}, .command = "plot KIND", .help = "details: the next plot of the layer (input, weight, channels, errors ...)",
     .label = "Plots", .run = act_plot_next, .arg = 1, .refuse = refuse_no_layer},
    {.place = 316, .keys = {'D'}, .command = "plot KIND", .help = "the plot before", .run = act_plot_next, .arg = -1,
     .refuse = refuse_no_layer},
    {.place = 318, .keys = {'B'}, .command = "plot KIND --level LEVEL", .help = "plots: the next level that they quantize at", .run = act_plot_level,
     .refuse = refuse_no_plot},
    {.place = 320, .keys = {'L'}, .help = "plots: logarithmic or linear", .run = act_plot_linear,
     .refuse = refuse_no_drawing},
    {.place = 321, .keys = {'+'}, .command = "plot KIND --zoom A..B", .help = "plots: zoom in at the cursor", .run = act_plot_zoom, .arg = 1,
     .refuse = refuse_no_plot},
    {.place = 322, .keys = {'-'}, .command = "plot KIND --zoom A..B", .help = "plots: zoom out; Esc shows the whole", .run = act_plot_zoom, .arg = -1,
     .refuse = refuse_no_plot},
    {.place = 323, .keys = {'}'}, .help = "plots: half a window to the right", .run = act_plot_pan, .arg = 1, .refuse = refuse_no_plot},
    {.place = 324, .keys = {'{'}, .help = "plots: half a window to the left", .run = act_plot_pan, .arg = -1, .refuse = refuse_no_plot},
    {.place = 325, .keys = {'%'}, .command = "plot KIND --at pN", .help = "plots: put the cursor at the next percentile", .run = act_plot_percent,
     .refuse = refuse_no_plot},
    {.place = 326, .keys = {'E'}, .command = "plot error --largest", .help = "map of errors: the largest of each field, or the mean",
     .run = act_plot_largest, .refuse = refuse_no_plot},
    {.place = 330, .keys = {'H'}, .help = "plots as a table of numbers", .run = act_plot_table,
     .refuse = refuse_no_drawing},
    {.place = 331, .keys = {'A'}, .command = "plot KIND --before",
     .help = "inputs before the recipe's processors change the model, or behind them", .run = act_plot_before, .refuse = refuse_no_changes},
    {.help = NULL},
};

const View view_rank = {
    .key = '1', .keys = keys, .name = "rank", .title = "Rank", .state_size = sizeof(Rank), .side = true,
    .draw = draw, .move = move_rows, .context = context, .copy = copy, .click = click, .here = here,
    .hold = hold, .find = find, .cancel = rank_leave_range,
};
