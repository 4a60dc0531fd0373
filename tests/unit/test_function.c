#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "recipe/field.h"
#include "tests/lib/folded.h"

/* A processor that changes the model leaves what it computes: the logits of every recorded architecture before and after
 * every such row of the table, in each of the forms that its switches give it. New rows of either table are taken as they
 * are. */

enum { VARIANTS_MAX = 32 };
static const double MOST = 1e-4; /* of the largest logit */
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

/* As it comes, and with every switch on and off, every list of layers with one. */
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
    for (const Field *f = p->object->fields; f->key; f++) {
        if (f->type == F_BOOL) {
            add_switch(v, form++, p, common, f->key, behind);
            snprintf(more, sizeof more, ", %s: false", f->key);
            add_variant(v, form++, common, more, behind);
        } else if (f->type == F_INTS) {
            snprintf(more, sizeof more, ", %s: [0]", f->key);
            add_variant(v, form++, common, more, behind);
        }
    }
}

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
    float *want = folded_logits(base->r, t, &n), *got = folded_logits(f.r, t, &n);
    double worst = test_worst(want, got, n);
    if (!(worst <= MOST))
        fail_msg("%s: %s moves logits by %g of the largest", base->m->cfg.model_type, process, worst);
    free(want);
    free(got);
    folded_fini(&f);
    return true;
}

static void over_model(const char *config, Variants *v)
{
    char dir[512];
    TestRun base;
    snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(config, '/') - config), config);
    test_run_open(&base, dir, ARITH_FP32, 2, NULL);
    TokenSet *t = test_tokens(lens, 3, base.m->cfg.vocab, 3);
    for (int i = 0; i < v->n; i++)
        v->folded[i] += keeps_function(&base, v->text[i], t);
    test_tokens_free(t);
    test_run_close(&base);
}

static void every_fold_keeps_the_function(void **state)
{
    (void)state;
    glob_t found;
    assert_int_equal(glob("tests/golden/models/*/fp32/config.json", 0, NULL, &found), 0);
    const ProcessorType *p;
    int folds = 0;
    for (int i = 0; (p = recipe_rows.processor(i)) != NULL; i++) {
        Variants v;
        if (!(p->run->needs & PROCESSOR_TURN))
            continue;
        list_variants(p, &v);
        for (size_t k = 0; k < found.gl_pathc; k++)
            over_model(found.gl_pathv[k], &v);
        for (int k = 0, models = 0; k < v.n; k++) {
            models = v.folded[k] + (k && v.form[k] == v.form[k - 1] ? models : 0);
            if (!models && (k + 1 == v.n || v.form[k + 1] != v.form[k]))
                fail_msg("%s can't be run for any recorded model", v.text[k]);
        }
        folds += v.folded[0];
    }
    assert_true(folds > 0);
    globfree(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_fold_keeps_the_function),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
