/* Long output of a command, the log, a list of hits: read-only lines over the body. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "src/lang.h"
#include "ui/actions.h"

typedef struct Pager {
    Str title, text;
    size_t *line;      /* start of each line in text */
    size_t n, cap;
    ListPos pos;       /* cur = first line shown */
    int left;          /* cells scrolled to the right */
} Pager;

static void fini(Ui *ui)
{
    Pager *p = ui->overlay_state;
    str_free(&p->title);
    str_free(&p->text);
    free(p->line);
    free(p);
}

static int page_height(const Ui *ui)
{
    int h = ui->layout.figures.y - ui->layout.tabs.y - 2;
    return h > 1 ? h : 1;
}

static void draw(Ui *ui, Rect r)
{
    Pager *p = ui->overlay_state;
    int64_t last = (int64_t)p->n - page_height(ui);
    if (p->pos.cur > last)
        p->pos.cur = last > 0 ? last : 0;
    Pen head = pen_at(ui, r.y, r.x, r.w);
    pen_printf(&head, SL_HEADER, " %s", str_text(&p->title));
    pen_fill(&head, SL_HEADER);
    char where[64];
    text_format(where, sizeof where, "%lld of %zu lines, q closes ", (long long)p->pos.cur + 1, p->n);
    Pen right = pen_at(ui, r.y, r.x + r.w - (int)strlen(where), r.w);
    pen_puts(&right, SL_HEADER, where);
    for (int y = 1; y < r.h && p->pos.cur + y - 1 < (int64_t)p->n; y++) {
        const char *s = p->text.s + p->line[p->pos.cur + y - 1], *end = strchr(s, '\n');
        Str l = {0};
        str_append(&l, s, end ? (size_t)(end - s) : strlen(s));
        const char *shown = str_text(&l);
        int w;
        for (int skip = p->left; skip > 0 && text_next(&shown, &w);)
            skip -= w;
        Pen pen = pen_at(ui, r.y + y, r.x + 1, r.w - 1);
        pen_puts(&pen, SL_TEXT, shown);
        str_free(&l);
    }
    ui_rest_cursor(ui, r.y + 1, r.x);
}

static unsigned key(Ui *ui, int k)
{
    Pager *p = ui->overlay_state;
    if (k == 'q' || k == KEY_ESC || k == '\n' || k == KEY_CTRL('C')) {
        ui_close_overlay(ui);
        return DO_RELAYOUT;
    }
    const KeyRow *row = key_find(k, view_find("export")); /* movement as everywhere, with left and right */
    if (!row || row->run != act_move)
        return ui_refuse(ui, "q closes this page");
    int page = page_height(ui);
    Motion m = (Motion)row->arg;
    if (m == MOVE_LEFT || m == MOVE_RIGHT) {
        p->left += m == MOVE_LEFT ? -8 : 8;
        if (p->left < 0)
            p->left = 0;
        return DO_PAINT;
    }
    list_move(&p->pos, m, (int64_t)p->n, page);
    return DO_PAINT;
}

static const Overlay pager_overlay = {draw, key, fini};

void pager_open(Ui *ui, const char *title, const char *text)
{
    Pager *p = calloc(1, sizeof *p);
    if (!p) {
        ui_say(ui, SL_ERR, "out of memory");
        return;
    }
    str_puts(&p->title, title);
    str_puts(&p->text, text);
    for (const char *s = str_text(&p->text); *s;) {
        if (!mem_grow(&p->line, &p->cap, p->n + 1, sizeof *p->line))
            break;
        p->line[p->n++] = (size_t)(s - p->text.s);
        s += strcspn(s, "\n");
        s += *s == '\n';
    }
    ui_open_overlay(ui, &pager_overlay, p);
}
