#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/yaml.h"

/* YAML 1.1 resolution of plain scalars with the exact expressions of PyYAML (specs/config.md 1). */

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool one_of(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(text, *words) == 0)
            return true;
    return false;
}

static size_t run(const char *s, const char *set)
{
    return strspn(s, set);
}

/* (:[0-5]?[0-9])+ : bytes used */
static size_t sexagesimal_tail(const char *s)
{
    size_t i = 0;
    while (s[i] == ':' && digit(s[i + 1]))
        i += s[i + 1] <= '5' && digit(s[i + 2]) ? 3 : 2;
    return i;
}

/* ([eE][-+][0-9]+)? : bytes used */
static size_t exponent(const char *s)
{
    if ((s[0] != 'e' && s[0] != 'E') || (s[1] != '-' && s[1] != '+') || !digit(s[2]))
        return 0;
    return 2 + run(s + 2, "0123456789");
}

static bool is_float(const char *text)
{
    const char *s = text + (*text == '-' || *text == '+');
    if (*s == '.') {
        static const char *const inf[] = {".inf", ".Inf", ".INF", NULL};
        static const char *const nan_words[] = {".nan", ".NaN", ".NAN", NULL};
        if (one_of(s, inf) || one_of(text, nan_words))
            return true;
        if (s != text || !digit(s[1]))
            return false;
        s += 1 + run(s + 1, "0123456789_");
        return s[exponent(s)] == '\0';
    }
    if (!digit(*s))
        return false;
    s += run(s, "0123456789_");
    size_t sixty = sexagesimal_tail(s);
    s += sixty;
    if (*s != '.')
        return false;
    s += 1 + run(s + 1, "0123456789_");
    return s[sixty ? 0 : exponent(s)] == '\0';
}

static bool is_int(const char *text)
{
    const char *s = text + (*text == '-' || *text == '+');
    if (*s == '0') {
        if (s[1] == 'b')
            return s[2] && s[2 + run(s + 2, "01_")] == '\0';
        if (s[1] == 'x')
            return s[2] && s[2 + run(s + 2, "0123456789abcdefABCDEF_")] == '\0';
        return s[1 + run(s + 1, "01234567_")] == '\0';
    }
    if (!digit(*s))
        return false;
    s += run(s, "0123456789_");
    return s[sexagesimal_tail(s)] == '\0';
}

static bool digits_between(const char **s, size_t least, size_t most)
{
    size_t n = run(*s, "0123456789");
    *s += n;
    return n >= least && n <= most;
}

static bool is_date(const char *s)
{
    const char *start = s;
    if (!digits_between(&s, 4, 4) || *s++ != '-' || !digits_between(&s, 1, 2) || *s++ != '-' ||
        !digits_between(&s, 1, 2))
        return false;
    if (!*s)
        return s - start == 10;
    if (*s == 'T' || *s == 't')
        s++;
    else if (run(s, " \t"))
        s += run(s, " \t");
    else
        return false;
    if (!digits_between(&s, 1, 2) || *s++ != ':' || !digits_between(&s, 2, 2) || *s++ != ':' ||
        !digits_between(&s, 2, 2))
        return false;
    if (*s == '.')
        s += 1 + run(s + 1, "0123456789");
    s += run(s, " \t");
    if (*s == 'Z')
        return s[1] == '\0';
    if (*s == '-' || *s == '+') {
        s++;
        if (!digits_between(&s, 1, 2))
            return false;
        if (*s == ':' && (s++, !digits_between(&s, 2, 2)))
            return false;
        return !*s;
    }
    return !*s && s[-1] != ' ' && s[-1] != '\t';
}

/* Digits of one number in `base`, underscores skipped; *end stops at what is none. Saturates; *f keeps the magnitude.
 * */
static uint64_t magnitude(const char *s, int base, const char **end, double *f)
{
    uint64_t v = 0;
    *f = 0;
    for (; *s; s++) {
        if (*s == '_')
            continue;
        int d = digit(*s) ? *s - '0' : (*s | 32) >= 'a' && (*s | 32) <= 'f' ? (*s | 32) - 'a' + 10 : 99;
        if (d >= base)
            break;
        v = v > (UINT64_MAX - (uint64_t)d) / (uint64_t)base ? UINT64_MAX : v * (uint64_t)base + (uint64_t)d;
        *f = *f * base + d;
    }
    *end = s;
    return v;
}

static void int_value(const char *text, int64_t *i, double *f)
{
    bool neg = *text == '-';
    const char *s = text + (*text == '-' || *text == '+'), *end;
    int base = 10;
    if (s[0] == '0' && s[1]) {
        base = s[1] == 'b' ? 2 : s[1] == 'x' ? 16 : 8;
        s += base == 8 ? 1 : 2;
    }
    double x;
    uint64_t v = magnitude(s, base, &end, &x);
    while (*end == ':') {
        double y;
        uint64_t w = magnitude(end + 1, 10, &end, &y);
        v = v > (UINT64_MAX - w) / 60 ? UINT64_MAX : v * 60 + w;
        x = x * 60 + y;
    }
    *f = neg ? -x : x;
    if (v > (uint64_t)INT64_MAX)
        *i = neg ? INT64_MIN : INT64_MAX;
    else
        *i = neg ? -(int64_t)v : (int64_t)v;
}

static double float_value(const char *text)
{
    bool neg = *text == '-';
    const char *s = text + (*text == '-' || *text == '+');
    if (strspn(s, ".") && (s[1] | 32) == 'i')
        return neg ? -INFINITY : INFINITY;
    if (*s == '.' && (s[1] | 32) == 'n')
        return NAN;
    char buf[512];
    size_t n = 0;
    double whole = 0;
    for (; *s && n + 1 < sizeof buf; s++) {
        if (*s == ':') { /* base 60 */
            buf[n] = '\0';
            whole = (whole + strtod(buf, NULL)) * 60;
            n = 0;
        } else if (*s != '_') {
            buf[n++] = *s;
        }
    }
    buf[n] = '\0';
    whole += strtod(buf, NULL);
    return neg ? -whole : whole;
}

YamlKind yaml_resolve(const char *text, size_t len, bool *b, int64_t *i, double *f)
{
    static const char *const yes[] = {"yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", NULL};
    static const char *const no[] = {"no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", NULL};
    static const char *const null[] = {"~", "null", "Null", "NULL", "", NULL};
    *b = false;
    *i = 0;
    *f = 0;
    if (strlen(text) != len || len > 400)
        return YAML_STR;
    if (one_of(text, null))
        return YAML_NULL;
    *b = one_of(text, yes);
    if (*b || one_of(text, no)) {
        *i = *b;
        *f = *b;
        return YAML_BOOL;
    }
    if (is_float(text)) {
        *f = float_value(text);
        return YAML_FLOAT;
    }
    if (is_int(text)) {
        int_value(text, i, f);
        return YAML_INT;
    }
    return is_date(text) ? YAML_DATE : YAML_STR;
}

const char *yaml_kind_name(YamlKind k)
{
    static const char *const name[] = {
        [YAML_NULL] = "null",  [YAML_BOOL] = "true/false", [YAML_INT] = "integer", [YAML_FLOAT] = "number",
        [YAML_STR] = "text",   [YAML_DATE] = "date",       [YAML_SEQ] = "list",    [YAML_MAP] = "mapping",
    };
    return name[k];
}
