/* The log of a session as a text file in its folder. */
#include "session/logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/file.h"

static const char *const levels[] = {"info", "warn", "fail"};

void logfile_line(const LogLine *l, Str *out)
{
    char when[32] = "";
    time_t t = (time_t)l->when;
    struct tm tm;
    if (localtime_r(&t, &tm))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
    str_printf(out, "%s %s %s ", when, levels[l->level < 0 || l->level > 2 ? 0 : l->level], log_kind_name(l->kind));
    if (l->job)
        str_printf(out, "#%d ", l->job);
    for (const char *c = l->text; *c; c++)
        str_putc(out, (unsigned char)*c < ' ' || *c == 127 ? ' ' : *c);
    str_putc(out, '\n');
}

static Status write_all(int fd, const char *path, const char *text, size_t n, Error *err)
{
    while (n > 0) {
        ssize_t k = write(fd, text, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return file_error(err, "write", path, k < 0 ? errno : ENOSPC);
        text += k;
        n -= (size_t)k;
    }
    return ST_OK;
}

Status logfile_append(const char *folder, const char *text, size_t n, Error *err)
{
    char *path = path_join(folder, "log"), *older = path_join(folder, "log.1");
    struct stat sb;
    Status st = path && older ? ST_OK : error_nomem(err, "a path");
    if (st == ST_OK && stat(path, &sb) == 0 && sb.st_size + (off_t)n > LOGFILE_MAX && rename(path, older) != 0)
        st = file_error(err, "rename", path, errno);
    int fd = st == ST_OK ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    if (st == ST_OK && fd < 0)
        st = file_error(err, "open", path, errno);
    if (st == ST_OK)
        st = write_all(fd, path, text, n, err);
    if (fd >= 0 && close(fd) != 0 && st == ST_OK)
        st = file_error(err, "write", path, errno);
    free(path);
    free(older);
    return st;
}

/* ---- reading ---- */

static int word_in(const char *word, const char *const *list, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(list[i], word) == 0)
            return i;
    return -1;
}

/* Takes a line apart, which is cut up; false: it is none. */
static bool parse_line(char *line, LogLine *out)
{
    const char *kinds[LOG_KINDS];
    struct tm tm = {.tm_isdst = -1};
    char level[8], kind[16];
    int at = 0;
    for (int k = 0; k < LOG_KINDS; k++)
        kinds[k] = log_kind_name((LogKind)k);
    if (sscanf(line, "%4d-%2d-%2d %2d:%2d:%2d %7s %15s %n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
               &tm.tm_sec, level, kind, &at) < 8 || !at)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon--;
    int l = word_in(level, levels, 3), k = word_in(kind, kinds, LOG_KINDS);
    if (l < 0 || k < 0)
        return false;
    *out = (LogLine){.level = l, .kind = (LogKind)k, .when = (int64_t)mktime(&tm), .text = line + at};
    char *end;
    long job = line[at] == '#' ? strtol(line + at + 1, &end, 10) : 0;
    if (job > 0 && job < INT32_MAX && *end == ' ') {
        out->job = (int)job;
        out->text = end + 1;
    }
    return true;
}

/* Bytes of a file, "" where it can't be read; caller frees, NULL without memory. */
static char *read_file(const char *folder, const char *name)
{
    char *path = path_join(folder, name), *text = NULL;
    size_t n;
    if (path && file_exists(path) && file_read(path, 2 * (uint64_t)LOGFILE_MAX, &text, &n, NULL) != ST_OK)
        text = NULL;
    free(path);
    return text ? text : strdup("");
}

void logfile_read(const char *folder, int most, LogFileLine *line, void *ctx)
{
    static const char *const names[] = {"log.1", "log"};
    char *text[2];
    int lines = 0;
    for (int i = 0; i < 2; i++) {
        text[i] = read_file(folder, names[i]);
        for (const char *c = text[i]; c && (c = strchr(c, '\n')) != NULL; c++)
            lines++;
    }
    for (int i = 0; i < 2; i++) {
        char *save = NULL;
        for (char *at = text[i] ? strtok_r(text[i], "\n", &save) : NULL; at; at = strtok_r(NULL, "\n", &save)) {
            LogLine l;
            if (lines-- <= most && parse_line(at, &l))
                line(ctx, &l);
        }
        free(text[i]);
    }
}
