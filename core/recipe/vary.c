#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipe/diff.h"
#include "recipe/recipe_impl.h"

/* A recipe with other settings: its source with single values replaced where they stand, read again. Comments, order and
 * everything else stay. */

typedef struct Patch {
    size_t begin, end;
    char *text; /* owned */
} Patch;

typedef struct Patches {
    Patch *p;
    size_t n, cap;
    bool oom;
} Patches;

/* A value that several places share (an anchor) is replaced once. */
static void patch(Patches *l, size_t begin, size_t end, Str *text)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->p[i].begin == begin && l->p[i].end == end && end > begin) {
            str_free(text);
            return;
        }
    char *s = text->oom ? NULL : str_detach(text);
    if (!s || !mem_grow(&l->p, &l->cap, l->n + 1, sizeof *l->p)) {
        free(s);
        str_free(text);
        l->oom = true;
        return;
    }
    l->p[l->n++] = (Patch){begin, end, s};
}

static void patches_free(Patches *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->p[i].text);
    free(l->p);
}

static int by_place(const void *a, const void *b)
{
    const Patch *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

/* key of a mapping becomes value; a key that is not there comes in front of the first. */
static void set_value(Patches *l, const YamlNode *map, const char *key, const char *value)
{
    const YamlNode *v = yaml_get(map, key);
    Str text = {0};
    if (v) {
        str_puts(&text, value);
        patch(l, v->begin, v->end, &text);
        return;
    }
    const YamlNode *at = map->from_alias && map->target ? map->target : map, *first = at->keys[0];
    str_printf(&text, "%s: %s%s", key, value, at->style == YAML_FLOW ? ", " : "\n");
    for (int i = 1; at->style != YAML_FLOW && i < first->column; i++)
        str_putc(&text, ' ');
    patch(l, first->start, first->start, &text);
}

static QSpec *side_of(QConfig *q, bool act)
{
    return act ? &q->act : &q->weight;
}

/* What an entry's side is to be; false: the change is not for it. */
static bool wished(const RecipeChange *c, const QConfig *now, QConfig *out)
{
    *out = *now;
    QSpec *q = side_of(out, c->act);
    bool of_type = false;
    for (int i = 0; i < 2; i++)
        of_type = of_type || (c->types[i] != QT_FLOAT && q->dtype == c->types[i]);
    if (!c->method || !of_type || (c->from_scope && strcmp(qscope_name(q->scope), c->from_scope) != 0))
        return false;
    if (c->scope)
        q->scope = (QScope)qscope_parse(c->scope);
    if (c->symmetric >= 0)
        q->symmetric = c->symmetric > 0;
    snprintf(q->method, sizeof q->method, "%s", c->method);
    return true;
}

static bool same_side(const QSpec *a, const QSpec *b)
{
    return a->dtype == b->dtype && a->scope == b->scope && a->symmetric == b->symmetric && strcmp(a->method, b->method) == 0;
}

static void vary_entry(const Recipe *r, int i, const RecipeChange *c, Patches *l, RecipeVaried *out)
{
    QConfig now = recipe_entry(r, i)->q, then;
    bool fits = wished(c, &now, &then);
    out->fits += fits;
    if (!fits || same_side(side_of(&now, c->act), side_of(&then, c->act)))
        return;
    const QSpec *was = side_of(&now, c->act), *is = side_of(&then, c->act);
    const YamlNode *map = yaml_get(yaml_get(r->entry[i].map, "qconfig"), c->act ? "act" : "weight");
    if (is->scope != was->scope)
        set_value(l, map, "scope", qscope_name(is->scope));
    if (is->symmetric != was->symmetric)
        set_value(l, map, "symmetric", is->symmetric ? "true" : "false");
    if (strcmp(is->method, was->method) != 0)
        set_value(l, map, "method", is->method);
    if (!out->changed++)
        snprintf(out->delta, sizeof out->delta, "%s %s %s %s -> %s %s %s", c->act ? "activations" : "weights",
                 qscope_name(was->scope), was->symmetric ? "symmetric" : "asymmetric", was->method, qscope_name(is->scope),
                 is->symmetric ? "symmetric" : "asymmetric", is->method);
}

/* These come before what smooths, whose factors belong to the channels as they are turned. */
static bool rotates(const char *type)
{
    static const char *const types[] = {"quarot", "adapt_rotation"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (type && strncmp(type, types[i], strlen(types[i])) == 0)
            return true;
    return false;
}

/* Whether the recipe has weights that the change is for. */
static bool has_weights(const Recipe *r, const RecipeChange *c)
{
    bool any = c->types[0] == QT_FLOAT;
    for (int i = 0; i < recipe_entries(r) && !any; i++)
        any = recipe_entry(r, i)->q.weight.dtype == c->types[0];
    return any;
}

/* A processor in front of all others of spec.process, but for rotations: these stay the first. */
static Status vary_front(const Recipe *r, const RecipeChange *c, Patches *l, RecipeVaried *out, Error *err)
{
    const char *item = c->front, *type = strstr(item, "type: ");
    const YamlNode *list = yaml_get(yaml_get(yaml_root(r->doc), "spec"), "process");
    if (!list || list->kind != YAML_SEQ || list->count == 0)
        return error_set(err, ST_DATA, "%s: spec.process has no processor to put another in front of", r->name);
    if (!has_weights(r, c))
        return ST_OK;
    int place = 0;
    while (!rotates(type ? type + strlen("type: ") : NULL) && place < list->count - 1) {
        const YamlNode *before = yaml_get(list->items[place], "type");
        if (!rotates(before ? before->text : NULL))
            break;
        place++;
    }
    size_t len, at = list->items[place]->start;
    const char *src = yaml_source(r->doc, &len);
    Str text = {0};
    out->fits++;
    out->changed++;
    snprintf(out->delta, sizeof out->delta, "+ %s", item);
    if (list->style == YAML_FLOW) {
        str_printf(&text, "%s, ", item);
        patch(l, at, at, &text);
        return ST_OK;
    }
    while (at > 0 && src[at] != '-')
        at--;
    size_t line = at;
    while (line > 0 && src[line - 1] != '\n')
        line--;
    str_printf(&text, "- %s\n%.*s", item, (int)(at - line), src + line);
    patch(l, at, at, &text);
    return ST_OK;
}

static void apply_patches(const Recipe *r, Patches *l, Str *out)
{
    size_t len, at = 0;
    const char *src = yaml_source(r->doc, &len);
    if (l->n)
        qsort(l->p, l->n, sizeof *l->p, by_place);
    for (size_t i = 0; i < l->n; i++) {
        str_append(out, src + at, l->p[i].begin - at);
        str_puts(out, l->p[i].text);
        at = l->p[i].end;
    }
    str_append(out, src + at, len - at);
}

/* Whether every entry is what was wished and selects what it did. */
static bool as_wished(const Recipe *was, const Recipe *is, const RecipeChange *c)
{
    if (recipe_entries(was) != recipe_entries(is))
        return false;
    for (int i = 0; i < recipe_entries(was); i++) {
        const RecipeEntry *a = recipe_entry(was, i), *b = recipe_entry(is, i);
        QConfig then;
        bool same = a->ninclude == b->ninclude && a->nexclude == b->nexclude;
        wished(c, &a->q, &then);
        same = same && same_side(&then.act, &b->q.act) && same_side(&then.weight, &b->q.weight);
        for (int k = 0; same && k < a->ninclude; k++)
            same = strcmp(a->include[k], b->include[k]) == 0;
        for (int k = 0; same && k < a->nexclude; k++)
            same = strcmp(a->exclude[k], b->exclude[k]) == 0;
        if (!same)
            return false;
    }
    return true;
}

/* "dir/NAME+MARK.yaml" */
static void mark_path(const Recipe *r, const char *mark, Str *out)
{
    const char *path = r->path ? r->path : r->name, *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    bool yaml = dot && (!slash || dot > slash) && (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0);
    str_append(out, path, yaml ? (size_t)(dot - path) : strlen(path));
    str_printf(out, "+%s.yaml", mark);
}

Status recipe_vary(const Recipe *r, const RecipeChange *c, const char *mark, RecipeVaried *out, Error *err)
{
    Patches l = {0};
    Str text = {0}, path = {0};
    Status st = ST_OK;
    *out = (RecipeVaried){0};
    if (r->old || !r->api->process)
        return error_set(err, ST_USAGE, "%s is no modelslim_v1 recipe, whose values could be varied", r->name);
    for (int i = 0; i < recipe_entries(r); i++)
        vary_entry(r, i, c, &l, out);
    if (c->front)
        st = vary_front(r, c, &l, out, err);
    apply_patches(r, &l, &text);
    mark_path(r, mark, &path);
    if (st == ST_OK && (l.oom || text.oom || path.oom))
        st = error_nomem(err, "a recipe");
    if (st == ST_OK && out->changed)
        st = recipe_parse_file(&out->recipe, r->rows, str_text(&text), text.len, str_text(&path), NULL, err);
    if (st == ST_OK && out->changed && !as_wished(r, out->recipe, c)) {
        recipe_free(out->recipe);
        out->recipe = NULL;
        st = error_set(err, ST_DATA, "%s: its entries share values in a way that %s can't be written into", r->name, mark);
    }
    patches_free(&l);
    str_free(&text);
    str_free(&path);
    return st;
}

Status recipe_diff(const Recipe *old, const Recipe *fresh, Str *out, Error *err)
{
    size_t n;
    return diff_unified(out, old->name, recipe_source(old, &n), fresh->name, recipe_source(fresh, &n), err);
}
