#include "tune/decimal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "save/pyjson.h"

/* Digits into d, leading zeros left out; *point: how many of them came behind the point. */
static const char *read_digits(const char *s, const char *end, Decimal *d, int *point, bool *any)
{
    bool behind = false;
    for (*point = 0; s < end && (ascii_is_digit(*s) || (*s == '.' && !behind)); s++) {
        if (*s == '.') {
            behind = true;
            continue;
        }
        *any = true;
        *point += behind;
        if (d->n == 0 && *s == '0')
            continue;
        if (d->n == DECIMAL_DIGITS)
            return NULL;
        d->digit[d->n++] = (unsigned char)(*s - '0');
    }
    return s;
}

/* [+-] digits as a number of at most 4 digits; NULL: none. */
static const char *read_power(const char *s, const char *end, int *out)
{
    bool minus = s < end && *s == '-';
    s += s < end && (*s == '-' || *s == '+');
    if (s == end || !ascii_is_digit(*s))
        return NULL;
    for (*out = 0; s < end && ascii_is_digit(*s); s++)
        if ((*out = *out * 10 + (*s - '0')) > 9999)
            return NULL;
    *out = minus ? -*out : *out;
    return s;
}

bool decimal_parse(const char *text, size_t len, Decimal *out)
{
    const char *s = text, *end = text + len;
    Decimal d = {0};
    int point, power = 0;
    bool any = false;
    while (s < end && ascii_is_space(*s))
        s++;
    while (end > s && ascii_is_space(end[-1]))
        end--;
    if (s < end && (*s == '-' || *s == '+'))
        d.minus = *s++ == '-';
    s = read_digits(s, end, &d, &point, &any);
    if (!s || !any)
        return false;
    if (s < end && (*s == 'e' || *s == 'E') && !(s = read_power(s + 1, end, &power)))
        return false;
    d.exponent = power - point;
    if (d.n == 0)
        d.n = 1; /* zero: its digit is 0 already */
    if (s != end || d.exponent < -DECIMAL_EXPONENT || d.exponent > DECIMAL_EXPONENT)
        return false;
    *out = d;
    return true;
}

bool decimal_of(double v, Decimal *out)
{
    Str s = {0};
    if (!isfinite(v))
        return false;
    pyjson_double(&s, v);
    bool fine = !s.oom && decimal_parse(str_text(&s), s.len, out);
    str_free(&s);
    return fine;
}

bool decimal_of_node(const YamlNode *n, Decimal *out)
{
    char text[32];
    switch (n->kind) {
    case YAML_INT:
        snprintf(text, sizeof text, "%lld", (long long)n->i);
        return decimal_parse(text, strlen(text), out);
    case YAML_FLOAT:
        return decimal_of(n->f, out);
    case YAML_STR:
        return decimal_parse(n->text, n->len, out);
    default:
        return false;
    }
}

static void put_digits(const Decimal *d, int from, int to, Str *out)
{
    for (int i = from; i < to; i++)
        str_putc(out, (char)('0' + d->digit[i]));
}

double decimal_value(const Decimal *d)
{
    char text[DECIMAL_DIGITS + 16];
    int n = d->minus ? snprintf(text, sizeof text, "-") : 0;
    for (int i = 0; i < d->n; i++)
        text[n++] = (char)('0' + d->digit[i]);
    snprintf(text + n, sizeof text - (size_t)n, "e%d", d->exponent);
    return strtod(text, NULL);
}

void decimal_put(const Decimal *d, Str *out)
{
    int left = d->exponent + d->n; /* digits before the point, where it isn't written with a power */
    bool plain = d->exponent <= 0 && left > -6;
    if (d->minus)
        str_putc(out, '-');
    int point = plain ? left : 1;
    if (point <= 0) {
        str_puts(out, "0.");
        for (int i = point; i < 0; i++)
            str_putc(out, '0');
        point = 0;
    }
    put_digits(d, 0, point < d->n ? point : d->n, out);
    if (point > 0 && point < d->n)
        str_putc(out, '.');
    put_digits(d, point, d->n, out);
    if (!plain)
        str_printf(out, "E%+d", left - 1);
}

/* Room for every digit of a number whose exponent is in its range, and what carries out of it. */
enum { PLACES = 2 * DECIMAL_EXPONENT + DECIMAL_DIGITS + 2 };

static void add_to(int *place, const Decimal *d, int sign)
{
    for (int i = 0; d && i < d->n; i++)
        place[DECIMAL_EXPONENT + d->exponent + d->n - 1 - i] += d->minus ? -sign * d->digit[i] : sign * d->digit[i];
}

int decimal_sign(const Decimal *a, const Decimal *b, const Decimal *c)
{
    int place[PLACES] = {0}, carry = 0;
    bool any = false;
    add_to(place, a, 1);
    add_to(place, b, -1);
    add_to(place, c, -1);
    for (int i = 0; i < PLACES; i++) {
        int v = place[i] + carry;
        carry = v >= 0 ? v / 10 : -((9 - v) / 10);
        any = any || v != carry * 10;
    }
    return carry < 0 ? -1 : any || carry > 0;
}
