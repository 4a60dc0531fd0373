#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipe/field.h"
#include "save/ignore_regex.h"
#include "save/pyjson.h"
#include "save/saveout.h"

/* compressed_tensors: the Hugging Face layout (specs/formats.md 11). */

static const char *label_of(const SavePlan *plan, int64_t i)
{
    const char *label = save_label(plan, i);
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

static void put_group(Str *out, const SavePlan *plan, const QSpec *act, int index)
{
    str_printf(out, "%s\n      \"group_%d\": {\n        \"targets\": [\n          \"Linear\"\n        ]",
               index ? "," : "", index);
    put_args(out, "weights", true, "channel", false, "null", "\"minmax\"");
    if (act->scope == QS_PER_TENSOR) {
        bool symmetric = act->symmetric && !plan->peer;
        put_args(out, "input_activations", symmetric, "tensor", false, symmetric ? "null" : "\"torch.int8\"",
                 "\"memoryless_minmax\"");
    } else {
        put_args(out, "input_activations", true, "token", true, "null", "null");
    }
    str_puts(out, ",\n        \"output_activations\": null,\n        \"format\": \"int-quantized\"\n      }");
}

/* Kinds of input quantization in order of appearance: static asymmetric, static symmetric, dynamic. */
static int kind_of(const SavePlan *plan, const QSpec *act)
{
    if (act->scope != QS_PER_TENSOR)
        return 2;
    return act->symmetric && !plan->peer ? 1 : 0;
}

static int put_groups(const SaveOut *s, Str *out)
{
    bool seen[3] = {false, false, false};
    int n = 0;
    for (size_t i = 0; i < s->walk.n; i++) {
        const SaveItem *it = &s->walk.items[i];
        if (it->kind != SI_LINEAR || !save_quantized(s, it->linear) || !is_native(s->plan, it->linear))
            continue;
        const QSpec *act = &save_config(s->plan, it->linear)->act;
        int k = kind_of(s->plan, act);
        if (!seen[k])
            put_group(out, s->plan, act, n++);
        seen[k] = true;
    }
    return n;
}

/* Names of float linears: those that the loader must leave alone. */
static Status put_ignore(const SaveOut *s, Str *out, Error *err)
{
    const char **names = mem_array((size_t)s->plan->model->nlinears + 1, sizeof *names);
    Str re = {0};
    size_t n = 0;
    bool headed = false; /* DeepSeek's own layout calls it so */
    if (!names)
        return error_nomem(err, "the list of float layers");
    for (int64_t i = 0; i < s->plan->model->nlinears; i++)
        if (!save_quantized(s, i))
            names[n++] = s->plan->model->linears[i].name;
    for (size_t i = 0; i < s->walk.n; i++)
        headed = headed || (s->walk.items[i].head && strcmp(s->walk.items[i].name, "head.weight") == 0);
    names[n++] = headed ? "head" : "lm_head";
    Status st = ignore_regex(names, n, &re, err);
    str_puts(out, "\n    \"ignore\": [\n      ");
    if (st == ST_OK)
        pyjson_string(out, re.s, re.len);
    str_puts(out, "\n    ],");
    str_free(&re);
    free(names);
    return st;
}

static Status config_text(const SaveOut *s, Str *out, int *groups, Error *err)
{
    str_puts(out, "\"quantization_config\": {\n    \"version\": \"0.13.0\","
                  "\n    \"quant_method\": \"compressed-tensors\","
                  "\n    \"sparsity_config\": {},\n    \"transform_config\": {},\n    \"config_groups\": {");
    *groups = put_groups(s, out);
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

static void warn_of_raw(const SavePlan *plan)
{
    for (int64_t i = 0; i < plan->model->nlinears; i++)
        if (plan->level[i] > 0 && !is_native(plan, i)) {
            save_warn(plan, "compressed_tensors has no form for %s ('%s'): as the original does, raw tensors are "
                      "written that no loader takes", label_of(plan, i), plan->model->linears[i].name);
            break;
        }
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
    .warn = warn_of_raw,
    .documents = documents,
    .ops = &saveout_ops,
};
