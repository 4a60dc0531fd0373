/* Size: a checkpoint of 100,000 tensors and 58,000 linears (sparse files). What opening holds, what the table's
 * operations do; CPU times are printed, not asserted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "session/parts.h"
#include "session/results.h"
#include "session/table.h"
#include "tests/lib/fake_model.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/weights.h"
#include "tests/lib/trial.h"
#include "ui/keys.h"
#include "ui/workbench.h"

enum {
    LAYERS = 8333,
    PER_LAYER = 12,
    TENSORS = LAYERS * PER_LAYER + 2,
    LINEARS = LAYERS * 7,
    HIDDEN = 1024,
    INTER = 4096,
    VOCAB = 4096
};

static Error err;
static char *folder; /* holds the model while the tests run */

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

static void put_header(Str *b, uint64_t *at, const char *name, int64_t rows, int64_t cols)
{
    uint64_t bytes = 2 * (uint64_t)rows * (uint64_t)(cols ? cols : 1);
    str_printf(b, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%lld", *at ? "," : "", name, (long long)rows);
    if (cols)
        str_printf(b, ",%lld", (long long)cols);
    str_printf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)*at, (unsigned long long)(*at + bytes));
    *at += bytes;
}

/* A Qwen2 whose weights are holes in one sparse file. */
static int write_model(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t rows, cols;
    } parts[PER_LAYER] = {
        {"self_attn.q_proj.weight", HIDDEN, HIDDEN},     {"self_attn.k_proj.weight", HIDDEN / 4, HIDDEN},
        {"self_attn.v_proj.weight", HIDDEN / 4, HIDDEN}, {"self_attn.o_proj.weight", HIDDEN, HIDDEN},
        {"mlp.gate_proj.weight", INTER, HIDDEN},         {"mlp.up_proj.weight", INTER, HIDDEN},
        {"mlp.down_proj.weight", HIDDEN, INTER},         {"self_attn.q_proj.bias", HIDDEN, 0},
        {"self_attn.k_proj.bias", HIDDEN / 4, 0},        {"self_attn.v_proj.bias", HIDDEN / 4, 0},
        {"input_layernorm.weight", HIDDEN, 0},           {"post_attention_layernorm.weight", HIDDEN, 0},
    };
    folder = temp_folder();
    Str b = {0};
    uint64_t at = 0;
    str_append(&b, "\0\0\0\0\0\0\0\0{", 9);
    put_header(&b, &at, "model.embed_tokens.weight", VOCAB, HIDDEN);
    put_header(&b, &at, "model.norm.weight", HIDDEN, 0);
    for (int l = 0; l < LAYERS; l++)
        for (int k = 0; k < PER_LAYER; k++) {
            char name[96];
            snprintf(name, sizeof name, "model.layers.%d.%s", l, parts[k].name);
            put_header(&b, &at, name, parts[k].rows, parts[k].cols);
        }
    str_putc(&b, '}');
    for (uint64_t i = 0, len = b.len - 8; i < 8; i++)
        b.s[i] = (char)(len >> (8 * i));
    const char *path = temp_path(folder, "model.safetensors");
    temp_put(path, b.s, b.len);
    assert_int_equal(truncate(path, (off_t)(b.len + at)), 0);
    str_free(&b);
    char config[512];
    snprintf(config, sizeof config,
             "{\"model_type\":\"qwen2\",\"hidden_size\":%d,\"intermediate_size\":%d,\"num_hidden_layers\":%d,"
             "\"num_attention_heads\":16,\"num_key_value_heads\":4,\"vocab_size\":%d,\"tie_word_embeddings\":true,"
             "\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-6}",
             HIDDEN, INTER, LAYERS, VOCAB);
    temp_puts(temp_path(folder, "config.json"), config);
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    temp_remove(folder);
    return 0;
}

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

#define TIMED(what, call)                                    \
    do {                                                     \
        double t0_ = cpu_ms();                               \
        call;                                                \
        print_message("# %-34s %7.1f ms\n", what, cpu_ms() - t0_); \
    } while (0)

static Session *open_session(void)
{
    SessionOptions o;
    Session *s;
    session_options_default(&o);
    o.threads = 1;
    ok(session_new(&s, &o, &err));
    TIMED("open model", ok(session_open_model(s, folder, NULL, &err)));
    return s;
}

/* What a row keeps between looks gives the figures of a look without memory. */
static void check_rows(Session *s, double *share)
{
    *share = 0;
    for (int k = 0; k < session_whatifs(s); k++) {
        WhatIf w = *session_whatif(s, k), p;
        ok(session_preview(s, w.pattern, NULL, &p, &err));
        assert_int_equal(w.hits, p.hits);
        assert_int_equal(w.bytes, p.bytes);
        assert_true(w.share > 0 && w.share == p.share);
        assert_int_equal(w.on, p.on);
        assert_true(w.fresh <= w.hits);
        *share += w.share;
    }
}

/* A finished pass with scores that fall in no order; every 5000th failed. */
static void give_scores(Session *s, unsigned long long seed)
{
    unsigned needs = NEED_ORDER | metric_find("local_error")->needs;
    for (int64_t i = 0; i < LINEARS; i++) {
        LinearResult r = {.linear = i, .in = {.values = 1000, .rows = 10, .width = 100, .samples = 1}};
        r.in.kurtosis = (double)(fake_random(&seed) % 1000000) / 100 - 2;
        if (i % 5000 == 4999)
            r.in.bad = true;
        r.err = (LocalError){.have = true, .output_sq = 10};
        for (int k = 0; k < 3; k++) {
            r.err.act_err[k] = (double)(fake_random(&seed) % 1000) * 1e-6;
            r.err.weight_err[k % 2] = (double)(fake_random(&seed) % 1000) * 1e-6;
        }
        results_store(s->results, &r, needs);
    }
    table_scores_changed(s->table);
}

static double varied(const Model *m, int64_t group, int level)
{
    (void)m, (void)level;
    return 1e-6 * (double)(1 + group % 7);
}

/* Scores of all analyses of weights: what their metrics have, and no more. */
static void what_scores_hold(void **state)
{
    (void)state;
    static const char *const names[] = {"weight_error", "weight_outliers", "group_size", "clipping"};
    Model *m;
    Scores all;
    ok(model_open(&m, folder, NULL, &err));
    ok(scores_init(&all, m, &err)); /* room for statistics, which nothing touches here */
    size_t before = heap_bytes();
    for (int k = 0; k < 4; k++)
        for (int64_t i = 0; i < m->nlinears; i++) {
            const Metric *metric = metric_find(names[k]);
            UnitScore u = {.unit = i, .value = (double)(i % 97), .tokens = -1};
            for (int p = 0; p < METRIC_PARTS; p++)
                u.part[p] = (double)(i + p);
            if (i % 1000 == 0)
                snprintf(u.why, sizeof u.why, "a reason of linear %lld", (long long)i);
            ok(scores_put(&all, metric, &u, &err));
        }
    size_t held = heap_bytes() - before;
    for (int k = 0; k < 4; k++)
        for (int64_t i = 0; i < m->nlinears; i += 777) {
            const Metric *metric = metric_find(names[k]);
            const UnitSlot *u = scores_unit(&all, metric, i);
            for (int p = 0; p < metric_parts(metric); p++)
                assert_true(u->s.part[p] == (double)(i + p));
            assert_int_equal(u->s.why[0] != 0, i % 1000 == 0);
            const UnitScore full = scores_unit_full(u, metric, i);
            assert_true(full.unit == i && full.value == (double)(i % 97) && strcmp(full.why, u->s.why) == 0);
        }
    if (before) {
        print_message("# scores: %zu bytes a linear and analysis\n", held / (size_t)m->nlinears / 4);
        assert_true((double)held / (double)m->nlinears * 60000 < 64 << 20);
    }
    scores_fini(&all);
    model_free(m);
}

static void what_opening_holds(void **state)
{
    (void)state;
    size_t before = heap_bytes();
    Model *m;
    ok(model_open(&m, folder, NULL, &err));
    assert_int_equal(checkpoint_count(m->ckpt), TENSORS);
    assert_int_equal(m->nlinears, LINEARS);
    assert_int_equal(checkpoint_bytes_read(m->ckpt), 0);
    size_t held = heap_bytes() - before;
    model_free(m);
    Session *s = open_session();
    size_t all = heap_bytes() - before;
    assert_int_equal(checkpoint_bytes_read(session_model(s)->ckpt), 0);
    if (before) {
        print_message("# model: %zu bytes a tensor; session besides: %zu bytes a linear\n", held / TENSORS,
                      (all - held) / LINEARS);
        assert_true(held / TENSORS <= 400);
        assert_true((all - held) / LINEARS <= 1500);
    }
    session_free(s);
}

static void check_order(Session *s, int64_t want)
{
    int64_t n;
    const int64_t *order = session_order(s, &n, true);
    assert_int_equal(n, want);
    const Metric *m = session_metric(s);
    bool *seen = calloc(LINEARS, 1);
    for (int64_t i = 0; i < n; i++) {
        assert_false(seen[order[i]]);
        seen[order[i]] = true;
        Score a = session_score(s, m, order[i]);
        if (i + 1 < n && a.state == SCORE_OK)
            assert_true(a.value >= session_score(s, m, order[i + 1]).value);
        if (a.state == SCORE_OK && i % 977 == 0 && want == LINEARS)
            assert_in_range(session_rank(s, order[i]), 1, LINEARS);
    }
    free(seen);
}

static void table_operations(void **state)
{
    (void)state;
    static const char *const filters[] = {
        "down_proj", "kind=q_proj layer=100..8000 !77", "score>5000", "float", "failed", ""};
    Session *s = open_session();
    int64_t n;
    give_scores(s, 5);
    TIMED("weights of all groups", give_equal_errors(s, 1e-6));
    ok(session_show(s, "kurtosis", &err));
    TIMED("order by score", session_order(s, &n, true));
    check_order(s, LINEARS);
    TIMED("rank", session_rank(s, 0));
    for (int k = 0; k < SORT_KEYS; k++) {
        ok(session_sort(s, (SortKey)k, false, &err));
        TIMED(sort_key_name((SortKey)k), session_order(s, &n, true));
        assert_int_equal(n, LINEARS);
    }
    ok(session_sort(s, SORT_SCORE, false, &err));
    for (size_t k = 0; k < sizeof filters / sizeof *filters; k++) {
        ok(session_filter(s, filters[k], &err));
        TIMED(filters[k], session_order(s, &n, true));
    }
    check_order(s, LINEARS);
    bool *hits = calloc(LINEARS, 1);
    TIMED("target by pattern", ok(session_target(s, "*layers.{1,6,7?}*.mlp.*", hits, &n, &err)));
    TIMED("target by name", ok(session_target(s, "model.layers.8000.mlp.up_proj", hits, &n, &err)));
    TIMED("a target that hits nothing",
          assert_int_equal(session_target(s, "model.layers.8000.mlp.up_prod", hits, &n, &err), ST_DATA));
    int64_t changed;
    static const char *const one[] = {"model.layers.8000.mlp.up_proj"}, *const many[] = {"*layers.1*"};
    TIMED("exclude one", ok(session_edit(s, one, 1, 0, false, &changed, &err)));
    assert_int_equal(changed, 2);
    TIMED("exclude many", ok(session_edit(s, many, 1, 0, false, &changed, &err)));
    TIMED("undo", ok(session_undo(s, NULL, &err)));
    WhatIf w;
    TIMED("preview", ok(session_preview(s, "*layers.2*.mlp.*", NULL, &w, &err)));
    Prediction p = {0};
    TIMED("predict", p = session_predict(s));
    assert_true(p.have && p.size.quantized == LINEARS - 2);
    for (int k = 10; k < 30; k++) {
        char name[64];
        const char *row[] = {name};
        snprintf(name, sizeof name, "*layers.%d*.down_proj", k);
        ok(session_edit(s, row, 1, 0, false, &changed, &err));
    }
    assert_int_equal(session_whatifs(s), 21); /* that of the undone step is gone */
    int64_t fresh = 0, last;
    TIMED("21 what-if rows, new", for (int k = 0; k < 21; k++) fresh += session_whatif(s, k)->fresh);
    p = session_predict(s);
    assert_int_equal(fresh, p.size.floats); /* each linear is new in one row */
    last = session_whatif(s, 20)->fresh;
    TIMED("undo", ok(session_undo(s, NULL, &err)));
    assert_int_equal(session_whatifs(s), 20);
    TIMED("20 what-if rows after an edit", for (int k = 0; k < 20; k++) fresh -= session_whatif(s, k)->fresh);
    assert_int_equal(fresh, last);
    const char *row[] = {"*.down_proj"};
    ok(session_edit(s, row, 1, 0, false, &changed, &err));
    TIMED("switch off", ok(session_rule_switch(s, "*.down_proj", false, &changed, &err)));
    TIMED("21 rows with one off", for (int k = 0; k < 21; k++) fresh += session_whatif(s, k)->fresh);
    assert_int_equal(session_whatif(s, 20)->fresh, changed);
    assert_false(session_whatif(s, 20)->on);
    assert_true(session_whatif(s, 19)->on);
    ok(session_undo(s, NULL, &err));
    ok(session_undo(s, NULL, &err));
    double before, after;
    check_rows(s, &before);
    give_block_errors(s, varied);
    check_rows(s, &after);
    assert_true(before != after);
    Export e;
    TIMED("export preview", ok(session_export_preview(s, NULL, NULL, &e, &err)));
    export_fini(&e);
    free(hits);
    session_free(s);
}

/* What the folds of a mode hold together: every visible linear once. */
static void check_folds(Session *s, int64_t want_folds, int64_t want_rows)
{
    int64_t n, members = 0;
    session_rows(s, &n, true);
    assert_int_equal(session_folds(s), want_folds);
    assert_int_equal(n, want_rows);
    for (int32_t f = 0; f < want_folds; f++)
        members += session_fold_at(s, f)->count;
    assert_int_equal(members + (n - want_folds), LINEARS);
}

static void folds(void **state)
{
    (void)state;
    static const struct {
        FoldMode mode;
        int64_t folds, rows; /* closed: in a group q, k, v and gate, up; o and down stand alone */
    } cases[] = {{FOLD_NONE, 0, LINEARS},
                 {FOLD_BLOCK, LAYERS, LAYERS},
                 {FOLD_KIND, 7, 7},
                 {FOLD_GROUP, 2 * LAYERS, 4 * LAYERS},
                 {FOLD_EXPERTS, 0, LINEARS}};
    Session *s = open_session();
    int64_t n;
    give_scores(s, 5);
    ok(session_show(s, "kurtosis", &err));
    session_order(s, &n, true);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char what[64];
        snprintf(what, sizeof what, "fold %s", fold_mode_name(cases[i].mode));
        TableWork before = session_table_work(s);
        ok(session_sort(s, SORT_SCORE, false, &err));
        session_order(s, &n, true);
        TIMED(what, ok(session_fold(s, cases[i].mode, &err)); session_rows(s, &n, true));
        TIMED("  figures of all", session_fold_at(s, 0));
        check_folds(s, cases[i].folds, cases[i].rows);
        ok(session_sort(s, SORT_SCORE, true, &err));
        session_order(s, &n, true);
        TIMED("  gathered by the worst, ascending", session_rows(s, &n, true));
        check_folds(s, cases[i].folds, cases[i].rows);
        TIMED("  all opened", session_fold_open_all(s, true); session_rows(s, &n, true));
        assert_int_equal(n, LINEARS + cases[i].folds);
        TableWork after = session_table_work(s);
        assert_int_equal(after.gathered - before.gathered, 2);
        assert_true(after.laid - before.laid <= 3 && after.figured - before.figured <= 2);
    }
    ok(session_fold(s, FOLD_KIND, &err));
    char **target;
    int nt;
    TIMED("target of 8333 linears", ok(session_fold_target(s, 6, &target, &nt, &err)));
    assert_int_equal(nt, 1);
    assert_string_equal(target[0], "*.down_proj");
    free(target[0]);
    free(target);
    session_free(s);
}

static void press(Ui *ui, const char *names)
{
    char copy[200], *save = NULL;
    snprintf(copy, sizeof copy, "%s", names);
    for (char *k = strtok_r(copy, " ", &save); k; k = strtok_r(NULL, " ", &save)) {
        unsigned bits = ui_key(ui, key_parse(k));
        if (bits & DO_RELAYOUT)
            ui_set_size(ui, ui->rows, ui->cols);
        ui_paint(ui);
    }
}

static void keys_and_paint(void **state)
{
    (void)state;
    static const char *const keys[] = {"j", "PgDn", "End", "Home", "x", "u", "Space", "s", "b", "/ 8 0 0 0 Enter",
                                       "n", "2",    "1",   "5",    "1", "7", "1"};
    char *dir = temp_folder();
    setenv("XDG_STATE_HOME", dir, 1);
    setenv("XDG_CONFIG_HOME", dir, 1);
    App app;
    ok(app_init(&app, FACE_UI, &err));
    free((char *)app.options.state_dir);
    app.options.state_dir = NULL;
    app.session = open_session();
    give_scores(app.session, 5);
    Ui *ui;
    ScreenOptions o = {.color = -1, .cols = 120, .rows = 40};
    ok(ui_new(&ui, &app, &o, &err));
    TIMED("first paint", ui_paint(ui));
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        TIMED(keys[k], press(ui, keys[k]));
    static const struct {
        const char *keys;
        int gathered, laid, figured; /* what it costs at most */
    } folded[] = {{"f", 1, 1, 1},    {"j j j j", 0, 0, 0}, {"PgDn PgDn PgUp", 0, 0, 0}, {"End k k Home", 0, 0, 0},
                  {"o", 0, 1, 0},    {"j j k", 0, 0, 0},   {"O", 0, 1, 0},              {"End", 0, 0, 0},
                  {"O", 0, 1, 0},    {"x", 0, 0, 1},       {"u", 0, 0, 1},              {"Space", 0, 0, 1},
                  {"f", 1, 1, 1},    {"g x", 0, 0, 1},     {"u", 0, 0, 1},              {"> >", 2, 2, 2},
                  {"I", 1, 1, 1},    {"2", 0, 0, 0},       {"1", 0, 0, 0},              {"f", 1, 1, 1},
                  {"Enter j", 0, 0, 0}};
    for (size_t k = 0; k < sizeof folded / sizeof *folded; k++) {
        TableWork before = session_table_work(app.session);
        TIMED(folded[k].keys, press(ui, folded[k].keys));
        TableWork after = session_table_work(app.session);
        if (after.gathered - before.gathered > (uint64_t)folded[k].gathered ||
            after.laid - before.laid > (uint64_t)folded[k].laid ||
            after.figured - before.figured > (uint64_t)folded[k].figured)
            fail_msg("'%s' gathers %d times, lays out %d times, counts %d times", folded[k].keys,
                     (int)(after.gathered - before.gathered), (int)(after.laid - before.laid),
                     (int)(after.figured - before.figured));
    }
    Str text = {0};
    ui_dump(ui, &text);
    assert_non_null(strstr(str_text(&text), "layers."));
    str_free(&text);
    ui_free(ui);
    app_fini(&app);
    temp_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_scores_hold),
        cmocka_unit_test(what_opening_holds),
        cmocka_unit_test(table_operations),
        cmocka_unit_test(folds),
        cmocka_unit_test(keys_and_paint),
    };
    return cmocka_run_group_tests(tests, write_model, remove_model);
}
