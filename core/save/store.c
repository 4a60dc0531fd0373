#include "save/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "io/dirlist.h"
#include "io/file.h"

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
    s->lock = openat(s->temp_at, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    Status st = ST_OK;
    if (s->lock < 0)
        st = file_error(err, "open the lock in", s->temp, errno);
    else if (flock(s->lock, LOCK_EX | LOCK_NB) != 0)
        st = errno == EWOULDBLOCK ? locked_error(s->dir, file_read_pid(s->lock), err)
                                  : file_error(err, "lock", s->temp, errno);
    struct stat held, named;
    if (st == ST_OK && (fstat(s->lock, &held) != 0 || fstatat(s->temp_at, "lock", &named, AT_SYMLINK_NOFOLLOW) != 0
                        || held.st_ino != named.st_ino))
        st = error_set(err, ST_IO, "another run in '%s' has just ended: try again", s->dir);
    if (st != ST_OK) { /* what lies there is another run's: store_close must not touch it */
        if (s->lock >= 0)
            close(s->lock);
        s->lock = -1;
        return st;
    }
    return file_write_pid(s->lock, "write into", s->temp, err);
}

Status store_check_free(int at, const char *dir, const char *but_type, Error *err)
{
    DIR *d;
    RETURN_IF_ERROR(dir_list_at(at, dir, &d, err));
    Status st = ST_OK;
    const struct dirent *e;
    while (st == ST_OK && (e = readdir(d)) != NULL) {
        const char *type = e->d_name + sizeof STORE_PREFIX - 1;
        if (strncmp(e->d_name, STORE_PREFIX, sizeof STORE_PREFIX - 1) != 0 || (but_type && strcmp(type, but_type) == 0))
            continue;
        int temp = openat(at, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int fd = temp < 0 ? -1 : openat(temp, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (temp >= 0)
            close(temp);
        if (fd < 0)
            continue;
        /* another format of the same run may be writing here too, another process may not */
        if (flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK
            && (!but_type || file_read_pid(fd) != (long)getpid()))
            st = locked_error(dir, file_read_pid(fd), err);
        close(fd);
    }
    closedir(d);
    return st;
}

void store_temp_name(const char *type, char *out, size_t size)
{
    snprintf(out, size, STORE_PREFIX "%s", type);
}

static Status open_temp(Store *s, const char *name, Error *err)
{
    if (mkdirat(s->at, name, 0700) != 0 && errno != EEXIST)
        return file_error(err, "write into", s->dir, errno);
    s->temp_at = openat(s->at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (s->temp_at >= 0)
        return ST_OK;
    if (errno == ENOTDIR || errno == ELOOP)
        return error_set(err, ST_IO, "'%s' is a link or a file, where a run keeps its folder: remove it, or choose another "
                         "folder to write to", s->temp);
    return file_error(err, "open", s->temp, errno);
}

Status store_begin(Store *s, const char *dir, const char *type, char name[128], Error *err)
{
    *s = STORE_CLOSED;
    store_temp_name(type, name, 128);
    s->dir = strdup(dir);
    s->type = strdup(type);
    s->temp = path_join(dir, name);
    return s->dir && s->type && s->temp ? ST_OK : error_nomem(err, "a path");
}

Status store_open(Store *s, const char *dir, const char *type, const char *model, Error *err)
{
    char name[128];
    RETURN_IF_ERROR(store_begin(s, dir, type, name, err));
    /* the permissions that people's umask gives: whoever runs the model reads it */
    RETURN_IF_ERROR(dir_make_mode(dir, 0777, &s->made_dir, err));
    RETURN_IF_ERROR(check_target(dir, model, err));
    s->at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->at < 0)
        return file_error(err, "open", dir, errno);
    RETURN_IF_ERROR(open_temp(s, name, err));
    RETURN_IF_ERROR(take_lock(s, err));
    return store_check_free(s->at, s->dir, s->type, err);
}

void store_name(const char *kind, int file, char out[32])
{
    snprintf(out, 32, "%s-%05d", kind, file + 1);
}

void store_drop_fd(Store *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    s->fd_file = -1;
}

static Status open_part(const Store *s, int file, int *fd, Error *err)
{
    char name[32];
    store_name("part", file, name);
    *fd = openat(s->temp_at, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    return *fd < 0 ? file_error(err, "open a file in", s->temp, errno) : ST_OK;
}

Status store_part_open(Store *s, int file, int *fd, Error *err)
{
    s->dirty[file] = 1;
    return open_part(s, file, fd, err);
}

static Status use_file(Store *s, int file, Error *err)
{
    if (s->fd >= 0 && s->fd_file == file)
        return ST_OK;
    store_drop_fd(s);
    s->fd_file = file;
    return open_part(s, file, &s->fd, err);
}

Status store_write(Store *s, const OutTensor *t, uint64_t at, const void *data, size_t n, Error *err)
{
    RETURN_IF_ERROR(use_file(s, t->file, err));
    s->dirty[t->file] = 1;
    return file_pwrite(s->fd, "write into", s->dir, data, n, t->offset + at, err);
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
    char name[32];
    Str head = {0};
    store_name(kind, file, name);
    *fd = -1;
    Status st = layout_header(l, file, &head, err);
    if (st == ST_OK) {
        unlinkat(s->temp_at, name, 0);
        *fd = openat(s->temp_at, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        st = *fd < 0 ? file_error(err, "write into", s->temp, errno) : reserve(*fd, s->dir, l->size[file], err);
    }
    if (st == ST_OK)
        st = file_pwrite(*fd, "write into", s->dir, head.s, head.len, 0, err);
    if (st != ST_OK && *fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    str_free(&head);
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
    DIR *d;
    if (dir_list_at(s->temp_at, s->temp, &d, NULL) != ST_OK)
        return;
    const struct dirent *e;
    while ((e = readdir(d)) != NULL)
        if (store_owns(e->d_name))
            unlinkat(s->temp_at, e->d_name, 0);
    closedir(d);
}

Status store_check(const Store *s, const SaveLayout *l, const uint8_t *packed, Error *err)
{
    for (int f = 0; f < l->files; f++) {
        bool moved = packed && packed[f];
        char name[32];
        struct stat st;
        store_name(moved ? "out" : "part", f, name);
        if (fstatat(s->temp_at, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)
            || (!moved && (uint64_t)st.st_size != l->size[f]))
            return error_set(err, ST_DATA, "the stopped run in '%s' can't be continued: a file of it is gone or "
                             "damaged; start again without --resume", s->dir);
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

void store_close(Store *s, bool keep)
{
    store_drop_fd(s);
    if (s->lock >= 0 && !keep) {
        char name[128];
        store_temp_name(s->type, name, sizeof name);
        unlinkat(s->temp_at, "journal", 0); /* first: without it no run goes on with a part of the rest */
        empty_temp(s);
        unlinkat(s->temp_at, "lock", 0);
        unlinkat(s->at, name, AT_REMOVEDIR);
        if (s->made_dir)
            rmdir(s->dir); /* only when nothing is in it */
    }
    if (s->lock >= 0)
        close(s->lock);
    if (s->temp_at >= 0)
        close(s->temp_at);
    if (s->at >= 0)
        close(s->at);
    store_clear_list(s);
    free(s->out);
    free(s->dirty);
    free(s->dir);
    free(s->temp);
    free(s->type);
    *s = STORE_CLOSED;
}
