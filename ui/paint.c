/* The frame around the views: title, tabs, figures, messages. Drawing goes into curses' memory; curses sends what
 * differs. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ui/keys.h"
#include "io/file.h"
#include "session/attach.h"
#include "session/calibset.h"
#include "src/lang.h"
#include "ui/attached.h"
#include "ui/input.h"

void ui_rest_cursor(Ui *ui, int y, int x)
{
    ui->cursor_y = y;
    ui->cursor_x = x;
}

static const JobView *running(Session *s)
{
    for (int i = session_jobs(s) - 1; i >= 0; i--) {
        const JobView *j = session_job(s, i);
        if (j->state == JOB_RUNNING)
            return j;
    }
    return NULL;
}

/* What the title says of the job that runs, at its right end. */
static void job_parts(const JobView *j, LineParts *l)
{
    char t[20];
    part_add(l, SL_TITLE, 2, "%s", j->title)->least = 12;
    l->f[l->n - 1].right = true;
    if (j->total > 0) {
        part_add(l, SL_TITLE, 0, "%lld/%lld", (long long)j->done, (long long)j->total)->gap = 1;
        part_add(l, SL_TITLE, 4, "%lld %%", (long long)(100 * j->done / j->total))->gap = 1;
    } else {
        part_add(l, SL_TITLE, 3, "%s", j->phase)->gap = 1;
    }
    if (j->eta < 0)
        return;
    fmt_seconds(t, sizeof t, j->eta);
    part_add(l, SL_TITLE, 1, "~%s", t)->gap = 1;
}

static void model_parts(Session *s, const Model *m, LineParts *l)
{
    const char *end = m->path + strlen(m->path), *base = end;
    const bool attached = session_attached(s, &(AttachView){0});
    while (end > m->path && end[-1] == '/')
        end--;
    for (base = end; base > m->path && base[-1] != '/';)
        base--;
    part_add(l, SL_TITLE, 0, "%.*s", (int)(end - base), base)->least = 10;
    if (session_unkept(s))
        part_add(l, session_is_read_only(s) ? SL_TITLE : SL_WARN, 1, "%s", attached ? N_("attached") : session_unkept(s));
    if (session_recipe(s))
        part_add(l, SL_TITLE, 3, "%s", recipe_name(session_recipe(s)))->least = 10;
    if (work_change(session_recipe(s), 0)) { /* what is analysed and measured is no longer the checkpoint's model */
        Str names = {0};
        work_name_changes(session_recipe(s), &names);
        part_add(l, SL_TITLE, 4, "with %s", str_text(&names))->least = 12;
        str_free(&names);
    }
    if (session_options(s)->arith) /* another than the default */
        part_add(l, SL_TITLE, 1, "%s arithmetic", arith_name(session_options(s)->arith));
    part_add(l, SL_TITLE, 5, "calib %s", path_base(session_calib_title(s)))->least = 16;
    DataInfo d = session_calib_info(s);
    if (d.tokens > 0) {
        char t[24];
        fmt_count(t, sizeof t, d.tokens);
        part_add(l, SL_TITLE, 6, d.samples == 1 ? "%d text" : "%d texts", d.samples)->gap = 1;
        part_add(l, SL_TITLE, 7, "%s tokens", t)->gap = 1;
        part_add(l, SL_TITLE, 8, "#%.4s", d.sha256)->gap = 1;
    }
}

static void draw_head(Ui *ui)
{
    Session *s = ui_session(ui);
    const Model *m = ui_model(ui);
    Rect r = ui->layout.head;
    LineParts l = {.n = 0};
    const JobView *j = s ? running(s) : NULL;
    part_add(&l, SL_TITLE, 9, "slimscope");
    if (m)
        model_parts(s, m, &l);
    else
        part_add(&l, SL_TITLE, 0, "no model");
    if (j)
        job_parts(j, &l);
    Pen p = pen_at(ui, r.y, r.x, r.w);
    pen_puts(&p, SL_TITLE, " ");
    pen_parts(&p, SL_TITLE, &l, 1);
    pen_fill(&p, SL_TITLE);
}

/* Whose names the tabs show, beside the one that is open: a name stands there whole or not at all. */
typedef enum TabNames { NAMES_ALL, NAMES_NEXT, NAMES_NONE } TabNames;

/* Where the open view stands among the tabs. */
static int open_tab(const Ui *ui)
{
    int at = 0;
    while (view_table[at] && view_table[at] != ui->view)
        at++;
    return at;
}

static void put_tabs(Ui *ui, Pen *p, TabNames names)
{
    int at = open_tab(ui);
    ui->ntab_spans = 0;
    pen_puts(p, SL_TAB, " ");
    for (int i = 0; view_table[i]; i++) {
        const View *v = view_table[i];
        bool named = names == NAMES_ALL || (names == NAMES_NEXT && i >= at - 1 && i <= at + 1);
        ui->tab_spans[ui->ntab_spans].x = p->x;
        ui->tab_spans[ui->ntab_spans].view = v;
        if (i == at)
            pen_printf(p, SL_TAB_ON, "[%c %s]", v->key, tr(v->title));
        else if (named)
            pen_printf(p, SL_TAB, "%c %s", v->key, tr(v->title));
        else
            pen_printf(p, SL_TAB, "%c", v->key);
        ui->tab_spans[ui->ntab_spans].w = p->x - ui->tab_spans[ui->ntab_spans].x;
        ui->ntab_spans++;
        pen_puts(p, SL_TAB, " ");
    }
}

/* Cells of the tabs with all names. */
static int tabs_width(void)
{
    enum { BRACKETS = 2, DIGIT = 1, GAPS = 2 };
    int w = 1 + BRACKETS;
    for (int i = 0; view_table[i]; i++)
        w += DIGIT + GAPS + text_width(tr(view_table[i]->title));
    return w;
}

/* The names of the screens before what this one says of itself: of that the tabs' line has what matters most, the rest stands in the
 * line of messages. */
static void draw_tabs(Ui *ui)
{
    Rect r = ui->layout.tabs;
    LineParts l = {.n = 0};
    if (ui->view->context && ui_model(ui))
        ui->view->context(ui, ui_state(ui, ui->view), &l);
    if (l.n > 0)
        l.f[0].right = true;
    Pen p;
    for (TabNames names = tabs_width() <= r.w ? NAMES_ALL : NAMES_NEXT;; names++) {
        p = pen_at(ui, r.y, r.x, r.w);
        put_tabs(ui, &p, names);
        parts_fit(&l, p.end - p.x - 2);
        if (names != NAMES_NEXT || parts_kept(&l) >= 0)
            break;
    }
    ui->rest = (LineParts){.n = 0};
    for (int i = 0; i < l.n; i++) {
        int lead = i; /* what it says nothing without */
        while (lead > 0 && l.f[lead].gap < PART_GAP)
            lead--;
        if (l.f[i].width == 0 && l.f[i].text[0] && l.f[lead].width == 0)
            ui->rest.f[ui->rest.n++] = l.f[i];
    }
    pen_puts(&p, SL_TEXT, " ");
    pen_parts(&p, SL_TEXT, &l, 1);
    pen_fill(&p, SL_TEXT);
}

/* ---- the line with size and effect ---- */

/* Predicted KL with its range, and from how many measurements it comes. */
static void predicted_part(const Prediction *pr, int width, LineParts *l)
{
    char kl[32], band[40] = "";
    bool wide = width >= 100;
    fmt_value(kl, sizeof kl, pr->kl.value);
    if (width < 80) { /* What-if has the rest */
        part_add(l, SL_PREDICTED, 1, "KL %s~(%d)", kl, pr->measurements);
        return;
    }
    text_format(band, sizeof band, " (%.2g to %.2g)", pr->kl.low, pr->kl.high);
    if (!wide)
        part_add(l, SL_PREDICTED, 1, "KL %s~%s", kl, band);
    else
        part_add(l, SL_PREDICTED, 1,
                 pr->measurements == 1 ? "KL %s~%s from %d measurement" : "KL %s~%s from %d measurements", kl, band,
                 pr->measurements);
}

static void collect_figures(Session *s, int width, LineParts *l)
{
    Prediction pr = session_predict(s);
    char t[32], u[32];
    int64_t stale = 0;
    part_add(l, SL_TEXT, 0, "float %lld/%lld", (long long)pr.size.floats,
              (long long)(pr.size.floats + pr.size.quantized));
    fmt_bytes(t, sizeof t, (double)pr.size.bytes);
    part_add(l, SL_TEXT, 2, "size %s", t);
    part_add(l, SL_TEXT, 6, "%.2f bits", pr.size.average_bits);
    if (pr.have && pr.measured) {
        /* the measurement says it */
    } else if (pr.have && pr.measurements) {
        predicted_part(&pr, width, l);
    } else if (pr.have && pr.share_back > 0) {
        fmt_percent(t, sizeof t, pr.share_back);
        part_add(l, SL_PREDICTED, 1, "loss -%s~", t);
    }
    const Effect *e = session_effect(s, &stale);
    if (e) {
        Slot slot = stale ? SL_STALE : SL_STRONG;
        fmt_value(t, sizeof t, e->kl_mean);
        fmt_value(u, sizeof u, e->ppl_quant);
        part_add(l, slot, stale ? 3 : 0, stale ? "STALE KL %s" : "measured KL %s", t);
        part_add(l, slot, 5, "ppl %s", u)->gap = 1;
    }
    if (session_tag_count(s) > 0)
        part_add(l, SL_TAGGED, 4, "*%lld tagged", (long long)session_tag_count(s));
    if (session_undo_depth(s) > 0)
        part_add(l, SL_DIM, 7, "undo %d", session_undo_depth(s));
}

static void draw_figures(Ui *ui)
{
    Rect r = ui->layout.figures;
    Pen p = pen_at(ui, r.y, r.x, r.w);
    LineParts l = {.n = 0};
    if (ui_model(ui))
        collect_figures(ui_session(ui), r.w, &l);
    pen_puts(&p, SL_TEXT, " ");
    pen_parts(&p, SL_TEXT, &l, 1);
    pen_fill(&p, SL_TEXT);
}

/* What is wrong goes on in the line of the keys where one line does not hold it: what to do stands at its end. */
static bool draw_long(Ui *ui, Pen *p)
{
    Rect keys = ui->layout.keys;
    char line[ERROR_TEXT_MAX + 8];
    if ((ui->message_slot != SL_ERR && ui->message_slot != SL_WARN) || text_width(ui->message) <= keys.w - 2)
        return false;
    size_t n = text_break(ui->message, keys.w - 2);
    pen_printf(p, ui->message_slot, " %.*s", (int)n, ui->message);
    pen_fill(p, SL_TEXT);
    const char *rest = ui->message + n + strspn(ui->message + n, " ");
    text_cut(line, sizeof line, rest, keys.w - 2, ui->term.glyphs.ellipsis);
    Pen below = pen_at(ui, keys.y, keys.x, keys.w);
    pen_printf(&below, ui->message_slot, " %s", line);
    pen_fill(&below, SL_TEXT);
    ui->nkey_spans = 0;
    return true;
}

/* true: it took the line of the keys too. */
static bool draw_message(Ui *ui)
{
    Rect r = ui->layout.message;
    Pen p = pen_at(ui, r.y, r.x, r.w);
    const char *note = !ui->message[0] && !ui->overlay && ui->view->note ? ui->view->note(ui, ui_state(ui, ui->view)) : NULL;
    char line[ERROR_TEXT_MAX + 8], there[ERROR_TEXT_MAX];
    Slot slot;
    if (ui->question.text) {
        pen_printf(&p, SL_WARN, " %s ", tr(ui->question.text));
        ui_rest_cursor(ui, p.y, p.x);
    } else if (ui->message[0] && draw_long(ui, &p)) {
        return true;
    } else if (ui->message[0]) {
        text_cut(line, sizeof line, ui->message, r.w - 2, ui->term.glyphs.ellipsis);
        pen_printf(&p, ui->message_slot, " %s", line);
    } else if (attached_line(ui, r.w - 2, there, sizeof there, &slot)) {
        text_cut(line, sizeof line, there, r.w - 2, ui->term.glyphs.ellipsis);
        pen_printf(&p, slot, " %s", line);
    } else if (note) {
        text_cut(line, sizeof line, note, r.w - 4, ui->term.glyphs.ellipsis);
        pen_printf(&p, SL_WARN, " ! %s", line);
    }
    if (ui->rest.n && !ui->overlay && p.x + PART_GAP < p.end) {
        ui->rest.f[0].right = true;
        pen_to(&p, SL_TEXT, p.x + PART_GAP - 1);
        pen_parts(&p, SL_TEXT, &ui->rest, 1);
    }
    pen_fill(&p, SL_TEXT);
    return false;
}

static void draw_too_small(Ui *ui)
{
    char line[2][80];
    text_format(line[0], sizeof line[0], "%dx%d is too small", ui->cols, ui->rows);
    text_format(line[1], sizeof line[1], "needed: %dx%d   q quits", LAYOUT_MIN_COLS, LAYOUT_MIN_ROWS);
    for (int i = 0; i < 2; i++) {
        int w = text_width(line[i]), x = ui->cols > w ? (ui->cols - w) / 2 : 0,
            y = ui->rows > 1 ? (ui->rows - 2) / 2 + i : i;
        Pen p = pen_at(ui, y, x, ui->cols);
        pen_puts(&p, SL_WARN, line[i]);
    }
    if (ui->question.text) {
        Pen p = pen_at(ui, ui->rows - 1, 0, ui->cols);
        pen_puts(&p, SL_WARN, tr(ui->question.text));
    }
}

static void draw_rule(Ui *ui)
{
    const Layout *l = &ui->layout;
    if (l->split == SPLIT_RIGHT)
        draw_vline(ui, l->main.y, l->rule, l->main.h);
    else if (l->split == SPLIT_BELOW)
        draw_hline(ui, l->rule, 0, l->cols);
}

void ui_paint(Ui *ui)
{
    const Layout *l = &ui->layout;
    input_settle(ui);
    draw_clip(ui, 0, ui->rows);
    erase();
    ui->cursor_y = ui->cursor_x = 0;
    if (l->too_small) {
        draw_too_small(ui);
    } else {
        if (ui->overlay) {
            Rect body = {l->tabs.y + 1, 0, l->figures.y - l->tabs.y - 1, l->cols};
            ui->overlay->draw(ui, body);
        } else {
            ui->view->draw(ui, ui_state(ui, ui->view));
            draw_rule(ui);
        }
        draw_head(ui);
        draw_tabs(ui); /* after the view: it says how things stand with what was drawn */
        draw_figures(ui);
        if (ui->input) {
            input_draw(ui);
        } else {
            if (!draw_message(ui))
                keys_draw_bar(ui);
        }
    }
    if (ui->cursor_y < ui->rows && ui->cursor_x < ui->cols)
        move(ui->cursor_y, ui->cursor_x);
    refresh();
}
