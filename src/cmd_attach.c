/* attach: looks at a job that another process runs, and stops it. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "session/attach.h"
#include "src/commands.h"
#include "src/format.h"
#include "src/internal.h"

/* ---- which session ---- */

static const char *name_of(const SessionInfo *i)
{
    return i->name[0] ? i->name : i->id;
}

static void attach_offer(const App *a, const char *const *words, int n, OfferWord *put, void *ctx)
{
    SessionInfo *list = NULL;
    int count = 0;
    (void)words;
    if (n > 0 || !a->options.state_dir || session_list(a->options.state_dir, &list, &count, NULL) != ST_OK)
        return;
    for (int i = 0; i < count; i++) {
        Str text = {0};
        session_info_text(&list[i], &text);
        if (list[i].served && (!a->session || strcmp(list[i].id, session_id(a->session)) != 0))
            put(ctx, name_of(&list[i]), str_text(&text));
        str_free(&text);
    }
    free(list);
}

/* The only session that can be attached to; several: the list of them is printed. */
static Status only_one(App *a, char id[40], Error *err)
{
    SessionInfo *list = NULL;
    int n = 0, found = 0;
    Str b = {0};
    RETURN_IF_ERROR(session_list(a->options.state_dir, &list, &n, err));
    for (int i = 0; i < n; i++) {
        if (!list[i].served || (a->session && strcmp(list[i].id, session_id(a->session)) == 0))
            continue;
        found++;
        memcpy(id, list[i].id, 40);
        str_printf(&b, "%-24s  %s  ", name_of(&list[i]), list[i].model);
        session_info_text(&list[i], &b);
        str_putc(&b, '\n');
    }
    free(list);
    Status st = ST_OK;
    if (found > 1)
        st = app_result(a, &b, NULL, err);
    str_free(&b);
    RETURN_IF_ERROR(st);
    return found == 1 ? ST_OK
           : found    ? error_set(err, ST_USAGE, "%d sessions are open: 'slimscope attach NAME' takes one of them", found)
                      : error_set(err, ST_USAGE, "no process has a session open: 'slimscope analyze --session NAME ...' and the "
                                                 "workbench keep one that can be attached to");
}

static Status connect_to(App *a, const CommandLine *cl, Attach **out, Error *err)
{
    char id[40] = "";
    if (!cl->nwords)
        RETURN_IF_ERROR(only_one(a, id, err));
    return attach_open(out, a->options.state_dir, cl->nwords ? cl->words[0] : id, err);
}

/* ---- without a screen ---- */

typedef struct Follow {
    App *a;
    Attach *attach;
    bool json, once, cancel;
    bool works;            /* a job runs, as far as was told */
    bool seen;             /* a job was told of */
    int job;               /* told last */
    int64_t told_ns;       /* when */
} Follow;

static void hello_text(const WireLine *l, Str *out)
{
    str_printf(out, "attached to %s, pid %ld on %s", l->name[0] ? l->name : l->id, l->pid, l->host);
    if (l->ranks > 1)
        str_printf(out, ", %d ranks", l->ranks);
    str_printf(out, ": %s\n", l->words[0] ? l->words : l->model);
}

static void job_text(const WireLine *l, Str *out)
{
    char left[24];
    str_printf(out, "%s  %s  %lld/%lld", l->title, l->paused ? "paused" : l->state == JOB_WAITING ? "waits" : l->phase,
               (long long)l->done, (long long)l->total);
    if (l->total > 0)
        str_printf(out, "  %lld %%", (long long)(100 * l->done / l->total));
    if (l->eta >= 0) {
        fmt_seconds(left, sizeof left, l->eta);
        str_printf(out, "  %s left", left);
    }
    str_putc(out, '\n');
}

static void end_text(const WireLine *l, Str *out)
{
    if (l->state == JOB_DONE)
        str_printf(out, "%s done in %.1f s\n", l->title, l->elapsed);
    else if (l->state == JOB_STOPPED)
        str_printf(out, "%s stopped at %lld of %lld; finished rows are kept\n", l->title, (long long)l->done, (long long)l->total);
    else
        str_printf(out, "%s failed: %s\n", l->title, l->text);
}

/* A line of text for what a person wants to know of it; how far a job is at most once a second. */
static void put_text(Follow *f, const WireLine *l, Str *out)
{
    static const char *const level[] = {"", "warning: ", "error: "};
    const int64_t now = clock_ns();
    if (l->kind == WIRE_HELLO)
        hello_text(l, out);
    if (l->kind == WIRE_JOB && (f->once || l->job != f->job || now - f->told_ns >= 1000000000)) {
        f->job = l->job;
        f->told_ns = now;
        job_text(l, out);
    }
    if (l->kind == WIRE_END)
        end_text(l, out);
    if (l->kind == WIRE_LOG && l->log == LOG_NOTE)
        str_printf(out, "%s%s\n", level[l->level], l->text);
}

/* Tells a line. Whether it was the last that matters; *st: how it ended. */
static bool take_line(Follow *f, const WireLine *l, const char *text, size_t n, Status *st, Error *err)
{
    Str b = {0};
    if (f->json)
        str_printf(&b, "%.*s\n", (int)n, text);
    else
        put_text(f, l, &b);
    *st = b.len ? app_result(f->a, &b, NULL, err) : ST_OK;
    str_free(&b);
    if (*st == ST_OK && !output_flush())
        *st = error_set(err, ST_IO, "standard output: %s", output_fault());
    if (*st != ST_OK)
        return true;
    f->seen |= l->kind == WIRE_JOB || l->kind == WIRE_END;
    f->works = l->kind == WIRE_JOB || (f->works && l->kind != WIRE_IDLE && l->kind != WIRE_BYE);
    if (l->kind == WIRE_REFUSED)
        *st = error_set(err, ST_USAGE, "%s", l->text);
    if (l->kind == WIRE_IDLE && l->status != ST_OK && !(f->cancel && l->status == ST_CANCELLED))
        *st = error_set(err, l->status, "%s", l->text);
    const bool asked = f->cancel && !f->seen; /* nothing runs, but what it says to that is yet to come */
    return l->kind == WIRE_REFUSED || (l->kind == WIRE_IDLE && !asked) || (f->once && l->kind == WIRE_JOB);
}

/* The other process has closed the connection before its jobs ended. */
static Status closed(const Follow *f, bool bye, Error *err)
{
    const WireLine *h = attach_hello(f->attach);
    const char *name = h->name[0] ? h->name : h->id;
    if (!bye)
        return error_set(err, ST_FAIL, "process %ld has died: 'slimscope resume %s' goes on with the session", h->pid, name);
    return f->works ? error_set(err, ST_CANCELLED, "process %ld closed the session before its job had ended: 'slimscope resume %s' goes on with it",
                                h->pid, name)
                    : ST_OK;
}

static Status follow_lines(Follow *f, Error *err)
{
    enum { ONCE_MS = 2000, LOOK_MS = 500 };
    const char *text;
    size_t n;
    bool bye = false;
    const int64_t began = clock_ns();
    const WireLine *h = attach_hello(f->attach);
    Str hello = {0};
    wire_put(&hello, h);
    Status st;
    take_line(f, h, str_text(&hello), hello.len - 1, &st, err);
    str_free(&hello);
    RETURN_IF_ERROR(st);
    if (f->cancel)
        RETURN_IF_ERROR(attach_cancel(f->attach, 0, 1, err));
    for (;;) {
        for (const WireLine *l; (l = attach_next(f->attach, &text, &n)) != NULL;) {
            bye |= l->kind == WIRE_BYE;
            if (take_line(f, l, text, n, &st, err))
                return st;
        }
        if (attach_over(f->attach))
            return closed(f, bye, err);
        if (f->once && clock_ns() - began > ONCE_MS * INT64_C(1000000)) {
            app_note(f->a, "no job has been asked for yet");
            return ST_OK;
        }
        struct pollfd p = {.fd = attach_fd(f->attach), .events = POLLIN};
        if (poll(&p, 1, LOOK_MS) < 0 && errno != EINTR)
            return error_set(err, ST_INTERNAL, "waiting for the other process failed: %s", strerror(errno));
        if (interrupt_take() > 0)
            return error_set(err, ST_CANCELLED, "detached: the job goes on in process %ld; --cancel stops it", h->pid);
    }
}

/* ---- on a screen ---- */

/* What the process says first, and what its journal holds by now, so that the first picture is whole. */
static void settle(Session *s)
{
    enum { SETTLE_MS = 300 };
    struct pollfd p = {.fd = session_fd(s), .events = POLLIN};
    session_pump(s);
    poll(&p, 1, SETTLE_MS);
    session_pump(s);
}

static Status show(App *a, Attach *attach, Session **to, Error *err)
{
    Status st = session_attach(to, &a->options, attach, err);
    if (st != ST_OK)
        attach_free(attach);
    else
        settle(*to);
    return st;
}

/* In the workbench and in the shell: in the place of what is open. */
static Status attach_here(App *a, const CommandLine *cl, Error *err)
{
    Attach *attach;
    if ((a->face != FACE_UI && a->face != FACE_SHELL) || a->depth)
        return error_set(err, ST_USAGE, "'attach' is for the workbench, the shell and the program's command line");
    if (cl->nvalues)
        return error_set(err, ST_USAGE, "here 'attach' takes no options: they are for 'slimscope attach'");
    if (a->session && session_busy(a->session) && !session_attached(a->session, &(AttachView){0}))
        return error_set(err, ST_USAGE, "a job runs here: 'wait' for it, or attach from another terminal");
    RETURN_IF_ERROR(connect_to(a, cl, &attach, err));
    RETURN_IF_ERROR(show(a, attach, &a->next, err));
    a->quit = true;
    return ST_OK;
}

static Status run_attach(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 0, 1, err));
    if (a->face != FACE_CLI)
        return attach_here(a, cl, err);
    const char *progress = cl_str(cl, "progress");
    Follow f = {.a = a, .json = progress && strcmp(progress, "json") == 0, .once = cl_given(cl, "once"), .cancel = cl_given(cl, "cancel")};
    if (f.once && f.cancel)
        return error_set(err, ST_USAGE, "--once and --cancel exclude each other");
    const bool sized = cl_given(cl, "size");
    const bool screen = !progress && !f.once && !f.cancel && (sized || (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)));
    ScreenOptions o;
    RETURN_IF_ERROR(screen_options(cl, &o, err));
    RETURN_IF_ERROR(app_become(a, FACE_UI, err)); /* for the state folder */
    a->face = FACE_CLI;
    RETURN_IF_ERROR(connect_to(a, cl, &f.attach, err));
    if (screen) {
        a->face = FACE_UI;
        RETURN_IF_ERROR(show(a, f.attach, &a->session, err));
        a->log_seen = session_log_old(a->session);
        return app_run_screen(a, &o, err);
    }
    Status st = follow_lines(&f, err);
    attach_free(f.attach);
    return st;
}
static const Option attach_options[] = {
    {"progress", ARG_CHOICE, "text|json", "no screen: print how far it is, line by line, until the jobs end", COMP_NONE},
    {"once", ARG_FLAG, NULL, "no screen: print how far it is now, and end", COMP_NONE},
    {"cancel", ARG_FLAG, NULL, "no screen: stop its jobs after the present tile, finished rows are kept", COMP_NONE},
    OPTIONS_SCREEN,
    {0},
};
const Command command_attach = {
    .name = "attach",
    .args = "[SESSION]",
    .summary = "Look at the job of a session that another process has open on this machine, and stop it.",
    .help = "The ranking grows as the other process finds it; nothing is changed or run here. q leaves, and the job goes on; ^C asks, "
            "then stops it. Without a terminal, and with an option: lines of text or JSON, and the exit code of the job. Of several "
            "ranks the session is rank 0's, on its machine. Without SESSION: the only one that is open, or a list.",
    .flags = CMD_CLI | CMD_NO_LOG,
    .options = attach_options,
    .run = run_attach,
    .offer = attach_offer,
};
