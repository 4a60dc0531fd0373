#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/file.h"
#include "io/json.h"
#include "model/model.h"
#include "recipe/practice.h"
#include "tests/lib/tempdir.h"

/* The library that the recorded look-ups were made with: its labels as documents. */
static PracticeLibrary *recorded_library(void)
{
    cJSON *root;
    PracticeLibrary *lib;
    assert_int_equal(json_parse_file("tests/golden/config/practice_labels.json", 1 << 20, &root, NULL), ST_OK);
    assert_int_equal(practice_library_new(&lib, &recipe_rows, NULL), ST_OK);
    for (const cJSON *e = root->child; e; e = e->next) {
        char text[4000], path[300];
        const cJSON *api = json_get(e, "apiversion");
        char *label = cJSON_PrintUnformatted(json_get(e, "label"));
        char *types = cJSON_PrintUnformatted(json_get(e, "verified_model_types"));
        char *tags = cJSON_PrintUnformatted(json_get(e, "verified_tags"));
        const bool sd = strcmp(api->valuestring, "multimodal_sd_modelslim_v1") == 0;
        snprintf(text, sizeof text,
                 "{\"apiversion\": \"%s\", \"metadata\": {\"config_id\": \"%s\", \"score\": %g, \"label\": %s, "
                 "\"verified_model_types\": %s, \"verified_tags\": %s}, \"spec\": {%s}}\n",
                 api->valuestring, json_get(e, "config_id")->valuestring, json_get(e, "score")->valuedouble, label,
                 types, tags, sd ? "multimodal_sd_config: {dump_config: {}}" : "");
        snprintf(path, sizeof path, "%s/%s.yaml", json_get(e, "pedigree")->valuestring,
                 json_get(e, "file")->valuestring);
        assert_int_equal(practice_add(lib, json_get(e, "pedigree")->valuestring, PRACTICE_OFFICIAL, path, text,
                                      strlen(text), NULL),
                         ST_OK);
        free(label);
        free(types);
        free(tags);
    }
    cJSON_Delete(root);
    assert_string_equal(practice_notes(lib), "");
    return lib;
}

/* As the recording words it. */
static const char *const asks[] = {
    [PRACTICE_SILENT] = "silent",
    [PRACTICE_NO_TYPE_BEST] = "ask(no quant_type, best)",
    [PRACTICE_NO_TYPE_DEFAULT] = "ask(no quant_type, default)",
    [PRACTICE_DEFAULT] = "ask(default practice)",
    [PRACTICE_W8A8_BEST] = "ask(best practice of w8a8)",
    [PRACTICE_W8A8_DEFAULT] = "ask(default practice of w8a8)",
    [PRACTICE_STANDBY] = "ask(standby)",
};

static void look_up(PracticeLibrary *lib, const char *model, const char *pedigree, const char *type, const char *want)
{
    PracticeModel m;
    PracticeChoice c;
    char got[ERROR_TEXT_MAX + 100];
    Error err = {0};
    practice_identify(model, NULL, NULL, &m);
    assert_string_equal(m.pedigree, pedigree);
    assert_string_equal(m.model_type, model);
    assert_true(m.known && !m.guessed);
    PracticeQuery q = {.model_type = m.model_type, .pedigree = m.pedigree, .guessed = m.guessed, .quant_type = type};
    Status st = practice_choose(lib, &q, &c, NULL, &err);
    if (st == ST_OK)
        snprintf(got, sizeof got, "%s %s", c.practice->id, asks[c.ask]);
    else
        snprintf(got, sizeof got, "ERROR %s",
                 strstr(err.text, "has no folder") ? "ToDoError (pedigree directory missing)" : err.text);
    if (strcmp(got, want) != 0)
        fail_msg("%s %s: '%s' instead of '%s'", model, type ? type : "-", got, want);
    if (st == ST_OK)
        assert_int_equal(c.reason[0] == '\0', c.ask == PRACTICE_SILENT);
}

static void every_recorded_look_up(void **state)
{
    (void)state;
    PracticeLibrary *lib = recorded_library();
    FILE *f = fopen("tests/golden/config/practice_lookup.txt", "r");
    assert_non_null(f);
    char line[500], model[100], pedigree[100], type[20];
    int seen = 0, at;
    while (fgets(line, sizeof line, f)) {
        if (++seen <= 3) /* the head */
            continue;
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "%99s %99s %19s %n", model, pedigree, type, &at) != 3)
            fail_msg("'%s'", line);
        if (strcmp(type, "*") == 0) {
            for (int i = 0; practice_quant_types[i]; i++)
                look_up(lib, model, pedigree, practice_quant_types[i], line + at);
            strcpy(type, "-");
        }
        look_up(lib, model, pedigree, strcmp(type, "-") == 0 ? NULL : type, line + at);
    }
    fclose(f);
    assert_int_equal(seen, 969);
    practice_library_free(lib);
}

static Practice const *choose(PracticeLibrary *lib, const char *model, const char *type, const char *const *tags,
                              int ntags, PracticeChoice *c, Str *why)
{
    PracticeModel m;
    Error err = {0};
    practice_identify(model, NULL, NULL, &m);
    PracticeQuery q = {m.model_type, m.pedigree, m.guessed, type, tags, ntags};
    if (practice_choose(lib, &q, c, why, &err) != ST_OK)
        fail_msg("%s", err.text);
    return c->practice;
}

static void tags_and_the_trace(void **state)
{
    (void)state;
    PracticeLibrary *lib = recorded_library();
    PracticeChoice c;
    static const char *const fits[] = {"vllm-ascend", "ATLAS_A3_inference"}, *const other[] = {"SGLang"};
    Str why = {0};
    assert_string_equal(choose(lib, "GLM-5.1", "w4a8", fits, 2, &c, NULL)->id, "glm_5_1_w4a8");
    assert_int_equal(c.ask, PRACTICE_SILENT);
    assert_int_equal(c.step, 1);
    assert_string_equal(choose(lib, "GLM-5.1", "w4a8", other, 1, &c, &why)->id, "glm_5_1_w4a8");
    assert_int_equal(c.ask, PRACTICE_STANDBY);
    assert_int_equal(c.step, 2);
    assert_string_equal(c.reason, "no practice of GLM-5.1 is verified for [SGLang]: 'glm_5_1_w4a8', verified for "
                                  "others, is used");
    static const char *const lines[] = {
        "model GLM-5.1, folder glm_5, quantization type w4a8, tags [SGLang]\n",
        "step 1: glm_5, w4a8, verified: none\n",
        "step 2: glm_5, w4a8, verified for other tags: takes glm_5_1_w4a8\n",
        "step 3: default, w4a8, any model: not reached\n",
        "step 6: default, w8a8, any model: not reached\n",
        "  * glm_5/glm_5_1_w4a8 (score 90, official): w4a8, verified for this model with other tags: [vLLM_Ascend, "
        "Atlas_A2_Inference] [vLLM_Ascend, Atlas_A3_Inference]\n",
        "  - glm_5/glm_5_1_w4a4c8_mxfp4 (score 86, official): is w4a4c8\n",
        "  - glm_5/glm_5_w4a8 (score 90, official): w4a8, not verified for this model\n",
        "  - glm_5/glm_5_1_w8a8 (score 90, official): w8a8, verified for this model with other tags:",
        "  - default/default-w8a8 (score ",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (!strstr(str_text(&why), lines[i]))
            fail_msg("no '%s' in\n%s", lines[i], str_text(&why));
    str_clear(&why);
    /* the list of types decides before any tag */
    assert_string_equal(choose(lib, "DeepSeek-V4-Flash", "w8a8", other, 1, &c, &why)->id, "deepseek_v4_flash_w8a8");
    assert_int_equal(c.ask, PRACTICE_SILENT);
    if (!strstr(str_text(&why), "deepseek_v4_pro_w8a8 (score 90, official): w8a8, verified for DeepSeek-V4-Pro\n"))
        fail_msg("%s", str_text(&why));
    /* a type that only w8a8 stands in for, with tags that nothing has */
    str_clear(&why);
    assert_string_equal(choose(lib, "GLM-5.1", "w8a16", other, 1, &c, &why)->id, "default-w8a16");
    assert_int_equal(c.ask, PRACTICE_DEFAULT);
    assert_string_equal(choose(lib, "GLM-5.1", "w4a4", other, 1, &c, &why)->id, "glm_5_1_w8a8");
    assert_int_equal(c.ask, PRACTICE_STANDBY);
    assert_int_equal(c.step, 5);
    assert_non_null(strstr(c.reason, ", and it is w8a8"));
    str_free(&why);
    PracticeQuery bad = {.model_type = "GLM-5", .pedigree = "glm_5", .quant_type = "w5a5"};
    Error err = {0};
    assert_int_equal(practice_choose(lib, &bad, &c, NULL, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "w5a5"));
    practice_library_free(lib);
}

#define PRACTICE(id, score, more)                                                                                     \
    "apiversion: modelslim_v1\nmetadata: {config_id: " id ", score: " score ", label: {w_bit: 8, a_bit: 8" more "}}\n"

static void folders(void **state)
{
    (void)state;
    char *root = temp_folder(), *own = path_join(root, "custom"), *official = path_join(root, "official");
    char *a = path_join(own, "llama"), *b = path_join(official, "default"), *c = path_join(official, "Llama");
    char *empty = path_join(official, "phi3");
    assert_int_equal(dir_make(a, NULL), ST_OK);
    assert_int_equal(dir_make(b, NULL), ST_OK);
    assert_int_equal(dir_make(c, NULL), ST_OK);
    assert_int_equal(dir_make(empty, NULL), ST_OK);
    static const char verified[] =
        "apiversion: modelslim_v1\nmetadata: {config_id: mine, score: 50, label: {w_bit: 8, a_bit: 8}, "
        "verified_model_types: [llama]}\n";
    temp_puts(temp_path(a, "mine.yaml"), verified);
    temp_puts(temp_path(a, "broken.yaml"), "apiversion: [\n");
    temp_puts(temp_path(a, "ignored.yml"), verified);
    temp_puts(temp_path(b, "d.yaml"), PRACTICE("d", "1", ""));
    temp_puts(temp_path(b, "e.yaml"), PRACTICE("e", "2", ", is_sparse: true"));
    temp_puts(temp_path(c, "mine.yaml"), verified);
    PracticeLibrary *lib;
    Error err = {0};
    assert_int_equal(practice_library_new(&lib, &recipe_rows, &err), ST_OK);
    assert_int_equal(practice_add_folder(lib, official, PRACTICE_OFFICIAL, NULL, &err), ST_OK);
    assert_int_equal(practice_add_folder(lib, own, PRACTICE_CUSTOM, "llama", &err), ST_OK);
    assert_int_equal(practice_add_folder(lib, "/nowhere/at/all", PRACTICE_PLUGIN, NULL, &err), ST_OK);
    assert_non_null(strstr(practice_notes(lib), "left out: "));
    assert_non_null(strstr(practice_notes(lib), "broken.yaml:"));
    assert_non_null(strstr(practice_notes(lib), "practice folder /nowhere/at/all can't be read"));
    assert_null(strstr(practice_notes(lib), "ignored"));
    PracticeModel m;
    PracticeChoice choice;
    practice_identify(NULL, "some-folder", "llama", &m);
    assert_true(m.guessed && m.known);
    PracticeQuery q = {.model_type = m.model_type, .pedigree = m.pedigree, .guessed = m.guessed, .quant_type = "w8a8"};
    assert_int_equal(practice_choose(lib, &q, &choice, NULL, &err), ST_OK);
    assert_string_equal(choice.practice->id, "mine");
    assert_int_equal(choice.practice->source, PRACTICE_CUSTOM); /* of equals */
    assert_true(choice.practice->runs);
    assert_int_equal(choice.ask, PRACTICE_SILENT);
    q.quant_type = "w8a8s";
    assert_int_equal(practice_choose(lib, &q, &choice, NULL, &err), ST_OK);
    assert_string_equal(choice.practice->id, "e");
    /* an empty folder is one: its default comes after it; no folder at all: the default's rules, if it was a guess */
    q = (PracticeQuery){.model_type = "x", .pedigree = "phi3", .quant_type = "w8a8"};
    assert_int_equal(practice_choose(lib, &q, &choice, NULL, &err), ST_OK);
    assert_int_equal(choice.step, 3);
    q.pedigree = "gemma2";
    assert_int_equal(practice_choose(lib, &q, &choice, NULL, &err), ST_DATA);
    assert_non_null(strstr(err.text, "no folder 'gemma2'"));
    q.guessed = true;
    assert_int_equal(practice_choose(lib, &q, &choice, NULL, &err), ST_OK);
    assert_int_equal(choice.ask, PRACTICE_DEFAULT);
    practice_library_free(lib);
    assert_int_equal(practice_library_new(&lib, &recipe_rows, &err), ST_OK);
    assert_int_equal(practice_add_folder(lib, own, PRACTICE_CUSTOM, NULL, &err), ST_OK);
    q = (PracticeQuery){.model_type = "qwen", .pedigree = "llama", .quant_type = "w4a8"};
    assert_int_equal(practice_choose(lib, &q, &choice, NULL, &err), ST_DATA);
    assert_non_null(strstr(err.text, "--config_path"));
    practice_library_free(lib);
    temp_remove(root);
    free(own);
    free(official);
    free(a);
    free(b);
    free(c);
    free(empty);
}

static void identities(void **state)
{
    (void)state;
    PracticeModel m;
    practice_identify("qwen3-32b", "x", "qwen3", &m); /* whatever its case */
    assert_string_equal(m.model_type, "Qwen3-32B");
    assert_string_equal(m.pedigree, "qwen3");
    assert_false(m.guessed);
    practice_identify("hunyuan-video", NULL, NULL, &m); /* as written where it is written */
    assert_string_equal(m.model_type, "hunyuan-video");
    practice_identify(NULL, "QwQ-32B", "qwen2", &m);
    assert_string_equal(m.pedigree, "qwq");
    assert_true(m.guessed);
    practice_identify(NULL, "model", "glm_moe_dsa", &m);
    assert_string_equal(m.pedigree, "glm_5");
    assert_string_equal(m.model_type, "glm_moe_dsa");
    practice_identify("MyModel", "x", "llama", &m);
    assert_string_equal(m.model_type, "llama");
    assert_false(m.known);
    practice_identify("llama", "x", "llama", &m);
    assert_true(m.known);
    practice_identify("MyModel", NULL, NULL, &m);
    assert_string_equal(m.model_type, "MyModel");
    assert_string_equal(m.pedigree, "default");
    assert_false(m.known);
}

static bool give(void *ctx, const char *question, char *line, size_t size)
{
    assert_non_null(strstr(question, "why?"));
    if (ctx)
        snprintf(line, size, "%s", (const char *)ctx);
    return ctx != NULL;
}

static void confirmation(void **state)
{
    (void)state;
    PracticeChoice c = {.ask = PRACTICE_DEFAULT, .reason = "why?"};
    static char *const yes[] = {"y", "Y", " yes \r", "YES"}, *const no[] = {"", "n", "ye", "yess", "y y", "yes!", "o"};
    Error err = {0};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
        assert_int_equal(practice_confirm(&c, false, give, yes[i], &err), ST_OK);
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
        assert_int_equal(practice_confirm(&c, false, give, no[i], &err), ST_FAIL);
    assert_int_equal(practice_confirm(&c, true, give, no[0], &err), ST_OK);
    assert_int_equal(practice_confirm(&c, false, give, NULL, &err), ST_FAIL);
    assert_non_null(strstr(err.text, "--yes"));
    assert_null(strchr(err.text, '\n'));
    c.ask = PRACTICE_SILENT;
    assert_int_equal(practice_confirm(&c, false, give, NULL, &err), ST_OK);
}

/* A name that a row of arch_table gets is a name of the look-up, with its folder. */
static void architectures_are_known(void **state)
{
    (void)state;
    int names = 0;
    for (const Arch *const *a = arch_table; *a; a++) {
        PracticeModel m;
        const char *folder = (*a)->pedigree ? (*a)->pedigree : (*a)->model_type;
        practice_identify(NULL, "folder", (*a)->model_type, &m);
        assert_string_equal(m.pedigree, folder);
        for (const ArchName *n = (*a)->names; n && n->name; n++, names++) {
            practice_identify(n->config ? NULL : n->name, "folder", n->config ? n->name : NULL, &m);
            assert_string_equal(m.model_type, n->name);
            assert_string_equal(m.pedigree, n->pedigree ? n->pedigree : folder);
            assert_true(m.known && m.guessed == n->config);
        }
    }
    assert_true(names > 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_recorded_look_up), cmocka_unit_test(tags_and_the_trace), cmocka_unit_test(folders),
        cmocka_unit_test(identities),             cmocka_unit_test(architectures_are_known),
        cmocka_unit_test(confirmation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
