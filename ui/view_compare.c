/* Screen 4: what was measured, and two of it side by side. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/columns.h"
#include "session/fold.h"
#include "src/lang.h"
#include "text/lexer.h"
#include "ui/actions.h"
#include "ui/compare.h"
#include "ui/input.h"

static Compare *state_of(Ui *ui)
{
    return ui_state(ui, &view_compare);
}

static bool is_list(const Compare *st)
{
    return st->page == PAGE_MEASURED || st->page == PAGE_METRICS;
}

/* The two lists by name, the one that is open in brackets. */
static void draw_lists(Ui *ui, Compare *st, Rect r)
{
    char text[2][60];
    Pen p = pen_at(ui, r.y, r.x, r.w);
    compare_metric(ui, st);
    text_format(text[0], sizeof text[0], "measurements %d", st->n);
    text_format(text[1], sizeof text[1], "metrics %d", st->nmetrics);
    for (int i = 0; i < 2; i++) {
        bool on = (st->page == PAGE_METRICS) == (i == 1);
        pen_puts(&p, SL_TEXT, i ? "  " : " ");
        pen_printf(&p, on ? SL_TAB_ON : SL_TAB, on ? "[%s]" : "%s", text[i]);
    }
    pen_printf(&p, SL_DIM, "  %s", tr("Tab changes"));
    pen_fill(&p, SL_TEXT);
}

static void draw(Ui *ui, void *state)
{
    Compare *st = state;
    static void (*const pages[COMPARE_PAGES])(Ui *, Compare *, Rect) = {
        [PAGE_MEASURED] = compare_draw_list, [PAGE_ONE] = compare_draw_one, [PAGE_PAIR] = compare_draw_pair,
        [PAGE_METRICS] = compare_draw_metrics, [PAGE_RANKS] = compare_draw_ranks, [PAGE_HIST] = compare_draw_hist};
    if (!ui_model(ui))
        return;
    compare_refresh(ui, st);
    if (st->page == PAGE_ONE && !st->n)
        st->page = PAGE_MEASURED;
    Rect r = ui->layout.main;
    if (is_list(st)) {
        draw_lists(ui, st, (Rect){r.y, r.x, 1, r.w});
        r = (Rect){r.y + 1, r.x, r.h - 1, r.w};
    }
    pages[st->page](ui, st, r);
}

static void keep_name(Compare *st, const CompareRow *row)
{
    snprintf(st->name, sizeof st->name, "%s", row ? row->m.name : "");
}

/* Rows of the page's list. */
static int64_t rows_of(Ui *ui, Compare *st)
{
    ComparePage page = compare_rows_page(st);
    compare_metric(ui, st);
    return page == PAGE_MEASURED  ? st->n
           : page == PAGE_PAIR    ? compare_pair_rows(ui, st)
           : page == PAGE_METRICS ? st->nmetrics
           : page == PAGE_RANKS   ? st->nshown
                                  : 0;
}

static bool move_rows(Ui *ui, void *state, Motion m)
{
    Compare *st = state;
    if (st->page == PAGE_ONE)
        return detail_move(&st->detail, m);
    if (st->page == PAGE_PAIR && st->aside)
        return detail_move(&st->config, m);
    ComparePage page = compare_rows_page(st);
    if (page != PAGE_MEASURED)
        return list_move(&st->pos[page], m, rows_of(ui, st), st->seen[page]);
    compare_row(ui, st);
    bool moved = list_move(&st->pos[PAGE_MEASURED], m, st->n, st->seen[PAGE_MEASURED]);
    st->name[0] = '\0';
    const CompareRow *row = compare_row(ui, st);
    keep_name(st, row);
    if (moved)
        st->detail.top = 0;
    return moved;
}

static void click(Ui *ui, void *state, int y, int x)
{
    Compare *st = state;
    (void)x;
    ListPos *pos = &st->pos[st->page];
    if ((st->page != PAGE_MEASURED && st->page != PAGE_METRICS) || y < 2 || y > st->seen[st->page] + 1 ||
        pos->top + y - 2 >= rows_of(ui, st))
        return;
    st->name[0] = '\0';
    pos->cur = pos->top + y - 2;
    const CompareRow *row = compare_row(ui, st);
    keep_name(st, row);
}

static void context(Ui *ui, void *state, LineParts *out)
{
    Compare *st = state;
    const char *a = session_marked(ui_session(ui), MARK_A), *b = session_marked(ui_session(ui), MARK_B);
    compare_refresh(ui, st);
    compare_metric(ui, st);
    bool metrics = compare_rows_page(st) == PAGE_METRICS || compare_rows_page(st) == PAGE_RANKS;
    if (*a && is_list(st))
        part_add(out, SL_TAGGED, 1, "A %s", a)->least = 12;
    if (*b && is_list(st))
        part_add(out, SL_TAGGED, 1, "B %s", b)->least = 12;
    if (metrics)
        part_add(out, SL_TEXT, 2, st->nmetrics == 1 ? "%d metric" : "%d metrics", st->nmetrics);
    else
        part_add(out, SL_TEXT, 2, st->n == 1 ? "%d measurement" : "%d measurements", st->n);
}

static void copy_row(const CompareRow *r, Str *out)
{
    const Effect *e = r->m.effect;
    str_printf(out, "#%s KL %.4g +- %.2g, perplexity %.4g (%+.1f %%), %s\n", r->m.name, e->kl_mean, e->kl_se, e->ppl_quant,
               100 * e->ppl_change, r->set);
}

static void copy(Ui *ui, void *state, bool all, Str *out)
{
    Compare *st = state;
    const CompareRow *row = compare_row(ui, st);
    if (!all && row && (is_list(st) || st->page == PAGE_ONE)) {
        copy_row(row, out);
    } else if (!all && compare_linear(ui, st) >= 0) {
        str_puts(out, ui_model(ui)->linears[compare_linear(ui, st)].name);
    } else if (all && st->page == PAGE_PAIR && st->paired) {
        for (int64_t i = 0; i < st->pair.changes; i++)
            str_printf(out, "%s A %s B %s\n", ui_model(ui)->linears[st->pair.change[i].linear].name, st->pair.change[i].from,
                       st->pair.change[i].to);
    } else if (all) {
        for (int i = 0; i < st->n; i++)
            copy_row(&st->row[i], out);
    }
}

static Here here(Ui *ui, void *state)
{
    return (Here){compare_linear(ui, state), -1};
}

static void fini(void *state)
{
    compare_fini(state);
    compare_ranks_fini(state);
}

/* ---- what keys do ---- */

/* What the list's cursor is on, by the name that commands take; "": nothing. */
static const char *thing_here(Ui *ui, Compare *st, char buf[THING_MAX])
{
    const CompareRow *row = compare_row(ui, st);
    const Metric *m = compare_metric(ui, st);
    buf[0] = '\0';
    if (st->list == PAGE_METRICS && m)
        snprintf(buf, THING_MAX, "%s", m->name);
    else if (st->list == PAGE_MEASURED && row)
        snprintf(buf, THING_MAX, "%s", row->m.name);
    return buf;
}

static const char *refuse_no_row(Ui *ui)
{
    const char *why = refuse_no_model(ui);
    char buf[THING_MAX];
    return why                                     ? why
           : *thing_here(ui, state_of(ui), buf)    ? NULL
           : state_of(ui)->list == PAGE_METRICS    ? "nothing is scored yet; r on Rank (1) runs a metric"
                                                   : "nothing is measured yet; F5 measures what is decided now";
}

static const char *refuse_not_listed(Ui *ui)
{
    const char *why = refuse_no_row(ui);
    return why ? why : is_list(state_of(ui)) || state_of(ui)->page == PAGE_ONE ? NULL : "this is done in the list; q leads back to it";
}

static const char *refuse_no_measurement(Ui *ui)
{
    const char *why = refuse_not_listed(ui);
    return why ? why : state_of(ui)->list == PAGE_METRICS ? "a metric has no levels; Tab lists the measurements" : NULL;
}

static const char *refuse_no_pair(Ui *ui)
{
    const char *why = refuse_no_model(ui);
    return why ? why
           : is_list(state_of(ui)) || state_of(ui)->page == PAGE_ONE ? "two must be compared first: a and b mark them, = compares"
                                                                     : NULL;
}

static const char *refuse_no_marks(Ui *ui)
{
    Session *s = ui_session(ui);
    const char *why = refuse_no_model(ui);
    bool a = s && session_marked(s, MARK_A)[0], b = s && session_marked(s, MARK_B)[0];
    return why  ? why
           : !a ? (b ? "B is marked; a marks the other one" : "two are needed: a marks the row as A, b as B")
           : !b ? "A is marked; go to another row, b marks it"
           : !session_marked_metric(s, MARK_A) != !session_marked_metric(s, MARK_B)
               ? "a measurement and a metric don't compare: mark two of a kind; Tab changes the list"
               : NULL;
}

static const char *refuse_one(Ui *ui)
{
    const Compare *st = state_of(ui);
    const char *why = st->page == PAGE_RANKS ? NULL : refuse_no_measurement(ui);
    return why || st->page == PAGE_RANKS ? why
           : st->n < 2 ? "there is one measurement only; change the decision and measure (F5) again"
                       : NULL;
}

static unsigned compare_mark(Ui *ui, const KeyRow *row, int key)
{
    (void)row;
    const int which = key == 'a' ? MARK_A : MARK_B;
    char thing[THING_MAX];
    Str name = {0};
    thing_here(ui, state_of(ui), thing);
    bool off = strcmp(session_marked(ui_session(ui), which), thing) == 0;
    lexer_quote(&name, off ? "none" : thing);
    if (ui_command(ui, "compare mark %s %s", which == MARK_A ? "A" : "B", str_text(&name)) && !refuse_no_marks(ui))
        ui_say(ui, SL_OK, "A is %s, B is %s; = compares the two", session_marked(ui_session(ui), MARK_A),
               session_marked(ui_session(ui), MARK_B));
    str_free(&name);
    return DO_PAINT;
}

static void open_page(Compare *st, ComparePage page)
{
    st->page = page;
    st->pos[page] = (ListPos){0, 0};
    st->config.top = 0;
    st->aside = false;
}

static unsigned compare_open(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    bool metrics = session_marked_metric(ui_session(ui), MARK_A);
    if (state_of(ui)->page == (metrics ? PAGE_RANKS : PAGE_PAIR))
        ui_say(ui, SL_TEXT, "A and B are side by side already; q leads back to the list");
    state_of(ui)->list = metrics ? PAGE_METRICS : PAGE_MEASURED;
    open_page(state_of(ui), metrics ? PAGE_RANKS : PAGE_PAIR);
    return DO_RELAYOUT;
}

/* What the shown metric is held against: the one beside it, else the one shown before, else the first other with scores. */
static const Metric *other_metric(Ui *ui)
{
    Session *s = ui_session(ui);
    const Metric *now = session_metric(s), *m = session_second(s);
    for (int i = session_commands(s) - 1; !m && i >= 0; i--) {
        const char *line = session_command(s, i);
        m = strncmp(line, "show ", 5) == 0 ? session_metric_find(s, line + 5) : NULL;
        m = m == now || (m && !session_has_run(s, m)) ? NULL : m;
    }
    for (const Metric *const *all = session_metrics(s); !m && *all; all++)
        m = *all != now && session_has_run(s, *all) ? *all : NULL;
    return m;
}

unsigned act_compare(Ui *ui, const KeyRow *row, int key)
{
    const Metric *a = session_metric(ui_session(ui)), *b = other_metric(ui);
    if (!a || !b)
        return ui_refuse(ui, "no other metric has scores yet; m shows another, r runs it");
    if (!ui_command(ui, "compare mark A %s", a->name) || !ui_command(ui, "compare mark B %s", b->name))
        return DO_PAINT;
    ui_say(ui, SL_OK, "A is %s, B is %s; what they rank most differently comes first", a->name, b->name);
    return ui_goto(ui, &view_compare) | compare_open(ui, row, key);
}

static unsigned compare_take(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    ui_command(ui, "take %s", compare_row(ui, state_of(ui))->m.name);
    return DO_PAINT;
}

static unsigned compare_swap(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    ui_command(ui, "compare swap");
    return DO_PAINT;
}

/* Its row on Rank; q there leads back here. */
static unsigned goto_linear(Ui *ui, int64_t linear)
{
    session_set_cursor(ui_session(ui), linear);
    if (ui->nback < UI_MAX_BACK)
        ui->back[ui->nback++] = ui->view;
    ui->view = &view_rank;
    if (session_row_of(ui_session(ui), linear, false) < 0)
        ui_say(ui, SL_WARN, "the filter hides it: Esc takes the filter away; q leads back to Compare");
    else
        ui_say(ui, SL_TEXT, "q leads back to Compare");
    return DO_RELAYOUT;
}

static unsigned show_metric(Ui *ui, Compare *st)
{
    Str name = {0};
    lexer_quote(&name, compare_metric(ui, st)->name);
    bool fine = ui_command(ui, "show %s", str_text(&name));
    str_free(&name);
    if (!fine)
        return DO_PAINT;
    ui->back[ui->nback < UI_MAX_BACK ? ui->nback++ : UI_MAX_BACK - 1] = ui->view;
    ui->view = &view_rank;
    return DO_RELAYOUT;
}

/* ---- what else can be compared ---- */

static const char *refuse_no_list(Ui *ui)
{
    const char *why = refuse_no_model(ui);
    return why ? why : is_list(state_of(ui)) ? NULL : "this is done in the list; q leads back to it";
}

/* Opens the command line with what brings others in, or compares files; it lists and explains what there is. */
static unsigned compare_bring(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    static const char *const begins[2][2] = {{"load session ", "compare measurements "}, {"load scores ", "compare runs "}};
    return input_open(ui, INPUT_COMMAND, begins[state_of(ui)->list == PAGE_METRICS][row->arg]);
}

static const char *refuse_own(Ui *ui)
{
    const char *why = refuse_not_listed(ui);
    char thing[THING_MAX], run[THING_MAX];
    if (why)
        return why;
    session_kept_run(ui_session(ui), thing_here(ui, state_of(ui), thing), run);
    return *run ? NULL : "it is this session's own: D drops what was kept (compare keep NAME) or brought in (i)";
}

static unsigned compare_drop(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    char thing[THING_MAX], run[THING_MAX];
    Str name = {0};
    session_kept_run(ui_session(ui), thing_here(ui, state_of(ui), thing), run);
    lexer_quote(&name, run);
    if (ui_command(ui, "compare drop %s", str_text(&name)))
        ui_say(ui, SL_OK, "dropped: all that was kept or brought in as %s", run);
    str_free(&name);
    return DO_PAINT;
}

/* ---- histograms ---- */

static const char *refuse_no_hist(Ui *ui)
{
    const char *why = refuse_no_pair(ui);
    return why ? why : compare_linear(ui, state_of(ui)) < 0 ? "no row is shown; d shows all of them" : NULL;
}

static const char *refuse_not_hist(Ui *ui)
{
    const char *why = refuse_no_hist(ui);
    return why ? why : state_of(ui)->page == PAGE_HIST ? NULL : "that is for histograms; h draws those of this layer";
}

static unsigned compare_hist(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Compare *st = state_of(ui);
    if (st->page == PAGE_HIST) {
        st->page = st->under;
        return DO_RELAYOUT;
    }
    st->under = st->page;
    st->page = PAGE_HIST;
    return DO_RELAYOUT;
}

static unsigned compare_hist_look(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    bool *on = row->arg ? &state_of(ui)->look.table : &state_of(ui)->look.linear;
    *on = !*on;
    return DO_PAINT;
}

/* In the list the details; of a linear its row on Rank. */
static unsigned compare_enter(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Compare *st = state_of(ui);
    int64_t linear = here(ui, st).linear;
    if (st->page == PAGE_MEASURED)
        st->page = PAGE_ONE;
    else if (st->page == PAGE_ONE)
        st->page = PAGE_MEASURED;
    else if (st->page == PAGE_METRICS)
        return show_metric(ui, st);
    else if (linear < 0)
        return ui_refuse(ui, "no row is shown; d shows all of them");
    else
        return goto_linear(ui, linear);
    return DO_RELAYOUT;
}

static unsigned compare_flip(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Compare *st = state_of(ui);
    ComparePage page = compare_rows_page(st);
    st->pos[page] = (ListPos){0, 0};
    if (page == PAGE_RANKS) {
        st->moved_only = !st->moved_only;
        compare_order_ranks(st);
        ui_say(ui, SL_TEXT, st->moved_only ? "only what moved is listed; d lists all" : "all is listed; d leaves out what did not move");
    } else {
        st->all = !st->all;
        ui_say(ui, SL_TEXT, st->all ? "all layers are listed; d leaves out what is alike" : "only what differs is listed; d lists all layers");
    }
    return DO_PAINT;
}

static unsigned compare_aside(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Compare *st = state_of(ui);
    if (is_list(st)) {
        st->page = st->list = st->list == PAGE_METRICS ? PAGE_MEASURED : PAGE_METRICS;
        return DO_RELAYOUT;
    }
    if (st->page != PAGE_PAIR || ui->layout.main.w >= 100)
        return ui_refuse(ui, "all of it is in sight");
    st->aside = !st->aside;
    return DO_PAINT;
}

static unsigned compare_sort(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    Compare *st = state_of(ui);
    static const char *const names[COMPARE_SORTS] = {
        [BY_NUMBER] = N_("the newest first"), [BY_KL] = N_("the least KL first"), [BY_SIZE] = N_("the smallest first")};
    static const char *const orders[RANK_SORTS] = {
        [BY_MOVE] = N_("known causes first, then what moved most"), [BY_A] = N_("as A ranks them"), [BY_B] = N_("as B ranks them")};
    if (st->page == PAGE_RANKS) {
        st->order = (RankSort)(((int)st->order + row->arg + RANK_SORTS) % RANK_SORTS);
        compare_order_ranks(st);
        ui_say(ui, SL_TEXT, "%s", tr(orders[st->order]));
        return DO_PAINT;
    }
    const CompareRow *now = compare_row(ui, st);
    keep_name(st, now);
    st->sort = (CompareSort)(((int)st->sort + row->arg + COMPARE_SORTS) % COMPARE_SORTS);
    st->have = false;
    ui_say(ui, SL_TEXT, "%s", tr(names[st->sort]));
    return DO_PAINT;
}

static unsigned compare_scroll(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    Compare *st = state_of(ui);
    if (st->page == PAGE_HIST)
        return list_move(&st->pos[st->under], (Motion)row->arg, rows_of(ui, st), 1)
                   ? DO_PAINT
                   : ui_refuse(ui, row->arg == MOVE_DOWN ? "no layer is below" : "no layer is above");
    if (st->page == PAGE_METRICS || st->page == PAGE_RANKS)
        return ui_refuse(ui, "there are no details here; Enter shows the layer or the metric on Rank");
    if (st->page == PAGE_PAIR && !st->aside && ui->layout.main.w < COMPARE_WIDE)
        return ui_refuse(ui, "what else differs is not shown here; Tab shows it");
    if (!detail_move(st->page == PAGE_PAIR ? &st->config : &st->detail, (Motion)row->arg))
        return ui_refuse(ui, row->arg == MOVE_DOWN ? "the details end here" : "the details begin here");
    return DO_PAINT;
}

static unsigned compare_write(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    return input_open(ui, INPUT_COMPARE, "");
}

static unsigned compare_back(Ui *ui, const KeyRow *row, int key)
{
    Compare *st = state_of(ui);
    if (is_list(st))
        return act_back(ui, row, key);
    st->page = st->page == PAGE_HIST ? st->under : st->list;
    return DO_RELAYOUT;
}

static const KeyRow keys[] = {
    {.place = 60, .keys = {'a', 'b'}, .command = "compare mark A|B THING", .help = "mark the row as A (b: as B), or take the mark away",
     .label = "/b Mark", .run = compare_mark, .refuse = refuse_not_listed},
    {.place = 62, .keys = {'='}, .help = "compare A and B: better, worse or tie, and what differs", .label = "Compare",
     .run = compare_open, .refuse = refuse_no_marks},
    {.place = 64, .keys = {'\t'}, .help = "the list of measurements, or that of metrics; of two measurements: what else differs",
     .label = "Lists", .run = compare_aside, .refuse = refuse_no_model},
    {.place = 66, .keys = {'\n', K(KEY_ENTER)},
     .help = "details of a measurement; a metric shown on Rank; of a compared layer its row on Rank", .label = "Details",
     .run = compare_enter, .refuse = refuse_no_row},
    {.place = 68, .keys = {'t'}, .command = "take NUMBER",
     .help = "make the levels of this measurement the present ones again (u takes that back)", .label = "Take",
     .run = compare_take, .refuse = refuse_no_measurement},
    {.place = 70, .keys = {'S'}, .command = "compare swap", .help = "swap A and B", .run = compare_swap, .refuse = refuse_no_marks},
    {.place = 72, .keys = {'d'}, .help = "only what differs, or all layers", .label = "Only/all", .run = compare_flip,
     .refuse = refuse_no_pair},
    {.place = 74, .keys = {'h'}, .command = "compare hist LAYER", .help = "the layer as A and as B quantize it: weight over what is left, and its input",
     .label = "Hist", .run = compare_hist, .refuse = refuse_no_hist},
    {.place = 76, .keys = {'w'}, .command = "compare --out FILE", .help = "write the comparison of A and B as text (asks for the file)",
     .label = "Write", .run = compare_write, .refuse = refuse_no_marks},
    {.place = 77, .keys = {'i'}, .command = "load session ID | load scores FILE",
     .help = "bring in another session's measurements; in the list of metrics: scores of a file", .label = "Bring", .run = compare_bring,
     .arg = 0, .refuse = refuse_no_list},
    {.place = 86, .keys = {'c'}, .command = "compare measurements|runs A B",
     .help = "compare files that measure (of metrics: analyze) wrote as JSON, or one with what is here", .run = compare_bring, .arg = 1,
     .refuse = refuse_no_list},
    {.place = 88, .keys = {'D'}, .command = "compare drop NAME", .help = "drop the run that was kept or brought in, with all its columns",
     .run = compare_drop, .refuse = refuse_own},
    {.place = 78, .keys = {'>', K(KEY_F(6))}, .help = "order: the newest, the least KL, the smallest first; of two metrics: by cause, A, B",
     .label = "Sort", .run = compare_sort, .arg = 1, .refuse = refuse_one},
    {.place = 80, .keys = {'<'}, .help = "the order before", .run = compare_sort, .arg = -1, .refuse = refuse_one},
    {.place = 81, .keys = {'L'}, .help = "histograms: counts linear or logarithmic", .run = compare_hist_look, .arg = 0, .refuse = refuse_not_hist},
    {.place = 83, .keys = {'H'}, .help = "histograms: as a table of numbers, or drawn", .run = compare_hist_look, .arg = 1, .refuse = refuse_not_hist},
    {.place = 82, .keys = {'J'}, .help = "scroll the details down", .run = compare_scroll, .arg = MOVE_DOWN, .refuse = refuse_no_row},
    {.place = 84, .keys = {'K'}, .help = "scroll the details up", .run = compare_scroll, .arg = MOVE_UP, .refuse = refuse_no_row},
    {.place = 570, .keys = {'q', KEY_ESC}, .help = "back to the list; out of this view", .run = compare_back},
    {.help = NULL},
};

const View view_compare = {
    .key = '4', .keys = keys, .name = "compare", .title = "Compare", .state_size = sizeof(Compare),
    .draw = draw, .move = move_rows, .context = context, .copy = copy, .click = click, .here = here, .fini = fini,
};
