/* config.json over the weights of recorded models: opened, and run for a few tokens in both arithmetics. */
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/pool.h"
#include "fuzz.h"
#include "measure/forward.h"
#include "model/model.h"
#include "run/runner.h"

static void forward(const Model *m, bool exact)
{
    static Pool *pool;
    Error err = {0};
    int32_t ids[7];
    int64_t start[2] = {0, 7};
    int item = 0;
    Runner *r;
    if (!pool && pool_new(&pool, 1, &err) != ST_OK)
        fuzz_bad("no pool", err.text);
    for (int i = 0; i < 7; i++)
        ids[i] = (int32_t)(i * 37 % (m->cfg.vocab > 0 ? m->cfg.vocab : 1));
    TokenSet t = {.name = (char *)"t", .samples = 1, .start = start, .ids = ids, .item = &item};
    RunnerOptions o = {.pool = pool, .arith = exact ? ARITH_EXACT : ARITH_FP32, .mem_limit = (uint64_t)1 << 28};
    Status st = runner_new(&r, m, &o, &err);
    fuzz_error(st, &err);
    if (st != ST_OK)
        return;
    st = forward_write(r, &t, fuzz_path("out.safetensors"), &err);
    fuzz_error(st, &err);
    runner_free(r);
}

/* Variant: bit 0: run it, bit 1: in exact arithmetic; the rest: whose weights. */
static void run_config(int variant, const uint8_t *data, size_t n)
{
    static glob_t weights;
    char cwd[512], target[1200];
    if (!weights.gl_pathc && glob("tests/golden/models/*/*/model.safetensors", 0, NULL, &weights) != 0)
        fuzz_bad("no models", "");
    if (!getcwd(cwd, sizeof cwd))
        fuzz_bad("no folder", "");
    snprintf(target, sizeof target, "%s/%s", cwd, weights.gl_pathv[(size_t)(variant >> 2) % weights.gl_pathc]);
    char folder[256];
    snprintf(folder, sizeof folder, "%s", fuzz_path("model.safetensors"));
    unlink(folder);
    if (symlink(target, folder) != 0)
        fuzz_bad("no link", folder);
    *strrchr(folder, '/') = '\0';
    fuzz_put("config.json", data, n);
    unlink(fuzz_path("model.safetensors.index.json"));
    Model *m;
    Error err = {0};
    Status st = model_open(&m, folder, NULL, &err);
    fuzz_error(st, &err);
    if (st != ST_OK)
        return;
    if (variant & 1)
        forward(m, variant & 2);
    model_free(m);
}

static const char *const config_seeds[] = {"tests/golden/models/*/*/config.json", NULL};
static const char *const config_words[] = {
    "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4.0}", "\"layer_types\":[\"sliding_attention\"]", "\"num_hidden_layers\":2,",
    "\"head_dim\":64,", "\"tie_word_embeddings\":true,", "\"num_key_value_heads\":1,", "\"sliding_window\":4,", "\"model_type\":\"llama\"",
    "\"num_experts\":8,", "\"n_group\":2,", "\"quantization_config\":{\"quant_method\":\"fp8\"}", "null", NULL};
const FuzzTarget fuzz_config = {.name = "config", .seeds = config_seeds, .words = config_words, .run = run_config};
