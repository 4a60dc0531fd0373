#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "model/model.h"
#include "process/dynamic_cache.h"
#include "recipe/pattern.h"
#include "recipe/practice_impl.h"
#include "recipe/recipe.h"
#include "recipe/runtime.h"
#include "save/format.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/tiny_model.h"

/* The recipes that ship, each against a model of its family: tests/lib/family_headers.py writes the names, shapes and
 * layers of the real ones. */

typedef struct World {
    char *dir;
    PracticeLibrary *lib;
    const Practice *practice;
    size_t n;
    Model *model; /* of `pedigree` */
    char pedigree[64];
} World;

static int set_up(void **state)
{
    static World w;
    char line[300];
    w.dir = temp_folder();
    snprintf(line, sizeof line, "PYTHONDONTWRITEBYTECODE=1 python3 tests/lib/family_headers.py %s", w.dir);
    assert_int_equal(system(line), 0);
    assert_int_equal(practice_library_new(&w.lib, &recipe_rows, NULL), ST_OK);
    assert_int_equal(practice_add_folder(w.lib, "lab_practice", PRACTICE_OFFICIAL, NULL, NULL), ST_OK);
    assert_string_equal(practice_notes(w.lib), "");
    w.practice = practice_sorted(w.lib, &w.n);
    assert_true(w.n >= 40);
    *state = &w;
    return 0;
}

static int tear_down(void **state)
{
    World *w = *state;
    model_free(w->model);
    practice_library_free(w->lib);
    temp_remove(w->dir);
    return 0;
}

/* The family's model, opened once for the practices of a folder that follow each other. */
static const Model *model_of(World *w, const char *pedigree)
{
    if (!w->model || strcmp(w->pedigree, pedigree) != 0) {
        model_free(w->model);
        w->model = test_model_open(temp_path(w->dir, pedigree), NULL);
        snprintf(w->pedigree, sizeof w->pedigree, "%s", pedigree);
        assert_null(w->model->warning);
    }
    return w->model;
}

/* One practice, read against its family's model. */
typedef struct Read {
    const Practice *p;
    const Model *m;
    Recipe *r;
    int16_t *level;
} Read;

static void read_open(World *w, const Practice *p, Read *x)
{
    Error err = {0};
    Str all = {0};
    *x = (Read){.p = p, .m = model_of(w, p->pedigree)};
    if (recipe_open(&x->r, &recipe_rows, p->path, &all, &err) != ST_OK)
        fail_msg("%s: %s", p->path, err.text);
    assert_string_equal(str_text(&all), "");
    str_free(&all);
    x->level = mem_zarray((size_t)x->m->nlinears, sizeof *x->level);
    if (recipe_assign(x->r, x->m, x->level, &err) != ST_OK)
        fail_msg("%s: %s", p->path, err.text);
}

static void read_close(Read *x)
{
    recipe_free(x->r);
    free(x->level);
}

/* Calls check for every practice, a folder at a time. */
static void each(World *w, void (*check)(const Read *x))
{
    for (size_t first = 0; first < w->n; first++) {
        bool done = false;
        for (size_t i = 0; i < first && !done; i++)
            done = strcmp(w->practice[i].pedigree, w->practice[first].pedigree) == 0;
        for (size_t i = first; i < w->n && !done; i++) {
            Read x;
            if (strcmp(w->practice[i].pedigree, w->practice[first].pedigree) != 0)
                continue;
            read_open(w, &w->practice[i], &x);
            check(&x);
            read_close(&x);
        }
    }
}

/* ---- loads, is named after its file, runs ---- */

static void check_loads(const Read *x)
{
    const char *base = strrchr(x->p->path, '/') + 1;
    const size_t n = strlen(x->p->id);
    Str why = {0};
    if (strncmp(base, x->p->id, n) != 0 || strcmp(base + n, ".yaml") != 0)
        fail_msg("%s: config_id is %s", x->p->path, x->p->id);
    for (int i = 0; i < recipe_notes(x->r); i++) /* the sparse rule is ours, and says so */
        if (recipe_note(x->r, i)->blocks || x->p->sparse != 1)
            fail_msg("%s: %s", x->p->path, recipe_note(x->r, i)->text);
    if (!recipe_can_run(x->r, &why) || !x->p->runs)
        fail_msg("%s", str_text(&why));
    str_free(&why);
    int weight = 16, act = 16;
    for (int i = 0; i < recipe_entries(x->r); i++) {
        const Scheme *s = recipe_entry(x->r, i)->scheme;
        if (!s || !s->runnable)
            fail_msg("%s: entry %d can't be deployed", x->p->path, i + 1);
        weight = s->weight_bits < weight ? s->weight_bits : weight;
        act = s->act_bits < act ? s->act_bits : act;
    }
    if (weight != x->p->w_bit || act != x->p->a_bit) /* the label is the fewest bits of its entries */
        fail_msg("%s is labelled w%ga%g, but is w%da%d", x->p->path, x->p->w_bit, x->p->a_bit, weight, act);
}

static void loads_and_runs(void **state)
{
    each(*state, check_loads);
}

/* ---- patterns ---- */

static bool is_default(const Read *x)
{
    return strcmp(x->p->pedigree, "default") == 0;
}

/* Every pattern of a list: lint has nothing to say, and it adds something to those before it that lies within `within`
 * (NULL: anywhere); default practices also name what the present family hasn't. sum[i] |= what the list selects. */
static void check_list(const Read *x, const char *const *list, int n, const bool *within, bool *sum)
{
    const int64_t count = x->m->nlinears;
    for (int k = 0; k < n; k++) {
        Lint lint;
        Pattern *p;
        int64_t fresh = 0;
        assert_int_equal(pattern_lint(list[k], x->m, sum, &lint, NULL), ST_OK);
        if (lint.kind == LINT_NO_MATCH && is_default(x))
            continue; /* defaults_fit_every_family looks at these */
        if (lint.kind != LINT_OK)
            fail_msg("%s: '%s' %s", x->p->path, list[k], lint.text);
        assert_int_equal(pattern_compile(&p, list[k], NULL), ST_OK);
        bool *hits = mem_zarray((size_t)count, 1);
        pattern_hits(p, x->m, hits);
        pattern_free(p);
        for (int64_t i = 0; i < count; i++) {
            fresh += hits[i] && !sum[i] && (!within || within[i]);
            sum[i] |= hits[i];
        }
        if (!fresh)
            fail_msg("%s: '%s' changes nothing", x->p->path, list[k]);
        free(hits);
    }
}

static void check_patterns(const Read *x)
{
    const size_t count = (size_t)x->m->nlinears;
    int *owner = mem_zarray(count, sizeof *owner);
    for (int e = 0; e < recipe_entries(x->r); e++) {
        const RecipeEntry *entry = recipe_entry(x->r, e);
        bool *in = mem_zarray(count, 1), *ex = mem_zarray(count, 1);
        check_list(x, entry->include, entry->ninclude, NULL, in);
        check_list(x, entry->exclude, entry->nexclude, in, ex);
        for (size_t i = 0; i < count; i++) {
            if (!in[i] || ex[i])
                continue;
            if (owner[i])
                fail_msg("%s: entries %d and %d both claim %s", x->p->path, owner[i], e + 1, x->m->linears[i].name);
            owner[i] = e + 1;
            assert_int_equal(x->level[i], e + 1);
        }
        free(in);
        free(ex);
    }
    for (size_t i = 0; i < count; i++)
        assert_int_equal(x->level[i], owner[i]);
    free(owner);
}

static void every_pattern_counts(void **state)
{
    each(*state, check_patterns);
}

static void check_groups(const Read *x)
{
    int64_t all = 0, quantized = 0;
    for (int64_t g = 0; g < x->m->ngroups; g++) {
        const FusedGroup *f = &x->m->groups[g];
        for (int32_t k = 0; k < f->count; k++) {
            const int32_t i = group_linear(f, k);
            const Linear *l = &x->m->linears[i];
            if (x->level[i] != x->level[f->first])
                fail_msg("%s splits the group of %s", x->p->path, l->name);
            all += l->out * l->in;
            quantized += x->level[i] ? l->out * l->in : 0;
            /* an expert may see no token: no range may be needed */
            if (l->expert >= 0)
                assert_true(recipe_entry(x->r, x->level[i] - 1)->scheme->data_free);
        }
    }
    if (quantized < all - all / 8)
        fail_msg("%s leaves %.0f %% of the weights in float", x->p->path, 100.0 * (double)(all - quantized) / (double)all);
}

static void groups_stay_whole(void **state)
{
    each(*state, check_groups);
}

/* ---- what the family's recipes agree on ---- */

static const struct {
    const char *pedigree, *pattern; /* these linears are float in every practice of the folder */
} spared[] = {
    {"qwen3_moe", "*.mlp.gate"},          {"qwen3_next", "*.mlp.gate"},
    {"qwen3_next", "*shared_expert_gate"}, {"qwen3_next", "*.in_proj_ba"},
    {"deepseek_v3", "*.kv_b_proj"},       {"deepseek_v3_2", "*.kv_b_proj"},
    {"deepseek_v3_2", "*.indexer.*"},     {"glm_5", "*.kv_b_proj"},
    {"glm_5", "*.indexer.*"},             {"kimi_k2", "*.kv_b_proj"},
    {"glm4_moe_lite", "*.kv_b_proj"},     {"longcat_flash", "*.kv_b_proj"},
    {"longcat_flash", "*.classifier"},    {"minimax_m2", "*.block_sparse_moe.gate"},
    {"deepseek_v4", "*.wo_a"},            {"deepseek_v4", "*.indexer.*"},
    {"deepseek_v4", "*.compressor.*"},
};

static void check_spared(const Read *x)
{
    for (size_t k = 0; k < sizeof spared / sizeof spared[0]; k++) {
        if (strcmp(spared[k].pedigree, x->p->pedigree) != 0)
            continue;
        Pattern *p;
        int64_t hits = 0;
        assert_int_equal(pattern_compile(&p, spared[k].pattern, NULL), ST_OK);
        for (int64_t i = 0; i < x->m->nlinears; i++)
            if (pattern_match(p, x->m->linears[i].name)) {
                hits++;
                if (x->level[i])
                    fail_msg("%s quantizes %s", x->p->path, x->m->linears[i].name);
            }
        pattern_free(p);
        assert_true(hits > 0);
    }
}

static void sensitive_linears_are_spared(void **state)
{
    each(*state, check_spared);
}

/* ---- the engines' rules ---- */

/* Whether one of the engines that read what the recipe writes loads it; `why`: what stands against vLLM-Ascend. */
static bool some_engine_loads(const Recipe *r, const Model *m, Str *why)
{
    static const char *const engines[] = {"vllm-ascend", "mindie"};
    bool loads = false;
    for (int i = 0; i < 2; i++) {
        RuntimeReport report;
        const RuntimeQuery q = {.recipe = r, .model = m, .runtime = runtime_find(engines[i])};
        assert_int_equal(runtime_check(&q, &report, NULL), ST_OK);
        for (size_t k = 0; k < report.n; k++)
            str_printf(why, "  %s\n", report.f[k].text);
        loads = loads || report.n == 0;
        runtime_report_fini(&report);
    }
    return loads;
}

static void check_rules(const Read *x)
{
    Str why = {0};
    if (!some_engine_loads(x->r, x->m, &why))
        fail_msg("%s with %s:\n%s", x->p->path, x->m->path, str_text(&why));
    str_free(&why);
}

static void engines_load_them(void **state)
{
    each(*state, check_rules);
}

/* What --quant_type finds loads in vLLM-Ascend for every family: its own practice, else the default one. Not where that
 * engine has no class at all: 4 bits in dense linears, the sparse rule. */
static void every_family_has_a_practice(void **state)
{
    World *w = *state;
    static const char *const families[] = {
        "default", "qwen2", "qwen3", "mixtral", "qwen2_moe", "qwen3_moe", "qwen3_next", "glm4_moe", "glm4_moe_lite",
        "minimax_m2", "deepseek_v2", "deepseek_v3", "kimi_k2", "deepseek_v3_2", "glm_5", "deepseek_v4", "longcat_flash",
        "gpt_oss"};
    static const char *const types[] = {"w8a8", "w4a8", "w8a16", "w8a8c8"};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
            const Model *m = model_of(w, families[i]);
            const bool dense = m->cfg.moe.experts == 0;
            PracticeModel who;
            PracticeChoice c;
            Recipe *r;
            RuntimeReport report;
            practice_identify(NULL, families[i], m->cfg.model_type, &who);
            PracticeQuery q = {.model_type = who.model_type, .pedigree = who.pedigree, .guessed = who.guessed,
                               .quant_type = types[k]};
            assert_int_equal(practice_choose(w->lib, &q, &c, NULL, NULL), ST_OK);
            assert_int_equal(recipe_open(&r, &recipe_rows, c.practice->path, NULL, NULL), ST_OK);
            assert_int_equal(runtime_check(&(RuntimeQuery){.recipe = r, .model = m,
                                                           .runtime = runtime_find(dense && k == 1 ? "mindie"
                                                                                                   : "vllm-ascend")},
                                           &report, NULL), ST_OK);
            if (report.n)
                fail_msg("%s %s, %s: %s", families[i], types[k], c.practice->path, report.f[0].text);
            runtime_report_fini(&report);
            recipe_free(r);
        }
}

/* Every default practice with a model of every family: nothing but a class may be missing in an engine, and one of them
 * has it. */
static void defaults_fit_every_family(void **state)
{
    World *w = *state;
    static const char *const families[] = {"mixtral", "qwen2_moe", "deepseek_v2", "gpt_oss", "qwen3_next", "deepseek_v3_2",
                                           "deepseek_v4", "longcat_flash", "minimax_m2"};
    for (size_t k = 0; k < sizeof families / sizeof *families; k++)
        for (size_t i = 0; i < w->n; i++) {
            Recipe *r;
            Str why = {0};
            if (strcmp(w->practice[i].pedigree, "default") != 0)
                continue;
            assert_int_equal(recipe_open(&r, &recipe_rows, w->practice[i].path, NULL, NULL), ST_OK);
            if (!some_engine_loads(r, model_of(w, families[k]), &why))
                fail_msg("%s with %s:\n%s", w->practice[i].path, families[k], str_text(&why));
            str_free(&why);
            recipe_free(r);
        }
}

/* ---- savers ---- */

static void check_savers(const Read *x)
{
    QConfig levels[16];
    const int n = recipe_entries(x->r);
    Error err = {0};
    bool *cached = mem_zarray((size_t)x->m->cfg.layers, 1);
    assert_true(n <= 16);
    for (int i = 0; i < n; i++)
        levels[i] = recipe_entry(x->r, i)->q;
    int steps;
    assert_int_equal(cache_layers(x->r, x->m, cached, &steps, &err), ST_OK);
    assert_int_equal(steps > 0, x->p->kv_cache == 1);
    for (int l = 0; l < x->m->cfg.layers; l++)
        assert_int_equal(cached[l], x->p->kv_cache == 1);
    assert_true(recipe_savers(x->r) > 0);
    for (int i = 0; i < recipe_savers(x->r); i++) {
        const SaveFormat *s = saver_find(recipe_saver(x->r, i)->type);
        const SavePlan plan = {.model = x->m, .dir = "nowhere", .model_type = x->m->cfg.model_type, .levels = levels,
                               .part_file_size = recipe_saver(x->r, i)->part_file_size, .nlevels = n,
                               .level = x->level, .cache_layer = x->p->kv_cache == 1 ? cached : NULL};
        SaveFile *files = NULL;
        int nfiles = 0;
        assert_non_null(s);
        if (s->ops->check(s, &plan, &err) != ST_OK || s->ops->files(s, &plan, &files, &nfiles, &err) != ST_OK)
            fail_msg("%s: %s", x->p->path, err.text);
        uint64_t bytes = 0;
        for (int k = 0; k < nfiles; k++)
            bytes += files[k].bytes;
        assert_true(bytes > 0 && bytes < (uint64_t)x->m->params * 3 / 2); /* the float model has 2 bytes a weight */
        free(files);
    }
    free(cached);
}

static void savers_accept_them(void **state)
{
    each(*state, check_savers);
}

/* ---- the look-up ---- */

static void type_of(const Practice *p, char *buf, size_t size)
{
    snprintf(buf, size, "w%ga%g%s%s", p->w_bit, p->a_bit, p->kv_cache == 1 ? "c8" : "", p->sparse == 1 ? "s" : "");
}

/* Asks for the practice's type as each of the models it is verified for: the best of the folder is taken without a
 * question, and the trace names p as one that would do. */
static void look_up(World *w, const Practice *p, const char *name)
{
    char type[32], want[300];
    PracticeModel who;
    PracticeChoice c;
    Error err = {0};
    Str why = {0};
    const bool deflt = strcmp(p->pedigree, "default") == 0;
    type_of(p, type, sizeof type);
    practice_identify(NULL, name, model_of(w, p->pedigree)->cfg.model_type, &who);
    if (!deflt)
        assert_string_equal(who.pedigree, p->pedigree);
    PracticeQuery q = {.model_type = who.model_type, .pedigree = who.pedigree, .guessed = who.guessed,
                       .quant_type = type};
    if (practice_choose(w->lib, &q, &c, &why, &err) != ST_OK)
        fail_msg("%s as %s: %s", p->path, name, err.text);
    assert_string_equal(c.practice->pedigree, p->pedigree);
    assert_int_equal(c.ask, deflt ? PRACTICE_DEFAULT : PRACTICE_SILENT);
    assert_true(c.practice == p || c.practice->score > p->score);
    snprintf(want, sizeof want, "  %c %s/%s (score %g, official): %s, %s\n", c.practice == p ? '*' : '-', p->pedigree,
             p->id, p->score, type, deflt ? "for every model" : "verified for this model");
    if (!strstr(str_text(&why), want))
        fail_msg("no '%s' in\n%s", want, str_text(&why));
    str_free(&why);
}

static void the_look_up_finds_them(void **state)
{
    World *w = *state;
    for (size_t i = 0; i < w->n; i++) {
        const Practice *p = &w->practice[i];
        assert_int_equal(p->ntypes == 0, strcmp(p->pedigree, "default") == 0);
        if (p->ntypes == 0)
            look_up(w, p, "some-folder");
        for (int k = 0; k < p->ntypes; k++)
            look_up(w, p, p->types[k]);
    }
}

static const struct {
    const char *pedigree, *type, *id; /* what is taken */
} taken[] = {
    {"default", "w8a8", "default-w8a8-static"},
    {"default", "w8a16", "default-w8a16"},
    {"default", "w4a8", "default-w4a8-dynamic"},
    {"default", "w8a8c8", "default-w8a8c8"},
    {"default", "w4a8c8", "default-w4a8c8"},
    {"default", "w8a8s", "default-w8a8s"},
    {"default", "w4a4", "default-w4a4-mxfp4"},
    {"llama", "w8a8", "llama-w8a8"},
    {"llama", "w4a8", "default-w4a8-dynamic"},
    {"qwen2", "w8a8", "qwen2-w8a8"},
    {"qwen2", "w8a16", "default-w8a16"},
    {"qwen2_5", "w4a8", "qwen2_5-w4a8"},
    {"qwq", "w8a8", "qwq-w8a8"},
    {"qwen3", "w8a8", "qwen3-w8a8"},
    {"qwen3", "w8a8c8", "qwen3-w8a8c8"},
    {"qwen3_moe", "w4a8", "qwen3_moe-w4a8"},
    {"qwen3_next", "w8a8", "qwen3_next-w8a8"},
    {"deepseek_v3", "w8a8", "deepseek_v3-w8a8"},
    {"deepseek_v3_2", "w4a8", "deepseek_v3_2-w4a8"},
    {"deepseek_v4", "w4a8", "deepseek_v4-w4a8"},
    {"glm_5", "w8a8", "glm_5-w8a8"},
    {"kimi_k2", "w4a8", "kimi_k2-w4a8"},
    {"glm4_moe", "w8a8", "glm4_moe-w8a8"},
    {"glm4_moe_lite", "w4a8", "glm4_moe_lite-w4a8"},
    {"minimax_m2", "w8a8", "minimax_m2-w8a8"},
    {"longcat_flash", "w4a8", "longcat_flash-w4a8"},
};

/* By config.json's type alone: no name is given and the folder's name says nothing. */
static void models_without_a_name(void **state)
{
    World *w = *state;
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        PracticeModel who;
        PracticeChoice c;
        const char *folder = strcmp(taken[i].pedigree, "qwq") == 0       ? "QwQ-32B"
                             : strcmp(taken[i].pedigree, "qwen2_5") == 0 ? "Qwen2.5-32B-Instruct"
                                                                         : "weights";
        practice_identify(NULL, folder, model_of(w, taken[i].pedigree)->cfg.model_type, &who);
        PracticeQuery q = {.model_type = who.model_type, .pedigree = who.pedigree, .guessed = who.guessed,
                           .quant_type = taken[i].type};
        assert_int_equal(practice_choose(w->lib, &q, &c, NULL, NULL), ST_OK);
        assert_string_equal(c.practice->id, taken[i].id);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loads_and_runs),         cmocka_unit_test(every_pattern_counts),
        cmocka_unit_test(groups_stay_whole),      cmocka_unit_test(sensitive_linears_are_spared),
        cmocka_unit_test(engines_load_them),
        cmocka_unit_test(every_family_has_a_practice),
        cmocka_unit_test(defaults_fit_every_family),
        cmocka_unit_test(savers_accept_them),     cmocka_unit_test(the_look_up_finds_them),
        cmocka_unit_test(models_without_a_name),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
