/* Screen 8: the five steps of accuracy tuning; the entries of the step of the cursor, and what is known of the one below it. */
#include "session/guide.h"

#include <stdio.h>
#include <string.h>

#include "src/lang.h"
#include "ui/actions.h"
#include "ui/input.h"

typedef struct GuideScreen {
    int step, item; /* of the cursor: item -1 is the step itself, else its place in the step */
    ListPos pos;
    int page;
    bool begun;     /* the cursor was put where it begins */
} GuideScreen;

static const GuideView *guide(Ui *ui)
{
    const GuideView *v = NULL;
    if (!ui_model(ui) || session_guide(ui_session(ui), &v, NULL) != ST_OK)
        return NULL;
    return v;
}

/* The screen's rows: the steps, and behind that of the cursor its entries. */
static int64_t rows(const GuideView *v, const GuideScreen *g)
{
    return GUIDE_STEPS + v->step[g->step].n;
}

static int64_t row_of(const GuideScreen *g)
{
    return g->step + 1 + g->item;
}

static void row_at(const GuideView *v, const GuideScreen *g, int64_t row, int *step, int *item)
{
    int n = v->step[g->step].n;
    *item = -1;
    if (row <= g->step) {
        *step = (int)row;
    } else if (row <= g->step + n) {
        *step = g->step;
        *item = (int)row - g->step - 1;
    } else {
        *step = (int)row - n;
    }
}

/* NULL on a step. */
static const GuideItem *item_here(const GuideView *v, const GuideScreen *g)
{
    return g->item < 0 ? NULL : &v->item[v->step[g->step].first + g->item];
}

/* What commands call what the cursor is on. */
static const char *id_here(const GuideView *v, const GuideScreen *g)
{
    const GuideItem *it = item_here(v, g);
    return it ? it->id : v->step[g->step].id;
}

static void begin(const GuideView *v, GuideScreen *g)
{
    int first = v->take >= 0 && !v->met ? v->take : v->next;
    if (!g->begun && first >= 0) {
        g->step = v->item[first].step;
        g->item = first - v->step[g->step].first;
    } else if (!g->begun) {
        g->step = 0;
        g->item = -1;
    }
    g->begun = true;
    if (g->item >= v->step[g->step].n)
        g->item = -1;
}

static bool move_rows(Ui *ui, void *state, Motion m)
{
    GuideScreen *g = state;
    const GuideView *v = guide(ui);
    if (!v)
        return false;
    begin(v, g);
    g->pos.cur = row_of(g);
    bool moved = list_move(&g->pos, m, rows(v, g), g->page);
    int step, item;
    row_at(v, g, g->pos.cur, &step, &item);
    g->step = step;
    g->item = item;
    return moved;
}

static const Slot slots[GUIDE_STATES] = {
    [GUIDE_TODO] = SL_TEXT,    [GUIDE_ASKS] = SL_WARN,    [GUIDE_RUNNING] = SL_RUNNING, [GUIDE_BETTER] = SL_TAGGED, [GUIDE_DONE] = SL_DONE,  [GUIDE_OLD] = SL_STALE, [GUIDE_HAS] = SL_DONE,
    [GUIDE_SKIPPED] = SL_EXCLUDED, [GUIDE_MISSING] = SL_DIM, [GUIDE_LATER] = SL_DIM,     [GUIDE_STOP] = SL_FAILED, [GUIDE_MET] = SL_DIM,
};

static bool faint(GuideState s)
{
    return s == GUIDE_MISSING || s == GUIDE_LATER || s == GUIDE_SKIPPED;
}

/* A phrase in the language of the screen. */
static const char *said(const Phrase *p, char *buf, size_t size)
{
    phrase_say(p, tr, buf, size);
    return buf;
}

static void draw_row(Ui *ui, Rect r, int y, bool here, bool inner, const char *id, const char *title, GuideState state, const char *word, const Phrase *line)
{
    char cut[512], words[512];
    Pen p = pen_at(ui, y, r.x, r.w);
    p.reverse = here;
    pen_char(&p, SL_TEXT, here ? ui->term.glyphs.mark : L' ');
    if (here)
        ui_rest_cursor(ui, y, r.x);
    int wide = r.w >= 100 ? 46 : r.w >= 76 ? 38 : 27;
    snprintf(words, sizeof words, "%s%s %s", inner ? "  " : "", id, tr(title));
    text_clip(cut, sizeof cut, words, wide - 1, ui->term.glyphs.ellipsis);
    pen_cell(&p, faint(state) ? SL_DIM : inner ? SL_TEXT : SL_STRONG, wide, false, cut);
    pen_cell(&p, slots[state], 11, false, tr(word));
    text_clip(cut, sizeof cut, said(line, words, sizeof words), p.end - p.x, ui->term.glyphs.ellipsis);
    pen_puts(&p, faint(state) ? SL_DIM : SL_TEXT, cut);
    if (here)
        pen_fill(&p, SL_TEXT);
}

static void draw_list(Ui *ui, const GuideView *v, GuideScreen *g, Rect r)
{
    g->page = r.h;
    g->pos.cur = row_of(g);
    list_clamp(&g->pos, rows(v, g), g->page);
    for (int64_t i = g->pos.top; i < rows(v, g) && i < g->pos.top + r.h; i++) {
        int step, item, y = r.y + (int)(i - g->pos.top);
        row_at(v, g, i, &step, &item);
        const GuideStep *st = &v->step[step];
        if (item < 0) {
            draw_row(ui, r, y, i == g->pos.cur, false, st->id, st->title, st->state, guide_state_word(st->state), &st->line);
        } else {
            const GuideItem *it = &v->item[st->first + item];
            bool reason = it->reason.parts && (it->state == GUIDE_SKIPPED || it->state == GUIDE_TODO || !it->evidence.parts);
            const Phrase *line = reason ? &it->reason : it->evidence.parts ? &it->evidence : &it->delta;
            draw_row(ui, r, y, i == g->pos.cur, true, it->id, it->title, it->state, guide_item_word(it), line);
        }
    }
}

/* "changes: ..." */
static void draw_told(Ui *ui, Rect r, int *y, Slot slot, const char *label, const char *text)
{
    char line[640];
    if (!text[0])
        return;
    snprintf(line, sizeof line, "%s: %s", tr(label), tr(text));
    draw_wrapped(ui, r, y, slot, line);
}

static void draw_said(Ui *ui, Rect r, int *y, Slot slot, const char *label, const Phrase *p)
{
    char text[512];
    draw_told(ui, r, y, slot, label, said(p, text, sizeof text));
}

static void draw_detail(Ui *ui, const GuideView *v, const GuideScreen *g, Rect r)
{
    const GuideItem *it = item_here(v, g);
    const GuideStep *st = &v->step[g->step];
    int y = r.y;
    if (!it) {
        draw_said(ui, r, &y, SL_TEXT, "found", &st->line);
        draw_wrapped(ui, r, &y, SL_DIM, st->why);
        return;
    }
    draw_said(ui, r, &y, SL_STRONG, "found", &it->evidence);
    draw_said(ui, r, &y, it->state == GUIDE_STOP ? SL_FAILED : SL_WARN, it->state == GUIDE_SKIPPED ? "skipped" : it->state == GUIDE_STOP ? "stop" : "now", &it->reason);
    draw_said(ui, r, &y, SL_TEXT, "changes", &it->delta);
    draw_told(ui, r, &y, SL_TEXT, "why", it->why);
    draw_told(ui, r, &y, SL_DIM, "risk", it->risk);
    draw_said(ui, r, &y, SL_DIM, "takes", &it->cost);
    draw_told(ui, r, &y, SL_TEXT, "noted", it->note);
}

static void draw(Ui *ui, void *state)
{
    GuideScreen *g = state;
    const GuideView *v = guide(ui);
    Rect r = ui->layout.main;
    if (!v)
        return;
    begin(v, g);
    Pen p = pen_at(ui, r.y, r.x + 1, r.w - 2);
    char cut[512], text[512];
    said(v->back.parts ? &v->back : &v->status, text, sizeof text);
    text_clip(cut, sizeof cut, text, p.end - p.x, ui->term.glyphs.ellipsis);
    pen_puts(&p, v->back.parts ? SL_WARN : v->met ? SL_OK : SL_STRONG, cut);
    int least = r.h >= 16 ? 6 : 3, list = (int)rows(v, g);
    if (list > r.h - 2 - least)
        list = r.h - 2 - least;
    draw_list(ui, v, g, (Rect){r.y + 1, r.x, list, r.w});
    draw_hline(ui, r.y + 1 + list, r.x, r.w);
    draw_detail(ui, v, g, (Rect){r.y + 2 + list, r.x + 1, r.h - 2 - list, r.w - 2});
}

static void context(Ui *ui, void *state, LineParts *out)
{
    const GuideView *v = guide(ui);
    (void)state;
    if (!v)
        return;
    if (v->back.parts)
        part_add(out, v->met ? SL_OK : SL_TEXT, 0, "%.60s", v->goal[0] ? v->goal : "");
    if (v->take >= 0 && !v->met)
        part_add(out, SL_TAGGED, 0, "take %s", v->item[v->take].id);
    else if (v->next >= 0)
        part_add(out, SL_TEXT, 1, "next %s", v->item[v->next].id);
    else if (v->met)
        part_add(out, SL_OK, 1, "%s", tr("done"));
}

static void copy(Ui *ui, void *state, bool all, Str *out)
{
    const GuideView *v = guide(ui);
    GuideScreen *g = state;
    if (!v)
        return;
    for (int i = 0; i < v->nitems; i++) {
        const GuideItem *it = &v->item[i];
        if (all || it == item_here(v, g))
            str_printf(out, "%s %s: %s%s%s%s\n", it->id, it->title, guide_state_word(it->state), it->evidence.parts ? ", " : "", it->evidence.text,
                       it->evidence.parts ? "" : it->reason.text);
    }
    if (!all && g->item < 0)
        str_printf(out, "%s %s: %s, %s", v->step[g->step].id, v->step[g->step].title, guide_state_word(v->step[g->step].state), v->step[g->step].line.text);
}

static void click(Ui *ui, void *state, int y, int x)
{
    GuideScreen *g = state;
    const GuideView *v = guide(ui);
    int64_t row = g->pos.top + y - (ui->layout.main.y + 1);
    (void)x;
    if (!v || y <= ui->layout.main.y || y > ui->layout.main.y + g->page || row >= rows(v, g))
        return;
    int step, item;
    row_at(v, g, row, &step, &item);
    g->step = step;
    g->item = item;
}

/* ---- keys ---- */

static const char *refuse_apply(Ui *ui)
{
    const GuideView *v = guide(ui);
    const GuideItem *it = v ? item_here(v, ui_state(ui, &view_guide)) : NULL;
    return !v ? refuse_no_model(ui) : !it ? "a step is not applied, its entries are" : it->can_apply ? NULL : "this entry changes nothing now";
}

/* One function a key: the F-bar tells keys of one function once. */
static unsigned on_id(Ui *ui, const char *deed)
{
    const GuideView *v = guide(ui);
    if (v)
        ui_command(ui, "guide %s %s", deed, id_here(v, ui_state(ui, &view_guide)));
    return DO_PAINT;
}

static unsigned guide_run(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    return on_id(ui, "run");
}

static unsigned guide_apply(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    return on_id(ui, "apply");
}

static unsigned guide_whatif(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    return on_id(ui, "whatif");
}

/* On a step: to what comes first of it. */
static unsigned guide_enter(Ui *ui, const KeyRow *row, int key)
{
    GuideScreen *g = ui_state(ui, &view_guide);
    const GuideView *v = guide(ui);
    if (!v || g->item >= 0)
        return guide_run(ui, row, key);
    const GuideStep *st = &v->step[g->step];
    g->item = 0;
    for (int i = st->n - 1; i >= 0; i--)
        if (v->item[st->first + i].state == GUIDE_TODO && v->item[st->first + i].can_run)
            g->item = i;
    return DO_PAINT;
}

/* Opens the command line with what has to be completed. */
static unsigned type_on(Ui *ui, const char *deed, const char *id)
{
    char line[80];
    snprintf(line, sizeof line, "guide %s %s ", deed, id);
    return input_open(ui, INPUT_COMMAND, line);
}

static unsigned guide_skip(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    const GuideView *v = guide(ui);
    GuideScreen *g = ui_state(ui, &view_guide);
    if (!v)
        return DO_PAINT;
    const GuideItem *it = item_here(v, g);
    bool skipped = (it ? it->state : v->step[g->step].state) == GUIDE_SKIPPED;
    return skipped ? on_id(ui, "todo") : type_on(ui, "skip", id_here(v, g));
}

static unsigned guide_evidence(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    const GuideView *v = guide(ui);
    GuideScreen *g = ui_state(ui, &view_guide);
    if (!v)
        return DO_PAINT;
    const GuideItem *it = item_here(v, g);
    return type_on(ui, it && it->asks ? "answer" : "evidence", id_here(v, g));
}

static unsigned guide_goal(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    return input_open(ui, INPUT_COMMAND, "guide goal ppl=+");
}

static unsigned guide_report(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    ui_command(ui, "guide");
    return DO_PAINT;
}

static const char *refuse_next(Ui *ui)
{
    const GuideView *v = guide(ui);
    return !v ? refuse_no_model(ui) : v->take < 0 && v->next < 0 ? "nothing comes next; R lists all there is" : NULL;
}

/* To what is to be taken, or else tried. */
static unsigned guide_next(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    const GuideView *v = guide(ui);
    GuideScreen *g = ui_state(ui, &view_guide);
    int at = !v ? -1 : v->take >= 0 && !v->met ? v->take : v->next >= 0 ? v->next : v->take;
    if (at < 0)
        return DO_PAINT;
    g->step = v->item[at].step;
    g->item = at - v->step[g->step].first;
    return DO_PAINT;
}

static const char *refuse_again(Ui *ui)
{
    const GuideView *v = guide(ui);
    for (int i = 0; v && i < v->nitems; i++)
        if (v->item[i].state == GUIDE_OLD)
            return NULL;
    return v ? "nothing was tried against what was open before" : refuse_no_model(ui);
}

/* An entry that was tried before, or what there is of that in its step, or at all. */
static unsigned guide_again(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    const GuideView *v = guide(ui);
    const GuideScreen *g = ui_state(ui, &view_guide);
    const GuideItem *it = v ? item_here(v, g) : NULL;
    if (it && it->state == GUIDE_OLD)
        ui_command(ui, "guide again %s", it->id);
    else if (v)
        ui_command(ui, v->step[g->step].state == GUIDE_OLD ? "guide again %s" : "guide again%.0s", v->step[g->step].id);
    return DO_PAINT;
}

static const KeyRow keys[] = {
    {.place = 20, .keys = {'r'}, .command = "guide run ID", .help = "run the entry of the cursor, or all of its step", .label = "Run",
     .run = guide_run, .refuse = refuse_no_model},
    {.place = 22, .keys = {'\n', K(KEY_ENTER)}, .command = "guide run ID", .help = "run the entry; on a step: go to its next entry",
     .run = guide_enter, .refuse = refuse_no_model},
    {.place = 21, .keys = {'n'}, .help = "to what is to be taken, or else to what comes next", .label = "Next", .run = guide_next,
     .refuse = refuse_next},
    {.place = 23, .keys = {'m'}, .command = "guide again [ID]", .help = "measure again what was tried before something else came in",
     .run = guide_again, .refuse = refuse_again},
    {.place = 24, .keys = {'a'}, .command = "guide apply ID", .help = "take what the entry changes: one undo step", .label = "Apply",
     .run = guide_apply, .refuse = refuse_apply},
    {.place = 26, .keys = {'s'}, .command = "guide skip ID REASON", .help = "skip the entry or step, with a reason; once more: not skipped",
     .label = "Skip", .run = guide_skip, .refuse = refuse_no_model},
    {.place = 28, .keys = {'e'}, .command = "guide evidence ID TEXT", .help = "answer what the entry asks, or note evidence", .label = "Answer",
     .run = guide_evidence, .refuse = refuse_no_model},
    {.place = 30, .keys = {'o'}, .command = "guide goal GOAL", .help = "the goal: how much may be lost", .label = "Goal", .run = guide_goal,
     .refuse = refuse_no_model},
    {.place = 32, .keys = {'d'}, .command = "guide whatif ID", .help = "what the entry would change", .label = "Diff", .run = guide_whatif,
     .refuse = refuse_apply},
    {.place = 34, .keys = {'R'}, .command = "guide", .help = "all steps and entries with their evidence", .label = "Report",
     .run = guide_report, .refuse = refuse_no_model},
    {.help = NULL},
};

const View view_guide = {
    .key = '8', .keys = keys, .name = "guide", .title = "Guide", .state_size = sizeof(GuideScreen),
    .draw = draw, .move = move_rows, .context = context, .copy = copy, .click = click,
};
