/* Telling those that are attached how far the jobs of this session are. */
#include "session/serve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "dist/dist.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/wire.h"

enum { CLIENTS = 16, OUT_MAX = 1 << 20 };
#define JOB_EVERY_NS INT64_C(50000000)

typedef struct Client {
    int fd;                /* -1: the place is free */
    WireIn in;
    Str out;               /* that the socket has not taken yet */
    size_t sent;           /* of it */
    bool waits;            /* for room in the socket */
    bool late;             /* the newest WIRE_JOB is still to be told */
    int log_seen;          /* lines of the log */
    bool gone;
} Client;

struct Serve {
    int listener, epoll, clients;
    Client client[CLIENTS];
    WireLine job;          /* told last */
    int64_t told_ns;       /* when */
    bool works;            /* a job ran or waited since the last WIRE_IDLE */
    Error worst;           /* of the jobs that ended since then */
    Str ended;             /* lines that are to be told to all */
};

/* ---- clients ---- */

static bool watch(int epoll, int op, int fd, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.fd = fd};
    return epoll_ctl(epoll, op, fd, &e) == 0;
}

static void leave(Serve *v, Client *c)
{
    v->clients--;
    close(c->fd); /* which takes it out of the epoll */
    free(c->in.b);
    str_free(&c->out);
    *c = (Client){.fd = -1};
}

static void say(Client *c, const WireLine *l)
{
    wire_put(&c->out, l);
}

/* Hands over what the socket takes. */
static void flush(const Serve *v, Client *c)
{
    while (c->sent < c->out.len) {
        const ssize_t n = send(c->fd, c->out.s + c->sent, c->out.len - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            c->gone |= !(n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
            break;
        }
        c->sent += (size_t)n;
    }
    const bool waits = c->sent < c->out.len;
    if (!waits) {
        str_clear(&c->out);
        c->sent = 0;
    }
    if (waits != c->waits)
        watch(v->epoll, EPOLL_CTL_MOD, c->fd, EPOLLIN | (waits ? EPOLLOUT : 0));
    c->waits = waits;
    c->gone |= c->out.oom || c->out.len - c->sent > OUT_MAX;
}

/* ---- what is told ---- */

static void cut(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from ? from : "");
}

static void say_hello(const Session *s, Client *c)
{
    WireLine l = {.kind = WIRE_HELLO, .format = WIRE_FORMAT, .pid = (long)getpid(), .ranks = dist_size(s->opt.dist)};
    cut(l.version, sizeof l.version, SLIMSCOPE_VERSION);
    cut(l.id, sizeof l.id, s->id);
    cut(l.name, sizeof l.name, s->name);
    cut(l.model, sizeof l.model, s->model ? s->model->path : "");
    cut(l.words, sizeof l.words, s->opt.words);
    if (gethostname(l.host, sizeof l.host - 1) != 0)
        l.host[0] = '\0';
    say(c, &l);
}

/* It waits, and will start by itself. */
static bool starts(const JobView *v)
{
    return v->state == JOB_WAITING && !v->paused && !v->earlier;
}

/* Whether a job runs, or will by itself. */
static bool active(const Session *s)
{
    const Queue *q = s->queue;
    for (size_t i = q->njobs; i-- > 0;) {
        const JobView *v = &q->jobs[i]->view;
        if (v->state == JOB_RUNNING || starts(v))
            return true;
    }
    return false;
}

/* The job that runs, else the first that waits and will start; false: there is none. */
static bool look(Session *s, WireLine *l)
{
    const Queue *q = s->queue;
    int at = -1;
    *l = (WireLine){.kind = WIRE_JOB};
    for (int i = 0; i < (int)q->njobs; i++) {
        const JobView *j = &q->jobs[i]->view;
        if (j->state == JOB_RUNNING || (starts(j) && at < 0))
            at = i;
        if (j->state == JOB_WAITING && l->nwaits < WIRE_WAITS_MAX)
            l->waits[l->nwaits++] = j->id;
    }
    if (at < 0)
        return false;
    const JobView *v = session_job(s, at);
    l->job = v->id;
    l->state = v->state;
    l->what = v->kind;
    l->paused = v->paused;
    l->done = v->done;
    l->total = v->total;
    l->elapsed = v->elapsed;
    l->eta = v->eta;
    l->peak = v->peak;
    l->bound = v->bound;
    cut(l->title, sizeof l->title, v->title);
    cut(l->phase, sizeof l->phase, v->phase);
    return true;
}

/* Whether a person sees a difference. */
static bool differs(const WireLine *a, const WireLine *b)
{
    return a->job != b->job || a->state != b->state || a->paused != b->paused || a->done != b->done || a->total != b->total ||
           a->nwaits != b->nwaits || strcmp(a->phase, b->phase) != 0;
}

/* A slow step stands still for long: how far it is in seconds comes from the other end's own clock. */
static void tell_job(Session *s, Serve *v)
{
    WireLine now;
    const int64_t t = clock_ns();
    const bool runs = look(s, &now);
    if (runs && differs(&now, &v->job) && (now.done != v->job.done || now.job != v->job.job || t - v->told_ns > JOB_EVERY_NS)) {
        v->job = now;
        v->told_ns = t;
        for (int i = 0; i < CLIENTS; i++)
            v->client[i].late = true;
    }
    for (int i = 0; i < CLIENTS; i++) {
        Client *c = &v->client[i];
        if (c->fd < 0 || !c->late || c->waits || !runs)
            continue;
        say(c, &now);
        c->late = false;
    }
    if (!runs)
        v->job = (WireLine){.kind = WIRE_JOB};
}

static void tell_log(const Session *s, Client *c)
{
    const int n = session_log_lines(s);
    if (c->log_seen < session_log_first(s))
        c->log_seen = session_log_first(s);
    for (; c->log_seen < n; c->log_seen++) {
        const LogLine from = session_log_line(s, c->log_seen);
        WireLine l = {.kind = WIRE_LOG, .log = from.kind, .level = from.level, .job = from.job};
        cut(l.text, sizeof l.text, from.text);
        say(c, &l);
    }
}

static void say_idle(const Serve *v, Client *c)
{
    WireLine l = {.kind = WIRE_IDLE, .status = v->worst.status};
    cut(l.text, sizeof l.text, v->worst.text);
    say(c, &l);
}

void serve_ended(Session *s, const JobView *v)
{
    if (!s->serve)
        return;
    WireLine l = {.kind = WIRE_END, .job = v->id, .state = v->state, .what = v->kind, .status = v->status, .done = v->done,
                  .total = v->total, .elapsed = v->elapsed};
    Serve *to = s->serve;
    if (!to->works)
        to->worst = (Error){0};
    to->works = true;
    cut(l.title, sizeof l.title, v->title);
    cut(l.text, sizeof l.text, v->error);
    if (to->worst.status == ST_OK && v->status != ST_OK)
        error_set(&to->worst, v->status, "%s: %s", v->title, v->state == JOB_STOPPED ? "stopped; finished rows are kept" : v->error);
    wire_put(&to->ended, &l);
}

/* ---- what is asked ---- */

static void refuse(Client *c, const char *why)
{
    WireLine l = {.kind = WIRE_REFUSED};
    cut(l.text, sizeof l.text, why);
    say(c, &l);
}

/* Whoever waits for the jobs without a screen waits for none behind one that is stopped, as behind a ^C. */
static Status cancel_jobs(Session *s, const WireLine *l, Error *err)
{
    const int level = l->level > 1 ? 2 : 1;
    bool any = false;
    if (l->job && s->opt.attended)
        return session_cancel_job(s, l->job, level, err);
    for (int i = session_jobs(s); i-- > 0;) {
        const JobView *j = session_job(s, i);
        if (j->state == JOB_RUNNING || (j->state == JOB_WAITING && !j->earlier))
            any |= session_cancel_job(s, j->id, level, NULL) == ST_OK;
    }
    return any ? ST_OK : error_set(err, ST_USAGE, "no job is running");
}

static void hear(Session *s, Client *c, const char *line, size_t n)
{
    WireLine l;
    Error err = {0};
    if (wire_parse(&l, line, n, &err) != ST_OK) {
        c->gone = true;
    } else if (l.kind != WIRE_CANCEL) {
        refuse(c, "this slimscope does not know what is asked: it is asked to cancel only");
    } else if (cancel_jobs(s, &l, &err) != ST_OK) {
        refuse(c, err.text);
    } else {
        session_note(s, LOG_JOB, 1, "cancelled from another terminal, which is attached");
    }
}

static void listen_to(Session *s, Client *c)
{
    size_t n;
    const char *line;
    const bool open = wire_read(&c->in, c->fd);
    while (!c->gone && (line = wire_next(&c->in, &n)) != NULL)
        hear(s, c, line, n);
    c->gone |= !open;
}

/* ---- the loop ---- */

static void welcome(Session *s, Serve *v)
{
    int fd;
    while ((fd = accept4(v->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        int i = 0;
        while (i < CLIENTS && v->client[i].fd >= 0)
            i++;
        if (i == CLIENTS || !watch(v->epoll, EPOLL_CTL_ADD, fd, EPOLLIN)) {
            close(fd);
            continue;
        }
        Client *c = &v->client[i];
        *c = (Client){.fd = fd, .late = true, .log_seen = session_log_lines(s)};
        v->clients++;
        say_hello(s, c);
        if (!v->works && session_jobs(s) > 0)
            say_idle(v, c);
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) { /* who waits would wake the loop for ever */
        session_log(s, 1, "nobody new can attach to this session: %s", strerror(errno));
        close(v->listener);
        v->listener = -1;
    }
}

void serve_pump(Session *s)
{
    Serve *v = s->serve;
    if (!v)
        return;
    struct epoll_event e[CLIENTS + 2];
    const int n = epoll_wait(v->epoll, e, CLIENTS + 2, 0);
    for (int k = 0; k < n; k++)
        for (int i = 0; i < CLIENTS; i++)
            if (v->client[i].fd >= 0 && v->client[i].fd == e[k].data.fd && e[k].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                listen_to(s, &v->client[i]);
    for (int k = 0; k < n; k++)
        if (v->listener >= 0 && e[k].data.fd == v->listener)
            welcome(s, v);
    const bool runs = active(s), idle = v->works && !runs;
    if (runs && !v->works)
        v->worst = (Error){0};
    v->works |= runs;
    for (int i = 0; i < CLIENTS; i++)
        if (v->client[i].fd >= 0) {
            str_append(&v->client[i].out, str_text(&v->ended), v->ended.len);
            tell_log(s, &v->client[i]);
        }
    if (v->clients)
        tell_job(s, v);
    for (int i = 0; i < CLIENTS; i++) {
        Client *c = &v->client[i];
        if (c->fd < 0)
            continue;
        if (idle)
            say_idle(v, c);
        flush(v, c);
        if (c->gone)
            leave(v, c);
    }
    str_clear(&v->ended);
    v->works = v->works && !idle;
}

int serve_fd(const Serve *v)
{
    return v->epoll;
}

/* ---- life ---- */

void serve_open(Session *s)
{
    Error why = {0};
    Serve *v = malloc(sizeof *v);
    if (!v)
        return;
    *v = (Serve){.listener = -1, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    for (int i = 0; i < CLIENTS; i++)
        v->client[i].fd = -1;
    Status st = v->epoll < 0 ? error_set(&why, ST_IO, "cannot make an epoll: %s", strerror(errno))
                             : wire_open(s->dir, true, &v->listener, &why);
    if (st == ST_OK && !(watch(v->epoll, EPOLL_CTL_ADD, v->listener, EPOLLIN) && watch(v->epoll, EPOLL_CTL_ADD, s->queue->pipe[0], EPOLLIN)))
        st = error_set(&why, ST_IO, "cannot watch a socket: %s", strerror(errno));
    s->serve = v;
    if (st == ST_OK)
        return;
    session_log(s, 0, "nobody can attach to this session: %s", why.text);
    serve_close(s);
}

void serve_end(Session *s)
{
    if (s->serve)
        wire_remove(s->dir);
}

void serve_close(Session *s)
{
    Serve *v = s->serve;
    if (!v)
        return;
    const WireLine bye = {.kind = WIRE_BYE};
    for (int i = 0; i < CLIENTS; i++) {
        Client *c = &v->client[i];
        if (c->fd < 0)
            continue;
        say(c, &bye);
        flush(v, c);
        leave(v, c);
    }
    if (v->listener >= 0)
        close(v->listener);
    if (v->epoll >= 0)
        close(v->epoll);
    str_free(&v->ended);
    free(v);
    s->serve = NULL;
}
