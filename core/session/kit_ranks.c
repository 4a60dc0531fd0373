/* What the job thread does: jobs that several ranks begin together. */
#include <string.h>

#include "session/kit_impl.h"

static void hash_data(Hasher *h, const DataSpec *d)
{
    hasher_u64(h, (uint64_t)d->max_samples);
    hasher_u64(h, (uint64_t)d->seq_len);
    hasher_u64(h, (uint64_t)d->ctx);
    hasher_u64(h, (uint64_t)d->max_tokens);
    hasher_u64(h, (uint64_t)d->nout);
}

static void hash_recipe(Hasher *h, const Recipe *r)
{
    size_t n;
    const char *text = r ? recipe_source(r, &n) : NULL;
    if (text)
        hasher_bytes(h, text, n);
}

Status kit_same_job(const Job *j, Error *err)
{
    const size_t n = (size_t)j->model->nlinears;
    const EvaluateJob *e = &j->evaluate;
    Hasher h;
    hasher_init(&h);
    hasher_u64(&h, (uint64_t)j->view->kind);
    hasher_u64(&h, (uint64_t)j->aside << 1 | (uint64_t)j->full);
    hasher_u64(&h, (uint64_t)j->plan.first);
    hash_data(&h, &j->calib);
    hash_data(&h, &j->eval);
    for (int i = 0; j->metrics && j->metrics[i]; i++)
        hasher_str(&h, j->metrics[i]->name);
    if (j->selected)
        hasher_bytes(&h, j->selected, n * sizeof *j->selected);
    if (j->level)
        hasher_bytes(&h, j->level, n * sizeof *j->level);
    hash_recipe(&h, j->recipe);
    hash_recipe(&h, j->quantize.recipe);
    if (e->type) {
        hasher_str(&h, e->type->name);
        hasher_str(&h, e->id);
        hasher_u64(&h, (uint64_t)e->number);
    }
    const Digest key = hasher_end(&h);
    return dist_same(j->opt.dist, "job before it (another analysis, recipe, or levels)", &key, sizeof key, err);
}

Status kit_lead(Kit *k, Job *j, Status (*run)(Kit *k, Job *j, Error *err), Error *err)
{
    if (dist_leads(j->opt.dist))
        RETURN_IF_ERROR(run(k, j, err));
    return dist_meet(j->opt.dist, err);
}

Status kit_hand_out_result(Dist *d, EvalResult *r, Error *err)
{
    Pack p = {0};
    if (dist_leads(d)) {
        pack_put(&p, r, sizeof *r);
        pack_put(&p, r->accuracy, (size_t)r->n * sizeof *r->accuracy);
    }
    Status st = dist_hand_out(d, &p, err);
    if (st == ST_OK && !dist_leads(d)) {
        Unpack in = unpack_of(&p);
        unpack_get(&in, r, sizeof *r);
        r->accuracy = r->n ? unpack_array(&in, r->n, sizeof *r->accuracy) : NULL;
        if (in.bad) {
            *r = (EvalResult){0};
            st = error_nomem(err, "what was evaluated");
        }
    }
    pack_fini(&p);
    return st;
}
