/* `?`: every key that works here, made from the key table; Enter runs the chosen one. Tab: what the screen's headings and signs mean.
 * `:help`: the commands. */
#include <stdlib.h>
#include <string.h>

#include "src/lang.h"
#include "ui/actions.h"
#include "ui/input.h"
#include "ui/signs.h"

/* A line of the list: a key row, a key that the user bound, a command, or a sign of the screen. */
typedef struct HelpRow {
    const KeyRow *row;
    const Binding *own;
    const Command *command;
    const Sign *sign;
} HelpRow;

typedef enum HelpList { HELP_KEYS, HELP_SIGNS, HELP_COMMANDS } HelpList;
enum { HELP_MAX = 160, TEXT_ROWS = 2 };
typedef struct Help {
    HelpRow row[HELP_MAX];
    int n;
    HelpList list;
    ListPos pos;
} Help;

static void fini(Ui *ui)
{
    free(ui->overlay_state);
}

/* ui NULL: as nobody has bound any. */
static void row_keys(const Ui *ui, const HelpRow *h, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    if (h->own)
        key_text(h->own->key, out, size);
    else if (h->command || h->sign)
        snprintf(out, size, "%s", h->command ? h->command->name : tr(h->sign->sign));
    for (int i = 0; h->row && h->row->run == act_screen && view_table[i]; i++) {
        int k = snprintf(out + used, size - used, "%s%c", used ? " " : "", view_table[i]->key);
        used += k > 0 && (size_t)k < size - used ? (size_t)k : 0;
    }
    for (int i = 0; h->row && h->row->run != act_screen && i < KEYS_PER_ROW && h->row->keys[i] && used < size; i++) {
        char name[16];
        if (h->row->keys[i] == KEY_CODE(KEY_ENTER) || (ui && ui_binding(ui, h->row->keys[i])))
            continue; /* the keypad's is the same to a reader; what was bound anew has its own line */
        key_text(h->row->keys[i], name, sizeof name);
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
    row_keys(NULL, &(HelpRow){.row = row}, keys, 64);
    *help = row->help;
    *command = row->command;
    return true;
}

static const char *why_not(Ui *ui, const HelpRow *h)
{
    return h->row ? key_refusal(ui, h->row) : NULL;
}

static void row_text(Ui *ui, const HelpRow *h, Str *out)
{
    const char *why = why_not(ui, h);
    if (h->own)
        str_puts(out, tr("your key"));
    else if (h->sign)
        str_puts(out, tr(h->sign->text));
    else if (why)
        str_printf(out, tr("%s (not now: %s)"), tr(h->row->help), tr(why));
    else
        str_puts(out, h->row ? tr(h->row->help) : h->command->summary);
}

static const char *row_command(const HelpRow *h)
{
    return h->own ? h->own->command : h->command ? h->command->args : h->row && h->row->command ? h->row->command : "";
}

static void draw_row(Ui *ui, Rect r, int y, const int *w, const HelpRow *h, bool here)
{
    char keys[64], cut[300];
    Str text = {0};
    const char *dots = ui->term.glyphs.ellipsis;
    bool no = why_not(ui, h) != NULL;
    row_keys(ui, h, keys, sizeof keys);
    row_text(ui, h, &text);
    Pen p = pen_at(ui, y, r.x, r.w);
    p.reverse = here;
    if (here)
        ui_rest_cursor(ui, p.y, p.x);
    pen_puts(&p, SL_TEXT, here ? "> " : "  ");
    pen_cell(&p, SL_KEY, w[0], false, keys);
    pen_puts(&p, SL_TEXT, " ");
    text_cut(cut, sizeof cut, str_text(&text), w[1], dots);
    pen_cell(&p, no ? SL_DIM : SL_TEXT, w[1], false, cut);
    if (w[2]) {
        text_cut(cut, sizeof cut, row_command(h), w[2], dots);
        pen_puts(&p, SL_TEXT, " ");
        pen_cell(&p, SL_DIM, w[2], false, cut);
    }
    pen_fill(&p, SL_TEXT);
    str_free(&text);
}

/* The chosen line in full, below the list. */
static void draw_chosen(Ui *ui, Rect r, const HelpRow *h)
{
    Str text = {0};
    row_text(ui, h, &text);
    if (row_command(h)[0])
        str_printf(&text, "  [:%s%s%s]", h->command ? h->command->name : "", h->command ? " " : "", row_command(h));
    int y = r.y + 1;
    draw_hline(ui, r.y, r.x, r.w);
    draw_wrapped(ui, (Rect){r.y, r.x + 1, r.h, r.w - 2}, &y, why_not(ui, h) ? SL_WARN : SL_TEXT, str_text(&text));
    str_free(&text);
}

static int page_rows(const Ui *ui)
{
    int rows = ui->layout.figures.y - ui->layout.tabs.y - 3 - TEXT_ROWS;
    return rows > 1 ? rows : 1;
}

/* What the list is of, and the keys that work in it. */
static void head_parts(const Ui *ui, const Help *h, int page, LineParts *l)
{
    static const struct {
        const char *title, *deed, *other;
    } said[] = {
        [HELP_KEYS] = {N_("Keys on %s"), N_("Enter runs the line"), N_("Tab explains the screen")},
        [HELP_SIGNS] = {N_("Headings and signs on %s"), "", N_("Tab lists the keys")},
        [HELP_COMMANDS] = {N_("Commands"), N_("Enter tells more"), ""},
    };
    char title[80];
    text_format(title, sizeof title, said[h->list].title, tr(ui->view->title));
    part_add(l, SL_HEADER, 1, "%s", title);
    part_add(l, SL_HEADER, 0, "%lld-%lld of %d", (long long)h->pos.top + 1,
             (long long)(h->pos.top + page < h->n ? h->pos.top + page : h->n), h->n);
    if (*said[h->list].other)
        part_add(l, SL_HEADER, 2, "%s", tr(said[h->list].other));
    if (*said[h->list].deed)
        part_add(l, SL_HEADER, 3, "%s", tr(said[h->list].deed));
    part_add(l, SL_HEADER, 6, "j k move");
    part_add(l, SL_HEADER, 5, "/ finds");
    part_add(l, SL_HEADER, 4, "q closes");
}

static void draw(Ui *ui, Rect r)
{
    Help *h = ui->overlay_state;
    int page = page_rows(ui);
    list_clamp(&h->pos, h->n, page);
    LineParts l = {.n = 0};
    head_parts(ui, h, page, &l);
    Pen head = pen_at(ui, r.y, r.x, r.w);
    pen_puts(&head, SL_HEADER, " ");
    pen_parts(&head, SL_HEADER, &l, 0);
    pen_fill(&head, SL_HEADER);
    const Column cols[] = {{"", 13, 14, 0, false}, {"", 44, 84, 0, false}, {"", 32, 60, 1, false}};
    int w[3] = {0};
    columns_fit(cols, h->list == HELP_SIGNS ? 2 : 3, r.w - 3, w);
    for (int y = 0; y < page && h->pos.top + y < h->n; y++)
        draw_row(ui, r, r.y + 1 + y, w, &h->row[h->pos.top + y], h->pos.top + y == h->pos.cur);
    if (h->n > 0)
        draw_chosen(ui, (Rect){r.y + 1 + page, r.x, TEXT_ROWS + 1, r.w}, &h->row[h->pos.cur]);
}

static unsigned leave(Ui *ui)
{
    ui_close_overlay(ui);
    return DO_RELAYOUT;
}

static unsigned run_row(Ui *ui, HelpRow h)
{
    const char *why = why_not(ui, &h);
    if (h.sign)
        return ui_refuse(ui, "this line only explains; Tab lists the keys");
    if (why)
        return ui_refuse(ui, "%s", tr(why));
    leave(ui);
    if (h.command)
        help_command(ui, h.command);
    else if (h.own)
        return ui_key(ui, h.own->key) | DO_RELAYOUT;
    else
        return h.row->run(ui, h.row, h.row->keys[0]) | DO_RELAYOUT;
    return DO_RELAYOUT;
}

static Found find(Ui *ui, const char *text, int direction, bool from_here)
{
    Help *h = ui->overlay_state;
    Found found = {0, 0};
    int best = -1;
    for (int i = 0; i < h->n; i++) {
        char keys[64];
        Str line = {0};
        row_keys(ui, &h->row[i], keys, sizeof keys);
        row_text(ui, &h->row[i], &line);
        str_printf(&line, " %s %s", keys, row_command(&h->row[i]));
        bool hit = strcasestr(str_text(&line), text) != NULL;
        str_free(&line);
        if (!hit)
            continue;
        found.of++;
        int away = ((direction * (i - (int)h->pos.cur)) % h->n + h->n) % h->n;
        away = away == 0 && !from_here ? h->n : away;
        if (best < 0 || away < best) {
            best = away;
            found.at = found.of;
        }
    }
    if (best >= 0)
        h->pos.cur = ((h->pos.cur + direction * best) % h->n + h->n) % h->n;
    return found;
}

/* The keys, or what is to be seen. */
static void fill(const Ui *ui, Help *h, HelpList list)
{
    const Sign *const signs[] = {signs_of(ui->view->name), signs_of_all()};
    h->n = 0;
    h->pos = (ListPos){0, 0};
    h->list = list;
    for (size_t i = 0; list == HELP_KEYS && i < ui->nbindings && h->n < HELP_MAX; i++)
        h->row[h->n++] = (HelpRow){.own = &ui->bindings[i]};
    for (const KeyRow *row = key_next(ui->view, NULL); list == HELP_KEYS && row && h->n < HELP_MAX; row = key_next(ui->view, row))
        if (row->run != act_help && key_shown(ui, row))
            h->row[h->n++] = (HelpRow){.row = row};
    for (size_t i = 0; list == HELP_SIGNS && i < sizeof signs / sizeof *signs; i++)
        for (const Sign *at = signs[i]; at && at->text && h->n < HELP_MAX; at++)
            h->row[h->n++] = (HelpRow){.sign = at};
}

static unsigned key(Ui *ui, int k)
{
    Help *h = ui->overlay_state;
    if (k == 'q' || k == KEY_ESC || k == '?' || k == KEY_CODE(KEY_F(1)) || k == KEY_CTRL('C'))
        return leave(ui);
    if ((k == '\n' || k == KEY_CODE(KEY_ENTER)) && h->n > 0)
        return run_row(ui, h->row[h->pos.cur]);
    if ((k == '\t' || k == KEY_CODE(KEY_BTAB)) && h->list != HELP_COMMANDS) {
        fill(ui, h, h->list == HELP_KEYS ? HELP_SIGNS : HELP_KEYS);
        return DO_PAINT;
    }
    if (k == '/' || k == KEY_CODE(KEY_F(3)))
        return input_open(ui, INPUT_SEARCH, NULL);
    if ((k == 'n' || k == 'N') && ui->search[0])
        return ui_found(ui, find(ui, ui->search, k == 'n' ? 1 : -1, false), ui->search);
    const KeyRow *row = key_find(k, ui->view);
    if (row && row->run == act_move) {
        return list_move(&h->pos, (Motion)row->arg, h->n, page_rows(ui)) ? DO_PAINT : act_end(ui, (Motion)row->arg);
    }
    for (int i = 0; row && i < h->n; i++) {
        if (h->row[i].row == row)
            h->pos.cur = i; /* a key pressed here shows its line */
    }
    return DO_PAINT;
}

static const Overlay help_overlay = {draw, key, fini, find};

static Help *new_help(Ui *ui)
{
    Help *h = calloc(1, sizeof *h);
    if (!h)
        ui_say(ui, SL_ERR, "out of memory");
    return h;
}

void help_open(Ui *ui)
{
    Help *h = new_help(ui);
    if (!h)
        return;
    fill(ui, h, HELP_KEYS);
    ui_open_overlay(ui, &help_overlay, h);
}

void help_commands(Ui *ui)
{
    Help *h = new_help(ui);
    if (!h)
        return;
    h->list = HELP_COMMANDS;
    for (int i = 0; command_table[i] && h->n < HELP_MAX; i++)
        if (!(command_table[i]->flags & CMD_CLI_ONLY))
            h->row[h->n++].command = command_table[i];
    ui_open_overlay(ui, &help_overlay, h);
}
