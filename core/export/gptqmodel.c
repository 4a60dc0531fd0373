#include "export/export.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "export/modules.h"
#include "io/json.h"

/* Arguments of GPTQModel's QuantizeConfig, in JSON: the setting that most layers have, and `dynamic` for the others. Which
 * a module has is by gptqmodel/quantization/config.py, dynamic_get (2026): the keys in the order of the file, the first
 * whose regular expression matches at the beginning of the module's name decides; "-:" leaves it alone, "+:" or nothing
 * overrides the general setting. */

static Status setting(const ExportInput *in, int level, Str *out, Error *err)
{
    if (level == 0)
        return ST_OK;
    const QConfig *q = export_config(in, level);
    const QSpec *w = &q->weight;
    if (q->act.dtype != QT_FLOAT)
        return error_set(err, ST_DATA, "it quantizes weights alone (W8A16, W4A16), this quantizes inputs too");
    if ((w->dtype != QT_INT8 && w->dtype != QT_INT4) || (w->scope != QS_PER_CHANNEL && w->scope != QS_PER_GROUP))
        return error_set(err, ST_DATA, "it has no %s %s weights", qtype_name(w->dtype), qscope_name(w->scope));
    str_printf(out, "\"bits\": %d, \"group_size\": %lld, \"sym\": %s", w->dtype == QT_INT4 ? 4 : 8,
               w->scope == QS_PER_GROUP ? (long long)qspec_group(w, 0) : -1LL, w->symmetric ? "true" : "false");
    return ST_OK;
}

/* The level most linears have, the lower of two. Routers are none of GPTQModel's layers. */
static Status find_base(const ExportInput *in, int *base, Error *err)
{
    int n = recipe_entries(in->recipe) + 1;
    int64_t *count = mem_zarray((size_t)n, sizeof *count);
    if (!count)
        return error_nomem(err, "an export");
    Status st = ST_OK;
    for (int64_t i = 0; i < in->model->nlinears && st == ST_OK; i++) {
        count[in->same[in->level[i]]]++;
        if (in->level[i] && in->model->linears[i].kind == LK_ROUTER)
            st = error_set(err, ST_DATA, "'%s' can't be written for GPTQModel: it never quantizes routers",
                           in->model->linears[i].name);
    }
    *base = 0;
    for (int k = 1; k < n; k++)
        if (count[k] > (*base ? count[*base] : 0))
            *base = k;
    free(count);
    return st;
}

static Status put_level(const ExportInput *in, int level, Str *out, bool *any, Error *err)
{
    ModuleList l = {0};
    Str after = {0};
    str_puts(&after, ": {");
    Status st = modules_at(in, level, &l, err);
    if (st == ST_OK && l.n)
        st = setting(in, level, &after, err);
    str_puts(&after, "}");
    if (st == ST_OK)
        st = after.oom ? error_nomem(err, "an export") : put_patterns(out, &l, "    ", level ? "+:" : "-:", str_text(&after), any, err);
    str_free(&after);
    modules_fini(&l);
    return st;
}

static Status write(const ExportInput *in, Export *x, Error *err)
{
    int base = 0;
    bool any = false;
    RETURN_IF_ERROR(find_base(in, &base, err));
    str_puts(&x->text, "{\n  ");
    RETURN_IF_ERROR(setting(in, base, &x->text, err));
    str_puts(&x->text, ",\n  \"dynamic\": {\n");
    for (int k = 0; k <= recipe_entries(in->recipe); k++)
        if (k != base && in->same[k] == k)
            RETURN_IF_ERROR(put_level(in, k, &x->text, &any, err));
    str_puts(&x->text, any ? "\n  }\n}\n" : "  }\n}\n");
    return ST_OK;
}

/* ---- read again ---- */

/* What a member overrides, of a setting. */
typedef struct Values {
    int64_t bits, group;
    bool sym;
} Values;

static Status read_values(const cJSON *o, Values *v, Error *err)
{
    RETURN_IF_ERROR(json_int(o, "bits", &v->bits, NULL, err));
    RETURN_IF_ERROR(json_int(o, "group_size", &v->group, NULL, err));
    return json_bool(o, "sym", &v->sym, NULL, err);
}

static int level_of_values(const ExportInput *in, const Values *v)
{
    for (int k = 1; k <= recipe_entries(in->recipe); k++) {
        const QSpec *w = &export_config(in, k)->weight;
        int64_t group = w->scope == QS_PER_GROUP ? qspec_group(w, 0) : -1;
        if (in->same[k] == k && export_config(in, k)->act.dtype == QT_FLOAT && v->group == group
            && v->bits == (w->dtype == QT_INT4 ? 4 : 8) && v->sym == w->symmetric)
            return k;
    }
    return -1;
}

/* The member decides all linears that none before it has: those whose level is below 0. */
static Status take(const ExportInput *in, const cJSON *member, Values v, int16_t *level, Error *err)
{
    const char *key = member->string;
    bool skip = strncmp(key, "-:", 2) == 0;
    ToolRegex *re;
    RETURN_IF_ERROR(read_values(member, &v, err));
    int to = skip ? 0 : level_of_values(in, &v);
    if (to < 0)
        return error_set(err, ST_DATA, "'%.60s' gives no level's values", key);
    RETURN_IF_ERROR(tool_regex(&re, skip || strncmp(key, "+:", 2) == 0 ? key + 2 : key, true, err));
    for (int64_t i = 0; i < in->model->nlinears; i++)
        if (level[i] < 0 && tool_regex_hits(re, in->model->linears[i].name))
            level[i] = (int16_t)to;
    tool_regex_free(re);
    return ST_OK;
}

static Status expand(const ExportInput *in, const char *text, size_t len, int16_t *level, Error *err)
{
    cJSON *root;
    RETURN_IF_ERROR(json_parse(text, len, "export", &root, err));
    Values v = {4, 128, true};
    Status st = read_values(root, &v, err);
    int base = level_of_values(in, &v);
    if (st == ST_OK && base < 0)
        st = error_set(err, ST_DATA, "its general values are no level's");
    memset(level, 0xff, (size_t)in->model->nlinears * sizeof *level);
    const cJSON *member;
    cJSON_ArrayForEach(member, json_get(root, "dynamic"))
        if (st == ST_OK)
            st = take(in, member, v, level, err);
    for (int64_t i = 0; i < in->model->nlinears; i++) {
        bool router = in->model->linears[i].kind == LK_ROUTER;
        level[i] = (int16_t)(router ? 0 : level[i] < 0 ? base : level[i]);
    }
    cJSON_Delete(root);
    return st;
}

const ExportForm form_gptqmodel = {
    .name = "gptqmodel", .ext = {".json"}, .tool = "GPTQModel", .groups = true, .some = true,
    .use = "QuantizeConfig(**json.load(open(\"FILE\"))) of GPTQModel takes it",
    .setting = setting, .write = write, .expand = expand,
};
