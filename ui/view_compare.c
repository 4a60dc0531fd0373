/* Screen 4: what was measured, and two of it side by side. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/fold.h"
#include "src/lang.h"
#include "ui/actions.h"
#include "ui/compare.h"
#include "ui/input.h"

static Compare *state_of(Ui *ui)
{
    return ui_state(ui, &view_compare);
}

static void draw(Ui *ui, void *state)
{
    Compare *st = state;
    static void (*const pages[COMPARE_PAGES])(Ui *, Compare *, Rect) = {
        [PAGE_MEASURED] = compare_draw_list, [PAGE_ONE] = compare_draw_one, [PAGE_PAIR] = compare_draw_pair};
    if (!ui_model(ui))
        return;
    compare_refresh(ui, st);
    if (st->page == PAGE_ONE && !st->n)
        st->page = PAGE_MEASURED;
    pages[st->page](ui, st, ui->layout.main);
}

static bool move_rows(Ui *ui, void *state, Motion m)
{
    Compare *st = state;
    if (st->page == PAGE_ONE)
        return detail_move(&st->detail, m);
    if (st->page == PAGE_PAIR && st->aside)
        return detail_move(&st->config, m);
    if (st->page == PAGE_PAIR)
        return list_move(&st->pos[PAGE_PAIR], m, compare_pair_rows(ui, st), st->seen[PAGE_PAIR]);
    compare_row(ui, st);
    bool moved = list_move(&st->pos[PAGE_MEASURED], m, st->n, st->seen[PAGE_MEASURED]);
    st->id = 0;
    const CompareRow *row = compare_row(ui, st);
    st->id = row ? row->m.id : 0;
    if (moved)
        st->detail.top = 0;
    return moved;
}

static void click(Ui *ui, void *state, int y, int x)
{
    Compare *st = state;
    (void)x;
    if (st->page != PAGE_MEASURED || y < 1 || y > st->seen[PAGE_MEASURED] || st->pos[PAGE_MEASURED].top + y - 1 >= st->n)
        return;
    st->id = 0;
    st->pos[PAGE_MEASURED].cur = st->pos[PAGE_MEASURED].top + y - 1;
    const CompareRow *row = compare_row(ui, st);
    st->id = row ? row->m.id : 0;
}

static void context(Ui *ui, void *state, LineParts *out)
{
    Compare *st = state;
    const char *a = session_marked(ui_session(ui), MARK_A), *b = session_marked(ui_session(ui), MARK_B);
    compare_refresh(ui, st);
    part_add(out, SL_TEXT, 2, st->n == 1 ? "%d measurement" : "%d measurements", st->n);
    if (*a)
        part_add(out, SL_TAGGED, 0, "A #%s", a);
    if (*b)
        part_add(out, SL_TAGGED, 0, "B #%s", b);
}

static void copy_row(const CompareRow *r, Str *out)
{
    const Effect *e = r->m.effect;
    str_printf(out, "#%d KL %.4g +- %.2g, perplexity %.4g (%+.1f %%), %s\n", r->m.id, e->kl_mean, e->kl_se, e->ppl_quant,
               100 * e->ppl_change, r->set);
}

static void copy(Ui *ui, void *state, bool all, Str *out)
{
    Compare *st = state;
    const CompareRow *row = compare_row(ui, st);
    if (!all && row && st->page != PAGE_PAIR) {
        copy_row(row, out);
    } else if (!all && st->page == PAGE_PAIR && st->paired && compare_pair_rows(ui, st)) {
        str_puts(out, ui_model(ui)->linears[compare_pair_linear(st, st->pos[PAGE_PAIR].cur)].name);
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
    Compare *st = state;
    bool row = st->page == PAGE_PAIR && st->paired && st->pos[PAGE_PAIR].cur < compare_pair_rows(ui, st);
    return (Here){row ? compare_pair_linear(st, st->pos[PAGE_PAIR].cur) : -1, -1};
}

static void fini(void *state)
{
    compare_fini(state);
}

/* ---- what keys do ---- */

static const char *refuse_no_row(Ui *ui)
{
    const char *why = refuse_no_model(ui);
    return why ? why : compare_row(ui, state_of(ui)) ? NULL : "nothing is measured yet; F5 measures what is decided now";
}

static const char *refuse_not_listed(Ui *ui)
{
    const char *why = refuse_no_row(ui);
    return why ? why : state_of(ui)->page == PAGE_PAIR ? "this is done in the list; q leads back to it" : NULL;
}

static const char *refuse_no_pair(Ui *ui)
{
    const char *why = refuse_no_row(ui);
    return why ? why : state_of(ui)->page == PAGE_PAIR ? NULL : "two must be compared first: a and b mark them, = compares";
}

static const char *refuse_no_marks(Ui *ui)
{
    Session *s = ui_session(ui);
    const char *why = refuse_no_row(ui);
    bool a = s && session_marked(s, MARK_A)[0], b = s && session_marked(s, MARK_B)[0];
    return why      ? why
           : !a     ? (b ? "B is marked; a marks the other one" : "two are needed: a marks the row as A, b as B")
           : !b     ? "A is marked; go to another row, b marks it"
                    : NULL;
}

static const char *refuse_one(Ui *ui)
{
    const char *why = refuse_not_listed(ui);
    return why ? why : state_of(ui)->n < 2 ? "there is one measurement only; change the decision and measure (F5) again" : NULL;
}

static unsigned compare_mark(Ui *ui, const KeyRow *row, int key)
{
    (void)row;
    const int which = key == 'a' ? MARK_A : MARK_B;
    const char *letter = which == MARK_A ? "A" : "B";
    char id[16];
    snprintf(id, sizeof id, "%d", compare_row(ui, state_of(ui))->m.id);
    bool off = strcmp(session_marked(ui_session(ui), which), id) == 0;
    if (ui_command(ui, "compare mark %s %s", letter, off ? "none" : id) && session_marked(ui_session(ui), MARK_A)[0] &&
        session_marked(ui_session(ui), MARK_B)[0])
        ui_say(ui, SL_OK, "#%s is A, #%s is B; = compares the two", session_marked(ui_session(ui), MARK_A),
               session_marked(ui_session(ui), MARK_B));
    return DO_PAINT;
}

static unsigned compare_open(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Compare *st = state_of(ui);
    st->page = PAGE_PAIR;
    st->pos[PAGE_PAIR] = (ListPos){0, 0};
    st->config.top = 0;
    st->aside = false;
    return DO_RELAYOUT;
}

static unsigned compare_take(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    ui_command(ui, "take %d", compare_row(ui, state_of(ui))->m.id);
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
    else if (linear < 0)
        return ui_refuse(ui, "no linear's level differs; d shows all of them");
    else
        return goto_linear(ui, linear);
    return DO_RELAYOUT;
}

static unsigned compare_flip(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Compare *st = state_of(ui);
    st->all = !st->all;
    st->pos[PAGE_PAIR] = (ListPos){0, 0};
    return DO_PAINT;
}

static unsigned compare_aside(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Compare *st = state_of(ui);
    if (ui->layout.main.w >= 100)
        return ui_refuse(ui, "both are in sight");
    st->aside = !st->aside;
    return DO_PAINT;
}

static unsigned compare_sort(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    Compare *st = state_of(ui);
    static const char *const names[COMPARE_SORTS] = {
        [BY_NUMBER] = N_("the newest first"), [BY_KL] = N_("the least KL first"), [BY_SIZE] = N_("the smallest first")};
    const CompareRow *now = compare_row(ui, st);
    st->id = now ? now->m.id : 0;
    st->sort = (CompareSort)(((int)st->sort + row->arg + COMPARE_SORTS) % COMPARE_SORTS);
    st->have = false;
    ui_say(ui, SL_TEXT, "%s", tr(names[st->sort]));
    return DO_PAINT;
}

static unsigned compare_scroll(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    Compare *st = state_of(ui);
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
    if (st->page == PAGE_MEASURED)
        return act_back(ui, row, key);
    st->page = PAGE_MEASURED;
    return DO_RELAYOUT;
}

static const KeyRow keys[] = {
    {.place = 60, .keys = {'a', 'b'}, .command = "compare mark A|B NUMBER",
     .help = "mark the measurement as A (b: as B), or take the mark away", .label = "/b Mark", .run = compare_mark,
     .refuse = refuse_not_listed},
    {.place = 64, .keys = {'='}, .help = "compare A and B: better, worse or tie, and what differs", .label = "Compare",
     .run = compare_open, .refuse = refuse_no_marks},
    {.place = 66, .keys = {'\n', K(KEY_ENTER)}, .help = "details of the measurement; of a linear: its row on Rank", .label = "Details",
     .run = compare_enter, .refuse = refuse_no_row},
    {.place = 68, .keys = {'t'}, .command = "take NUMBER",
     .help = "make the levels of this measurement the present ones again (u takes that back)", .label = "Take",
     .run = compare_take, .refuse = refuse_not_listed},
    {.place = 70, .keys = {'S'}, .command = "compare swap", .help = "swap A and B", .run = compare_swap, .refuse = refuse_no_marks},
    {.place = 72, .keys = {'d'}, .help = "linears whose level differs, or all of them", .run = compare_flip,
     .refuse = refuse_no_pair},
    {.place = 74, .keys = {'\t'}, .help = "the linears, or what else differs", .label = "What differs", .run = compare_aside,
     .refuse = refuse_no_pair},
    {.place = 76, .keys = {'w'}, .command = "compare --out FILE", .help = "write the comparison of A and B as text (asks for the file)",
     .label = "Write", .run = compare_write, .refuse = refuse_no_marks},
    {.place = 78, .keys = {'>', K(KEY_F(6))}, .help = "order: the newest, the least KL, the smallest first", .label = "Sort",
     .run = compare_sort, .arg = 1, .refuse = refuse_one},
    {.place = 80, .keys = {'<'}, .help = "the order before", .run = compare_sort, .arg = -1, .refuse = refuse_one},
    {.place = 82, .keys = {'J'}, .help = "scroll the details down", .run = compare_scroll, .arg = MOVE_DOWN, .refuse = refuse_no_row},
    {.place = 84, .keys = {'K'}, .help = "scroll the details up", .run = compare_scroll, .arg = MOVE_UP, .refuse = refuse_no_row},
    {.place = 570, .keys = {'q', KEY_ESC}, .help = "back to the list; out of this view", .run = compare_back},
    {.help = NULL},
};

const View view_compare = {
    .key = '4', .keys = keys, .name = "compare", .title = "Compare", .state_size = sizeof(Compare),
    .draw = draw, .move = move_rows, .context = context, .copy = copy, .click = click, .here = here, .fini = fini,
};
