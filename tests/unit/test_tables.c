/* Every row of the engine's tables: complete, of a name of its own, and the one that a search for it finds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "metric/metric.h"
#include "model/model.h"
#include "model/weight.h"
#include "quant/quantizer.h"
#include "save/saver.h"

static void said(const char *text, const char *row)
{
    if (!text || !*text || strchr(text, '\n'))
        fail_msg("row '%s' has no text in one line", row ? row : "(nameless)");
}

/* A spec that the key takes; sym of a row for either kind is the argument's. */
static QSpec spec_of(const QuantKey *k, bool either)
{
    QSpec q = {.dtype = k->dtype, .scope = k->scope, .symmetric = k->sym < 0 ? either : k->sym != 0};
    snprintf(q.method, sizeof q.method, "%s", k->method ? k->method : "none");
    return q;
}

static void act_quantizers(void **state)
{
    (void)state;
    int n = 0;
    for (; act_quantizer_table[n]; n++) {
        const ActQuantizer *a = act_quantizer_table[n];
        for (int either = 0; either < 2; either++) {
            QSpec q = spec_of(&a->key, either);
            if (act_quantizer_find(&q) != a)
                fail_msg("row %d (%s) is hidden by an earlier one", n, q.method);
        }
        assert_true(a->key.dtype == QT_FLOAT || a->rows);
        if (a->observer)
            assert_true(a->param && a->observer->size && a->observer->feed && a->observer->range);
        else
            assert_true(a->dynamic || a->key.dtype == QT_FLOAT);
    }
    assert_true(n > 0);
    QSpec none = {.dtype = QT_INT8, .scope = QS_PER_TOKEN, .symmetric = true, .method = "no_such"};
    assert_null(act_quantizer_find(&none));
}

static void weight_quantizers(void **state)
{
    (void)state;
    int n = 0;
    for (; weight_quantizer_table[n]; n++) {
        const WeightQuantizer *w = weight_quantizer_table[n];
        for (int either = 0; either < 2; either++) {
            QSpec q = spec_of(&w->key, either);
            if (weight_quantizer_find(&q) != w)
                fail_msg("row %d (%s) is hidden by an earlier one", n, q.method);
        }
        said(w->key.method, "a weight quantizer");
        assert_non_null(w->quantize);
        assert_true(w->rowwise == (w->rows != NULL));
        assert_false(w->rowwise && w->hessian); /* blocks of rows would each need it */
    }
    assert_true(n > 0);
    QSpec none = {.dtype = QT_INT8, .scope = QS_PER_CHANNEL, .symmetric = true, .method = "no_such"};
    assert_null(weight_quantizer_find(&none));
}

static void schemes(void **state)
{
    (void)state;
    int n = 0;
    for (const Scheme *s = scheme_table; s->name; s++, n++) {
        said(s->name, "a scheme");
        assert_true(s->weight_bits == 4 || s->weight_bits == 8);
        assert_true(s->act_bits == 4 || s->act_bits == 8 || (s->act_bits == 16 && s->act_type == QT_FLOAT));
        assert_true(s->part[0] != P_END);
        for (int either = 0; either < 2; either++) {
            QuantKey act = {.method = "minmax", .dtype = s->act_type, .scope = s->act_scope, .sym = s->act_sym};
            QuantKey weight = {.method = s->weight_method ? s->weight_method : "minmax", .dtype = s->weight_type,
                               .scope = s->weight_scope, .sym = s->weight_sym};
            QConfig q = {.act = spec_of(&act, either), .weight = spec_of(&weight, either)};
            if (scheme_find(&q) != s)
                fail_msg("row %d (%s) is hidden by an earlier one", n, s->name);
        }
    }
    assert_true(n > 0);
}

static void savers(void **state)
{
    (void)state;
    int n = 0;
    for (; saver_table[n]; n++) {
        const Saver *s = saver_table[n];
        said(s->type, "a saver");
        said(s->title, s->type);
        assert_ptr_equal(saver_find(s->type), s);
        assert_true(s->check && s->files && s->open && s->linear && s->keep_float && s->layer_done && s->finish
                    && s->close);
    }
    assert_true(n > 0);
    assert_null(saver_find("no_such"));
    assert_null(saver_find(NULL));
}

static void storages(void **state)
{
    (void)state;
    int n = 0;
    for (const Storage *s = storage_table; s->name; s++, n++) {
        said(s->name, "a storage");
        said(s->title, s->name);
        assert_true(s->weight && s->scale && s->code && s->code->values);
        assert_true(s->codes > 0 && s->group >= -1);
        for (const Storage *before = storage_table; before < s; before++)
            assert_true(strcmp(before->weight, s->weight) != 0 || strcmp(before->scale, s->scale) != 0 ||
                        before->dtype != s->dtype);
    }
    assert_true(n > 0);
}

static void metrics_and_architectures(void **state)
{
    (void)state;
    for (int i = 0; metric_table[i]; i++) {
        const Metric *m = metric_table[i];
        said(m->name, "a metric");
        said(m->title, m->name);
        assert_true(m->unit && m->explain && *m->explain && m->score && (m->direction == 1 || m->direction == -1));
        assert_ptr_equal(metric_find(m->name), m);
    }
    for (int i = 0; arch_table[i]; i++) {
        said(arch_table[i]->model_type, "an architecture");
        said(arch_table[i]->title, arch_table[i]->model_type);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(arch_table[k]->model_type, arch_table[i]->model_type);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(act_quantizers),
        cmocka_unit_test(weight_quantizers),
        cmocka_unit_test(schemes),
        cmocka_unit_test(savers),
        cmocka_unit_test(storages),
        cmocka_unit_test(metrics_and_architectures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
