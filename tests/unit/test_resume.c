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
#include "tests/lib/demo_session.h"
#include "tests/lib/small_session.h"
#include "tests/lib/tempdir.h"

static Error err;

static void ok(Status st)
{
    session_ok(st, &err);
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
    snprintf(path, sizeof path, "%s/model.safetensors", small_model);
    char *bytes = temp_get(path, &n);
    bytes[n - 5] ^= 1;
    temp_put(path, bytes, n);
    free(bytes);
}

static void another_model_is_not_gone_on_with(void **state)
{
    (void)state;
    char id[40], print[65];
    Session *s = small_session(id);
    analyze(s);
    const Metric *kurtosis = metric_find("kurtosis");
    double was = session_score(s, kurtosis, 3).value;
    snprintf(print, sizeof print, "%s", session_model(s)->fingerprint);
    ok(session_close(s, &err));
    tune();
    SessionOptions o = small_options();
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

/* A sweep at a scheme of its own is gone on with at it, and not begun anew at the recipe's levels. */
static void the_scheme_comes_back(void **state)
{
    (void)state;
    char id[40];
    static const char *const names[] = {"block_error", NULL}, *const alone[] = {"alone", NULL};
    Session *s = small_session(id);
    ok(session_set_scheme(s, "W4A8_DYNAMIC", &err));
    ok(session_analyze(s, names, NULL, 0, false, &err));
    ok(session_wait(s, &err));
    double was = session_unit_score(s, metric_find("block_error"), 3).value;
    ok(session_close(s, &err));
    SessionOptions o = small_options();
    QConfig q;
    ok(session_restore(&s, &o, id, &err));
    assert_true(session_scheme(s, metric_find("alone")->pass, &q) && q.weight.dtype == QT_INT4);
    Score now = session_unit_score(s, metric_find("block_error"), 3);
    assert_true(now.state == SCORE_OK && now.value == was);
    ok(session_set_scheme(s, "recipe", &err));
    assert_int_equal(session_unit_score(s, metric_find("block_error"), 3).state, SCORE_STALE);
    ok(session_analyze(s, alone, NULL, 0, false, &err));
    ok(session_wait(s, &err));
    ok(session_close(s, &err));
    ok(session_restore(&s, &o, id, &err));
    assert_false(session_scheme(s, metric_find("alone")->pass, &q));
    ok(session_close(s, &err));
}

static char *exported(Session *s)
{
    size_t n;
    ok(session_export(s, temp_path(small_root, "out.yaml"), NULL, true, &err));
    return temp_get(temp_path(small_root, "out.yaml"), &n);
}

static void provenance_comes_back(void **state)
{
    (void)state;
    char id[40];
    Session *s = small_session(id);
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
    SessionOptions o = small_options();
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
    assert_int_equal(chdir(small_root), 0);
    SessionOptions o = small_options();
    Session *s;
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, small_model, NULL, &err));
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

static int logged(Session *s, int level, const char *text)
{
    int n = 0;
    for (int i = 0; i < session_log_lines(s); i++)
        n += session_log_line(s, i).level >= level && strstr(session_log_line(s, i).text, text) != NULL;
    return n;
}

static bool session_dir_exists(const char *id)
{
    char path[200];
    snprintf(path, sizeof path, "%s/sessions/%s", small_root, id);
    return dir_exists(path);
}

static void sessions_are_listed_and_deleted(void **state)
{
    (void)state;
    char id[40], none[40];
    SessionInfo *list;
    int n;
    Session *s = small_session(id), *other;
    SessionOptions o = small_options();
    ok(session_new(&other, &o, &err));
    ok(session_open_model(other, small_model, NULL, &err));
    snprintf(none, sizeof none, "%s", session_id(other));
    assert_true(session_dir_exists(none));
    assert_false(session_has_work(other));
    ok(session_close(other, &err)); /* nothing was done in it */
    assert_false(session_dir_exists(none));
    analyze(s);
    static const char *const target[] = {"*.0.mlp.down_proj"};
    ok(session_edit(s, target, 1, 0, false, NULL, &err));
    assert_int_equal(session_delete(small_root, id, &err), ST_USAGE); /* open */
    ok(session_measure(s, false, &err));
    ok(session_wait(s, &err));
    const JobView *j = session_job(s, session_jobs(s) - 1);
    assert_true(j->measured && j->kl > 0 && j->ppl > 1 && j->top1 >= 0);
    ok(session_close(s, &err));
    ok(session_new(&other, &o, &err));
    ok(session_open_model(other, small_model, NULL, &err));
    assert_int_equal(logged(other, 0, "has 28 of 28 rows, 1 edit, 1 measurement: slimscope resume"), 1);
    ok(session_close(other, &err));
    ok(session_list(small_root, &list, &n, &err));
    assert_int_equal(n, 1);
    assert_string_equal(list[0].id, id);
    assert_true(list[0].rows == 28 && list[0].linears == 28 && list[0].layers == 4 && list[0].finished);
    assert_true(list[0].edits == 1 && list[0].measured == 1 && !list[0].locked && list[0].bytes > 1000);
    free(list);
    assert_int_equal(session_delete(small_root, "../x", &err), ST_USAGE);
    assert_int_equal(session_delete(small_root, "none", &err), ST_DATA);
    ok(session_delete(small_root, id, &err));
    assert_false(session_dir_exists(id));
}

/* A finished analysis needs no streams. */
static void streams_go_with_the_analysis(void **state)
{
    (void)state;
    char id[40], path[200];
    Session *s = small_session(id);
    analyze(s);
    ok(session_close(s, &err));
    snprintf(path, sizeof path, "%s/sessions/%s/streams", small_root, id);
    assert_int_equal(temp_entries(path), 0);
}

static Status count_found(void *ctx, bool bad, const char *text)
{
    (void)text;
    ((int *)ctx)[bad]++;
    return ST_OK;
}

static void a_session_is_checked(void **state)
{
    (void)state;
    char id[40], dir[200], path[220];
    Session *s = small_session(id);
    analyze(s);
    static const char *const target[] = {"*.0.mlp.down_proj"};
    ok(session_edit(s, target, 1, 0, false, NULL, &err));
    ok(session_undo(s, NULL, &err));
    ok(session_close(s, &err));
    snprintf(dir, sizeof dir, "%s/sessions/%s", small_root, id);
    snprintf(path, sizeof path, "%s/journal", dir);
    int found[2] = {0, 0};
    ok(session_check(dir, count_found, found, &err));
    assert_true(found[true] == 0 && found[false] == 1);
    tune();
    ok(session_check(dir, count_found, found, &err)); /* another model */
    assert_int_equal(found[true], 1);
    tune();
    size_t n;
    char *bytes = temp_get(path, &n), *edit = memmem(bytes, n, "\"t\":\"rules\"", 11);
    assert_non_null(edit);
    while (*edit != '{')
        edit--;
    char *frame = edit - 8;
    uint32_t len = (uint32_t)(unsigned char)frame[0] | (uint32_t)(unsigned char)frame[1] << 8;
    size_t rest = n - (size_t)(edit + len - bytes);
    memmove(frame, edit + len, rest); /* the record of the edit is lost, that of its undo is there */
    temp_put(path, bytes, (size_t)(frame - bytes) + rest);
    memset(found, 0, sizeof found);
    ok(session_check(dir, count_found, found, &err));
    assert_int_equal(found[true], 1);
    SessionOptions o = small_options();
    ok(session_restore(&s, &o, id, &err));
    assert_int_equal(logged(s, 1, "of the journal is missing"), 1);
    assert_int_equal(session_undo_depth(s), 0); /* and was not replayed onto something else */
    assert_int_equal(session_redo_depth(s), 0);
    assert_int_equal(session_score(s, metric_find("kurtosis"), 5).state, SCORE_OK);
    ok(session_close(s, &err));
    free(bytes);
}

static void a_bad_weight_is_told_once(void **state)
{
    (void)state;
    char path[100], id[40];
    size_t n;
    snprintf(path, sizeof path, "%s/model.safetensors", small_model);
    char *bytes = temp_get(path, &n), *at;
    at = strstr(bytes + 8, "\"model.layers.1.mlp.up_proj.weight\"");
    assert_non_null(at);
    at = strstr(at, "\"data_offsets\":[");
    assert_non_null(at);
    uint64_t head;
    memcpy(&head, bytes, 8);
    memcpy(bytes + 8 + head + strtoull(at + 16, NULL, 10), "\0\0\xc0\x7f", 4);
    temp_put(path, bytes, n);
    free(bytes);
    Session *s = small_session(id);
    static const char *const names[] = {"kurtosis", "local_error", NULL};
    ok(session_analyze(s, names, NULL, 0, true, &err));
    session_wait(s, &err);
    assert_int_equal(logged(s, 2, ""), 1);
    assert_int_equal(logged(s, 2, "the first bad value is in the weight of model.layers.1.mlp.up_proj (NaN"), 1);
    assert_int_equal(logged(s, 2, "slimscope check"), 1);
    assert_true(session_job(s, 0)->failed > 14);
    assert_string_equal(session_job(s, 0)->bad, "model.layers.1.mlp.up_proj");
    ok(session_close(s, &err));
}

static void weights_that_change_meanwhile_are_told(void **state)
{
    (void)state;
    char id[40];
    static const char *const names[] = {"kurtosis", NULL};
    Session *s = small_session(id);
    tune(); /* while it is open */
    ok(session_analyze(s, names, NULL, 0, false, &err));
    assert_int_equal(session_wait(s, &err), ST_DATA);
    assert_non_null(strstr(err.text, "was overwritten since the model was opened"));
    ok(session_close(s, &err));
}

static void an_unwritable_session_says_so(void **state)
{
    (void)state;
    SessionOptions o = small_options();
    Session *s;
    o.state_dir = temp_path(small_root, "texts.jsonl/state"); /* below a file */
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, small_model, NULL, &err));
    assert_string_equal(session_unkept(s), "not saved");
    assert_int_equal(logged(s, 1, "this session is not saved: "), 1);
    ok(session_close(s, &err));
}

/* A request for what runs or waits already queues nothing. */
static void one_analysis_is_queued_once(void **state)
{
    (void)state;
    char id[40];
    static const char *const names[] = {"kurtosis", "local_error", NULL}, *const one[] = {"kurtosis", NULL};
    Session *s = small_session(id);
    ok(session_analyze(s, names, NULL, 0, false, &err));
    ok(session_analyze(s, one, NULL, 0, false, &err));
    assert_int_equal(session_jobs(s), 1);
    ok(session_wait(s, &err));
    ok(session_close(s, &err));
}

/* A quantization that ended with its process is a stopped job of the session, with its folder. */
static void a_quantization_is_gone_on_with(void **state)
{
    (void)state;
    char id[40];
    Session *s = small_session(id);
    const QuantizeOptions q = {.save_path = temp_path(small_root, "sessions/out"), .verify = true};
    ok(session_quantize(s, &q, &err));
    ok(session_close(s, &err)); /* stops it */
    SessionOptions o = small_options();
    ok(session_restore(&s, &o, id, &err));
    assert_int_equal(session_jobs(s), 1);
    const JobView *j = session_job(s, 0);
    assert_true(j->kind == JOB_QUANTIZE && (j->earlier || (j->state == JOB_STOPPED && j->resumable))); /* begun, or not yet */
    assert_string_equal(j->target, temp_path(small_root, "sessions/out"));
    ok(session_resume_job(s, j->id, &err));
    ok(session_wait(s, &err));
    assert_int_equal(session_quantized(s)->nverified, 1); /* as it was asked for */
    assert_false(session_job(s, 0)->resumable);
    assert_int_equal(session_resume_job(s, 1, &err), ST_USAGE);
    assert_int_equal(session_resume_job(s, 9, &err), ST_USAGE);
    ok(session_close(s, &err));
    ok(session_restore(&s, &o, id, &err));
    assert_true(!session_job(s, 0)->resumable && session_job(s, session_jobs(s) - 1)->state == JOB_DONE);
    assert_int_equal(session_resume_job(s, 0, &err), ST_USAGE);
    ok(session_close(s, &err));
}

#define WITH_MODEL(f) cmocka_unit_test_setup_teardown(f, small_begin, small_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_MODEL(another_model_is_not_gone_on_with),
        WITH_MODEL(the_scheme_comes_back),
        WITH_MODEL(provenance_comes_back),
        WITH_MODEL(data_is_found_from_another_folder),
        WITH_MODEL(sessions_are_listed_and_deleted),
        WITH_MODEL(streams_go_with_the_analysis),
        WITH_MODEL(a_session_is_checked),
        WITH_MODEL(a_bad_weight_is_told_once),
        WITH_MODEL(weights_that_change_meanwhile_are_told),
        WITH_MODEL(an_unwritable_session_says_so),
        WITH_MODEL(one_analysis_is_queued_once),
        WITH_MODEL(a_quantization_is_gone_on_with),
    };
    return cmocka_run_group_tests_name("resume", tests, NULL, NULL);
}
