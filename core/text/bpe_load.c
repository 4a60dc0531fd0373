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

/* The byte a letter stands for, or -1. */
static int letter_to_byte(uint32_t cp)
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

/* A token's text in symbols: raw bytes (byte level; false when it isn't in the byte alphabet) or as it is. */
static bool token_symbols(bool byte_level, const char *s, size_t len, char *out, size_t *n)
{
    *n = 0;
    if (!byte_level) {
        memcpy(out, s, len);
        *n = len;
        return true;
    }
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

/* Takes one vocabulary entry into text and names. */
static Status add_token(Bpe *b, const cJSON *entry, Error *err)
{
    size_t len = strlen(entry->string), n;
    int32_t id = (int32_t)entry->valuedouble;
    if (len > TOKEN_MAX)
        return error_set(err, ST_DATA, "vocab: a token of %zu bytes: at most %d are read", len, TOKEN_MAX);
    if (b->text[id].s)
        return error_set(err, ST_DATA, "vocab: id %d stands twice", (int)id);
    char *s = arena_alloc(&b->arena, len + 1);
    if (!s)
        return error_nomem(err, "a vocabulary");
    bool known = token_symbols(b->byte_level, entry->string, len, s, &n);
    if (!known) {
        memcpy(s, entry->string, len);
        n = len;
    }
    s[n] = 0;
    b->text[id] = (struct BpeText){.s = s, .len = (uint32_t)n};
    if (known && n && !map_add(&b->names, s, n, id, NULL))
        return error_nomem(err, "a vocabulary");
    return ST_OK;
}

Status bpe_reach(Bpe *b, int32_t id, Error *err)
{
    if (!mem_grow(&b->text, &b->text_cap, (size_t)id + 1, sizeof *b->text))
        return error_nomem(err, "a vocabulary");
    while (b->size <= id)
        b->text[b->size++] = (struct BpeText){0};
    return ST_OK;
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

/* `by_file` maps tokens as the file writes them to ids: its keys live in the JSON tree. */
static Status read_vocab(Bpe *b, const cJSON *vocab, Map *by_file, Error *err)
{
    const cJSON *e;
    int32_t top = -1;
    if (!cJSON_IsObject(vocab))
        return error_set(err, ST_DATA, "model: 'vocab' is missing or no object");
    cJSON_ArrayForEach(e, vocab) {
        if (!cJSON_IsNumber(e) || !(e->valuedouble >= 0) || e->valuedouble >= ID_MAX ||
            e->valuedouble != (int32_t)e->valuedouble)
            return error_set(err, ST_DATA, "vocab: '%.80s' has no id between 0 and %d", e->string, ID_MAX - 1);
        if ((int32_t)e->valuedouble > top)
            top = (int32_t)e->valuedouble;
        if (!map_add(by_file, e->string, strlen(e->string), (int64_t)e->valuedouble, NULL))
            return error_nomem(err, "a vocabulary");
    }
    if (top < 0)
        return error_set(err, ST_DATA, "vocab: empty");
    RETURN_IF_ERROR(bpe_reach(b, top, err));
    cJSON_ArrayForEach(e, vocab) RETURN_IF_ERROR(add_token(b, e, err));
    return ST_OK;
}

/* Ids of single symbols. */
static Status read_symbols(Bpe *b, const Map *by_file, Error *err)
{
    char name[8];
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        int n = snprintf(name, sizeof name, "<0x%02X>", i);
        b->byte[i] = (int32_t)(b->byte_level ? map_get(&b->names, &byte, 1, -1)
                                             : map_get(by_file, name, (size_t)n, -1));
    }
    if (b->byte_level)
        return ST_OK;
    b->bmp = mem_array(65536, sizeof *b->bmp);
    if (!b->bmp)
        return error_nomem(err, "a vocabulary");
    for (uint32_t cp = 0; cp < 65536; cp++) {
        bool surrogate = cp >= 0xd800 && cp <= 0xdfff;
        int n = surrogate ? 0 : utf8_encode(cp, name);
        b->bmp[cp] = n ? (int32_t)map_get(&b->names, name, (size_t)n, -1) : -1;
    }
    return ST_OK;
}

/* ---- merges ---- */

int32_t bpe_end_symbol(const Bpe *b, int32_t id, bool last)
{
    const struct BpeText *t = &b->text[id];
    if (!t->len)
        return -1;
    if (b->byte_level)
        return b->byte[(unsigned char)t->s[last ? t->len - 1 : 0]];
    const char *at = last ? utf8_before(t->s + t->len) : t->s;
    int n;
    utf8_next(at, &n);
    return (int32_t)map_get(&b->names, at, (size_t)n, -1);
}

void bpe_add_joint(Bpe *b, int32_t left, int32_t right)
{
    if (left < 0 || right < 0)
        return;
    uint64_t key = pair_key(left, right) + 1;
    size_t i = pair_hash(key) & b->joint_mask;
    while (b->joints[i] && b->joints[i] != key)
        i = (i + 1) & b->joint_mask;
    b->joints[i] = key;
}

/* Where the merge of tokens l and r can cross between two symbols of a text. A token may itself be a symbol whose
 * text doesn't say so (<0x0A>, the unknown token). */
static void add_joints(Bpe *b, int32_t l, int32_t r)
{
    int32_t left[2] = {bpe_end_symbol(b, l, true), l}, right[2] = {bpe_end_symbol(b, r, false), r};
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            bpe_add_joint(b, left[i], right[j]);
}

void bpe_add_pair(Bpe *b, int32_t l, int32_t r, int32_t rank)
{
    uint64_t key = pair_key(l, r);
    size_t i = pair_hash(key) & b->pair_mask;
    while (b->pairs[i].rank >= 0 && b->pairs[i].key != key)
        i = (i + 1) & b->pair_mask;
    b->pairs[i] = (struct BpePair){.key = key, .rank = rank}; /* of equal pairs the last counts */
}

/* One entry of merges: "a b" or ["a","b"]. */
static bool merge_parts(const cJSON *e, const char *part[2], size_t len[2])
{
    if (cJSON_IsString(e)) {
        const char *gap = strchr(e->valuestring, ' ');
        if (!gap || strchr(gap + 1, ' '))
            return false;
        part[0] = e->valuestring;
        len[0] = (size_t)(gap - part[0]);
        part[1] = gap + 1;
    } else {
        const cJSON *a = cJSON_IsArray(e) ? e->child : NULL;
        if (!a || !a->next || a->next->next || !cJSON_IsString(a) || !cJSON_IsString(a->next))
            return false;
        part[0] = a->valuestring;
        len[0] = strlen(part[0]);
        part[1] = a->next->valuestring;
    }
    len[1] = strlen(part[1]);
    return len[0] && len[1];
}

static Status missing_token(int32_t rank, const char *s, size_t len, Error *err)
{
    int shown = len < 80 ? (int)len : 80;
    return error_set(err, ST_DATA, "merges: entry %d: '%.*s' is not in the vocabulary", (int)rank, shown, s);
}

static Status read_merge(Bpe *b, const cJSON *e, int32_t rank, const Map *by_file, Str *whole, Error *err)
{
    const char *part[2];
    size_t len[2];
    if (!merge_parts(e, part, len))
        return error_set(err, ST_DATA, "merges: entry %d is no pair of tokens", (int)rank);
    str_clear(whole);
    str_append(whole, part[0], len[0]);
    str_append(whole, part[1], len[1]);
    if (whole->oom)
        return error_nomem(err, "merges");
    int64_t l = map_get(by_file, part[0], len[0], -1), r = map_get(by_file, part[1], len[1], -1);
    int64_t made = map_get(by_file, whole->s, whole->len, -1);
    if (l < 0 || r < 0 || made < 0)
        return missing_token(rank, l < 0 ? part[0] : r < 0 ? part[1] : whole->s,
                             l < 0 ? len[0] : r < 0 ? len[1] : whole->len, err);
    b->product[rank] = (int32_t)made;
    bpe_add_pair(b, (int32_t)l, (int32_t)r, rank);
    add_joints(b, (int32_t)l, (int32_t)r);
    return ST_OK;
}

static size_t table_size(size_t entries)
{
    size_t n = 64;
    while (n < entries * 2)
        n *= 2;
    return n;
}

Status bpe_make_tables(Bpe *b, size_t merges, size_t npairs, size_t njoints, Error *err)
{
    size_t pairs = table_size(npairs), joints = table_size(njoints);
    b->merges = (int32_t)merges;
    b->product = mem_array(merges, sizeof *b->product);
    b->pairs = mem_array(pairs, sizeof *b->pairs);
    b->joints = mem_zarray(joints, sizeof *b->joints);
    if (!b->product || !b->pairs || !b->joints)
        return error_nomem(err, "merges");
    b->pair_mask = pairs - 1;
    b->joint_mask = joints - 1;
    for (size_t i = 0; i < pairs; i++)
        b->pairs[i].rank = -1;
    return ST_OK;
}

static Status read_merges(Bpe *b, const cJSON *merges, const Map *by_file, Error *err)
{
    if (merges && !cJSON_IsArray(merges))
        return error_set(err, ST_DATA, "model: 'merges' is no list");
    size_t n = 0;
    const cJSON *e;
    cJSON_ArrayForEach(e, merges) n++;
    if (n >= ID_MAX)
        return error_set(err, ST_DATA, "merges: %zu entries: at most %d are read", n, ID_MAX);
    RETURN_IF_ERROR(bpe_make_tables(b, n, n, n * 4, err));
    int32_t rank = 0;
    Str whole = {0};
    Status st = ST_OK;
    cJSON_ArrayForEach(e, merges) {
        st = read_merge(b, e, rank++, by_file, &whole, err);
        if (st != ST_OK)
            break;
    }
    str_free(&whole);
    return st;
}

/* ---- the model ---- */

static Status read_options(Bpe *b, const cJSON *model, const Map *by_file, Error *err)
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
    b->unk = unk ? (int32_t)map_get(by_file, unk, strlen(unk), -1) : -1;
    if (unk && b->unk < 0)
        return error_set(err, ST_DATA, "model: unk_token '%.80s' is not in the vocabulary", unk);
    return ST_OK;
}

Status bpe_new(Bpe **out, const cJSON *model, bool byte_level, Error *err)
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
    Map by_file = {0};
    Status st = read_vocab(b, json_get(model, "vocab"), &by_file, err);
    if (st == ST_OK)
        st = read_symbols(b, &by_file, err);
    if (st == ST_OK)
        st = read_options(b, model, &by_file, err);
    if (st == ST_OK)
        st = read_merges(b, json_get(model, "merges"), &by_file, err);
    map_free(&by_file);
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
