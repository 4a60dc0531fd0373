/* `?`: every key that works here, made from the key table; Enter runs the chosen one. */
#include <stdlib.h>
#include <string.h>

#include "ui/actions.h"
#include "src/lang.h"

enum { HELP_MAX = 96 };
typedef struct Help {
    const KeyRow *row[HELP_MAX];
    int n;
    ListPos pos;
} Help;

static void fini(Ui *ui)
{
    free(ui->overlay_state);
}

static void row_keys(const KeyRow *row, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; row->run == act_screen && view_table[i]; i++) {
        int k = snprintf(out + used, size - used, "%s%c", used ? " " : "", view_table[i]->key);
        used += k > 0 && (size_t)k < size - used ? (size_t)k : 0;
    }
    for (int i = 0; i < KEYS_PER_ROW && row->keys[i] && used < size && row->run != act_screen; i++) {
        char name[16];
        if (row->keys[i] == KEY_CODE(KEY_ENTER))
            continue; /* the keypad's: the same to a reader */
        key_text(row->keys[i], name, sizeof name);
        int k = snprintf(out + used, size - used, "%s%s", used ? " " : "", name);
        used += k > 0 ? (size_t)k : 0;
    }
}

bool help_key_line(int i, int line, const char **title, char keys[64], const char **help, const char **command)
{
    const View *v = i > 0 ? view_table[i - 1] : NULL;
    const KeyRow *row = i == 0 ? key_table : v ? v->keys : NULL;
    while (row && row->help && line-- > 0)
        row++;
    if (!row || !row->help)
        return false;
    *title = v ? v->title : "All screens";
    row_keys(row, keys, 64);
    *help = row->help;
    *command = row->command;
    return true;
}

static void draw(Ui *ui, Rect r)
{
    Help *h = ui->overlay_state;
    int page = r.h - 1;
    list_clamp(&h->pos, h->n, page);
    Pen head = pen_at(ui, r.y, r.x, r.w);
    pen_printf(&head, SL_HEADER, " Keys on %s: Enter runs the line, q closes", tr(ui->view->title));
    pen_fill(&head, SL_HEADER);
    const Column cols[] = {{"", 12, 14, 0, false}, {"", 44, 84, 0, false}, {"", 32, 34, 1, false}};
    int w[3];
    columns_fit(cols, 3, r.w - 3, w);
    for (int y = 0; y < page && h->pos.top + y < h->n; y++) {
        const KeyRow *row = h->row[h->pos.top + y];
        const char *why = row->refuse ? row->refuse(ui) : NULL;
        bool here = h->pos.top + y == h->pos.cur;
        char keys[64], text[300];
        row_keys(row, keys, sizeof keys);
        text_format(text, sizeof text, why ? "%s (not now: %s)" : "%s%s", tr(row->help), why ? tr(why) : "");
        Pen p = pen_at(ui, r.y + 1 + y, r.x, r.w);
        p.reverse = here;
        if (here) {
            ui_rest_cursor(ui, p.y, p.x);
            ui_say(ui, why ? SL_WARN : SL_TEXT, row->command ? "%s  [:%s]" : "%s", text, row->command);
        }
        pen_puts(&p, SL_TEXT, here ? "> " : "  ");
        pen_cell(&p, SL_KEY, w[0], false, keys);
        pen_puts(&p, SL_TEXT, " ");
        pen_cell(&p, why ? SL_DIM : SL_TEXT, w[1], false, text);
        if (w[2]) {
            pen_puts(&p, SL_TEXT, " ");
            pen_cell(&p, SL_DIM, w[2], false, row->command ? row->command : "");
        }
        pen_fill(&p, SL_TEXT);
    }
}

static unsigned leave(Ui *ui)
{
    ui->message[0] = '\0';
    ui_close_overlay(ui);
    return DO_RELAYOUT;
}

static unsigned run_row(Ui *ui, const KeyRow *row)
{
    const char *why = row->refuse ? row->refuse(ui) : NULL;
    if (why)
        return ui_refuse(ui, "%s", tr(why));
    leave(ui);
    return row->run(ui, row, row->keys[0]) | DO_RELAYOUT;
}

static unsigned key(Ui *ui, int k)
{
    Help *h = ui->overlay_state;
    if (k == 'q' || k == KEY_ESC || k == '?' || k == KEY_CODE(KEY_F(1)) || k == KEY_CTRL('C'))
        return leave(ui);
    if ((k == '\n' || k == KEY_CODE(KEY_ENTER)) && h->n > 0)
        return run_row(ui, h->row[h->pos.cur]);
    const KeyRow *row = key_find(k, ui->view);
    if (row && row->run == act_move) {
        list_move(&h->pos, (Motion)row->arg, h->n, ui->layout.figures.y - ui->layout.tabs.y - 2);
        return DO_PAINT;
    }
    for (int i = 0; row && i < h->n; i++) {
        if (h->row[i] == row)
            h->pos.cur = i; /* a key pressed here shows its line */
    }
    return DO_PAINT;
}

static const Overlay help_overlay = {draw, key, fini};

void help_open(Ui *ui)
{
    Help *h = calloc(1, sizeof *h);
    if (!h) {
        ui_say(ui, SL_ERR, "out of memory");
        return;
    }
    for (const KeyRow *row = key_next(ui->view, NULL); row && h->n < HELP_MAX; row = key_next(ui->view, row))
        if (row->run != act_help)
            h->row[h->n++] = row;
    ui_open_overlay(ui, &help_overlay, h);
}
