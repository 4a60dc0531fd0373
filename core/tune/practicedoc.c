#include "tune/practicedoc.h"

#include <stdio.h>
#include <string.h>

#include "recipe/pattern.h"
#include "save/pyyaml.h"

void practice_made_free(PracticeMade *m)
{
    str_free(&m->text);
}

/* ---- nodes in an arena; NULL when memory is short, which every one of them passes on ---- */

static YamlNode *node(Arena *a, YamlKind kind, int room)
{
    YamlNode *n = arena_alloc(a, sizeof *n);
    if (!n)
        return NULL;
    *n = (YamlNode){.kind = kind, .style = YAML_BLOCK};
    size_t bytes = (size_t)(room + 1) * sizeof *n->items;
    if (kind == YAML_SEQ)
        n->items = arena_alloc(a, bytes);
    if (kind == YAML_MAP) {
        n->keys = arena_alloc(a, bytes);
        n->vals = arena_alloc(a, bytes);
    }
    return (kind == YAML_SEQ && !n->items) || (kind == YAML_MAP && (!n->keys || !n->vals)) ? NULL : n;
}

static YamlNode *text_node(Arena *a, const char *s)
{
    YamlNode *n = node(a, YAML_STR, 0);
    if (n) {
        n->text = s;
        n->len = strlen(s);
    }
    return n;
}

static YamlNode *int_node(Arena *a, int v)
{
    YamlNode *n = node(a, YAML_INT, 0);
    if (n) {
        n->i = v;
        n->f = v;
    }
    return n;
}

static YamlNode *bool_node(Arena *a, bool v)
{
    YamlNode *n = node(a, YAML_BOOL, 0);
    if (n)
        n->b = v;
    return n;
}

/* Dumping reads nodes only. */
static YamlNode *shared(const YamlNode *n)
{
    return (YamlNode *)(uintptr_t)n;
}

static bool append(YamlNode *list, YamlNode *item)
{
    if (!list || !item)
        return false;
    list->items[list->count++] = item;
    return true;
}

static bool set(Arena *a, YamlNode *map, const char *key, YamlNode *val)
{
    if (!map || !val)
        return false;
    for (int i = 0; i < map->count; i++)
        if (node_is(map->keys[i], key)) {
            map->vals[i] = val;
            return true;
        }
    YamlNode *k = text_node(a, key);
    if (!k)
        return false;
    map->keys[map->count] = k;
    map->vals[map->count++] = val;
    map->own = map->count;
    return true;
}

/* A copy of one level, with room for `more` children; skip: a key that the copy doesn't have. */
static YamlNode *copy(Arena *a, const YamlNode *n, int more, const char *skip)
{
    YamlNode *c = node(a, n->kind, n->count + more);
    for (int i = 0; c && i < n->count; i++) {
        if (n->kind == YAML_SEQ) {
            c->items[c->count++] = n->items[i];
        } else if (!skip || !node_is(n->keys[i], skip)) {
            c->keys[c->count] = n->keys[i];
            c->vals[c->count++] = n->vals[i];
        }
    }
    if (c)
        c->own = c->count;
    return c;
}

/* ---- lists of patterns ---- */

static bool in_list(const char *const *list, int n, const char *text)
{
    for (int i = 0; i < n; i++)
        if (strcmp(list[i], text) == 0)
            return true;
    return false;
}

/* Whether one of the first n patterns takes this text for a name. */
static Status matched(const char *const *list, int n, const char *text, bool *yes, Error *err)
{
    *yes = false;
    for (int i = 0; i < n && !*yes; i++) {
        Pattern *p;
        RETURN_IF_ERROR(pattern_compile(&p, list[i], err));
        *yes = pattern_match(p, text);
        pattern_free(p);
    }
    return ST_OK;
}

/* Own patterns once each, then those of the wish. covered: those that an own one matches are left out, as strings. */
static Status join_lists(Arena *a, const YamlNode *own, const PracticeWish *w, bool covered, const char *const **out, int *n, Error *err)
{
    int most = (own && own->kind == YAML_SEQ ? own->count : 0) + w->npatterns, mine;
    const char **list = arena_alloc(a, (size_t)(most + 1) * sizeof *list);
    if (!list)
        return error_nomem(err, "a practice");
    *n = 0;
    for (int i = 0; i < most - w->npatterns; i++)
        if (own->items[i]->kind == YAML_STR && !in_list(list, *n, own->items[i]->text))
            list[(*n)++] = own->items[i]->text;
    mine = *n;
    for (int i = 0; i < w->npatterns; i++) {
        bool there = false;
        if (covered)
            RETURN_IF_ERROR(matched(list, mine, w->patterns[i], &there, err));
        if (!there && !in_list(list, *n, w->patterns[i]))
            list[(*n)++] = w->patterns[i];
    }
    *out = list;
    return ST_OK;
}

static YamlNode *list_node(Arena *a, const char *const *text, int n)
{
    YamlNode *list = node(a, YAML_SEQ, n);
    for (int i = 0; list && i < n; i++)
        if (!append(list, text_node(a, text[i])))
            return NULL;
    return list;
}

/* ---- standing_high ---- */

typedef struct Build {
    Arena *a;
    const PracticeWish *w;
    PracticeMade *out;
    bool first; /* no linear_quant was met yet */
    Error *err;
} Build;

static Status build_linear(Build *b, const YamlNode *map, YamlNode **out)
{
    const char *const *list;
    int n;
    RETURN_IF_ERROR(join_lists(b->a, yaml_get(map, "exclude"), b->w, true, &list, &n, b->err));
    YamlNode *c = copy(b->a, map, 1, n ? NULL : "exclude");
    if (!c || (n && !set(b->a, c, "exclude", list_node(b->a, list, n))))
        return error_nomem(b->err, "a practice");
    if (b->first) {
        b->out->patterns = list;
        b->out->npatterns = n;
        b->first = false;
    }
    *out = c;
    return ST_OK;
}

/* A list of processors with every linear_quant built; depth is bounded by YAML_DEPTH_MAX. */
static Status build_list(Build *b, const YamlNode *list, YamlNode *into)
{
    for (int i = 0; i < list->count; i++) {
        const YamlNode *item = list->items[i], *type = yaml_get(item, "type"), *configs = yaml_get(item, "configs");
        YamlNode *made = shared(item);
        if (node_is(type, "linear_quant")) {
            RETURN_IF_ERROR(build_linear(b, item, &made));
        } else if (node_is(type, "group") && configs && !b->w->peer) {
            YamlNode *inner = node(b->a, YAML_SEQ, configs->count);
            if (!inner)
                return error_nomem(b->err, "a practice");
            RETURN_IF_ERROR(build_list(b, configs, inner));
            made = copy(b->a, item, 0, NULL);
            if (!set(b->a, made, "configs", inner))
                return error_nomem(b->err, "a practice");
        }
        append(into, made);
    }
    return ST_OK;
}

/* "int8", "mxfp4", "fp8_e4m3": the first number in it; without one 16. */
static int bits_of(const YamlNode *dtype)
{
    const char *at = dtype && dtype->kind == YAML_STR ? strpbrk(dtype->text, "0123456789") : NULL;
    return at ? *at - '0' : 16;
}

/* Of what attention reads: the fewest of a fa3_quant's parts; 0: it is none. */
static int attention_bits(const YamlNode *item)
{
    const YamlNode *q = yaml_get(item, "qconfig"), *details = yaml_get(item, "details");
    int least = 0;
    if (!node_is(yaml_get(item, "type"), "fa3_quant"))
        return 0;
    for (int i = 0; details && details->kind == YAML_MAP && i < details->count; i++) {
        int bits = bits_of(yaml_get(details->vals[i], "dtype"));
        least = !least || bits < least ? bits : least;
    }
    return least ? least : q && q->kind == YAML_MAP ? bits_of(yaml_get(q, "dtype")) : 8;
}

/* What practices are looked up by: bits of the first linear_quant, whether keys and values are quantized, bits of what
 * attention reads. */
static YamlNode *label_of(Arena *a, const YamlNode *process)
{
    const YamlNode *first = NULL;
    bool cache = false;
    int attention = 0;
    if (!practice_linears(process, true, &first))
        return NULL;
    for (int i = 0; i < process->count; i++) {
        cache = cache || node_is(yaml_get(process->items[i], "type"), "dynamic_cache");
        attention = attention ? attention : attention_bits(process->items[i]);
    }
    const YamlNode *q = yaml_get(first, "qconfig"), *w = q ? yaml_get(q, "weight") : NULL, *act = q ? yaml_get(q, "act") : NULL;
    YamlNode *label = node(a, YAML_MAP, 5);
    bool whole = set(a, label, "w_bit", int_node(a, bits_of(w ? yaml_get(w, "dtype") : NULL))) &&
                 set(a, label, "a_bit", int_node(a, bits_of(act ? yaml_get(act, "dtype") : NULL))) &&
                 set(a, label, "is_sparse", bool_node(a, false)) && set(a, label, "kv_cache", bool_node(a, cache)) &&
                 (!attention || set(a, label, "fa_bit", int_node(a, attention)));
    return whole ? label : NULL;
}

/* By which quant finds it before those that ship: it met a demand on this very model. */
enum { TUNED_SCORE = 100 };

/* Of our own practices: a label and a score, where the plan has none. */
static bool add_label(Arena *a, YamlNode *meta, const YamlNode *process, const PracticeWish *w)
{
    if (w->label && !set(a, meta, "label", shared(w->label)))
        return false;
    if (w->peer || !process)
        return true;
    const YamlNode *first;
    bool labelled = w->label || yaml_get(meta, "label") || !practice_linears(process, true, &first);
    return (labelled || set(a, meta, "label", label_of(a, process))) &&
           (yaml_get(meta, "score") || set(a, meta, "score", int_node(a, TUNED_SCORE)));
}

static bool add_types(Arena *a, YamlNode *meta, const char *model_type)
{
    return !model_type || set(a, meta, "verified_model_types", list_node(a, &model_type, 1));
}

static Status dump(const YamlNode *root, PracticeMade *out, Error *err)
{
    pyyaml_dump(root, &out->text);
    return out->text.oom ? error_nomem(err, "a practice") : ST_OK;
}

Status practice_standing(Arena *a, const YamlNode *spec, const PracticeWish *w, PracticeMade *out, Error *err)
{
    const YamlNode *process = yaml_get(spec, "process");
    int front = w->front ? w->front->count : 0;
    Build b = {.a = a, .w = w, .out = out, .first = true, .err = err};
    YamlNode *list = node(a, YAML_SEQ, front + process->count), *meta = node(a, YAML_MAP, 4), *root = node(a, YAML_MAP, 3);
    YamlNode *made = copy(a, spec, 1, w->peer ? "prior" : NULL);
    if (!list || !meta || !root || !made)
        return error_nomem(err, "a practice");
    for (int i = 0; i < front; i++)
        append(list, w->front->items[i]);
    RETURN_IF_ERROR(build_list(&b, process, list));
    if (!set(a, made, "process", list) || !set(a, meta, "config_id", text_node(a, w->id)) ||
        !add_label(a, meta, process, w) || !add_types(a, meta, w->model_type) ||
        !set(a, root, "apiversion", text_node(a, "modelslim_v1")) || !set(a, root, "spec", made) || !set(a, root, "metadata", meta))
        return error_nomem(err, "a practice");
    return dump(root, out, err);
}

/* ---- binary_fallback ---- */

/* The next segment of a dotted path; *end behind it. */
static int segment_index(const char *s, int len)
{
    int i = 0;
    for (int k = 0; k < len; k++) {
        if (s[k] < '0' || s[k] > '9' || i > 1000000)
            return -1;
        i = i * 10 + (s[k] - '0');
    }
    return len ? i : -1;
}

/* Where a segment leads from n: the index of its child, -1: nowhere. */
static int child_of(const YamlNode *n, const char *s, int len)
{
    if (n->kind == YAML_SEQ) {
        int i = segment_index(s, len);
        return i < n->count ? i : -1;
    }
    for (int i = 0; n->kind == YAML_MAP && i < n->count; i++)
        if (n->keys[i]->kind == YAML_STR && n->keys[i]->len == (size_t)len && memcmp(n->keys[i]->text, s, (size_t)len) == 0)
            return i;
    return -1;
}

const YamlNode *practice_path(const YamlNode *root, const char *path, const char **part, int *len)
{
    const YamlNode *n = root;
    for (const char *s = path;; s++) {
        *part = s;
        *len = (int)strcspn(s, ".");
        int i = child_of(n, s, *len);
        if (i < 0)
            return NULL;
        n = n->kind == YAML_SEQ ? n->items[i] : n->vals[i];
        s += *len;
        if (!*s)
            return n;
    }
}

/* root once more with the list at the path in place of what is there. */
static YamlNode *replace_at(Arena *a, const YamlNode *n, const char *path, YamlNode *list)
{
    int len = (int)strcspn(path, "."), i = child_of(n, path, len);
    YamlNode *c = copy(a, n, 3, NULL);
    if (i < 0 && n->kind == YAML_MAP && !path[len]) { /* an exclude that isn't there: its key ends the path */
        char *key = arena_strndup(a, path, (size_t)len);
        return key && set(a, c, key, list) ? c : NULL;
    }
    if (!c || i < 0)
        return NULL;
    const YamlNode *child = n->kind == YAML_SEQ ? n->items[i] : n->vals[i];
    YamlNode *fresh = path[len] ? replace_at(a, child, path + len + 1, list) : list;
    if (!fresh)
        return NULL;
    if (n->kind == YAML_SEQ)
        c->items[i] = fresh;
    else
        c->vals[i] = fresh;
    return c;
}

Status practice_fallback(Arena *a, const YamlNode *root, const char *path, const PracticeWish *w, PracticeMade *out, Error *err)
{
    const char *part;
    int len;
    const YamlNode *own = practice_path(root, path, &part, &len), *meta_was = yaml_get(root, "metadata");
    RETURN_IF_ERROR(join_lists(a, w->peer ? NULL : own, w, false, &out->patterns, &out->npatterns, err));
    YamlNode *made = replace_at(a, root, path, list_node(a, out->patterns, out->npatterns));
    YamlNode *meta = meta_was ? copy(a, meta_was, 4, NULL) : node(a, YAML_MAP, 4);
    const YamlNode *spec = yaml_get(root, "spec"), *process = spec ? yaml_get(spec, "process") : NULL;
    if (!made || !set(a, meta, "config_id", text_node(a, w->id)) || !add_label(a, meta, process, w) ||
        !add_types(a, meta, w->model_type) || !set(a, made, "metadata", meta))
        return error_nomem(err, "a practice");
    return dump(made, out, err);
}

/* ---- what a list has ---- */

int practice_linears(const YamlNode *process, bool groups, const YamlNode **first)
{
    int n = 0;
    for (int i = 0; process && process->kind == YAML_SEQ && i < process->count; i++) {
        const YamlNode *item = process->items[i], *type = yaml_get(item, "type");
        if (node_is(type, "linear_quant") && n++ == 0 && first && !*first)
            *first = item;
        else if (groups && node_is(type, "group"))
            n += practice_linears(yaml_get(item, "configs"), true, first);
    }
    return n;
}

const char *practice_short(Arena *a, const YamlNode *process)
{
    Str s = {0};
    for (int i = 0; process && process->kind == YAML_SEQ && i < process->count; i++) {
        const YamlNode *type = yaml_get(process->items[i], "type"), *alpha = yaml_get(process->items[i], "alpha");
        str_printf(&s, "%s%s", i ? ", " : "", type && type->text ? type->text : "?");
        if (alpha && alpha->text)
            str_printf(&s, "(%s)", alpha->text);
    }
    char *text = s.oom ? NULL : arena_strdup(a, str_text(&s));
    str_free(&s);
    return text;
}
