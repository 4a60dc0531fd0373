/* Sizes that are shown are the bytes that are written: every scheme over every kind of linear's name, in both modes, as
 * laid out, and the recorded runs as they lie on the disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "save/saveout.h"
#include "tests/lib/savefeed.h"
#include "tests/lib/tempdir.h"

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

/* A pair that the row takes. */
static QConfig config_of(const Scheme *s)
{
    QConfig q = {.act = {.dtype = s->act_type, .scope = s->act_scope, .symmetric = s->act_sym != 0, .method = "minmax"},
                 .weight = {.dtype = s->weight_type, .scope = s->weight_scope, .symmetric = s->weight_sym != 0}};
    strcpy(q.weight.method, s->weight_method ? s->weight_method : "minmax");
    q.weight.ext.group_size = s->weight_scope == QS_PER_GROUP ? 8 : 0;
    q.weight.ext.dual_block = s->weight_scope == QS_DUAL_SCALE ? 16 : 0;
    return q;
}

/* Whether the saver would refuse this linear: its columns can't be cut, or its rows or columns are odd. */
static bool writable(const Scheme *s, const Linear *l, bool peer)
{
    QPart part[SCHEME_PARTS_MAX];
    QConfig q = config_of(s);
    for (int i = 0, n = scheme_parts(s, &q, &(SchemeLinear){l, false, peer, DT_BF16}, part); i < n; i++)
        if ((part[i].kind == PART_SCALE_BIAS && part[i].shape[1] == 0)
            || (part[i].kind == PART_INT4_ROWS && l->out % 2 != 0) || (part[i].kind == PART_FP4 && l->in % 2 != 0))
            return false;
    return true;
}

/* Bytes of the layout's tensors that belong to linear i. */
static uint64_t laid_out(const SaveOut *s, int64_t i)
{
    uint64_t n = 0;
    for (size_t t = 0; t < s->layout.n; t++) {
        const SaveItem *it = &s->walk.items[s->layout.t[t].item];
        n += it->kind == SI_LINEAR && it->linear == i ? s->layout.t[t].nbytes : 0;
    }
    return n;
}

/* The whole model in one scheme; gives how many linears were compared. */
static int64_t compare(const Model *m, const Scheme *scheme, bool peer)
{
    Error err = {0};
    QConfig q = config_of(scheme);
    int64_t n = 0;
    int16_t *level = mem_zarray((size_t)m->nlinears, sizeof *level);
    SavePlan plan = {.model = m, .dir = "", .model_type = "", .levels = &q, .nlevels = 1, .level = level, .peer = peer};
    SaveOut s = {.format = saver_find("ascendv1_saver"), .plan = &plan, .state = mem_zarray((size_t)m->nlinears, 1)};
    assert_true(level && s.state && s.format);
    assert_ptr_equal(scheme_find(&q), scheme);
    for (int64_t i = 0; i < m->nlinears; i++)
        level[i] = writable(scheme, &m->linears[i], peer);
    ok(saveout_check(s.format, &plan, &err), &err);
    ok(save_walk(&s.walk, &plan, &err), &err);
    ok(saveout_layout(&s, NULL, &s.layout, &err), &err);
    for (int64_t i = 0; i < m->nlinears; i++) {
        const Linear *l = &m->linears[i];
        uint64_t told = scheme_bytes(scheme, &q, &(SchemeLinear){l, l->bias != NULL, peer, m->cfg.dtype});
        if (!level[i])
            continue;
        if (laid_out(&s, i) != told)
            fail_msg("%s in %s%s: %llu bytes are laid out, %llu are told", l->name, scheme->name, peer ? " (peer)" : "",
                     (unsigned long long)laid_out(&s, i), (unsigned long long)told);
        n++;
    }
    layout_free(&s.layout);
    save_walk_free(&s.walk);
    free(s.state);
    free(level);
    return n;
}

/* MLA, gated delta, experts called w1 to w3, fused projections, linears with a bias. */
static void told_and_laid_out(void **state)
{
    (void)state;
    static const char *const models[] = {"deepseek_v3/bf16", "deepseek_v32/fp32", "qwen3_next/fp32", "mixtral/bf16",
                                         "phi3/bf16", "qwen2/bf16", "longcat_flash/fp32", "qwen2_moe/fp32"};
    int64_t all = 0;
    for (size_t k = 0; k < sizeof models / sizeof models[0]; k++) {
        char path[128];
        Model *m;
        Error err = {0};
        snprintf(path, sizeof path, "tests/golden/models/%s", models[k]);
        ok(model_open(&m, path, NULL, &err), &err);
        for (const Scheme *s = scheme_table; s->name; s++) {
            int64_t own = compare(m, s, false), peer = compare(m, s, true);
            assert_true(own >= peer && own > m->nlinears / 2); /* rows of one output have no pair */
            all += own + peer;
        }
        model_free(m);
    }
    assert_true(all > 1000);
}

/* The tensors of a written file that lie below the linear's name. */
static uint64_t on_disk(const Checkpoint *c, const char *module)
{
    uint64_t n = 0;
    size_t len = strlen(module);
    for (int64_t i = 0; i < checkpoint_count(c); i++) {
        const TensorInfo *t = checkpoint_at(c, i);
        n += strncmp(t->name, module, len) == 0 && t->name[len] == '.' && !strstr(t->name, "kv_cache") ? t->nbytes : 0;
    }
    return n;
}

static void told_and_written(void **state)
{
    (void)state;
    static const struct {
        const char *model, *name;
    } runs[] = {
        {"qwen3-bf16", "w8a8_static"}, {"qwen3-fp16", "w8a8_pdmix_fp16_bias"}, {"llama-fp32", "w8a8_static_fp32_llama"},
        {"llama-fp32", "w8a16_pergroup_gptq"}, {"qwen3-bf16", "w4a8"}, {"qwen3-bf16", "fp8_dynamic"},
        {"qwen3-bf16", "w4a8_mxfp"}, {"qwen3_moe-bf16", "moe_w8a8_mixed"},
    };
    for (size_t k = 0; k < 2 * sizeof runs / sizeof runs[0]; k++) {
        SaveFeed f;
        char model[256], out[256];
        bool peer = k & 1;
        Error err = {0};
        snprintf(model, sizeof model, "tests/golden/formats/_models/%s", runs[k / 2].model);
        snprintf(out, sizeof out, "tests/golden/formats/%s/out", runs[k / 2].name);
        savefeed_open(&f, model, out, 1000);
        char *dir = temp_folder();
        SavePlan plan = savefeed_plan(&f, dir, peer);
        plan.part_file_size = 0;
        const SaveFormat *s = saver_find("ascendv1_saver");
        savefeed_end(&f, s, savefeed_start(s, &plan), 0);
        Checkpoint *c;
        ok(checkpoint_open(&c, temp_path(dir, "quant_model_weights.safetensors"), &err), &err);
        int n = 0;
        for (int64_t i = 0; i < f.m->nlinears; i++) {
            const Linear *l = &f.m->linears[i];
            if (!f.level[i])
                continue;
            const QConfig *q = &f.levels[f.level[i] - 1];
            assert_int_equal(scheme_bytes(scheme_find(q), q, &(SchemeLinear){l, l->bias != NULL, peer, f.m->cfg.dtype}),
                             on_disk(c, l->name));
            n++;
        }
        assert_true(n > 0);
        checkpoint_free(c);
        savefeed_close(&f);
        temp_remove(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(told_and_laid_out),
        cmocka_unit_test(told_and_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
