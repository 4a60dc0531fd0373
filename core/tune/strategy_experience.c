#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "tune/canon.h"
#include "tune/standing.h"

/* standing_high_with_experience (specs/tuning.md 5): the kinds of structure that a model has, each quantized as a table says, and
 * then standing_high. The table is a file that a person may edit. */

typedef struct ExperienceSettings {
    const YamlNode *structures;
    const char *quant_type;
    StandingSettings standing;
} ExperienceSettings;

/* ---- keys ---- */

static const Field structure_fields[] = {
    {.key = "type", .type = F_STR, .required = true, .filled = true},
    {.key = "include", .type = F_PATTERNS, .required = true, .least = 1, .filled = true},
    {.key = "exclude", .type = F_PATTERNS, .longest = 200, .nullable = true},
    FIELD_END,
};
static const Object structure_object = {.fields = structure_fields};
static const char *const quant_types[] = {"w4a8", "w8a8", NULL};
static const Field fields[] = {
    FIELD_TYPE,
    {.key = "quant_type", .type = F_ENUM, .words = quant_types},
    {.key = "structure_configs", .type = F_OBJECTS, .object = &structure_object, .required = true, .least = 1},
    FIELD_RANKING,
    FIELD_END,
};
static const Object object = {.fields = fields};

static const void *settings(Arena *a, const YamlNode *map)
{
    ExperienceSettings *s = arena_alloc(a, sizeof *s);
    const StandingSettings *ranking = standing_settings(a, map);
    if (!s || !ranking)
        return NULL;
    const YamlNode *type = yaml_get(map, "quant_type");
    *s = (ExperienceSettings){.structures = yaml_get(map, "structure_configs"), .quant_type = type ? type->text : "w8a8",
                              .standing = *ranking};
    return s;
}

/* ---- the table ---- */

/* "float", or {act, weight}. */
static void check_structures(Check *c, const YamlNode *v, const Field *f)
{
    (void)f;
    if (v->kind != YAML_MAP) {
        check_fail(c, v, "must be a mapping, not %s", yaml_kind_name(v->kind));
        return;
    }
    for (int i = 0; i < v->count; i++) {
        size_t was = check_push(c, v->keys[i]->text ? v->keys[i]->text : "?");
        if (v->vals[i]->kind == YAML_STR && !node_is(v->vals[i], "float"))
            check_fail(c, v->vals[i], "must be float or {act, weight}, not %s", v->vals[i]->text);
        else if (v->vals[i]->kind != YAML_STR)
            check_object(c, v->vals[i], &qconfig_object);
        check_pop(c, was);
    }
}

static const Field kind_fields[] = {
    {.key = "structures", .type = F_CHECKED, .value = check_structures, .required = true},
    {.key = "anti_outlier_strategies", .type = F_CHECKED, .value = standing_check_strategies, .least = 1, .required = true},
    FIELD_END,
};
static const Object kind_object = {.fields = kind_fields};
static const Field table_fields[] = {{.key = "quant_types", .type = F_MAP, .object = &kind_object, .required = true}, FIELD_END};
static const Object table_object = {.fields = table_fields};

static void check_table(Check *c, void *ctx)
{
    const YamlNode *root = ctx;
    if (!root)
        check_fail(c, NULL, "a mapping with quant_types is expected, not an empty file");
    else
        check_object(c, root, &table_object);
}

static Status open_table(const StrategyKit *kit, YamlDoc **out, Error *err)
{
    char *text;
    size_t len;
    if (!kit->experience)
        return error_set(err, ST_DATA, "standing_high_with_experience needs the table lab_practice/experience.yaml, which isn't there");
    RETURN_IF_ERROR(file_read(kit->experience, YAML_BYTES_MAX, &text, &len, err));
    Status st = yaml_parse(out, text, len, kit->experience, err);
    free(text);
    RETURN_IF_ERROR(st);
    st = check_run(kit->rows, kit->experience, false, NULL, check_table, (void *)(uintptr_t)yaml_root(*out), err);
    if (st != ST_OK)
        yaml_doc_free(*out);
    return st;
}

/* ---- the template ---- */

static void put_texts(Str *out, const YamlNode *list, bool *first)
{
    for (int i = 0; list && list->kind == YAML_SEQ && i < list->count; i++) {
        str_puts(out, *first ? "" : ", ");
        canon_plain(NULL, list->items[i], out);
        *first = false;
    }
}

/* Kinds of structure in words. */
static void put_known(const YamlNode *structures, Str *out)
{
    for (int i = 0; i < structures->count; i++)
        str_printf(out, "%s%s", i ? ", " : "", structures->keys[i]->text);
}

/* What the table says of a structure of the plan. */
static Status kind_of(const ExperienceSettings *s, const YamlNode *structures, const YamlNode *item, const YamlNode **out, Error *err)
{
    const YamlNode *type = yaml_get(item, "type");
    *out = yaml_get(structures, type->text);
    if (*out)
        return ST_OK;
    Str known = {0};
    put_known(structures, &known);
    Status st = error_set(err, ST_DATA, "strategy.structure_configs: line %d: the experience with %s has no structure '%.80s': there are %s",
                          type->line, s->quant_type, type->text, str_text(&known));
    str_free(&known);
    return st;
}

/* Appends the linear_quant of a structure; all[] : the includes of those that stay in float. */
static void put_entry(const StrategyKit *kit, const YamlNode *item, const YamlNode *q, const Str *floats, Str *out)
{
    bool first = true;
    str_puts(out, "    - {type: linear_quant, qconfig: ");
    canon_object(kit->rows, q, &qconfig_object, NULL, out);
    str_puts(out, ", include: [");
    put_texts(out, yaml_get(item, "include"), &first);
    first = true;
    Str list = {0};
    put_texts(&list, yaml_get(item, "exclude"), &first);
    if (floats->len)
        str_printf(&list, "%s%s", first ? "" : ", ", str_text(floats));
    str_printf(out, "], exclude: [%s]}\n", str_text(&list));
    out->oom = out->oom || list.oom;
    str_free(&list);
}

static Status put_process(const ExperienceSettings *s, const StrategyKit *kit, const YamlNode *structures, Str *out, Error *err)
{
    Str floats = {0};
    bool first = true;
    const YamlNode *q;
    Status st = ST_OK;
    int quantized = 0;
    for (int i = 0; st == ST_OK && i < s->structures->count; i++) {
        st = kind_of(s, structures, s->structures->items[i], &q, err);
        if (st == ST_OK && q->kind == YAML_STR)
            put_texts(&floats, yaml_get(s->structures->items[i], "include"), &first);
        quantized += st == ST_OK && q->kind == YAML_MAP;
    }
    if (st == ST_OK && quantized == 0)
        st = error_set(err, ST_DATA, "strategy.structure_configs: line %d: every structure stays in float: nothing is left to quantize",
                       s->structures->line);
    for (int i = 0; st == ST_OK && i < s->structures->count; i++) {
        st = kind_of(s, structures, s->structures->items[i], &q, err);
        if (st == ST_OK && q->kind == YAML_MAP)
            put_entry(kit, s->structures->items[i], q, &floats, out);
    }
    out->oom = out->oom || floats.oom;
    str_free(&floats);
    return st;
}

/* A plan of standing_high that says the same. */
static Status make_plan(const ExperienceSettings *s, const StrategyKit *kit, const YamlNode *kind, YamlDoc **out, Error *err)
{
    int w = 8, a = 8;
    sscanf(s->quant_type, "w%da%d", &w, &a);
    Str text = {0};
    str_printf(&text, "type: standing_high_with_experience\nmetadata:\n  config_id: standing_high_with_experience\n  label: {w_bit: %d, a_bit: %d, "
                      "is_sparse: false, kv_cache: false}\n", w, a);
    str_puts(&text, "anti_outlier_strategies: ");
    canon_plain(kit->rows, yaml_get(kind, "anti_outlier_strategies"), &text);
    str_puts(&text, "\ntemplate:\n  runner: auto\n  process:\n");
    Status st = put_process(s, kit, yaml_get(kind, "structures"), &text, err);
    str_puts(&text, "  save: [{type: ascendv1_saver, part_file_size: 4}]\n  dataset: mix_calib.jsonl\n");
    if (st == ST_OK && text.oom)
        st = error_nomem(err, "a strategy");
    if (st == ST_OK)
        st = yaml_parse(out, str_text(&text), text.len, "experience", err);
    str_free(&text);
    return st;
}

/* ---- strategies that this build runs ---- */

static Status runs(const Standing *s, int anti, bool *yes, Str *why, Error *err)
{
    Arena a = {0};
    DraftMade m = {0};
    Recipe *r = NULL;
    Error e = {0};
    Status st = standing_make(s, &a, &(Draft){.anti = anti}, "check", &m, err);
    if (st == ST_OK) {
        Status parsed = recipe_parse(&r, s->kit->rows, m.doc.text.s, m.doc.text.len, "strategy", NULL, &e);
        *yes = parsed == ST_OK && recipe_can_run(r, why);
        if (parsed != ST_OK)
            str_puts(why, e.text);
        recipe_free(r);
    }
    practice_made_free(&m.doc);
    arena_free(&a);
    return st;
}

/* Those that can't be run are left out, said. */
static Status drop_unfit(Standing *s, Error *err)
{
    int kept = 0;
    for (int i = 0; i < s->n; i++) {
        Str why = {0};
        bool yes = false;
        Status st = runs(s, i, &yes, &why, err);
        if (st == ST_OK && !yes)
            kit_say(s->kit, 1, "the suppression '%s' is left out: %.*s", practice_short(&s->arena, s->front[i]),
                    (int)strcspn(str_text(&why), "\n"), str_text(&why));
        str_free(&why);
        RETURN_IF_ERROR(st);
        if (yes)
            s->front[kept++] = s->front[i];
    }
    s->n = kept;
    return kept ? ST_OK : error_set(err, ST_DATA, "no outlier suppression of the experience can be run");
}

static Status open_it(void **state, const void *set, const StrategyKit *kit, Error *err)
{
    const ExperienceSettings *s = set;
    YamlDoc *table, *plan = NULL;
    Standing *made = NULL;
    RETURN_IF_ERROR(open_table(kit, &table, err));
    const YamlNode *kind = yaml_get(yaml_get(yaml_root(table), "quant_types"), s->quant_type);
    Status st = kind ? ST_OK : error_set(err, ST_DATA, "%s has nothing of quant_type %s", kit->experience, s->quant_type);
    if (st == ST_OK)
        st = make_plan(s, kit, kind, &plan, err);
    if (st == ST_OK) {
        StandingSettings standing = s->standing;
        const YamlNode *root = yaml_root(plan), *meta = yaml_get(root, "metadata");
        standing.strategies = yaml_get(root, "anti_outlier_strategies");
        standing.spec = yaml_get(root, "template");
        standing.id = yaml_get(meta, "config_id")->text;
        standing.label = yaml_get(meta, "label");
        st = standing_new(&made, &standing, plan, false, kit, err);
    }
    yaml_doc_free(table);
    if (st == ST_OK && (st = drop_unfit(made, err)) != ST_OK)
        standing_close(made);
    if (st == ST_OK)
        *state = made;
    return st;
}

const StrategyType strategy_experience = {
    .name = "standing_high_with_experience",
    .object = &object,
    .peer = true,
    .settings = settings,
    .open = open_it,
    .close = standing_close,
    .play = standing_play,
    .make = standing_make,
    .id = standing_id,
};
