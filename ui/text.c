#include "ui/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

wchar_t text_next(const char **s, int *width)
{
    while (**s) {
        unsigned cp = 0;
        int n = utf8_decode(*s, strnlen(*s, 4), &cp);
        if (n == 0) {
            (*s)++;
            *width = 1;
            return L'?';
        }
        *s += n;
        if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0)) {
            *width = 1;
            return L'?';
        }
        int w = wcwidth((wchar_t)cp);
        if (w == 0)
            continue;
        *width = w < 0 ? 1 : w;
        return w < 0 ? L'?' : (wchar_t)cp;
    }
    *width = 0;
    return 0;
}

int text_width(const char *s)
{
    int total = 0, w;
    while (text_next(&s, &w))
        total += w;
    return total;
}

/* Start of the tail of s that takes at most `width` cells. */
static const char *tail(const char *s, int total, int width)
{
    int w;
    while (total > width && text_next(&s, &w))
        total -= w;
    return s;
}

/* Bytes of s up to the end of its first number: what tells layers apart. */
static size_t head_length(const char *s)
{
    size_t n = strcspn(s, "0123456789");
    return s[n] ? n + strspn(s + n, "0123456789") : 0;
}

void text_elide(char *out, size_t size, const char *s, int width, const char *ellipsis)
{
    int total = text_width(s), dots = text_width(ellipsis), w;
    if (size == 0)
        return;
    if (total <= width) {
        snprintf(out, size, "%s", s);
        return;
    }
    if (width <= dots) {
        snprintf(out, size, "%.*s", width > 0 ? 1 : 0, width > 0 ? "~" : "");
        return;
    }
    int keep = width - dots, left = keep / 2; /* the end of a name says more than its start */
    const char *last = strrchr(s, '.'), *p = s;
    int head = (int)head_length(s);
    if (head > 0 && last && head + text_width(last + 1) <= keep)
        left = head;
    const char *end = tail(s, total, keep - left);
    for (const char *q = p; text_next(&q, &w) && left >= w; p = q)
        left -= w;
    snprintf(out, size, "%.*s%s%s", (int)(p - s), s, ellipsis, end);
}

size_t text_break(const char *s, int width)
{
    const char *p = s, *space = NULL;
    int used = 0, gap = 0, w;
    for (const char *q = p; text_next(&q, &w); p = q) {
        if (used + w > width)
            return space ? (size_t)(space - s) : p > s ? (size_t)(p - s) : (size_t)(q - s);
        bool parts = p[0] == ' ' && p[1] == ' '; /* what stands between is kept together where that costs no half line */
        if (*p == ' ' && (parts || 2 * gap < width))
            space = p;
        if (parts)
            gap = used;
        used += w;
    }
    return strlen(s);
}

void text_cut(char *out, size_t size, const char *s, int width, const char *ellipsis)
{
    int room = width - text_width(ellipsis);
    if (size == 0)
        return;
    if (text_width(s) <= width) {
        snprintf(out, size, "%s", s);
        return;
    }
    size_t n = room > 0 ? text_break(s, room) : 0;
    if (n == 0 || s[n] != ' ') /* one long word */
        text_elide(out, size, s, width, ellipsis);
    else
        snprintf(out, size, "%.*s%s", (int)n, s, ellipsis);
}

void text_clip(char *out, size_t size, const char *s, int width, const char *ellipsis)
{
    static const char number[] = "0123456789.,";
    int room = width - text_width(ellipsis), w;
    if (size == 0)
        return;
    if (text_width(s) <= width) {
        snprintf(out, size, "%s", s);
        return;
    }
    const char *end = s;
    for (const char *q = s; text_next(&q, &w) && room >= w; end = q)
        room -= w;
    if (strchr(number, *end))
        while (end > s && strchr(number, end[-1]))
            end--;
    snprintf(out, size, "%.*s%s", (int)(end - s), s, ellipsis);
}

void fmt_score(char *out, size_t size, double v)
{
    if (!isfinite(v)) {
        snprintf(out, size, "%s", isnan(v) ? "NaN" : v > 0 ? "inf" : "-inf");
        return;
    }
    char buf[40];
    for (int digits = 3; digits >= 0; digits--) { /* a cut number would be another number */
        snprintf(buf, sizeof buf, "%.*e", digits, v);
        char *e = strchr(buf, 'e');
        *e = '\0';
        if (snprintf(out, size, "%se%d", buf, atoi(e + 1)) <= SCORE_WIDTH)
            return;
    }
}

/* A figure of three digits or more with its unit, 1024-based. */
static void scaled(char *out, size_t size, double v, const char *const *units, const char *gap)
{
    int u = 0;
    while (fabs(v) >= 999.5 && u < 4) {
        v /= 1024;
        u++;
    }
    snprintf(out, size, "%.*f%s%s", u > 0 && fabs(v) < 9.95 ? 1 : 0, v, gap, units[u]);
}

void fmt_bytes(char *out, size_t size, double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    scaled(out, size, bytes, units, " ");
}

void fmt_delta(char *out, size_t size, double bytes)
{
    static const char *const units[] = {"", "K", "M", "G", "T"};
    char buf[40];
    scaled(buf, sizeof buf, bytes, units, "");
    snprintf(out, size, "%s%s", bytes > 0 ? "+" : "", buf);
}

void fmt_change(char *out, size_t size, double change, double se)
{
    if (isfinite(se))
        snprintf(out, size, "%+.1f %% +-%.1f", 100 * change, 100 * se);
    else
        snprintf(out, size, "%+.1f %%", 100 * change);
}
