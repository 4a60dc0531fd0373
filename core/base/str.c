#include "base/str.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void str_free(Str *b)
{
    free(b->s);
    memset(b, 0, sizeof *b);
}

void str_clear(Str *b)
{
    b->len = 0;
    if (b->s)
        b->s[0] = 0;
}

static bool reserve(Str *b, size_t extra)
{
    if (b->oom || extra > (size_t)-1 - b->len - 1 || !mem_grow(&b->s, &b->cap, b->len + extra + 1, 1)) {
        b->oom = true;
        return false;
    }
    return true;
}

void str_append(Str *b, const char *bytes, size_t n)
{
    if (!reserve(b, n))
        return;
    if (n)
        memcpy(b->s + b->len, bytes, n);
    b->len += n;
    b->s[b->len] = 0;
}

void str_puts(Str *b, const char *s)
{
    str_append(b, s, strlen(s));
}

void str_putc(Str *b, char c)
{
    str_append(b, &c, 1);
}

void str_vprintf(Str *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n >= 0 && reserve(b, (size_t)n)) {
        vsnprintf(b->s + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void str_printf(Str *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    str_vprintf(b, fmt, ap);
    va_end(ap);
}

/* What a terminal obeys instead of showing it: C0, DEL, C1, and the marks, embeddings and isolates of bidirectional
 * text. */
static bool commands_terminal(unsigned cp)
{
    return cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || cp == 0x61c || cp == 0x200e || cp == 0x200f ||
           (cp >= 0x202a && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069);
}

int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

bool str_ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

size_t text_fit_terminal(char *s, size_t n, bool keep_lines)
{
    size_t out = 0;
    for (size_t i = 0; i < n;) {
        unsigned cp = 0;
        int k = utf8_decode(s + i, n - i, &cp);
        bool space = k && (cp == '\n' || cp == '\t');
        if (space && !keep_lines)
            s[out++] = ' ';
        else if (k == 0 || (commands_terminal(cp) && !space))
            s[out++] = '?';
        else {
            memmove(s + out, s + i, (size_t)k);
            out += (size_t)k;
        }
        i += k ? (size_t)k : 1;
    }
    return out;
}

void str_json(Str *b, const char *s)
{
    size_t n = strlen(s);
    str_putc(b, '"');
    while (n) {
        unsigned cp;
        int k = utf8_decode(s, n, &cp);
        if (k == 0) {
            str_puts(b, "\xef\xbf\xbd");
            k = 1;
        } else if (cp == '"' || cp == '\\') {
            str_putc(b, '\\');
            str_putc(b, (char)cp);
        } else if (commands_terminal(cp)) {
            str_printf(b, "\\u%04x", cp);
        } else {
            str_append(b, s, (size_t)k);
        }
        s += k;
        n -= (size_t)k;
    }
    str_putc(b, '"');
}

void str_double(Str *b, double v)
{
    char buf[40];
    if (!isfinite(v)) {
        str_puts(b, "null");
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(buf, sizeof buf, "%.*g", digits, v);
        if (strtod(buf, NULL) == v)
            break;
    }
    str_puts(b, buf);
}

const char *str_text(const Str *b)
{
    return b->s ? b->s : "";
}

char *str_detach(Str *b)
{
    if (!b->s && !b->oom)
        str_append(b, "", 0);
    char *s = b->s;
    if (b->oom) {
        free(s);
        s = NULL;
    }
    memset(b, 0, sizeof *b);
    return s;
}

int utf8_decode(const char *str, size_t n, unsigned *cp)
{
    const unsigned char *s = (const unsigned char *)str;
    if (n == 0)
        return 0;
    if (s[0] < 0x80) {
        *cp = s[0];
        return 1;
    }
    int len = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || n < (size_t)len)
        return 0;
    unsigned c = s[0] & (0x7fu >> len);
    for (int i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    if ((len == 3 && (c < 0x800 || (c >= 0xd800 && c <= 0xdfff))) || (len == 4 && (c < 0x10000 || c > 0x10ffff)))
        return 0;
    *cp = c;
    return len;
}

int utf8_encode(unsigned cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

size_t text_join(char *out, size_t size, const char *const part[], int n)
{
    size_t len = 0;
    for (int i = 0; i < n; i++) {
        size_t k = strlen(part[i]), room = len < size ? size - len : 0;
        if (room)
            memcpy(out + len, part[i], k < room ? k : room);
        len += k;
    }
    if (size)
        out[len < size ? len : size - 1] = 0;
    return len;
}

const char *text_int(char buf[12], int v)
{
    char *p = buf + 11;
    *p = 0;
    do
        *--p = (char)('0' + v % 10);
    while (v /= 10);
    return p;
}

int str_distance(const char *a, const char *b, int limit)
{
    enum { MAX = 256 };
    size_t n = strlen(a), m = strlen(b);
    if (n >= MAX || m >= MAX)
        return limit + 1;
    int row[MAX];
    for (size_t j = 0; j <= m; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int diag = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int sub = diag + (a[i - 1] != b[j - 1]);
            diag = row[j];
            int best = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            row[j] = sub < best ? sub : best;
        }
    }
    return row[m] > limit ? limit + 1 : row[m];
}
