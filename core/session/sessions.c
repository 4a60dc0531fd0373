/* The sessions that lie below the state folder: listed, deleted. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/file.h"
#include "session/folder.h"
#include "session/parts.h"
#include "session/streamfile.h"
#include "session/wire.h"

static int newest_first(const void *a, const void *b)
{
    const SessionInfo *x = a, *y = b;
    if (x->when != y->when)
        return x->when > y->when ? -1 : 1;
    return strcmp(y->id, x->id);
}

/* The lock of the folder, held; -1: another process has it, or there is none. */
static int hold_lock(const char *dir)
{
    char *path = path_join(dir, "lock");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1;
    free(path);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool is_locked(const char *dir)
{
    char *path = path_join(dir, "lock");
    bool there = path && file_exists(path);
    free(path);
    int fd = hold_lock(dir);
    if (fd >= 0)
        close(fd);
    return there && fd < 0;
}

/* ---- what a journal tells at a glance ---- */

static int64_t number_in(const char *json, const char *key)
{
    const char *at = strstr(json, key);
    return at ? strtoll(at + strlen(key), NULL, 10) : 0;
}

static bool begins(const char *json, const char *kind)
{
    return strncmp(json, kind, strlen(kind)) == 0;
}

/* The path between quotes, which may be cut. */
static void take_path(const char *json, char *out, size_t size)
{
    static const char key[] = "\"model\":\"";
    const char *p = strstr(json, key);
    size_t n = 0;
    for (p = p ? p + sizeof key - 1 : ""; *p && *p != '"' && n + 1 < size; p++) {
        if (*p == '\\' && p[1])
            p++;
        out[n++] = *p;
    }
    out[n] = 0;
}

static void glance(void *ctx, uint64_t seq, const char *json, uint32_t len)
{
    SessionInfo *i = ctx;
    (void)seq;
    (void)len;
    if (begins(json, "{\"t\":\"open\"")) {
        take_path(json, i->model, sizeof i->model);
        i->linears = number_in(json, "\"linears\":");
        i->layers = (int)number_in(json, "\"layers\":");
    } else if (begins(json, "{\"t\":\"run\"")) {
        i->finished = false;
    } else if (begins(json, "{\"t\":\"rows\"")) {
        int run = (int)number_in(json, "\"run\":");
        i->rows = (run == i->run ? i->rows : 0) + number_in(json, "\"n\":");
        i->run = run;
        i->layer = (int)number_in(json, "\"layer\":") + 1;
    } else if (begins(json, "{\"t\":\"run_end\"")) {
        i->finished = i->finished || number_in(json, "\"status\":") == 0;
    } else if (begins(json, "{\"t\":\"edit\"") || begins(json, "{\"t\":\"rules\"")) {
        i->edits++;
        i->unwritten++;
    } else if (begins(json, "{\"t\":\"cmd\",\"text\":\"export ") || begins(json, "{\"t\":\"cmd\",\"text\":\"quantize ")) {
        i->unwritten = 0;
    } else if (begins(json, "{\"t\":\"name\",\"text\":\"")) {
        const char *at = json + strlen("{\"t\":\"name\",\"text\":\"");
        snprintf(i->name, sizeof i->name, "%.*s", (int)strcspn(at, "\""), at);
    } else if (begins(json, "{\"t\":\"effect\"")) {
        i->measured++;
    }
}

static uint64_t bytes_below(const char *dir, int depth)
{
    DIR *d = opendir(dir);
    uint64_t sum = 0;
    struct stat sb;
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        char *path = e->d_name[0] == '.' ? NULL : path_join(dir, e->d_name);
        if (path && lstat(path, &sb) == 0)
            sum += S_ISREG(sb.st_mode)              ? (uint64_t)sb.st_size
                   : S_ISDIR(sb.st_mode) && depth > 0 ? bytes_below(path, depth - 1)
                                                      : 0;
        free(path);
    }
    if (d)
        closedir(d);
    return sum;
}

/* false: it holds no journal, or has a name that no session has. */
static bool find_info(const char *root, const char *id, SessionInfo *info)
{
    size_t length = strlen(id);
    if (length >= sizeof info->id)
        return false;
    char *dir = path_join(root, id), *path = dir ? path_join(dir, "journal") : NULL;
    struct stat sb;
    bool good = path && stat(path, &sb) == 0 && S_ISREG(sb.st_mode);
    *info = (SessionInfo){.when = good ? (int64_t)sb.st_mtime : 0};
    memcpy(info->id, id, length + 1);
    free(path);
    free(dir);
    return good;
}

/* false: it holds no session. */
static bool read_info(const char *root, SessionInfo *info)
{
    char *dir = path_join(root, info->id), *path = dir ? path_join(dir, "journal") : NULL;
    bool good = path && journal_glance(path, glance, info, NULL) == ST_OK && info->model[0];
    if (good) {
        info->locked = is_locked(dir);
        info->served = info->locked && wire_exists(dir);
        info->bytes = bytes_below(dir, 1);
    }
    free(path);
    free(dir);
    return good;
}

/* The newest ones, `limit` at most. */
static Status list_newest(const char *state_dir, int limit, SessionInfo **out, int *n, Error *err)
{
    *out = NULL;
    *n = 0;
    char *root = path_join(state_dir, "sessions");
    if (!root)
        return error_nomem(err, "the session list");
    DIR *d = opendir(root);
    size_t cap = 0;
    Status st = ST_OK;
    for (struct dirent *e; d && st == ST_OK && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.' || strlen(e->d_name) >= sizeof(*out)->id)
            continue;
        if (!mem_grow(out, &cap, (size_t)*n + 1, sizeof **out))
            st = error_nomem(err, "the session list");
        else
            *n += find_info(root, e->d_name, &(*out)[*n]);
    }
    if (d)
        closedir(d);
    if (*n)
        qsort(*out, (size_t)*n, sizeof **out, newest_first);
    int found = *n;
    *n = 0;
    for (int i = 0; i < found && *n < limit; i++)
        if (read_info(root, &(*out)[i]))
            (*out)[(*n)++] = (*out)[i];
    free(root);
    return st;
}

Status session_list(const char *state_dir, SessionInfo **out, int *n, Error *err)
{
    return list_newest(state_dir, INT_MAX, out, n, err);
}

Status folder_newest(const char *state_dir, char id[40], Error *err)
{
    SessionInfo *list;
    int n;
    RETURN_IF_ERROR(list_newest(state_dir, 1, &list, &n, err));
    Status st = ST_OK;
    if (n == 0)
        st = error_set(err, ST_DATA, "no session to resume in '%s/sessions'", state_dir);
    else
        memcpy(id, list[0].id, 40);
    free(list);
    return st;
}

void folder_by_name(const char *state_dir, char id[40])
{
    char *dir = folder_path(state_dir, id);
    bool there = !dir || dir_exists(dir);
    SessionInfo *list = NULL;
    int n = 0;
    free(dir);
    if (there || list_newest(state_dir, INT_MAX, &list, &n, NULL) != ST_OK)
        return;
    for (int i = 0; i < n; i++)
        if (strcmp(list[i].name, id) == 0) {
            memcpy(id, list[i].id, sizeof list[i].id);
            break;
        }
    free(list);
}

static void put_work(const SessionInfo *i, Str *out)
{
    if (i->linears && i->rows)
        str_printf(out, "%lld of %lld rows", (long long)i->rows, (long long)i->linears);
    else if (i->layer)
        str_printf(out, "%d layers", i->layer);
    else
        str_puts(out, "no rows");
    if (i->edits)
        str_printf(out, ", %d edit%s", i->edits, i->edits == 1 ? "" : "s");
    if (i->measured)
        str_printf(out, ", %d measurement%s", i->measured, i->measured == 1 ? "" : "s");
}

void session_info_text(const SessionInfo *i, Str *out)
{
    put_work(i, out);
    if (i->layer && i->layers && !i->finished)
        str_printf(out, ", stopped at layer %d of %d", i->layer, i->layers);
}

void folder_tell_older(Session *s)
{
    enum { LOOKED_AT = 30 }; /* a start is not kept waiting by hundreds */
    SessionInfo *list;
    int n;
    char *real = s->state_dir ? realpath(s->model->path, NULL) : NULL;
    if (!real || list_newest(s->state_dir, LOOKED_AT, &list, &n, NULL) != ST_OK) {
        free(real);
        return;
    }
    for (int i = 0; i < n; i++) {
        const SessionInfo *l = &list[i];
        if (strcmp(l->model, real) != 0 || strcmp(l->id, s->id) == 0 || !(l->rows || l->layer || l->edits || l->measured))
            continue;
        char when[32];
        time_t t = (time_t)l->when;
        struct tm tm;
        Str what = {0};
        bool today = time(NULL) - t < 20 * 3600;
        strftime(when, sizeof when, today ? "%H:%M" : "%Y-%m-%d %H:%M", localtime_r(&t, &tm));
        put_work(l, &what);
        session_log(s, 0, "a session of %s has %s: slimscope resume%s%s", when, str_text(&what), i ? " " : "", i ? l->id : "");
        str_free(&what);
        break;
    }
    free(list);
    free(real);
}

/* ---- deleting ---- */

static void remove_streams(const char *dir)
{
    streamfile_keep_only(dir, -1);
    char *path = path_join(dir, "streams");
    if (path)
        rmdir(path);
    free(path);
}

Status session_delete(const char *state_dir, const char *id, Error *err)
{
    static const char *const files[] = {"journal.damaged", "journal", "log.1", "log", "detached", "attach", "lock"};
    if (!*id || id[0] == '.' || strchr(id, '/'))
        return error_set(err, ST_USAGE, "'%s' is no session name: resume --list shows them", id);
    char *dir = folder_path(state_dir, id);
    if (!dir)
        return error_nomem(err, "a path");
    Status st = ST_OK;
    if (!dir_exists(dir))
        st = error_set(err, ST_DATA, "no session '%s': resume --list shows them", id);
    else if (is_locked(dir))
        st = error_set(err, ST_USAGE, "session %s is open in another process: quit it first", id);
    if (st == ST_OK)
        remove_streams(dir);
    for (size_t i = 0; st == ST_OK && i < sizeof files / sizeof *files; i++) {
        char *path = path_join(dir, files[i]);
        if (path && unlink(path) != 0 && errno != ENOENT)
            st = file_error(err, "delete", path, errno);
        free(path);
    }
    if (st == ST_OK && rmdir(dir) != 0)
        st = file_error(err, "delete", dir, errno);
    free(dir);
    return st;
}

/* ---- the cap ---- */

void folder_make_room(Session *s)
{
    SessionInfo *list = NULL;
    int n = 0;
    uint64_t sum = 0;
    if (!s->state_dir || s->read_only || list_newest(s->state_dir, INT_MAX, &list, &n, NULL) != ST_OK)
        return;
    for (int i = 0; i < n; i++)
        sum += list[i].bytes;
    for (int i = n; i-- > 0 && sum > s->opt.session_cap;) {
        const SessionInfo *l = &list[i];
        Error why = {0};
        if (l->locked || strcmp(l->id, s->id) == 0)
            continue;
        if (l->unwritten)
            session_log(s, 1, "sessions take more than session-cap; %s stays for its %d edit%s that %s not exported: session rm %s",
                        l->id, l->unwritten, l->unwritten == 1 ? "" : "s", l->unwritten == 1 ? "was" : "were", l->id);
        if (!l->unwritten && session_delete(s->state_dir, l->id, &why) == ST_OK) {
            sum -= l->bytes;
            session_log(s, 0, "session %s is deleted: sessions took more than session-cap", l->id);
        } else if (!l->unwritten) {
            session_log(s, 1, "%s", why.text);
        }
    }
    free(list);
}
