#include <stdlib.h>
#include <string.h>

#include "recipe/recipe_impl.h"

/* Edits of a recipe's source: replacements of byte spans, found through the marks of the tree. Lists are changed where
 * they stand. What an alias shares with a changed place is written out where the alias stands, so that it keeps its
 * meaning. */

typedef struct Splice {
    size_t begin, end;
    char *text; /* owned */
    size_t serial; /* keeps the order of splices at one place */
} Splice;

typedef struct TextEdit {
    const Recipe *r;
    const EntryPlan *plan;
    const char *src;
    size_t len;
    const char *eol;
    Splice *splice;
    size_t n, cap;
    size_t changes; /* splices [0, changes) change what the document says; later ones only write aliases out */
    bool oom;
} TextEdit;

static void splice(TextEdit *e, size_t begin, size_t end, Str *text)
{
    char *s = text ? str_detach(text) : strdup("");
    if (!s || !mem_grow(&e->splice, &e->cap, e->n + 1, sizeof *e->splice)) {
        free(s);
        e->oom = true;
        return;
    }
    e->splice[e->n] = (Splice){begin, end, s, e->n};
    e->n++;
}

/* ---- writing values ---- */

static void put_quoted(Str *b, const char *s, size_t n)
{
    bool plain = true;
    for (size_t i = 0; i < n; i++)
        plain &= (unsigned char)s[i] >= 0x20 && s[i] != 0x7f;
    if (plain) {
        str_putc(b, '\'');
        for (size_t i = 0; i < n; i++) {
            if (s[i] == '\'')
                str_putc(b, '\'');
            str_putc(b, s[i]);
        }
        str_putc(b, '\'');
        return;
    }
    str_putc(b, '"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c < 0x20 || c == 0x7f)
            str_printf(b, "\\x%02x", c);
        else if (c == '"' || c == '\\')
            str_printf(b, "\\%c", c);
        else
            str_putc(b, (char)c);
    }
    str_putc(b, '"');
}

/* The patterns of a list after the plan, in flow form. */
static void put_list(Str *b, const ListRef *l, const ListPlan *p)
{
    int n = 0;
    str_putc(b, '[');
    for (int i = 0; i < l->n; i++)
        if (p->keep[i]) {
            str_puts(b, n++ ? ", " : "");
            put_quoted(b, l->text[i], strlen(l->text[i]));
        }
    for (int i = 0; i < p->nadded; i++) {
        str_puts(b, n++ ? ", " : "");
        put_quoted(b, p->added[i], strlen(p->added[i]));
    }
    str_putc(b, ']');
}

/* Writing out: entries met on the way get their planned lists. They come in document order, from `next` on. */
typedef struct WriteOut {
    const TextEdit *e;
    size_t next;
} WriteOut;

static void put_flow(Str *b, const YamlNode *n, WriteOut *w);

/* Index of the entry that this mapping is, or -1. */
static int64_t entry_of(WriteOut *w, const YamlNode *map)
{
    const Recipe *r = w->e->r;
    for (size_t k = w->next; k < r->nentries; k++) {
        const YamlNode *m = r->entry[k].map;
        if (m != map && !(m->vals == map->vals && m->count == map->count && m->count))
            continue;
        w->next = k + 1;
        return (int64_t)k;
    }
    return -1;
}

static void put_flow_map(Str *b, const YamlNode *n, WriteOut *w)
{
    const YamlNode *type = yaml_get(n, "type");
    const ProcessorType *t = type && type->kind == YAML_STR ? processor_find(w->e->r->rows, type->text) : NULL;
    bool entry = (t && t->levels) || (!type && yaml_get(n, "qconfig")); /* or a strategy of one */
    int64_t k = entry ? entry_of(w, n) : -1;
    const Entry *en = k >= 0 ? &w->e->r->entry[k] : NULL;
    const EntryPlan *p = k >= 0 ? &w->e->plan[k] : NULL;
    bool exclude_seen = false, include_seen = false;
    str_putc(b, '{');
    for (int i = 0; i < n->count; i++) {
        str_puts(b, i ? ", " : "");
        put_flow(b, n->keys[i], w);
        str_puts(b, ": ");
        if (en && n->vals[i] == en->include.node && p->include.edit) {
            put_list(b, &en->include, &p->include);
        } else if (en && n->vals[i] == en->exclude.node && p->exclude.edit) {
            put_list(b, &en->exclude, &p->exclude);
        } else {
            put_flow(b, n->vals[i], w);
        }
        include_seen |= en && n->vals[i] == en->include.node;
        exclude_seen |= en && n->vals[i] == en->exclude.node;
    }
    if (en && !include_seen && p->include.edit) {
        str_puts(b, ", include: ");
        put_list(b, &en->include, &p->include);
    }
    if (en && !exclude_seen && p->exclude.edit) {
        str_puts(b, ", exclude: ");
        put_list(b, &en->exclude, &p->exclude);
    }
    str_putc(b, '}');
}

static void put_flow(Str *b, const YamlNode *n, WriteOut *w)
{
    switch (n->kind) {
    case YAML_MAP:
        put_flow_map(b, n, w);
        return;
    case YAML_SEQ:
        str_putc(b, '[');
        for (int i = 0; i < n->count; i++) {
            str_puts(b, i ? ", " : "");
            put_flow(b, n->items[i], w);
        }
        str_putc(b, ']');
        return;
    case YAML_STR:
        put_quoted(b, n->text, n->len);
        return;
    case YAML_NULL:
        str_puts(b, "null");
        return;
    default:
        str_append(b, n->text, n->len);
    }
}

void recipe_put_flow(const Recipe *r, const YamlNode *n, Str *out)
{
    const TextEdit e = {.r = r};
    put_flow(out, n, &(WriteOut){&e, r->nentries});
}

/* ---- lists where they stand ---- */

static size_t line_start(const TextEdit *e, size_t i)
{
    while (i > 0 && e->src[i - 1] != '\n' && e->src[i - 1] != '\r')
        i--;
    return i;
}

static size_t line_end(const TextEdit *e, size_t i)
{
    while (i < e->len && e->src[i] != '\n' && e->src[i] != '\r')
        i++;
    return i;
}

static size_t after_eol(const TextEdit *e, size_t i)
{
    if (i < e->len && e->src[i] == '\r')
        i++;
    if (i < e->len && e->src[i] == '\n')
        i++;
    return i;
}

/* Lines "EOL indent - 'pattern'" for added patterns [from, nadded). */
static void put_block_items(const TextEdit *e, Str *b, const ListPlan *p, int from, const char *indent, int spaces)
{
    for (int i = from; i < p->nadded; i++) {
        str_puts(b, e->eol);
        str_append(b, indent, (size_t)spaces);
        str_puts(b, "- ");
        put_quoted(b, p->added[i], strlen(p->added[i]));
    }
}

static bool has_line_or_comment(const TextEdit *e, const YamlNode *n)
{
    for (size_t i = n->begin; i < n->end; i++)
        if (strchr("\r\n", e->src[i]) || (e->src[i] == '#' && strchr(" \t[,", e->src[i - 1])))
            return true;
    return false;
}

/* The comma behind an item of a flow list; 0 when a ']' comes first. */
static size_t comma_after(const TextEdit *e, const YamlNode *list, size_t i)
{
    for (; i < list->end; i++) {
        if (e->src[i] == '#')
            i = line_end(e, i);
        else if (e->src[i] == ',')
            return i;
        else if (e->src[i] == ']')
            return 0;
    }
    return 0;
}

/* A flow list over several lines or with comments: items and their commas go, everything else stays. */
static void edit_flow_lines(TextEdit *e, const YamlNode *n, const ListPlan *p)
{
    size_t at = n->begin + 1;
    bool any = false;
    for (int i = 0; i < n->count; i++) {
        const YamlNode *it = n->items[i];
        if (p->keep[i]) {
            at = it->end;
            any = true;
            continue;
        }
        size_t comma = comma_after(e, n, it->end);
        splice(e, it->start, it->end, NULL);
        if (comma)
            splice(e, comma, comma + 1, NULL);
    }
    Str b = {0};
    for (int i = 0; i < p->nadded; i++) {
        str_puts(&b, any || i ? ", " : "");
        put_quoted(&b, p->added[i], strlen(p->added[i]));
    }
    if (p->nadded)
        splice(e, at, at, &b);
    str_free(&b);
}

static void edit_flow(TextEdit *e, const YamlNode *n, const ListPlan *p)
{
    if (has_line_or_comment(e, n)) {
        edit_flow_lines(e, n, p);
        return;
    }
    Str b = {0};
    size_t lead = n->begin + 1, trail = n->end - 1;
    while (n->count && lead < n->items[0]->start && e->src[lead] == ' ')
        lead++;
    while (n->count && trail > n->items[n->count - 1]->end && e->src[trail - 1] == ' ')
        trail--;
    int k = 0;
    str_append(&b, e->src + n->begin, lead - n->begin);
    for (int i = 0; i < n->count; i++)
        if (p->keep[i]) {
            str_puts(&b, k++ ? ", " : "");
            if (n->items[i]->from_alias) /* its anchor may go */
                put_quoted(&b, n->items[i]->text, n->items[i]->len);
            else
                str_append(&b, e->src + n->items[i]->start, n->items[i]->end - n->items[i]->start);
        }
    for (int i = 0; i < p->nadded; i++) {
        str_puts(&b, k++ ? ", " : "");
        put_quoted(&b, p->added[i], strlen(p->added[i]));
    }
    str_append(&b, e->src + trail, n->end - trail);
    splice(e, n->begin, n->end, &b);
    str_free(&b);
}

/* Where the '-' of a block item is. */
static size_t dash_of(const TextEdit *e, const YamlNode *item)
{
    size_t i = item->start;
    while (i > 0 && strchr(" \t\r\n", e->src[i - 1]))
        i--;
    return i > 0 ? i - 1 : 0;
}

static void remove_block_item(TextEdit *e, const YamlNode *item)
{
    size_t from = line_start(e, dash_of(e, item)), to = line_end(e, item->end);
    if (to < e->len) {
        to = after_eol(e, to);
    } else if (from > 0) { /* the last line has no end: its neighbour takes that over */
        from--;
        if (from > 0 && e->src[from] == '\n' && e->src[from - 1] == '\r')
            from--;
    }
    splice(e, from, to, NULL);
}

/* Behind the ':' of the key and behind anchor and tag of the value. */
static size_t value_place(const TextEdit *e, const YamlNode *key, const YamlNode *v)
{
    size_t i = key->end;
    while (i < e->len && e->src[i] != ':')
        i++;
    i++;
    for (size_t k = v->start; k < v->begin && strchr("&!", e->src[k]);) {
        while (k < v->begin && !strchr(" \t\r\n", e->src[k]))
            k++;
        i = k;
        while (k < v->begin && strchr(" \t", e->src[k]))
            k++;
    }
    return i;
}

static void edit_block(TextEdit *e, const YamlNode *key, const YamlNode *n, const ListPlan *p)
{
    int last = -1;
    for (int i = 0; i < n->count; i++)
        if (p->keep[i])
            last = i;
    size_t dash = dash_of(e, n->items[0]), from = line_start(e, dash);
    Str b = {0};
    int used = 0;
    if (last < 0 && p->nadded) { /* the first new one takes the place of the first old one */
        put_quoted(&b, p->added[0], strlen(p->added[0]));
        splice(e, n->items[0]->start, n->items[0]->end, &b);
        str_free(&b);
        used = 1;
    } else if (last < 0) {
        size_t at = value_place(e, key, n);
        str_puts(&b, " []");
        splice(e, at, at, &b);
        str_free(&b);
    }
    for (int i = used && last < 0 ? 1 : 0; i < n->count; i++)
        if (!p->keep[i])
            remove_block_item(e, n->items[i]);
    if (used < p->nadded) {
        size_t at = line_end(e, n->items[last < 0 ? 0 : last]->end);
        put_block_items(e, &b, p, used, e->src + from, (int)(dash - from));
        splice(e, at, at, &b);
        str_free(&b);
    }
}

/* A key that the mapping doesn't have yet: behind include, else behind the last pair. */
static void add_key(TextEdit *e, const YamlNode *map, const char *key, const ListRef *l, const ListPlan *p)
{
    Str b = {0};
    const YamlNode *after = map->vals[map->own - 1];
    for (int i = 0; i < map->own; i++)
        if (node_is(map->keys[i], "include"))
            after = map->vals[i];
    if (map->style == YAML_FLOW) {
        str_printf(&b, ", %s: ", key);
        put_list(&b, l, p);
        splice(e, after->end, after->end, &b);
    } else {
        size_t at = line_end(e, after->end);
        char indent[256];
        int spaces = map->keys[0]->column - 1;
        if (spaces > (int)sizeof indent - 3)
            spaces = (int)sizeof indent - 3;
        memset(indent, ' ', sizeof indent);
        str_puts(&b, e->eol);
        str_append(&b, indent, (size_t)spaces);
        str_printf(&b, "%s:", key);
        put_block_items(e, &b, p, 0, indent, spaces + 2);
        splice(e, at, at, &b);
    }
    str_free(&b);
}

static bool is_own(const YamlNode *map, const YamlNode *v, const YamlNode **key)
{
    for (int i = 0; i < map->own; i++)
        if (map->vals[i] == v) {
            *key = map->keys[i];
            return true;
        }
    return false;
}

static void edit_list(TextEdit *e, const Entry *en, const char *name, const ListRef *l, const ListPlan *p)
{
    const YamlNode *n = l->node, *key = NULL;
    if (!p->edit)
        return;
    if (!n) {
        add_key(e, en->map, name, l, p);
        return;
    }
    if (!is_own(en->map, n, &key))
        return; /* the whole entry is written out */
    Str b = {0};
    if (n->kind == YAML_NULL || n->from_alias) {
        bool glued = n->begin > 0 && e->src[n->begin - 1] == ':';
        str_puts(&b, glued ? " " : "");
        put_list(&b, l, p);
        splice(e, n->begin, n->end, &b);
        str_free(&b);
    } else if (n->style == YAML_FLOW) {
        edit_flow(e, n, p);
    } else {
        edit_block(e, key, n, p);
    }
}

/* Whether an edited list of the entry came through a merge key, or the entry has no place to put it. */
static bool merged_edit(const Entry *en, const EntryPlan *p)
{
    const YamlNode *key;
    return (p->include.edit && en->include.node && !is_own(en->map, en->include.node, &key)) ||
           (p->exclude.edit && en->exclude.node && !is_own(en->map, en->exclude.node, &key)) || !en->map->own;
}

static void write_out(TextEdit *e, const YamlNode *n, size_t first_entry)
{
    Str b = {0};
    WriteOut w = {e, first_entry};
    put_flow(&b, n, &w);
    splice(e, n->begin, n->end, &b);
    str_free(&b);
}

static bool entry_edited(const EntryPlan *p)
{
    return p->include.edit || p->exclude.edit;
}

/* First entry whose path goes through this alias, nentries when there is none. *edited: one of them changes. */
static size_t alias_entry(const TextEdit *e, const YamlNode *alias, bool *edited)
{
    size_t first = e->r->nentries;
    *edited = false;
    for (size_t k = e->r->nentries; k-- > 0;)
        if (e->r->entry[k].alias == alias) {
            first = k;
            *edited |= entry_edited(&e->plan[k]);
        }
    return first;
}

/* Aliases whose entries change, then those that share a place that changed. */
static void edit_aliases(TextEdit *e)
{
    int n;
    bool edited;
    YamlNode *const *alias = yaml_aliases(e->r->doc, &n);
    for (int i = 0; i < n; i++) {
        size_t first = alias_entry(e, alias[i], &edited);
        if (edited)
            write_out(e, alias[i], first);
    }
    e->changes = e->n;
    for (int i = 0; i < n; i++) {
        const YamlNode *t = alias[i]->target;
        size_t first = alias_entry(e, alias[i], &edited);
        bool touched = false;
        for (size_t k = 0; k < e->changes && !touched; k++)
            touched =
                e->splice[k].begin <= t->end && e->splice[k].end >= t->start && e->splice[k].begin != alias[i]->begin;
        if (touched && !edited)
            write_out(e, alias[i], first);
    }
}

static int by_place(const void *a, const void *b)
{
    const Splice *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    bool grow = (x->end == x->begin) != (y->end == y->begin); /* insertions come before what is cut there */
    if (grow)
        return x->end == x->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end > y->end ? -1 : 1;
    return (x->serial > y->serial) - (x->serial < y->serial);
}

static void apply(TextEdit *e, Str *out)
{
    size_t at = 0;
    if (e->n)
        qsort(e->splice, e->n, sizeof *e->splice, by_place);
    for (size_t i = 0; i < e->n; i++) {
        const Splice *s = &e->splice[i];
        bool inside = s->begin < at;
        if (inside && (s->end <= at || s->text[0]))
            continue; /* part of what is written anew already */
        size_t begin = inside ? at : s->begin;
        str_append(out, e->src + at, begin - at);
        str_puts(out, s->text);
        at = s->end;
    }
    str_append(out, e->src + at, e->len - at);
}

Status recipe_edit(const Recipe *r, const EntryPlan *plan, EditReach reach, Str *out, Error *err)
{
    TextEdit e = {.r = r, .plan = plan, .eol = "\n"};
    e.src = yaml_source(r->doc, &e.len);
    size_t nl = line_end(&e, 0);
    if (nl < e.len)
        e.eol = e.src[nl] == '\n' ? "\n" : nl + 1 < e.len && e.src[nl + 1] == '\n' ? "\r\n" : "\r";
    const YamlNode *root = yaml_root(r->doc), *spec = yaml_get(root, "spec"), *key;
    bool any = false;
    for (size_t k = 0; k < r->nentries; k++)
        any |= entry_edited(&plan[k]);
    if (any && reach == EDIT_ALL) {
        write_out(&e, root, 0);
    } else if (any && reach == EDIT_SPEC && is_own(root, spec, &key)) {
        Str b = {0};
        WriteOut w = {&e, 0};
        str_putc(&b, ' ');
        put_flow(&b, spec, &w);
        size_t at = value_place(&e, key, spec);
        splice(&e, at, spec->end, &b);
        str_free(&b);
        edit_aliases(&e);
    } else {
        for (size_t k = 0; k < r->nentries; k++) {
            const Entry *en = &r->entry[k];
            if (!entry_edited(&plan[k]) || en->alias)
                continue;
            if (merged_edit(en, &plan[k])) {
                write_out(&e, en->map, k);
                continue;
            }
            edit_list(&e, en, "include", &en->include, &plan[k].include);
            edit_list(&e, en, "exclude", &en->exclude, &plan[k].exclude);
        }
        edit_aliases(&e);
    }
    apply(&e, out);
    bool ended = e.len && strchr("\r\n", e.src[e.len - 1]);
    /* when the last line went, there is still no final newline */
    while (!ended && out->len && !out->oom && strchr("\r\n", out->s[out->len - 1]))
        out->s[--out->len] = '\0';
    for (size_t i = 0; i < e.n; i++)
        free(e.splice[i].text);
    free(e.splice);
    return e.oom || out->oom ? error_nomem(err, "an export") : ST_OK;
}
