#include "session/sizes.h"

#include <stdlib.h>

#include "base/mem.h"
#include "process/work.h"
#include "run/arith.h"

typedef struct SizeEntry {
    Recipe *recipe; /* held: another one can't come to lie in its place */
    ArithMode arith;
    RecipeSizing sizing;
} SizeEntry;

const RecipeSizing *sizing_of(const Session *s, const Recipe *r)
{
    Sizes *x = s->sizes;
    for (size_t i = 0; i < x->n; i++)
        if (x->at[i]->recipe == r && x->at[i]->sizing.peer == s->opt.peer && x->at[i]->arith == s->opt.arith)
            return &x->at[i]->sizing;
    SizeEntry *e = mem_zarray(1, sizeof *e);
    x->plain = (RecipeSizing){.peer = s->opt.peer};
    if (!e || !mem_grow(&x->at, &x->cap, x->n + 1, sizeof(SizeEntry *))) {
        free(e);
        return &x->plain;
    }
    *e = (SizeEntry){.recipe = recipe_hold((Recipe *)(uintptr_t)r), .arith = s->opt.arith, .sizing = x->plain};
    (void)work_sizing(r, s->model, s->opt.peer, arith_dtype(s->opt.arith, s->model->cfg.dtype), &e->sizing, NULL);
    x->at[x->n++] = e;
    return &e->sizing;
}

void sizes_of(const Session *s, const Recipe *r, const int16_t *level, SizeReport *out)
{
    recipe_sizes(r, s->model, level, sizing_of(s, r), out);
}

void sizes_drop(Session *s)
{
    Sizes *x = s->sizes;
    for (size_t i = 0; i < x->n; i++) {
        recipe_free(x->at[i]->recipe);
        work_sizing_fini(&x->at[i]->sizing);
        free(x->at[i]);
    }
    free(x->at);
    *x = (Sizes){.n = 0};
}
