/* The frame around the views: title, tabs, figures, messages. Drawing goes into curses' memory; curses sends what
 * differs. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ui/keys.h"
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

static void job_text(const JobView *j, char *out, size_t size)
{
    char eta[24] = "";
    if (j->eta >= 0) {
        char t[20];
        fmt_seconds(t, sizeof t, j->eta);
        snprintf(eta, sizeof eta, " ~%s", t);
    }
    if (j->total > 0 && j->done > 0)
        snprintf(out, size, "  %s %lld/%lld %lld %%%s ", j->title, (long long)j->done, (long long)j->total,
                 (long long)(100 * j->done / j->total), eta);
    else
        snprintf(out, size, "  %s %s%s ", j->title, j->phase, eta);
}

static void draw_head(Ui *ui)
{
    Session *s = ui_session(ui);
    const Model *m = ui_model(ui);
    Rect r = ui->layout.head;
    char right[200] = "", name[256] = "no model";
    const JobView *j = s ? running(s) : NULL;
    if (j)
        job_text(j, right, sizeof right);
    if (m) {
        const char *end = m->path + strlen(m->path), *base = end;
        while (end > m->path && end[-1] == '/')
            end--;
        for (base = end; base > m->path && base[-1] != '/';)
            base--;
        snprintf(name, sizeof name, "%.*s", (int)(end - base), base);
    }
    int rw = text_width(right);
    Pen p = pen_at(ui, r.y, r.x, r.w);
    p.end -= rw;
    pen_puts(&p, SL_TITLE, " slimscope  ");
    pen_puts(&p, SL_TITLE, name);
    if (m) {
        DataInfo d = session_calib_info(s);
        if (session_recipe(s))
            pen_printf(&p, SL_TITLE, "  %s", recipe_name(session_recipe(s)));
        if (session_calib(s)) {
            const char *c = session_calib(s), *slash = strrchr(c, '/');
            pen_printf(&p, SL_TITLE, "  calib %s", slash ? slash + 1 : c);
        }
        if (d.tokens > 0) {
            char t[24];
            fmt_count(t, sizeof t, d.tokens);
            pen_printf(&p, SL_TITLE, " %d texts %s tokens #%.4s", d.samples, t, d.sha256);
        }
        if (session_is_read_only(s))
            pen_puts(&p, SL_TITLE, "  read-only");
    }
    pen_fill(&p, SL_TITLE);
    p.end += rw;
    pen_puts(&p, SL_TITLE, right);
    pen_fill(&p, SL_TITLE);
}

static void draw_tabs(Ui *ui)
{
    Rect r = ui->layout.tabs;
    Str ctx = {0};
    if (ui->view->context && ui_model(ui))
        ui->view->context(ui, ui_state(ui, ui->view), &ctx);
    Pen p = pen_at(ui, r.y, r.x, r.w);
    ui->ntab_spans = 0;
    pen_puts(&p, SL_TAB, " ");
    for (int i = 0; view_table[i]; i++) {
        const View *v = view_table[i];
        bool on = v == ui->view;
        ui->tab_spans[ui->ntab_spans].x = p.x;
        ui->tab_spans[ui->ntab_spans].view = v;
        pen_printf(&p, on ? SL_TAB_ON : SL_TAB, on ? "[%c %s]" : "%c %s", v->key, v->title);
        ui->tab_spans[ui->ntab_spans].w = p.x - ui->tab_spans[ui->ntab_spans].x;
        ui->ntab_spans++;
        pen_puts(&p, SL_TAB, " ");
    }
    const char *text = str_text(&ctx);
    int w = text_width(text);
    if (p.x + 1 + w < p.end)
        pen_to(&p, SL_TEXT, p.end - w - 1);
    else
        pen_puts(&p, SL_TEXT, " ");
    pen_puts(&p, SL_TEXT, text);
    pen_fill(&p, SL_TEXT);
    str_free(&ctx);
}

/* Pieces of the line of figures; the highest priority goes first where they don't all fit. */
typedef struct Figure {
    char text[72];
    Slot slot;
    int priority;
} Figure;
enum { MAX_FIGURES = 10 };
typedef struct Figures {
    Figure f[MAX_FIGURES];
    int n;
} Figures;

static void __attribute__((format(printf, 4, 5))) figure(Figures *l, Slot slot, int priority, const char *fmt, ...)
{
    if (l->n == MAX_FIGURES)
        return;
    Figure *f = &l->f[l->n++];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(f->text, sizeof f->text, fmt, ap);
    va_end(ap);
    f->slot = slot;
    f->priority = priority;
}

static void collect_figures(Session *s, Figures *l)
{
    Prediction pr = session_predict(s);
    char t[32], u[32];
    int stale = 0;
    figure(l, SL_TEXT, 0, "float %lld/%lld", (long long)pr.size.floats,
           (long long)(pr.size.floats + pr.size.quantized));
    fmt_bytes(t, sizeof t, (double)pr.size.bytes);
    figure(l, SL_TEXT, 0, "size %s", t);
    figure(l, SL_TEXT, 3, "%.2f bits", pr.size.average_bits);
    if (pr.have && pr.calibrated) {
        fmt_value(t, sizeof t, pr.kl);
        figure(l, SL_PREDICTED, 1, "KL %s~", t);
    } else if (pr.have && pr.share_back > 0) {
        fmt_percent(t, sizeof t, pr.share_back);
        figure(l, SL_PREDICTED, 1, "local error -%s~", t);
    }
    const Effect *e = session_effect(s, &stale);
    if (e) {
        fmt_value(t, sizeof t, e->kl_mean);
        fmt_value(u, sizeof u, e->ppl_quant);
        figure(l, stale ? SL_STALE : SL_STRONG, 0, stale ? "STALE KL %s ppl %s" : "measured KL %s ppl %s", t, u);
    }
    if (session_tag_count(s) > 0)
        figure(l, SL_TAGGED, 2, "*%lld tagged", (long long)session_tag_count(s));
    if (session_undo_depth(s) > 0)
        figure(l, SL_DIM, 4, "undo %d", session_undo_depth(s));
}

static void draw_figures(Ui *ui)
{
    Rect r = ui->layout.figures;
    Pen p = pen_at(ui, r.y, r.x, r.w);
    Figures l = {.n = 0};
    if (ui_model(ui))
        collect_figures(ui_session(ui), &l);
    for (int limit = 9; limit > 0; limit--) {
        int used = 0;
        for (int i = 0; i < l.n; i++)
            used += l.f[i].priority <= limit ? text_width(l.f[i].text) + 2 : 0;
        if (used <= r.w)
            break;
        for (int i = 0; i < l.n; i++) {
            if (l.f[i].priority == limit)
                l.f[i].text[0] = '\0';
        }
    }
    pen_puts(&p, SL_TEXT, " ");
    for (int i = 0; i < l.n; i++) {
        if (l.f[i].text[0])
            pen_printf(&p, l.f[i].slot, "%s  ", l.f[i].text);
    }
    pen_fill(&p, SL_TEXT);
}

static void draw_message(Ui *ui)
{
    Rect r = ui->layout.message;
    Pen p = pen_at(ui, r.y, r.x, r.w);
    bool shared = r.y == ui->layout.figures.y;
    if (ui->question.text) {
        pen_printf(&p, SL_WARN, " %s ", ui->question.text);
        ui_rest_cursor(ui, p.y, p.x);
    } else if (ui->message[0]) {
        Rect two = {shared ? r.y : ui->layout.figures.y, r.x + 1, shared ? 1 : 2, r.w - 2};
        int y = text_width(ui->message) > two.w ? two.y : r.y;
        if (y < r.y || shared) /* a long one takes the line of the figures too */
            draw_clear(ui, ui->layout.figures);
        draw_wrapped(ui, two, &y, ui->message_slot, ui->message);
        return;
    } else if (shared) {
        return;
    }
    pen_fill(&p, SL_TEXT);
}

static void draw_too_small(Ui *ui)
{
    char line[2][80];
    snprintf(line[0], sizeof line[0], "%dx%d is too small", ui->cols, ui->rows);
    snprintf(line[1], sizeof line[1], "needed: %dx%d   q quits", LAYOUT_MIN_COLS, LAYOUT_MIN_ROWS);
    for (int i = 0; i < 2; i++) {
        int w = text_width(line[i]), x = ui->cols > w ? (ui->cols - w) / 2 : 0,
            y = ui->rows > 1 ? (ui->rows - 2) / 2 + i : i;
        Pen p = pen_at(ui, y, x, ui->cols);
        pen_puts(&p, SL_WARN, line[i]);
    }
    if (ui->question.text) {
        Pen p = pen_at(ui, ui->rows - 1, 0, ui->cols);
        pen_puts(&p, SL_WARN, ui->question.text);
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
            draw_message(ui);
            keys_draw_bar(ui);
        }
    }
    if (ui->cursor_y < ui->rows && ui->cursor_x < ui->cols)
        move(ui->cursor_y, ui->cursor_x);
    refresh();
}
