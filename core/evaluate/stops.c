#include "evaluate/stops.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/file.h"
#include "io/json.h"

enum { CONFIG_MAX = 16 << 20 };

typedef struct Stops {
    int32_t *id;
    size_t n, cap;
    int64_t vocab;
} Stops;

static Status add(Stops *s, double id, Error *err)
{
    if (!(id >= 0 && id < (double)s->vocab))
        return ST_OK;
    for (size_t i = 0; i < s->n; i++)
        if (s->id[i] == (int32_t)id)
            return ST_OK;
    if (!mem_grow(&s->id, &s->cap, s->n + 1, sizeof *s->id))
        return error_nomem(err, "the tokens that end a text");
    s->id[s->n++] = (int32_t)id;
    return ST_OK;
}

/* *there: the file has the key. */
static Status from_file(Stops *s, const char *path, bool *there, Error *err)
{
    char *text;
    size_t len;
    cJSON *doc;
    if (!file_exists(path))
        return ST_OK;
    RETURN_IF_ERROR(json_read_file(path, CONFIG_MAX, &text, &len, err));
    Status st = json_parse_loose(text, len, path, &doc, err);
    free(text);
    RETURN_IF_ERROR(st);
    const cJSON *eos = cJSON_GetObjectItemCaseSensitive(doc, "eos_token_id"), *item;
    *there = cJSON_IsNumber(eos) || cJSON_IsArray(eos);
    if (cJSON_IsNumber(eos))
        st = add(s, eos->valuedouble, err);
    cJSON_ArrayForEach(item, eos)
        if (st == ST_OK && cJSON_IsNumber(item))
            st = add(s, item->valuedouble, err);
    cJSON_Delete(doc);
    return st;
}

/* The token that this text is, where it is one. */
static Status from_text(Stops *s, const Tokenizer *t, const char *text, Error *err)
{
    int32_t *ids;
    size_t n;
    RETURN_IF_ERROR(tokenizer_encode(t, text, strlen(text), false, NULL, &ids, &n, err));
    Status st = n == 1 ? add(s, ids[0], err) : ST_OK;
    free(ids);
    return st;
}

Status stop_tokens(const char *model_path, const Tokenizer *t, int64_t vocab, const char *also, int32_t **ids, int *n,
                   Error *err)
{
    static const char *const files[] = {"generation_config.json", "config.json"};
    Stops s = {.vocab = vocab};
    Status st = ST_OK;
    bool there = false;
    for (size_t i = 0; i < sizeof files / sizeof *files && st == ST_OK && !there; i++) {
        char *path = path_join(model_path, files[i]);
        st = path ? from_file(&s, path, &there, err) : error_nomem(err, "a path");
        free(path);
    }
    if (st == ST_OK && also)
        st = from_text(&s, t, also, err);
    if (st != ST_OK)
        free(s.id);
    *ids = st == ST_OK ? s.id : NULL;
    *n = st == ST_OK ? (int)s.n : 0;
    return st;
}
