/* Screen 2: the patterns that send layers to float, what each gives, and what all of them do: predicted and measured.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/lexer.h"
#include "ui/actions.h"

typedef struct Whatif {
    ListPos pos;
    int page;
} Whatif;

enum { C_ON, C_PATTERN, C_HITS, C_NEW, C_COST, C_SHARE, C_NOTE, COLUMNS };
static const Column columns[COLUMNS] = {
    [C_ON] = {"on", 3, 3, 0, false},        [C_PATTERN] = {"float pattern", 28, 48, 0, false},
    [C_HITS] = {"hits", 5, 5, 0, true},     [C_NEW] = {"new", 4, 4, 2, true},
    [C_COST] = {"cost", 6, 6, 1, true},     [C_SHARE] = {"error", 7, 7, 1, true},
    [C_NOTE] = {"notes", 12, 80, 3, false},
};
enum { PANEL_ROWS = 8 };

static bool move_rows(Ui *ui, void *state, Motion m)
{
    Whatif *st = state;
    return list_move(&st->pos, m, session_whatifs(ui_session(ui)), st->page);
}

static void click(Ui *ui, void *state, int y, int x)
{
    Whatif *st = state;
    (void)x;
    if (y >= 1 && st->pos.top + y - 1 < session_whatifs(ui_session(ui)))
        st->pos.cur = st->pos.top + y - 1;
}

static const WhatIf *current(Ui *ui)
{
    Whatif *st = ui_state(ui, &view_whatif);
    int n = session_whatifs(ui_session(ui));
    list_clamp(&st->pos, n, st->page);
    return n > 0 ? session_whatif(ui_session(ui), (int)st->pos.cur) : NULL;
}

static void draw_row(Ui *ui, Rect r, int y, const int *w, const WhatIf *f, bool here)
{
    char hits[24], fresh[24], cost[24], share[24] = "?", note[256] = "";
    fmt_count(hits, sizeof hits, f->hits);
    fmt_count(fresh, sizeof fresh, f->fresh);
    fmt_delta(cost, sizeof cost, (double)f->bytes);
    if (isfinite(f->share))
        snprintf(share, sizeof share, "%.1f%%~", -100 * f->share);
    if (f->lint.kind != LINT_OK)
        snprintf(note, sizeof note, "! %s", f->lint.text);
    Slot row = f->on ? SL_ROW : SL_DIM;
    const char *text[COLUMNS] = {[C_ON] = f->on ? "[x]" : "[ ]",
                                 [C_PATTERN] = f->pattern,
                                 [C_HITS] = hits,
                                 [C_NEW] = fresh,
                                 [C_COST] = cost,
                                 [C_SHARE] = share,
                                 [C_NOTE] = note};
    Pen p = pen_at(ui, r.y + y, r.x, r.w);
    p.reverse = here;
    pen_char(&p, row, here ? ui->term.glyphs.mark : L' ');
    if (here)
        ui_rest_cursor(ui, p.y, r.x);
    for (int c = 0; c < COLUMNS; c++) {
        if (!w[c])
            continue;
        Slot slot = c == C_SHARE ? SL_PREDICTED : c == C_NOTE ? SL_WARN : row;
        pen_puts(&p, row, " ");
        if (c == C_PATTERN)
            pen_name(&p, slot, w[c], text[c]);
        else
            pen_cell(&p, slot, w[c], columns[c].right, text[c]);
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
        pen_cell(&p, SL_HEADER, w[c], columns[c].right, columns[c].title);
    }
    pen_fill(&p, SL_HEADER);
    for (int y = 1; y < r.h && st->pos.top + y - 1 < n; y++)
        draw_row(ui, r, y, w, session_whatif(ui_session(ui), (int)st->pos.top + y - 1),
                 st->pos.top + y - 1 == st->pos.cur);
    const WhatIf *f = n > 0 ? session_whatif(ui_session(ui), (int)st->pos.cur) : NULL;
    if (f && f->lint.kind != LINT_OK && n + 2 < r.h) { /* the notes of the cursor's row in full */
        int y = r.y + n + 2;
        Rect text = {r.y, r.x + 2, r.h, r.w - 4};
        char note[sizeof f->lint.text + 4];
        snprintf(note, sizeof note, "! %s", f->lint.text);
        draw_wrapped(ui, text, &y, SL_WARN, note);
    }
    if (n == 0) {
        int y = r.y + 2;
        Rect text = {r.y, r.x + 2, r.h, r.w - 4};
        draw_wrapped(ui, text, &y, SL_TEXT,
                     "No layer is sent to float yet. p types a pattern, as *layers.{1,6}.mlp.down_proj, and shows its "
                     "hits, its size and "
                     "its share of the error while you type. x on screen 1 takes the layer under the cursor.");
    }
}

static void figure(char *out, size_t size, double v, double se)
{
    char a[24], b[24];
    fmt_value(a, sizeof a, v);
    fmt_value(b, sizeof b, se >= 10 ? round(se) : round(se * 1e6) / 1e6);
    if (se < 10)
        snprintf(b, sizeof b, "%.2g", se);
    if (isfinite(se) && se > 0)
        snprintf(out, size, "%s+-%s", a, b);
    else
        snprintf(out, size, "%s", a);
}

/* A name and its text; what doesn't fit goes on under the text. */
static void panel_line(Ui *ui, Rect r, int *y, const char *name, Slot slot, const char *text)
{
    if (*y >= r.y + r.h)
        return;
    Pen p = pen_at(ui, *y, r.x + 1, r.w - 1);
    pen_puts(&p, SL_STRONG, name);
    Rect right = {r.y, r.x + 12, r.h, r.w - 13};
    draw_wrapped(ui, right, y, slot, text);
}

static void effect_line(Ui *ui, Rect r, int *y, const char *name, Slot slot, const Effect *e, const char *more)
{
    char kl[64], top[64], ppl[64], mse[64], buf[400];
    figure(kl, sizeof kl, e->kl_mean, e->kl_se);
    figure(top, sizeof top, 100 * e->top1, 100 * e->top1_se);
    figure(ppl, sizeof ppl, e->ppl_quant, e->ppl_quant_se);
    figure(mse, sizeof mse, e->out_mse, e->out_mse_se);
    snprintf(buf, sizeof buf, "KL %s  ppl %s  top-1 %s %%", kl, ppl, top);
    panel_line(ui, r, y, name, slot, buf);
    if (!more)
        return;
    char p99[24], most[24];
    fmt_value(p99, sizeof p99, e->kl_p99);
    fmt_value(most, sizeof most, e->kl_max);
    snprintf(buf, sizeof buf, "KL p99 %s max %s  output MSE %s  %s", p99, most, mse, more);
    panel_line(ui, r, y, "", SL_TEXT, buf);
}

static void draw_predicted(Ui *ui, Rect r, int *y)
{
    Prediction pr = session_predict(ui_session(ui));
    char buf[300], share[24], kl[24], bytes[24], delta[24];
    fmt_percent(share, sizeof share, pr.share_back);
    fmt_value(kl, sizeof kl, pr.kl);
    if (!pr.have)
        snprintf(buf, sizeof buf, "nothing yet: local_error is not known for every layer (:analyze local_error)");
    else if (!pr.calibrated)
        snprintf(buf, sizeof buf, "uncalibrated: share of local error given back %s~", share);
    else
        snprintf(buf, sizeof buf, "KL %s~  (share of local error given back %s)", kl, share);
    panel_line(ui, r, y, "predicted", SL_PREDICTED, buf);
    fmt_bytes(bytes, sizeof bytes, (double)pr.size.bytes);
    fmt_delta(delta, sizeof delta, (double)pr.size.bytes - (double)pr.size.float_bytes);
    snprintf(buf, sizeof buf, "%s (%s to all float)  %.2f bits a weight  %lld of %lld linears float", bytes, delta,
             pr.size.average_bits, (long long)pr.size.floats, (long long)(pr.size.floats + pr.size.quantized));
    panel_line(ui, r, y, "size", SL_TEXT, buf);
}

static void draw_measured(Ui *ui, Rect r, int *y)
{
    Session *s = ui_session(ui);
    int stale = 0;
    const Effect *e = session_effect(s, &stale), *base = session_base_effect(s);
    char buf[200], secs[24], tokens[24];
    if (!e) {
        panel_line(ui, r, y, "measured", SL_DIM, "not yet; r quantizes and measures");
        return;
    }
    fmt_seconds(secs, sizeof secs, e->seconds);
    fmt_count(tokens, sizeof tokens, e->predicted);
    if (e->from_cache)
        snprintf(buf, sizeof buf, "from cache");
    else
        snprintf(buf, sizeof buf, "layers %d.. ran, %s", e->first_layer_run, secs);
    effect_line(ui, r, y, stale ? "measured s" : "measured", stale ? SL_STALE : SL_TEXT, e, buf);
    if (stale) {
        snprintf(buf, sizeof buf, "STALE: %d edit%s since; r measures again", stale, stale == 1 ? "" : "s");
        panel_line(ui, r, y, "", SL_STALE, buf);
    }
    if (base && base != e)
        effect_line(ui, r, y, "at first", SL_TEXT, base, NULL);
    char ppl[48];
    figure(ppl, sizeof ppl, e->ppl_float, e->ppl_float_se);
    snprintf(buf, sizeof buf, "ppl %s  (%s tokens, %d texts; +- bootstrap over texts)", ppl, tokens, e->texts);
    panel_line(ui, r, y, "float", SL_TEXT, buf);
}

static void draw(Ui *ui, void *state)
{
    Rect r = ui->layout.main;
    if (!ui_model(ui))
        return;
    int panel = r.h >= 24 ? PANEL_ROWS + 2 : r.h >= 16 ? PANEL_ROWS : r.h / 2;
    Rect list = {r.y, r.x, r.h - panel - 1, r.w}, below = {r.y + r.h - panel, r.x, panel, r.w};
    draw_list(ui, state, list);
    draw_hline(ui, below.y - 1, r.x, r.w);
    int y = below.y;
    draw_predicted(ui, below, &y);
    draw_measured(ui, below, &y);
}

static void context(Ui *ui, void *state, LineParts *out)
{
    (void)state;
    Session *s = ui_session(ui);
    int undo = session_undo_depth(s), redo = session_redo_depth(s);
    if (undo > 0)
        part_add(out, SL_TEXT, 4, "undo %d", undo);
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

static unsigned whatif_toggle(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    const WhatIf *f = current(ui);
    Str b = {0};
    str_puts(&b, f->on ? "include " : "exclude ");
    lexer_quote(&b, f->pattern);
    ui_command(ui, "%s", str_text(&b));
    str_free(&b);
    return DO_PAINT;
}

static unsigned whatif_list(Ui *ui, const KeyRow *row, int key)
{
    (void)row, (void)key;
    const WhatIf *f = current(ui);
    const Model *m = ui_model(ui);
    Session *s = ui_session(ui);
    bool *hits = calloc((size_t)m->nlinears + 1, sizeof *hits);
    Str text = {0}, title = {0};
    Error err = {ST_OK, ""};
    int64_t n = 0;
    if (!hits || session_target(s, f->pattern, hits, &n, &err) != ST_OK) {
        ui_say(ui, SL_ERR, "%s", hits ? err.text : "out of memory");
    } else {
        for (int64_t i = 0; i < m->nlinears; i++) {
            if (hits[i])
                str_printf(&text, "%s  %s\n", session_level_of(s, i) == 0 ? "X" : " ", m->linears[i].name);
        }
        str_printf(&title, "%s: %lld hits", f->pattern, (long long)n);
        pager_open(ui, str_text(&title), str_text(&text));
    }
    free(hits);
    str_free(&text);
    str_free(&title);
    return DO_PAINT;
}

static const KeyRow keys[] = {
    {.place = 30, .keys = {'r'}, .command = "measure",
     .help = "quantize as decided here and measure the real effect", .label = "Measure", .run = act_measure,
     .refuse = refuse_no_model},
    {.place = 70, .keys = {'x', ' ', K(KEY_F(7)), K(KEY_F(8))}, .command = "exclude PATTERN | include PATTERN",
     .help = "switch this pattern off or on", .label = "Switch", .run = whatif_toggle,
     .refuse = refuse_no_whatif},
    {.place = 340, .keys = {'\n', '\t', K(KEY_ENTER)}, .help = "list the layers this pattern hits",
     .label = "Hits", .run = whatif_list, .refuse = refuse_no_whatif},
    {.help = NULL},
};

const View view_whatif = {
    .key = '2', .keys = keys, .name = "whatif", .title = "What-if", .state_size = sizeof(Whatif),
    .draw = draw, .move = move_rows, .context = context, .copy = copy, .click = click,
};
