#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "process/sink_save.h"
#include "tests/lib/bench.h"
#include "tests/lib/folded.h"
#include "tests/lib/follow.h"
#include "tests/lib/keepsaver.h"

/* One driver for files and for measurements: both see a recipe's processors in the recipe's order of work. */

static const char qwen3_bf16[] = "tests/golden/formats/_models/qwen3-bf16", llama[] = "tests/golden/models/llama/fp32";
enum { LINEARS_MAX = 64 };

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

/* ---- a processor that makes a norm larger and the weights behind it smaller ---- */

typedef struct Scale {
    const Model *m;
    float factor;
} Scale;

static const void *scale_settings(Arena *a, const YamlNode *map)
{
    double *factor = arena_alloc(a, sizeof *factor);
    if (factor)
        lax_float(yaml_get(map, "factor"), factor);
    return factor;
}

static Status scale_start(void **self, const ProcessorCtx *ctx, Error *err)
{
    Scale *s = malloc(sizeof *s);
    if (!s)
        return error_nomem(err, "a test");
    *s = (Scale){ctx->model, (float)*(const double *)ctx->step->settings};
    *self = s;
    return ST_OK;
}

static bool reads_input_norm(const char *name)
{
    return strstr(name, "q_proj") || strstr(name, "k_proj") || strstr(name, "v_proj");
}

static Status scale_learn(void *self, UnitRun *u, Error *err)
{
    const Scale *s = self;
    char norm[64];
    float up[256], down[256];
    assert_true(s->m->cfg.hidden <= 256);
    for (int i = 0; i < 256; i++) {
        up[i] = s->factor;
        down[i] = 1 / s->factor;
    }
    snprintf(norm, sizeof norm, "model.layers.%d.input_layernorm.weight", u->unit);
    RETURN_IF_ERROR(overlay_scale_tensor(u->overlay, checkpoint_find(s->m->ckpt, norm), up, err));
    for (int64_t i = u->first; i < u->first + u->n; i++)
        if (reads_input_norm(s->m->linears[i].name))
            RETURN_IF_ERROR(overlay_scale_inputs(u->overlay, i, down, err));
    return ST_OK;
}

static void scale_hash(const void *settings, Hasher *h)
{
    hasher_bytes(h, settings, sizeof(double));
}

static const Field scale_fields[] = {FIELD_TYPE, {.key = "factor", .type = F_FLOAT, .required = true}, FIELD_END};
static const Object scale_object = {.fields = scale_fields};
static const Processor scale_run = {.needs = PROCESSOR_TURN, .start = scale_start, .end = free, .learn = scale_learn,
                                    .hash = scale_hash};
static const ProcessorType scale_type = {.name = "scale", .object = &scale_object, .settings = scale_settings,
                                         .prior = true, .run = &scale_run};

static const ProcessorType *with_scale(int i)
{
    return i == 0 ? &scale_type : recipe_rows.processor(i - 1);
}

static Recipe *recipe_of(const char *spec)
{
    Recipe *r;
    Error err = {0};
    RecipeRows rows = recipe_rows;
    char text[2000];
    rows.processor = with_scale;
    snprintf(text, sizeof text, "apiversion: modelslim_v1\nspec: {%s}\n", spec);
    ok(recipe_parse(&r, &rows, text, strlen(text), "t.yaml", NULL, &err), &err);
    return r;
}

#define SIDE(scope, symmetric) "{dtype: int8, scope: " scope ", symmetric: " symmetric ", method: minmax}"
#define W8A8(include) \
    "{type: linear_quant, qconfig: {act: " SIDE("per_tensor", "false") ", weight: " SIDE("per_channel", "true") \
    "}, include: [" include "]}"
#define SCALE(factor) "{type: scale, factor: " factor "}"

/* What both sinks made of one recipe, each by itself (the measurement in f, the files' in written), or in one run. */
typedef struct Outcome {
    Follow f;
    bool flow_is_output;
    QParam written[LINEARS_MAX];
    int caches;
} Outcome;

static void run_sinks(const Work *w, TestRun *b, Outcome *o, bool follow, bool save)
{
    Error err = {0};
    Pipeline *p;
    SaveResult res;
    SaveSink *files;
    const SaveFormat *saver = &keep_saver;
    Kept kept;
    const SavePlan plan = {.model = b->m, .level = w->level};
    const SaveOptions so = {.savers = &saver, .plans = &plan, .nsavers = 1, .calib = o->f.calib};
    kept_init(&kept, b->m->nlinears);
    ok(pipeline_new(&p, b->m, w, &err), &err);
    o->flow_is_output = pipeline_flow_is_output(p);
    RunnerOptions ro = {.pool = b->pool, .arith = runner_arith(b->r), .overlay = pipeline_overlay(p)};
    Runner *r;
    ok(runner_new(&r, b->m, &ro, &err), &err);
    ok(save_sink_new(&files, &so, &res, &err), &err);
    const Sink sinks[2] = {save_sink(files), follow_sink(&o->f)}; /* the one that takes comes last all the same */
    if (follow) {
        o->f.r = r;
        o->f.param = calloc((size_t)b->m->nlinears, sizeof *o->f.param);
        assert_non_null(o->f.param);
    }
    const PipelineOptions po = {.calib = o->f.calib, .sinks = sinks + !save, .nsinks = follow + save, .sdpa = w->peer};
    ok(pipeline_run(p, r, &po, &err), &err);
    if (save) {
        assert_true(kept.finished);
        for (int64_t i = 0; i < kept.n; i++)
            o->written[i] = kept.l[i].has_act ? kept.l[i].act : (QParam){0};
        o->caches = kept.caches;
    }
    save_sink_free(files);
    kept_fini(&kept);
    runner_free(r);
    pipeline_free(p);
}

static void same_streams(const Follow *a, const Follow *b)
{
    for (int i = 0; i < 2; i++) {
        assert_int_equal(a->s[i].rows, b->s[i].rows);
        assert_memory_equal(a->s[i].data, b->s[i].data, (size_t)(a->s[i].rows * a->s[i].width) * sizeof(float));
    }
}

typedef struct World {
    TestRun b;
    TokenSet *calib, *eval;
    int16_t level[LINEARS_MAX];
} World;

static void world_open(World *w, const char *model, ArithMode arith)
{
    static const int calib_len[] = {20, 1, 33}, eval_len[] = {25, 9};
    test_run_open(&w->b, model, arith, 2, NULL);
    w->calib = test_tokens(calib_len, 3, w->b.m->cfg.vocab, 3);
    w->eval = test_tokens(eval_len, 2, w->b.m->cfg.vocab, 4);
    assert_true(w->b.m->nlinears <= LINEARS_MAX);
}

static void world_close(World *w)
{
    test_tokens_free(w->calib);
    test_tokens_free(w->eval);
    test_run_close(&w->b);
}

static void run_world(World *w, Recipe *r, bool peer, Outcome *o, bool follow, bool save)
{
    Error err = {0};
    *o = (Outcome){.f = {.calib = w->calib, .eval = w->eval, .spoiled = -1}};
    ok(recipe_assign(r, w->b.m, w->level, &err), &err);
    run_sinks(&(Work){.recipe = r, .level = w->level, .peer = peer}, &w->b, o, follow, save);
}

/* ---- the peer's order ---- */

/* The ranges that a measurement finds are those that the files hold, also where a recipe's items run one after the
 * other; all in one pass gives others. */
static void what_is_measured_has_the_ranges_of_the_files(void **state)
{
    (void)state;
    World w;
    Outcome both, files, alone, single;
    world_open(&w, qwen3_bf16, ARITH_EXACT);
    Recipe *two = recipe_of("process: [" W8A8("'*.mlp.*'") ", {type: dynamic_cache, qconfig: "
                            SIDE("per_channel", "true") "}, " W8A8("'*'") "]");
    Recipe *one = recipe_of("process: [{type: group, configs: [" W8A8("'*.mlp.*'") ", " W8A8("'*'") "]}]");
    run_world(&w, two, true, &alone, true, false);
    run_world(&w, two, true, &files, false, true);
    run_world(&w, two, true, &both, true, true);
    run_world(&w, one, true, &single, true, false);
    assert_false(alone.flow_is_output);
    assert_true(single.flow_is_output);
    assert_int_equal(files.caches, w.b.m->cfg.layers);
    assert_int_equal(both.caches, w.b.m->cfg.layers);
    int64_t differ = 0;
    for (int64_t i = 0; i < w.b.m->nlinears; i++) {
        assert_true(files.written[i].scale != 0);
        assert_memory_equal(&alone.f.param[i], &files.written[i], sizeof(QParam));
        assert_memory_equal(&both.written[i], &files.written[i], sizeof(QParam));
        differ += single.f.param[i].scale != files.written[i].scale;
    }
    assert_true(differ > 0);
    same_streams(&both.f, &alone.f);
    assert_memory_not_equal(alone.f.s[1].data, single.f.s[1].data,
                            (size_t)(alone.f.s[1].rows * alone.f.s[1].width) * sizeof(float));
    recipe_free(two);
    recipe_free(one);
    follow_fini(&both.f);
    follow_fini(&alone.f);
    follow_fini(&single.f);
    world_close(&w);
}

/* ---- a processor that changes the model ---- */

/* A power of two is exact: what is quantized behind it differs by that factor, and nothing else does. */
static void a_change_is_seen_by_what_stands_behind_it(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        bool same; /* as without the change */
    } cases[] = {
        {"process: [" SCALE("4") ", " W8A8("'*'") "]", true},
        {"prior: [{process: [" SCALE("2") "]}, {process: [" SCALE("2") "]}], process: [" W8A8("'*'") "]", true},
        {"process: [{type: group, configs: [" SCALE("0.5") ", " SCALE("8") ", " W8A8("'*'") "]}]", true},
        {"process: [" W8A8("'*'") ", " SCALE("4") "]", false}, /* ranges of a smaller input */
    };
    World w;
    Outcome plain;
    world_open(&w, llama, ARITH_FP32);
    Recipe *r = recipe_of("process: [" W8A8("'*'") "]");
    run_world(&w, r, false, &plain, true, true);
    recipe_free(r);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        Outcome o;
        r = recipe_of(cases[c].spec);
        assert_true(recipe_can_run(r, NULL));
        run_world(&w, r, false, &o, true, true);
        for (int64_t i = 0; i < w.b.m->nlinears; i++) {
            bool larger = cases[c].same && reads_input_norm(w.b.m->linears[i].name);
            float want = plain.written[i].scale * (larger ? 4 : 1);
            assert_memory_equal(&o.f.param[i], &o.written[i], sizeof(QParam));
            if (cases[c].same && (o.written[i].scale != want || o.written[i].offset != plain.written[i].offset))
                fail_msg("%s, '%s': scale %g, wanted %g", cases[c].spec, w.b.m->linears[i].name,
                         (double)o.written[i].scale, (double)want);
        }
        if (cases[c].same)
            same_streams(&o.f, &plain.f);
        else
            assert_memory_not_equal(o.f.s[1].data, plain.f.s[1].data,
                                    (size_t)(plain.f.s[1].rows * plain.f.s[1].width) * sizeof(float));
        follow_fini(&o.f);
        recipe_free(r);
    }
    follow_fini(&plain.f);
    world_close(&w);
}

static Effect measure_recipe(World *w, EffectLab *lab, const char *spec)
{
    Error err = {0};
    Effect e;
    Pipeline *p;
    Runner *r;
    Recipe *recipe = recipe_of(spec);
    ok(recipe_assign(recipe, w->b.m, w->level, &err), &err);
    ok(pipeline_new(&p, w->b.m, &(Work){.recipe = recipe, .level = w->level}, &err), &err);
    RunnerOptions ro = {.pool = w->b.pool, .overlay = pipeline_overlay(p)};
    ok(runner_new(&r, w->b.m, &ro, &err), &err);
    ok(effectlab_measure(lab, r, p, &e, NULL, &err), &err);
    runner_free(r);
    pipeline_free(p);
    recipe_free(recipe);
    return e;
}

static void a_change_is_measured_against_the_unchanged_model(void **state)
{
    (void)state;
    World w;
    EffectLab *lab;
    world_open(&w, llama, ARITH_FP32);
    EffectOptions eo = {.calib = w.calib, .eval = w.eval, .cache_bytes = 1 << 24};
    assert_int_equal(effectlab_new(&lab, w.b.m, &eo, NULL), ST_OK);
    Effect plain = measure_recipe(&w, lab, "process: [" W8A8("'*'") "]");
    Effect scaled = measure_recipe(&w, lab, "process: [" SCALE("4") ", " W8A8("'*'") "]");
    Effect again = measure_recipe(&w, lab, "process: [" SCALE("4") ", " W8A8("'*'") "]");
    Effect other = measure_recipe(&w, lab, "process: [" SCALE("0.3") ", " W8A8("'*'") "]");
    assert_true(plain.kl_mean > 0 && scaled.kl_mean == plain.kl_mean && scaled.out_mse == plain.out_mse);
    assert_true(!scaled.from_cache && scaled.first_layer_run == 0 && again.from_cache);
    assert_false(other.from_cache);
    assert_true(other.ppl_float == plain.ppl_float && other.kl_mean != plain.kl_mean);
    effectlab_free(lab);
    world_close(&w);
}

/* The last states of a turned model are compared where the unchanged one has them: they differ by rounding, and by what is
 * quantized as much as without a rotation. */
static void a_turned_model_is_compared_where_it_was(void **state)
{
    (void)state;
    World w;
    EffectLab *lab;
    world_open(&w, llama, ARITH_FP32);
    EffectOptions eo = {.calib = w.calib, .eval = w.eval, .cache_bytes = 1 << 24};
    assert_int_equal(effectlab_new(&lab, w.b.m, &eo, NULL), ST_OK);
    Effect plain = measure_recipe(&w, lab, "process: [" W8A8("'*'") "]");
    Effect turned = measure_recipe(&w, lab, "process: [{type: quarot, block_size: 2}, " W8A8("'nothing*'") "]");
    Effect both = measure_recipe(&w, lab, "process: [{type: quarot, block_size: 2}, " W8A8("'*'") "]");
    assert_true(plain.out_mse > 0 && turned.out_mse < 1e-6 * plain.out_mse && turned.kl_mean < 1e-6);
    assert_true(both.out_mse > 0.1 * plain.out_mse && both.out_mse < 10 * plain.out_mse);
    effectlab_free(lab);
    world_close(&w);
}

static void what_cannot_stand_there_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *word;
    } cases[] = {
        {"prior: [{process: [" W8A8("'*'") "]}], process: [" W8A8("'*'") "]", "in a prior stage"},
        {"process: [{type: unary_analysis}, " W8A8("'*'") "]", "unary_analysis"},
    };
    World w;
    world_open(&w, llama, ARITH_FP32);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        Error err = {0};
        Pipeline *p;
        Recipe *r = recipe_of(cases[c].spec);
        assert_false(recipe_can_run(r, NULL));
        ok(recipe_assign(r, w.b.m, w.level, &err), &err);
        assert_int_equal(pipeline_new(&p, w.b.m, &(Work){.recipe = r, .level = w.level}, &err), ST_DATA);
        assert_non_null(strstr(err.text, cases[c].word));
        ok(pipeline_new(&p, w.b.m, &(Work){.recipe = r, .level = w.level, .lenient = true}, &err), &err);
        assert_int_equal(pipeline_last_data(p), w.b.m->cfg.layers - 1); /* what is left runs */
        assert_int_equal(pipeline_run(p, w.b.r, &(PipelineOptions){.calib = NULL}, &err), ST_DATA);
        assert_non_null(strstr(err.text, "calibration texts"));
        pipeline_free(p);
        recipe_free(r);
    }
    world_close(&w);
}

/* Attentions that ran, samples by layers. */
static int64_t attentions(const Profile *p)
{
    ProfileReport r;
    profile_report(p, &r);
    return r.calls[PHASE_ATTENTION];
}

/* What is found behind processors comes of one forward through each layer, whatever stands in the list: nothing is quantized,
 * so a layer gives the same before and behind what was made of it. */
static void nothing_quantized_runs_once_through_each_layer(void **state)
{
    (void)state;
    static const char *const lists[] = {
        "[{type: iter_smooth}]", "[{type: smooth_quant}]", "[{type: kv_smooth}]",
        "[{type: quarot, block_size: 2}, {type: iter_smooth, symmetric: false}]",
        "[{type: adapt_rotation, stage: 2, block_size: 2}]\n  prior: [{process: [{type: adapt_rotation, stage: 1, block_size: 2}]}]",
    };
    World w;
    Profile *profile;
    Error err = {0};
    int64_t n;
    world_open(&w, llama, ARITH_FP32);
    ok(profile_new(&profile, pool_threads(w.b.pool), &err), &err);
    pool_set_profile(w.b.pool, profile);
    float *plain = folded_logits(w.b.r, w.calib, &n);
    int64_t once = attentions(profile), before = once;
    assert_true(once > 0);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        Folded f;
        ok(folded_run(&f, &w.b, lists[i], false, w.calib, &err), &err);
        if (attentions(profile) - before != once)
            fail_msg("%s: %lld attentions, not %lld", lists[i], (long long)(attentions(profile) - before), (long long)once);
        assert_int_equal(pipeline_streams(f.p, false), 1);
        float *logits = folded_logits(f.r, w.calib, &n);
        assert_true(test_worst(plain, logits, n) < 1e-5);
        before = attentions(profile);
        free(logits);
        folded_fini(&f);
    }
    free(plain);
    pool_set_profile(w.b.pool, NULL);
    profile_free(profile);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_measured_has_the_ranges_of_the_files),
        cmocka_unit_test(a_change_is_seen_by_what_stands_behind_it),
        cmocka_unit_test(a_change_is_measured_against_the_unchanged_model),
        cmocka_unit_test(a_turned_model_is_compared_where_it_was),
        cmocka_unit_test(nothing_quantized_runs_once_through_each_layer),
        cmocka_unit_test(what_cannot_stand_there_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
