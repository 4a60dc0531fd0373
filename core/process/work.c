#include "process/work.h"

#include "process/processor.h"

/* Steps that a lenient work leaves out decide nothing. */
static bool runs(const RecipeStep *s)
{
    return s->processor && s->processor->run;
}

/* Calls fn for every step that runs and changes the model, or stands in a prior stage; whether there is one that changes
 * it. */
static bool each_change(const Recipe *r, void (*fn)(void *ctx, const RecipeStage *stage, const RecipeStep *s), void *ctx)
{
    bool any = false;
    const int stages = r ? recipe_stages(r) : 0;
    for (int i = 0; i < stages; i++) {
        const RecipeStage *stage = recipe_stage(r, i);
        for (int u = 0; u < stage->nunits; u++)
            for (int k = 0; k < stage->units[u].nsteps; k++) {
                const RecipeStep *s = &stage->units[u].steps[k];
                bool turns = runs(s) && (s->processor->run->needs & PROCESSOR_TURN);
                any = any || turns;
                if (turns || (runs(s) && i < stages - 1))
                    fn(ctx, stage, s);
            }
    }
    return any;
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
                if (runs(s) && (s->processor->run->needs & (PROCESSOR_TURN | PROCESSOR_AGAIN | PROCESSOR_TRAINS)))
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
        if (stage->dataset)
            hasher_str(&h, stage->dataset);
        for (int u = 0; u < stage->nunits; u++) {
            hasher_u64(&h, (uint64_t)stage->units[u].nsteps);
            for (int k = 0; k < stage->units[u].nsteps; k++)
                if (runs(&stage->units[u].steps[k]))
                    hash_step(&stage->units[u].steps[k], &h);
        }
    }
    return hasher_end(&h);
}

static void hash_change(void *ctx, const RecipeStage *stage, const RecipeStep *s)
{
    hasher_str(ctx, stage->dataset ? stage->dataset : "");
    hash_step(s, ctx);
}

bool work_changes(const Work *w, Digest *out)
{
    Hasher h;
    hasher_init(&h);
    hasher_u64(&h, w->peer);
    const bool any = each_change(w->recipe, hash_change, &h);
    *out = any ? hasher_end(&h) : (Digest){{0}};
    return any;
}

void work_hash_attention(const Recipe *r, Hasher *h)
{
    const int stages = r ? recipe_stages(r) : 0;
    const RecipeStage *main = stages ? recipe_stage(r, stages - 1) : NULL;
    for (int u = 0; main && u < main->nunits; u++)
        for (int k = 0; k < main->units[u].nsteps; k++)
            if (runs(&main->units[u].steps[k]) && main->units[u].steps[k].processor->run->attends)
                hash_step(&main->units[u].steps[k], h);
}

typedef struct Nth {
    int left;
    const char *type;
} Nth;

static void take_nth(void *ctx, const RecipeStage *stage, const RecipeStep *s)
{
    Nth *n = ctx;
    (void)stage;
    if (n->left-- == 0)
        n->type = s->type;
}

const char *work_change(const Recipe *r, int i)
{
    Nth n = {.left = i};
    return each_change(r, take_nth, &n) ? n.type : NULL;
}

void work_name_changes(const Recipe *r, Str *out)
{
    const char *type;
    for (int i = 0; (type = work_change(r, i)) != NULL; i++)
        str_printf(out, "%s%s", i ? ", " : "", type);
}
