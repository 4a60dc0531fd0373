#include "save/debug_info.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/file.h"
#include "save/pyjson.h"
#include "save/terms.h"

#define TENSOR_FILE "debug_info.safetensors"

typedef struct DebugEntry {
    const char *path;  /* "namespace/key" */
    size_t space;      /* length of the namespace */
    int64_t group;     /* and its number */
    enum { E_NUMBER, E_TEXT, E_TENSOR } kind;
    double number;
    const char *text;
    size_t tensor;     /* index into DebugInfo.tensor */
} DebugEntry;

typedef struct DebugTensor {
    int ndim;
    int64_t shape[TENSOR_MAX_DIMS];
    DType dtype;
    const void *data;
    char digest[65];   /* of dtype, shape and values */
} DebugTensor;

struct DebugInfo {
    DebugEntry *e;
    size_t n, cap;
    DebugTensor *tensor;
    size_t ntensors, tensor_cap;
    Map of_digest, of_identity; /* digest, SaveDebug.identity -> index into tensor */
    Map at;            /* path -> entry */
    Map spaces;        /* namespace -> its number, in order of appearance */
    Arena arena;
};

Status debug_info_new(DebugInfo **out, Error *err)
{
    *out = calloc(1, sizeof **out);
    return *out ? ST_OK : error_nomem(err, "debug info");
}

void debug_info_free(DebugInfo *d)
{
    if (!d)
        return;
    free(d->e);
    free(d->tensor);
    map_free(&d->of_digest);
    map_free(&d->of_identity);
    map_free(&d->at);
    map_free(&d->spaces);
    arena_free(&d->arena);
    free(d);
}

/* The entry of this path, new or reset. */
static Status entry(DebugInfo *d, const char *space, const char *key, DebugEntry **out, Error *err)
{
    size_t a = strlen(space), b = strlen(key), n = a + 1 + b;
    char *path = arena_alloc(&d->arena, n + 1);
    if (!path || !mem_grow(&d->e, &d->cap, d->n + 1, sizeof *d->e))
        return error_nomem(err, "debug info");
    memcpy(path, space, a);
    path[a] = '/';
    memcpy(path + a + 1, key, b + 1);
    if (!map_add(&d->spaces, path, a, (int64_t)d->spaces.count, NULL))
        return error_nomem(err, "debug info");
    int64_t i = map_get(&d->at, path, n, -1);
    if (i < 0) {
        i = (int64_t)d->n;
        if (!map_add(&d->at, path, n, i, NULL))
            return error_nomem(err, "debug info");
        d->e[d->n++] = (DebugEntry){.path = path};
    }
    *out = &d->e[i];
    **out = (DebugEntry){.path = d->e[i].path, .space = a, .group = map_get(&d->spaces, path, a, 0)};
    return ST_OK;
}

Status debug_info_number(DebugInfo *d, const char *space, const char *key, double value, Error *err)
{
    DebugEntry *e;
    RETURN_IF_ERROR(entry(d, space, key, &e, err));
    e->kind = E_NUMBER;
    e->number = value;
    return ST_OK;
}

Status debug_info_text(DebugInfo *d, const char *space, const char *key, const char *value, Error *err)
{
    DebugEntry *e;
    RETURN_IF_ERROR(entry(d, space, key, &e, err));
    e->kind = E_TEXT;
    e->text = arena_strdup(&d->arena, value);
    return e->text ? ST_OK : error_nomem(err, "debug info");
}

static void tensor_digest(const SaveDebug *v, int64_t n, char hex[65])
{
    Hasher h;
    hasher_init(&h);
    hasher_u64(&h, (uint64_t)v->dtype);
    for (int i = 0; i < v->ndim; i++)
        hasher_u64(&h, (uint64_t)v->shape[i]);
    if (n)
        hasher_bytes(&h, v->values, (size_t)n * sizeof *v->values);
    Digest d = hasher_end(&h);
    digest_hex(&d, hex);
}

/* The tensor among those kept, a copy of it when it is new. */
static Status keep_tensor(DebugInfo *d, const SaveDebug *v, int64_t n, size_t *at, Error *err)
{
    DebugTensor t = {.ndim = v->ndim, .dtype = v->dtype == DT_BF16 || v->dtype == DT_F16 ? v->dtype : DT_F32};
    tensor_digest(v, n, t.digest);
    int64_t known = map_get(&d->of_digest, t.digest, 64, -1);
    if (known >= 0) {
        *at = (size_t)known;
        return ST_OK;
    }
    if (v->ndim)
        memcpy(t.shape, v->shape, (size_t)v->ndim * sizeof *v->shape);
    void *copy = arena_alloc(&d->arena, (size_t)n * (size_t)dtype_size(t.dtype) + 1);
    char *key = arena_strdup(&d->arena, t.digest);
    if (!copy || !key || !mem_grow(&d->tensor, &d->tensor_cap, d->ntensors + 1, sizeof *d->tensor)
        || !map_add(&d->of_digest, key, 64, (int64_t)d->ntensors, NULL))
        return error_nomem(err, "debug info");
    save_cast(v->values, n, t.dtype, copy);
    t.data = copy;
    *at = d->ntensors;
    d->tensor[d->ntensors++] = t;
    return ST_OK;
}

static Status take_tensor(DebugInfo *d, const SaveDebug *v, size_t *at, Error *err)
{
    int64_t n = 1, known = -1;
    if (v->identity)
        known = map_get(&d->of_identity, (const char *)&v->identity, sizeof v->identity, -1);
    if (known >= 0) {
        *at = (size_t)known;
        return ST_OK;
    }
    if (!v->values)
        return error_set(err, ST_INTERNAL, "debug tensor '%s' was never given", v->key);
    for (int i = 0; i < v->ndim; i++)
        if (v->shape[i] < 0 || !mul_i64(n, v->shape[i], &n))
            return error_set(err, ST_INTERNAL, "debug tensor '%s' is too large", v->key);
    if (v->ndim > TENSOR_MAX_DIMS || n > INT64_MAX / 4)
        return error_set(err, ST_INTERNAL, "debug tensor '%s' is too large", v->key);
    RETURN_IF_ERROR(keep_tensor(d, v, n, at, err));
    if (!v->identity)
        return ST_OK;
    const char *key = arena_strndup(&d->arena, (const char *)&v->identity, sizeof v->identity);
    return key && map_add(&d->of_identity, key, sizeof v->identity, (int64_t)*at, NULL) ? ST_OK
                                                                                        : error_nomem(err, "debug info");
}

Status debug_info_tensor(DebugInfo *d, const SaveDebug *v, Error *err)
{
    DebugEntry *e;
    size_t at;
    RETURN_IF_ERROR(take_tensor(d, v, &at, err));
    RETURN_IF_ERROR(entry(d, v->space, v->key, &e, err));
    e->kind = E_TENSOR;
    e->tensor = at;
    return ST_OK;
}

/* Shares of codes that stand for 0 and that are the ends of the range; integers only. */
static void code_shares(const QWeight *w, DebugLinear *l)
{
    int hi = w->dtype == QT_INT4 ? 7 : 127, lo = -hi - 1;
    int64_t n = w->out * w->in, zeros = 0, limits = 0;
    if ((w->dtype != QT_INT8 && w->dtype != QT_INT4) || n == 0)
        return;
    for (int64_t i = 0; i < n; i++) {
        int q = (int8_t)w->code[i];
        zeros += q == 0;
        limits += q == hi || q == lo;
    }
    l->has_codes = true;
    l->zeros = (double)zeros / (double)n;
    l->limits = (double)limits / (double)n;
}

DebugLinear debug_linear_of(const SaveLinear *l)
{
    DebugLinear out = {.linear = l->linear, .out = l->weight->out, .groups = l->weight->groups, .scale = l->weight->scale,
                       .has_act = l->has_act, .act = l->has_act ? l->act : (QParam){0}};
    code_shares(l->weight, &out);
    return out;
}

static Status put_number(DebugInfo *d, const char *space, const char *name, const char *end, double value, Error *err)
{
    char key[600];
    snprintf(key, sizeof key, "%.500s.%s", name, end);
    return debug_info_number(d, space, key, value, err);
}

Status debug_info_linear(DebugInfo *d, const Model *m, const DebugLinear *l, Error *err)
{
    const char *name = m->linears[l->linear].name;
    if (l->scale) {
        char key[600];
        snprintf(key, sizeof key, "%.500s.scale", name);
        const SaveDebug v = {.space = "weight", .key = key, .ndim = 2, .shape = {l->out, l->groups}, .dtype = DT_F32,
                             .values = l->scale};
        RETURN_IF_ERROR(debug_info_tensor(d, &v, err));
    }
    if (l->has_codes) {
        RETURN_IF_ERROR(put_number(d, "weight", name, "zeros", l->zeros, err));
        RETURN_IF_ERROR(put_number(d, "weight", name, "limits", l->limits, err));
    }
    if (!l->has_act)
        return ST_OK;
    RETURN_IF_ERROR(put_number(d, "activation", name, "scale", (double)l->act.scale, err));
    return put_number(d, "activation", name, "offset", (double)l->act.offset, err);
}

/* What the tensors are called in the file: of each the number within its namespace, or the first entry that has it. */
typedef struct Keys {
    const DebugInfo *d;
    bool peer;
    size_t *name;   /* [ntensors] the peer's number within the present namespace, or the entry; SIZE_MAX: none */
    size_t count;   /* in the present namespace */
} Keys;

static Status keys_init(Keys *k, const DebugInfo *d, bool peer, Error *err)
{
    *k = (Keys){.d = d, .peer = peer, .name = mem_array(d->ntensors + 1, sizeof *k->name)};
    if (!k->name)
        return error_nomem(err, "debug info");
    for (size_t i = 0; i < d->ntensors; i++)
        k->name[i] = SIZE_MAX;
    return ST_OK;
}

static void next_space(Keys *k)
{
    k->count = 0;
    for (size_t i = 0; k->peer && i < k->d->ntensors; i++)
        k->name[i] = SIZE_MAX;
}

/* The name of entry e's tensor; *first: it is new. */
static size_t key_of(Keys *k, size_t e, bool *first)
{
    size_t *name = &k->name[k->d->e[e].tensor];
    *first = *name == SIZE_MAX;
    if (*first)
        *name = k->peer ? k->count++ : e;
    return *name;
}

static void put_tensor(Keys *k, size_t e, Str *out)
{
    bool first;
    size_t key = key_of(k, e, &first);
    str_puts(out, "{\n            \"_type\": \"tensor\",\n            \"_file\": \"" TENSOR_FILE
                  "\",\n            \"_key\": ");
    if (k->peer)
        str_printf(out, "\"tensor_%zu\"", key);
    else
        pyjson_string(out, k->d->e[key].path, strlen(k->d->e[key].path));
    str_puts(out, "\n        }");
}

static void put_value(Keys *k, size_t i, Str *out)
{
    const DebugEntry *e = &k->d->e[i];
    switch (e->kind) {
    case E_NUMBER: pyjson_double(out, e->number); break;
    case E_TEXT: pyjson_string(out, e->text, strlen(e->text)); break;
    case E_TENSOR: put_tensor(k, i, out); break;
    }
}

/* The entries of one namespace. */
static void put_space(Keys *keys, int64_t group, Str *out)
{
    const DebugInfo *d = keys->d;
    const char *sep = NULL;
    for (size_t k = 0; k < d->n; k++) {
        const DebugEntry *e = &d->e[k];
        if (e->group != group)
            continue;
        if (!sep) {
            pyjson_string(out, e->path, e->space);
            str_puts(out, ": {");
            sep = "";
        }
        str_printf(out, "%s\n        ", sep);
        pyjson_string(out, e->path + e->space + 1, strlen(e->path + e->space + 1));
        str_puts(out, ": ");
        put_value(keys, k, out);
        sep = ",";
    }
    str_puts(out, "\n    }");
}

static Status put_json(const DebugInfo *d, bool peer, Str *out, Error *err)
{
    Keys keys;
    RETURN_IF_ERROR(keys_init(&keys, d, peer, err));
    str_putc(out, '{');
    for (size_t g = 0; g < d->spaces.count; g++) {
        next_space(&keys);
        str_puts(out, g ? ",\n    " : "\n    ");
        put_space(&keys, (int64_t)g, out);
    }
    str_puts(out, d->n ? "\n}" : "}");
    free(keys.name);
    return out->oom ? error_nomem(err, "debug info") : ST_OK;
}

/* The tensor of entry i under its name, in place of an earlier namespace's of the same number. */
static Status list_tensor(DebugInfo *d, Keys *k, size_t i, TensorOut *t, int64_t *n, Error *err)
{
    bool first;
    size_t key = key_of(k, i, &first);
    if (!first)
        return ST_OK;
    const DebugTensor *from = &d->tensor[d->e[i].tensor];
    char name[32];
    snprintf(name, sizeof name, "tensor_%zu", key + 1);
    int64_t at = k->peer ? (int64_t)key : *n;
    t[at] = (TensorOut){.name = k->peer ? arena_strdup(&d->arena, name) : d->e[i].path, .dtype = from->dtype,
                        .ndim = from->ndim, .data = from->data};
    memcpy(t[at].shape, from->shape, sizeof from->shape);
    *n = at + 1 > *n ? at + 1 : *n;
    return t[at].name ? ST_OK : error_nomem(err, "debug info");
}

static Status put_tensors(DebugInfo *d, bool peer, const char *path, Error *err)
{
    TensorOut *t = mem_zarray(d->n + 1, sizeof *t);
    Keys keys = {0};
    int64_t n = 0;
    Status st = t ? keys_init(&keys, d, peer, err) : error_nomem(err, "debug info");
    for (int64_t g = 0; st == ST_OK && g < (int64_t)d->spaces.count; g++) {
        next_space(&keys);
        for (size_t i = 0; i < d->n && st == ST_OK; i++)
            if (d->e[i].kind == E_TENSOR && d->e[i].group == g)
                st = list_tensor(d, &keys, i, t, &n, err);
    }
    if (st == ST_OK)
        st = safetensors_write(path, t, n, NULL, err);
    free(keys.name);
    free(t);
    return st;
}

Status debug_info_save(DebugInfo *d, bool peer, const char *path, Str *json, Error *err)
{
    RETURN_IF_ERROR(put_json(d, peer, json, err));
    return put_tensors(d, peer, path, err);
}
