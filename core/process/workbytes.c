#include <stdlib.h>

#include "base/mem.h"
#include "model/block.h"
#include "process/dynamic_cache.h"
#include "process/pipeline.h"

/* What processors add to the files beside what the levels of the linears take: told by their promises, as to savers. */

/* Elements of a tensor. */
static uint64_t values_of(const int64_t *shape, int ndim)
{
    uint64_t n = 1;
    for (int d = 0; d < ndim; d++)
        n *= (uint64_t)shape[d];
    return n;
}

static uint64_t norm_biases(const SaveChanges *c, const Model *m)
{
    uint64_t bytes = 0;
    for (int64_t i = 0; i < checkpoint_count(m->ckpt); i++) {
        const TensorInfo *t = checkpoint_at(m->ckpt, i);
        if (save_changes_has_norm_bias(c, t))
            bytes += values_of(t->shape, t->ndim) * sizeof(float);
    }
    return bytes;
}

/* Multipliers of inputs, and which linears get a bias. */
static Status of_linears(const SaveChanges *c, const Model *m, RecipeSizing *out, Error *err)
{
    bool *bias = NULL;
    for (int64_t i = 0; i < m->nlinears; i++) {
        if (save_changes_has_input_scale(c, i))
            out->added += (uint64_t)m->linears[i].in * (uint64_t)dtype_size(out->peer ? m->cfg.dtype : DT_F32);
        if (!save_changes_has_bias(c, i) || m->linears[i].bias)
            continue;
        if (!bias && !(out->bias = bias = mem_zarray((size_t)m->nlinears, sizeof *bias)))
            return error_nomem(err, "the sizes");
        bias[i] = true;
    }
    return ST_OK;
}

static uint64_t made(const SaveChanges *c)
{
    uint64_t bytes = 0;
    const SaveMade *t;
    for (size_t i = 0; (t = save_changes_made_at(c, i)) != NULL; i++)
        bytes += t->entry ? 0 : values_of(t->shape, t->ndim) * (uint64_t)dtype_size(save_made_dtype(t));
    return bytes;
}

/* Scales and offsets of keys and values. */
static Status caches(const Recipe *r, const Model *m, DType dtype, uint64_t *bytes, Error *err)
{
    int steps;
    bool *on = mem_zarray((size_t)m->cfg.layers + 1, sizeof *on);
    Status st = on ? cache_layers(r, m, on, &steps, err) : error_nomem(err, "the sizes");
    for (int l = 0; l < m->cfg.layers && st == ST_OK; l++) {
        int64_t k = on[l] ? unit_linear(&m->units[l], "k") : -1, v = on[l] ? unit_linear(&m->units[l], "v") : -1;
        if (k >= 0 && v >= 0)
            *bytes += 2 * (uint64_t)(m->linears[k].out + m->linears[v].out) * (uint64_t)dtype_size(dtype);
    }
    free(on);
    return st;
}

static Status of_promises(const Pipeline *p, DType inner, RecipeSizing *out, Error *err)
{
    const Model *m = pipeline_model(p);
    SavePlan plan = {.model = m, .peer = out->peer, .cache_dtype = inner};
    RETURN_IF_ERROR(save_changes_new(&plan.changes, m, err));
    Status st = pipeline_promise(p, inner, &plan, err);
    const SaveChanges *c = plan.changes;
    if (st == ST_OK) {
        DType t = plan.cache_dtype == DT_BF16 || plan.cache_dtype == DT_F16 ? plan.cache_dtype : DT_F32;
        out->added += norm_biases(c, m) + made(c);
        out->untied = save_changes_has_untied(c);
        st = of_linears(c, m, out, err);
        if (st == ST_OK)
            st = caches(pipeline_work(p)->recipe, m, t, &out->added, err);
    }
    save_changes_free(plan.changes);
    return st;
}

/* Whether a processor of the main list adds something to the linears. */
static bool adds(const Recipe *r)
{
    const int n = recipe_stages(r);
    const RecipeStage *main = n ? recipe_stage(r, n - 1) : NULL;
    for (int u = 0; main && u < main->nunits; u++)
        for (int k = 0; k < main->units[u].nsteps; k++) {
            const ProcessorType *t = main->units[u].steps[k].processor;
            if (t && t->run && t->run->promise)
                return true;
        }
    return false;
}

Status work_sizing(const Recipe *r, const Model *m, bool peer, DType inner, RecipeSizing *out, Error *err)
{
    Pipeline *p = NULL;
    *out = (RecipeSizing){.peer = peer};
    if (!adds(r))
        return ST_OK;
    int16_t *level = mem_zarray((size_t)m->nlinears + 1, sizeof *level);
    const Work w = {.recipe = r, .level = level, .peer = peer, .lenient = true};
    Status st = level ? pipeline_new(&p, m, &w, err) : error_nomem(err, "the sizes");
    if (st == ST_OK)
        st = of_promises(p, inner, out, err);
    if (st != ST_OK)
        work_sizing_fini(out);
    pipeline_free(p);
    free(level);
    return st;
}

void work_sizing_fini(RecipeSizing *s)
{
    free((void *)(uintptr_t)s->bias);
    *s = (RecipeSizing){.peer = s->peer};
}
