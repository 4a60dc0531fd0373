#include <math.h>
#include <stdio.h>
#include <string.h>

#include "recipe/recipe_impl.h"

/* modelslim_v0 (specs/config.md 3, quantization.md 14): untyped, so anything loads; what has a counterpart in
 * modelslim_v1 is translated, the rest is named. */

typedef struct Old {
    Check *c;
    const YamlNode *spec, *cfg; /* cfg: calib_cfg, may be NULL */
    bool stuck;                 /* something has no counterpart */
} Old;

/* The pair that calib_cfg means, as text of the YAML that says it. */
typedef struct Pair {
    const char *act_scope; /* NULL: float */
    bool act_symmetric;
    const char *act_method, *scope, *dtype, *method;
    bool symmetric, kv_cache, attention;
    double fraction;    /* w8a8s */
    double percdamp;    /* gptq, 0: not given */
    int64_t group_size; /* per_group */
} Pair;

static void refuse(Old *o, const YamlNode *at, const char *text)
{
    check_block(o->c, at ? at : o->spec, "can't be translated to modelslim_v1: %s", text);
    o->stuck = true;
}

static double number(Old *o, const char *key, double deflt)
{
    const YamlNode *v = yaml_get(o->cfg, key);
    double x = deflt;
    char text[128];
    if (v && v->kind != YAML_NULL && (!lax_float(v, &x) || !isfinite(x))) {
        snprintf(text, sizeof text, "calib_cfg.%s is no number", key);
        refuse(o, v, text);
        return deflt;
    }
    return x;
}

static bool flag(Old *o, const char *key, bool deflt)
{
    const YamlNode *v = yaml_get(o->cfg, key);
    bool b = deflt;
    char text[128];
    if (v && v->kind != YAML_NULL && !lax_bool(v, &b)) {
        snprintf(text, sizeof text, "calib_cfg.%s is neither true nor false", key);
        refuse(o, v, text);
        return deflt;
    }
    return b;
}

/* Keys of calib_cfg whose other value has no counterpart. */
static void refuse_settings(Old *o)
{
    static const struct {
        const char *key;
        bool deflt, want;
        const char *text;
    } flags[] = {
        {"mm_tensor", true, false, "mm_tensor: true (one scale a weight, also its default) has no counterpart"},
        {"nonuniform", false, false, "nonuniform has no counterpart"},
        {"do_smooth", false, false, "do_smooth has no counterpart"},
        {"disable_last_linear", true, true, "disable_last_linear: false would quantize lm_head, which v1 never does"},
    };
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (flag(o, flags[i].key, flags[i].deflt) != flags[i].want)
            refuse(o, yaml_get(o->cfg, flags[i].key), flags[i].text);
    if (number(o, "fa_amp", 0) != 0)
        refuse(o, yaml_get(o->cfg, "fa_amp"), "fa_amp (attentions that the run keeps in float) has no counterpart: exclude them in "
               "fa3_quant");
    if (number(o, "pr", 1) != 1)
        refuse(o, yaml_get(o->cfg, "pr"), "pr (pruning by importance) has no counterpart");
}

/* calib_params: sensitive layers chosen by the run, or types by pattern. */
static void refuse_params(Old *o)
{
    const YamlNode *params = yaml_get(o->spec, "calib_params");
    const YamlNode *level = yaml_get(params, "disable_level"), *mix = yaml_get(params, "mix_cfg");
    if (level && level->kind != YAML_NULL && !node_is(level, "L0"))
        refuse(o, level, "disable_level lets the run choose layers: rank them here and exclude them");
    if (mix && mix->kind == YAML_MAP && mix->count)
        refuse(o, mix, "mix_cfg has no counterpart: write one linear_quant for each type");
}

static void read_activations(Old *o, Pair *p)
{
    static const char *const methods[] = {[1] = "minmax", [2] = "histogram"};
    const double method = number(o, "act_method", 1);
    p->act_scope = "per_tensor";
    if (method == 1 || method == 2)
        p->act_method = methods[(int)method];
    else
        refuse(o, yaml_get(o->cfg, "act_method"), "act_method has a counterpart for 1 (minmax) and 2 (histogram) only");
    if (flag(o, "is_dynamic", false)) {
        p->act_scope = "per_token";
        p->act_symmetric = true;
        p->act_method = "minmax";
    } else if (flag(o, "pdmix", false)) {
        p->act_scope = "pd_mix";
    }
}

static void read_method(Old *o, Pair *p)
{
    const YamlNode *m = yaml_get(o->cfg, "w_method");
    p->method = "minmax";
    if (node_is(m, "GPTQ")) {
        p->method = "gptq";
        p->percdamp = number(o, "percdamp", 0.01);
    } else if (m && m->kind != YAML_NULL && !node_is(m, "MinMax")) {
        refuse(o, m, "w_method has a counterpart for MinMax and GPTQ only");
    }
}

static void read_sparse(Old *o, Pair *p)
{
    const YamlNode *low = yaml_get(o->cfg, "is_lowbit");
    p->method = "w8a8s";
    p->fraction = number(o, "fraction", 0.01);
    p->dtype = "int8";
    if (flag(o, "is_lowbit", false))
        check_note(o->c, low, "is_lowbit: what v0 computes there isn't known, weights get the rule of co_sparse");
    if (flag(o, "use_sigma", false))
        check_note(o->c, yaml_get(o->cfg, "use_sigma"), "use_sigma: not used, outliers are the share 'fraction'");
}

/* Which pair w_bit, a_bit and their companions mean. */
static void read_pair(Old *o, Pair *p)
{
    const double w = number(o, "w_bit", 8), a = number(o, "a_bit", 8);
    const bool low = flag(o, "is_lowbit", false), dynamic = flag(o, "is_dynamic", false);
    const bool sparse = (flag(o, "co_sparse", false) || (low && w == 4)) && a == 8 && !dynamic;
    *p = (Pair){.scope = "per_channel", .dtype = w == 4 ? "int4" : "int8"};
    p->symmetric = flag(o, "w_sym", true);
    p->kv_cache = flag(o, "use_kvcache_quant", false);
    p->attention = flag(o, "use_fa_quant", false);
    if (p->kv_cache && p->attention)
        refuse(o, yaml_get(o->cfg, "use_fa_quant"), "use_fa_quant and use_kvcache_quant exclude each other");
    if ((w != 8 && w != 4) || (a != 8 && a != 16)) {
        refuse(o, yaml_get(o->cfg, w != 8 && w != 4 ? "w_bit" : "a_bit"), "these bits have no counterpart");
        return;
    }
    if (a == 8)
        read_activations(o, p);
    read_method(o, p);
    if (sparse) {
        read_sparse(o, p);
    } else if (low && !flag(o, "open_outlier", true) && (a == 16 || w == 4)) {
        p->scope = "per_group";
        p->group_size = (int64_t)number(o, "group_size", 64);
    } else if (low) {
        refuse(o, yaml_get(o->cfg, "is_lowbit"), "is_lowbit has no counterpart for these bits");
    }
}

/* ---- writing ---- */

static void put_quoted(Str *out, const char *s, size_t n)
{
    str_putc(out, '\'');
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\'')
            str_putc(out, '\'');
        str_putc(out, s[i]);
    }
    str_putc(out, '\'');
}

/* Any node, in flow style. Depth is bounded by YAML_DEPTH_MAX. */
static void put_flow(Str *out, const YamlNode *n)
{
    switch (n->kind) {
    case YAML_MAP:
        str_putc(out, '{');
        for (int i = 0; i < n->count; i++) {
            str_puts(out, i ? ", " : "");
            put_flow(out, n->keys[i]);
            str_puts(out, ": ");
            put_flow(out, n->vals[i]);
        }
        str_putc(out, '}');
        return;
    case YAML_SEQ:
        str_putc(out, '[');
        for (int i = 0; i < n->count; i++) {
            str_puts(out, i ? ", " : "");
            put_flow(out, n->items[i]);
        }
        str_putc(out, ']');
        return;
    case YAML_STR:
        put_quoted(out, n->text, n->len);
        return;
    case YAML_NULL:
        str_puts(out, "null");
        return;
    default:
        str_puts(out, n->text);
        return;
    }
}

/* A list of names as an exclude list: names are taken literally. */
static void put_exclude(Old *o, Str *out, const YamlNode *names, const char *key)
{
    char text[160];
    if (!names || names->kind == YAML_NULL)
        return;
    if (names->kind != YAML_SEQ) {
        snprintf(text, sizeof text, "%s is no list", key);
        refuse(o, names, text);
        return;
    }
    str_puts(out, names->count ? "      exclude:\n" : "");
    for (int i = 0; i < names->count; i++) {
        const YamlNode *n = names->items[i];
        Str name = {0};
        if (n->kind != YAML_STR) {
            snprintf(text, sizeof text, "%s.%d is no text", key, i);
            refuse(o, n, text);
            continue;
        }
        for (const char *s = n->text; *s; s++) {
            if (strchr("*?[{\\", *s))
                str_putc(&name, '\\');
            str_putc(&name, *s);
        }
        str_puts(out, "        - ");
        put_quoted(out, str_text(&name), name.len);
        str_putc(out, '\n');
        out->oom |= name.oom;
        str_free(&name);
    }
}

/* With a dot and no exponent: YAML 1.1 takes 1e-05 for a text. */
static void put_number(Str *out, double x)
{
    char text[64];
    snprintf(text, sizeof text, "%.9g", x);
    if (strchr(text, 'e'))
        snprintf(text, sizeof text, "%.12f", x);
    str_puts(out, text);
    str_putc(out, '\n');
}

static void put_side(Str *out, const char *side, const char *scope, const char *dtype, bool symmetric,
                     const char *method)
{
    str_printf(out, "        %s:\n          scope: '%s'\n          dtype: '%s'\n          symmetric: %s\n", side, scope,
               dtype, symmetric ? "true" : "false");
    str_printf(out, "          method: '%s'\n", method);
}

static void put_weight_ext(Str *out, const Pair *p)
{
    const bool gptq = strcmp(p->method, "gptq") == 0;
    if (!gptq && p->fraction <= 0 && p->group_size <= 0)
        return;
    str_puts(out, "          ext:\n");
    if (p->fraction > 0) {
        str_puts(out, "            fraction: ");
        put_number(out, p->fraction);
    }
    if (gptq) {
        str_puts(out, "            percdamp: ");
        put_number(out, p->percdamp);
    }
    if (p->group_size > 0)
        str_printf(out, "            group_size: %lld\n", (long long)p->group_size);
}

static void put_linear_quant(Old *o, Str *out, const Pair *p)
{
    str_puts(out, "    - type: 'linear_quant'\n      qconfig:\n");
    if (p->act_scope)
        put_side(out, "act", p->act_scope, "int8", p->act_symmetric, p->act_method);
    put_side(out, "weight", p->scope, p->dtype, p->symmetric, p->method);
    put_weight_ext(out, p);
    str_puts(out, "      include:\n        - '*'\n");
    put_exclude(o, out, yaml_get(o->cfg, "disable_names"), "calib_cfg.disable_names");
}

/* anti_cfg: the two outlier methods that v1 has under another name. */
static void put_smoothing(Old *o, Str *out)
{
    const YamlNode *anti = yaml_get(o->spec, "anti_cfg"), *method = yaml_get(anti, "anti_method");
    const YamlNode *flex = yaml_get(anti, "flex_config"), *data = yaml_get(o->spec, "anti_dataset");
    if (!anti || anti->kind == YAML_NULL || (anti->kind == YAML_MAP && !anti->count))
        return;
    bool m6 = node_is(method, "m6");
    if (!m6 && !node_is(method, "m4")) {
        refuse(o, method ? method : anti, "anti_method has a counterpart for m4 (iter_smooth) and m6 (flex) only");
        return;
    }
    str_printf(out, "    - type: '%s'\n", m6 ? "flex_smooth_quant" : "iter_smooth");
    static const char *const keys[] = {"alpha", "beta"};
    for (int i = 0; m6 && i < 2; i++) {
        double x;
        const YamlNode *v = yaml_get(flex, keys[i]);
        if (v && lax_float(v, &x)) {
            str_printf(out, "      %s: ", keys[i]);
            put_number(out, x);
        }
    }
    put_exclude(o, out, yaml_get(anti, "disable_anti_names"), "anti_cfg.disable_anti_names");
    if (data && data->kind != YAML_NULL)
        check_note(o->c, data, "anti_dataset: smoothing sees the texts of calib_dataset instead");
}

/* v0 writes one file unless calib_save_params says otherwise. */
static void put_rest(Old *o, Str *out)
{
    const YamlNode *size = yaml_get(yaml_get(o->spec, "calib_save_params"), "part_file_size");
    const YamlNode *data = yaml_get(o->spec, "calib_dataset");
    double x = 0;
    if (size && size->kind != YAML_NULL && (!lax_float(size, &x) || !(x >= 0 && x < 1e9)))
        refuse(o, size, "calib_save_params.part_file_size is no size in GB");
    str_printf(out, "  save:\n    - type: 'ascendv1_saver'\n      part_file_size: ");
    put_number(out, x);
    str_puts(out, "  dataset: ");
    if (data && data->kind == YAML_STR)
        put_quoted(out, data->text, data->len);
    else
        str_puts(out, "'teacher_qualification.jsonl'");
    str_putc(out, '\n');
}

static void translate(Check *c, const YamlNode *root, Str *out)
{
    Old o = {.c = c, .spec = yaml_get(root, "spec")};
    const YamlNode *meta = yaml_get(root, "metadata");
    Pair p;
    if (!o.spec)
        o.spec = root;
    o.cfg = yaml_get(o.spec, "calib_cfg");
    refuse_settings(&o);
    refuse_params(&o);
    read_pair(&o, &p);
    str_puts(out, "apiversion: modelslim_v1\n");
    if (meta) {
        str_puts(out, "metadata: ");
        put_flow(out, meta);
        str_putc(out, '\n');
    }
    str_puts(out, "spec:\n  process:\n");
    put_smoothing(&o, out);
    if (!o.stuck)
        put_linear_quant(&o, out, &p);
    if (p.kv_cache) {
        str_puts(out, "    - type: 'dynamic_cache'\n      qconfig:\n        scope: 'per_channel'\n        dtype: "
                      "'int8'\n        symmetric: false\n        method: 'minmax'\n");
        check_note(c, yaml_get(o.cfg, "use_kvcache_quant"), "use_kvcache_quant: asymmetric per_channel int8");
    }
    if (p.attention) {
        str_puts(out, "    - type: 'fa3_quant'\n");
        check_note(c, yaml_get(o.cfg, "use_fa_quant"), "use_fa_quant: int8 per_head queries, keys and values");
    }
    put_rest(&o, out);
    if (o.stuck)
        str_clear(out);
    else
        check_note(c, o.spec, "modelslim_v0: translated to modelslim_v1, which is what runs and what export writes");
}

static const Field spec_fields[] = {FIELD_END};
static const Object spec_object = {.fields = spec_fields, .extra = true};

const ApiVersion api_v0 = {
    .name = "modelslim_v0",
    .spec = &spec_object,
    .dataset = "teacher_qualification.jsonl",
    .translate = translate,
};
