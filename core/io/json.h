#ifndef SLIM_IO_JSON_H
#define SLIM_IO_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Strict parse: one document, no trailing bytes, no duplicate keys in an object, depth <= 64, no NUL in strings, valid
 * UTF-8. `name` names the source in errors, which give line and column. Caller frees with cJSON_Delete. */
Status json_parse(const char *text, size_t len, const char *name, cJSON **out, Error *err);
Status json_parse_file(const char *path, size_t max, cJSON **out, Error *err);
/* As Python's json reads, which wrote the files of a Hugging Face model: of a key that is there twice the last one
 * counts, and NaN, Infinity and \u0000 are no errors (the tree has an infinite number for the first two). */
Status json_parse_loose(const char *text, size_t len, const char *name, cJSON **out, Error *err);

/* Strict as json_parse, for objects too large for a tree: every member of the outermost object is handed to `fn` as its
 * key (escapes resolved, not NUL-terminated) and the text of its value, both borrowed for the call. Later members are
 * not validated yet when fn runs; an error of fn stops the walk. */
typedef Status JsonMember(void *ctx, const char *key, size_t key_len, const char *value, size_t value_len, Error *err);
Status json_walk(const char *text, size_t len, const char *name, JsonMember *fn, void *ctx, Error *err);
/* As Python's json reads: NaN, Infinity, \u0000 and keys that are there twice (fn gets both) are no errors. */
Status json_walk_loose(const char *text, size_t len, const char *name, JsonMember *fn, void *ctx, Error *err);
/* As json_walk_loose for a document that is a list: fn gets the text of every element. Strict: as json_parse reads. */
typedef Status JsonElement(void *ctx, const char *value, size_t value_len, Error *err);
Status json_walk_list(const char *text, size_t len, const char *name, bool strict, JsonElement *fn, void *ctx,
                      Error *err);
/* For a text, or the value of a member, that one of the functions above took as good: needs no memory, because it does
 * not look for duplicate keys again. */
Status json_walk_again(const char *text, size_t len, const char *name, JsonMember *fn, void *ctx, Error *err);

/* Members of an object: absent and null both mean "not there" and leave *out as it is (its default). A wrong type or a
 * number that is no exact integer below 2^53 is an error naming the key. `*found` may be NULL. */
Status json_int(const cJSON *obj, const char *key, int64_t *out, bool *found, Error *err);
Status json_num(const cJSON *obj, const char *key, double *out, bool *found, Error *err);
Status json_bool(const cJSON *obj, const char *key, bool *out, bool *found, Error *err);
/* Borrowed string. */
Status json_str(const cJSON *obj, const char *key, const char **out, bool *found, Error *err);
/* Case-sensitive look-up; NULL when absent or null. Linear: not for huge objects (walk those once). */
const cJSON *json_get(const cJSON *obj, const char *key);

#endif
