#include "text/unicode.h"

#include <string.h>

#include <utf8proc.h>

static const UnicodeDelta *delta_find(uint32_t cp)
{
    size_t lo = 0, hi = unicode_delta_count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (cp > unicode_delta[mid].hi)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < unicode_delta_count && unicode_delta[lo].lo <= cp ? &unicode_delta[lo] : NULL;
}

const char *unicode_category(uint32_t cp)
{
    const UnicodeDelta *d = delta_find(cp);
    return d ? d->cat : utf8proc_category_string((utf8proc_int32_t)cp);
}

bool unicode_is_space(uint32_t cp)
{
    return (cp >= 0x09 && cp <= 0x0d) || cp == 0x20 || cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 &&
                                                                                                    cp <= 0x200a) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

/* Alphabetic code points that are neither letters, marks nor letter numbers. */
static bool circled_letter(uint32_t cp)
{
    return (cp >= 0x24b6 && cp <= 0x24e9) || (cp >= 0x1f130 && cp <= 0x1f149) || (cp >= 0x1f150 && cp <= 0x1f169) ||
           (cp >= 0x1f170 && cp <= 0x1f189);
}

bool unicode_is_word(uint32_t cp)
{
    const char *c = unicode_category(cp);
    return c[0] == 'L' || c[0] == 'M' || strcmp(c, "Nd") == 0 || strcmp(c, "Nl") == 0 || strcmp(c, "Pc") == 0 ||
           cp == 0x200c || cp == 0x200d || circled_letter(cp);
}

size_t utf8_valid_prefix(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t w;
        if (n - i >= sizeof w && (memcpy(&w, s + i, sizeof w), (w & 0x8080808080808080u) == 0)) {
            i += sizeof w;
            continue;
        }
        if (!((unsigned char)s[i] & 0x80)) {
            i++;
            continue;
        }
        unsigned cp;
        int len = utf8_decode(s + i, n - i, &cp);
        if (!len)
            break;
        i += (size_t)len;
    }
    return i;
}

/* Bytes of the longest beginning of a well-formed sequence at s, which is ill-formed; at least 1. */
static size_t ill_formed_length(const unsigned char *s, size_t n)
{
    unsigned char b = s[0];
    size_t want = b >= 0xc2 && b <= 0xdf ? 2 : b >= 0xe0 && b <= 0xef ? 3 : b >= 0xf0 && b <= 0xf4 ? 4 : 1;
    size_t i = 1;
    for (; i < want && i < n; i++) {
        unsigned char lo = 0x80, hi = 0xbf;
        if (i == 1) {
            lo = b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80;
            hi = b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
        }
        if (s[i] < lo || s[i] > hi)
            break;
    }
    return i;
}

size_t utf8_repair(Str *out, const char *s, size_t n)
{
    size_t bad = 0;
    for (size_t i = 0; i < n && !out->oom;) {
        size_t good = utf8_valid_prefix(s + i, n - i);
        str_append(out, s + i, good);
        i += good;
        if (i < n) {
            str_append(out, "\xef\xbf\xbd", 3);
            i += ill_formed_length((const unsigned char *)s + i, n - i);
            bad++;
        }
    }
    return bad;
}
