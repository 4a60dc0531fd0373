/* Screen 6: the texts of the calibration set: which are in, what each is, and what it does to ranges. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metric/textrange.h"
#include "session/calibset.h"
#include "src/lang.h"
#include "text/lexer.h"
#include "ui/actions.h"
#include "ui/calib.h"
#include "ui/detail.h"
#include "ui/input.h"

enum { C_NUMBER, C_STATE, C_TOKENS, C_SCRIPT, C_SETS, C_WIDENS, C_FACTOR, C_SHARE, C_LOSS, C_LOO, C_TEXT, COLUMNS };

typedef struct Calib {
    ListPos pos;
    int number;          /* of the text that the cursor is on, 0: the first row, whatever it is */
    int page;
    int detail_of;
    Scroll detail;
    int w[COLUMNS];
    int table_y;         /* of the title line, within the body */
} Calib;

static const Column columns[COLUMNS] = {
    [C_NUMBER] = {"#", 3, 3, 0, true},       [C_STATE] = {"S", 2, 2, 0, false},      [C_TOKENS] = {"tokens", 8, 8, 1, true},
    [C_SCRIPT] = {"script", 8, 8, 5, false}, [C_SETS] = {"sets", 6, 6, 2, true},     [C_WIDENS] = {">=1.5x", 6, 6, 4, true},
    [C_FACTOR] = {"factor", 8, 8, 3, true},  [C_SHARE] = {"share", 8, 8, 2, true},
    [C_LOSS] = {"loss", 0, 0, 3, true},     [C_LOO] = {"KL without", 0, 0, 3, true}, [C_TEXT] = {"text", 16, 120, 0, false},
};

static const TextSort sort_of[COLUMNS] = {
    [C_NUMBER] = TEXT_SORT_NUMBER, [C_STATE] = TEXT_SORT_STATE, [C_TOKENS] = TEXT_SORT_TOKENS, [C_SCRIPT] = TEXT_SORT_SCRIPT,
    [C_SETS] = TEXT_SORT_SETS, [C_WIDENS] = TEXT_SORTS, [C_FACTOR] = TEXT_SORT_FACTOR, [C_SHARE] = TEXT_SORT_SHARE, [C_LOSS] = TEXT_SORTS, [C_LOO] = TEXT_SORT_LOO,
    [C_TEXT] = TEXT_SORT_TEXT,
};

/* With the cursor on its text, wherever sorting and filters moved that. */
static const TextRow *settle(Ui *ui, Calib *st, const TextTable **table)
{
    const char *why;
    const TextTable *t = *table = calib_texts(ui, &why);
    if (!t)
        return NULL;
    for (int i = 0; st->number && i < t->shown; i++)
        if (t->row[t->order[i]].number == st->number)
            st->pos.cur = i;
    list_clamp(&st->pos, t->shown, st->page);
    return t->shown ? &t->row[t->order[st->pos.cur]] : NULL;
}

static const TextRow *row_here(Ui *ui)
{
    const TextTable *t;
    return settle(ui, ui_state(ui, &view_calib), &t);
}

static bool move_cursor(Ui *ui, Calib *st, Motion m)
{
    const TextTable *t;
    if (!settle(ui, st, &t))
        return false;
    bool moved = list_move(&st->pos, m, t->shown, st->page);
    st->number = t->row[t->order[st->pos.cur]].number;
    return moved;
}

static bool move_rows(Ui *ui, void *state, Motion m)
{
    return ui->side_full ? detail_move(&((Calib *)state)->detail, m) : move_cursor(ui, state, m);
}

/* ---- the head: what the set is ---- */

static void head_counts(Ui *ui, Pen *p, const TextTable *t)
{
    (void)ui;
    char n[24];
    const TextSums *c = &t->sums;
    LineParts l = {.n = 0};
    const struct {
        int n;
        const char *one;
        Slot slot;
    } parts[] = {{c->out, "%d out", SL_WARN}, {c->cut, "%d cut to --seq-len", SL_TEXT}, {c->empty, "%d without a token", SL_WARN},
                 {c->beyond, "%d beyond --max-samples", SL_TEXT}, {c->same, "%d same as another", SL_WARN},
                 {c->tagged, "%d tagged", SL_TAGGED}};
    fmt_count(n, sizeof n, c->tokens);
    part_add(&l, SL_STRONG, 0, c->texts == 1 ? "%d of %d text is used" : "%d of %d texts are used", c->used, c->texts);
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
        if (parts[k].n)
            part_add(&l, parts[k].slot, 1, parts[k].one, parts[k].n);
    part_add(&l, SL_TEXT, 2, "%s tokens", n);
    part_add(&l, SL_DIM, 3, "of a text %lld to %lld, median %lld", (long long)c->shortest, (long long)c->longest,
             (long long)c->middle);
    pen_parts(p, SL_TEXT, &l, 1);
}

static void head_ranges(Ui *ui, Pen *p, const TextTable *t)
{
    (void)ui;
    const TextSums *c = &t->sums;
    LineParts l = {.n = 0};
    if (!c->ranged) {
        part_add(&l, SL_WARN, 0, "%s", tr("r finds which text sets which range"));
    } else {
        part_add(&l, c->flagged ? SL_OUTLIER : SL_OK, 0, c->flagged == 1 ? "%d text flagged (!)" : "%d texts flagged (!)", c->flagged);
        part_add(&l, SL_TEXT, 1, "alone makes at least %.0f %% of %lld ranges %.2gx wider", 100 * TEXT_FLAG,
                 (long long)c->ranged, TEXT_WIDE);
        part_add(&l, SL_DIM, 2, "share: the part of the ranges that no other text needs");
        if (c->stale)
            part_add(&l, SL_STALE, 0, "%s", tr("stale: r runs it anew"));
    }
    pen_parts(p, SL_TEXT, &l, 1);
}

static void head_scripts(Ui *ui, Pen *p, const TextTable *t)
{
    (void)ui;
    char own[120], eval[120];
    LineParts l = {.n = 0};
    calib_script_text(t->sums.script, 4, own, sizeof own);
    calib_script_text(t->sums.eval_script, 3, eval, sizeof eval);
    part_add(&l, SL_TEXT, 0, "characters: %s", own);
    if (t->sums.eval_tokens)
        part_add(&l, SL_DIM, 1, "evaluation set: %s", eval);
    pen_parts(p, SL_TEXT, &l, 1);
}

static void head_tokens(Ui *ui, Pen *p, const TextTable *t)
{
    char n[24], of[24], share[24];
    LineParts l = {.n = 0};
    Coverage c;
    fmt_count(n, sizeof n, t->sums.distinct);
    fmt_count(of, sizeof of, t->sums.vocab);
    part_add(&l, SL_TEXT, 0, "%s of %s tokens of the vocabulary", n, of);
    if (t->sums.eval_tokens) {
        fmt_percent(share, sizeof share, (double)t->sums.eval_seen / (double)t->sums.eval_tokens);
        part_add(&l, SL_TEXT, 1, "they make %s of the evaluation set", share);
    }
    if (session_coverage(ui_session(ui), &c))
        part_add(&l, c.unseen ? SL_WARN : SL_TEXT, 0, "%lld of %lld experts saw no token, median %.0f", (long long)c.unseen,
                 (long long)c.experts, c.median);
    pen_parts(p, SL_TEXT, &l, 1);
}

static void (*const head_lines[])(Ui *ui, Pen *p, const TextTable *t) = {head_counts, head_ranges, head_scripts, head_tokens};
enum { HEAD_LINES = sizeof head_lines / sizeof *head_lines };

/* How many used texts have which length, `h` lines high with the axis below. */
static void draw_lengths(Ui *ui, Rect r, const TextLengths *l)
{
    HistForm form = ui->term.glyphs.hist;
    int per = hist_columns(form), levels = hist_levels(form) * (r.h - 1), most = 1;
    for (int i = 0; i < l->n; i++)
        most = l->count[i] > most ? l->count[i] : most;
    for (int y = 0; y < r.h - 1; y++) {
        Pen p = pen_at(ui, r.y + y, r.x, r.w);
        int floor = hist_levels(form) * (r.h - 2 - y);
        for (int x = 0; x * per < l->n && p.x < p.end; x++) {
            int a = x * per, b = per > 1 && a + 1 < l->n ? a + 1 : a;
            int ha = (l->count[a] * levels + most - 1) / most - floor, hb = (l->count[b] * levels + most - 1) / most - floor;
            hb = per > 1 && a + 1 >= l->n ? 0 : hb;
            pen_char(&p, SL_BAR, hist_cell(form, ha < 0 ? 0 : ha, hb < 0 ? 0 : hb));
        }
    }
    Pen axis = pen_at(ui, r.y + r.h - 1, r.x, r.w);
    pen_printf(&axis, SL_AXIS, tr("0..%lld tokens a text, at most %d in a bar"), (long long)(l->width * l->n - 1), most);
}

/* Lines that the head takes of a body this high. */
static int head_height(int h)
{
    return h < 12 ? 2 : HEAD_LINES;
}

static int draw_head(Ui *ui, Rect r, const TextTable *t)
{
    enum { PLOT = 42 };
    int n = head_height(r.h);
    bool plot = r.w >= 110 && n == HEAD_LINES && t->lengths.n > 1;
    for (int i = 0; i < n; i++) {
        Pen p = pen_at(ui, r.y + i, r.x + 1, r.w - 1 - (plot ? PLOT + 2 : 0));
        head_lines[i](ui, &p, t);
    }
    if (plot)
        draw_lengths(ui, (Rect){r.y, r.x + r.w - PLOT, n, PLOT}, &t->lengths);
    return n;
}

/* ---- the table ---- */

static void draw_title(Ui *ui, Rect r, const Calib *st)
{
    bool up;
    TextSort by = session_texts_sort_key(ui_session(ui), &up);
    Pen p = pen_at(ui, r.y, r.x, r.w);
    pen_puts(&p, SL_HEADER, " ");
    for (int c = 0; c < COLUMNS; c++) {
        char title[48];
        if (!st->w[c])
            continue;
        bool sorts = sort_of[c] == by;
        const char *gap = text_width(tr(columns[c].title)) + 2 <= st->w[c] ? " " : "";
        snprintf(title, sizeof title, "%s%s%s", tr(columns[c].title), sorts ? gap : "", !sorts ? "" : up ? "^" : "v");
        pen_puts(&p, SL_HEADER, " ");
        pen_cell(&p, SL_HEADER, st->w[c], columns[c].right, title);
    }
    pen_fill(&p, SL_HEADER);
}

static void state_text(const TextRow *row, char out[3])
{
    static const char sign[TEXT_STATES] = {[TEXT_USED] = ' ', [TEXT_CUT] = 'c', [TEXT_OUT] = 'X', [TEXT_EMPTY] = '-',
                                           [TEXT_BEYOND] = '-'};
    out[0] = row->flag ? '!' : row->tagged ? '*' : ' ';
    out[1] = sign[row->state];
    out[2] = 0;
}

/* The beginning of a text on one line. */
static void words_text(const TextRow *row, char *out, size_t size)
{
    size_t n = 0;
    if (row->same_as)
        n = (size_t)text_format(out, size, "(same as %d) ", row->same_as);
    if (!row->text) {
        text_format(out + n, size - n, "(token ids)");
        return;
    }
    for (size_t i = 0; i < row->len && n + 1 < size; i++)
        out[n++] = row->text[i] == '\n' || row->text[i] == '\t' || row->text[i] == '\r' ? ' ' : row->text[i];
    out[n] = 0;
}

static void draw_row(Ui *ui, const Calib *st, Rect r, int y, const TextRow *row, bool here)
{
    char cell[COLUMNS][24] = {{0}}, words[640];
    snprintf(cell[C_NUMBER], sizeof cell[0], "%d", row->number);
    state_text(row, cell[C_STATE]);
    fmt_count(cell[C_TOKENS], sizeof cell[0], row->tokens);
    snprintf(cell[C_SCRIPT], sizeof cell[0], "%s", row->text ? tr(calib_script_words[text_script(row)]) : "");
    if (row->ranges.sets)
        fmt_count(cell[C_SETS], sizeof cell[0], row->ranges.sets);
    if (row->ranges.widens)
        fmt_count(cell[C_WIDENS], sizeof cell[0], row->ranges.widens);
    calib_factor_text(cell[C_FACTOR], sizeof cell[0], row->ranges.middle);
    if (row->ranges.share > 0)
        fmt_percent(cell[C_SHARE], sizeof cell[0], row->ranges.share);
    if (!isnan(row->loss))
        snprintf(cell[C_LOSS], sizeof cell[0], "%+.1f %%", 100 * row->loss);
    if (!isnan(row->loo))
        snprintf(cell[C_LOO], sizeof cell[0], "%+.2e", row->loo);
    words_text(row, words, sizeof words);
    bool in = row->used > 0;
    Slot slot = !in ? SL_EXCLUDED : row->tagged ? SL_TAGGED : SL_ROW;
    Pen p = pen_at(ui, y, r.x, r.w);
    p.reverse = here;
    pen_char(&p, slot, here ? ui->term.glyphs.mark : L' ');
    if (here)
        ui_rest_cursor(ui, y, r.x);
    for (int c = 0; c < COLUMNS; c++) {
        if (!st->w[c])
            continue;
        Slot own = c == C_STATE && row->flag && in ? SL_OUTLIER : c == C_WIDENS && row->flag && in ? SL_OUTLIER : slot;
        char shown[700];
        pen_puts(&p, slot, " ");
        if (c == C_TEXT)
            text_clip(shown, sizeof shown, words, st->w[c], ui->term.glyphs.ellipsis);
        pen_cell(&p, own, st->w[c], columns[c].right, c == C_TEXT ? shown : cell[c]);
    }
    pen_fill(&p, slot);
}

static void fit(const TextTable *t, Calib *st, int width)
{
    Column c[COLUMNS];
    bool loo = false, loss = false, many = t->n >= 1000;
    memcpy(c, columns, sizeof c);
    for (int i = 0; i < t->n; i++) {
        loo |= !isnan(t->row[i].loo);
        loss |= !isnan(t->row[i].loss);
    }
    if (loss)
        c[C_LOSS].min = c[C_LOSS].max = 8;
    if (loo)
        c[C_LOO].min = c[C_LOO].max = 12;
    if (many)
        c[C_NUMBER].min = c[C_NUMBER].max = 7;
    if (!t->sums.ranged)
        for (int k = C_SETS; k <= C_SHARE; k++)
            c[k].min = c[k].max = 0;
    columns_fit(c, COLUMNS, width, st->w);
}

static void draw_table(Ui *ui, Rect r, Calib *st, const TextTable *t)
{
    fit(t, st, r.w - 2);
    draw_title(ui, r, st);
    for (int y = 1; y < r.h && st->pos.top + y - 1 < t->shown; y++)
        draw_row(ui, st, r, r.y + y, &t->row[t->order[st->pos.top + y - 1]], st->pos.top + y - 1 == st->pos.cur);
    if (t->shown)
        return;
    int y = r.y + 2;
    char buf[UI_SEARCH_MAX + 80];
    text_format(buf, sizeof buf, "No text passes the filter '%s'. Esc takes it away.", session_texts_filter_text(ui_session(ui)));
    draw_wrapped(ui, (Rect){r.y, r.x + 2, r.h, r.w - 2}, &y, SL_TEXT, buf);
}

/* ---- one text ---- */

static void draw_detail(Ui *ui, Calib *st, const TextRow *row)
{
    int of = row ? row->number : 0;
    if (of != st->detail_of)
        st->detail.top = 0;
    st->detail_of = of;
    detail_scrolled(ui, ui->layout.side, calib_text_content, of, &st->detail,
                    tr(ui->side_full ? "j k scroll  J K next text" : "J K scroll"));
    if (ui->side_full)
        ui_rest_cursor(ui, ui->layout.side.y, ui->layout.side.x);
}

static void draw(Ui *ui, void *state)
{
    Calib *st = state;
    Rect r = ui->layout.main;
    const char *why;
    const TextTable *t = calib_texts(ui, &why);
    if (!ui_model(ui))
        return;
    if (!t && r.h > 0) {
        int y = r.y + 1;
        bool reads = session_texts_reading(ui_session(ui));
        draw_wrapped(ui, (Rect){r.y, r.x + 2, r.h, r.w - 4}, &y, reads ? SL_DIM : SL_ERR, reads ? "The texts are being read ..." : why);
    }
    if (t && r.h > 0) {
        int head = draw_head(ui, r, t);
        Rect table = {r.y + head, r.x, r.h - head, r.w};
        st->table_y = head;
        st->page = table.h - 1;
        settle(ui, st, &t);
        draw_table(ui, table, st, t);
    }
    if (t && ui->layout.side.h > 0)
        draw_detail(ui, st, settle(ui, st, &t));
}

static void context(Ui *ui, void *state, LineParts *out)
{
    const TextTable *t;
    Calib *st = state;
    const TextRow *row = settle(ui, st, &t);
    if (!t)
        return;
    const char *filter = session_texts_filter_text(ui_session(ui));
    if (*filter)
        part_add(out, SL_TEXT, 2, "filter %s", filter)->least = 16;
    if (*filter)
        part_add(out, SL_TEXT, 1, "%d of %d", t->shown, t->n)->gap = 1;
    if (row)
        part_add(out, SL_TEXT, 3, "text %d", row->number);
    part_add(out, SL_TEXT, 0, "%d/%d in", t->sums.texts - t->sums.out, t->sums.texts);
}

static void copy(Ui *ui, void *state, bool all, Str *out)
{
    const TextTable *t;
    Calib *st = state;
    const TextRow *row = settle(ui, st, &t);
    if (!all && row && row->text)
        str_append(out, row->text, row->len);
    for (int i = 0; all && t && i < t->shown; i++) {
        char words[200], sign[3];
        const TextRow *r = &t->row[t->order[i]];
        state_text(r, sign);
        words_text(r, words, sizeof words);
        str_printf(out, "%5d %s %7lld %6lld %6lld  %s\n", r->number, sign, (long long)r->tokens, (long long)r->ranges.sets,
                   (long long)r->ranges.widens, words);
    }
}

/* ---- keys ---- */

static const char *refuse_no_text(Ui *ui)
{
    const char *why = refuse_no_model(ui);
    if (why)
        return why;
    if (session_texts_reading(ui_session(ui)))
        return "the texts are being read";
    return row_here(ui) ? NULL : "no text is shown; the filter hides them all, or the set can't be read";
}

static const char *refuse_no_tagged(Ui *ui)
{
    const char *why = refuse_no_text(ui);
    const TextTable *t = why ? NULL : session_texts(ui_session(ui), NULL);
    return why ? why : t && t->sums.tagged ? NULL : "no text is tagged; Space tags a text";
}

static unsigned calib_take(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    const TextRow *t = row_here(ui);
    Calib *st = ui_state(ui, &view_calib);
    st->number = t->number;
    ui_command(ui, t->state == TEXT_OUT ? "calib keep %d" : "calib drop %d", t->number);
    return DO_PAINT;
}

static unsigned calib_take_tagged(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    const TextTable *t = session_texts(ui_session(ui), NULL);
    bool all = true;
    for (int i = 0; i < t->n; i++)
        all = all && (!t->row[i].tagged || t->row[i].state == TEXT_OUT);
    ui_command(ui, all ? "calib keep tagged" : "calib drop tagged");
    return DO_PAINT;
}

static unsigned calib_tag(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    const TextRow *t = row_here(ui);
    ui_command(ui, t->tagged ? "calib tag --off %d" : "calib tag %d", t->number);
    move_cursor(ui, ui_state(ui, &view_calib), MOVE_DOWN);
    return DO_PAINT;
}

/* A command that asks for more on the command line. */
static unsigned calib_type(Ui *ui, const KeyRow *row, int key)
{
    static const char *const begins[] = {"calib add ", "calib save ", "calib tag "};
    (void)key;
    return input_open(ui, INPUT_COMMAND, begins[row->arg]);
}

static unsigned calib_filter(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    return input_open(ui, INPUT_TEXTS, session_texts_filter_text(ui_session(ui)));
}

static void sort_by(Ui *ui, TextSort k, bool up)
{
    Calib *st = ui_state(ui, &view_calib);
    const TextRow *here = row_here(ui);
    st->number = here ? here->number : 0;
    ui_command(ui, "calib sort %s %s", text_sort_name(k), up ? "asc" : "desc");
}

static bool rises(TextSort k)
{
    return k == TEXT_SORT_NUMBER || k == TEXT_SORT_SCRIPT || k == TEXT_SORT_TEXT || k == TEXT_SORT_STATE;
}

static unsigned calib_sort(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    TextSort k = session_texts_sort_key(ui_session(ui), NULL);
    k = (TextSort)(((int)k + row->arg + TEXT_SORTS) % TEXT_SORTS);
    sort_by(ui, k, rises(k));
    return DO_PAINT;
}

static unsigned calib_invert(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    bool up;
    TextSort k = session_texts_sort_key(ui_session(ui), &up);
    sort_by(ui, k, !up);
    return DO_PAINT;
}

static unsigned calib_run(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    ui_command(ui, "analyze text_range");
    return DO_PAINT;
}

/* Of the tagged texts, else of the cursor's. */
/* row->arg 1: by block_error. */
static unsigned calib_loo(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    const TextTable *t = session_texts(ui_session(ui), NULL);
    const int number = row_here(ui)->number;
    bool tagged = t && t->sums.tagged, fine;
    if (row->arg)
        fine = tagged ? ui_command(ui, "calib loo tagged --by block_error") : ui_command(ui, "calib loo %d --by block_error", number);
    else
        fine = tagged ? ui_command(ui, "calib loo tagged") : ui_command(ui, "calib loo %d", number);
    if (!fine)
        return DO_PAINT;
    if (row->arg)
        ui_say_queued(ui, "scoring without it: 'loss' tells its share of block_error; 3 shows the job, ^C stops it");
    else
        ui_say_queued(ui, "measuring without it: 'KL without' tells what that does; 3 shows the job, ^C stops it");
    return DO_PAINT;
}

static unsigned calib_trials(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    if (session_calib_trials(ui_session(ui)))
        ui_command(ui, "calib trials");
    else
        return input_open(ui, INPUT_COMMAND, "calib compare ");
    return DO_PAINT;
}

/* Rank by text_range, on the layer that this text widens most. */
static unsigned calib_layers(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    TextLinear *l;
    int64_t n, first = -1;
    if (session_text_linears(ui_session(ui), row_here(ui)->number, &l, &n, NULL) == ST_OK && n)
        first = l[0].linear;
    free(l);
    if (first < 0)
        return ui_refuse(ui, "this text sets no range alone");
    if (ui_command(ui, "show text_range"))
        session_set_cursor(ui_session(ui), first);
    return ui_goto(ui, &view_rank) | DO_RELAYOUT;
}

static unsigned calib_other(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    Calib *st = ui_state(ui, &view_calib);
    if (ui->side_full)
        return move_cursor(ui, st, (Motion)row->arg) ? DO_PAINT : act_end(ui, (Motion)row->arg);
    if (ui->layout.side.h == 0)
        return ui_refuse(ui, "no details are shown beside the table; Enter shows them");
    else if (!detail_move(&st->detail, (Motion)row->arg))
        return ui_refuse(ui, row->arg == MOVE_DOWN ? "the details end here" : "the details begin here");
    return DO_PAINT;
}

/* Esc takes the texts' filter away; else as everywhere. */
static unsigned calib_back(Ui *ui, const KeyRow *row, int key)
{
    if (key == KEY_ESC && !ui->side_full && !ui->marked[0] && ui_model(ui) && *session_texts_filter_text(ui_session(ui))) {
        ui_command(ui, "calib filter");
        return DO_PAINT;
    }
    return act_back(ui, row, key);
}

static Found find(Ui *ui, void *state, const char *text, int direction, bool from_here)
{
    Calib *st = state;
    const TextTable *t;
    Found found = {0, 0};
    int64_t best = -1, n;
    settle(ui, st, &t);
    if (!t)
        return found;
    n = t->shown;
    for (int64_t i = 0; i < n; i++) {
        const TextRow *r = &t->row[t->order[i]];
        if (!r->text || !strcasestr(r->text, text))
            continue;
        found.of++;
        int64_t away = ((direction * (i - st->pos.cur)) % n + n) % n;
        away = away == 0 && !from_here ? n : away;
        if (best < 0 || away < best) {
            best = away;
            found.at = found.of;
        }
    }
    if (best >= 0) {
        st->pos.cur = ((st->pos.cur + direction * best) % n + n) % n;
        st->number = t->row[t->order[st->pos.cur]].number;
    }
    return found;
}

static void click(Ui *ui, void *state, int y, int x)
{
    Calib *st = state;
    const TextTable *t;
    bool up;
    settle(ui, st, &t);
    if (!t || y < st->table_y)
        return;
    for (int c = 0, at = 1; c < COLUMNS && y == st->table_y; at += st->w[c] ? 1 + st->w[c] : 0, c++)
        if (st->w[c] && x > at && x <= at + st->w[c] && sort_of[c] != TEXT_SORTS) {
            sort_by(ui, sort_of[c], session_texts_sort_key(ui_session(ui), &up) == sort_of[c] ? !up : rises(sort_of[c]));
            return;
        }
    int64_t row = st->pos.top + y - st->table_y - 1;
    if (y > st->table_y && row < t->shown)
        st->number = t->row[t->order[row]].number;
}

static const KeyRow keys[] = {
    {.place = 20, .keys = {'r'}, .command = "analyze text_range", .help = "find which text sets which range", .label = "Run",
     .run = calib_run, .refuse = refuse_no_model},
    {.place = 60, .keys = {'x', K(KEY_F(7)), K(KEY_F(8))}, .command = "calib drop N | calib keep N",
     .help = "take the text out of the set, or back", .label = "Out/in", .run = calib_take, .refuse = refuse_no_text},
    {.place = 65, .keys = {'\n', '\t', K(KEY_ENTER)}, .help = "the whole text with its tokens, and the layers whose ranges it sets",
     .label = "Text", .run = act_detail, .refuse = refuse_no_text},
    {.place = 80, .keys = {'X'}, .command = "calib drop tagged | calib keep tagged", .help = "all tagged texts: out, or back",
     .run = calib_take_tagged, .refuse = refuse_no_tagged},
    {.place = 89, .keys = {'o'}, .command = "show text_range", .help = "the layers whose ranges this text sets, on Rank",
     .label = "Layers", .run = calib_layers, .refuse = refuse_no_text},
    {.place = 86, .keys = {'L'}, .command = "calib loo N", .help = "measure what leaving the text out does (of tagged ones each)",
     .label = "LeaveOut", .run = calib_loo, .refuse = refuse_no_text},
    {.place = 87, .keys = {'B'}, .command = "calib loo N --by block_error",
     .help = "the text's share of block_error (of tagged ones each): quicker than measuring", .run = calib_loo, .arg = 1,
     .refuse = refuse_no_text},
    {.place = 88, .keys = {'='}, .command = "calib trials", .help = "what other texts and sets do; at first: compare with a set",
     .label = "Sets", .run = calib_trials, .refuse = refuse_no_model},
    {.place = 130, .keys = {' '}, .command = "calib tag N", .help = "tag the text, or untag it", .run = calib_tag,
     .refuse = refuse_no_text},
    {.place = 140, .keys = {'T'}, .command = "calib tag PART", .help = "tag texts by a part of them", .run = calib_type, .arg = 2,
     .refuse = refuse_no_text},
    {.place = 142, .keys = {'a'}, .command = "calib add FILE", .help = "put a file's texts behind the others", .label = "Add",
     .run = calib_type, .arg = 0, .refuse = refuse_no_model},
    {.place = 84, .keys = {'w'}, .command = "calib save FILE", .help = "write the texts that are in as JSON lines", .label = "Save",
     .run = calib_type, .arg = 1, .refuse = refuse_no_text},
    {.place = 150, .keys = {K(KEY_F(3)), '/'}, .help = "find a part of a text while you type", .label = "Find", .run = act_prompt,
     .arg = INPUT_SEARCH, .refuse = refuse_no_text},
    {.place = 160, .keys = {'n'}, .help = "next match", .run = act_find_next, .arg = 1, .refuse = refuse_no_search},
    {.place = 170, .keys = {'N'}, .help = "match before", .run = act_find_next, .arg = -1, .refuse = refuse_no_search},
    {.place = 82, .keys = {K(KEY_F(4)), '\\'}, .command = "calib filter WORDS",
     .help = "show only some: words tokens>100 sets>9 script=Han out cut same tagged flagged !word", .label = "Filter",
     .run = calib_filter, .refuse = refuse_no_model},
    {.place = 190, .keys = {K(KEY_F(6)), '>'}, .command = "calib sort COLUMN", .help = "sort by the next column", .label = "Sort",
     .run = calib_sort, .arg = 1, .refuse = refuse_no_model},
    {.place = 200, .keys = {'<'}, .command = "calib sort COLUMN", .help = "sort by the column before", .run = calib_sort, .arg = -1,
     .refuse = refuse_no_model},
    {.place = 210, .keys = {'I'}, .command = "calib sort COLUMN asc|desc", .help = "turn the order round", .run = calib_invert,
     .refuse = refuse_no_model},
    {.place = 312, .keys = {'J'}, .help = "details beside the table: scroll down; filling the screen: next text",
     .run = calib_other, .arg = MOVE_DOWN, .refuse = refuse_no_text},
    {.place = 314, .keys = {'K'}, .help = "details beside the table: scroll up; filling the screen: text before",
     .run = calib_other, .arg = MOVE_UP, .refuse = refuse_no_text},
    {.place = 570, .keys = {'q', KEY_ESC}, .help = "out of this view; Esc takes the filter away", .run = calib_back},
    {.help = NULL},
};

const View view_calib = {
    .key = '6', .keys = keys, .name = "calib", .title = "Calib", .state_size = sizeof(Calib), .side = true,
    .draw = draw, .move = move_rows, .context = context, .copy = copy, .click = click, .find = find,
};
