#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/dirlist.h"

Status file_error(Error *err, const char *verb, const char *path, int code)
{
    char buf[128];
    return error_set(err, code == ENOMEM ? ST_NOMEM : ST_IO, "cannot %s '%s': %s", verb, path,
                     strerror_r(code, buf, sizeof buf));
}

Status file_open(const char *path, int *fd, uint64_t *size, Error *err)
{
    /* O_NONBLOCK: a FIFO must not stop us before it can be refused */
    int f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f < 0)
        return file_error(err, "open", path, errno);
    struct stat st;
    if (fstat(f, &st) != 0) {
        int code = errno;
        close(f);
        return file_error(err, "stat", path, code);
    }
    if (!S_ISREG(st.st_mode)) {
        close(f);
        return error_set(err, ST_IO, "cannot read '%s': it is %s, not a regular file", path,
                         S_ISDIR(st.st_mode) ? "a directory" : "a device, pipe or socket");
    }
    *fd = f;
    *size = (uint64_t)st.st_size;
    return ST_OK;
}

/* read(2) until the end or `cap` bytes. */
static Status read_up_to(int fd, const char *path, char *buf, size_t cap, size_t *got, Error *err)
{
    size_t n = 0;
    while (n < cap) {
        ssize_t r = read(fd, buf + n, cap - n);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return file_error(err, "read", path, errno);
        if (r == 0)
            break;
        n += (size_t)r;
    }
    *got = n;
    return ST_OK;
}

Status file_read(const char *path, size_t max, char **out, size_t *len, Error *err)
{
    int fd;
    uint64_t size;
    *out = NULL;
    *len = 0;
    RETURN_IF_ERROR(file_open(path, &fd, &size, err));
    if (size > max || size >= SIZE_MAX) {
        close(fd);
        return error_set(err, ST_DATA, "'%s' is too large: %llu bytes, at most %zu are read", path,
                         (unsigned long long)size, max);
    }
    /* a file that grows meanwhile counts as it was at stat */
    char *buf = malloc((size_t)size + 1);
    if (!buf) {
        close(fd);
        return error_nomem(err, path);
    }
    size_t got = 0;
    Status st = read_up_to(fd, path, buf, (size_t)size, &got, err);
    close(fd);
    if (st == ST_OK && got < size)
        st = error_set(err, ST_IO, "'%s' has become shorter while it was read: %llu bytes before, %zu now: try again when "
                       "nothing writes to it", path, (unsigned long long)size, got);
    if (st != ST_OK) {
        free(buf);
        return st;
    }
    buf[got] = 0;
    *out = buf;
    *len = got;
    return ST_OK;
}

Status file_pread(int fd, const char *path, void *dst, size_t n, uint64_t offset, Error *err)
{
    size_t done = 0;
    if (offset > INT64_MAX - n)
        return error_set(err, ST_DATA, "'%s': offset %llu is out of range", path, (unsigned long long)offset);
    while (done < n) {
        ssize_t r = pread(fd, (char *)dst + done, n - done, (off_t)(offset + done));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return file_error(err, "read", path, errno);
        if (r == 0)
            return error_set(err, ST_DATA, "'%s' is truncated: wanted %zu bytes at offset %llu, found %zu", path, n,
                             (unsigned long long)offset, done);
        done += (size_t)r;
    }
    return ST_OK;
}

long file_read_pid(int fd)
{
    char text[32] = "";
    ssize_t n;
    do
        n = pread(fd, text, sizeof text - 1, 0);
    while (n < 0 && errno == EINTR);
    return n > 0 ? strtol(text, NULL, 10) : 0;
}

Status file_pwrite(int fd, const char *verb, const char *path, const void *p, size_t n, uint64_t offset, Error *err)
{
    for (const char *at = p; n;) {
        ssize_t w = pwrite(fd, at, n, (off_t)offset);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return file_error(err, verb, path, w < 0 ? errno : ENOSPC);
        at += w;
        offset += (uint64_t)w;
        n -= (size_t)w;
    }
    return ST_OK;
}

Status dir_list_at(int at, const char *dir, DIR **out, Error *err)
{
    int copy = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *out = copy < 0 ? NULL : fdopendir(copy);
    if (*out)
        return ST_OK;
    Status st = file_error(err, "read folder", dir, errno);
    if (copy >= 0)
        close(copy);
    return st;
}

Status file_write_pid(int fd, const char *verb, const char *path, Error *err)
{
    char pid[32];
    int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0)
        return file_error(err, verb, path, errno);
    return file_pwrite(fd, verb, path, pid, (size_t)n, 0, err);
}

bool file_holds(const char *path, const void *p, size_t n)
{
    char *text;
    size_t len;
    if (file_read(path, n, &text, &len, NULL) != ST_OK)
        return false;
    bool same = len == n && memcmp(text, p, n) == 0;
    free(text);
    return same;
}

struct AtomicFile {
    int fd;
    bool failed;
    char *path; /* the target, symbolic links resolved */
    char *tmp;
};

/* Folder part of path as a new string: "." when there is none. */
static char *dir_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

/* Creates a new file with a name of its own beside f->path. */
static Status open_temp(AtomicFile *f, mode_t mode, Error *err)
{
    char *dir = dir_of(f->path);
    if (!dir)
        return error_nomem(err, "a file name");
    Status st = ST_OK;
    for (int i = 0; i < 100 && f->fd < 0 && st == ST_OK; i++) {
        char name[64];
        snprintf(name, sizeof name, ".slimscope-tmp-%ld-%llx", (long)getpid(), (unsigned long long)clock_ns() + i);
        free(f->tmp);
        f->tmp = path_join(dir, name);
        if (!f->tmp) {
            st = error_nomem(err, "a file name");
            break;
        }
        f->fd = open(f->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (f->fd < 0 && errno != EEXIST)
            st = file_error(err, "write beside", f->path, errno);
    }
    if (st == ST_OK && f->fd < 0)
        st = file_error(err, "write beside", f->path, EEXIST);
    free(dir);
    return st;
}

Status atomic_open(AtomicFile **out, const char *path, Error *err)
{
    *out = NULL;
    AtomicFile *f = calloc(1, sizeof *f);
    if (!f)
        return error_nomem(err, "a file");
    f->fd = -1;
    struct stat old;
    bool exists = stat(path, &old) == 0;
    /* a link stays a link: what it points to is replaced */
    f->path = exists ? realpath(path, NULL) : strdup(path);
    Status st = ST_OK;
    if (!f->path)
        st = error_nomem(err, "a file name");
    else if (exists && !S_ISREG(old.st_mode))
        st = error_set(err, ST_IO, "cannot write '%s': it is %s, not a regular file", path,
                       S_ISDIR(old.st_mode) ? "a directory" : "a device, pipe or socket");
    else if (exists && access(path, W_OK) != 0)
        st = file_error(err, "write", path, errno);
    else
        st = open_temp(f, 0666, err);
    if (st == ST_OK && exists && fchmod(f->fd, old.st_mode & 0777) != 0)
        st = file_error(err, "write", path, errno);
    if (st != ST_OK) {
        atomic_abort(f);
        return st;
    }
    *out = f;
    return ST_OK;
}

Status atomic_write(AtomicFile *f, const void *p, size_t n, Error *err)
{
    const char *s = p;
    while (n) {
        ssize_t w = write(f->fd, s, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0) {
            f->failed = true;
            return file_error(err, "write", f->path, w < 0 ? errno : ENOSPC);
        }
        s += w;
        n -= (size_t)w;
    }
    return ST_OK;
}

void file_sync_name(const char *path)
{
    char *dir = dir_of(path);
    int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(dir);
}

Status atomic_commit(AtomicFile *f, Error *err)
{
    Status st = ST_OK;
    if (f->failed)
        st = error_set(err, ST_IO, "cannot write '%s': an earlier part could not be written", f->path);
    else if (fsync(f->fd) != 0)
        st = file_error(err, "sync", f->path, errno);
    int closed = close(f->fd);
    f->fd = -1;
    if (st == ST_OK && closed != 0)
        st = file_error(err, "close", f->path, errno);
    if (st == ST_OK && rename(f->tmp, f->path) != 0)
        st = file_error(err, "replace", f->path, errno);
    if (st == ST_OK) {
        file_sync_name(f->path);
        free(f->tmp);
        f->tmp = NULL;
    }
    atomic_abort(f);
    return st;
}

void atomic_abort(AtomicFile *f)
{
    if (!f)
        return;
    if (f->fd >= 0)
        close(f->fd);
    if (f->tmp)
        unlink(f->tmp);
    free(f->tmp);
    free(f->path);
    free(f);
}

Status file_write_atomic(const char *path, const void *p, size_t n, Error *err)
{
    AtomicFile *f;
    RETURN_IF_ERROR(atomic_open(&f, path, err));
    Status st = atomic_write(f, p, n, err);
    if (st != ST_OK) {
        atomic_abort(f);
        return st;
    }
    return atomic_commit(f, err);
}

Status dir_make_mode(const char *path, unsigned mode, bool *made, Error *err)
{
    char *p = strdup(path);
    if (!p)
        return error_nomem(err, "a path");
    Status st = ST_OK;
    for (char *s = p + 1; *p && st == ST_OK; s++) {
        if (*s && *s != '/')
            continue;
        char c = *s;
        *s = 0;
        *made = mkdir(p, (mode_t)mode) == 0;
        int code = errno; /* looking for the folder sets another */
        if (!*made && !dir_exists(p))
            st = file_error(err, "make folder", p, code == EEXIST ? ENOTDIR : code);
        *s = c;
        if (!c)
            break;
    }
    free(p);
    return st;
}

Status dir_make(const char *path, Error *err)
{
    bool made;
    return dir_make_mode(path, 0700, &made, err);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path) == 0 ? 0 : errno;
}

Status dir_remove(const char *path, Error *err)
{
    enum { DESCRIPTORS = 16 };
    int code = nftw(path, remove_one, DESCRIPTORS, FTW_DEPTH | FTW_PHYS);
    return code == 0 ? ST_OK : file_error(err, "remove", path, code > 0 ? code : errno);
}

bool file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool dir_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *path_join(const char *dir, const char *name)
{
    size_t a = strlen(dir), b = strlen(name);
    while (a > 1 && dir[a - 1] == '/')
        a--;
    while (*name == '/') {
        name++;
        b--;
    }
    bool slash = a > 0 && dir[a - 1] != '/';
    char *p = malloc(a + slash + b + 1);
    if (!p)
        return NULL;
    memcpy(p, dir, a);
    if (slash)
        p[a] = '/';
    memcpy(p + a + slash, name, b + 1);
    return p;
}

const char *path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *path_absolute(const char *path)
{
    char here[PATH_MAX];
    return path[0] == '/' || !getcwd(here, sizeof here) ? strdup(path) : path_join(here, path);
}

const char *path_here(const char *path)
{
    char here[PATH_MAX];
    if (!getcwd(here, sizeof here))
        return path;
    size_t n = strlen(here);
    return strncmp(path, here, n) == 0 && path[n] == '/' && path[n + 1] ? path + n + 1 : path;
}
