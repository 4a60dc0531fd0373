#include <stdio.h>
#include <string.h>

#include "base/ascii.h"
#include "recipe/field.h"
#include "save/attention.h"
#include "save/pyjson.h"
#include "save/saveout.h"

/* mindie_format_saver (specs/formats.md 10): the tensors of ascendv1_saver under other file names. */

static int parts(const SavePlan *plan, int64_t i, bool no_zero, QPart out[SCHEME_PARTS_MAX])
{
    static const char *const known[] = {"W8A8", "W8A8_DYNAMIC", "W8A8_MXFP8", "W4A4_MXFP4", "W4A4_MXFP4_DUALSCALE"};
    const char *label = save_scheme(plan, i);
    bool ok = false;
    (void)no_zero;
    for (size_t k = 0; label && k < sizeof known / sizeof known[0]; k++)
        ok = ok || strcmp(label, known[k]) == 0;
    /* groups go under the label of channels, which its reader takes for one scale a row */
    if (!ok || save_config(plan, i)->weight.scope == QS_PER_GROUP)
        return 0;
    int n = save_scheme_parts(plan, i, DT_BF16, out); /* whose deq_scale is float32: here every model's */
    if (n && out[n - 1].kind == PART_BIAS)
        out[n - 1].label = "FLOAT";
    return n;
}

/* Type of the last quantized linear written; NULL: none. */
static const char *type_of(const SaveOut *s)
{
    for (size_t i = s->walk.n; i-- > 0;) {
        const SaveItem *it = &s->walk.items[i];
        if (it->kind == SI_LINEAR && save_quantized(s, it->linear))
            return save_label(s->plan, it->linear);
    }
    return NULL;
}

/* "_w8a8_dynamic", or "" without a quantized linear. */
static void suffix_of(const SaveOut *s, char out[64])
{
    const char *t = type_of(s);
    int n = t ? snprintf(out, 64, "_%s", t) : 0;
    out[n < 64 ? n : 63] = 0;
    for (char *p = out; *p; p++)
        *p = (char)ascii_lower(*p);
}

static Status documents(SaveOut *s, Error *err)
{
    char name[256];
    const char *type = type_of(s);
    Str out = {0};
    size_t item = 0;
    bool told = false;
    save_description_name(s, name);
    for (size_t i = 0; i < s->layout.n; i++) {
        const OutTensor *t = &s->layout.t[i];
        save_put_entries(s, &item, (size_t)t->item, ",\n    ", &out);
        str_puts(&out, i ? ",\n    " : "{\n    ");
        pyjson_string(&out, t->name, strlen(t->name));
        str_printf(&out, ": \"%s\"", t->label);
        bool attention = strcmp(t->label, ATTENTION_LABEL) == 0;
        str_puts(&out, attention && !told ? ",\n    \"fa_quant_type\": \"FAKQuant\"" : "");
        told = told || attention;
    }
    save_put_entries(s, &item, s->walk.n, ",\n    ", &out);
    if (type)
        str_printf(&out, ",\n    \"model_quant_type\": \"%s\"", type);
    str_puts(&out, "\n}");
    Status st = save_document(s, name, &out, err);
    str_free(&out);
    RETURN_IF_ERROR(st);
    RETURN_IF_ERROR(save_side_files(s, s->format->code_only, err));
    return save_edit_config(s, NULL, NULL, false, err);
}

static const Field fields[] = {FIELD_SAVER, {.key = "ext", .type = F_MAP}, FIELD_END};

const SaveFormat saver_mindie = {
    .type = "mindie_format_saver",
    .title = "MindIE: quant_model_weight and a description named after the scheme",
    .fields = fields,
    .processor = true,
    .weights = "quant_model_weight",
    .description = "quant_model_description",
    .code_only = true,
    .labels = true,
    .holds = SAVES_BIASES | SAVES_INPUT_SCALES | SAVES_MODULES | SAVES_ATTENTION | SAVES_BRANCHES,
    .suffix = suffix_of,
    .parts = parts,
    .documents = documents,
    .ops = &saveout_ops,
};
