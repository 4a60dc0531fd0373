#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

/* Cuts a character that the buffer's end split, and makes the text one line that a terminal only shows. */
static void make_printable(char *s)
{
    size_t n = strlen(s), head = n;
    unsigned cp;
    if (n == ERROR_TEXT_MAX - 1) {
        while (head > 0 && n - head < 3 && ((unsigned char)s[head - 1] & 0xc0) == 0x80)
            head--;
        if (head > 0 && (unsigned char)s[head - 1] >= 0xc0 && utf8_decode(s + head - 1, n - head + 1, &cp) == 0)
            n = head - 1;
    }
    s[text_fit_terminal(s, n, false)] = '\0';
}

Status error_set(Error *err, Status st, const char *fmt, ...)
{
    if (!err)
        return st;
    char text[ERROR_TEXT_MAX]; /* arguments may point into err->text */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    make_printable(text);
    err->status = st;
    memcpy(err->text, text, sizeof text);
    return st;
}

Status error_prefix(Error *err, Status st, const char *fmt, ...)
{
    if (!err)
        return st;
    err->status = st;
    char text[ERROR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof text)
        return st;
    snprintf(text + n, sizeof text - (size_t)n, "%s", err->text);
    make_printable(text);
    memcpy(err->text, text, sizeof text);
    return st;
}

Status error_nomem(Error *err, const char *what)
{
    return error_set(err, ST_NOMEM, "out of memory for %s: free some, or lower --max-samples or --seq-len", what);
}

int status_exit_code(Status st)
{
    switch (st) {
    case ST_OK: return 0;
    case ST_FAIL: return 1;
    case ST_INTERNAL: return 2;
    case ST_USAGE: return 64;
    case ST_DATA: return 65;
    case ST_IO: return 74;
    case ST_CANCELLED: return 130;
    case ST_NOMEM: return 1;
    }
    return 2;
}
