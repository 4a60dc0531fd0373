#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/block.h"
#include "recipe/field.h"
#include "save/ignore_regex.h"
#include "save/pyjson.h"
#include "save/saveout.h"

/* compressed_tensors: the Hugging Face layout (specs/formats.md 11). */

static const char *label_of(const SavePlan *plan, int64_t i)
{
    const char *label = save_scheme(plan, i);
    return label ? label : "";
}

static bool is_native(const SavePlan *plan, int64_t i)
{
    const char *label = label_of(plan, i);
    return strcmp(label, "W8A8") == 0
           || (strcmp(label, "W8A8_DYNAMIC") == 0 && save_config(plan, i)->weight.scope == QS_PER_CHANNEL);
}

/* What the peer writes raw, without a word of it in config.json: nothing can load that. */
static bool is_broken(const SavePlan *plan, int64_t i)
{
    const char *label = label_of(plan, i);
    return (strcmp(label, "W8A16") == 0 || strcmp(label, "W8A8_MIX") == 0)
           && save_config(plan, i)->weight.scope == QS_PER_CHANNEL;
}

static QPart part(const char *suffix, QPartKind kind, DType dtype, int ndim, int64_t a, int64_t b)
{
    return (QPart){.suffix = suffix, .label = "", .kind = kind, .dtype = dtype, .ndim = ndim, .shape = {a, b}};
}

static int raw_parts(const SavePlan *plan, int64_t i, QPart out[SCHEME_PARTS_MAX])
{
    const Linear *l = &plan->model->linears[i];
    DType md = save_model_dtype(plan, i);
    int n = 0;
    if (strcmp(label_of(plan, i), "W8A8_MIX") == 0) {
        out[n++] = part(".input_scale", PART_INPUT_SCALE, DT_F32, 1, 1, 0);
        out[n++] = part(".input_offset", PART_INPUT_OFFSET, DT_F32, 1, 1, 0);
        out[n++] = part(".weight_scale", PART_SCALE, md, 1, l->out, 0);
    } else {
        out[n++] = part(".weight_scale", PART_SCALE, md, 1, l->out, 0);
        out[n++] = part(".weight_offset", PART_OFFSET, DT_F32, 1, l->out, 0);
    }
    out[n++] = part(".weight", PART_CODE, DT_I8, 2, l->out, l->in);
    if (save_has_bias(plan, i))
        out[n++] = part(".bias", PART_BIAS, md, 1, l->out, 0);
    return n;
}

/* The peer runs every layer again once it is quantized, in float32, so that later layers see float32 activations: the
 * zero point has their dtype. */
static DType peer_zero_dtype(const SavePlan *plan, int64_t i)
{
    const Linear *l = plan->model->linears;
    for (int64_t k = 0; k < i && l[k].layer < l[i].layer; k++)
        if (plan->level[k] > 0)
            return DT_F32;
    return save_model_dtype(plan, i);
}

static int parts(const SavePlan *plan, int64_t i, bool no_zero, QPart out[SCHEME_PARTS_MAX])
{
    const Linear *l = &plan->model->linears[i];
    DType md = save_model_dtype(plan, i);
    if (!is_native(plan, i))
        return plan->peer && is_broken(plan, i) ? raw_parts(plan, i, out) : 0;
    int n = 0;
    /* a scale found in float32 would lose up to 0.4 % in bf16 */
    DType scale = plan->peer ? md : DT_F32;
    out[n++] = part(".weight", PART_CODE, DT_I8, 2, l->out, l->in);
    out[n++] = part(".weight_scale", PART_SCALE, scale, 2, l->out, 1);
    if (save_has_bias(plan, i))
        out[n++] = part(".bias", PART_BIAS, md, 1, l->out, 0);
    const QSpec *act = &save_config(plan, i)->act;
    if (act->scope != QS_PER_TENSOR)
        return n;
    out[n++] = part(".input_scale", PART_INPUT_SCALE, DT_F32, 1, 1, 0);
    if (!no_zero && (plan->peer || !act->symmetric))
        out[n++] = part(".input_zero_point", PART_INPUT_OFFSET, plan->peer ? peer_zero_dtype(plan, i) : DT_I8, 1, 1, 0);
    return n;
}

/* One args object of a group. */
static void put_args(Str *out, const char *key, bool symmetric, const char *strategy, bool dynamic, const char *zp,
                     const char *observer)
{
    str_printf(out, ",\n        \"%s\": {", key);
    str_puts(out, "\n          \"num_bits\": 8,\n          \"type\": \"int\",");
    str_printf(out, "\n          \"symmetric\": %s,\n          \"group_size\": null,", symmetric ? "true" : "false");
    str_printf(out, "\n          \"strategy\": \"%s\",\n          \"block_structure\": null,", strategy);
    str_printf(out, "\n          \"dynamic\": %s,\n          \"actorder\": null,", dynamic ? "true" : "false");
    str_printf(out, "\n          \"scale_dtype\": null,\n          \"zp_dtype\": %s,", zp);
    str_printf(out, "\n          \"observer\": %s,\n          \"observer_kwargs\": {}\n        }", observer);
}

/* ---- names of modules ---- */

typedef struct Names {
    const char **name; /* of the model, the walk, or `made` */
    size_t n, cap;
    Arena made;
} Names;

static void names_free(Names *l)
{
    free(l->name);
    arena_free(&l->made);
    *l = (Names){0};
}

static Status add_name(Names *l, const char *name, Error *err)
{
    if (!name || !mem_grow(&l->name, &l->cap, l->n + 1, sizeof *l->name))
        return error_nomem(err, "the list of layers");
    l->name[l->n++] = name;
    return ST_OK;
}

/* What vLLM asks for when it looks up how the experts of a layer are quantized, whatever the family calls them. */
static const char *common_name(const Linear *l)
{
    const char *name = l->kind == LK_GATE ? "gate_proj" : l->kind == LK_UP ? "up_proj" : "down_proj";
    const char *dot = strrchr(l->name, '.');
    return l->expert < 0 || !dot || strcmp(dot + 1, name) == 0 ? NULL : name;
}

static Status add_linear(Names *l, const Linear *n, Error *err)
{
    const char *other = common_name(n);
    RETURN_IF_ERROR(add_name(l, n->name, err));
    if (!other)
        return ST_OK;
    size_t stem = (size_t)(strrchr(n->name, '.') + 1 - n->name);
    char *made = arena_alloc(&l->made, stem + strlen(other) + 1);
    if (made) {
        memcpy(made, n->name, stem);
        strcpy(made + stem, other);
    }
    return add_name(l, made, err);
}

/* ---- groups ---- */

/* Kinds of input quantization, each a group: static asymmetric, static symmetric, dynamic. */
enum { KINDS = 3 };

static int kind_of(const SavePlan *plan, const QSpec *act)
{
    if (act->scope != QS_PER_TENSOR)
        return 2;
    return act->symmetric && !plan->peer ? 1 : 0;
}

/* The groups in order of appearance. */
typedef struct Groups {
    struct {
        const QSpec *act;
        Names of;
    } g[KINDS];
    int n;
} Groups;

static void groups_free(Groups *l)
{
    for (int i = 0; i < l->n; i++)
        names_free(&l->g[i].of);
}

static Status find_groups(const SaveOut *s, Groups *l, Error *err)
{
    int at[KINDS] = {-1, -1, -1};
    for (size_t i = 0; i < s->walk.n; i++) {
        const SaveItem *it = &s->walk.items[i];
        if (it->kind != SI_LINEAR || !save_quantized(s, it->linear) || !is_native(s->plan, it->linear))
            continue;
        const QSpec *act = &save_config(s->plan, it->linear)->act;
        int k = kind_of(s->plan, act);
        if (at[k] < 0) {
            at[k] = l->n;
            l->g[l->n++].act = act;
        }
        RETURN_IF_ERROR(add_linear(&l->g[at[k]].of, &s->plan->model->linears[it->linear], err));
    }
    return ST_OK;
}

/* A loader gives a linear one group: a single one takes all that are not ignored, of several each names its own. The
 * peer gives every group the class, of which the last then takes all. */
static Status put_targets(Str *out, Names *of, bool by_class, Error *err)
{
    Str re = {0};
    Status st = by_class ? ST_OK : ignore_regex(of->name, of->n, &re, err);
    if (st == ST_OK && by_class)
        str_puts(out, "\"Linear\"");
    else if (st == ST_OK)
        pyjson_string(out, re.s, re.len);
    str_free(&re);
    return st;
}

static Status put_group(Str *out, const SavePlan *plan, Groups *l, int index, Error *err)
{
    const QSpec *act = l->g[index].act;
    str_printf(out, "%s\n      \"group_%d\": {\n        \"targets\": [\n          ", index ? "," : "", index);
    RETURN_IF_ERROR(put_targets(out, &l->g[index].of, l->n == 1 || plan->peer, err));
    str_puts(out, "\n        ]");
    put_args(out, "weights", true, "channel", false, "null", "\"minmax\"");
    if (act->scope == QS_PER_TENSOR) {
        bool symmetric = act->symmetric && !plan->peer;
        put_args(out, "input_activations", symmetric, "tensor", false, symmetric ? "null" : "\"torch.int8\"",
                 "\"memoryless_minmax\"");
    } else {
        put_args(out, "input_activations", true, "token", true, "null", "null");
    }
    str_puts(out, ",\n        \"output_activations\": null,\n        \"format\": \"int-quantized\"\n      }");
    return ST_OK;
}

static Status put_groups(const SaveOut *s, Str *out, int *n, Error *err)
{
    Groups l = {0};
    Status st = find_groups(s, &l, err);
    for (int i = 0; i < l.n && st == ST_OK; i++)
        st = put_group(out, s->plan, &l, i, err);
    *n = l.n;
    groups_free(&l);
    return st;
}

/* ---- what is left alone ---- */

/* Module of a copied weight that some loader makes a linear of: a router, multi-token prediction, a head. */
static char *module_of(const SaveItem *it, Arena *a)
{
    static const char end[] = ".weight";
    size_t n = strlen(it->name), k = sizeof end - 1;
    if (it->kind != SI_TENSOR || (it->coded ? 2 : it->t->ndim) != 2 || n <= k || strcmp(it->name + n - k, end) != 0)
        return NULL;
    return arena_strndup(a, it->name, n - k);
}

static Status add_copied(const SaveOut *s, Names *l, Error *err)
{
    for (size_t i = 0; i < s->walk.n; i++) {
        const SaveItem *it = &s->walk.items[i];
        char *module = it->t == s->plan->model->entry.table || it->head ? NULL : module_of(it, &l->made);
        if (module)
            RETURN_IF_ERROR(add_name(l, module, err));
    }
    return ST_OK;
}

/* Names of float linears: those that the loader must leave alone. */
static Status find_ignored(const SaveOut *s, Names *l, Error *err)
{
    const Model *m = s->plan->model;
    const char *head = "lm_head"; /* a tied one, which has no tensor, is called so */
    for (int64_t i = 0; i < m->nlinears; i++)
        if (!save_quantized(s, i))
            RETURN_IF_ERROR(s->plan->peer ? add_name(l, m->linears[i].name, err) : add_linear(l, &m->linears[i], err));
    for (size_t i = 0; i < s->walk.n; i++) {
        char *name = s->walk.items[i].head ? module_of(&s->walk.items[i], &l->made) : NULL;
        head = name ? name : head;
    }
    RETURN_IF_ERROR(add_name(l, head, err));
    return s->plan->peer ? ST_OK : add_copied(s, l, err);
}

static Status put_ignore(const SaveOut *s, Str *out, Error *err)
{
    Names l = {0};
    Str re = {0};
    Status st = find_ignored(s, &l, err);
    if (st == ST_OK)
        st = ignore_regex(l.name, l.n, &re, err);
    str_puts(out, "\n    \"ignore\": [\n      ");
    if (st == ST_OK)
        pyjson_string(out, re.s, re.len);
    str_puts(out, "\n    ],");
    str_free(&re);
    names_free(&l);
    return st;
}

static Status config_text(const SaveOut *s, Str *out, int *groups, Error *err)
{
    str_puts(out, "\"quantization_config\": {\n    \"version\": \"0.13.0\","
                  "\n    \"quant_method\": \"compressed-tensors\","
                  "\n    \"sparsity_config\": {},\n    \"transform_config\": {},\n    \"config_groups\": {");
    RETURN_IF_ERROR(put_groups(s, out, groups, err));
    str_puts(out, "\n    },\n    \"format\": \"int-quantized\",\n    \"quantization_status\": \"compressed\","
                  "\n    \"global_compression_ratio\": null,");
    RETURN_IF_ERROR(put_ignore(s, out, err));
    str_puts(out, "\n    \"kv_cache_scheme\": null\n  }");
    return out->oom ? error_nomem(err, "config.json") : ST_OK;
}

static Status documents(SaveOut *s, Error *err)
{
    Str text = {0};
    int groups = 0;
    static const char *const drop[] = {"quantization_config", NULL};
    Status st = save_side_files(s, false, err);
    if (st == ST_OK)
        st = config_text(s, &text, &groups, err);
    if (st == ST_OK)
        st = save_edit_config(s, drop, groups ? text.s : NULL, true, err);
    str_free(&text);
    return st;
}

/* ---- what no loader takes ---- */

static const char stacked[] = "compressed_tensors can't write the experts of %s one by one ('%s'): what loads this family "
                              "wants them stacked, in floats";

/* First expert that would be written by itself of a family that is stored and loaded in stacks, -1: none. */
static int64_t apart_expert(const SavePlan *plan)
{
    const Model *m = plan->model;
    for (int u = 0; u < model_depth(m); u++)
        for (int b = 0; b < m->units[u].nblocks; b++) {
            const Block *block = &m->units[u].block[b];
            if (block->type != &block_moe || !block->conf || !((const MoeConf *)block->conf)->rule->stacked)
                continue;
            for (int32_t i = m->units[u].first; i < m->units[u].first + m->units[u].count; i++)
                if (m->linears[i].expert >= 0 && (plan->level[i] > 0 || m->linears[i].store))
                    return i;
        }
    return -1;
}

static Status refuse(const SavePlan *plan, Error *err)
{
    const Model *m = plan->model;
    int64_t i = plan->peer ? -1 : apart_expert(plan);
    char text[400];
    if (i < 0)
        return ST_OK;
    snprintf(text, sizeof text, stacked, m->cfg.model_type, m->linears[i].name);
    if (plan->level[i] > 0)
        return error_set(err, ST_DATA, "%s; exclude '*.experts.*', or use ascendv1_saver", text);
    return error_set(err, ST_DATA, "%s, and this checkpoint has them as codes; use ascendv1_saver", text);
}

static void warn_of_raw(const SavePlan *plan)
{
    int64_t apart = apart_expert(plan);
    for (int64_t i = 0; i < plan->model->nlinears; i++)
        if (plan->level[i] > 0 && !is_native(plan, i)) {
            save_warn(plan, "compressed_tensors has no form for %s ('%s'): as the original does, raw tensors are "
                      "written that no loader takes", label_of(plan, i), plan->model->linears[i].name);
            break;
        }
    if (apart >= 0)
        save_warn(plan, stacked, plan->model->cfg.model_type, plan->model->linears[apart].name);
}

/* Experts one by one are what vLLM loads, and what transformers did before it began to stack them. */
static void warn_of_experts(const SavePlan *plan)
{
    bool experts = false;
    for (int64_t i = 0; i < plan->model->nlinears; i++)
        experts = experts || (plan->model->linears[i].expert >= 0 && plan->level[i] > 0);
    if (experts)
        save_warn(plan, "compressed_tensors has a tensor for each expert, as vLLM loads them: transformers 5 and later "
                  "read no int8 experts");
}

static void warn(const SavePlan *plan)
{
    if (plan->peer)
        warn_of_raw(plan);
    else
        warn_of_experts(plan);
}

static const Field fields[] = {FIELD_SAVER, FIELD_END};

const SaveFormat saver_compressed_tensors = {
    .type = "compressed_tensors",
    .title = "Hugging Face compressed-tensors (vLLM): model.safetensors and quantization_config",
    .fields = fields,
    .peer_reruns = true,
    .weights = "model",
    .description = "config",
    .parts = parts,
    .drops_zero = true,
    .refuse = refuse,
    .warn = warn,
    .documents = documents,
    .ops = &saveout_ops,
};
