#include "base/phrase.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The length of a conversion that begins at '%'. */
static size_t conversion(const char *at)
{
    size_t n = 1 + strspn(at + 1, "-+ #0123456789.");
    n += strspn(at + n, "lz");
    return n + (at[n] != '\0');
}

static void keep(Phrase *p, const char *printed)
{
    size_t n = strlen(printed), room = sizeof p->arg - p->used;
    if (room == 0)
        return;
    n = n < room ? n : room - 1;
    memcpy(p->arg + p->used, printed, n);
    p->arg[p->used + n] = '\0';
    p->used += n + 1;
}

static long long whole(const char *spec, va_list *ap)
{
    bool ll = strstr(spec, "ll") != NULL, is_unsigned = strchr(spec, 'u') != NULL;
    if (ll)
        return va_arg(*ap, long long);
    if (strchr(spec, 'z'))
        return (long long)va_arg(*ap, size_t);
    if (strchr(spec, 'l'))
        return (long long)va_arg(*ap, long);
    return is_unsigned ? (long long)va_arg(*ap, unsigned) : va_arg(*ap, int);
}

/* Prints the next argument as the conversion says. */
static void print_one(const char *at, size_t n, va_list *ap, char *out, size_t size)
{
    char spec[24], kind = at[n - 1], wide[32];
    snprintf(spec, sizeof spec, "%.*s", (int)n, at);
    snprintf(wide, sizeof wide, "%.*sll%c", (int)(1 + strspn(at + 1, "-+ #0123456789.")), at, kind);
    switch (kind) {
    case 'd': case 'i': case 'u': snprintf(out, size, wide, whole(spec, ap)); break;
    case 'e': case 'f': case 'g': snprintf(out, size, spec, va_arg(*ap, double)); break;
    case 'c': snprintf(out, size, spec, va_arg(*ap, int)); break;
    default: snprintf(out, size, spec, va_arg(*ap, const char *)); break;
    }
}

static const char *itself(const char *english)
{
    return english;
}

static void add(Phrase *p, const char *fmt, va_list *ap)
{
    if (p->parts == PHRASE_PARTS)
        return;
    p->fmt[p->parts++] = fmt;
    for (const char *at = strchr(fmt, '%'); at; at = strchr(at, '%')) {
        char printed[PHRASE_MAX];
        size_t n = conversion(at);
        if (at[n - 1] != '%') {
            print_one(at, n, ap, printed, sizeof printed);
            keep(p, printed);
        }
        at += n;
    }
    phrase_say(p, itself, p->text, sizeof p->text);
}

void phrase_set(Phrase *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    *p = (Phrase){.parts = 0};
    add(p, fmt, &ap);
    va_end(ap);
}

void phrase_add(Phrase *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add(p, fmt, &ap);
    va_end(ap);
}

void phrase_join(Phrase *p, const Phrase *behind)
{
    for (int i = 0; i < behind->parts && p->parts < PHRASE_PARTS; i++)
        p->fmt[p->parts++] = behind->fmt[i];
    size_t n = behind->used < sizeof p->arg - p->used ? behind->used : sizeof p->arg - p->used;
    memcpy(p->arg + p->used, behind->arg, n);
    p->used += n;
    if (p->used == sizeof p->arg) /* cut */
        p->arg[p->used - 1] = '\0';
    phrase_say(p, itself, p->text, sizeof p->text);
}

void phrase_say(const Phrase *p, const char *(*say)(const char *english), char *out, size_t size)
{
    size_t at = 0, taken = 0;
    for (int i = 0; i < p->parts; i++) {
        for (const char *f = say(p->fmt[i]); *f && at < size;) {
            size_t n = *f == '%' ? conversion(f) : strcspn(f, "%");
            if (*f != '%' || f[n - 1] == '%') {
                at += (size_t)snprintf(out + at, size - at, "%.*s", *f == '%' ? 1 : (int)n, f);
            } else {
                const char *arg = taken < p->used ? p->arg + taken : "";
                taken += strlen(arg) + 1;
                at += (size_t)snprintf(out + at, size - at, "%s", f[n - 1] == 's' ? say(arg) : arg);
            }
            f += n;
        }
    }
    if (size && p->parts == 0)
        out[0] = '\0';
}
