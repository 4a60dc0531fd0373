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

enum { MAX_INPUT = 4096, MAX_NOTE = 512, HISTORY_LINES = 1000 };

typedef struct Kind {
    const char *label;
    bool commands;                                   /* history and completion of the command language */
    const char *hint;                                /* shown where there is no note */
    void (*changed)(Ui *ui, const char *text, Input *p);
    unsigned (*done)(Ui *ui, const char *text);
    void (*cancelled)(Ui *ui);
    void (*ask)(Ui *ui, const char *text, AskNote *out); /* in the place of `changed`: also before a key */
    const char *command;                             /* and of `done`: Enter runs it with the text behind it */
} Kind;

struct Input {
    InputKind kind;
    char note[MAX_NOTE];     /* below the line */
    char figures[MAX_NOTE];  /* above it, where there is a line */
    Slot note_slot;
    struct Choice {
        char *word, *help;   /* help "": none */
    } *choice;               /* what Tab offers */
    int nchoices;
    bool changed;            /* since the kind looked at it */
    bool done;               /* Enter: readline handed the line over */
    char *line;
    int64_t origin;          /* linear of the cursor before a search or a filter */
    char *before;            /* the filter before this one */
};

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

static void remember(const char *line)
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

/* ---- what the kinds do ---- */

static void preview_pattern(Ui *ui, const char *text, Input *p)
{
    WhatIf w;
    Error err = {ST_OK, ""};
    char size[32], share[32];
    memset(&w, 0, sizeof w);
    p->note_slot = SL_ERR;
    if (!*text)
        return;
    const char *instead = p->kind == INPUT_RULE ? ui->rule : NULL;
    if (session_preview(ui_session(ui), text, instead, &w, &err) != ST_OK) {
        snprintf(p->note, MAX_NOTE, "%.*s", MAX_NOTE - 1, err.text);
        return;
    }
    fmt_delta(size, sizeof size, (double)w.fresh_bytes);
    fmt_percent(share, sizeof share, w.fresh_share);
    p->note_slot = w.hits == 0 ? SL_ERR : w.note[0] ? SL_WARN : SL_OK;
    int n = text_format(p->figures, MAX_NOTE, w.hits == 1 ? "%lld hit, %lld new, size %s" : "%lld hits, %lld new, size %s",
                        (long long)w.hits, (long long)w.fresh, size);
    if (w.fresh_share == w.fresh_share && n < MAX_NOTE)
        text_format(p->figures + n, (size_t)(MAX_NOTE - n), ", loss -%s", share);
    n = (int)strlen(p->figures);
    if (ask_over(ui, w.fresh_bytes, w.fresh_bits, p->figures + n, (size_t)(MAX_NOTE - n)) > 0)
        p->note_slot = SL_WARN;
    if (w.note[0])
        snprintf(p->note, MAX_NOTE, "! %s", w.note);
}

static unsigned done_exclude(Ui *ui, const char *text)
{
    if (*text) {
        Str b = {0};
        str_puts(&b, "exclude ");
        lexer_quote(&b, text);
        ui_command(ui, "%s", str_text(&b));
        str_free(&b);
    }
    return DO_PAINT;
}

static unsigned done_rule(Ui *ui, const char *text)
{
    if (*text && strcmp(text, ui->rule) != 0) {
        Str b = {0};
        str_puts(&b, "rule edit ");
        lexer_quote(&b, ui->rule);
        str_putc(&b, ' ');
        lexer_quote(&b, text);
        ui_command(ui, "%s", str_text(&b));
        str_free(&b);
    }
    return DO_PAINT;
}

static unsigned done_tag(Ui *ui, const char *text)
{
    Str b = {0};
    str_puts(&b, "tag");
    /* what is pasted is a list; a pattern has no spaces or commas outside its braces */
    char *copy = strdup(text), *save = NULL;
    for (char *w = copy ? strtok_r(copy, " \t;\"'", &save) : NULL; w; w = strtok_r(NULL, " \t;\"'", &save)) {
        size_t n = strlen(w);
        while (n > 0 && (w[n - 1] == ',' || w[n - 1] == ':'))
            w[--n] = '\0';
        if (n == 0 || strcmp(w, "-") == 0)
            continue;
        str_putc(&b, ' ');
        lexer_quote(&b, w);
    }
    free(copy);
    if (b.len > 3)
        ui_command(ui, "%s", str_text(&b));
    str_free(&b);
    return DO_PAINT;
}

/* Searches what is in front: an overlay, or the screen. */
static Found search(Ui *ui, const char *text)
{
    if (ui->overlay)
        return ui->overlay->find(ui, text, 1, true);
    return ui->view->find ? ui->view->find(ui, ui_state(ui, ui->view), text, 1, true) : (Found){0, 0};
}

static void changed_search(Ui *ui, const char *text, Input *p)
{
    snprintf(ui->marked, sizeof ui->marked, "%s", text);
    if (!ui->overlay && ui_session(ui))
        session_set_cursor(ui_session(ui), p->origin);
    if (!*text)
        return;
    Found f = search(ui, text);
    p->note_slot = f.of ? SL_OK : SL_WARN;
    if (f.of)
        text_format(p->note, MAX_NOTE, "match %lld of %lld", (long long)f.at, (long long)f.of);
    else
        text_format(p->note, MAX_NOTE, "nothing here holds '%s'", text);
}

static unsigned done_search(Ui *ui, const char *text)
{
    if (!*text)
        return DO_PAINT;
    snprintf(ui->search, sizeof ui->search, "%s", text);
    return ui_found(ui, search(ui, text), text);
}

static void cancelled_search(Ui *ui)
{
    ui->marked[0] = '\0';
    if (!ui->overlay && ui_session(ui))
        session_set_cursor(ui_session(ui), ui->input->origin);
}

/* Shows what passes while it is typed; the edit comes with Enter. */
static void changed_filter(Ui *ui, const char *text, Input *p)
{
    Error err = {ST_OK, ""};
    int64_t n;
    session_set_cursor(ui_session(ui), p->origin);
    p->note_slot = SL_ERR;
    if (session_filter_try(ui_session(ui), text, &err) != ST_OK) {
        snprintf(p->note, MAX_NOTE, "%.*s", MAX_NOTE - 1, err.text);
        return;
    }
    session_order(ui_session(ui), &n, false);
    p->note_slot = n > 0 ? SL_OK : SL_WARN;
    text_format(p->figures, MAX_NOTE, n == 1 ? "%lld layer of %lld passes" : "%lld layers of %lld pass", (long long)n,
             (long long)ui_model(ui)->nlinears);
}

static void filter_back(Ui *ui)
{
    session_filter_try(ui_session(ui), ui->input->before ? ui->input->before : "", NULL); /* it was one already */
}

static void cancelled_filter(Ui *ui)
{
    filter_back(ui);
    session_set_cursor(ui_session(ui), ui->input->origin);
}

static unsigned done_filter(Ui *ui, const char *text)
{
    Str b = {0};
    str_puts(&b, "filter ");
    lexer_quote(&b, text);
    ui_command(ui, "%s", str_text(&b));
    str_free(&b);
    return DO_PAINT;
}

#define DEFAULT_YAML "best.yaml"
#define DEFAULT_TEXT "compare.txt"

/* What was typed for a file or folder, without the blanks behind it; *force: with a ! at its end. */
static void typed_path(const char *text, Str *path, bool *force)
{
    size_t n = strlen(text);
    while (n > 0 && text[n - 1] == ' ')
        n--;
    *force = n > 1 && text[n - 1] == '!';
    n -= *force;
    while (n > 0 && text[n - 1] == ' ')
        n--;
    str_append(path, text, n);
}

/* Runs `command`, or `forced`, with a path behind it. */
static void run_with_path(Ui *ui, const char *command, const char *forced, const char *text)
{
    Str line = {0}, path = {0};
    bool force;
    typed_path(text, &path, &force);
    str_puts(&line, force ? forced : command);
    lexer_quote(&line, str_text(&path));
    if (path.len > 0)
        ui_command(ui, "%s", str_text(&line));
    str_free(&path);
    str_free(&line);
}

static unsigned done_export(Ui *ui, const char *text)
{
    run_with_path(ui, "export ", "export! ", *text ? text : DEFAULT_YAML);
    return DO_PAINT;
}

static unsigned done_folder(Ui *ui, const char *text)
{
    run_with_path(ui, "quantize --save ", "quantize! --save ", text);
    return DO_PAINT;
}

static unsigned done_compare(Ui *ui, const char *text)
{
    Str path = {0}, line = {0};
    bool force;
    typed_path(*text ? text : DEFAULT_TEXT, &path, &force);
    str_puts(&line, "compare --out ");
    lexer_quote(&line, str_text(&path));
    if (file_exists(str_text(&path)) && !force)
        ui_say(ui, SL_ERR, "'%s' is there already: ! behind the name replaces it", str_text(&path));
    else if (path.len && ui_command(ui, "%s", str_text(&line)))
        ui_say(ui, SL_OK, "written: %s", str_text(&path));
    str_free(&path);
    str_free(&line);
    return DO_PAINT;
}

static unsigned done_command(Ui *ui, const char *text)
{
    if (*text) {
        remember(text);
        ui_command(ui, "%s", text);
    }
    return DO_RELAYOUT;
}

/* The hints fit on the smallest screen. */
static const Kind kinds[INPUT_KINDS] = {
    [INPUT_COMMAND] = {":", true, "a command; Tab completes, Up recalls, Esc leaves", NULL, done_command, NULL},
    [INPUT_EXCLUDE] = {"exclude: ", false, "a pattern, as *layers.{1,6}.mlp.*; Enter applies it", preview_pattern,
                       done_exclude, NULL},
    [INPUT_RULE] = {"rule: ", false, "another pattern for this rule; Enter applies it", preview_pattern, done_rule, NULL},
    [INPUT_TAG] = {"tag: ", false, "patterns or names, with spaces between", NULL, done_tag, NULL},
    [INPUT_SEARCH] = {"/", false, "a part of a name, or a pattern", changed_search, done_search, cancelled_search},
    [INPUT_FILTER] = {"filter: ", false, "words, kind= layer=3..7 score>9 float failed tagged !word", changed_filter,
                      done_filter, cancelled_filter},
    [INPUT_EXPORT] = {"write to: ", false, "a file (Enter alone: best.yaml); ! at the end replaces it", NULL,
                      done_export, NULL},
    [INPUT_FOLDER] = {"folder: ", false, "where the quantized model goes; ! at the end replaces one", NULL,
                      done_folder, NULL},
    [INPUT_FIT] = {.label = "fit: ", .hint = "Enter chooses the levels for +20M 300M 5.2bits kl=0.1 ppl=+1%",
                   .ask = ask_fit, .command = "fit "},
    [INPUT_TUNE] = {.label = "tune until: ", .hint = "Enter measures about 8 sets, until +20M kl=0.1 or ppl=+1%",
                    .ask = ask_tune, .command = "tune --until "},
    [INPUT_BUDGET] = {.label = "budget: ", .hint = "+20M above the recipe, 300M, 5.2bits a weight, none",
                      .ask = ask_budget, .command = "set budget="},
    [INPUT_COMPARE] = {"write to: ", false, "a file (Enter alone: compare.txt); ! at the end replaces it", NULL, done_compare, NULL},
};

static void look(Ui *ui, const char *text)
{
    Input *p = ui->input;
    const Kind *k = &kinds[p->kind];
    if (k->changed)
        k->changed(ui, text, p);
    if (!k->ask)
        return;
    AskNote n = {.figures = p->figures, .note = p->note, .size = MAX_NOTE, .slot = SL_OK};
    k->ask(ui, text, &n);
    p->note_slot = n.slot;
}

static unsigned run(Ui *ui, const Kind *k, const char *text)
{
    if (k->done)
        return k->done(ui, text);
    if (*text)
        ui_command(ui, "%s%s", k->command, text);
    return DO_PAINT;
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

static void drop_choices(Input *p)
{
    for (int i = 0; i < p->nchoices; i++) {
        free(p->choice[i].word);
        free(p->choice[i].help);
    }
    free(p->choice);
    p->choice = NULL;
    p->nchoices = 0;
}

/* Bytes that all words share, up to the last '.' or '/' in them: what the line shows already. */
static size_t common_head(char **words, int n)
{
    size_t same = strlen(words[0]), head = 0;
    for (int i = 1; i < n; i++) {
        size_t k = 0;
        while (k < same && words[i][k] == words[0][k])
            k++;
        same = k;
    }
    for (size_t k = 0; k < same; k++)
        head = words[0][k] == '.' || words[0][k] == '/' ? k + 1 : head;
    return head;
}

/* Readline's: matches[1..n]. */
static void show_matches(char **matches, int n, int longest)
{
    (void)longest;
    if (!active || !active->input || n < 1)
        return;
    Input *p = active->input;
    char *line = strndup(rl_line_buffer, (size_t)rl_point);
    size_t head = common_head(matches + 1, n);
    drop_choices(p);
    p->choice = line ? calloc((size_t)n, sizeof *p->choice) : NULL;
    for (int i = 0; i < n && p->choice; i++) {
        Str help = {0};
        app_complete_help(active->app, line, matches[i + 1], &help);
        p->choice[i].word = strdup(matches[i + 1] + head);
        p->choice[i].help = str_detach(&help);
        p->nchoices = i + 1;
        if (!p->choice[i].word || !p->choice[i].help)
            drop_choices(p); /* out of memory: Tab offers nothing */
    }
    free(line);
}

/* The words app_complete has for the line up to the cursor, as readline wants them: their common beginning first. */
static char **complete(const char *text, int start, int end)
{
    rl_attempted_completion_over = 1;
    char *line = active ? strndup(rl_line_buffer, (size_t)end) : NULL;
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
    if (kind == INPUT_FILTER)
        p->before = strdup(text ? text : "");
    p->origin = ui_session(ui) ? session_cursor(ui_session(ui)) : -1;
    ui->input = p;
    ui->message[0] = '\0';
    active = ui;
    feed_at = feed_len = 0;
    rl_callback_handler_install("", take_line);
    if (text && *text)
        rl_insert_text(text);
    p->changed = kinds[kind].ask != NULL;
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
    drop_choices(ui->input);
    free(ui->input);
    ui->input = NULL;
    active = NULL;
}

static unsigned finish(Ui *ui)
{
    const Kind *k = &kinds[ui->input->kind];
    char *line = ui->input->line;
    ui->input->line = NULL;
    if (ui->input->changed && line)
        look(ui, line);
    if (ui->input->before) /* the edit starts from there */
        cancelled_filter(ui);
    input_close(ui);
    unsigned bits = run(ui, k, line ? line : "");
    free(line);
    return bits | DO_PAINT;
}

static void note_change(Ui *ui, const char *before)
{
    Input *p = ui->input;
    if (strcmp(before, rl_line_buffer) == 0)
        return;
    p->note[0] = p->figures[0] = '\0';
    p->changed = true;
}

void input_settle(Ui *ui)
{
    Input *p = ui->input;
    if (!p || !p->changed)
        return;
    p->changed = false;
    look(ui, rl_line_buffer);
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

unsigned input_key(Ui *ui, int key)
{
    char bytes[8];
    bool rubs = key == KEY_CODE(KEY_BACKSPACE) || key == 127 || key == 8; /* past the start it leaves, as in vi */
    if (key == KEY_ESC || key == KEY_CTRL('C') || key == KEY_CTRL('G') ||
        ((key == KEY_CTRL('D') || rubs) && rl_end == 0)) {
        const Kind *k = &kinds[ui->input->kind];
        if (k->cancelled)
            k->cancelled(ui);
        input_close(ui);
        return DO_PAINT;
    }
    if (key == KEY_CODE(KEY_DC) && rl_point == rl_end)
        return DO_NOTHING;
    if (key == '\t' && !kinds[ui->input->kind].commands)
        return DO_NOTHING;
    size_t n = key_bytes(key, bytes);
    if (n == 0 || (rl_end >= MAX_INPUT && key >= ' '))
        return DO_NOTHING;
    char *before = strdup(rl_line_buffer);
    drop_choices(ui->input);
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

/* One choice a line with what it means, or several beside each other where there is nothing to tell. */
static void draw_choice(Ui *ui, const Input *p, Rect r, int i, int wide)
{
    char line[MAX_NOTE];
    Pen pen = pen_at(ui, r.y, r.x + 1, r.w - 1);
    pen_name(&pen, SL_KEY, wide, p->choice[i].word);
    text_cut(line, sizeof line, p->choice[i].help, pen.end - pen.x - 2, ui->term.glyphs.ellipsis);
    pen_printf(&pen, SL_TEXT, " %s", line);
}

/* What Tab offers, over the last lines of the body; what doesn't fit is counted. */
static void draw_choices(Ui *ui, const Input *p)
{
    enum { GAP = 2, WIDEST = 30 };
    Rect f = ui->layout.figures;
    int body = f.y - ui->layout.tabs.y - 1, wide = 0, helps = 0;
    for (int i = 0; i < p->nchoices; i++) {
        int w = text_width(p->choice[i].word);
        wide = w > wide ? w : wide;
        helps += p->choice[i].help[0] != '\0';
    }
    if (helps && wide > WIDEST)
        wide = WIDEST;
    int across = helps ? 1 : (f.w - 1) / (wide + GAP) > 0 ? (f.w - 1) / (wide + GAP) : 1;
    int lines = (p->nchoices + across - 1) / across, room = body * 2 / 3;
    bool more = lines > room;
    int shown = more ? (room - 1) * across : p->nchoices, y = f.y - (more ? room : lines) - 1;
    draw_hline(ui, y, f.x, f.w);
    draw_clear(ui, (Rect){y + 1, f.x, f.y - y - 1, f.w});
    for (int i = 0; i < shown; i++) {
        Rect r = {y + 1 + i / across, f.x + i % across * (wide + GAP), 1, helps ? f.w : wide + 1};
        draw_choice(ui, p, r, i, wide < f.w - 1 ? wide : f.w - 1);
    }
    Pen last = pen_at(ui, f.y - 1, f.x, f.w);
    if (more)
        pen_printf(&last, SL_DIM, " ... %d more; another letter leaves fewer", p->nchoices - shown);
}

void input_draw(Ui *ui)
{
    const Input *p = ui->input;
    const Kind *k = &kinds[p->kind];
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
    if (p->nchoices > 0)
        draw_choices(ui, p);
}
