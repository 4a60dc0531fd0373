#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/file.h"
#include "save/verify.h"
#include "tests/lib/savefeed.h"
#include "tests/lib/tempdir.h"

/* Every family that is built in: its linears quantized by the obvious rule, written, read back and compared. */

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

static void quantize_rows(const Model *m, int64_t i, QWeight *w)
{
    const Linear *l = &m->linears[i];
    Error err = {0};
    float *all = malloc(l->weight->nbytes);
    assert_int_equal(l->weight->dtype, DT_F32);
    ok(checkpoint_read(m->ckpt, l->weight, 0, l->weight->nbytes, all, &err), &err);
    int64_t step = l->out_step ? l->out_step : l->in, in_step = l->out_step ? l->in_step : 1;
    *w = (QWeight){.dtype = QT_INT8, .scope = QS_PER_CHANNEL, .symmetric = true, .out = l->out, .in = l->in,
                   .group = l->in, .groups = 1};
    w->code = malloc((size_t)(l->out * l->in));
    w->scale = malloc((size_t)l->out * sizeof(float));
    for (int64_t o = 0; o < l->out; o++) {
        const float *row = all + l->at + o * step;
        float mx = 1e-30f;
        for (int64_t k = 0; k < l->in; k++)
            mx = fmaxf(mx, fabsf(row[k * in_step]));
        w->scale[o] = mx / 127;
        for (int64_t k = 0; k < l->in; k++)
            w->code[o * l->in + k] = (uint8_t)(int8_t)lrintf(row[k * in_step] / w->scale[o]);
    }
    free(all);
}

static float *bias_of(const Model *m, int64_t i)
{
    const Linear *l = &m->linears[i];
    Error err = {0};
    if (!l->bias)
        return NULL;
    float *all = malloc(l->bias->nbytes), *b = malloc((size_t)l->out * sizeof *b);
    ok(checkpoint_read(m->ckpt, l->bias, 0, l->bias->nbytes, all, &err), &err);
    for (int64_t o = 0; o < l->out; o++)
        b[o] = l->out_step ? all[l->bias_at + o * (l->bias_step ? l->bias_step : 1)] : all[o];
    free(all);
    return b;
}

static void save_family(const Model *m, const SavePlan *plan, const Saver *s)
{
    Error err = {0};
    void *self = savefeed_start(s, plan);
    for (int layer = 0; layer < m->cfg.layers; layer++) {
        for (int64_t i = 0; i < m->nlinears; i++) {
            QWeight w;
            if (m->linears[i].layer != layer || plan->level[i] == 0)
                continue;
            quantize_rows(m, i, &w);
            float *bias = bias_of(m, i);
            SaveLinear l = {.linear = i, .config = plan->levels, .scheme = scheme_find(plan->levels), .weight = &w,
                            .act_dtype = DT_F32, .bias = bias};
            ok(s->linear(self, &l, &err), &err);
            free(w.code);
            free(w.scale);
            free(bias);
        }
        ok(s->layer_done(self, layer, &err), &err);
    }
    ok(s->finish(self, &err), &err);
    s->close(self, false);
}

/* every: quantize each n-th linear, 0 none. */
static void run_family(const char *model, int every)
{
    Model *m;
    Error err = {0};
    char *dir = temp_folder();
    ok(model_open(&m, model, NULL, &err), &err);
    QConfig q = qconfig_default();
    q.act = (QSpec){.dtype = QT_INT8, .scope = QS_PER_TOKEN, .symmetric = true, .method = "minmax"};
    int16_t *level = calloc((size_t)m->nlinears, sizeof *level);
    for (int64_t i = 0; every && i < m->nlinears; i++)
        level[i] = i % every == 0;
    SavePlan plan = {.model = m, .dir = temp_path(dir, "out"), .levels = &q, .nlevels = 1, .level = level};
    char target[512];
    snprintf(target, sizeof target, "%s", plan.dir);
    plan.dir = target;
    plan.part_bytes = 1000000;
    save_family(m, &plan, saver_find("ascendv1_saver"));
    VerifyReport r;
    ok(save_verify(&plan, "ascendv1_saver", &r, NULL, &err), &err);
    if (r.problems)
        fail_msg("%s: %lld problems: %s", model, (long long)r.problems, r.problem[0]);
    for (int64_t k = 0; k < r.n; k++)
        if (!(r.rows[k].error < 1.5e-2))
            fail_msg("%s: %s has error %g", model, m->linears[r.rows[k].linear].name, r.rows[k].error);
    verify_free(&r);
    free(level);
    model_free(m);
    temp_remove(dir);
}

static void test_families(void **state)
{
    (void)state;
    int n = 0;
    DIR *d = opendir("tests/golden/models");
    const struct dirent *e;
    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        char model[400];
        snprintf(model, sizeof model, "tests/golden/models/%s/fp32", e->d_name);
        if (e->d_name[0] == '.' || !dir_exists(model))
            continue;
        run_family(model, 1);
        run_family(model, 3);
        n++;
    }
    closedir(d);
    assert_true(n >= 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_families)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
