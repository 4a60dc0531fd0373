#include "tune/canon.h"

#include <stdlib.h>
#include <string.h>

#include "save/pyjson.h"
#include "tune/decimal.h"

/* A member to be written: of the mapping, or of a field that it lacks. */
typedef struct Member {
    const char *key;
    const YamlNode *v;  /* NULL: absent */
    const Field *f;     /* NULL: a key without a field */
} Member;

static int by_key(const void *a, const void *b)
{
    return strcmp(((const Member *)a)->key, ((const Member *)b)->key);
}

static const Field *field_of(const Object *o, const char *key)
{
    for (const Field *f = o->fields; f && f->key; f++)
        if (strcmp(f->key, key) == 0)
            return f;
    return NULL;
}

static void put_value(const RecipeRows *rows, const YamlNode *v, const Field *f, Str *out);

static bool left_out(const Member *m, const char *skip)
{
    return (skip && strcmp(m->key, skip) == 0) || strcmp(m->key, "save_directory") == 0 ||
           (strcmp(m->key, "ext") == 0 && m->v && m->v->kind == YAML_MAP && m->v->count == 0);
}

static void put_member(const RecipeRows *rows, const Member *m, Str *out)
{
    pyjson_string(out, m->key, strlen(m->key));
    str_puts(out, ": ");
    if (m->v)
        put_value(rows, m->v, m->f, out);
    else if (m->f->type == F_OBJECT && strcmp(m->f->absent, "{}") == 0)
        canon_object(rows, NULL, m->f->object, NULL, out);
    else
        str_puts(out, m->f->absent);
}

void canon_object(const RecipeRows *rows, const YamlNode *map, const Object *o, const char *skip, Str *out)
{
    size_t n = 0, most = map ? (size_t)map->count : 0;
    for (const Field *f = o->fields; f && f->key; f++)
        most++;
    Member *m = mem_array(most + 1, sizeof *m);
    if (!m) {
        out->oom = true;
        return;
    }
    for (int i = 0; map && i < map->count; i++) {
        const char *key = map->keys[i]->text ? map->keys[i]->text : "null";
        m[n++] = (Member){key, map->vals[i], field_of(o, key)};
    }
    for (const Field *f = o->fields; f && f->key; f++)
        if (f->absent && !yaml_get(map, f->key))
            m[n++] = (Member){f->key, NULL, f};
    qsort(m, n, sizeof *m, by_key);
    str_putc(out, '{');
    bool first = true;
    for (size_t i = 0; i < n; i++) {
        if (left_out(&m[i], skip))
            continue;
        str_puts(out, first ? "" : ", ");
        put_member(rows, &m[i], out);
        first = false;
    }
    str_putc(out, '}');
    free(m);
}

/* Each item of a list by the keys of its type. */
static void put_typed(const RecipeRows *rows, const YamlNode *list, Object (*object)(const RecipeRows *, const char *), Str *out)
{
    str_putc(out, '[');
    for (int i = 0; i < list->count; i++) {
        const YamlNode *type = yaml_get(list->items[i], "type");
        Object o = object(rows, type && type->kind == YAML_STR ? type->text : "");
        str_puts(out, i ? ", " : "");
        canon_object(rows, list->items[i], &o, NULL, out);
    }
    str_putc(out, ']');
}

void canon_plain(const RecipeRows *rows, const YamlNode *v, Str *out)
{
    static const Object any = {.fields = NULL};
    switch (v->kind) {
    case YAML_NULL:
        str_puts(out, "null");
        return;
    case YAML_BOOL:
        str_puts(out, v->b ? "true" : "false");
        return;
    case YAML_INT:
        str_printf(out, "%lld", (long long)v->i);
        return;
    case YAML_FLOAT:
        pyjson_double(out, v->f);
        return;
    case YAML_STR:
    case YAML_DATE:
        pyjson_string(out, v->text, v->len);
        return;
    case YAML_SEQ:
        str_putc(out, '[');
        for (int i = 0; i < v->count; i++) {
            str_puts(out, i ? ", " : "");
            canon_plain(rows, v->items[i], out);
        }
        str_putc(out, ']');
        return;
    case YAML_MAP:
        canon_object(rows, v, &any, NULL, out);
        return;
    }
}

static void put_objects(const RecipeRows *rows, const YamlNode *v, const Object *o, Str *out)
{
    str_putc(out, '[');
    for (int i = 0; i < v->count; i++) {
        str_puts(out, i ? ", " : "");
        canon_object(rows, v->items[i], o, NULL, out);
    }
    str_putc(out, ']');
}

/* Keys in order, each value by one object. */
static void put_map_of(const RecipeRows *rows, const YamlNode *v, const Object *o, Str *out)
{
    const Field one = {.type = F_OBJECT, .object = o};
    Field *f = mem_zarray((size_t)v->count + 1, sizeof *f);
    if (!f) {
        out->oom = true;
        return;
    }
    for (int i = 0; i < v->count; i++) {
        f[i] = one;
        f[i].key = v->keys[i]->text ? v->keys[i]->text : "null";
    }
    canon_object(rows, v, &(Object){.fields = f}, NULL, out);
    free(f);
}

static void put_value(const RecipeRows *rows, const YamlNode *v, const Field *f, Str *out)
{
    int64_t i;
    double x;
    bool b;
    if (!f || v->kind == YAML_NULL)
        canon_plain(rows, v, out);
    else if (f->canon)
        f->canon(v, out);
    else if (f->type == F_CHECKED && f->value == check_processors && v->kind == YAML_SEQ)
        put_typed(rows, v, processor_object, out);
    else if (f->type == F_CHECKED && f->value == check_saver_list && v->kind == YAML_SEQ)
        put_typed(rows, v, saver_object, out);
    else if (f->type == F_INT && lax_int(v, &i))
        str_printf(out, "%lld", (long long)i);
    else if (f->type == F_FLOAT && lax_float(v, &x))
        pyjson_double(out, x);
    else if (f->type == F_BOOL && lax_bool(v, &b))
        str_puts(out, b ? "true" : "false");
    else if (f->type == F_OBJECT && v->kind == YAML_MAP)
        canon_object(rows, v, f->object, NULL, out);
    else if (f->type == F_OBJECTS && v->kind == YAML_SEQ)
        put_objects(rows, v, f->object, out);
    else if (f->type == F_MAP && f->object && v->kind == YAML_MAP)
        put_map_of(rows, v, f->object, out);
    else
        canon_plain(rows, v, out);
}

void canon_practice(const RecipeRows *rows, const YamlNode *root, Str *out)
{
    const YamlNode *api = yaml_get(root, "apiversion");
    str_puts(out, "{\"apiversion\": ");
    canon_plain(rows, api, out);
    str_puts(out, ", \"spec\": ");
    canon_object(rows, yaml_get(root, "spec"), &recipe_spec_object, NULL, out);
    str_putc(out, '}');
}

void canon_decimal(const YamlNode *v, Str *out)
{
    Decimal d;
    Str s = {0};
    if (decimal_of_node(v, &d))
        decimal_put(&d, &s);
    pyjson_string(out, str_text(&s), s.len);
    out->oom = out->oom || s.oom;
    str_free(&s);
}
