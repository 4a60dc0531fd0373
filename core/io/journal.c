#include "io/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/mem.h"
#include "io/file.h"

/* A record larger than this is damage, not data. */
enum { HEAD_BYTES = 8, RECORD_MAX = 1 << 30, COPY_BYTES = 1 << 16, GLANCE_BYTES = 1024 };
static const char seq_key[] = "{\"seq\":";
enum { SEQ_KEY = sizeof seq_key - 1, SEQ_MAX = SEQ_KEY + 21 };

struct Journal {
    int fd;
    JournalMode mode;
    bool dirty;
    const char *broken; /* why nothing is written any more */
    uint64_t end;       /* bytes of whole records */
    uint64_t records;   /* whole ones */
    uint64_t found;     /* JournalEnd.found */
    char *path;
    unsigned char *buf;
    size_t cap;
};

static void put_u32(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

static uint32_t get_u32(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The number of a record, 0 when it has none. *skip: bytes before what was appended, of which the last one becomes '{'.
 */
static uint64_t seq_of(const char *json, size_t len, size_t *skip)
{
    uint64_t n = 0;
    size_t i = SEQ_KEY;
    *skip = 0;
    if (len < SEQ_KEY + 2 || memcmp(json, seq_key, SEQ_KEY) != 0)
        return 0;
    for (; i < len && i < SEQ_MAX && json[i] >= '0' && json[i] <= '9'; i++)
        n = n * 10 + (uint64_t)(json[i] - '0');
    if (i == SEQ_KEY || i == len || (json[i] != ',' && json[i] != '}'))
        return 0;
    *skip = json[i] == ',' ? i : i - 1;
    return n;
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
        size_t skip;
        RETURN_IF_ERROR(read_record(j, size, &n, err));
        if (n == 0)
            return ST_OK;
        uint64_t seq = seq_of((const char *)j->buf, n, &skip);
        if (seq && seq != j->records + 1) {
            j->found = seq;
            return ST_OK;
        }
        if (skip)
            j->buf[skip] = '{';
        if (replay)
            RETURN_IF_ERROR(replay(ctx, (const char *)j->buf + skip, n - (uint32_t)skip, err));
        j->end += HEAD_BYTES + (uint64_t)n;
        j->records++;
    }
}

static Status open_file(Journal *j, uint64_t *size, Error *err)
{
    int how = j->mode == JOURNAL_READ ? O_RDONLY : O_RDWR | O_CREAT | O_APPEND;
    j->fd = open(j->path, how | O_CLOEXEC | O_NONBLOCK, 0600);
    if (j->fd < 0)
        return file_error(err, "open", j->path, errno);
    struct stat st;
    if (fstat(j->fd, &st) != 0)
        return file_error(err, "stat", j->path, errno);
    if (!S_ISREG(st.st_mode))
        return error_set(err, ST_IO, "cannot open '%s': it is no regular file", j->path);
    *size = (uint64_t)st.st_size;
    return ST_OK;
}

static Status write_all(int fd, const char *path, const unsigned char *p, size_t n, Error *err)
{
    while (n > 0) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return file_error(err, "write", path, w < 0 ? errno : ENOSPC);
        p += w;
        n -= (size_t)w;
    }
    return ST_OK;
}

/* Puts the bytes from j->end on to the end of `path` and syncs them. */
static Status copy_tail(Journal *j, uint64_t size, const char *path, Error *err)
{
    if (!mem_grow(&j->buf, &j->cap, COPY_BYTES, 1))
        return error_nomem(err, j->path);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0600);
    if (fd < 0)
        return file_error(err, "open", path, errno);
    Status st = ST_OK;
    for (uint64_t at = j->end; at < size && st == ST_OK;) {
        size_t n = size - at < COPY_BYTES ? (size_t)(size - at) : COPY_BYTES;
        st = file_pread(j->fd, j->path, j->buf, n, at, err);
        if (st == ST_OK)
            st = write_all(fd, path, j->buf, n, err);
        at += n;
    }
    if (st == ST_OK && fdatasync(fd) != 0)
        st = file_error(err, "sync", path, errno);
    close(fd);
    return st;
}

/* Nothing is lost by a cut: what stood behind the last whole record is in a file of its own first. */
static Status put_aside(Journal *j, uint64_t size, Error *err)
{
    char *path = malloc(strlen(j->path) + sizeof ".damaged");
    if (!path)
        return error_nomem(err, j->path);
    sprintf(path, "%s.damaged", j->path);
    Status st = copy_tail(j, size, path, err);
    free(path);
    return st;
}

static Status settle_tail(Journal *j, uint64_t size, Error *err)
{
    if (j->end == size || j->mode == JOURNAL_READ)
        return ST_OK;
    if (j->mode == JOURNAL_KEEP)
        RETURN_IF_ERROR(put_aside(j, size, err));
    if (ftruncate(j->fd, (off_t)j->end) != 0)
        return file_error(err, "cut the damaged end of", j->path, errno);
    j->dirty = true;
    return ST_OK;
}

Status journal_open(Journal **out, const char *path, JournalMode mode, JournalReplay *replay, void *ctx,
                    JournalEnd *end, Error *err)
{
    *out = NULL;
    Journal *j = calloc(1, sizeof *j);
    if (!j)
        return error_nomem(err, path);
    j->fd = -1;
    j->mode = mode;
    j->path = strdup(path);
    uint64_t size = 0;
    Status st = j->path ? open_file(j, &size, err) : error_nomem(err, path);
    if (st == ST_OK)
        st = replay_all(j, size, replay, ctx, err);
    if (st == ST_OK)
        st = settle_tail(j, size, err);
    if (st != ST_OK) {
        j->dirty = false;
        journal_close(j, NULL);
        return st;
    }
    if (end)
        *end = (JournalEnd){j->records, size - j->end, j->found};
    if (mode == JOURNAL_READ)
        j->broken = "it was opened for reading";
    else if (size == 0)
        j->dirty = true;
    *out = j;
    return ST_OK;
}

Status journal_follow(Journal *j, JournalReplay *replay, void *ctx, bool *grew, Error *err)
{
    struct stat st;
    const uint64_t before = j->end;
    *grew = false;
    if (fstat(j->fd, &st) != 0)
        return file_error(err, "stat", j->path, errno);
    if ((uint64_t)st.st_size < j->end)
        return error_set(err, ST_DATA, "'%s' is shorter than it was", j->path);
    const Status s = j->found || (uint64_t)st.st_size == j->end ? ST_OK : replay_all(j, (uint64_t)st.st_size, replay, ctx, err);
    *grew = j->end > before;
    return s;
}

/* Takes a partly written record away, so that the next one stands behind whole ones. */
static void take_back(Journal *j)
{
    if (ftruncate(j->fd, (off_t)j->end) != 0)
        j->broken = "an earlier record was cut off and could not be taken back";
}

static Status refuse_broken(const Journal *j, Error *err)
{
    return error_set(err, ST_IO, "cannot write '%s': %s", j->path, j->broken);
}

Status journal_append(Journal *j, const char *json, bool sync, Error *err)
{
    char number[SEQ_MAX + 2] = "";
    size_t given = strlen(json), own = 0;
    if (json[0] == '{') {
        json++;
        given--;
        own = (size_t)snprintf(number, sizeof number, "%s%llu%s", seq_key, (unsigned long long)j->records + 1,
                               json[0] == '}' ? "" : ",");
    }
    size_t n = own + given, total = HEAD_BYTES + n;
    if (n == 0 || n > RECORD_MAX)
        return error_set(err, ST_INTERNAL, "'%s': a record of %zu bytes can't be kept", j->path, n);
    if (j->broken)
        return refuse_broken(j, err);
    if (!mem_grow(&j->buf, &j->cap, total, 1))
        return error_nomem(err, j->path);
    memcpy(j->buf + HEAD_BYTES, number, own);
    memcpy(j->buf + HEAD_BYTES + own, json, given);
    put_u32(j->buf, (uint32_t)n);
    put_u32(j->buf + 4, (uint32_t)crc32(0, j->buf + HEAD_BYTES, (uInt)n));
    ssize_t w = 0;
    size_t done = 0;
    while (done < total && ((w = write(j->fd, j->buf + done, total - done)) > 0 || (w < 0 && errno == EINTR)))
        done += w > 0 ? (size_t)w : 0;
    if (done < total) {
        int code = w < 0 ? errno : ENOSPC;
        if (done > 0)
            take_back(j);
        return file_error(err, "write", j->path, code);
    }
    j->end += total;
    j->records++;
    j->dirty = true;
    return sync ? journal_sync(j, err) : ST_OK;
}

Status journal_sync(Journal *j, Error *err)
{
    if (!j->dirty)
        return ST_OK;
    if (j->broken)
        return refuse_broken(j, err);
    if (fdatasync(j->fd) != 0) {
        j->broken = "an earlier sync failed, and what it lost is not known";
        return file_error(err, "sync", j->path, errno);
    }
    j->dirty = false;
    return ST_OK;
}

Status journal_close(Journal *j, Error *err)
{
    Status st = ST_OK;
    if (!j)
        return ST_OK;
    if (j->fd >= 0) {
        st = journal_sync(j, err);
        if (close(j->fd) != 0 && st == ST_OK)
            st = file_error(err, "close", j->path, errno);
    }
    free(j->path);
    free(j->buf);
    free(j);
    return st;
}

Status journal_glance(const char *path, JournalGlance *glance, void *ctx, Error *err)
{
    uint64_t size, at = 0;
    int fd;
    char text[GLANCE_BYTES + 1];
    RETURN_IF_ERROR(file_open(path, &fd, &size, err));
    Status st = ST_OK;
    while (st == ST_OK && size - at > HEAD_BYTES) {
        unsigned char head[HEAD_BYTES];
        st = file_pread(fd, path, head, sizeof head, at, err);
        uint32_t n = st == ST_OK ? get_u32(head) : 0, len = n < GLANCE_BYTES ? n : GLANCE_BYTES;
        at += HEAD_BYTES;
        if (n == 0 || n > size - at)
            break;
        st = file_pread(fd, path, text, len, at, err);
        if (st != ST_OK)
            break;
        size_t skip;
        uint64_t seq = seq_of(text, len, &skip);
        text[len] = 0;
        if (skip)
            text[skip] = '{';
        glance(ctx, seq, text + skip, len - (uint32_t)skip);
        at += n;
    }
    close(fd);
    return st;
}
