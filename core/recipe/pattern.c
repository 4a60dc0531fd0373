#include "recipe/pattern.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "recipe/pattern_impl.h"

typedef struct PosixClass {
    const char *name;
    CharRange r[5]; /* ends with hi == 0 */
} PosixClass;

/* The ranges the peer's matcher uses (ASCII only). */
static const PosixClass posix_table[] = {
    {"alnum", {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}}},
    {"alpha", {{'A', 'Z'}, {'a', 'z'}}},
    {"ascii", {{0, 127}}},
    {"blank", {{'\t', '\t'}, {' ', ' '}}},
    {"cntrl", {{0, 31}, {127, 127}}},
    {"digit", {{'0', '9'}}},
    {"graph", {{'!', '~'}}},
    {"lower", {{'a', 'z'}}},
    {"print", {{' ', '~'}}},
    {"punct", {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}}},
    {"space", {{'\t', '\r'}, {' ', ' '}}},
    {"upper", {{'A', 'Z'}}},
    {"word", {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}, {'_', '_'}}},
    {"xdigit", {{'0', '9'}, {'A', 'F'}, {'a', 'f'}}},
    {.name = NULL},
};

bool class_has(const CharClass *c, unsigned cp)
{
    bool in = false;
    if (cp < 128)
        in = c->ascii[cp >> 6] >> (cp & 63) & 1;
    else
        for (int i = 0; i < c->nwide && !in; i++)
            in = cp >= c->wide[i].lo && cp <= c->wide[i].hi;
    return in != c->negate;
}

/* A pattern being compiled: one class at a time. */
typedef struct ClassBuild {
    Pattern *p;
    CharClass c;
    size_t cap;
    bool oom;
} ClassBuild;

static void class_add(ClassBuild *b, unsigned lo, unsigned hi)
{
    for (unsigned u = lo; u <= hi && u < 128; u++)
        b->c.ascii[u >> 6] |= 1ull << (u & 63);
    if (hi < 128 || hi < lo)
        return;
    if (!mem_grow(&b->c.wide, &b->cap, (size_t)b->c.nwide + 1, sizeof *b->c.wide)) {
        b->oom = true;
        return;
    }
    b->c.wide[b->c.nwide++] = (CharRange){lo < 128 ? 128 : lo, hi};
}

/* [:name:] at s: its length, 0 when it is none. Adds its members. */
static size_t class_posix(ClassBuild *b, const char *s)
{
    if (s[0] != '[' || s[1] != ':')
        return 0;
    bool complement = s[2] == '^';
    const char *name = s + 2 + complement;
    for (const PosixClass *k = posix_table; k->name; k++) {
        size_t n = strlen(k->name);
        if (strncmp(name, k->name, n) != 0 || name[n] != ':' || name[n + 1] != ']')
            continue;
        CharClass in = {0};
        for (int i = 0; i < 5 && k->r[i].hi; i++)
            for (unsigned u = k->r[i].lo; u <= k->r[i].hi; u++)
                in.ascii[u >> 6] |= 1ull << (u & 63);
        for (int w = 0; w < 2; w++)
            b->c.ascii[w] |= complement ? ~in.ascii[w] : in.ascii[w];
        if (complement)
            class_add(b, 128, 0x10ffff);
        return (size_t)(name + n + 2 - s);
    }
    return 0;
}

/* One character of a class (an escape gives its second): code point into *cp, bytes used; 0 at the end of the text. */
static size_t class_char(const char *s, unsigned *cp)
{
    size_t esc = s[0] == '\\';
    if (!s[esc])
        return 0;
    size_t n = utf8_decode(s + esc, strlen(s + esc), cp) > 0 ? (size_t)utf8_decode(s + esc, strlen(s + esc), cp) : 1;
    if (n == 1)
        *cp = (unsigned char)s[esc];
    return esc + n;
}

/* Reads the class at s ('['): bytes used, 0 when no ']' closes it (then '[' is a plain character). */
static size_t class_parse(ClassBuild *b, const char *s)
{
    size_t i = 1;
    b->c.negate = s[i] == '!' || s[i] == '^';
    i += b->c.negate;
    bool first = true;
    while (s[i] && (s[i] != ']' || first)) {
        size_t posix = class_posix(b, s + i);
        if (posix) {
            i += posix;
            first = false;
            if (s[i] == '-' && s[i + 1] && s[i + 1] != ']') { /* no range starts at a named class */
                class_add(b, '-', '-');
                i++;
            }
            continue;
        }
        unsigned lo, hi;
        size_t n = class_char(s + i, &lo);
        if (!n)
            return 0;
        i += n;
        first = false;
        ClassBuild probe = {.p = b->p};
        if (s[i] == '-' && s[i + 1] && s[i + 1] != ']' && !class_posix(&probe, s + i + 1)) {
            n = class_char(s + i + 1, &hi);
            if (!n)
                return 0;
            i += 1 + n;
            class_add(b, lo, hi); /* a backward range holds nothing */
        } else {
            class_add(b, lo, lo);
        }
        free(probe.c.wide);
    }
    return s[i] ? i + 1 : 0;
}

static bool push(Pattern *p, size_t *cap, Token t)
{
    if (!mem_grow(&p->tokens, cap, p->ntokens + 1, sizeof *p->tokens))
        return false;
    p->tokens[p->ntokens++] = t;
    return true;
}

/* '[': a class token, or the plain character. *used: bytes of s. */
static Status compile_class(Pattern *p, const char *s, size_t *used, size_t *ccap, Token *out, Error *err)
{
    ClassBuild b = {.p = p};
    *used = class_parse(&b, s);
    if (b.oom) {
        free(b.c.wide);
        return error_nomem(err, "a pattern");
    }
    if (!*used) {
        free(b.c.wide);
        *used = 1;
        *out = (Token){.kind = TK_BYTE, .byte = '['};
        return ST_OK;
    }
    if (!mem_grow(&p->classes, ccap, p->nclasses + 1, sizeof *p->classes)) {
        free(b.c.wide);
        return error_nomem(err, "a pattern");
    }
    *out = (Token){.kind = TK_CLASS, .cls = (int32_t)p->nclasses};
    p->classes[p->nclasses++] = b.c;
    return ST_OK;
}

/* The plain bytes at both ends of an alternative; the last one's behind its last star. */
static bool plain_ends(Pattern *p, Alt *a)
{
    const Token *t = a->count ? p->tokens + a->first : NULL;
    char *text = arena_alloc(&p->arena, (size_t)a->count + 1);
    if (!text)
        return false;
    int32_t k = 0, star = a->count;
    while (k < a->count && t[k].kind == TK_BYTE) {
        text[k] = (char)t[k].byte;
        k++;
    }
    a->head = text;
    a->nhead = (size_t)k;
    while (star > k && t[star - 1].kind == TK_BYTE)
        star--;
    if (star == 0 || t[star - 1].kind != TK_STAR)
        star = a->count;
    for (int32_t i = star; i < a->count; i++)
        text[i] = (char)t[i].byte;
    a->tail = text + star;
    a->ntail = (size_t)(a->count - star);
    return true;
}

static Status compile_alt(Pattern *p, const char *s, size_t *tcap, size_t *ccap, Error *err)
{
    Alt a = {.first = (int32_t)p->ntokens};
    while (*s) {
        Token t = {.kind = TK_BYTE, .byte = (uint8_t)*s};
        size_t used = 1;
        if (*s == '*') {
            t.kind = TK_STAR;
            while (s[used] == '*')
                used++;
        } else if (*s == '?') {
            t.kind = TK_ANY;
        } else if (*s == '[') {
            RETURN_IF_ERROR(compile_class(p, s, &used, ccap, &t, err));
        } else if (*s == '\\') {
            if (!s[1]) /* nothing to escape: the peer drops it */
                break;
            t.byte = (uint8_t)s[1];
            used = 2;
        }
        if (!push(p, tcap, t))
            return error_nomem(err, "a pattern");
        s += used;
    }
    a.count = (int32_t)p->ntokens - a.first;
    if (!plain_ends(p, &a))
        return error_nomem(err, "a pattern");
    p->alts[p->nalts++] = a;
    return ST_OK;
}

Status pattern_compile(Pattern **out, const char *text, Error *err)
{
    if (strlen(text) > PATTERN_TEXT_MAX)
        return error_set(err, ST_DATA, "pattern is longer than %d bytes", PATTERN_TEXT_MAX);
    Pattern *p = calloc(1, sizeof *p);
    if (!p)
        return error_nomem(err, "a pattern");
    BraceList list = {.arena = &p->arena};
    size_t tcap = 0, ccap = 0;
    Status st = brace_expand(&list, text, err);
    if (st == ST_OK) {
        p->text = arena_strdup(&p->arena, text);
        p->alts = mem_array(list.n, sizeof *p->alts);
        if (!p->text || !p->alts)
            st = error_nomem(err, "a pattern");
    }
    for (size_t i = 0; i < list.n && st == ST_OK; i++)
        st = compile_alt(p, list.s[i], &tcap, &ccap, err);
    free(list.s);
    if (st != ST_OK) {
        pattern_free(p);
        return st;
    }
    *out = p;
    return ST_OK;
}

void pattern_free(Pattern *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->nclasses; i++)
        free(p->classes[i].wide);
    free(p->classes);
    free(p->tokens);
    free(p->alts);
    arena_free(&p->arena);
    free(p);
}

/* Length of the character at s (ill-formed bytes count as one each) and its code point. */
static size_t next_char(const char *s, unsigned *cp)
{
    if ((unsigned char)*s < 128) {
        *cp = (unsigned char)*s;
        return 1;
    }
    int n = utf8_decode(s, strlen(s), cp);
    if (n > 0)
        return (size_t)n;
    *cp = (unsigned char)*s;
    return 1;
}

/* Bytes of s that one token takes, 0 when it doesn't match. */
static size_t token_take(const Pattern *p, const Token *t, const char *s)
{
    unsigned cp;
    size_t n;
    switch ((TokenKind)t->kind) {
    case TK_BYTE:
        return t->byte == (uint8_t)*s;
    case TK_ANY:
        return next_char(s, &cp);
    case TK_CLASS:
        n = next_char(s, &cp);
        return class_has(&p->classes[t->cls], cp) ? n : 0;
    case TK_STAR:
        break;
    }
    return 0;
}

/* Returns to the last star only: at most (tokens x characters) steps. */
static bool alt_match(const Pattern *p, const Alt *a, const char *s)
{
    const Token *t = a->count ? p->tokens + a->first : NULL, *end = a->count ? t + a->count : NULL, *star = NULL; /* '' has none */
    const char *from = NULL;
    if (a->count && t->kind != TK_BYTE && (*s == '.' || !*s)) /* a wildcard takes no leading dot */
        return false;
    while (*s) {
        size_t n = 0;
        if (t < end && t->kind == TK_STAR) {
            star = t++;
            from = s;
            continue;
        }
        if (t < end && (n = token_take(p, t, s)) > 0) {
            t++;
            s += n;
            continue;
        }
        if (!star)
            return false;
        unsigned cp;
        from += next_char(from, &cp);
        if (star + 1 < end && star[1].kind == TK_BYTE && star[1].byte < 128) { /* which stands nowhere within a character */
            from = strchr(from, star[1].byte);
            if (!from)
                return false;
        }
        s = from;
        t = star + 1;
    }
    while (t < end && t->kind == TK_STAR)
        t++;
    return t == end;
}

bool pattern_match(const Pattern *p, const char *name)
{
    if (strcmp(p->text, name) == 0)
        return true;
    size_t len = strlen(name);
    for (int32_t i = 0; i < p->nalts; i++) {
        const Alt *a = &p->alts[i];
        if (len >= a->nhead + a->ntail && memcmp(name, a->head, a->nhead) == 0 &&
            memcmp(name + len - a->ntail, a->tail, a->ntail) == 0 && alt_match(p, a, name))
            return true;
    }
    return false;
}
