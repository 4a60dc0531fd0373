#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "model/subgraph.h"
#include "tests/lib/mtp_model.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/tiny_model.h"

static const char *short_name(const Model *m, int unit, const char *name)
{
    char prefix[64];
    int n = snprintf(prefix, sizeof prefix, "%s%d.", model_layers_prefix(m), unit);
    return strncmp(name, prefix, (size_t)n) == 0 ? name + n : name;
}

/* "ov self_attn.v_proj[0:16] > self_attn.o_proj" a line; many experts as their first and their number. */
static void describe(const Model *m, int unit, const Subgraph *g, Str *text)
{
    str_printf(text, "%s %s", subgraph_name(g->type), short_name(m, unit, g->key));
    if (g->source >= 0)
        str_printf(text, "[%lld:%lld", (long long)g->rows.first, (long long)(g->rows.first + g->rows.n));
    if (g->source >= 0)
        str_printf(text, g->rows.run < g->rows.n ? " by %lld of %lld]" : "]", (long long)g->rows.run,
                   (long long)g->rows.step);
    if (!subgraph_folds(g))
        str_printf(text, " (run time)");
    if (g->norm2)
        str_printf(text, " and %s", short_name(m, unit, g->norm2->name));
    str_printf(text, "%s >", g->norm_one ? " 1+w" : "");
    for (int t = 0; t < g->ntargets; t++)
        if (m->linears[g->targets[t]].expert <= 0)
            str_printf(text, " %s", short_name(m, unit, m->linears[g->targets[t]].name));
    for (int t = 0; t < g->ntensors; t++)
        str_printf(text, " +%s", short_name(m, unit, g->tensors[t]->name));
    if (g->nwatch > 1)
        str_printf(text, " (seen by %d)", g->nwatch);
    str_printf(text, "\n");
}

static void open_model(Model **m, const char *name)
{
    char dir[128];
    Error err = {0};
    snprintf(dir, sizeof dir, "tests/golden/models/%s/fp32", name);
    if (model_open(m, dir, NULL, &err) != ST_OK)
        fail_msg("%s", err.text);
}

static void found(const char *name, int unit, SubgraphUser user, Str *text)
{
    Model *m;
    Arena a = {0};
    Subgraph *g;
    Error err = {0};
    int n;
    open_model(&m, name);
    unit = unit < 0 ? model_depth(m) - 1 : unit;
    assert_int_equal(subgraphs_of_unit(m, unit, user, &a, &g, &n, NULL, &err), ST_OK);
    for (int i = 0; i < n; i++)
        if (m->linears[g[i].targets[0]].expert <= 0)
            describe(m, unit, &g[i], text);
    arena_free(&a);
    model_free(m);
}

/* What each unit has; of experts the first one's. */
static const struct {
    const char *model;
    int unit; /* -1: the last, of multi-token prediction where there is one */
    SubgraphUser user;
    const char *want;
} units[] = {
    {"llama", 0, SUBGRAPH_OURS,
     "norm-linear input_layernorm > self_attn.q_proj self_attn.k_proj self_attn.v_proj\n"
     "ov self_attn.v_proj[0:40] > self_attn.o_proj\n"
     "norm-linear post_attention_layernorm > mlp.gate_proj mlp.up_proj\n"
     "up-down mlp.up_proj[0:56] > mlp.down_proj\n"},
    {"phi3", 0, SUBGRAPH_OURS,
     "norm-linear input_layernorm > self_attn.qkv_proj\n"
     "ov self_attn.qkv_proj[96:128] > self_attn.o_proj\n"
     "norm-linear post_attention_layernorm > mlp.gate_up_proj\n"
     "up-down mlp.gate_up_proj[56:112] > mlp.down_proj\n"},
    {"deepseek_v32", 1, SUBGRAPH_OURS,
     "norm-linear input_layernorm > self_attn.q_a_proj self_attn.kv_a_proj_with_mqa self_attn.indexer.wk "
     "self_attn.indexer.weights_proj\n"
     "ov self_attn.kv_b_proj[16:64 by 12 of 28] > self_attn.o_proj\n"
     "norm-linear self_attn.q_a_layernorm > self_attn.q_b_proj self_attn.indexer.wq_b\n"
     "norm-linear self_attn.kv_a_layernorm > self_attn.kv_b_proj\n"
     "norm-linear post_attention_layernorm > mlp.shared_experts.gate_proj mlp.shared_experts.up_proj "
     "mlp.experts.0.gate_proj mlp.experts.0.up_proj +mlp.gate.weight\n"
     "up-down mlp.experts.0.up_proj[0:24] > mlp.experts.0.down_proj\n"
     "up-down mlp.shared_experts.up_proj[0:48] > mlp.shared_experts.down_proj\n"},
    {"deepseek_v4", 2, SUBGRAPH_OURS,
     "norm-linear attn_norm > attn.wq_a attn.wkv attn.compressor.wkv attn.compressor.wgate\n"
     "linear-linear attn.wo_a[0:24] > attn.wo_b\n"
     "norm-linear attn.q_norm > attn.wq_b\n"
     "norm-linear ffn_norm > ffn.shared_experts.w1 ffn.shared_experts.w3 ffn.experts.0.w1 ffn.experts.0.w3 "
     "+ffn.gate.weight\n"
     "up-down ffn.experts.0.w2 (run time) > ffn.experts.0.w2\n"
     "up-down ffn.shared_experts.w2 (run time) > ffn.shared_experts.w2\n"},
    {"gemma3", 0, SUBGRAPH_OURS,
     "norm-linear input_layernorm 1+w > self_attn.q_proj self_attn.k_proj self_attn.v_proj\n"
     "ov self_attn.v_proj[0:32] > self_attn.o_proj\n"
     "norm-linear pre_feedforward_layernorm 1+w > mlp.gate_proj mlp.up_proj\n"
     "up-down mlp.up_proj[0:56] > mlp.down_proj\n"},
    {"gpt_oss", 0, SUBGRAPH_OURS,
     "norm-linear input_layernorm > self_attn.q_proj self_attn.k_proj self_attn.v_proj\n"
     "ov self_attn.v_proj[0:32] > self_attn.o_proj\n"
     "norm-linear post_attention_layernorm > mlp.experts.0.gate_proj mlp.experts.0.up_proj +mlp.router.weight "
     "(seen by 4)\n"
     "up-down mlp.experts.0.down_proj (run time) > mlp.experts.0.down_proj\n"},
    {"longcat_flash", 0, SUBGRAPH_OURS,
     "norm-linear input_layernorm.0 > self_attn.0.q_a_proj self_attn.0.kv_a_proj_with_mqa\n"
     "ov self_attn.0.kv_b_proj[16:64 by 12 of 28] > self_attn.0.o_proj\n"
     "norm-linear self_attn.0.q_a_layernorm > self_attn.0.q_b_proj\n"
     "norm-linear self_attn.0.kv_a_layernorm > self_attn.0.kv_b_proj\n"
     "norm-linear mlp.router.classifier (run time) > mlp.router.classifier mlp.experts.0.gate_proj "
     "mlp.experts.0.up_proj mlps.0.gate_proj mlps.0.up_proj\n"
     "up-down mlp.experts.0.up_proj[0:24] > mlp.experts.0.down_proj\n"
     "up-down mlps.0.up_proj[0:64] > mlps.0.down_proj\n"
     "norm-linear input_layernorm.1 > self_attn.1.q_a_proj self_attn.1.kv_a_proj_with_mqa\n"
     "ov self_attn.1.kv_b_proj[16:64 by 12 of 28] > self_attn.1.o_proj\n"
     "norm-linear self_attn.1.q_a_layernorm > self_attn.1.q_b_proj\n"
     "norm-linear self_attn.1.kv_a_layernorm > self_attn.1.kv_b_proj\n"
     "norm-linear post_attention_layernorm.1 > mlps.1.gate_proj mlps.1.up_proj\n"
     "up-down mlps.1.up_proj[0:64] > mlps.1.down_proj\n"},
    {"qwen3_next", 0, SUBGRAPH_OURS,
     "norm-linear input_layernorm 1+w > linear_attn.in_proj_qkvz linear_attn.in_proj_ba\n"
     "ov linear_attn.norm > linear_attn.out_proj\n"
     "norm-linear post_attention_layernorm 1+w > mlp.gate mlp.shared_expert.gate_proj "
     "mlp.shared_expert.up_proj mlp.shared_expert_gate mlp.experts.0.gate_proj mlp.experts.0.up_proj\n"
     "up-down mlp.experts.0.up_proj[0:24] > mlp.experts.0.down_proj\n"
     "up-down mlp.shared_expert.up_proj[0:24] > mlp.shared_expert.down_proj\n"},
    {"qwen3_next", 3, SUBGRAPH_OURS,
     "norm-linear input_layernorm 1+w > self_attn.q_proj self_attn.k_proj self_attn.v_proj\n"
     "ov self_attn.v_proj[0:32] > self_attn.o_proj\n"
     "norm-linear post_attention_layernorm 1+w > mlp.gate mlp.shared_expert.gate_proj "
     "mlp.shared_expert.up_proj mlp.shared_expert_gate mlp.experts.0.gate_proj mlp.experts.0.up_proj\n"
     "up-down mlp.experts.0.up_proj[0:24] > mlp.experts.0.down_proj\n"
     "up-down mlp.shared_expert.up_proj[0:24] > mlp.shared_expert.down_proj\n"},
    {"mixtral", 0, SUBGRAPH_OURS,
     "norm-linear input_layernorm > self_attn.q_proj self_attn.k_proj self_attn.v_proj\n"
     "ov self_attn.v_proj[0:20] > self_attn.o_proj\n"
     "norm-linear post_attention_layernorm > block_sparse_moe.gate block_sparse_moe.experts.0.w1 "
     "block_sparse_moe.experts.0.w3\n"
     "up-down block_sparse_moe.experts.0.w3[0:32] > block_sparse_moe.experts.0.w2\n"},
    {"glm4_moe", -1, SUBGRAPH_OURS,
     "norm-linear input_layernorm > self_attn.q_proj self_attn.k_proj self_attn.v_proj\n"
     "ov self_attn.v_proj[0:32] > self_attn.o_proj\n"
     "norm-linear post_attention_layernorm > mlp.shared_experts.gate_proj mlp.shared_experts.up_proj "
     "mlp.experts.0.gate_proj mlp.experts.0.up_proj +mlp.gate.weight\n"
     "up-down mlp.experts.0.up_proj[0:24] > mlp.experts.0.down_proj\n"
     "up-down mlp.shared_experts.up_proj[0:24] > mlp.shared_experts.down_proj\n"},
    {"deepseek_v2", 1, SUBGRAPH_OURS,
     "norm-linear input_layernorm > self_attn.q_proj self_attn.kv_a_proj_with_mqa\n"
     "ov self_attn.kv_b_proj[16:64 by 12 of 28] > self_attn.o_proj\n"
     "norm-linear self_attn.kv_a_layernorm > self_attn.kv_b_proj\n"
     "norm-linear post_attention_layernorm > mlp.shared_experts.gate_proj mlp.shared_experts.up_proj "
     "mlp.experts.0.gate_proj mlp.experts.0.up_proj +mlp.gate.weight\n"
     "up-down mlp.experts.0.up_proj[0:24] > mlp.experts.0.down_proj\n"
     "up-down mlp.shared_experts.up_proj[0:48] > mlp.shared_experts.down_proj\n"},
    {"qwen3", 0, SUBGRAPH_ITER,
     "norm-linear input_layernorm > self_attn.k_proj self_attn.q_proj self_attn.v_proj\n"
     "norm-linear post_attention_layernorm > mlp.gate_proj mlp.up_proj\n"
     "ov self_attn.v_proj[0:32] > self_attn.o_proj\n"
     "up-down mlp.up_proj[0:56] > mlp.down_proj\n"},
    {"llama", 0, SUBGRAPH_ITER,
     "norm-linear input_layernorm > self_attn.q_proj self_attn.k_proj self_attn.v_proj\n"
     "norm-linear post_attention_layernorm > mlp.gate_proj mlp.up_proj\n"},
    {"qwen2", 0, SUBGRAPH_ITER,
     "norm-linear input_layernorm > self_attn.q_proj self_attn.k_proj self_attn.v_proj\n"
     "norm-linear post_attention_layernorm > mlp.gate_proj mlp.up_proj\n"},
    {"qwen2", 0, SUBGRAPH_AWQ,
     "norm-linear input_layernorm > self_attn.k_proj self_attn.q_proj self_attn.v_proj\n"
     "norm-linear post_attention_layernorm > mlp.gate_proj mlp.up_proj\n"
     "up-down mlp.up_proj[0:56] > mlp.down_proj\n"},
    {"deepseek_v3", 0, SUBGRAPH_FLEX,
     "norm-linear input_layernorm > self_attn.q_a_proj self_attn.kv_a_proj_with_mqa\n"
     "norm-linear self_attn.q_a_layernorm > self_attn.q_b_proj\n"
     "ov self_attn.kv_b_proj[16:64 by 12 of 28] > self_attn.o_proj\n"
     "up-down mlp.up_proj[0:56] > mlp.down_proj\n"},
    {"deepseek_v3", -1, SUBGRAPH_ITER,
     "norm-linear input_layernorm > self_attn.q_a_proj self_attn.kv_a_proj_with_mqa\n"
     "norm-linear self_attn.q_a_layernorm > self_attn.q_b_proj\n"
     "ov self_attn.kv_b_proj[16:64 by 12 of 28] > self_attn.o_proj\n"
     "up-down mlp.shared_experts.up_proj[0:48] > mlp.shared_experts.down_proj\n"
     "up-down mlp.experts.0.up_proj[0:24] > mlp.experts.0.down_proj\n"},
    {"deepseek_v3", 1, SUBGRAPH_SMOOTH,
     "norm-linear input_layernorm > self_attn.q_a_proj self_attn.kv_a_proj_with_mqa\n"
     "norm-linear self_attn.q_a_layernorm > self_attn.q_b_proj\n"
     "norm-linear self_attn.kv_a_layernorm > self_attn.kv_b_proj\n"},
    {"qwen3_moe", 1, SUBGRAPH_ITER,
     "norm-linear input_layernorm > self_attn.k_proj self_attn.q_proj self_attn.v_proj\n"
     "ov self_attn.v_proj[0:32] > self_attn.o_proj\n"
     "up-down mlp.experts.0.up_proj[0:24] > mlp.experts.0.down_proj\n"},
    {"minimax_m2", 0, SUBGRAPH_FLEX,
     "norm-linear input_layernorm > self_attn.q_proj self_attn.k_proj self_attn.v_proj\n"
     "ov self_attn.v_proj[0:32] > self_attn.o_proj\n"
     "up-down block_sparse_moe.experts.0.w3[0:24] > block_sparse_moe.experts.0.w2\n"},
    {"glm4_moe", 1, SUBGRAPH_ITER,
     "norm-linear input_layernorm > self_attn.k_proj self_attn.q_proj self_attn.v_proj\n"
     "ov self_attn.v_proj[0:32] > self_attn.o_proj\n"},
    {"qwen3_next", 3, SUBGRAPH_ITER,
     "norm-linear input_layernorm 1+w > self_attn.k_proj self_attn.q_proj self_attn.v_proj\n"},
    {"qwen3_next", 0, SUBGRAPH_ITER,
     ""},
    {"mixtral", 0, SUBGRAPH_ITER,
     "norm-linear input_layernorm > self_attn.q_proj self_attn.k_proj self_attn.v_proj\n"},
};

static void units_have_what_their_blocks_tell(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        Str text = {0};
        found(units[i].model, units[i].unit, units[i].user, &text);
        if (strcmp(str_text(&text), units[i].want) != 0)
            fail_msg("%s, unit %d, user %d:\n%swanted:\n%s", units[i].model, units[i].unit, (int)units[i].user,
                     str_text(&text), units[i].want);
        str_free(&text);
    }
}

/* One architecture, two adapters of the original's: QwQ's lines are for iter_smooth, the others' for awq. */
static void names_of_one_row_have_tables_of_their_own(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        SubgraphUser user;
        int n, up_down;
        bool table;
    } all[] = {
        {"QwQ-32B", SUBGRAPH_ITER, 3, 1, true},     {"QwQ-32B", SUBGRAPH_AWQ, 2, 0, false},
        {"QwQ-32B", SUBGRAPH_FLEX, 2, 0, false},    {"Qwen2-7B", SUBGRAPH_ITER, 2, 0, false},
        {"Qwen2-7B", SUBGRAPH_AWQ, 3, 1, true},     {"Qwen2.5-7B-Instruct", SUBGRAPH_AWQ, 3, 1, true},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        Model *m;
        Arena a = {0};
        Subgraph *g;
        Error err = {0};
        int n, up_down = 0;
        bool table;
        assert_int_equal(model_open(&m, "tests/golden/models/qwen2/fp32", all[i].type, &err), ST_OK);
        assert_int_equal(subgraphs_of_unit(m, 0, all[i].user, &a, &g, &n, &table, &err), ST_OK);
        for (int k = 0; k < n; k++)
            up_down += g[k].type == SUBGRAPH_UP_DOWN;
        if (n != all[i].n || up_down != all[i].up_down || table != all[i].table)
            fail_msg("%s, user %d: %d sub-graphs, %d of them up-down", all[i].type, (int)all[i].user, n, up_down);
        arena_free(&a);
        model_free(m);
    }
}

/* ---- over all recorded models ---- */

/* A channel of a fold is one row of its source. */
static void check_rows(const Model *m, const Subgraph *g)
{
    const Linear *l = &m->linears[g->source];
    bool *seen = calloc((size_t)l->out, sizeof *seen);
    assert_non_null(seen);
    for (int64_t c = 0; c < g->rows.n; c++) {
        int64_t r = subgraph_row(&g->rows, c);
        assert_in_range(r, 0, l->out - 1);
        assert_false(seen[r]);
        seen[r] = true;
    }
    free(seen);
    assert_int_equal(g->rows.n, g->type == SUBGRAPH_OV ? g->ov.kv_heads * g->ov.head_dim : g->width);
}

/* Every linear of a unit reads channels of exactly one sub-graph, but the output projections within attention whose input
 * nothing describes. */
static void check_unit(const Model *m, int unit)
{
    Arena a = {0};
    Subgraph *g;
    Error err = {0};
    int n;
    const Unit *u = &m->units[unit];
    int *times = calloc((size_t)u->count + 1, sizeof *times);
    assert_non_null(times);
    assert_int_equal(subgraphs_of_unit(m, unit, SUBGRAPH_OURS, &a, &g, &n, NULL, &err), ST_OK);
    for (int i = 0; i < n; i++) {
        assert_true(g[i].ntargets > 0 && g[i].nwatch > 0 && g[i].key[0]);
        for (int t = 0; t < g[i].ntargets; t++) {
            assert_int_equal(m->linears[g[i].targets[t]].in, g[i].width);
            times[g[i].targets[t] - u->first]++;
        }
        if (g[i].source >= 0)
            check_rows(m, &g[i]);
        if (g[i].norm)
            assert_int_equal(g[i].norm->shape[0], subgraph_shares(&g[i]) ? g[i].rows.n : g[i].width / (g[i].norm2 ? 2 : 1));
    }
    for (int i = 0; i < u->count; i++) {
        const Linear *l = &m->linears[u->first + i];
        int want = l->groups > 1 ? 0 : 1;
        if (times[i] != want)
            fail_msg("%s reads channels of %d sub-graphs", l->name, times[i]);
    }
    free(times);
    arena_free(&a);
}

/* The join of multi-token prediction reads two norms; the original has no line for it and finds none. */
static void what_is_joined_has_two_norms(void **state)
{
    (void)state;
    char *dir = mtp_model_write(&(MtpRecipe){.model = "tests/golden/models/glm4_moe/fp32"});
    Model *m = test_model_open(dir, NULL);
    Arena a = {0};
    Subgraph *g;
    Error err = {0};
    Str text = {0};
    int n, unit = m->cfg.layers;
    assert_int_equal(subgraphs_of_unit(m, unit, SUBGRAPH_OURS, &a, &g, &n, NULL, &err), ST_OK);
    for (int i = 0; i < n; i++)
        if (g[i].norm2)
            describe(m, unit, &g[i], &text);
    assert_string_equal(str_text(&text), "norm-linear enorm and hnorm.weight > eh_proj\n");
    check_unit(m, unit);
    for (SubgraphUser u = SUBGRAPH_SMOOTH; u <= SUBGRAPH_AWQ; u = (SubgraphUser)(u << 1)) {
        assert_int_equal(subgraphs_of_unit(m, unit, u, &a, &g, &n, NULL, &err), ST_OK);
        for (int i = 0; i < n; i++)
            assert_null(g[i].norm2);
    }
    str_free(&text);
    arena_free(&a);
    model_free(m);
    temp_remove(dir);
}


static void every_input_belongs_to_one(void **state)
{
    (void)state;
    glob_t dirs;
    assert_int_equal(glob("tests/golden/models/*/fp32/config.json", 0, NULL, &dirs), 0);
    for (size_t i = 0; i < dirs.gl_pathc; i++) {
        char dir[256];
        Model *m;
        Error err = {0};
        snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(dirs.gl_pathv[i], '/') - dirs.gl_pathv[i]), dirs.gl_pathv[i]);
        assert_int_equal(model_open(&m, dir, NULL, &err), ST_OK);
        for (int u = 0; u < model_depth(m); u++)
            check_unit(m, u);
        model_free(m);
    }
    globfree(&dirs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_have_what_their_blocks_tell),
        cmocka_unit_test(names_of_one_row_have_tables_of_their_own),
        cmocka_unit_test(every_input_belongs_to_one),
        cmocka_unit_test(what_is_joined_has_two_norms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
