#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/file.h"
#include "io/journal.h"
#include "session/session.h"
#include "session/settings.h"

#define DEMO "lab_models/demo"
#define CALIB "tests/golden/analysis/_models/calib5.jsonl"

static Error err;
static char scratch[64];

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

static int make_scratch(void **state)
{
    (void)state;
    strcpy(scratch, "/tmp/slim-test-XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static int remove_scratch(void **state)
{
    (void)state;
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", scratch);
    return system(cmd);
}

static SessionOptions options(bool durable)
{
    SessionOptions o;
    session_options_default(&o);
    o.threads = 2;
    o.eval_tokens = 256;
    o.ctx = 128;
    o.state_dir = durable ? scratch : NULL;
    return o;
}

static Session *open_demo(bool durable)
{
    SessionOptions o = options(durable);
    Session *s;
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, DEMO, NULL, &err));
    ok(session_set_calib(s, CALIB, &err));
    ok(session_set_eval(s, "lab_calib/eval.jsonl", &err));
    return s;
}

static int64_t find(Session *s, const char *name)
{
    int64_t i = model_find_linear(session_model(s), name);
    assert_true(i >= 0);
    return i;
}

static void edit(Session *s, const char *target, int level, bool include, int64_t want)
{
    int64_t changed = -1;
    ok(session_edit(s, &target, 1, level, include, &changed, &err));
    assert_int_equal(changed, want);
}

static void analyze(Session *s, const char *metric, bool detail)
{
    const char *names[] = {metric, NULL};
    ok(session_analyze(s, names, NULL, 0, detail, &err));
    ok(session_wait(s, &err));
}

static void opening_reads_no_weight(void **state)
{
    (void)state;
    Session *s = open_demo(false);
    const Model *m = session_model(s);
    assert_int_equal(m->nlinears, 56);
    assert_int_equal(session_levels(s), 2);
    assert_string_equal(session_level_name(s, 0), "float");
    assert_string_equal(session_level_name(s, 1), "W8A8");
    for (int64_t i = 0; i < m->nlinears; i++) {
        assert_int_equal(session_level_of(s, i), 1);
        assert_int_equal(session_score(s, session_metric(s), i).state, SCORE_NONE);
    }
    int64_t n;
    assert_non_null(session_order(s, &n, true));
    assert_int_equal(n, 56);
    assert_int_equal(checkpoint_bytes_read(m->ckpt), 0);
    session_free(s);
}

static void a_fused_group_moves_together(void **state)
{
    (void)state;
    Session *s = open_demo(false);
    edit(s, "model.layers.3.mlp.gate_proj", 0, false, 2);
    assert_int_equal(session_level_of(s, find(s, "model.layers.3.mlp.up_proj")), 0);
    edit(s, "*layers.2.self_attn.k_proj", 0, false, 3);
    edit(s, "*layers.2.self_attn.k_proj", 0, false, 0); /* nothing left to change: no undo step */
    assert_int_equal(session_undo_depth(s), 2);
    Str what = {0};
    ok(session_undo(s, &what, &err));
    assert_non_null(strstr(str_text(&what), "model.layers.2.self_attn.q_proj"));
    str_free(&what);
    assert_int_equal(session_level_of(s, find(s, "model.layers.2.self_attn.v_proj")), 1);
    ok(session_redo(s, NULL, &err));
    assert_int_equal(session_level_of(s, find(s, "model.layers.2.self_attn.v_proj")), 0);
    assert_int_equal(session_redo(s, NULL, &err), ST_USAGE);
    assert_int_equal(session_whatifs(s), 2);
    assert_string_equal(session_whatif(s, 0)->pattern, "model.layers.3.mlp.{gate,up}_proj");
    assert_int_equal(session_whatif(s, 0)->hits, 2);
    assert_int_equal(session_whatif(s, 1)->hits, 3);
    assert_int_equal(session_whatif(s, 1)->joined, 2);
    edit(s, "*", 0, true, 5);
    assert_int_equal(session_whatifs(s), 0);
    session_free(s);
}

static void a_target_without_a_hit_names_the_nearest(void **state)
{
    (void)state;
    Session *s = open_demo(false);
    const char *typo = "model.layers.3.mlp.gate_porj";
    assert_int_equal(session_edit(s, &typo, 1, 0, false, NULL, &err), ST_DATA);
    assert_non_null(strstr(err.text, "model.layers.3.mlp.gate_proj"));
    const char *tagged = "tagged";
    assert_int_equal(session_edit(s, &tagged, 1, 0, false, NULL, &err), ST_DATA);
    assert_int_equal(session_undo_depth(s), 0);
    session_free(s);
}

static void tags_and_filters(void **state)
{
    (void)state;
    Session *s = open_demo(false);
    int64_t n = 0;
    bool hits[56] = {0};
    ok(session_target(s, "*down_proj", hits, &n, &err));
    assert_int_equal(n, 8);
    ok(session_tag(s, hits, true, &err));
    assert_int_equal(session_tag_count(s), 8);
    ok(session_filter(s, "tagged layer=2..4", &err));
    session_order(s, &n, true);
    assert_int_equal(n, 3);
    ok(session_filter(s, "kind=q_proj !layer=0", &err));
    session_order(s, &n, true);
    assert_int_equal(n, 7);
    assert_int_equal(session_filter(s, "layer=x", &err), ST_USAGE);
    assert_int_equal(session_filter(s, "sorce=3", &err), ST_USAGE);
    ok(session_undo(s, NULL, &err)); /* the filter before */
    assert_string_equal(session_filter_text(s), "tagged layer=2..4");
    ok(session_filter(s, "", &err));
    edit(s, "tagged", 0, false, 8);
    ok(session_undo(s, NULL, &err));
    session_free(s);
}

static void the_planted_layers_come_first(void **state)
{
    (void)state;
    Session *s = open_demo(false);
    ok(session_show(s, "kurtosis", &err));
    analyze(s, "kurtosis", true);
    int64_t n;
    const int64_t *order = session_order(s, &n, true);
    bool one = false, six = false;
    for (int i = 0; i < 3; i++) {
        one |= order[i] == find(s, "model.layers.1.mlp.down_proj");
        six |= order[i] == find(s, "model.layers.6.mlp.down_proj");
        assert_int_equal(session_rank(s, order[i]), i + 1);
    }
    assert_true(one && six);
    int jobs = session_jobs(s);
    analyze(s, "local_error", true); /* one pass served it already */
    assert_int_equal(session_jobs(s), jobs);
    assert_false(session_predict(s).have); /* local_error foretells nothing */
    analyze(s, "block_error", true);
    Prediction p = session_predict(s);
    assert_true(p.have && !p.measurements && isnan(p.kl.value) && p.share_back == 0);
    edit(s, "*layers.{1,6}.mlp.down_proj", 0, false, 2);
    p = session_predict(s);
    assert_true(p.share_back > 0.2 && p.share_back < 1);
    ok(session_set(s, "dtype-sim", "exact", &err));
    assert_int_equal(session_score(s, session_metric(s), order[0]).state, SCORE_STALE);
    session_free(s);
}

static void measuring_is_remembered_per_assignment(void **state)
{
    (void)state;
    Session *s = open_demo(false);
    int64_t stale = -1;
    assert_null(session_effect(s, &stale));
    ok(session_measure(s, false, &err));
    ok(session_wait(s, &err));
    const Effect *base = session_effect(s, &stale);
    assert_non_null(base);
    assert_int_equal(stale, 0);
    assert_true(base->kl_mean > 0);
    double kl = base->kl_mean;
    edit(s, "*layers.{1,6}.mlp.down_proj", 0, false, 2);
    session_effect(s, &stale);
    assert_int_equal(stale, 2); /* linears */
    ok(session_measure(s, false, &err));
    ok(session_wait(s, &err));
    assert_true(session_effect(s, &stale)->kl_mean < kl);
    assert_int_equal(session_effect(s, &stale)->first_layer_run, 1); /* layer 0 is as it was */
    ok(session_undo(s, NULL, &err));
    assert_true(session_effect(s, &stale)->kl_mean == kl);
    assert_int_equal(stale, 0);
    session_free(s);
}

static void a_session_comes_back_whole(void **state)
{
    (void)state;
    Session *s = open_demo(true);
    analyze(s, "kurtosis", true);
    analyze(s, "block_error", true);
    ok(session_measure(s, false, &err));
    ok(session_wait(s, &err));
    edit(s, "*layers.{1,6}.mlp.down_proj", 0, false, 2);
    edit(s, "*layers.4.*", 0, false, 7);
    ok(session_undo(s, NULL, &err));
    ok(session_show(s, "std", &err));
    session_set_cursor(s, 20);
    assert_int_equal(session_record(s, "exclude '*layers.{1,6}.mlp.down_proj'", &err), ST_OK);
    char id[40];
    snprintf(id, sizeof id, "%s", session_id(s));
    double score[56], kl = session_base_effect(s)->kl_mean;
    const Metric *kurtosis = metric_find("kurtosis"), *local = metric_find("local_error");
    for (int i = 0; i < 56; i++)
        score[i] = session_score(s, kurtosis, i).value + session_score(s, local, i).value;
    uint64_t total = session_result(s, 5)->in.hist.total;
    Prediction was = session_predict(s);
    assert_int_equal(was.measurements, 1);
    session_free(s);

    SessionOptions o = options(true);
    ok(session_restore(&s, &o, id, &err));
    assert_int_equal(session_undo_depth(s), 1);
    assert_int_equal(session_redo_depth(s), 1);
    assert_int_equal(session_level_of(s, find(s, "model.layers.6.mlp.down_proj")), 0);
    assert_int_equal(session_level_of(s, find(s, "model.layers.4.mlp.down_proj")), 1);
    assert_string_equal(session_metric(s)->name, "std");
    assert_int_equal(session_cursor(s), 20);
    assert_int_equal(session_commands(s), 1);
    assert_int_equal(session_whatifs(s), 1); /* the row of the undone step is gone */
    for (int i = 0; i < 56; i++)
        assert_true(session_score(s, kurtosis, i).value + session_score(s, local, i).value == score[i]);
    assert_int_equal(session_result(s, 5)->in.hist.total, total);
    assert_non_null(session_result(s, 5)->in.channel_max);
    assert_true(session_base_effect(s)->kl_mean == kl);
    Prediction now = session_predict(s);
    assert_true(now.have && now.measurements == 1 && now.kl.value == was.kl.value);
    int64_t differs;
    session_effect(s, &differs);
    assert_int_equal(differs, 2);

    Session *second; /* while it is open here */
    ok(session_restore(&second, &o, "", &err));
    assert_true(session_is_read_only(second));
    session_free(second);
    session_free(s);
    assert_int_equal(session_restore(&s, &o, "../x", &err), ST_USAGE);
    assert_int_equal(session_restore(&s, &o, "nope", &err), ST_DATA);
}

static void open_weights(Session *s, const char *act, const char *weight)
{
    char path[96], text[512];
    snprintf(path, sizeof path, "%s/weights.yaml", scratch);
    int n = snprintf(text, sizeof text,
                     "apiversion: modelslim_v1\nspec:\n  process:\n    - type: linear_quant\n      qconfig:\n"
                     "        act: {%s, symmetric: true}\n        weight: {%s, symmetric: true}\n",
                     act, weight);
    ok(file_write_atomic(path, text, (size_t)n, &err));
    ok(session_open_recipe(s, path, NULL, &err));
}

/* Weight errors of the levels at hand are collected with the pass; levels that come later ask for another. */
static void scores_of_any_weights_come_back(void **state)
{
    (void)state;
    Session *s = open_demo(true);
    const Metric *local = metric_find("local_error");
    open_weights(s, "dtype: mxfp4, scope: per_block, method: minmax", "dtype: mxfp4, scope: per_block, method: ceil_x");
    analyze(s, "local_error", false);
    double first[56];
    for (int i = 0; i < 56; i++) {
        Score got = session_score(s, local, i);
        assert_int_equal(got.state, SCORE_OK);
        first[i] = got.value;
        assert_true(first[i] > 0 && first[i] < 1);
    }
    open_weights(s, "dtype: int8, scope: per_token, method: minmax", "dtype: int4, scope: per_channel, method: ssz");
    Score unknown = session_score(s, local, 3);
    assert_int_equal(unknown.state, SCORE_FAILED);
    assert_non_null(strstr(unknown.reason, "again"));
    analyze(s, "local_error", false);
    double second[56];
    for (int i = 0; i < 56; i++) {
        second[i] = session_score(s, local, i).value;
        assert_true(second[i] > 0 && second[i] < 1 && second[i] != first[i]);
    }
    char id[40];
    snprintf(id, sizeof id, "%s", session_id(s));
    session_free(s);
    SessionOptions o = options(true);
    ok(session_restore(&s, &o, id, &err));
    for (int i = 0; i < 56; i++)
        assert_true(session_score(s, local, i).value == second[i]);
    session_free(s);
}

/* A child that was asked for these metrics is killed once `layers` layers are in the journal; gives its session's id. */
static void killed_after(const char *const *names, int layers, char id[40])
{
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        Session *s = open_demo(true);
        ok(session_analyze(s, names, NULL, 0, true, &err));
        if (write(fd[1], session_id(s), 40) != 40)
            _exit(1);
        while (session_busy(s)) {
            session_pump(s);
            if (session_job(s, 0)->done >= layers)
                raise(SIGKILL);
            usleep(200);
        }
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(read(fd[0], id, 40), 40);
    close(fd[0]);
    close(fd[1]);
}

static void same_score(Score a, Score b)
{
    assert_int_equal(a.state, b.state);
    assert_true(a.value == b.value || (a.value != a.value && b.value != b.value));
}

static const char *const statistics[] = {"kurtosis", NULL}, *const with_errors[] = {"kurtosis", "block_error", NULL};

static void kill_9_loses_at_most_a_layer(void **state)
{
    (void)state;
    Session *plain = open_demo(false); /* each by a pass of its own */
    analyze(plain, "kurtosis", true);
    analyze(plain, "block_error", true);
    assert_int_equal(session_jobs(plain), 2);
    for (int run = 0; run < 4; run++) {
        char id[40];
        int layers = run % 2 ? 5 : 2;
        bool both = run >= 2;
        killed_after(both ? with_errors : statistics, layers, id);
        SessionOptions o = options(true);
        Session *s;
        ok(session_restore(&s, &o, id, &err));
        const JobView *j = session_job(s, 0);
        assert_int_equal(j->state, JOB_STOPPED);
        assert_true(j->done >= layers - 1);
        assert_true(j->resumable);
        int64_t done = j->done, at, total;
        const char *step;
        assert_true(session_stopped(s, &at, &total, &step));
        assert_true(at == done && total == 8);
        if (layers == 2) {
            ok(session_resume_job(s, 0, &err));
            ok(session_wait(s, &err));
        } else { /* asked for again, it goes on as well */
            analyze(s, "kurtosis", true);
        }
        char from[40];
        snprintf(from, sizeof from, "from layer %lld", (long long)done);
        assert_int_equal(session_jobs(s), 2);
        assert_non_null(strstr(session_job(s, 1)->title, from));
        assert_false(session_job(s, 0)->resumable);
        assert_false(session_stopped(s, &at, &total, &step));
        for (int m = 0; metric_table[m]; m++)
            for (int i = 0; i < 56 && (both || metric_table[m]->pass->has); i++)
                same_score(session_score(s, metric_table[m], i), session_score(plain, metric_table[m], i));
        assert_int_equal(session_resume_job(s, 0, &err), ST_USAGE);
        session_free(s);
    }
    session_free(plain);
}

/* What was made in one arithmetic is not gone on with in another: it is made anew. */
static void a_stopped_analysis_keeps_its_arithmetic(void **state)
{
    (void)state;
    char id[40];
    Session *s;
    SessionOptions o = options(true);
    killed_after(statistics, 2, id);
    ok(session_restore(&s, &o, id, &err));
    ok(session_set(s, "dtype-sim", "exact", &err));
    assert_int_equal(session_resume_job(s, 0, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "other data or settings"));
    analyze(s, "kurtosis", true);
    assert_null(strstr(session_job(s, 1)->title, "from layer"));
    for (int i = 0; i < 56; i++) {
        assert_int_equal(session_score(s, metric_find("kurtosis"), i).state, SCORE_OK);
        assert_int_equal(session_unit_ariths(s, metric_find("kurtosis"), i), 1u << ARITH_EXACT);
    }
    session_free(s);
}

static void a_torn_journal_is_cut(void **state)
{
    (void)state;
    Session *s = open_demo(true);
    edit(s, "*down_proj", 0, false, 8);
    edit(s, "*layers.0.*", 0, false, 6);
    char path[256], id[40];
    snprintf(id, sizeof id, "%s", session_id(s));
    snprintf(path, sizeof path, "%s/sessions/%s/journal", scratch, id);
    session_free(s);
    char *whole;
    size_t len;
    ok(file_read(path, 1u << 20, &whole, &len, &err));
    for (size_t cut = 1; cut < len; cut += 97) {
        ok(file_write_atomic(path, whole, len - cut, &err));
        SessionOptions o = options(true);
        Status st = session_restore(&s, &o, id, &err);
        if (st != ST_OK) { /* even the record that opens the model is torn */
            assert_int_equal(st, ST_DATA);
            assert_non_null(strstr(err.text, "empty"));
            assert_true(cut + 700 > len);
            continue;
        }
        assert_int_equal(session_model(s)->nlinears, 56);
        session_free(s);
    }
    free(whole);
}

static void cancel_keeps_rows_and_resumes(void **state)
{
    (void)state;
    Session *s = open_demo(true);
    const char *names[] = {"kurtosis", NULL};
    ok(session_analyze(s, names, NULL, 0, true, &err));
    while (session_busy(s) && session_job(s, 0)->done < 2) {
        session_pump(s);
        usleep(200);
    }
    ok(session_cancel(s, 1, &err));
    Status st = session_wait(s, &err);
    if (st == ST_OK) { /* it was faster than us */
        session_free(s);
        skip();
    }
    assert_int_equal(st, ST_CANCELLED);
    int64_t done = session_job(s, 0)->done;
    assert_int_equal(session_score(s, metric_find("kurtosis"), 0).state, SCORE_OK);
    ok(session_resume_job(s, 0, &err));
    ok(session_wait(s, &err));
    assert_true(session_job(s, 1)->done == 8 && done < 8);
    assert_int_equal(session_score(s, metric_find("kurtosis"), 55).state, SCORE_OK);
    assert_int_equal(session_cancel(s, 1, &err), ST_USAGE);
    session_free(s);
}

static void export_is_proved_and_never_overwrites_unasked(void **state)
{
    (void)state;
    Session *s = open_demo(false);
    edit(s, "*layers.{1,6}.mlp.down_proj", 0, false, 2);
    char path[128];
    snprintf(path, sizeof path, "%s/out.yaml", scratch);
    unlink(path);
    ok(session_export(s, path, NULL, false, &err));
    ok(session_export(s, path, NULL, false, &err)); /* the same bytes */
    edit(s, "*layers.0.mlp.down_proj", 0, false, 1);
    assert_int_equal(session_export(s, path, NULL, false, &err), ST_IO);
    ok(session_undo(s, NULL, &err));
    ok(session_export(s, path, NULL, true, &err));
    ok(session_open_recipe(s, path, NULL, &err));
    for (int64_t i = 0; i < 56; i++) {
        bool out = i == find(s, "model.layers.1.mlp.down_proj") || i == find(s, "model.layers.6.mlp.down_proj");
        assert_int_equal(session_level_of(s, i), out ? 0 : 1);
    }
    assert_int_equal(session_export(s, "/nonexistent-dir/x.yaml", NULL, false, &err), ST_IO);
    edit(s, "*layers.1.mlp.down_proj", 0, true, 1); /* home: the entry that would take it */
    session_free(s);
}

static void settings_are_checked(void **state)
{
    (void)state;
    Session *s = open_demo(false);
    ok(session_set(s, "max_samples", "3", &err));
    ok(session_set(s, "mem", "300M", &err));
    assert_int_equal(session_options(s)->mem, 300ull << 20);
    for (const Setting *row = setting_table; row->key; row++)
        assert_ptr_equal(setting_find(row->key, &err), row);
    ok(session_set(s, "runtime", "mindie", &err));
    assert_string_equal(session_options(s)->runtime->name, "mindie");
    ok(session_set(s, "runtime", "none", &err));
    assert_null(session_options(s)->runtime);
    assert_int_equal(session_set(s, "runtime", "cuda", &err), ST_USAGE);
    assert_non_null(strstr(err.text, "vllm-ascend|mindie"));
    assert_int_equal(session_set(s, "mem", "lots", &err), ST_USAGE);
    assert_int_equal(session_set(s, "ctx", "1", &err), ST_USAGE);
    assert_int_equal(session_set(s, "colour", "red", &err), ST_USAGE);
    assert_non_null(strstr(err.text, "max-samples"));
    assert_int_equal(session_set_calib(s, "no-such-file.jsonl", &err), ST_DATA);
    session_free(s);
}

/* What is set is what runs read; a value out of its range changes nothing. */
static void every_setting_is_kept(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *wrong;
        size_t at, size;
        uint64_t want;
    } rows[] = {
#define MEMBER(m) offsetof(SessionOptions, m), sizeof(((SessionOptions *)0)->m)
        {"threads", "3", "1025", MEMBER(threads), 3},
        {"mem", "5M", "5X", MEMBER(mem), UINT64_C(5) << 20},
        {"max-samples", "7", "-1", MEMBER(max_samples), 7},
        {"seq-len", "48", "x", MEMBER(seq_len), 48},
        {"ctx", "96", "1", MEMBER(ctx), 96},
        {"eval-tokens", "200", "", MEMBER(eval_tokens), 200},
        {"tokens", "77", "", MEMBER(tokens), 77},
        {"labels", "data", "both", MEMBER(data_labels), true},
        {"dtype-sim", "exact", "bf16", MEMBER(arith), ARITH_EXACT},
        {"compat", "peer", "any", MEMBER(peer), true},
        {"seed", "11", "1.5", MEMBER(seed), 11},
        {"profile", "on", "yes", MEMBER(profile), true},
#undef MEMBER
    };
    SessionOptions o = options(false);
    Session *s;
    ok(session_new(&s, &o, &err));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        SessionOptions before = *session_options(s);
        uint64_t is = 0;
        assert_true(memcmp((char *)&before + rows[i].at, &rows[i].want, rows[i].size) != 0);
        ok(session_set(s, rows[i].key, rows[i].value, &err));
        assert_int_equal(session_set(s, rows[i].key, rows[i].wrong, &err), ST_USAGE);
        memcpy(&is, (const char *)session_options(s) + rows[i].at, rows[i].size);
        if (is != rows[i].want)
            fail_msg("%s is %llu", rows[i].key, (unsigned long long)is);
    }
    ok(session_set(s, "compat", "none", &err));
    assert_false(session_options(s)->peer);
    session_free(s);
}

int main(void)
{
    signal(SIGXFSZ, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_reads_no_weight),
        cmocka_unit_test(a_fused_group_moves_together),
        cmocka_unit_test(a_target_without_a_hit_names_the_nearest),
        cmocka_unit_test(tags_and_filters),
        cmocka_unit_test(the_planted_layers_come_first),
        cmocka_unit_test(measuring_is_remembered_per_assignment),
        cmocka_unit_test(a_session_comes_back_whole),
        cmocka_unit_test(scores_of_any_weights_come_back),
        cmocka_unit_test(kill_9_loses_at_most_a_layer),
        cmocka_unit_test(a_stopped_analysis_keeps_its_arithmetic),
        cmocka_unit_test(a_torn_journal_is_cut),
        cmocka_unit_test(cancel_keeps_rows_and_resumes),
        cmocka_unit_test(export_is_proved_and_never_overwrites_unasked),
        cmocka_unit_test(settings_are_checked),
        cmocka_unit_test(every_setting_is_kept),
    };
    return cmocka_run_group_tests_name("session", tests, make_scratch, remove_scratch);
}
