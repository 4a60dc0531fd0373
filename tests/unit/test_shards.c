/* Checkpoints of several files: the index, shards without one, and folders that are something else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "io/modeldir.h"
#include "io/safetensors.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/trial.h"

static void make_shards(const char *dir)
{
    Error e = {0};
    const TensorOut one[] = {{"a", DT_U8, 1, {1}, "1"}, {"b", DT_U8, 1, {1}, "2"}}, two = {"c", DT_U8, 1, {1}, "3"};
    assert_int_equal(safetensors_write(temp_path(dir, "m-1.safetensors"), one, 2, NULL, &e), ST_OK);
    assert_int_equal(safetensors_write(temp_path(dir, "m-2.safetensors"), &two, 1, NULL, &e), ST_OK);
}

#define INDEX(map) "{\"metadata\":{\"total_size\":3},\"weight_map\":{" map "}}"

static void shards_are_put_together(void **state)
{
    (void)state;
    char *dir = temp_folder();
    make_shards(dir);
    temp_puts(temp_path(dir, "model.safetensors.index.json"),
              INDEX("\"c\":\"m-2.safetensors\",\"a\":\"m-1.safetensors\",\"b\":\"m-1.safetensors\""));
    Error e = {0};
    Checkpoint *c;
    assert_int_equal(checkpoint_open(&c, dir, &e), ST_OK);
    assert_int_equal(checkpoint_files(c), 2);
    assert_int_equal(checkpoint_count(c), 3);
    assert_string_equal(checkpoint_at(c, 0)->name, "a");
    assert_int_equal(checkpoint_find(c, "c")->file, 1);
    assert_non_null(strstr(checkpoint_file_path(c, 1), "m-2.safetensors"));
    char got;
    assert_int_equal(checkpoint_read(c, checkpoint_find(c, "c"), 0, 1, &got, &e), ST_OK);
    assert_int_equal(got, '3');
    checkpoint_free(c);
    temp_remove(dir);
}

static void bad_indexes_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *index, *fragment;
    } rows[] = {
        {"{}", "no weight_map"},
        {"[]", "expected an object"},
        {"{\"weight_map\":null}", "weight_map must be an object"},
        {"{\"weight_map\":{}}", "weight_map is empty"},
        {INDEX("\"a\":7"), "must give a file name for tensor 'a'"},
        {INDEX("\"a\":\"m-3.safetensors\""), "names shard 'm-3.safetensors', which is missing"},
        {INDEX("\"a\":\"../m-1.safetensors\""), "shard '../m-1.safetensors' is no plain file name"},
        {INDEX("\"a\":\"/etc/passwd\""), "no plain file name"},
        {INDEX("\"a\":\"x/m-1.safetensors\""), "no plain file name"},
        {INDEX("\"a\":\"..\""), "no plain file name"},
        {INDEX("\"a\":\".\""), "no plain file name"},
        {INDEX("\"a\":\"\""), "no plain file name"},
        {INDEX("\"b\":\"m-1.safetensors\",\"d\":\"m-dup.safetensors\""),
         "tensor 'a' is in two shards and no index says which one counts: "},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "is a Git LFS pointer"},
        {INDEX("\"a\":\"m-1.safetensors\"") "x", "something follows"},
    };
    char *dir = temp_folder();
    make_shards(dir);
    Error e = {0};
    const TensorOut dup[] = {{"d", DT_U8, 1, {1}, "1"}, {"a", DT_U8, 1, {1}, "2"}};
    assert_int_equal(safetensors_write(temp_path(dir, "m-dup.safetensors"), dup, 2, NULL, &e), ST_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        temp_puts(temp_path(dir, "model.safetensors.index.json"), rows[i].index);
        assert_int_equal(try_open(dir, &e), ST_DATA);
        if (!strstr(e.text, rows[i].fragment))
            fail_msg("%s: '%s' lacks '%s'", rows[i].index, e.text, rows[i].fragment);
    }
    temp_remove(dir);
}

/* The index is right: of two tensors of a name the one of its shard is read, the last entry of a key counts, and what it
 * names that no shard has is told. */
static void the_index_says_where_a_tensor_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *index, *note, *name, *promised;
        char value;
        int count;
    } rows[] = {
        {INDEX("\"a\":\"m-1.safetensors\",\"d\":\"m-dup.safetensors\""),
         "tensor 'a' (m-1.safetensors) is in several shards and is read where the index says", "a", NULL, '1', 3},
        {INDEX("\"b\":\"m-1.safetensors\",\"a\":\"m-dup.safetensors\""),
         "tensor 'a' (m-dup.safetensors) is in several shards and is read where the index says", "a", NULL, '2', 3},
        {INDEX("\"a\":\"m-dup.safetensors\",\"b\":\"m-1.safetensors\",\"a\":\"m-1.safetensors\""),
         "tensor 'a' (m-1.safetensors) is in several", "a", NULL, '1', 3},
        {INDEX("\"a\":\"m-1.safetensors\",\"x\":\"m-1.safetensors\",\"y\":\"m-1.safetensors\""),
         "2 tensors are in the index and in no shard, the first is 'x' (m-1.safetensors)", "x", "/m-1.safetensors", 0, 2},
        {INDEX("\"a\":\"m-2.safetensors\",\"b\":\"m-1.safetensors\""),
         "tensor 'a' (m-1.safetensors) is in another shard than the index says and is read there", "a", NULL, '1', 3},
    };
    char *dir = temp_folder(), got;
    make_shards(dir);
    Error e = {0};
    const TensorOut dup[] = {{"d", DT_U8, 1, {1}, "1"}, {"a", DT_U8, 1, {1}, "2"}};
    assert_int_equal(safetensors_write(temp_path(dir, "m-dup.safetensors"), dup, 2, NULL, &e), ST_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Checkpoint *c;
        temp_puts(temp_path(dir, "model.safetensors.index.json"), rows[i].index);
        if (checkpoint_open(&c, dir, &e) != ST_OK)
            fail_msg("%s: %s", rows[i].index, e.text);
        assert_non_null(checkpoint_note(c));
        assert_non_null(strstr(checkpoint_note(c), rows[i].note));
        assert_int_equal(checkpoint_count(c), rows[i].count);
        const char *promised = checkpoint_promised(c, rows[i].name);
        const TensorInfo *t = checkpoint_find(c, rows[i].name);
        assert_true(!promised == !rows[i].promised && (!promised || strstr(promised, rows[i].promised)));
        assert_true(!t == !rows[i].value);
        if (t) {
            assert_int_equal(checkpoint_read(c, t, 0, 1, &got, &e), ST_OK);
            assert_int_equal(got, rows[i].value);
        }
        checkpoint_free(c);
    }
    temp_remove(dir);
}

/* Shards without an index are read when all are there. */
static void shards_without_an_index_are_read(void **state)
{
    (void)state;
    char *dir = temp_folder(), got;
    Error e = {0};
    Checkpoint *c;
    const TensorOut one[] = {{"a", DT_U8, 1, {1}, "1"}}, two[] = {{"b", DT_U8, 1, {1}, "2"}};
    assert_int_equal(safetensors_write(temp_path(dir, "model-00002-of-00002.safetensors"), two, 1, NULL, &e), ST_OK);
    assert_int_equal(try_open(dir, &e), ST_DATA);
    assert_non_null(strstr(e.text, "1 of 2 shards: model-00001-of-00002.safetensors is missing"));
    assert_int_equal(safetensors_write(temp_path(dir, "model-00001-of-00002.safetensors"), one, 1, NULL, &e), ST_OK);
    assert_int_equal(checkpoint_open(&c, dir, &e), ST_OK);
    assert_string_equal(checkpoint_note(c), "there is no model.safetensors.index.json: the 2 shards of the folder are read");
    assert_int_equal(checkpoint_read(c, checkpoint_find(c, "b"), 0, 1, &got, &e), ST_OK);
    assert_int_equal(got, '2');
    checkpoint_free(c);
    assert_int_equal(safetensors_write(temp_path(dir, "model-00001-of-00002.safetensors"), two, 1, NULL, &e), ST_OK);
    assert_int_equal(try_open(dir, &e), ST_DATA);
    assert_non_null(strstr(e.text, "tensor 'b' is in two shards and no index says which one counts"));
    temp_puts(temp_path(dir, "model-00001-of-00002.safetensors"), "{}");
    assert_int_equal(try_open(dir, &e), ST_DATA);
    assert_non_null(strstr(e.text, "shards without model.safetensors.index.json: "));
    temp_remove(dir);
}

/* A folder without weights says what it is. */
static void other_folders_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *file, *fragment;
    } rows[] = {
        {"x.txt", "and no model.safetensors.index.json"},
        {"model-00001.safetensors", "has weights under another name"},
        {"pytorch_model.bin", "has the weights as PyTorch files: convert them to safetensors first ('pytorch_model.bin')"},
        {"pytorch_model-00001-of-00002.bin", "PyTorch files: convert"},
        {"tiny-q4_k.gguf", "has a GGUF model: give the Hugging Face checkpoint"},
        {"consolidated.00.pth", "in the layout of their maker"},
        {"quant_model_weight_w8a8.safetensors", "is a quantized model: give the checkpoint it was made from"},
        {"adapter_model.safetensors", "is an adapter (LoRA): merge it into its base model first"},
    };
    char *dir = temp_folder(), hint[300];
    Error e = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) { /* each says more than the ones before */
        temp_puts(temp_path(dir, rows[i].file), "x");
        assert_int_equal(try_open(dir, &e), ST_DATA);
        if (!strstr(e.text, rows[i].fragment))
            fail_msg("%s: '%s' lacks '%s'", rows[i].file, e.text, rows[i].fragment);
        modeldir_hint(dir, hint, sizeof hint);
        assert_true(i == 0 ? !*hint : strstr(hint, "; the folder ") == hint);
    }
    temp_remove(dir);
}

enum { FEW_FILES = 40, READERS = 4 };

static void *read_all_shards(void *ctx)
{
    Checkpoint *c = ctx;
    Error e = {0};
    for (int round = 0; round < 20; round++)
        for (int64_t i = 0; i < checkpoint_count(c); i++) {
            const TensorInfo *t = checkpoint_at(c, (i * 7) % checkpoint_count(c));
            int32_t got;
            if (checkpoint_read(c, t, 0, sizeof got, &got, &e) != ST_OK || got != t->file)
                return ctx;
        }
    return NULL;
}

/* More shards than descriptors: some are open at a time, whatever the threads ask for. */
static void more_shards_than_descriptors(void **state)
{
    (void)state;
    char *dir = temp_folder(), file[48];
    Error e = {0};
    Checkpoint *c;
    for (int32_t i = 0; i < 3 * FEW_FILES; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        const TensorOut t = {name, DT_I32, 1, {1}, &i};
        snprintf(file, sizeof file, "model-%05d-of-%05d.safetensors", i + 1, 3 * FEW_FILES);
        assert_int_equal(safetensors_write(temp_path(dir, file), &t, 1, NULL, &e), ST_OK);
    }
    struct rlimit old, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    few = old;
    few.rlim_cur = FEW_FILES;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    Status st = checkpoint_open(&c, dir, &e);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    if (st != ST_OK)
        fail_msg("%s", e.text);
    pthread_t thread[READERS];
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, read_all_shards, c), 0);
    for (int i = 0; i < READERS; i++) {
        void *failed;
        pthread_join(thread[i], &failed);
        assert_null(failed);
    }
    /* a shard that is opened again must be what it was */
    temp_puts(temp_path(dir, "model-00001-of-00120.safetensors"), "another");
    int32_t got;
    assert_int_equal(checkpoint_read(c, checkpoint_find(c, "t50"), 0, 4, &got, &e), ST_OK);
    for (int i = 60; i < 100; i++)
        assert_int_equal(checkpoint_read(c, checkpoint_at(c, i), 0, 4, &got, &e), ST_OK);
    assert_int_equal(checkpoint_read(c, checkpoint_find(c, "t0"), 0, 4, &got, &e), ST_DATA);
    assert_non_null(strstr(e.text, "has changed"));
    checkpoint_free(c);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    temp_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_are_put_together),
        cmocka_unit_test(bad_indexes_are_refused),
        cmocka_unit_test(the_index_says_where_a_tensor_is_read),
        cmocka_unit_test(shards_without_an_index_are_read),
        cmocka_unit_test(other_folders_are_named),
        cmocka_unit_test(more_shards_than_descriptors),
    };
    return cmocka_run_group_tests_name("shards", tests, NULL, NULL);
}
