#include "save/debug_info.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/file.h"
#include "save/pyjson.h"

#define TENSOR_FILE "debug_info.safetensors"

typedef struct DebugEntry {
    const char *path;  /* "namespace/key" */
    size_t space;      /* length of the namespace */
    int64_t group;     /* and its number */
    enum { E_NUMBER, E_TEXT, E_TENSOR } kind;
    double number;
    const char *text;
    int ndim;
    int64_t shape[TENSOR_MAX_DIMS];
    const float *data;
} DebugEntry;

struct DebugInfo {
    DebugEntry *e;
    size_t n, cap;
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

static Status debug_info_tensor(DebugInfo *d, const char *space, const char *key, int ndim, const int64_t *shape,
                                const float *data, Error *err)
{
    DebugEntry *e;
    int64_t n = 1;
    for (int i = 0; i < ndim; i++)
        if (shape[i] < 0 || !mul_i64(n, shape[i], &n))
            return error_set(err, ST_INTERNAL, "debug tensor '%s' is too large", key);
    if (ndim > TENSOR_MAX_DIMS || n > INT64_MAX / 4)
        return error_set(err, ST_INTERNAL, "debug tensor '%s' is too large", key);
    RETURN_IF_ERROR(entry(d, space, key, &e, err));
    float *copy = arena_alloc(&d->arena, (size_t)n * sizeof *copy + 1);
    if (!copy)
        return error_nomem(err, "debug info");
    if (n)
        memcpy(copy, data, (size_t)n * sizeof *copy);
    e->kind = E_TENSOR;
    e->ndim = ndim;
    if (ndim)
        memcpy(e->shape, shape, (size_t)ndim * sizeof *shape);
    e->data = copy;
    return ST_OK;
}

/* Shares of codes that stand for 0 and that are the ends of the range; integers only. */
static Status code_shares(DebugInfo *d, const char *name, const QWeight *w, Error *err)
{
    int hi = w->dtype == QT_INT4 ? 7 : 127, lo = -hi - 1;
    int64_t n = w->out * w->in, zeros = 0, limits = 0;
    if ((w->dtype != QT_INT8 && w->dtype != QT_INT4) || n == 0)
        return ST_OK;
    for (int64_t i = 0; i < n; i++) {
        int q = (int8_t)w->code[i];
        zeros += q == 0;
        limits += q == hi || q == lo;
    }
    char key[600];
    snprintf(key, sizeof key, "%.500s.zeros", name);
    RETURN_IF_ERROR(debug_info_number(d, "weight", key, (double)zeros / (double)n, err));
    snprintf(key, sizeof key, "%.500s.limits", name);
    return debug_info_number(d, "weight", key, (double)limits / (double)n, err);
}

Status debug_info_linear(DebugInfo *d, const Model *m, const SaveLinear *l, Error *err)
{
    const QWeight *w = l->weight;
    const char *name = m->linears[l->linear].name;
    char key[600];
    if (w->scale) {
        snprintf(key, sizeof key, "%.500s.scale", name);
        RETURN_IF_ERROR(debug_info_tensor(d, "weight", key, 2, (int64_t[]){w->out, w->groups}, w->scale, err));
    }
    RETURN_IF_ERROR(code_shares(d, name, w, err));
    if (!l->has_act)
        return ST_OK;
    snprintf(key, sizeof key, "%.500s.scale", name);
    RETURN_IF_ERROR(debug_info_number(d, "activation", key, (double)l->act.scale, err));
    snprintf(key, sizeof key, "%.500s.offset", name);
    return debug_info_number(d, "activation", key, (double)l->act.offset, err);
}

static void put_value(const DebugEntry *e, Str *out)
{
    switch (e->kind) {
    case E_NUMBER: pyjson_double(out, e->number); break;
    case E_TEXT: pyjson_string(out, e->text, strlen(e->text)); break;
    case E_TENSOR:
        str_puts(out, "{\n            \"_type\": \"tensor\",\n            \"_file\": \"" TENSOR_FILE
                      "\",\n            \"_key\": ");
        pyjson_string(out, e->path, strlen(e->path));
        str_puts(out, "\n        }");
        break;
    }
}

/* The entries of one namespace. */
static void put_space(const DebugInfo *d, int64_t group, Str *out)
{
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
        put_value(e, out);
        sep = ",";
    }
    str_puts(out, "\n    }");
}

static void put_json(const DebugInfo *d, Str *out)
{
    str_putc(out, '{');
    for (size_t g = 0; g < d->spaces.count; g++) {
        str_puts(out, g ? ",\n    " : "\n    ");
        put_space(d, (int64_t)g, out);
    }
    str_puts(out, d->n ? "\n}" : "}");
}

static Status put_tensors(const DebugInfo *d, const char *path, Error *err)
{
    TensorOut *t = mem_zarray(d->n + 1, sizeof *t);
    int64_t n = 0;
    if (!t)
        return error_nomem(err, "debug info");
    for (size_t i = 0; i < d->n; i++) {
        const DebugEntry *e = &d->e[i];
        if (e->kind != E_TENSOR)
            continue;
        t[n] = (TensorOut){.name = e->path, .dtype = DT_F32, .ndim = e->ndim, .data = e->data};
        memcpy(t[n].shape, e->shape, sizeof e->shape);
        n++;
    }
    Status st = safetensors_write(path, t, n, NULL, err);
    free(t);
    return st;
}

Status debug_info_save(const DebugInfo *d, const char *path, Str *json, Error *err)
{
    put_json(d, json);
    return json->oom ? error_nomem(err, "debug info") : put_tensors(d, path, err);
}
