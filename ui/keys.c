#include "ui/keys.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/lang.h"
#include "ui/actions.h"
#include "ui/attached.h"
#include "ui/input.h"
#include "ui/log.h"

const KeyRow key_table[] = {
    {.place = 10, .keys = {K(KEY_F(1)), '?'}, .help = "this list; Enter runs a line of it; Tab explains the screen", .label = "Help",
     .run = act_help},
    {.place = 50, .keys = {K(KEY_F(5))}, .command = "measure",
     .help = "quantize as decided and measure the real effect", .label = "Measure", .run = act_measure,
     .refuse = refuse_no_model},
    {.place = 90, .keys = {'p'}, .command = "exclude PATTERN",
     .help = "send layers to float by a pattern, with its hits while you type", .label = "Pattern",
     .run = act_prompt, .arg = INPUT_EXCLUDE, .refuse = refuse_no_model},
    {.place = 110, .keys = {'u'}, .command = "undo", .help = "take the last edit back", .label = "Undo",
     .run = act_undo, .refuse = refuse_no_undo},
    {.place = 120, .keys = {KEY_CTRL('R')}, .command = "redo", .help = "do it again", .run = act_redo,
     .refuse = refuse_no_redo},
    {.place = 390, .keys = {'w'}, .help = "preview the YAML and write it", .label = "Export", .run = act_export,
     .refuse = refuse_no_model},
    {.place = 400, .keys = {K(KEY_F(9))}, .command = "cancel", .help = "stop what runs, keep its rows; twice: at once",
     .label = "Stop", .run = act_stop},
    {.place = 402, .keys = {KEY_CTRL('C')}, .help = "the same, or stop a script", .run = act_stop},
    {.place = 406, .keys = {'@'}, .command = "log", .help = "all of the log: commands, jobs, warnings; searched, filtered",
     .run = act_log},
    {.place = 410, .keys = {'y'}, .help = "copy the row (on Export: the YAML) to the terminal's clipboard",
     .run = act_copy, .arg = 0},
    {.place = 420, .keys = {'Y'}, .help = "leave the screen for a moment and print it plainly",
     .run = act_plain},
    {.place = 425, .keys = {'E'}, .command = "sheet FILE", .help = "write this list as it is shown to a file",
     .run = act_prompt, .arg = INPUT_SHEET, .refuse = refuse_no_model},
    {.place = 430, .keys = {':'}, .help = "type a command; Tab completes, Up recalls", .label = "Command",
     .run = act_prompt, .arg = INPUT_COMMAND},
    {.place = 440, .keys = {'1'}, .help = "the screens, by the numbers of their tabs", .run = act_screen},
    {.place = 450, .keys = {'j', K(KEY_DOWN)}, .help = "down", .run = act_move, .arg = MOVE_DOWN},
    {.place = 460, .keys = {'k', K(KEY_UP)}, .help = "up", .run = act_move, .arg = MOVE_UP},
    {.place = 470, .keys = {KEY_CTRL('D')}, .help = "half a page down", .run = act_move, .arg = MOVE_HALF_DOWN},
    {.place = 480, .keys = {KEY_CTRL('U')}, .help = "half a page up", .run = act_move, .arg = MOVE_HALF_UP},
    {.place = 490, .keys = {K(KEY_NPAGE)}, .help = "a page down", .run = act_move, .arg = MOVE_PAGE_DOWN},
    {.place = 500, .keys = {K(KEY_PPAGE)}, .help = "a page up", .run = act_move, .arg = MOVE_PAGE_UP},
    {.place = 510, .keys = {'g', K(KEY_HOME)}, .help = "to the top", .run = act_move, .arg = MOVE_TOP},
    {.place = 520, .keys = {'G', K(KEY_END)}, .help = "to the end", .run = act_move, .arg = MOVE_BOTTOM},
    {.place = 550, .keys = {KEY_CTRL('L')}, .help = "draw the screen anew", .run = act_redraw},
    {.place = 560, .keys = {KEY_CTRL('Z')}, .help = "suspend; 'fg' comes back", .run = act_suspend},
    {.place = 570, .keys = {'q', KEY_ESC}, .help = "out of this view; on the first one q asks whether to quit",
     .run = act_back},
    {.place = 580, .keys = {K(KEY_F(10)), 'Q'}, .command = "quit", .help = "quit; says so when the session is not kept",
     .label = "Quit", .run = act_quit},
    {.help = NULL},
};

static const struct {
    int key;
    const char *name;
} named_keys[] = {
    {' ', "Space"},          {'\n', "Enter"},        {'\t', "Tab"},
    {KEY_ESC, "Esc"},        {127, "Backspace"},     {K(KEY_BACKSPACE), "Backspace"},
    {K(KEY_UP), "Up"},       {K(KEY_DOWN), "Down"},  {K(KEY_LEFT), "Left"},
    {K(KEY_RIGHT), "Right"}, {K(KEY_NPAGE), "PgDn"}, {K(KEY_PPAGE), "PgUp"},
    {K(KEY_HOME), "Home"},   {K(KEY_END), "End"},    {K(KEY_ENTER), "Enter"},
    {K(KEY_DC), "Del"},      {K(KEY_IC), "Ins"},     {K(KEY_BTAB), "S-Tab"},
};

void key_text(int key, char *out, size_t size)
{
    for (size_t i = 0; i < sizeof named_keys / sizeof named_keys[0]; i++) {
        if (named_keys[i].key == key) {
            snprintf(out, size, "%s", named_keys[i].name);
            return;
        }
    }
    if (key >= K(KEY_F0) && key <= K(KEY_F(63))) {
        snprintf(out, size, "F%d", key - K(KEY_F0));
    } else if (key >= 0 && key < 32) {
        snprintf(out, size, "^%c", key + 64);
    } else {
        char utf8[5] = "?";
        if (key > 0 && key < 0x110000)
            utf8[utf8_encode((unsigned)key, utf8)] = '\0';
        snprintf(out, size, "%s", utf8);
    }
}

int key_parse(const char *name)
{
    for (size_t i = 0; i < sizeof named_keys / sizeof named_keys[0]; i++) {
        if (strcmp(named_keys[i].name, name) == 0)
            return named_keys[i].key;
    }
    if (name[0] == 'F' && name[1] >= '1' && name[1] <= '9') {
        char *end;
        long n = strtol(name + 1, &end, 10);
        return *end == '\0' && n <= 63 ? K(KEY_F((int)n)) : KEY_NONE;
    }
    if (name[0] == '^' && name[1] >= '?' && name[1] < 'z' && !name[2])
        return KEY_CTRL(name[1]);
    unsigned cp = 0;
    size_t n = strlen(name);
    if (n == 0 || utf8_decode(name, n, &cp) != (int)n || cp < 32)
        return KEY_NONE;
    return (int)cp;
}

/* Whether a row of the view has this row's first key: what is meant everywhere else is not meant there. */
static bool replaced(const KeyRow *row, const View *v)
{
    for (const KeyRow *own = v->keys; own && own->help; own++)
        if (own->keys[0] == row->keys[0])
            return true;
    return false;
}

const KeyRow *key_next(const View *v, const KeyRow *before)
{
    const int after = before ? before->place : 0;
    const KeyRow *next = NULL;
    for (const KeyRow *row = key_table; row->help; row++)
        if (row->place > after && (!next || row->place < next->place) && !replaced(row, v))
            next = row;
    for (const KeyRow *row = v->keys; row && row->help; row++)
        if (row->place > after && (!next || row->place < next->place))
            next = row;
    return next;
}

static bool row_has(const KeyRow *row, int key)
{
    for (int i = 0; i < KEYS_PER_ROW && row->keys[i]; i++)
        if (row->keys[i] == key)
            return true;
    return false;
}

const KeyRow *key_find(int key, const View *v)
{
    char digit[2] = {key > 0 && key < 127 ? (char)key : '\0', '\0'};
    bool screen = digit[0] && view_find(digit);
    for (const KeyRow *row = key_next(v, NULL); row; row = key_next(v, row))
        if (row_has(row, key) || (screen && row->run == act_screen)) /* one row for the keys of all views */
            return row;
    return NULL;
}

const KeyRow *key_elsewhere(int key, const View **where)
{
    const KeyRow *first = NULL;
    for (int i = 0; view_table[i]; i++)
        for (const KeyRow *row = view_table[i]->keys; row && row->help; row++)
            if (row_has(row, key) && (!first || row->place < first->place)) {
                first = row;
                *where = view_table[i];
            }
    return first;
}

int key_shown(const Ui *ui, const KeyRow *row)
{
    for (int i = 0; i < KEYS_PER_ROW && row->keys[i]; i++)
        if (!ui_binding(ui, row->keys[i]))
            return row->keys[i];
    return 0;
}

/* The command that the row runs; NULL: none. */
static const Command *command_of(const KeyRow *row)
{
    char verb[32];
    snprintf(verb, sizeof verb, "%.*s", row->command ? (int)strcspn(row->command, " ") : 0, row->command ? row->command : "");
    return verb[0] ? command_find(verb) : NULL;
}

const char *key_refusal(Ui *ui, const KeyRow *row)
{
    const char *why = row->refuse ? row->refuse(ui) : NULL;
    const Command *c = command_of(row);
    bool reads = ui_session(ui) && session_options(ui_session(ui))->read_only;
    if (c && !command_reads(c) && ui_attached(ui))
        return N_("attached: read only");
    bool decides = c && (c->flags & CMD_EDIT) && !(c->flags & CMD_MARKS); /* an edit of the decision */
    return why || !reads || !decides ? why : "opened with --read-only: nothing is changed";
}

/* Whether the bar has an earlier key for this. */
static bool told_already(const Ui *ui, const KeyRow *row)
{
    for (int i = 0; i < ui->nkey_spans; i++) {
        const KeyRow *there = ui_binding(ui, ui->key_spans[i].key) ? NULL : key_find(ui->key_spans[i].key, ui->view);
        if (there && there->run == row->run && row->run != act_prompt)
            return true;
    }
    return false;
}

/* One key of the bar, where it ends before `end`; of the label `len` bytes. */
static void put_key(Ui *ui, Pen *p, int end, int key, const char *label, int len, bool dim)
{
    char name[16], shown[64];
    key_text(key, name, sizeof name);
    snprintf(shown, sizeof shown, "%.*s", len, label);
    int w = text_width(name) + text_width(shown) + 1;
    if (p->x + w > end || ui->nkey_spans == (int)(sizeof ui->key_spans / sizeof ui->key_spans[0]))
        return;
    ui->key_spans[ui->nkey_spans].x = p->x;
    ui->key_spans[ui->nkey_spans].w = w;
    ui->key_spans[ui->nkey_spans++].key = key;
    pen_puts(p, SL_KEY, name);
    pen_puts(p, dim ? SL_DIM : SL_KEY_TEXT, shown);
    pen_puts(p, SL_KEY_TEXT, " ");
}

/* A key that the user bound: with the verb of its command. */
static void put_binding(Ui *ui, Pen *p, int end, const Binding *b)
{
    put_key(ui, p, end, b->key, b->command, (int)strcspn(b->command, " "), false);
}

void keys_draw_bar(Ui *ui)
{
    enum { QUIT = 8 }; /* cells of the way out, which is always shown */
    Rect r = ui->layout.keys;
    Pen p = pen_at(ui, r.y, r.x, r.w);
    int end = p.end - QUIT;
    ui->nkey_spans = 0;
    pen_puts(&p, SL_KEY_TEXT, " ");
    const KeyRow *quit = key_find(K(KEY_F(10)), ui->view);
    for (const KeyRow *row = key_next(ui->view, NULL); row; row = key_next(ui->view, row)) {
        const Binding *own = ui_binding(ui, row->keys[0]);
        int key = key_shown(ui, row);
        if (own && row->label)
            put_binding(ui, &p, end, own);
        if (row->label && row != quit && key && !told_already(ui, row))
            put_key(ui, &p, end, key, tr(row->label), INT_MAX, key_refusal(ui, row) != NULL);
    }
    for (size_t i = 0; i < ui->nbindings; i++) {
        const KeyRow *row = key_find(ui->bindings[i].key, ui->view);
        if (!row || !row->label || row->keys[0] != ui->bindings[i].key)
            put_binding(ui, &p, end, &ui->bindings[i]);
    }
    if (quit && key_shown(ui, quit))
        put_key(ui, &p, p.end, key_shown(ui, quit), tr(quit->label), INT_MAX, false);
    pen_fill(&p, SL_KEY_TEXT);
}
