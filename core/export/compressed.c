#include "export/export.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "export/modules.h"
#include "io/json.h"

/* A recipe of llm-compressor, in JSON: config groups of compressed-tensors and the list of what they ignore. Which module
 * has which group is by compressed_tensors/utils/match.py and quantization/lifecycle/apply.py (2026): a module that an
 * entry of `ignore` matches has none; else its targets are tried, exact names before "re:" before names of classes, each
 * kind in the order of its text; "re:" is Python's re.match, anything else equal to the name, or to that of a class. */

enum { NAMES_SHOWN = 8 };

/* ---- a level ---- */

static Status put_weights(const QConfig *q, Str *out, Error *err)
{
    const QSpec *w = &q->weight;
    const char *type = w->dtype == QT_INT8 || w->dtype == QT_INT4 ? "int" : w->dtype == QT_FP8_E4M3 ? "float" : NULL;
    if (!type)
        return error_set(err, ST_DATA, "it is given no weights of type %s here", qtype_name(w->dtype));
    if (w->scope != QS_PER_CHANNEL && w->scope != QS_PER_GROUP)
        return error_set(err, ST_DATA, "it has no %s weights", qscope_name(w->scope));
    str_printf(out, "\"weights\": {\"num_bits\": %d, \"type\": \"%s\", \"symmetric\": %s, ", w->dtype == QT_INT4 ? 4 : 8,
               type, w->symmetric ? "true" : "false");
    if (w->scope == QS_PER_GROUP)
        str_printf(out, "\"strategy\": \"group\", \"group_size\": %lld, ", (long long)qspec_group(w, 0));
    else
        str_puts(out, "\"strategy\": \"channel\", ");
    str_puts(out, "\"dynamic\": false}");
    return ST_OK;
}

static Status put_inputs(const QConfig *q, Str *out, Error *err)
{
    const QSpec *a = &q->act;
    if (a->dtype == QT_FLOAT)
        return ST_OK;
    if (a->dtype != QT_INT8 && a->dtype != QT_INT4 && a->dtype != QT_FP8_E4M3)
        return error_set(err, ST_DATA, "it is given no inputs of type %s here", qtype_name(a->dtype));
    if (a->scope != QS_PER_TENSOR && a->scope != QS_PER_TOKEN)
        return error_set(err, ST_DATA, "it has no %s inputs", qscope_name(a->scope));
    bool token = a->scope == QS_PER_TOKEN;
    str_printf(out, ", \"input_activations\": {\"num_bits\": %d, \"type\": \"%s\", \"symmetric\": %s, \"strategy\": \"%s\", "
               "\"dynamic\": %s}", a->dtype == QT_INT4 ? 4 : 8, a->dtype == QT_FP8_E4M3 ? "float" : "int",
               a->symmetric ? "true" : "false", token ? "token" : "tensor", token ? "true" : "false");
    return ST_OK;
}

static Status setting(const ExportInput *in, int level, Str *out, Error *err)
{
    if (level == 0)
        return ST_OK;
    const QConfig *q = export_config(in, level);
    const Scheme *s = scheme_find(q);
    if (s && s->weight_method)
        return error_set(err, ST_DATA, "it has no weights by %s", s->weight_method);
    RETURN_IF_ERROR(put_weights(q, out, err));
    return put_inputs(q, out, err);
}

/* ---- the text ---- */

/* Levels in use, each once. */
static int used_levels(const ExportInput *in, bool *used)
{
    int n = 0;
    for (int64_t i = 0; i < in->model->nlinears; i++) {
        int k = in->same[in->level[i]];
        n += k > 0 && !used[k];
        used[k] = true;
    }
    return n;
}

static Status put_ignore(const ExportInput *in, Str *out, Error *err)
{
    ModuleList floats = {0}, beside = {0};
    bool any = false;
    Status st = modules_at(in, 0, &floats, err);
    if (st == ST_OK)
        st = modules_beside(in->model, &beside, err);
    str_puts(out, "        \"ignore\": [\n");
    ModuleList *l[2] = {&beside, &floats};
    for (int k = 0; k < 2 && st == ST_OK; k++) {
        for (size_t i = 0; l[k]->n <= NAMES_SHOWN && i < l[k]->n; i++, any = true) {
            str_puts(out, any ? ",\n          " : "          ");
            str_json(out, l[k]->name[i]);
        }
        if (l[k]->n > NAMES_SHOWN)
            st = put_patterns(out, l[k], "          ", "re:", "", &any, err);
    }
    str_puts(out, "\n        ],\n");
    modules_fini(&floats);
    modules_fini(&beside);
    return st;
}

static Status put_group(const ExportInput *in, int level, int index, bool by_class, Str *out, Error *err)
{
    ModuleList l = {0};
    bool any = false;
    Status st = by_class ? ST_OK : modules_at(in, level, &l, err);
    str_printf(out, "%s          \"group_%d\": {\n            \"targets\": [\n", index ? ",\n" : "", index);
    if (by_class)
        str_puts(out, "              \"Linear\"");
    else if (st == ST_OK)
        st = put_patterns(out, &l, "              ", "re:", "", &any, err);
    str_puts(out, "\n            ],\n            ");
    if (st == ST_OK)
        st = setting(in, level, out, err);
    str_puts(out, "\n          }");
    modules_fini(&l);
    return st;
}

static Status write(const ExportInput *in, Export *x, Error *err)
{
    int n = recipe_entries(in->recipe) + 1, index = 0;
    bool *used = mem_zarray((size_t)n, 1);
    if (!used)
        return error_nomem(err, "an export");
    int groups = used_levels(in, used);
    str_puts(&x->text, "{\n  \"quant_stage\": {\n    \"quant_modifiers\": {\n      \"QuantizationModifier\": {\n");
    Status st = put_ignore(in, &x->text, err);
    str_puts(&x->text, "        \"config_groups\": {\n");
    for (int k = 1; k < n && st == ST_OK; k++)
        if (used[k])
            st = put_group(in, k, index++, groups == 1, &x->text, err);
    str_puts(&x->text, "\n        }\n      }\n    }\n  }\n}\n");
    free(used);
    return st;
}

/* ---- read again ---- */

typedef struct Target {
    const char *text;
    ToolRegex *re; /* NULL: a name, or that of a class */
    int level;
} Target;
typedef struct TargetList {
    Target *t;
    size_t n, cap;
} TargetList;

static void targets_fini(TargetList *l)
{
    for (size_t i = 0; i < l->n; i++)
        tool_regex_free(l->t[i].re);
    free(l->t);
    *l = (TargetList){0};
}

static Status read_targets(const cJSON *list, int level, TargetList *out, Error *err)
{
    const cJSON *item;
    if (!cJSON_IsArray(list))
        return error_set(err, ST_DATA, "no list of modules");
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsString(item))
            return error_set(err, ST_DATA, "a module that is no text");
        if (!mem_grow(&out->t, &out->cap, out->n + 1, sizeof *out->t))
            return error_nomem(err, "an export");
        Target *t = &out->t[out->n++];
        *t = (Target){.text = item->valuestring, .level = level};
        if (strncmp(t->text, "re:", 3) == 0)
            RETURN_IF_ERROR(tool_regex(&t->re, t->text + 3, true, err));
    }
    return ST_OK;
}

/* Whether a group without its targets is what this level is written as. */
static Status is_level(const ExportInput *in, const cJSON *bare, int level, bool *same, Error *err)
{
    Str text = {0};
    Error e = {0};
    *same = false;
    str_puts(&text, "{");
    Status st = setting(in, level, &text, &e);
    str_puts(&text, "}");
    if (st == ST_OK) {
        cJSON *want = text.oom ? NULL : cJSON_Parse(str_text(&text));
        *same = want && cJSON_Compare(bare, want, true);
        st = want ? ST_OK : ST_NOMEM;
        cJSON_Delete(want);
    }
    bool short_of = st == ST_NOMEM || text.oom;
    str_free(&text);
    return short_of ? error_nomem(err, "an export") : ST_OK;
}

/* The level that is written as a group is, -1: none. */
static Status level_of_group(const ExportInput *in, const cJSON *group, int *out, Error *err)
{
    Status st = ST_OK;
    bool same = false;
    cJSON *bare = cJSON_Duplicate(group, true);
    if (!bare)
        return error_nomem(err, "an export");
    cJSON_DeleteItemFromObjectCaseSensitive(bare, "targets");
    *out = -1;
    for (int k = 1; st == ST_OK && *out < 0 && k <= recipe_entries(in->recipe); k++) {
        if (in->same[k] != k)
            continue;
        st = is_level(in, bare, k, &same, err);
        *out = same ? k : -1;
    }
    cJSON_Delete(bare);
    return st;
}

/* As Python sorts by ("re:" in text, text). */
static int target_cmp(const void *pa, const void *pb)
{
    const Target *a = pa, *b = pb;
    bool ra = strstr(a->text, "re:") != NULL, rb = strstr(b->text, "re:") != NULL;
    return ra != rb ? ra - rb : strcmp(a->text, b->text);
}

static bool hits(const Target *t, const char *name)
{
    return t->re ? tool_regex_hits(t->re, name) : strcmp(t->text, name) == 0;
}

static int level_of(const TargetList *ignore, const TargetList *targets, const char *name)
{
    for (size_t i = 0; i < ignore->n; i++)
        if (hits(&ignore->t[i], name))
            return 0;
    for (size_t i = 0; i < targets->n; i++)
        if (hits(&targets->t[i], name))
            return targets->t[i].level;
    for (size_t i = 0; i < targets->n; i++)
        if (strcmp(targets->t[i].text, "Linear") == 0)
            return targets->t[i].level;
    return 0;
}

static Status read_lists(const ExportInput *in, const cJSON *root, TargetList *ignore, TargetList *targets, Error *err)
{
    static const char *const path[] = {"quant_stage", "quant_modifiers", "QuantizationModifier"};
    for (int i = 0; i < 3; i++)
        root = cJSON_GetObjectItemCaseSensitive(root, path[i]);
    const cJSON *groups = json_get(root, "config_groups"), *g;
    RETURN_IF_ERROR(read_targets(json_get(root, "ignore"), 0, ignore, err));
    cJSON_ArrayForEach(g, groups)
    {
        int level = -1;
        RETURN_IF_ERROR(level_of_group(in, g, &level, err));
        if (level < 0)
            return error_set(err, ST_DATA, "group '%s' is no level's", g->string);
        RETURN_IF_ERROR(read_targets(json_get(g, "targets"), level, targets, err));
    }
    qsort(targets->t, targets->n, sizeof *targets->t, target_cmp);
    return ST_OK;
}

static Status expand(const ExportInput *in, const char *text, size_t len, int16_t *level, Error *err)
{
    cJSON *root = NULL;
    TargetList ignore = {0}, targets = {0};
    ModuleList beside = {0};
    Status st = json_parse(text, len, "export", &root, err);
    if (st == ST_OK)
        st = read_lists(in, root, &ignore, &targets, err);
    if (st == ST_OK)
        st = modules_beside(in->model, &beside, err);
    for (int64_t i = 0; st == ST_OK && i < in->model->nlinears; i++)
        level[i] = (int16_t)level_of(&ignore, &targets, in->model->linears[i].name);
    for (size_t i = 0; st == ST_OK && i < beside.n; i++)
        if (level_of(&ignore, &targets, beside.name[i]) != 0)
            st = error_set(err, ST_DATA, "'%s' would be quantized", beside.name[i]);
    modules_fini(&beside);
    targets_fini(&ignore);
    targets_fini(&targets);
    cJSON_Delete(root);
    return st;
}

const ExportForm form_compressed_tensors = {
    .name = "compressed-tensors", .ext = {".json"}, .tool = "llm-compressor", .groups = true, .some = true,
    .use = "oneshot(model=..., recipe=\"FILE\") of llm-compressor takes it",
    .setting = setting, .write = write, .expand = expand,
};
