#ifndef SLIM_BASE_ASCII_H
#define SLIM_BASE_ASCII_H

#include <stdbool.h>
#include <stddef.h>

/* Classes and case of ASCII, whatever the locale (in a Turkish one 'I' and 'i' are no pair). `c` is a char, a byte or a
 * code point; what is not ASCII belongs to no class and has no other case. */
static inline bool ascii_is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static inline bool ascii_is_upper(int c)
{
    return c >= 'A' && c <= 'Z';
}

static inline bool ascii_is_alpha(int c)
{
    return ascii_is_upper(c) || (c >= 'a' && c <= 'z');
}

static inline bool ascii_is_alnum(int c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c);
}

static inline bool ascii_is_xdigit(int c)
{
    return ascii_is_digit(c) || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f');
}

/* Space, \t, \n, \v, \f, \r. */
static inline bool ascii_is_space(int c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static inline int ascii_lower(int c)
{
    return ascii_is_upper(c) ? c - 'A' + 'a' : c;
}

/* strncasecmp and strcasecmp for ASCII: <0, 0, >0. */
static inline int ascii_ncasecmp(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int d = ascii_lower((unsigned char)a[i]) - ascii_lower((unsigned char)b[i]);
        if (d || !a[i])
            return d;
    }
    return 0;
}

static inline int ascii_casecmp(const char *a, const char *b)
{
    return ascii_ncasecmp(a, b, (size_t)-1);
}

#endif
