#include "measure/effect.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "dist/dist.h"
#include "measure/compare.h"
#include "measure/plan.h"
#include "measure/sink_measure.h"

/* A finished measurement under the key of its last boundary. */
typedef struct Result {
    Digest key;
    Effect effect;
    TokenBlocks *blocks;
} Result;

enum { RESULTS_MAX = 4096 };

struct EffectLab {
    const Model *model;
    EffectOptions opt;
    StateCache *states;
    Texts eval_texts, calib_texts;
    Predicted predicted;
    Predicted predicted_all; /* of all ranks, with several */
    TokenBlocks *blocks;     /* of the evaluation set, without a measurement */
    int32_t *block_of;
    Reference ref[ARITH_MODES];
    Result *results;
    size_t nresults, cap_results;
};

/* ---- keys ---- */

static Digest hash_config(const QConfig *q)
{
    Hasher h;
    hasher_init(&h);
    qspec_hash(&h, &q->act);
    qspec_hash(&h, &q->weight);
    return hasher_end(&h);
}

/* Where this rank's texts lie in all of them. */
static void hash_share(Hasher *h, const TokenSet *mine, const TokenSet *all)
{
    hasher_u64(h, (uint64_t)(mine->ids - all->ids));
    hasher_u64(h, (uint64_t)mine->samples);
}

/* What every state depends on, beside the levels. */
static Hasher hash_common(const EffectLab *lab, const Runner *r, const Pipeline *p)
{
    Hasher h;
    hasher_init(&h);
    hasher_str(&h, "slimscope boundary state 3");
    hasher_str(&h, lab->model->fingerprint);
    hasher_str(&h, lab->opt.calib->sha256);
    hasher_str(&h, lab->opt.eval->sha256);
    if (lab->opt.dist) {
        hash_share(&h, lab->opt.calib, lab->opt.all_calib);
        hash_share(&h, lab->opt.eval, lab->opt.all_eval);
    }
    hasher_str(&h, arith_name(runner_arith(r)));
    hasher_u64(&h, pipeline_work(p)->peer);
    char changes[65];
    overlay_digest(runner_overlay(r), changes);
    if (changes[0])
        hasher_str(&h, changes);
    if (work_ordered(pipeline_work(p))) { /* a state may then have more streams, too */
        Digest order = pipeline_order(p);
        hasher_bytes(&h, order.b, sizeof order.b);
    }
    return h;
}

/* keys[i], i in 0..layers: everything that can influence the input of layer i (DESIGN 6); keys[layers]: the last
 * output. Float is the same key whatever the recipe, so all assignments share the states before their first quantized
 * linear. */
static Status make_keys(const EffectLab *lab, const Runner *r, const Pipeline *p, Digest *keys, Error *err)
{
    const Model *m = lab->model;
    const Work *w = pipeline_work(p);
    Digest *config = mem_array((size_t)w->nlevels, sizeof *config);
    if (!config)
        return error_nomem(err, "cache keys");
    for (int i = 0; i < w->nlevels; i++)
        config[i] = hash_config(&w->levels[i]);
    Hasher h = hash_common(lab, r, p);
    for (int layer = 0; layer <= m->cfg.layers; layer++) {
        Hasher fork = h;
        keys[layer] = hasher_end(&fork);
        if (layer == m->cfg.layers)
            break;
        for (int64_t i = m->units[layer].first; i < m->units[layer].first + m->units[layer].count; i++) {
            int16_t l = w->level[i];
            hasher_u64(&h, l > 0);
            if (l > 0)
                hasher_bytes(&h, config[l - 1].b, sizeof config[l - 1].b);
            if (l > 0 && !pipeline_flow_is_output(p))
                hasher_u64(&h, (uint64_t)pipeline_pass_of(p, l));
        }
        pipeline_attends(p, layer, &h);
    }
    free(config);
    return ST_OK;
}

/* ---- results ---- */

static const Result *find_result(const EffectLab *lab, const Digest *key)
{
    size_t i = 0;
    while (i < lab->nresults && digest_cmp(&lab->results[i].key, key) != 0)
        i++;
    return i < lab->nresults ? &lab->results[i] : NULL;
}

static Status take_result(const EffectLab *lab, const Result *r, Effect *out, TokenBlocks **blocks, Error *err)
{
    *blocks = blocks_copy(r->blocks);
    if (!*blocks)
        return error_nomem(err, "a measurement's blocks");
    *out = r->effect;
    out->from_cache = true;
    out->first_layer_run = lab->model->cfg.layers;
    out->layers_run = 0;
    out->seconds = 0;
    return ST_OK;
}

/* Forgetting a result (memory short, too many) costs a measurement, nothing else. */
static void keep_result(EffectLab *lab, const Digest *key, const Effect *e, const TokenBlocks *blocks)
{
    TokenBlocks *copy = blocks_copy(blocks);
    if (lab->nresults == RESULTS_MAX) {
        free(lab->results[0].blocks);
        memmove(lab->results, lab->results + 1, --lab->nresults * sizeof *lab->results);
    }
    if (copy && mem_grow(&lab->results, &lab->cap_results, lab->nresults + 1, sizeof *lab->results))
        lab->results[lab->nresults++] = (Result){.key = *key, .effect = *e, .blocks = copy};
    else
        free(copy);
}

/* ---- runs ---- */

/* The last layer with the same input by both. */
static int shared_layers(const Model *m, const Digest *a, const Digest *b)
{
    int layer = m->cfg.layers;
    while (layer > 0 && digest_cmp(&a[layer], &b[layer]) != 0)
        layer--;
    return layer;
}

/* Takes both sets through the layers, from the deepest state that is kept. next: keys of the measurement that comes when
 * this is the reference, else NULL. */
static Status run_layers(EffectLab *lab, Runner *r, Pipeline *p, const Digest *keys, const Digest *next, MeasureSink *s,
                         Error *err)
{
    s->only = -1;
    if (lab->opt.once)
        s->only = next ? shared_layers(lab->model, keys, next) : 0;
    s->states = lab->states;
    s->keys = keys;
    s->calib = lab->opt.calib;
    s->eval = lab->opt.eval;
    s->dist = lab->opt.dist;
    Sink sink = measure_sink(s);
    return pipeline_run(p, r, &(PipelineOptions){.calib = lab->opt.calib, .sinks = &sink, .nsinks = 1, .dist = lab->opt.dist}, err);
}

typedef struct Output {
    EffectLab *lab;
    Runner *r;
    Reference *f;
    Effect *e; /* NULL: of the float model */
    TokenBlocks *blocks;
    const Pipeline *p;
} Output;

/* *out = the states as the unchanged model has them: turned back. */
static Status turn_back(const Rotation *r, const Stream *in, Stream *out, Error *err)
{
    Rotation *back;
    RETURN_IF_ERROR(rotation_transpose(&back, r, err));
    float *scratch = mem_aligned((size_t)rotation_bytes(back), 1);
    Status st = scratch ? stream_copy(out, in, err) : error_nomem(err, "the last states");
    if (st == ST_OK)
        rotation_right(back, out->data, out->rows, out->width, out->width, scratch);
    free(scratch);
    rotation_free(back);
    return st;
}

/* Of a model whose stream was turned: its states turned back go to logits by the unchanged model's norm and head, which give
 * what its own give of them. */
static Status compare_turned(const Comparison *c, const Output *o, const Rotation *r, const Stream *calib, const Stream *eval,
                             Error *err)
{
    Runner *plain;
    Stream x = {0}, y = {0};
    RETURN_IF_ERROR(runner_unchanged(o->r, &plain, err));
    Status st = turn_back(r, calib, &x, err);
    if (st == ST_OK)
        st = turn_back(r, eval, &y, err);
    if (st == ST_OK)
        st = effect_compare(c, plain, &x, &y, o->e, o->blocks, err);
    stream_fini(&x);
    stream_fini(&y);
    runner_free(plain);
    return st;
}

static Status on_output(void *ctx, const Stream *calib, const Stream *eval, Error *err)
{
    const Output *o = ctx;
    EffectLab *lab = o->lab;
    const Comparison c = {.f = o->f, .predicted = &lab->predicted, .block_of = lab->block_of, .dist = lab->opt.dist,
                          .predicted_all = lab->opt.dist ? &lab->predicted_all : &lab->predicted,
                          .eval_texts = &lab->eval_texts, .calib_texts = &lab->calib_texts, .seed = lab->opt.seed};
    runner_leave_layers(o->r);
    Profile *profile = pool_profile(runner_pool(o->r));
    Phase was = profile_enter(profile, 0, PHASE_LOGITS);
    const Rotation *turned = o->e ? pipeline_turned(o->p) : NULL;
    Status st = turned ? compare_turned(&c, o, turned, calib, eval, err)
              : o->e ? effect_compare(&c, o->r, calib, eval, o->e, o->blocks, err)
                     : reference_make(o->f, o->r, &lab->predicted, calib, eval, err);
    profile_leave(profile, 0, was);
    return st;
}

static Status reference_of(EffectLab *lab, Runner *r, Reference *f, bool peer, const Digest *next, Error *err)
{
    const Model *m = lab->model;
    int16_t *level = mem_zarray((size_t)m->nlinears, sizeof *level);
    Digest *keys = mem_array((size_t)m->cfg.layers + 1, sizeof *keys);
    Pipeline *p = NULL;
    Output o = {.lab = lab, .r = r, .f = f};
    MeasureSink s = {.output = on_output, .ctx = &o};
    Status st = level && keys ? ST_OK : error_nomem(err, "the float reference");
    if (st == ST_OK)
        st = pipeline_new(&p, m, &(Work){.level = level, .peer = peer}, err);
    if (st == ST_OK)
        st = make_keys(lab, r, p, keys, err);
    if (st == ST_OK)
        st = run_layers(lab, r, p, keys, next, &s, err);
    pipeline_free(p);
    free(level);
    free(keys);
    return st;
}

/* Of the model as its checkpoint has it, whatever was changed in the one that is measured. */
static Status make_reference(EffectLab *lab, Runner *r, Reference *f, bool peer, const Digest *next, Error *err)
{
    if (!runner_overlay(r))
        return reference_of(lab, r, f, peer, next, err);
    Runner *plain;
    RETURN_IF_ERROR(runner_unchanged(r, &plain, err));
    Status st = reference_of(lab, plain, f, peer, next, err);
    runner_free(plain);
    return st;
}

static Status measure(EffectLab *lab, Runner *r, Pipeline *p, const Digest *keys, Effect *out, TokenBlocks *blocks,
                      Error *err)
{
    int64_t begin = clock_ns();
    EffectPlan plan = effect_plan(p, lab->opt.calib, lab->opt.eval, pool_threads(runner_pool(r)),
                                  runner_arith(r));
    RETURN_IF_ERROR(effect_fits(&plan, p, r, lab->opt.calib, lab->opt.eval, err));
    Reference *f = &lab->ref[runner_arith(r)];
    if (!f->have)
        RETURN_IF_ERROR(make_reference(lab, r, f, pipeline_work(p)->peer, keys, err));
    const TokenSet *t = lab->opt.all_eval;
    Effect e = {.arith = runner_arith(r), .tokens = t->start[t->samples],
                .predicted = lab->opt.dist ? lab->predicted_all.n : lab->predicted.n,
                .texts = lab->eval_texts.texts};
    Output o = {lab, r, f, &e, blocks, p};
    MeasureSink s = {.output = on_output, .ctx = &o};
    RETURN_IF_ERROR(run_layers(lab, r, p, keys, NULL, &s, err));
    e.first_layer_run = s.first;
    e.layers_run = lab->model->cfg.layers - s.first;
    e.unseen = s.unseen;
    e.seconds = (double)(clock_ns() - begin) * 1e-9;
    keep_result(lab, &keys[lab->model->cfg.layers], &e, blocks);
    *out = e;
    return ST_OK;
}

/* ---- public ---- */

Status effectlab_new(EffectLab **out, const Model *m, const EffectOptions *o, Error *err)
{
    *out = NULL;
    if (o->calib->samples < 1 || o->calib->start[o->calib->samples] < 1)
        return error_set(err, ST_DATA, "calibration set '%s' is empty", o->calib->name ? o->calib->name : "?");
    if (!m->exit.head)
        return error_set(err, ST_DATA, "'%s' has no head and gives no logits: KL divergence and perplexity cannot be "
                         "measured; analyze ranks its layers all the same", m->path);
    EffectLab *lab = mem_zarray(1, sizeof *lab);
    if (!lab)
        return error_nomem(err, "measuring");
    lab->model = m;
    lab->opt = *o;
    lab->opt.cache_dir = NULL; /* the cache keeps its own copy */
    lab->opt.dist = dist_size(o->dist) > 1 ? o->dist : NULL;
    if (!lab->opt.dist) {
        lab->opt.all_calib = o->calib;
        lab->opt.all_eval = o->eval;
    }
    Status st = lab->opt.dist ? predicted_list(&lab->predicted, o->eval, err) : predicted_init(&lab->predicted, o->eval, err);
    if (st == ST_OK && lab->opt.dist)
        st = predicted_init(&lab->predicted_all, lab->opt.all_eval, err);
    if (st == ST_OK)
        st = blocks_new(lab->opt.all_eval, &lab->blocks, &lab->block_of, err);
    if (st == ST_OK)
        st = texts_of(lab->opt.all_eval, &lab->eval_texts, err);
    if (st == ST_OK)
        st = texts_of(lab->opt.all_calib, &lab->calib_texts, err);
    if (st == ST_OK)
        st = statecache_new(&lab->states, o->cache_bytes, o->cache_dir, o->cache_dir_bytes, err);
    if (st != ST_OK) {
        effectlab_free(lab);
        return st;
    }
    *out = lab;
    return ST_OK;
}

void effectlab_free(EffectLab *lab)
{
    if (!lab)
        return;
    for (int i = 0; i < ARITH_MODES; i++)
        reference_fini(&lab->ref[i]);
    statecache_free(lab->states);
    texts_fini(&lab->eval_texts);
    texts_fini(&lab->calib_texts);
    predicted_fini(&lab->predicted);
    predicted_fini(&lab->predicted_all);
    free(lab->blocks);
    free(lab->block_of);
    for (size_t i = 0; i < lab->nresults; i++)
        free(lab->results[i].blocks);
    free(lab->results);
    free(lab);
}

uint64_t effectlab_states(EffectLab *lab)
{
    return statecache_ram_bytes(lab->states);
}

uint64_t effectlab_references(const EffectLab *lab)
{
    uint64_t sum = 0;
    for (int i = 0; i < ARITH_MODES; i++)
        sum += reference_bytes(&lab->ref[i]);
    return sum;
}

void effectlab_limit(EffectLab *lab, uint64_t bytes)
{
    statecache_limit(lab->states, bytes);
}

Status effectlab_measure(EffectLab *lab, Runner *r, Pipeline *p, Effect *out, TokenBlocks **blocks, Error *err)
{
    int layers = lab->model->cfg.layers;
    Digest *keys = mem_array((size_t)layers + 1, sizeof *keys);
    TokenBlocks *made = NULL;
    Status st = keys ? make_keys(lab, r, p, keys, err) : error_nomem(err, "cache keys");
    const Result *known = st == ST_OK ? find_result(lab, &keys[layers]) : NULL;
    if (known) {
        st = take_result(lab, known, out, &made, err);
    } else if (st == ST_OK) {
        made = blocks_copy(lab->blocks);
        st = made ? measure(lab, r, p, keys, out, made, err) : error_nomem(err, "a measurement's blocks");
    }
    free(keys);
    if (blocks)
        *blocks = st == ST_OK ? made : NULL;
    if (!blocks || st != ST_OK)
        free(made);
    return st;
}
