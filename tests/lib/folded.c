#include "tests/lib/folded.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "process/sink_fold.h"

static void told(void *ctx, const PriorAt *at)
{
    Folded *f = ctx;
    assert_true(at->done >= 0 && at->done <= at->of);
    f->layers += at->stage >= 0 && !at->search && at->done > 0;
    f->steps += at->search;
    f->over = at->stage < 0;
}

static void hear(void *ctx, const char *text)
{
    Told *t = ctx;
    if (t->n < (int)(sizeof t->text / sizeof *t->text))
        snprintf(t->text[t->n++], sizeof *t->text, "%s", text);
}

static Status run(Folded *f, const TestRun *base, bool peer, const TokenSet *calib, Told *t, Error *err)
{
    const Work w = {.recipe = f->recipe, .level = f->level, .peer = peer, .changes = true, .tell = t ? hear : NULL,
                    .tell_ctx = t};
    RETURN_IF_ERROR(pipeline_new(&f->p, base->m, &w, err));
    for (int i = 0; i < pipeline_priors(f->p); i++)
        pipeline_set_prior(f->p, i, calib);
    pipeline_watch_priors(f->p, told, f);
    const RunnerOptions o = {.pool = base->pool, .arith = runner_arith(base->r), .overlay = pipeline_overlay(f->p)};
    RETURN_IF_ERROR(runner_new(&f->r, base->m, &o, err));
    return fold_run(f->p, f->r, &(FoldOptions){.calib = calib}, err);
}

static Status open_and_run(Folded *f, const TestRun *base, const char *process, bool peer, const TokenSet *calib, Told *t,
                           Error *err)
{
    *err = (Error){0};
    char text[1024];
    int n = snprintf(text, sizeof text, "apiversion: modelslim_v1\nspec:\n  process: %s\n", process);
    assert_true(n > 0 && (size_t)n < sizeof text);
    *f = (Folded){.level = calloc((size_t)base->m->nlinears, sizeof *f->level)};
    assert_non_null(f->level);
    RETURN_IF_ERROR(recipe_parse(&f->recipe, &recipe_rows, text, (size_t)n, "a test", NULL, err));
    return run(f, base, peer, calib, t, err);
}

Status folded_run(Folded *f, const TestRun *base, const char *process, bool peer, const TokenSet *calib, Error *err)
{
    return open_and_run(f, base, process, peer, calib, NULL, err);
}

const char *folded_says(const char *dir, const char *process, const int *lens, int n, Status *st, Told *t)
{
    static char text[ERROR_TEXT_MAX];
    TestRun base;
    Folded f;
    Error err;
    *t = (Told){.n = 0};
    test_run_open(&base, dir, ARITH_FP32, 1, NULL);
    TokenSet *calib = test_tokens(lens, n, base.m->cfg.vocab, 1);
    *st = open_and_run(&f, &base, process, false, calib, t, &err);
    snprintf(text, sizeof text, "%s", *st != ST_OK ? err.text : t->n ? t->text[0] : "");
    folded_fini(&f);
    test_tokens_free(calib);
    test_run_close(&base);
    return text;
}

void folded_fini(Folded *f)
{
    runner_free(f->r);
    pipeline_free(f->p);
    recipe_free(f->recipe);
    free(f->level);
    *f = (Folded){0};
}

float *folded_logits(Runner *r, const TokenSet *t, int64_t *n)
{
    const Model *m = runner_model(r);
    Error err = {0};
    Stream h, x;
    if (runner_embed(r, t, &h, &err) != ST_OK)
        fail_msg("%s", err.text);
    for (int i = 0; i < m->cfg.layers; i++)
        if (runner_layer(r, i, NULL, &h, &h, NULL, 0, &err) != ST_OK)
            fail_msg("%s", err.text);
    if (runner_final_norm(r, &h, &x, NULL, 0, &err) != ST_OK)
        fail_msg("%s", err.text);
    float *logits = test_logits(r, &x);
    *n = x.rows * m->cfg.vocab;
    stream_fini(&h);
    stream_fini(&x);
    return logits;
}

void folded_experts_of_one_token(const char *process)
{
    TestRun base;
    Folded f;
    Error err;
    const int lens[] = {1};
    int used = 0, left = 0;
    test_run_open(&base, "tests/golden/models/qwen3_moe/fp32", ARITH_FP32, 1, NULL);
    TokenSet *t = test_tokens(lens, 1, base.m->cfg.vocab, 1);
    if (folded_run(&f, &base, process, false, t, &err) != ST_OK)
        fail_msg("%s", err.text);
    for (int64_t i = 0; i < base.m->nlinears; i++)
        if (base.m->linears[i].expert >= 0 && base.m->linears[i].kind == LK_DOWN)
            *(overlay_linear(pipeline_overlay(f.p), i) ? &used : &left) += 1;
    assert_int_equal(used, base.m->cfg.moe.top_k * base.m->cfg.layers);
    assert_true(left > 0);
    folded_fini(&f);
    test_tokens_free(t);
    test_run_close(&base);
}
