/* The decision in the words of other tools: how the form is chosen, what is refused, and that no text is written which does
 * not give every layer its level. What the tools make of the texts is read once more by tests/lib/read_exports.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "export/export.h"
#include "tests/lib/fake_model.h"

#define SIDE(type, scope, sym, more) "{scope: " scope ", dtype: " type ", symmetric: " sym ", method: " more "}"
#define ENTRY(act, weight, include) \
    "    - {type: linear_quant, qconfig: {act: " act ", weight: " weight "}, include: [" include "]}\n"
#define FLOAT SIDE("float", "per_tensor", "true", "none")
#define TOKEN SIDE("int8", "per_token", "true", "minmax")
#define W8 SIDE("int8", "per_channel", "true", "minmax")
#define W8SSZ SIDE("int8", "per_channel", "true", "ssz")
#define W4 SIDE("int4", "per_group", "true", "minmax, ext: {group_size: 32}")
#define MX4 SIDE("mxfp4", "per_block", "true", "minmax")
#define MX8 SIDE("mxfp8", "per_block", "true", "minmax")
#define RECIPE(entries) "apiversion: modelslim_v1\nspec:\n  process:\n" entries

enum { NAMES = 8 };

typedef struct World {
    Model *m;
    Recipe *r;
    int16_t *level;
    char name[NAMES][48];
} World;

static World world(Model *m, const char *recipe)
{
    World w = {.m = m, .level = calloc((size_t)m->nlinears, sizeof(int16_t))};
    Error e = {0};
    if (recipe_parse(&w.r, &recipe_rows, recipe, strlen(recipe), "test", NULL, &e) != ST_OK)
        fail_msg("%s", e.text);
    strcpy(w.name[0], "float");
    for (int i = 0; i < recipe_entries(w.r); i++)
        snprintf(w.name[i + 1], sizeof w.name[0], "%s%s", recipe_entry(w.r, i)->scheme->name, i ? "#2" : "");
    return w;
}

static void close_world(World *w)
{
    recipe_free(w->r);
    fake_model_free(w->m);
    free(w->level);
}

static const ExportForm *form(const char *name)
{
    const ExportForm *f;
    Error e = {0};
    assert_int_equal(export_form_choose(name, NULL, &f, &e), ST_OK);
    return f;
}

static Status write_as(const World *w, const ExportForm *f, Export *x, Error *e)
{
    ExportInput in = {.model = w->m, .recipe = w->r, .level = w->level, .level_name = w->name};
    *e = (Error){0};
    return export_write(f, &in, x, e);
}

static void fine(const World *w, const char *name)
{
    Export x;
    Error e;
    if (write_as(w, form(name), &x, &e) != ST_OK)
        fail_msg("%s: %s", name, e.text);
    assert_true(x.text.len > 0 && x.nchecks > 0 && x.checks[0].ok);
    export_fini(&x);
}

static void refused(const World *w, const char *name, const char *what)
{
    Export x;
    Error e;
    assert_int_equal(write_as(w, form(name), &x, &e), ST_DATA);
    if (!strstr(e.text, what))
        fail_msg("%s: no '%s' in: %s", name, what, e.text);
    assert_null(x.text.s);
}

static void forms_are_chosen(void **state)
{
    (void)state;
    static const struct {
        const char *as, *path, *want; /* NULL: refused */
    } row[] = {
        {NULL, NULL, "yaml"},         {NULL, "a.yaml", "yaml"},   {NULL, "a.yml", "yaml"},     {NULL, "a", "yaml"},
        {NULL, "a.csv", "csv"},       {NULL, "a.txt", "llama.cpp"}, {NULL, "a.json", NULL},    {"gptqmodel", "a.csv", "gptqmodel"},
        {"csv", "a.json", "csv"},     {"xml", "a.csv", NULL},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        const ExportForm *f = NULL;
        Error e = {0};
        Status st = export_form_choose(row[i].as, row[i].path, &f, &e);
        assert_int_equal(st, row[i].want ? ST_OK : ST_USAGE);
        if (row[i].want)
            assert_string_equal(f->name, row[i].want);
    }
    Error e = {0};
    const ExportForm *f;
    export_form_choose(NULL, "a.json", &f, &e);
    assert_non_null(strstr(e.text, "--as compressed-tensors or gptqmodel"));
    char words[200] = "";
    for (int i = 0; export_form_table[i]; i++) {
        const ExportForm *t = export_form_table[i];
        snprintf(words + strlen(words), sizeof words - strlen(words), "%s%s", i ? "|" : "", t->name);
        assert_true(t->tool && t->write && (t->expand || i == 0) && t->ext[0]);
    }
    assert_string_equal(words, EXPORT_WORDS);
}

/* Names that are beginnings of others, or mean something to a regular expression. */
static void names_are_taken_literally(void **state)
{
    (void)state;
    static const char *const names[] = {
        "model.layers.1.mlp.gate",  "model.layers.1.mlp.gate_proj", "model.layers.10.mlp.gate", "model.layers.1.mlp.gate.x",
        "model.layers.1.a+b.(c)",   "model.layers.1.aab.c",         "model.layers.1.[x]|y",     "model.layers.1.x",
        "model.layers.1.mlp_gate",  "xmodel.layers.1.mlp.gate",     "model.layers.1.w^$",       "model.layers.1.w",
        "model.layers.1.\xc3\xa9t", "model.layers.1.\xc3\xa9",
    };
    enum { N = sizeof names / sizeof names[0] };
    World w = world(fake_model_names(names, N), RECIPE(ENTRY(FLOAT, W8, "'*'")));
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < N; k++)
            w.level[k] = k != i;
        fine(&w, "compressed-tensors");
        fine(&w, "gptqmodel");
        fine(&w, "csv");
        for (int k = 0; k < N; k++)
            w.level[k] = k == i;
        fine(&w, "compressed-tensors");
        fine(&w, "gptqmodel");
    }
    close_world(&w);
}

/* Thousands of experts of no regular choice: more than one regular expression may hold. */
static void long_lists_are_split(void **state)
{
    (void)state;
    World w = world(fake_model(&(FakeShape){.layers = 24, .experts = 64, .hidden = 64, .inter = 64}),
                    RECIPE(ENTRY(FLOAT, W8, "'*'") ENTRY(FLOAT, W4, "'*'")));
    unsigned long long seed = 7;
    for (int64_t i = 0; i < w.m->nlinears; i++)
        w.level[i] = w.m->linears[i].kind == LK_ROUTER ? 0 : (int16_t)(fake_random(&seed) % 3);
    fine(&w, "compressed-tensors");
    fine(&w, "gptqmodel");
    Export x;
    Error e;
    assert_int_equal(write_as(&w, form("gptqmodel"), &x, &e), ST_OK);
    bool blocked = false;
    for (int i = 0; i < x.nchecks; i++)
        blocked |= !x.checks[i].ok && x.checks[i].blocking && strstr(x.checks[i].text, "fused group");
    assert_true(blocked); /* q, k and v went apart */
    export_fini(&x);
    close_world(&w);
}

static void what_has_no_words_is_refused(void **state)
{
    (void)state;
    World w = world(fake_model(&(FakeShape){.layers = 2, .hidden = 64, .inter = 64}),
                    RECIPE(ENTRY(TOKEN, W8, "'*'") ENTRY(MX8, MX4, "'*'")));
    for (int64_t i = 0; i < w.m->nlinears; i++)
        w.level[i] = 1;
    refused(&w, "gptqmodel", "W8A8_DYNAMIC can't be written for GPTQModel: it quantizes weights alone");
    fine(&w, "compressed-tensors");
    w.level[6] = 2;
    refused(&w, "compressed-tensors", "W4A8_MXFP#2 can't be written for llm-compressor");
    refused(&w, "compressed-tensors", "model.layers.0.mlp.down_proj");
    refused(&w, "llama.cpp", "qwen3 can't be written for llama.cpp"); /* a model without a family */
    memset(w.level, 0, (size_t)w.m->nlinears * sizeof *w.level);
    refused(&w, "compressed-tensors", "every layer is float");
    refused(&w, "gptqmodel", "every layer is float");
    fine(&w, "csv");
    close_world(&w);

    w = world(fake_model(&(FakeShape){.layers = 1, .experts = 2, .hidden = 64, .inter = 64}),
              RECIPE(ENTRY(FLOAT, W8, "'*'")));
    for (int64_t i = 0; i < w.m->nlinears; i++)
        w.level[i] = 1;
    refused(&w, "gptqmodel", "'model.layers.0.mlp.gate' can't be written for GPTQModel: it never quantizes routers");
    close_world(&w);
}

/* llama.cpp has one tensor for a layer's experts, and rows of 32. */
static void tensors_of_llama_cpp(void **state)
{
    (void)state;
    extern const Arch arch_qwen3_moe;
    World w = world(fake_model(&(FakeShape){.layers = 2, .experts = 3, .hidden = 64, .inter = 64}),
                    RECIPE(ENTRY(FLOAT, W8, "'*'") ENTRY(FLOAT, W4, "'*'")));
    w.m->arch = &arch_qwen3_moe;
    for (int64_t i = 0; i < w.m->nlinears; i++)
        w.level[i] = w.m->linears[i].kind != LK_ROUTER;
    fine(&w, "llama.cpp");
    int64_t expert = model_find_linear(w.m, "model.layers.0.mlp.experts.1.gate_proj");
    assert_true(expert > 4);
    w.level[expert] = 0;
    refused(&w, "llama.cpp", "'model.layers.0.mlp.experts.1.gate_proj' can't be written for llama.cpp: it is one tensor with "
                             "'model.layers.0.mlp.experts.0.gate_proj'");
    w.level[expert] = 1;
    w.m->linears[expert].in = 40;
    refused(&w, "llama.cpp", "rows of 40 are no multiple of 32");
    w.m->linears[expert].in = 64;
    w.level[4] = 1;
    refused(&w, "llama.cpp", "it never quantizes 'ffn_gate_inp'");
    close_world(&w);
}

/* Two levels with one setting are told, and are alike in the proof. */
static void levels_that_are_written_alike(void **state)
{
    (void)state;
    World w = world(fake_model(&(FakeShape){.layers = 2, .hidden = 64, .inter = 64}),
                    RECIPE(ENTRY(FLOAT, W8, "'*'") ENTRY(FLOAT, W8SSZ, "'*'")));
    for (int64_t i = 0; i < w.m->nlinears; i++)
        w.level[i] = (int16_t)(1 + i % 7 / 3 % 2);
    w.level[6] = 0;
    Export x;
    Error e;
    assert_int_equal(write_as(&w, form("gptqmodel"), &x, &e), ST_OK);
    bool told = false;
    for (int i = 0; i < x.nchecks; i++)
        told |= strstr(x.checks[i].text, "W8A16 and W8A16#2 are one setting for GPTQModel") != NULL;
    assert_true(told);
    assert_null(strstr(str_text(&x.text), "+:"));
    export_fini(&x);
    fine(&w, "compressed-tensors");
    close_world(&w);
}

/* ---- a writer that is wrong ---- */

static const ExportForm *of; /* whose text is spoilt */
static const char *from, *to;

static Status write_spoilt(const ExportInput *in, Export *x, Error *err)
{
    Status st = of->write(in, x, err);
    char *at = st == ST_OK ? strstr(x->text.s, from) : NULL;
    if (at)
        memcpy(at, to, strlen(to)); /* of one length */
    else
        fail_msg("no '%s' in: %s", from, str_text(&x->text));
    return st;
}

static void a_wrong_text_is_never_written(void **state)
{
    (void)state;
    static const struct {
        const char *form, *from, *to;
    } row[] = {
        {"compressed-tensors", "layers.0.mlp.down", "layers.1.mlp.down"},
        {"compressed-tensors", "\"lm_head\"", "\"lm_heat\""},
        {"compressed-tensors", "\"num_bits\": 8", "\"num_bits\": 4"},
        {"gptqmodel", "-:model", "+:model"},
        {"gptqmodel", "layers\\\\.0", "layers\\\\.1"},
        {"gptqmodel", "\"bits\": 8", "\"bits\": 4"},
        {"csv", "0.mlp.down_proj,float", "0.mlp.down_proj,W8A16"},
        {"csv", "model.layers.1.self_attn.o_proj,", "model.layers.0.self_attn.o_proj,"},
        {"llama.cpp", "=q8_0", "=q4_0"},
        {"llama.cpp", "ffn_down", "ffn_gate"},
        {"llama.cpp", "(1)\\.ffn_down\\.weight$=", "(0)\\.ffn_down\\.weight$="},
    };
    extern const Arch arch_qwen3;
    World w = world(fake_model(&(FakeShape){.layers = 2, .hidden = 64, .inter = 64}), RECIPE(ENTRY(FLOAT, W8, "'*'")));
    w.m->arch = &arch_qwen3;
    for (int64_t i = 0; i < w.m->nlinears; i++)
        w.level[i] = i != 6; /* 0.down */
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        Export x;
        Error e;
        of = form(row[i].form);
        from = row[i].from;
        to = row[i].to;
        ExportForm spoilt = *of;
        spoilt.write = write_spoilt;
        if (write_as(&w, &spoilt, &x, &e) != ST_INTERNAL)
            fail_msg("%s with '%s' passed", row[i].form, to);
        assert_null(x.text.s);
    }
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms_are_chosen),
        cmocka_unit_test(names_are_taken_literally),
        cmocka_unit_test(long_lists_are_split),
        cmocka_unit_test(what_has_no_words_is_refused),
        cmocka_unit_test(tensors_of_llama_cpp),
        cmocka_unit_test(levels_that_are_written_alike),
        cmocka_unit_test(a_wrong_text_is_never_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
