#include "ui/input.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <readline/history.h>
#include <readline/readline.h>

#include "io/file.h"
#include "src/lang.h"
#include "text/lexer.h"
#include "ui/actions.h"
#include "ui/input_kinds.h"

enum { MAX_INPUT = 4096, HISTORY_LINES = 1000 };

/* Readline's callbacks carry no context: the open prompt's Ui and the bytes it may read. */
static Ui *active;
static char feed[64];
static size_t feed_at, feed_len;

/* ---- history: the file that the shell keeps too ---- */

static char *history_path(bool make)
{
    char *dir = app_state_dir();
    char *path = dir && (!make || dir_make(dir, NULL) == ST_OK) ? path_join(dir, "history") : NULL;
    free(dir);
    return path;
}

void input_remember(const char *line)
{
    if (!line[strspn(line, " \t")])
        return;
    for (int i = history_length - 1; i >= 0; i--) {
        HIST_ENTRY *e = history_get(history_base + i);
        if (e && strcmp(e->line, line) == 0)
            free_history_entry(remove_history(i)); /* each line once, where it was used last */
    }
    add_history(line);
}

/* ---- readline, kept away from the terminal ---- */

static int read_feed(FILE *f)
{
    (void)f;
    return feed_at < feed_len ? (unsigned char)feed[feed_at++] : EOF;
}

static int feed_waits(void)
{
    return feed_at < feed_len;
}

static void nothing(void)
{
}

static void prep_nothing(int meta)
{
    (void)meta;
}

/* Readline's: what is offered stands above the line. */
static void show_matches(char **matches, int n, int longest)
{
    (void)matches, (void)n, (void)longest;
    if (active && active->input)
        active->input->choices.tall = true;
}

/* What is completed: the line up to `end` behind the kind's verb. Caller frees; NULL: out of memory. */
static char *completed_line(const Input *p, int end)
{
    Str line = {0};
    str_puts(&line, input_kinds[p->kind].verb);
    str_append(&line, rl_line_buffer, (size_t)end);
    return str_detach(&line);
}

/* The words app_complete has for the line up to the cursor, as readline wants them: their common beginning first. */
static char **complete(const char *text, int start, int end)
{
    rl_attempted_completion_over = 1;
    char *line = active && active->input ? completed_line(active->input, end) : NULL;
    char **words = line ? app_complete(active->app, line) : NULL, **out = NULL;
    int n = 0;
    free(line);
    while (words && words[n])
        n++;
    if (n > 0)
        out = calloc((size_t)n + 2, sizeof *out);
    size_t common = out ? strlen(words[0]) : 0;
    for (int i = 1; out && i < n; i++) {
        size_t k = 0;
        while (k < common && words[i][k] == words[0][k])
            k++;
        common = k;
    }
    if (out)
        out[0] = common > 0 ? strndup(words[0], common) : strndup(text, (size_t)(end - start));
    for (int i = 0; i < n; i++) {
        if (out && out[0] && n > 1)
            out[i + 1] = words[i];
        else
            free(words[i]);
    }
    free(words);
    if (out && !out[0]) {
        free(out);
        return NULL;
    }
    if (out && n == 1) {
        char last = common > 0 ? out[0][common - 1] : 0;
        rl_completion_suppress_append = last == '/' || last == '.' || last == '=';
    }
    return out;
}

static void take_line(char *line)
{
    if (active && active->input) {
        active->input->line = line;
        active->input->done = true;
    } else {
        free(line);
    }
    rl_callback_handler_remove();
}

void input_init(App *a)
{
    static FILE *null_out;
    if (!null_out)
        null_out = fopen("/dev/null", "w");
    rl_readline_name = "slimscope";
    rl_attempted_completion_function = complete;
    rl_completer_word_break_characters = " \t";
    rl_terminal_name = "dumb";
    rl_catch_signals = 0;
    rl_catch_sigwinch = 0;
    rl_change_environment = 0;
    rl_outstream = null_out;
    rl_getc_function = read_feed;
    rl_input_available_hook = feed_waits;
    rl_redisplay_function = nothing;
    rl_prep_term_function = prep_nothing;
    rl_deprep_term_function = nothing;
    rl_completion_display_matches_hook = show_matches;
    rl_initialize();
    rl_variable_bind("enable-bracketed-paste", "off");
    rl_variable_bind("bell-style", "none");
    rl_variable_bind("show-all-if-ambiguous", "on");
    using_history();
    stifle_history(HISTORY_LINES);
    char *path = a->options.state_dir ? history_path(false) : NULL;
    if (path)
        read_history(path); /* none yet: an empty history */
    free(path);
}

void input_fini(App *a)
{
    char *path = a->options.state_dir && !a->options.read_only ? history_path(true) : NULL;
    if (path)
        write_history(path); /* a lost prompt history loses no work */
    free(path);
    rl_clear_history();
}

static void feed_bytes(Ui *ui, const char *bytes, size_t n)
{
    active = ui;
    while (n > 0 && ui->input && !ui->input->done) {
        size_t k = n < sizeof feed ? n : sizeof feed;
        memcpy(feed, bytes, k);
        feed_at = 0;
        feed_len = k;
        while (feed_at < feed_len && !ui->input->done)
            rl_callback_read_char();
        bytes += k;
        n -= k;
    }
}

unsigned input_open(Ui *ui, InputKind kind, const char *text)
{
    input_close(ui);
    Input *p = calloc(1, sizeof *p);
    if (!p)
        return ui_refuse(ui, "out of memory");
    p->kind = kind;
    p->recalled = -1;
    p->choices.chosen = -1;
    p->changed = kind == INPUT_COMMAND || input_kinds[kind].ask || (text && *text);
    if (kind == INPUT_FILTER || kind == INPUT_TEXTS || kind == INPUT_TENSORS)
        p->before = strdup(text ? text : "");
    p->origin = ui_session(ui) ? session_cursor(ui_session(ui)) : -1;
    ui->input = p;
    ui->message[0] = '\0';
    active = ui;
    feed_at = feed_len = 0;
    rl_callback_handler_install("", take_line);
    if (text && *text)
        rl_insert_text(text);
    return DO_PAINT;
}

void input_close(Ui *ui)
{
    if (!ui->input)
        return;
    if (!ui->input->done) {
        rl_free_line_state(); /* what undo remembers */
        rl_replace_line("", 0);
        rl_point = rl_end = 0;
        rl_callback_handler_remove();
    }
    free(ui->input->line);
    free(ui->input->before);
    choices_drop(&ui->input->choices);
    free(ui->input->asked);
    free(ui->input);
    ui->input = NULL;
    active = NULL;
}

static unsigned finish(Ui *ui)
{
    const Kind *k = &input_kinds[ui->input->kind];
    char *line = ui->input->line;
    ui->input->line = NULL;
    if (ui->input->changed && line)
        input_look(ui, line);
    if (ui->input->before) /* the edit starts from there */
        k->cancelled(ui);
    input_close(ui);
    unsigned bits = input_run(ui, k, line ? line : "");
    free(line);
    return bits | DO_PAINT;
}

static void note_change(Ui *ui, const char *before)
{
    Input *p = ui->input;
    if (strcmp(before, rl_line_buffer) == 0 && !p->choices.tall)
        return;
    p->note[0] = p->figures[0] = '\0';
    p->changed = true;
}

/* The words that the line could go on with: of commands always, of others where Tab asked for them. */
static void offer_choices(Ui *ui, Input *p)
{
    const char *verb = input_kinds[p->kind].verb;
    if (!verb || p->asked || (*verb && !p->choices.tall)) {
        choices_drop(&p->choices);
        return;
    }
    char *line = completed_line(p, rl_point);
    if (line)
        choices_fill(ui->app, line, &p->choices);
    if (line && p->choices.n == 1 && rl_point > 0) { /* nothing is left to choose */
        const char *word = p->choices.list[0].word;
        size_t n = strlen(line), w = strlen(word);
        if (n >= w && strcmp(line + n - w, word) == 0)
            choices_drop(&p->choices);
    }
    free(line);
}

/* What a command takes, once its name stands there. */
static void tell_usage(Input *p)
{
    size_t n = strcspn(rl_line_buffer, " !");
    char name[32];
    snprintf(name, sizeof name, "%.*s", n < sizeof name ? (int)n : 0, rl_line_buffer);
    const Command *c = rl_line_buffer[n] ? command_find(name) : NULL;
    if (!c || p->note[0] || p->asked)
        return;
    snprintf(p->note, MAX_NOTE, "%s %s  %s", c->name, c->args ? c->args : "", c->summary);
    p->note_slot = SL_DIM;
}

void input_settle(Ui *ui)
{
    Input *p = ui->input;
    if (!p || !p->changed)
        return;
    p->changed = false;
    offer_choices(ui, p);
    if (p->kind == INPUT_COMMAND)
        tell_usage(p);
    input_look(ui, rl_line_buffer);
}

/* Bytes that stand for a key in readline's default map; 0: no use for it. Of the control keys only those that edit:
 * searches, quoting and macros ask for more keys in ways that show only on readline's own screen. */
static size_t key_bytes(int key, char out[8])
{
    static const struct {
        int key;
        const char *bytes;
    } map[] = {
        {KEY_CODE(KEY_LEFT), "\x02"}, {KEY_CODE(KEY_RIGHT), "\x06"},     {KEY_CODE(KEY_UP), "\x10"},
        {KEY_CODE(KEY_DOWN), "\x0e"}, {KEY_CODE(KEY_HOME), "\x01"},      {KEY_CODE(KEY_END), "\x05"},
        {KEY_CODE(KEY_DC), "\x04"},   {KEY_CODE(KEY_BACKSPACE), "\x7f"}, {KEY_CODE(KEY_ENTER), "\n"},
    };
    for (size_t i = 0; i < sizeof map / sizeof map[0]; i++) {
        if (map[i].key == key) {
            strcpy(out, map[i].bytes);
            return strlen(out);
        }
    }
    static const char editing[] = {KEY_CTRL('A'),
                                   KEY_CTRL('B'),
                                   KEY_CTRL('D'),
                                   KEY_CTRL('E'),
                                   KEY_CTRL('F'),
                                   KEY_CTRL('H'),
                                   KEY_CTRL('K'),
                                   KEY_CTRL('N'),
                                   KEY_CTRL('P'),
                                   KEY_CTRL('T'),
                                   KEY_CTRL('U'),
                                   KEY_CTRL('W'),
                                   KEY_CTRL('Y'),
                                   KEY_CTRL('_'),
                                   '\t',
                                   '\n',
                                   0};
    if (key <= 0 || key >= 0x110000 || (key < 32 && !strchr(editing, key)))
        return 0;
    return (size_t)utf8_encode((unsigned)key, out);
}

/* ---- the history, and what is offered ---- */

/* The next history line from `from` on in steps of 1 or -1 that begins with the kind's verb and holds `text`; -1: none. */
static int history_find(const char *verb, const char *text, int from, int step)
{
    size_t n = strlen(verb);
    for (int i = from + step; i >= 0 && i < history_length; i += step) {
        HIST_ENTRY *e = history_get(history_base + i);
        if (e && strncmp(e->line, verb, n) == 0 && (!*text || strcasestr(e->line + n, text)))
            return i;
    }
    return -1;
}

static void put_history(Input *p, int at)
{
    HIST_ENTRY *e = at >= 0 ? history_get(history_base + at) : NULL;
    rl_replace_line(e ? e->line + strlen(input_kinds[p->kind].verb) : "", 1);
    rl_point = rl_end;
    p->recalled = at;
    p->changed = true;
}

/* Up and Down where the history is not only of commands: what was typed behind this verb. */
static unsigned recall(Input *p, int step)
{
    int from = p->recalled >= 0 ? p->recalled : history_length;
    int at = history_find(input_kinds[p->kind].verb, "", from, step);
    if (at >= 0 || (step > 0 && p->recalled >= 0))
        put_history(p, at);
    return DO_PAINT;
}

/* ^R: the newest older line that holds what was typed. */
static unsigned search_history(Input *p)
{
    if (!p->asked) {
        p->asked = strdup(rl_line_buffer);
        p->recalled = -1;
    }
    const char *text = p->asked ? p->asked : "", *verb = input_kinds[p->kind].verb;
    int from = p->recalled >= 0 ? p->recalled : history_length, at = history_find(verb, text, from, -1), nth = 0, all = 0;
    for (int i = history_length; (i = history_find(verb, text, i, -1)) >= 0;) {
        all++;
        nth += at >= 0 ? i >= at : 0;
    }
    p->note_slot = at >= 0 ? SL_OK : SL_WARN;
    if (at >= 0)
        put_history(p, at);
    p->note[0] = p->figures[0] = '\0';
    choices_drop(&p->choices);
    if (at >= 0)
        text_format(p->note, MAX_NOTE, "line %d of %d of the history with '%s'; ^R an older one", nth, all, text);
    else
        text_format(p->note, MAX_NOTE, "no older line of the history holds '%s'", text);
    return DO_PAINT;
}

/* Where the word of the cursor begins. */
static int word_start(void)
{
    int at = rl_point;
    while (at > 0 && rl_line_buffer[at - 1] != ' ' && rl_line_buffer[at - 1] != '\t')
        at--;
    return at;
}

/* The chosen word takes the place of the one of the cursor. */
static unsigned take_chosen(Input *p)
{
    const char *word = p->choices.list[p->choices.chosen].word;
    size_t n = strlen(word);
    int start = word_start();
    bool goes_on = n > 0 && strchr("/.=", word[n - 1]);
    rl_delete_text(start, rl_point);
    rl_point = start;
    rl_insert_text(word);
    rl_insert_text(goes_on ? "" : " ");
    p->note[0] = p->figures[0] = '\0';
    p->changed = true;
    return DO_PAINT;
}

/* Keys that are about the list and the history; false: it is for readline. */
static bool list_key(Ui *ui, int key, unsigned *bits)
{
    Input *p = ui->input;
    Choices *c = &p->choices;
    const char *verb = input_kinds[p->kind].verb;
    bool up = key == KEY_CODE(KEY_UP), down = key == KEY_CODE(KEY_DOWN), enter = key == '\n' || key == KEY_CODE(KEY_ENTER);
    *bits = DO_PAINT;
    if (p->kind == INPUT_COMMAND && (up || down || enter))
        input_settle(ui); /* the list that the key is about */
    if (c->chosen >= 0 && (enter || key == '\t')) {
        take_chosen(p);
        return true;
    }
    if (c->n > 0 && (key == KEY_CODE(KEY_NPAGE) || key == KEY_CODE(KEY_PPAGE))) {
        choices_scroll(c, key == KEY_CODE(KEY_NPAGE) ? 1 : -1);
        return true;
    }
    if (c->n > 0 && ((down && p->ups == 0) || (up && c->chosen >= 0))) {
        choices_choose(c, down ? 1 : -1);
        return true;
    }
    if (verb && key == KEY_CTRL('R')) {
        search_history(p);
        return true;
    }
    if (verb && *verb && (up || down)) {
        recall(p, up ? -1 : 1);
        return true;
    }
    if (up)
        p->ups += p->ups < history_length;
    if (down)
        p->ups -= p->ups > 0;
    return up && !verb;
}

unsigned input_key(Ui *ui, int key)
{
    char bytes[8];
    unsigned bits;
    bool rubs = key == KEY_CODE(KEY_BACKSPACE) || key == 127 || key == 8; /* past the start it leaves, as in vi */
    if (key == KEY_ESC || key == KEY_CTRL('C') || key == KEY_CTRL('G') ||
        ((key == KEY_CTRL('D') || rubs) && rl_end == 0)) {
        const Kind *k = &input_kinds[ui->input->kind];
        if (k->cancelled)
            k->cancelled(ui);
        input_close(ui);
        return DO_PAINT;
    }
    if (list_key(ui, key, &bits))
        return bits;
    if (key == KEY_CODE(KEY_DC) && rl_point == rl_end)
        return DO_NOTHING;
    const Kind *kind = &input_kinds[ui->input->kind];
    if (key == '\t' && kind->list && strpbrk(rl_line_buffer, "*{?[")) {
        kind->list(ui, rl_line_buffer, &ui->input->choices);
        ui->input->choices.tall = true;
        return DO_PAINT;
    }
    if (key == '\t' && !kind->verb)
        return DO_NOTHING;
    size_t n = key_bytes(key, bytes);
    if (n == 0 || (rl_end >= MAX_INPUT && key >= ' '))
        return DO_NOTHING;
    char *before = strdup(rl_line_buffer);
    ui->input->choices.tall = false;
    free(ui->input->asked);
    ui->input->asked = NULL;
    feed_bytes(ui, bytes, n);
    if (ui->input->done) {
        free(before);
        return finish(ui);
    }
    if (before)
        note_change(ui, before);
    free(before);
    return DO_PAINT;
}

unsigned input_paste(Ui *ui, const char *text)
{
    char *flat = strdup(text), *before = strdup(rl_line_buffer);
    if (flat && before && strlen(flat) + (size_t)rl_end < 16 * (size_t)MAX_INPUT) {
        for (char *c = flat; *c; c++) {
            if ((unsigned char)*c < 32 || *c == 127)
                *c = ' ';
        }
        rl_insert_text(flat);
        note_change(ui, before);
    } else {
        ui_say(ui, SL_WARN, "what was pasted is too long for an input line");
    }
    free(flat);
    free(before);
    return DO_PAINT;
}

static void draw_notes(Ui *ui, const Input *p, const char *hint)
{
    Rect b = ui->layout.keys, f = ui->layout.figures;
    char line[MAX_NOTE + 8];
    Pen note = pen_at(ui, b.y, b.x, b.w);
    text_cut(line, sizeof line, p->note[0] ? p->note : hint, b.w - 2, ui->term.glyphs.ellipsis);
    pen_printf(&note, p->note[0] ? p->note_slot : SL_DIM, " %s", line);
    pen_fill(&note, SL_TEXT);
    if (!p->figures[0])
        return;
    Pen above = pen_at(ui, f.y, f.x, f.w);
    text_cut(line, sizeof line, p->figures, f.w - 2, ui->term.glyphs.ellipsis);
    pen_printf(&above, p->note_slot, " %s", line);
    pen_fill(&above, SL_TEXT);
}

void input_draw(Ui *ui)
{
    const Input *p = ui->input;
    const Kind *k = &input_kinds[p->kind];
    Rect r = ui->layout.message;
    Pen pen = pen_at(ui, r.y, r.x, r.w);
    pen_puts(&pen, SL_STRONG, tr(k->label));
    char *left = strndup(rl_line_buffer, (size_t)rl_point);
    const char *shown = rl_line_buffer;
    int before = left ? text_width(left) : 0, room = pen.end - pen.x - 1;
    free(left);
    int w;
    while (before > room && text_next(&shown, &w)) /* a long line scrolls: the cursor stays in sight */
        before -= w;
    ui_rest_cursor(ui, r.y, pen.x + before);
    pen_puts(&pen, SL_TEXT, shown);
    pen_fill(&pen, SL_TEXT);
    draw_notes(ui, p, tr(k->hint));
    if (p->choices.n > 0)
        choices_draw(ui, &ui->input->choices);
}
