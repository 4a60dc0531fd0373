#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/ascii.h"
#include "base/mem.h"
#include "base/str.h"
#include "evaluate/precheck.h"
#include "text/unicode.h"

enum {
    RATIO_LEAST = 20,   /* characters from which on a share says something */
    ENTROPY_LEAST = 60, /* trigrams from which on their entropy does */
    LOOK_MOST = 4096,   /* characters that are looked at: all periods of a longer text would take seconds */
    PEER_PATTERN_LEAST = 6,
    PEER_PERIOD_MAX = 10
};
/* The entropy of trigrams is above 0.75 of the most it can be in prose and code, 0.55 in a list of one word with
 * numbers. */
static const double entropy_least = 0.5;
static const double run_share = 0.3, normal_share = 0.5, control_share = 0.1, pattern_share = 0.5;

const char *const garbled_names[GARBLED_ITEMS + 1] = {
    [GARBLED_EMPTY_TEXT] = "empty_text",
    [GARBLED_REPEATED_CHAR] = "repeated_char",
    [GARBLED_NORMAL_CHAR_RATIO] = "normal_char_ratio",
    [GARBLED_CONTROL_CHAR] = "control_char",
    [GARBLED_REPEATED_PATTERN] = "repeated_pattern",
};

/* Code points of a text. */
typedef struct Text {
    uint32_t *c;
    uint64_t *gram; /* room for a trigram at each */
    int n;
    bool peer;
} Text;

/* As Python's str.isspace, for which the separators of information are blanks, too. */
static bool blank(uint32_t c)
{
    return unicode_is_space(c) || (c >= 0x1c && c <= 0x1f);
}

static bool empty_text(const Text *t)
{
    for (int i = 0; i < t->n; i++)
        if (!blank(t->c[i]))
            return false;
    return true;
}

static bool repeated_char(const Text *t)
{
    int longest = 0, run = 1;
    for (int i = 1; i < t->n; i++) {
        run = t->c[i] == t->c[i - 1] ? run + 1 : 1;
        longest = run > 1 && run > longest ? run : longest;
    }
    return longest > run_share * t->n;
}

/* What the original's character class holds beside word characters and blanks. */
static const char peer_marks[] = "，。！？、；：\"（）【】《》.,!?;:()[]{}'-";

static bool peer_normal(uint32_t c)
{
    int len;
    for (const char *p = peer_marks; *p; p += len)
        if (utf8_next(p, &len) == c)
            return true;
    const char *cat = unicode_category(c); /* Python's \w: letters and what has a numeric value */
    return cat[0] == 'L' || cat[0] == 'N' || c == '_' || blank(c);
}

static bool normal(uint32_t c)
{
    const char *cat = unicode_category(c);
    return strchr("LMNPZ", cat[0]) || strcmp(cat, "Sm") == 0 || strcmp(cat, "Sc") == 0 || blank(c);
}

static bool few_normal_chars(const Text *t)
{
    int n = 0;
    for (int i = 0; i < t->n; i++)
        n += t->peer ? peer_normal(t->c[i]) : normal(t->c[i]);
    return n < normal_share * t->n;
}

static bool control_chars(const Text *t)
{
    int n = 0;
    for (int i = 0; i < t->n; i++)
        n += t->c[i] < 32 && t->c[i] != '\n' && t->c[i] != '\r' && t->c[i] != '\t';
    return n > control_share * t->n;
}

/* The first L characters, at least three times and half of the text. */
static bool peer_pattern(const Text *t)
{
    int most = t->n / 3 < PEER_PERIOD_MAX ? t->n / 3 : PEER_PERIOD_MAX;
    if (t->n < PEER_PATTERN_LEAST)
        return false;
    for (int len = 2; len < most; len++) {
        int count = 0;
        for (int i = 0; i + len <= t->n;) {
            bool same = memcmp(t->c + i, t->c, (size_t)len * sizeof *t->c) == 0;
            count += same;
            i += same ? len : 1;
        }
        if (count >= 3 && len * count >= pattern_share * t->n)
            return true;
    }
    return false;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Entropy of the text's trigrams as a share of the most that so many can have. */
static double trigram_entropy(const Text *t)
{
    int n = t->n - 2;
    uint64_t *g = t->gram;
    double h = 0;
    for (int i = 0; i < n; i++)
        g[i] = (uint64_t)t->c[i] << 42 | (uint64_t)t->c[i + 1] << 21 | t->c[i + 2];
    qsort(g, (size_t)n, sizeof *g, compare_u64);
    for (int i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && g[j] == g[i]; j++)
            ;
        double p = (double)(j - i) / n;
        h -= p * log2(p);
    }
    return h / log2(n);
}

/* A stretch that repeats itself three times or more, with any period, and is half of the text. */
static bool periodic(const Text *t)
{
    int n = t->n < LOOK_MOST ? t->n : LOOK_MOST;
    for (int period = 1; period * 3 <= n; period++)
        for (int i = period, run = 0; i < n; i++) {
            run = t->c[i] == t->c[i - period] ? run + 1 : 0;
            if (run >= 2 * period && run + period >= pattern_share * n)
                return true;
        }
    return false;
}

static bool repeated_pattern(const Text *t)
{
    if (t->peer)
        return peer_pattern(t);
    return periodic(t) || (t->n - 2 >= ENTROPY_LEAST && trigram_entropy(t) < entropy_least);
}

static const struct {
    bool (*fires)(const Text *t);
    bool share; /* by default only of a text that is long enough */
} item_table[GARBLED_ITEMS] = {
    [GARBLED_EMPTY_TEXT] = {.fires = empty_text},
    [GARBLED_REPEATED_CHAR] = {.fires = repeated_char, .share = true},
    [GARBLED_NORMAL_CHAR_RATIO] = {.fires = few_normal_chars, .share = true},
    [GARBLED_CONTROL_CHAR] = {.fires = control_chars},
    [GARBLED_REPEATED_PATTERN] = {.fires = repeated_pattern, .share = true},
};

static int code_points(const char *s, size_t n, uint32_t *out)
{
    int k = 0;
    for (size_t i = 0; i < n;) {
        unsigned c;
        int len = utf8_decode(s + i, n - i, &c);
        out[k++] = len ? c : 0xfffd;
        i += len ? (size_t)len : 1;
    }
    return k;
}

Status precheck_garbled(const char *text, size_t len, unsigned items, bool peer, int *fired, Error *err)
{
    Text t = {.c = mem_array(len + 1, sizeof *t.c), .gram = mem_array(len + 1, sizeof *t.gram), .peer = peer};
    *fired = -1;
    t.n = t.c ? code_points(text, len, t.c) : 0;
    for (int i = 0; i < GARBLED_ITEMS && *fired < 0 && t.c && t.gram; i++)
        if ((items & 1u << i) && (peer || !item_table[i].share || t.n >= RATIO_LEAST) && item_table[i].fires(&t))
            *fired = i;
    Status st = t.c && t.gram ? ST_OK : error_nomem(err, "a precheck");
    free(t.c);
    free(t.gram);
    return st;
}

static void lower_case(Str *out, const char *s)
{
    for (size_t n = strlen(s), i = 0; i < n;) {
        unsigned c;
        char buf[4];
        int len = utf8_decode(s + i, n - i, &c);
        if (!len)
            c = 0xfffd;
        str_append(out, buf, (size_t)utf8_encode((unsigned)utf8proc_tolower((utf8proc_int32_t)c), buf));
        i += len ? (size_t)len : 1;
    }
}

Status precheck_expected(const char *reply, const char *const *texts, int n, bool *found, Error *err)
{
    Str have = {0}, want = {0};
    bool asked = false;
    *found = false;
    lower_case(&have, reply);
    for (int i = 0; i < n && !*found; i++) {
        if (!*texts[i])
            continue;
        asked = true;
        str_clear(&want);
        lower_case(&want, texts[i]);
        *found = strstr(str_text(&have), str_text(&want)) != NULL;
    }
    *found = *found || !asked;
    Status st = have.oom || want.oom ? error_nomem(err, "a precheck") : ST_OK;
    str_free(&have);
    str_free(&want);
    return st;
}
