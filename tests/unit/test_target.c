#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/file.h"
#include "save/debug_saver.h"
#include "save/manifest.h"
#include "save/target.h"
#include "tests/lib/savefeed.h"
#include "tests/lib/tempdir.h"

/* What lies in a run's target: files of others stay, what slimscope wrote before is replaced when that is asked for. */

#define WEIGHTS "quant_model_weights-00001-of-00001.safetensors"
#define TEMP ".slimscope-ascendv1_saver"

typedef struct Fixture {
    SaveFeed f;
    char *dir, target[512];
    const SaveFormat *s[2];
    SavePlan plan[2];
    int n;
} Fixture;

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

static void fixture_open(Fixture *x, const char *second)
{
    *x = (Fixture){.dir = temp_folder(), .n = second ? 2 : 1};
    savefeed_open(&x->f, "tests/golden/formats/_models/qwen3-bf16", "tests/golden/formats/w8a8_dynamic/out", 1000);
    snprintf(x->target, sizeof x->target, "%s/t", x->dir);
    for (int i = 0; i < x->n; i++) {
        x->s[i] = i == 0 ? saver_find("ascendv1_saver") : saver_find(second);
        x->plan[i] = savefeed_plan(&x->f, x->target, false);
        x->plan[i].flow = ""; /* a plan of a run, not one before it */
    }
}

static void fixture_close(Fixture *x)
{
    savefeed_close(&x->f);
    temp_remove(x->dir);
}

static const char *in(const Fixture *x, const char *name)
{
    return temp_path(x->target, name);
}

static bool is_there(const Fixture *x, const char *name)
{
    struct stat st;
    return lstat(in(x, name), &st) == 0;
}

/* A run of all savers, as the sink drives them; `stop`: calls of finish that are left out at the end. */
static void run(Fixture *x, bool resume, int stop, NameList *removed)
{
    Error err = {0};
    void *self[2];
    int first[2];
    bool done;
    ok(save_target_check(x->s, x->plan, x->n, resume, &done, &err), &err);
    if (done)
        return;
    for (int i = 0; i < x->n; i++)
        ok(x->s[i]->ops->open(&self[i], x->s[i], &x->plan[i], resume, &first[i], &err), &err);
    for (int l = first[0]; l < x->f.m->cfg.layers; l++)
        for (int i = 0; i < x->n; i++) {
            savefeed_layer(&x->f, x->s[i], self[i], l);
            ok(x->s[i]->ops->layer_done(self[i], l, &err), &err);
        }
    for (int i = 0; i < x->n; i++)
        ok(x->s[i]->ops->ready(self[i], &err), &err);
    for (int i = 0; i < x->n - stop; i++)
        ok(x->s[i]->ops->finish(self[i], &err), &err);
    NameList gone = {0};
    if (!stop)
        ok(save_target_clean(x->s, x->plan, x->n, removed ? removed : &gone, &err), &err);
    names_free(&gone);
    for (int i = x->n; i-- > 0;)
        x->s[i]->ops->close(self[i], stop > 0);
}

static void refused(Fixture *x, bool resume, Status want, const char *text)
{
    Error err = {0};
    bool done;
    Status st = save_target_check(x->s, x->plan, x->n, resume, &done, &err);
    if (st != want || !strstr(err.text, text))
        fail_msg("got %d: %s", st, err.text);
}

/* The manifest names every file of the output, with its size, and only them. */
static void test_manifest(void **state)
{
    (void)state;
    Fixture x;
    Manifest *m;
    size_t n;
    Error err = {0};
    fixture_open(&x, "mindie_format_saver");
    run(&x, false, 0, NULL);
    int at = open(x.target, O_RDONLY | O_DIRECTORY);
    ok(manifest_list(at, x.target, &m, &n, &err), &err);
    assert_int_equal(n, 2);
    assert_string_equal(m[0].saver, "ascendv1_saver");
    assert_string_equal(m[0].model, "qwen3-bf16");
    int files = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < m[i].n; k++) {
            assert_true(manifest_is_there(at, &m[i].files[k]));
            assert_false(m[i].files[k].old);
            files += i == 0 || !manifest_find(&m[0], m[i].files[k].name, false);
        }
    assert_int_equal(files + 2, temp_entries(x.target));
    manifest_list_free(m, n);
    close(at);
    fixture_close(&x);
}

/* A folder from elsewhere may hold a manifest that names whatever it likes. */
static void test_hostile_manifest(void **state)
{
    (void)state;
    Fixture x;
    NameList removed = {0};
    fixture_open(&x, NULL);
    assert_int_equal(mkdir(x.target, 0700), 0);
    temp_puts(temp_path(x.dir, "outside"), "mine");
    temp_puts(in(&x, "mine.txt"), "mine");
    temp_puts(in(&x, "link"), "mine");
    assert_int_equal(remove(in(&x, "link")), 0);
    assert_int_equal(symlink("../outside", in(&x, "link")), 0);
    temp_puts(in(&x, ".slimscope.mindie_format_saver.json"),
              "{\"written_by\":\"slimscope\",\"saver\":\"mindie_format_saver\",\"model\":\"m\",\"run\":\"\",\"files\":"
              "[[\"../outside\",4],[\"/etc/hostname\",4],[\"link\",4],[\"mine.txt\",5],[\".\",4],[7,4]]}");
    temp_puts(in(&x, ".slimscope.other.json"), "{\"written_by\":");
    x.plan[0].force = true;
    run(&x, false, 0, &removed);
    assert_int_equal(removed.n, 0);
    assert_true(file_exists(temp_path(x.dir, "outside")));
    assert_true(is_there(&x, "mine.txt")); /* of another size than was written */
    assert_true(is_there(&x, "link"));
    assert_true(is_there(&x, ".slimscope.other.json"));
    fixture_close(&x);
}

/* Nothing of others goes; what would be replaced is told, and needs a word. */
static void test_foreign(void **state)
{
    (void)state;
    static const char *const foreign[] = {"my_lora_adapter.safetensors", "old.safetensors", "model.safetensors.index.json",
                                          "notes.txt", ".hidden"};
    Fixture x;
    SaveTarget t;
    Error err = {0};
    fixture_open(&x, NULL);
    assert_int_equal(mkdir(x.target, 0700), 0);
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        temp_puts(in(&x, foreign[i]), "mine");
    assert_int_equal(mkdir(in(&x, "folder.safetensors"), 0700), 0);
    ok(save_target_look(x.s, x.plan, 1, &t, &err), &err);
    assert_int_equal(t.replaced.n + t.removed.n, 0);
    assert_int_equal(t.left.n, 4);
    assert_string_equal(t.left.s[0], "folder.safetensors");
    save_target_fini(&t);
    run(&x, false, 0, NULL);
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        assert_true(is_there(&x, foreign[i]));
    /* a file that is in the way, although it is only a document */
    Fixture y;
    fixture_open(&y, NULL);
    assert_int_equal(mkdir(y.target, 0700), 0);
    temp_puts(in(&y, "config.json"), "mine");
    refused(&y, false, ST_USAGE, "holds config.json, of no output of slimscope: --force replaces it, or choose another folder");
    y.plan[0].force_word = "!";
    refused(&y, false, ST_USAGE, "! replaces it");
    refused(&y, true, ST_USAGE, "config.json");
    y.plan[0].force = true;
    run(&y, false, 0, NULL);
    assert_same_file(in(&x, "config.json"), in(&y, "config.json"));
    fixture_close(&x);
    fixture_close(&y);
}

/* An older output goes as a whole, also one of another saver and in other shards, but only what is still as written. */
static void test_older(void **state)
{
    (void)state;
    Fixture x;
    NameList removed = {0};
    SaveTarget t;
    Error err = {0};
    fixture_open(&x, "mindie_format_saver");
    x.plan[0].part_file_size = 30000 / 0x1p30;
    x.plan[1].part_file_size = 0;
    SaveFile *files;
    int n;
    ok(x.s[0]->ops->files(x.s[0], &x.plan[0], &files, &n, &err), &err);
    run(&x, false, 0, NULL);
    assert_non_null(strstr(files[1].name, "quant_model_weights-00002-of-"));
    assert_true(is_there(&x, files[1].name));
    int16_t was = x.f.level[3];
    x.f.level[3] = 0;
    refused(&x, false, ST_USAGE, "holds 'qwen3-bf16' as ascendv1_saver wrote it");
    x.f.level[3] = was;
    Model other = *x.f.m;
    snprintf(other.fingerprint, sizeof other.fingerprint, "another");
    x.plan[0].model = &other;
    refused(&x, false, ST_USAGE, "holds another model, 'qwen3-bf16', as ascendv1_saver wrote it");
    x.plan[0].model = x.f.m;
    temp_puts(in(&x, files[1].name), "put here since");
    x.n = 1;
    x.plan[0].part_file_size = 4;
    x.plan[0].force = true;
    ok(save_target_look(x.s, x.plan, 1, &t, &err), &err);
    assert_int_equal(t.left.n, 1);
    size_t would = t.removed.n;
    save_target_fini(&t);
    run(&x, false, 0, &removed);
    assert_int_equal(removed.n, would);
    assert_true(would >= 6);
    names_free(&removed);
    assert_true(is_there(&x, WEIGHTS));
    assert_true(is_there(&x, files[1].name));
    assert_false(is_there(&x, files[0].name));
    free(files);
    assert_false(is_there(&x, ".slimscope.mindie_format_saver.json"));
    assert_true(is_there(&x, ".slimscope.ascendv1_saver.json"));
    /* what is there now is what a run into an empty folder gives */
    Fixture y;
    fixture_open(&y, NULL);
    run(&y, false, 0, NULL);
    assert_int_equal(temp_entries(x.target), temp_entries(y.target) + 1);
    assert_same_file(in(&x, ".slimscope.ascendv1_saver.json"), in(&y, ".slimscope.ascendv1_saver.json"));
    fixture_close(&y);
    fixture_close(&x);
}

static bool is_done(Fixture *x)
{
    Error err = {0};
    SaveTarget t;
    bool done;
    bool checked = save_target_check(x->s, x->plan, x->n, false, &done, &err) == ST_OK && done;
    ok(save_target_look(x->s, x->plan, x->n, &t, &err), &err);
    assert_int_equal(t.done, checked);
    save_target_fini(&t);
    return checked;
}

/* A finished output of the very same run counts as done; whatever differs is refused. */
static void test_done(void **state)
{
    (void)state;
    Fixture x;
    fixture_open(&x, "compressed_tensors");
    x.plan[0].extra = &(SaveExtra){"recipe.yaml", "a: 1\n", 5};
    assert_false(is_done(&x));
    run(&x, false, 0, NULL);
    assert_true(is_done(&x));
    for (int i = 0; i < 2; i++) /* before its run */
        x.plan[i].flow = NULL;
    assert_true(is_done(&x));
    x.plan[1].texts = "others"; /* which aren't known then */
    assert_true(is_done(&x));
    for (int i = 0; i < 2; i++)
        x.plan[i].flow = "";
    refused(&x, false, ST_USAGE, "holds 'qwen3-bf16' as ascendv1_saver wrote it");
    x.plan[1].texts = NULL;
    x.plan[1].flow = "another";
    assert_false(is_done(&x));
    x.plan[1].flow = "";
    x.plan[1].arith = "exact";
    assert_false(is_done(&x));
    x.plan[1].arith = x.plan[0].arith;
    int16_t was = x.f.level[3];
    x.f.level[3] = 0;
    assert_false(is_done(&x));
    x.f.level[3] = was;
    x.plan[0].extra = &(SaveExtra){"recipe.yaml", "a: 2\n", 5};
    assert_false(is_done(&x));
    x.plan[0].extra = &(SaveExtra){"recipe.yaml", "a: 1\n", 5};
    x.n = 1; /* there is another output beside it */
    assert_false(is_done(&x));
    x.n = 2;
    assert_true(is_done(&x));
    temp_puts(in(&x, "config.json"), "{}");
    assert_false(is_done(&x));
    fixture_close(&x);
}

/* What describes a run is of that run: not when a run that replaces both was stopped between the two. */
static void test_done_described(void **state)
{
    (void)state;
    Fixture x;
    fixture_open(&x, NULL);
    x.s[1] = &saver_debug_info;
    x.plan[1] = x.plan[0];
    run(&x, false, 0, NULL);
    x.n = 2;
    refused(&x, false, ST_USAGE, "as ascendv1_saver wrote it"); /* one was made, two are asked for */
    x.plan[0].force = x.plan[1].force = true;
    run(&x, false, 0, NULL);
    x.plan[0].force = x.plan[1].force = false;
    assert_true(is_done(&x));
    x.plan[0].arith = x.plan[1].arith = "exact";
    assert_false(is_done(&x));
    x.plan[0].force = x.plan[1].force = true;
    run(&x, false, 1, NULL);
    x.plan[0].force = x.plan[1].force = false;
    assert_false(is_done(&x));
    run(&x, true, 0, NULL);
    assert_true(is_done(&x));
    fixture_close(&x);
}

/* Two savers, stopped between their last steps: what is whole is not made again, nothing is lost. */
static void test_two_savers_resume(void **state)
{
    (void)state;
    for (int stop = 1; stop <= 2; stop++) {
        Fixture x, y;
        fixture_open(&x, "compressed_tensors");
        fixture_open(&y, "compressed_tensors");
        run(&y, false, 0, NULL);
        run(&x, false, stop, NULL);
        refused(&x, false, ST_USAGE, "holds a stopped run of this model and recipe, 2 of 2 layers done: go on with it by --resume");
        run(&x, true, 0, NULL);
        assert_int_equal(temp_entries(x.target), temp_entries(y.target));
        static const char *const files[] = {WEIGHTS, "model-00001-of-00001.safetensors", "config.json",
                                            "quant_model_description.json", ".slimscope.ascendv1_saver.json",
                                            ".slimscope.compressed_tensors.json", "model.safetensors.index.json"};
        for (size_t i = 0; i < sizeof files / sizeof *files; i++)
            assert_same_file(in(&x, files[i]), in(&y, files[i]));
        run(&x, true, 0, NULL); /* nothing left to do */
        assert_int_equal(temp_entries(x.target), temp_entries(y.target));
        fixture_close(&x);
        fixture_close(&y);
    }
}

static void test_stopped(void **state)
{
    (void)state;
    Fixture x;
    SaveTarget t;
    Error err = {0};
    int first;
    fixture_open(&x, NULL);
    void *self = savefeed_start(x.s[0], &x.plan[0]);
    savefeed_layers(&x.f, x.s[0], self, 0, 1);
    refused(&x, false, ST_IO, "another run of this program is writing to");
    x.s[0]->ops->close(self, true);
    refused(&x, false, ST_USAGE, "1 of 2 layers done");
    ok(save_target_look(x.s, x.plan, 1, &t, &err), &err);
    assert_int_equal(t.stopped, 1);
    assert_true(t.goes_on);
    save_target_fini(&t);
    int16_t was = x.f.level[3];
    x.f.level[3] = 0;
    refused(&x, false, ST_USAGE, "this one can't go on with (the recipe quantizes other layers or with another scheme)");
    x.f.level[3] = was;
    x.plan[0].texts = "others";
    refused(&x, false, ST_USAGE, "the calibration texts are others");
    x.plan[0].flow = NULL; /* before a run it isn't known which texts it has */
    refused(&x, false, ST_USAGE, "1 of 2 layers done");
    x.plan[0].texts = NULL;
    x.plan[0].flow = "";
    bool done;
    ok(save_target_check(x.s, x.plan, 1, true, &done, &err), &err);
    assert_false(done);
    /* a file that comes meanwhile is not taken for one of ours */
    ok(x.s[0]->ops->open(&self, x.s[0], &x.plan[0], true, &first, &err), &err);
    temp_puts(in(&x, "config.json"), "mine");
    savefeed_layers(&x.f, x.s[0], self, first, 2);
    assert_int_equal(x.s[0]->ops->finish(self, &err), ST_IO);
    assert_non_null(strstr(err.text, "'config.json' has come into"));
    x.s[0]->ops->close(self, true);
    assert_int_equal(temp_entries(x.target), 2);
    assert_int_equal(unlink(in(&x, "config.json")), 0);
    run(&x, true, 0, NULL);
    assert_true(is_there(&x, WEIGHTS));
    fixture_close(&x);
}

/* Links in the target are not followed. */
static void test_links(void **state)
{
    (void)state;
    Fixture x;
    Error err = {0};
    void *self;
    int first;
    fixture_open(&x, NULL);
    assert_int_equal(mkdir(x.target, 0700), 0);
    const char *home = temp_path(x.dir, "home");
    assert_int_equal(mkdir(home, 0700), 0);
    temp_puts(temp_path(x.dir, "home/thesis.tex"), "precious");
    temp_puts(temp_path(x.dir, "home/part-00001"), "precious");
    assert_int_equal(symlink("../home", in(&x, TEMP)), 0);
    assert_int_equal(x.s[0]->ops->open(&self, x.s[0], &x.plan[0], false, &first, &err), ST_IO);
    assert_non_null(strstr(err.text, "is a link or a file"));
    assert_int_equal(temp_entries(temp_path(x.dir, "home")), 2);
    assert_int_equal(unlink(in(&x, TEMP)), 0);
    /* documents and the record of a run */
    assert_int_equal(symlink("../home/thesis.tex", in(&x, "config.json")), 0);
    assert_int_equal(mkdir(in(&x, TEMP), 0700), 0);
    assert_int_equal(symlink("../../home/thesis.tex", in(&x, TEMP "/journal")), 0);
    temp_puts(in(&x, TEMP "/notes.txt"), "mine");
    refused(&x, false, ST_USAGE, "config.json");
    x.plan[0].force = true;
    run(&x, false, 0, NULL);
    size_t n;
    char *text = temp_get(temp_path(x.dir, "home/thesis.tex"), &n);
    assert_string_equal(text, "precious");
    free(text);
    struct stat st;
    assert_int_equal(lstat(in(&x, "config.json"), &st), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_true(is_there(&x, TEMP "/notes.txt"));
    fixture_close(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_manifest),  cmocka_unit_test(test_hostile_manifest), cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_older),
        cmocka_unit_test(test_done), cmocka_unit_test(test_done_described), cmocka_unit_test(test_two_savers_resume), cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_links),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
