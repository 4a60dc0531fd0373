#include "tune/standing.h"

#include <stdlib.h>
#include <string.h>

/* The template of a plan that has none: what the peer's guide says it is. */
static const char default_spec[] = "process:\n"
                                   "  - type: linear_quant\n"
                                   "    qconfig:\n"
                                   "      act: {scope: per_tensor, dtype: int8, symmetric: false, method: minmax}\n"
                                   "      weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}\n"
                                   "    include: ['*']\n"
                                   "save:\n"
                                   "  - {type: ascendv1_saver, part_file_size: 4}\n"
                                   "dataset: mix_calib.jsonl\n";

static const Field metadata_fields[] = {
    {.key = "config_id", .type = F_STR, .longest = 180, .filled = true},
    {.key = "label", .type = F_MAP},
    FIELD_END,
};
const Object standing_metadata_object = {.fields = metadata_fields};

void standing_check_template(Check *c, const YamlNode *v, const Field *f)
{
    (void)f;
    check_object(c, v, &recipe_spec_object);
    const YamlNode *process = yaml_get(v, "process");
    if (v->kind != YAML_MAP || (process && process->kind != YAML_SEQ))
        return; /* said already */
    int n = practice_linears(process, !check_peer(c), NULL), inside = practice_linears(process, true, NULL);
    if (n > 0)
        return;
    size_t was = check_push(c, "process");
    check_fail(c, process ? process : v, "needs at least one linear_quant%s", inside ? ": those in groups don't count under --compat peer" : "");
    check_pop(c, was);
}

static void check_strategy(Check *c, const YamlNode *v)
{
    static const Field list = {.type = F_CHECKED};
    check_processors(c, v, &list);
}

void standing_check_strategies(Check *c, const YamlNode *v, const Field *f)
{
    if (v->kind != YAML_SEQ) {
        check_fail(c, v, "must be a list of lists of processors, not %s", yaml_kind_name(v->kind));
        return;
    }
    if (v->count < f->least)
        check_fail(c, v, "needs at least one item ([] is one without suppression)");
    for (int i = 0; i < v->count; i++) {
        size_t was = check_push_index(c, i);
        check_strategy(c, v->items[i]);
        check_pop(c, was);
    }
}

const void *standing_settings(Arena *a, const YamlNode *map)
{
    StandingSettings *s = arena_alloc(a, sizeof *s);
    if (!s)
        return NULL;
    const YamlNode *meta = yaml_get(map, "metadata"), *id = yaml_get(meta, "config_id"), *metric = yaml_get(map, "metric");
    const YamlNode *type = yaml_get(map, "type"), *scope = yaml_get(map, "scope");
    *s = (StandingSettings){.strategies = yaml_get(map, "anti_outlier_strategies"), .spec = yaml_get(map, "template"),
                            .id = id ? id->text : type->text, .label = yaml_get(meta, "label"),
                            .metric = metric ? metric->text : NULL};
    for (int i = 0; scope && rank_scope_names[i]; i++)
        if (node_is(scope, rank_scope_names[i]))
            s->scope = (RankScope)i;
    return s;
}

/* ---- the ranking that it wants ---- */

/* Include lists of the linear_quant in order, each pattern once; `*` for an empty one. */
static void gather_modules(const YamlNode *process, bool groups, const char **list, int *n, int most)
{
    for (int i = 0; process && i < process->count; i++) {
        const YamlNode *item = process->items[i], *type = yaml_get(item, "type"), *include = yaml_get(item, "include");
        if (groups && node_is(type, "group"))
            gather_modules(yaml_get(item, "configs"), true, list, n, most);
        if (!node_is(type, "linear_quant"))
            continue;
        int count = include && include->kind == YAML_SEQ ? include->count : 0;
        for (int k = 0; k < (count ? count : 1); k++) {
            const char *text = count ? include->items[k]->text : "*";
            bool there = false;
            for (int j = 0; j < *n; j++)
                there = there || strcmp(list[j], text) == 0;
            if (!there && *n < most)
                list[(*n)++] = text;
        }
    }
}

enum { MODULES_MAX = 4096 };

static Status make_wish(Standing *s, bool bytes, Error *err)
{
    const YamlNode *process = yaml_get(s->set.spec, "process"), *dataset = yaml_get(s->set.spec, "dataset");
    const char **modules = arena_alloc(&s->arena, MODULES_MAX * sizeof *modules);
    if (!modules)
        return error_nomem(err, "a strategy");
    s->wish = (RankWish){.scope = s->set.scope, .metric = "block_error", .modules = modules, .bytes = bytes,
                         .dataset = dataset && dataset->text ? dataset->text : "mix_calib.jsonl"};
    gather_modules(process, !s->kit->peer, modules, &s->wish.nmodules, MODULES_MAX);
    if (s->kit->peer) {
        s->wish.metric = "mse_layer_wise";
        s->wish.scope = RANK_BLOCKS;
        return ST_OK;
    }
    if (s->set.metric)
        s->wish.metric = s->set.metric;
    DraftMade m = {0};
    Draft d = {.anti = 0};
    Status st = standing_make(s, &s->arena, &d, "ranking", &m, err);
    if (st == ST_OK && !(s->wish.recipe = arena_strndup(&s->arena, m.doc.text.s, m.doc.text.len)))
        st = error_nomem(err, "a strategy");
    practice_made_free(&m.doc);
    return st;
}

Status standing_new(Standing **out, const StandingSettings *set, YamlDoc *own, bool bytes, const StrategyKit *kit, Error *err)
{
    static const YamlNode nothing = {.kind = YAML_SEQ};
    Standing *s = calloc(1, sizeof *s);
    if (!s) {
        yaml_doc_free(own);
        return error_nomem(err, "a strategy");
    }
    s->kit = kit;
    s->set = *set;
    s->own = own;
    Status st = ST_OK;
    if (!s->set.spec) {
        st = yaml_parse(&s->own, default_spec, sizeof default_spec - 1, "template", err);
        s->set.spec = st == ST_OK ? yaml_root(s->own) : NULL;
    }
    int n = s->set.strategies ? s->set.strategies->count : 0;
    s->front = arena_alloc(&s->arena, (size_t)(n + 1) * sizeof *s->front);
    if (st == ST_OK && !s->front)
        st = error_nomem(err, "a strategy");
    for (int i = 0; st == ST_OK && i < n; i++)
        s->front[s->n++] = s->set.strategies->items[i];
    if (st == ST_OK && s->n == 0)
        s->front[s->n++] = &nothing;
    if (st == ST_OK)
        st = make_wish(s, bytes, err);
    if (st != ST_OK)
        standing_close(s);
    else
        *out = s;
    return st;
}

Status standing_open(void **state, const void *settings, const StrategyKit *kit, Error *err)
{
    Standing *s;
    RETURN_IF_ERROR(standing_new(&s, settings, NULL, false, kit, err));
    *state = s;
    return ST_OK;
}

void standing_close(void *state)
{
    Standing *s = state;
    yaml_doc_free(s->own);
    arena_free(&s->arena);
    free(s);
}

const char *standing_id(const void *state)
{
    return ((const Standing *)state)->set.id;
}

Status standing_make(const void *state, Arena *a, const Draft *d, const char *id, DraftMade *out, Error *err)
{
    const Standing *s = state;
    PracticeWish w = {.id = id, .front = s->front[d->anti], .peer = s->kit->peer, .model_type = s->kit->peer ? NULL : s->kit->model_type,
                      .label = s->set.label};
    w.patterns = draft_patterns(a, d, s->wish.scope, &w.npatterns);
    out->anti = practice_short(a, s->front[d->anti]);
    if (!w.patterns || !out->anti)
        return error_nomem(err, "a practice");
    return practice_standing(a, s->set.spec, &w, &out->doc, err);
}
