#include "run/engine.h"

#include <string.h>

#include "base/num.h"
#include "run/block/router.h"

/* What a layer needs: values of a row, buffers of a thread, small tensors. The planner asks, and the pass itself. */

int64_t row_need_floats(const RowNeed *n)
{
    return n->x + n->mid + n->act + n->tap + n->up + n->mix;
}

RowNeed layer_row_need(const Model *m, bool act)
{
    const ModelConfig *c = &m->cfg;
    int64_t q = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    RowNeed n = {.x = c->hidden, .mid = max_i64(m->arch->mla ? mla_row_floats(c) : q + 2 * kv, c->inter)};
    q = m->arch->mla ? max_i64((int64_t)c->heads * c->v_dim, max_i64(c->mla.q_rank, c->mla.kv_rank)) : q;
    if (m->arch->fused) /* what comes out of a fused linear is used in place, the result stands beside it */
        n.mid = max_i64(2 * q + 2 * kv, 3 * c->inter);
    if (m->arch->out_gate) /* what q_proj gives stands beside q */
        n.mid = max_i64(n.mid, 3 * q + 2 * kv);
    if (c->delta.layer) {
        n.mid = max_i64(n.mid, delta_row_floats(&c->delta));
        q = max_i64(q, (int64_t)c->delta.value_heads * c->delta.value_dim);
    }
    if (c->compress.kind) {
        n.mid = compressed_row_floats(c);
        q = max_i64(q, max_i64(2 * c->compress.q_rank, c->compress.groups * c->compress.group_rank));
        q = max_i64(q, STAGE_MAX * c->hidden);
    }
    if (c->hyper.copies)
        n.mix = hyper_mix_floats(c);
    if (m->arch->sandwich || c->hyper.copies)
        n.tap = c->hidden;
    if (act)
        n.act = max_i64((c->index.heads ? 4 : 3) * c->hidden, max_i64(max_i64(q, 2 * c->mla.q_rank), c->inter));
    return n;
}

static size_t panel_values(int64_t out, int64_t in)
{
    int64_t rows = panel_rows(in) < out ? panel_rows(in) : out;
    return (size_t)(rows * in);
}

/* What products of a layer pass need in one arithmetic. */
static void need_products(const Model *m, const GemmOps *g, int64_t longest, int64_t largest_block, WorkerNeed *w)
{
    const ModelConfig *c = &m->cfg;
    int64_t head = max_i64(c->head_dim, c->v_dim);
    for (int64_t i = 0; i < m->nlinears; i++) {
        const Linear *l = &m->linears[i];
        worker_need_gemm(w, g, largest_block, min_i64(panel_rows(l->in), l->out), l->in);
    }
    worker_need_gemm(w, g, ATTENTION_ROWS_MAX, head, longest);
    worker_need_gemm(w, g, ATTENTION_ROWS_MAX, longest, head);
    worker_need_gemm(w, g, ATTENTION_ROWS_MAX, 512, c->hidden);
    if (c->moe.experts)
        worker_need_gemm(w, g, PASS_TILE, router_choices(&c->moe), c->hidden);
    if (c->compress.kind) {
        worker_need_gemm(w, g, ATTENTION_ROWS_MAX, compressed_keys(c, longest), head);
        worker_need_gemm(w, g, ATTENTION_ROWS_MAX, head, compressed_keys(c, longest));
    }
}

WorkerNeed layer_worker_need(const Model *m, bool model_mode, int64_t longest, int64_t largest_block)
{
    const ModelConfig *c = &m->cfg;
    WorkerNeed w = {0};
    int64_t cols = 0;
    if (c->moe.experts) /* rows of an expert are packed anew */
        largest_block = BAND_MAX;
    for (int64_t i = 0; i < m->nlinears; i++) {
        const Linear *l = &m->linears[i];
        size_t n = panel_values(l->out, l->in);
        w.panel[0] = n > w.panel[0] ? n : w.panel[0];
        if (l->kind == LK_UP)
            w.panel[1] = n > w.panel[1] ? n : w.panel[1];
        cols = max_i64(cols, min_i64(panel_rows(l->in), l->out));
    }
    need_products(m, gemm_find(false), longest, largest_block, &w); /* a variant's, also in model mode */
    if (model_mode)
        need_products(m, gemm_find(true), longest, largest_block, &w);
    w.tile = (size_t)(largest_block * cols);
    w.scores = (size_t)attention_scores_floats(longest) * (indexer_acts(c, longest) ? 2 : 1);
    if (c->delta.layer && delta_state_floats(&c->delta) > w.scores)
        w.scores = delta_state_floats(&c->delta);
    if (c->compress.kind)
        w.scores = compressed_scores_floats(c, longest);
    w.gemm = max_u64(w.gemm, hyper_gemm_bytes(c));
    return w;
}

void layer_small_tensors(const Model *m, const LayerTensors *t, const TensorInfo *norm[NORM_ROLES])
{
    const TensorInfo *const all[NORM_ROLES] = {
        [NORM_INPUT] = t->input_norm, [NORM_POST] = t->post_norm, [NORM_AFTER_ATTN] = t->after_attn,
        [NORM_AFTER_FFN] = t->after_ffn, [NORM_Q] = t->q_norm, [NORM_K] = t->k_norm, [NORM_Q_A] = t->q_a_norm,
        [NORM_KV_A] = t->kv_a_norm, [NORM_INDEX] = t->index_norm, [INDEX_BIAS] = t->index_bias, [SINKS] = t->sinks,
        [NORM_DELTA] = t->delta_norm, [CONV] = t->conv, [A_LOG] = t->a_log, [DT_BIAS] = t->dt_bias,
        [NORM_COMP] = t->comp_norm, [NORM_INDEX_COMP] = t->index_comp_norm,
        [COMP_APE] = t->comp_ape, [INDEX_COMP_APE] = t->index_comp_ape, [HYPER_ATTN_FN] = t->hyper[0][0],
        [HYPER_ATTN_BASE] = t->hyper[0][1], [HYPER_ATTN_SCALE] = t->hyper[0][2], [HYPER_FFN_FN] = t->hyper[1][0],
        [HYPER_FFN_BASE] = t->hyper[1][1], [HYPER_FFN_SCALE] = t->hyper[1][2],
        [WIDE_SINKS] = m->cfg.compress.kind ? t->sinks : NULL,
    };
    memcpy(norm, all, sizeof all);
}

uint64_t layer_beside_bytes(const Model *m, int64_t longest)
{
    const ModelConfig *c = &m->cfg;
    uint64_t most = 0;
    for (int i = 0; i < c->layers; i++)
        for (const LayerTensors *t = &m->layers[i]; t; t = t->then) {
            const TensorInfo *norm[NORM_ROLES];
            uint64_t sum = 0;
            layer_small_tensors(m, t, norm);
            for (int k = 0; k < NORM_ROLES; k++)
                sum += norm[k] ? norm[k]->nbytes / (uint64_t)dtype_size(norm[k]->dtype) * sizeof(float) : 0;
            most = sum > most ? sum : most;
        }
    int64_t tables = c->compress.kind || m->arch->local_rope ? 2 : 1;
    return most + (uint64_t)(tables * longest * c->rope.dim) * sizeof(float);
}
