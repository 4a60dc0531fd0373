#define PCRE2_CODE_UNIT_WIDTH 8
#include "save/loader.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/json.h"

typedef struct Target {
    const char *text;
    pcre2_code *re;     /* NULL: an exact name, or the class */
    int32_t group;      /* -1: ignored */
} Target;

struct Loader {
    Arena text;
    Target *t;
    size_t n, cap;
    LoaderGroup *group;
    int groups;
    pcre2_match_data *match;
};

static bool text_is(const cJSON *o, const char *key, const char *want)
{
    const cJSON *v = json_get(o, key);
    return cJSON_IsString(v) && strcmp(v->valuestring, want) == 0;
}

static bool whole_bytes(const cJSON *args)
{
    const cJSON *bits = json_get(args, "num_bits");
    return cJSON_IsNumber(bits) && bits->valuedouble == 8 && text_is(args, "type", "int");
}

static LoaderGroup read_group(const cJSON *g, const char *name)
{
    const cJSON *w = json_get(g, "weights"), *in = json_get(g, "input_activations");
    bool dynamic = cJSON_IsTrue(json_get(in, "dynamic"));
    bool known = whole_bytes(w) && whole_bytes(in) && text_is(w, "strategy", "channel")
                 && cJSON_IsTrue(json_get(w, "symmetric")) && text_is(in, "strategy", dynamic ? "token" : "tensor");
    return (LoaderGroup){.name = name, .known = known, .fixed = !dynamic,
                         .symmetric = cJSON_IsTrue(json_get(in, "symmetric"))};
}

static Status add_target(Loader *l, const cJSON *text, int group, Error *err)
{
    if (!cJSON_IsString(text))
        return error_set(err, ST_DATA, "config.json: a name in quantization_config is no text");
    const char *kept = arena_strdup(&l->text, text->valuestring);
    if (!kept || !mem_grow(&l->t, &l->cap, l->n + 1, sizeof *l->t))
        return error_nomem(err, "quantization_config");
    Target *t = &l->t[l->n++];
    *t = (Target){.text = kept, .group = group};
    if (strncmp(kept, "re:", 3) != 0)
        return ST_OK;
    int why;
    PCRE2_SIZE at;
    t->re = pcre2_compile((PCRE2_SPTR)kept + 3, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED, &why, &at, NULL);
    if (!t->re)
        return error_set(err, ST_DATA, "config.json: '%.200s' in quantization_config is no regular expression", kept);
    (void)pcre2_jit_compile(t->re, PCRE2_JIT_COMPLETE);
    return ST_OK;
}

static Status add_list(Loader *l, const cJSON *list, int group, Error *err)
{
    const cJSON *v;
    if (list && !cJSON_IsArray(list))
        return error_set(err, ST_DATA, "config.json: 'ignore' or 'targets' of quantization_config is no list");
    cJSON_ArrayForEach(v, list)
        RETURN_IF_ERROR(add_target(l, v, group, err));
    return ST_OK;
}

static Status read_groups(Loader *l, const cJSON *groups, Error *err)
{
    const cJSON *g;
    if (!cJSON_IsObject(groups))
        return error_set(err, ST_DATA, "config.json: quantization_config has no config_groups");
    l->group = mem_array((size_t)cJSON_GetArraySize(groups), sizeof *l->group);
    if (!l->group)
        return error_nomem(err, "quantization_config");
    cJSON_ArrayForEach(g, groups)
    {
        const char *name = arena_strdup(&l->text, g->string);
        if (!name)
            return error_nomem(err, "quantization_config");
        l->group[l->groups] = read_group(g, name);
        RETURN_IF_ERROR(add_list(l, json_get(g, "targets"), l->groups++, err));
    }
    return ST_OK;
}

Status loader_new(Loader **out, const cJSON *q, Error *err)
{
    Loader *l = *out = calloc(1, sizeof *l);
    if (!l || !(l->match = pcre2_match_data_create(1, NULL)))
        return error_nomem(err, "quantization_config");
    RETURN_IF_ERROR(add_list(l, json_get(q, "ignore"), -1, err));
    return read_groups(l, json_get(q, "config_groups"), err);
}

void loader_free(Loader *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < l->n; i++)
        pcre2_code_free(l->t[i].re);
    pcre2_match_data_free(l->match);
    free(l->t);
    free(l->group);
    arena_free(&l->text);
    free(l);
}

static bool is_class(const Target *t)
{
    return strcmp(t->text, "Linear") == 0;
}

static Status matches(const Loader *l, const Target *t, const char *module, bool *yes, Error *err)
{
    if (!t->re) {
        *yes = strcmp(t->text, module) == 0;
        return ST_OK;
    }
    int n = pcre2_match(t->re, (PCRE2_SPTR)module, strlen(module), 0, 0, l->match, NULL);
    *yes = n >= 0;
    if (n < 0 && n != PCRE2_ERROR_NOMATCH)
        return error_set(err, ST_DATA, "config.json: '%.200s' can't be matched with '%s'", t->text, module);
    return ST_OK;
}

/* How closely a target is meant: 3 by name, 2 by an expression, 1 by the class. */
static int closeness(const Target *t)
{
    return t->re ? 2 : is_class(t) ? 1 : 3;
}

/* Of two targets as close as each other the one that sorts first; of equal ones the later. */
static bool beats(const Target *a, const Target *b)
{
    if (!b || closeness(a) != closeness(b))
        return !b || closeness(a) > closeness(b);
    return strcmp(a->text, b->text) <= 0;
}

Status loader_find(const Loader *l, const char *module, const LoaderGroup **group, bool *by_class, Error *err)
{
    const Target *best = NULL;
    *group = NULL;
    *by_class = false;
    for (size_t i = 0; i < l->n; i++) {
        const Target *t = &l->t[i];
        bool yes = is_class(t);
        if (!yes)
            RETURN_IF_ERROR(matches(l, t, module, &yes, err));
        if (yes && t->group < 0)
            return ST_OK;
        if (yes && beats(t, best))
            best = t;
    }
    if (best) {
        *group = &l->group[best->group];
        *by_class = is_class(best);
    }
    return ST_OK;
}
