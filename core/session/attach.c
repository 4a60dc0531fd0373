/* Attached to the process that has a session open: what it says, and its journal as that grows. */
#include "session/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/file.h"
#include "session/folder.h"
#include "session/jobrecord.h"
#include "session/parts.h"
#include "session/queue.h"

struct Attach {
    char id[40];
    int fd, epoll;             /* epoll: of it, the session's queue and `grows`; -1 where no session shows it */
    int grows;                 /* says when the journal was written to; -1: this system can't tell */
    WireIn in;
    bool closed;               /* the other end */
    WireLine line, hello, job, ended;
    int64_t job_ns;            /* when `job` came */
    bool bye;
    /* of the session that shows it */
    Journal *journal;          /* NULL: it can't be followed any more */
    JournalReplay *replay;
};

/* ---- finding it ---- */

static bool is_named(const SessionInfo *i, const char *name)
{
    return strcmp(i->id, name) == 0 || (i->name[0] && strcmp(i->name, name) == 0);
}

/* The newest of this name, one that can be attached to before others. */
static Status find(const char *state_dir, const char *name, SessionInfo *out, Error *err)
{
    SessionInfo *list;
    int n, at = -1;
    RETURN_IF_ERROR(session_list(state_dir, &list, &n, err));
    for (int i = 0; i < n; i++)
        if (is_named(&list[i], name) && (at < 0 || (list[i].served && !list[at].served)))
            at = i;
    if (at >= 0)
        *out = list[at];
    free(list);
    return at >= 0 ? ST_OK : error_set(err, ST_DATA, "no session '%s': resume --list shows them", name);
}

static long lock_holder(const char *dir)
{
    char *path = path_join(dir, "lock");
    const int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    const long pid = fd >= 0 ? file_read_pid(fd) : 0;
    if (fd >= 0)
        close(fd);
    free(path);
    return pid;
}

/* Why nobody can be attached to, and what to do. */
static Status refuse(const SessionInfo *i, const char *dir, Error *err)
{
    const char *name = i->name[0] ? i->name : i->id;
    Str what = {0};
    session_info_text(i, &what);
    if (i->locked)
        error_set(err, ST_USAGE, "session %s is open in process %ld, which can't be attached to: it has no socket there; an older "
                                 "slimscope, or a disk that has none?", name, lock_holder(dir));
    else if (wire_exists(dir))
        error_set(err, ST_USAGE, "the process that had session %s open has died, or runs on another machine: %s; 'slimscope resume %s' goes "
                                 "on with it", name,
                  str_text(&what), name);
    else
        error_set(err, ST_USAGE, "no process has session %s open: %s; 'slimscope resume %s' opens it", name, str_text(&what), name);
    str_free(&what);
    return ST_USAGE;
}

/* ---- the connection ---- */

static void close_socket(Attach *a)
{
    if (a->fd >= 0)
        close(a->fd);
    a->fd = -1;
    a->closed = true;
}

static void note(Attach *a, const WireLine *l)
{
    if (l->kind == WIRE_HELLO)
        a->hello = *l;
    if (l->kind == WIRE_JOB) {
        a->job = *l;
        a->job_ns = clock_ns();
    }
    if (l->kind == WIRE_END)
        a->ended = *l;
    if (l->kind == WIRE_IDLE || l->kind == WIRE_BYE || (l->kind == WIRE_END && l->job == a->job.job))
        a->job.kind = WIRE_KINDS;
    a->bye |= l->kind == WIRE_BYE;
}

const WireLine *attach_next(Attach *a, const char **text, size_t *n)
{
    for (;;) {
        size_t len;
        const char *line = wire_next(&a->in, &len);
        if (!line && (a->closed || !wire_read(&a->in, a->fd)))
            close_socket(a);
        if (!line)
            line = wire_next(&a->in, &len);
        if (!line)
            return NULL;
        if (wire_parse(&a->line, line, len, NULL) != ST_OK || a->line.kind == WIRE_KINDS)
            continue;
        note(a, &a->line);
        *text = line;
        *n = len;
        return &a->line;
    }
}

bool attach_over(const Attach *a)
{
    return a->closed;
}

int attach_fd(const Attach *a)
{
    return a->epoll >= 0 ? a->epoll : a->fd;
}

const WireLine *attach_hello(const Attach *a)
{
    return &a->hello;
}

Status attach_cancel(Attach *a, int job, int level, Error *err)
{
    const WireLine l = {.kind = WIRE_CANCEL, .job = job, .level = level};
    Str line = {0};
    wire_put(&line, &l);
    const bool sent = a->fd >= 0 && !line.oom && send(a->fd, line.s, line.len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)line.len;
    str_free(&line);
    return sent ? ST_OK : error_set(err, ST_USAGE, "process %ld has closed the session: there is nothing to stop", a->hello.pid);
}

static Status wait_hello(Attach *a, const char *dir, Error *err)
{
    const int64_t until = clock_ns() + ATTACH_PATIENCE * INT64_C(1000000000);
    const char *text;
    size_t n;
    while (a->hello.kind != WIRE_HELLO) {
        const int64_t left = (until - clock_ns()) / 1000000;
        struct pollfd p = {.fd = a->fd, .events = POLLIN};
        if (attach_next(a, &text, &n))
            continue;
        if (a->closed)
            return error_set(err, ST_IO, "process %ld closed the connection: it is ending, or too many are attached", lock_holder(dir));
        if (left <= 0)
            return error_set(err, ST_IO, "process %ld does not answer: it is stopped, or busy for long; try again", lock_holder(dir));
        poll(&p, 1, (int)left);
    }
    if (a->hello.format == WIRE_FORMAT)
        return ST_OK;
    return error_set(err, ST_USAGE, "process %ld is slimscope %s, which is attached to in another way: take that version", a->hello.pid,
                     a->hello.version);
}

Status attach_open(Attach **out, const char *state_dir, const char *id, Error *err)
{
    SessionInfo info;
    *out = NULL;
    RETURN_IF_ERROR(find(state_dir, id, &info, err));
    Attach *a = calloc(1, sizeof *a);
    char *dir = folder_path(state_dir, info.id);
    Status st = a && dir ? ST_OK : error_nomem(err, "the session's folder");
    if (a)
        *a = (Attach){.fd = -1, .epoll = -1, .grows = -1, .line = {.kind = WIRE_KINDS}, .hello = {.kind = WIRE_KINDS}, .job = {.kind = WIRE_KINDS},
                      .ended = {.kind = WIRE_KINDS}};
    if (st == ST_OK)
        st = info.served ? wire_open(dir, false, &a->fd, err) : refuse(&info, dir, err);
    if (st == ST_OK) {
        memcpy(a->id, info.id, sizeof a->id);
        st = wait_hello(a, dir, err);
    }
    if (st != ST_OK && a && a->closed && find(state_dir, info.id, &info, NULL) == ST_OK && !info.served)
        st = refuse(&info, dir, err); /* it ended meanwhile */
    free(dir);
    if (st != ST_OK)
        attach_free(a);
    else
        *out = a;
    return st;
}

void attach_free(Attach *a)
{
    if (!a)
        return;
    close_socket(a);
    if (a->epoll >= 0)
        close(a->epoll);
    if (a->grows >= 0)
        close(a->grows);
    journal_close(a->journal, NULL);
    free(a->in.b);
    free(a);
}

/* ---- the session that shows it ---- */

Status attached_refuses(const Session *s, Error *err)
{
    return s->attach ? error_set(err, ST_USAGE, "attached to process %ld: read only", s->attach->hello.pid) : ST_OK;
}

/* Seconds that the job has run since it was told of. */
static double passed(const Attach *a)
{
    return a->job.paused ? 0 : (double)(clock_ns() - a->job_ns) * 1e-9;
}

double attach_elapsed(const Attach *a)
{
    return a->job.elapsed + passed(a);
}

bool session_attached(const Session *s, AttachView *v)
{
    const Attach *a = s->attach;
    if (!a)
        return false;
    const double since = passed(a);
    *v = (AttachView){.hello = &a->hello, .job = a->job.kind == WIRE_JOB ? &a->job : NULL,
                      .ended = a->ended.kind == WIRE_END ? &a->ended : NULL, .elapsed = attach_elapsed(a),
                      .eta = a->job.eta > since ? a->job.eta - since : a->job.eta < 0 ? -1 : 0,
                      .over = a->closed, .died = a->closed && !a->bye};
    return true;
}

static bool among(const WireLine *l, int id)
{
    for (int i = 0; i < l->nwaits; i++)
        if (l->waits[i] == id)
            return true;
    return false;
}

/* The rows of jobs that run and wait there; l NULL: none does. */
static void show_jobs(Session *s, const WireLine *l)
{
    Queue *q = s->queue;
    for (size_t i = 0; i < q->njobs; i++) {
        JobView *v = &q->jobs[i]->view;
        if (l && v->id == l->job) {
            v->state = l->state;
            v->status = ST_OK;
            v->paused = l->paused;
            v->done = l->done;
            v->total = l->total;
            v->eta = l->eta;
            v->peak = l->peak;
            v->bound = l->bound;
            v->phase = l->phase;
        } else if (l && among(l, v->id)) {
            v->state = JOB_WAITING;
        } else if (v->state == JOB_WAITING || v->state == JOB_RUNNING) {
            v->state = JOB_STOPPED;
            v->phase = "";
        }
    }
}

static void show_end(Session *s, const WireLine *l)
{
    Queue *q = s->queue;
    JobRow *r = job_row_find(q, l->job);
    q->ended++;
    q->last_ended = l->job;
    if (!r)
        return;
    r->view.state = l->state;
    r->view.status = l->status;
    r->view.paused = false;
    r->view.elapsed = l->elapsed;
    r->view.done = l->done;
    r->view.total = l->total;
    r->view.eta = -1;
    r->view.phase = "";
    r->view.error = l->text;
    if (job_row_keep(r, r->dir, NULL) != ST_OK)
        r->view.error = "";
}

static unsigned apply(Session *s, const WireLine *l)
{
    switch (l->kind) {
    case WIRE_JOB: show_jobs(s, &s->attach->job); return EV_PROGRESS;
    case WIRE_LOG: session_note(s, l->log, l->level, "%s", l->text); return EV_MESSAGE;
    case WIRE_REFUSED: session_log(s, 2, "%s", l->text); return EV_MESSAGE;
    case WIRE_END: show_end(s, l); return EV_JOB;
    case WIRE_IDLE:
    case WIRE_BYE: show_jobs(s, NULL); return EV_JOB;
    default: return 0;
    }
}

/* The records that were appended since. */
static unsigned follow(Session *s)
{
    Attach *a = s->attach;
    Error why = {0};
    bool grew = false;
    char events[1024];
    while (a->grows >= 0 && read(a->grows, events, sizeof events) > 0)
        ; /* all of them ask for one look */
    if (!a->journal)
        return 0;
    s->restoring = true;
    const Status st = journal_follow(a->journal, a->replay, s, &grew, &why);
    s->restoring = false;
    if (st != ST_OK) {
        session_log(s, 1, "what follows in its journal is not shown: %s", why.text);
        journal_close(a->journal, NULL);
        a->journal = NULL;
    }
    if (grew)
        show_jobs(s, a->job.kind == WIRE_JOB ? &a->job : NULL);
    return grew ? EV_ROWS : 0;
}

unsigned attached_pump(Session *s)
{
    Attach *a = s->attach;
    const char *text;
    size_t n;
    unsigned kinds = 0;
    if (!a)
        return 0;
    const bool was = a->closed;
    kinds |= follow(s);
    for (const WireLine *l; (l = attach_next(a, &text, &n)) != NULL;)
        kinds |= apply(s, l);
    if (a->closed && !was) {
        a->job.kind = WIRE_KINDS;
        show_jobs(s, NULL);
        kinds |= EV_JOB;
    }
    return kinds | (kinds & EV_JOB ? follow(s) : 0);
}

Status attach_follow(Attach *a, Session *s, JournalReplay *replay, JournalEnd *end, Error *err)
{
    char *path = path_join(s->dir, "journal");
    a->grows = path ? inotify_init1(IN_CLOEXEC | IN_NONBLOCK) : -1;
    if (a->grows >= 0) /* before the replay: nothing falls between; where it can't be had, the next line that is said makes up */
        (void)inotify_add_watch(a->grows, path, IN_MODIFY);
    Status st = path ? journal_open(&a->journal, path, JOURNAL_READ, replay, s, end, err) : error_nomem(err, "a path");
    free(path);
    RETURN_IF_ERROR(st);
    a->replay = replay;
    a->epoll = epoll_create1(EPOLL_CLOEXEC);
    const int fds[] = {a->fd, s->queue->pipe[0], a->grows};
    for (int i = 0; i < 3 && a->epoll >= 0; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fds[i]};
        if (fds[i] >= 0 && epoll_ctl(a->epoll, EPOLL_CTL_ADD, fds[i], &e) != 0)
            st = error_set(err, ST_IO, "cannot watch a socket: %s", strerror(errno));
    }
    if (a->epoll < 0)
        st = error_set(err, ST_IO, "cannot make an epoll: %s", strerror(errno));
    return st;
}
