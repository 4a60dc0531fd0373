#include "ui/layout.h"

#include <string.h>

enum { FOOT = 3 }; /* figures, message, keys */

static Rect rect(int y, int x, int h, int w)
{
    return (Rect){y, x, h > 0 ? h : 0, w > 0 ? w : 0};
}

static void place_side(Layout *l, LayoutPrefs prefs, Rect body)
{
    l->main = body;
    l->rule = -1;
    l->split = SPLIT_NONE;
    if (!prefs.side)
        return;
    if (prefs.full) {
        l->split = SPLIT_FULL;
        l->side = body;
        l->main.h = 0;
    } else if (l->cols >= 100) {
        int w = l->cols >= 160 ? l->cols * 42 / 100 : l->cols * 34 / 100;
        if (w > 96)
            w = 96;
        l->split = SPLIT_RIGHT;
        l->main.w = body.w - w - 1;
        l->rule = body.x + l->main.w;
        l->side = rect(body.y, l->rule + 1, body.h, w);
    } else if (l->rows >= 36) {
        int h = body.h / 2;
        l->split = SPLIT_BELOW;
        l->main.h = body.h - h - 1;
        l->rule = body.y + l->main.h;
        l->side = rect(l->rule + 1, body.x, h, body.w);
    }
}

void layout_compute(int rows, int cols, LayoutPrefs prefs, Layout *out)
{
    memset(out, 0, sizeof *out);
    out->rows = rows;
    out->cols = cols;
    out->rule = -1;
    out->too_small = rows < LAYOUT_MIN_ROWS || cols < LAYOUT_MIN_COLS;
    if (out->too_small)
        return;
    out->head = rect(0, 0, 1, cols);
    out->tabs = rect(1, 0, 1, cols);
    out->keys = rect(rows - 1, 0, 1, cols);
    out->message = rect(rows - 2, 0, 1, cols);
    out->figures = rect(rows - FOOT, 0, 1, cols);
    place_side(out, prefs, rect(2, 0, rows - 2 - FOOT, cols));
}

int columns_fit(const Column *c, int n, int width, int *w)
{
    for (int i = 0; i < n; i++)
        w[i] = c[i].min;
    int used;
    for (;;) {
        int drop = -1;
        used = 0;
        for (int i = 0; i < n; i++) {
            if (w[i] == 0)
                continue;
            used += w[i] + (used > 0);
            if (c[i].priority > 0 && (drop < 0 || c[i].priority > c[drop].priority))
                drop = i;
        }
        if (used <= width || drop < 0)
            break;
        w[drop] = 0;
    }
    for (int i = 0; i < n && used < width; i++) {
        if (w[i] == 0 || c[i].max <= w[i])
            continue;
        int more = c[i].max - w[i];
        if (more > width - used)
            more = width - used;
        w[i] += more;
        used += more;
    }
    return used;
}

void list_clamp(ListPos *p, int64_t n, int page)
{
    if (page < 1)
        page = 1;
    if (p->cur >= n)
        p->cur = n - 1;
    if (p->cur < 0)
        p->cur = 0;
    if (p->top > p->cur)
        p->top = p->cur;
    if (p->top < p->cur - page + 1)
        p->top = p->cur - page + 1;
    if (p->top > n - page)
        p->top = n - page;
    if (p->top < 0)
        p->top = 0;
}

bool list_move(ListPos *p, Motion m, int64_t n, int page)
{
    int64_t was = p->cur, step = 0;
    if (page < 1)
        page = 1;
    switch (m) {
    case MOVE_DOWN: step = 1; break;
    case MOVE_UP: step = -1; break;
    case MOVE_HALF_DOWN: step = page / 2 + 1; break;
    case MOVE_HALF_UP: step = -(page / 2 + 1); break;
    case MOVE_PAGE_DOWN: step = page; break;
    case MOVE_PAGE_UP: step = -page; break;
    case MOVE_TOP: step = -n; break;
    case MOVE_BOTTOM: step = n; break;
    case MOVE_LEFT:
    case MOVE_RIGHT: return false;
    }
    p->cur += step;
    list_clamp(p, n, page);
    return p->cur != was;
}
