#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "io/file.h"
#include "io/json.h"
#include "save/store.h"

/* The list of a run's files, and their way into the target. */

enum { READY_MAX = 64 << 20 };
#define MARK "ranks" /* store_mark */

bool store_owns(const char *name)
{
    static const char *const begins[] = {"part-", "out-", "doc-", "kept-", MARK, STORE_READY};
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        if (strncmp(name, begins[i], strlen(begins[i])) == 0)
            return true;
    return false;
}

/* ---- the list ---- */

static StoreFile *find(const Store *s, const char *to)
{
    for (size_t i = 0; i < s->nout; i++)
        if (strcmp(s->out[i].to, to) == 0)
            return &s->out[i];
    return NULL;
}

const StoreFile *store_find(const Store *s, const char *to)
{
    return find(s, to);
}

Status store_add(Store *s, const char *from, const char *to, uint64_t bytes, Error *err)
{
    if (!mem_grow(&s->out, &s->out_cap, s->nout + 1, sizeof *s->out))
        return error_nomem(err, "the list of files");
    StoreFile *f = &s->out[s->nout];
    *f = (StoreFile){.to = strdup(to), .bytes = bytes};
    if (!f->to)
        return error_nomem(err, "the list of files");
    snprintf(f->from, sizeof f->from, "%s", from);
    s->nout++;
    return ST_OK;
}

Status store_add_part(Store *s, int file, const char *to, uint64_t bytes, unsigned mode, Error *err)
{
    char name[32];
    store_name("out", file, name);
    if (faccessat(s->temp_at, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
        store_name("part", file, name);
    if (mode)
        (void)fchmodat(s->temp_at, name, mode, 0);
    return store_add(s, name, to, bytes, err);
}

void store_clear_list(Store *s)
{
    for (size_t i = 0; i < s->nout; i++)
        free(s->out[i].to);
    s->nout = 0;
}

void store_to_front(Store *s)
{
    StoreFile last = s->out[s->nout - 1];
    memmove(s->out + 1, s->out, (s->nout - 1) * sizeof *s->out);
    s->out[0] = last;
}

/* ---- documents ---- */

static Status write_all(const Store *s, int fd, const char *p, size_t n, Error *err)
{
    while (n) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return file_error(err, "write into", s->temp, w < 0 ? errno : ENOSPC);
        p += w;
        n -= (size_t)w;
    }
    return ST_OK;
}

/* How many of n bytes could be read. */
static size_t read_all(int fd, char *p, size_t n)
{
    size_t at = 0;
    while (at < n) {
        ssize_t r = read(fd, p + at, n - at);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            break;
        at += (size_t)r;
    }
    return at;
}

/* A new file of the temporary folder, on the disk when this returns. */
static Status write_new(const Store *s, const char *name, const void *data, size_t n, const StoreMode *how, Error *err)
{
    unlinkat(s->temp_at, name, 0);
    int fd = openat(s->temp_at, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, how ? how->mode : 0666);
    if (fd < 0)
        return file_error(err, "write into", s->temp, errno);
    Status st = write_all(s, fd, data, n, err);
    if (st == ST_OK && how && how->times)
        (void)futimens(fd, how->times);
    if (st == ST_OK && fsync(fd) != 0)
        st = file_error(err, "sync a file in", s->temp, errno);
    if (close(fd) != 0 && st == ST_OK)
        st = file_error(err, "close a file in", s->temp, errno);
    return st;
}

Status store_keep(const Store *s, int layer, const void *data, size_t n, Error *err)
{
    char name[32];
    store_name("kept", layer, name);
    return write_new(s, name, data, n, NULL, err);
}

Status store_kept(const Store *s, int layer, void **data, size_t *n, Error *err)
{
    char name[32];
    struct stat st;
    *data = NULL;
    store_name("kept", layer, name);
    int fd = openat(s->temp_at, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return ST_OK; /* it is found anew */
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
        *n = (size_t)st.st_size;
        *data = mem_array(*n, 1);
        if (!*data) {
            close(fd);
            return error_nomem(err, "what a stopped run found");
        }
        if (read_all(fd, *data, *n) != *n) {
            free(*data);
            *data = NULL;
        }
    }
    close(fd);
    return ST_OK;
}

Status store_put(Store *s, const char *to, const void *data, size_t n, const StoreMode *how, Error *err)
{
    char from[32];
    StoreFile *f = find(s, to);
    if (f)
        memcpy(from, f->from, sizeof from);
    else
        store_name("doc", (int)s->nout, from);
    RETURN_IF_ERROR(write_new(s, from, data, n, how, err));
    if (!f)
        return store_add(s, from, to, n, err);
    f->bytes = n;
    return ST_OK;
}

/* ---- several processes ---- */

Status store_mark(const Store *s, const void *mark, size_t n, Error *err)
{
    return write_new(s, MARK, mark, n, NULL, err);
}

/* Whether the folder has this mark. A file system of several machines may tell only after a while. */
static bool is_marked(const Store *s, const void *mark, size_t n)
{
    unsigned char found[64];
    int fd = openat(s->temp_at, MARK, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return false;
    const bool same = n <= sizeof found && read_all(fd, (char *)found, n) == n && memcmp(found, mark, n) == 0;
    close(fd);
    return same;
}

static bool find_marked(Store *s, const char *name, const void *mark, size_t n)
{
    s->at = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    s->temp_at = s->at < 0 ? -1 : openat(s->at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (s->temp_at >= 0 && is_marked(s, mark, n))
        return true;
    if (s->temp_at >= 0)
        close(s->temp_at);
    if (s->at >= 0)
        close(s->at);
    s->at = s->temp_at = -1;
    return false;
}

Status store_join(Store *s, const char *dir, const char *type, const SaveLayout *l, const void *mark, size_t n, Error *err)
{
    enum { TRIES = 30, PAUSE_NS = 100000000 };
    char name[128];
    RETURN_IF_ERROR(store_begin(s, dir, type, name, err));
    for (int k = 0; !find_marked(s, name, mark, n); k++) {
        if (k == TRIES)
            return error_set(err, ST_IO, "does not see '%s' as rank 0 made it: it has to be on a file system that all ranks share",
                             dir);
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
    return store_create(s, l, true, err);
}

/* ---- ready ---- */

Status store_make_ready(Store *s, Error *err)
{
    Str text = {0};
    str_putc(&text, '{');
    str_puts(&text, "\"files\":[");
    for (size_t i = 0; i < s->nout; i++) {
        str_printf(&text, "%s[\"%s\",", i ? "," : "", s->out[i].from);
        str_json(&text, s->out[i].to);
        str_printf(&text, ",%llu]", (unsigned long long)s->out[i].bytes);
    }
    str_puts(&text, "]}");
    Status st = text.oom ? error_nomem(err, "the list of files")
                         : write_new(s, STORE_READY ".new", text.s, text.len, NULL, err);
    str_free(&text);
    if (st == ST_OK && renameat(s->temp_at, STORE_READY ".new", s->temp_at, STORE_READY) != 0)
        st = file_error(err, "rename a file in", s->temp, errno);
    if (st == ST_OK)
        (void)fsync(s->temp_at); /* file systems that can't sync a folder are left alone */
    return st;
}

static Status take_list(Store *s, const cJSON *o, Error *err)
{
    const cJSON *e;
    cJSON_ArrayForEach(e, json_get(o, "files")) {
        const cJSON *from = cJSON_GetArrayItem(e, 0), *to = cJSON_GetArrayItem(e, 1), *n = cJSON_GetArrayItem(e, 2);
        if (!cJSON_IsString(from) || !cJSON_IsString(to) || !cJSON_IsNumber(n) || !store_owns(from->valuestring)
            || strchr(from->valuestring, '/'))
            return error_set(err, ST_DATA, "the stopped run in '%s' can't be continued: its list of files is damaged; "
                             "start again without --resume", s->dir);
        RETURN_IF_ERROR(store_add(s, from->valuestring, to->valuestring, (uint64_t)n->valuedouble, err));
    }
    return ST_OK;
}

Status store_take_ready(Store *s, bool *ready, Error *err)
{
    *ready = faccessat(s->temp_at, STORE_READY, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    if (!*ready)
        return ST_OK;
    char *path = path_join(s->temp, STORE_READY);
    cJSON *o = NULL;
    Status st = path ? json_parse_file(path, READY_MAX, &o, err) : error_nomem(err, "a path");
    if (st == ST_OK)
        st = take_list(s, o, err);
    cJSON_Delete(o);
    free(path);
    return st;
}

/* ---- into the target ---- */

/* The folder of `to` within the target, and its last part; the caller closes *at when it isn't s->at. */
static Status place_of(const Store *s, const char *to, int *at, const char **name, Error *err)
{
    const char *slash = strchr(to, '/');
    *at = s->at;
    *name = to;
    if (!slash)
        return ST_OK;
    char folder[64];
    snprintf(folder, sizeof folder, "%.*s", (int)(slash - to), to);
    *name = slash + 1;
    if (mkdirat(s->at, folder, 0777) != 0 && errno != EEXIST)
        return file_error(err, "write into", s->dir, errno);
    *at = openat(s->at, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*at < 0)
        return error_set(err, ST_IO, "'%s' in '%s' is a link or no folder: move it away", folder, s->dir);
    return ST_OK;
}

static Status move_one(const Store *s, const StoreFile *f, Error *err)
{
    int at;
    const char *name;
    RETURN_IF_ERROR(place_of(s, f->to, &at, &name, err));
    Status st = ST_OK;
    struct stat there;
    if (renameat(s->temp_at, f->from, at, name) != 0) {
        int code = errno;
        /* an earlier run got this far; what is there now may be another saver's, or a manifest without what went */
        bool moved = code == ENOENT && fstatat(at, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(there.st_mode);
        if (!moved) {
            char *path = path_join(s->dir, f->to);
            st = path ? file_error(err, "replace", path, code) : error_nomem(err, "a path");
            free(path);
        }
    }
    if (at != s->at) {
        (void)fsync(at);
        close(at);
    }
    return st;
}

Status store_nothing_replaced(const char *dir, Status st, Error *err)
{
    static const char end[] = ": --resume goes on";
    if (!err || (st != ST_IO && st != ST_NOMEM) || strstr(err->text, end)) /* another rank may have said so */
        return st; /* bad data is bad again */
    Error why = *err;
    return error_set(err, st, "%s; nothing in '%s' was replaced%s", why.text, dir, end);
}

Status store_install(Store *s, Error *err)
{
    for (size_t i = 0; i < s->nout; i++) {
        if (i + 1 == s->nout)
            (void)fsync(s->at); /* what the last one tells of is there before it */
        Status st = move_one(s, &s->out[i], err);
        if (st == ST_OK)
            continue;
        if (i == 0)
            return store_nothing_replaced(s->dir, st, err);
        if (err) {
            Error why = *err;
            error_set(err, st, "%s; '%s' holds %zu of its %zu new files: --resume puts the rest there", why.text, s->dir, i,
                      s->nout);
        }
        return st;
    }
    (void)fsync(s->at);
    return ST_OK;
}
