#include "ui/keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ui/actions.h"
#include "ui/input.h"

#define K(code) KEY_CODE(code)

const KeyRow key_table[] = {
    {.keys = {K(KEY_F(1)), '?'}, .screens = "", .command = "", .help = "this list; Enter runs a line of it",
     .label = "Help", .run = act_help},
    {.keys = {'r'}, .screens = "1", .command = "analyze METRIC local_error",
     .help = "run the shown metric, and what predictions need, in one pass", .label = "Run", .run = act_run,
     .refuse = refuse_no_model},
    {.keys = {'r'}, .screens = "2", .command = "measure",
     .help = "quantize as decided here and measure the real effect", .label = "Measure", .run = act_measure,
     .refuse = refuse_no_model},
    {.keys = {'r'}, .screens = "3", .command = "resume",
     .help = "continue the stopped analysis after its last whole layer", .label = "Resume", .run = act_resume,
     .refuse = refuse_no_model},
    {.keys = {K(KEY_F(5))}, .screens = "", .command = "measure",
     .help = "quantize as decided and measure the real effect", .label = "Measure", .run = act_measure,
     .refuse = refuse_no_model},
    {.keys = {'x', K(KEY_F(7)), K(KEY_F(8))}, .screens = "1", .command = "exclude LAYER | include LAYER",
     .help = "layer and its fused group: float, or back to quantized", .label = "Exclude", .run = act_exclude,
     .refuse = refuse_no_linear},
    {.keys = {'x', ' ', K(KEY_F(7)), K(KEY_F(8))}, .screens = "2", .command = "exclude PATTERN | include PATTERN",
     .help = "switch this pattern off or on", .label = "Switch", .run = whatif_toggle, .refuse = refuse_no_whatif},
    {.keys = {'X'}, .screens = "1", .command = "exclude tagged | include tagged",
     .help = "all tagged layers: float, or back to quantized", .run = act_exclude_tagged, .refuse = refuse_no_tags},
    {.keys = {'p'}, .screens = "", .command = "exclude PATTERN",
     .help = "send layers to float by a pattern, with its hits while you type", .label = "Pattern", .run = act_prompt,
     .arg = INPUT_EXCLUDE, .refuse = refuse_no_model},
    {.keys = {'b'}, .screens = "1", .command = "level LEVEL LAYER",
     .help = "next level of the recipe for this layer and its group", .run = act_level, .refuse = refuse_no_linear},
    {.keys = {'u'}, .screens = "", .command = "undo", .help = "take the last edit back", .label = "Undo",
     .run = act_undo, .refuse = refuse_no_undo},
    {.keys = {KEY_CTRL('R')}, .screens = "", .command = "redo", .help = "do it again", .run = act_redo,
     .refuse = refuse_no_redo},
    {.keys = {' '}, .screens = "1", .command = "tag LAYER", .help = "tag the layer, or untag it", .run = act_tag,
     .refuse = refuse_no_linear},
    {.keys = {'T'}, .screens = "1", .command = "tag PATTERN", .help = "tag layers by a pattern", .run = act_prompt,
     .arg = INPUT_TAG, .refuse = refuse_no_model},
    {.keys = {K(KEY_F(3)), '/'}, .screens = "1", .command = "", .help = "find a name while you type", .label = "Find",
     .run = act_prompt, .arg = INPUT_SEARCH, .refuse = refuse_no_model},
    {.keys = {'n'}, .screens = "1", .command = "", .help = "next match", .run = act_find_next, .arg = 1,
     .refuse = refuse_no_search},
    {.keys = {'N'}, .screens = "1", .command = "", .help = "match before", .run = act_find_next, .arg = -1,
     .refuse = refuse_no_search},
    {.keys = {K(KEY_F(4)), '\\'}, .screens = "1", .command = "filter WORDS",
     .help = "show only some: words, kind= layer=a..b score>x float failed tagged !word", .label = "Filter",
     .run = act_prompt, .arg = INPUT_FILTER, .refuse = refuse_no_model},
    {.keys = {K(KEY_F(6)), '>'}, .screens = "1", .command = "sort KEY", .help = "sort by the next column",
     .label = "Sort", .run = act_sort, .arg = 1, .refuse = refuse_no_model},
    {.keys = {'<'}, .screens = "1", .command = "sort KEY", .help = "sort by the column before", .run = act_sort,
     .arg = -1, .refuse = refuse_no_model},
    {.keys = {'I'}, .screens = "1", .command = "sort KEY asc|desc", .help = "turn the order round",
     .run = act_sort_invert, .refuse = refuse_no_model},
    {.keys = {'f', K(KEY_F(2))}, .screens = "1", .command = "fold none|block|kind|group|experts",
     .help = "fold the table: by block, by kind, by fused group, by experts, not", .label = "Fold", .run = rank_fold,
     .arg = 1, .refuse = refuse_no_model},
    {.keys = {'F'}, .screens = "1", .command = "fold none|block|kind|group|experts",
     .help = "fold it the way before", .run = rank_fold, .arg = -1, .refuse = refuse_no_model},
    {.keys = {'o'}, .screens = "1", .command = "", .help = "open the fold of this row, or close it",
     .run = rank_fold_flip, .refuse = refuse_no_folds},
    {.keys = {'l', K(KEY_RIGHT)}, .screens = "1", .command = "", .help = "open the fold", .run = rank_fold_set,
     .arg = 1, .refuse = refuse_no_folds},
    {.keys = {'h', K(KEY_LEFT)}, .screens = "1", .command = "", .help = "close the fold", .run = rank_fold_set,
     .arg = 0, .refuse = refuse_no_folds},
    {.keys = {'O'}, .screens = "1", .command = "", .help = "open all folds, or close all", .run = rank_fold_all,
     .refuse = refuse_no_folds},
    {.keys = {'.'}, .screens = "1", .command = "", .help = "put rows that arrived into their places now",
     .run = act_resort, .refuse = refuse_no_model},
    {.keys = {'m'}, .screens = "1", .command = "show METRIC", .help = "next metric", .label = "Metric",
     .run = act_metric, .arg = 1, .refuse = refuse_no_model},
    {.keys = {'M'}, .screens = "1", .command = "show METRIC", .help = "metric before", .run = act_metric, .arg = -1,
     .refuse = refuse_no_model},
    {.keys = {'\n', '\t', K(KEY_ENTER)}, .screens = "1", .command = "",
     .help = "details of the layer: histograms, scores, worst channels", .run = act_detail,
     .refuse = refuse_no_linear},
    {.keys = {'L'}, .screens = "1", .command = "", .help = "histograms: logarithmic or linear counts",
     .run = act_hist_linear, .refuse = refuse_no_result},
    {.keys = {'H'}, .screens = "1", .command = "", .help = "histograms as a table of numbers", .run = act_hist_table,
     .refuse = refuse_no_result},
    {.keys = {'\n', '\t', K(KEY_ENTER)}, .screens = "2", .command = "", .help = "list the layers this pattern hits",
     .label = "Hits", .run = whatif_list, .refuse = refuse_no_whatif},
    {.keys = {'\n', '\t', K(KEY_ENTER)}, .screens = "3", .command = "", .help = "the whole log", .label = "Log",
     .run = jobs_log},
    {.keys = {'w', '\n', K(KEY_ENTER)}, .screens = "5", .command = "export FILE",
     .help = "write the YAML (asks for the file)", .label = "Write", .run = export_write, .refuse = refuse_no_model},
    {.keys = {'W'}, .screens = "5", .command = "quantize --save DIR",
     .help = "write the quantized model (asks for the folder)", .label = "Weights", .run = export_quantize,
     .refuse = refuse_no_model},
    {.keys = {'d', '\t'}, .screens = "5", .command = "", .help = "the differences, or the whole document",
     .label = "Diff/all", .run = export_flip, .refuse = refuse_no_model},
    {.keys = {'w'}, .screens = "123", .command = "", .help = "preview the YAML and write it", .label = "Export",
     .run = act_export, .refuse = refuse_no_model},
    {.keys = {K(KEY_F(9)), KEY_CTRL('C')}, .screens = "", .command = "",
     .help = "stop what runs, keep its rows; twice: at once", .label = "Stop", .run = act_stop},
    {.keys = {'y'}, .screens = "", .command = "",
     .help = "copy the row (on Export: the YAML) to the terminal's clipboard", .run = act_copy, .arg = 0},
    {.keys = {'Y'}, .screens = "", .command = "", .help = "leave the screen for a moment and print it plainly",
     .run = act_plain},
    {.keys = {':'}, .screens = "", .command = "", .help = "type a command; Tab completes, Up recalls",
     .label = "Command", .run = act_prompt, .arg = INPUT_COMMAND},
    {.keys = {'1'}, .screens = "", .command = "", .help = "the screens, by the numbers of their tabs",
     .run = act_screen},
    {.keys = {'j', K(KEY_DOWN)}, .screens = "", .command = "", .help = "down", .run = act_move, .arg = MOVE_DOWN},
    {.keys = {'k', K(KEY_UP)}, .screens = "", .command = "", .help = "up", .run = act_move, .arg = MOVE_UP},
    {.keys = {KEY_CTRL('D')}, .screens = "", .command = "", .help = "half a page down", .run = act_move,
     .arg = MOVE_HALF_DOWN},
    {.keys = {KEY_CTRL('U')}, .screens = "", .command = "", .help = "half a page up", .run = act_move,
     .arg = MOVE_HALF_UP},
    {.keys = {K(KEY_NPAGE)}, .screens = "", .command = "", .help = "a page down", .run = act_move,
     .arg = MOVE_PAGE_DOWN},
    {.keys = {K(KEY_PPAGE)}, .screens = "", .command = "", .help = "a page up", .run = act_move, .arg = MOVE_PAGE_UP},
    {.keys = {'g', K(KEY_HOME)}, .screens = "", .command = "", .help = "to the top", .run = act_move,
     .arg = MOVE_TOP},
    {.keys = {'G', K(KEY_END)}, .screens = "", .command = "", .help = "to the end", .run = act_move,
     .arg = MOVE_BOTTOM},
    {.keys = {'h', K(KEY_LEFT)}, .screens = "5", .command = "", .help = "left", .run = act_move, .arg = MOVE_LEFT},
    {.keys = {'l', K(KEY_RIGHT)}, .screens = "5", .command = "", .help = "right", .run = act_move, .arg = MOVE_RIGHT},
    {.keys = {KEY_CTRL('L')}, .screens = "", .command = "", .help = "draw the screen anew", .run = act_redraw},
    {.keys = {KEY_CTRL('Z')}, .screens = "", .command = "", .help = "suspend; 'fg' comes back", .run = act_suspend},
    {.keys = {'q', KEY_ESC}, .screens = "", .command = "",
     .help = "out of this view; on the first one q asks whether to quit", .run = act_back},
    {.keys = {K(KEY_F(10)), 'Q'}, .screens = "", .command = "quit", .help = "quit; the session is kept",
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

bool key_row_here(const KeyRow *row, const View *v)
{
    return !row->screens[0] || strchr(row->screens, v->key) != NULL;
}

const KeyRow *key_find(int key, const View *v, const KeyRow **elsewhere)
{
    if (elsewhere)
        *elsewhere = NULL;
    char digit[2] = {key > 0 && key < 127 ? (char)key : '\0', '\0'};
    bool screen = digit[0] && view_find(digit);
    for (const KeyRow *row = key_table; row->help; row++) {
        for (int i = 0; i < KEYS_PER_ROW && row->keys[i]; i++) {
            if (row->keys[i] != key && !(screen && row->run == act_screen)) /* one row for the keys of all views */
                continue;
            if (key_row_here(row, v))
                return row;
            if (elsewhere && !*elsewhere)
                *elsewhere = row;
        }
    }
    return NULL;
}

void keys_draw_bar(Ui *ui)
{
    Rect r = ui->layout.keys;
    Pen p = pen_at(ui, r.y, r.x, r.w);
    ui->nkey_spans = 0;
    pen_puts(&p, SL_KEY_TEXT, " ");
    const KeyRow *quit = key_find(K(KEY_F(10)), ui->view, NULL);
    int room = r.w - 8; /* the way out is always shown */
    for (const KeyRow *row = key_table; row->help; row++) {
        char name[16];
        if (!row->label || !key_row_here(row, ui->view))
            continue;
        key_text(row->keys[0], name, sizeof name);
        int w = text_width(name) + text_width(row->label) + 1;
        if ((row != quit && p.x + w > room) || ui->nkey_spans == (int)(sizeof ui->key_spans / sizeof ui->key_spans[0]))
            continue;
        ui->key_spans[ui->nkey_spans].x = p.x;
        ui->key_spans[ui->nkey_spans].w = w;
        ui->key_spans[ui->nkey_spans++].key = row->keys[0];
        pen_puts(&p, SL_KEY, name);
        pen_printf(&p, row->refuse && row->refuse(ui) ? SL_DIM : SL_KEY_TEXT, "%s ", row->label);
    }
    pen_fill(&p, SL_KEY_TEXT);
}
