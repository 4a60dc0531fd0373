/* The workbench: what it holds, how keys and events reach its parts. The loop that waits is in loop.c. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "io/file.h"
#include "session/fold.h"
#include "src/lang.h"
#include "ui/attached.h"
#include "ui/actions.h"
#include "ui/input.h"
#include "ui/log.h"
#include "ui/plot.h"
#include "ui/told.h"

Session *ui_session(const Ui *ui)
{
    return ui->app->session;
}

const Metric *const *ui_metrics(const Ui *ui)
{
    return ui->metrics ? ui->metrics : session_metrics(ui_session(ui));
}

const Model *ui_model(const Ui *ui)
{
    return ui->app->session ? session_model(ui->app->session) : NULL;
}

static int view_index(const View *v)
{
    int i = 0;
    while (view_table[i] && view_table[i] != v)
        i++;
    return i;
}

void *ui_state(Ui *ui, const View *v)
{
    return ui->state[view_index(v)];
}

Here ui_here(Ui *ui)
{
    return ui_model(ui) && ui->view->here ? ui->view->here(ui, ui_state(ui, ui->view)) : (Here){-1, -1};
}

/* ---- messages and commands ---- */

/* Takes a message over. The line of messages shows one line: what it cuts stands whole in the log, unless it came from
 * there. */
static void say(Ui *ui, Slot slot, bool from_log, const char *text)
{
    snprintf(ui->message, sizeof ui->message, "%s", text);
    ui->message_slot = slot;
    if (!from_log && !ui->telling_end && ui_session(ui) && text_width(ui->message) > ui->layout.message.w - 2)
        session_log(ui_session(ui), slot == SL_ERR ? 2 : slot == SL_WARN ? 1 : 0, "%s", ui->message);
}

void ui_say(Ui *ui, Slot slot, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, tr(fmt), ap);
    va_end(ap);
    say(ui, slot, false, text);
}

void ui_say_queued(Ui *ui, const char *fmt, ...)
{
    Session *s = ui_session(ui);
    const JobView *j = session_jobs(s) ? session_job(s, session_jobs(s) - 1) : NULL;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(ui->message, sizeof ui->message, tr(fmt), ap);
    va_end(ap);
    ui->message_slot = SL_TEXT;
    if (j && j->state == JOB_WAITING && j->behind)
        ui_say(ui, SL_TEXT, "#%d is queued behind #%d; 3 shows the jobs", j->id, j->behind);
}

unsigned ui_refuse(Ui *ui, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, tr(fmt), ap);
    va_end(ap);
    say(ui, SL_WARN, true, text); /* of a key that did nothing: ? tells it whole */
    return DO_PAINT;
}

static void collect(void *ctx, const char *text, size_t len)
{
    str_append(&((Ui *)ctx)->out, text, len);
}

/* One line becomes the message, more a page. */
static void show_output(Ui *ui, const char *title)
{
    const char *text = str_text(&ui->out), *nl = strchr(text, '\n');
    if (!*text)
        return;
    if (!nl || !nl[1])
        ui_say(ui, SL_TEXT, "%.*s", (int)strcspn(text, "\n"), text);
    else
        pager_open(ui, title, text, NULL);
}

/* Notes that the command left in the log: the gravest new one. */
static void show_notes(Ui *ui, int from)
{
    static const Slot slots[] = {SL_TEXT, SL_WARN, SL_ERR};
    Session *s = ui_session(ui);
    int level = -1;
    if (s && from < session_log_first(s))
        from = session_log_first(s);
    for (int i = from; s && i < session_log_lines(s); i++) {
        LogLine l = session_log_line(s, i);
        if (l.level < level || l.level < 0 || l.level > 2)
            continue;
        char text[2 * ERROR_TEXT_MAX];
        level = l.level;
        say(ui, slots[l.level], true, tr_line(l.text, text, sizeof text));
    }
}

/* Behind an edit that will be lost. */
static void say_unkept(Ui *ui)
{
    const char *why = session_unkept(ui_session(ui));
    size_t n = strlen(ui->message);
    if (!why)
        return;
    text_format(ui->message + n, sizeof ui->message - n, "%snot kept: this session is %s", n ? " - " : "", tr(why));
    ui->message_slot = SL_WARN;
}

bool ui_command(Ui *ui, const char *fmt, ...)
{
    Str line = {0};
    va_list ap;
    va_start(ap, fmt);
    str_vprintf(&line, fmt, ap);
    va_end(ap);
    Error err = {ST_OK, ""};
    uint64_t version = ui_session(ui) ? session_edit_version(ui_session(ui)) : 0;
    str_free(&ui->out);
    ui->message[0] = '\0';
    if (ui_session(ui) && line.len > 0)
        session_note(ui_session(ui), LOG_COMMAND, 0, ":%s", str_text(&line));
    int logged = ui_session(ui) ? session_log_lines(ui_session(ui)) : 0;
    Status st = line.oom ? error_nomem(&err, "the command") : app_execute(ui->app, str_text(&line), &err);
    ui->command_status = st;
    if (st != ST_OK) {
        if (ui_session(ui))
            session_note(ui_session(ui), LOG_COMMAND, 2, "%s", err.text);
        say(ui, SL_ERR, ui_session(ui) != NULL, err.text);
    } else if (ui->out.len > 0) {
        show_output(ui, str_text(&line));
    } else {
        show_notes(ui, logged);
        if (!ui->message[0])
            ui_said(ui, str_text(&line));
    }
    if (st == ST_OK && ui_session(ui) && session_edit_version(ui_session(ui)) != version)
        say_unkept(ui);
    str_free(&line);
    return st == ST_OK;
}

/* What the person who starts may want to know: where this session stands, or an older one. */
static void say_start(Ui *ui)
{
    Session *s = ui_session(ui);
    for (int i = s ? session_log_old(s) : 0; s && i < session_log_lines(s); i++) {
        if (i < session_log_first(s))
            continue;
        LogLine l = session_log_line(s, i);
        if (strncmp(l.text, "a session of ", 13) == 0 || strncmp(l.text, "session ", 8) == 0)
            say(ui, l.level ? SL_WARN : SL_TEXT, true, l.text);
    }
}

/* ---- views and overlays ---- */

unsigned ui_goto(Ui *ui, const View *v)
{
    if (v == ui->view)
        return DO_NOTHING;
    int at = 0;
    while (at < ui->nback && ui->back[at] != v)
        at++;
    if (at < ui->nback)
        ui->nback = at; /* back to where one came from: the way there is forgotten */
    else if (ui->nback < UI_MAX_BACK)
        ui->back[ui->nback++] = ui->view;
    ui->view = v;
    return DO_RELAYOUT;
}

void ui_open_overlay(Ui *ui, const Overlay *o, void *state)
{
    ui_close_overlay(ui);
    ui->overlay = o;
    ui->overlay_state = state;
}

void ui_close_overlay(Ui *ui)
{
    if (ui->overlay)
        ui->overlay->fini(ui);
    ui->overlay = NULL;
    ui->overlay_state = NULL;
}

void ui_set_size(Ui *ui, int rows, int cols)
{
    ui->rows = rows;
    ui->cols = cols;
    LayoutPrefs prefs = {.side = ui->view->side && ui->side_on && ui_model(ui), .full = ui->side_full};
    if (prefs.full)
        prefs.side = ui->view->side;
    layout_compute(rows, cols, prefs, &ui->layout);
}

/* ---- keys ---- */

static unsigned key_answer(Ui *ui, int key)
{
    Question q = ui->question;
    ui->question.text = NULL;
    if (key == 'y' || key == 'Y')
        return q.yes(ui) | DO_PAINT;
    if (key == 'd' && q.detach)
        return q.detach(ui) | DO_PAINT;
    return DO_PAINT; /* everything else is "no": nothing changed */
}

const Binding *ui_binding(const Ui *ui, int key)
{
    for (size_t i = 0; i < ui->nbindings; i++)
        if (ui->bindings[i].key == key)
            return &ui->bindings[i];
    return NULL;
}

static unsigned run_bound(Ui *ui, const Binding *b)
{
    char *line = strdup(b->command); /* the command may bind the key anew */
    if (!line)
        return ui_refuse(ui, "out of memory");
    ui_command(ui, "%s", line);
    free(line);
    return DO_RELAYOUT;
}

static unsigned key_in_view(Ui *ui, int key)
{
    const Binding *bound = ui_binding(ui, key);
    if (bound)
        return run_bound(ui, bound);
    const View *where;
    const KeyRow *row = key_find(key, ui->view), *elsewhere = row ? NULL : key_elsewhere(key, &where);
    char name[16];
    key_text(key, name, sizeof name);
    if (elsewhere)
        return ui_refuse(ui, "%s does nothing on this screen: %s (on screen %c)", name, tr(elsewhere->help),
                         where->key);
    if (!row && key >= '0' && key <= '9')
        return ui_refuse(ui, "there is no screen %s; the line above names those there are", name);
    if (!row)
        return ui_refuse(ui, "%s is no key here; ? lists those that are", name);
    const char *why = key_refusal(ui, row);
    if (why)
        return ui_refuse(ui, "%s: %s", name, tr(why));
    return row->run(ui, row, key);
}

static unsigned end_paste(Ui *ui)
{
    ui->pasting = false;
    const char *text = str_text(&ui->paste);
    unsigned bits = DO_PAINT;
    if (*text && !ui->input) {
        ui->question.text = NULL;
        ui_close_overlay(ui);
        bits |= ui_model(ui) ? input_open(ui, INPUT_TAG, NULL)
                             : ui_refuse(ui, "no model is open, so there are no layers to tag");
    }
    if (*text && ui->input)
        bits |= input_paste(ui, text);
    str_free(&ui->paste);
    return bits;
}

static unsigned key_pasted(Ui *ui, int key)
{
    enum { MAX_PASTE = 60000 };
    char utf8[4];
    ui->last_key = clock_ns();
    if (key == KEY_PASTE_END)
        return end_paste(ui);
    if (key == KEY_CTRL('C')) { /* the way out of one whose end got lost */
        ui->pasting = false;
        str_free(&ui->paste);
        return ui_refuse(ui, "what was being pasted is dropped");
    }
    if (key > 0 && key < 0x110000 && ui->paste.len < MAX_PASTE)
        str_append(&ui->paste, utf8, (size_t)utf8_encode((unsigned)key, utf8));
    return DO_NOTHING;
}

unsigned ui_paste_pause(Ui *ui)
{
    return ui->pasting && clock_ns() - ui->last_key >= PASTE_SILENCE_NS ? end_paste(ui) : DO_NOTHING;
}

/* Whether an event is a click: a press, or a release whose press was not told. Curses tells each step of a drag as
 * another press. */
static bool click_begins(Ui *ui, mmask_t what)
{
    bool was = ui->button_down;
    if (what & BUTTON1_RELEASED)
        ui->button_down = false;
    else if (what & BUTTON1_PRESSED)
        ui->button_down = true;
    else
        return false;
    return !was;
}

static unsigned mouse_event(Ui *ui, const MEVENT *e)
{
    bool clicked = click_begins(ui, e->bstate);
    if (ui->input || ui->question.text)
        return DO_NOTHING;
    bool wheel = e->bstate & (BUTTON4_PRESSED | BUTTON5_PRESSED);
    for (int i = 0; i < 3 && ui->overlay && wheel; i++)
        ui->overlay->key(ui, KEY_CODE(e->bstate & BUTTON4_PRESSED ? KEY_UP : KEY_DOWN));
    if (ui->overlay)
        return DO_PAINT;
    if (wheel) {
        for (int i = 0; i < 3; i++)
            ui->view->move(ui, ui_state(ui, ui->view), e->bstate & BUTTON4_PRESSED ? MOVE_UP : MOVE_DOWN);
        return DO_PAINT;
    }
    if (!clicked)
        return DO_NOTHING;
    for (int i = 0; i < ui->ntab_spans && e->y == ui->layout.tabs.y; i++) {
        if (e->x >= ui->tab_spans[i].x && e->x < ui->tab_spans[i].x + ui->tab_spans[i].w)
            return ui_goto(ui, ui->tab_spans[i].view);
    }
    for (int i = 0; i < ui->nkey_spans && e->y == ui->layout.keys.y; i++) {
        if (e->x >= ui->key_spans[i].x && e->x < ui->key_spans[i].x + ui->key_spans[i].w)
            return key_in_view(ui, ui->key_spans[i].key);
    }
    Rect m = ui->layout.main;
    if (ui->view->click && e->y >= m.y && e->y < m.y + m.h && e->x >= m.x && e->x < m.x + m.w)
        ui->view->click(ui, ui_state(ui, ui->view), e->y - m.y, e->x - m.x);
    return DO_PAINT;
}

/* Curses hands over what came together as one key, and tells the newest event first. */
static unsigned key_mouse(Ui *ui)
{
    enum { HELD = 16 }; /* more than curses holds */
    MEVENT e[HELD];
    int n = 0;
    unsigned bits = DO_NOTHING;
    while (n < HELD && getmouse(&e[n]) == OK)
        n++;
    while (n > 0)
        bits |= mouse_event(ui, &e[--n]);
    return bits;
}

unsigned ui_key(Ui *ui, int key)
{
    if (key == KEY_CODE(KEY_RESIZE))
        return DO_RELAYOUT;
    if (ui->pasting)
        return key_pasted(ui, key);
    if (key == KEY_PASTE_BEGIN) {
        ui->pasting = true;
        ui->last_key = clock_ns();
        return DO_NOTHING;
    }
    if (key == KEY_PASTE_END)
        return DO_NOTHING;
    ui->last_key = clock_ns();
    if (key == KEY_CTRL('L') && !ui_binding(ui, key))
        return act_redraw(ui, NULL, key); /* whatever is open or said stays as it is */
    if (ui->input)
        return input_key(ui, key);
    ui->message[0] = '\0';
    if (key == KEY_CODE(KEY_MOUSE))
        return key_mouse(ui);
    if (ui->question.text)
        return key_answer(ui, key);
    if (ui->overlay)
        return ui->overlay->key(ui, key) | DO_PAINT;
    return key_in_view(ui, key) | DO_PAINT;
}

void ui_greet(Ui *ui)
{
    if (ui->message[0])
        return;
    show_notes(ui, ui_session(ui) ? session_log_old(ui_session(ui)) : 0);
    if (ui->message[0] && ui->message_slot != SL_TEXT)
        return; /* what is wrong comes first */
    ui->message[0] = '\0';
    say_start(ui);
    if (ui->message[0])
        return;
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    const char *locale = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !(locale && *locale); i++)
        locale = getenv(names[i]);
    if (ui->term.no_locale)
        ui_say(ui, SL_WARN, "no locale '%s' here, so ASCII only; LC_ALL=C.UTF-8 has more", locale ? locale : "");
    else if (ui_model(ui) && !ui_attached(ui) && session_score_range(ui_session(ui)).scored == 0)
        ui_say(ui, SL_TEXT, "r scores all layers; ? explains keys and signs; 8 leads through");
}

bool ui_paints_for(const Ui *ui, unsigned events)
{
    const unsigned moving = EV_ROWS | EV_PROGRESS; /* what a job shows of itself while it runs */
    return (ui->calm ? events & ~moving : events) != 0;
}

unsigned ui_pump(Ui *ui)
{
    unsigned bits = DO_NOTHING, ev = ui_session(ui) ? session_pump(ui_session(ui)) : 0;
    if (ui_paints_for(ui, ev))
        bits |= DO_PAINT;
    if (ev & (EV_JOB | EV_EFFECT))
        told_jobs(ui);
    if (ui_session(ui))
        told_question(ui);
    if (ui->term.err_read >= 0) {
        Str text = {0};
        term_captured(&ui->term, &text);
        char *save = NULL;
        for (char *l = text.s ? strtok_r(text.s, "\n", &save) : NULL; l && ui_session(ui);
             l = strtok_r(NULL, "\n", &save))
            session_note(ui_session(ui), LOG_STDERR, 1, "%s", l);
        bits |= text.len > 0 ? DO_PAINT : 0;
        str_free(&text);
    }
    return bits | (ui->app->quit ? DO_QUIT : 0);
}

/* ---- hooks for commands ---- */

static Status hook_dump(void *ctx, const char *path, bool all, Error *err)
{
    Ui *ui = ctx;
    Str text = {0};
    if (!all)
        return ui_dump_file(ui, path, err);
    if (ui_model(ui))
        ui->view->copy(ui, ui_state(ui, ui->view), true, &text);
    Status st = text.oom ? error_nomem(err, "the list") : text.len == 0 ? error_set(err, ST_USAGE, "there is no list here to write")
                                                                         : file_write_atomic(path, text.s, text.len, err);
    str_free(&text);
    return st;
}

static char *load_theme(void *ctx, const char *name, Error *err)
{
    (void)ctx;
    char rel[256], *text = NULL;
    bool is_path = strchr(name, '/') != NULL;
    snprintf(rel, sizeof rel, "themes/%s.theme", name);
    Error e = {0};
    char *path = is_path ? strdup(name) : app_find_data(rel, &e);
    size_t len = 0;
    if (!path && (is_path || e.status == ST_NOMEM))
        error_nomem(err, "a theme");
    else if (!path)
        error_set(err, ST_USAGE, "there is no theme '%s': there are " THEME_NAMES ", and paths of .theme files", name);
    if (path && file_read(path, 1 << 20, &text, &len, err) != ST_OK)
        text = NULL;
    free(path);
    return text;
}

static Status hook_theme(void *ctx, const char *name, Error *err)
{
    Ui *ui = ctx;
    Theme t;
    theme_default(&t);
    if (strcmp(name, "reload") == 0)
        name = ui->term.theme.name;
    char *text = load_theme(NULL, name, err);
    if (!text && strcmp(name, "default") != 0)
        return err && err->status != ST_OK ? err->status : error_set(err, ST_USAGE, "there is no theme '%s'", name);
    Str warnings = {0};
    Status st = text ? theme_parse(&t, text, name, load_theme, NULL, &warnings, err) : ST_OK;
    free(text);
    if (st == ST_OK) {
        snprintf(t.name, sizeof t.name, "%s", name);
        term_set_theme(&ui->term, &t);
        if (warnings.len > 0) {
            ui_say(ui, SL_WARN, "%.*s", (int)strcspn(str_text(&warnings), "\n"), str_text(&warnings));
            char *save = NULL;
            for (char *l = strtok_r(warnings.s, "\n", &save); l && ui_session(ui); l = strtok_r(NULL, "\n", &save))
                session_log(ui_session(ui), 1, "theme: %s", l);
        }
    }
    str_free(&warnings);
    return st;
}

static bool hook_color(void *ctx, int setting)
{
    Ui *ui = ctx;
    return term_set_color(&ui->term, setting);
}

static Status hook_screen(void *ctx, const char *name, Error *err)
{
    Ui *ui = ctx;
    const View *v = view_find(name);
    if (!v) {
        Str names = {0};
        for (int i = 0; view_table[i]; i++)
            str_printf(&names, "%s%s", i ? ", " : "", view_table[i]->name);
        error_set(err, ST_USAGE, "there is no screen '%s'; there are %s", name, str_text(&names));
        str_free(&names);
        return ST_USAGE;
    }
    ui_goto(ui, v);
    return ST_OK;
}

static Status hook_bind(void *ctx, const char *key, const char *command, Error *err)
{
    Ui *ui = ctx;
    int k = key_parse(key);
    if (k == KEY_NONE)
        return error_set(err, ST_USAGE,
                         "there is no key '%s'; keys are characters, ^X, F1 to F63, Space, Enter, Tab, PgUp", key);
    char *copy = strdup(command);
    if (!copy)
        return error_nomem(err, "the binding");
    for (size_t i = 0; i < ui->nbindings; i++) { /* the newest is the last */
        if (ui->bindings[i].key == k) {
            free(ui->bindings[i].command);
            memmove(&ui->bindings[i], &ui->bindings[i + 1], (--ui->nbindings - i) * sizeof *ui->bindings);
        }
    }
    if (!mem_grow(&ui->bindings, &ui->cap_bindings, ui->nbindings + 1, sizeof *ui->bindings)) {
        free(copy);
        return error_nomem(err, "the binding");
    }
    ui->bindings[ui->nbindings++] = (Binding){k, copy};
    return ST_OK;
}

static void hook_help(void *ctx, const Command *c)
{
    if (c)
        help_command(ctx, c);
    else
        help_commands(ctx);
}

static void hook_log(void *ctx)
{
    log_open(ctx, 0);
}

static Status hook_lines(void *ctx, const char *name, const char *text, Error *err)
{
    return player_lines(ctx, name, text, err);
}

/* ---- life ---- */

Status ui_settings(Ui *ui, const ScreenOptions *o, Error *err)
{
    Error own = {ST_OK, ""};
    if (MB_CUR_MAX > 1) /* a terminal that shows ASCII only has no other language */
        RETURN_IF_ERROR(lang_choose("auto", err));
    if (!o->script && app_rc(ui->app, &own) != ST_OK) /* a slip in the settings must not keep anybody out */
        ui_say(ui, SL_WARN, "%s", own.text);
    if (o->lang)
        RETURN_IF_ERROR(lang_choose(o->lang, err));
    return o->theme ? hook_theme(ui, o->theme, err) : ST_OK;
}

static Status make_states(Ui *ui, Error *err)
{
    for (int i = 0; view_table[i]; i++) {
        ui->state[i] = calloc(1, view_table[i]->state_size + 1);
        if (!ui->state[i])
            return error_nomem(err, "the screens");
    }
    return ST_OK;
}

Status ui_new(Ui **out, App *a, const ScreenOptions *o, Error *err)
{
    Ui *ui = calloc(1, sizeof *ui);
    if (!ui)
        return error_nomem(err, "the workbench");
    ui->app = a;
    ui->view = view_table[0];
    ui->side_on = true;
    ui->pace_ms = o->pace_ms;
    ui->calm = o->calm;
    Status st = make_states(ui, err);
    input_init(a);
    TermOptions to = {.glyphs = o->glyphs, .color = o->color, .mouse = o->mouse, .rows = o->rows, .cols = o->cols};
    if (st == ST_OK)
        st = term_open(&ui->term, &to, err);
    if (st != ST_OK) {
        ui_free(ui);
        return st;
    }
    a->print = collect;
    a->print_ctx = ui;
    a->dump_screen = hook_dump;
    a->set_theme = hook_theme;
    a->set_color = hook_color;
    a->set_screen = hook_screen;
    a->bind_key = hook_bind;
    a->show_plot = plot_show;
    a->run_lines = hook_lines;
    a->show_help = hook_help;
    a->show_log = hook_log;
    a->ui_ctx = ui;
    int rows, cols;
    getmaxyx(stdscr, rows, cols);
    ui_set_size(ui, rows, cols);
    *out = ui;
    return ST_OK;
}

void ui_free(Ui *ui)
{
    if (!ui)
        return;
    App *a = ui->app;
    input_close(ui);
    ui_close_overlay(ui);
    player_stop(ui);
    term_close(&ui->term);
    input_fini(a);
    for (int i = 0; view_table[i]; i++) {
        if (view_table[i]->fini && ui->state[i])
            view_table[i]->fini(ui->state[i]);
        free(ui->state[i]);
    }
    for (size_t i = 0; i < ui->nbindings; i++)
        free(ui->bindings[i].command);
    free(ui->bindings);
    str_free(&ui->out);
    str_free(&ui->paste);
    a->dump_screen = NULL;
    a->set_color = NULL;
    a->set_theme = a->set_screen = NULL;
    a->bind_key = NULL;
    a->show_plot = NULL;
    a->run_lines = NULL;
    a->show_help = NULL;
    a->show_log = NULL;
    a->ui_ctx = NULL;
    free(ui);
}
