#ifndef SLIM_IO_JSON_H
#define SLIM_IO_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Strict parse: one document, no trailing bytes, no duplicate keys in an object, depth <= 64, no NUL in strings, valid
 * UTF-8. `name` names the source in errors, which give line and column. Caller frees with cJSON_Delete. */
Status json_parse(const char *text, size_t len, const char *name, cJSON **out, Error *err);
Status json_parse_file(const char *path, size_t max, cJSON **out, Error *err);
/* The text (a NUL behind it; caller frees) of a file that has to be JSON; one of another kind is an error. */
Status json_read_file(const char *path, size_t max, char **text, size_t *len, Error *err);
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

/* A value that is too large for a tree, where it is an object or a list: json_parse_parts gives its text, and leaves it
 * empty in the tree. */
enum { JSON_PART_DEPTH = 2 };
typedef Status JsonKeyed(void *ctx, const char *key, size_t key_len, const char *value, size_t value_len, bool *twice,
                         Error *err);
typedef struct JsonPart {
    const char *path[JSON_PART_DEPTH]; /* keys from the outermost object inwards, then NULL; none: the document */
    JsonKeyed *member; /* NULL, or gets the members as they are read, as a JsonMember does, and sets *twice for a key it
                          has met: keys are not compared with each other elsewhere. value NULL: it is no good, and
                          the key is to be looked up only, without an error */
    void *ctx;
    const char *text; /* out: of the value, within the document; NULL: it is not there, or another kind of value */
    size_t len, count; /* count: its members or elements */
} JsonPart;
/* As json_parse, with these `n` parts. */
Status json_parse_parts(const char *text, size_t len, const char *name, JsonPart *parts, int n, cJSON **out,
                        Error *err);

/* A place in a text that one of the functions above took as good, and that may be written to. */
typedef struct JsonCursor {
    char *p, *end;
} JsonCursor;

static inline bool json_blank(char c)
{
    return (unsigned char)c <= ' ' && (c == ' ' || c == '\n' || c == '\t' || c == '\r');
}

/* Goes behind blanks, and behind `c` if that is what comes then; gives whether it was. */
static inline bool json_take(JsonCursor *at, char c)
{
    while (at->p < at->end && json_blank(*at->p))
        at->p++;
    bool there = at->p < at->end && *at->p == c;
    at->p += there;
    return there;
}
/* The string that comes next, and goes behind it; escapes are resolved in place, so it can be read once. false: what
 * comes is none. Not NUL-terminated. */
bool json_string(JsonCursor *at, const char **out, size_t *len);

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
