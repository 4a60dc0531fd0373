#include <glob.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "recipe/field.h"
#include "run/source.h"
#include "tests/lib/folded.h"
#include "tests/lib/mtp_model.h"
#include "tests/lib/tempdir.h"

/* A processor that changes the model leaves what it computes: the logits of every recorded architecture before and after
 * every such row of the table, in each of the forms that its switches give it. New rows of either table are taken as they
 * are. */

enum { VARIANTS_MAX = 32 };
static const double MOST = 1e-4; /* of the largest logit */
static const char clips[] = "flatquant"; /* on purpose: test_flatquant.c holds its fold to this without its clamps */
static const int lens[] = {21, 8, 13};

/* ---- the forms of a processor, from its keys ---- */

typedef struct Variants {
    char text[VARIANTS_MAX][400];
    int folded[VARIANTS_MAX]; /* models */
    int form[VARIANTS_MAX];   /* variants of one form: one of them has to be possible */
    int n;
} Variants;

#define SIDE "{dtype: int8, scope: per_channel, symmetric: true, method: minmax}"
#define INPUT "{dtype: int8, scope: per_token, symmetric: true, method: minmax}"

/* A value for a key that has to be there. */
static void write_required(const Field *f, char *out, size_t size)
{
    if (f->type == F_OBJECT && f->object == &qspec_object)
        snprintf(out, size, ", %s: " SIDE, f->key);
    else if (f->type == F_OBJECT && f->object == &qconfig_object)
        snprintf(out, size, ", %s: {act: " INPUT ", weight: " SIDE "}", f->key);
    else if (f->type == F_INT && f->bounded)
        snprintf(out, size, ", %s: %g", f->key, f->hi);
    else
        fail_msg("no value is known for '%s', which has to be there", f->key);
}

/* more: "", or ", key: value"; behind: what stands behind the list. */
static void add_variant(Variants *v, int form, const char *common, const char *more, const char *behind)
{
    assert_true(v->n < VARIANTS_MAX);
    v->form[v->n] = form;
    int n = snprintf(v->text[v->n++], sizeof *v->text, "[{%s%s}]%s", common, more, behind);
    assert_true(n > 0 && (size_t)n < sizeof *v->text);
}

/* A switch that is on, also with each power of two as small as may be: large ones may not fit small models. */
static void add_switch(Variants *v, int form, const ProcessorType *p, const char *common, const char *key, const char *behind)
{
    char more[120];
    snprintf(more, sizeof more, ", %s: true", key);
    add_variant(v, form, common, more, behind);
    for (const Field *f = p->object->fields; f->key; f++)
        if (f->type == F_INT && f->power_of_two && f->lo >= 1) {
            snprintf(more, sizeof more, ", %s: true, %s: %g", key, f->key, f->lo);
            add_variant(v, form, common, more, behind);
        }
}

/* The first stage of what has one, which its last finds something by. */
static void write_prior(const ProcessorType *p, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "\n  prior: [{process: [{type: %s", p->name);
    for (const Field *f = p->object->fields; f->key; f++)
        if (f->required && f->type == F_INT)
            n += (size_t)snprintf(out + n, size - n, ", %s: %g", f->key, f->lo);
    snprintf(out + n, size - n, "}]}]");
}

/* As it comes, and with every switch on and off, every list of layers with one, everything scaled at run time. */
static void list_variants(const ProcessorType *p, Variants *v)
{
    char common[300], behind[100] = "", more[100];
    int form = 0;
    *v = (Variants){.n = 0};
    if (p->prior)
        write_prior(p, behind, sizeof behind);
    size_t len = (size_t)snprintf(common, sizeof common, "type: %s", p->name);
    for (const Field *f = p->object->fields; f->key; f++)
        if (f->required && strcmp(f->key, "type") != 0) {
            write_required(f, common + len, sizeof common - len);
            len = strlen(common);
        }
    add_variant(v, form++, common, "", behind);
    for (const Field *f = p->object->fields; f->key; f++)
        if (strcmp(f->key, "rank") == 0) /* its default may be more than small weights have */
            add_variant(v, 0, common, ", rank: 2", behind);
    for (const Field *f = p->object->fields; f->key; f++) {
        if (f->type == F_BOOL) {
            add_switch(v, form++, p, common, f->key, behind);
            snprintf(more, sizeof more, ", %s: false", f->key);
            add_variant(v, form++, common, more, behind);
        } else if (f->type == F_INTS) {
            snprintf(more, sizeof more, ", %s: [0]", f->key);
            add_variant(v, form++, common, more, behind);
        } else if (strcmp(f->key, "enable_subgraph_type") == 0) {
            snprintf(more, sizeof more, ", %s: [non-fusion]", f->key);
            add_variant(v, form++, common, more, behind);
        }
    }
}

/* ---- what a model gives ---- */

/* A tensor of the unit behind the decoder layers, as the runner's changes leave it; caller frees. */
static float *mtp_tensor(Runner *r, const char *name)
{
    const Model *m = runner_model(r);
    char full[96];
    float *v;
    Error err = {0};
    snprintf(full, sizeof full, "model.layers.%d.%s", m->cfg.layers, name);
    const TensorInfo *t = checkpoint_find(m->ckpt, full);
    assert_non_null(t);
    if (source_small(runner_source(r), NULL, t, &v, &err) != ST_OK)
        fail_msg("%s", err.text);
    return v;
}

/* What multi-token prediction makes of the last states: by its own norm and head, of plain sums. */
static float *mtp_logits(Runner *r, const TokenSet *t, int64_t *n)
{
    const Model *m = runner_model(r);
    int64_t h = m->cfg.hidden;
    Error err = {0};
    Stream s;
    float *w = mtp_tensor(r, "shared_head.norm.weight"), *head = mtp_tensor(r, "shared_head.head.weight");
    if (runner_embed(r, t, &s, &err) != ST_OK)
        fail_msg("%s", err.text);
    for (int i = 0; i < model_depth(m); i++)
        if (runner_layer(r, i, NULL, &s, &s, NULL, 0, &err) != ST_OK)
            fail_msg("%s", err.text);
    *n = s.rows * m->cfg.vocab;
    float *logits = malloc((size_t)*n * sizeof *logits);
    assert_non_null(logits);
    for (int64_t row = 0; row < s.rows; row++) {
        const float *x = s.data + row * h;
        double square = 0;
        for (int64_t i = 0; i < h; i++)
            square += (double)x[i] * (double)x[i];
        double scale = 1 / sqrt(square / (double)h + m->cfg.eps);
        for (int64_t v = 0; v < m->cfg.vocab; v++) {
            double sum = 0;
            for (int64_t i = 0; i < h; i++)
                sum += (double)x[i] * scale * (double)w[i] * (double)head[v * h + i];
            logits[row * m->cfg.vocab + v] = (float)sum;
        }
    }
    stream_fini(&s);
    free(w);
    free(head);
    return logits;
}

typedef float *Logits(Runner *r, const TokenSet *t, int64_t *n);

/* ---- one of them over one model ---- */

/* false: it says that it can't be run for this model. */
static bool keeps_function(const TestRun *base, const char *process, const TokenSet *t)
{
    Folded f;
    Error err = {0};
    int64_t n;
    char digest[65];
    Status st = folded_run(&f, base, process, false, t, &err);
    if (st != ST_OK) {
        if (st != ST_DATA || !err.text[0])
            fail_msg("%s: %s: %s", base->m->cfg.model_type, process, err.text);
        folded_fini(&f);
        return false;
    }
    overlay_digest(pipeline_overlay(f.p), digest);
    if (!digest[0])
        fail_msg("%s: %s changes nothing", base->m->cfg.model_type, process);
    Logits *const of[] = {folded_logits, base->m->mtp_layers ? mtp_logits : NULL};
    for (int i = 0; i < 2 && of[i]; i++) {
        float *want = of[i](base->r, t, &n), *got = of[i](f.r, t, &n);
        double worst = test_worst(want, got, n);
        if (!(worst <= MOST))
            fail_msg("%s: %s moves logits%s by %g of the largest", base->m->cfg.model_type, process,
                     i ? " of multi-token prediction" : "", worst);
        free(want);
        free(got);
    }
    folded_fini(&f);
    return true;
}

static void over_model(const char *dir, Variants *v)
{
    TestRun base;
    test_run_open(&base, dir, ARITH_FP32, 1, NULL);
    TokenSet *t = test_tokens(lens, 3, base.m->cfg.vocab, 3);
    for (int i = 0; i < v->n; i++)
        v->folded[i] += keeps_function(&base, v->text[i], t);
    test_tokens_free(t);
    test_run_close(&base);
}

static void over_models(const glob_t *found, char *const *made, Variants *v)
{
    char dir[512];
    for (size_t k = 0; k < found->gl_pathc; k++) {
        const char *config = found->gl_pathv[k];
        snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(config, '/') - config), config);
        over_model(dir, v);
    }
    for (; *made; made++)
        over_model(*made, v);
}

static void every_fold_keeps_the_function(void **state)
{
    (void)state;
    glob_t found;
    assert_int_equal(glob("tests/golden/models/*/fp32/config.json", 0, NULL, &found), 0);
    char *const made[] = {mtp_model_write(&(MtpRecipe){.model = "tests/golden/models/deepseek_v3/fp32", .own_table = true}),
                          mtp_model_write(&(MtpRecipe){.model = "tests/golden/models/glm4_moe/fp32"}), NULL};
    const ProcessorType *p;
    int folds = 0;
    for (int i = 0; (p = recipe_rows.processor(i)) != NULL; i++) {
        Variants v;
        if (!(p->run->needs & PROCESSOR_TURN) || strcmp(p->name, clips) == 0)
            continue;
        list_variants(p, &v);
        over_models(&found, made, &v);
        for (int k = 0, models = 0; k < v.n; k++) {
            models = v.folded[k] + (k && v.form[k] == v.form[k - 1] ? models : 0);
            if (!models && (k + 1 == v.n || v.form[k + 1] != v.form[k]))
                fail_msg("%s can't be run for any recorded model", v.text[k]);
        }
        folds += v.folded[0];
    }
    assert_true(folds > 0);
    for (int i = 0; made[i]; i++)
        temp_remove(made[i]);
    globfree(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_fold_keeps_the_function),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
