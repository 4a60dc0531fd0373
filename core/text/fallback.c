#include "text/fallback.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"

enum { FILE_MAX = 1 << 29, CONFIG_MAX = 1 << 24 };

/* The table of specs/models.md 3.2, as JSON strings in C strings. */
#define QWEN2_PATTERN                                                                                                  \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "                                 \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
#define KIMI_UPPER "[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}&&[^\\\\p{Han}]]"
#define KIMI_LOWER "[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}&&[^\\\\p{Han}]]"
#define KIMI_PATTERN                                                                                                   \
    "[\\\\p{Han}]+|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?" KIMI_UPPER "*" KIMI_LOWER "+" CONTRACTION                           \
    "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?" KIMI_UPPER "+" KIMI_LOWER "*" CONTRACTION                                        \
    "|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define SPLIT(pattern)                                                                                                 \
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"          \
    "\"" pattern                                                                                                       \
    "\"},\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}"

/* What a class does around its vocabulary. */
typedef struct ClassRow {
    const char *name;
    const char *root; /* the tokenizer.json it amounts to */
} ClassRow;

static const char gpt2_root[] = "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}}";
static const char qwen2_root[] = "{\"normalizer\":{\"type\":\"NFC\"}," SPLIT(QWEN2_PATTERN) "}";
static const char kimi_root[] = "{" SPLIT(KIMI_PATTERN) "}";

static const ClassRow merges_classes[] = {
    {"GPT2Tokenizer", gpt2_root}, /* the first: when no class is named */
    {"GPT2TokenizerFast", gpt2_root},
    {"Qwen2Tokenizer", qwen2_root},
    {"Qwen2TokenizerFast", qwen2_root},
    {NULL, NULL},
};
static const ClassRow ranks_classes[] = {
    {"TikTokenTokenizer", kimi_root},
    {NULL, NULL},
};

void fallback_fini(Fallback *f)
{
    cJSON_Delete(f->root);
    bpe_lists_free(&f->lists);
    free(f->merges);
    free(f->ranks);
    free(f->path);
    *f = (Fallback){0};
}

/* folder/name, NULL when there is no such file (ST_OK) or memory is short. */
static Status look_for(const char *folder, const char *name, char **path, Error *err)
{
    *path = path_join(folder, name);
    if (!*path)
        return error_nomem(err, "a path");
    if (!file_exists(*path)) {
        free(*path);
        *path = NULL;
    }
    return ST_OK;
}

/* The root a tokenizer_config.json's class asks for. */
static Status class_root(Fallback *f, const cJSON *config, const ClassRow *rows, Error *err)
{
    const char *class = NULL;
    if (config)
        RETURN_IF_ERROR(json_str(config, "tokenizer_class", &class, NULL, err));
    int k = 0;
    while (class && rows[k].name && strcmp(rows[k].name, class) != 0)
        k++;
    if (!rows[k].name)
        return error_set(err, ST_DATA,
                         "tokenizer_class '%s' is not known to go with this file: a tokenizer.json is needed", class);
    /* slow tokenizers may be told to put something in front: not in any model met so far */
    static const char *const fronts[] = {"add_prefix_space", "add_bos_token"};
    for (int i = 0; config && i < 2; i++) {
        bool on = false;
        RETURN_IF_ERROR(json_bool(config, fronts[i], &on, NULL, err));
        if (on)
            return error_set(err, ST_DATA, "tokenizer_config.json: '%s' is not supported without a tokenizer.json",
                             fronts[i]);
    }
    return json_parse(rows[k].root, strlen(rows[k].root), "built-in tokenizer", &f->root, err);
}

/* ---- added tokens ---- */

static Status add_entry(cJSON *list, cJSON *entry, int64_t id, Error *err)
{
    if (!entry || !cJSON_AddNumberToObject(entry, "id", (double)id) || !cJSON_AddItemToArray(list, entry)) {
        cJSON_Delete(entry);
        return error_nomem(err, "added tokens");
    }
    return ST_OK;
}

/* tokenizer_config.json's added_tokens_decoder: "ID": {content, special, …}. */
static Status from_config(cJSON *list, const cJSON *config, Error *err)
{
    const cJSON *e, *map = json_get(config, "added_tokens_decoder");
    if (map && !cJSON_IsObject(map))
        return error_set(err, ST_DATA, "tokenizer_config.json: 'added_tokens_decoder' is no object");
    cJSON_ArrayForEach(e, map) {
        char *end;
        long id = e->string[0] >= '0' && e->string[0] <= '9' ? strtol(e->string, &end, 10) : -1;
        if (id < 0 || *end || id > INT32_MAX || !cJSON_IsObject(e) || cJSON_HasObjectItem(e, "id"))
            return error_set(err, ST_DATA,
                             "tokenizer_config.json: added_tokens_decoder: '%.80s' is no id with its token", e->string);
        RETURN_IF_ERROR(add_entry(list, cJSON_Duplicate(e, true), id, err));
    }
    return ST_OK;
}

/* The older added_tokens.json: "content": ID, without flags. */
static Status from_file(cJSON *list, const char *folder, Error *err)
{
    char *path;
    cJSON *map = NULL;
    RETURN_IF_ERROR(look_for(folder, "added_tokens.json", &path, err));
    if (!path)
        return ST_OK;
    Status st = json_parse_file(path, CONFIG_MAX, &map, err);
    if (st == ST_OK && !cJSON_IsObject(map))
        st = error_set(err, ST_DATA, "%s: no JSON object", path);
    const cJSON *e;
    cJSON_ArrayForEach(e, map) {
        int64_t id = -1;
        if (st == ST_OK)
            st = json_int(map, e->string, &id, NULL, err);
        cJSON *entry = st == ST_OK ? cJSON_CreateObject() : NULL;
        if (entry &&
            (!cJSON_AddStringToObject(entry, "content", e->string) || !cJSON_AddTrueToObject(entry, "special"))) {
            cJSON_Delete(entry);
            entry = NULL;
        }
        if (st == ST_OK)
            st = add_entry(list, entry, id, err);
        if (st != ST_OK)
            break;
    }
    cJSON_Delete(map);
    free(path);
    return st;
}

static Status add_added_tokens(Fallback *f, const char *folder, const cJSON *config, Error *err)
{
    cJSON *list = cJSON_AddArrayToObject(f->root, "added_tokens");
    if (!list)
        return error_nomem(err, "added tokens");
    if (config && json_get(config, "added_tokens_decoder"))
        return from_config(list, config, err);
    return from_file(list, folder, err);
}

/* ---- vocab.json and merges.txt ---- */

/* The lines "a b", moved together over those that are none: empty ones, and a first line "#version…". */
static Status merges_lines(char *text, size_t len, BpeLists *l, Error *err)
{
    size_t number = 0;
    char *out = text;
    for (char *p = text, *end = text + len, *next; p < end; p = next) {
        char *nl = memchr(p, '\n', (size_t)(end - p));
        next = nl ? nl + 1 : end;
        size_t n = (size_t)((nl ? nl : end) - p);
        n -= n && p[n - 1] == '\r';
        p[n] = 0; /* the text ends in a NUL of its own */
        if (++number == 1 && strncmp(p, "#version", 8) == 0)
            continue;
        if (!n)
            continue;
        if (strlen(p) != n || !strchr(p, ' '))
            return error_set(err, ST_DATA, "merges.txt:%zu is no pair of tokens", number);
        memmove(out, p, n);
        out[n] = '\n';
        out += n + 1;
        l->merges_count++;
    }
    l->merges = text;
    l->merges_len = (size_t)(out - text);
    l->lines = true;
    return ST_OK;
}

static Status read_merges_txt(Fallback *f, const char *path, cJSON *model, Error *err)
{
    size_t len;
    if (!cJSON_AddArrayToObject(model, "merges"))
        return error_nomem(err, "merges");
    RETURN_IF_ERROR(file_read(path, FILE_MAX, &f->merges, &len, err));
    return merges_lines(f->merges, len, &f->lists, err);
}

static Status read_vocab_json(Fallback *f, cJSON *model, Error *err)
{
    char *text;
    size_t len;
    cJSON *vocab = NULL;
    JsonPart whole = {.member = bpe_take_token, .ctx = &f->lists};
    RETURN_IF_ERROR(json_read_file(f->path, FILE_MAX, &text, &len, err));
    Status st = json_parse_parts(text, len, f->path, &whole, 1, &vocab, err);
    free(text);
    if (st == ST_OK && !cJSON_AddItemToObject(model, "vocab", vocab)) {
        cJSON_Delete(vocab);
        st = error_nomem(err, "a tokenizer");
    }
    return st;
}

static Status add_model(Fallback *f, const char *merges, Error *err)
{
    cJSON *model = cJSON_AddObjectToObject(f->root, "model");
    if (!model || !cJSON_AddStringToObject(model, "type", "BPE"))
        return error_nomem(err, "a tokenizer");
    RETURN_IF_ERROR(read_vocab_json(f, model, err));
    return read_merges_txt(f, merges, model, err);
}

/* ---- what there is ---- */

static Status read_with(Fallback *f, const char *folder, const cJSON *config, Error *err)
{
    RETURN_IF_ERROR(look_for(folder, "vocab.json", &f->path, err));
    char *merges;
    RETURN_IF_ERROR(look_for(folder, "merges.txt", &merges, err));
    if (f->path && merges) {
        Status st = class_root(f, config, merges_classes, err);
        if (st == ST_OK)
            st = add_model(f, merges, err);
        free(merges);
        return st == ST_OK ? add_added_tokens(f, folder, config, err) : st;
    }
    bool half = f->path || merges;
    free(merges);
    free(f->path);
    f->path = NULL;
    if (half)
        return error_set(err, ST_DATA, "%s: vocab.json and merges.txt belong together, one is missing", folder);
    RETURN_IF_ERROR(look_for(folder, "tiktoken.model", &f->path, err));
    if (f->path) {
        RETURN_IF_ERROR(class_root(f, config, ranks_classes, err));
        RETURN_IF_ERROR(file_read(f->path, FILE_MAX, &f->ranks, &f->len, err));
        return add_added_tokens(f, folder, config, err);
    }
    char *pieces;
    RETURN_IF_ERROR(look_for(folder, "tokenizer.model", &pieces, err));
    bool sentencepiece = pieces != NULL;
    free(pieces);
    return error_set(
        err, ST_DATA,
        sentencepiece
            ? "%s: tokenizer.model alone is not supported: a tokenizer.json made from it is needed, or a data set "
              "of token ids (input_ids)"
            : "%s: no tokenizer.json there; a data set of token ids (input_ids) needs none",
        folder);
}

Status fallback_read(Fallback *f, const char *folder, Error *err)
{
    *f = (Fallback){0};
    char *path;
    cJSON *config = NULL;
    RETURN_IF_ERROR(look_for(folder, "tokenizer_config.json", &path, err));
    Status st = path ? json_parse_file(path, CONFIG_MAX, &config, err) : ST_OK;
    if (st == ST_OK && path && !cJSON_IsObject(config))
        st = error_set(err, ST_DATA, "%s: no JSON object", path);
    free(path);
    if (st == ST_OK) {
        st = read_with(f, folder, config, err);
        if (st != ST_OK && f->path)
            error_prefix(err, st, "%s: ", f->path);
    }
    cJSON_Delete(config);
    if (st != ST_OK)
        fallback_fini(f);
    return st;
}
