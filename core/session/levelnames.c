/* Names of levels, by the recipe that has them. */
#include "session/levelnames.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "session/assignment.h"

void levelnames_fini(LevelNames *l)
{
    free(l->name);
    free(l->key);
}

Status levelnames_of(const Recipe *r, LevelNames *out, Error *err)
{
    int n = r ? recipe_entries(r) : 0;
    QConfig *config = mem_zarray((size_t)n + 1, sizeof *config);
    *out = (LevelNames){.name = mem_zarray((size_t)n + 1, sizeof *out->name), .key = mem_zarray((size_t)n + 1, sizeof *out->key),
                        .n = r ? n + 1 : 0};
    bool fine = config && out->name && out->key;
    for (int i = 0; fine && i < n; i++) {
        Hasher h;
        config[i] = recipe_entry(r, i)->q;
        hasher_init(&h);
        qspec_hash(&h, &config[i].act);
        qspec_hash(&h, &config[i].weight);
        out->key[i + 1] = hasher_end(&h);
    }
    if (fine)
        name_levels(config, n, out->name);
    free(config);
    if (fine)
        return ST_OK;
    levelnames_fini(out);
    return error_nomem(err, "the levels of a measurement");
}

void levelnames_name(const LevelNames *l, int level, char out[48])
{
    if (level == 0 || level < l->n)
        snprintf(out, 48, "%s", l->name[level]);
    else
        snprintf(out, 48, "level %d", level);
}

bool levelnames_same(const LevelNames *a, int la, const LevelNames *b, int lb)
{
    if (la == 0 || lb == 0 || la >= a->n || lb >= b->n)
        return la == lb;
    return digest_cmp(&a->key[la], &b->key[lb]) == 0;
}
