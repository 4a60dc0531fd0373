#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/file.h"
#include "process/sink_save.h"
#include "tests/lib/bench.h"
#include "tests/lib/savefeed.h"
#include "tests/lib/tempdir.h"

/* A run whose processors change the model, stopped and gone on with, ends in the bytes of one that was not: also what
 * lies outside of the units, which is written last, and what processors make. */

static const char model_dir[] = "tests/golden/formats/_models/qwen3-bf16";

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

/* ---- a processor that needs no texts and changes something of every kind ---- */

enum { HIDDEN = 64, SIDE = 4 };
#define EXTRA "optional/turn.safetensors"

static Status turn_start(void **self, const ProcessorCtx *ctx, Error *err)
{
    const Model **m = malloc(sizeof *m);
    if (!m)
        return error_nomem(err, "a test");
    *m = ctx->model;
    *self = m;
    return ST_OK;
}

static const TensorInfo *norm_of(const Model *m, int unit)
{
    char name[64];
    snprintf(name, sizeof name, "model.layers.%d.input_layernorm.weight", unit);
    return checkpoint_find(m->ckpt, name);
}

static int64_t q_proj(const Model *m, int unit)
{
    return unit_linear(&m->units[unit], "q");
}

static void made_name(char name[64], int unit)
{
    snprintf(name, 64, "model.layers.%d.turn", unit);
}

/* The embedding and the final norm change with the first unit only. */
static Status turn_learn(void *self, UnitRun *u, Error *err)
{
    const Model *m = *(const Model **)self;
    float v[HIDDEN];
    for (int i = 0; i < HIDDEN; i++)
        v[i] = 1 + (float)((i + u->unit) % 7) / 8;
    if (u->unit == 0) {
        RETURN_IF_ERROR(overlay_scale_tensor(u->overlay, m->entry.table, v, err));
        RETURN_IF_ERROR(overlay_scale_tensor(u->overlay, m->exit.norm, v, err));
    }
    RETURN_IF_ERROR(overlay_shift_norm(u->overlay, norm_of(m, u->unit), v, err));
    RETURN_IF_ERROR(overlay_add_bias(u->overlay, q_proj(m, u->unit), v, err));
    return overlay_input_scale(u->overlay, q_proj(m, u->unit), v, err);
}

static Status turn_promise(void *self, DType inner, SavePlan *plan, Error *err)
{
    const Model *m = *(const Model **)self;
    (void)inner;
    for (int u = 0; u < model_depth(m); u++) {
        char name[64];
        made_name(name, u);
        const SaveMade t = {.name = name, .linear = -1, .layer = u, .ndim = 2, .shape = {SIDE, SIDE}};
        RETURN_IF_ERROR(save_changes_norm_bias(plan->changes, norm_of(m, u), err));
        RETURN_IF_ERROR(save_changes_bias(plan->changes, q_proj(m, u), err));
        RETURN_IF_ERROR(save_changes_input_scale(plan->changes, q_proj(m, u), err));
        RETURN_IF_ERROR(save_changes_made(plan->changes, &t, err));
    }
    const SaveMade whole = {.name = "whole", .linear = -1, .layer = -1, .ndim = 2, .shape = {SIDE, SIDE}, .file = EXTRA};
    RETURN_IF_ERROR(save_changes_made(plan->changes, &whole, err));
    return save_changes_note(plan->changes, SAVE_OPTIONAL, "turn", "{\"map\":\"" EXTRA "\"}", err);
}

static Status turn_give(void *self, const UnitRun *u, const Gifts *to, Error *err)
{
    (void)self;
    float v[SIDE * SIDE];
    char name[64];
    for (int i = 0; i < SIDE * SIDE; i++)
        v[i] = (float)(i + u->unit);
    made_name(name, u->unit);
    RETURN_IF_ERROR(to->tensor(to->self, &(SaveValues){.name = name, .n = SIDE * SIDE, .values = v}, err));
    return u->unit == 0 ? to->tensor(to->self, &(SaveValues){.name = "whole", .n = SIDE * SIDE, .values = v}, err) : ST_OK;
}

static const Field turn_fields[] = {FIELD_TYPE, FIELD_END};
static const Object turn_object = {.fields = turn_fields};
static const Processor turn_run = {.needs = PROCESSOR_TURN, .start = turn_start, .end = free, .learn = turn_learn,
                                   .promise = turn_promise, .give = turn_give};
static const ProcessorType turn_type = {.name = "turn", .object = &turn_object, .run = &turn_run};

static const ProcessorType *with_turn(int i)
{
    return i == 0 ? &turn_type : recipe_rows.processor(i - 1);
}

/* ---- runs ---- */

typedef struct World {
    TestRun b;
    TokenSet *calib;
    Recipe *recipe;
    QConfig q;
    int16_t level[64];
} World;

static void world_open(World *w, const char *act, const char *include)
{
    static const int lengths[] = {20, 1, 33};
    char text[600];
    Error err = {0};
    RecipeRows rows = recipe_rows;
    memset(w, 0, sizeof *w);
    rows.processor = with_turn;
    test_run_open(&w->b, model_dir, ARITH_FP32, 2, NULL);
    w->calib = test_tokens(lengths, 3, w->b.m->cfg.vocab, 3);
    snprintf(text, sizeof text, "apiversion: modelslim_v1\nspec: {process: [{type: turn}, {type: linear_quant, qconfig: "
             "{act: {dtype: int8, method: minmax, %s}, weight: {dtype: int8, scope: per_channel, symmetric: true, method: "
             "minmax}}, include: ['%s']}]}\n", act, include);
    ok(recipe_parse(&w->recipe, &rows, text, strlen(text), "t.yaml", NULL, &err), &err);
    assert_true(w->b.m->nlinears <= 64 && w->b.m->cfg.hidden == HIDDEN);
    ok(recipe_assign(w->recipe, w->b.m, w->level, &err), &err);
    w->q = recipe_entry(w->recipe, 0)->q;
}

static void world_close(World *w)
{
    recipe_free(w->recipe);
    test_tokens_free(w->calib);
    test_run_close(&w->b);
}

typedef struct Stopper {
    Cancel cancel;
    int after; /* unit behind which the run is stopped, -1: never */
} Stopper;

static void stop_behind(void *ctx, int layer, int64_t linears, uint64_t in, uint64_t out)
{
    Stopper *s = ctx;
    (void)linears;
    (void)in;
    (void)out;
    if (layer == s->after)
        atomic_store(&s->cancel.level, 1);
}

static Status run(World *w, const char *saver, const char *dir, int stop_after, bool resume, SaveResult *res, Error *err)
{
    const SaveFormat *f = saver_find(saver);
    const SavePlan plan = {.model = w->b.m, .dir = dir, .model_type = "", .part_file_size = 50000 / 0x1p30, .levels = &w->q,
                           .nlevels = 1, .level = w->level};
    Stopper stop = {.after = stop_after};
    const SaveOptions o = {.savers = &f, .plans = &plan, .nsavers = 1, .calib = w->calib, .resume = resume,
                           .layer = stop_behind, .layer_ctx = &stop};
    Pipeline *p;
    Runner *r;
    RETURN_IF_ERROR(pipeline_new(&p, w->b.m, &(Work){.recipe = w->recipe, .level = w->level}, err));
    const RunnerOptions ro = {.pool = w->b.pool, .arith = ARITH_FP32, .overlay = pipeline_overlay(p), .cancel = &stop.cancel};
    Status st = runner_new(&r, w->b.m, &ro, err);
    if (st == ST_OK)
        st = save_run(p, r, &o, res, err);
    runner_free(r);
    pipeline_free(p);
    return st;
}

static int compare_dirs(const char *a, const char *b)
{
    int n = 0;
    DIR *d = opendir(a);
    const struct dirent *e;
    assert_non_null(d);
    assert_int_equal(temp_entries(a), temp_entries(b));
    while ((e = readdir(d)) != NULL) {
        char x[600], y[600];
        snprintf(x, sizeof x, "%s/%s", a, e->d_name);
        snprintf(y, sizeof y, "%s/%s", b, e->d_name);
        if (e->d_name[0] == '.')
            continue;
        if (dir_exists(x))
            n += compare_dirs(x, y);
        else
            assert_same_file(x, y);
        n++;
    }
    closedir(d);
    return n;
}

static void stopped_runs_end_in_the_same_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *act, *include;
    } cases[] = {
        {"scope: per_token, symmetric: true", "*"},                      /* no texts at all */
        {"scope: per_tensor, symmetric: false", "*"},                    /* texts through every unit */
        {"scope: per_tensor, symmetric: false", "model.layers.0.mlp.*"}, /* only through what is written already */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        World w;
        SaveResult res;
        Error err = {0};
        char *dir = temp_folder(), whole[300], part[300];
        snprintf(whole, sizeof whole, "%s/whole", dir);
        snprintf(part, sizeof part, "%s/part", dir);
        world_open(&w, cases[i].act, cases[i].include);
        ok(run(&w, "ascendv1_saver", whole, -1, false, &res, &err), &err);
        assert_int_equal(run(&w, "ascendv1_saver", part, 0, false, &res, &err), ST_CANCELLED);
        ok(run(&w, "ascendv1_saver", part, -1, true, &res, &err), &err);
        assert_int_equal(res.layers_resumed, 1);
        assert_true(compare_dirs(whole, part) > 5);
        ok(run(&w, "ascendv1_saver", part, -1, true, &res, &err), &err); /* whole: nothing is done */
        assert_true(res.there);
        world_close(&w);
        temp_remove(dir);
    }
}

/* Told before the first layer, and nothing is left in the target. */
static void what_a_saver_cannot_hold_is_refused_first(void **state)
{
    (void)state;
    World w;
    SaveResult res;
    Error err = {0};
    char *dir = temp_folder(), to[300];
    snprintf(to, sizeof to, "%s/to", dir);
    world_open(&w, "scope: per_token, symmetric: true", "*");
    assert_int_equal(run(&w, "compressed_tensors", to, -1, false, &res, &err), ST_DATA);
    assert_non_null(strstr(err.text, "the bias that a processor gives 'model.layers.0.input_layernorm.weight'"));
    assert_false(dir_exists(to));
    world_close(&w);
    temp_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stopped_runs_end_in_the_same_bytes),
        cmocka_unit_test(what_a_saver_cannot_hold_is_refused_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
