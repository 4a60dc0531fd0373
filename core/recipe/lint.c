#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "base/map.h"
#include "base/str.h"
#include "recipe/pattern_impl.h"

/* What is odd about a pattern, with a better one where there is one. */

enum { SAMPLE_FROM = 4096, WORDS_MAX = 512, HINT_MAX = 200, DISTANCE_MAX = 3 };

/* Linears that a text selects; hits may be NULL. */
static int64_t count_hits(const Model *m, const char *text, bool *hits)
{
    Pattern *p;
    if (pattern_compile(&p, text, NULL) != ST_OK)
        return 0;
    bool *own = hits ? NULL : mem_zarray((size_t)m->nlinears, 1);
    int64_t n = hits || own ? pattern_hits(p, m, hits ? hits : own) : 0;
    free(own);
    pattern_free(p);
    return n;
}

/* Takes the text as hint when it selects something. */
static bool try_hint(const Model *m, Lint *out, const char *text)
{
    if (strlen(text) >= sizeof out->hint || count_hits(m, text, NULL) == 0)
        return false;
    snprintf(out->hint, sizeof out->hint, "%s", text);
    return true;
}

/* The distinct components of the model's names that aren't numbers. Borrowed from the names: not terminated. */
typedef struct ModelWords {
    struct {
        const char *s;
        int n;
    } w[WORDS_MAX];
    int n;
} ModelWords;

static void words_collect(const Model *m, ModelWords *out)
{
    Map seen = {0};
    out->n = 0;
    /* of a large model a part: its later names repeat the components of the first */
    for (int64_t i = 0; i < m->nlinears && out->n < WORDS_MAX; i += i < SAMPLE_FROM ? 1 : 17)
        for (const char *s = m->linears[i].name, *end; *s && out->n < WORDS_MAX; s = *end ? end + 1 : end) {
            end = strchrnul(s, '.');
            bool added = false;
            if (!ascii_is_digit(*s) && map_add(&seen, s, (size_t)(end - s), 0, &added) && added) {
                out->w[out->n].s = s;
                out->w[out->n++].n = (int)(end - s);
            }
        }
    map_free(&seen);
}

/* Names that linear_quant is never offered: right as names, wrong as patterns. */
static const char *const outside_words[] = {"lm_head", "embed_tokens", "norm", NULL};

/* Nearest word to s[0..n), NULL when none is near or it is a word itself. *outside: it is one of the words above. */
static const char *nearest_word(const ModelWords *words, const char *s, int n, int *len, bool *outside)
{
    char own[64], other[64];
    const char *best = NULL;
    int least = n < 4 ? 2 : DISTANCE_MAX + 1;
    if (n <= 0 || n >= (int)sizeof own)
        return NULL;
    memcpy(own, s, (size_t)n);
    own[n] = '\0';
    for (int i = 0; i < words->n; i++) {
        if (words->w[i].n >= (int)sizeof other)
            continue;
        memcpy(other, words->w[i].s, (size_t)words->w[i].n);
        other[words->w[i].n] = '\0';
        int d = str_distance(own, other, least);
        if (d == 0)
            return NULL;
        if (d < least) {
            least = d;
            best = words->w[i].s;
            *len = words->w[i].n;
            *outside = false;
        }
    }
    for (const char *const *w = outside_words; *w; w++) {
        int d = str_distance(own, *w, least);
        if (d < least) {
            least = d;
            best = *w;
            *len = (int)strlen(*w);
            *outside = true;
        }
    }
    return best;
}

/* Replaces every misspelt part of a pattern by the nearest component of a name. false when nothing changed. */
static bool respell(const ModelWords *words, const char *text, char *out, size_t size, bool *outside)
{
    size_t n = 0;
    bool changed = false;
    *outside = false;
    for (const char *s = text; *s;) {
        int run = (int)strcspn(s, ".*?[]{},\\");
        if (!run) {
            if (n + 2 > size)
                return false;
            out[n++] = *s++;
            continue;
        }
        int len = run;
        bool out_word = false;
        const char *w = ascii_is_digit(*s) ? NULL : nearest_word(words, s, run, &len, &out_word);
        if (n + (size_t)(w ? len : run) + 1 > size)
            return false;
        memcpy(out + n, w ? w : s, (size_t)(w ? len : run));
        n += (size_t)(w ? len : run);
        changed |= w != NULL;
        *outside |= out_word;
        s += run;
    }
    out[n] = '\0';
    return changed;
}

static bool is_outside(const char *text)
{
    text += strspn(text, "*");
    for (const char *const *w = outside_words; *w; w++) {
        size_t n = strlen(*w);
        if (strncmp(text, *w, n) == 0 && (!text[n] || strcmp(text + n, "*") == 0))
            return true;
    }
    return false;
}

/* Forms near the text: its end or its beginning are what people forget. */
static bool try_forms(const Model *m, Lint *out, const char *text)
{
    char buf[HINT_MAX + 8];
    size_t n = strlen(text);
    if (n >= HINT_MAX)
        return false;
    if (try_hint(m, out, text))
        return true;
    snprintf(buf, sizeof buf, "%s.*", text);
    if (try_hint(m, out, buf))
        return true;
    snprintf(buf, sizeof buf, "*%s", text);
    if (*text != '*' && try_hint(m, out, buf))
        return true;
    snprintf(buf, sizeof buf, "%s", text);
    if (n > 2 && strcmp(buf + n - 2, ".*") == 0) {
        buf[n - 2] = '\0';
        if (try_hint(m, out, buf))
            return true;
    }
    snprintf(buf, sizeof buf, "%s%s*", *text == '*' ? "" : "*", text);
    return strspn(text, "*?") < n && try_hint(m, out, buf);
}

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool ends(const char *text, const char *with)
{
    size_t n = strlen(text), k = strlen(with);
    return n >= k && strcmp(text + n - k, with) == 0;
}

const char *pattern_nowhere(const char *text)
{
    const char *last = strrchr(text, '.');
    bool plain = text[strcspn(text, "*?[{")] == '\0', upper = false;
    for (const char *s = text; *s; s++)
        upper = upper || (*s >= 'A' && *s <= 'Z');
    if (starts(text, "re:"))
        return "'re:' is no prefix here: patterns are wildcards, '*' for any characters";
    if (*text == '!')
        return "'!' does not negate here";
    if (*text == ' ' || *text == '\t' || ends(text, " ") || ends(text, "\t"))
        return "blanks around it belong to it";
    if (strchr(text, '/'))
        return "names are joined by '.', not '/'";
    if (*text == '.' || *text == '^' || ends(text, "$") || strstr(text, "\\."))
        return "a regular expression: patterns are wildcards, '*' for any characters";
    if (ends(text, ".weight") || ends(text, ".bias"))
        return "a tensor's name: patterns name linears, without '.weight'";
    if (upper)
        return "names are lower case";
    if (plain && (!last || !last[1] || ascii_is_digit(last[1])))
        return "no linear is called just so: add '*'";
    return NULL;
}

/* What was meant by a text that pattern_nowhere has something to say of: without the marks of other languages. */
static void plain_form(const char *text, char *out, size_t size)
{
    size_t n = 0;
    text += starts(text, "re:") ? 3 : 0;
    while (*text && strchr(" \t!^", *text))
        text++;
    for (; *text && n + 1 < size; text++) {
        if (*text == '\\' || (*text == '.' && text[1] == '*' && (n == 0 || text[-1] != '\\')))
            continue; /* ".*" is '*' */
        out[n++] = *text == '/' ? '.' : *text >= 'A' && *text <= 'Z' ? (char)(*text - 'A' + 'a') : *text;
    }
    while (n && strchr(" \t$.", out[n - 1]))
        n--;
    out[n] = '\0';
    if (ends(out, ".weight"))
        out[n - strlen(".weight")] = '\0';
}

static void lint_no_match(const char *text, const Model *m, Lint *out)
{
    ModelWords *words = mem_array(1, sizeof *words);
    char respelt[HINT_MAX], plain[HINT_MAX];
    bool outside = false;
    plain_form(text, plain, sizeof plain);
    out->kind = LINT_NO_MATCH;
    if (is_outside(text)) {
        snprintf(out->text, sizeof out->text, "selects nothing: linear_quant never takes it, it stays float");
    } else if (pattern_nowhere(text) && *plain && try_forms(m, out, plain)) {
        snprintf(out->text, sizeof out->text, "selects nothing; '%.80s' would", out->hint);
    } else if (try_forms(m, out, text)) {
        snprintf(out->text, sizeof out->text, "selects nothing; '%.80s' would", out->hint);
    } else if (words && (words_collect(m, words), respell(words, text, respelt, sizeof respelt, &outside)) && outside) {
        snprintf(out->hint, sizeof out->hint, "%s", respelt);
        snprintf(out->text, sizeof out->text, "selects nothing; nearest: %.60s, which linear_quant never takes",
                 respelt);
    } else if (words && respell(words, text, respelt, sizeof respelt, &outside) && try_forms(m, out, respelt)) {
        snprintf(out->text, sizeof out->text, "selects nothing; nearest: %.80s", out->hint);
    } else {
        snprintf(out->text, sizeof out->text, "selects nothing");
    }
    free(words);
}

/* A digit before '*' that meets longer numbers too: layers.1* takes 10 … 19. */
static bool lint_broad(const char *text, const Model *m, const bool *hits, Lint *out)
{
    char buf[PATTERN_TEXT_MAX + 4];
    for (const char *s = strchr(text, '*'); s; s = strchr(s + 1, '*')) {
        if (s == text || !ascii_is_digit(s[-1]))
            continue;
        int at = (int)(s - text);
        const char *digits = s;
        while (digits > text && ascii_is_digit(digits[-1]))
            digits--;
        bool number = digits > text && digits[-1] == '.';
        bool *narrow = number ? mem_zarray((size_t)m->nlinears, 1) : NULL;
        snprintf(buf, sizeof buf, "%.*s.%s", at, text, s);
        int64_t n = narrow ? count_hits(m, buf, narrow) : 0, more = 0;
        for (int64_t i = 0; i < m->nlinears && n; i++)
            more += hits[i] && !narrow[i];
        free(narrow);
        if (!more)
            continue;
        out->kind = LINT_BROAD;
        snprintf(out->hint, sizeof out->hint, "%.*s", (int)sizeof out->hint - 1, buf);
        snprintf(out->text, sizeof out->text, "also takes %.*s0 and above (%lld more); meant %.100s?",
                 (int)(s - digits) > 8 ? 8 : (int)(s - digits), digits, (long long)more, buf);
        return true;
    }
    return false;
}

/* A pattern that selects exactly `want`, into the hint; or the first of those that do. */
static void hint_cover(const Model *m, const bool *want, Lint *out)
{
    char **list;
    int n;
    if (pattern_cover(m, want, &list, &n, NULL) != ST_OK)
        return;
    if (n == 1)
        snprintf(out->hint, sizeof out->hint, "%s", list[0]);
    for (int i = 0; i < n; i++)
        free(list[i]);
    free(list);
}

static const char *last_part(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

/* The text with its last component widened to all members of a group ("*q_proj" to "*{q,k,v}_proj"), when that selects
 * exactly `want`. */
static bool hint_siblings(const Model *m, const char *text, const FusedGroup *g, const bool *want, Lint *out)
{
    size_t n = strlen(text), own = 0;
    const char *first = last_part(m->linears[g->first].name), *end = strrchr(first, '_');
    for (int32_t i = 0; i < g->count; i++) {
        const char *part = last_part(m->linears[group_linear(g, i)].name);
        size_t k = strlen(part);
        if (k <= n && strcmp(text + n - k, part) == 0)
            own = k;
        if (end && (k <= strlen(end) || strcmp(part + k - strlen(end), end) != 0))
            end = NULL;
    }
    size_t suffix = end ? strlen(end) : 0;
    if (!own)
        return false;
    Str b = {0};
    str_append(&b, text, n - own);
    str_putc(&b, '{');
    for (int32_t i = 0; i < g->count; i++) {
        const char *part = last_part(m->linears[group_linear(g, i)].name);
        str_puts(&b, i ? "," : "");
        str_append(&b, part, strlen(part) - suffix);
    }
    str_putc(&b, '}');
    str_append(&b, end ? end : "", suffix);
    bool *hits = mem_zarray((size_t)m->nlinears, 1);
    bool same = hits && !b.oom && b.len < sizeof out->hint && count_hits(m, b.s, hits) > 0 &&
                memcmp(hits, want, (size_t)m->nlinears) == 0;
    if (same)
        snprintf(out->hint, sizeof out->hint, "%s", b.s);
    free(hits);
    str_free(&b);
    return same;
}

/* Parts of fused groups, counting what earlier patterns took: the hint takes the groups whole. */
static Status lint_splits(const char *text, const Model *m, const bool *hits, const bool *before, Lint *out, Error *err)
{
    bool *whole = mem_zarray((size_t)m->nlinears, 1), *missing = mem_zarray((size_t)m->nlinears, 1);
    if (!whole || !missing) {
        free(whole);
        free(missing);
        return error_nomem(err, "a pattern");
    }
    int64_t split = 0, first = -1;
    for (int64_t g = 0; g < m->ngroups; g++) {
        const FusedGroup *f = &m->groups[g];
        int mine = 0, taken = 0;
        for (int32_t k = 0; k < f->count; k++) {
            int32_t i = group_linear(f, k);
            mine += hits[i];
            taken += hits[i] || (before && before[i]);
        }
        bool part = mine && taken < f->count;
        split += part;
        if (part && first < 0)
            first = g;
        for (int32_t k = 0; k < f->count && mine; k++) {
            int32_t i = group_linear(f, k);
            whole[i] = true;
            missing[i] = part && !hits[i] && !(before && before[i]);
        }
    }
    if (split) {
        const FusedGroup *f = &m->groups[first];
        int32_t miss = f->first;
        for (int32_t k = 1; !missing[miss]; k++)
            miss = group_linear(f, k);
        out->kind = LINT_SPLITS;
        /* a list for a large model takes too long for every key typed */
        if (!hint_siblings(m, text, f, whole, out) && m->nlinears <= SAMPLE_FROM) {
            hint_cover(m, whole, out);
            if (!out->hint[0])
                hint_cover(m, missing, out);
        }
        snprintf(out->text, sizeof out->text, "splits %lld fused group%s (%s): without %.90s", (long long)split,
                 split == 1 ? "" : "s", f->label, m->linears[miss].name);
    }
    free(whole);
    free(missing);
    return ST_OK;
}

Status pattern_lint(const char *text, const Model *m, const bool *before, Lint *out, Error *err)
{
    Pattern *p;
    *out = (Lint){.kind = LINT_OK};
    RETURN_IF_ERROR(pattern_compile(&p, text, err));
    bool *hits = mem_zarray((size_t)m->nlinears, 1);
    int64_t n = hits ? pattern_hits(p, m, hits) : 0, fresh = 0;
    pattern_free(p);
    if (!hits)
        return error_nomem(err, "a pattern");
    for (int64_t i = 0; i < m->nlinears; i++)
        fresh += hits[i] && !(before && before[i]);
    Status st = ST_OK;
    if (!n) {
        lint_no_match(text, m, out);
    } else if (!fresh) {
        out->kind = LINT_SHADOWED;
        snprintf(out->text, sizeof out->text, "earlier patterns select all of it already");
    } else if (!lint_broad(text, m, hits, out)) {
        st = lint_splits(text, m, hits, before, out, err);
    }
    free(hits);
    return st;
}
