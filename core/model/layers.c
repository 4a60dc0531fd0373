#include "model/layers.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "model/storage.h"

enum { NAME_MAX_BYTES = 160 };

const char *open_file_of(const Open *o, const TensorInfo *t)
{
    const Checkpoint *c = o->m->ckpt;
    return t || checkpoint_files(c) == 1 ? checkpoint_file_path(c, t ? t->file : 0) : o->m->path;
}

static bool float_dtype(DType t)
{
    return t == DT_F32 || t == DT_F16 || t == DT_BF16;
}

static void shape_text(Str *b, int ndim, const int64_t *shape)
{
    str_putc(b, '[');
    for (int i = 0; i < ndim; i++)
        str_printf(b, "%s%lld", i ? "," : "", (long long)shape[i]);
    str_putc(b, ']');
}

static Status wrong_shape(Open *o, const TensorInfo *t, int ndim, const int64_t *want, const char *keys)
{
    Str a = {0}, b = {0};
    shape_text(&a, t->ndim, t->shape);
    shape_text(&b, ndim, want);
    error_set(o->err, ST_DATA, "'%s': tensor '%s' has shape %s, config.json says %s (%s)", open_file_of(o, t), t->name,
              str_text(&a), str_text(&b), keys);
    str_free(&a);
    str_free(&b);
    return ST_DATA;
}

static Status take_shape(Open *o, const char *name, bool optional, int ndim, const int64_t *want, const char *keys,
                         const TensorInfo **out)
{
    const TensorInfo *t = checkpoint_find(o->m->ckpt, name);
    *out = t;
    if (!t && optional)
        return ST_OK;
    if (!t)
        return error_set(o->err, ST_DATA, "'%s': tensor '%s' is missing", open_file_of(o, NULL), name);
    if (!float_dtype(t->dtype))
        return error_set(o->err, ST_DATA, "'%s': tensor '%s' is %s: only F32, F16 and BF16 weights can be used",
                         open_file_of(o, t), name, dtype_name(t->dtype));
    if (t->ndim != ndim || memcmp(t->shape, want, (size_t)ndim * sizeof *want) != 0)
        return wrong_shape(o, t, ndim, want, keys);
    bool added;
    if (!map_add(&o->used, t->name, strlen(t->name), 0, &added))
        return error_nomem(o->err, "the model's tensors");
    int64_t n = 1;
    for (int i = 0; i < ndim; i++)
        n *= want[i]; /* fits: nbytes of the tensor does */
    o->m->params += added ? n : 0;
    return ST_OK;
}

Status open_take(Open *o, const char *name, bool optional, int64_t rows, int64_t cols, const char *keys,
                 const TensorInfo **out)
{
    return take_shape(o, name, optional, cols ? 2 : 1, (const int64_t[]){rows, cols}, keys, out);
}

const char *open_layers_prefix(const Open *o)
{
    return o->m->arch->bare_names ? "layers." : "model.layers.";
}

/* A tensor of one layer; the name is made from `fmt` under "model.layers.N.". */
static Status take_vector(Open *o, int layer, int64_t n, int64_t cols, const char *keys, const TensorInfo **out,
                          const char *fmt, ...) __attribute__((format(printf, 7, 8)));
static Status take_vector(Open *o, int layer, int64_t n, int64_t cols, const char *keys, const TensorInfo **out,
                          const char *fmt, ...)
{
    char name[NAME_MAX_BYTES];
    int k = snprintf(name, sizeof name, "%s%d.", open_layers_prefix(o), layer);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name + k, sizeof name - (size_t)k, fmt, ap);
    va_end(ap);
    return open_take(o, name, false, n, cols, keys, out);
}

/* One linear to be found. `input`: index of the first that sees the same input, -1 for its own. */
typedef struct Want {
    LinearKind kind;
    int64_t out, in;
    const char *keys;
    int32_t input, expert;
} Want;

/* A linear without its tensors. */
static Status name_linear(Open *o, int layer, const char *module, const char *name, const Want *w, int32_t *index)
{
    Model *m = o->m;
    char text[NAME_MAX_BYTES];
    if (!mem_grow(&m->linears, &o->linears_cap, (size_t)m->nlinears + 1, sizeof *m->linears))
        return error_nomem(o->err, "the model's layers");
    *index = (int32_t)m->nlinears;
    Linear *l = &m->linears[m->nlinears++];
    snprintf(text, sizeof text, "%s%d.%s%s%s", open_layers_prefix(o), layer, module, *module ? "." : "", name);
    *l = (Linear){.name = arena_strdup(&m->arena, text), .layer = layer, .kind = w->kind, .out = w->out, .in = w->in,
                  .input = w->input < 0 ? *index : w->input, .expert = w->expert, .group = -1};
    if (!l->name || !map_add(&m->by_name, l->name, strlen(l->name), *index, NULL))
        return error_nomem(o->err, "the model's layers");
    return ST_OK;
}

/* Adds linear "model.layers.N.<module>.<name>" (module "": of the layer itself) and gives its index. */
static Status add_linear(Open *o, int layer, const char *module, const char *name, const Want *w, int32_t *index)
{
    char text[NAME_MAX_BYTES];
    RETURN_IF_ERROR(name_linear(o, layer, module, name, w, index));
    Linear *l = &o->m->linears[*index];
    RETURN_IF_ERROR(storage_take(o, l->name, 0, l->out, l->in, w->keys, &l->weight, &l->store));
    snprintf(text, sizeof text, "%s.weight", l->name);
    if (!l->weight)
        RETURN_IF_ERROR(open_take(o, text, false, l->out, l->in, w->keys, &l->weight));
    snprintf(text, sizeof text, "%s.bias", l->name);
    return open_take(o, text, true, l->out, 0, w->keys, &l->bias);
}

/* Makes linears [first, end of the list) a fused group. */
static Status close_group(Open *o, int32_t first, const char *label)
{
    Model *m = o->m;
    if (!mem_grow(&m->groups, &o->groups_cap, (size_t)m->ngroups + 1, sizeof *m->groups))
        return error_nomem(o->err, "the model's layers");
    FusedGroup *g = &m->groups[m->ngroups];
    *g = (FusedGroup){.first = first, .count = (int32_t)m->nlinears - first};
    snprintf(g->label, sizeof g->label, "%s", g->count > 1 ? label : ".");
    for (int64_t i = first; i < m->nlinears; i++)
        m->linears[i].group = (int32_t)m->ngroups;
    m->ngroups++;
    return ST_OK;
}

static Status add_alone(Open *o, int layer, const char *module, const char *name, const Want *w, int32_t *index)
{
    RETURN_IF_ERROR(add_linear(o, layer, module, name, w, index));
    return close_group(o, *index, ".");
}

/* ---- attention ---- */

static Status take_o(Open *o, int layer, LayerTensors *t)
{
    const ModelConfig *c = &o->m->cfg;
    const char *keys = c->mla.kv_rank ? "hidden_size, num_attention_heads x v_head_dim"
                                      : "hidden_size, num_attention_heads x head_dim";
    Want w = {LK_O, c->hidden, (int64_t)c->heads * c->v_dim, keys, -1, -1};
    return add_alone(o, layer, o->attn, "o_proj", &w, &t->o);
}

static Status take_qkv(Open *o, int layer, LayerTensors *t)
{
    const char *q_keys = o->m->arch->out_gate ? "2 num_attention_heads x head_dim, hidden_size"
                                              : "num_attention_heads x head_dim, hidden_size";
    static const char kv_keys[] = "num_key_value_heads x head_dim, hidden_size";
    const ModelConfig *c = &o->m->cfg;
    int64_t q = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    if (o->m->arch->fused) {
        Want w = {LK_QKV, q + 2 * kv, c->hidden,
                  "(num_attention_heads + 2 num_key_value_heads) x head_dim, hidden_size", -1, -1};
        RETURN_IF_ERROR(take_o(o, layer, t)); /* the family's definition order */
        return add_alone(o, layer, o->attn, "qkv_proj", &w, &t->q);
    }
    Want w = {LK_Q, o->m->arch->out_gate ? 2 * q : q, c->hidden, q_keys, -1, -1};
    RETURN_IF_ERROR(add_linear(o, layer, o->attn, "q_proj", &w, &t->q));
    w = (Want){LK_K, kv, c->hidden, kv_keys, t->q, -1};
    RETURN_IF_ERROR(add_linear(o, layer, o->attn, "k_proj", &w, &t->k));
    w.kind = LK_V;
    RETURN_IF_ERROR(add_linear(o, layer, o->attn, "v_proj", &w, &t->v));
    RETURN_IF_ERROR(close_group(o, t->q, "qkv"));
    return take_o(o, layer, t);
}

static Status take_indexer(Open *o, int layer, LayerTensors *t)
{
    static const char dim[] = "index_head_dim";
    const ModelConfig *c = &o->m->cfg;
    const IndexConfig *x = &c->index;
    char module[64];
    snprintf(module, sizeof module, "%s.indexer", o->attn);
    Want q = {LK_OTHER, (int64_t)x->heads * x->dim, c->mla.q_rank, "index_n_heads x index_head_dim, q_lora_rank", t->q,
              -1};
    Want k = {LK_OTHER, x->dim, c->hidden, "index_head_dim, hidden_size", t->q_a, -1};
    Want w = {LK_OTHER, x->heads, c->hidden, "index_n_heads, hidden_size", t->q_a, -1};
    RETURN_IF_ERROR(add_alone(o, layer, module, "wq_b", &q, &t->index_q));
    RETURN_IF_ERROR(add_alone(o, layer, module, "wk", &k, &t->index_k));
    RETURN_IF_ERROR(take_vector(o, layer, x->dim, 0, dim, &t->index_norm, "%s.k_norm.weight", module));
    RETURN_IF_ERROR(take_vector(o, layer, x->dim, 0, dim, &t->index_bias, "%s.k_norm.bias", module));
    return add_alone(o, layer, module, "weights_proj", &w, &t->index_w);
}

static Status take_mla(Open *o, int layer, LayerTensors *t)
{
    const ModelConfig *c = &o->m->cfg;
    const MlaConfig *a = &c->mla;
    Want q = {LK_Q, (int64_t)c->heads * c->head_dim, a->q_rank ? a->q_rank : c->hidden,
              "num_attention_heads x (qk_nope_head_dim + qk_rope_head_dim), q_lora_rank or hidden_size", -1, -1};
    Want kv_a = {LK_OTHER, a->kv_rank + a->rope, c->hidden, "kv_lora_rank + qk_rope_head_dim, hidden_size", -1, -1};
    Want kv_b = {LK_OTHER, (int64_t)c->heads * (a->nope + a->v), a->kv_rank,
                 "num_attention_heads x (qk_nope_head_dim + v_head_dim), kv_lora_rank", -1, -1};
    if (a->q_rank) {
        Want q_a = {LK_OTHER, a->q_rank, c->hidden, "q_lora_rank, hidden_size", -1, -1};
        RETURN_IF_ERROR(add_alone(o, layer, o->attn, "q_a_proj", &q_a, &t->q_a));
        RETURN_IF_ERROR(take_vector(o, layer, a->q_rank, 0, "q_lora_rank", &t->q_a_norm,
                                    "%s.q_a_layernorm.weight", o->attn));
    }
    RETURN_IF_ERROR(add_alone(o, layer, o->attn, a->q_rank ? "q_b_proj" : "q_proj", &q, &t->q));
    kv_a.input = a->q_rank ? t->q_a : t->q;
    RETURN_IF_ERROR(add_alone(o, layer, o->attn, "kv_a_proj_with_mqa", &kv_a, &t->kv_a));
    RETURN_IF_ERROR(take_vector(o, layer, a->kv_rank, 0, "kv_lora_rank", &t->kv_a_norm,
                                "%s.kv_a_layernorm.weight", o->attn));
    RETURN_IF_ERROR(add_alone(o, layer, o->attn, "kv_b_proj", &kv_b, &t->kv_b));
    RETURN_IF_ERROR(take_o(o, layer, t));
    return c->index.heads && !c->index.shared[layer] ? take_indexer(o, layer, t) : ST_OK;
}

/* in_proj_qkvz and in_proj_ba read the same input, yet are loaded as two linears by those who serve the model: each is
 * a group of its own, so that the small one can stay float. */
static Status take_delta(Open *o, int layer, LayerTensors *t)
{
    static const char module[] = "linear_attn";
    const ModelConfig *c = &o->m->cfg;
    const DeltaConfig *d = &c->delta;
    int64_t keys = (int64_t)d->key_heads * d->key_dim, values = (int64_t)d->value_heads * d->value_dim;
    int64_t conv[] = {2 * keys + values, 1, d->kernel};
    Want qkvz = {LK_OTHER, 2 * keys + 2 * values, c->hidden,
                 "2 linear_num_key_heads x linear_key_head_dim + 2 linear_num_value_heads x linear_value_head_dim, "
                 "hidden_size", -1, -1};
    Want ba = {LK_OTHER, 2 * (int64_t)d->value_heads, c->hidden, "2 linear_num_value_heads, hidden_size", -1, -1};
    Want out = {LK_OTHER, c->hidden, values, "hidden_size, linear_num_value_heads x linear_value_head_dim", -1, -1};
    char name[NAME_MAX_BYTES];
    snprintf(name, sizeof name, "model.layers.%d.%s.conv1d.weight", layer, module);
    RETURN_IF_ERROR(take_shape(o, name, false, 3, conv, "linear_num_*_heads x linear_*_head_dim, 1, "
                               "linear_conv_kernel_dim", &t->conv));
    RETURN_IF_ERROR(add_alone(o, layer, module, "in_proj_qkvz", &qkvz, &t->qkvz));
    ba.input = t->qkvz;
    RETURN_IF_ERROR(add_alone(o, layer, module, "in_proj_ba", &ba, &t->ba));
    RETURN_IF_ERROR(take_vector(o, layer, d->value_heads, 0, "linear_num_value_heads", &t->dt_bias, "%s.dt_bias",
                                module));
    RETURN_IF_ERROR(take_vector(o, layer, d->value_heads, 0, "linear_num_value_heads", &t->a_log, "%s.A_log", module));
    RETURN_IF_ERROR(take_vector(o, layer, d->value_dim, 0, "linear_value_head_dim", &t->delta_norm, "%s.norm.weight",
                                module));
    return add_alone(o, layer, module, "out_proj", &out, &t->o);
}

/* ---- feed-forward ---- */

/* gate, up and down of a block `width` wide; `input`: the linear whose input gate and up share, -1 for their own. */
static Status take_dense(Open *o, int layer, const char *module, int64_t width, const char *keys, LayerTensors *t)
{
    const MoeRule *r = o->m->arch->moe; /* experts and dense blocks name their linears alike */
    const char *gate = r && o->m->cfg.moe.layer[layer] ? r->gate : "gate_proj";
    const char *up = r && o->m->cfg.moe.layer[layer] ? r->up : "up_proj";
    const char *down = r && o->m->cfg.moe.layer[layer] ? r->down : "down_proj";
    int64_t h = o->m->cfg.hidden;
    if (o->m->arch->fused) {
        Want w = {LK_GATE_UP, 2 * width, h, keys, -1, -1};
        RETURN_IF_ERROR(add_alone(o, layer, module, "gate_up_proj", &w, &t->gate));
    } else {
        Want w = {LK_GATE, width, h, keys, -1, -1};
        RETURN_IF_ERROR(add_linear(o, layer, module, gate, &w, &t->gate));
        w = (Want){LK_UP, width, h, keys, t->gate, -1};
        RETURN_IF_ERROR(add_linear(o, layer, module, up, &w, &t->up));
        RETURN_IF_ERROR(close_group(o, t->gate, "gu"));
    }
    Want w = {LK_DOWN, h, width, keys, -1, -1};
    return add_alone(o, layer, module, down, &w, &t->down);
}

int expert_place(const MoeRule *r, int part)
{
    return r->down_second && part ? 3 - part : part;
}

/* A tensor of all experts, [experts][rows] or, with cols, [experts][rows][cols]. */
static Status take_stacked(Open *o, const char *name, int64_t rows, int64_t cols, const TensorInfo **out)
{
    const Model *m = o->m;
    int64_t want[3] = {m->cfg.moe.experts, rows, cols};
    const TensorInfo *t = checkpoint_find(m->ckpt, name);
    *out = t;
    if (!t || !cols)
        return open_take(o, name, false, want[0], rows, "num_local_experts, intermediate_size", out);
    if (t->ndim != 3 || t->shape[0] != want[0] || t->shape[1] != rows || t->shape[2] != cols)
        return wrong_shape(o, t, 3, want, "num_local_experts, intermediate_size, hidden_size");
    if (!float_dtype(t->dtype))
        return error_set(o->err, ST_DATA, "'%s': tensor '%s' is %s: only F32, F16 and BF16 weights can be used",
                         open_file_of(o, t), name, dtype_name(t->dtype));
    bool added;
    if (!map_add(&o->used, t->name, strlen(t->name), 0, &added))
        return error_nomem(o->err, "the model's tensors");
    if (added)
        o->m->params += want[0] * rows * cols; /* fits: nbytes of the tensor does */
    return ST_OK;
}

/* How the experts of a layer stand in stacked tensors (specs/models.md 2.6). */
typedef enum StackLayout {
    STACK_ROWS,     /* C: gate_up_proj [experts][2 inter][hidden], gate first; down_proj [experts][hidden][inter] */
    STACK_COLUMNS,  /* D: [experts][hidden][2 inter], gate first; [experts][inter][hidden] */
    STACK_IN_TURN,  /* E: as D, with gate and up in turn, and biases */
    STACK_ROW_TURNS,/* E in MXFP4: as C, with gate and up in turn, and biases */
    STACK_APART     /* F: gate_proj, up_proj and down_proj, [experts][out][in] each */
} StackLayout;

static bool layout_in_turn(StackLayout layout)
{
    return layout == STACK_IN_TURN || layout == STACK_ROW_TURNS;
}

/* Makes *l the view of expert e's gate, up or down (part 0, 1, 2) in the stacked tensors. */
static void stack_view(const ModelConfig *c, StackLayout layout, int e, int part, Linear *l)
{
    int64_t h = c->hidden, n = c->moe.inter, outs = part == 2 ? h : layout == STACK_APART ? n : 2 * n;
    bool turn = layout_in_turn(layout) && part < 2;
    l->at = e * outs * l->in;
    if (layout == STACK_COLUMNS || layout == STACK_IN_TURN) {
        l->at += part != 1 ? 0 : turn ? 1 : n;
        l->out_step = turn ? 2 : 1;
        l->in_step = outs;
    } else {
        l->at += part != 1 || layout == STACK_APART ? 0 : turn ? l->in : n * h;
        l->out_step = turn ? 2 * l->in : l->in;
        l->in_step = 1;
    }
    l->bias_at = e * outs + (turn ? part : 0);
    l->bias_step = turn ? 2 : 1;
}

/* The stacked tensors of a layer, by part: gate, up (the same tensor as gate's but in STACK_APART), down. */
typedef struct Stacks {
    const TensorInfo *weight[3], *bias[3];
    const WeightStore *store[3];
} Stacks;

/* The name of a stacked tensor under the layer's experts, without ".weight". */
static void stack_name(const Open *o, int layer, StackLayout layout, int part, char text[NAME_MAX_BYTES])
{
    const MoeRule *r = o->m->arch->moe;
    const char *const apart[] = {r->gate, r->up, r->down}, *const joined[] = {"gate_up_proj", NULL, "down_proj"};
    bool alone = layout == STACK_APART;
    snprintf(text, NAME_MAX_BYTES, "%s%d.%s.%s%s", open_layers_prefix(o), layer, r->block, alone ? "" : "experts.",
             alone ? apart[part] : joined[part]);
}

static Status take_stack(Open *o, int layer, StackLayout layout, int part, Stacks *s)
{
    static const char keys[] = "num_local_experts, intermediate_size, hidden_size";
    const ModelConfig *c = &o->m->cfg;
    int64_t h = c->hidden, n = c->moe.inter, outs = part == 2 ? h : layout == STACK_APART ? n : 2 * n;
    int64_t ins = part == 2 ? n : h;
    bool columns = layout == STACK_COLUMNS || layout == STACK_IN_TURN;
    char text[NAME_MAX_BYTES];
    stack_name(o, layer, layout, part, text);
    if (!columns)
        RETURN_IF_ERROR(storage_take(o, text, c->moe.experts, outs, ins, keys, &s->weight[part], &s->store[part]));
    if (layout == STACK_APART)
        strcat(text, ".weight"); /* NAME_MAX_BYTES is more than twice what the parts of a name can have */
    if (!s->weight[part])
        RETURN_IF_ERROR(take_stacked(o, text, columns ? ins : outs, columns ? outs : ins, &s->weight[part]));
    if (!layout_in_turn(layout))
        return ST_OK;
    strcat(text, "_bias");
    return take_stacked(o, text, outs, 0, &s->bias[part]);
}

static Status take_stacked_experts(Open *o, int layer, StackLayout layout, LayerTensors *t)
{
    const MoeRule *r = o->m->arch->moe;
    const ModelConfig *c = &o->m->cfg;
    int64_t h = c->hidden, n = c->moe.inter;
    Stacks s = {0};
    for (int i = 0; i < 3; i++) {
        if (i != 1 || layout == STACK_APART) {
            RETURN_IF_ERROR(take_stack(o, layer, layout, i, &s));
        } else {
            s.weight[i] = s.weight[0];
            s.bias[i] = s.bias[0];
            s.store[i] = s.store[0];
        }
    }
    for (int e = 0; e < c->moe.experts; e++) {
        const char *const names[] = {r->gate, r->up, r->down};
        static const LinearKind kinds[] = {LK_GATE, LK_UP, LK_DOWN};
        char module[64];
        int32_t index, gate = 0;
        snprintf(module, sizeof module, "%s.experts.%d", r->block, e);
        for (int place = 0; place < 3; place++) {
            int i = expert_place(r, place);
            bool last = i == 2;
            Want w = {kinds[i], last ? h : n, last ? n : h, r->inter_key, i == 1 ? gate : -1, e};
            RETURN_IF_ERROR(name_linear(o, layer, module, names[i], &w, &index));
            gate = i == 0 ? index : gate;
            Linear *l = &o->m->linears[index];
            l->weight = s.weight[i];
            l->bias = s.bias[i];
            l->store = s.store[i];
            stack_view(c, layout, e, i, l);
        }
        t->expert = e ? t->expert : gate;
    }
    return close_group(o, t->expert, "experts");
}

/* The layout of a layer's experts where they are stacked, told by names and shapes; the library's own (rows) where two
 * shapes fit. */
static bool found_stacked(const Open *o, int layer, StackLayout *layout)
{
    const ModelConfig *c = &o->m->cfg;
    char text[NAME_MAX_BYTES];
    bool turn = o->m->arch->moe->stacked;
    stack_name(o, layer, STACK_ROWS, 0, text);
    const TensorInfo *t = checkpoint_find(o->m->ckpt, text);
    if (turn) {
        *layout = !t && storage_found(o, text) ? STACK_ROW_TURNS : STACK_IN_TURN;
        return true;
    }
    if (t || storage_found(o, text)) {
        bool columns = t && t->ndim == 3 && t->shape[1] == c->hidden && t->shape[2] != c->hidden;
        *layout = columns ? STACK_COLUMNS : STACK_ROWS;
        return true;
    }
    stack_name(o, layer, STACK_APART, 0, text);
    *layout = STACK_APART;
    strcat(text, ".weight");
    t = checkpoint_find(o->m->ckpt, text);
    return t && t->ndim == 3;
}

/* All experts are one group: deployments run them as one operation with one scheme. */
static Status take_experts(Open *o, int layer, LayerTensors *t)
{
    const MoeRule *r = o->m->arch->moe;
    const ModelConfig *c = &o->m->cfg;
    const char *const names[] = {r->gate, r->up, r->down};
    int64_t width = c->moe.inter;
    char module[64];
    for (int e = 0; e < c->moe.experts; e++) {
        int32_t index[3] = {0};
        snprintf(module, sizeof module, "%s.experts.%d", r->block, e);
        for (int place = 0; place < 3; place++) {
            int i = expert_place(r, place);
            const Want want[] = {
                {LK_GATE, width, c->hidden, r->inter_key, -1, e},
                {LK_UP, width, c->hidden, r->inter_key, index[0], e},
                {LK_DOWN, c->hidden, width, r->inter_key, -1, e},
            };
            RETURN_IF_ERROR(add_linear(o, layer, module, names[i], &want[i], &index[i]));
        }
        t->expert = e ? t->expert : index[0];
    }
    return close_group(o, t->expert, "experts");
}

/* Experts that give back what they read have no weights; some files hold a few for them, which nobody misses. */
static Status ignore_zero_experts(Open *o, int layer)
{
    const MoeRule *r = o->m->arch->moe;
    const char *const parts[] = {r->gate, r->up, r->down};
    char text[NAME_MAX_BYTES];
    for (int i = 0; i < 3 * o->m->cfg.moe.zero; i++) {
        snprintf(text, sizeof text, "model.layers.%d.%s.experts.%d.%s.weight", layer, r->block,
                 o->m->cfg.moe.experts + i / 3, parts[i % 3]);
        const TensorInfo *t = checkpoint_find(o->m->ckpt, text);
        if (t && !map_add(&o->used, t->name, strlen(t->name), 0, NULL))
            return error_nomem(o->err, "the model's tensors");
    }
    return ST_OK;
}

/* The family's name of the router's bias, or that of checkpoints whose experts are stacked apart (F). */
static const char *router_bias_name(const Open *o, int layer)
{
    static const char apart[] = "router_bias";
    const MoeRule *r = o->m->arch->moe;
    char text[NAME_MAX_BYTES];
    snprintf(text, sizeof text, "%s%d.%s.%s", open_layers_prefix(o), layer, r->block, apart);
    return checkpoint_find(o->m->ckpt, text) ? apart : r->bias;
}

static Status take_moe(Open *o, int layer, LayerTensors *t)
{
    const MoeRule *r = o->m->arch->moe;
    const ModelConfig *c = &o->m->cfg;
    int64_t n = c->moe.experts + c->moe.zero;
    const char *name = r->router ? r->router : "gate";
    Want router = {LK_ROUTER, n, c->hidden, r->experts_key, -1, -1};
    if (!r->router_linear)
        RETURN_IF_ERROR(take_vector(o, layer, n, c->hidden, r->experts_key, &t->router, "%s.%s.weight", r->block,
                                    name));
    else if (!r->router_wide)
        RETURN_IF_ERROR(add_alone(o, layer, r->block, name, &router, &t->router_linear));
    if (r->bias && !t->hash)
        RETURN_IF_ERROR(take_vector(o, layer, n, 0, r->experts_key, &t->router_bias, "%s.%s", r->block,
                                    router_bias_name(o, layer)));
    StackLayout layout;
    RETURN_IF_ERROR(found_stacked(o, layer, &layout) ? take_stacked_experts(o, layer, layout, t)
                                                     : take_experts(o, layer, t));
    if (r->router_wide)
        RETURN_IF_ERROR(add_alone(o, layer, r->block, name, &router, &t->router_linear));
    RETURN_IF_ERROR(ignore_zero_experts(o, layer));
    if (!c->moe.shared_inter)
        return ST_OK;
    char module[64];
    snprintf(module, sizeof module, "%s.%s", r->block, r->shared);
    RETURN_IF_ERROR(take_dense(o, layer, module, c->moe.shared_inter,
                               r->shared_inter_key ? r->shared_inter_key : "n_shared_experts", t));
    if (!r->shared_gate)
        return ST_OK;
    Want w = {LK_OTHER, 1, c->hidden, "hidden_size", t->gate, -1};
    return add_alone(o, layer, r->block, "shared_expert_gate", &w, &t->shared_gate);
}

/* ---- a layer ---- */

static Status take_norms(Open *o, int layer, LayerTensors *t)
{
    const Arch *a = o->m->arch;
    const ModelConfig *c = &o->m->cfg;
    int64_t h = c->hidden;
    RETURN_IF_ERROR(take_vector(o, layer, h, 0, "hidden_size", &t->input_norm, "input_layernorm.weight"));
    RETURN_IF_ERROR(take_vector(o, layer, h, 0, "hidden_size", a->sandwich ? &t->after_attn : &t->post_norm,
                                "post_attention_layernorm.weight"));
    if (a->sandwich) {
        RETURN_IF_ERROR(take_vector(o, layer, h, 0, "hidden_size", &t->post_norm, "pre_feedforward_layernorm.weight"));
        RETURN_IF_ERROR(take_vector(o, layer, h, 0, "hidden_size", &t->after_ffn, "post_feedforward_layernorm.weight"));
    }
    if (a->sinks)
        RETURN_IF_ERROR(take_vector(o, layer, c->heads, 0, "num_attention_heads", &t->sinks, "self_attn.sinks"));
    if (c->qk_norm == QK_NORM_NONE || (c->delta.layer && c->delta.layer[layer]))
        return ST_OK;
    bool full = c->qk_norm == QK_NORM_FULL;
    RETURN_IF_ERROR(take_vector(o, layer, c->head_dim * (full ? (int64_t)c->heads : 1), 0, "head_dim", &t->q_norm,
                                "self_attn.q_norm.weight"));
    return take_vector(o, layer, c->head_dim * (full ? (int64_t)c->kv_heads : 1), 0, "head_dim", &t->k_norm,
                       "self_attn.k_norm.weight");
}

static void clear_layer(const Open *o, LayerTensors *t)
{
    *t = (LayerTensors){.first = (int32_t)o->m->nlinears, .q = -1, .k = -1, .v = -1, .o = -1, .gate = -1, .up = -1,
                        .down = -1, .q_a = -1, .kv_a = -1, .kv_b = -1, .qkvz = -1, .ba = -1, .index_q = -1,
                        .index_k = -1, .index_w = -1, .o_a = -1, .comp_kv = -1, .comp_gate = -1, .index_comp_kv = -1,
                        .index_comp_gate = -1, .router_linear = -1, .shared_gate = -1, .expert = -1};
}

/* Two halves of attention and dense feed-forward, and experts beside the first feed-forward block. They come in the
 * order the library defines them in. */
static Status take_halves(Open *o, int layer, LayerTensors *first, LayerTensors *second)
{
    static const char *const attn[] = {"self_attn.0", "self_attn.1"}, *const mlp[] = {"mlps.0", "mlps.1"};
    const char *keys = "ffn_hidden_size, hidden_size";
    LayerTensors *const half[] = {first, second};
    const ModelConfig *c = &o->m->cfg;
    clear_layer(o, second);
    first->then = second;
    RETURN_IF_ERROR(take_moe(o, layer, first));
    for (int i = 0; i < 2; i++) {
        o->attn = attn[i];
        RETURN_IF_ERROR(take_vector(o, layer, c->hidden, 0, "hidden_size", &half[i]->input_norm,
                                    "input_layernorm.%d.weight", i));
        RETURN_IF_ERROR(take_vector(o, layer, c->hidden, 0, "hidden_size", &half[i]->post_norm,
                                    "post_attention_layernorm.%d.weight", i));
        RETURN_IF_ERROR(take_mla(o, layer, half[i]));
    }
    for (int i = 0; i < 2; i++)
        RETURN_IF_ERROR(take_dense(o, layer, mlp[i], c->inter, keys, half[i]));
    first->count = second->count = (int32_t)o->m->nlinears - first->first;
    second->first = first->first;
    return ST_OK;
}

/* Norms and the attention block. */
static Status take_attention(Open *o, int layer, LayerTensors *t)
{
    const ModelConfig *c = &o->m->cfg;
    bool delta = c->delta.layer && c->delta.layer[layer];
    RETURN_IF_ERROR(take_norms(o, layer, t));
    return delta ? take_delta(o, layer, t) : o->m->arch->mla ? take_mla(o, layer, t) : take_qkv(o, layer, t);
}

static Status take_layer(Open *o, int layer)
{
    static const char keys[] = "intermediate_size, hidden_size";
    const ModelConfig *c = &o->m->cfg;
    LayerTensors *t = &o->m->layers[layer];
    o->attn = "self_attn";
    clear_layer(o, t);
    if (o->m->arch->halves)
        return take_halves(o, layer, t, t + c->layers);
    RETURN_IF_ERROR(o->m->arch->take ? o->m->arch->take(o, layer, t) : take_attention(o, layer, t));
    RETURN_IF_ERROR(c->moe.experts && c->moe.layer[layer] ? take_moe(o, layer, t)
                                                          : take_dense(o, layer, "mlp", c->inter, keys, t));
    t->count = (int32_t)o->m->nlinears - t->first;
    return ST_OK;
}

Status open_layer_take(Open *o, int layer, const char *name, int64_t rows, int64_t cols, const char *keys,
                       const TensorInfo **out)
{
    return take_vector(o, layer, rows, cols, keys, out, "%s", name);
}

Status open_linear(Open *o, int layer, const char *module, const char *name, LinearKind kind, int64_t out, int64_t in,
                   const char *keys, int32_t input, int32_t *index)
{
    Want w = {kind, out, in, keys, input, -1};
    return add_alone(o, layer, module, name, &w, index);
}

Status open_hyper(Open *o, const char *name, int64_t sums, int64_t scales, const TensorInfo *out[3])
{
    static const char keys[] = "hc_mult, hidden_size";
    const char *const part[] = {"fn", "base", "scale"};
    const int64_t rows[] = {sums, sums, scales};
    char text[NAME_MAX_BYTES];
    for (int i = 0; i < 3 && o->m->cfg.hyper.copies; i++) {
        snprintf(text, sizeof text, "%s_%s", name, part[i]);
        RETURN_IF_ERROR(open_take(o, text, false, rows[i], i ? 0 : o->m->cfg.stream_width, keys, &out[i]));
    }
    return ST_OK;
}

/* ---- multi-token prediction ---- */

/* Whether the checkpoint has tensors of the layer behind the last. */
static bool has_mtp(const Open *o)
{
    char prefix[NAME_MAX_BYTES];
    int n = snprintf(prefix, sizeof prefix, "%s%d.", open_layers_prefix(o), o->m->cfg.layers);
    for (int64_t i = 0; i < checkpoint_count(o->m->ckpt); i++)
        if (strncmp(checkpoint_at(o->m->ckpt, i)->name, prefix, (size_t)n) == 0)
            return true;
    return false;
}

static Status take_mtp(Open *o)
{
    Model *m = o->m;
    const ModelConfig *c = &m->cfg;
    int layer = c->layers;
    char name[NAME_MAX_BYTES];
    Want w = {LK_OTHER, c->hidden, 2 * c->hidden, "hidden_size, 2 hidden_size", -1, -1};
    snprintf(name, sizeof name, "%s%d.embed_tokens.weight", open_layers_prefix(o), layer);
    RETURN_IF_ERROR(open_take(o, name, true, c->vocab, c->hidden, "vocab_size, hidden_size", &m->mtp.embed));
    m->mtp.embed = m->mtp.embed ? m->mtp.embed : m->embed;
    RETURN_IF_ERROR(take_vector(o, layer, c->hidden, 0, "hidden_size", &m->mtp.enorm, "enorm.weight"));
    RETURN_IF_ERROR(take_vector(o, layer, c->hidden, 0, "hidden_size", &m->mtp.hnorm, "hnorm.weight"));
    RETURN_IF_ERROR(add_alone(o, layer, "", "eh_proj", &w, &m->mtp.eh_proj));
    RETURN_IF_ERROR(take_layer(o, layer));
    m->layers[layer].first = m->mtp.eh_proj;
    m->layers[layer].count++;
    return ST_OK;
}

/* The tables as they were before a layer that turned out to be incomplete. */
static Status cut_linears(Open *o, int64_t linears, int64_t groups)
{
    Model *m = o->m;
    m->nlinears = linears;
    m->ngroups = groups;
    map_free(&m->by_name);
    for (int64_t i = 0; i < linears; i++)
        if (!map_add(&m->by_name, m->linears[i].name, strlen(m->linears[i].name), i, NULL))
            return error_nomem(o->err, "the model's layers");
    return ST_OK;
}

/* The decoder runs without this layer, so what is wrong with it is no error of the model's. */
static Status open_mtp(Open *o)
{
    Model *m = o->m;
    Error own = {0}, *err = o->err;
    int64_t linears = m->nlinears, groups = m->ngroups, params = m->params;
    /* not under an alias: the same decoder may have none */
    if (!m->arch->mtp || strcmp(m->cfg.model_type, m->arch->model_type) != 0 || !has_mtp(o))
        return ST_OK;
    o->err = &own;
    Status st = take_mtp(o);
    o->err = err;
    m->params = params; /* the decoder's */
    m->mtp_layers = st == ST_OK;
    if (st == ST_OK || st == ST_NOMEM)
        return st == ST_OK ? ST_OK : error_nomem(err, "the model's layers");
    m->mtp_reason = arena_strdup(&m->arena, own.text);
    return m->mtp_reason ? cut_linears(o, linears, groups) : error_nomem(err, "the model's layers");
}

Status open_layers(Open *o)
{
    Model *m = o->m;
    /* the second halves stand behind the first, or that of multi-token prediction behind the last */
    m->layers = mem_zarray((size_t)m->cfg.layers * (m->arch->halves ? 2 : 1) + 1, sizeof *m->layers);
    if (!m->layers)
        return error_nomem(o->err, "the model's layers");
    for (int i = 0; i < m->cfg.layers; i++)
        RETURN_IF_ERROR(take_layer(o, i));
    return open_mtp(o);
}
