#include "ui/draw.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "src/lang.h"
#include "ui/text.h"
#include "ui/workbench.h"

Pen pen_at(Ui *ui, int y, int x, int w)
{
    int cols = ui->layout.cols;
    Pen p = {.ui = ui, .y = y, .x = x, .end = x + w < cols ? x + w : cols};
    if (y < ui->clip_top || y >= ui->clip_bottom || y >= ui->layout.rows)
        p.end = x;
    return p;
}

static void put(int y, int x, attr_t attr, int pair, wchar_t c)
{
    wchar_t text[2] = {c, 0};
    cchar_t cell;
    if (setcchar(&cell, text, attr, (short)pair, NULL) == OK)
        mvadd_wch(y, x, &cell);
}

static void pen_colored(Pen *p, attr_t attr, int pair, wchar_t c)
{
    int w = wcwidth(c);
    if (w < 1)
        w = 1;
    if (p->x + w > p->end) {
        if (p->x < p->end) /* half of a wide character has no room: a space, so that nothing old stays */
            put(p->y, p->x++, attr, pair, L' ');
        return;
    }
    put(p->y, p->x, p->reverse ? attr ^ A_REVERSE : attr, pair, c);
    p->x += w;
}

void pen_char(Pen *p, Slot slot, wchar_t c)
{
    const Term *t = &p->ui->term;
    pen_colored(p, t->attr[slot], t->pair[slot], c);
}

void pen_puts(Pen *p, Slot slot, const char *s)
{
    int w;
    for (wchar_t c; p->x < p->end && (c = text_next(&s, &w)) != 0;)
        pen_char(p, slot, c);
}

void pen_printf(Pen *p, Slot slot, const char *fmt, ...)
{
    char buf[ERROR_TEXT_MAX + 256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buf, sizeof buf, tr(fmt), ap);
    va_end(ap);
    pen_puts(p, slot, buf);
}

void pen_to(Pen *p, Slot slot, int x)
{
    if (x > p->end)
        x = p->end;
    while (p->x < x)
        pen_char(p, slot, L' ');
}

void pen_fill(Pen *p, Slot slot)
{
    pen_to(p, slot, p->end);
}

void pen_cell(Pen *p, Slot slot, int w, bool right, const char *s)
{
    int end = p->x + w < p->end ? p->x + w : p->end, full = p->end, used = text_width(s);
    if (right && used < w)
        pen_to(p, slot, p->x + w - used);
    p->end = end;
    pen_puts(p, slot, s);
    pen_fill(p, slot);
    p->end = full;
}

void pen_name(Pen *p, Slot slot, int w, const char *s)
{
    char buf[1024];
    text_elide(buf, sizeof buf, s, w, p->ui->term.glyphs.ellipsis);
    pen_cell(p, slot, w, false, buf);
}

void pen_parts(Pen *p, Slot slot, LineParts *l, int margin)
{
    int room = p->end - p->x - margin, used = parts_fit(l, room);
    bool first = true, moved = false;
    for (int i = 0; i < l->n; i++) {
        const LinePart *f = &l->f[i];
        if (f->right && !moved) {
            pen_to(p, slot, p->x + room - used);
            moved = true;
        }
        if (f->width == 0)
            continue;
        if (!first)
            pen_to(p, slot, p->x + f->gap);
        first = false;
        pen_name(p, f->slot, f->width, f->text);
    }
}

/* Attributes at place t of the score gradient. */
static void gradient(Ui *ui, double t, attr_t *attr, int *pair)
{
    Term *term = &ui->term;
    if (term->depth < DEPTH_256) {
        Slot s = t < 0.34 ? SL_LOW : t < 0.67 ? SL_MID : SL_HIGH;
        *attr = term->attr[s];
        *pair = term->pair[s];
        return;
    }
    const Look *low = &term->theme.look[SL_LOW], *mid = &term->theme.look[SL_MID], *high = &term->theme.look[SL_HIGH];
    int step = (int)(t * 15 + 0.5); /* sixteen steps: the pair table stays small */
    t = step / 15.0;
    Look l = *low;
    l.fg = t < 0.5 ? theme_mix(low->fg, mid->fg, 2 * t) : theme_mix(mid->fg, high->fg, 2 * t - 1);
    term_look(term, &l, attr, pair);
}

void pen_bar(Pen *p, int w, double share, bool plain)
{
    const Glyphs *g = &p->ui->term.glyphs;
    share = isfinite(share) ? share < 0 ? 0 : share > 1 ? 1 : share : 0;
    int steps = g->bar_steps, fill = (int)lround(share * w * steps);
    if (fill == 0 && share > 0)
        fill = 1;
    attr_t attr;
    int pair;
    gradient(p->ui, share, &attr, &pair);
    if (plain) {
        attr = p->ui->term.attr[SL_RUNNING];
        pair = p->ui->term.pair[SL_RUNNING];
    }
    for (int i = 0; i < w; i++, fill -= steps)
        pen_colored(p, attr, pair, fill <= 0 ? L' ' : g->bar[fill >= steps ? steps : fill]);
}

void draw_clip(Ui *ui, int top, int bottom)
{
    ui->clip_top = top;
    ui->clip_bottom = bottom;
}

void draw_clear(Ui *ui, Rect r)
{
    for (int y = 0; y < r.h; y++) {
        Pen p = pen_at(ui, r.y + y, r.x, r.w);
        pen_fill(&p, SL_TEXT);
    }
}

void draw_vline(Ui *ui, int y, int x, int h)
{
    for (int i = 0; i < h; i++) {
        Pen p = pen_at(ui, y + i, x, 1);
        pen_char(&p, SL_BLUR, ui->term.glyphs.vline);
    }
}

void draw_hline(Ui *ui, int y, int x, int w)
{
    Pen p = pen_at(ui, y, x, w);
    while (p.x < p.end)
        pen_char(&p, SL_BLUR, ui->term.glyphs.hline);
}

void draw_wrapped(Ui *ui, Rect r, int *y, Slot slot, const char *text)
{
    text = tr(text);
    while (*text && *y < r.y + r.h && r.w > 0) {
        const char *nl = strchr(text, '\n');
        size_t line = nl ? (size_t)(nl - text) : strlen(text), n = text_break(text, r.w);
        if (n > line)
            n = line;
        Pen p = pen_at(ui, *y, r.x, r.w);
        pen_printf(&p, slot, "%.*s", (int)n, text);
        (*y)++;
        text += n;
        if (n == line && nl)
            text++;
        else
            while (*text == ' ')
                text++;
    }
}
