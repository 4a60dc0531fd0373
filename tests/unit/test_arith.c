/* The table of arithmetics: what its rows promise, and sessions that an older program kept under another name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "io/journal.h"
#include "run/ops.h"
#include "session/session.h"
#include "tests/lib/tempdir.h"

static Error err;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

/* ---- the table ---- */

static void rows_are_what_options_and_records_say(void **state)
{
    (void)state;
    Str words = {0}, help = {0};
    for (int i = 0; i < ARITH_MODES; i++) {
        const Arith *a = &arith_table[i];
        ArithMode m = ARITH_MODES;
        assert_true(arith_find(a->name, &m));
        assert_int_equal(m, i);
        assert_string_equal(arith_name(m), a->name);
        assert_true(strlen(a->name) < 16 && !strpbrk(a->name, " \"\\|")); /* records keep it as it is */
        assert_non_null(gemm_find(a->products));
        assert_int_equal(arith_dtype(m, DT_BF16), a->rounds ? DT_BF16 : DT_F32);
        for (int k = 0; k < i; k++)
            assert_int_not_equal(arith_table[k].code, a->code);
        str_printf(&words, "%s%s", i ? "|" : "", a->name);
        str_printf(&help, "%s%s%s: %s", i ? "; " : "", a->name, i ? "" : " (default)", a->help);
    }
    assert_string_equal(str_text(&words), ARITH_WORDS);
    assert_string_equal(str_text(&help), ARITH_HELP);
    assert_int_equal(arith_table[ARITH_FP32].code, 0); /* as sessions have them on disk */
    assert_int_equal(arith_table[ARITH_EXACT].code, 1);
    SessionOptions o;
    session_options_default(&o);
    assert_int_equal(o.arith, 0);
    ArithMode m;
    assert_false(arith_find("fp", &m));
    str_free(&words);
    str_free(&help);
}

/* Rounding does not need libm: the vectors' gates, rounded after the activation and after the product. */
static void gates_round_after_each_step(void **state)
{
    (void)state;
    enum { N = 150 };
    static const Activation acts[] = {ACT_SILU, ACT_GELU_TANH};
    const MathKernels *fast = math_fast();
    for (size_t k = 0; k < sizeof acts / sizeof *acts; k++) {
        float g[N], u[N], want[N], ones[N];
        Ops o = ops_make(ARITH_EXACT, DT_BF16);
        o.libm = false;
        o.f = fast;
        for (int i = 0; i < N; i++) {
            g[i] = want[i] = (float)(i - 75) / 9;
            u[i] = (float)(i % 13) / 7;
            ones[i] = 1;
        }
        (acts[k] == ACT_SILU ? fast->silu_mul : fast->gelu_tanh_mul)(want, ones, N);
        fast->round_bf16(want, N);
        fast->mul(want, u, want, N);
        fast->round_bf16(want, N);
        ops_gate(&o, acts[k], g, u, N);
        for (int i = 0; i < N; i++)
            assert_true(g[i] == want[i]);
    }
    Ops wide = ops_make(ARITH_EXACT, DT_BF16);
    ops_widen(&wide);
    float x = 1.0f + 1.0f / 4096;
    ops_round(&wide, &x, 1);
    assert_true(x == 1.0f + 1.0f / 4096);
    assert_int_equal(ops_gemms(&wide)->kind, GEMM_F32);
}

/* ---- sessions ---- */

static char *dir;

static int begin(void **state)
{
    (void)state;
    dir = temp_folder();
    return 0;
}

static int end(void **state)
{
    (void)state;
    temp_remove(dir);
    return 0;
}

static SessionOptions options(void)
{
    SessionOptions o;
    session_options_default(&o);
    o.threads = 1;
    o.max_samples = 2;
    o.seq_len = 24;
    o.state_dir = dir;
    return o;
}

static void replace(char *text, const char *was, const char *is)
{
    assert_int_equal(strlen(was), strlen(is));
    for (char *p = text; (p = strstr(p, was)) != NULL; p += strlen(is))
        memcpy(p, is, strlen(is));
}

typedef struct Ageing {
    Journal *to;
    int renamed;
} Ageing;

/* The record as a program without "exact" wrote it. */
static Status age(void *ctx, const char *json, uint32_t len, Error *e)
{
    Ageing *a = ctx;
    char *old = strndup(json, len);
    replace(old, "\"format\":3", "\"format\":2");
    replace(old, "exact", "model");
    a->renamed += strcmp(old, json) != 0;
    Status st = journal_append(a->to, old, false, e);
    free(old);
    return st;
}

static void make_old(const char *id)
{
    char path[200], old[220];
    Journal *from;
    Ageing a = {0};
    snprintf(path, sizeof path, "%s/sessions/%s/journal", dir, id);
    snprintf(old, sizeof old, "%s.old", path);
    ok(journal_open(&a.to, old, JOURNAL_CUT, NULL, NULL, NULL, &err));
    ok(journal_open(&from, path, JOURNAL_READ, age, &a, NULL, &err));
    ok(journal_close(from, &err));
    ok(journal_close(a.to, &err));
    assert_true(a.renamed >= 5); /* open, set, two commands, run */
    assert_int_equal(rename(old, path), 0);
}

static void append(const char *id, const char *record)
{
    char path[200];
    Journal *j;
    snprintf(path, sizeof path, "%s/sessions/%s/journal", dir, id);
    ok(journal_open(&j, path, JOURNAL_CUT, NULL, NULL, NULL, &err));
    ok(journal_append(j, record, false, &err));
    ok(journal_close(j, &err));
}

/* Whether something was said of the name. */
/* How often it was told; what earlier sittings were told counts. */
static int told(const Session *s)
{
    int hits = 0;
    for (int i = session_log_first(s); i < session_log_lines(s); i++)
        hits += strstr(session_log_line(s, i).text, "called exact now") != NULL;
    return hits;
}

static ScoreState state_of(Session *s)
{
    return session_score(s, metric_find("std"), 5).state;
}

static void older_sessions_go_on_in_their_arithmetic(void **state)
{
    (void)state;
    static const char *const lines[] = {"set dtype-sim=exact", "analyze std --dtype-sim exact", "exclude exact",
                                        "measure --dt=exact --seed 3"};
    enum { LINES = sizeof lines / sizeof *lines };
    SessionOptions o = options();
    Session *s;
    char id[40];
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, "lab_models/demo", NULL, &err));
    ok(session_set_calib(s, "tests/golden/analysis/_models/calib5.jsonl", &err));
    ok(session_set(s, "dtype-sim", "exact", &err));
    for (int i = 0; i < LINES; i++)
        ok(session_record(s, lines[i], &err));
    ok(session_analyze(s, (const char *const[]){"std", NULL}, NULL, 0, false, &err));
    ok(session_wait(s, &err));
    double score = session_score(s, metric_find("std"), 5).value;
    snprintf(id, sizeof id, "%s", session_id(s));
    ok(session_close(s, &err));
    make_old(id);

    ok(session_restore(&s, &o, id, &err));
    assert_int_equal(session_options(s)->arith, ARITH_EXACT);
    assert_int_equal(told(s), 1);
    assert_int_equal(session_unit_ariths(s, metric_find("std"), 5), 1u << ARITH_EXACT);
    assert_int_equal(state_of(s), SCORE_OK);
    assert_true(session_score(s, metric_find("std"), 5).value == score);
    assert_int_equal(session_commands(s), LINES);
    for (int i = 0; i < LINES; i++)
        assert_string_equal(session_command(s, i), i == 2 ? "exclude model" : lines[i]);
    ok(session_set(s, "dtype-sim", "fp32", &err));
    assert_int_equal(state_of(s), SCORE_STALE);
    ok(session_close(s, &err));

    append(id, "{\"t\":\"cmd\",\"text\":\"set dtype-sim=model\"}"); /* after today's first sitting it means what it says */
    ok(session_restore(&s, &o, id, &err));
    assert_int_equal(session_options(s)->arith, ARITH_FP32);
    assert_int_equal(told(s), 1);
    assert_string_equal(session_command(s, 0), lines[0]);
    assert_string_equal(session_command(s, LINES), "set dtype-sim=model");
    ok(session_close(s, &err));
    append(id, "{\"t\":\"set\",\"key\":\"dtype-sim\",\"value\":\"fp7\"}");
    assert_int_equal(session_restore(&s, &o, id, &err), ST_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_what_options_and_records_say),
        cmocka_unit_test(gates_round_after_each_step),
        cmocka_unit_test_setup_teardown(older_sessions_go_on_in_their_arithmetic, begin, end),
    };
    return cmocka_run_group_tests_name("arith", tests, NULL, NULL);
}
