#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipe/diff.h"
#include "recipe/recipe_impl.h"

/* A recipe with other settings: its source with single values replaced where they stand, read again. Comments, order and
 * everything else stay. */

enum { VARY_ITERS = 50 }; /* steps of a training that a change brings in */

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

/* key of a mapping becomes value; a key that is not there comes in front of the first, or behind its type. */
static void set_value(Patches *l, const YamlNode *map, const char *key, const char *value)
{
    const YamlNode *v = yaml_get(map, key);
    Str text = {0};
    if (v) {
        str_puts(&text, value);
        patch(l, v->begin, v->end, &text);
        return;
    }
    const YamlNode *at = map->from_alias && map->target ? map->target : map;
    const YamlNode *first = at->keys[at->own > 1 && node_is(at->keys[0], "type")];
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
    bool trained = strcmp(now->weight.method, "autoround") == 0; /* by its own processor */
    if (!c->method || !of_type || trained || (c->from_scope && strcmp(qscope_name(q->scope), c->from_scope) != 0))
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

/* An entry of linear_quant becomes a strategy of a processor of its own, which trains its weights. */
static void train_entry(const Recipe *r, int i, const QSpec *is, Patches *l)
{
    static const char *const lists[] = {"include", "exclude"};
    const YamlNode *map = r->entry[i].map, *act = yaml_get(yaml_get(map, "qconfig"), "act");
    Str text = {0};
    str_printf(&text, "{type: autoround_quant, iters: %d, strategies: [{qconfig: {", VARY_ITERS);
    if (act) {
        str_puts(&text, "act: ");
        recipe_put_flow(r, act, &text);
        str_puts(&text, ", ");
    }
    str_printf(&text, "weight: {scope: %s, dtype: %s, symmetric: %s, method: %s", qscope_name(is->scope), qtype_name(is->dtype),
               is->symmetric ? "true" : "false", is->method);
    if (is->scope == QS_PER_GROUP)
        str_printf(&text, ", ext: {group_size: %lld}", (long long)qspec_group(is, 0));
    str_puts(&text, "}}");
    for (int k = 0; k < 2; k++) {
        const YamlNode *list = yaml_get(map, lists[k]);
        if (!list || list->kind != YAML_SEQ)
            continue;
        str_printf(&text, ", %s: ", lists[k]);
        recipe_put_flow(r, list, &text);
    }
    str_puts(&text, "}]}");
    patch(l, map->begin, map->end, &text);
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
    const bool trained = strcmp(is->method, "autoround") == 0;
    if (trained)
        train_entry(r, i, is, l);
    if (!trained && is->scope != was->scope)
        set_value(l, map, "scope", qscope_name(is->scope));
    if (!trained && is->symmetric != was->symmetric)
        set_value(l, map, "symmetric", is->symmetric ? "true" : "false");
    if (!trained && strcmp(is->method, was->method) != 0)
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

/* What smooths: of these a recipe has one, as two would divide the same channels twice. kv_smooth is none: it scales keys. */
static bool smooths(const YamlNode *step)
{
    static const char *const types[] = {"iter_smooth", "smooth_quant", "flex_smooth_quant", "flex_awq_ssz", "awq"};
    const YamlNode *type = step->kind == YAML_MAP ? yaml_get(step, "type") : NULL;
    for (size_t i = 0; type && i < sizeof types / sizeof *types; i++)
        if (node_is(type, types[i]))
            return true;
    return false;
}

/* How many processors of a list smooth, those of its groups too; *last: the last of them. */
static int count_smooths(const YamlNode *list, const YamlNode **last)
{
    int n = 0;
    for (int i = 0; list && list->kind == YAML_SEQ && i < list->count; i++) {
        const YamlNode *step = list->items[i];
        if (smooths(step)) {
            *last = step;
            n++;
        } else if (step->kind == YAML_MAP) {
            n += count_smooths(yaml_get(step, "configs"), last);
        }
    }
    return n;
}

/* "['a', 'b']" of a list of texts. */
static void flow_list(const YamlNode *list, Str *out)
{
    str_putc(out, '[');
    for (int i = 0; i < list->count; i++) {
        str_puts(out, i ? ", '" : "'");
        for (size_t k = 0; k < list->items[i]->len; k++)
            str_append(out, list->items[i]->text[k] == '\'' ? "''" : &list->items[i]->text[k], list->items[i]->text[k] == '\'' ? 2 : 1);
        str_putc(out, '\'');
    }
    str_putc(out, ']');
}

/* What another processor that smooths takes over of the one it stands for: where it works. */
static void take_over(const Recipe *r, const YamlNode *was, const YamlNode *fresh, Str *out)
{
    static const char *const keys[] = {"include", "exclude", "enable_subgraph_type"};
    const ProcessorType *type = processor_find(r->rows, yaml_get(fresh, "type")->text);
    for (size_t i = 0; type && i < sizeof keys / sizeof *keys; i++) {
        const YamlNode *list = yaml_get(was, keys[i]);
        const Field *f = type->object->fields;
        while (f->key && strcmp(f->key, keys[i]) != 0)
            f++;
        if (!f->key || !list || list->kind != YAML_SEQ || yaml_get(fresh, keys[i]))
            continue;
        str_printf(out, ", %s: ", keys[i]);
        flow_list(list, out);
    }
}

static void same_type(const YamlNode *was, const YamlNode *fresh, const char *item, Patches *l, RecipeVaried *out)
{
    const char *type = yaml_get(fresh, "type")->text;
    int n = snprintf(out->delta, sizeof out->delta, "%s", type), changes = 0;
    for (int i = 0; i < fresh->count; i++) {
        const YamlNode *v = fresh->vals[i], *old = yaml_get(was, fresh->keys[i]->text);
        char value[160];
        snprintf(value, sizeof value, "%.*s", (int)(v->end - v->begin), item + v->begin);
        if (old && old->text && v->text && strcmp(old->text, v->text) == 0)
            continue;
        set_value(l, was, fresh->keys[i]->text, value);
        if (n < (int)sizeof out->delta)
            n += snprintf(out->delta + n, sizeof out->delta - (size_t)n, "%s %s %s%s%s", changes++ ? "," : "", fresh->keys[i]->text,
                          old && old->text ? old->text : "", old && old->text ? " -> " : "", value);
    }
    out->changed += changes > 0;
}

/* The one that smooths becomes another: its values where it is of the same type, else it as a whole, at its place. */
static Status replace_smooth(const Recipe *r, const YamlNode *was, const char *item, Patches *l, RecipeVaried *out, Error *err)
{
    YamlDoc *doc;
    RETURN_IF_ERROR(yaml_parse(&doc, item, strlen(item), "a processor", err));
    const YamlNode *fresh = yaml_root(doc);
    out->fits++;
    if (node_is(yaml_get(was, "type"), yaml_get(fresh, "type")->text)) {
        same_type(was, fresh, item, l, out);
    } else {
        Str text = {0};
        str_append(&text, item, fresh->end - 1);
        take_over(r, was, fresh, &text);
        str_putc(&text, '}');
        snprintf(out->delta, sizeof out->delta, "%s -> %s", yaml_get(was, "type")->text, item);
        patch(l, was->begin, was->end, &text);
        out->changed++;
    }
    yaml_doc_free(doc);
    return ST_OK;
}

/* A processor in front of all others of the list, but for rotations: these stay the first. */
static void put_front(const Recipe *r, const YamlNode *list, const char *item, Patches *l, RecipeVaried *out)
{
    const char *type = strstr(item, "type: ");
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
        return;
    }
    while (at > 0 && src[at] != '-')
        at--;
    size_t line = at;
    while (line > 0 && src[line - 1] != '\n')
        line--;
    str_printf(&text, "- %s\n%.*s", item, (int)(at - line), src + line);
    patch(l, at, at, &text);
}

static Status vary_front(const Recipe *r, const RecipeChange *c, Patches *l, RecipeVaried *out, Error *err)
{
    const YamlNode *list = yaml_get(yaml_get(yaml_root(r->doc), "spec"), "process"), *was = NULL;
    if (!list || list->kind != YAML_SEQ || list->count == 0)
        return error_set(err, ST_DATA, "%s: spec.process has no processor to put another in front of", r->name);
    if (!has_weights(r, c))
        return ST_OK;
    int n = c->instead ? count_smooths(list, &was) : 0;
    if (n > 1)
        return error_set(err, ST_DATA, "%s has %d processors that smooth: which of them is to go is not clear", r->name, n);
    if (n && (was->from_alias || was->alias_uses))
        return error_set(err, ST_DATA, "%s: what smooths is written for several places at once", r->name);
    if (n)
        return replace_smooth(r, was, c->front, l, out, err);
    put_front(r, list, c->front, l, out);
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
