/* What a model is made of. */
#include "session/facts.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/file.h"
#include "metric/metric.h"
#include "run/need.h"

static void count_tensors(ModelFacts *f)
{
    const Checkpoint *c = f->m->ckpt;
    f->tensors = checkpoint_count(c);
    for (int64_t i = 0; i < f->tensors; i++) {
        const TensorInfo *t = checkpoint_at(c, i);
        f->type[t->dtype].tensors++;
        f->type[t->dtype].bytes += t->nbytes;
        f->bytes += t->nbytes;
        StorageRole role = storage_role(c, t);
        if (!role.how || role.codes) /* scales and shapes are no values of the model */
            f->values += (int64_t)(t->nbytes / (uint64_t)dtype_size(t->dtype)) * (role.how ? role.how->codes : 1);
    }
}

/* Rows of the table that differ in the tensors' names alone are one way to store weights. */
static bool same_store(const StoreSum *s, const Storage *how, DType t)
{
    return s->dtype == t && (how ? s->how && strcmp(s->how->name, how->name) == 0 : !s->how);
}

/* Adds up linears by storage; takes the unused codes at the end of rows out of `values`. */
static void count_stores(ModelFacts *f)
{
    for (int64_t i = 0; i < f->m->nlinears; i++) {
        const Linear *l = &f->m->linears[i];
        const Storage *how = l->store ? l->store->how : NULL;
        int k = 0;
        while (k < f->nstores && !same_store(&f->store[k], how, l->weight->dtype))
            k++;
        if (k == FACT_STORES)
            continue;
        if (k == f->nstores)
            f->store[f->nstores++] = (StoreSum){.how = how, .dtype = l->weight->dtype};
        StoreSum *s = &f->store[k];
        s->linears++;
        s->bytes += weight_bytes(l);
        if (how)
            f->values -= l->out * (l->store->row_bytes / dtype_size(how->dtype) * how->codes - l->in);
    }
}

static void count_linears(ModelFacts *f)
{
    const Model *m = f->m;
    for (int64_t i = 0; i < m->nlinears; i++)
        if ((unsigned)m->linears[i].kind < FACT_KINDS)
            f->kind[m->linears[i].kind]++;
    for (int64_t i = 0; i < m->ngroups; i++) {
        const FusedGroup *g = &m->groups[i];
        int k = 0;
        if (g->count == 1) {
            f->alone++;
            continue;
        }
        while (k < f->nlabels && strcmp(f->label[k].label, g->label) != 0)
            k++;
        if (k == FACT_LABELS)
            continue;
        if (k == f->nlabels)
            f->label[f->nlabels++].label = g->label;
        f->label[k].groups++;
        f->label[k].linears += g->count;
    }
}

static void memory_needs(ModelFacts *f, const int16_t *level)
{
    unsigned every = NEED_HIST;
    for (int i = 0; metric_table[i]; i++)
        every |= metric_table[i]->needs;
    RunnerAsk ask = {.rows = f->rows, .longest = f->longest, .threads = f->threads};
    RunnerNeed run = runner_need(f->m, &ask);
    uint64_t layers = run.stream + run.kept + run.layer;
    const Metric *k = metric_find("kurtosis");
    f->one = layers + pass_statistics_bytes(f->m, k ? k->needs : 0, 0, f->rows, f->longest, f->threads);
    f->all = layers + pass_statistics_bytes(f->m, every, 0, f->rows, f->longest, f->threads);
    ask.level = level;
    ask.whole = true;
    f->measure = runner_estimate(f->m, &ask);
}

/* What the default recipe makes of the model, and the memory that it takes. */
static Status default_sizes(ModelFacts *f, Error *err)
{
    Recipe *r;
    RETURN_IF_ERROR(recipe_default(&r, &recipe_rows, err));
    int16_t *level = mem_zarray((size_t)f->m->nlinears + 1, sizeof *level);
    Status st = level ? recipe_assign(r, f->m, level, err) : error_nomem(err, "an assignment");
    if (st == ST_OK) {
        recipe_sizes(r, f->m, level, NULL, &f->size);
        memory_needs(f, level);
        const RecipeEntry *e = recipe_entry(r, 0);
        char text[48];
        qconfig_describe(&e->q, text, sizeof text);
        memcpy(f->level, text, sizeof f->level);
    }
    free(level);
    recipe_free(r);
    return st;
}

static Status find_tokenizer(ModelFacts *f, Error *err)
{
    static const char *const names[] = {"tokenizer.json", "vocab.json", "tiktoken.model"};
    for (size_t i = 0; i < sizeof names / sizeof *names && !f->tokenizer; i++) {
        char *path = path_join(f->m->path, names[i]);
        if (!path)
            return error_nomem(err, "a path");
        if (file_exists(path))
            f->tokenizer = names[i];
        free(path);
    }
    return ST_OK;
}

Status model_facts(ModelFacts *f, const Model *m, int64_t rows, int64_t longest, int threads, Error *err)
{
    *f = (ModelFacts){.m = m, .rows = rows, .longest = longest, .threads = threads};
    count_tensors(f);
    count_linears(f);
    count_stores(f);
    model_mtp(m, &f->mtp);
    RETURN_IF_ERROR(find_tokenizer(f, err));
    return default_sizes(f, err);
}
