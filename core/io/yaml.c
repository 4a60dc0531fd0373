#include "io/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"

struct YamlDoc {
    char *text, *name;
    size_t len;
    const YamlNode *root;
    YamlNode **aliases;
    size_t naliases, aliases_cap;
    Arena arena;
};

/* A collection that is open: its children so far (keys and values alternate in a mapping). */
typedef struct Frame {
    YamlNode *node;
    YamlNode **child;
    size_t n, cap;
} Frame;

typedef struct Builder {
    YamlDoc *doc;
    yaml_parser_t parser;
    uint32_t *bytes; /* character index -> byte offset; NULL when all are one byte */
    size_t chars;
    size_t base;     /* bytes of a byte order mark: the parser doesn't get it */
    Frame stack[YAML_DEPTH_MAX];
    int depth;
    Map anchors;     /* name -> index into nodes */
    YamlNode **anchored;
    size_t nanchored, anchored_cap;
    Error *err;
} Builder;

static Status fail_at(Builder *b, size_t line, size_t column, const char *text)
{
    return error_set(b->err, ST_DATA, "%s:%zu:%zu: %s", b->doc->name, line, column, text);
}

static Status fail_node(Builder *b, const YamlNode *n, const char *fmt, const char *arg)
{
    char text[512];
    snprintf(text, sizeof text, fmt, arg);
    return fail_at(b, (size_t)n->line, (size_t)n->column, text);
}

static Status parser_error(Builder *b)
{
    const yaml_parser_t *p = &b->parser;
    if (p->error == YAML_MEMORY_ERROR)
        return error_nomem(b->err, "a YAML document");
    char text[256];
    if (p->error == YAML_READER_ERROR) {
        size_t line = 1, column = 1;
        for (size_t i = b->base; i < b->base + p->problem_offset && i < b->doc->len; i++) {
            column++;
            if (b->doc->text[i] == '\n') {
                line++;
                column = 1;
            }
        }
        snprintf(text, sizeof text, "%s", p->problem);
        return fail_at(b, line, column, text);
    }
    snprintf(text, sizeof text, "%s%s%s", p->problem ? p->problem : "not YAML", p->context ? ", " : "",
             p->context ? p->context : "");
    return fail_at(b, p->problem_mark.line + 1, p->problem_mark.column + 1, text);
}

/* libyaml counts characters. */
static Status map_characters(Builder *b)
{
    const YamlDoc *d = b->doc;
    size_t n = 0, at = 0;
    bool wide = false;
    b->base = strncmp(d->text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    for (size_t i = b->base; i < d->len; i++) {
        n += ((unsigned char)d->text[i] & 0xc0) != 0x80;
        wide |= (unsigned char)d->text[i] >= 0x80;
    }
    b->chars = n;
    if (!wide)
        return ST_OK;
    b->bytes = mem_array(n + 1, sizeof *b->bytes);
    if (!b->bytes)
        return error_nomem(b->err, "a YAML document");
    for (size_t i = b->base; i < d->len; i++)
        if (((unsigned char)d->text[i] & 0xc0) != 0x80)
            b->bytes[at++] = (uint32_t)i;
    b->bytes[at] = (uint32_t)d->len;
    return ST_OK;
}

static size_t byte_of(const Builder *b, const yaml_mark_t *m)
{
    size_t i = m->index < b->chars ? m->index : b->chars;
    return b->bytes ? b->bytes[i] : i + b->base;
}

/* Where the value starts behind its anchor and tag. */
static size_t skip_properties(const YamlDoc *d, size_t i, size_t end)
{
    while (i < end) {
        char c = d->text[i];
        if (c == '&' || c == '!') {
            while (i < end && !strchr(" \t\r\n", d->text[i]))
                i++;
        } else if (c == '#') {
            while (i < end && d->text[i] != '\n' && d->text[i] != '\r')
                i++;
        } else if (strchr(" \t\r\n", c)) {
            i++;
        } else {
            break;
        }
    }
    return i;
}

static YamlNode *node_new(Builder *b, const yaml_event_t *e, bool properties)
{
    YamlNode *n = arena_alloc(&b->doc->arena, sizeof *n);
    if (!n)
        return NULL;
    *n = (YamlNode){.line = (int)e->start_mark.line + 1, .column = (int)e->start_mark.column + 1, .expanded = 1};
    n->start = n->begin = byte_of(b, &e->start_mark);
    n->end = byte_of(b, &e->end_mark);
    if (properties)
        n->begin = skip_properties(b->doc, n->begin, e->type == YAML_SCALAR_EVENT ? n->end : b->doc->len);
    return n;
}

/* Gives a new node its anchor. */
static Status anchor_add(Builder *b, YamlNode *n, const unsigned char *anchor)
{
    if (!anchor)
        return ST_OK;
    bool added;
    n->anchor = arena_strdup(&b->doc->arena, (const char *)anchor);
    if (!n->anchor || !mem_grow(&b->anchored, &b->anchored_cap, b->nanchored + 1, sizeof *b->anchored) ||
        !map_add(&b->anchors, n->anchor, strlen(n->anchor), (int64_t)b->nanchored, &added))
        return error_nomem(b->err, "a YAML document");
    if (!added)
        return fail_node(b, n, "anchor '&%s' is defined twice", n->anchor);
    b->anchored[b->nanchored++] = n;
    return ST_OK;
}

/* A mapping key in a form that is equal for equal keys: 1, true and 1.0 are one key, as in Python. */
static bool key_text(const YamlNode *n, Str *out)
{
    str_clear(out);
    switch (n->kind) {
    case YAML_NULL:
        str_puts(out, "z");
        break;
    case YAML_BOOL:
    case YAML_INT:
    case YAML_FLOAT:
        str_printf(out, "n%.17g", n->f);
        if (n->kind == YAML_INT && (n->f >= 9007199254740992.0 || n->f <= -9007199254740992.0))
            str_printf(out, ":%lld", (long long)n->i);
        break;
    case YAML_STR:
    case YAML_DATE:
        str_puts(out, n->kind == YAML_STR ? "s" : "d");
        str_append(out, n->text, n->len);
        break;
    case YAML_SEQ:
    case YAML_MAP:
        return false;
    }
    return true;
}

static bool is_merge_key(const YamlNode *n)
{
    return n->kind == YAML_STR && n->style == YAML_PLAIN && n->len == 2 && memcmp(n->text, "<<", 2) == 0;
}

/* Pairs that merge keys bring: counts them, or with keys != NULL copies them. */
static Status merge_pairs(Builder *b, const Frame *f, YamlNode **keys, YamlNode **vals, size_t *count)
{
    *count = 0;
    for (size_t i = 0; i + 1 < f->n; i += 2) {
        if (!is_merge_key(f->child[i]))
            continue;
        YamlNode *v = f->child[i + 1], **from = v->kind == YAML_SEQ ? v->items : &v;
        int n = v->kind == YAML_SEQ ? v->count : 1;
        for (int k = 0; k < n; k++) {
            if (from[k]->kind != YAML_MAP)
                return fail_node(b, from[k], "a merge key takes a mapping or a list of mappings, not a %s",
                                 yaml_kind_name(from[k]->kind));
            if (*count + (size_t)from[k]->count > YAML_NODES_MAX)
                return fail_node(b, v, "%s", "merge keys bring too many pairs");
            for (int j = 0; j < from[k]->count; j++, (*count)++)
                if (keys) {
                    keys[*count] = from[k]->keys[j];
                    vals[*count] = from[k]->vals[j];
                }
        }
    }
    return ST_OK;
}

/* Refuses two keys that resolve to the same. Merged pairs count as written here. */
static Status check_duplicates(Builder *b, const YamlNode *map)
{
    Map seen = {0};
    Str key = {0};
    Status st = ST_OK;
    for (int i = 0; i < map->count && st == ST_OK; i++) {
        const YamlNode *k = map->keys[i];
        if (!key_text(k, &key)) {
            st = fail_node(b, k, "a %s can't be a mapping key", yaml_kind_name(k->kind));
            break;
        }
        bool added = true;
        char *kept = arena_strndup(&b->doc->arena, str_text(&key), key.len);
        if (key.oom || !kept || !map_add(&seen, kept, key.len, i, &added))
            st = error_nomem(b->err, "a YAML document");
        else if (!added)
            st = i < map->own ? fail_node(b, k, "duplicate key '%s'", k->text)
                              : fail_node(b, map, "duplicate key '%s': a merged key can't be given again", k->text);
    }
    map_free(&seen);
    str_free(&key);
    return st;
}

static Status limits_add(Builder *b, YamlNode *n, const YamlNode *child)
{
    n->expanded += child->expanded;
    if (n->depth < child->depth + 1)
        n->depth = child->depth + 1;
    if (n->expanded > YAML_NODES_MAX)
        return fail_node(b, n, "%s", "aliases make this too large: write less with them");
    if (n->depth >= YAML_DEPTH_MAX)
        return fail_node(b, n, "%s", "nested deeper than 100 levels");
    return ST_OK;
}

static Status close_mapping(Builder *b, const Frame *f)
{
    YamlNode *n = f->node;
    size_t merged, own = 0;
    RETURN_IF_ERROR(merge_pairs(b, f, NULL, NULL, &merged));
    size_t room = f->n / 2 + merged;
    n->keys = arena_alloc(&b->doc->arena, (room ? room : 1) * sizeof *n->keys);
    n->vals = arena_alloc(&b->doc->arena, (room ? room : 1) * sizeof *n->vals);
    if (!n->keys || !n->vals)
        return error_nomem(b->err, "a YAML document");
    for (size_t i = 0; i + 1 < f->n; i += 2)
        if (!is_merge_key(f->child[i])) {
            n->keys[own] = f->child[i];
            n->vals[own++] = f->child[i + 1];
        }
    RETURN_IF_ERROR(merge_pairs(b, f, n->keys + own, n->vals + own, &merged));
    n->own = (int)own;
    n->count = (int)(own + merged);
    for (int i = 0; i < n->count; i++) {
        RETURN_IF_ERROR(limits_add(b, n, n->keys[i]));
        RETURN_IF_ERROR(limits_add(b, n, n->vals[i]));
        if (n->vals[i]->kind == YAML_STR && is_merge_key(n->vals[i]))
            return fail_node(b, n->vals[i], "%s", "'<<' is a merge key; as a value it needs quotes");
    }
    return check_duplicates(b, n);
}

/* Hands a complete node to the collection it is in. */
static Status place(Builder *b, YamlNode *n)
{
    if (!b->depth) {
        b->doc->root = n;
        return ST_OK;
    }
    Frame *f = &b->stack[b->depth - 1];
    if (!mem_grow(&f->child, &f->cap, f->n + 1, sizeof *f->child))
        return error_nomem(b->err, "a YAML document");
    f->child[f->n++] = n;
    return ST_OK;
}

static Status close_collection(Builder *b, const yaml_event_t *e)
{
    Frame *f = &b->stack[--b->depth];
    YamlNode *n = f->node;
    n->expanded = 1;
    n->end = byte_of(b, &e->end_mark);
    if (n->style == YAML_BLOCK && f->n)
        n->end = f->child[f->n - 1]->end;
    Status st = ST_OK;
    if (n->kind == YAML_MAP) {
        st = close_mapping(b, f);
    } else {
        n->count = (int)f->n;
        n->items = arena_alloc(&b->doc->arena, (f->n ? f->n : 1) * sizeof *n->items);
        if (!n->items)
            st = error_nomem(b->err, "a YAML document");
        for (size_t i = 0; i < f->n && st == ST_OK; i++) {
            n->items[i] = f->child[i];
            st = limits_add(b, n, f->child[i]);
        }
    }
    free(f->child);
    *f = (Frame){0};
    return st == ST_OK ? place(b, n) : st;
}

/* Last part of a standard tag ("int"), or NULL. */
static const char *standard_tag(const char *tag)
{
    static const char prefix[] = "tag:yaml.org,2002:";
    return strncmp(tag, prefix, sizeof prefix - 1) == 0 ? tag + sizeof prefix - 1 : NULL;
}

static Status open_collection(Builder *b, const yaml_event_t *e)
{
    bool map = e->type == YAML_MAPPING_START_EVENT;
    const unsigned char *tag = map ? e->data.mapping_start.tag : e->data.sequence_start.tag;
    const unsigned char *anchor = map ? e->data.mapping_start.anchor : e->data.sequence_start.anchor;
    bool flow = map ? e->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE
                    : e->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE;
    YamlNode *n = node_new(b, e, tag || anchor);
    if (!n)
        return error_nomem(b->err, "a YAML document");
    n->kind = map ? YAML_MAP : YAML_SEQ;
    n->style = flow ? YAML_FLOW : YAML_BLOCK;
    if (b->depth == YAML_DEPTH_MAX)
        return fail_node(b, n, "%s", "nested deeper than 100 levels");
    if (tag && strcmp((const char *)tag, "!") != 0) {
        const char *t = standard_tag((const char *)tag);
        if (!t || strcmp(t, map ? "map" : "seq") != 0)
            return fail_node(b, n, "tag '%s' isn't allowed here", (const char *)tag);
    }
    RETURN_IF_ERROR(anchor_add(b, n, anchor));
    n->expanded = anchor ? -1 : 1; /* below 1: still open, an alias to it would be recursive */
    b->stack[b->depth++] = (Frame){.node = n};
    return ST_OK;
}

static Status scalar_tag(Builder *b, YamlNode *n, const char *tag)
{
    static const struct {
        const char *name;
        YamlKind kind;
    } table[] = {{"str", YAML_STR},   {"int", YAML_INT},   {"float", YAML_FLOAT},
                 {"bool", YAML_BOOL}, {"null", YAML_NULL}, {"timestamp", YAML_DATE}};
    const char *t = strcmp(tag, "!") == 0 ? "str" : standard_tag(tag);
    for (size_t i = 0; t && i < sizeof table / sizeof table[0]; i++) {
        if (strcmp(t, table[i].name) != 0)
            continue;
        n->kind = yaml_resolve(n->text, n->len, &n->b, &n->i, &n->f);
        if (table[i].kind == YAML_FLOAT && n->kind == YAML_INT)
            n->kind = YAML_FLOAT;
        if (table[i].kind != YAML_STR && n->kind != table[i].kind)
            return fail_node(b, n, "the text doesn't fit its tag '!!%s'", t);
        n->kind = table[i].kind;
        return ST_OK;
    }
    return fail_node(b, n, "tag '%s' isn't allowed here", tag);
}

static Status add_scalar(Builder *b, const yaml_event_t *e)
{
    static const YamlStyle style[] = {
        [YAML_ANY_SCALAR_STYLE] = YAML_PLAIN,
        [YAML_PLAIN_SCALAR_STYLE] = YAML_PLAIN,
        [YAML_SINGLE_QUOTED_SCALAR_STYLE] = YAML_SINGLE,
        [YAML_DOUBLE_QUOTED_SCALAR_STYLE] = YAML_DOUBLE,
        [YAML_LITERAL_SCALAR_STYLE] = YAML_LITERAL,
        [YAML_FOLDED_SCALAR_STYLE] = YAML_FOLDED,
    };
    const char *tag = (const char *)e->data.scalar.tag;
    YamlNode *n = node_new(b, e, tag || e->data.scalar.anchor);
    char *text = n ? arena_strndup(&b->doc->arena, (const char *)e->data.scalar.value, e->data.scalar.length) : NULL;
    if (!text)
        return error_nomem(b->err, "a YAML document");
    n->text = text;
    n->len = e->data.scalar.length;
    n->style = style[e->data.scalar.style];
    n->kind = YAML_STR;
    if (tag)
        RETURN_IF_ERROR(scalar_tag(b, n, tag));
    else if (n->style == YAML_PLAIN)
        n->kind = yaml_resolve(n->text, n->len, &n->b, &n->i, &n->f);
    if (n->style == YAML_PLAIN && !tag && n->len == 1 && n->text[0] == '=')
        return fail_node(b, n, "%s", "a plain '=' has no meaning: quote it");
    RETURN_IF_ERROR(anchor_add(b, n, e->data.scalar.anchor));
    return place(b, n);
}

static Status add_alias(Builder *b, const yaml_event_t *e)
{
    const char *name = (const char *)e->data.alias.anchor;
    YamlNode *n = node_new(b, e, false);
    if (!n || !mem_grow(&b->doc->aliases, &b->doc->aliases_cap, b->doc->naliases + 1, sizeof *b->doc->aliases))
        return error_nomem(b->err, "a YAML document");
    int64_t k = map_get(&b->anchors, name, strlen(name), -1);
    if (k < 0)
        return fail_node(b, n, "alias '*%s' has no anchor before it", name);
    YamlNode *target = b->anchored[k], place_of = *n;
    if (target->expanded < 1)
        return fail_node(b, n, "alias '*%s' is inside what it stands for", name);
    target->alias_uses++;
    *n = *target;
    n->line = place_of.line;
    n->column = place_of.column;
    n->start = n->begin = place_of.begin;
    n->end = place_of.end;
    n->anchor = NULL;
    n->alias_uses = 0;
    n->from_alias = true;
    n->target = target;
    b->doc->aliases[b->doc->naliases++] = n;
    return place(b, n);
}

static Status add_event(Builder *b, const yaml_event_t *e, int *documents)
{
    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        if ((*documents)++)
            return fail_at(b, e->start_mark.line + 1, e->start_mark.column + 1,
                           "a second document starts here: one is expected");
        return ST_OK;
    case YAML_SCALAR_EVENT:
        return add_scalar(b, e);
    case YAML_ALIAS_EVENT:
        return add_alias(b, e);
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        return open_collection(b, e);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return close_collection(b, e);
    default:
        return ST_OK;
    }
}

static Status build(Builder *b)
{
    YamlDoc *d = b->doc;
    RETURN_IF_ERROR(map_characters(b));
    if (!yaml_parser_initialize(&b->parser))
        return error_nomem(b->err, "a YAML document");
    yaml_parser_set_encoding(&b->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&b->parser, (const unsigned char *)d->text + b->base, d->len - b->base);
    Status st = ST_OK;
    int documents = 0;
    for (bool end = false; !end && st == ST_OK;) {
        yaml_event_t e;
        if (!yaml_parser_parse(&b->parser, &e)) {
            st = parser_error(b);
            break;
        }
        end = e.type == YAML_STREAM_END_EVENT;
        st = add_event(b, &e, &documents);
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&b->parser);
    return st;
}

Status yaml_parse(YamlDoc **out, const char *text, size_t len, const char *name, Error *err)
{
    if (len > YAML_BYTES_MAX)
        return error_set(err, ST_DATA, "%s: has %zu bytes, a recipe has at most %d", name, len, YAML_BYTES_MAX);
    Builder *b = calloc(1, sizeof *b);
    YamlDoc *d = calloc(1, sizeof *d);
    if (!b || !d) {
        free(b);
        free(d);
        return error_nomem(err, "a YAML document");
    }
    b->doc = d;
    b->err = err;
    d->len = len;
    d->text = arena_strndup(&d->arena, text, len);
    d->name = arena_strdup(&d->arena, name);
    Status st = d->text && d->name ? build(b) : error_nomem(err, "a YAML document");
    while (b->depth > 0)
        free(b->stack[--b->depth].child);
    free(b->bytes);
    free(b->anchored);
    map_free(&b->anchors);
    free(b);
    if (st != ST_OK) {
        yaml_doc_free(d);
        return st;
    }
    *out = d;
    return ST_OK;
}

void yaml_doc_free(YamlDoc *d)
{
    if (!d)
        return;
    free(d->aliases);
    arena_free(&d->arena);
    free(d);
}

const YamlNode *yaml_root(const YamlDoc *d)
{
    return d->root;
}

const char *yaml_source(const YamlDoc *d, size_t *len)
{
    if (len)
        *len = d->len;
    return d->text;
}

YamlNode *const *yaml_aliases(const YamlDoc *d, int *n)
{
    *n = (int)d->naliases;
    return d->aliases;
}

const YamlNode *yaml_get(const YamlNode *map, const char *key)
{
    size_t n = strlen(key);
    for (int i = 0; map && map->kind == YAML_MAP && i < map->count; i++)
        if (map->keys[i]->kind == YAML_STR && map->keys[i]->len == n && memcmp(map->keys[i]->text, key, n) == 0)
            return map->vals[i];
    return NULL;
}
