#include "text/pretok.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/json.h"
#include "text/bpe.h"
#include "text/component.h"
#include "text/unicode.h"

enum { STEPS_MAX = 64 };

#define GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

typedef enum Behavior { ISOLATED, REMOVED, MERGED_PREVIOUS, MERGED_NEXT, CONTIGUOUS, BEHAVIORS } Behavior;

static const char *const behavior_names[BEHAVIORS] = {
    [ISOLATED] = "Isolated",
    [REMOVED] = "Removed",
    [MERGED_PREVIOUS] = "MergedWithPrevious",
    [MERGED_NEXT] = "MergedWithNext",
    [CONTIGUOUS] = "Contiguous",
};

typedef enum Prefix { PREFIX_NEVER, PREFIX_FIRST, PREFIX_ALWAYS } Prefix;

/* A step puts a prefix before pieces and replaces spaces (Metaspace, ByteLevel's space), splits, or writes bytes in
 * the byte alphabet. */
typedef struct PretokStep {
    enum { STEP_SPLIT, STEP_PREFIX, STEP_LETTERS } kind;
    Matcher *matcher; /* STEP_SPLIT */
    Behavior behavior;
    bool invert;
    Prefix prefix;     /* STEP_PREFIX */
    char mark[8];      /* what is put before */
    bool replace;      /* spaces become the mark */
} PretokStep;

struct Pretok {
    PretokStep step[STEPS_MAX];
    int n;
    bool unwritten;  /* while reading: a ByteLevel whose alphabet no later step has seen yet */
    bool byte_level; /* the pieces are bytes */
    bool letters;    /* the pieces are written in the byte alphabet */
};

/* ---- reading ---- */

/* NULL when there are too many. */
static PretokStep *new_step(Pretok *p, Error *err)
{
    if (p->n < STEPS_MAX)
        return &p->step[p->n++];
    error_set(err, ST_DATA, "pre_tokenizer: more than %d steps", STEPS_MAX);
    return NULL;
}

/* The `behavior` of a step of kind `kind` into *out; absent: left as it is. */
static Status read_behavior(const cJSON *node, const char *kind, Behavior *out, Error *err)
{
    const char *name = NULL;
    RETURN_IF_ERROR(json_str(node, "behavior", &name, NULL, err));
    int k = 0;
    while (name && k < BEHAVIORS && strcmp(name, behavior_names[k]) != 0)
        k++;
    if (k == BEHAVIORS)
        return error_set(err, ST_DATA, "pre_tokenizer %s: behavior '%s' is not known", kind, name);
    if (name)
        *out = (Behavior)k;
    return ST_OK;
}

static Status read_split(Pretok *p, const cJSON *node, Error *err)
{
    PretokStep *step = new_step(p, err);
    if (!step)
        return ST_DATA;
    if (!json_get(node, "behavior"))
        return error_set(err, ST_DATA, "pre_tokenizer Split: no 'behavior'");
    RETURN_IF_ERROR(read_behavior(node, "Split", &step->behavior, err));
    RETURN_IF_ERROR(json_bool(node, "invert", &step->invert, NULL, err));
    return component_pattern(node, "pre_tokenizer Split", &step->matcher, err);
}

static Status add_regex(Pretok *p, const char *pattern, Behavior behavior, Error *err)
{
    PretokStep *step = new_step(p, err);
    if (!step)
        return ST_DATA;
    step->behavior = behavior;
    return matcher_regex(&step->matcher, pattern, strlen(pattern), err);
}

static Status read_digits(Pretok *p, const cJSON *node, Error *err)
{
    bool each = false;
    RETURN_IF_ERROR(json_bool(node, "individual_digits", &each, NULL, err));
    return add_regex(p, "\\p{N}", each ? ISOLATED : CONTIGUOUS, err);
}

/* Category P, and the ASCII symbols that C calls punctuation. */
static Status read_punctuation(Pretok *p, const cJSON *node, Error *err)
{
    Behavior behavior = ISOLATED;
    RETURN_IF_ERROR(read_behavior(node, "Punctuation", &behavior, err));
    return add_regex(p, "[\\p{P}$+<=>^`|~]", behavior, err);
}

static Status read_byte_level(Pretok *p, const cJSON *node, Error *err)
{
    bool space = true, regex = true;
    RETURN_IF_ERROR(json_bool(node, "add_prefix_space", &space, NULL, err));
    RETURN_IF_ERROR(json_bool(node, "use_regex", &regex, NULL, err));
    p->unwritten = true;
    if (space) {
        PretokStep *step = new_step(p, err);
        if (!step)
            return ST_DATA;
        *step = (PretokStep){.kind = STEP_PREFIX, .prefix = PREFIX_ALWAYS, .mark = " "};
    }
    return regex ? add_regex(p, GPT2_PATTERN, ISOLATED, err) : ST_OK;
}

static Status read_metaspace(Pretok *p, const cJSON *node, Error *err)
{
    const char *mark = "\xe2\x96\x81", *scheme = NULL;
    bool split = true, prefix = true, has_prefix = false;
    RETURN_IF_ERROR(json_str(node, "replacement", &mark, NULL, err));
    RETURN_IF_ERROR(json_str(node, "prepend_scheme", &scheme, NULL, err));
    RETURN_IF_ERROR(json_bool(node, "add_prefix_space", &prefix, &has_prefix, err));
    RETURN_IF_ERROR(json_bool(node, "split", &split, NULL, err));
    PretokStep *step = new_step(p, err);
    if (!step)
        return ST_DATA;
    *step = (PretokStep){.kind = STEP_PREFIX, .prefix = prefix ? PREFIX_ALWAYS : PREFIX_NEVER, .replace = true};
    if (scheme) {
        static const char *const names[] = {
            [PREFIX_NEVER] = "never", [PREFIX_FIRST] = "first", [PREFIX_ALWAYS] = "always"};
        int k = PREFIX_NEVER;
        while (k <= PREFIX_ALWAYS && strcmp(scheme, names[k]) != 0)
            k++;
        if (k > PREFIX_ALWAYS)
            return error_set(err, ST_DATA, "pre_tokenizer Metaspace: prepend_scheme '%s' is not known", scheme);
        step->prefix = (Prefix)k;
    }
    if (!*mark || strlen(mark) >= sizeof step->mark)
        return error_set(err, ST_DATA, "pre_tokenizer Metaspace: 'replacement' is no single character");
    memcpy(step->mark, mark, strlen(mark));
    if (!split)
        return ST_OK;
    if (!(step = new_step(p, err)))
        return ST_DATA;
    step->behavior = MERGED_NEXT;
    return matcher_literal(&step->matcher, mark, strlen(mark), err);
}

/* From here on the text is in the byte alphabet: later steps see it so (as Falcon's do). */
static Status write_letters(Pretok *p, Error *err)
{
    PretokStep *step = new_step(p, err);
    if (!step)
        return ST_DATA;
    *step = (PretokStep){.kind = STEP_LETTERS};
    p->letters = true;
    p->unwritten = false;
    return ST_OK;
}

static Status read_step(void *ctx, const cJSON *node, const char *type, Error *err)
{
    Pretok *p = ctx;
    static const struct {
        const char *name;
        Status (*read)(Pretok *p, const cJSON *node, Error *err);
    } kinds[] = {
        {"Split", read_split},
        {"ByteLevel", read_byte_level},
        {"Metaspace", read_metaspace},
        {"Digits", read_digits},
        {"Punctuation", read_punctuation},
        {NULL, NULL},
    };
    int k = 0;
    while (kinds[k].name && strcmp(kinds[k].name, type) != 0)
        k++;
    if (!kinds[k].name)
        return error_set(err, ST_DATA, "pre_tokenizer '%s' is not supported", type);
    if (p->unwritten)
        RETURN_IF_ERROR(write_letters(p, err));
    return kinds[k].read(p, node, err);
}

Status pretok_new(Pretok **out, const cJSON *node, Error *err)
{
    Pretok *p = calloc(1, sizeof *p);
    if (!p)
        return error_nomem(err, "a pre-tokenizer");
    Status st = component_read(&(ComponentReader){"pre_tokenizer", "pretokenizers", read_step, p}, node, err);
    if (st == ST_OK && p->unwritten && p->letters)
        st = write_letters(p, err);
    p->byte_level = p->unwritten; /* nothing comes after ByteLevel: the model takes the bytes themselves */
    if (st != ST_OK) {
        pretok_free(p);
        return st;
    }
    *out = p;
    return ST_OK;
}

void pretok_free(Pretok *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->n; i++)
        matcher_free(p->step[i].matcher);
    free(p);
}

bool pretok_byte_level(const Pretok *p)
{
    return p->byte_level;
}

/* ---- cutting ---- */

void pieces_free(Pieces *p)
{
    str_free(&p->own);
    str_free(&p->spare);
    free(p->piece);
    free(p->next);
    memset(p, 0, sizeof *p);
}

static bool push(Pieces *p, size_t at, size_t end)
{
    if (p->next_n == p->next_cap && !mem_grow(&p->next, &p->next_cap, p->next_n + 1, sizeof *p->next))
        return false;
    p->next[p->next_n++] = (Piece){at, end - at};
    return true;
}

static void take_next(Pieces *p)
{
    Piece *piece = p->piece;
    size_t cap = p->cap;
    p->piece = p->next;
    p->cap = p->next_cap;
    p->n = p->next_n;
    p->next = piece;
    p->next_cap = cap;
    p->next_n = 0;
}

/* How the last stretch of the piece that is being cut came about. */
typedef struct Cutting {
    size_t base;     /* index of the first stretch of this piece */
    bool last_match; /* the last stretch is a match (behavior's sense) */
} Cutting;

/* Adds text[at, end), a match or a gap between matches, as the behavior says. */
static bool add_stretch(const PretokStep *step, Pieces *p, Cutting *c, size_t at, size_t end, bool match)
{
    bool have = p->next_n > c->base;
    bool join = false;
    if (at == end)
        return true;
    if (step->behavior == MERGED_PREVIOUS)
        join = have && match && !c->last_match;
    else if (step->behavior == MERGED_NEXT)
        join = have && !match && c->last_match;
    else if (step->behavior == CONTIGUOUS)
        join = have && match == c->last_match;
    c->last_match = match;
    if (step->behavior == REMOVED && match)
        return true;
    if (join) {
        p->next[p->next_n - 1].len = end - p->next[p->next_n - 1].at;
        return true;
    }
    return push(p, at, end);
}

static Status split_piece(const PretokStep *step, MatchScratch *s, Pieces *p, Piece one, Error *err)
{
    const char *text = p->text + one.at;
    Cutting c = {.base = p->next_n};
    size_t done = 0, from = 0, b, e;
    bool found = true, ok = true;
    while (ok && from < one.len) {
        RETURN_IF_ERROR(matcher_find(step->matcher, s, text, one.len, from, &b, &e, &found, err));
        if (!found)
            break;
        ok = add_stretch(step, p, &c, one.at + done, one.at + b, step->invert) &&
             add_stretch(step, p, &c, one.at + b, one.at + e, !step->invert);
        done = from = e;
        if (b == e) { /* an empty match cuts too; go on behind the next code point */
            int n = 1;
            if (e < one.len)
                utf8_next(text + e, &n);
            from += (size_t)n;
        }
    }
    ok = ok && add_stretch(step, p, &c, one.at + done, one.at + one.len, step->invert);
    return ok ? ST_OK : error_nomem(err, "splitting a text");
}

/* The rewritten text in `spare` and its pieces in `next` become the present ones. */
static Status take_spare(Pieces *p, Error *err)
{
    if (p->spare.oom)
        return error_nomem(err, "splitting a text");
    Str swap = p->own;
    p->own = p->spare;
    p->spare = swap;
    p->text = str_text(&p->own);
    take_next(p);
    return ST_OK;
}

/* Rewrites the text with marks before pieces and for spaces. */
static Status mark_pieces(const PretokStep *step, const MatchScratch *m, bool first, Pieces *p, Error *err)
{
    Str *out = &p->spare;
    size_t mark = strlen(step->mark);
    str_clear(out);
    for (size_t i = 0; i < p->n; i++) {
        const char *s = p->text + p->piece[i].at, *end = s + p->piece[i].len;
        size_t at = out->len;
        bool there = (size_t)(end - s) >= mark && memcmp(s, step->mark, mark) == 0;
        there = there || (step->replace && s < end && *s == ' ');
        if (!there && (step->prefix == PREFIX_ALWAYS || (step->prefix == PREFIX_FIRST && first && i == 0)))
            str_append(out, step->mark, mark);
        while (step->replace && s < end) {
            const char *space = memchr(s, ' ', (size_t)(end - s));
            if (!space)
                break;
            str_append(out, s, (size_t)(space - s));
            str_append(out, step->mark, mark);
            s = space + 1;
        }
        str_append(out, s, (size_t)(end - s));
        RETURN_IF_ERROR(text_limits_check(m->limits, out->len, "a text as its pre-tokenizer makes it", err));
        if (!push(p, at, out->len))
            return error_nomem(err, "splitting a text");
    }
    return take_spare(p, err);
}

/* Writes every byte as its letter. */
static Status write_pieces(Pieces *p, Error *err)
{
    Str *out = &p->spare;
    str_clear(out);
    for (size_t i = 0; i < p->n; i++) {
        size_t at = out->len;
        for (size_t k = 0; k < p->piece[i].len; k++) {
            char letter[4];
            int n = utf8_encode(byte_to_letter((unsigned char)p->text[p->piece[i].at + k]), letter);
            str_append(out, letter, (size_t)n);
        }
        if (!push(p, at, out->len))
            return error_nomem(err, "splitting a text");
    }
    return take_spare(p, err);
}

Status pretok_apply(const Pretok *p, MatchScratch *s, const char *text, size_t len, bool first, Pieces *out, Error *err)
{
    out->text = text;
    out->next_n = 0;
    if (!push(out, 0, len))
        return error_nomem(err, "splitting a text");
    take_next(out);
    for (int i = 0; i < p->n; i++) {
        const PretokStep *step = &p->step[i];
        if (step->kind == STEP_PREFIX) {
            RETURN_IF_ERROR(mark_pieces(step, s, first, out, err));
            continue;
        }
        if (step->kind == STEP_LETTERS) {
            RETURN_IF_ERROR(write_pieces(out, err));
            continue;
        }
        for (size_t k = 0; k < out->n; k++)
            RETURN_IF_ERROR(split_piece(step, s, out, out->piece[k], err));
        take_next(out);
    }
    return ST_OK;
}
