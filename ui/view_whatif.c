/* Screen 2: the rules over the recipe's levels, what each gives, and what all of them do: predicted and measured. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/lexer.h"
#include "src/lang.h"
#include "ui/actions.h"
#include "ui/detail.h"
#include "ui/input.h"

typedef struct Whatif {
    ListPos pos;
    int page;
    Scroll figures;          /* the panel below */
    bool noted;              /* the note of the cursor's row stands below the rules */
    /* what the engines' rules say of the present set, found once for it */
    uint64_t version;        /* session_edit_version */
    const Recipe *recipe;    /* NULL: not asked yet */
    const Runtime *runtime;
    char broken[400];        /* "": all is well */
} Whatif;

enum { C_ON, C_LEVEL, C_PATTERN, C_HITS, C_COST, C_SHARE, C_NEW, C_NEW_COST, C_NEW_SHARE, C_NOTE, COLUMNS };
static const Column columns[COLUMNS] = {
    [C_ON] = {"on", 3, 3, 0, false},           [C_LEVEL] = {"to", 5, 7, 0, false},
    [C_PATTERN] = {"rule", 24, 48, 0, false},  [C_HITS] = {"hits", 5, 5, 4, true},
    [C_COST] = {"cost", 6, 6, 5, true},        [C_SHARE] = {"loss", 7, 7, 6, true},
    [C_NEW] = {"new", 5, 5, 1, true},          [C_NEW_COST] = {"cost", 6, 6, 2, true},
    [C_NEW_SHARE] = {"loss", 7, 7, 3, true},  [C_NOTE] = {"notes", 12, 80, 7, false},
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
    char number[COLUMNS][24] = {{0}}, note[sizeof f->note + 4] = "";
    Session *s = ui_session(ui);
    fmt_count(number[C_HITS], sizeof number[0], f->hits);
    fmt_delta(number[C_COST], sizeof number[0], (double)f->bytes);
    share_text(number[C_SHARE], sizeof number[0], f->share);
    fmt_count(number[C_NEW], sizeof number[0], f->fresh);
    fmt_delta(number[C_NEW_COST], sizeof number[0], (double)f->fresh_bytes);
    share_text(number[C_NEW_SHARE], sizeof number[0], f->fresh_share);
    if (f->note[0])
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
    Pen p = pen_at(ui, *y, r.x, r.w);
    pen_puts(&p, SL_STRONG, tr(name));
    Rect right = {r.y, r.x + 11, r.h, r.w - 12};
    draw_wrapped(ui, right, y, slot, text);
}

static void effect_line(Ui *ui, Rect r, int *y, const char *name, Slot slot, const Effect *e)
{
    char kl[64], top[64], ppl[24], change[48], buf[400];
    figure(kl, sizeof kl, e->kl_mean, e->kl_se);
    figure(top, sizeof top, 100 * e->top1, 100 * e->top1_se);
    fmt_value(ppl, sizeof ppl, e->ppl_quant);
    fmt_change(change, sizeof change, e->ppl_change, e->ppl_change_se);
    snprintf(buf, sizeof buf, "KL %s  ppl %s (%s)  top-1 %s %%", kl, ppl, change, top);
    panel_line(ui, r, y, name, slot, buf);
}

static void effect_more(Ui *ui, Rect r, int *y, const Effect *e, const char *more)
{
    char p99[24], most[24], mse[64], buf[400];
    figure(mse, sizeof mse, e->out_mse, e->out_mse_se);
    fmt_value(p99, sizeof p99, e->kl_p99);
    fmt_value(most, sizeof most, e->kl_max);
    text_format(buf, sizeof buf, "KL p99 %s max %s  MSE %s  %s", p99, most, mse, more);
    panel_line(ui, r, y, "", SL_TEXT, buf);
}

static const struct VerdictLook {
    Slot slot;
    const char *label;
} verdicts[] = {
    [VERDICT_SAME] = {.slot = SL_TEXT, .label = "the same"},
    [VERDICT_BETTER] = {.slot = SL_OK, .label = "better"},
    [VERDICT_WORSE] = {.slot = SL_ERR, .label = "worse"},
    [VERDICT_UNDECIDED] = {.slot = SL_WARN, .label = "undecided"},
};

/* What the present measurement is different in from another, and whether that is more than its error. */
static void rival_line(Ui *ui, Rect r, int *y, const char *against, const Paired *p)
{
    Verdict v = verdict_of(p->kl, p->kl_se);
    char kl[64], change[48], tokens[24], buf[400], says[160];
    snprintf(kl, sizeof kl, "%+.3g", p->kl);
    if (isfinite(p->kl_se))
        snprintf(kl, sizeof kl, "%+.3g+-%.2g", p->kl, p->kl_se);
    fmt_change(change, sizeof change, p->ppl, p->ppl_se);
    fmt_count(tokens, sizeof tokens, p->tokens);
    if (p->state != PAIR_OK)
        snprintf(says, sizeof says, "%s", tr(pair_why(p->state)));
    else if (v != VERDICT_UNDECIDED)
        snprintf(says, sizeof says, "%s", tr(verdicts[v].label));
    else
        text_format(says, sizeof says, p->whole ? "undecided at all %s tokens" : "undecided at %s tokens; R takes all", tokens);
    snprintf(buf, sizeof buf, "%s KL %s  ppl %s: %s", tr(against), kl, change, says);
    panel_line(ui, r, y, "", p->state == PAIR_OK ? verdicts[v].slot : SL_DIM, buf);
}

/* The measurements that the present one is held against. */
static void draw_rivals(Ui *ui, Rect r, int *y)
{
    const Session *s = ui_session(ui);
    Measurement base, before;
    Paired p;
    bool first = session_rival(s, RIVAL_BASE, &base, &p);
    if (first)
        rival_line(ui, r, y, "to the first", &p);
    if (session_rival(s, RIVAL_PREVIOUS, &before, &p) && !(first && before.id == base.id))
        rival_line(ui, r, y, "to the one before", &p);
}

/* Why nothing is predicted. */
static void unpredicted(Session *s, const Prediction *pr, char *buf, size_t size)
{
    const Metric *m = metric_find("block_error");
    int64_t failed = 0;
    for (int64_t g = 0; m && g < session_model(s)->ngroups; g++)
        failed += session_unit_score(s, m, g).state == SCORE_FAILED;
    if (failed)
        text_format(buf, size, "nothing: %lld of the layers cannot be scored (3 says why)", (long long)failed);
    else
        text_format(buf, size, "nothing yet: block_error is not known for %lld of %lld groups (:analyze block_error)",
                    (long long)pr->unknown, (long long)pr->groups);
}

/* "0.083 (0.055 to 0.12, roughly)" */
static void range_text(char *out, size_t size, const char *format, double scale, const TuneRange *r)
{
    char value[24], low[24], high[24];
    snprintf(value, sizeof value, format, scale * r->value);
    snprintf(low, sizeof low, format, scale * r->low);
    snprintf(high, sizeof high, format, scale * r->high);
    text_format(out, size, r->rough ? "%s~ (%s to %s, roughly)" : "%s~ (%s to %s)", value, low, high);
}

static void draw_predicted(Ui *ui, Rect r, int *y)
{
    Prediction pr = session_predict(ui_session(ui));
    char buf[300], share[24], kl[96], ppl[96];
    fmt_percent(share, sizeof share, pr.share_back);
    range_text(kl, sizeof kl, "%.3g", 1, &pr.kl);
    range_text(ppl, sizeof ppl, "%+.2g%%", 100, &pr.ppl);
    if (!pr.have)
        unpredicted(ui_session(ui), &pr, buf, sizeof buf);
    else if (!pr.measurements)
        text_format(buf, sizeof buf, "no KL before a measurement: share of the expected loss given back %s~", share);
    else if (r.w < 80) /* the line of figures has no more room either */
        text_format(buf, sizeof buf, "KL %s from %d", kl, pr.measurements);
    else
        text_format(buf, sizeof buf,
                    pr.measurements == 1 ? "KL %s  ppl %s  from %d measurement  (expected loss -%s)"
                                         : "KL %s  ppl %s  from %d measurements  (expected loss -%s)",
                    kl, ppl, pr.measurements, share);
    panel_line(ui, r, y, "predicted", SL_PREDICTED, buf);
}

static void draw_size(Ui *ui, Rect r, int *y)
{
    Prediction pr = session_predict(ui_session(ui));
    char buf[300], bytes[24], delta[24];
    fmt_bytes(bytes, sizeof bytes, (double)pr.size.bytes);
    fmt_delta(delta, sizeof delta, (double)pr.size.bytes - (double)pr.size.float_bytes);
    text_format(buf, sizeof buf, "%s (%s to all float)  %.2f bits  %lld of %lld linears float", bytes, delta,
             pr.size.average_bits, (long long)pr.size.floats, (long long)(pr.size.floats + pr.size.quantized));
    panel_line(ui, r, y, "size", SL_TEXT, buf);
}

/* Without a measurement of this recipe: what there is of others, which says nothing about it. */
static void draw_elsewhere(Ui *ui, Rect r, int *y)
{
    const char *recipe;
    const Effect *e = session_other_effect(ui_session(ui), &recipe);
    char buf[300], kl[24], change[48];
    panel_line(ui, r, y, "measured", SL_DIM, e ? "not yet with this recipe and data; r quantizes and measures"
                                               : "not yet; r quantizes and measures");
    if (!e)
        return;
    fmt_value(kl, sizeof kl, e->kl_mean);
    fmt_change(change, sizeof change, e->ppl_change, e->ppl_change_se);
    if (recipe)
        text_format(buf, sizeof buf, "another recipe (%.80s): KL %s  ppl %s", recipe, kl, change);
    else if (e->arith != session_options(ui_session(ui))->arith)
        text_format(buf, sizeof buf, "in %s arithmetic: KL %s  ppl %s", arith_name(e->arith), kl, change);
    else
        text_format(buf, sizeof buf, "another recipe's or data's: KL %s  ppl %s", kl, change);
    panel_line(ui, r, y, "", SL_DIM, buf);
}

static void draw_measured(Ui *ui, Rect r, int *y)
{
    Session *s = ui_session(ui);
    int64_t stale = 0;
    const Effect *e = session_effect(s, &stale), *base = session_base_effect(s);
    char buf[200], secs[24], tokens[24];
    if (!e) {
        draw_elsewhere(ui, r, y);
        return;
    }
    fmt_seconds(secs, sizeof secs, e->seconds);
    fmt_count(tokens, sizeof tokens, e->predicted);
    if (e->from_cache)
        text_format(buf, sizeof buf, "from cache");
    else
        text_format(buf, sizeof buf, "layers %d.. ran, %s", e->first_layer_run, secs);
    effect_line(ui, r, y, stale ? "STALE" : "measured", stale ? SL_STALE : SL_TEXT, e);
    if (stale) {
        char differ[120];
        text_format(differ, sizeof differ,
                    stale == 1 ? "STALE: %lld linear differs since; r measures again"
                               : "STALE: %lld linears differ since; r measures again",
                    (long long)stale);
        panel_line(ui, r, y, "", SL_STALE, differ);
    }
    effect_more(ui, r, y, e, buf);
    if (base && base != e)
        effect_line(ui, r, y, "at first", SL_TEXT, base);
    if (!stale)
        draw_rivals(ui, r, y);
    char ppl[48];
    fmt_value(ppl, sizeof ppl, e->ppl_float);
    text_format(buf, sizeof buf, "ppl %s  (%s tokens, %d texts; +- over blocks of 16 tokens)", ppl, tokens, e->texts);
    panel_line(ui, r, y, "float", SL_TEXT, buf);
}

/* The first rule of an engine that the set breaks, and how many more. */
static void draw_rules(Ui *ui, Whatif *w, Rect r, int *y)
{
    Session *s = ui_session(ui);
    const Runtime *runtime = session_options(s)->runtime;
    if (w->recipe != session_recipe(s) || w->version != session_edit_version(s) || w->runtime != runtime) {
        RuntimeReport report;
        w->recipe = session_recipe(s);
        w->version = session_edit_version(s);
        w->runtime = runtime;
        w->broken[0] = '\0';
        if (session_runtime(s, &report, NULL) == ST_OK && report.n) {
            if (report.n > 1)
                snprintf(w->broken, sizeof w->broken, "%.300s (%zu more)", report.f[0].text, report.n - 1);
            else
                snprintf(w->broken, sizeof w->broken, "%.300s", report.f[0].text);
        }
        runtime_report_fini(&report);
    }
    if (w->broken[0])
        panel_line(ui, r, y, "engine", runtime ? SL_ERR : SL_WARN, w->broken);
}

/* What the set as a whole does, what decides first: a low screen shows the first lines. */
static int figures_content(Ui *ui, Rect r, int64_t what, int spare)
{
    (void)what, (void)spare;
    int y = r.y;
    draw_predicted(ui, r, &y);
    draw_measured(ui, r, &y);
    draw_size(ui, r, &y);
    draw_rules(ui, ui_state(ui, &view_whatif), r, &y);
    return y;
}

/* Lines of the panel: all that the figures need, where the rules leave them. */
static int panel_rows(Ui *ui, Rect r)
{
    int n = session_whatifs(ui_session(ui)), need = detail_lines(ui, r, figures_content, 0);
    int least = r.h >= 24 ? PANEL_ROWS + 2 : r.h >= 16 ? PANEL_ROWS : r.h / 2, room = r.h - 1 - (n + 1);
    if (n == 0 || need <= least || room <= least)
        return least;
    return need < room ? need : room;
}

static void draw(Ui *ui, void *state)
{
    Whatif *st = state;
    Rect r = ui->layout.main;
    if (!ui_model(ui))
        return;
    int panel = panel_rows(ui, r);
    Rect list = {r.y, r.x, r.h - panel - 1, r.w}, below = {r.y + r.h - panel, r.x, panel, r.w};
    draw_list(ui, state, list);
    draw_hline(ui, below.y - 1, r.x, r.w);
    detail_scrolled(ui, below, figures_content, 0, &st->figures, tr("J K scroll"));
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

static const char *refuse_all_seen(Ui *ui)
{
    const Whatif *st = ui_state(ui, &view_whatif);
    return st->figures.lines > st->figures.page ? NULL : "all of the figures are in sight";
}

static unsigned whatif_scroll(Ui *ui, const KeyRow *row, int key)
{
    (void)key;
    Whatif *st = ui_state(ui, &view_whatif);
    detail_move(&st->figures, (Motion)row->arg);
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
     .refuse = refuse_no_whatif},
    {.place = 72, .keys = {'e'}, .command = "rule edit RULE PATTERN", .help = "give this rule another pattern",
     .label = "Edit", .run = whatif_edit, .refuse = refuse_no_whatif},
    {.place = 74, .keys = {'d', K(KEY_DC)}, .command = "rule delete RULE", .help = "delete this rule",
     .label = "Delete", .run = whatif_delete, .refuse = refuse_no_whatif},
    {.place = 76, .keys = {'<'}, .command = "rule up RULE", .help = "move this rule before the one above",
     .run = whatif_shift, .arg = -1, .refuse = refuse_no_whatif},
    {.place = 78, .keys = {'>'}, .command = "rule down RULE", .help = "move this rule behind the one below",
     .run = whatif_shift, .arg = 1, .refuse = refuse_no_whatif},
    {.place = 340, .keys = {'\n', '\t', K(KEY_ENTER)}, .help = "list the layers this rule hits",
     .label = "Hits", .run = whatif_list, .refuse = refuse_no_whatif},
    {.place = 342, .keys = {'J'}, .help = "scroll the figures below the rules down", .run = whatif_scroll,
     .arg = MOVE_DOWN, .refuse = refuse_all_seen},
    {.place = 344, .keys = {'K'}, .help = "scroll the figures below the rules up", .run = whatif_scroll,
     .arg = MOVE_UP, .refuse = refuse_all_seen},
    {.help = NULL},
};

const View view_whatif = {
    .key = '2', .keys = keys, .name = "whatif", .title = "What-if", .state_size = sizeof(Whatif),
    .draw = draw, .move = move_rows, .context = context, .copy = copy, .click = click,
    .note = note,
};
