#include "measure/effect.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "measure/logitpass.h"
#include "measure/spread.h"
#include "measure/statecache.h"

/* Below this many nats a token's KL is taken by the difference form, because the short form subtracts numbers that are
 * nearly equal: float32 logits leave it about 1e-6 nats of noise. */
#define KL_SHORT_FORM_MIN 1e-4

/* The float model's part of every comparison. */
typedef struct Reference {
    bool have;
    Stream normed;   /* predicted rows of the evaluation set after the final norm */
    LogitRows rows;
    float *last;     /* calibration set: last decoder output, [rows][hidden] */
} Reference;

/* A finished measurement under the key of its last boundary. */
typedef struct Result {
    Digest key;
    Effect effect;
} Result;

enum { MODES = 2, RESULTS_MAX = 4096 };

struct EffectLab {
    const Model *model;
    EffectOptions opt;
    StateCache *states;
    Texts eval_texts, calib_texts;
    int64_t predicted;
    int *sample_of;     /* [predicted] */
    int64_t *row_of;    /* [predicted] row of the evaluation stream */
    int32_t *next;      /* [predicted] the token that follows */
    Reference ref[MODES];
    pthread_mutex_t lock; /* guards arith and results: lookups come from another thread */
    ArithMode arith;      /* of the last measurement: what lookups mean */
    char changes[65];     /* overlay_digest of its runner */
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

/* keys[i], i in 0..layers: everything that can influence the input of layer i (DESIGN 6); keys[layers]: the last
 * output. Float is the same key whatever the recipe, so all assignments share the states before their first quantized
 * linear. */
static Status make_keys(const EffectLab *lab, ArithMode arith, const char *changes, const QConfig *levels, int nlevels,
                        const int16_t *level, Digest *keys, Error *err)
{
    const Model *m = lab->model;
    Digest *config = mem_array((size_t)nlevels, sizeof *config);
    if (!config)
        return error_nomem(err, "cache keys");
    for (int i = 0; i < nlevels; i++)
        config[i] = hash_config(&levels[i]);
    Hasher h;
    hasher_init(&h);
    hasher_str(&h, "slimscope boundary state 2");
    hasher_str(&h, m->fingerprint);
    hasher_str(&h, lab->opt.calib->sha256);
    hasher_str(&h, lab->opt.eval->sha256);
    hasher_str(&h, arith_name(arith));
    hasher_u64(&h, lab->opt.peer);
    if (changes[0])
        hasher_str(&h, changes);
    int64_t at = 0;
    for (int layer = 0; layer <= m->cfg.layers; layer++) {
        for (; at < m->nlinears && m->linears[at].layer < layer; at++) {
            int16_t l = level ? level[at] : 0;
            hasher_u64(&h, l > 0);
            if (l > 0 && l <= nlevels)
                hasher_bytes(&h, config[l - 1].b, sizeof config[l - 1].b);
        }
        Hasher fork = h;
        keys[layer] = hasher_end(&fork);
    }
    free(config);
    return ST_OK;
}

static bool find_result(EffectLab *lab, const Digest *key, Effect *out)
{
    pthread_mutex_lock(&lab->lock);
    size_t i = 0;
    while (i < lab->nresults && digest_cmp(&lab->results[i].key, key) != 0)
        i++;
    bool found = i < lab->nresults;
    if (found)
        *out = lab->results[i].effect;
    pthread_mutex_unlock(&lab->lock);
    if (!found)
        return false;
    out->from_cache = true;
    out->first_layer_run = lab->model->cfg.layers;
    out->layers_run = 0;
    out->seconds = 0;
    return true;
}

/* Forgetting a result (memory short, too many) costs a measurement, nothing else. */
static void keep_result(EffectLab *lab, const Digest *key, const Effect *e)
{
    pthread_mutex_lock(&lab->lock);
    if (lab->nresults == RESULTS_MAX)
        memmove(lab->results, lab->results + 1, --lab->nresults * sizeof *lab->results);
    if (mem_grow(&lab->results, &lab->cap_results, lab->nresults + 1, sizeof *lab->results))
        lab->results[lab->nresults++] = (Result){.key = *key, .effect = *e};
    pthread_mutex_unlock(&lab->lock);
}

/* Deepest layer whose input is cached; 0 (the embedding) always can be had. */
static int deepest(EffectLab *lab, const Digest *keys)
{
    int layer = lab->model->cfg.layers;
    while (layer > 0 && !statecache_has(lab->states, &keys[layer]))
        layer--;
    return layer;
}

/* ---- the run through the layers ---- */

/* A boundary state: two streams at the input of `layer`, and what the layers before it left float. */
enum { PARTS = 5 };

/* The number of parts. */
static int parts_of(const Model *m, int layer, const Stream *const s[2], Unseen *u, StatePart parts[PARTS])
{
    int n = 0;
    for (int i = 0; i < 2; i++)
        parts[n++] = (StatePart){s[i]->data, (size_t)s[i]->rows * (size_t)s[i]->width * sizeof *s[i]->data};
    for (int i = 0; i < 2; i++)
        if (runner_carries(m, layer, s[i]))
            parts[n++] = (StatePart){s[i]->select,
                                     (size_t)s[i]->rows * (size_t)s[i]->select_words * sizeof *s[i]->select};
    parts[n++] = (StatePart){u, sizeof *u};
    return n;
}

typedef struct Keeping {
    EffectLab *lab;
    const Digest *keys;
    Unseen *unseen; /* the job's */
} Keeping;

static Status keep_state(void *ctx, int layer, Stream **streams, int nstreams, Error *err)
{
    (void)err;
    (void)nstreams;
    Keeping *k = ctx;
    StatePart parts[PARTS];
    int n = parts_of(k->lab->model, layer + 1, (const Stream *[]){streams[0], streams[1]}, k->unseen, parts);
    statecache_put(k->lab->states, &k->keys[layer + 1], parts, n);
    return ST_OK;
}

/* Streams at the deepest cached boundary into s (both initialised when ST_OK), which layer that is into *first, what
 * stayed float before it into *unseen. */
static Status start_streams(EffectLab *lab, Runner *r, const Digest *keys, Stream s[2], int *first, Unseen *unseen,
                            Error *err)
{
    const TokenSet *sets[2] = {lab->opt.calib, lab->opt.eval};
    s[0] = s[1] = (Stream){0};
    for (int layer = deepest(lab, keys); layer > 0; layer = deepest(lab, keys)) {
        StatePart parts[PARTS];
        Status st = ST_OK;
        for (int i = 0; i < 2 && st == ST_OK; i++) {
            st = stream_init(&s[i], sets[i]->samples, sets[i]->start, lab->model->cfg.stream_width, err);
            if (st == ST_OK)
                st = stream_set_ids(&s[i], sets[i]->ids, err);
            if (st == ST_OK && runner_carries(lab->model, layer, &s[i]))
                st = runner_carry(&s[i], err);
        }
        bool got = false;
        if (st == ST_OK) {
            int n = parts_of(lab->model, layer, (const Stream *[]){&s[0], &s[1]}, unseen, parts);
            got = statecache_get(lab->states, &keys[layer], parts, n);
        }
        if (got) {
            *first = layer;
            return ST_OK;
        }
        stream_fini(&s[0]);
        stream_fini(&s[1]);
        s[0] = s[1] = (Stream){0};
        RETURN_IF_ERROR(st);
        if (statecache_has(lab->states, &keys[layer])) /* of another size: can't be ours */
            break;
    }
    *first = 0;
    *unseen = (Unseen){.first = -1};
    RETURN_IF_ERROR(runner_embed(r, sets[0], &s[0], err));
    Status st = runner_embed(r, sets[1], &s[1], err);
    if (st != ST_OK)
        stream_fini(&s[0]);
    return st;
}

/* Both streams behind the last layer into s, which the caller frees when ST_OK. */
static Status run_layers(EffectLab *lab, Runner *r, const QuantJobOptions *o, const Digest *keys, Stream s[2],
                         int *first, Unseen *unseen, Error *err)
{
    QuantJob *job;
    RETURN_IF_ERROR(quantjob_new(&job, lab->model, o, err));
    Status st = start_streams(lab, r, keys, s, first, quantjob_unseen(job), err);
    if (st == ST_OK) {
        Keeping k = {lab, keys, quantjob_unseen(job)};
        Stream *streams[2] = {&s[0], &s[1]};
        Schedule plan = {.first = *first, .last = lab->model->cfg.layers, .job = quantjob_layer_job(job),
                         .unit_done = keep_state, .ctx = &k};
        if (plan.first < plan.last)
            st = schedule_forward(r, streams, 2, &plan, err);
        if (st != ST_OK) {
            stream_fini(&s[0]);
            stream_fini(&s[1]);
        }
        *unseen = *quantjob_unseen(job);
    }
    quantjob_free(job);
    return st;
}

/* Final norm of the rows that predict a token. */
static Status predicted_rows(EffectLab *lab, Runner *r, const Stream *eval, Stream *normed, Error *err)
{
    int64_t start[2] = {0, lab->predicted};
    Stream rows;
    RETURN_IF_ERROR(stream_init(&rows, 1, start, eval->width, err));
    for (int64_t i = 0; i < lab->predicted; i++)
        memcpy(rows.data + i * rows.width, eval->data + lab->row_of[i] * rows.width,
               (size_t)rows.width * sizeof *rows.data);
    Status st = runner_final_norm(r, &rows, normed, NULL, 0, err);
    stream_fini(&rows);
    return st;
}

/* ---- the float reference ---- */

static void reference_fini(Reference *f)
{
    stream_fini(&f->normed);
    logit_rows_fini(&f->rows);
    free(f->last);
    *f = (Reference){0};
}

static Status reference_of(EffectLab *lab, Runner *r, Reference *f, Error *err)
{
    const Model *m = lab->model;
    int16_t *level = mem_zarray((size_t)m->nlinears, sizeof *level);
    Digest *keys = mem_array((size_t)m->cfg.layers + 1, sizeof *keys);
    Stream s[2];
    Unseen none;
    int first = 0;
    Status st = level && keys ? ST_OK : error_nomem(err, "the float reference");
    QuantJobOptions o = {.level = level, .peer = lab->opt.peer};
    if (st == ST_OK)
        st = make_keys(lab, runner_arith(r), "", NULL, 0, level, keys, err);
    if (st == ST_OK)
        st = run_layers(lab, r, &o, keys, s, &first, &none, err);
    free(level);
    free(keys);
    RETURN_IF_ERROR(st);
    size_t n = (size_t)s[0].rows * (size_t)s[0].width;
    f->last = mem_array(n, sizeof *f->last);
    if (f->last)
        memcpy(f->last, s[0].data, n * sizeof *f->last);
    else
        st = error_nomem(err, "the float reference");
    if (st == ST_OK)
        st = predicted_rows(lab, r, &s[1], &f->normed, err);
    /* rounded logits (model mode) and capped ones are not linear in the hidden state: no use for mean_w */
    bool linear = runner_arith(r) != ARITH_MODEL && lab->model->cfg.final_softcap == 0;
    if (st == ST_OK)
        st = logit_rows_run(r, &f->normed, lab->next, linear, &f->rows, err);
    if (st == ST_DATA)
        error_prefix(err, st, "the float model: ");
    f->have = st == ST_OK;
    stream_fini(&s[0]);
    stream_fini(&s[1]);
    if (st != ST_OK)
        reference_fini(f);
    return st;
}

/* Of the model as its checkpoint has it, whatever was changed in the one that is measured. */
static Status make_reference(EffectLab *lab, Runner *r, Reference *f, Error *err)
{
    if (!runner_overlay(r))
        return reference_of(lab, r, f, err);
    Runner *plain;
    RETURN_IF_ERROR(runner_unchanged(r, &plain, err));
    Status st = reference_of(lab, plain, f, err);
    runner_free(plain);
    return st;
}

/* ---- comparing ---- */

/* KL of every predicted token: lse_q - lse_f - m.(h_q - h_f) with m = sum_v p_f(v) W_v (DESIGN 6); exactly 0 where both
 * hidden states are the same; the difference form where the result is small, or where logits are rounded. */
static Status token_kl(EffectLab *lab, Runner *r, const Reference *f, const Stream *normed, const LogitRows *rows,
                       double *kl, Error *err)
{
    int64_t *which = mem_array((size_t)lab->predicted, sizeof *which), n = 0, width = normed->width;
    if (!which)
        return error_nomem(err, "the divergence of each token");
    for (int64_t i = 0; i < lab->predicted; i++) {
        const float *hq = normed->data + i * width, *hf = f->normed.data + i * width;
        kl[i] = 0;
        if (memcmp(hq, hf, (size_t)width * sizeof *hq) == 0)
            continue;
        if (f->rows.mean_w) {
            const float *m = f->rows.mean_w + i * width;
            double dot = 0;
            for (int64_t k = 0; k < width; k++)
                dot += (double)m[k] * ((double)hq[k] - (double)hf[k]);
            kl[i] = rows->lse[i] - f->rows.lse[i] - dot;
        }
        if (kl[i] < KL_SHORT_FORM_MIN)
            which[n++] = i;
    }
    Status st = logit_rows_kl(r, &f->normed, &f->rows, normed, rows, which, n, kl, err);
    free(which);
    return st;
}

static Status fill_eval(EffectLab *lab, const Reference *f, const LogitRows *q, double *kl, Effect *e, Error *err)
{
    enum { KL, TOP, NLL_F, NLL_Q, SUMS };
    UnitSums u[SUMS] = {{0}};
    Status st = ST_OK;
    for (int k = 0; k < SUMS && st == ST_OK; k++)
        st = unit_sums_init(&u[k], lab->eval_texts.count, err);
    if (st == ST_OK) {
        for (int64_t i = 0; i < lab->predicted; i++) {
            int t = lab->eval_texts.of_sample[lab->sample_of[i]];
            u[KL].sum[t] += kl[i];
            u[TOP].sum[t] += f->rows.top[i] == q->top[i];
            u[NLL_F].sum[t] += f->rows.lse[i] - (double)f->rows.target[i];
            u[NLL_Q].sum[t] += q->lse[i] - (double)q->target[i];
            for (int k = 0; k < SUMS; k++)
                u[k].count[t] += 1;
        }
        uint64_t seed = lab->opt.seed; /* the same draws for all four, so that their errors belong together */
        e->kl_mean = unit_sums_mean(&u[KL]);
        e->kl_se = unit_sums_error(&u[KL], seed, NULL);
        e->top1 = unit_sums_mean(&u[TOP]);
        e->top1_se = unit_sums_error(&u[TOP], seed, NULL);
        e->ppl_float = exp(unit_sums_mean(&u[NLL_F]));
        e->ppl_float_se = unit_sums_error(&u[NLL_F], seed, exp);
        e->ppl_quant = exp(unit_sums_mean(&u[NLL_Q]));
        e->ppl_quant_se = unit_sums_error(&u[NLL_Q], seed, exp);
        e->kl_median = sorted_median(kl, lab->predicted);
        e->kl_p99 = sorted_rank(kl, lab->predicted, 0.99);
        e->kl_max = kl[lab->predicted - 1];
    }
    for (int k = 0; k < SUMS; k++)
        unit_sums_fini(&u[k]);
    return st;
}

static Status fill_calib(EffectLab *lab, const Reference *f, const Stream *calib, Effect *e, Error *err)
{
    UnitSums u;
    RETURN_IF_ERROR(unit_sums_init(&u, lab->calib_texts.count, err));
    for (int s = 0; s < calib->samples; s++) {
        int t = lab->calib_texts.of_sample[s];
        int64_t end = calib->start[s + 1] * calib->width;
        for (int64_t i = calib->start[s] * calib->width; i < end; i++) {
            double d = (double)calib->data[i] - (double)f->last[i];
            u.sum[t] += d * d;
        }
        u.count[t] += (double)((calib->start[s + 1] - calib->start[s]) * calib->width);
    }
    e->out_mse = unit_sums_mean(&u);
    e->out_mse_se = unit_sums_error(&u, lab->opt.seed ^ 0x5bd1e995u, NULL);
    unit_sums_fini(&u);
    return ST_OK;
}

static Status compare(EffectLab *lab, Runner *r, const Reference *f, const Stream s[2], Effect *e, Error *err)
{
    Stream normed;
    LogitRows rows;
    RETURN_IF_ERROR(predicted_rows(lab, r, &s[1], &normed, err));
    Status st = logit_rows_run(r, &normed, lab->next, false, &rows, err);
    if (st != ST_OK) {
        if (st == ST_DATA)
            error_prefix(err, st, "the quantized model: ");
        stream_fini(&normed);
        return st;
    }
    double *kl = mem_array((size_t)lab->predicted, sizeof *kl);
    st = kl ? token_kl(lab, r, f, &normed, &rows, kl, err) : error_nomem(err, "the divergence of each token");
    if (st == ST_OK)
        st = fill_eval(lab, f, &rows, kl, e, err);
    if (st == ST_OK)
        st = fill_calib(lab, f, &s[0], e, err);
    free(kl);
    logit_rows_fini(&rows);
    stream_fini(&normed);
    return st;
}

/* ---- public ---- */

/* Which rows predict a token: all but the last of each window. */
static Status list_predicted(EffectLab *lab, Error *err)
{
    const TokenSet *t = lab->opt.eval;
    size_t n = (size_t)t->start[t->samples];
    lab->sample_of = mem_array(n, sizeof *lab->sample_of);
    lab->row_of = mem_array(n, sizeof *lab->row_of);
    lab->next = mem_array(n, sizeof *lab->next);
    if (!lab->sample_of || !lab->row_of || !lab->next)
        return error_nomem(err, "the evaluation tokens");
    for (int s = 0; s < t->samples; s++) {
        for (int64_t i = t->start[s]; i + 1 < t->start[s + 1]; i++) {
            lab->sample_of[lab->predicted] = s;
            lab->row_of[lab->predicted] = i;
            lab->next[lab->predicted++] = t->ids[i + 1];
        }
    }
    if (lab->predicted == 0)
        return error_set(err, ST_DATA, "evaluation set '%s' has no text of two tokens: nothing is predicted",
                         t->name ? t->name : "?");
    return ST_OK;
}

Status effectlab_new(EffectLab **out, const Model *m, const EffectOptions *o, Error *err)
{
    *out = NULL;
    if (o->calib->samples < 1 || o->calib->start[o->calib->samples] < 1)
        return error_set(err, ST_DATA, "calibration set '%s' is empty", o->calib->name ? o->calib->name : "?");
    EffectLab *lab = mem_zarray(1, sizeof *lab);
    if (!lab || pthread_mutex_init(&lab->lock, NULL) != 0) {
        free(lab);
        return error_nomem(err, "measuring");
    }
    lab->model = m;
    lab->opt = *o;
    lab->opt.cache_dir = NULL; /* the cache keeps its own copy */
    Status st = list_predicted(lab, err);
    if (st == ST_OK)
        st = texts_of(o->eval, &lab->eval_texts, err);
    if (st == ST_OK)
        st = texts_of(o->calib, &lab->calib_texts, err);
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
    for (int i = 0; i < MODES; i++)
        reference_fini(&lab->ref[i]);
    statecache_free(lab->states);
    texts_fini(&lab->eval_texts);
    texts_fini(&lab->calib_texts);
    free(lab->sample_of);
    free(lab->row_of);
    free(lab->next);
    free(lab->results);
    pthread_mutex_destroy(&lab->lock);
    free(lab);
}

static Status measure(EffectLab *lab, Runner *r, const QuantJobOptions *o, const Digest *keys, Effect *out, Error *err)
{
    int64_t begin = clock_ns();
    int first;
    Reference *f = &lab->ref[runner_arith(r) == ARITH_MODEL];
    QuantJob *trial; /* what can't run is refused before the float reference is computed */
    RETURN_IF_ERROR(quantjob_new(&trial, lab->model, o, err));
    quantjob_free(trial);
    if (!f->have)
        RETURN_IF_ERROR(make_reference(lab, r, f, err));
    Stream s[2];
    Unseen unseen;
    RETURN_IF_ERROR(run_layers(lab, r, o, keys, s, &first, &unseen, err));
    const TokenSet *t = lab->opt.eval;
    Effect e = {.tokens = t->start[t->samples], .predicted = lab->predicted, .texts = lab->eval_texts.texts,
                .first_layer_run = first, .layers_run = lab->model->cfg.layers - first,
                .unseen = unseen};
    Status st = compare(lab, r, f, s, &e, err);
    stream_fini(&s[0]);
    stream_fini(&s[1]);
    RETURN_IF_ERROR(st);
    e.seconds = (double)(clock_ns() - begin) * 1e-9;
    keep_result(lab, &keys[lab->model->cfg.layers], &e);
    *out = e;
    return ST_OK;
}

Status effectlab_measure(EffectLab *lab, Runner *r, const QConfig *levels, int nlevels, const int16_t *level,
                         Effect *out, Error *err)
{
    int layers = lab->model->cfg.layers;
    Digest *keys = mem_array((size_t)layers + 1, sizeof *keys);
    if (!keys)
        return error_nomem(err, "cache keys");
    char changes[65];
    overlay_digest(runner_overlay(r), changes);
    pthread_mutex_lock(&lab->lock);
    lab->arith = runner_arith(r);
    memcpy(lab->changes, changes, sizeof changes);
    pthread_mutex_unlock(&lab->lock);
    Status st = make_keys(lab, runner_arith(r), changes, levels, nlevels, level, keys, err);
    QuantJobOptions o = {.levels = levels, .nlevels = nlevels, .level = level, .peer = lab->opt.peer};
    if (st == ST_OK && !find_result(lab, &keys[layers], out))
        st = measure(lab, r, &o, keys, out, err);
    free(keys);
    return st;
}

/* Keys of an assignment in the last measurement's arithmetic; NULL when memory is short. Caller frees. */
static Digest *keys_now(EffectLab *lab, const QConfig *levels, int nlevels, const int16_t *level)
{
    pthread_mutex_lock(&lab->lock);
    ArithMode arith = lab->arith;
    char changes[65];
    memcpy(changes, lab->changes, sizeof changes);
    pthread_mutex_unlock(&lab->lock);
    Digest *keys = mem_array((size_t)lab->model->cfg.layers + 1, sizeof *keys);
    if (keys && make_keys(lab, arith, changes, levels, nlevels, level, keys, NULL) == ST_OK)
        return keys;
    free(keys);
    return NULL;
}

bool effectlab_lookup(EffectLab *lab, const QConfig *levels, int nlevels, const int16_t *level, Effect *out)
{
    Digest *keys = keys_now(lab, levels, nlevels, level);
    bool found = keys && find_result(lab, &keys[lab->model->cfg.layers], out);
    free(keys);
    return found;
}

int effectlab_first_layer(EffectLab *lab, const QConfig *levels, int nlevels, const int16_t *level)
{
    Effect e;
    Digest *keys = keys_now(lab, levels, nlevels, level);
    int first = 0;
    if (keys)
        first = find_result(lab, &keys[lab->model->cfg.layers], &e) ? lab->model->cfg.layers : deepest(lab, keys);
    free(keys);
    return first;
}
