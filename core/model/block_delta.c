#include <stdio.h>
#include <string.h>

#include "model/config.h"
#include "model/open.h"
#include "model/subgraph.h"

/* Linear attention by the gated delta rule: "linear_attn" of Qwen3-Next. */

static const char *const linears[DELTA_LINEARS + 1] = {
    [DELTA_QKVZ] = "qkvz", [DELTA_BA] = "ba", [DELTA_O] = "o"};
static const SmallSlot smalls[DELTA_SMALLS + 1] = {
    [DELTA_CONV] = {"conv", SMALL_ROUNDED}, [DELTA_DT_BIAS] = {"dt_bias", SMALL_ROUNDED},
    [DELTA_A_LOG] = {"a_log", SMALL_ROUNDED}, [DELTA_NORM] = {"delta_norm", SMALL_ROUNDED}};

/* ---- config.json ---- */

/* Layers of linear attention: those layer_types names, else all but every full_attention_interval-th. */
static Status delta_layers(const cJSON *config, ModelConfig *cfg, Error *err)
{
    int step = 4, i = 0;
    RETURN_IF_ERROR(config_count(config, "full_attention_interval", 1, CONFIG_LAYERS_MAX, &step, err));
    for (i = 0; i < cfg->layers; i++)
        cfg->delta.layer[i] = (i + 1) % step != 0;
    const cJSON *list, *v;
    RETURN_IF_ERROR(config_layer_list(config, "layer_types", cfg, &list, err));
    if (!list)
        return ST_OK;
    i = 0;
    cJSON_ArrayForEach(v, list)
    {
        const char *s = config_layer_word(v);
        cfg->delta.layer[i] = strcmp(s, "linear_attention") == 0;
        if (!cfg->delta.layer[i] && strcmp(s, "full_attention") != 0)
            return error_set(err, ST_DATA,
                             "'layer_types[%d]' is '%s': this family has linear_attention and full_attention", i, s);
        i++;
    }
    return ST_OK;
}

static Status read(const cJSON *config, const Arch *arch, const BlockSpec *spec, Arena *a, ModelConfig *cfg, Error *err)
{
    (void)arch;
    (void)spec;
    DeltaConfig *d = &cfg->delta;
    const struct {
        const char *key;
        int64_t max;
        int *to;
    } sizes[] = {
        {"linear_num_key_heads", CONFIG_HEADS_MAX, &d->key_heads},
        {"linear_num_value_heads", CONFIG_HEADS_MAX, &d->value_heads},
        {"linear_key_head_dim", CONFIG_HEADS_MAX, &d->key_dim},
        {"linear_value_head_dim", CONFIG_HEADS_MAX, &d->value_dim},
        {"linear_conv_kernel_dim", DELTA_KERNEL_MAX, &d->kernel},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t v = 0;
        RETURN_IF_ERROR(config_size(config, sizes[i].key, sizes[i].max, &v, err));
        *sizes[i].to = (int)v;
    }
    if (d->value_heads % d->key_heads)
        return error_set(err, ST_DATA, "'linear_num_value_heads' %d is no multiple of 'linear_num_key_heads' %d",
                         d->value_heads, d->key_heads);
    RETURN_IF_ERROR(config_window_list(a, cfg, err)); /* no windows beside it */
    d->layer = arena_alloc(a, (size_t)cfg->layers * sizeof *d->layer);
    return d->layer ? delta_layers(config, cfg, err) : error_nomem(err, "the model's layers");
}

/* ---- tensors ---- */

/* in_proj_qkvz and in_proj_ba read the same input, yet are loaded as two linears by those who serve the model: each is
 * a group of its own, so that the small one can stay float. */
static Status take(Open *o, int unit, Block *b)
{
    const char *module = block_module(b->spec);
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
    snprintf(name, sizeof name, "%s%d.%s.conv1d.weight", open_layers_prefix(o), unit, module);
    RETURN_IF_ERROR(open_shape(o, name, false, 3, conv, "linear_num_*_heads x linear_*_head_dim, 1, "
                               "linear_conv_kernel_dim", &b->small[DELTA_CONV]));
    RETURN_IF_ERROR(open_alone(o, unit, module, "in_proj_qkvz", &qkvz, &b->linear[DELTA_QKVZ]));
    ba.input = b->linear[DELTA_QKVZ];
    RETURN_IF_ERROR(open_alone(o, unit, module, "in_proj_ba", &ba, &b->linear[DELTA_BA]));
    RETURN_IF_ERROR(open_unit_take(o, unit, d->value_heads, 0, "linear_num_value_heads", &b->small[DELTA_DT_BIAS],
                                   "%s.dt_bias", module));
    RETURN_IF_ERROR(open_unit_take(o, unit, d->value_heads, 0, "linear_num_value_heads", &b->small[DELTA_A_LOG],
                                   "%s.A_log", module));
    RETURN_IF_ERROR(open_unit_take(o, unit, d->value_dim, 0, "linear_value_head_dim", &b->small[DELTA_NORM],
                                   "%s.norm.weight", module));
    return open_alone(o, unit, module, "out_proj", &out, &b->linear[DELTA_O]);
}

static const int *reads(const Block *b)
{
    static const int slots[] = {DELTA_QKVZ, DELTA_BA, -1};
    (void)b;
    return slots;
}

/* The norm before out_proj has one weight for the channels of all heads; the gate behind it multiplies value by value. */
static void subgraphs(SubgraphMaker *k, const Block *b)
{
    subgraph_heads_norm(k, b->small[DELTA_NORM], k->unit->cfg->delta.value_heads, b->linear[DELTA_O]);
}

const BlockType block_delta = {
    .name = "delta", .role = ROLE_ATTENTION, .module = "linear_attn", .linears = linears, .smalls = smalls,
    .read = read, .take = take, .reads = reads, .subgraphs = subgraphs};
