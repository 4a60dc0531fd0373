#include "process/cachelayers.h"

#include <stdio.h>
#include <string.h>

#include "process/processor.h"
#include "recipe/pattern.h"

static void name_of(const Model *m, const LayerTensors *t, char *buf, int size)
{
    int32_t any = t->kv_b >= 0 ? t->kv_b : t->q;
    buf[0] = '\0';
    if (any < 0)
        return;
    const char *name = m->linears[any].name, *dot = strrchr(name, '.');
    if (dot)
        snprintf(buf, (size_t)size, "%.*s", (int)(dot - name), name);
}

void attention_name(const Model *m, int layer, char *buf, int size)
{
    name_of(m, &m->layers[layer], buf, size);
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

Status cache_of(const Recipe *r, const char *attention, const RecipeCache **out, Error *err)
{
    *out = NULL;
    for (int u = 0; u < recipe_units(r); u++) {
        const RecipeUnit *unit = recipe_unit(r, u);
        for (int i = 0; i < unit->nsteps; i++) {
            const RecipeCache *c = unit->steps[i].settings;
            bool in = true, ex = false;
            if (unit->steps[i].processor != &processor_dynamic_cache)
                continue;
            if (c->ninclude)
                RETURN_IF_ERROR(any_matches(c->include, c->ninclude, attention, &in, err));
            if (in)
                RETURN_IF_ERROR(any_matches(c->exclude, c->nexclude, attention, &ex, err));
            if (in && !ex) {
                *out = c;
                return ST_OK;
            }
        }
    }
    return ST_OK;
}

Status cache_layers(const Recipe *r, const Model *m, bool *on, Error *err)
{
    char name[512];
    for (int l = 0; l < m->cfg.layers; l++) {
        on[l] = false;
        for (const LayerTensors *t = &m->layers[l]; t && !on[l]; t = t->then) {
            const RecipeCache *c = NULL;
            name_of(m, t, name, sizeof name);
            if (name[0])
                RETURN_IF_ERROR(cache_of(r, name, &c, err));
            on[l] = c != NULL;
        }
    }
    return ST_OK;
}
