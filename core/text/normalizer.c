#include "text/normalizer.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "base/mem.h"
#include "io/json.h"
#include "text/component.h"
#include "text/unicode.h"

enum { STEPS_MAX = 64 };

typedef enum StepKind { STEP_UNICODE, STEP_PREPEND, STEP_REPLACE, STEP_STRIP } StepKind;

typedef struct NormalizerStep {
    StepKind kind;
    int options;      /* STEP_UNICODE: utf8proc's */
    bool left, right; /* STEP_STRIP */
    char *content;    /* STEP_PREPEND, STEP_REPLACE */
    size_t len;
    Matcher *matcher;
} NormalizerStep;

struct Normalizer {
    NormalizerStep step[STEPS_MAX];
    int n;
};

/* ---- reading ---- */

static Status read_content(const cJSON *node, const char *key, NormalizerStep *step, Error *err)
{
    const char *s = NULL;
    RETURN_IF_ERROR(json_str(node, key, &s, NULL, err));
    if (!s)
        return error_set(err, ST_DATA, "normalizer: '%s' is missing", key);
    step->content = strdup(s);
    step->len = strlen(s);
    return step->content ? ST_OK : error_nomem(err, "a normalizer");
}

static Status read_replace(const cJSON *node, NormalizerStep *step, Error *err)
{
    RETURN_IF_ERROR(read_content(node, "content", step, err));
    return component_pattern(node, "normalizer Replace", &step->matcher, err);
}

static Status read_strip(const cJSON *node, NormalizerStep *step, Error *err)
{
    step->left = step->right = true;
    RETURN_IF_ERROR(json_bool(node, "strip_left", &step->left, NULL, err));
    return json_bool(node, "strip_right", &step->right, NULL, err);
}

static Status read_step(void *ctx, const cJSON *node, const char *type, Error *err)
{
    Normalizer *n = ctx;
    static const struct {
        const char *name;
        StepKind kind;
        int options;
    } kinds[] = {
        {"NFC", STEP_UNICODE, UTF8PROC_STABLE | UTF8PROC_COMPOSE},
        {"NFD", STEP_UNICODE, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
        {"NFKC", STEP_UNICODE, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
        {"NFKD", STEP_UNICODE, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
        {"Prepend", STEP_PREPEND, 0},
        {"Replace", STEP_REPLACE, 0},
        {"Strip", STEP_STRIP, 0},
        {NULL, STEP_STRIP, 0},
    };
    int k = 0;
    while (kinds[k].name && strcmp(kinds[k].name, type) != 0)
        k++;
    if (!kinds[k].name)
        return error_set(err, ST_DATA, "normalizer '%s' is not supported", type);
    if (n->n == STEPS_MAX)
        return error_set(err, ST_DATA, "normalizer: more than %d steps", STEPS_MAX);
    NormalizerStep *step = &n->step[n->n++];
    *step = (NormalizerStep){.kind = kinds[k].kind, .options = kinds[k].options};
    if (step->kind == STEP_PREPEND)
        return read_content(node, "prepend", step, err);
    if (step->kind == STEP_REPLACE)
        return read_replace(node, step, err);
    return step->kind == STEP_STRIP ? read_strip(node, step, err) : ST_OK;
}

Status normalizer_new(Normalizer **out, const cJSON *node, Error *err)
{
    Normalizer *n = calloc(1, sizeof *n);
    if (!n)
        return error_nomem(err, "a normalizer");
    Status st = component_read(&(ComponentReader){"normalizer", "normalizers", read_step, n}, node, err);
    if (st != ST_OK) {
        normalizer_free(n);
        return st;
    }
    *out = n;
    return ST_OK;
}

void normalizer_free(Normalizer *n)
{
    if (!n)
        return;
    for (int i = 0; i < n->n; i++) {
        free(n->step[i].content);
        matcher_free(n->step[i].matcher);
    }
    free(n);
}

bool normalizer_acts(const Normalizer *n)
{
    return n->n > 0;
}

/* ---- applying ---- */

/* Code points that every normal form but the decomposed ones leaves alone and that never join with what is before
 * them: text may be cut in front of one. Below U+0300 for NFC; ideographs outside the compatibility block. */
static bool inert(uint32_t cp, int options)
{
    uint32_t plain = options & (UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE) ? 0xa0 : 0x300;
    return cp < plain || (cp >= 0x4e00 && cp <= 0x9fff);
}

/* Code points of one run, decomposed. */
typedef struct Points {
    utf8proc_int32_t *cp;
    size_t n, cap;
} Points;

static int combining_class(utf8proc_int32_t cp)
{
    return utf8proc_get_property(cp)->combining_class;
}

static Status decompose(const char *text, size_t len, int options, Points *p, Error *err)
{
    int boundary = 0;
    p->n = 0;
    for (size_t i = 0; i < len;) {
        int k;
        utf8proc_int32_t cp = (utf8proc_int32_t)utf8_next(text + i, &k);
        if (!mem_grow(&p->cp, &p->cap, p->n + 32, sizeof *p->cp)) /* the longest decomposition has 18 */
            return error_nomem(err, "normalizing a text");
        utf8proc_ssize_t got = utf8proc_decompose_char(cp, p->cp + p->n, (utf8proc_ssize_t)(p->cap - p->n),
                                                       (utf8proc_option_t)(options | UTF8PROC_DECOMPOSE), &boundary);
        if (got < 0 || (size_t)got > p->cap - p->n)
            return error_set(err, ST_DATA, "normalizing a text: U+%04X cannot be decomposed", (unsigned)cp);
        p->n += (size_t)got;
        i += (size_t)k;
    }
    return ST_OK;
}

/* Sorts a run of marks by combining class, equal ones as they stand: by counting, since a hostile run is long. */
static void order_run(utf8proc_int32_t *cp, utf8proc_int32_t *tmp, size_t n)
{
    size_t at[257] = {0};
    for (size_t i = 0; i < n; i++)
        at[combining_class(cp[i]) + 1]++;
    for (int c = 1; c < 257; c++)
        at[c] += at[c - 1];
    memcpy(tmp, cp, n * sizeof *cp);
    for (size_t i = 0; i < n; i++)
        cp[at[combining_class(tmp[i])]++] = tmp[i];
}

/* Canonical ordering: runs of code points whose combining class isn't 0. */
static Status order_marks(Points *p, Error *err)
{
    utf8proc_int32_t *tmp = NULL;
    size_t cap = 0;
    for (size_t i = 0, end; i < p->n; i = end + 1) {
        bool sorted = true;
        for (end = i; end < p->n && combining_class(p->cp[end]); end++)
            sorted = sorted && (end == i || combining_class(p->cp[end - 1]) <= combining_class(p->cp[end]));
        if (sorted)
            continue;
        if (!mem_grow(&tmp, &cap, end - i, sizeof *tmp)) {
            free(tmp);
            return error_nomem(err, "normalizing a text");
        }
        order_run(p->cp + i, tmp, end - i);
    }
    free(tmp);
    return ST_OK;
}

static Status normalize_run(const char *text, size_t len, int options, Points *p, Str *out, Error *err)
{
    RETURN_IF_ERROR(decompose(text, len, options, p, err));
    RETURN_IF_ERROR(order_marks(p, err));
    utf8proc_ssize_t n = (utf8proc_ssize_t)p->n;
    if (options & UTF8PROC_COMPOSE)
        n = utf8proc_normalize_utf32(p->cp, n, (utf8proc_option_t)options);
    if (n < 0)
        return error_set(err, ST_DATA, "normalizing a text: %s", utf8proc_errmsg(n));
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        char bytes[4];
        str_append(out, bytes, (size_t)utf8_encode((unsigned)p->cp[i], bytes));
    }
    return ST_OK;
}

/* Only runs around code points that are not inert go through utf8proc. */
static Status apply_unicode(const NormalizerStep *step, const char *text, size_t len, Str *out, Error *err)
{
    size_t done = 0, last = 0; /* text before done is written; the inert code point before i starts at last */
    unsigned char low = step->options & (UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE) ? 0xc2 : 0xcc;
    Points points = {0};
    Status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < len;) {
        int n = 1;
        if ((unsigned char)text[i] < low || inert(utf8_next(text + i, &n), step->options)) {
            if (((unsigned char)text[i] & 0xc0) != 0x80)
                last = i;
            i += (size_t)n;
            continue;
        }
        size_t end = i + (size_t)n;
        while (end < len && !inert(utf8_next(text + end, &n), step->options))
            end += (size_t)n;
        size_t start = last > done ? last : done;
        str_append(out, text + done, start - done);
        st = normalize_run(text + start, end - start, step->options, &points, out, err);
        done = last = i = end;
    }
    free(points.cp);
    str_append(out, text + done, len - done);
    return st;
}

static Status apply_replace(const NormalizerStep *step, MatchScratch *s, const char *text, size_t len, Str *out,
                            Error *err)
{
    size_t at = 0, b, e;
    bool found = len > 0;
    for (size_t from = 0; found && from <= len;) {
        RETURN_IF_ERROR(matcher_find(step->matcher, s, text, len, from, &b, &e, &found, err));
        if (!found)
            break;
        str_append(out, text + at, b - at);
        str_append(out, step->content, step->len);
        RETURN_IF_ERROR(text_limits_check(s->limits, out->len, "a text as its normalizer makes it", err));
        at = from = e;
        if (b == e) { /* an empty match: go on behind the next code point, which stays */
            int n = 1;
            if (e < len)
                utf8_next(text + e, &n);
            from = e + (size_t)n;
        }
    }
    str_append(out, text + at, len - at);
    return ST_OK;
}

static void apply_strip(const NormalizerStep *step, const char *text, size_t len, Str *out)
{
    const char *b = text, *e = text + len;
    int n;
    while (step->left && b < e && unicode_is_space(utf8_next(b, &n)))
        b += n;
    while (step->right && e > b && unicode_is_space(utf8_next(utf8_before(e), &n)))
        e = utf8_before(e);
    str_append(out, b, (size_t)(e - b));
}

Status normalizer_apply(const Normalizer *n, MatchScratch *s, const char *text, size_t len, Str *out, Error *err)
{
    str_clear(out);
    str_append(out, text, len);
    Str next = {0};
    Status st = ST_OK;
    for (int i = 0; i < n->n && st == ST_OK && !out->oom; i++) {
        const NormalizerStep *step = &n->step[i];
        str_clear(&next);
        if (step->kind == STEP_UNICODE)
            st = apply_unicode(step, str_text(out), out->len, &next, err);
        else if (step->kind == STEP_REPLACE)
            st = apply_replace(step, s, str_text(out), out->len, &next, err);
        else if (step->kind == STEP_STRIP)
            apply_strip(step, str_text(out), out->len, &next);
        else if (out->len) {
            str_append(&next, step->content, step->len);
            str_append(&next, out->s, out->len);
        }
        if (st == ST_OK)
            st = text_limits_check(s->limits, out->len + next.len, "a text as its normalizer makes it", err);
        Str swap = *out;
        *out = next;
        next = swap;
    }
    bool short_of_memory = out->oom || next.oom;
    str_free(&next);
    return st == ST_OK && short_of_memory ? error_nomem(err, "normalizing a text") : st;
}
