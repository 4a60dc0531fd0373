#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"
#include "text/bpe.h"
#include "text/bpe_parts.h"
#include "text/unicode.h"

enum { ID_MAX = BPE_ID_MAX, TOKEN_MAX = 1 << 16 };

uint32_t byte_to_letter(unsigned char byte)
{
    if ((byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173))
        return byte;
    uint32_t before = byte <= 32 ? byte : byte <= 160 ? 33 + (uint32_t)(byte - 127) : 67;
    return 256 + before;
}

int letter_to_byte(uint32_t cp)
{
    if (cp < 256)
        return byte_to_letter((unsigned char)cp) == cp ? (int)cp : -1;
    uint32_t k = cp - 256;
    if (k < 33)
        return (int)k;
    if (k < 67)
        return (int)(127 + k - 33);
    return k == 67 ? 173 : -1;
}

/* A token's text in symbols of a byte level, written to `out`; false when it isn't in the byte alphabet. */
static bool token_bytes(const char *s, size_t len, char *out, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < len;) {
        int k;
        int byte = letter_to_byte(utf8_next(s + i, &k));
        if (byte < 0)
            return false;
        out[(*n)++] = (char)byte;
        i += (size_t)k;
    }
    return true;
}

static Status reach(struct BpeText **text, size_t *cap, int32_t *size, int32_t id, Error *err)
{
    if (!mem_grow(text, cap, (size_t)id + 1, sizeof **text))
        return error_nomem(err, "a vocabulary");
    while (*size <= id)
        (*text)[(*size)++] = (struct BpeText){0};
    return ST_OK;
}

Status bpe_reach(Bpe *b, int32_t id, Error *err)
{
    return reach(&b->text, &b->text_cap, &b->size, id, err);
}

Status bpe_add_token(Bpe *b, int64_t id, const char *content, size_t len, Error *err)
{
    if (id < 0 || id >= ID_MAX || len > TOKEN_MAX)
        return error_set(err, ST_DATA, "added_tokens: '%.80s' has no id between 0 and %d, or is too long", content,
                         ID_MAX - 1);
    RETURN_IF_ERROR(bpe_reach(b, (int32_t)id, err));
    char *s = arena_strndup(&b->arena, content, len);
    if (!s)
        return error_nomem(err, "added tokens");
    b->text[id] = (struct BpeText){.s = s, .len = (uint32_t)len, .added = true};
    return ST_OK;
}

/* ---- the vocabulary, while its file is read ---- */

/* The value of a vocabulary's entry, -1: no id. */
static int32_t entry_id(const char *value, size_t len)
{
    int32_t id = 0;
    size_t i = 0;
    for (; i < len && i < 8 && value[i] >= '0' && value[i] <= '9'; i++)
        id = id * 10 + (value[i] - '0');
    if (i == len)
        return id < ID_MAX ? id : -1;
    cJSON *v = cJSON_ParseWithLength(value, len); /* 1e3 */
    double d = cJSON_IsNumber(v) ? v->valuedouble : -1;
    cJSON_Delete(v);
    return d >= 0 && d < ID_MAX && d == (int32_t)d ? (int32_t)d : -1;
}

/* Keeps the first of each kind of error until its turn comes. */
static void refuse_entry(BpeLists *l, const char *key, size_t len, int32_t id)
{
    Error *err = id < 0 ? &l->bad_id : &l->bad_token;
    if (err->status != ST_OK)
        return;
    if (id < 0)
        error_set(err, ST_DATA, "vocab: '%.*s' has no id between 0 and %d", (int)(len < 80 ? len : 80), key,
                  ID_MAX - 1);
    else if (len > TOKEN_MAX)
        error_set(err, ST_DATA, "vocab: a token of %zu bytes: at most %d are read", len, TOKEN_MAX);
    else
        error_set(err, ST_DATA, "vocab: id %d stands twice", (int)id);
}

Status bpe_take_token(void *ctx, const char *key, size_t key_len, const char *value, size_t value_len, bool *twice,
                      Error *err)
{
    BpeLists *l = ctx;
    if (!value) {
        *twice = key_len ? map_get(&l->ids, key, key_len, INT64_MIN) != INT64_MIN : l->empty_seen;
        return ST_OK;
    }
    int32_t id = entry_id(value, value_len);
    char *s = arena_strndup(&l->arena, key, key_len);
    bool added = !l->empty_seen;
    if (!s || (key_len && !map_add(&l->ids, s, key_len, id, &added)))
        return error_nomem(err, "a vocabulary");
    *twice = !added;
    l->empty_seen = l->empty_seen || !key_len;
    if (!key_len)
        l->empty = id;
    if (id >= 0)
        RETURN_IF_ERROR(reach(&l->text, &l->text_cap, &l->size, id, err));
    if (id < 0 || key_len > TOKEN_MAX || l->text[id].s)
        refuse_entry(l, key, key_len, id);
    else
        l->text[id] = (struct BpeText){.s = s, .len = (uint32_t)key_len};
    return ST_OK;
}

void bpe_lists_free(BpeLists *l)
{
    free(l->text);
    map_free(&l->ids);
    arena_free(&l->arena);
    memset(l, 0, sizeof *l);
}

int32_t bpe_listed(const BpeLists *l, const char *s, size_t len)
{
    return len ? (int32_t)map_get(&l->ids, s, len, -1) : l->empty_seen ? l->empty : -1;
}

static Status check_vocab(const BpeLists *l, const cJSON *vocab, Error *err)
{
    if (!cJSON_IsObject(vocab))
        return error_set(err, ST_DATA, "model: 'vocab' is missing or no object");
    const Error *first = l->bad_id.status != ST_OK ? &l->bad_id : &l->bad_token;
    if (first->status != ST_OK)
        return error_set(err, first->status, "%s", first->text);
    return l->size ? ST_OK : error_set(err, ST_DATA, "vocab: empty");
}

/* The texts and names of a byte level: bytes, where the file has letters. */
static Status decode_vocab(Bpe *b, const BpeLists *l, Error *err)
{
    if (!map_reserve(&b->names, l->ids.count))
        return error_nomem(err, "a vocabulary");
    RETURN_IF_ERROR(bpe_reach(b, l->size - 1, err));
    for (int32_t id = 0; id < l->size; id++) {
        const struct BpeText *t = &l->text[id];
        size_t n = t->len;
        char *s = t->s ? arena_alloc(&b->arena, n + 1) : NULL;
        if (!t->s)
            continue;
        if (!s)
            return error_nomem(err, "a vocabulary");
        bool known = token_bytes(t->s, t->len, s, &n);
        if (!known)
            memcpy(s, t->s, n = t->len);
        s[n] = 0;
        b->text[id] = (struct BpeText){.s = s, .len = (uint32_t)n};
        if (known && n && !map_add(&b->names, s, n, id, NULL))
            return error_nomem(err, "a vocabulary");
    }
    return ST_OK;
}

/* Ids of single symbols. */
static Status read_symbols(Bpe *b, const BpeLists *l, Error *err)
{
    char name[8];
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        int n = snprintf(name, sizeof name, "<0x%02X>", i);
        b->byte[i] = b->byte_level ? (int32_t)map_get(&b->names, &byte, 1, -1) : bpe_listed(l, name, (size_t)n);
    }
    if (b->byte_level)
        return ST_OK;
    b->bmp = mem_array(65536, sizeof *b->bmp);
    if (!b->bmp)
        return error_nomem(err, "a vocabulary");
    memset(b->bmp, -1, 65536 * sizeof *b->bmp);
    for (int32_t id = 0; id < l->size; id++) {
        const struct BpeText *t = &l->text[id];
        int n = 0;
        uint32_t cp = t->len ? utf8_next(t->s, &n) : 0;
        if (t->len && t->len == (uint32_t)n && cp < 65536)
            b->bmp[cp] = id;
    }
    return ST_OK;
}

/* What the file has is what the tokenizer needs, where symbols are code points. */
static void keep_vocab(Bpe *b, BpeLists *l)
{
    b->text = l->text;
    b->text_cap = l->text_cap;
    b->size = l->size;
    b->names = l->ids;
    b->arena = l->arena;
    l->text = NULL;
    l->ids = (Map){0};
    l->arena = (Arena){0};
}

/* ---- the model ---- */

static Status read_options(Bpe *b, const cJSON *model, const BpeLists *l, Error *err)
{
    const char *unk = NULL;
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        const char *s = NULL;
        RETURN_IF_ERROR(json_str(model, affixes[i], &s, NULL, err));
        if (s && *s)
            return error_set(err, ST_DATA, "model: '%s' is not supported", affixes[i]);
    }
    RETURN_IF_ERROR(json_bool(model, "ignore_merges", &b->ignore_merges, NULL, err));
    RETURN_IF_ERROR(json_bool(model, "byte_fallback", &b->byte_fallback, NULL, err));
    RETURN_IF_ERROR(json_bool(model, "fuse_unk", &b->fuse_unk, NULL, err));
    RETURN_IF_ERROR(json_str(model, "unk_token", &unk, NULL, err));
    b->unk = unk ? bpe_listed(l, unk, strlen(unk)) : -1;
    if (unk && b->unk < 0)
        return error_set(err, ST_DATA, "model: unk_token '%.80s' is not in the vocabulary", unk);
    return ST_OK;
}

static Status read_model(Bpe *b, const cJSON *model, BpeLists *l, Error *err)
{
    const cJSON *merges = json_get(model, "merges");
    RETURN_IF_ERROR(check_vocab(l, json_get(model, "vocab"), err));
    if (b->byte_level)
        RETURN_IF_ERROR(decode_vocab(b, l, err));
    RETURN_IF_ERROR(read_symbols(b, l, err));
    RETURN_IF_ERROR(read_options(b, model, l, err));
    if (merges && !cJSON_IsArray(merges))
        return error_set(err, ST_DATA, "model: 'merges' is no list");
    RETURN_IF_ERROR(bpe_read_merges(b, l, err));
    if (!b->byte_level)
        keep_vocab(b, l);
    return ST_OK;
}

Status bpe_new(Bpe **out, const cJSON *model, BpeLists *lists, bool byte_level, Error *err)
{
    const char *type = NULL;
    if (!cJSON_IsObject(model))
        return error_set(err, ST_DATA, "'model' is missing or no object");
    RETURN_IF_ERROR(json_str(model, "type", &type, NULL, err));
    if (type ? strcmp(type, "BPE") != 0 : !json_get(model, "merges"))
        return error_set(err, ST_DATA, "tokenizer model '%s' is not supported: only BPE is",
                         type ? type : "without a type");
    Bpe *b = calloc(1, sizeof *b);
    if (!b)
        return error_nomem(err, "a tokenizer");
    b->byte_level = byte_level;
    Status st = read_model(b, model, lists, err);
    if (st != ST_OK) {
        bpe_free(b);
        return st;
    }
    *out = b;
    return ST_OK;
}

void bpe_free(Bpe *b)
{
    if (!b)
        return;
    free(b->text);
    map_free(&b->names);
    free(b->bmp);
    free(b->pairs);
    free(b->product);
    free(b->joints);
    arena_free(&b->arena);
    free(b);
}
