#define PCRE2_CODE_UNIT_WIDTH 8

#include "text/matcher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pcre2.h>

#include "base/str.h"
#include "text/regex.h"

struct Matcher {
    pcre2_code *code; /* NULL: literal */
    bool jit;
    char *literal;
    size_t len;
};

enum { STACK_START = 1 << 15, STACK_FIRST_MAX = 1 << 24 };
#define STACK_LAST_MAX ((size_t)1 << 32)

/* PCRE2's Unicode version as 10 * major + minor, 130 where it can't be told. */
static int pcre2_unicode(void)
{
    char v[64];
    int major = 13, minor = 0;
    int need = pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, NULL);
    if (need > 0 && need <= (int)sizeof v && pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, v) > 0)
        sscanf(v, "%d.%d", &major, &minor);
    return major * 10 + minor;
}

Status matcher_regex(Matcher **out, const char *pattern, size_t len, Error *err)
{
    Str t = {0};
    Status st = regex_translate(pattern, len, pcre2_unicode(), &t, err);
    Matcher *m = st == ST_OK ? calloc(1, sizeof *m) : NULL;
    if (st == ST_OK && !m)
        st = error_nomem(err, "a pattern");
    if (st == ST_OK) {
        int code;
        PCRE2_SIZE at;
        m->code = pcre2_compile((PCRE2_SPTR)str_text(&t), t.len, PCRE2_UTF | PCRE2_NO_UTF_CHECK, &code, &at, NULL);
        if (!m->code) {
            char why[160] = "", shown[200];
            snprintf(shown, sizeof shown, "%s", pattern);
            shown[text_fit_terminal(shown, strlen(shown), false)] = '\0';
            pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
            st = code == PCRE2_ERROR_HEAP_FAILED ? error_nomem(err, "a pattern")
                                                 : error_set(err, ST_DATA, "pattern '%s': %s", shown, why);
        }
    }
    str_free(&t);
    if (st != ST_OK) {
        free(m);
        return st;
    }
    m->jit = pcre2_jit_compile(m->code, PCRE2_JIT_COMPLETE) == 0;
    *out = m;
    return ST_OK;
}

Status matcher_literal(Matcher **out, const char *text, size_t len, Error *err)
{
    if (!len)
        return error_set(err, ST_DATA, "pattern: an empty string");
    Matcher *m = calloc(1, sizeof *m);
    if (m)
        m->literal = malloc(len);
    if (!m || !m->literal) {
        free(m);
        return error_nomem(err, "a pattern");
    }
    memcpy(m->literal, text, len);
    m->len = len;
    *out = m;
    return ST_OK;
}

void matcher_free(Matcher *m)
{
    if (!m)
        return;
    pcre2_code_free(m->code);
    free(m->literal);
    free(m);
}

static Status scratch_ready(MatchScratch *s, Error *err)
{
    if (s->data)
        return ST_OK;
    s->context = pcre2_match_context_create(NULL);
    s->data = pcre2_match_data_create(1, NULL);
    if (!s->context || !s->data)
        return error_nomem(err, "pattern matching");
    return ST_OK;
}

void match_scratch_free(MatchScratch *s)
{
    pcre2_match_data_free(s->data);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->stack);
    memset(s, 0, sizeof *s);
}

/* PCRE2's default limits count steps and give up on long pieces: raise them with the length. */
static void raise_limits(MatchScratch *s, size_t len)
{
    uint64_t steps = 10000000 + (uint64_t)len * 100;
    uint32_t limit = steps > UINT32_MAX ? UINT32_MAX : (uint32_t)steps;
    pcre2_set_match_limit(s->context, limit);
    pcre2_set_depth_limit(s->context, limit);
    pcre2_set_heap_limit(s->context, UINT32_MAX);
}

/* A larger JIT stack, eight times the last; false when there is none to be had. */
static bool grow_stack(MatchScratch *s)
{
    size_t max = s->stack_max ? s->stack_max * 8 : STACK_FIRST_MAX;
    if (max > STACK_LAST_MAX)
        return false;
    pcre2_jit_stack *stack = pcre2_jit_stack_create(STACK_START, max, NULL);
    if (!stack)
        return false;
    pcre2_jit_stack_assign(s->context, NULL, stack);
    pcre2_jit_stack_free(s->stack);
    s->stack = stack;
    s->stack_max = max;
    return true;
}

Status matcher_find(const Matcher *m, MatchScratch *s, const char *text, size_t len, size_t from, size_t *b, size_t *e,
                    bool *found, Error *err)
{
    s->searches++;
    RETURN_IF_ERROR(text_limits_check(s->limits, 0, "a text", err));
    if (!m->code) {
        const char *at = from <= len ? memmem(text + from, len - from, m->literal, m->len) : NULL;
        *found = at != NULL;
        *b = at ? (size_t)(at - text) : len;
        *e = at ? *b + m->len : len;
        s->bytes += *e - from;
        return ST_OK;
    }
    RETURN_IF_ERROR(scratch_ready(s, err));
    raise_limits(s, len);
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (m->jit)
        do
            rc = pcre2_jit_match(m->code, subject, len, from, 0, s->data, s->context);
        while (rc == PCRE2_ERROR_JIT_STACKLIMIT && grow_stack(s));
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(m->code, subject, len, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->data, s->context);
    *found = rc >= 0;
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) {
        char why[160] = "";
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
        return error_set(err, rc == PCRE2_ERROR_NOMEMORY ? ST_NOMEM : ST_DATA,
                         "split pattern gave up on a text of %zu bytes: %s", len, why);
    }
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(s->data);
    *b = *found ? v[0] : len;
    *e = *found ? v[1] : len;
    s->bytes += *e - from;
    return ST_OK;
}
