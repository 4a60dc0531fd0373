/* What a session that is gone on with knows: its model, its data, its stopped work. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/file.h"
#include "session/session.h"
#include "tests/lib/random_model.h"
#include "tests/lib/tempdir.h"

static Error err;
static char *root;
static char model[64];
static const char texts[] = "{\"input_ids\":[1,2,3,4,5,6,7,8]}\n{\"input_ids\":[9,8,7,6,5,4]}\n";

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

static int begin(void **state)
{
    (void)state;
    const RandomShape shape = {.model_type = "llama", .layers = 4, .heads = 2, .kv_heads = 1, .head_dim = 8, .hidden = 16,
                               .inter = 24, .vocab = 64, .dtype = DT_F32, .seed = 7};
    random_model_write(&shape, model);
    root = temp_folder();
    temp_puts(temp_path(root, "texts.jsonl"), texts);
    return 0;
}

static int end(void **state)
{
    (void)state;
    char cmd[200];
    snprintf(cmd, sizeof cmd, "rm -rf '%s/sessions'", root);
    assert_int_equal(system(cmd), 0);
    random_model_remove(model);
    temp_remove(root);
    return 0;
}

static SessionOptions options(void)
{
    SessionOptions o;
    session_options_default(&o);
    o.threads = 1;
    o.ctx = 4;
    o.state_dir = root;
    return o;
}

static Session *open_session(char id[40])
{
    SessionOptions o = options();
    Session *s;
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, model, NULL, &err));
    ok(session_set_calib(s, temp_path(root, "texts.jsonl"), &err));
    ok(session_set_eval(s, temp_path(root, "texts.jsonl"), &err));
    snprintf(id, 40, "%s", session_id(s));
    return s;
}

static void analyze(Session *s)
{
    static const char *const names[] = {"kurtosis", "local_error", NULL};
    ok(session_analyze(s, names, NULL, 0, false, &err));
    ok(session_wait(s, &err));
}

/* A fine-tune: the same config, names and shapes. */
static void tune(void)
{
    char path[100];
    size_t n;
    snprintf(path, sizeof path, "%s/model.safetensors", model);
    char *bytes = temp_get(path, &n);
    bytes[n - 5] ^= 1;
    temp_put(path, bytes, n);
    free(bytes);
}

static void another_model_is_not_gone_on_with(void **state)
{
    (void)state;
    char id[40], print[65];
    Session *s = open_session(id);
    analyze(s);
    const Metric *kurtosis = metric_find("kurtosis");
    double was = session_score(s, kurtosis, 3).value;
    snprintf(print, sizeof print, "%s", session_model(s)->fingerprint);
    ok(session_close(s, &err));
    tune();
    SessionOptions o = options();
    assert_int_equal(session_restore(&s, &o, id, &err), ST_DATA);
    assert_non_null(strstr(err.text, "has changed since"));
    assert_non_null(strstr(err.text, "--force"));
    print[16] = 0;
    assert_non_null(strstr(err.text, print));
    o.force = true;
    ok(session_restore(&s, &o, id, &err));
    assert_int_equal(session_score(s, kurtosis, 3).state, SCORE_STALE);
    assert_true(session_score(s, kurtosis, 3).value == was);
    ok(session_close(s, &err));
    o.force = false; /* said once */
    ok(session_restore(&s, &o, id, &err));
    assert_int_equal(session_score(s, kurtosis, 3).state, SCORE_STALE);
    ok(session_close(s, &err));
    tune(); /* the first one again */
    assert_int_equal(session_restore(&s, &o, id, &err), ST_DATA);
}

static char *exported(Session *s)
{
    size_t n;
    ok(session_export(s, temp_path(root, "out.yaml"), true, &err));
    return temp_get(temp_path(root, "out.yaml"), &n);
}

static void provenance_comes_back(void **state)
{
    (void)state;
    char id[40];
    Session *s = open_session(id);
    analyze(s);
    ok(session_measure(s, false, &err));
    ok(session_wait(s, &err));
    char *before = exported(s), want[200];
    snprintf(want, sizeof want, "# slimscope: calibration: texts.jsonl, sha256 %.16s, 2 samples, 14 tokens",
             session_calib_info(s).sha256);
    assert_non_null(strstr(before, want));
    snprintf(want, sizeof want, "fingerprint %.16s", session_model(s)->fingerprint);
    assert_non_null(strstr(before, want));
    ok(session_close(s, &err));
    SessionOptions o = options();
    ok(session_restore(&s, &o, id, &err));
    assert_int_equal(session_eval_info(s).tokens, 14);
    char *after = exported(s);
    assert_string_equal(before, after);
    ok(session_close(s, &err));
    free(before);
    free(after);
}

/* A session is resumed wherever one stands. */
static void data_is_found_from_another_folder(void **state)
{
    (void)state;
    char id[40], here[4096];
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(root), 0);
    SessionOptions o = options();
    Session *s;
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, model, NULL, &err));
    ok(session_set_calib(s, "texts.jsonl", &err));
    assert_string_equal(session_calib(s), "texts.jsonl");
    snprintf(id, sizeof id, "%s", session_id(s));
    analyze(s);
    ok(session_close(s, &err));
    assert_int_equal(chdir(here), 0);
    ok(session_restore(&s, &o, id, &err));
    assert_int_equal(session_score(s, metric_find("kurtosis"), 0).state, SCORE_OK);
    ok(session_close(s, &err));
}

#define WITH_MODEL(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_MODEL(another_model_is_not_gone_on_with),
        WITH_MODEL(provenance_comes_back),
        WITH_MODEL(data_is_found_from_another_folder),
    };
    return cmocka_run_group_tests_name("resume", tests, NULL, NULL);
}
