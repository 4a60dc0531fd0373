#include "io/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/file.h"

/* A record larger than this is damage, not data. */
enum { HEAD_BYTES = 8, RECORD_MAX = 64 << 20 };
#define SYNC_EVERY_NS INT64_C(1000000000)

struct Journal {
    int fd;
    bool dirty, broken;
    uint64_t end; /* bytes of whole records */
    int64_t last_sync;
    char *path;
    unsigned char *buf;
    size_t cap;
};

static Status sys_error(Error *err, const char *verb, const char *path, int code)
{
    char buf[128];
    return error_set(err, ST_IO, "cannot %s '%s': %s", verb, path, strerror_r(code, buf, sizeof buf));
}

static void put_u32(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

static uint32_t get_u32(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Reads the record at j->end into j->buf, NUL-terminated. *len is 0 at the end and where no whole record follows. */
static Status read_record(Journal *j, uint64_t size, uint32_t *len, Error *err)
{
    unsigned char head[HEAD_BYTES];
    *len = 0;
    if (size - j->end < HEAD_BYTES)
        return ST_OK;
    RETURN_IF_ERROR(file_pread(j->fd, j->path, head, sizeof head, j->end, err));
    uint32_t n = get_u32(head);
    /* no record is empty: the zeros that a crash can leave at the end would pass for empty ones */
    if (n == 0 || n > RECORD_MAX || n > size - j->end - HEAD_BYTES)
        return ST_OK;
    if (!mem_grow(&j->buf, &j->cap, (size_t)n + 1, 1))
        return error_nomem(err, j->path);
    RETURN_IF_ERROR(file_pread(j->fd, j->path, j->buf, n, j->end + HEAD_BYTES, err));
    if ((uint32_t)crc32(0, j->buf, n) != get_u32(head + 4))
        return ST_OK;
    j->buf[n] = 0;
    *len = n;
    return ST_OK;
}

static Status replay_all(Journal *j, uint64_t size, JournalReplay *replay, void *ctx, Error *err)
{
    for (;;) {
        uint32_t n;
        RETURN_IF_ERROR(read_record(j, size, &n, err));
        if (n == 0)
            return ST_OK;
        if (replay)
            RETURN_IF_ERROR(replay(ctx, (const char *)j->buf, n, err));
        j->end += HEAD_BYTES + (uint64_t)n;
    }
}

static Status open_file(Journal *j, uint64_t *size, Error *err)
{
    j->fd = open(j->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0600);
    if (j->fd < 0)
        return sys_error(err, "open", j->path, errno);
    struct stat st;
    if (fstat(j->fd, &st) != 0)
        return sys_error(err, "stat", j->path, errno);
    if (!S_ISREG(st.st_mode))
        return error_set(err, ST_IO, "cannot open '%s': it is no regular file", j->path);
    *size = (uint64_t)st.st_size;
    return ST_OK;
}

Status journal_open(Journal **out, const char *path, JournalReplay *replay, void *ctx, uint64_t *torn, Error *err)
{
    *out = NULL;
    Journal *j = calloc(1, sizeof *j);
    if (!j)
        return error_nomem(err, path);
    j->fd = -1;
    j->path = strdup(path);
    uint64_t size = 0;
    Status st = j->path ? open_file(j, &size, err) : error_nomem(err, path);
    if (st == ST_OK)
        st = replay_all(j, size, replay, ctx, err);
    if (st == ST_OK && j->end < size && ftruncate(j->fd, (off_t)j->end) != 0)
        st = sys_error(err, "cut the damaged end of", path, errno);
    if (st != ST_OK) {
        journal_close(j);
        return st;
    }
    if (torn)
        *torn = size - j->end;
    j->dirty = j->end < size || size == 0;
    j->last_sync = clock_ns();
    *out = j;
    return ST_OK;
}

/* Takes a partly written record away, so that the next one stands behind whole ones. */
static void take_back(Journal *j)
{
    if (ftruncate(j->fd, (off_t)j->end) != 0)
        j->broken = true;
}

Status journal_append(Journal *j, const char *json, bool sync, Error *err)
{
    size_t n = strlen(json);
    if (n == 0 || n > RECORD_MAX)
        return error_set(err, ST_INTERNAL, "'%s': a record of %zu bytes can't be kept", j->path, n);
    if (j->broken)
        return error_set(err, ST_IO, "cannot write '%s': an earlier record was cut off and could not be taken back",
                         j->path);
    size_t total = HEAD_BYTES + n;
    if (!mem_grow(&j->buf, &j->cap, total, 1))
        return error_nomem(err, j->path);
    put_u32(j->buf, (uint32_t)n);
    put_u32(j->buf + 4, (uint32_t)crc32(0, (const unsigned char *)json, (uInt)n));
    memcpy(j->buf + HEAD_BYTES, json, n);
    ssize_t w;
    do
        w = write(j->fd, j->buf, total);
    while (w < 0 && errno == EINTR);
    if (w != (ssize_t)total) {
        int code = w < 0 ? errno : ENOSPC;
        if (w > 0)
            take_back(j);
        return sys_error(err, "write", j->path, code);
    }
    j->end += total;
    j->dirty = true;
    return sync || clock_ns() - j->last_sync >= SYNC_EVERY_NS ? journal_sync(j, err) : ST_OK;
}

Status journal_sync(Journal *j, Error *err)
{
    if (!j->dirty)
        return ST_OK;
    if (fdatasync(j->fd) != 0)
        return sys_error(err, "sync", j->path, errno);
    j->dirty = false;
    j->last_sync = clock_ns();
    return ST_OK;
}

void journal_close(Journal *j)
{
    if (!j)
        return;
    if (j->fd >= 0) {
        if (j->dirty)
            (void)journal_sync(j, NULL);
        close(j->fd);
    }
    free(j->path);
    free(j->buf);
    free(j);
}
