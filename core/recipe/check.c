#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "recipe/recipe_impl.h"

/* The validator that the key tables drive: unknown keys, missing keys, lax conversion, ranges, lengths. */

enum { ITEM_TYPES_MAX = 63 }; /* that a misspelt one is compared with */

void check_nomem(Check *c)
{
    if (c->status != ST_NOMEM)
        c->status = error_nomem(c->err, "a recipe");
    c->errors = CHECK_ERRORS_MAX;
}

static void add_note(Check *c, const YamlNode *at, bool blocks, const char *fmt, va_list ap)
    __attribute__((format(printf, 4, 0)));
static void add_note(Check *c, const YamlNode *at, bool blocks, const char *fmt, va_list ap)
{
    Recipe *r = c->r;
    at = c->instead ? c->instead : at;
    if (!mem_grow(&r->note, &r->notes_cap, r->nnotes + 1, sizeof *r->note)) {
        check_nomem(c);
        return;
    }
    RecipeNote *n = &r->note[r->nnotes++];
    n->line = at->line;
    n->column = at->column;
    n->blocks = blocks;
    vsnprintf(n->text, sizeof n->text, fmt, ap);
}

void check_note(Check *c, const YamlNode *at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add_note(c, at, false, fmt, ap);
    va_end(ap);
}

void check_block(Check *c, const YamlNode *at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add_note(c, at, true, fmt, ap);
    va_end(ap);
}

void check_fail(Check *c, const YamlNode *at, const char *fmt, ...)
{
    if (c->errors >= CHECK_ERRORS_MAX)
        return;
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (c->instead) {
        c->errors++;
        check_block(c, at, "translated to modelslim_v1: %s: %s", c->path, text);
        return;
    }
    int line = at ? at->line : 1, column = at ? at->column : 1;
    const char *colon = c->plen ? ": " : "";
    if (!c->errors++)
        c->status = error_set(c->err, ST_DATA, "%s:%d:%d: %s%s%s", c->r->name, line, column, c->path, colon, text);
    if (c->all)
        str_printf(c->all, "%s:%d:%d: %s%s%s\n", c->r->name, line, column, c->path, colon, text);
}

size_t check_push(Check *c, const char *key)
{
    size_t was = c->plen;
    int n = snprintf(c->path + was, sizeof c->path - was, "%s%.80s", was ? "." : "", key);
    c->plen = was + (size_t)n < sizeof c->path ? was + (size_t)n : sizeof c->path - 1;
    return was;
}

size_t check_push_index(Check *c, int i)
{
    char text[16];
    snprintf(text, sizeof text, "%d", i);
    return check_push(c, text);
}

void check_pop(Check *c, size_t to)
{
    c->plen = to;
    c->path[to] = '\0';
}

bool check_peer(const Check *c)
{
    return c->peer;
}

const char *check_nearest(const char *word, const char *const *words, char *buf, size_t size)
{
    int best = (int)strlen(word) / 2 + 1, d;
    const char *near = NULL;
    if (best > 4)
        best = 4;
    for (; *words; words++)
        if ((d = str_distance(word, *words, best)) < best) {
            best = d;
            near = *words;
        }
    if (near)
        snprintf(buf, size, " (did you mean '%s'?)", near);
    else
        buf[0] = '\0';
    return buf;
}

/* Numeric text as Python reads it: blanks around, single underscores between digits. Into buf without them. */
static bool numeric_text(const char *s, char *buf, size_t size)
{
    size_t n = 0;
    while (ascii_is_space(*s))
        s++;
    for (; *s && !ascii_is_space(*s); s++) {
        if (*s == '_' && n && ascii_is_digit(s[-1]) && ascii_is_digit(s[1]))
            continue;
        if (n + 1 == size || !strchr("+-.0123456789eEinfatyINFATY", *s))
            return false;
        buf[n++] = *s;
    }
    while (ascii_is_space(*s))
        s++;
    buf[n] = '\0';
    return n && !*s;
}

bool lax_float(const YamlNode *n, double *out)
{
    if (n->kind == YAML_INT || n->kind == YAML_FLOAT || n->kind == YAML_BOOL) {
        *out = n->f;
        return true;
    }
    char buf[128], *end;
    if (n->kind != YAML_STR || strlen(n->text) != n->len || !numeric_text(n->text, buf, sizeof buf))
        return false;
    *out = strtod(buf, &end);
    return !*end;
}

bool lax_int(const YamlNode *n, int64_t *out)
{
    if (n->kind == YAML_INT || n->kind == YAML_BOOL) {
        *out = n->i;
        return true;
    }
    double f;
    if (n->kind == YAML_STR && strpbrk(n->text, "eEnN"))
        return false;
    if (!lax_float(n, &f) || !(fabs(f) < 9.0e18) || f != floor(f))
        return false;
    *out = (int64_t)f;
    return true;
}

bool lax_bool(const YamlNode *n, bool *out)
{
    static const char *const yes[] = {"true", "t", "yes", "y", "on", "1", NULL};
    static const char *const no[] = {"false", "f", "no", "n", "off", "0", NULL};
    if (n->kind == YAML_BOOL || n->kind == YAML_INT || n->kind == YAML_FLOAT) {
        *out = n->f == 1;
        return n->f == 0 || n->f == 1;
    }
    if (n->kind != YAML_STR)
        return false;
    for (int i = 0; yes[i]; i++) {
        *out = ascii_casecmp(n->text, yes[i]) == 0;
        if (*out || ascii_casecmp(n->text, no[i]) == 0)
            return true;
    }
    return false;
}

static int characters(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void check_number(Check *c, const YamlNode *v, const Field *f, double x)
{
    if (f->bounded && f->open && !(x > f->lo && x < f->hi))
        check_fail(c, v, "must lie between %g and %g, both excluded, not %g", f->lo, f->hi, x);
    else if (f->bounded && !f->open && (x < f->lo || x > f->hi))
        check_fail(c, v, "must lie in %g … %g, not %g", f->lo, f->hi, x);
    int64_t i = fabs(x) < 1e15 ? (int64_t)x : 0;
    if (f->power_of_two && i != -1 && (i <= 0 || (i & (i - 1)) != 0))
        check_fail(c, v, "must be a power of two%s, not %g", f->lo < 0 ? " or -1" : "", x);
}

static void check_text(Check *c, const YamlNode *v, const Field *f)
{
    const int longest = f->longest;
    if (v->kind != YAML_STR)
        check_fail(c, v, "must be text, not %s%s", yaml_kind_name(v->kind), v->kind < YAML_STR ? ": quote it" : "");
    else if (longest && characters(v->text) > longest)
        check_fail(c, v, "has %d characters, at most %d are allowed", characters(v->text), longest);
    else if (f->filled && !v->text[strspn(v->text, " \t\r\n")])
        check_fail(c, v, "must not be blank");
}

static void check_enum(Check *c, const YamlNode *v, const Field *f)
{
    if (v->kind == YAML_STR)
        for (const char *const *w = f->words; *w; w++)
            if (strcmp(*w, v->text) == 0)
                return;
    char list[256] = "", near[64] = "";
    size_t n = 0;
    for (const char *const *w = f->words; *w && n < sizeof list; w++)
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", *w);
    if (v->kind == YAML_STR)
        check_nearest(v->text, f->words, near, sizeof near);
    check_fail(c, v, "'%.60s' is none of %s%s", v->text ? v->text : yaml_kind_name(v->kind), list, near);
}

bool check_list(Check *c, const YamlNode *v, int least)
{
    if (v->kind != YAML_SEQ) {
        check_fail(c, v, "must be a list, not %s%s", yaml_kind_name(v->kind),
                   v->kind == YAML_STR ? ": put it into [ ]" : "");
        return false;
    }
    if (v->count < least)
        check_fail(c, v, "needs at least %d item%s", least, least == 1 ? "" : "s");
    return true;
}

void check_texts(Check *c, const YamlNode *v, const Field *f)
{
    if (!check_list(c, v, f->least))
        return;
    for (int i = 0; i < v->count; i++) {
        size_t was = check_push_index(c, i);
        check_text(c, v->items[i], f);
        check_pop(c, was);
    }
}

static void check_ints(Check *c, const YamlNode *v, const Field *f)
{
    if (!check_list(c, v, f->least))
        return;
    for (int i = 0; i < v->count; i++) {
        size_t was = check_push_index(c, i);
        int64_t x;
        if (!lax_int(v->items[i], &x))
            check_fail(c, v->items[i], "must be an integer");
        else
            check_number(c, v->items[i], f, (double)x);
        check_pop(c, was);
    }
}

static void check_objects(Check *c, const YamlNode *v, const Field *f)
{
    if (!check_list(c, v, f->least))
        return;
    for (int i = 0; i < v->count; i++) {
        size_t was = check_push_index(c, i);
        check_object(c, v->items[i], f->object);
        check_pop(c, was);
    }
}

static void check_mapping(Check *c, const YamlNode *v, const Field *f)
{
    if (v->kind != YAML_MAP)
        check_fail(c, v, "must be a mapping, not %s", yaml_kind_name(v->kind));
    for (int i = 0; f->object && v->kind == YAML_MAP && i < v->count; i++) {
        size_t was = check_push(c, v->keys[i]->text ? v->keys[i]->text : "?");
        check_object(c, v->vals[i], f->object);
        check_pop(c, was);
    }
}

void check_items(Check *c, const YamlNode *v, const Field *f, void (*item)(Check *c, const YamlNode *item))
{
    if (!check_list(c, v, f->least))
        return;
    for (int i = 0; i < v->count; i++) {
        size_t was = check_push_index(c, i);
        item(c, v->items[i]);
        check_pop(c, was);
    }
}

int check_item_type(Check *c, const YamlNode *item, const char *noun, bool list,
                    const char *(*name)(const Check *, int))
{
    const YamlNode *type = yaml_get(item, "type");
    const char *words[ITEM_TYPES_MAX + 1] = {NULL}, *one;
    char near[64], text[160] = "";
    size_t n = 0;
    if (item->kind != YAML_MAP) {
        check_fail(c, item, "must be a mapping with a type, not %s", yaml_kind_name(item->kind));
        return -1;
    }
    if (!type || type->kind != YAML_STR) {
        check_fail(c, type ? type : item, "type is missing");
        return -1;
    }
    for (int i = 0; (one = name(c, i)) != NULL; i++) {
        if (strcmp(one, type->text) == 0)
            return i;
        if (i < ITEM_TYPES_MAX)
            words[i] = one;
        if (list && n < sizeof text)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", n ? ", " : "; there are ", one);
    }
    check_fail(c, type, "unknown %s '%.60s'%s%s", noun, type->text,
               check_nearest(type->text, words, near, sizeof near), text);
    return -1;
}

void check_value(Check *c, const YamlNode *v, const Field *f)
{
    int64_t i;
    double x;
    bool b;
    if (v->kind == YAML_NULL && f->nullable)
        return;
    switch (f->type) {
    case F_ANY:
        return;
    case F_STR:
        check_text(c, v, f);
        return;
    case F_INT:
        if (lax_int(v, &i))
            check_number(c, v, f, (double)i);
        else
            check_fail(c, v, "must be an integer, not %s", v->text ? v->text : yaml_kind_name(v->kind));
        return;
    case F_FLOAT:
        if (lax_float(v, &x))
            check_number(c, v, f, x);
        else
            check_fail(c, v, "must be a number, not %s", v->text ? v->text : yaml_kind_name(v->kind));
        return;
    case F_BOOL:
        if (!lax_bool(v, &b))
            check_fail(c, v, "must be true or false, not %s", v->text ? v->text : yaml_kind_name(v->kind));
        return;
    case F_ENUM:
        check_enum(c, v, f);
        return;
    case F_MAP:
        check_mapping(c, v, f);
        return;
    case F_PATTERNS:
    case F_STRINGS:
        check_texts(c, v, f);
        return;
    case F_INTS:
        check_ints(c, v, f);
        return;
    case F_OBJECT:
        check_object(c, v, f->object);
        return;
    case F_OBJECTS:
        check_objects(c, v, f);
        return;
    case F_CHECKED:
        f->value(c, v, f);
        return;
    }
}

static const Field *field_find(const Object *o, const YamlNode *key)
{
    if (key->kind == YAML_STR)
        for (const Field *f = o->fields; f->key; f++)
            if (strcmp(f->key, key->text) == 0)
                return f;
    return NULL;
}

/* " (did you mean …)": the nearest key, or the colon that key="value" lacks. */
static const char *key_hint(const YamlNode *key, const char *const *words, char *buf, size_t size)
{
    const char *text = key->text ? key->text : "", *equal = strchr(text, '=');
    if (!equal)
        return check_nearest(text, words, buf, size);
    size_t n = strcspn(equal + 1 + (equal[1] == '"' || equal[1] == '\''), "\"'");
    snprintf(buf, size, " (did you mean '%.*s: %.*s'?)", (int)(equal - text < 20 ? equal - text : 20), text,
             (int)(n < 20 ? n : 20), equal + 1 + (equal[1] == '"' || equal[1] == '\''));
    return buf;
}

void check_object(Check *c, const YamlNode *map, const Object *o)
{
    if (map->kind != YAML_MAP) {
        check_fail(c, map, "must be a mapping, not %s%s", yaml_kind_name(map->kind),
                   map->kind == YAML_STR && strchr(map->text, '=') ? ": write 'key: value'" : "");
        return;
    }
    const YamlNode *alias = c->alias;
    if (map->from_alias && !c->alias)
        c->alias = map;
    const char *words[24] = {NULL};
    for (int k = 0; o->fields[k].key && k < 23; k++)
        words[k] = o->fields[k].key;
    for (int i = 0; i < map->count; i++) {
        const YamlNode *key = map->keys[i];
        const Field *f = field_find(o, key);
        size_t was = check_push(c, key->text ? key->text : "?");
        char near[80];
        const YamlNode *outer = c->alias;
        if (map->vals[i]->from_alias && !c->alias)
            c->alias = map->vals[i];
        if (f && f->ours && c->peer)
            check_fail(c, key, "is ours: not under --compat peer");
        else if (f)
            check_value(c, map->vals[i], f);
        else if (!o->extra)
            check_fail(c, key, "unknown key%s", key_hint(key, words, near, sizeof near));
        c->alias = outer;
        check_pop(c, was);
    }
    for (const Field *f = o->fields; f->key; f++)
        if (f->required && !yaml_get(map, f->key)) {
            size_t was = check_push(c, f->key);
            check_fail(c, map, "is missing");
            check_pop(c, was);
        }
    if (o->check && c->errors < CHECK_ERRORS_MAX)
        o->check(c, map);
    c->alias = alias;
}

Status check_run(const RecipeRows *rows, const char *name, bool peer, Str *all, void (*body)(Check *c, void *ctx), void *ctx,
                 Error *err)
{
    Recipe *r = calloc(1, sizeof *r);
    Check *c = calloc(1, sizeof *c);
    Error first = {0};
    Status st = ST_NOMEM;
    if (r && c) {
        atomic_init(&r->holders, 1);
        r->rows = rows;
        r->name = arena_strdup(&r->arena, name);
        *c = (Check){.r = r, .all = all, .err = &first, .peer = peer};
        if (r->name) {
            body(c, ctx);
            st = c->errors ? c->status : ST_OK;
        }
    }
    recipe_free(r);
    free(c);
    if (st == ST_NOMEM)
        return error_nomem(err, "a document");
    return st == ST_OK ? ST_OK : error_set(err, st, "%s", first.text);
}
