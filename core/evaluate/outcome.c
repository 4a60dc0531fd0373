#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/ascii.h"
#include "base/str.h"
#include "evaluate/outcome.h"
#include "io/file.h"
#include "io/fingerprint.h"

Status eval_says(EvalResult *r, EvalState state, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->text, sizeof r->text, fmt, ap);
    va_end(ap);
    size_t n = strlen(r->text);
    r->text[text_fit_terminal(r->text, n, false)] = '\0';
    r->state = state;
    return ST_OK;
}

Status eval_add(EvalResult *r, const Expectation *e, const Decimal *value, const Decimal *base, bool *met, Error *err)
{
    Accuracy a = {.value = *value, .error = NAN, .has_base = base != NULL};
    snprintf(a.dataset, sizeof a.dataset, "%s", e->dataset);
    if (base)
        a.base = *base;
    *met = expectation_met(e, &a);
    return eval_result_add(r, &a, err);
}

void eval_log(const EvalKit *kit, const char *fmt, ...)
{
    char text[600];
    va_list ap;
    if (!kit->log)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    text[text_fit_terminal(text, strlen(text), false)] = '\0';
    kit->log(kit->ctx, 0, text);
}

void eval_progress(const EvalKit *kit, const char *phase, int64_t done, int64_t total)
{
    if (kit->progress)
        kit->progress(kit->ctx, phase, done, total);
}

Status eval_place(const EvalKit *kit, const char *dir, const char *name, Str *out, Error *err)
{
    char *full = *dir ? path_join(kit->work_dir, dir) : strdup(kit->work_dir);
    Status st = full ? dir_make(full, err) : error_nomem(err, "a path");
    if (st == ST_OK) {
        str_printf(out, "%s/", full);
        for (; *name; name++)
            str_putc(out, ascii_is_alnum(*name) || strchr("._-", *name) ? *name : '_');
        st = out->oom ? error_nomem(err, "a path") : ST_OK;
    }
    free(full);
    return st;
}

Status eval_full_path(const char *path, char **out, Error *err)
{
    *out = realpath(path, NULL);
    return *out ? ST_OK : file_error(err, "find", path, errno);
}

Status eval_hash_file(const char *path, Hasher *h, Error *err)
{
    int fd;
    uint64_t size;
    RETURN_IF_ERROR(file_open(path, &fd, &size, err));
    hasher_u64(h, size);
    Status st = fingerprint_whole(fd, path, size, NULL, NULL, NULL, h, err);
    close(fd);
    return st;
}
