#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "process/sink_save.h"
#include "recipe/recipe.h"
#include "run/unit.h"
#include "tests/lib/bench.h"
#include "tests/lib/follow.h"
#include "tests/lib/keepsaver.h"
#include "tests/lib/savefeed.h"
#include "tests/lib/tempdir.h"
#include "text/tokenizer.h"

/* autoround_quant as a run has it: recorded runs of the peer, what training is good for, stopping and going on, what can't be
 * trained. */

#define FORMATS "tests/golden/formats/"
#define HEAD "apiversion: modelslim_v1\nspec:\n  process:\n  - type: autoround_quant\n"
#define TOKEN8 "act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}"
#define TOKEN4 "act: {scope: per_token, dtype: int4, symmetric: true, method: minmax}"
#define W4 "weight: {scope: per_channel, dtype: int4, symmetric: true, method: autoround}"

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

/* ---- a run ---- */

typedef struct Trained {
    TestRun b;
    Recipe *recipe;
    int16_t *level;
    QConfig levels[8];
    TokenSet *calib;
    Pipeline *p;
} Trained;

static void open_recipe(Trained *t, const char *yaml, bool peer)
{
    Error err = {0};
    ok(recipe_parse(&t->recipe, &recipe_rows, yaml, strlen(yaml), "t.yaml", NULL, &err), &err);
    t->level = calloc((size_t)t->b.m->nlinears, sizeof *t->level);
    assert_true(t->level && recipe_entries(t->recipe) <= 8);
    ok(recipe_assign(t->recipe, t->b.m, t->level, &err), &err);
    for (int i = 0; i < recipe_entries(t->recipe); i++)
        t->levels[i] = recipe_entry(t->recipe, i)->q;
    const Work w = {.recipe = t->recipe, .level = t->level, .peer = peer};
    ok(pipeline_new(&t->p, t->b.m, &w, &err), &err);
}

static void close_run(Trained *t)
{
    pipeline_free(t->p);
    free(t->level);
    recipe_free(t->recipe);
    test_run_close(&t->b);
}

/* The savers of the run, into dir. */
static Status write_run(Trained *t, const SaveFormat *saver, const char *dir, bool peer, bool resume, SaveResult *res, Error *err)
{
    const SavePlan plan = {.model = t->b.m, .dir = dir, .model_type = "", .levels = t->levels,
                           .nlevels = recipe_entries(t->recipe), .level = t->level, .part_file_size = 4, .peer = peer};
    const SaveOptions o = {.savers = &saver, .plans = &plan, .nsavers = 1, .calib = t->calib, .resume = resume};
    if (saver != &keep_saver)
        ok(saver->ops->check(saver, &plan, err), err);
    return save_run(t->p, t->b.r, &o, res, err);
}

/* ---- the peer's recorded runs ---- */

/* A weight as a written model has it. */
static float *read_written(const Checkpoint *c, const Linear *l)
{
    char name[300];
    snprintf(name, sizeof name, "%s.weight", l->name);
    const TensorInfo *code = checkpoint_find(c, name);
    snprintf(name, sizeof name, "%s.weight_scale", l->name);
    const TensorInfo *scale = checkpoint_find(c, name);
    snprintf(name, sizeof name, "%s.weight_offset", l->name);
    const TensorInfo *offset = checkpoint_find(c, name);
    assert_true(code && scale && offset && code->dtype == DT_I8);
    float *w = test_tensor(c, scale), *o = test_tensor(c, offset), *y = malloc((size_t)(l->out * l->in) * sizeof *y);
    int8_t *q = malloc(code->nbytes);
    assert_true(y && q && checkpoint_read(c, code, 0, code->nbytes, q, NULL) == ST_OK);
    int64_t groups = scale->shape[1], group = l->in / groups;
    for (int64_t i = 0; i < l->out * l->in; i++) {
        int64_t g = i / l->in * groups + i % l->in / group;
        y[i] = ((float)q[i] - o[g]) * w[g];
    }
    free(w);
    free(o);
    free(q);
    return y;
}

static void written_rows(void *self, int64_t row0, int64_t rows, int64_t in, float *w)
{
    memcpy(w, (const float *)self + row0 * in, (size_t)(rows * in) * sizeof *w);
}

/* Sum of |y - y_float| of each unit, from the float model's inputs: what training brings down. */
static void losses(TestRun *b, const int16_t *level, const char *dir, const TokenSet *calib, double *loss)
{
    char path[600];
    Checkpoint *c;
    Error err = {0};
    Stream x, y;
    snprintf(path, sizeof path, "%s/quant_model_weights-00001-of-00001.safetensors", dir);
    ok(checkpoint_open(&c, path, &err), &err);
    ok(runner_embed(b->r, calib, &x, &err), &err);
    for (int u = 0; u < b->m->nunits; u++) {
        const Unit *unit = &b->m->units[u];
        LinearForm form[64];
        const LinearForm *table[64] = {NULL};
        assert_true(unit->count <= 64);
        for (int64_t i = 0; i < unit->count; i++)
            if (level[unit->first + i]) {
                form[i] = (LinearForm){.weight = written_rows, .self = read_written(c, &b->m->linears[unit->first + i])};
                table[i] = &form[i];
            }
        const Variant v = {.forms = table};
        ok(stream_copy(&y, &x, &err), &err);
        ok(runner_layer(b->r, u, &v, &x, &y, NULL, 0, &err), &err);
        ok(runner_layer(b->r, u, NULL, &x, &x, NULL, 0, &err), &err);
        loss[u] = 0;
        for (int64_t i = 0; i < x.rows * x.width; i++)
            loss[u] += fabs((double)y.data[i] - (double)x.data[i]);
        stream_fini(&y);
        for (int64_t i = 0; i < unit->count; i++)
            if (table[i])
                free(form[i].self);
    }
    stream_fini(&x);
    checkpoint_free(c);
}

static void same_tensors(const char *want, const char *got)
{
    char path[600];
    Checkpoint *a, *b;
    Error err = {0};
    snprintf(path, sizeof path, "%s/quant_model_weights-00001-of-00001.safetensors", want);
    ok(checkpoint_open(&a, path, &err), &err);
    snprintf(path, sizeof path, "%s/quant_model_weights-00001-of-00001.safetensors", got);
    ok(checkpoint_open(&b, path, &err), &err);
    assert_int_equal(checkpoint_count(a), checkpoint_count(b));
    for (int64_t i = 0; i < checkpoint_count(a); i++) {
        const TensorInfo *x = checkpoint_at(a, i), *y = checkpoint_find(b, x->name);
        if (!y || y->dtype != x->dtype || y->ndim != x->ndim || memcmp(x->shape, y->shape, (size_t)x->ndim * sizeof *x->shape))
            fail_msg("%s: absent, or of another dtype or shape", x->name);
        char *p = malloc(x->nbytes), *q = malloc(x->nbytes);
        ok(checkpoint_read(a, x, 0, x->nbytes, p, &err), &err);
        ok(checkpoint_read(b, y, 0, y->nbytes, q, &err), &err);
        if (memcmp(p, q, x->nbytes) != 0)
            fail_msg("%s is another", x->name);
        free(p);
        free(q);
    }
    checkpoint_free(a);
    checkpoint_free(b);
}

/* All tensors and the documents are equal: in two steps of this reach no other weights are better than the nearest levels, so that
 * the peer's random seed does not matter. And no unit loses more than 1 % more than the recorded one. */
static void recorded_runs_are_reproduced(void **state)
{
    (void)state;
    static const char *const names[] = {"w4a4_autoround_mixed", "w4a4_pergroup_autoround"};
    static const char *const documents[] = {"quant_model_description.json", "quant_model_weights.safetensors.index.json"};
    for (int k = 0; k < 2; k++) {
        char path[300], out[300], a[600], b[600];
        Error err = {0};
        size_t n;
        Tokenizer *tok;
        CalibFile *texts;
        SaveResult res;
        Trained t = {.p = NULL};
        double was[8], is[8];
        test_run_open(&t.b, FORMATS "_models/qwen3-bf16", ARITH_EXACT, 2, NULL);
        snprintf(path, sizeof path, FORMATS "%s/config.yaml", names[k]);
        char *yaml = temp_get(path, &n);
        open_recipe(&t, yaml, true);
        free(yaml);
        snprintf(path, sizeof path, FORMATS "%s/calib.jsonl", names[k]);
        ok(calib_open(&texts, path, true, NULL, &err), &err);
        ok(tokenizer_open(&tok, FORMATS "_models/qwen3-bf16", &err), &err);
        ok(tokens_make(&t.calib, texts, tok, 0, 0, t.b.m->cfg.vocab, NULL, &err), &err);
        tokenizer_free(tok);
        calib_free(texts);
        char *dir = temp_folder(), target[400];
        snprintf(target, sizeof target, "%s", temp_path(dir, "out"));
        ok(write_run(&t, saver_find("ascendv1_saver"), target, true, false, &res, &err), &err);
        snprintf(out, sizeof out, FORMATS "%s/out", names[k]);
        same_tensors(out, target);
        for (int i = 0; i < 2; i++) {
            snprintf(a, sizeof a, "%s/%s", out, documents[i]);
            snprintf(b, sizeof b, "%s/%s", target, documents[i]);
            assert_same_file(a, b);
        }
        assert_true(t.b.m->nunits <= 8);
        losses(&t.b, t.level, out, t.calib, was);
        losses(&t.b, t.level, target, t.calib, is);
        for (int u = 0; u < t.b.m->nunits; u++) {
            print_message("%s, layer %d: loss %.6g, recorded %.6g\n", names[k], u, is[u], was[u]);
            assert_true(is[u] <= 1.01 * was[u]);
        }
        tokens_free(t.calib);
        close_run(&t);
        temp_remove(dir);
    }
}

/* ---- ours ---- */

static const int lengths[] = {20, 31, 7, 1, 26, 12, 18, 9, 30, 22};

static void run_kept(const char *model, const char *yaml, int threads, Kept *k)
{
    Error err = {0};
    SaveResult res;
    Trained t = {.p = NULL};
    test_run_open(&t.b, model, ARITH_FP32, threads, NULL);
    t.calib = test_tokens(lengths, 10, t.b.m->cfg.vocab, 3);
    open_recipe(&t, yaml, false);
    kept_init(k, t.b.m->nlinears);
    ok(write_run(&t, &keep_saver, NULL, false, false, &res, &err), &err);
    assert_true(k->finished && res.bound > 0);
    test_tokens_free(t.calib);
    close_run(&t);
}

static bool same_weights(const Kept *a, const Kept *b)
{
    for (int64_t i = 0; i < a->n; i++) {
        assert_int_equal(a->w[i].code != NULL, b->w[i].code != NULL);
        if (a->w[i].code && (memcmp(a->w[i].code, b->w[i].code, (size_t)(a->w[i].out * a->w[i].in)) != 0 ||
                             memcmp(a->w[i].scale, b->w[i].scale, (size_t)(a->w[i].out * a->w[i].groups) * sizeof(float)) != 0))
            return false;
    }
    return true;
}

#define SMALL(more) HEAD "    iters: 16\n" more "    strategies:\n    - qconfig: {" TOKEN8 ", " W4 "}\n      include: ['*mlp*']\n"

/* The same bytes whatever the threads; others by another seed; what no strategy takes is float. */
static void what_is_found_depends_on_the_seed_alone(void **state)
{
    (void)state;
    Kept one, three, other;
    run_kept(FORMATS "_models/qwen3-fp32", SMALL(""), 1, &one);
    run_kept(FORMATS "_models/qwen3-fp32", SMALL(""), 3, &three);
    run_kept(FORMATS "_models/qwen3-fp32", SMALL("    seed: 5\n"), 2, &other);
    assert_true(same_weights(&one, &three));
    assert_false(same_weights(&one, &other));
    int64_t quantized = 0;
    for (int64_t i = 0; i < one.n; i++)
        quantized += one.w[i].code != NULL;
    assert_true(quantized > 0 && quantized < one.n);
    kept_fini(&one);
    kept_fini(&three);
    kept_fini(&other);
}

/* How far the quantized model's last state is from the float one's. */
static double distance_of(const char *model, const char *yaml, const TokenSet *calib)
{
    Error err = {0};
    Trained t = {.p = NULL};
    Stream plain;
    double sum = 0;
    test_run_open(&t.b, model, ARITH_FP32, 2, NULL);
    open_recipe(&t, yaml, false);
    Follow f = {.calib = calib, .spoiled = -1};
    ok(follow_run(&f, t.b.r, pipeline_work(t.p), &err), &err);
    ok(runner_embed(t.b.r, calib, &plain, &err), &err);
    for (int u = 0; u < t.b.m->cfg.layers; u++)
        ok(runner_layer(t.b.r, u, NULL, &plain, &plain, NULL, 0, &err), &err);
    for (int64_t i = 0; i < plain.rows * plain.width; i++)
        sum += fabs((double)plain.data[i] - (double)f.s[0].data[i]);
    stream_fini(&plain);
    follow_fini(&f);
    close_run(&t);
    return sum;
}

#define LONG(iters, q) HEAD "    iters: " iters "\n    strategies:\n    - qconfig: {" q "}\n"
#define PLAIN(q) "apiversion: modelslim_v1\nspec:\n  process:\n  - type: linear_quant\n    qconfig: {" q "}\n"

/* With as few steps as a test has, on the texts it is trained with: better than the nearest levels. */
static void training_brings_the_loss_down(void **state)
{
    (void)state;
    static const char *const models[] = {FORMATS "_models/qwen3-bf16", FORMATS "_models/llama-fp32"};
    static const char *const trained[] = {
        LONG("40", TOKEN8 ", " W4), LONG("40", TOKEN4 ", " W4),
        LONG("40", "weight: {scope: per_group, dtype: int4, symmetric: false, method: autoround, ext: {group_size: 32}}")};
    static const char *const plain[] = {
        PLAIN(TOKEN8 ", weight: {scope: per_channel, dtype: int4, symmetric: true, method: minmax}"),
        PLAIN(TOKEN4 ", weight: {scope: per_channel, dtype: int4, symmetric: true, method: minmax}"),
        PLAIN("weight: {scope: per_group, dtype: int4, symmetric: false, method: minmax, ext: {group_size: 32}}")};
    for (int i = 0; i < 3; i++) {
        TestRun b;
        const char *model = models[i % 2];
        test_run_open(&b, model, ARITH_FP32, 1, NULL);
        TokenSet *calib = test_tokens(lengths, 10, b.m->cfg.vocab, 3);
        test_run_close(&b);
        double was = distance_of(model, plain[i], calib), is = distance_of(model, trained[i], calib);
        print_message("%d: %.4g of minmax's %.4g\n", i, is, was);
        assert_true(is < 0.9 * was);
        test_tokens_free(calib);
    }
}

/* ---- stopping and going on ---- */

static Cancel stop;
typedef struct Seen {
    int first, units; /* units that were trained, and which was the first */
    int until;        /* the run is stopped in the middle of this one, -1: never */
} Seen;

static void seen_training(void *ctx, const TrainAt *at)
{
    Seen *s = ctx;
    if (at->done == 1) {
        s->first = s->units ? s->first : at->unit;
        s->units++;
    }
    if (at->unit == s->until && at->done == 2)
        atomic_store(&stop.level, 2);
}

static Status write_seen(const char *dir, bool resume, Seen *seen, Error *err)
{
    Trained t = {.p = NULL};
    SaveResult res;
    atomic_store(&stop.level, 0);
    test_run_open(&t.b, FORMATS "_models/qwen3-bf16", ARITH_FP32, 2, &stop);
    t.calib = test_tokens(lengths, 10, t.b.m->cfg.vocab, 3);
    open_recipe(&t, SMALL(""), false);
    pipeline_watch_training(t.p, seen_training, seen);
    Status st = write_run(&t, saver_find("ascendv1_saver"), dir, false, resume, &res, err);
    test_tokens_free(t.calib);
    close_run(&t);
    return st;
}

/* A layer whose training has ended isn't trained again. */
static void a_stopped_run_goes_on_to_the_same_bytes(void **state)
{
    (void)state;
    Error err = {0};
    Seen whole = {.until = -1}, part = {.until = 1}, rest = {.until = -1};
    char *dir = temp_folder(), a[400], b[400], x[600], y[600];
    snprintf(a, sizeof a, "%s", temp_path(dir, "whole"));
    snprintf(b, sizeof b, "%s", temp_path(dir, "parts"));
    ok(write_seen(a, false, &whole, &err), &err);
    assert_int_equal(write_seen(b, false, &part, &err), ST_CANCELLED);
    ok(write_seen(b, true, &rest, &err), &err);
    assert_int_equal(whole.units, 2);
    assert_int_equal(rest.units, 1);
    assert_int_equal(rest.first, 1);
    snprintf(x, sizeof x, "%s/quant_model_weights-00001-of-00001.safetensors", a);
    snprintf(y, sizeof y, "%s/quant_model_weights-00001-of-00001.safetensors", b);
    assert_same_file(x, y);
    assert_int_equal(temp_entries(a), temp_entries(b)); /* nothing is left of what was kept */
    temp_remove(dir);
}

/* ---- what can't be trained ---- */

static void families_without_gradients_are_refused(void **state)
{
    (void)state;
    static const char *const families[] = {"llama", "qwen2", "gemma2", "mixtral", "qwen3_moe", "qwen3_next", "deepseek_v2",
                                           "deepseek_v4", "gpt_oss"};
    const char *yaml = LONG("1", TOKEN8 ", " W4);
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        char path[200];
        Error err = {0}, why = {0};
        Recipe *r;
        Pipeline *p = NULL;
        Status has = ST_OK;
        snprintf(path, sizeof path, "tests/golden/models/%s/fp32", families[i]);
        TestRun b;
        test_run_open(&b, path, ARITH_FP32, 1, NULL);
        int16_t *level = calloc((size_t)b.m->nlinears, sizeof *level);
        ok(recipe_parse(&r, &recipe_rows, yaml, strlen(yaml), "t.yaml", NULL, &err), &err);
        ok(recipe_assign(r, b.m, level, &err), &err);
        for (int u = 0; u < b.m->cfg.layers && has == ST_OK; u++)
            has = unit_has_gradients(b.m, u, &why);
        Status st = pipeline_new(&p, b.m, &(Work){.recipe = r, .level = level}, &err);
        assert_int_equal(st, has);
        if (has != ST_OK)
            assert_non_null(strstr(err.text, why.text));
        pipeline_free(p);
        memset(level, 0, (size_t)b.m->nlinears * sizeof *level); /* nothing is quantized: nothing has to be trained */
        ok(pipeline_new(&p, b.m, &(Work){.recipe = r, .level = level}, &err), &err);
        pipeline_free(p);
        recipe_free(r);
        free(level);
        test_run_close(&b);
    }
}

/* Each family that has gradients, on three texts: experts without a token, linears in groups, inputs that are shared. */
static void every_family_is_trained(void **state)
{
    (void)state;
    static const char *const families[] = {"qwen2", "qwen3_moe", "qwen3_next", "deepseek_v2", "deepseek_v4", "gpt_oss", "gemma2"};
    static const int len[] = {9, 1, 14};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        char path[200];
        Error err = {0};
        Trained t = {.p = NULL};
        Kept k;
        SaveResult res;
        snprintf(path, sizeof path, "tests/golden/models/%s/fp32", families[i]);
        test_run_open(&t.b, path, ARITH_FP32, 2, NULL);
        bool has = true;
        for (int u = 0; u < t.b.m->cfg.layers; u++)
            has = has && unit_has_gradients(t.b.m, u, NULL) == ST_OK;
        if (has) {
            t.calib = test_tokens(len, 3, t.b.m->cfg.vocab, 3);
            open_recipe(&t, LONG("3", TOKEN8 ", " W4), false);
            kept_init(&k, t.b.m->nlinears);
            ok(write_run(&t, &keep_saver, NULL, false, false, &res, &err), &err);
            assert_int_equal(res.quantized, t.b.m->nlinears);
            for (int64_t l = 0; l < k.n; l++)
                for (int64_t r = 0; r < k.w[l].out * k.w[l].groups; r++)
                    assert_true(isfinite(k.w[l].scale[r]) && k.w[l].scale[r] > 0);
            kept_fini(&k);
            test_tokens_free(t.calib);
        }
        print_message("%s: %s\n", families[i], has ? "trained" : "has no gradients yet");
        pipeline_free(t.p);
        free(t.level);
        recipe_free(t.recipe);
        test_run_close(&t.b);
    }
}

/* ---- the decision ---- */

/* A linear goes to float: an exclude of the strategy that has it, of none else. */
static void strategies_are_levels(void **state)
{
    (void)state;
    static const char yaml[] = HEAD "    iters: 3\n    strategies:\n"
                                    "    - qconfig: {" TOKEN8 ", " W4 "}\n      include: ['*q_proj', '*k_proj', '*v_proj']\n"
                                    "    - qconfig: {" TOKEN4 ", " W4 "}\n      include: ['*proj']\n";
    Error err = {0};
    Trained t = {.p = NULL};
    Export e;
    Recipe *again;
    test_run_open(&t.b, FORMATS "_models/qwen3-fp32", ARITH_FP32, 1, NULL);
    open_recipe(&t, yaml, false);
    assert_int_equal(recipe_entries(t.recipe), 2);
    assert_string_equal(recipe_entry(t.recipe, 0)->scheme->name, "W4A8_DYNAMIC");
    assert_string_equal(recipe_entry(t.recipe, 1)->scheme->name, "W4A4_DYNAMIC");
    int16_t *level = calloc((size_t)t.b.m->nlinears, sizeof *level);
    for (int64_t i = 0; i < t.b.m->nlinears; i++) {
        bool qkv = strstr(t.b.m->linears[i].name, "q_proj") || strstr(t.b.m->linears[i].name, "k_proj") ||
                   strstr(t.b.m->linears[i].name, "v_proj");
        assert_int_equal(t.level[i], qkv ? 1 : 2); /* the first that takes it */
        level[i] = strstr(t.b.m->linears[i].name, "layers.1.mlp.down_proj") ? 0 : t.level[i];
    }
    ok(recipe_export(t.recipe, t.b.m, level, NULL, NULL, NULL, NULL, &e, &err), &err);
    assert_non_null(strstr(e.text.s, "layers.1.mlp.down_proj"));
    for (int i = 0; i < e.nchecks; i++)
        if (e.checks[i].blocking && !e.checks[i].rule)
            assert_true(e.checks[i].ok);
    ok(recipe_parse(&again, &recipe_rows, e.text.s, e.text.len, "e.yaml", NULL, &err), &err);
    ok(recipe_assign(again, t.b.m, t.level, &err), &err);
    assert_memory_equal(t.level, level, (size_t)t.b.m->nlinears * sizeof *level);
    recipe_free(again);
    export_fini(&e);
    free(level);
    close_run(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strategies_are_levels),
        cmocka_unit_test(families_without_gradients_are_refused),
        cmocka_unit_test(every_family_is_trained),
        cmocka_unit_test(recorded_runs_are_reproduced),
        cmocka_unit_test(what_is_found_depends_on_the_seed_alone),
        cmocka_unit_test(training_brings_the_loss_down),
        cmocka_unit_test(a_stopped_run_goes_on_to_the_same_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
