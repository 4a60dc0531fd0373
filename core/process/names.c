#include "process/names.h"

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
