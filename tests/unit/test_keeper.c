/* What a session keeps on disk, and who writes it: calls of this program to the disk go through the functions below. */
#include <errno.h>
#include <pthread.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/file.h"
#include "session/effectrecord.h"
#include "session/fields.h"
#include "session/keeper.h"
#include "session/session.h"
#include "tests/lib/tempdir.h"

#define DEMO "lab_models/demo"
#define CALIB "tests/golden/analysis/_models/calib5.jsonl"

/* ---- the disk as the program sees it ---- */

enum { CALLS = 4000, SYNC, WRITE };
static struct {
    pthread_mutex_t lock;
    int n;
    struct {
        int what;
        long thread;
        char path[200];
    } call[CALLS];
    int slow_ms;           /* each sync of a journal takes so long */
    int fail_in;           /* the sync of a journal that fails, counted down to 0; negative: none */
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .fail_in = -1};

static bool is_journal(const char *path)
{
    size_t n = strlen(path);
    return n > 8 && strcmp(path + n - 8, "/journal") == 0;
}

static long this_thread(void)
{
    return syscall(SYS_gettid);
}

/* Notes the call; whether it has to fail. */
static bool note(int what, int fd)
{
    char link[40], path[200];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    if (!strstr(path, "/sessions"))
        return false;
    pthread_mutex_lock(&disk.lock);
    if (disk.n < CALLS) {
        disk.call[disk.n].what = what;
        disk.call[disk.n].thread = this_thread();
        strcpy(disk.call[disk.n++].path, path);
    }
    bool fails = what == SYNC && is_journal(path) && disk.fail_in >= 0 && disk.fail_in-- == 0;
    int slow = what == SYNC && is_journal(path) ? disk.slow_ms : 0;
    pthread_mutex_unlock(&disk.lock);
    usleep((useconds_t)slow * 1000);
    return fails;
}

static int sync_or_fail(long how, int fd)
{
    if (note(SYNC, fd)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(how, fd);
}

int fdatasync(int fd)
{
    return sync_or_fail(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return sync_or_fail(SYS_fsync, fd);
}

ssize_t write(int fd, const void *p, size_t n)
{
    note(WRITE, fd);
    return syscall(SYS_write, fd, p, n);
}

static void disk_set(int slow_ms, int fail_in)
{
    pthread_mutex_lock(&disk.lock);
    disk.n = 0;
    disk.slow_ms = slow_ms;
    disk.fail_in = fail_in;
    pthread_mutex_unlock(&disk.lock);
}

/* Calls of this kind on paths that hold a text; by this thread only, or by any other. */
static int calls(int what, const char *part, bool mine)
{
    int n = 0;
    pthread_mutex_lock(&disk.lock);
    for (int i = 0; i < disk.n; i++)
        n += disk.call[i].what == what && strstr(disk.call[i].path, part) &&
             (disk.call[i].thread == this_thread()) == mine;
    pthread_mutex_unlock(&disk.lock);
    return n;
}

/* ---- sessions ---- */

static Error err;
static char *state_dir;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

static int begin(void **state)
{
    (void)state;
    state_dir = temp_folder();
    disk_set(0, -1);
    return 0;
}

static int end(void **state)
{
    (void)state;
    temp_remove(state_dir);
    return 0;
}

static SessionOptions options(void)
{
    SessionOptions o;
    session_options_default(&o);
    o.threads = 1;
    o.eval_tokens = 256;
    o.ctx = 128;
    o.state_dir = state_dir;
    return o;
}

static Session *open_demo(char id[40])
{
    SessionOptions o = options();
    Session *s;
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, DEMO, NULL, &err));
    ok(session_set_calib(s, CALIB, &err));
    ok(session_set_eval(s, CALIB, &err));
    snprintf(id, 40, "%s", session_id(s));
    return s;
}

static Session *restore(const char *id, bool read_only)
{
    SessionOptions o = options();
    o.read_only = read_only;
    Session *s;
    ok(session_restore(&s, &o, id, &err));
    return s;
}

static void edit(Session *s, const char *target)
{
    ok(session_edit(s, &target, 1, 0, false, NULL, &err));
    ok(session_record(s, target, &err));
}

static const char *file_of(const char *id, const char *name)
{
    static char path[2][300];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/sessions/%s/%s", state_dir, id, name);
    return path[turn];
}

static int logged(Session *s, const char *part)
{
    int n = 0;
    session_pump(s);
    for (int i = 0; i < session_log_lines(s); i++)
        n += strstr(session_log_line(s, i).text, part) != NULL;
    return n;
}

static void analyze(Session *s, const char *pattern)
{
    const char *names[] = {"kurtosis", NULL};
    ok(session_analyze(s, names, &pattern, pattern != NULL, false, &err));
}

/* ---- who writes ---- */

static void the_owner_never_touches_the_disk(void **state)
{
    (void)state;
    char id[40];
    disk_set(100, -1);
    Session *s = open_demo(id);
    edit(s, "*layers.1.mlp.down_proj");
    ok(session_undo(s, NULL, &err));
    ok(session_filter(s, "layer=1", &err));
    analyze(s, NULL);
    ok(session_measure(s, false, &err));
    ok(session_wait(s, &err));
    edit(s, "*layers.2.mlp.down_proj");
    assert_int_equal(calls(SYNC, "", true), 0);
    assert_int_equal(calls(WRITE, "", true), 0);
    assert_true(calls(SYNC, "/journal", false) > 0);
    ok(session_close(s, &err));
    assert_int_equal(calls(SYNC, "/streams/", true), 0);
    assert_true(calls(WRITE, "/streams/", false) > 0);
    long writer = 0; /* and one thread only does: neither the job's nor a worker's */
    for (int i = 0; i < disk.n; i++) {
        if (disk.call[i].thread == this_thread())
            continue; /* closing: the writer has gone */
        writer = writer ? writer : disk.call[i].thread;
        assert_int_equal(disk.call[i].thread, writer);
    }
    s = restore(id, false);
    assert_int_equal(session_undo_depth(s), 2); /* the filter, and the second edit */
    assert_int_equal(session_commands(s), 2);
    assert_true(session_has_run(s, session_metric(s)));
    session_free(s);
}

static void a_new_folder_is_made_durable(void **state)
{
    (void)state;
    char id[40], real[4096], at[4200];
    Session *s = open_demo(id);
    ok(session_close(s, &err));
    assert_non_null(realpath(state_dir, real));
    snprintf(at, sizeof at, "%s/sessions/%s", real, id);
    bool folder = false, above = false;
    for (int i = 0; i < disk.n; i++) {
        folder |= disk.call[i].what == SYNC && strcmp(disk.call[i].path, at) == 0;
        above |= disk.call[i].what == SYNC && strlen(disk.call[i].path) == strlen(real) + strlen("/sessions");
    }
    assert_true(folder && above);
}

static void a_failed_sync_is_final_and_told_once(void **state)
{
    (void)state;
    char id[40];
    Session *s = open_demo(id);
    edit(s, "*layers.1.mlp.down_proj");
    ok(session_close(s, &err));
    s = restore(id, false);
    assert_true(session_is_saved(s));
    disk_set(0, 0);
    edit(s, "*layers.2.mlp.down_proj");
    for (int i = 0; i < 300 && session_is_saved(s); i++)
        usleep(10000); /* it is synced within a second */
    assert_false(session_is_saved(s));
    struct stat before, after;
    assert_int_equal(stat(file_of(id, "journal"), &before), 0);
    edit(s, "*layers.3.mlp.down_proj");
    analyze(s, NULL);
    ok(session_wait(s, &err));
    assert_int_equal(logged(s, "session not saved: cannot sync"), 1);
    memset(&err, 0, sizeof err);
    assert_int_equal(session_close(s, &err), ST_IO);
    assert_non_null(strstr(err.text, "not saved"));
    assert_int_equal(stat(file_of(id, "journal"), &after), 0);
    assert_int_equal(after.st_size, before.st_size); /* nothing went behind what may be missing */
    s = restore(id, false);
    assert_true(session_undo_depth(s) == 1 || session_undo_depth(s) == 2);
    session_free(s);
}

static void a_journal_is_broken_for_good(void **state)
{
    (void)state;
    const char *path = file_of("one", "journal");
    Journal *j;
    ok(dir_make(file_of("one", ""), &err));
    ok(journal_open(&j, path, JOURNAL_CUT, NULL, NULL, NULL, &err));
    ok(journal_append(j, "{\"a\":1}", true, &err));
    disk_set(0, 0);
    assert_int_equal(journal_append(j, "{\"a\":2}", true, &err), ST_IO);
    assert_int_equal(journal_append(j, "{\"a\":3}", false, &err), ST_IO); /* the disk is well again, but what is on it? */
    assert_non_null(strstr(err.text, "earlier sync"));
    assert_int_equal(journal_sync(j, &err), ST_IO);
    assert_int_equal(journal_close(j, &err), ST_IO);
}

static void one_layer_at_most_is_not_on_the_disk(void **state)
{
    (void)state;
    char id[40];
    disk_set(60, -1);
    Session *s = open_demo(id);
    analyze(s, NULL);
    while (session_busy(s)) {
        session_pump(s);
        int done = (int)session_job(s, 0)->done, kept = 0;
        size_t n;
        char *text = temp_get(file_of(id, "journal"), &n);
        for (char *p = text; (p = memmem(p, n - (size_t)(p - text), "\"t\":\"rows\"", 10)); p++)
            kept++;
        free(text);
        if (kept < done - 1)
            fail_msg("%d layers are shown and %d are in the journal", done, kept);
        usleep(1000);
    }
    ok(session_close(s, &err));
}

/* ---- two sessions, damage ---- */

static void a_second_one_changes_nothing(void **state)
{
    (void)state;
    char id[40];
    Session *s = open_demo(id);
    edit(s, "*layers.1.mlp.down_proj");
    analyze(s, NULL);
    ok(session_wait(s, &err));
    usleep(1500000); /* everything is written */
    FILE *f = fopen(file_of(id, "journal"), "ab"); /* half a record, as it looks while it is being written */
    assert_non_null(f);
    fputs("\x40\1\1\1half", f);
    assert_int_equal(fclose(f), 0);
    size_t n, m, held, still;
    char *before = temp_get(file_of(id, "journal"), &n), *lock = temp_get(file_of(id, "lock"), &held);
    for (int read_only = 0; read_only < 2; read_only++) {
        Session *second = restore(id, read_only);
        assert_true(session_is_read_only(second));
        assert_int_equal(session_undo_depth(second), 1);
        assert_int_equal(logged(second, "no whole record"), 1);
        static const char *const target[] = {"*layers.2.mlp.down_proj"};
        assert_int_equal(session_edit(second, target, 1, 0, false, NULL, &err), ST_USAGE);
        assert_int_equal(session_undo_depth(second), 1);
        ok(session_close(second, &err));
        char *after = temp_get(file_of(id, "journal"), &m), *lock2 = temp_get(file_of(id, "lock"), &still);
        assert_int_equal(m, n);
        assert_memory_equal(before, after, n);
        assert_string_equal(lock, lock2);
        free(after);
        free(lock2);
    }
    assert_false(file_exists(file_of(id, "journal.damaged")));
    free(before);
    free(lock);
    session_free(s);
}

static void damage_is_kept_aside(void **state)
{
    (void)state;
    char id[40];
    Session *s = open_demo(id);
    edit(s, "*layers.1.mlp.down_proj");
    edit(s, "*layers.2.mlp.down_proj");
    edit(s, "*layers.3.mlp.down_proj");
    ok(session_close(s, &err));
    size_t n, kept, aside;
    char *text = temp_get(file_of(id, "journal"), &n);
    char *second = memmem(text, n, "\"t\":\"rules\"", 11);
    assert_non_null(second);
    second = memmem(second + 1, n - (size_t)(second + 1 - text), "\"t\":\"rules\"", 11);
    assert_non_null(second);
    while (*second != '{')
        second--;
    second[2] ^= 1;
    temp_put(file_of(id, "journal"), text, n);
    size_t at = (size_t)(second - text) - 8; /* behind the first edit */
    s = restore(id, false);
    assert_int_equal(session_undo_depth(s), 1);
    assert_int_equal(logged(s, "journal.damaged"), 1);
    edit(s, "*layers.4.mlp.down_proj");
    ok(session_close(s, &err));
    char *damaged = temp_get(file_of(id, "journal.damaged"), &aside), *whole = temp_get(file_of(id, "journal"), &kept);
    assert_int_equal(aside, n - at);
    assert_memory_equal(damaged, text + at, aside);
    assert_memory_equal(whole, text, at);
    assert_true(kept > at);
    free(damaged);
    free(whole);
    free(text);
}

/* ---- jobs ---- */

static void cancelling_one_job_leaves_the_others(void **state)
{
    (void)state;
    char id[40];
    Session *s = open_demo(id);
    analyze(s, NULL);
    analyze(s, "*layers.0.*");
    analyze(s, "*layers.1.*");
    ok(session_measure(s, false, &err));
    assert_int_equal(session_jobs(s), 4);
    ok(session_cancel_job(s, session_job(s, 2)->id, 1, &err)); /* it waits */
    assert_int_equal(session_job(s, 2)->state, JOB_STOPPED);
    ok(session_cancel(s, 2, &err));
    ok(session_wait(s, &err));
    assert_int_equal(session_job(s, 0)->state, JOB_STOPPED);
    assert_int_equal(session_job(s, 1)->state, JOB_DONE);
    assert_int_equal(session_job(s, 2)->state, JOB_STOPPED);
    assert_int_equal(session_job(s, 3)->state, JOB_DONE);
    assert_int_equal(session_job(s, 2)->ok, 0);
    assert_int_equal(session_cancel_job(s, session_job(s, 2)->id, 1, &err), ST_USAGE);
    assert_int_equal(session_cancel_job(s, 77, 1, &err), ST_USAGE);
    session_free(s);
}

/* What of a stopped pass of one model is remembered has no meaning for another. */
static void another_model_forgets_the_stopped_pass(void **state)
{
    (void)state;
    char id[40];
    Session *s = open_demo(id);
    analyze(s, "*down_proj");
    while (session_busy(s) && session_job(s, 0)->done < 2) {
        session_pump(s);
        usleep(200);
    }
    ok(session_cancel(s, 1, &err));
    Status st = session_wait(s, &err);
    assert_true(st == ST_CANCELLED);
    ok(session_close(s, &err));
    s = restore(id, false);
    assert_int_equal(session_job(s, 0)->state, JOB_STOPPED);
    ok(session_open_model(s, "tests/golden/models/qwen3_moe/bf16", NULL, &err));
    assert_true(session_model(s)->nlinears > 56);
    assert_int_equal(session_resume_job(s, 0, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "no stopped job"));
    session_free(s);
}

/* ---- records ---- */

static Status parse_effect(const char *json, Effect *e)
{
    cJSON *o;
    ok(json_parse(json, strlen(json), "record", &o, &err));
    Status st = effect_parse(o, 56, e, &err);
    cJSON_Delete(o);
    return st;
}

static void same_effect(const Effect *a, const Effect *b)
{
    Str x = {0}, y = {0};
    effect_record(&x, a);
    effect_record(&y, b);
    assert_string_equal(str_text(&x), str_text(&y));
    str_free(&x);
    str_free(&y);
}

static void effects_are_read_with_and_without_names(void **state)
{
    (void)state;
    Effect e, was = {.tokens = 256, .predicted = 253, .texts = 3, .kl_mean = 0.1, .kl_median = 0.2, .kl_p99 = 0.3,
                     .kl_max = 0.4, .kl_se = 0.5, .top1 = 0.6, .top1_se = 0.7, .ppl_float = 8, .ppl_quant = 9,
                     .ppl_float_se = 10, .ppl_quant_se = 11, .out_mse = 12, .out_mse_se = 13, .first_layer_run = 14,
                     .layers_run = 15, .from_cache = true, .unseen = {18, 19, 20}, .seconds = 17, .ppl_change = 0.125, .ppl_change_se = NAN};
    ok(parse_effect("{\"texts\":3,\"v\":[256,253,0.1,0.2,0.3,0.4,0.5,0.6,0.7,8,9,10,11,12,13,14,15,1,17,18,19,20]}", &e));
    same_effect(&e, &was);
    ok(parse_effect("{\"texts\":3,\"v\":[256,253,0.1,0.2,0.3,0.4,0.5,0.6,0.7,8,9,10,11,12,13,14,15,1,17]}", &e));
    assert_true(e.seconds == 17 && e.unseen.linears == 0 && e.unseen.first == -1 && e.texts == 3);
    Str b = {0};
    str_puts(&b, "{\"t\":\"effect\"");
    effect_record(&b, &was);
    str_putc(&b, '}');
    assert_non_null(strstr(str_text(&b), "\"kl_p99\":0.29999999999999999"));
    ok(parse_effect(str_text(&b), &e));
    same_effect(&e, &was);
    str_free(&b);
    was.ppl_change = 0.0625;
    was.ppl_change_se = 0.5;
    str_puts(&b, "{\"t\":\"effect\"");
    effect_record(&b, &was);
    str_putc(&b, '}');
    ok(parse_effect(str_text(&b), &e));
    same_effect(&e, &was);
    str_free(&b);
    ok(parse_effect("{\"effect\":{\"tokens\":4,\"kl_mean\":null,\"of_tomorrow\":1}}", &e));
    assert_true(e.tokens == 4 && e.kl_mean != e.kl_mean && e.unseen.first == -1);
    static const char *const bad[] = {
        "{}", "{\"effect\":3}", "{\"v\":[1,2,3]}", "{\"effect\":{\"tokens\":1e300}}", "{\"effect\":{\"layers_run\":0.5}}",
        "{\"effect\":{\"texts\":\"3\"}}", "{\"effect\":{\"unseen_first\":56}}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(parse_effect(bad[i], &e), ST_DATA);
}

/* A record with these blocks, read back: its status. */
static Status reread_blocks(const TokenBlocks *b, const char *from, const char *to, int64_t predicted, TokenBlocks **out)
{
    Str text = {0};
    str_puts(&text, "{\"t\":\"effect\"");
    blocks_record(&text, b);
    str_putc(&text, '}');
    char *json = strdup(str_text(&text)), *at = from ? strstr(json, from) : NULL;
    assert_true(!from || (at && strlen(from) == strlen(to)));
    if (at)
        memcpy(at, to, strlen(to));
    cJSON *o;
    ok(json_parse(json, strlen(json), "record", &o, &err));
    Status st = blocks_parse(o, &(Effect){.predicted = predicted}, out, &err);
    cJSON_Delete(o);
    free(json);
    str_free(&text);
    return st;
}

static void blocks_are_read_as_written(void **state)
{
    (void)state;
    enum { N = 3 };
    TokenBlocks *b = calloc(1, sizeof *b + N * sizeof *b->b), *got;
    assert_non_null(b);
    strcpy(b->set, "0123456789abcdef");
    b->n = N;
    for (int i = 0; i < N; i++)
        b->b[i] = (TokenBlock){1.0f / (float)(i + 3), 41.1f, -0.3f * (float)i, 16, (uint16_t)(16 - i)};
    assert_int_equal(reread_blocks(b, NULL, NULL, 16 * N, &got), ST_OK);
    assert_true(got->n == N && strcmp(got->set, b->set) == 0);
    assert_memory_equal(got->b, b->b, N * sizeof *b->b);
    free(got);
    assert_int_equal(reread_blocks(b, NULL, NULL, 16 * N - 1, &got), ST_DATA); /* of another measurement */
    assert_null(got);
    assert_int_equal(reread_blocks(b, "\"v\"", "\"w\"", 16 * N, &got), ST_DATA);
    assert_int_equal(reread_blocks(b, "set", "sat", 16 * N, &got), ST_DATA);
    assert_int_equal(reread_blocks(b, "blocks", "blacks", 16 * N, &got), ST_OK); /* an older record */
    assert_null(got);
    b->b[1].agree = 17;
    assert_int_equal(reread_blocks(b, NULL, NULL, 16 * N, &got), ST_DATA);
    b->b[1].agree = 16;
    b->b[1].kl = NAN;
    assert_int_equal(reread_blocks(b, NULL, NULL, 16 * N, &got), ST_DATA);
    free(b);
}

static void whole_numbers_are_checked(void **state)
{
    (void)state;
    int64_t v = 7;
    assert_false(whole_of(0.0 / 0.0, INT64_MIN, INT64_MAX, &v));
    assert_false(whole_of(1.0 / 0.0, INT64_MIN, INT64_MAX, &v));
    assert_false(whole_of(9223372036854775808.0, INT64_MIN, INT64_MAX, &v));
    assert_false(whole_of(-1e19, INT64_MIN, INT64_MAX, &v));
    assert_false(whole_of(2.5, 0, 10, &v));
    assert_false(whole_of(11, 0, 10, &v));
    assert_false(whole_of(-1, 0, 10, &v));
    assert_int_equal(v, 7);
    assert_true(whole_of(10, 0, 10, &v));
    assert_int_equal(v, 10);
    assert_true(whole_of(-9223372036854775808.0, INT64_MIN, INT64_MAX, &v));
}

int main(void)
{
#define WITH_FOLDER(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(the_owner_never_touches_the_disk),
        WITH_FOLDER(a_new_folder_is_made_durable),
        WITH_FOLDER(a_failed_sync_is_final_and_told_once),
        WITH_FOLDER(a_journal_is_broken_for_good),
        WITH_FOLDER(one_layer_at_most_is_not_on_the_disk),
        WITH_FOLDER(a_second_one_changes_nothing),
        WITH_FOLDER(damage_is_kept_aside),
        WITH_FOLDER(cancelling_one_job_leaves_the_others),
        WITH_FOLDER(another_model_forgets_the_stopped_pass),
        cmocka_unit_test(effects_are_read_with_and_without_names),
        cmocka_unit_test(blocks_are_read_as_written),
        cmocka_unit_test(whole_numbers_are_checked),
    };
    return cmocka_run_group_tests_name("keeper", tests, NULL, NULL);
}
