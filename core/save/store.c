#include "save/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "io/file.h"

#define TEMP_PREFIX ".slimscope-"

static Status check_target(const char *dir, const char *model, Error *err)
{
    struct stat a, b;
    if (stat(dir, &a) != 0)
        return file_error(err, "open", dir, errno);
    if (stat(model, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        return error_set(err, ST_USAGE, "'%s' is the model's own folder: its weights would be replaced; give "
                         "another one", dir);
    if (access(dir, W_OK | X_OK) != 0)
        return file_error(err, "write into", dir, errno);
    return ST_OK;
}

/* The process id that a lock file names, 0 when it can't be read. */
static long holder_of(int fd)
{
    char text[32] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    return n > 0 ? strtol(text, NULL, 10) : 0;
}

static Status locked_error(const char *dir, long pid, Error *err)
{
    if (pid == (long)getpid())
        return error_set(err, ST_IO, "another run of this program is writing to '%s' already: a recipe names each "
                         "saver once", dir);
    return error_set(err, ST_IO, "another run (process %ld) is writing to '%s': wait for it or choose another folder",
                     pid, dir);
}

static Status take_lock(Store *s, Error *err)
{
    char *path = path_join(s->temp, "lock");
    if (!path)
        return error_nomem(err, "a path");
    s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    Status st = ST_OK;
    if (s->lock < 0)
        st = file_error(err, "open", path, errno);
    else if (flock(s->lock, LOCK_EX | LOCK_NB) != 0)
        st = errno == EWOULDBLOCK ? locked_error(s->dir, holder_of(s->lock), err)
                                  : file_error(err, "lock", path, errno);
    struct stat held, named;
    if (st == ST_OK && (fstat(s->lock, &held) != 0 || stat(path, &named) != 0 || held.st_ino != named.st_ino))
        st = error_set(err, ST_IO, "another run in '%s' has just ended: try again", s->dir);
    free(path);
    if (st != ST_OK) { /* what lies there is another run's: store_close must not touch it */
        if (s->lock >= 0)
            close(s->lock);
        s->lock = -1;
        return st;
    }
    char text[32];
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(s->lock, 0) != 0 || pwrite(s->lock, text, (size_t)n, 0) != n)
        return file_error(err, "write into", s->temp, errno);
    return ST_OK;
}

/* Another format of the same run may be writing here too, another process may not. */
static Status check_others(const Store *s, Error *err)
{
    DIR *d = opendir(s->dir);
    if (!d)
        return file_error(err, "read folder", s->dir, errno);
    Status st = ST_OK;
    const struct dirent *e;
    while (st == ST_OK && (e = readdir(d)) != NULL) {
        if (strncmp(e->d_name, TEMP_PREFIX, sizeof TEMP_PREFIX - 1) != 0
            || strcmp(e->d_name + sizeof TEMP_PREFIX - 1, s->type) == 0)
            continue;
        char name[300];
        snprintf(name, sizeof name, "%s/lock", e->d_name);
        int fd = openat(dirfd(d), name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
            continue;
        if (flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK && holder_of(fd) != (long)getpid())
            st = locked_error(s->dir, holder_of(fd), err);
        close(fd);
    }
    closedir(d);
    return st;
}

void store_temp_name(const char *type, char *out, size_t size)
{
    snprintf(out, size, TEMP_PREFIX "%s", type);
}

Status store_open(Store *s, const char *dir, const char *type, const char *model, Error *err)
{
    *s = (Store){.lock = -1, .fd = -1, .fd_file = -1};
    /* the permissions that people's umask gives: whoever runs the model reads it */
    RETURN_IF_ERROR(dir_make_mode(dir, 0777, &s->made_dir, err));
    RETURN_IF_ERROR(check_target(dir, model, err));
    char name[128];
    store_temp_name(type, name, sizeof name);
    s->dir = strdup(dir);
    s->type = strdup(type);
    s->temp = path_join(dir, name);
    if (!s->dir || !s->type || !s->temp)
        return error_nomem(err, "a path");
    if (mkdir(s->temp, 0700) != 0 && errno != EEXIST)
        return file_error(err, "write into", s->dir, errno);
    RETURN_IF_ERROR(take_lock(s, err));
    return check_others(s, err);
}

char *store_path(const Store *s, const char *kind, int file)
{
    char name[64];
    snprintf(name, sizeof name, "%s-%05d", kind, file + 1);
    return path_join(s->temp, name);
}

void store_drop_fd(Store *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    s->fd_file = -1;
}

static Status use_file(Store *s, int file, Error *err)
{
    if (s->fd >= 0 && s->fd_file == file)
        return ST_OK;
    store_drop_fd(s);
    char *path = store_path(s, "part", file);
    if (!path)
        return error_nomem(err, "a path");
    s->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    Status st = s->fd < 0 ? file_error(err, "open", path, errno) : ST_OK;
    s->fd_file = file;
    free(path);
    return st;
}

static Status pwrite_all(int fd, const char *path, const void *data, size_t n, uint64_t at, Error *err)
{
    const char *p = data;
    while (n) {
        ssize_t w = pwrite(fd, p, n, (off_t)at);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return file_error(err, "write into", path, w < 0 ? errno : ENOSPC);
        p += w;
        at += (uint64_t)w;
        n -= (size_t)w;
    }
    return ST_OK;
}

Status store_write(Store *s, const OutTensor *t, uint64_t at, const void *data, size_t n, Error *err)
{
    RETURN_IF_ERROR(use_file(s, t->file, err));
    s->dirty[t->file] = 1;
    return pwrite_all(s->fd, s->dir, data, n, t->offset + at, err);
}

Status store_read(Store *s, const OutTensor *t, uint64_t at, void *data, size_t n, Error *err)
{
    RETURN_IF_ERROR(use_file(s, t->file, err));
    return file_pread(s->fd, s->dir, data, n, t->offset + at, err);
}

Status store_sync(Store *s, Error *err)
{
    for (int f = 0; f < s->files; f++) {
        if (!s->dirty[f])
            continue;
        RETURN_IF_ERROR(use_file(s, f, err));
        if (fdatasync(s->fd) != 0)
            return file_error(err, "sync files in", s->dir, errno);
        s->dirty[f] = 0;
    }
    return ST_OK;
}

/* A file of `size` bytes with real blocks where the file system can promise them. */
static Status reserve(int fd, const char *dir, uint64_t size, Error *err)
{
    if (size > INT64_MAX)
        return error_set(err, ST_DATA, "a file of %llu bytes is too large", (unsigned long long)size);
    int r;
    do
        r = fallocate(fd, 0, 0, (off_t)size);
    while (r != 0 && errno == EINTR);
    if (r != 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
        r = ftruncate(fd, (off_t)size);
    if (r != 0 && errno == ENOSPC)
        return error_set(err, ST_IO, "no room in '%s' for a file of %llu bytes: free some space or choose another "
                         "folder", dir, (unsigned long long)size);
    if (r != 0 && errno == EFBIG)
        return error_set(err, ST_IO, "'%s' does not allow a file of %llu bytes: give a smaller part_file_size", dir,
                         (unsigned long long)size);
    return r != 0 ? file_error(err, "write into", dir, errno) : ST_OK;
}

static Status make_file(const Store *s, const SaveLayout *l, const char *kind, int file, int *fd, Error *err)
{
    char *path = store_path(s, kind, file);
    Str head = {0};
    Status st = path ? layout_header(l, file, &head, err) : error_nomem(err, "a path");
    *fd = -1;
    if (st == ST_OK) {
        unlink(path);
        *fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        st = *fd < 0 ? file_error(err, "write", path, errno) : reserve(*fd, s->dir, l->size[file], err);
    }
    if (st == ST_OK)
        st = pwrite_all(*fd, s->dir, head.s, head.len, 0, err);
    if (st != ST_OK && *fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    str_free(&head);
    free(path);
    return st;
}

Status store_repack_open(const Store *s, const SaveLayout *l, int file, int *fd, Error *err)
{
    return make_file(s, l, "out", file, fd, err);
}

static Status check_space(const Store *s, const SaveLayout *l, Error *err)
{
    struct statvfs v;
    uint64_t need = 0;
    for (int f = 0; f < l->files; f++)
        need += l->size[f];
    if (statvfs(s->dir, &v) != 0)
        return ST_OK; /* reserving the files will tell */
    uint64_t room = (uint64_t)v.f_bavail * v.f_frsize;
    if (need <= room)
        return ST_OK;
    return error_set(err, ST_IO, "the files need %.1f MB, '%s' has %.1f MB free: free some space or choose another "
                     "folder", (double)need / 1e6, s->dir, (double)room / 1e6);
}

/* Nothing of an older run stays: its files belong to another layout. */
static void empty_temp(const Store *s)
{
    DIR *d = opendir(s->temp);
    if (!d)
        return;
    const struct dirent *e;
    while ((e = readdir(d)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && strcmp(e->d_name, "lock") != 0
            && strcmp(e->d_name, "journal") != 0)
            unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
}

Status store_check(const Store *s, const SaveLayout *l, const uint8_t *packed, Error *err)
{
    for (int f = 0; f < l->files; f++) {
        bool moved = packed && packed[f];
        char *path = store_path(s, moved ? "out" : "part", f);
        struct stat st;
        if (!path)
            return error_nomem(err, "a path");
        bool good = stat(path, &st) == 0 && (moved || (uint64_t)st.st_size == l->size[f]);
        free(path);
        if (!good)
            return error_set(err, ST_DATA, "the stopped run in '%s' can't be continued: a file of it is gone or "
                             "damaged; run without --resume to start again", s->dir);
    }
    return ST_OK;
}

Status store_create(Store *s, const SaveLayout *l, bool resume, Error *err)
{
    s->files = l->files;
    s->dirty = mem_zarray((size_t)l->files, 1);
    if (!s->dirty)
        return error_nomem(err, "the list of files");
    if (resume)
        return ST_OK;
    empty_temp(s);
    RETURN_IF_ERROR(check_space(s, l, err));
    for (int f = 0; f < l->files; f++) {
        int fd;
        RETURN_IF_ERROR(make_file(s, l, "part", f, &fd, err));
        close(fd);
        s->dirty[f] = 1;
    }
    return ST_OK;
}

Status store_install(Store *s, int file, const char *name, Error *err)
{
    store_drop_fd(s);
    char *from = store_path(s, "out", file), *to = path_join(s->dir, name);
    if (from && access(from, F_OK) != 0) {
        free(from);
        from = store_path(s, "part", file);
    }
    Status st = ST_OK;
    if (!from || !to)
        st = error_nomem(err, "a path");
    else if (access(from, F_OK) != 0 && file_exists(to))
        st = ST_OK; /* an earlier finish got this far */
    else if (rename(from, to) != 0)
        st = file_error(err, "replace", to, errno);
    free(from);
    free(to);
    return st;
}

void store_sync_dir(const Store *s)
{
    int fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fsync(fd); /* file systems that can't sync a folder are left alone */
    close(fd);
}

void store_close(Store *s, bool keep)
{
    store_drop_fd(s);
    if (s->lock >= 0 && !keep) {
        empty_temp(s);
        char *journal = path_join(s->temp, "journal"), *lock = path_join(s->temp, "lock");
        if (journal)
            unlink(journal);
        if (lock)
            unlink(lock);
        free(journal);
        free(lock);
        rmdir(s->temp);
        if (s->made_dir)
            rmdir(s->dir); /* only when nothing is in it */
    }
    if (s->lock >= 0)
        close(s->lock);
    free(s->dirty);
    free(s->dir);
    free(s->temp);
    free(s->type);
    *s = (Store){.lock = -1, .fd = -1, .fd_file = -1};
}
