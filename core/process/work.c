#include "process/work.h"

#include "process/processor.h"

/* Steps that a lenient work leaves out decide nothing. */
static bool runs(const RecipeStep *s)
{
    return s->processor && s->processor->run;
}

bool work_ordered(const Work *w)
{
    int stages = w->recipe ? recipe_stages(w->recipe) : 0, items = 0;
    for (int i = 0; i < stages; i++) {
        const RecipeStage *stage = recipe_stage(w->recipe, i);
        for (int u = 0; u < stage->nunits; u++) {
            int n = 0;
            for (int k = 0; k < stage->units[u].nsteps; k++) {
                const RecipeStep *s = &stage->units[u].steps[k];
                n += runs(s);
                if (runs(s) && (s->processor->run->needs & PROCESSOR_TURN))
                    return true;
            }
            items += n > 0;
        }
    }
    return w->peer && items > 1;
}

static void hash_step(const RecipeStep *s, Hasher *h)
{
    hasher_str(h, s->type);
    hasher_u64(h, (uint64_t)(int64_t)s->entry);
    if (s->processor->run->hash)
        s->processor->run->hash(s->settings, h);
}

Digest work_order(const Work *w)
{
    Hasher h;
    hasher_init(&h);
    int stages = w->recipe ? recipe_stages(w->recipe) : 0;
    for (int i = 0; i < stages; i++) {
        const RecipeStage *stage = recipe_stage(w->recipe, i);
        hasher_u64(&h, (uint64_t)stage->nunits);
        for (int u = 0; u < stage->nunits; u++) {
            hasher_u64(&h, (uint64_t)stage->units[u].nsteps);
            for (int k = 0; k < stage->units[u].nsteps; k++)
                if (runs(&stage->units[u].steps[k]))
                    hash_step(&stage->units[u].steps[k], &h);
        }
    }
    return hasher_end(&h);
}
