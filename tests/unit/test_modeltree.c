/* The tensors of a model as a tree: each once, with the sums of what is below, and on the screen. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "session/modeltree.h"
#include "tests/lib/screen_world.h"
#include "tests/lib/tempdir.h"
#include "ui/keys.h"

static Error err;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

static Session *open_model(const char *path)
{
    SessionOptions o;
    Session *s;
    session_options_default(&o);
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, path, NULL, &err));
    return s;
}

static void full_name(const ModelTree *t, int32_t i, Str *out)
{
    if (t->node[i].parent >= 0) {
        full_name(t, t->node[i].parent, out);
        str_putc(out, '.');
    }
    str_puts(out, t->node[i].name);
}

static void check_sums(const ModelTree *t, int32_t i)
{
    const TreeNode *x = &t->node[i];
    int64_t tensors = x->tensor != NULL, linears = x->tensor ? x->linears : 0;
    uint64_t bytes = x->tensor ? x->tensor->nbytes : 0;
    DType type = x->tensor ? x->tensor->dtype : DT_COUNT;
    bool several = false;
    for (int32_t k = i + 1; k < x->end; k++) {
        assert_true(t->node[k].depth > x->depth);
        if (!t->node[k].tensor)
            continue;
        several = several || (tensors && t->node[k].tensor->dtype != type);
        type = tensors ? type : t->node[k].tensor->dtype;
        tensors++;
        linears += t->node[k].linears;
        bytes += t->node[k].tensor->nbytes;
    }
    assert_int_equal(x->tensors, tensors);
    assert_int_equal(x->linears, linears);
    assert_int_equal(x->bytes, bytes);
    assert_int_equal(x->dtype, several ? DT_COUNT : type);
}

static void every_tensor_stands_once(void **state)
{
    (void)state;
    static const char *const models[] = {"lab_models/demo", "tests/golden/models/qwen3_moe/fp32",
                                         "tests/golden/models/deepseek_v3/fp32"};
    for (size_t k = 0; k < sizeof models / sizeof *models; k++) {
        Session *s = open_model(models[k]);
        const Checkpoint *c = session_model(s)->ckpt;
        ModelTree t;
        int64_t leaves = 0, linears = 0;
        ok(model_tree_make(s, &t, &err));
        for (int32_t i = 0; i < t.n; i++) {
            check_sums(&t, i);
            if (!t.node[i].tensor)
                continue;
            Str name = {0};
            full_name(&t, i, &name);
            assert_string_equal(str_text(&name), t.node[i].tensor->name);
            assert_ptr_equal(checkpoint_find(c, str_text(&name)), t.node[i].tensor);
            str_free(&name);
            leaves++;
            linears += t.node[i].linears;
            if (t.node[i].linear >= 0)
                assert_memory_equal(session_model(s)->linears[t.node[i].linear].name, t.node[i].tensor->name,
                                    strlen(session_model(s)->linears[t.node[i].linear].name));
        }
        assert_int_equal(leaves, checkpoint_count(c));
        assert_int_equal(linears, session_model(s)->nlinears);
        model_tree_free(&t);
        session_free(s);
    }
}

static int32_t node_of(const ModelTree *t, const char *name)
{
    for (int32_t i = 0; i < t->n; i++)
        if (strcmp(t->node[i].name, name) == 0)
            return i;
    fail_msg("no node %s", name);
    return -1;
}

static void levels_are_those_of_the_decision(void **state)
{
    (void)state;
    static const char *const down[] = {"*layers.1.mlp.down_proj"}, *const all[] = {"*layers.2.*"};
    Session *s = open_model("lab_models/demo");
    ModelTree t;
    ok(model_tree_make(s, &t, &err));
    assert_int_equal(t.node[node_of(&t, "model.layers.1")].depth, 0);
    assert_int_equal(t.node[node_of(&t, "mlp")].depth, 1);
    ok(session_edit(s, down, 1, 0, false, NULL, &err));
    ok(session_edit(s, all, 1, 0, false, NULL, &err));
    TreeLevels l = model_tree_levels(s, &t, node_of(&t, "model.layers.0"));
    assert_true(l.linears == 7 && l.floats == 0 && l.level == 1);
    l = model_tree_levels(s, &t, node_of(&t, "model.layers.1"));
    assert_true(l.linears == 7 && l.floats == 1 && l.level == 1);
    l = model_tree_levels(s, &t, node_of(&t, "model.layers.2"));
    assert_true(l.linears == 7 && l.floats == 7 && l.level == -1);
    l = model_tree_levels(s, &t, node_of(&t, "model.norm.weight"));
    assert_int_equal(l.linears, 0);
    model_tree_free(&t);
    session_free(s);
}

static void the_screen_unfolds(void **state)
{
    (void)state;
    static const struct {
        int cols, rows;
    } sizes[] = {{60, 15}, {80, 24}, {100, 30}, {200, 60}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        World w;
        world_open(&w, sizes[i].cols, sizes[i].rows, "ascii", true, false);
        world_keys(&w, "7 j j");
        world_shows(&w, "+ model.layers.1", true);
        world_keys(&w, "Enter");
        world_shows(&w, "- model.layers.1", true);
        world_shows(&w, "+ mlp", true);
        world_keys(&w, "j j l j");
        world_shows(&w, "down_proj.weight", true);
        world_shows(&w, "float", true); /* as the recorded session decided */
        world_keys(&w, "Enter");
        assert_string_equal(session_model(w.app.session)->linears[session_cursor(w.app.session)].name,
                            "model.layers.1.mlp.down_proj");
        world_keys(&w, "7 h h");
        world_shows(&w, "+ model.layers.1", true);
        world_keys(&w, "/");
        world_type(&w, "7.mlp.up");
        world_keys(&w, "Enter");
        world_shows(&w, "match 1 of 1", true);
        world_shows(&w, "up_proj.weight", true);
        world_keys(&w, "g Enter"); /* the embedding */
        world_shows(&w, "of no linear", true);
        if (sizes[i].cols < 100)
            world_keys(&w, "Tab");
        world_shows(&w, "architecture: Qwen 3", true);
        world_close(&w);
    }
}

/* Tensors and those above them, by a filter's words; each counted by its own name. */
static void a_filter_shows_what_holds_all_words(void **state)
{
    (void)state;
    Session *s = open_model("lab_models/demo");
    ModelTree t;
    ok(model_tree_make(s, &t, &err));
    bool *shown = calloc((size_t)t.n, sizeof *shown);
    int64_t hits, all = 0;
    const char *const down = "*.1.mlp.down_proj";
    ok(session_edit(s, &down, 1, 0, false, NULL, &err));
    static const struct {
        const char *expr;
        int64_t hits;
    } rows[] = {{"", 90},          {"DOWN_proj", 8}, {"down_proj float", 1}, {"down_proj !float", 7}, {"quantized", 55}, {"copied", 34},
                {"type=bf16", 90}, {"type=F32", 0},  {"size>1M", 1},         {"size<100", 16},        {"layers.1.", 11}, {"nothing", 0}};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        ok(model_tree_filter(s, &t, rows[r].expr, shown, &hits, &err));
        if (hits != rows[r].hits)
            fail_msg("'%s': %lld", rows[r].expr, (long long)hits);
        all = 0;
        for (int32_t i = 0; i < t.n; i++) {
            all += shown[i] && t.node[i].tensor;
            assert_true(!shown[i] || t.node[i].parent < 0 || shown[t.node[i].parent]);
            bool any = false;
            for (int32_t k = i; k < t.node[i].end; k++)
                any = any || (shown[k] && t.node[k].tensor);
            assert_int_equal(shown[i], any); /* nothing stands there empty */
        }
        assert_int_equal(all, hits);
    }
    assert_int_equal(model_tree_filter(s, &t, "size>much", shown, &hits, &err), ST_USAGE);
    free(shown);
    model_tree_free(&t);
    session_free(s);
}

/* It is the session's: refused as a whole, kept with the view, gone with the model. */
static void the_filter_is_kept(void **state)
{
    (void)state;
    char *dir = temp_folder(), id[40];
    SessionOptions o;
    Session *s;
    session_options_default(&o);
    o.state_dir = dir;
    ok(session_new(&s, &o, &err));
    assert_int_equal(session_tensor_filter(s, "x", &err), ST_USAGE);
    ok(session_open_model(s, "lab_models/demo", NULL, &err));
    ok(session_tensor_filter(s, "down_proj !float", &err));
    assert_int_equal(session_tensor_filter(s, "q_proj size>much", &err), ST_USAGE);
    assert_string_equal(session_tensor_filter_text(s), "down_proj !float");
    const char *const down = "*.1.mlp.down_proj";
    ok(session_edit(s, &down, 1, 0, false, NULL, &err)); /* worth keeping */
    ok(session_record(s, "tensors filter 'down_proj !float'", &err));
    snprintf(id, sizeof id, "%s", session_id(s));
    session_free(s);
    ok(session_restore(&s, &o, id, &err));
    assert_string_equal(session_tensor_filter_text(s), "down_proj !float");
    ok(session_open_model(s, "lab_models/demo", NULL, &err));
    assert_string_equal(session_tensor_filter_text(s), "");
    session_free(s);
    temp_remove(dir);
}

static const char *why_of(const Session *s, const ModelTree *t, const char *name, const char **arg)
{
    for (int32_t i = 0; i < t->n; i++)
        if (t->node[i].tensor && strcmp(t->node[i].tensor->name, name) == 0)
            return model_tree_why(s, t, i, arg);
    fail_msg("there is no %s", name);
    return "";
}

static void what_stays_float_says_why(void **state)
{
    (void)state;
    Session *s = open_model("lab_models/demo");
    ModelTree t;
    const char *arg, *const down = "*.1.mlp.down_proj";
    ok(model_tree_make(s, &t, &err));
    assert_string_equal(why_of(s, &t, "model.layers.1.mlp.down_proj.weight", &arg), "");
    assert_non_null(strstr(why_of(s, &t, "model.norm.weight", &arg), "a norm"));
    assert_non_null(strstr(why_of(s, &t, "model.embed_tokens.weight", &arg), "an embedding"));
    ok(session_edit(s, &down, 1, 0, false, NULL, &err));
    assert_string_equal(why_of(s, &t, "model.layers.1.mlp.down_proj.weight", &arg), "float by the rule '%s' on What-if (2)");
    assert_string_equal(arg, down);
    assert_string_equal(why_of(s, &t, "model.layers.2.mlp.down_proj.weight", &arg), "");
    ok(session_undo(s, NULL, &err));
    ok(session_open_recipe(s, "tests/golden/config/broken/00-good-base.yaml", NULL, &err));
    for (int64_t i = 0; i < session_model(s)->nlinears; i++)
        if (session_level_of(s, i) == 0)
            assert_non_null(strstr(why_of(s, &t, session_model(s)->linears[i].weight->name, &arg), "the recipe leaves it float"));
    model_tree_free(&t);
    session_free(s);
}

static void the_screen_filters_and_checks(void **state)
{
    (void)state;
    World w;
    world_open(&w, 80, 24, "ascii", true, false);
    world_keys(&w, "7");
    world_shows(&w, "in model.safetensors, from byte", true);
    world_keys(&w, "\\");
    world_type(&w, "down_proj");
    world_shows(&w, "8 tensors of 90 pass", true);
    world_keys(&w, "Enter");
    world_shows(&w, "8 of 90 tensors", true);
    world_shows(&w, "q_proj", false);
    world_keys(&w, "\\");
    world_type(&w, " size>x");
    world_shows(&w, "'x' is no size", true);
    world_keys(&w, "Esc");
    world_shows(&w, "8 of 90 tensors", true); /* as it was before */
    assert_string_equal(session_tensor_filter_text(w.app.session), "down_proj");
    world_keys(&w, "\\");
    world_type(&w, " size>x");
    world_keys(&w, "Enter"); /* refused: what was there before stays, and no part of what was typed */
    world_shows(&w, "'x' is no size", true);
    assert_string_equal(session_tensor_filter_text(w.app.session), "down_proj");
    world_keys(&w, "Esc");
    world_shows(&w, "8 of 90", false);
    world_keys(&w, ":");
    world_type(&w, "tensors filter q_proj");
    world_keys(&w, "Enter");
    world_shows(&w, "8 of 90 tensors", true); /* a command from anywhere, so that a history does it again */
    world_shows(&w, "down_proj", false);
    world_keys(&w, "Esc");
    world_keys(&w, "c");
    world_shows(&w, "under w8a8_static as decided now", true);
    world_shows(&w, "[ok] fused groups whole", true);
    world_keys(&w, "q");
    Error why = {ST_OK, ""};
    assert_int_equal(app_execute(&w.app, "check lab_models/demo", &why), ST_USAGE);
    world_close(&w);
}

int main(void)
{
    setlocale(LC_ALL, "C.UTF-8");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_filter_shows_what_holds_all_words),
        cmocka_unit_test(what_stays_float_says_why),
        cmocka_unit_test(the_screen_filters_and_checks),
        cmocka_unit_test(the_filter_is_kept),
        cmocka_unit_test(every_tensor_stands_once),
        cmocka_unit_test(levels_are_those_of_the_decision),
        cmocka_unit_test(the_screen_unfolds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
