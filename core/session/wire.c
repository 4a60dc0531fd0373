/* Lines between a session's process and those that are attached to it, and the socket that they go over. */
#include "session/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/file.h"
#include "session/fields.h"

static const char *const kind_names[WIRE_KINDS] = {"hello", "job", "log", "end", "idle", "bye", "refused", "cancel"};
static const char *const state_names[] = {[JOB_WAITING] = "waiting", [JOB_RUNNING] = "running", [JOB_DONE] = "done",
                                          [JOB_FAILED] = "failed", [JOB_STOPPED] = "stopped"};
static const char *const what_names[] = {[JOB_ANALYZE] = "analyze", [JOB_MEASURE] = "measure", [JOB_QUANTIZE] = "quantize",
                                         [JOB_EVALUATE] = "evaluate", [JOB_GENERATE] = "generate"};
enum { STATES = sizeof state_names / sizeof *state_names, WHATS = sizeof what_names / sizeof *what_names };

/* ---- lines ---- */

static void put_text(Str *out, const char *key, const char *text)
{
    str_printf(out, ",\"%s\":", key);
    str_json(out, text);
}

static void put_number(Str *out, const char *key, double v)
{
    str_printf(out, ",\"%s\":", key);
    str_double(out, v);
}

static void put_hello(Str *out, const WireLine *l)
{
    str_printf(out, ",\"format\":%d,\"pid\":%ld,\"ranks\":%d", l->format, l->pid, l->ranks);
    put_text(out, "version", l->version);
    put_text(out, "session", l->id);
    put_text(out, "name", l->name);
    put_text(out, "host", l->host);
    put_text(out, "model", l->model);
    put_text(out, "words", l->words);
}

static void put_job(Str *out, const WireLine *l)
{
    str_printf(out, ",\"job\":%d", l->job);
    put_text(out, "title", l->title);
    str_printf(out, ",\"kind\":\"%s\",\"state\":\"%s\",\"done\":%lld,\"total\":%lld", what_names[l->what], state_names[l->state],
               (long long)l->done, (long long)l->total);
    put_number(out, "elapsed", l->elapsed);
    if (l->kind == WIRE_END)
        return;
    put_text(out, "phase", l->phase);
    if (l->eta >= 0)
        put_number(out, "eta", l->eta);
    str_printf(out, ",\"paused\":%s,\"peak\":%llu,\"bound\":%llu,\"waits\":[", l->paused ? "true" : "false",
               (unsigned long long)l->peak, (unsigned long long)l->bound);
    for (int i = 0; i < l->nwaits; i++)
        str_printf(out, "%s%d", i ? "," : "", l->waits[i]);
    str_putc(out, ']');
}

void wire_put(Str *out, const WireLine *l)
{
    str_printf(out, "{\"t\":\"%s\"", kind_names[l->kind]);
    if (l->kind == WIRE_HELLO)
        put_hello(out, l);
    if (l->kind == WIRE_JOB || l->kind == WIRE_END)
        put_job(out, l);
    if (l->kind == WIRE_LOG)
        str_printf(out, ",\"of\":\"%s\",\"job\":%d", log_kind_name(l->log), l->job);
    if (l->kind == WIRE_CANCEL && l->job)
        str_printf(out, ",\"job\":%d", l->job);
    if (l->kind == WIRE_LOG || l->kind == WIRE_CANCEL)
        str_printf(out, ",\"level\":%d", l->level);
    if (l->kind == WIRE_END || l->kind == WIRE_IDLE)
        str_printf(out, ",\"status\":%d", (int)l->status);
    if (l->kind == WIRE_LOG || l->kind == WIRE_REFUSED || ((l->kind == WIRE_END || l->kind == WIRE_IDLE) && l->text[0]))
        put_text(out, "text", l->text);
    str_puts(out, "}\n");
}

/* Which of n names the member is; `missing` for none of them. */
static int name_in(const cJSON *o, const char *key, const char *const *names, int n, int missing)
{
    const char *text = text_of(o, key);
    for (int i = 0; text && i < n; i++)
        if (strcmp(names[i], text) == 0)
            return i;
    return missing;
}

static void take_text(const cJSON *o, const char *key, char *to, size_t size)
{
    const char *text = text_of(o, key);
    snprintf(to, size, "%s", text ? text : "");
}

static void take_log_kind(const cJSON *o, WireLine *l)
{
    const char *text = text_of(o, "of");
    for (int k = 0; text && k < LOG_KINDS; k++)
        if (strcmp(log_kind_name((LogKind)k), text) == 0)
            l->log = (LogKind)k;
}

static void take_members(const cJSON *o, WireLine *l)
{
    const cJSON *v;
    l->format = (int)whole_in(o, "format", 0, INT32_MAX, 0);
    l->pid = (long)whole_in(o, "pid", 0, INT32_MAX, 0);
    l->ranks = (int)whole_in(o, "ranks", 1, INT32_MAX, 1);
    take_text(o, "version", l->version, sizeof l->version);
    take_text(o, "session", l->id, sizeof l->id);
    take_text(o, "name", l->name, sizeof l->name);
    take_text(o, "host", l->host, sizeof l->host);
    take_text(o, "model", l->model, sizeof l->model);
    take_text(o, "words", l->words, sizeof l->words);
    take_text(o, "title", l->title, sizeof l->title);
    take_text(o, "phase", l->phase, sizeof l->phase);
    take_text(o, "text", l->text, sizeof l->text);
    l->job = (int)whole_in(o, "job", 0, INT32_MAX, 0);
    l->state = (JobState)name_in(o, "state", state_names, STATES, JOB_RUNNING);
    l->what = (JobKind)name_in(o, "kind", what_names, WHATS, JOB_ANALYZE);
    l->paused = cJSON_IsTrue(json_get(o, "paused"));
    l->done = whole_in(o, "done", 0, INT64_MAX, 0);
    l->total = whole_in(o, "total", 0, INT64_MAX, 0);
    l->elapsed = num_of(o, "elapsed", 0);
    l->eta = num_of(o, "eta", -1);
    l->peak = (uint64_t)whole_in(o, "peak", 0, INT64_MAX, 0);
    l->bound = (uint64_t)whole_in(o, "bound", 0, INT64_MAX, 0);
    l->status = (Status)whole_in(o, "status", 0, 255, ST_FAIL);
    l->level = (int)whole_in(o, "level", 0, 2, 1);
    take_log_kind(o, l);
    cJSON_ArrayForEach(v, json_get(o, "waits"))
        if (l->nwaits < WIRE_WAITS_MAX && cJSON_IsNumber(v))
            l->waits[l->nwaits++] = v->valueint;
}

Status wire_parse(WireLine *out, const char *line, size_t n, Error *err)
{
    cJSON *o;
    *out = (WireLine){.kind = WIRE_KINDS};
    RETURN_IF_ERROR(json_parse(line, n, "attach", &o, err));
    Status st = text_of(o, "t") ? ST_OK : error_set(err, ST_DATA, "a line of the attach socket has no kind");
    if (st == ST_OK) {
        out->kind = (WireKind)name_in(o, "t", kind_names, WIRE_KINDS, WIRE_KINDS);
        take_members(o, out);
    }
    cJSON_Delete(o);
    return st;
}

/* ---- the socket ---- */

static const char socket_name[] = "attach";

/* A name of the socket that fits into an address, however long the folder's is: by the folder that *at has open. */
static Status address_of(const char *dir, int *at, struct sockaddr_un *to, Error *err)
{
    *to = (struct sockaddr_un){.sun_family = AF_UNIX};
    *at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*at < 0)
        return file_error(err, "open", dir, errno);
    snprintf(to->sun_path, sizeof to->sun_path, "/proc/self/fd/%d/%s", *at, socket_name);
    return ST_OK;
}

static Status listen_at(int fd, int at, const struct sockaddr_un *to, const char *dir, Error *err)
{
    enum { BACKLOG = 8 };
    if (unlinkat(at, socket_name, 0) != 0 && errno != ENOENT)
        return file_error(err, "replace the socket in", dir, errno);
    if (fchmod(fd, 0600) != 0 || bind(fd, (const struct sockaddr *)to, sizeof *to) != 0 || listen(fd, BACKLOG) != 0)
        return file_error(err, "make a socket in", dir, errno);
    return ST_OK;
}

static Status connect_to(int fd, const struct sockaddr_un *to, const char *dir, Error *err)
{
    if (connect(fd, (const struct sockaddr *)to, sizeof *to) == 0)
        return ST_OK;
    switch (errno) {
    case ENOENT:
    case ECONNREFUSED: return error_set(err, ST_USAGE, "no process on this machine serves the session in '%s': is it another's?", dir);
    case EACCES:
    case EPERM: return error_set(err, ST_USAGE, "the session in '%s' is another user's: only that user can attach to it", dir);
    case EAGAIN: return error_set(err, ST_IO, "the process that has the session in '%s' open does not answer: it may be stopped", dir);
    default: return file_error(err, "attach to", dir, errno);
    }
}

Status wire_open(const char *dir, bool listens, int *fd, Error *err)
{
    struct sockaddr_un to;
    int at;
    RETURN_IF_ERROR(address_of(dir, &at, &to, err));
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    Status st = *fd < 0 ? error_set(err, ST_IO, "cannot make a socket: %s", strerror(errno))
                : listens ? listen_at(*fd, at, &to, dir, err)
                          : connect_to(*fd, &to, dir, err);
    close(at);
    if (st != ST_OK && *fd >= 0)
        close(*fd);
    if (st != ST_OK)
        *fd = -1;
    return st;
}

void wire_remove(const char *dir)
{
    char *path = path_join(dir, socket_name);
    if (path)
        unlink(path);
    free(path);
}

bool wire_exists(const char *dir)
{
    struct stat sb;
    char *path = path_join(dir, socket_name);
    const bool there = path && lstat(path, &sb) == 0 && S_ISSOCK(sb.st_mode);
    free(path);
    return there;
}

/* ---- reading ---- */

bool wire_read(WireIn *in, int fd)
{
    enum { PIECE = 4096 };
    if (in->taken) {
        memmove(in->b, in->b + in->taken, in->len - in->taken);
        in->len -= in->taken;
        in->taken = 0;
    }
    while (in->len < WIRE_LINE_MAX) {
        if (!mem_grow(&in->b, &in->cap, in->len + PIECE, 1))
            return false;
        const ssize_t n = recv(fd, in->b + in->len, PIECE, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return true;
        if (n <= 0)
            return false;
        in->len += (size_t)n;
    }
    return memchr(in->b, '\n', in->len) != NULL;
}

const char *wire_next(WireIn *in, size_t *n)
{
    const char *from = in->b + in->taken, *end = in->len > in->taken ? memchr(from, '\n', in->len - in->taken) : NULL;
    if (!end)
        return NULL;
    *n = (size_t)(end - from);
    in->taken += *n + 1;
    return from;
}
