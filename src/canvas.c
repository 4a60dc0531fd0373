#include "src/canvas.h"

#include <langinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "src/lang.h"

Status canvas_init(Sheet *c, int w, int h, HistForm form, Error *err)
{
    *c = (Sheet){.w = w > 0 ? w : 0, .h = h > 0 ? h : 0, .form = form, .vline = form == HIST_ASCII ? L'|' : L'\u2502'};
    c->cell = mem_array((size_t)c->w * (size_t)c->h, sizeof *c->cell);
    if (!c->cell)
        return error_nomem(err, "a plot");
    for (int i = 0; i < c->w * c->h; i++)
        c->cell[i] = (CanvasCell){L' ', INK_TEXT};
    return ST_OK;
}

void canvas_fini(Sheet *c)
{
    free(c->cell);
    *c = (Sheet){0};
}

void canvas_put(Sheet *c, int y, int x, Ink ink, wchar_t ch)
{
    if (y >= 0 && y < c->h && x >= 0 && x < c->w)
        c->cell[y * c->w + x] = (CanvasCell){ch, (unsigned char)ink};
}

/* The next character of *s and its cells; 0 at the end. */
static wchar_t next(const char **s, int *w)
{
    unsigned cp = 0;
    for (;;) {
        if (!**s)
            return 0;
        int n = utf8_decode(*s, strlen(*s), &cp);
        *s += n > 0 ? n : 1;
        *w = n > 0 && cp >= 0x20 ? wcwidth((wchar_t)cp) : -1;
        if (*w < 0) {
            *w = 1;
            return L'?';
        }
        if (*w > 0)
            return (wchar_t)cp;
    }
}

int canvas_width(const char *text)
{
    int sum = 0, w;
    while (next(&text, &w))
        sum += w;
    return sum;
}

static bool of_number(char c)
{
    return (c >= '0' && c <= '9') || c == '.' || c == ',';
}

/* Bytes of the text that fit into the room. */
static size_t fitting(const char *text, int room)
{
    const char *end = text, *at = text;
    int w;
    while (next(&at, &w) && room >= w) {
        room -= w;
        end = at;
    }
    if (*end && of_number(*end))
        while (end > text && of_number(end[-1]))
            end--;
    return (size_t)(end - text);
}

int canvas_text(Sheet *c, int y, int x, Ink ink, const char *text)
{
    const char *end = text + fitting(text, c->w - x);
    int w;
    while (text < end) {
        wchar_t ch = next(&text, &w);
        canvas_put(c, y, x, ink, ch);
        if (w == 2)
            canvas_put(c, y, x + 1, ink, 0);
        x += w;
    }
    return x;
}

int canvas_say(Sheet *c, int y, int x, Ink ink, const char *fmt, ...)
{
    char buf[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buf, sizeof buf, tr(fmt), ap);
    va_end(ap);
    return canvas_text(c, y, x, ink, buf);
}

/* Bytes of the first line of a text in w cells; 0 only for an empty one. */
static size_t line_of(const char *text, int w)
{
    size_t n = fitting(text, w), all = strlen(text), cut = n;
    if (n == all)
        return n;
    while (cut > n / 2 && text[cut] != ' ')
        cut--;
    n = cut > n / 2 ? cut : n;
    return n ? n : 1;
}

int canvas_lines(int w, const char *text)
{
    int lines = 0;
    for (; *text && w > 0; lines++) {
        text += line_of(text, w);
        text += strspn(text, " ");
    }
    return lines;
}

void canvas_wrap(Sheet *c, int y, Ink ink, const char *text)
{
    char line[1024];
    for (; *text && c->w > 0; y++) {
        size_t n = line_of(text, c->w);
        snprintf(line, sizeof line, "%.*s", (int)n, text);
        canvas_text(c, y, 0, ink, line);
        text += n;
        text += strspn(text, " ");
    }
}

void canvas_right(Sheet *c, int y, int x, Ink ink, const char *text)
{
    canvas_text(c, y, x - canvas_width(text), ink, text);
}

void canvas_print(const Sheet *c, Str *out)
{
    for (int y = 0; y < c->h; y++) {
        int end = c->w;
        while (end > 0 && c->cell[y * c->w + end - 1].c == L' ')
            end--;
        for (int x = 0; x < end; x++) {
            char utf8[4];
            wchar_t ch = c->cell[y * c->w + x].c;
            if (ch)
                str_append(out, utf8, (size_t)utf8_encode((unsigned)ch, utf8));
        }
        str_putc(out, '\n');
    }
}

HistForm canvas_form(const char *name)
{
    bool utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    if (!name || strcmp(name, "auto") == 0)
        return utf8 ? HIST_BLOCK : HIST_ASCII;
    return strcmp(name, "braille") == 0 ? HIST_BRAILLE : strcmp(name, "block") == 0 ? HIST_BLOCK : HIST_ASCII;
}
