#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "model/weight.h"
#include "process/cachelayers.h"
#include "process/quantrun_impl.h"

/* ---- what needs data ---- */

/* Whether quantizing a linear at this level needs calibration data. */
static bool config_needs_data(const QConfig *q)
{
    const ActQuantizer *a = act_quantizer_find(&q->act);
    const WeightQuantizer *w = weight_quantizer_find(&q->weight);
    return (a && a->observer) || (w && w->hessian);
}

Status cache_step(const Recipe *r, const Model *m, int layer, const RecipeCache **out, char name[256], Error *err)
{
    char own[256];
    name = name ? name : own;
    *out = NULL;
    name[0] = '\0';
    if (layer >= m->cfg.layers) /* no scales for what the decoder does not run */
        return ST_OK;
    attention_name(m, layer, name, 256);
    return name[0] ? cache_of(r, name, out, err) : ST_OK;
}

/* Scales are found in the dtype of keys and values: float32 behind deployed linears (specs/formats.md 6). */
static DType scale_dtype(const Recipe *r, const Model *m, const QConfig *levels, const int16_t *level, bool peer)
{
    bool used[INT16_MAX + 1] = {false};
    if (!peer)
        return DT_F32;
    for (int64_t i = 0; i < m->nlinears; i++)
        used[level[i] > 0 ? level[i] : 0] = true;
    for (int u = 0; u < recipe_units(r); u++) {
        const RecipeUnit *unit = recipe_unit(r, u);
        for (int i = 0; i < unit->nsteps; i++)
            if (unit->steps[i].processor == &processor_dynamic_cache)
                return m->cfg.dtype;
        for (int i = 0; i < unit->nsteps; i++) {
            int k = unit->steps[i].entry + 1;
            if (unit->steps[i].entry >= 0 && used[k] && levels[k - 1].weight.scope != QS_PER_BLOCK)
                return DT_F32;
        }
    }
    return m->cfg.dtype;
}

/* Last layer with something that a forward has to find, -1: none. */
static int last_data_layer(const Recipe *r, const Model *m, const QConfig *levels, const int16_t *level)
{
    int last = -1;
    for (int64_t i = 0; i < m->nlinears; i++)
        if (level[i] > 0 && m->linears[i].layer > last
            && config_needs_data(levels ? &levels[level[i] - 1] : &recipe_entry(r, level[i] - 1)->q))
            last = m->linears[i].layer;
    for (int l = m->cfg.layers - 1; l > last; l--) {
        const RecipeCache *c;
        if (cache_step(r, m, l, &c, NULL, NULL) == ST_OK && c)
            return l;
    }
    return last;
}

bool quantrun_needs_data(const Recipe *r, const Model *m, const int16_t *level)
{
    return last_data_layer(r, m, NULL, level) >= 0;
}

/* ---- memory ---- */

static uint64_t largest_weight(const QuantRunOptions *o, const Model *m)
{
    uint64_t most = 0, raw = 0;
    for (int64_t i = 0; i < m->nlinears; i++) {
        const Linear *l = &m->linears[i];
        uint64_t n = (uint64_t)l->out * (uint64_t)l->in;
        if (o->level[i] == 0)
            continue;
        const QSpec *q = &o->levels[o->level[i] - 1].weight;
        const WeightQuantizer *w = weight_quantizer_find(q);
        uint64_t bytes = n * sizeof(float) + qweight_bytes(q, l->out, l->in);
        bytes += w && w->scratch ? w->scratch(q, l->out, l->in) : 0;
        most = bytes > most ? bytes : most;
        uint64_t size = weight_bytes(l);
        raw = size > raw ? size : raw;
    }
    return most + 2 * raw; /* the next one is read meanwhile */
}

uint64_t quantrun_estimate(const QuantRunOptions *o, const Model *m, int threads)
{
    uint64_t bytes = largest_weight(o, m);
    if (!o->calib || last_data_layer(o->recipe, m, o->levels, o->level) < 0)
        return bytes;
    int64_t rows = o->calib->start[o->calib->samples], longest = 0;
    for (int s = 0; s < o->calib->samples; s++) {
        int64_t n = o->calib->start[s + 1] - o->calib->start[s];
        longest = n > longest ? n : longest;
    }
    uint64_t cache = 4 * (uint64_t)o->calib->samples * (uint64_t)m->cfg.kv_heads * sizeof(float);
    cache *= (uint64_t)(m->cfg.head_dim > m->cfg.v_dim ? m->cfg.head_dim : m->cfg.v_dim);
    return bytes + cache + runner_estimate(m, rows, longest, threads, true)
           + layer_forms_bytes(m, o->levels, o->level, o->peer, threads);
}

/* ---- the run ---- */

static Status read_weight(void *ctx, int64_t linear, float *w, Error *err)
{
    const QuantRun *q = ctx;
    return runner_weight(q->r, linear, q->ahead, w, err);
}

static bool unit_needs_data(const QuantRun *q, const RecipeUnit *u)
{
    for (int i = 0; i < u->nsteps; i++)
        if (u->steps[i].processor == &processor_dynamic_cache
            || (u->steps[i].entry >= 0 && config_needs_data(&q->o->levels[u->steps[i].entry])))
            return true;
    return false;
}

static Status list_units(QuantRun *q, Error *err)
{
    const Recipe *r = q->o->recipe;
    int n = recipe_units(r);
    q->units = mem_zarray((size_t)n + 1, sizeof *q->units);
    if (!q->units)
        return error_nomem(err, "the recipe's units");
    for (int i = 0; i < n; i++) {
        const RecipeUnit *u = recipe_unit(r, i);
        for (int k = 0; k < u->nsteps; k++) {
            if (!u->steps[k].processor)
                return error_set(err, ST_DATA, "line %d: processor '%s' is not run by this build", u->steps[k].line,
                                 u->steps[k].type);
            if (u->steps[k].entry >= 0 && u->steps[k].entry >= q->o->nlevels)
                return error_set(err, ST_INTERNAL, "entry %d of %d levels", u->steps[k].entry, q->o->nlevels);
        }
        q->units[q->nunits++] = (RunUnit){.u = u, .data = unit_needs_data(q, u)};
    }
    /* this saver of the peer's isn't data-free: it runs what the processors deployed once more */
    for (int s = 0; s < q->o->nsavers && q->o->peer; s++)
        if (strcmp(q->o->savers[s]->type, "compressed_tensors") == 0) {
            q->units[q->nunits++] = (RunUnit){.data = true};
            break;
        }
    return ST_OK;
}

static Status list_layers(QuantRun *q, Error *err)
{
    const Model *m = q->m;
    size_t layers = (size_t)model_depth(m);
    q->first = mem_zarray(layers + 1, sizeof *q->first);
    if (!q->first)
        return error_nomem(err, "the model's layers");
    for (int64_t i = 0; i < m->nlinears; i++) {
        int32_t layer = m->linears[i].layer;
        if (layer < 0 || layer >= model_depth(m) || (i > 0 && layer < m->linears[i - 1].layer))
            return error_set(err, ST_INTERNAL, "'%s' is out of layer order", m->linears[i].name);
        if (q->o->level[i] < 0 || q->o->level[i] > q->o->nlevels)
            return error_set(err, ST_INTERNAL, "'%s' has level %d of %d", m->linears[i].name, q->o->level[i],
                             q->o->nlevels);
        if (q->o->level[i] > 0 && !qconfig_runnable(&q->o->levels[q->o->level[i] - 1]))
            return error_set(err, ST_DATA, "'%s': its scheme can't be quantized by this build", m->linears[i].name);
        if (q->o->level[i] > 0) {
            const QSpec *w = &q->o->levels[q->o->level[i] - 1].weight;
            Status st = qweight_check(w, m->linears[i].out, m->linears[i].in, err);
            if (st != ST_OK)
                return error_prefix(err, st, "'%s': ", m->linears[i].name);
        }
        q->first[layer + 1] = i + 1;
    }
    for (size_t l = 0; l < layers; l++)
        if (q->first[l + 1] < q->first[l])
            q->first[l + 1] = q->first[l];
    return ST_OK;
}

static Status check_run(QuantRun *q, Error *err)
{
    const QuantRunOptions *o = q->o;
    if (o->peer && runner_arith(q->r) != ARITH_MODEL)
        return error_set(err, ST_INTERNAL, "the peer's quantization needs a runner in model mode");
    RETURN_IF_ERROR(list_layers(q, err));
    RETURN_IF_ERROR(list_units(q, err));
    q->last_data = last_data_layer(o->recipe, q->m, o->levels, o->level);
    for (int l = 0; l < q->m->cfg.layers; l++) {
        const RecipeCache *c;
        RETURN_IF_ERROR(cache_step(o->recipe, q->m, l, &c, NULL, err));
        if (c && q->m->layers[l].then)
            return error_set(err, ST_DATA, "layer %d has two attentions: dynamic_cache can't be run for this model", l);
    }
    if (q->last_data >= 0 && (!o->calib || o->calib->samples == 0))
        return error_set(err, ST_DATA, "the recipe needs calibration texts: name a data set (dataset:)");
    q->out->bound = quantrun_estimate(o, q->m, pool_threads(runner_pool(q->r)));
    uint64_t limit = runner_mem_limit(q->r);
    if (limit && q->out->bound > limit)
        return error_set(err, ST_NOMEM,
                         "quantizing needs %.1f MB (the largest linear, %lld calibration tokens, what the methods "
                         "take) but the limit is %.1f MB: raise --mem, or use fewer or shorter texts",
                         (double)q->out->bound / 1e6,
                         (long long)(o->calib && q->last_data >= 0 ? o->calib->start[o->calib->samples] : 0),
                         (double)limit / 1e6);
    return ST_OK;
}

/* What decides the values beside the plan and the texts: which processor runs in which forward, how caches are made. */
static void flow_digest(QuantRun *q)
{
    Hasher h;
    hasher_init(&h);
    for (int u = 0; u < recipe_units(q->o->recipe); u++) {
        const RecipeUnit *unit = recipe_unit(q->o->recipe, u);
        hasher_u64(&h, (uint64_t)unit->nsteps);
        for (int i = 0; i < unit->nsteps; i++) {
            const RecipeStep *s = &unit->steps[i];
            const RecipeCache *k = s->processor == &processor_dynamic_cache ? s->settings : NULL;
            hasher_str(&h, s->type);
            hasher_u64(&h, (uint64_t)(int64_t)s->entry);
            hasher_u64(&h, k ? (uint64_t)k->q.dtype << 1 | k->q.symmetric : 0);
        }
    }
    Digest d = hasher_end(&h);
    digest_hex(&d, q->flow);
}

static Status open_savers(QuantRun *q, Error *err)
{
    const QuantRunOptions *o = q->o;
    q->saver = mem_zarray((size_t)o->nsavers, sizeof *q->saver);
    q->saver_first = mem_zarray((size_t)o->nsavers, sizeof *q->saver_first);
    q->plan = mem_array((size_t)o->nsavers, sizeof *q->plan);
    if (!q->saver || !q->saver_first || !q->plan)
        return error_nomem(err, "the savers");
    q->first_layer = o->nsavers > 0 ? model_depth(q->m) : 0;
    flow_digest(q);
    for (int i = 0; i < o->nsavers; i++) {
        q->plan[i] = o->plans[i];
        q->plan[i].texts = q->last_data >= 0 ? o->calib->sha256 : NULL;
        q->plan[i].flow = q->flow;
        q->plan[i].arith = q->T;
        q->plan[i].overlay = runner_overlay(q->r);
        q->plan[i].cache_dtype = o->peer ? scale_dtype(o->recipe, q->m, o->levels, o->level, true) : q->T;
        RETURN_IF_ERROR(o->savers[i]->open(&q->saver[i], &q->plan[i], o->resume, &q->saver_first[i], err));
        if (q->saver_first[i] < q->first_layer)
            q->first_layer = q->saver_first[i];
    }
    q->out->layers_resumed = q->first_layer;
    return ST_OK;
}

/* Layers that a stopped run has written are run again where later ones need their output, and not written. */
static Status run_layer(QuantRun *q, int layer, Error *err)
{
    LayerForms forms;
    LayerCache cache = {.watch = {.layer = layer, .last = q->o->peer}};
    int64_t first = q->first[layer], n = q->first[layer + 1] - first;
    RETURN_IF_ERROR(cache_step(q->o->recipe, q->m, layer, &cache.spec, NULL, err));
    RETURN_IF_ERROR(layer_forms_init(&forms, q->m, &q->forms, first, n, err));
    Status st = ST_OK;
    if (layer <= q->last_data)
        st = quantrun_forward(q, layer, &forms, &cache, err);
    if (st == ST_OK && layer >= q->first_layer)
        st = quantrun_write(q, layer, &forms, &cache, err);
    cache_watch_fini(&cache.watch);
    layer_forms_fini(&forms);
    return st;
}

static Status run_layers(QuantRun *q, Error *err)
{
    const QuantRunOptions *o = q->o;
    bool stream = q->last_data >= q->first_layer;
    if (stream)
        RETURN_IF_ERROR(runner_embed(q->r, o->calib, &q->x, err));
    else
        q->last_data = -1; /* what is left needs none */
    for (int layer = stream ? 0 : q->first_layer; layer < model_depth(q->m); layer++) {
        if (cancel_level(runner_cancel(q->r)))
            return error_set(err, ST_CANCELLED, "cancelled");
        int64_t before = q->out->quantized;
        RETURN_IF_ERROR(run_layer(q, layer, err));
        if (o->layer && layer >= q->first_layer)
            o->layer(o->layer_ctx, layer, q->out->quantized - before, q->out->bytes_read, q->out->bytes_written);
    }
    for (int i = 0; i < o->nsavers; i++)
        RETURN_IF_ERROR(o->savers[i]->finish(q->saver[i], err));
    return ST_OK;
}

Status quantrun(Runner *r, const QuantRunOptions *o, QuantRunResult *out, Error *err)
{
    const Model *m = runner_model(r);
    *out = (QuantRunResult){0};
    QuantRun q = {.r = r, .m = m, .o = o, .out = out, .ahead = -1,
                  .T = runner_arith(r) == ARITH_MODEL ? m->cfg.dtype : DT_F32};
    q.forms = (FormsOptions){.levels = o->levels, .level = o->level, .peer = o->peer, .weight = q.T,
                             .read = read_weight, .ctx = &q, .pool = runner_pool(r), .cancel = runner_cancel(r)};
    Status st = check_run(&q, err);
    if (st == ST_OK)
        st = open_savers(&q, err);
    bool opened = st == ST_OK;
    if (st == ST_OK)
        st = run_layers(&q, err);
    bool keep = st != ST_OK && !(opened && st == ST_DATA); /* bad data is bad again: nothing to go on with */
    for (int i = 0; q.saver && i < o->nsavers; i++)
        if (q.saver[i])
            o->savers[i]->close(q.saver[i], keep);
    stream_fini(&q.x);
    stream_fini(&q.y);
    free(q.first);
    free(q.units);
    free(q.saver);
    free(q.saver_first);
    free(q.plan);
    return st;
}
