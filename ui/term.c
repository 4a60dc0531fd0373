#include "ui/term.h"

#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <term.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/clock.h"

/* ---- signals: the handlers are the process's, so what they touch is static ---- */

static atomic_uint pending; /* one signal may come while another is noted, also on a library's thread */
static volatile int wake_fd = -1;
static char reset_bytes[256];
static size_t reset_len;
static int reset_fd = -1;
static struct termios reset_modes;

static const int caught[] = {SIGWINCH, SIGINT, SIGTSTP, SIGTERM, SIGHUP, SIGPIPE};
static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGQUIT};
enum { CAUGHT = sizeof caught / sizeof caught[0], FATAL = sizeof fatal / sizeof fatal[0] };
static struct sigaction caught_old[CAUGHT], fatal_old[FATAL];
static char crash_stack[64 << 10]; /* for on_fatal: the stack itself may be what ran out */
static stack_t crash_old;

static void on_signal(int sig)
{
    int saved = errno;
    atomic_fetch_or(&pending, sig == SIGWINCH  ? TERM_WINCH
                              : sig == SIGINT  ? TERM_INT
                              : sig == SIGTSTP ? TERM_TSTP
                              : sig == SIGPIPE ? 0
                                               : TERM_QUIT);
    if (wake_fd >= 0 && write(wake_fd, "", 1) < 0)
        errno = saved; /* a full pipe wakes as well */
    errno = saved;
}

static void on_fatal(int sig)
{
    if (reset_fd >= 0) {
        ssize_t n = write(reset_fd, reset_bytes, reset_len);
        (void)n;
        tcsetattr(reset_fd, TCSANOW, &reset_modes);
    }
    for (int i = 0; i < FATAL; i++) {
        if (fatal[i] == sig)
            sigaction(sig, &fatal_old[i], NULL);
    }
    raise(sig); /* delivered on return, to whoever was there before us */
}

static void catch_signals(bool null)
{
    struct sigaction a;
    memset(&a, 0, sizeof a);
    sigemptyset(&a.sa_mask);
    a.sa_handler = on_signal;
    a.sa_flags = SA_RESTART; /* stdio takes a write that was interrupted for an error */
    for (int i = 0; i < CAUGHT; i++)
        sigaction(caught[i], &a, NULL);
    if (null)
        return;
    sigaltstack(&(stack_t){.ss_sp = crash_stack, .ss_size = sizeof crash_stack}, NULL);
    a.sa_handler = on_fatal;
    a.sa_flags = SA_ONSTACK;
    for (int i = 0; i < FATAL; i++)
        sigaction(fatal[i], &a, NULL);
}

/* Before curses starts: where it finds no handler it takes SIGTSTP itself, and then ignores it whenever it paints. */
static void catch_suspend(void)
{
    struct sigaction a;
    memset(&a, 0, sizeof a);
    sigemptyset(&a.sa_mask);
    a.sa_handler = on_signal;
    a.sa_flags = SA_RESTART;
    sigaction(SIGTSTP, &a, NULL);
}

static void save_signals(void)
{
    for (int i = 0; i < CAUGHT; i++)
        sigaction(caught[i], NULL, &caught_old[i]);
    for (int i = 0; i < FATAL; i++)
        sigaction(fatal[i], NULL, &fatal_old[i]);
    sigaltstack(NULL, &crash_old);
}

static void restore_signals(void)
{
    for (int i = 0; i < CAUGHT; i++)
        sigaction(caught[i], &caught_old[i], NULL);
    for (int i = 0; i < FATAL; i++)
        sigaction(fatal[i], &fatal_old[i], NULL);
    sigaltstack(&crash_old, NULL);
}

unsigned term_signals(Term *t)
{
    char buf[64];
    while (t->wake[0] >= 0 && read(t->wake[0], buf, sizeof buf) > 0)
        ;
    return atomic_exchange(&pending, 0u);
}

/* ---- set-up ---- */

/* The first whole answer to "where is the cursor" in bytes[0..len): its column, with *begin and *end of it; 0: there is
 * none. */
static int cursor_answer(const char *bytes, size_t len, size_t *begin, size_t *end)
{
    for (size_t i = 0; i + 1 < len; i++) {
        if (bytes[i] != '\x1b' || bytes[i + 1] != '[')
            continue;
        int number[2] = {0, 0}, at = 0;
        size_t k = i + 2;
        for (; k < len && ((bytes[k] >= '0' && bytes[k] <= '9') || (bytes[k] == ';' && at == 0)); k++) {
            if (bytes[k] == ';')
                at = 1;
            else if (number[at] < 10000)
                number[at] = 10 * number[at] + bytes[k] - '0';
        }
        if (k < len && bytes[k] == 'R' && number[0] > 0 && number[1] > 0) {
            *begin = i;
            *end = k + 1;
            return number[1];
        }
    }
    return 0;
}

/* The width that a column behind one character tells; -1: none that there is. */
static int width_of(int column)
{
    return column == 2 || column == 3 ? column - 1 : -1;
}

/* Width the terminal gives an East-Asian-ambiguous character, by asking for the cursor's place; -1 when it doesn't answer
 * in time. What is typed meanwhile is kept (give_typed). */
static int probe_ambiguous(Term *t, int in, int out)
{
    struct termios old, raw;
    static const char ask[] = "\r\xe2\x94\x80\x1b[6n", wipe[] = "\r\x1b[K";
    size_t begin = 0, end = 0;
    int column = 0;
    if (tcgetattr(in, &old) != 0)
        return -1;
    raw = old;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    tcsetattr(in, TCSANOW, &raw);
    int64_t limit = clock_ns() + 100000000;
    if (write(out, ask, sizeof ask - 1) == (ssize_t)sizeof ask - 1) {
        for (int64_t now = clock_ns(); now < limit && !column && t->ntyped < sizeof t->typed; now = clock_ns()) {
            struct pollfd p = {.fd = in, .events = POLLIN};
            if (poll(&p, 1, (int)((limit - now) / 1000000) + 1) <= 0)
                break;
            ssize_t n = read(in, t->typed + t->ntyped, sizeof t->typed - t->ntyped);
            if (n <= 0)
                break;
            t->ntyped += (size_t)n;
            column = cursor_answer(t->typed, t->ntyped, &begin, &end);
        }
    }
    memmove(t->typed + begin, t->typed + end, t->ntyped - end);
    t->ntyped -= end - begin;
    bool wiped = write(out, wipe, sizeof wipe - 1) == (ssize_t)sizeof wipe - 1;
    tcsetattr(in, TCSANOW, &old);
    t->unanswered = !column;
    return wiped ? width_of(column) : -1;
}

/* The key that bytes[0..*used) are, which the terminal sent before it was told to send keys as terminfo has them. */
static int typed_key(const char *bytes, size_t len, size_t *used)
{
    char seq[16];
    for (size_t n = 2; bytes[0] == '\x1b' && n <= len && n < sizeof seq; n++) { /* no key is the beginning of another */
        memcpy(seq, bytes, n);
        seq[n] = '\0';
        int key = key_defined(seq);
        if (key == 0 && n == 3 && seq[1] == '[') {
            seq[1] = 'O';
            key = key_defined(seq);
        }
        *used = n;
        if (key > 0)
            return key;
    }
    *used = 1;
    return (unsigned char)bytes[0];
}

/* Hands curses what was typed while it was not there yet. */
static void give_typed(Term *t)
{
    int key[sizeof t->typed];
    size_t n = 0;
    for (size_t at = 0, used; at < t->ntyped; at += used)
        key[n++] = typed_key(t->typed + at, t->ntyped - at, &used);
    while (n > 0) /* the last one that is given is the first that comes */
        ungetch(key[--n]);
    t->ntyped = 0;
}

static Depth choose_depth(const Term *t)
{
    /* without a terminal they are only drawn for who asks */
    int config = t->color_setting < 0 && t->null ? 0 : t->color_setting;
    if (!theme_wants_color(t->color_flag, getenv("NO_COLOR"), config, has_colors()))
        return DEPTH_MONO;
    start_color();
    use_default_colors();
    return COLORS > 256 ? DEPTH_DIRECT : COLORS == 256 ? DEPTH_256 : COLORS >= 16 ? DEPTH_16 : DEPTH_8;
}

static Status open_screen(Term *t, const TermOptions *o, Error *err)
{
    if (!t->null) {
        t->screen = newterm(NULL, t->out, t->in);
        if (!t->screen) {
            const char *term = getenv("TERM");
            return error_set(err, ST_USAGE, "the terminal type '%s' is unknown here; try TERM=xterm or TERM=vt100",
                             term ? term : "");
        }
        const char *cup = tigetstr("cup");
        if (!cup || cup == (char *)-1)
            return error_set(
                err, ST_USAGE,
                "a terminal of type '%s' cannot place its cursor, which a screen needs; 'slimscope shell' and "
                "'slimscope analyze' work on it",
                termname());
        return ST_OK;
    }
    static const char *const types[] = {"xterm-256color", "xterm", "vt100", "dumb"};
    for (size_t i = 0; i < sizeof types / sizeof types[0] && !t->screen; i++)
        t->screen = newterm(types[i], t->out, t->in);
    if (!t->screen)
        return error_set(err, ST_FAIL, "no terminal description was found (the package ncurses-base has them)");
    resizeterm(o->rows, o->cols);
    return ST_OK;
}

/* Bytes that put the screen right from a signal handler, where curses cannot be called. */
static void prepare_reset(Term *t)
{
    static const char *const caps[] = {"sgr0", "rmkx", "cnorm", "rmcup"};
    reset_len = 0;
    static const char own[] = "\x1b[?2004l\x1b[?1000l\x1b[?1006l";
    memcpy(reset_bytes, own, sizeof own - 1);
    reset_len = sizeof own - 1;
    for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++) {
        const char *s = tigetstr(caps[i]);
        if (!s || s == (char *)-1)
            continue;
        size_t n = strlen(s);
        if (reset_len + n < sizeof reset_bytes) {
            memcpy(reset_bytes + reset_len, s, n);
            reset_len += n;
        }
    }
    reset_modes = t->modes;
    reset_fd = t->have_modes ? fileno(t->out) : -1;
}

static void own_modes(Term *t, bool on)
{
    if (t->null || on == t->own_on)
        return;
    t->own_on = on;
    fputs(on ? "\x1b[?2004h" : "\x1b[?2004l", t->out);
    fflush(t->out);
}

static void capture_stderr(Term *t)
{
    int p[2];
    t->err_read = t->err_saved = -1;
    if (t->null || pipe2(p, O_CLOEXEC | O_NONBLOCK) != 0)
        return;
    fflush(stderr);
    t->err_saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    if (t->err_saved >= 0 && dup2(p[1], STDERR_FILENO) >= 0) {
        t->err_read = p[0];
    } else {
        close(p[0]);
    }
    close(p[1]);
}

static void curses_modes(Term *t, const TermOptions *o)
{
    set_escdelay(25);
    cbreak();
    noecho();
    nonl();
    keypad(stdscr, TRUE);
    nodelay(stdscr, TRUE);
    meta(stdscr, TRUE);
    intrflush(stdscr, FALSE);
    leaveok(stdscr, FALSE);
    define_key("\x1b[200~", 0x900);
    define_key("\x1b[201~", 0x901);
    t->mouse = o->mouse && !t->null;
    if (t->mouse)
        mousemask(BUTTON1_PRESSED | BUTTON1_RELEASED | BUTTON4_PRESSED | BUTTON5_PRESSED, NULL); /* clicks would be made of events apart */
    mouseinterval(0);
}

static Status open_files(Term *t, Error *err)
{
    if (t->null) {
        t->in = fopen("/dev/null", "re");
        t->out = fopen("/dev/null", "we");
        return t->in && t->out ? ST_OK : error_set(err, ST_IO, "cannot open /dev/null: %s", strerror(errno));
    }
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return error_set(err, ST_USAGE,
                         "the workbench needs a terminal on stdin and stdout; without one use 'slimscope analyze', "
                         "'--script FILE', or '--size COLSxROWS --dump-screen FILE'");
    t->in = stdin;
    t->out = stdout;
    t->have_modes = tcgetattr(STDIN_FILENO, &t->modes) == 0;
    return ST_OK;
}

Status term_open(Term *t, const TermOptions *o, Error *err)
{
    memset(t, 0, sizeof *t);
    t->wake[0] = t->wake[1] = t->err_read = t->err_saved = -1;
    t->null = o->rows > 0;
    t->no_locale = !setlocale(LC_CTYPE, "");
    t->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    RETURN_IF_ERROR(open_files(t, err));
    int ambiguous = 0;
    bool other = !o->glyphs || strcmp(o->glyphs, "ascii") != 0;
    const char *type = getenv("TERM");
    t->glyph_set = o->glyphs;
    if (!t->null && t->utf8 && other && type && strcmp(type, "dumb") != 0)
        ambiguous = probe_ambiguous(t, STDIN_FILENO, STDOUT_FILENO);
    if (!glyphs_choose(o->glyphs, type, t->utf8, ambiguous, &t->glyphs))
        return error_set(err, ST_USAGE, "unknown glyph set '%s'; there are auto, braille, block, ascii", o->glyphs);
    save_signals();
    if (pipe2(t->wake, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_set(err, ST_IO, "cannot make a pipe: %s", strerror(errno));
    wake_fd = t->wake[1];
    catch_suspend();
    Status st = open_screen(t, o, err);
    if (st != ST_OK) {
        restore_signals();
        term_close(t);
        return st;
    }
    curses_modes(t, o);
    give_typed(t);
    prepare_reset(t);
    catch_signals(t->null);
    capture_stderr(t);
    own_modes(t, true);
    t->color_flag = o->color;
    t->color_setting = -1;
    t->depth = choose_depth(t);
    Theme theme;
    theme_default(&theme);
    term_set_theme(t, &theme);
    return ST_OK;
}

void term_close(Term *t)
{
    if (t->screen) {
        own_modes(t, false);
        set_term(t->screen);
        endwin();
        reset_fd = -1;
        restore_signals();
        delscreen(t->screen);
        t->screen = NULL;
    }
    wake_fd = -1;
    if (t->err_saved >= 0) {
        Str rest = {0};
        term_captured(t, &rest);
        str_free(&rest);
        fflush(stderr);
        dup2(t->err_saved, STDERR_FILENO);
        close(t->err_saved);
        if (t->err_read >= 0)
            close(t->err_read);
        if (t->captured.len > 0)
            fwrite(t->captured.s, 1, t->captured.len, stderr);
    }
    str_free(&t->captured);
    for (int i = 0; i < 2; i++) {
        if (t->wake[i] >= 0)
            close(t->wake[i]);
        t->wake[i] = -1;
    }
    if (t->null && t->in)
        fclose(t->in);
    if (t->null && t->out)
        fclose(t->out);
    t->in = t->out = NULL;
    t->err_read = t->err_saved = -1;
}

/* ---- while it runs ---- */

/* An answer that came after the time the start gives it: glyphs and the whole screen by what it says. */
static void answered(Term *t, int column)
{
    t->unanswered = false;
    glyphs_choose(t->glyph_set, getenv("TERM"), t->utf8, width_of(column), &t->glyphs);
    atomic_fetch_or(&pending, TERM_WINCH);
    if (wake_fd >= 0 && write(wake_fd, "", 1) < 0)
        return; /* full: the loop wakes for what is in it */
}

/* Whether the keys from this Esc on are a late answer, which is then taken; else they come again, one by one. */
static bool late_answer(Term *t)
{
    char bytes[16] = "\x1b";
    wint_t c, back[16];
    size_t n = 1, begin, end;
    int column = 0, kind = OK;
    while (n < sizeof bytes && !column && (kind = get_wch(&c)) == OK && c < 128) {
        back[n] = c;
        bytes[n++] = (char)c;
        column = cursor_answer(bytes, n, &begin, &end);
        if (!strchr("[;0123456789R", (int)c))
            break;
    }
    if (column) {
        answered(t, column);
        return true;
    }
    if (kind == KEY_CODE_YES)
        ungetch((int)c);
    else if (kind == OK && c >= 128)
        unget_wch((wchar_t)c);
    while (n > 1)
        unget_wch((wchar_t)back[--n]);
    return false;
}

/* The same of an answer from the first line, which terminfo may have as a key. */
static bool late_key(Term *t, int code)
{
    static const char *const answer[] = {"\x1b[1;2R", "\x1b[1;3R"};
    for (int i = 0; i < 2; i++)
        if (key_defined(answer[i]) == code) {
            answered(t, i + 2);
            return true;
        }
    return false;
}

int term_key(Term *t)
{
    wint_t c;
    if (t->null)
        return KEY_NONE;
    int kind = get_wch(&c);
    bool late = t->unanswered && ((kind == OK && c == KEY_ESC && late_answer(t)) ||
                                  (kind == KEY_CODE_YES && late_key(t, (int)c)));
    if (late)
        return term_key(t);
    if (kind == KEY_CODE_YES)
        return KEY_CODE((int)c);
    if (kind == ERR)
        return KEY_NONE;
    if (c == '\r')
        c = '\n';
    return (int)c;
}

void term_resize(Term *t, int rows, int cols)
{
    struct winsize ws;
    if (!t->null && ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_row > 0 && ws.ws_col > 0) {
        rows = ws.ws_row;
        cols = ws.ws_col;
    }
    if (rows > 0 && cols > 0)
        resizeterm(rows, cols);
    clearok(curscr, TRUE);
}

void term_leave(Term *t)
{
    own_modes(t, false);
    def_prog_mode();
    if (!t->null)
        endwin();
}

void term_return(Term *t)
{
    reset_prog_mode();
    own_modes(t, true);
    if (!t->null)
        term_resize(t, 0, 0);
    clearok(curscr, TRUE);
}

void term_suspend(Term *t)
{
    if (t->null)
        return;
    struct sigaction dfl, old;
    memset(&dfl, 0, sizeof dfl);
    dfl.sa_handler = SIG_DFL;
    term_leave(t);
    sigaction(SIGTSTP, &dfl, &old);
    raise(SIGTSTP);
    sigaction(SIGTSTP, &old, NULL);
    term_return(t);
}

bool term_write(Term *t, const char *bytes, size_t len)
{
    if (fflush(t->out) != 0)
        return false;
    while (len > 0) {
        ssize_t n = write(fileno(t->out), bytes, len);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = fileno(t->out), .events = POLLOUT};
            poll(&p, 1, -1);
        } else if (n < 0 && errno != EINTR) {
            return false;
        }
        bytes += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

void term_wait_enter(Term *t)
{
    char c = 0;
    struct pollfd p[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = t->wake[0], .events = POLLIN}};
    while (c != '\n' && !(atomic_load(&pending) & (TERM_QUIT | TERM_INT))) {
        int n = poll(p, 2, -1);
        if (n < 0 && errno != EINTR)
            break;
        if (n > 0 && p[0].revents && read(STDIN_FILENO, &c, 1) != 1)
            break;
        if (n > 0 && p[1].revents && read(t->wake[0], &(char[64]){0}, 64) < 0)
            continue; /* somebody took it */
    }
    if (wake_fd >= 0 && write(wake_fd, "", 1) < 0)
        return; /* full: the loop wakes for the signals that came meanwhile as well */
}

bool term_copy(Term *t, const char *text, size_t len)
{
    Str b = {0};
    str_puts(&b, "\x1b]52;c;");
    base64_put(&b, text, len);
    str_puts(&b, "\a");
    bool whole = !b.oom && term_write(t, b.s, b.len);
    str_free(&b);
    return whole;
}

void term_captured(Term *t, Str *out)
{
    char buf[1024];
    ssize_t n;
    while (t->err_read >= 0 && (n = read(t->err_read, buf, sizeof buf)) > 0) {
        str_append(out, buf, (size_t)n);
        str_append(&t->captured, buf, (size_t)n);
    }
}

/* ---- colours ---- */

static int pair_for(Term *t, int fg, int bg)
{
    if (fg < 0 && bg < 0)
        return 0;
    for (int i = 0; i < t->npairs; i++) {
        if (t->pairs[i].fg == fg && t->pairs[i].bg == bg)
            return i + 1;
    }
    if (t->npairs == TERM_MAX_PAIRS || t->npairs + 1 >= COLOR_PAIRS || init_extended_pair(t->npairs + 1, fg, bg) == ERR)
        return 0;
    t->pairs[t->npairs].fg = fg;
    t->pairs[t->npairs].bg = bg;
    return ++t->npairs;
}

void term_look(Term *t, const Look *l, attr_t *attr, int *pair)
{
    bool bright = false;
    attr_t a = A_NORMAL;
    int fg = theme_color(l->fg, t->depth, &bright), bg = theme_color(l->bg, t->depth, NULL);
    if (t->depth == DEPTH_8 && l->fg >= 0 && fg < 0) /* a colour that eight do not hold */
        a |= A_DIM;
    if ((l->attr & TA_BOLD) || bright)
        a |= A_BOLD;
    if (l->attr & TA_DIM)
        a |= A_DIM;
    if (l->attr & TA_UNDERLINE)
        a |= A_UNDERLINE;
    if (l->attr & TA_REVERSE)
        a |= A_REVERSE;
    *attr = a;
    *pair = t->depth == DEPTH_MONO ? 0 : pair_for(t, fg, bg);
}

void term_set_theme(Term *t, const Theme *theme)
{
    Theme mono;
    theme_mono(&mono);
    t->theme = *theme;
    t->npairs = 0;
    const Theme *use = t->depth == DEPTH_MONO ? &mono : theme;
    for (int i = 0; i < SLOTS; i++)
        term_look(t, &use->look[i], &t->attr[i], &t->pair[i]);
    cchar_t blank; /* of cells that nothing is drawn to: the theme's background, where it has one */
    if (setcchar(&blank, L" ", A_NORMAL, (short)t->pair[SL_TEXT], NULL) == OK)
        bkgrndset(&blank);
}

bool term_set_color(Term *t, int setting)
{
    Theme theme = t->theme;
    t->color_setting = setting;
    t->depth = choose_depth(t);
    term_set_theme(t, &theme);
    return setting < 0 || (setting > 0) == (t->depth != DEPTH_MONO);
}
