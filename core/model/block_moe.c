#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/config.h"
#include "model/open.h"
#include "model/storage.h"
#include "model/subgraph.h"

/* Mixture of experts: how they are chosen, and the ways in which checkpoints store them (specs/models.md 2.3, 2.6). */

enum { EXPERTS_MAX = 100000 };

static const char *const linears[MOE_LINEARS + 1] = {
    [MOE_ROUTER] = "router", [MOE_GATE] = "gate", [MOE_UP] = "up", [MOE_DOWN] = "down",
    [MOE_SHARED_GATE] = "shared_gate"};
static const SmallSlot smalls[MOE_SMALLS + 1] = {[MOE_ROUTER_WEIGHT] = {"router", SMALL_KEPT},
                                                 [MOE_ROUTER_BIAS] = {"router_bias", SMALL_KEPT},
                                                 [MOE_HASH] = {"hash", SMALL_RAW}};

/* Routers compute in float in every engine (no quant_config, or a plain nn.Linear), and so does the gate of a shared
 * expert. */
static const char *const kept[] = {"gate", "router", "router.classifier", "shared_expert_gate", NULL};

static const MoeRule *rule_of(const BlockSpec *s)
{
    return s->how;
}

/* ---- config.json ---- */

/* mlp_layer_types, which GLM-5 may give instead of first_k_dense_replace. */
static Status listed_moe_layers(const cJSON *config, ModelConfig *cfg, Error *err)
{
    const cJSON *list, *v;
    int i = 0;
    RETURN_IF_ERROR(config_layer_list(config, "mlp_layer_types", cfg, &list, err));
    cJSON_ArrayForEach(v, list)
    {
        const char *s = config_layer_word(v);
        cfg->moe.layer[i] = strcmp(s, "sparse") == 0;
        if (!cfg->moe.layer[i++] && strcmp(s, "dense") != 0)
            return error_set(err, ST_DATA, "'mlp_layer_types[%d]' is '%s': supported are dense and sparse", i - 1, s);
    }
    return ST_OK;
}

/* Which layers have experts (specs/models.md 2.4). */
static Status moe_layers(const cJSON *config, const MoeRule *rule, ModelConfig *cfg, Error *err)
{
    int dense = 0, step = 1;
    if (rule->layers == MOE_AFTER_DENSE && json_get(config, "mlp_layer_types"))
        return listed_moe_layers(config, cfg, err);
    if (rule->layers == MOE_AFTER_DENSE)
        RETURN_IF_ERROR(config_count(config, "first_k_dense_replace", 0, CONFIG_LAYERS_MAX, &dense, err));
    if (rule->layers == MOE_SPARSE_STEP)
        RETURN_IF_ERROR(config_count(config, "decoder_sparse_step", 1, CONFIG_LAYERS_MAX, &step, err));
    for (int i = 0; i < cfg->layers; i++)
        cfg->moe.layer[i] = i >= dense && (i + 1) % step == 0;
    const cJSON *list = rule->layers == MOE_SPARSE_STEP ? json_get(config, "mlp_only_layers") : NULL, *v;
    if (list && !cJSON_IsArray(list))
        return error_set(err, ST_DATA, "'mlp_only_layers' must be a list of layers");
    cJSON_ArrayForEach(v, list)
    {
        if (!cJSON_IsNumber(v))
            return error_set(err, ST_DATA, "'mlp_only_layers' must be a list of layers");
        if (v->valuedouble >= 0 && v->valuedouble < cfg->layers)
            cfg->moe.layer[(int)v->valuedouble] = false;
    }
    return ST_OK;
}

/* Number of groups the experts are chosen from. */
static Status moe_groups(const cJSON *config, const MoeRule *rule, MoeConfig *m, Error *err)
{
    const char *method = rule->group == GROUP_MAX ? "greedy" : "noaux_tc";
    m->groups = m->top_groups = 1;
    if (rule->group == GROUP_NONE)
        return ST_OK;
    RETURN_IF_ERROR(json_str(config, "topk_method", &method, NULL, err));
    if (rule->group == GROUP_MAX && strcmp(method, "greedy") == 0)
        return ST_OK;
    if (strcmp(method, rule->group == GROUP_MAX ? "group_limited_greedy" : "noaux_tc") != 0)
        return error_set(err, ST_DATA, "'topk_method' is '%s', which this family does not have", method);
    RETURN_IF_ERROR(config_count(config, "n_group", 1, m->experts, &m->groups, err));
    RETURN_IF_ERROR(config_count(config, "topk_group", 1, m->groups, &m->top_groups, err));
    int size = m->experts / m->groups;
    if (m->experts % m->groups || m->top_k > m->top_groups * size || (rule->group == GROUP_TOP2 && size < 2))
        return error_set(err, ST_DATA, "'n_group' %d and 'topk_group' %d do not fit %d experts of which %d are chosen",
                         m->groups, m->top_groups, m->experts, m->top_k);
    return ST_OK;
}

static Status read(const cJSON *config, const Arch *arch, const BlockSpec *spec, Arena *a, ModelConfig *cfg, Error *err)
{
    const MoeRule *rule = rule_of(spec);
    MoeConfig *m = &cfg->moe;
    int64_t experts = 0, top_k = 0;
    const char *zero = "identity";
    RETURN_IF_ERROR(config_size(config, rule->experts_key, EXPERTS_MAX, &experts, err));
    if (rule->zero_key)
        RETURN_IF_ERROR(config_count(config, rule->zero_key, 0, EXPERTS_MAX, &m->zero, err));
    RETURN_IF_ERROR(json_str(config, "zero_expert_type", &zero, NULL, err));
    if (m->zero && strcmp(zero, "identity") != 0)
        return error_set(err, ST_DATA, "'zero_expert_type' is '%s': supported is identity", zero);
    RETURN_IF_ERROR(config_size(config, config_key(rule->top_k_key, "num_experts_per_tok"), experts + m->zero, &top_k,
                                err));
    RETURN_IF_ERROR(config_size(config, rule->inter_key, CONFIG_WIDTH_MAX, &m->inter, err));
    m->experts = (int)experts;
    m->top_k = (int)top_k;
    m->scale = 1;
    m->renorm = rule->renorm == RENORM_ALWAYS;
    if (rule->renorm == RENORM_CONFIG)
        RETURN_IF_ERROR(json_bool(config, "norm_topk_prob", &m->renorm, NULL, err));
    if (rule->scaled)
        RETURN_IF_ERROR(json_num(config, "routed_scaling_factor", &m->scale, NULL, err));
    m->act_limit = arch->act == ACT_SILU_CLAMPED ? 10 : 7;
    m->act_alpha = 1.702;
    RETURN_IF_ERROR(json_num(config, "swiglu_limit", &m->act_limit, NULL, err));
    RETURN_IF_ERROR(json_num(config, "swiglu_alpha", &m->act_alpha, NULL, err));
    if (!(m->act_limit > 0) || !isfinite(m->act_alpha))
        return error_set(err, ST_DATA, "'swiglu_limit' %g must be positive", m->act_limit);
    if (!isfinite(m->scale))
        return error_set(err, ST_DATA, "'routed_scaling_factor' must be a number");
    RETURN_IF_ERROR(moe_groups(config, rule, m, err));
    if (rule->shared && rule->shared_inter_key) {
        RETURN_IF_ERROR(config_size(config, rule->shared_inter_key, CONFIG_WIDTH_MAX, &m->shared_inter, err));
    } else if (rule->shared) {
        int n = 0;
        RETURN_IF_ERROR(config_count(config, "n_shared_experts", 0, EXPERTS_MAX, &n, err));
        if (n && m->inter > CONFIG_WIDTH_MAX / n)
            return error_set(err, ST_DATA, "'n_shared_experts' %d is too much", n);
        m->shared_inter = n * m->inter;
    }
    m->layer = arena_alloc(a, ((size_t)cfg->layers + 1) * sizeof *m->layer);
    if (!m->layer)
        return error_nomem(err, "the model's layers");
    m->layer[cfg->layers] = true; /* that of multi-token prediction */
    return moe_layers(config, rule, cfg, err);
}

/* ---- tensors ---- */

int expert_place(const MoeRule *r, int part)
{
    return r->down_second && part ? 3 - part : part;
}

/* A tensor of all experts, [experts][rows] or, with cols, [experts][rows][cols]; those without weights may have places
 * behind the others. */
static Status take_stacked(Open *o, const char *name, int64_t rows, int64_t cols, const TensorInfo **out)
{
    const Model *m = o->m;
    int64_t want[3] = {m->cfg.moe.experts, rows, cols};
    const TensorInfo *t = checkpoint_find(m->ckpt, name);
    *out = t;
    if (t && t->ndim == 3 && t->shape[0] == want[0] + m->cfg.moe.zero)
        want[0] = t->shape[0];
    if (!t || !cols)
        return open_take(o, name, false, want[0], rows, "num_local_experts, intermediate_size", out);
    if (t->ndim != 3 || t->shape[0] != want[0] || t->shape[1] != rows || t->shape[2] != cols)
        return open_wrong_shape(o, t, 3, want, "num_local_experts, intermediate_size, hidden_size");
    RETURN_IF_ERROR(open_float(o, t));
    if (open_use(o, t))
        o->m->params += want[0] * rows * cols; /* fits: nbytes of the tensor does */
    return ST_OK;
}

/* How the experts of a unit stand in stacked tensors (specs/models.md 2.6). */
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

/* The stacked tensors of a unit, by part: gate, up (the same tensor as gate's but in STACK_APART), down. */
typedef struct Stacks {
    const TensorInfo *weight[3], *bias[3];
    const WeightStore *store[3];
} Stacks;

/* The name of a stacked tensor under the unit's experts, without ".weight". */
static void stack_name(const Open *o, const MoeRule *r, int unit, StackLayout layout, int part,
                       char text[NAME_MAX_BYTES])
{
    const char *const apart[] = {r->gate, r->up, r->down}, *const joined[] = {"gate_up_proj", NULL, "down_proj"};
    bool alone = layout == STACK_APART;
    snprintf(text, NAME_MAX_BYTES, "%s%d.%s.%s%s", open_layers_prefix(o), unit, r->block, alone ? "" : "experts.",
             alone ? apart[part] : joined[part]);
}

static Status take_stack(Open *o, const MoeRule *r, int unit, StackLayout layout, int part, Stacks *s)
{
    static const char keys[] = "num_local_experts, intermediate_size, hidden_size";
    const ModelConfig *c = &o->m->cfg;
    int64_t h = c->hidden, n = c->moe.inter, outs = part == 2 ? h : layout == STACK_APART ? n : 2 * n;
    int64_t ins = part == 2 ? n : h;
    bool columns = layout == STACK_COLUMNS || layout == STACK_IN_TURN;
    char text[NAME_MAX_BYTES];
    stack_name(o, r, unit, layout, part, text);
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

static Status take_stacked_experts(Open *o, const MoeRule *r, int unit, StackLayout layout, int32_t *expert)
{
    const ModelConfig *c = &o->m->cfg;
    int64_t h = c->hidden, n = c->moe.inter;
    Stacks s = {0};
    for (int i = 0; i < 3; i++) {
        if (i != 1 || layout == STACK_APART) {
            RETURN_IF_ERROR(take_stack(o, r, unit, layout, i, &s));
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
            RETURN_IF_ERROR(open_name(o, unit, module, names[i], &w, &index));
            gate = i == 0 ? index : gate;
            Linear *l = &o->m->linears[index];
            l->weight = s.weight[i];
            l->bias = s.bias[i];
            l->store = s.store[i];
            stack_view(c, layout, e, i, l);
        }
        *expert = e ? *expert : gate;
    }
    return open_close_group(o, *expert, "experts");
}

/* The layout of a unit's experts where they are stacked, told by names and shapes; the library's own (rows) where two
 * shapes fit. */
static bool found_stacked(const Open *o, const MoeRule *r, int unit, StackLayout *layout)
{
    const ModelConfig *c = &o->m->cfg;
    char text[NAME_MAX_BYTES];
    bool turn = r->stacked;
    stack_name(o, r, unit, STACK_ROWS, 0, text);
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
    stack_name(o, r, unit, STACK_APART, 0, text);
    *layout = STACK_APART;
    strcat(text, ".weight");
    t = checkpoint_find(o->m->ckpt, text);
    return t && t->ndim == 3;
}

/* All experts are one group: deployments run them as one operation with one scheme. */
static Status take_experts(Open *o, const MoeRule *r, int unit, int32_t *expert)
{
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
            RETURN_IF_ERROR(open_linear(o, unit, module, names[i], &want[i], &index[i]));
        }
        *expert = e ? *expert : index[0];
    }
    return open_close_group(o, *expert, "experts");
}

/* Experts that give back what they read have no weights; some files hold a few for them, which nobody misses. */
static Status ignore_zero_experts(Open *o, const MoeRule *r, int unit)
{
    const char *const parts[] = {r->gate, r->up, r->down};
    char text[NAME_MAX_BYTES];
    for (int i = 0; i < 3 * o->m->cfg.moe.zero; i++) {
        snprintf(text, sizeof text, "%s%d.%s.experts.%d.%s.weight", open_layers_prefix(o),
                 unit, r->block, o->m->cfg.moe.experts + i / 3, parts[i % 3]);
        const TensorInfo *t = checkpoint_find(o->m->ckpt, text);
        if (t)
            open_use(o, t);
    }
    return ST_OK;
}

static bool has_tensor(const Open *o, int unit, const char *module, const char *name)
{
    char text[NAME_MAX_BYTES];
    snprintf(text, sizeof text, "%s%d.%s.%s", open_layers_prefix(o), unit, module, name);
    return checkpoint_find(o->m->ckpt, text) != NULL;
}

/* The family's name of the router's bias, or that of checkpoints whose experts are stacked apart (F), or of those that
 * the library saves. */
static const char *router_bias_name(const Open *o, const MoeRule *r, int unit)
{
    static const char *const others[] = {"router_bias", "gate.e_score_correction_bias"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (has_tensor(o, unit, r->block, others[i]))
            return others[i];
    return r->bias;
}

/* The unit's rule: the family's, or with the module's other name where the file has that one. */
static const MoeRule *rule_of_unit(Open *o, const BlockSpec *spec, int unit)
{
    const MoeRule *r = rule_of(spec);
    if (!r->saved_block || !has_tensor(o, unit, r->saved_block, "gate.weight"))
        return r;
    MoeRule *saved = arena_alloc(&o->m->arena, sizeof *saved);
    if (saved) {
        *saved = *r;
        saved->block = r->saved_block;
    } else {
        error_nomem(o->err, "the model's layers");
    }
    return saved;
}

/* Experts of every token id. */
static Status take_hash(Open *o, const MoeRule *r, int unit, Block *b)
{
    const ModelConfig *c = &o->m->cfg;
    char name[NAME_MAX_BYTES];
    snprintf(name, sizeof name, "%s%d.%s.gate.tid2eid", open_layers_prefix(o), unit, r->block);
    const TensorInfo *h = b->small[MOE_HASH] = checkpoint_find(o->m->ckpt, name);
    if (!h)
        return open_missing(o, name);
    if (h->dtype != DT_I64 && h->dtype != DT_I32)
        return error_set(o->err, ST_DATA, "'%s': tensor '%s' is %s: only I64 and I32 tables of experts can be used",
                         open_file_of(o, h), name, dtype_name(h->dtype));
    if (h->ndim != 2 || h->shape[0] != c->vocab || h->shape[1] != c->moe.top_k)
        return error_set(o->err, ST_DATA, "'%s': tensor '%s' must have the shape [%lld,%d] (vocab_size, "
                         "num_experts_per_tok)", open_file_of(o, h), name, (long long)c->vocab, c->moe.top_k);
    open_use(o, h);
    return ST_OK;
}

static Status take_shared(Open *o, const MoeRule *r, int unit, Block *b)
{
    const ModelConfig *c = &o->m->cfg;
    const char *keys = r->shared_inter_key ? r->shared_inter_key : "n_shared_experts";
    char module[64];
    snprintf(module, sizeof module, "%s.%s", r->block, r->shared);
    RETURN_IF_ERROR(open_gated(o, unit, module, r, c->moe.shared_inter, keys, false, &b->linear[MOE_GATE]));
    if (!r->shared_gate)
        return ST_OK;
    Want w = {LK_OTHER, 1, c->hidden, "hidden_size", b->linear[MOE_GATE], -1};
    return open_alone(o, unit, r->block, "shared_expert_gate", &w, &b->linear[MOE_SHARED_GATE]);
}

static Status take(Open *o, int unit, Block *b)
{
    const MoeRule *r = rule_of_unit(o, b->spec, unit);
    const ModelConfig *c = &o->m->cfg;
    int64_t n = c->moe.experts + c->moe.zero;
    if (!r)
        return ST_NOMEM;
    const char *name = r->router ? r->router : "gate";
    Want router = {LK_ROUTER, n, c->hidden, r->experts_key, -1, -1};
    MoeConf *conf = open_conf(o, b, sizeof *conf);
    if (!conf)
        return ST_NOMEM;
    conf->rule = r;
    if (unit < c->moe.hash_layers)
        RETURN_IF_ERROR(take_hash(o, r, unit, b));
    if (!r->router_linear)
        RETURN_IF_ERROR(open_unit_take(o, unit, n, c->hidden, r->experts_key, &b->small[MOE_ROUTER_WEIGHT],
                                       "%s.%s.weight", r->block, name));
    else if (!r->router_wide)
        RETURN_IF_ERROR(open_alone(o, unit, r->block, name, &router, &b->linear[MOE_ROUTER]));
    if (r->bias && !b->small[MOE_HASH])
        RETURN_IF_ERROR(open_unit_take(o, unit, n, 0, r->experts_key, &b->small[MOE_ROUTER_BIAS], "%s.%s", r->block,
                                       router_bias_name(o, r, unit)));
    StackLayout layout;
    RETURN_IF_ERROR(found_stacked(o, r, unit, &layout) ? take_stacked_experts(o, r, unit, layout, &conf->expert)
                                                       : take_experts(o, r, unit, &conf->expert));
    if (r->router_wide) {
        RETURN_IF_ERROR(open_alone(o, unit, r->block, name, &router, &b->linear[MOE_ROUTER]));
        o->m->linears[b->linear[MOE_ROUTER]].bias = NULL; /* the library multiplies by its weight alone (router_bias) */
    }
    RETURN_IF_ERROR(ignore_zero_experts(o, r, unit));
    return c->moe.shared_inter ? take_shared(o, r, unit, b) : ST_OK;
}

/* ---- sub-graphs ---- */

/* Beside these all experts' gates and ups read it, and a router that is no linear: model/subgraph.c. */
static const int *reads(const Block *b)
{
    static const int slots[] = {MOE_ROUTER, MOE_GATE, MOE_UP, MOE_SHARED_GATE, -1};
    (void)b;
    return slots;
}

static void subgraphs(SubgraphMaker *k, const Block *b)
{
    const MoeConf *c = b->conf;
    for (int e = 0; e < k->unit->cfg->moe.experts; e++) {
        int64_t gate = c->expert + 3 * e;
        subgraph_gated(k, gate + expert_place(c->rule, 1), 0, gate + expert_place(c->rule, 2));
    }
    if (b->linear[MOE_DOWN] >= 0)
        subgraph_gated(k, b->linear[MOE_UP], 0, b->linear[MOE_DOWN]);
}

const BlockType block_moe = {
    .name = "moe", .role = ROLE_FEED_FORWARD, .linears = linears, .smalls = smalls, .kept = kept, .read = read,
    .take = take, .reads = reads, .subgraphs = subgraphs};
