/* safetensors headers, shard indexes, JSON documents. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "fuzz.h"
#include "io/json.h"
#include "io/safetensors.h"

/* What an opened checkpoint tells must be readable to its last byte. */
static void read_all(const Checkpoint *c)
{
    Error err = {0};
    for (int64_t i = 0; i < checkpoint_count(c); i++) {
        const TensorInfo *t = checkpoint_at(c, i);
        char part[256];
        uint64_t n = t->nbytes < sizeof part ? t->nbytes : sizeof part;
        if (checkpoint_find(c, t->name) != t)
            fuzz_bad("a tensor that is not found by its name", t->name);
        if (checkpoint_read(c, t, 0, n, part, &err) != ST_OK || checkpoint_read(c, t, t->nbytes - n, n, part, &err) != ST_OK)
            fuzz_bad("a tensor that cannot be read", err.text);
    }
    (void)checkpoint_fingerprint(c);
}

static void open_path(const char *path)
{
    Checkpoint *c;
    Error err = {0};
    Status st = checkpoint_open(&c, path, &err);
    fuzz_error(st, &err);
    if (st != ST_OK)
        return;
    read_all(c);
    checkpoint_free(c);
}

/* Variant: bit 0: the data is a whole file, or a header for which the bytes behind it are made. */
static void run_safetensors(int variant, const uint8_t *data, size_t n)
{
    if (variant & 1) {
        fuzz_put("a.safetensors", data, n);
    } else {
        size_t tail = (size_t)variant * 512;
        uint8_t *file = mem_zarray(8 + n + tail, 1);
        for (int i = 0; i < 8; i++)
            file[i] = (uint8_t)((uint64_t)n >> (8 * i));
        memcpy(file + 8, data, n);
        fuzz_put("a.safetensors", file, 8 + n + tail);
        free(file);
    }
    open_path(fuzz_path("a.safetensors"));
}

static const char *const header_seeds[] = {"tests/fuzz/seeds/header*.json", NULL};
static const char *const header_words[] = {"\"dtype\":\"BF16\"", "\"F32\"", "\"I8\"",      "\"shape\":[",   "\"data_offsets\":[0,8]", "__metadata__",
                                           "{\"a\":",            "[2,2]",   "\"F8_E4M3\"", "\"F4\"", "[[", "]", "}", NULL};
const FuzzTarget fuzz_safetensors = {
    .name = "safetensors", .seeds = header_seeds, .words = header_words, .run = run_safetensors};

static void run_index(int variant, const uint8_t *data, size_t n)
{
    static const char header[] = "{\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}  ";
    static const char *const shard[] = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
    for (int k = 0; k < 2; k++) {
        char file[8 + sizeof header - 1 + 8] = {(char)(sizeof header - 1)};
        memcpy(file + 8, header, sizeof header - 1);
        if (k == 1 && !(variant & 1))
            file[10] = 'b';
        fuzz_put(shard[k], file, sizeof file);
    }
    fuzz_put("model.safetensors.index.json", data, n);
    fuzz_put("config.json", "{}", 2);
    char folder[256];
    snprintf(folder, sizeof folder, "%s", fuzz_path("x"));
    folder[strlen(folder) - 2] = '\0';
    open_path(folder);
}

static const char *const index_seeds[] = {"tests/fuzz/seeds/index*.json", NULL};
static const char *const index_words[] = {"\"weight_map\":", "\"a.weight\":", "\"b.weight\":", "\"model-00001-of-00002.safetensors\"", "\"../x\"",
                                          "{", "}", ",", "\"metadata\"", NULL};
const FuzzTarget fuzz_index = {.name = "index", .seeds = index_seeds, .words = index_words, .run = run_index};

/* ---- JSON ---- */

static Status count_member(void *ctx, const char *key, size_t key_len, const char *value, size_t value_len, Error *err)
{
    (void)key, (void)key_len, (void)value, (void)value_len, (void)err;
    ++*(size_t *)ctx;
    return ST_OK;
}

static Status count_element(void *ctx, const char *value, size_t value_len, Error *err)
{
    (void)value, (void)value_len, (void)err;
    ++*(size_t *)ctx;
    return ST_OK;
}

/* The tree and the walkers read the same. */
static void run_json(int variant, const uint8_t *data, size_t n)
{
    const char *text = (const char *)data;
    cJSON *doc = NULL;
    Error err = {0}, again = {0};
    (void)variant;
    Status st = json_parse(text, n, "j", &doc, &err);
    fuzz_error(st, &err);
    size_t members = 0, elements = 0;
    Status walked = json_walk(text, n, "j", count_member, &members, &again);
    fuzz_error(walked, &again);
    Status list = json_walk_list(text, n, "j", true, count_element, &elements, &again);
    fuzz_error(list, &again);
    if (st == ST_OK && cJSON_IsObject(doc) && (walked != ST_OK || members != (size_t)cJSON_GetArraySize(doc)))
        fuzz_bad("a walk that differs from the tree", again.text);
    if (st == ST_OK && cJSON_IsArray(doc) && (list != ST_OK || elements != (size_t)cJSON_GetArraySize(doc)))
        fuzz_bad("a list's walk that differs from the tree", again.text);
    if (st == ST_OK && cJSON_IsObject(doc) && json_walk_loose(text, n, "j", count_member, &members, &again) != ST_OK)
        fuzz_bad("a loose reader that refuses what a strict one takes", again.text);
    cJSON_Delete(doc);
}

static const char *const json_seeds[] = {"tests/golden/models/*/*/config.json", "tests/fuzz/seeds/*.json", NULL};
static const char *const json_words[] = {"\\u0000", "\\ud83d\\ude00", "\\ud83d", "NaN", "Infinity", "null", "true", "[[[[", "{\"a\":{", "\"a\":1,", NULL};
const FuzzTarget fuzz_json = {.name = "json", .seeds = json_seeds, .words = json_words, .take = 20000, .run = run_json};
