#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/mem.h"
#include "base/str.h"
#include "io/file.h"
#include "io/json.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/fallback.h"
#include "text/normalizer.h"
#include "text/pretok.h"
#include "text/template.h"
#include "text/unicode.h"

enum { FILE_MAX = 1 << 29, CONFIG_MAX = 1 << 24, CACHE_MIN = 2048 };

struct Tokenizer {
    Bpe *bpe;
    Normalizer *normalizer;
    Pretok *pretok;
    AddedSet raw, normalized; /* added tokens looked for before and after normalizing */
    Map added;                /* content -> id; keys in bpe's arena */
    Template template;
};

/* What one call of encode works with. */
typedef struct Encoder {
    const Tokenizer *t;
    MatchScratch match;
    BpeScratch bpe;
    Pieces pieces;
    Str clean, normal;
    IdList out;
} Encoder;

/* ---- loading ---- */

static Status add_added(Tokenizer *t, const cJSON *node, MatchScratch *s, Error *err)
{
    const char *content = NULL;
    int64_t id = -1;
    bool normalized = true, special = false;
    struct AddedToken token = {0};
    if (!cJSON_IsObject(node))
        return error_set(err, ST_DATA, "added_tokens: an entry is no object");
    RETURN_IF_ERROR(json_str(node, "content", &content, NULL, err));
    RETURN_IF_ERROR(json_int(node, "id", &id, NULL, err));
    RETURN_IF_ERROR(json_bool(node, "special", &special, NULL, err));
    normalized = !special;
    RETURN_IF_ERROR(json_bool(node, "normalized", &normalized, NULL, err));
    RETURN_IF_ERROR(json_bool(node, "lstrip", &token.lstrip, NULL, err));
    RETURN_IF_ERROR(json_bool(node, "rstrip", &token.rstrip, NULL, err));
    RETURN_IF_ERROR(json_bool(node, "single_word", &token.single_word, NULL, err));
    if (!content)
        return error_set(err, ST_DATA, "added_tokens: an entry has no 'content'");
    if (!*content)
        return ST_OK;
    RETURN_IF_ERROR(bpe_add_token(t->bpe, id, content, strlen(content), err));
    token.id = (int32_t)id;
    if (!map_add(&t->added, t->bpe->text[id].s, t->bpe->text[id].len, id, NULL))
        return error_nomem(err, "added tokens");
    if (!normalized)
        return added_insert(&t->raw, content, strlen(content), &token, err);
    Str form = {0};
    Status st = normalizer_apply(t->normalizer, s, content, strlen(content), &form, err);
    if (st == ST_OK)
        st = added_insert(&t->normalized, str_text(&form), form.len, &token, err);
    str_free(&form);
    return st;
}

static Status read_added(Tokenizer *t, const cJSON *list, Error *err)
{
    const cJSON *e;
    MatchScratch s = {0};
    Status st = ST_OK;
    if (list && !cJSON_IsArray(list))
        return error_set(err, ST_DATA, "'added_tokens' is no list");
    cJSON_ArrayForEach(e, list) {
        st = add_added(t, e, &s, err);
        if (st != ST_OK)
            break;
    }
    match_scratch_free(&s);
    return st;
}

/* lists: of the root's model. ranks (may be NULL): the text of a tiktoken.model, in its place. */
static Status read_parts(Tokenizer *t, const cJSON *root, BpeLists *lists, const char *ranks, size_t len, Error *err)
{
    if (!cJSON_IsObject(root))
        return error_set(err, ST_DATA, "no JSON object");
    RETURN_IF_ERROR(normalizer_new(&t->normalizer, json_get(root, "normalizer"), err));
    RETURN_IF_ERROR(pretok_new(&t->pretok, json_get(root, "pre_tokenizer"), err));
    RETURN_IF_ERROR(ranks ? bpe_from_ranks(&t->bpe, ranks, len, err)
                          : bpe_new(&t->bpe, json_get(root, "model"), lists, pretok_byte_level(t->pretok), err));
    RETURN_IF_ERROR(read_added(t, json_get(root, "added_tokens"), err));
    RETURN_IF_ERROR(template_read(&t->template, json_get(root, "post_processor"), err));
    const IdList *ends[] = {&t->template.before, &t->template.after};
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < ends[k]->n; i++)
            if (ends[k]->id[i] >= t->bpe->size)
                return error_set(err, ST_DATA, "post_processor: id %d is not in the vocabulary", (int)ends[k]->id[i]);
    return ST_OK;
}

/* A tokenizer.json. */
static Status open_file(Tokenizer *t, const char *path, Error *err)
{
    char *text;
    size_t len;
    cJSON *root = NULL;
    BpeLists lists = {0};
    JsonPart parts[] = {{.path = {"model", "vocab"}, .member = bpe_take_token, .ctx = &lists},
                        {.path = {"model", "merges"}}};
    const JsonPart *merges = &parts[1];
    RETURN_IF_ERROR(json_read_file(path, FILE_MAX, &text, &len, err));
    Status st = json_parse_parts(text, len, path, parts, 2, &root, err);
    if (st == ST_OK) {
        if (merges->text && merges->text[0] == '[') {
            lists.merges = text + (merges->text - text);
            lists.merges_len = merges->len;
            lists.merges_count = merges->count;
        }
        st = read_parts(t, root, &lists, NULL, 0, err);
        if (st != ST_OK)
            error_prefix(err, st, "%s: ", path);
    }
    cJSON_Delete(root);
    bpe_lists_free(&lists);
    free(text);
    return st;
}

/* A special token of tokenizer_config.json: a string, or an object with its `content`. */
static Status config_token(const Tokenizer *t, const cJSON *root, const char *key, int32_t *id, Error *err)
{
    const cJSON *node = json_get(root, key);
    const char *content = cJSON_IsString(node) ? node->valuestring : NULL;
    if (cJSON_IsObject(node))
        RETURN_IF_ERROR(json_str(node, "content", &content, NULL, err));
    *id = -1;
    if (content)
        *id = (int32_t)map_get(&t->added, content, strlen(content),
                               map_get(&t->bpe->names, content, strlen(content), -1));
    if (*id < 0)
        return error_set(err, ST_DATA, "'%s' is missing or not in the vocabulary", key);
    return ST_OK;
}

/* Classes named Llama… rebuild the template from add_bos_token (true when absent) and add_eos_token:
 * specs/models.md 3.1. */
static Status read_config(Tokenizer *t, const cJSON *root, Error *err)
{
    static const struct {
        const char *flag, *token;
        bool preset;
    } ends[] = {{"add_bos_token", "bos_token", true}, {"add_eos_token", "eos_token", false}};
    const char *class = NULL;
    if (!cJSON_IsObject(root))
        return error_set(err, ST_DATA, "no JSON object");
    RETURN_IF_ERROR(json_str(root, "tokenizer_class", &class, NULL, err));
    if (!class || (strcmp(class, "LlamaTokenizer") != 0 && strcmp(class, "LlamaTokenizerFast") != 0))
        return ST_OK;
    for (int k = 0; k < 2; k++) {
        bool on = ends[k].preset, stated = false;
        RETURN_IF_ERROR(json_bool(root, ends[k].flag, &on, &stated, err));
        IdList *list = k == 0 ? &t->template.before : &t->template.after;
        if (!stated && (!on || list->n))
            continue;
        list->n = 0;
        int32_t id = -1;
        if (on)
            RETURN_IF_ERROR(config_token(t, root, ends[k].token, &id, err));
        if (on && !id_push(list, id))
            return error_nomem(err, "a tokenizer");
    }
    return ST_OK;
}

static Status open_config(Tokenizer *t, const char *path, Error *err)
{
    cJSON *root = NULL;
    RETURN_IF_ERROR(json_parse_file(path, CONFIG_MAX, &root, err));
    Status st = read_config(t, root, err);
    cJSON_Delete(root);
    return st == ST_OK ? st : error_prefix(err, st, "%s: ", path);
}

static Status open_fallback(Tokenizer *t, const char *folder, Error *err)
{
    Fallback f;
    RETURN_IF_ERROR(fallback_read(&f, folder, err));
    Status st = read_parts(t, f.root, &f.lists, f.ranks, f.len, err);
    if (st != ST_OK)
        error_prefix(err, st, "%s: ", f.path);
    fallback_fini(&f);
    return st;
}

static Status open_folder(Tokenizer *t, const char *folder, Error *err)
{
    char *file = path_join(folder, "tokenizer.json"), *config = path_join(folder, "tokenizer_config.json");
    Status st = file && config ? ST_OK : error_nomem(err, "a path");
    if (st == ST_OK)
        st = file_exists(file) ? open_file(t, file, err) : open_fallback(t, folder, err);
    if (st == ST_OK && file_exists(config))
        st = open_config(t, config, err);
    free(file);
    free(config);
    return st;
}

Status tokenizer_open(Tokenizer **out, const char *path, Error *err)
{
    Tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return error_nomem(err, "a tokenizer");
    Status st = dir_exists(path) ? open_folder(t, path, err) : open_file(t, path, err);
    if (st != ST_OK) {
        tokenizer_free(t);
        return st;
    }
    *out = t;
    return ST_OK;
}

void tokenizer_free(Tokenizer *t)
{
    if (!t)
        return;
    normalizer_free(t->normalizer);
    pretok_free(t->pretok);
    added_free(&t->raw);
    added_free(&t->normalized);
    template_free(&t->template);
    map_free(&t->added);
    bpe_free(t->bpe);
    free(t);
}

/* ---- encoding ---- */

static Status push_all(IdList *out, const IdList *ids, Error *err)
{
    for (size_t i = 0; i < ids->n; i++)
        if (!id_push(out, ids->id[i]))
            return error_nomem(err, "encoding a text");
    return ST_OK;
}

/* Normalized text without added tokens; first: it begins the whole text. */
static Status encode_plain(Encoder *e, const char *text, size_t len, bool first, Error *err)
{
    RETURN_IF_ERROR(pretok_apply(e->t->pretok, &e->match, text, len, first, &e->pieces, err));
    for (size_t i = 0; i < e->pieces.n; i++) {
        const Piece *p = &e->pieces.piece[i];
        RETURN_IF_ERROR(text_limits_check(e->match.limits, 0, "a text", err));
        RETURN_IF_ERROR(bpe_encode(e->t->bpe, &e->bpe, e->pieces.text + p->at, p->len, &e->out, err));
    }
    return ST_OK;
}

/* Text between the added tokens of the first pass. */
static Status encode_raw(Encoder *e, const char *text, size_t len, bool first, Error *err)
{
    if (normalizer_acts(e->t->normalizer)) {
        RETURN_IF_ERROR(normalizer_apply(e->t->normalizer, &e->match, text, len, &e->normal, err));
        text = str_text(&e->normal);
        len = e->normal.len;
    }
    size_t pos = 0, scan = 0;
    AddedSpan span;
    while (added_next(&e->t->normalized, text, len, &pos, &scan, &span)) {
        if (span.id < 0)
            RETURN_IF_ERROR(encode_plain(e, text + span.start, span.end - span.start, first && span.start == 0, err));
        else if (!id_push(&e->out, span.id))
            return error_nomem(err, "encoding a text");
    }
    return ST_OK;
}

static Status encode(Encoder *e, const char *text, size_t len, bool add_special, Error *err)
{
    if (utf8_valid_prefix(text, len) != len) {
        utf8_repair(&e->clean, text, len);
        if (e->clean.oom)
            return error_nomem(err, "encoding a text");
        text = e->clean.s;
        len = e->clean.len;
    }
    if (add_special)
        RETURN_IF_ERROR(push_all(&e->out, &e->t->template.before, err));
    size_t pos = 0, scan = 0;
    AddedSpan span;
    while (added_next(&e->t->raw, text, len, &pos, &scan, &span)) {
        if (span.id < 0)
            RETURN_IF_ERROR(encode_raw(e, text + span.start, span.end - span.start, span.start == 0, err));
        else if (!id_push(&e->out, span.id))
            return error_nomem(err, "encoding a text");
    }
    return add_special ? push_all(&e->out, &e->t->template.after, err) : ST_OK;
}

Status tokenizer_encode_cost(const Tokenizer *t, const char *text, size_t len, bool add_special,
                             const TextLimits *limits, int32_t **ids, size_t *n, EncodeCost *cost, Error *err)
{
    Encoder e = {.t = t, .match = {.limits = limits}, .bpe = {.no_cache = len < CACHE_MIN}};
    Status st = encode(&e, text, len, add_special, err);
    if (st == ST_OK && !e.out.id && !(e.out.id = malloc(1)))
        st = error_nomem(err, "encoding a text");
    if (cost)
        *cost = (EncodeCost){.searches = e.match.searches, .search_bytes = e.match.bytes, .queue_ops = e.bpe.queue_ops};
    match_scratch_free(&e.match);
    bpe_scratch_free(&e.bpe);
    pieces_free(&e.pieces);
    str_free(&e.clean);
    str_free(&e.normal);
    if (st != ST_OK) {
        free(e.out.id);
        return st;
    }
    *ids = e.out.id;
    *n = e.out.n;
    return ST_OK;
}

Status tokenizer_encode(const Tokenizer *t, const char *text, size_t len, bool add_special, const TextLimits *limits,
                        int32_t **ids, size_t *n, Error *err)
{
    return tokenizer_encode_cost(t, text, len, add_special, limits, ids, n, NULL, err);
}

#define TEXT_OF(x) #x
#define VERSION_OF(major, minor) TEXT_OF(major) "." TEXT_OF(minor)

const char *tokenizer_piece(const Tokenizer *t, int32_t id, size_t *len)
{
    if (id < 0 || id >= t->bpe->size || !t->bpe->text[id].s)
        return NULL;
    *len = t->bpe->text[id].len;
    return t->bpe->text[id].s;
}

/* <0xHH> */
static bool byte_token(const char *s, size_t len, char *byte)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *hi = len == 6 && memcmp(s, "<0x", 3) == 0 && s[5] == '>' && s[3] ? strchr(digits, s[3]) : NULL;
    const char *lo = hi && s[4] ? strchr(digits, s[4]) : NULL;
    if (lo)
        *byte = (char)((hi - digits) << 4 | (lo - digits));
    return lo != NULL;
}

void tokenizer_decode(const Tokenizer *t, int32_t id, Str *out)
{
    static const char mark[] = "\xe2\x96\x81"; /* a space, in the vocabularies of sentencepiece */
    size_t len;
    char byte;
    const char *s = tokenizer_piece(t, id, &len), *end = s + len, *at;
    if (!s)
        return;
    if (t->bpe->byte_level || t->bpe->text[id].added) {
        str_append(out, s, len);
        return;
    }
    if (t->bpe->byte_fallback && byte_token(s, len, &byte)) {
        str_append(out, &byte, 1);
        return;
    }
    for (; s < end && (at = memmem(s, (size_t)(end - s), mark, 3)) != NULL; s = at + 3) {
        str_append(out, s, (size_t)(at - s));
        str_putc(out, ' ');
    }
    str_append(out, s, (size_t)(end - s));
}

const char *tokenizer_unicode_version(void)
{
    return "PCRE2 " VERSION_OF(PCRE2_MAJOR, PCRE2_MINOR) ", categories of Unicode " UNICODE_TABLE_VERSION;
}
