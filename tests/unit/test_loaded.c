/* Scores of other programs: what the readers make of files, good and bad, and a session that keeps them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "export/scorefile.h"
#include "session/session.h"
#include "tests/lib/tempdir.h"

static const char folder[] = "tests/golden/models/llama/fp32";

/* ---- readers ---- */

static Status read_bytes(const void *bytes, size_t n, const char *path, ScoreFile *f, Error *e)
{
    char *text = malloc(n + 1);
    memcpy(text, bytes, n);
    text[n] = '\0';
    *e = (Error){0};
    Status st = score_file_read(text, n, path, NULL, f, e);
    free(text);
    return st;
}

static void tables_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text, *column; /* column NULL: without a name */
        int columns;
        double first;
    } row[] = {
        {"name,score\na.b,1.5\nc,2\n", NULL, 1, 1.5},
        {"a.b,1.5\nc,2", NULL, 1, 1.5},
        {"layer\tscore\r\na.b\t-2e-3\r\n", NULL, 1, -2e-3},
        {"metric,rank,name,score,group\nkurtosis,1,a.b,7,\nstd,1,a.b,8,\n", "kurtosis", 2, 7},
        {"name,group,level,bits,bytes,kurtosis,std\n\"a.b\",g,W8A8,8.2,12,3,4\n", "kurtosis", 2, 3},
        {"{\"a.b\": 4, \"c\": null}", NULL, 1, 4},
        {"[{\"name\": \"a.b\", \"score\": 5}]", NULL, 1, 5},
        {"{\"metric\":\"m\",\"layers\":[{\"name\":\"a.b\",\"score\":6}]}", "m", 1, 6},
        {"{\"runs\":[{\"metric\":\"m\",\"layers\":[{\"name\":\"a.b\",\"score\":6}]},{\"metric\":\"k\",\"layers\":[{\"name\":\"a.b\","
         "\"score\":9}]}]}", "m", 2, 6},
        {"x - INFO - === Layer Analysis Results (std method) ===\nx - INFO -   1. a.b   | Score:   1.25e+01\n", "std", 1, 12.5},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        ScoreFile f;
        Error e;
        if (read_bytes(row[i].text, strlen(row[i].text), "x", &f, &e) != ST_OK)
            fail_msg("%s: %s", row[i].text, e.text);
        assert_int_equal(f.n, row[i].columns);
        assert_string_equal(f.column[0].name ? f.column[0].name : "", row[i].column ? row[i].column : "");
        assert_string_equal(f.column[0].score[0].name, "a.b");
        assert_float_equal(f.column[0].score[0].value, row[i].first, 0);
        score_file_fini(&f);
    }
}

static void bad_files_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } row[] = {
        {"", "nothing is in it"},
        {"hello world", "no column is called name"},
        {"name,score\n", "no scores are in it"},
        {"name,score\na,1\na,2\n", "'a' is there twice"},
        {"name,score\na,x\n", "line 2 has no number for its score"},
        {"name,score\n\"a,1\n", "line 2: a quote is not closed"},
        {"name,score\n,1\n", "a score without a name"},
        {"{\"a\": \"b\"}", "'a' has no number"},
        {"{\"a\": 1", "can't be read as JSON"},
        {"[1]", "no object with name and score"},
        {"3", "no column is called name"},
        {"1. a | Score: 2\n", "before the line that names their metric"},
        {"=== Layer Analysis Results (std method) ===\n 1. a | Score: x\n", "no name or no number"},
        {"=== Layer Analysis Results (std method) ===\n 1. a | Score: 1\n 2. a | Score: 1\n", "'a' is there twice"},
        {"GGUF\3", "it is cut off"},
        {"GGUF\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t", "GGUF version"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        ScoreFile f;
        Error e;
        assert_int_equal(read_bytes(row[i].text, strlen(row[i].text), "x", &f, &e), ST_DATA);
        if (!strstr(e.text, row[i].says))
            fail_msg("no '%s' in: %s", row[i].says, e.text);
        score_file_fini(&f);
    }
}

/* Every beginning of an imatrix is refused, or (of the older form, whose end is free) is the whole. */
static void cut_off_matrices(void **state)
{
    (void)state;
    static const unsigned char dat[] = {1, 0, 0, 0, 3, 0, 0, 0, 'a', '.', 'b', 2, 0, 0, 0, 2, 0, 0, 0,
                                        0, 0, 128, 63, 0, 0, 0, 64, 2, 0, 0, 0};
    for (size_t n = 0; n <= sizeof dat; n++) {
        ScoreFile f;
        Error e;
        Status st = read_bytes(dat, n, "x.dat", &f, &e);
        assert_int_equal(st, n < 27 ? ST_DATA : ST_OK);
        if (st == ST_OK)
            assert_float_equal(f.column[0].score[0].value, 1.5, 0); /* (1 + 2) / 2 calls */
        score_file_fini(&f);
    }
}

static void numbers(void **state)
{
    (void)state;
    static const char *const good[] = {"1", "-1.5e-3", "nan", "-inf", "NaN", " 2 ", "+.5"};
    static const char *const bad[] = {"", " ", "x", "1 2", "0x10", "1e", "nano", "--1", "infinite"};
    double v;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!score_number(good[i], &v))
            fail_msg("'%s' is none", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (score_number(bad[i], &v))
            fail_msg("'%s' is %g", bad[i], v);
}

/* ---- a session ---- */

static Error err;
static char *root;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

static SessionOptions options(void)
{
    SessionOptions o;
    session_options_default(&o);
    o.threads = 1;
    o.state_dir = root;
    return o;
}

static Session *open_session(char id[40])
{
    SessionOptions o = options();
    Session *s;
    root = temp_folder();
    o.state_dir = root;
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, folder, NULL, &err));
    snprintf(id, 40, "%s", session_id(s));
    return s;
}

static double score_of(const Session *s, const char *metric, const char *name)
{
    const Metric *m = session_metric_find(s, metric);
    assert_non_null(m);
    Score score = session_score(s, m, model_find_linear(session_model(s), name));
    return score.state == SCORE_OK ? score.value : NAN;
}

static void a_session_keeps_them(void **state)
{
    (void)state;
    char id[40];
    Session *s = open_session(id);
    SessionOptions o = options();
    Str what = {0};
    temp_puts(temp_path(root, "a.csv"), "name,score\nmodel.layers.0.mlp.up_proj,3\nmodel.layers.1.mlp.up_proj.weight,4\nelsewhere,5\n"
                                        "model.layers.2.mlp.up_proj,nan\n");
    ok(session_load_scores(s, temp_path(root, "a.csv"), NULL, &what, &err));
    assert_string_equal(str_text(&what), "2 scores of linears loaded from a.csv (CSV) as 'a'; 1 name is no linear of the model, "
                                         "first 'elsewhere' (nearest: 'model.layers.0.mlp.up_proj'); 1 value is no number");
    ok(session_load_scores(s, "tests/golden/analysis/llama-fp32.std.log", "peer", NULL, &err));
    ok(session_show(s, "peer", &err));
    ok(session_set(s, "max-samples", "3", &err)); /* other data: theirs is what it was */
    assert_int_equal(session_close(s, &err), ST_OK);

    ok(session_restore(&s, &o, id, &err));
    assert_string_equal(session_metric(s)->name, "peer");
    assert_string_equal(session_metric(s)->loaded->file, "llama-fp32.std.log");
    assert_float_equal(score_of(s, "peer", "model.layers.2.mlp.gate_proj"), 14.911, 1e-9);
    assert_float_equal(score_of(s, "a", "model.layers.0.mlp.up_proj"), 3, 0);
    assert_float_equal(score_of(s, "a", "model.layers.1.mlp.up_proj"), 4, 0);
    assert_true(isnan(score_of(s, "a", "model.layers.2.mlp.up_proj")));
    int64_t n;
    const int64_t *order = session_order(s, &n, true);
    assert_int_equal(n, 21);
    assert_string_equal(session_model(s)->linears[order[0]].name, "model.layers.2.mlp.gate_proj");

    /* the same name again replaces, also while it is shown */
    temp_puts(temp_path(root, "b.json"), "{\"model.layers.1.self_attn.o_proj\": 7}");
    ok(session_load_scores(s, temp_path(root, "b.json"), "peer", NULL, &err));
    order = session_order(s, &n, true);
    assert_string_equal(session_model(s)->linears[order[0]].name, "model.layers.1.self_attn.o_proj");
    assert_int_equal(metric_list_len(session_metrics(s)), metric_count() + 2);

    /* another model has none of them */
    ok(session_open_model(s, "tests/golden/models/qwen3/fp32", NULL, &err));
    assert_null(session_metric_find(s, "peer"));
    assert_null(session_metric(s)->loaded);
    session_free(s);
    str_free(&what);
    temp_remove(root);
}

static void what_is_refused(void **state)
{
    (void)state;
    char id[40];
    Session *s = open_session(id);
    static const struct {
        const char *text, *file, *as, *says;
        Status st;
    } row[] = {
        {"a,1\nb,2\n", "a.csv", NULL, "no name of 'a.csv' is a layer of the model: the first is 'a'", ST_DATA},
        {"model.layers.0.mlp.up_proj,nan\n", "a.csv", NULL, "no score of 'a.csv' is a number", ST_DATA},
        {"model.layers.0.mlp.up_proj,1\n", "a.csv", "std", "'std' is the name of a metric that is made here", ST_USAGE},
        {"apiversion: none\n", "a.yaml", NULL, "a.yaml", ST_DATA},
        {NULL, "none.csv", NULL, "none.csv", ST_IO},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        if (row[i].text)
            temp_puts(temp_path(root, row[i].file), row[i].text);
        assert_int_equal(session_load_scores(s, temp_path(root, row[i].file), row[i].as, NULL, &err), row[i].st);
        if (!strstr(err.text, row[i].says))
            fail_msg("no '%s' in: %s", row[i].says, err.text);
        assert_int_equal(metric_list_len(session_metrics(s)), metric_count());
    }
    temp_puts(temp_path(root, "std.csv"), "model.layers.0.mlp.up_proj,1\n"); /* a file of a metric's name gets another */
    ok(session_load_scores(s, temp_path(root, "std.csv"), NULL, NULL, &err));
    assert_non_null(session_metric_find(s, "loaded.std"));
    static const char *const names[] = {"loaded.std", NULL};
    assert_int_equal(session_analyze(s, names, NULL, 0, false, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "'loaded.std' was loaded from std.csv"));
    session_free(s);
    temp_remove(root);
}

/* The float layers of a recipe have score 1. */
static void a_recipe_is_a_column(void **state)
{
    (void)state;
    char id[40];
    Session *s = open_session(id);
    temp_puts(temp_path(root, "r.yaml"),
              "apiversion: modelslim_v1\nspec:\n  process:\n    - type: linear_quant\n      qconfig: {act: {scope: per_tensor, dtype: "
              "int8, symmetric: false, method: minmax}, weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}\n"
              "      exclude: ['*down_proj']\n");
    ok(session_load_scores(s, temp_path(root, "r.yaml"), NULL, NULL, &err));
    assert_float_equal(score_of(s, "r", "model.layers.1.mlp.down_proj"), 1, 0);
    assert_float_equal(score_of(s, "r", "model.layers.1.mlp.up_proj"), 0, 0);
    session_free(s);
    temp_remove(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_read),      cmocka_unit_test(bad_files_are_told), cmocka_unit_test(cut_off_matrices),
        cmocka_unit_test(numbers),              cmocka_unit_test(a_session_keeps_them), cmocka_unit_test(what_is_refused),
        cmocka_unit_test(a_recipe_is_a_column),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
