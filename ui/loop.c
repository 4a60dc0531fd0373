/* The loop of the workbench: waits for keys, jobs, signals and the script, and paints what changed. */
#include <poll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/priority.h"
#include "ui/attached.h"

enum { PAINT_MS = 100, TICK_MS = 500 };

typedef struct Loop {
    Ui *ui;
    unsigned bits;
    int64_t last_paint;
    bool key;              /* a key waits for its paint: at once */
} Loop;

static void loop_resize(Ui *ui)
{
    int rows, cols;
    term_resize(&ui->term, ui->rows, ui->cols);
    getmaxyx(stdscr, rows, cols);
    ui_set_size(ui, rows, cols);
}

static void loop_signals(Loop *l)
{
    unsigned got = term_signals(&l->ui->term);
    if (got & TERM_QUIT)
        l->bits |= DO_QUIT;
    if (got & TERM_INT) {
        l->bits |= ui_key(l->ui, KEY_CTRL('C'));
        l->key = true;
    }
    if (got & TERM_TSTP) {
        term_suspend(&l->ui->term);
        got |= TERM_WINCH;
    }
    if (got & TERM_WINCH) {
        loop_resize(l->ui);
        l->bits |= DO_RELAYOUT;
        l->key = true;
    }
}

static void loop_keys(Loop *l)
{
    for (int key; (key = term_key(&l->ui->term)) != KEY_NONE && !(l->bits & DO_QUIT);) {
        l->bits |= ui_key(l->ui, key);
        l->key = true;
    }
}

static void loop_paint(Loop *l)
{
    Ui *ui = l->ui;
    if (l->bits & DO_RELAYOUT)
        ui_set_size(ui, ui->rows, ui->cols);
    ui_paint(ui);
    l->bits &= DO_QUIT;
    l->key = false;
    l->last_paint = clock_ns();
}

/* Milliseconds to sleep at most. */
static int loop_timeout(const Loop *l)
{
    const Ui *ui = l->ui;
    bool busy = ui_session(ui) && session_works(ui_session(ui));
    int64_t now = clock_ns();
    bool moves = busy || ui_attached(ui) || (ui_session(ui) && session_order_stale(ui_session(ui)));
    int ms = moves && !ui->calm ? TICK_MS : -1;
    if (l->bits & (DO_PAINT | DO_RELAYOUT)) {
        int64_t wait = PAINT_MS - (now - l->last_paint) / 1000000;
        ms = wait > 0 ? (int)wait : 0;
    }
    if (ui->pasting) {
        int64_t wait = (ui->last_key + PASTE_SILENCE_NS - now) / 1000000 + 1;
        if (ms < 0 || wait < ms)
            ms = wait > 0 ? (int)wait : 0;
    }
    if (ui->player && !busy) {
        int64_t wait = (ui->player_next - now) / 1000000 + 1;
        if (ms < 0 || wait < ms)
            ms = wait > 0 ? (int)wait : 0;
    }
    return ms;
}

/* False when the terminal is gone. */
static bool loop_wait(Loop *l)
{
    Ui *ui = l->ui;
    struct pollfd p[4] = {
        {.fd = ui->term.null ? -1 : STDIN_FILENO, .events = POLLIN},
        {.fd = ui_session(ui) ? session_fd(ui_session(ui)) : -1, .events = POLLIN},
        {.fd = ui->term.wake[0], .events = POLLIN},
        {.fd = ui->term.err_read, .events = POLLIN},
    };
    int n = poll(p, 4, loop_timeout(l));
    if (n == 0 && !ui->calm)
        l->bits |= DO_PAINT; /* the clock of a running job */
    return !(n > 0 &&
             (p[0].revents & (POLLHUP | POLLERR | POLLNVAL))); /* a terminal that is gone also says it can be read */
}

/* Without a terminal nobody can end it: the last line, or the last job, does. */
static bool null_done(const Ui *ui)
{
    const Session *s = ui_session(ui);
    return ui->term.null && !ui->player && !(s && (session_works(s) || session_picture_waits(s)));
}

static void loop_run(Loop *l)
{
    Ui *ui = l->ui;
    loop_paint(l); /* first, before anything slow */
    while (!(l->bits & DO_QUIT)) {
        l->bits |= ui_pump(ui);
        l->bits |= player_step(ui);
        loop_signals(l);
        loop_keys(l);
        l->bits |= ui_paste_pause(ui);
        l->bits |= ui->app->quit ? DO_QUIT : 0;
        bool due = (l->bits & (DO_PAINT | DO_RELAYOUT)) && clock_ns() - l->last_paint >= (int64_t)PAINT_MS * 1000000;
        if (l->key || due)
            loop_paint(l);
        if (null_done(ui) || (l->bits & DO_QUIT))
            break;
        if (!loop_wait(l))
            break;
    }
}

static Status run(App *a, const ScreenOptions *o, Error *err)
{
    Ui *ui;
    thread_answers();
    RETURN_IF_ERROR(ui_new(&ui, a, o, err));
    Status st = ui_settings(ui, o, err);
    if (st == ST_OK && o->script)
        st = player_file(ui, o->script, err);
    Loop l = {.ui = ui, .bits = DO_PAINT};
    if (st == ST_OK) {
        ui_greet(ui);
        loop_run(&l);
        ui_pump(ui);
        loop_paint(&l);
        if (o->dump_screen)
            st = ui_dump_file(ui, o->dump_screen, err);
        if (st == ST_OK && ui->term.null && ui->script_status != ST_OK)
            st = error_set(err, ui->script_status, "%s", ui->script_error.text);
    }
    ui_free(ui);
    return st;
}

static const char *view_name(int i)
{
    return view_table[i] ? view_table[i]->name : NULL;
}

const ScreenFace ui_face = {.run = run, .view_name = view_name, .key_line = help_key_line};
