#define PCRE2_CODE_UNIT_WIDTH 8
#include "convert/impl.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

/* ---- patterns ---- */

/* One character against the set behind '['; *end: behind its ']', NULL when it has none. */
static bool in_set(const char *set, char c, const char **end)
{
    const char *p = set;
    bool negated = *p == '!', hit = false;
    p += negated;
    const char *close = *p ? strchr(p + 1, ']') : NULL; /* a ']' in front is one of the set */
    *end = close ? close + 1 : NULL;
    for (; close && p < close; p++) {
        if (p + 2 < close && p[1] == '-') {
            hit = hit || ((unsigned char)c >= (unsigned char)*p && (unsigned char)c <= (unsigned char)p[2]);
            p += 2;
        } else {
            hit = hit || c == *p;
        }
    }
    return hit != negated;
}

/* Whether the pattern's first item, no star, takes c; *next: behind it. */
static bool takes(const char *p, char c, const char **next)
{
    const char *end;
    *next = p + 1;
    if (!c || !*p)
        return false;
    if (*p == '?')
        return true;
    if (*p != '[')
        return *p == c;
    bool hit = in_set(p + 1, c, &end);
    if (!end)
        return c == '[';
    *next = end;
    return hit;
}

bool convert_glob(const char *p, const char *s)
{
    const char *star = NULL, *from = NULL, *next;
    while (*s || *p) {
        if (*p == '*') {
            star = ++p;
            from = s;
        } else if (takes(p, *s, &next)) {
            p = next;
            s++;
        } else if (star && *from) {
            p = star;
            s = ++from;
        } else {
            return false;
        }
    }
    return true;
}

/* ---- renamings ---- */

struct Renaming {
    pcre2_code *code;
    pcre2_match_data *match;
    const char *to; /* borrowed */
};

Status renaming_new(Renaming **out, const char *from, const char *to, Error *err)
{
    int why = 0;
    PCRE2_SIZE at = 0;
    Renaming *r = calloc(1, sizeof *r);
    *out = r;
    if (!r)
        return error_nomem(err, "a renaming");
    r->to = to;
    r->code = pcre2_compile((PCRE2_SPTR)from, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED, &why, &at,
                            NULL);
    if (!r->code && why != 121) { /* 121: no memory */
        PCRE2_UCHAR text[120] = "";
        pcre2_get_error_message(why, text, sizeof text);
        return error_set(err, ST_DATA, "'%.80s' is no regular expression: %s at character %zu", from, (const char *)text,
                         (size_t)at + 1);
    }
    r->match = r->code ? pcre2_match_data_create_from_pattern(r->code, NULL) : NULL;
    return r->match ? ST_OK : error_nomem(err, "a renaming");
}

void renaming_free(Renaming *r)
{
    if (!r)
        return;
    pcre2_match_data_free(r->match);
    pcre2_code_free(r->code);
    free(r);
}

/* What group n took of the name. */
static void put_group(const Renaming *r, int n, const char *name, Str *out)
{
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(r->match);
    if (n >= 0 && (uint32_t)n < pcre2_get_ovector_count(r->match) && v[2 * n] != PCRE2_UNSET)
        str_append(out, name + v[2 * n], v[2 * n + 1] - v[2 * n]);
}

/* "\g<...>" at p (behind the 'g'): its group, *end behind the '>'; -1: it is none. */
static int named_group(const Renaming *r, const char *p, const char **end)
{
    char name[64];
    const char *close = *p == '<' ? strchr(p, '>') : NULL;
    size_t n = close ? (size_t)(close - p - 1) : 0;
    if (n == 0 || n >= sizeof name)
        return -1;
    memcpy(name, p + 1, n);
    name[n] = 0;
    *end = close + 1;
    if (name[0] >= '0' && name[0] <= '9')
        return atoi(name);
    return pcre2_substring_number_from_name(r->code, (PCRE2_SPTR)name);
}

Status renaming_apply(Renaming *r, const char *name, bool *hit, Str *out, Error *err)
{
    str_clear(out);
    int n = pcre2_match(r->code, (PCRE2_SPTR)name, strlen(name), 0, 0, r->match, NULL);
    *hit = n > 0;
    if (n == PCRE2_ERROR_NOMATCH)
        return ST_OK;
    if (n < 0 && n != PCRE2_ERROR_NOMATCH)
        return error_set(err, ST_DATA, "'%.200s' can't be renamed: its pattern takes too long or can't be matched (%d)", name, n);
    for (const char *p = r->to; *p;) {
        const char *next = p + 1;
        int group = -1;
        if (*p == '\\' && p[1] >= '1' && p[1] <= '9') {
            group = p[1] - '0';
            next = p + 2;
        } else if (*p == '\\' && p[1] == 'g') {
            group = named_group(r, p + 2, &next);
        } else if (*p == '\\' && p[1]) {
            p++; /* what is behind it stands for itself */
            next = p + 1;
        }
        if (group >= 0)
            put_group(r, group, name, out);
        else
            str_putc(out, *p);
        p = next;
    }
    return out->oom ? error_nomem(err, "a renaming") : ST_OK;
}
