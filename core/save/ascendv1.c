#include <stdio.h>
#include <string.h>

#include "recipe/field.h"
#include "save/ascendv1.h"
#include "save/attention.h"
#include "save/families.h"
#include "save/pyjson.h"
#include "save/saveout.h"

/* ascendv1_saver (specs/formats.md 4, 5, 7, 9). */

static int parts(const SavePlan *plan, int64_t i, bool no_zero, QPart out[SCHEME_PARTS_MAX])
{
    (void)no_zero;
    return save_scheme_parts(plan, i, plan->model->cfg.dtype, out);
}

/* Types a model can be called by, from low to high; a type that is not in the list has no vote. */
static const char *const ranks_peer[] = {
    "FLOAT", "W16A16S", "W8A16", "W8A8_DYNAMIC", "W8A8_MIX", "W8A8", "WFP8AFP8_DYNAMIC", "W8A8_MXFP8", "W4A8_MXFP",
    "W4A4_DYNAMIC", "W4A4_MXFP4", "W4A4_MXFP4_DUALSCALE", "W4A4_MXFP4_SVD", NULL,
};
static const char *const ranks_own[] = {
    "FLOAT", "W16A16S", "W8A16", "W4A16", "W8A8_DYNAMIC", "W8A8_MIX", "W8A8", "W8A8S", "WFP8AFP8_DYNAMIC", "W8A8_MXFP8",
    "W4A8_DYNAMIC", "W4A8_MXFP", "W4A4_DYNAMIC", "W4A4_MXFP4", "W4A4_MXFP4_DUALSCALE", NULL,
};

static int place_of(const char *const *ranks, const char *label)
{
    for (int i = 0; ranks[i]; i++)
        if (strcmp(ranks[i], label) == 0)
            return i;
    return -1;
}

/* The peer's counts without, but for the one label that its list has. */
int ascend_rank(bool peer, const char **label)
{
    const char *name = scheme_of_label(*label);
    bool branch = strcmp(name, *label) != 0;
    int at = place_of(peer ? ranks_peer : ranks_own, peer && place_of(ranks_peer, *label) >= 0 ? *label : name);
    if (peer && place_of(ranks_peer, *label) < 0)
        *label = name;
    return at < 0 ? at : 2 * at + (branch && !peer);
}

static const char *model_type_of(const SaveOut *s)
{
    const char *type = "Unknown";
    int best = -1;
    for (size_t i = 0; i < s->walk.n; i++) {
        const SaveItem *it = &s->walk.items[i];
        const char *label = NULL;
        if (it->kind == SI_LINEAR)
            label = save_quantized(s, it->linear) ? save_label(s->plan, it->linear) : "FLOAT";
        else if (it->head)
            label = "FLOAT";
        int r = label ? ascend_rank(s->plan->peer, &label) : -1;
        type = r > best ? label : type;
        best = r > best ? r : best;
    }
    return type;
}

static int64_t group_size_of(const SaveOut *s)
{
    int64_t g = 0;
    for (size_t i = 0; i < s->walk.n; i++) {
        const SaveItem *it = &s->walk.items[i];
        if (it->kind != SI_LINEAR || !save_quantized(s, it->linear))
            continue;
        int64_t own = qspec_group(&save_config(s->plan, it->linear)->weight, 0); /* 0: whole rows */
        g = own ? own : g;
    }
    return g;
}

static bool has_w4a8(const SaveOut *s)
{
    for (int64_t i = 0; i < s->plan->model->nlinears; i++) {
        const char *label = save_quantized(s, i) ? save_scheme(s->plan, i) : NULL;
        if (label && strcmp(label, "W4A8_DYNAMIC") == 0)
            return true;
    }
    return false;
}

static Status edit_config(SaveOut *s, Error *err)
{
    const SaveFamily *f = save_family_of(s->plan);
    const char *drop[FAMILY_KEYS_MAX + 2] = {"quantization_config"};
    Str add = {0};
    for (int i = 0; f && i < FAMILY_KEYS_MAX && f->config[i][0] && has_w4a8(s); i++) {
        bool scaled = strcmp(f->config[i][0], "mla_quantize") == 0 && (attention_kinds(s->plan->changes) & ATTENTION_STATIC);
        drop[i + 1] = f->config[i][0]; /* what a source says of itself */
        str_printf(&add, "%s\"%s\": \"%s\"", i ? ",\n  " : "", f->config[i][0], scaled ? "w8a8" : f->config[i][1]);
    }
    Status st = add.oom ? error_nomem(err, "config.json")
                        : save_edit_config(s, drop, add.len ? str_text(&add) : NULL, false, err);
    str_free(&add);
    return st;
}

/* Each is followed by a comma, as the tensors are. */
static void put_entries(const SaveOut *s, size_t *at, size_t to, Str *out)
{
    Str own = {0};
    save_put_entries(s, at, to, ",\n    ", &own);
    if (own.len)
        str_printf(out, "%s,", str_text(&own) + 1);
    out->oom = out->oom || own.oom;
    str_free(&own);
}

/* What the peer's adapters of sparse attention add. */
static void put_indexer(const SaveOut *s, Str *out)
{
    const SaveFamily *f = save_family_of(s->plan);
    const char *key, *json;
    bool turned = save_changes_note_at(s->plan->changes, SAVE_OPTIONAL, 0, &key, &json);
    if (f && f->indexer && (turned || !f->indexer_turned) && (attention_kinds(s->plan->changes) & ATTENTION_TOKEN))
        str_puts(out, ",\n    \"indexer_quant_type\": \"INT8_DYNAMIC\"");
}

Status ascend_describe(SaveOut *s, const char *type, int64_t group, Error *err)
{
    Str out = {0};
    char name[256];
    bool cache = false, attention = false;
    size_t item = 0;
    save_description_name(s, name);
    str_putc(&out, '{');
    for (size_t i = 0; i < s->layout.n; i++) {
        const OutTensor *t = &s->layout.t[i];
        put_entries(s, &item, (size_t)t->item, &out);
        if (t->own || !t->label)
            continue;
        str_puts(&out, "\n    ");
        pyjson_string(&out, t->name, strlen(t->name));
        str_printf(&out, ": \"%s\",", t->label);
        cache = cache || strcmp(t->label, s->format->cache_label) == 0;
        attention = attention || strcmp(t->label, ATTENTION_LABEL) == 0;
    }
    put_entries(s, &item, s->walk.n, &out);
    if (cache)
        str_puts(&out, "\n    \"kv_cache_type\": \"C8\",\n    \"kv_quant_type\": \"C8\",");
    if (attention)
        str_puts(&out, "\n    \"fa_quant_type\": \"FAKQuant\",");
    str_printf(&out, "\n    \"version\": \"1.0.0\",\n    \"model_quant_type\": \"%s\",\n    \"metadata\": ",
               type);
    Status st = save_put_notes(s, SAVE_METADATA, &out, err);
    str_printf(&out, ",\n    \"group_size\": %lld,\n    \"optional\": ", (long long)group);
    if (st == ST_OK)
        st = save_put_notes(s, SAVE_OPTIONAL, &out, err);
    put_indexer(s, &out);
    str_puts(&out, "\n}");
    if (st == ST_OK)
        st = save_document(s, name, &out, err);
    str_free(&out);
    return st;
}

static Status documents(SaveOut *s, Error *err)
{
    RETURN_IF_ERROR(ascend_describe(s, model_type_of(s), group_size_of(s), err));
    RETURN_IF_ERROR(save_side_files(s, false, err));
    return edit_config(s, err);
}

static Status refuse(const SavePlan *plan, Error *err)
{
    const SaveMade *t = attention_with(plan->changes, QT_MXFP8);
    return !t ? ST_OK : error_set(err, ST_DATA, "ascendv1_saver has no word for attention in MXFP8 ('%s', fa3_quant): use "
                                  "mindie_format_saver, or mxfp4", t->name);
}

static const Field fields[] = {FIELD_SAVER, {.key = "ext", .type = F_MAP}, FIELD_END};

const SaveFormat saver_ascendv1 = {
    .type = "ascendv1_saver",
    .title = "Ascend (MindIE, vLLM-Ascend): quant_model_weights and a description",
    .fields = fields,
    .processor = true,
    .weights = "quant_model_weights",
    .description = "quant_model_description",
    .labels = true,
    .holds = SAVES_BIASES | SAVES_INPUT_SCALES | SAVES_ROTATIONS | SAVES_MODULES | SAVES_ATTENTION | SAVES_BRANCHES,
    .refuse = refuse,
    .parts = parts,
    .cache_label = "C8",
    .documents = documents,
    .ops = &saveout_ops,
};
