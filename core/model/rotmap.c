#include "model/rotmap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "math/hadamard.h"
#include "model/block.h"
#include "model/mtp.h"

/* ---- what the kinds of blocks read and write ---- */

/* What a linear reads. */
typedef enum Reads { READS_STREAM, READS_Q_LATENT, READS_KV_LATENT, READS_HEADS, READS_OTHER, READS_JOINED } Reads;
/* What it writes. */
typedef enum Writes { WRITES_STREAM, WRITES_HEADS, WRITES_QKV, WRITES_Q_LATENT, WRITES_KV_ROPE, WRITES_KV_HEADS,
                      WRITES_OTHER } Writes;

typedef struct Flow {
    int slot; /* of the block's linears; of its small tensors where `tensor` */
    Reads reads;
    Writes writes;
    bool tensor;
    bool experts; /* gate, up (slot 0, 1) or down (2) of every expert */
} Flow;

static const Flow gqa_flow[] = {
    {.slot = GQA_Q, .reads = READS_STREAM, .writes = WRITES_OTHER},
    {.slot = GQA_K, .reads = READS_STREAM, .writes = WRITES_OTHER},
    {.slot = GQA_V, .reads = READS_STREAM, .writes = WRITES_HEADS},
    {.slot = GQA_O, .reads = READS_HEADS, .writes = WRITES_STREAM},
    {.slot = -1},
};
static const Flow gqa_fused_flow[] = {
    {.slot = GQA_Q, .reads = READS_STREAM, .writes = WRITES_QKV},
    {.slot = GQA_O, .reads = READS_HEADS, .writes = WRITES_STREAM},
    {.slot = -1},
};
/* A gate for each value of a head's output: heads can't be turned. */
static const Flow gqa_gate_flow[] = {
    {.slot = GQA_Q, .reads = READS_STREAM, .writes = WRITES_OTHER},
    {.slot = GQA_K, .reads = READS_STREAM, .writes = WRITES_OTHER},
    {.slot = GQA_V, .reads = READS_STREAM, .writes = WRITES_OTHER},
    {.slot = GQA_O, .reads = READS_OTHER, .writes = WRITES_STREAM},
    {.slot = -1},
};
static const Flow mla_flow[] = {
    {.slot = MLA_Q_A, .reads = READS_STREAM, .writes = WRITES_Q_LATENT},
    {.slot = MLA_Q, .reads = READS_Q_LATENT, .writes = WRITES_OTHER},
    {.slot = MLA_KV_A, .reads = READS_STREAM, .writes = WRITES_KV_ROPE},
    {.slot = MLA_KV_B, .reads = READS_KV_LATENT, .writes = WRITES_KV_HEADS},
    {.slot = MLA_O, .reads = READS_HEADS, .writes = WRITES_STREAM},
    {.slot = MLA_INDEX_Q, .reads = READS_Q_LATENT, .writes = WRITES_OTHER},
    {.slot = MLA_INDEX_K, .reads = READS_STREAM, .writes = WRITES_OTHER},
    {.slot = MLA_INDEX_W, .reads = READS_STREAM, .writes = WRITES_OTHER},
    {.slot = -1},
};
static const Flow delta_flow[] = {
    {.slot = DELTA_QKVZ, .reads = READS_STREAM, .writes = WRITES_OTHER},
    {.slot = DELTA_BA, .reads = READS_STREAM, .writes = WRITES_OTHER},
    {.slot = DELTA_O, .reads = READS_OTHER, .writes = WRITES_STREAM},
    {.slot = -1},
};
static const Flow dense_flow[] = {
    {.slot = DENSE_GATE, .reads = READS_STREAM, .writes = WRITES_OTHER},
    {.slot = DENSE_UP, .reads = READS_STREAM, .writes = WRITES_OTHER},
    {.slot = DENSE_DOWN, .reads = READS_OTHER, .writes = WRITES_STREAM},
    {.slot = -1},
};
static const Flow moe_flow[] = {
    {.slot = 0, .reads = READS_STREAM, .writes = WRITES_OTHER, .experts = true},
    {.slot = 1, .reads = READS_STREAM, .writes = WRITES_OTHER, .experts = true},
    {.slot = 2, .reads = READS_OTHER, .writes = WRITES_STREAM, .experts = true},
    {.slot = MOE_ROUTER, .reads = READS_STREAM, .writes = WRITES_OTHER},
    {.slot = MOE_ROUTER_WEIGHT, .reads = READS_STREAM, .writes = WRITES_OTHER, .tensor = true},
    {.slot = MOE_GATE, .reads = READS_STREAM, .writes = WRITES_OTHER},
    {.slot = MOE_UP, .reads = READS_STREAM, .writes = WRITES_OTHER},
    {.slot = MOE_SHARED_GATE, .reads = READS_STREAM, .writes = WRITES_OTHER},
    {.slot = MOE_DOWN, .reads = READS_OTHER, .writes = WRITES_STREAM},
    {.slot = -1},
};
static const Flow mtp_flow[] = {
    {.slot = MTP_EH_PROJ, .reads = READS_JOINED, .writes = WRITES_STREAM},
    {.slot = -1},
};

/* NULL: not known to leave room for a rotation. */
static const Flow *flow_of(const Block *b)
{
    static const struct {
        const BlockType *type;
        const Flow *flow;
    } of[] = {{&block_mla, mla_flow}, {&block_delta, delta_flow}, {&block_dense, dense_flow}, {&block_moe, moe_flow},
              {&block_mtp, mtp_flow}};
    if (b->type == &block_gqa) {
        const GqaConf *c = b->conf;
        return c->gate ? gqa_gate_flow : c->fused ? gqa_fused_flow : gqa_flow;
    }
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        if (of[i].type == b->type)
            return of[i].flow;
    return NULL;
}

/* By Reads and Writes: the rotation, TURN_MATRICES: none. */
static const TurnMatrix matrix_read[] = {
    [READS_STREAM] = TURN_STREAM, [READS_Q_LATENT] = TURN_Q_LATENT, [READS_KV_LATENT] = TURN_KV_LATENT,
    [READS_HEADS] = TURN_HEADS, [READS_OTHER] = TURN_MATRICES, [READS_JOINED] = TURN_STREAM_TWICE};
static const TurnMatrix matrix_written[] = {
    [WRITES_STREAM] = TURN_STREAM, [WRITES_HEADS] = TURN_HEADS, [WRITES_QKV] = TURN_QKV,
    [WRITES_Q_LATENT] = TURN_Q_LATENT, [WRITES_KV_ROPE] = TURN_KV_ROPE, [WRITES_KV_HEADS] = TURN_KV_HEADS,
    [WRITES_OTHER] = TURN_MATRICES};

/* ---- what can't be turned ---- */

static Status check_block(const Model *m, int unit, const Block *b, Error *err)
{
    const Block *j = b->join;
    if ((j && j->type == &block_hyper) || !flow_of(b))
        return error_set(err, ST_DATA, "%s can't be rotated: block '%s' of layer %d mixes the residual stream by tensors "
                         "of its own", m->arch->title, j ? j->type->name : b->type->name, unit);
    if (j && j->small && j->small[RESIDUAL_AFTER])
        return error_set(err, ST_DATA, "%s can't be rotated: norm '%s' stands between a block and the residual stream, and "
                         "its weights don't go through a rotation", m->arch->title, j->small[RESIDUAL_AFTER]->name);
    return ST_OK;
}

const TurnSpec *rotmap_spec(const Model *m)
{
    const TurnSpec *t = m->arch->turn;
    return t && (!t->pedigree || strcmp(t->pedigree, m->pedigree) == 0) ? t : NULL;
}

static const TensorInfo *unit_tensor(const Model *m, int unit, const char *name)
{
    char text[512];
    snprintf(text, sizeof text, "%s%d.%s", model_layers_prefix(m), unit, name);
    return checkpoint_find(m->ckpt, text);
}

/* A layer of multi-token prediction whose norm stands before the decoder's head: its weights could go nowhere. */
static Status check_mtp_head(const Model *m, Error *err)
{
    for (int u = m->cfg.layers; u < m->nunits; u++) {
        const TensorInfo *norm = unit_tensor(m, u, "shared_head.norm.weight");
        if (norm && !unit_tensor(m, u, "shared_head.head.weight"))
            return error_set(err, ST_DATA, "%s can't be rotated: norm '%s' stands before the decoder's head, which takes up "
                             "the weights of the decoder's own norm", m->arch->title, norm->name);
    }
    return ST_OK;
}

/* What the peer has no map for, or breaks. */
static Status check_peer(const Model *m, Error *err)
{
    if (!rotmap_spec(m))
        return error_set(err, ST_DATA, "the original has no rotation for %s: leave --compat peer out", m->arch->title);
    if (m->cfg.tied)
        return error_set(err, ST_DATA, "tie_word_embeddings: the original would rotate the shared table twice and break "
                         "the model; leave --compat peer out, and the head becomes a tensor of its own");
    return ST_OK;
}

Status rotmap_check(const Model *m, bool peer, Error *err)
{
    if (m->cfg.norm == NORM_LAYER)
        return error_set(err, ST_DATA, "%s can't be rotated: its norms subtract the mean, which a rotation changes",
                         m->arch->title);
    if (m->cfg.moe.zero)
        return error_set(err, ST_DATA, "%s can't be rotated: %d of its experts give back what the norm gave, so its weights "
                         "can't go into the linears", m->arch->title, m->cfg.moe.zero);
    for (int i = 0; i < m->nunits; i++)
        for (int k = 0; k < m->units[i].nblocks; k++)
            RETURN_IF_ERROR(check_block(m, i, &m->units[i].block[k], err));
    MtpInfo mtp;
    model_mtp(m, &mtp);
    if (mtp.layers > m->mtp_layers)
        return error_set(err, ST_DATA, "'%s' predicts further tokens from the stream and isn't run here (%s): it would be "
                         "left unrotated", mtp.first, m->mtp_reason ? m->mtp_reason : "there is more than one");
    RETURN_IF_ERROR(check_mtp_head(m, err));
    return peer ? check_peer(m, err) : ST_OK;
}

/* ---- the rotations ---- */

enum { SHIFT_BLOCK = 32 };

void turns_free(Turns *t)
{
    for (int i = 0; i < TURN_MATRICES; i++)
        rotation_free(t->r[i]);
    *t = (Turns){{NULL}};
}

/* The peer multiplies by matrices: its sums, and so its bits, are those of a product. */
static Status as_matrix(Rotation **r, Error *err)
{
    int64_t n = rotation_size(*r);
    float *m = mem_array((size_t)(n * n), sizeof *m);
    Status st = m ? rotation_rows(*r, m, err) : error_nomem(err, "a rotation");
    rotation_free(*r);
    *r = NULL;
    if (st == ST_OK)
        return rotation_dense(r, m, n, err);
    free(m);
    return st;
}

/* One of `size`. Ours is the plain one where the blocks of the shifted one don't fit. */
static Status one_turn(bool peer, bool shifted, int64_t size, int64_t block, const Rotation *stream, const char *what,
                       Rotation **out, Error *err)
{
    if (peer && stream && rotation_size(stream) == size) {
        *out = rotation_share(stream);
        return ST_OK;
    }
    bool fits = size % (block == -1 ? SHIFT_BLOCK : block) == 0;
    Status st = shifted && (peer || fits) ? rotation_shifted(out, size, block, 1, NULL, 0, err)
                                          : rotation_hadamard(out, size, block, err);
    if (st != ST_OK)
        return error_prefix(err, st, "%s %lld: ", what, (long long)size);
    return peer ? as_matrix(out, err) : ST_OK;
}

static Status heads_turn(const Model *m, bool peer, int64_t block, const Rotation *stream, Turns *t, Error *err)
{
    const ModelConfig *c = &m->cfg;
    const TurnSpec *spec = rotmap_spec(m);
    bool shifted = spec && spec->heads == TURN_HEADS_SHIFTED && !c->mla.kv_rank;
    bool mla = c->mla.kv_rank > 0;
    return one_turn(peer, shifted, c->v_dim, block, stream, mla ? "v_head_dim" : "head_dim", &t->r[TURN_HEADS], err);
}

/* diag(1 of n, r times k) */
static Status behind_identity(int64_t n, Rotation *r, int k, Rotation **out, Error *err)
{
    Rotation **part = mem_zarray((size_t)k + 1, sizeof(Rotation *));
    int64_t *size = mem_zarray((size_t)k + 1, sizeof *size);
    for (int i = 0; part && i < k; i++)
        part[i + 1] = r;
    if (size)
        size[0] = n;
    Status st = part && size ? rotation_blocks(out, part, size, k + 1, err) : error_nomem(err, "a rotation");
    free(part);
    free(size);
    return st;
}

static Status mla_turns(const Model *m, bool peer, int64_t block, const Rotation *stream, Turns *t, Error *err)
{
    const MlaConfig *a = &m->cfg.mla;
    if (a->q_rank)
        RETURN_IF_ERROR(one_turn(peer, true, a->q_rank, block, stream, "q_lora_rank", &t->r[TURN_Q_LATENT], err));
    RETURN_IF_ERROR(one_turn(peer, false, a->kv_rank, block, stream, "kv_lora_rank", &t->r[TURN_KV_LATENT], err));
    RETURN_IF_ERROR(rotation_blocks(&t->r[TURN_KV_ROPE], (Rotation *const[]){t->r[TURN_KV_LATENT], NULL},
                                    (int64_t[]){a->kv_rank, a->rope}, 2, err));
    return behind_identity(a->nope, t->r[TURN_HEADS], 1, &t->r[TURN_KV_HEADS], err);
}

static Status all_turns(const Model *m, bool peer, int64_t block, const Rotation *stream, Turns *t, Error *err)
{
    const ModelConfig *c = &m->cfg;
    if (stream)
        t->r[TURN_STREAM] = rotation_share(stream);
    else
        RETURN_IF_ERROR(one_turn(peer, false, c->hidden, block, NULL, "hidden_size", &t->r[TURN_STREAM], err));
    RETURN_IF_ERROR(rotation_blocks(&t->r[TURN_STREAM_TWICE], (Rotation *const[]){t->r[TURN_STREAM], t->r[TURN_STREAM]},
                                    (int64_t[]){0, 0}, 2, err));
    RETURN_IF_ERROR(heads_turn(m, peer, block, stream, t, err));
    if (c->mla.kv_rank)
        return mla_turns(m, peer, block, stream, t, err);
    return behind_identity((int64_t)(c->heads + c->kv_heads) * c->head_dim, t->r[TURN_HEADS], c->kv_heads,
                           &t->r[TURN_QKV], err);
}

Status rotmap_turns(const Model *m, bool peer, int64_t block, const Rotation *stream, Turns *out, Error *err)
{
    *out = (Turns){{NULL}};
    if (stream && rotation_size(stream) != m->cfg.hidden)
        return error_set(err, ST_DATA, "a rotation of size %lld is not for this model, whose hidden_size is %lld",
                         (long long)rotation_size(stream), (long long)m->cfg.hidden);
    Status st = all_turns(m, peer, block, stream, out, err);
    if (st != ST_OK)
        turns_free(out);
    return st;
}

/* ---- the steps ---- */

static Status add(TurnSteps *s, TurnStep step, Error *err)
{
    if (!mem_grow(&s->step, &s->cap, (size_t)s->n + 1, sizeof *s->step))
        return error_nomem(err, "the rotation of the model");
    s->step[s->n++] = step;
    return ST_OK;
}

/* What of a unit a pass over its linears asks for. */
typedef struct Ask {
    TurnAction action;
    bool stream; /* of the last two actions: rotations of the stream, else the others */
    TurnSteps *out;
} Ask;

/* The norms between what is read and the linear. */
static bool norms_of(const Block *b, Reads reads, const TensorInfo *norm[2])
{
    norm[0] = norm[1] = NULL;
    switch (reads) {
    case READS_STREAM:
        norm[0] = b->join && b->join->small ? b->join->small[RESIDUAL_BEFORE] : NULL;
        break;
    case READS_Q_LATENT:
        norm[0] = b->small[MLA_Q_A_NORM];
        break;
    case READS_KV_LATENT:
        norm[0] = b->small[MLA_KV_A_NORM];
        break;
    case READS_JOINED:
        norm[0] = b->small[MTP_ENORM];
        norm[1] = b->small[MTP_HNORM];
        break;
    case READS_HEADS:
    case READS_OTHER:
        break;
    }
    return norm[0] != NULL;
}

static Status norm_once(TurnSteps *s, const TensorInfo *norm, Error *err)
{
    for (int64_t i = 0; i < s->n; i++)
        if (s->step[i].action == TURN_NORM_ONE && s->step[i].norm[0] == norm)
            return ST_OK;
    return norm ? add(s, (TurnStep){.action = TURN_NORM_ONE, .linear = -1, .norm = {norm}}, err) : ST_OK;
}

static Status flow_step(const Ask *ask, const Block *b, const Flow *f, Reads reads, int64_t linear,
                        const TensorInfo *tensor, Error *err)
{
    TurnStep step = {.action = ask->action, .linear = linear, .tensor = tensor};
    if (ask->action == TURN_ABSORB)
        return norms_of(b, reads, step.norm) ? add(ask->out, step, err) : ST_OK;
    if (ask->action == TURN_NORM_ONE) {
        norms_of(b, reads, step.norm);
        RETURN_IF_ERROR(norm_once(ask->out, step.norm[0], err));
        return norm_once(ask->out, step.norm[1], err);
    }
    step.matrix = ask->action == TURN_INPUTS ? matrix_read[reads] : matrix_written[f->writes];
    bool stream = step.matrix == TURN_STREAM || step.matrix == TURN_STREAM_TWICE;
    return step.matrix == TURN_MATRICES || stream != ask->stream ? ST_OK : add(ask->out, step, err);
}

static Status experts_step(const Ask *ask, const Model *m, const Block *b, const Flow *f, Error *err)
{
    const MoeConf *c = b->conf;
    for (int e = 0; e < m->cfg.moe.experts; e++)
        RETURN_IF_ERROR(flow_step(ask, b, f, f->reads, c->expert + 3 * e + expert_place(c->rule, f->slot), NULL, err));
    return ST_OK;
}

static Status block_steps(const Ask *ask, const Model *m, const Block *b, Error *err)
{
    for (const Flow *f = flow_of(b); f->slot >= 0; f++) {
        /* without a latent, q reads the stream itself */
        bool plain_q = f->reads == READS_Q_LATENT && b->linear[MLA_Q_A] < 0;
        Reads reads = plain_q ? READS_STREAM : f->reads;
        if (f->experts) {
            RETURN_IF_ERROR(experts_step(ask, m, b, f, err));
            continue;
        }
        const TensorInfo *t = f->tensor ? b->small[f->slot] : NULL;
        int64_t linear = f->tensor ? -1 : b->linear[f->slot];
        if (t || linear >= 0)
            RETURN_IF_ERROR(flow_step(ask, b, f, reads, linear, t, err));
    }
    return ST_OK;
}

/* What a unit of multi-token prediction has beside its blocks: a table, a norm and a head of its own, which may be
 * copies of the decoder's. */
static Status mtp_steps(const Model *m, int unit, TurnSteps *out, Error *err)
{
    const TensorInfo *norm = unit_tensor(m, unit, "shared_head.norm.weight");
    const TensorInfo *head = unit_tensor(m, unit, "shared_head.head.weight");
    const TensorInfo *table = unit_small(&m->units[unit], "embed");
    if (head && norm)
        RETURN_IF_ERROR(add(out, (TurnStep){.action = TURN_ABSORB, .linear = -1, .tensor = head, .norm = {norm}}, err));
    if (head && norm)
        RETURN_IF_ERROR(norm_once(out, norm, err));
    const TensorInfo *of[] = {table == m->entry.table ? NULL : table, head};
    for (int i = 0; i < 2; i++)
        if (of[i])
            RETURN_IF_ERROR(add(out, (TurnStep){.action = TURN_INPUTS, .linear = -1, .tensor = of[i]}, err));
    return ST_OK;
}

static Status ends_steps(const Model *m, TurnSteps *out, Error *err)
{
    if (m->exit.head) {
        RETURN_IF_ERROR(add(out, (TurnStep){.action = TURN_ABSORB, .linear = -1, .norm = {m->exit.norm}}, err));
        RETURN_IF_ERROR(norm_once(out, m->exit.norm, err));
    }
    RETURN_IF_ERROR(add(out, (TurnStep){.action = TURN_INPUTS, .linear = -1, .tensor = m->entry.table}, err));
    return m->exit.head ? add(out, (TurnStep){.action = TURN_INPUTS, .linear = -1}, err) : ST_OK;
}

Status rotmap_steps(const Model *m, int unit, TurnSteps *out, Error *err)
{
    /* the order in which the peer rounds: norms, then of each rotation what writes before what reads */
    const Ask order[] = {{TURN_ABSORB, false, out},  {TURN_NORM_ONE, false, out}, {TURN_OUTPUTS, true, out},
                         {TURN_INPUTS, true, out},   {TURN_OUTPUTS, false, out},  {TURN_INPUTS, false, out}};
    *out = (TurnSteps){0};
    if (unit < 0)
        return ends_steps(m, out, err);
    const Unit *u = &m->units[unit];
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        for (int k = 0; k < u->nblocks; k++)
            if (flow_of(&u->block[k]))
                RETURN_IF_ERROR(block_steps(&order[i], m, &u->block[k], err));
    return unit < m->cfg.layers ? ST_OK : mtp_steps(m, unit, out, err);
}
