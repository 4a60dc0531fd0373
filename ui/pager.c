/* Long output of a command, the log, a list of hits: read-only lines over the body. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "src/cmdline.h"
#include "ui/actions.h"
#include "ui/input.h"

typedef struct Pager {
    Str title, text, typed;
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
    str_free(&p->typed);
    free(p->line);
    free(p);
}

static int page_height(const Ui *ui)
{
    int h = ui->layout.figures.y - ui->layout.tabs.y - 2;
    return h > 1 ? h : 1;
}

/* Bytes of a line of the text, copied. */
static void line_text(const Pager *p, int64_t i, Str *out)
{
    const char *s = p->text.s + p->line[i];
    str_append(out, s, strcspn(s, "\n"));
}

/* Cells of the widest line. */
static int widest(const Pager *p)
{
    int most = 0;
    for (size_t i = 0; i < p->n; i++) {
        Str l = {0};
        line_text(p, (int64_t)i, &l);
        int w = text_width(str_text(&l));
        most = w > most ? w : most;
        str_free(&l);
    }
    return most;
}

static Found find(Ui *ui, const char *text, int direction, bool from_here)
{
    Pager *p = ui->overlay_state;
    Found found = {0, 0};
    int64_t n = (int64_t)p->n, best = -1;
    for (int64_t i = 0; i < n; i++) {
        Str l = {0};
        line_text(p, i, &l);
        bool hit = strcasestr(str_text(&l), text) != NULL;
        str_free(&l);
        if (!hit)
            continue;
        found.of++;
        int64_t away = ((direction * (i - p->pos.cur)) % n + n) % n;
        away = away == 0 && !from_here ? n : away;
        if (best < 0 || away < best) {
            best = away;
            found.at = found.of;
        }
    }
    if (best >= 0)
        p->pos.cur = ((p->pos.cur + direction * best) % n + n) % n;
    return found;
}

static void draw(Ui *ui, Rect r)
{
    Pager *p = ui->overlay_state;
    int64_t last = (int64_t)p->n - page_height(ui);
    if (p->pos.cur > last)
        p->pos.cur = last > 0 ? last : 0;
    bool wide = widest(p) - p->left > r.w - 2 || p->left > 0;
    LineParts l = {.n = 0};
    part_add(&l, SL_HEADER, 1, "%s", str_text(&p->title))->least = 12;
    int64_t end = p->pos.cur + page_height(ui) < (int64_t)p->n ? p->pos.cur + page_height(ui) : (int64_t)p->n;
    part_add(&l, SL_HEADER, 0, "lines %lld-%lld of %zu", (long long)p->pos.cur + 1, (long long)end, p->n)->right = true;
    if (wide)
        part_add(&l, SL_HEADER, 2, "h l sideways");
    if (p->typed.len > 0)
        part_add(&l, SL_HEADER, 3, "Enter types it");
    part_add(&l, SL_HEADER, 5, "/ finds");
    part_add(&l, SL_HEADER, 4, "q closes");
    Pen head = pen_at(ui, r.y, r.x, r.w);
    pen_puts(&head, SL_HEADER, " ");
    pen_parts(&head, SL_HEADER, &l, 1);
    pen_fill(&head, SL_HEADER);
    for (int y = 1; y < r.h && p->pos.cur + y - 1 < (int64_t)p->n; y++) {
        Str text = {0};
        line_text(p, p->pos.cur + y - 1, &text);
        const char *shown = str_text(&text);
        int w;
        for (int skip = p->left; skip > 0 && text_next(&shown, &w);)
            skip -= w;
        Pen pen = pen_at(ui, r.y + y, r.x + 1, r.w - 1);
        char line[2048];
        text_clip(line, sizeof line, shown, pen.end - pen.x, ui->term.glyphs.ellipsis);
        pen_puts(&pen, SL_TEXT, line);
        str_free(&text);
    }
    ui_rest_cursor(ui, r.y + 1, r.x);
}

static unsigned key(Ui *ui, int k)
{
    Pager *p = ui->overlay_state;
    bool enter = k == '\n' || k == KEY_CODE(KEY_ENTER);
    if (k == 'q' || k == KEY_ESC || enter || k == KEY_CTRL('C')) {
        char *typed = enter && p->typed.len > 0 ? strdup(p->typed.s) : NULL;
        ui_close_overlay(ui);
        if (typed)
            input_open(ui, INPUT_COMMAND, typed);
        free(typed);
        return DO_RELAYOUT;
    }
    if (k == '/' || k == KEY_CODE(KEY_F(3)))
        return input_open(ui, INPUT_SEARCH, NULL);
    if ((k == 'n' || k == 'N') && ui->search[0])
        return ui_found(ui, find(ui, ui->search, k == 'n' ? 1 : -1, false), ui->search);
    const KeyRow *row = key_find(k, view_find("export")); /* movement as everywhere, with left and right */
    if (!row || row->run != act_move)
        return ui_refuse(ui, "q closes this page");
    int page = page_height(ui);
    Motion m = (Motion)row->arg;
    if (m == MOVE_RIGHT || (m == MOVE_LEFT && p->left > 0)) {
        p->left += m == MOVE_LEFT ? -8 : 8;
        if (p->left < 0)
            p->left = 0;
        return DO_PAINT;
    }
    return m != MOVE_LEFT && list_move(&p->pos, m, (int64_t)p->n, page) ? DO_PAINT : act_end(ui, m);
}

static const Overlay pager_overlay = {draw, key, fini, find};

void pager_open(Ui *ui, const char *title, const char *text, const char *typed)
{
    Pager *p = calloc(1, sizeof *p);
    if (!p) {
        ui_say(ui, SL_ERR, "out of memory");
        return;
    }
    str_puts(&p->title, title);
    str_puts(&p->text, text);
    str_puts(&p->typed, typed ? typed : "");
    for (const char *s = str_text(&p->text); *s;) {
        if (!mem_grow(&p->line, &p->cap, p->n + 1, sizeof *p->line))
            break;
        p->line[p->n++] = (size_t)(s - p->text.s);
        s += strcspn(s, "\n");
        s += *s == '\n';
    }
    ui_open_overlay(ui, &pager_overlay, p);
}

void help_command(Ui *ui, const Command *c)
{
    Str text = {0}, title = {0}, typed = {0};
    command_usage(c, &text);
    str_printf(&title, "help %s", c->name);
    str_printf(&typed, "%s ", c->name);
    pager_open(ui, str_text(&title), str_text(&text), c->flags & CMD_CLI_ONLY ? NULL : str_text(&typed));
    str_free(&text);
    str_free(&title);
    str_free(&typed);
}
