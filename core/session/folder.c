/* The folders of sessions below the state folder: begun, opened, listed. */
#include "session/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/file.h"
#include "session/entries.h"
#include "session/parts.h"
#include "session/queue.h"

static void make_id(char id[40], int twin)
{
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    size_t n = strftime(id, 40, "%Y%m%d-%H%M%S", &tm);
    n += (size_t)snprintf(id + n, 40 - n, "-%ld", (long)getpid());
    if (twin > 1)
        snprintf(id + n, 40 - n, "-%d", twin);
}

static char *folder_path(const char *state_dir, const char *id)
{
    char *sessions = path_join(state_dir, "sessions");
    char *dir = sessions ? path_join(sessions, id) : NULL;
    free(sessions);
    return dir;
}

static void wake(void *ctx)
{
    queue_wake(ctx);
}

static Status open_keeper(Session *s, JournalReplay *replay, char holder[32], JournalEnd *end, Error *err)
{
    return keeper_open(&s->keeper, s->dir, replay, s, wake, s->queue, holder, end, err);
}

static Status name_folder(Session *s, Error *err)
{
    for (int twin = 1;; twin++) {
        make_id(s->id, twin);
        s->dir = folder_path(s->state_dir, s->id);
        if (!s->dir)
            return error_nomem(err, "the session folder");
        if (!dir_exists(s->dir))
            return ST_OK;
        free(s->dir);
    }
}

static void forget_folder(Session *s)
{
    free(s->dir);
    s->dir = NULL;
    s->id[0] = s->saved_view[0] = 0;
}

Status folder_begin(Session *s, Error *err)
{
    if (!s->state_dir || s->opt.read_only)
        return ST_OK;
    RETURN_IF_ERROR(name_folder(s, err));
    Error why = {0};
    char holder[32];
    JournalEnd end;
    Status st = dir_make(s->dir, &why);
    if (st == ST_OK)
        st = open_keeper(s, NULL, holder, &end, &why);
    if (st == ST_OK && !s->keeper)
        st = error_set(&why, ST_IO, "'%s' is in use by process %s", s->dir, holder);
    if (st != ST_OK) { /* a full or read-only disk doesn't stop the work */
        session_log(s, 1, "this session is not saved: %s", why.text);
        forget_folder(s);
        return ST_OK;
    }
    entry_open(s);
    return ST_OK;
}

/* What of the journal could not be used. */
static void tell_end(Session *s, const JournalEnd *end)
{
    unsigned long long torn = end->torn, first = end->records + 1;
    if (end->found > first + 1)
        session_log(s, 1, "records %llu to %llu of the journal are missing", first, (unsigned long long)end->found - 1);
    else if (end->found)
        session_log(s, 1, "record %llu of the journal is missing", first);
    if (torn && s->keeper)
        session_log(s, 1, "the journal's last %llu bytes %s: they are kept in '%s/journal.damaged'", torn,
                    end->found ? "stand behind what is missing and were not read" : "were damaged", s->dir);
    else if (torn)
        session_log(s, 1, "the journal's last %llu bytes %s", torn,
                    end->found ? "stand behind what is missing and were not read" : "are no whole record and were not read");
}

Status folder_open(Session *s, const char *id, JournalReplay *replay, Error *err)
{
    char holder[32] = "";
    JournalEnd end = {0};
    snprintf(s->id, sizeof s->id, "%s", id);
    s->dir = folder_path(s->state_dir, id);
    if (!s->dir)
        return error_nomem(err, "a path");
    if (!dir_exists(s->dir))
        return error_set(err, ST_DATA, "no session '%s': resume --list shows them", id);
    s->restoring = true;
    Status st = s->opt.read_only ? ST_OK : open_keeper(s, replay, holder, &end, err);
    if (st == ST_OK && !s->keeper) {
        s->read_only = true;
        st = keeper_read(s->dir, replay, s, &end, err);
    }
    s->restoring = false;
    if (st != ST_OK)
        return error_prefix(err, st, "session %s: ", id);
    if (holder[0])
        session_log(s, 1, "session %s is open in process %s: this one is read-only", id, holder);
    tell_end(s, &end);
    return ST_OK;
}

Status folder_end(Session *s, Error *err)
{
    if (s->keeper)
        entry_view(s);
    Status st = keeper_close(s->keeper, err);
    s->keeper = NULL;
    forget_folder(s);
    return st;
}

const char *session_id(const Session *s)
{
    return s->id;
}

bool session_is_read_only(const Session *s)
{
    return s->read_only;
}

bool session_is_saved(const Session *s)
{
    return s->keeper && keeper_works(s->keeper);
}

/* ---- listing ---- */

static int newest_first(const void *a, const void *b)
{
    const SessionInfo *x = a, *y = b;
    if (x->when != y->when)
        return x->when > y->when ? -1 : 1;
    return strcmp(y->id, x->id);
}

static bool is_locked(const char *dir)
{
    char *path = path_join(dir, "lock");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    free(path);
    if (fd < 0)
        return false;
    bool locked = flock(fd, LOCK_EX | LOCK_NB) != 0;
    close(fd);
    return locked;
}

/* The model's path stands in the journal's first record: its first bytes are enough. */
static bool read_info(const char *dir, const char *id, SessionInfo *info)
{
    char *path = path_join(dir, "journal"), text[4096];
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    free(path);
    struct stat sb;
    if (fd < 0 || fstat(fd, &sb) != 0) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    ssize_t len = read(fd, text, sizeof text - 1);
    close(fd);
    *info = (SessionInfo){.when = (int64_t)sb.st_mtime, .locked = is_locked(dir)};
    size_t n = strlen(id);
    memcpy(info->id, id, n < sizeof info->id ? n : sizeof info->id - 1);
    static const char key[] = "\"model\":\"";
    char *p = len > 0 ? memmem(text, (size_t)len, key, sizeof key - 1) : NULL;
    if (!p)
        return false;
    text[len] = 0;
    p += sizeof key - 1;
    n = strcspn(p, "\"");
    memcpy(info->model, p, n < sizeof info->model ? n : sizeof info->model - 1);
    return true;
}

Status session_list(const char *state_dir, SessionInfo **out, int *n, Error *err)
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
        char *dir = path_join(root, e->d_name);
        if (!dir || !mem_grow(out, &cap, (size_t)*n + 1, sizeof **out))
            st = error_nomem(err, "the session list");
        else if (read_info(dir, e->d_name, &(*out)[*n]))
            (*n)++;
        free(dir);
    }
    if (d)
        closedir(d);
    free(root);
    if (*n)
        qsort(*out, (size_t)*n, sizeof **out, newest_first);
    return st;
}

Status folder_newest(const char *state_dir, char id[40], Error *err)
{
    SessionInfo *list;
    int n;
    RETURN_IF_ERROR(session_list(state_dir, &list, &n, err));
    Status st = ST_OK;
    if (n == 0)
        st = error_set(err, ST_DATA, "no session to resume in '%s/sessions'", state_dir);
    else
        memcpy(id, list[0].id, 40);
    free(list);
    return st;
}
