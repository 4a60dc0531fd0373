#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "process/dynamic_cache.h"
#include "process/processor.h"
#include "quant/quantizer.h"
#include "recipe/device.h"
#include "recipe/recipe.h"
#include "tests/lib/configs.h"
#include "tests/lib/fake_model.h"

/* Recorded verdicts of the peer's loader (EXPECTED.txt beside the files); here: what ours says about the same fault,
 * and where. */
static const struct {
    const char *file, *want;
} broken[] = {
    {"01-duplicate-key", ":5:3: duplicate key 'score'"},
    {"02-merge-key-override", ":16:14: duplicate key 'method'"},
    {"03-unknown-metadata-key", ":5:3: metadata.author: unknown key"},
    {"04-vlm-key-under-v1", ":21:3: spec.default_text: unknown key"},
    {"05-unknown-processor", ":11:13: spec.process.1: unknown processor 'linearquant' (did you mean 'linear_quant'?)"},
    {"06-alpha-out-of-range", ":9:14: spec.process.0.iter_smooth.alpha: must lie between 0 and 1"},
    {"07-autoround-in-linear_quant",
     ":14:76: spec.process.1.linear_quant.qconfig.weight: linear_quant has no method 'autoround'"},
    {"08-unknown-saver", ":18:13: spec.save.0: unknown saver 'huggingface'"},
    {"09-bad-runner", ":21:11: spec.runner: 'layerwise' is none of auto, model_wise, layer_wise, dp_layer_wise"},
    {"10-illegal-character", ":3:14: metadata.config_id: has a character that the peer refuses"},
    {"11-include-scalar", ":15:16: spec.process.1.linear_quant.include: must be a list"},
    {"12-process-item-not-map", ":8:7: spec.process.0: must be a mapping"},
    {"13-missing-symmetric", ":13:14: spec.process.1.linear_quant.qconfig.act.symmetric: is missing"},
    {"14-unknown-apiversion", ":1:13: unknown apiversion 'modelslim_v2'"},
    {"15-sd-without-dump_config", ":7:3: spec.multimodal_sd_config.dump_config: is missing"},
    {"16-pattern-too-long", ":16:17: spec.process.1.linear_quant.exclude.0: has 201 characters"},
    {"17-vlm-empty-save", ":17:9: spec.save: needs at least 1 item"},
    {"18-empty-file", ":1:1: a mapping is expected, not an empty file"},
    {"19-flex_awq_ssz-without-qconfig", ":8:7: spec.process.0.flex_awq_ssz.qconfig: is missing"},
    {"20-convert-mxfp8-to-hf",
     ":5:15: spec.linears.0.target: W8A8_MXFP8 requires the destination ascendv1, not 'huggingface'"},
};

static void broken_documents(void **state)
{
    (void)state;
    char path[200], want[300];
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        Recipe *r = NULL;
        Error e = {0};
        Str all = {0};
        snprintf(path, sizeof path, "tests/golden/config/broken/%s.yaml", broken[i].file);
        assert_int_equal(recipe_open(&r, &recipe_rows, path, &all, &e), ST_DATA);
        snprintf(want, sizeof want, "%s.yaml%s", broken[i].file, broken[i].want);
        if (strncmp(e.text, want, strlen(want)) != 0)
            fail_msg("'%s' instead of '%s'", e.text, want);
        assert_int_equal(strncmp(str_text(&all), e.text, strlen(e.text)), 0); /* one fault: one line */
        assert_ptr_equal(strchr(str_text(&all), '\n'), str_text(&all) + all.len - 1);
        str_free(&all);
    }
}

/* Each document of 00 to 20 is taken or refused as the peer does. */
static void verdicts_of_the_peer(void **state)
{
    (void)state;
    FILE *f = fopen("tests/golden/config/broken/EXPECTED.txt", "r");
    assert_non_null(f);
    char line[1000], verdict[16], file[100], path[200];
    int seen = 0;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%15[A-Z] %99[^ :\n]", verdict, file) != 2 || atoi(file) > 20)
            continue;
        Recipe *r = NULL;
        snprintf(path, sizeof path, "tests/golden/config/broken/%s", file);
        Status st = recipe_open(&r, &recipe_rows, path, NULL, NULL);
        if ((st == ST_OK) != (strcmp(verdict, "VALID") == 0))
            fail_msg("%s: %s in the peer", file, verdict);
        if (st == ST_OK)
            recipe_free(r);
        seen++;
    }
    fclose(f);
    assert_int_equal(seen, 21);
}

static void good_document(void **state)
{
    (void)state;
    Recipe *r;
    Error e = {0};
    assert_int_equal(recipe_open(&r, &recipe_rows, "tests/golden/config/broken/00-good-base.yaml", NULL, &e), ST_OK);
    assert_string_equal(recipe_name(r), "00-good-base.yaml");
    assert_string_equal(recipe_path(r), "tests/golden/config/broken/00-good-base.yaml");
    assert_int_equal(recipe_entries(r), 1);
    const RecipeEntry *en = recipe_entry(r, 0);
    assert_int_equal(en->line, 11);
    assert_string_equal(en->scheme->name, "W8A8_DYNAMIC");
    assert_int_equal(en->nexclude, 1);
    assert_string_equal(en->exclude[0], "*down_proj");
    assert_int_equal(recipe_notes(r), 0);
    recipe_free(r);
    assert_int_equal(recipe_open(&r, &recipe_rows, "tests/golden/config/broken/absent.yaml", NULL, &e), ST_IO);
}

#define V1 "apiversion: modelslim_v1\nspec:\n"
#define Q(act, weight) "{act: {" act "}, weight: {" weight "}}"
#define A8 "scope: per_tensor, dtype: int8, symmetric: false, method: minmax"
#define W8 "scope: per_channel, dtype: int8, symmetric: true, method: minmax"
#define ENTRY(q) "apiversion: modelslim_v1\nspec:\n  process:\n    - type: linear_quant\n      qconfig: " q "\n"
#define VLM "apiversion: multimodal_vlm_modelslim_v1\nspec:\n  dataset: x\n"
#define SD "apiversion: multimodal_sd_modelslim_v1\nspec:\n  dataset: x\n"
#define CONVERT "apiversion: modelslim_convert\nspec:\n  src: x\n"
#define FA(type, scope_of) "dtype: " type ", scope: " scope_of ", symmetric: true, method: minmax"
#define PROCESS(p) "apiversion: modelslim_v1\nspec:\n  process:\n    - " p "\n"

#define MX4(method) "scope: per_block, dtype: mxfp4, symmetric: true, method: " method
#define W4G(more) "scope: per_group, dtype: int4, symmetric: true, method: " more
#define SAVE(size) ENTRY(Q(A8, W8)) "  save:\n    - type: ascendv1_saver\n      part_file_size: " size "\n"

/* want == NULL: accepted. Else a part of the first error. */
static const struct {
    const char *text, *want;
} documents[] = {
    {ENTRY(Q(A8, W8)), NULL},
    {ENTRY("{weight: {" W8 "}}"), NULL}, /* weight-only */
    {ENTRY("{act: {" A8 "}}"), "qconfig.weight: is missing"},
    {ENTRY("{act: null, weight: {" W8 "}}"), "qconfig.act: must be a mapping, not null"},
    {ENTRY(Q("scope: per_tensor, dtype: int8, symmetric: 0, method: minmax", W8)), NULL},
    {ENTRY(Q("scope: per_tensor, dtype: int8, symmetric: 'Off', method: minmax", W8)), NULL},
    {ENTRY(Q("scope: per_tensor, dtype: int8, symmetric: 2, method: minmax", W8)),
     "act.symmetric: must be true or false"},
    {ENTRY(Q("scope: per_tensor, dtype: Int8, symmetric: false, method: minmax", W8)), "'Int8' is none of float, int8"},
    {ENTRY(Q("scope: per_tensr, dtype: int8, symmetric: false, method: minmax", W8)), "did you mean 'per_tensor'?"},
    {ENTRY(Q("scope: per_channel, dtype: int4, symmetric: true, method: minmax", W8)),
     "there is no per_channel int4 quantizer"},
    {ENTRY(Q("scope: pd_mix, dtype: int8, symmetric: true, method: minmax", W8)), "pd_mix int8 needs symmetric: false"},
    {ENTRY(Q(A8, "scope: per_channel, dtype: int8, symmetric: false, method: minmax")),
     "no method 'minmax' for per_channel int8 asym a weight; there is: gptq"},
    {ENTRY(Q("scope: per_token, dtype: int8, symmetric: true, method: minmax",
             "scope: per_channel, dtype: int4, symmetric: true, method: ssz")),
     NULL},
    {ENTRY("{weight: {scope: per_group, dtype: int8, symmetric: true, method: gptq, ext: {group_size: 64}}}"), NULL},
    {ENTRY("{weight: {scope: per_group, dtype: int8, symmetric: true, method: gptq, ext: {group_size: 0}}}"),
     "group_size must be a number above 0"},
    {ENTRY("{weight: {scope: per_group, dtype: int8, symmetric: true, method: gptq, ext: null}}"),
     "ext: must be a mapping, not null"},
    {ENTRY("{weight: {scope: per_group, dtype: int8, symmetric: true, method: gptq, ext: {percdamp: '0.1'}}}"),
     "percdamp must be a number above 0"},
    {ENTRY("{weight: {" "scope: per_group, dtype: int4, symmetric: true, method: minmax, ext: {group_size: 0}}}"),
     "group_size must be a number above 0"},
    {ENTRY(Q(MX4("minmax"), MX4("ceil_x, ext: {ceil_x_value: 5}"))), "weight.ext: ceil_x_value must be a number in 6"},
    {ENTRY(Q(MX4("minmax"), MX4("ceil_x, ext: {ceil_value: 7}"))), "ceil_x has no key 'ceil_value'"},
    {ENTRY(Q(MX4("minmax"), MX4("ceil_x, ext: {enable_search: 1, search_max: 6}"))), "search_max must be above"},
    {ENTRY(Q(MX4("minmax"), MX4("ceil_x, ext: {search_max: 6}"))), NULL},
    {ENTRY(Q(MX4("minmax"), MX4("minmax, ext: {axes: x}"))), "axes must be an integer"},
    {ENTRY(Q("scope: dual_scale, dtype: mxfp4, symmetric: true, method: dualscale",
             "scope: dual_scale, dtype: mxfp4, symmetric: true, method: dualscale")),
     "act.ext: dual_block_size is needed"},
    {ENTRY(Q("scope: per_tensor, dtype: int8, symmetric: false, method: minmax, ext: {aggregation_type: sum}", W8)),
     "aggregation_type must be max or mean"},
    {ENTRY(Q(A8, "scope: per_channel, dtype: int8, symmetric: true, method: w8a8s, ext: {fraction: 1}")),
     "fraction must be a number in 0"},
    {SAVE(".nan"), "part_file_size: must be a number of GB"},
    {ENTRY("{weight: {dtype=\"int8\", scope: per_channel, symmetric: true, method: minmax}}"),
     "unknown key (did you mean 'dtype: int8'?)"},
    {ENTRY("{weight: scope=per_channel}"), "must be a mapping, not text: write 'key: value'"},
    {ENTRY(Q(A8, W8 ", bits: 8")), "weight.bits: unknown key"},
    {ENTRY(Q(A8, W8)) "      exlude: []\n", "exlude: unknown key (did you mean 'exclude'?)"},
    {ENTRY(Q(A8, W8)) "      exclude: [1]\n", "exclude.0: must be text, not integer: quote it"},
    {ENTRY(Q(A8, W8)) "  dataset: null\n", "spec.dataset: must be text"},
    {ENTRY(Q(A8, W8)) "  save:\n    - type: ascendv1_saver\n      part_file_size: ' 1_0 '\n", NULL},
    {ENTRY(Q(A8, W8)) "  save:\n    - type: compressed_tensors\n      ext: {}\n", "ext: unknown key"},
    {"helper: &x {any: thing}\n" ENTRY(Q(A8, W8)), NULL},
    {"apiversion: modelslim_v1\n", NULL},
    {"apiversion: modelslim_v1\nspec: null\n", "spec: must be a mapping"},
    {"apiversion: modelslim_v1\nmetadata: null\n", "metadata: must be a mapping"},
    {"apiversion: modelslim_v1\nmetadata: {score: -1}\n", "metadata.score: must lie in"},
    {"apiversion: modelslim_v1\nmetadata: {score: .nan}\n", NULL},
    {"apiversion: modelslim_v1\nmetadata: {score: 1e-5, config_id: a}\n", NULL},
    {"apiversion: modelslim_v1\nmetadata: {config_id: 5}\n", "metadata.config_id: must be text, not integer"},
    {"apiversion: modelslim_v1\nmetadata: {verified_tags: {m: [a]}}\n", "verified_tags.m.0: must be a list"},
    {"apiversion: modelslim_v1\nmetadata: {verified_tags: {m: [[a]]}}\n", NULL},
    {"apiversion: modelslim_v1\nk\xc3\xa9: 1\n", "the key has a character"},
    {"apiversion: modelslim_v1\nnote: [['\t']]\n", "note.0.0: has a character"},
    {"apiversion: modelslim_v1\nnote: [{a: '\t'}]\n", NULL}, /* mappings in lists aren't looked into */
    {"spec: {}\n", "apiversion is missing"},
    {"[]\n", "a mapping is expected, not list"},
    {"apiversion: modelslim_v0\nspec: [1]\n", "spec: must be a mapping"},
    {"apiversion: modelslim_v0\nmetadata: {score: x}\n", "metadata.score: must be a number"},
    {VLM "  default_text: ' '\n", "default_text: must not be blank"},
    {VLM "  save: [{type: compressed_tensors}]\n", "unknown saver 'compressed_tensors'; there are ascendv1_saver, "},
    {VLM "  save: [{type: ascendv1_saver, part_file_size: -1}]\n", "must be 0 (one file) or more"},
    {VLM "  process: [{type: linear_quant}]\n", "linear_quant.qconfig: is missing"},
    {VLM "  multimodal_sd_config: {}\n", "multimodal_sd_config: unknown key"},
    {SD "  multimodal_sd_config: {dump_config: {}, any: 1}\n", NULL},
    {SD "  multimodal_sd_config: {any: 1}\n", "multimodal_sd_config.dump_config: is missing"},
    {SD "  multimodal_sd_config: {dump_config: {capture_mode: all}}\n", "capture_mode: 'all' is none of args"},
    {SD "  multimodal_sd_config: {dump_config: {enable: 1}}\n", "enable: unknown key"},
    {CONVERT "  any: 1\n", NULL},
    {CONVERT "  preprocess: [{type: rename, patterns: [{from: a, to: b}]}, {type: convert, source: [a], target: [b], "
             "ops: [{type: chunk, more: 1}]}]\n",
     NULL},
    {CONVERT "  preprocess: [{type: split}]\n",
     "preprocess.0: unknown preprocess step 'split'; there are rename, convert"},
    {CONVERT "  linears: [{match: ['*'], target: W8A8_MXFP8, route: [FLOAT]}]\n", NULL},
    {CONVERT "  linears: [{match: ['*'], target: W8A8_MXFP8, route: [FLOT]}]\n",
     "linears.0.route.0: 'FLOT' is none of"},
    {CONVERT "  linears: [{match: ['*'], target: MXFP8}]\n", "linears.0.target: 'MXFP8' is none of"},
    {CONVERT "  linears: [{match: ['*'], target: W8A8_MXFP8, rote: 1}]\n", "rote: unknown key (did you mean 'route'?)"},
    {CONVERT "  linears: [{match: ['*'], target: W8A8_MXFP8}]\n  save: [{type: ascendv1}, {type: hf}]\n", NULL},
    {CONVERT "  linears: [{match: ['*'], target: W8A8_MXFP8}]\n  save: [{type: hf}]\n", "not 'hf'"},
    {CONVERT "  defaults: {dst_format: hf, dst_ir: W8A8_MXFP8}\n", "spec.defaults.dst_ir: W8A8_MXFP8 requires"},
    {CONVERT "  parallel: {workers: x}\n", "parallel.workers: must be an integer"},
    {PROCESS("{type: group, configs: [{type: group, configs: [{type: linear_quant}]}]}"),
     "spec.process.0.group.configs.0.group.configs.0.linear_quant.qconfig: is missing"},
    {PROCESS("{type: group}"), "configs: is missing"},
    {PROCESS("{type: iter_smooth, alpha: '0.5', scale_min: 1e-5, symmetric: 'yes', include: null}"), NULL},
    {PROCESS("{type: iter_smooth, alpha: 0}"), "must lie between 0 and 1"},
    {PROCESS("{type: flex_smooth_quant, alpha: null}"), "alpha: must be a number"},
    {PROCESS("{type: quarot, block_size: -1, max_tp_size: 4}"), NULL},
    {PROCESS("{type: quarot, block_size: 12}"), "must be a power of two"},
    {PROCESS("{type: online_quarot, block_size: 64, exclude: null}"), NULL},
    {PROCESS("{type: online_quarot, block_size: 12}"), "must be a power of two"},
    {PROCESS("{type: adapt_rotation}"), "stage: is missing"},
    {PROCESS("{type: adapt_rotation, stage: 1, online: true}"), "'online' belongs to stage 2"},
    {PROCESS("{type: adapt_rotation, stage: 1, layer_type: []}"), "needs at least 1 item"},
    {PROCESS("{type: adapt_rotation, stage: 1, layer_type: [' ']}"), "layer_type.0: must not be blank"},
    {PROCESS("{type: ascendv1_saver, part_file_size: -1}"), "part_file_size: must be 0 (one file) or more"},
    {PROCESS("{type: autoround_quant, strategies: [{qconfig: {weight: {" W8 ", ext: {scale_dtype: f16}}}}]}"),
     "qconfig.weight.ext.scale_dtype: 'f16' is none of float16, float32, bfloat16"},
    {PROCESS("{type: autoround_quant, strategies: [{qconfig: {weight: {" W8 ", ext: {group_size: 8}}}}]}"),
     "ext.group_size needs scope per_group"},
    {PROCESS("{type: autoround_quant}"), "strategies: is missing"},
    {PROCESS("{type: autoround_quant, strategies: [{qconfig: {weight: {scope: per_group, dtype: int4, symmetric: true, "
             "method: autoround}}}]}"),
     "needs ext.group_size"},
    {PROCESS("{type: float_sparse, sparse_ratio: 1}"), NULL},
    {PROCESS("{type: svd_res, rank: 0}"), "rank: must lie in"},
    {PROCESS("{type: flatquant, knob: 1}"), "knob: unknown key"},
    {PROCESS("{type: fa3_quant}"), NULL},
    {PROCESS("{type: fa3_quant, qconfig: null, details: null}"), NULL},
    {PROCESS("{type: fa3_quant, details: {fa_v: {" FA("int8", "per_head") "}}}"), NULL},
    {PROCESS("{type: fa3_quant, qconfig: {" FA("int8", "per_head") "}, details: {fa_v: {" FA("int8", "per_head") "}}}"),
     "qconfig and details exclude each other"},
    {PROCESS("{type: fa3_quant, details: {fa_q: null}}"), "details.fa_q: must be a mapping"},
    {PROCESS("{type: fa3_quant, details: {fa_p: {" FA("int8", "per_head") "}}}"), "details.fa_p: unknown key"},
    {PROCESS("{type: fa3_quant, ratio: 0.9}"), "ratio: unknown key"},
    {PROCESS("{type: kv_smooth, smooth_factor: 0}"), "smooth_factor: must lie"},
    {PROCESS("{no: type}"), "type is missing"},
    {"apiversion: modelslim_v1\nspec: {prior: [{process: [{type: linear_quant, qconfig: {weight: {" W8 "}}}]}]}\n",
     NULL},
    {"apiversion: modelslim_v1\nspec: {prior: [{dataset: x}]}\n", "prior.0.process: is missing"},
};

static void rules(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof documents / sizeof documents[0]; i++) {
        Recipe *r = NULL;
        Error e = {0};
        Status st = recipe_parse(&r, &recipe_rows, documents[i].text, strlen(documents[i].text), "t", NULL, &e);
        const char *want = documents[i].want;
        if (want ? st != ST_DATA || !strstr(e.text, want) : st != ST_OK)
            fail_msg("'%s', wanted '%s' for\n%s", st == ST_OK ? "accepted" : e.text, want ? want : "accepted",
                     documents[i].text);
        if (st == ST_OK)
            recipe_free(r);
    }
}

/* Accepted, with a note. blocks: it is why quant can't run it. */
static const struct {
    const char *text, *note;
    bool blocks;
} noted[] = {
    {ENTRY(Q("scope: per_token, dtype: int8, symmetric: false, method: minmax", W8)), "per_token needs symmetric: true",
     true},
    {ENTRY(Q(A8, "scope: per_channel, dtype: int4, symmetric: true, method: minmax")), "can't be written by any saver",
     true},
    {ENTRY(Q("scope: per_channel, dtype: int8, symmetric: true, method: minmax", W8)), "can't be written by any saver",
     true},
    {ENTRY(Q("scope: per_token, dtype: int8, symmetric: true, method: minmax", W4G("minmax"))),
     "can't be written by any saver", true},
    {ENTRY("{weight: {" W4G("ssz") "}}"), "per_group int4 ssz are ours", false},
    {ENTRY("{weight: {scope: per_group, dtype: int8, symmetric: false, method: minmax}}"),
     "per_group int8 minmax are ours", false},
    {ENTRY(Q(A8, "scope: per_channel, dtype: int8, symmetric: true, method: w8a8s, ext: {fraction: 0.02}")),
     "per_channel int8 w8a8s are ours", false},
    {ENTRY(Q("scope: per_token, dtype: int8, symmetric: true, method: minmax",
             "scope: per_channel, dtype: int8, symmetric: true, method: w8a8s")),
     "weights w8a8s go with per_tensor int8", true},
    {ENTRY("{weight: {" W4G("gptq") "}}"), "W4A16 is ours", false},
    {ENTRY("{weight: {scope: per_group, dtype: int8, symmetric: true, method: gptq, ext: {actorder: true}}}"),
     "actorder is ours", false},
    {ENTRY("{weight: {scope: per_group, dtype: int8, symmetric: true, method: gptq, ext: {block_size: 12.5}}}"),
     "block_size: a whole number", true},
    {ENTRY(Q("scope: per_block, dtype: mxfp8, symmetric: true, method: minmax",
             "scope: per_block, dtype: mxfp8, symmetric: true, method: minmax, ext: {axes: 0}")),
     "axes: blocks along the last axis", true},
    {SAVE("-1"), "part_file_size is -1", true},
    {SAVE("1.5"), "part_file_size 1.5: the peer takes whole numbers only", false},
    {PROCESS("{type: dynamic_cache, qconfig: {scope: per_token, dtype: int8, symmetric: true, method: minmax}}"),
     "dynamic_cache runs with per_channel int8 minmax", true},
    {PROCESS("{type: fa3_quant, details: {}}"), "details names none of fa_q, fa_k and fa_v", true},
    {PROCESS("{type: fa3_quant, qconfig: {" FA("int8", "per_channel") "}}"),
     "fa3_quant runs with per_head or per_token int8 or fp8_e4m3 and per_block mxfp4 or mxfp8", true},
    {PROCESS("{type: fa3_quant, qconfig: {" FA("mxfp4", "per_token") "}}"), "not with per_token mxfp4 minmax", true},
    {PROCESS("{type: fa3_quant, details: {fa_k: {dtype: int8, scope: per_token, symmetric: false, method: minmax}}}"),
     "not with per_token int8 asymmetric minmax", true},
    {PROCESS("{type: load}"), "processor 'load': kept", true},
    {"apiversion: modelslim_v1\nspec: {runner: dp_layer_wise}\n", "without them it runs as layer_wise", false},
    {"apiversion: modelslim_v1\nspec: {prior: [{process: []}]}\n", "prior stages aren't run", true},
    {ENTRY(Q(A8, W8)) "      exclude: ['{1..2000}']\n", "pattern has more than 1000", true},
    {VLM "  process: [{type: linear_quant, qconfig: {weight: {" W8 "}}}]\n", "vision-language documents are read",
     true},
    {VLM "  runner: model_wise\n", "the peer takes layer_wise instead", false},
    {SD "  multimodal_sd_config: {dump_config: {}}\n", "diffusion documents are read", true},
    {SD "  multimodal_sd_config: {dump_config: {}, model_config: {}, inference_config: {}}\n", "the old name", true},
    {CONVERT, "a conversion quantizes no layer by a recipe", true},
    {CONVERT "  save: [{type: hf}, {}]\n", "the peer uses the first entry only", false},
};

static void notes_and_what_blocks(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof noted / sizeof noted[0]; i++) {
        Recipe *r = NULL;
        Error e = {0};
        if (recipe_parse(&r, &recipe_rows, noted[i].text, strlen(noted[i].text), "t", NULL, &e) != ST_OK)
            fail_msg("%s for\n%s", e.text, noted[i].text);
        const RecipeNote *found = NULL;
        for (int k = 0; k < recipe_notes(r) && !found; k++)
            found = strstr(recipe_note(r, k)->text, noted[i].note) ? recipe_note(r, k) : NULL;
        if (!found)
            fail_msg("no note '%s' for\n%s", noted[i].note, noted[i].text);
        Str why = {0};
        bool can = recipe_can_run(r, &why);
        assert_int_equal(found->blocks, noted[i].blocks);
        assert_int_equal(strstr(str_text(&why), noted[i].note) != NULL, noted[i].blocks);
        assert_int_equal(can, why.len == 0);
        if (noted[i].blocks)
            assert_false(recipe_can_run(r, NULL));
        str_free(&why);
        recipe_free(r);
    }
}

/* What the peer takes for --device, and what it makes of a recipe with several devices (specs/config.md 8, 10). */
static void devices(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool npu;
        int count;         /* -1: refused */
        const char *says;
    } t[] = {
        {"cpu", false, 0, ""}, {" cpu ", false, 0, ""}, {"cpu:", false, 0, ""}, {"cpu:7", false, 1, ""}, {"npu", true, 0, ""},
        {"npu:", true, 0, ""}, {"npu: ", true, 0, ""}, {"npu:0", true, 1, ""}, {" npu : 3 , 1,0 ", true, 3, ""},
        {"npu:0,,1,", true, 2, ""}, {"npu:00", true, 1, ""}, {"npu:999999", true, 1, ""},
        {"", false, -1, "unknown device ''"}, {"gpu:0", false, -1, "unknown device"}, {"NPU", false, -1, "unknown device"},
        {"npux:0", false, -1, "unknown device"}, {":0", false, -1, "unknown device"}, {"npu:,,", false, -1, "names no device"},
        {"npu:0,0", false, -1, "device 0 stands there twice"}, {"npu:1,01", false, -1, "device 1 stands there twice"},
        {"npu:-1", false, -1, "'-1' is no device number"}, {"npu:0,1.0", false, -1, "'1.0' is no device number"},
        {"npu:0 1", false, -1, "'0 1' is no device number"}, {"npu:0:1", false, -1, "'0:1' is no device number"},
        {"npu:9999999", false, -1, "no device number"}, {"cpu:0,1", false, -1, "mpirun -n 2"},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        Device d;
        Error e = {0};
        const Status st = device_parse(t[i].text, &d, &e);
        if ((st == ST_OK) != (t[i].count >= 0) || (st != ST_OK && !strstr(e.text, t[i].says)))
            fail_msg("'%s': %s", t[i].text, e.text);
        if (st == ST_OK) {
            assert_int_equal(d.npu, t[i].npu);
            assert_int_equal(d.count, t[i].count);
        }
    }
}

#define RUNS(runner, process, save) "apiversion: modelslim_v1\nspec:\n  " runner "\n  process: [" process "]\n  save: [" save "]\n"
#define LQ(method) "{type: linear_quant, qconfig: {weight: {scope: per_channel, dtype: int8, symmetric: true, method: " method "}}}"

static void runners(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        RecipeRunner runner;
        bool divides;
        const char *refused;
    } t[] = {
        {RUNS("runner: auto", LQ("minmax"), "{type: ascendv1_saver}"), RUNNER_AUTO, true, ""},
        {RUNS("dataset: x", LQ("ssz") ", {type: quarot}", "{type: mindie_format_saver}"), RUNNER_AUTO, true, ""},
        {RUNS("runner: dp_layer_wise", "{type: iter_smooth}, {type: flex_smooth_quant}, " LQ("minmax"), "{type: ascendv1_saver}"),
         RUNNER_DP_LAYER_WISE, true, ""},
        {RUNS("runner: layer_wise", LQ("minmax"), "{type: ascendv1_saver}"), RUNNER_LAYER_WISE, false, ""},
        {RUNS("runner: model_wise", LQ("minmax"), "{type: ascendv1_saver}"), RUNNER_MODEL_WISE, false, ""},
        {RUNS("runner: auto", "{type: smooth_quant}, " LQ("gptq"), "{type: ascendv1_saver}, {type: compressed_tensors}"), RUNNER_AUTO,
         true, "'smooth_quant', 'linear_quant', 'compressed_tensors'"},
        /* of a group one is enough; nothing of an empty one can */
        {RUNS("runner: auto", "{type: group, configs: [{type: smooth_quant}, " LQ("minmax") "]}, {type: group, configs: []}, "
                              "{type: group, configs: [{type: smooth_quant}, {type: group, configs: [{type: kv_smooth}]}]}", ""),
         RUNNER_AUTO, true, "'group', 'group'"},
        {"apiversion: multimodal_vlm_modelslim_v1\nspec: {runner: dp_layer_wise}\n", RUNNER_LAYER_WISE, false, ""},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        Recipe *r;
        Error e = {0};
        Str refused = {0};
        if (recipe_parse(&r, &recipe_rows, t[i].text, strlen(t[i].text), "t", NULL, &e) != ST_OK)
            fail_msg("%s\n%s", e.text, t[i].text);
        assert_int_equal(recipe_runner(r), t[i].runner);
        assert_false(recipe_divides(r, 1));
        assert_int_equal(recipe_divides(r, 2), t[i].divides);
        recipe_undivided(r, &refused);
        assert_string_equal(str_text(&refused), t[i].refused);
        str_free(&refused);
        recipe_free(r);
    }
    assert_true(recipe_divides(NULL, 2));
}

static void units_and_savers(void **state)
{
    (void)state;
    static const char text[] =
        "apiversion: modelslim_v1\nspec:\n  runner: layer_wise\n  process:\n    - {type: linear_quant, qconfig: "
        "{weight: {" W8 "}}}\n    - type: group\n      configs:\n        - {type: group, configs: [{type: "
        "linear_quant, qconfig: &q " Q(A8, W8) "}, {type: load}]}\n        - {type: dynamic_cache, qconfig: "
        "{scope: per_channel, dtype: int8, symmetric: false, method: minmax, ext: {aggregation_type: mean}}, exclude: "
        "['*.0.*', b]}\n        - {type: linear_quant, qconfig: *q}\n    - {type: group, configs: []}\n"
        "  save:\n    - {type: mindie_format_saver, part_file_size: '2.0'}\n    - {type: ascendv1_saver}\n"
        "    - {type: compressed_tensors, part_file_size: 0}\n";
    Recipe *r;
    Error e = {0};
    if (recipe_parse(&r, &recipe_rows, text, strlen(text), "t", NULL, &e) != ST_OK)
        fail_msg("%s", e.text);
    assert_int_equal(recipe_entries(r), 3);
    assert_int_equal(recipe_stages(r), 1); /* no prior ones */
    assert_int_equal(recipe_stage(r, 0)->nunits, 3);
    assert_null(recipe_stage(r, 0)->dataset);
    const RecipeUnit *u = &recipe_stage(r, 0)->units[0];
    assert_int_equal(u->nsteps, 1);
    assert_int_equal(u->line, 5);
    assert_ptr_equal(u->steps[0].processor, &processor_linear_quant);
    assert_int_equal(u->steps[0].entry, 0);
    u = &recipe_stage(r, 0)->units[1];
    static const ProcessorType *const types[] = {&processor_linear_quant, NULL, &processor_dynamic_cache,
                                                 &processor_linear_quant};
    static const int entries[] = {1, -1, -1, 2};
    assert_int_equal(u->nsteps, 4);
    for (int i = 0; i < 4; i++) {
        assert_ptr_equal(u->steps[i].processor, types[i]);
        assert_int_equal(u->steps[i].entry, entries[i]);
    }
    assert_string_equal(u->steps[1].type, "load");
    assert_int_equal(u->steps[2].line, 9);
    const CacheSettings *k = u->steps[2].settings;
    assert_int_equal(k->q.scope, QS_PER_CHANNEL);
    assert_false(k->q.symmetric);
    assert_true(k->q.ext.mean);
    assert_int_equal(k->attentions.ninclude, 0);
    assert_int_equal(k->attentions.nexclude, 2);
    assert_string_equal(k->attentions.exclude[1], "b");
    assert_int_equal(recipe_stage(r, 0)->units[2].nsteps, 0);
    assert_int_equal(recipe_savers(r), 3);
    assert_string_equal(recipe_saver(r, 0)->type, "mindie_format_saver");
    assert_true(recipe_saver(r, 0)->part_file_size == 2);
    assert_true(recipe_saver(r, 1)->part_file_size == 4);
    assert_true(recipe_saver(r, 2)->part_file_size == 0);
    assert_int_equal(recipe_saver(r, 2)->line, 15);
    recipe_free(r);
}

static void ext_is_read(void **state)
{
    (void)state;
    static const char text[] =
        "apiversion: modelslim_v1\nspec:\n  process:\n"
        "    - {type: linear_quant, qconfig: {act: {" A8 ", ext: {aggregation_type: mean}}, weight: {scope: "
        "per_channel, dtype: int8, symmetric: true, method: ssz, ext: {step: 7, group_size: 3}}}}\n"
        "    - {type: linear_quant, qconfig: {weight: {scope: per_group, dtype: int8, symmetric: false, method: gptq, "
        "ext: {percdamp: 0.05, block_size: 64, group_size: 32, actorder: 'yes', other: 1}}}}\n"
        "    - {type: linear_quant, qconfig: " Q("scope: per_block, dtype: mxfp4, symmetric: true, method: minmax",
                                                "scope: per_block, dtype: mxfp4, symmetric: true, method: ceil_x, ext: "
                                                "{axes: -1, ceil_x_value: 8, enable_search: true, search_min: 6.5, "
                                                "search_max: '11', search_step: 5e-1}") "}\n"
        "    - {type: linear_quant, qconfig: " Q("scope: dual_scale, dtype: mxfp4, symmetric: true, method: dualscale, "
                                                "ext: {dual_block_size: 64}",
                                                "scope: dual_scale, dtype: mxfp4, symmetric: true, method: dualscale, "
                                                "ext: {dual_block_size: 128}") "}\n";
    Recipe *r;
    Error e = {0};
    if (recipe_parse(&r, &recipe_rows, text, strlen(text), "t", NULL, &e) != ST_OK)
        fail_msg("%s", e.text);
    const QConfig *q = &recipe_entry(r, 0)->q;
    assert_true(q->act.ext.mean);
    assert_int_equal(q->weight.ext.steps, 7);
    assert_int_equal(q->weight.ext.group_size, 0); /* no groups: not read */
    q = &recipe_entry(r, 1)->q;
    assert_true(q->weight.ext.percdamp == 0.05 && q->weight.ext.block_size == 64 && q->weight.ext.act_order);
    assert_int_equal(qspec_group(&q->weight, 0), 32);
    const QExt *x = &recipe_entry(r, 2)->q.weight.ext;
    assert_true(x->ceil_x == 8 && x->search && x->search_min == 6.5 && x->search_max == 11 && x->search_step == 0.5);
    q = &recipe_entry(r, 3)->q;
    assert_int_equal(q->act.ext.dual_block, 64);
    assert_int_equal(q->weight.ext.dual_block, 128);
    QConfig other = *q;
    assert_true(config_equal(q, &other));
    other.act.ext.dual_block = 32;
    assert_false(config_equal(q, &other));
    recipe_free(r);
}

static void all_errors_are_collected(void **state)
{
    (void)state;
    static const char text[] = "apiversion: modelslim_v1\nmetadata: {score: x, author: y}\nspec:\n  runner: z\n  "
                               "process:\n    - type: nope\n    - 5\n";
    Recipe *r;
    Error e = {0};
    Str all = {0};
    assert_int_equal(recipe_parse(&r, &recipe_rows, text, strlen(text), "t.yaml", &all, &e), ST_DATA);
    int lines = 0;
    for (const char *s = str_text(&all); (s = strchr(s, '\n')) != NULL; s++)
        lines++;
    assert_int_equal(lines, 5);
    assert_int_equal(strncmp(str_text(&all), "t.yaml:2:19: metadata.score: must be a number, not x\n", 52), 0);
    str_free(&all);
}

static void levels(void **state)
{
    (void)state;
    Model *m = fake_model(&(FakeShape){.layers = 3, .hidden = 64, .inter = 128});
    static const char text[] =
        "apiversion: modelslim_v1\nspec:\n  process:\n    - type: group\n      configs:\n        - type: group\n       "
        "   configs:\n            - type: "
        "linear_quant\n              qconfig: " Q(
            A8,
            W8) "\n              include: ['*mlp*']\n              exclude: ['*down_proj']\n    - type: linear_quant\n"
                "      qconfig: {weight: {" W8
                "}}\n      include: ['*layers.{1,2}.*', 'x']\n    - type: linear_quant\n      qconfig: " Q(
                    A8, W8) "\n      include: []\n";
    Recipe *r;
    Error e = {0};
    assert_int_equal(recipe_parse(&r, &recipe_rows, text, strlen(text), "t", NULL, &e), ST_OK);
    assert_int_equal(recipe_entries(r), 3);
    int16_t level[21];
    assert_int_equal(recipe_assign(r, m, level, &e), ST_OK);
    static const int16_t want[21] = {0, 0, 0, 0, 1, 1, 0, 2, 2, 2, 2, 1, 1, 2, 2, 2, 2, 2, 1, 1, 2};
    assert_memory_equal(level, want, sizeof want);
    SizeReport s;
    recipe_sizes(r, m, level, NULL, &s);
    uint64_t bytes = 0, floats = 0;
    for (int i = 0; i < 21; i++) {
        bytes += recipe_linear_bytes(r, m, i, level[i], false);
        floats += recipe_linear_bytes(r, m, i, 0, false);
    }
    assert_int_equal(s.bytes, bytes); /* the fake model has nothing but linears */
    assert_int_equal(s.float_bytes, floats);
    assert_true(s.bytes < s.float_bytes);
    assert_int_equal(s.quantized, 16);
    assert_int_equal(s.floats, 5);
    double weights = 0, bits = 0;
    for (int i = 0; i < 21; i++) {
        double n = (double)m->linears[i].out * (double)m->linears[i].in;
        weights += n;
        bits += n * (level[i] ? 8 : dtype_size(m->cfg.dtype) * 8);
    }
    assert_true(s.average_bits == bits / weights);
    recipe_free(r);
    fake_model_free(m);
}

static void what_has_no_levels(void **state)
{
    (void)state;
    static const char *const texts[] = {CONVERT, "apiversion: modelslim_v0\nspec: {}\n",
                                        ENTRY(Q(A8, W8)) "      exclude: ['{1..2000}']\n"};
    static const char *const why[] = {"t:1:13: gives no layer a level: apiversion modelslim_convert",
                                      "gives no layer a level: can't be translated", "more than 1000"};
    Model *m = fake_model(&(FakeShape){.layers = 1, .hidden = 64, .inter = 128});
    for (int i = 0; i < 3; i++) {
        Recipe *r;
        Error e = {0};
        int16_t level[7];
        assert_int_equal(recipe_parse(&r, &recipe_rows, texts[i], strlen(texts[i]), "t", NULL, NULL), ST_OK);
        assert_int_equal(recipe_assign(r, m, level, &e), ST_DATA);
        if (!strstr(e.text, why[i]))
            fail_msg("%s", e.text);
        recipe_free(r);
    }
    fake_model_free(m);
}

static void prior_stages_are_kept(void **state)
{
    (void)state;
    static const char text[] =
        "apiversion: modelslim_v1\nspec: {prior: [{process: [{type: linear_quant, qconfig: {weight: {" W8
        "}}}]}, {process: [], dataset: own.jsonl}], process: [{type: load}]}\n";
    Recipe *r;
    assert_int_equal(recipe_parse(&r, &recipe_rows, text, strlen(text), "t", NULL, NULL), ST_OK);
    assert_int_equal(recipe_entries(r), 0);
    assert_int_equal(recipe_notes(r), 2);
    assert_int_equal(recipe_stages(r), 3);
    const RecipeStage *s = recipe_stage(r, 0);
    assert_int_equal(s->nunits, 1);
    assert_ptr_equal(s->units[0].steps[0].processor, &processor_linear_quant);
    assert_int_equal(s->units[0].steps[0].entry, -1); /* no level of the assignment */
    assert_null(s->dataset);
    assert_string_equal(recipe_stage(r, 1)->dataset, "own.jsonl");
    assert_string_equal(recipe_stage(r, 2)->units[0].steps[0].type, "load");
    recipe_free(r);
}

static void mutate(const char *good, size_t size)
{
    unsigned long long seed = 3;
    int fine = 0;
    for (int i = 0; i < 3000; i++) {
        char *s = malloc(size);
        assert_non_null(s);
        memcpy(s, good, size);
        for (int k = (int)(fake_random(&seed) % 3); k >= 0; k--)
            s[fake_random(&seed) % (size - 1)] = ":-[]{}&*!|>'\"#%\n ,?x1<~"[fake_random(&seed) % 23];
        Recipe *r;
        Error e = {0};
        Status st = recipe_parse(&r, &recipe_rows, s, size - 1, "t", NULL, &e);
        if (st == ST_OK)
            recipe_free(r);
        else
            assert_int_equal(st, ST_DATA);
        fine += st == ST_OK;
        free(s);
    }
    assert_true(fine > 20);
}

/* Any change of a good document is read or refused, never more. */
static void mutations(void **state)
{
    (void)state;
    static const char good[] = "apiversion: modelslim_v1\nmetadata: {config_id: x, score: 9}\nx: &q " Q(
        A8, W8) "\nspec:\n  process:\n    - type: group\n      configs: &c\n"
                "        - {type: linear_quant, qconfig: *q, exclude: ['*a{1..3}']}\n    - type: iter_smooth\n      "
                "alpha: 0.5\n  save: [{type: ascendv1_saver}]\n";
    static const char multimodal[] =
        SD "  multimodal_sd_config: &m {dump_config: {enable_dump: yes}, x: [1]}\n  process: [{type: fa3_quant, "
           "details: {fa_q: &q {" W8 "}, fa_k: *q}}]\n  save: [{type: mindie_format_saver}]\n";
    static const char convert[] =
        CONVERT "  linears: [{match: ['*a{1..3}'], target: W8A8_MXFP8, route: [FLOAT]}]\n  save: [{type: hf}, {}]\n"
                "  defaults: {dst_ir: FLOAT}\n  parallel: {workers: 2}\n";
    mutate(good, sizeof good);
    mutate(multimodal, sizeof multimodal);
    mutate(convert, sizeof convert);
}

/* ---- rows of another build ---- */

static const Field twirl_fields[] = {
    FIELD_TYPE, {.key = "turns", .type = F_INT, .required = true, .bounded = true, .lo = 1, .hi = 9}, FIELD_END};
static const Object twirl_object = {.fields = twirl_fields};

static const void *twirl_settings(Arena *a, const YamlNode *map)
{
    int64_t *turns = arena_alloc(a, sizeof *turns);
    if (turns)
        lax_int(yaml_get(map, "turns"), turns);
    return turns;
}

static const ProcessorType twirl = {.name = "twirl", .object = &twirl_object, .settings = twirl_settings};

static const ProcessorType *other_processor(int i)
{
    static const ProcessorType *const rows[] = {&twirl, &processor_linear_quant, NULL};
    return rows[i];
}

static bool other_saver(int i, SaverType *out)
{
    static const Field fields[] = {FIELD_SAVER, {.key = "shape", .type = F_STR}, FIELD_END};
    *out = (SaverType){.name = "box", .fields = fields};
    return i == 0;
}

static const QuantKey *other_weight(int i)
{
    static const QuantKey rows[] = {
        {"fold", QT_INT8, QS_PER_CHANNEL, 1, QUANT_BOTH},
        {"crease", QT_INT8, QS_PER_CHANNEL, 1, QUANT_OURS},
    };
    return i < 2 ? &rows[i] : NULL;
}

static const RecipeRows other = {
    .processor = other_processor, .saver = other_saver, .act = act_quantizer_key, .weight = other_weight};

#define FOLDED(method) "scope: per_channel, dtype: int8, symmetric: true, method: " method

/* Processors, savers and quantizers are those that the recipe is read with, not others. */
static void rows_are_handed_in(void **state)
{
    (void)state;
    static const char text[] = V1 "  process:\n    - {type: twirl, turns: 3}\n    - {type: linear_quant, qconfig: "
                                  Q(A8, FOLDED("fold")) "}\n    - {type: linear_quant, qconfig: "
                                  Q(A8, FOLDED("crease")) "}\n  save: [{type: box, shape: round}]\n";
    Recipe *r;
    Error e = {0};
    Str all = {0};
    if (recipe_parse(&r, &other, text, strlen(text), "t", NULL, &e) != ST_OK)
        fail_msg("%s", e.text);
    assert_ptr_equal(recipe_stage(r, 0)->units[0].steps[0].processor, &twirl);
    assert_int_equal(*(const int64_t *)recipe_stage(r, 0)->units[0].steps[0].settings, 3);
    assert_true(recipe_can_run(r, NULL));
    assert_int_equal(recipe_notes(r), 1);
    assert_string_equal(recipe_note(r, 0)->text, "weights per_channel int8 crease are ours: the peer refuses them");
    recipe_free(r);
    assert_int_equal(recipe_parse(&r, &recipe_rows, text, strlen(text), "t", &all, &e), ST_DATA);
    assert_non_null(strstr(str_text(&all), "unknown processor 'twirl'"));
    assert_non_null(strstr(str_text(&all), "no method 'fold' for per_channel int8 sym a weight; there is: minmax ssz gptq"));
    assert_non_null(strstr(str_text(&all), "unknown saver 'box'; there are ascendv1_saver, mindie_format_saver, "
                                           "compressed_tensors"));
    str_free(&all);
    static const char turns[] = V1 "  process: [{type: twirl, turns: 10}]\n";
    assert_int_equal(recipe_parse(&r, &other, turns, strlen(turns), "t", NULL, &e), ST_DATA);
    assert_non_null(strstr(e.text, "twirl.turns: must lie in 1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_documents),
        cmocka_unit_test(verdicts_of_the_peer),
        cmocka_unit_test(good_document),
        cmocka_unit_test(rules),
        cmocka_unit_test(notes_and_what_blocks),
        cmocka_unit_test(devices),
        cmocka_unit_test(runners),
        cmocka_unit_test(units_and_savers),
        cmocka_unit_test(ext_is_read),
        cmocka_unit_test(all_errors_are_collected),
        cmocka_unit_test(levels),
        cmocka_unit_test(what_has_no_levels),
        cmocka_unit_test(prior_stages_are_kept),
        cmocka_unit_test(mutations),
        cmocka_unit_test(rows_are_handed_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
