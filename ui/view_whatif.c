/* Screen 2: the rules over the recipe's levels, what each gives, and what all of them do: predicted and measured. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/lexer.h"
#include "src/lang.h"
#include "ui/actions.h"
#include "ui/input.h"
#include "ui/whatif.h"

enum { C_ON, C_LEVEL, C_PATTERN, C_HITS, C_COST, C_SHARE, C_NEW, C_NEW_COST, C_NEW_SHARE, C_NOTE, COLUMNS };
static const Column columns[COLUMNS] = {
    [C_ON] = {"on", 3, 3, 0, false},           [C_LEVEL] = {"to", 5, 7, 0, false},
    [C_PATTERN] = {"rule", 24, 48, 0, false},  [C_HITS] = {"hits", 5, 5, 4, true},
    [C_COST] = {"cost", 6, 6, 5, true},        [C_SHARE] = {"loss", 7, 7, 6, true},
    [C_NEW] = {"new", 5, 5, 1, true},          [C_NEW_COST] = {"cost", 6, 6, 2, true},
    [C_NEW_SHARE] = {"loss", 7, 7, 3, true},  [C_NOTE] = {"notes", 12, 80, 7, false},
};
enum { PANEL_ROWS = 8, PLOT_FROM = 100, PLOT_MOST = 18 };

static bool move_rows(Ui *ui, void *state, Motion m)
{
    Whatif *st = state;
    if (st->front)
        return whatif_front_move(ui, st, m);
    return list_move(&st->pos, m, session_whatifs(ui_session(ui)), st->page);
}

static void click(Ui *ui, void *state, int y, int x)
{
    Whatif *st = state;
    (void)x;
    if (!st->front && y >= 1 && st->pos.top + y - 1 < session_whatifs(ui_session(ui)))
        st->pos.cur = st->pos.top + y - 1;
}

static const WhatIf *current(Ui *ui)
{
    Whatif *st = ui_state(ui, &view_whatif);
    int n = session_whatifs(ui_session(ui));
    list_clamp(&st->pos, n, st->page);
    return n > 0 ? session_whatif(ui_session(ui), (int)st->pos.cur) : NULL;
}

static void share_text(char *out, size_t size, double share)
{
    if (!isfinite(share))
        snprintf(out, size, "?");
    else if (share == 0)
        snprintf(out, size, "0");
    else
        snprintf(out, size, "%+.1f%%~", -100 * share);
}

/* A pattern in w cells: of a long name first the "model." goes, which tells nothing. */
static void put_pattern(Pen *p, Slot slot, int w, const char *pattern)
{
    enum { PREFIX = sizeof "model." - 1 };
    Str rest = {0};
    if (text_width(pattern) > w && strncmp(pattern, "model.", PREFIX) == 0)
        str_printf(&rest, "%s%s", p->ui->term.glyphs.ellipsis, pattern + PREFIX);
    pen_name(p, slot, w, rest.len ? str_text(&rest) : pattern);
    str_free(&rest);
}

static void draw_row(Ui *ui, Rect r, int y, const int *w, const WhatIf *f, bool here)
{
    char number[COLUMNS][24] = {{0}}, note[sizeof f->note + 4] = "", over[80];
    Session *s = ui_session(ui);
    fmt_count(number[C_HITS], sizeof number[0], f->hits);
    fmt_delta(number[C_COST], sizeof number[0], (double)f->bytes);
    share_text(number[C_SHARE], sizeof number[0], f->share);
    fmt_count(number[C_NEW], sizeof number[0], f->fresh);
    fmt_delta(number[C_NEW_COST], sizeof number[0], (double)f->fresh_bytes);
    share_text(number[C_NEW_SHARE], sizeof number[0], f->fresh_share);
    if (!f->on && ask_over(ui, f->fresh_bytes, f->fresh_bits, over, sizeof over) > 0)
        snprintf(note, sizeof note, "! %s", over + strspn(over, ", "));
    else if (f->note[0])
        snprintf(note, sizeof note, "! %s", f->note);
    Slot row = f->on ? SL_ROW : SL_DIM;
    const char *text[COLUMNS] = {[C_ON] = f->on ? "[x]" : "[ ]",
                                 [C_LEVEL] = f->to == WHATIF_QUANTIZE ? tr("quant") : session_level_name(s, f->to),
                                 [C_PATTERN] = f->pattern,
                                 [C_NOTE] = note};
    Pen p = pen_at(ui, r.y + y, r.x, r.w);
    p.reverse = here;
    pen_char(&p, row, here ? ui->term.glyphs.mark : L' ');
    if (here)
        ui_rest_cursor(ui, p.y, r.x);
    for (int c = 0; c < COLUMNS; c++) {
        if (!w[c])
            continue;
        Slot slot = c == C_SHARE || c == C_NEW_SHARE ? SL_PREDICTED : c == C_NOTE ? SL_WARN : row;
        pen_puts(&p, row, " ");
        if (c == C_PATTERN)
            put_pattern(&p, slot, w[c], text[c]);
        else if (c == C_LEVEL)
            pen_name(&p, slot, w[c], text[c]);
        else
            pen_cell(&p, slot, w[c], columns[c].right, text[c] ? text[c] : number[c]);
    }
    pen_fill(&p, row);
}

static void draw_list(Ui *ui, Whatif *st, Rect r)
{
    int n = session_whatifs(ui_session(ui)), w[COLUMNS];
    st->page = r.h - 1;
    list_clamp(&st->pos, n, st->page);
    columns_fit(columns, COLUMNS, r.w - 2, w);
    Pen p = pen_at(ui, r.y, r.x, r.w);
    pen_puts(&p, SL_HEADER, " ");
    for (int c = 0; c < COLUMNS; c++) {
        if (!w[c])
            continue;
        pen_puts(&p, SL_HEADER, " ");
        pen_cell(&p, SL_HEADER, w[c], columns[c].right, tr(columns[c].title));
    }
    pen_fill(&p, SL_HEADER);
    for (int y = 1; y < r.h && st->pos.top + y - 1 < n; y++)
        draw_row(ui, r, y, w, session_whatif(ui_session(ui), (int)st->pos.top + y - 1),
                 st->pos.top + y - 1 == st->pos.cur);
    const WhatIf *f = n > 0 ? session_whatif(ui_session(ui), (int)st->pos.cur) : NULL;
    st->noted = false;
    if (f && f->note[0]) { /* the notes of the cursor's row in full, else the line of messages has them */
        int y = r.y + n + 2, from = y;
        Rect text = {r.y, r.x + 2, 1 << 20, r.w - 4};
        char note[sizeof f->note + 4];
        snprintf(note, sizeof note, "! %s", f->note);
        draw_clip(ui, 0, 0);
        draw_wrapped(ui, text, &y, SL_WARN, note);
        draw_clip(ui, 0, ui->rows);
        st->noted = y <= r.y + r.h;
        if (st->noted)
            draw_wrapped(ui, text, &from, SL_WARN, note);
    }
    if (n == 0) {
        int y = r.y + 2;
        Rect text = {r.y, r.x + 2, r.h, r.w - 4};
        draw_wrapped(ui, text, &y, SL_TEXT,
                     "Every layer has the level that the recipe gives it. p types a rule, a pattern as "
                     "*layers.{1,6}.mlp.down_proj, and shows its hits, its size and its share of the loss while you "
                     "type. x on screen 1 makes a rule of the layer under the cursor.");
    }
}

/* Lines of the panel: all that the figures need, where the rules leave them. */
static int panel_rows(Ui *ui, Rect r)
{
    int n = session_whatifs(ui_session(ui)), need = detail_lines(ui, r, whatif_figures, 0);
    enum { HINT_ROWS = 6 }; /* what stands there without a rule */
    int least = r.h >= 24 ? PANEL_ROWS + 2 : r.h >= 16 ? PANEL_ROWS : r.h / 2, room = r.h - 1 - (n ? n + 1 : HINT_ROWS);
    if (need <= least || room <= least)
        return least;
    return need < room ? need : room;
}

static void draw(Ui *ui, void *state)
{
    Whatif *st = state;
    Rect r = ui->layout.main;
    if (!ui_model(ui))
        return;
    if (st->front) {
        whatif_front_draw(ui, st, r);
        return;
    }
    Rect figures = r, plot = r;
    if (r.w >= PLOT_FROM) { /* the plot stands beside the figures */
        figures.w = r.w * 3 / 5;
        plot.x += figures.w + 1;
        plot.w -= figures.w + 1;
    }
    int panel = panel_rows(ui, figures);
    Rect list = {r.y, r.x, r.h - panel - 1, r.w}, below = {r.y + r.h - panel, r.x, panel, figures.w};
    draw_list(ui, state, list);
    draw_hline(ui, below.y - 1, r.x, r.w);
    if (r.w >= PLOT_FROM) {
        draw_vline(ui, below.y, plot.x - 1, panel);
        whatif_plot(ui, (Rect){below.y, plot.x, panel > PLOT_MOST ? PLOT_MOST : panel, plot.w}, -1);
    }
    detail_scrolled(ui, below, whatif_figures, 0, &st->figures, tr("J K scroll"));
}

static const char *note(Ui *ui, void *state)
{
    const Whatif *st = state;
    const WhatIf *f = ui_model(ui) ? current(ui) : NULL;
    return f && f->note[0] && !st->noted ? f->note : NULL;
}

static void context(Ui *ui, void *state, LineParts *out)
{
    (void)state;
    Session *s = ui_session(ui);
    int redo = session_redo_depth(s);
    if (redo > 0)
        part_add(out, SL_TEXT, 4, "redo %d", redo);
    part_add(out, SL_TEXT, 1, "base %s", session_recipe(s) ? recipe_name(session_recipe(s)) : "no recipe")->least = 12;
}

static void copy(Ui *ui, void *state, bool all, Str *out)
{
    (void)state;
    Session *s = ui_session(ui);
    const WhatIf *f = current(ui);
    if (f && !all)
        str_puts(out, f->pattern);
    for (int i = 0; all && i < session_whatifs(s); i++) {
        f = session_whatif(s, i);
        str_printf(out, "%s %6lld  %s\n", f->on ? "[x]" : "[ ]", (long long)f->hits, f->pattern);
    }
}

/* Runs a verb on the row of the cursor. */
static unsigned on_rule(Ui *ui, const char *verb)
{
    const WhatIf *f = current(ui);
    Str b = {0};
    str_printf(&b, "rule %s ", verb);
    lexer_quote(&b, f->pattern);
    ui_command(ui, "%s", str_text(&b));
    str_free(&b);
    return DO_PAINT;
}

static unsigned whatif_toggle(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    return on_rule(ui, current(ui)->on ? "off" : "on");
}

static unsigned whatif_measure_full(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    ui_command(ui, "measure --full");
    return DO_PAINT;
}

static unsigned whatif_delete(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    return on_rule(ui, "delete");
}

static unsigned whatif_edit(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    char *text = strdup(current(ui)->pattern);
    if (text)
        snprintf(ui->rule, sizeof ui->rule, "%s", text);
    unsigned bits = input_open(ui, INPUT_RULE, text);
    free(text);
    return bits;
}

static unsigned whatif_shift(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    Whatif *st = ui_state(ui, &view_whatif);
    on_rule(ui, row->arg < 0 ? "up" : "down");
    st->pos.cur += row->arg; /* with its row */
    list_clamp(&st->pos, session_whatifs(ui_session(ui)), st->page);
    return DO_PAINT;
}

static unsigned list_hits(Ui *ui)
{
    const WhatIf *f = current(ui);
    const Model *m = ui_model(ui);
    Session *s = ui_session(ui);
    bool *hits = calloc((size_t)m->nlinears + 1, sizeof *hits);
    Str text = {0}, title = {0};
    Error err = {ST_OK, ""};
    int64_t n = 0;
    if (f->note[0])
        str_printf(&text, "! %s\n\n", f->note);
    if (!hits || session_target(s, f->pattern, hits, &n, &err) != ST_OK) {
        ui_say(ui, SL_ERR, "%s", hits ? err.text : "out of memory");
    } else {
        for (int64_t i = 0; i < m->nlinears; i++) {
            if (hits[i])
                str_printf(&text, "%s  %s\n", session_level_of(s, i) == 0 ? "X" : " ", m->linears[i].name);
        }
        str_printf(&title, "%s: %lld hits", f->pattern, (long long)n);
        pager_open(ui, str_text(&title), str_text(&text), NULL);
    }
    free(hits);
    str_free(&text);
    str_free(&title);
    return DO_PAINT;
}

static bool on_front(Ui *ui)
{
    const Whatif *st = ui_state(ui, &view_whatif);
    return st->front;
}

/* On the front: takes the point; else the layers of the rule. */
static unsigned whatif_enter(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    return on_front(ui) ? whatif_front_take(ui, ui_state(ui, &view_whatif)) : list_hits(ui);
}

static const char *refuse_enter(Ui *ui)
{
    return on_front(ui) ? NULL : refuse_no_whatif(ui);
}

/* What acts on a rule has none under the cursor on the front. */
static const char *refuse_rule(Ui *ui)
{
    return on_front(ui) ? "the front is in sight, not the rules; f goes back to them" : refuse_no_whatif(ui);
}

static unsigned whatif_front(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Whatif *st = ui_state(ui, &view_whatif);
    if (st->front)
        st->front = false;
    else
        whatif_front_open(ui, st);
    return DO_PAINT;
}

static unsigned whatif_back(Ui *ui, const KeyRow *row, int key)
{
    Whatif *st = ui_state(ui, &view_whatif);
    if (!st->front)
        return act_back(ui, row, key);
    st->front = false;
    return DO_PAINT;
}

static const char *refuse_no_sets(Ui *ui)
{
    const char *why = refuse_no_model(ui);
    return why ? why : session_kept_sets(ui_session(ui)) ? NULL : "no set is kept yet; a keeps this one as A, b as B";
}

static unsigned interact_yes(Ui *ui)
{
    ui_command(ui, "interact");
    return DO_PAINT;
}

/* Says what it costs first; what is known is shown at once. */
static unsigned whatif_interact(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    Whatif *st = ui_state(ui, &view_whatif);
    InteractCost c;
    Error err = {0};
    if (session_interact(ui_session(ui), &(InteractAsk){.pairs = 15, .dry = true}, &c, &err) != ST_OK)
        return ui_refuse(ui, "%s", err.text);
    if (!c.sets)
        return interact_yes(ui);
    text_format(st->asks, sizeof st->asks, "measure %lld sets of %lld groups, %lld pairs, about %.2g passes? y yes",
                (long long)c.sets, (long long)c.groups, (long long)c.pairs, c.passes);
    ui->question = (Question){.text = st->asks, .yes = interact_yes};
    return DO_PAINT;
}

static unsigned whatif_step(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    ui_command(ui, "%s", row->command);
    return DO_PAINT;
}

static const char *refuse_all_seen(Ui *ui)
{
    const Whatif *st = ui_state(ui, &view_whatif);
    return st->figures.lines > st->figures.page ? NULL : "all of the figures are in sight";
}

static unsigned whatif_scroll(Ui *ui, const KeyRow *row, int key)
{
    if (((Whatif *)ui_state(ui, &view_whatif))->front)
        return ui_refuse(ui, "the front has no figures below it; q leads back to the rules");
    (void)key;
    Whatif *st = ui_state(ui, &view_whatif);
    if (!detail_move(&st->figures, (Motion)row->arg))
        return ui_refuse(ui, row->arg == MOVE_DOWN ? "the figures end here" : "the figures begin here");
    return DO_PAINT;
}

static const KeyRow keys[] = {
    {.place = 30, .keys = {'r'}, .command = "measure",
     .help = "quantize as decided here and measure the real effect", .label = "Measure", .run = act_measure,
     .refuse = refuse_no_model},
    {.place = 31, .keys = {'R'}, .command = "measure --full", .help = "the same on all of the evaluation set",
     .run = whatif_measure_full, .refuse = refuse_no_model},
    {.place = 70, .keys = {'x', ' ', K(KEY_F(7)), K(KEY_F(8))}, .command = "rule on|off RULE",
     .help = "switch this rule off or on", .label = "Switch", .run = whatif_toggle,
     .refuse = refuse_rule},
    {.place = 72, .keys = {'e'}, .command = "rule edit RULE PATTERN", .help = "give this rule another pattern",
     .label = "Edit", .run = whatif_edit, .refuse = refuse_rule},
    {.place = 74, .keys = {'d', K(KEY_DC)}, .command = "rule delete RULE", .help = "delete this rule",
     .label = "Delete", .run = whatif_delete, .refuse = refuse_rule},
    {.place = 76, .keys = {'<'}, .command = "rule up RULE", .help = "move this rule before the one above",
     .run = whatif_shift, .arg = -1, .refuse = refuse_rule},
    {.place = 78, .keys = {'>'}, .command = "rule down RULE", .help = "move this rule behind the one below",
     .run = whatif_shift, .arg = 1, .refuse = refuse_rule},
    {.place = 80, .keys = {'o'}, .command = "fit GOAL",
     .help = "levels for a goal by prediction: bytes, bits, KL, perplexity; tells what can be had",
     .label = "Fit", .run = act_prompt, .arg = INPUT_FIT, .refuse = refuse_no_model},
    {.place = 82, .keys = {'T'}, .command = "tune --until GOAL",
     .help = "search the fewest bytes that hold a goal by measuring about 8 sets", .label = "Tune", .run = act_prompt,
     .arg = INPUT_TUNE, .refuse = refuse_no_model},
    {.place = 84, .keys = {'+'}, .command = "grow", .help = "give the next group back, the one of most loss per byte",
     .label = "Grow", .run = whatif_step, .refuse = refuse_no_model},
    {.place = 86, .keys = {'-'}, .command = "trim", .help = "take the least useful group back", .label = "Trim",
     .run = whatif_step, .refuse = refuse_no_model},
    {.place = 88, .keys = {'f'}, .help = "the front of size and loss to walk along, and back", .label = "Front",
     .run = whatif_front, .refuse = refuse_no_model},
    {.place = 89, .keys = {'B'}, .command = "set budget=SIZE", .help = "a budget that the set is held against",
     .run = act_prompt, .arg = INPUT_BUDGET, .refuse = refuse_no_model},
    {.place = 92, .keys = {'a'}, .command = "keep A", .help = "keep this set as A", .run = whatif_step,
     .refuse = refuse_no_model},
    {.place = 94, .keys = {'b'}, .command = "keep B", .help = "keep this set as B", .run = whatif_step,
     .refuse = refuse_no_model},
    {.place = 96, .keys = {'S'}, .command = "swap", .help = "to the other kept set; u comes back", .label = "Swap",
     .run = whatif_step, .refuse = refuse_no_sets},
    {.place = 98, .keys = {'='}, .command = "sets", .help = "what the kept sets cost and lose, and where they differ",
     .run = whatif_step, .refuse = refuse_no_sets},
    {.place = 99, .keys = {'i'}, .command = "interact",
     .help = "interactions of what is given back: sum of each alone, all together, worst pairs",
     .run = whatif_interact, .refuse = refuse_no_model},
    {.place = 340, .keys = {'\n', '\t', K(KEY_ENTER)}, .help = "list the layers this rule hits; on the front: take this point",
     .label = "Hits", .run = whatif_enter, .refuse = refuse_enter},
    {.place = 342, .keys = {'J'}, .help = "scroll the figures below the rules down", .run = whatif_scroll,
     .arg = MOVE_DOWN, .refuse = refuse_all_seen},
    {.place = 344, .keys = {'K'}, .help = "scroll the figures below the rules up", .run = whatif_scroll,
     .arg = MOVE_UP, .refuse = refuse_all_seen},
    {.place = 570, .keys = {'q', KEY_ESC}, .help = "back from the front, out of this view", .run = whatif_back},
    {.help = NULL},
};

const View view_whatif = {
    .key = '2', .keys = keys, .name = "whatif", .title = "What-if", .state_size = sizeof(Whatif),
    .draw = draw, .move = move_rows, .context = context, .copy = copy, .click = click,
    .note = note,
};
