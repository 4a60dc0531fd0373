/* Every row of the engine's tables: complete, of a name of its own, and the one that a search for it finds. */
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "metric/metric.h"
#include "model/block.h"
#include "model/weight.h"
#include "quant/quantizer.h"
#include "run/block.h"
#include "save/format.h"

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
        assert_false(w->rowwise && w->prepare); /* blocks of rows would each need it */
        assert_true((w->prepare != NULL) == (w->release != NULL) && (w->prepare != NULL) == (w->prepare_bytes != NULL));
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
        assert_true(s->weight_bits == 4 || s->weight_bits == 8 || (s->weight_bits == 16 && s->weight_type == QT_FLOAT));
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
        const SaveFormat *f = saver_table[n];
        said(f->type, "a saver");
        said(f->title, f->type);
        assert_ptr_equal(saver_find(f->type), f);
        char name[256];
        snprintf(name, sizeof name, "%s-00001-of-00002.safetensors", f->weights);
        assert_true(format_is_weights(f, name));
        for (int k = 0; k < n; k++)
            assert_false(format_is_weights(saver_table[k], name));
        snprintf(name, sizeof name, "%s.safetensors.index.json", f->weights);
        assert_false(format_is_weights(f, name) || format_is_description(f, name));
        snprintf(name, sizeof name, "%s.json", f->description);
        assert_true(format_is_description(f, name));
        assert_true(saver_description(name) == f->labels);
    }
    assert_true(n > 0);
    assert_null(saver_find("no_such"));
    assert_null(saver_find(NULL));
    assert_null(saver_table_fault(saver_table));
}

/* The program says at its start what is missing in a row; nothing of a row may be missed. */
static void savers_that_are_not_whole(void **state)
{
    (void)state;
    SaveFormat f[12];
    SaverOps ops[16];
    int n = 0;
    for (size_t i = 0; i < sizeof f / sizeof f[0]; i++)
        f[i] = *saver_table[0];
    f[n++].type = NULL;
    f[n++].title = "";
    f[n++].fields = NULL;
    f[n++].weights = NULL;
    f[n++].description = "";
    f[n++].parts = NULL;
    f[n++].documents = NULL;
    f[n++].ops = NULL;
    for (int i = 0; i < n; i++)
        assert_non_null(saver_table_fault((const SaveFormat *[]){&f[i], NULL}));
    const size_t one = sizeof(void (*)(void));
    assert_int_equal(sizeof ops[0], 16 * one);
    for (size_t i = 0; i < 16; i++) {
        bool spare = i == offsetof(SaverOps, stopped) / one || i == offsetof(SaverOps, ready) / one
                     || i == offsetof(SaverOps, tensor) / one || i == offsetof(SaverOps, debug) / one
                     || i == offsetof(SaverOps, keep) / one || i == offsetof(SaverOps, found) / one
                     || i == offsetof(SaverOps, layer_met) / one;
        ops[i] = *saver_table[0]->ops;
        memset((char *)&ops[i] + i * one, 0, one);
        f[n].ops = &ops[i];
        assert_true((saver_table_fault((const SaveFormat *[]){&f[n], NULL}) == NULL) == spare);
    }
    assert_non_null(saver_table_fault((const SaveFormat *[]){saver_table[0], saver_table[1], saver_table[0], NULL}));
    assert_non_null(saver_table_fault((const SaveFormat *[]){NULL}));
    f[n].ops = saver_table[0]->ops;
    assert_null(saver_table_fault((const SaveFormat *[]){&f[n], NULL}));
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

/* A row is whole: what has a place in the state's stream reads and writes it, everything else computes. */
static void block_row(const BlockKind *k)
{
    const BlockType *t = k->type;
    const BlockOps *o = k->ops;
    bool join = t->role == ROLE_JOIN;
    said(t->name, "a kind of block");
    assert_ptr_equal(block_ops(t), o);
    assert_true(t->take && o->need);
    assert_true(block_linears(t) <= BLOCK_LINEARS_MAX && block_smalls(t) <= BLOCK_SMALLS_MAX);
    if (join ? !o->read || !o->write || !o->aside || o->forward : !o->forward || o->read || o->write)
        fail_msg("the row of %s is not whole", t->name);
    for (int i = 0; i < block_linears(t); i++)
        for (int n = 0; n < i; n++)
            assert_string_not_equal(t->linears[i], t->linears[n]);
    for (const BlockKind *before = block_table; before < k; before++)
        assert_string_not_equal(before->type->name, t->name);
}

/* The rows that a model's units are made of: bit i of row i; what a block reads first is linears it has. */
static unsigned rows_of(const Model *m)
{
    unsigned rows = 0;
    for (int u = 0; u < m->nunits; u++)
        for (int i = 0; i < m->units[u].nblocks; i++) {
            const Block *b = &m->units[u].block[i];
            int slot[STAGE_MAX];
            bool gate;
            for (int k = 0; block_table[k].type; k++)
                if (block_table[k].type == b->type || (b->join && block_table[k].type == b->join->type))
                    rows |= 1u << k;
            const BlockOps *o = block_ops(b->type);
            int n = o->first ? o->first(b, slot, &gate) : 0;
            for (int k = 0; k < n; k++)
                assert_true(b->linear[slot[k]] >= m->units[u].first);
        }
    return rows;
}

/* Every kind of block computes in some recorded model; that of multi-token prediction, which no library runs, in those
 * that tests/unit/test_mtp.c writes. */
static void blocks(void **state)
{
    (void)state;
    glob_t found;
    unsigned seen = 0;
    int n = 0;
    for (; block_table[n].type; n++)
        block_row(&block_table[n]);
    assert_int_equal(glob("tests/golden/models/*/*/config.json", 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char dir[256];
        Model *m;
        Error e = {0};
        snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(found.gl_pathv[i], '/') - found.gl_pathv[i]), found.gl_pathv[i]);
        if (model_open(&m, dir, NULL, &e) != ST_OK)
            fail_msg("%s", e.text);
        seen |= rows_of(m);
        model_free(m);
    }
    globfree(&found);
    for (int k = 0; k < n; k++)
        if (!(seen >> k & 1) && block_table[k].type != &block_mtp)
            fail_msg("no recorded model has a block of kind %s", block_table[k].type->name);
    for (int i = 0; arch_table[i]; i++)
        for (const BlockSpec *s = arch_table[i]->blocks; s->type; s++)
            assert_true(block_ops(s->type) && (!s->join || block_ops(s->join->type)));
}

static void metrics_and_architectures(void **state)
{
    (void)state;
    for (int i = 0; metric_table[i]; i++) {
        const Metric *m = metric_table[i];
        said(m->name, "a metric");
        said(m->title, m->name);
        assert_true(m->unit && m->explain && *m->explain && (m->direction == 1 || m->direction == -1));
        assert_true(m->scope < METRIC_SCOPES && m->family < METRIC_FAMILIES);
        said(m->cost, m->name);
        assert_true(metric_parts(m) <= METRIC_PARTS && (!m->parts || !m->pass->has));
        for (int k = 0; k < metric_parts(m); k++) {
            said(m->parts[k].text, m->parts[k].name);
            assert_non_null(m->parts[k].unit);
        }
        assert_ptr_equal(metric_find(m->name), m);
        const MetricPass *p = m->pass;
        assert_non_null(p);
        said(p->name, m->name);
        said(p->step, p->name);
        assert_true(p->steps && p->bytes && p->run);
        assert_true(m->score || !p->has); /* statistics have no value of their own */
        assert_true(m->needs || !p->has);
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
        cmocka_unit_test(savers_that_are_not_whole),
        cmocka_unit_test(storages),
        cmocka_unit_test(blocks),
        cmocka_unit_test(metrics_and_architectures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
