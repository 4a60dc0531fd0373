/* What passes and measurements found: kept, marked stale, scored. */
#include "session/results.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/assignment.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/table.h"

void results_init(Results *r)
{
    r->stopped.run = r->stopped.layer = -1;
}

Status results_open(Results *r, const Model *m, Error *err)
{
    r->slot = mem_zarray((size_t)m->nlinears, sizeof *r->slot);
    if (!r->slot)
        return error_nomem(err, "the results");
    r->nslots = m->nlinears;
    return ST_OK;
}

void results_forget_stopped(Results *r)
{
    free(r->stopped.selected);
    r->stopped = (Stopped){.run = -1, .layer = -1};
}

void results_forget_measured(Results *r)
{
    r->nmeasured = 0;
}

void results_close(Results *r)
{
    for (int64_t i = 0; i < r->nslots; i++)
        if (r->slot[i].needs)
            linear_result_fini(&r->slot[i].r);
    free(r->slot);
    r->slot = NULL;
    r->nslots = 0;
    r->version++;
    results_forget_measured(r);
    results_forget_stopped(r);
}

void results_fini(Results *r)
{
    results_close(r);
    free(r->measured);
    quantize_done_free(r->quantized);
}

void results_store(Results *rs, LinearResult *r, unsigned needs)
{
    ResultSlot *sl = &rs->slot[r->linear];
    if (sl->needs)
        linear_result_fini(&sl->r);
    *sl = (ResultSlot){*r, needs, false};
    rs->version++;
}

void results_layer(Results *r, int run, int layer, const char *sha)
{
    Stopped *st = &r->stopped;
    if (st->run == run && st->layer == layer)
        memcpy(st->prev_sha, st->sha, sizeof st->prev_sha);
    else
        st->prev_sha[0] = 0;
    st->run = run;
    st->layer = layer + 1;
    snprintf(st->sha, sizeof st->sha, "%s", sha);
}

/* ---- measurements ---- */

Status results_measured(Results *r, const Measured *m, Error *err)
{
    if (!mem_grow(&r->measured, &r->cap_measured, r->nmeasured + 1, sizeof *r->measured))
        return error_nomem(err, "measurements");
    size_t i = 0; /* the newest measurement of an assignment replaces an older one and moves to the end */
    while (i < r->nmeasured && !(digest_cmp(&r->measured[i].key, &m->key) == 0 &&
                                 r->measured[i].effect.tokens == m->effect.tokens))
        i++;
    if (i < r->nmeasured) {
        memmove(&r->measured[i], &r->measured[i + 1], (r->nmeasured - i - 1) * sizeof *r->measured);
        r->nmeasured--;
    }
    r->measured[r->nmeasured++] = *m;
    r->version++;
    return ST_OK;
}

const Measured *results_find(const Session *s, const int16_t *level)
{
    const Results *r = s->results;
    if (!s->model || !r->nmeasured)
        return NULL;
    Digest key = assignment_key(s, level);
    const Measured *best = NULL;
    for (size_t i = 0; i < r->nmeasured; i++)
        if (digest_cmp(&r->measured[i].key, &key) == 0 &&
            (!best || r->measured[i].effect.tokens >= best->effect.tokens))
            best = &r->measured[i];
    return best;
}

const Effect *session_effect(Session *s, int *stale_edits)
{
    if (stale_edits)
        *stale_edits = 0;
    const Measured *m = results_find(s, s->assignment->level);
    if (m)
        return &m->effect;
    if (!s->results->nmeasured)
        return NULL;
    m = &s->results->measured[s->results->nmeasured - 1];
    if (stale_edits)
        *stale_edits = s->assignment->version > m->version ? (int)(s->assignment->version - m->version) : 1;
    return &m->effect;
}

const Effect *session_base_effect(Session *s)
{
    const Measured *m = results_find(s, s->assignment->opened);
    return m ? &m->effect : NULL;
}

/* ---- identity ---- */

void identity_now(const Session *s, char out[65])
{
    Hasher h;
    hasher_init(&h);
    hasher_str(&h, s->model ? s->model->fingerprint : "");
    hasher_str(&h, s->calib_path ? s->calib_path : session_calib(s));
    hasher_u64(&h, (uint64_t)s->opt.arith);
    hasher_u64(&h, s->opt.peer);
    hasher_u64(&h, (uint64_t)s->opt.max_samples);
    hasher_u64(&h, (uint64_t)s->opt.seq_len);
    Digest d = hasher_end(&h);
    digest_hex(&d, out);
}

Digest assignment_key(const Session *s, const int16_t *level)
{
    Hasher h;
    char id[65];
    hasher_init(&h);
    identity_now(s, id);
    hasher_str(&h, id);
    hasher_str(&h, s->eval_path ? s->eval_path : session_eval(s));
    hasher_u64(&h, (uint64_t)s->opt.ctx);
    hasher_u64(&h, s->opt.seed);
    for (int i = 0; i + 1 < s->assignment->nlevels; i++) {
        qspec_hash(&h, &s->assignment->levels[i].act);
        qspec_hash(&h, &s->assignment->levels[i].weight);
    }
    hasher_bytes(&h, level, (size_t)s->model->nlinears * sizeof *level);
    return hasher_end(&h);
}

void results_mark_stale(Session *s)
{
    Results *r = s->results;
    char now[65];
    identity_now(s, now);
    if (!r->slot || strcmp(now, r->identity) == 0)
        return;
    for (int64_t i = 0; i < r->nslots; i++)
        r->slot[i].stale = r->slot[i].needs != 0;
    r->version++;
    table_scores_changed(s->table);
}

DataInfo session_calib_info(const Session *s)
{
    return s->results->calib_info;
}

DataInfo session_eval_info(const Session *s)
{
    return s->results->eval_info;
}

const QuantizeDone *session_quantized(const Session *s)
{
    return s->results->quantized;
}

/* ---- scores ---- */

Score session_score(const Session *s, const Metric *m, int64_t linear)
{
    const Assignment *a = s->assignment;
    const ResultSlot *sl = &s->results->slot[linear];
    if ((sl->needs & m->needs) != m->needs)
        return (Score){.state = queue_will_score(s, m, linear) ? SCORE_QUEUED : SCORE_NONE, .value = NAN};
    if (session_unseen(s, linear) && (m->needs & NEED_INPUT))
        return (Score){.state = SCORE_NONE, .value = NAN, .reason = "no token reached it"};
    char *why = s->results->why;
    const QConfig *q = level_config(a, a->level[linear] ? a->level[linear] : a->home[linear]);
    why[0] = 0;
    double v = m->score(&sl->r, q, why, WHY_MAX);
    if (isnan(v) || why[0])
        return (Score){.state = SCORE_FAILED, .value = NAN, .reason = why[0] ? why : "not defined for this input"};
    return (Score){.state = sl->stale ? SCORE_STALE : SCORE_OK, .value = v};
}

bool session_has_run(const Session *s, const Metric *m)
{
    for (int64_t i = 0; s->model && i < s->model->nlinears; i++)
        if ((s->results->slot[i].needs & m->needs) == m->needs)
            return true;
    return false;
}

const LinearResult *session_result(const Session *s, int64_t linear)
{
    const ResultSlot *sl = &s->results->slot[linear];
    return sl->needs ? &sl->r : NULL;
}

const char *session_run_arith(const Session *s, const Metric *m)
{
    (void)m;
    return s->results->run_arith[0] ? s->results->run_arith : arith_name(s->opt.arith);
}

double level_error(const Session *s, int64_t linear, int level)
{
    const ResultSlot *sl = &s->results->slot[linear];
    const QConfig *q = level_config(s->assignment, level);
    if (!q || session_unseen(s, linear)) /* where no token of the set comes, nothing is lost on the set */
        return 0;
    if (!sl->needs || !sl->r.err.have)
        return NAN;
    return local_error_score(&sl->r.err, q);
}

double local_sum(const Session *s, const int16_t *level)
{
    double sum = 0;
    for (int64_t i = 0; i < s->model->nlinears; i++)
        if (s->model->linears[i].layer < s->model->cfg.layers) /* no other layer leads to the logits */
            sum += level_error(s, i, level[i]);
    return sum;
}
