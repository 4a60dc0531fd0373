#include "process/names.h"

#include <stdio.h>
#include <string.h>

#include "model/block.h"
#include "recipe/field.h"
#include "recipe/pattern.h"

bool names_read(Arena *a, const YamlNode *map, NameLists *out)
{
    *out = (NameLists){.ninclude = 0};
    out->include = texts_read(a, yaml_get(map, "include"), &out->ninclude);
    out->exclude = texts_read(a, yaml_get(map, "exclude"), &out->nexclude);
    return out->include && out->exclude;
}

static Status any_matches(const char *const *list, int n, const char *name, bool *hit, Error *err)
{
    *hit = false;
    for (int i = 0; i < n && !*hit; i++) {
        Pattern *p;
        RETURN_IF_ERROR(pattern_compile(&p, list[i], err));
        *hit = pattern_match(p, name);
        pattern_free(p);
    }
    return ST_OK;
}

Status names_select(const NameLists *l, const char *name, bool *on, Error *err)
{
    bool left_out = false;
    *on = true;
    if (l->ninclude)
        RETURN_IF_ERROR(any_matches(l->include, l->ninclude, name, on, err));
    if (*on)
        RETURN_IF_ERROR(any_matches(l->exclude, l->nexclude, name, &left_out, err));
    *on = *on && !left_out;
    return ST_OK;
}

/* Told of: of one list. */
typedef struct Telling {
    const Work *w;
    const char *type, *what, *key;
    const char *const *name;
    int n;
} Telling;

static Status tell_list(const Telling *t, const char *const *list, int n, Error *err)
{
    char text[512];
    for (int i = 0; i < n; i++) {
        Pattern *p;
        bool hit = strcmp(list[i], "*") == 0;
        RETURN_IF_ERROR(pattern_compile(&p, list[i], err));
        for (int k = 0; k < t->n && !hit; k++)
            hit = pattern_match(p, t->name[k]);
        pattern_free(p);
        snprintf(text, sizeof text, "%s: '%s' in %s matches no %s, such as '%s'", t->type, list[i], t->key, t->what,
                 t->n ? t->name[0] : "");
        if (!hit)
            t->w->tell(t->w->tell_ctx, text);
    }
    return ST_OK;
}

Status names_tell_unused(const NameLists *l, const Work *w, const char *type, const char *what, const char *const *name, int n,
                         Error *err)
{
    Telling t = {.w = w, .type = type, .what = what, .key = "include", .name = name, .n = n};
    if (!w->tell)
        return ST_OK;
    RETURN_IF_ERROR(tell_list(&t, l->include, l->ninclude, err));
    t.key = "exclude";
    return tell_list(&t, l->exclude, l->nexclude, err);
}

Status names_tell_attentions(const NameLists *l, const Work *w, const char *type, const Model *m, Error *err)
{
    Arena a = {0};
    const char **name = arena_alloc(&a, ((size_t)m->cfg.layers + 1) * sizeof *name);
    char text[512];
    Status st = name ? ST_OK : error_nomem(err, "names of attentions");
    int n = 0;
    for (int u = 0; u < m->cfg.layers && st == ST_OK; u++) {
        unit_attention_name(m, u, 0, text, sizeof text);
        if (!text[0])
            continue;
        name[n] = arena_strdup(&a, text);
        st = name[n++] ? ST_OK : error_nomem(err, "names of attentions");
    }
    if (st == ST_OK)
        st = names_tell_unused(l, w, type, "attention", name, n, err);
    arena_free(&a);
    return st;
}

static void hash_list(const char *const *list, int n, Hasher *h)
{
    hasher_u64(h, (uint64_t)n);
    for (int i = 0; i < n; i++)
        hasher_str(h, list[i]);
}

void names_hash(const NameLists *l, Hasher *h)
{
    hash_list(l->include, l->ninclude, h);
    hash_list(l->exclude, l->nexclude, h);
}
