#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "io/modeldir.h"
#include "io/safetensors.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/trial.h"

/* A file with this header text and `data` zero bytes behind it. */
static void put_file(const char *path, const char *header, size_t header_len, size_t data)
{
    char *b = calloc(8 + header_len + data + 1, 1);
    assert_non_null(b);
    for (int i = 0; i < 8; i++)
        b[i] = (char)((uint64_t)header_len >> (8 * i));
    memcpy(b + 8, header, header_len);
    temp_put(path, b, 8 + header_len + data);
    free(b);
}

static void good_headers(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        int count;
    } rows[] = {
        {"{}", 0, 0},
        {"{\"__metadata__\":{\"format\":\"pt\"}}    ", 0, 0},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, 1},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, 1},
        /* order in the header is free; empty tensors lie between others */
        {"{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[4,7]},\"z\":{\"dtype\":\"F32\",\"shape\":[0,9],"
         "\"data_offsets\":[4,4]},"
         "\"a\":{\"dtype\":\"BF16\",\"shape\":[1,2],\"data_offsets\":[0,4]}}", 7, 3},
        {"{\"a\":{\"dtype\":\"F8_E8M0\",\"shape\":[1,1,1,1,1,2],\"data_offsets\":[0,2],\"other\":null}}", 2, 1},
    };
    char *dir = temp_folder();
    const char *path = temp_path(dir, "f.safetensors");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_file(path, rows[i].header, strlen(rows[i].header), rows[i].data);
        Error e = {0};
        Checkpoint *c;
        if (checkpoint_open(&c, path, &e) != ST_OK)
            fail_msg("%s: %s", rows[i].header, e.text);
        assert_int_equal(checkpoint_count(c), rows[i].count);
        for (int t = 1; t < rows[i].count; t++)
            assert_true(checkpoint_at(c, t - 1)->offset <= checkpoint_at(c, t)->offset);
        checkpoint_free(c);
    }
    temp_remove(dir);
}

#define T(name, dtype, shape, begin, end) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" #begin "," #end "]}"

static const struct {
    const char *header;
    size_t data;
    const char *fragment;
} hostile_headers[] = {
    {"", 0, "does not begin with '{'"},
    {"[]", 0, "does not begin with '{'"},
    {" {}", 0, "does not begin with '{'"},
    {"\xef\xbb\xbf{}", 0, "does not begin with '{'"},
    {"{}{}", 0, "something follows"},
    {"{", 0, "expected a key"},
    {"{\"a\":1}", 0, "tensor 'a': expected an object"},
    {"{\"a\":null}", 0, "tensor 'a': expected an object"},
    {"{\"a\":{}}", 0, "tensor 'a': 'dtype' must be a string"},
    {"{\"a\":{\"dtype\":7}}", 0, "'dtype' must be a string"},
    {"{" T("a", "F4", "2", 0, 1) "}", 1, "tensor 'a': unknown dtype 'F4'"},
    {"{" T("a", "f32", "1", 0, 4) "}", 4, "unknown dtype 'f32'"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "'shape' must be a list"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,4]}}", 4, "'shape' must be a list"},
    {"{" T("a", "F32", "-1", 0, 4) "}", 4, "'shape' must be a list of whole numbers"},
    {"{" T("a", "F32", "1.5", 0, 6) "}", 6, "'shape' must be a list of whole numbers"},
    {"{" T("a", "F32", "\"1\"", 0, 4) "}", 4, "'shape' must be a list of whole numbers"},
    {"{" T("a", "F32", "1,1,1,1,1,1,1", 0, 4) "}", 4, "more than 6 dimensions"},
    {"{" T("a", "F32", "4294967296,4294967296", 0, 4) "}", 4, "'shape' is too large"},
    {"{" T("a", "F32", "4611686018427387904", 0, 0) "}", 0, "'shape' must be a list of whole numbers"},
    {"{" T("a", "F64", "4503599627370496,4096", 0, 0) "}", 0, "'shape' is too large"},
    {"{" T("a", "F32", "9007199254740993", 0, 4) "}", 4, "'shape' must be a list of whole numbers"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "'data_offsets' must be two"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "'data_offsets' must be two"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "'data_offsets' must be two"},
    {"{" T("a", "F32", "1", 4, 0) "}", 4, "ascending"},
    {"{" T("a", "F32", "1", -4, 0) "}", 4, "'data_offsets' must be two"},
    {"{" T("a", "F32", "2", 0, 4) "}", 4, "need 8 bytes, 'data_offsets' give 4"},
    {"{" T("a", "F32", "1", 0, 8) "}", 8, "need 4 bytes, 'data_offsets' give 8"},
    {"{" T("a", "F32", "2", 0, 8) "}", 7, "truncated: the tensor ends at byte"},
    {"{" T("a", "F32", "1", 9007199254740000, 9007199254740004) "}", 4, "truncated"},
    {"{" T("a", "F32", "1", 0, 4) "," T("b", "F32", "1", 2, 6) "}", 6, "'a' and 'b' overlap"},
    {"{" T("a", "F32", "1", 0, 4) "," T("b", "F32", "1", 0, 4) "}", 4, "'a' and 'b' overlap"},
    {"{" T("a", "F32", "1", 4, 8) "}", 8, "4 bytes before tensor 'a' belong to no tensor"},
    {"{" T("a", "F32", "1", 0, 4) "," T("b", "U8", "1", 5, 6) "}", 6, "1 bytes before tensor 'b'"},
    {"{" T("a", "F32", "1", 0, 4) "}", 9, "5 bytes at the end belong to no tensor"},
    {"{}", 1, "1 bytes at the end"},
    {"{" T("a", "F32", "1", 0, 4) "," T("a", "F32", "1", 4, 8) "}", 8, "key 'a' is there twice"},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
     "key 'dtype' is there twice"},
    {"{" T("", "F32", "1", 0, 4) "}", 4, "without a name"},
    {"{" T("a\\u0000b", "F32", "1", 0, 4) "}", 4, "\\u0000 is not allowed"},
    {"{\"__metadata__\":[]}", 0, "'__metadata__' must be an object of strings"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "'__metadata__' must be an object of strings"},
    {"{\"\xff\":1}", 0, "ill-formed UTF-8"},
};

static void hostile_headers_are_refused(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *path = temp_path(dir, "f.safetensors");
    for (size_t i = 0; i < sizeof hostile_headers / sizeof *hostile_headers; i++) {
        Error e;
        put_file(path, hostile_headers[i].header, strlen(hostile_headers[i].header), hostile_headers[i].data);
        assert_int_equal(try_open(path, &e), ST_DATA);
        if (!strstr(e.text, hostile_headers[i].fragment) || !strstr(e.text, "f.safetensors"))
            fail_msg("%s: '%s' lacks '%s' or the file", hostile_headers[i].header, e.text, hostile_headers[i].fragment);
    }
    temp_remove(dir);
}

static void hostile_lengths_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *fragment;
    } rows[] = {
        {"", 0, "no safetensors file"},
        {"\x02\0\0\0\0\0\0", 7, "no safetensors file"},
        {"\x03\0\0\0\0\0\0\0{}", 10, "the header ends at byte 11, the file at 10"},
        {"\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, "at most 100000000 are allowed"},
        {"\x01\xe1\xf5\x05\0\0\0\0{}", 10, "header of 100000001 bytes"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:", 54, "is a Git LFS pointer, not the file itself"},
        {"\x1f\x8b\x08\0\0\0\0\0\0\x03", 10, "is a gzip file: unpack it"},
        {"PK\x03\x04\0\0\x08\x08\0\0", 10, "is a zip archive"},
        {"<!DOCTYPE html><html>", 21, "is a web page"},
        {"\0\xe1\xf5\x05\0\0\0\0{}", 10, "the header ends at byte 100000008, the file at 10"},
        {"\0\0\0\0\0\0\0\0", 8, "does not begin with '{'"},
    };
    char *dir = temp_folder();
    const char *path = temp_path(dir, "f");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Error e;
        temp_put(path, rows[i].bytes, rows[i].n);
        assert_int_equal(try_open(path, &e), ST_DATA);
        if (!strstr(e.text, rows[i].fragment))
            fail_msg("row %zu: '%s' lacks '%s'", i, e.text, rows[i].fragment);
    }
    Error e;
    assert_int_equal(try_open(temp_path(dir, "none"), &e), ST_IO);
    assert_int_equal(try_open(dir, &e), ST_DATA);
    assert_non_null(strstr(e.text, "has no model.safetensors and no model.safetensors.index.json"));
    temp_puts(temp_path(dir, "pytorch_model.bin"), "");
    assert_int_equal(try_open(dir, &e), ST_DATA);
    assert_non_null(strstr(e.text, "has the weights as PyTorch files: convert them"));
    temp_remove(dir);
}

static void truncation_is_found_when_opening(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *path = temp_path(dir, "cut.safetensors");
    size_t n;
    char *b = temp_get("tests/golden/models/llama/bf16/model.safetensors", &n);
    temp_put(path, b, n);
    Error e;
    assert_int_equal(try_open(path, &e), ST_OK);
    for (size_t k = (n - 1) / 16 * 16;; k -= 16) {
        assert_int_equal(truncate(path, (off_t)k), 0);
        assert_int_equal(try_open(path, &e), ST_DATA);
        assert_non_null(strstr(e.text, "cut.safetensors"));
        if (k == 0)
            break;
        if (k > 8192) /* the middle of the data holds nothing new: every 64th step is enough */
            k -= k > 8192 + 1024 ? 1008 : 0;
    }
    free(b);
    temp_remove(dir);
}

/* Whatever a damaged header says, what opens lies inside the file. */
static void damaged_headers_never_crash(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *path = temp_path(dir, "f.safetensors");
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"}," T("model.a", "F32", "2,3", 0, 24) ","
                                 T("model.b", "BF16", "3,2", 24, 36) "," T("c", "U8", "4", 36, 40) "}";
    char text[sizeof header];
    uint32_t rng = 99;
    int opened = 0;
    for (int round = 0; round < 4000; round++) {
        memcpy(text, header, sizeof header);
        for (int k = 0; k <= round % 3; k++) {
            rng = rng * 1664525u + 1013904223u;
            size_t at = (rng >> 8) % (sizeof header - 1);
            rng = rng * 1664525u + 1013904223u;
            text[at] = round % 2 ? (char)('0' + (rng >> 24) % 10) : (char)(rng >> 24);
        }
        put_file(path, text, sizeof header - 1, 40);
        Error e = {0};
        Checkpoint *c;
        if (checkpoint_open(&c, path, &e) != ST_OK)
            continue;
        opened++;
        uint64_t size = 8 + sizeof header - 1 + 40;
        for (int64_t i = 0; i < checkpoint_count(c); i++) {
            const TensorInfo *t = checkpoint_at(c, i);
            assert_true(t->nbytes <= size && t->offset <= size - t->nbytes && t->ndim <= TENSOR_MAX_DIMS);
            assert_ptr_equal(checkpoint_find(c, t->name), t);
        }
        checkpoint_free(c);
    }
    assert_true(opened > 0 && opened < 4000);
    temp_remove(dir);
}

static void reads_are_counted_and_checked(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *path = temp_path(dir, "f.safetensors");
    float a[6] = {1, 2, 3, 4, 5, 6}, got[6];
    const TensorOut out[] = {
        {"first", DT_F32, 2, {2, 3}, a}, {"empty", DT_F16, 2, {0, 3}, NULL},
        {"na\"me\xe4\xb8\xad", DT_U8, 1, {3}, "xyz"}};
    const char *const meta[] = {"format", "pt", "by", "a \"test\"", NULL};
    Error e = {0};
    assert_int_equal(safetensors_write(path, out, 3, meta, &e), ST_OK);
    Checkpoint *c;
    assert_int_equal(checkpoint_open(&c, path, &e), ST_OK);
    assert_int_equal(checkpoint_count(c), 3);
    assert_int_equal(checkpoint_bytes_read(c), 0);
    const TensorInfo *t = checkpoint_find(c, "first");
    assert_int_equal(t->offset % 8, 0);
    assert_int_equal(checkpoint_read(c, t, 4, 16, got, &e), ST_OK);
    assert_memory_equal(got, a + 1, 16);
    assert_int_equal(checkpoint_bytes_read(c), 16);
    assert_int_equal(checkpoint_read(c, t, 24, 0, got, &e), ST_OK);
    assert_int_equal(checkpoint_read(c, t, 24, 1, got, &e), ST_INTERNAL);
    assert_int_equal(checkpoint_read(c, t, 4, UINT64_MAX, got, &e), ST_INTERNAL);
    const TensorInfo *u = checkpoint_find(c, "na\"me\xe4\xb8\xad");
    assert_non_null(u);
    assert_int_equal(checkpoint_read(c, u, 0, 3, got, &e), ST_OK);
    assert_memory_equal(got, "xyz", 3);
    assert_null(checkpoint_find(c, "First"));
    assert_int_equal(strlen(checkpoint_fingerprint(c)), 64);
    /* cut behind our back: the read says so */
    assert_int_equal(truncate(path, (off_t)t->offset + 10), 0);
    assert_int_equal(checkpoint_read(c, t, 0, 24, got, &e), ST_DATA);
    assert_non_null(strstr(e.text, "tensor 'first': "));
    assert_non_null(strstr(e.text, "f.safetensors' is truncated: wanted 24 bytes"));
    assert_non_null(strstr(e.text, "found 10"));
    assert_int_equal(checkpoint_bytes_read(c), 19);
    checkpoint_free(c);
    /* the same tensors under one name, and a shape that can't be */
    const TensorOut twice[] = {{"a", DT_U8, 1, {1}, "x"}, {"a", DT_U8, 1, {1}, "x"}}, bad = {"a", DT_U8, 1, {-1}, "x"};
    assert_int_equal(safetensors_write(path, twice, 2, NULL, &e), ST_INTERNAL);
    assert_int_equal(safetensors_write(path, &bad, 1, NULL, &e), ST_INTERNAL);
    assert_int_equal(safetensors_write(path, NULL, 0, meta, &e), ST_OK);
    assert_int_equal(try_open(path, &e), ST_OK);
    temp_remove(dir);
}

static int write_past_limit(void *ctx)
{
    static float zeros[20000];
    const TensorOut t = {"t", DT_F32, 1, {20000}, zeros};
    Error e = {0};
    return safetensors_write(ctx, &t, 1, NULL, &e) == ST_IO ? 0 : 1;
}

static void full_disk_keeps_the_old_tensors(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *path = temp_path(dir, "f.safetensors");
    Error e = {0};
    const TensorOut t = {"t", DT_U8, 1, {2}, "ok"};
    assert_int_equal(safetensors_write(path, &t, 1, NULL, &e), ST_OK);
    assert_int_equal(temp_with_limit(50000, write_past_limit, (void *)(uintptr_t)path), 0);
    assert_int_equal(try_open(path, &e), ST_OK);
    assert_int_equal(temp_entries(dir), 1);
    temp_remove(dir);
}

static void fingerprint_sees_headers_sizes_and_weights(void **state)
{
    (void)state;
    char *dir = temp_folder();
    char print[5][65];
    const TensorOut rows[5] = {{"a", DT_U8, 1, {2}, "xy"}, {"a", DT_U8, 1, {2}, "pq"}, {"b", DT_U8, 1, {2}, "xy"},
                               {"a", DT_U8, 1, {3}, "xyz"}, {"a", DT_U8, 1, {2}, "xy"}};
    for (int i = 0; i < 5; i++) {
        Error e = {0};
        Checkpoint *c;
        assert_int_equal(safetensors_write(temp_path(dir, "f"), &rows[i], 1, NULL, &e), ST_OK);
        assert_int_equal(checkpoint_open(&c, temp_path(dir, "f"), &e), ST_OK);
        memcpy(print[i], checkpoint_fingerprint(c), 65);
        checkpoint_free(c);
    }
    for (int i = 1; i < 4; i++)
        assert_string_not_equal(print[0], print[i]);
    assert_string_equal(print[0], print[4]); /* and nothing else */
    temp_remove(dir);
}

static void count_bytes(void *ctx, uint64_t done, uint64_t total)
{
    assert_true(done <= total);
    *(uint64_t *)ctx = done;
}

/* Both of one file: the fingerprint, and the digest of every byte. */
static void both_prints(const char *path, char print[65], Digest *whole)
{
    Error e = {0};
    Checkpoint *c;
    uint64_t hashed = 0;
    const CheckpointWatch w = {.progress = count_bytes, .ctx = &hashed};
    assert_int_equal(checkpoint_open(&c, path, &e), ST_OK);
    memcpy(print, checkpoint_fingerprint(c), 65);
    assert_int_equal(checkpoint_bytes_read(c), 0);
    assert_int_equal(checkpoint_hash(c, 0, &w, whole, &e), ST_OK);
    assert_true(hashed > (uint64_t)checkpoint_at(c, 0)->nbytes);
    checkpoint_free(c);
}

/* A large file is read at a few places: one changed byte mostly escapes the fingerprint, a changed tensor never, and the
 * digest sees either. */
static void fingerprint_of_a_large_file(void **state)
{
    (void)state;
    enum { N = 8 << 20, STRETCH = 1 << 18 };
    char *dir = temp_folder(), print[3][65];
    unsigned char *data = malloc(N);
    Digest whole[3];
    Error e = {0};
    assert_non_null(data);
    for (int i = 0; i < N; i++)
        data[i] = (unsigned char)(i * 31 >> 3);
    for (int i = 0; i < 3; i++) {
        for (int k = 0; i == 1 && k < STRETCH; k++)
            data[N / 2 + k] ^= 1; /* a tensor of 3 % of the file */
        if (i == 2)
            data[N / 3] ^= 1;
        const TensorOut t = {"a", DT_U8, 1, {N}, data};
        assert_int_equal(safetensors_write(temp_path(dir, "f"), &t, 1, NULL, &e), ST_OK);
        both_prints(temp_path(dir, "f"), print[i], &whole[i]);
    }
    assert_string_not_equal(print[0], print[1]);
    assert_string_equal(print[1], print[2]); /* reads stay few */
    assert_int_not_equal(digest_cmp(&whole[0], &whole[1]), 0);
    assert_int_not_equal(digest_cmp(&whole[1], &whole[2]), 0);
    free(data);
    temp_remove(dir);
}

static void a_changed_file_is_seen(void **state)
{
    (void)state;
    char *dir = temp_folder();
    Error e = {0};
    Checkpoint *c;
    const TensorOut t = {"a", DT_U8, 1, {2}, "xy"};
    assert_int_equal(safetensors_write(temp_path(dir, "f"), &t, 1, NULL, &e), ST_OK);
    assert_int_equal(checkpoint_open(&c, temp_path(dir, "f"), &e), ST_OK);
    bool other = true;
    assert_null(checkpoint_changed(c, &other));
    const struct timespec touched[2] = {{.tv_sec = 5}, {.tv_sec = 5}};
    assert_int_equal(utimensat(AT_FDCWD, temp_path(dir, "f"), touched, 0), 0);
    assert_string_equal(checkpoint_changed(c, &other), temp_path(dir, "f"));
    assert_false(other);
    int fd = open(temp_path(dir, "f"), O_WRONLY | O_APPEND);
    assert_true(fd >= 0 && write(fd, "z", 1) == 1 && close(fd) == 0);
    assert_string_equal(checkpoint_changed(c, &other), temp_path(dir, "f"));
    assert_true(other);
    checkpoint_free(c);
    temp_remove(dir);
}

/* A header whose one value is a long list is refused without a tree of it. */
static void long_lists_cost_no_memory(void **state)
{
    (void)state;
    enum { NUMBERS = 10000000 };
    static const char head[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[0";
    static const char *const tails[] = {"],\"data_offsets\":[0,0]}}", "],\"data_offsets\":[0,0],\"x\":[]}}"};
    char *dir = temp_folder();
    Error e = {0};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        Str b = {0};
        str_append(&b, "\0\0\0\0\0\0\0\0", 8);
        str_puts(&b, head);
        for (int k = 0; k < NUMBERS; k++)
            str_append(&b, ",0", 2);
        str_puts(&b, tails[i]);
        for (int k = 0; k < 8; k++)
            b.s[k] = (char)(unsigned char)((b.len - 8) >> (8 * k));
        temp_put(temp_path(dir, "model.safetensors"), b.s, b.len);
        str_free(&b);
        uint64_t before = mem_peak_bytes();
        assert_int_equal(try_open(dir, &e), ST_DATA);
        assert_non_null(strstr(e.text, "'shape' has more than 6 dimensions"));
        assert_true(mem_peak_bytes() < before + 3 * (2 * NUMBERS)); /* cJSON takes 64 bytes a number */
    }
    temp_remove(dir);
}

enum { MANY = 100000, SHARDS = 163 };

/* Name of tensor i of a 685B-parameter mixture of experts, as long as they get there. */
static void big_name(Str *b, int i)
{
    str_printf(b, "model.layers.%02d.mlp.experts.%05d.down_proj.weight_scale_inv_padding", i % 61, i);
}

/* A shard with tensors [first, last) of 4096x1792 BF16, sparse: it takes no room on the disk. */
static void put_sparse(const char *path, int first, int last)
{
    const uint64_t bytes = 2u * 4096 * 1792;
    Str b = {0};
    str_append(&b, "\0\0\0\0\0\0\0\0{", 9);
    for (int i = first; i < last; i++) {
        str_puts(&b, i > first ? ",\"" : "\"");
        big_name(&b, i);
        str_printf(&b, "\":{\"dtype\":\"BF16\",\"shape\":[4096,1792],\"data_offsets\":[%llu,%llu]}",
                   (unsigned long long)(bytes * (uint64_t)(i - first)),
                   (unsigned long long)(bytes * (uint64_t)(i - first + 1)));
    }
    str_putc(&b, '}');
    uint64_t len = b.len - 8;
    for (int i = 0; i < 8; i++)
        b.s[i] = (char)(len >> (8 * i));
    temp_put(path, b.s, b.len);
    assert_int_equal(truncate(path, (off_t)(b.len + bytes * (uint64_t)(last - first))), 0);
    str_free(&b);
}

static void check_many(const char *path, int files)
{
    size_t before = heap_bytes();
    Error e = {0};
    Checkpoint *c;
    if (checkpoint_open(&c, path, &e) != ST_OK)
        fail_msg("%s", e.text);
    size_t held = heap_bytes() - before;
    assert_int_equal(checkpoint_count(c), MANY);
    assert_int_equal(checkpoint_files(c), files);
    if (before) {
        print_message("# %d tensors in %d files: %zu bytes each\n", MANY, files, held / MANY);
        assert_true(held / MANY <= 400);
    }
    Str name = {0};
    for (int i = 0; i < MANY; i += 997) {
        str_clear(&name);
        big_name(&name, i);
        const TensorInfo *t = checkpoint_find(c, name.s);
        assert_non_null(t);
        assert_string_equal(t->name, name.s);
    }
    assert_int_equal(checkpoint_bytes_read(c), 0);
    unsigned char byte = 1;
    const TensorInfo *t = checkpoint_at(c, MANY - 1);
    assert_int_equal(checkpoint_read(c, t, t->nbytes - 1, 1, &byte, &e), ST_OK);
    assert_int_equal(byte, 0);
    str_free(&name);
    checkpoint_free(c);
}

static void hundred_thousand_tensors_stay_small(void **state)
{
    (void)state;
    char *dir = temp_folder();
    Str index = {0};
    str_puts(&index, "{\"metadata\":{},\"weight_map\":{");
    for (int s = 0; s < SHARDS; s++) {
        char file[64];
        int first = (int)((int64_t)MANY * s / SHARDS), last = (int)((int64_t)MANY * (s + 1) / SHARDS);
        snprintf(file, sizeof file, "model-%05d-of-%06d.safetensors", s + 1, SHARDS);
        put_sparse(temp_path(dir, file), first, last);
        for (int i = first; i < last; i++) {
            str_puts(&index, i ? ",\"" : "\"");
            big_name(&index, i);
            str_printf(&index, "\":\"%s\"", file);
        }
    }
    str_puts(&index, "}}");
    temp_put(temp_path(dir, "model.safetensors.index.json"), index.s, index.len);
    str_free(&index);
    check_many(dir, SHARDS);
    put_sparse(temp_path(dir, "one.safetensors"), 0, MANY);
    check_many(temp_path(dir, "one.safetensors"), 1);
    temp_remove(dir);
}

typedef struct Reader {
    const Checkpoint *c;
    int seed, wrong;
} Reader;

static void *read_many(void *arg)
{
    Reader *r = arg;
    uint32_t rng = (uint32_t)r->seed;
    for (int i = 0; i < 2000; i++) {
        rng = rng * 1664525u + 1013904223u;
        unsigned char b[16];
        uint64_t at = (rng >> 8) % (65536 - 16);
        Error e = {0};
        if (checkpoint_read(r->c, checkpoint_at(r->c, 0), at, 16, b, &e) != ST_OK)
            r->wrong++;
        for (int k = 0; k < 16; k++)
            r->wrong += b[k] != (unsigned char)((at + (uint64_t)k) * 7 >> 3);
    }
    return NULL;
}

static void any_thread_may_read(void **state)
{
    (void)state;
    static unsigned char data[65536];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 7 >> 3);
    char *dir = temp_folder();
    const TensorOut t = {"t", DT_U8, 1, {65536}, data};
    Error e = {0};
    Checkpoint *c;
    assert_int_equal(safetensors_write(temp_path(dir, "f"), &t, 1, NULL, &e), ST_OK);
    assert_int_equal(checkpoint_open(&c, temp_path(dir, "f"), &e), ST_OK);
    Reader r[4];
    pthread_t id[4];
    for (int i = 0; i < 4; i++) {
        r[i] = (Reader){c, i + 1, 0};
        assert_int_equal(pthread_create(&id[i], NULL, read_many, &r[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(id[i], NULL);
        assert_int_equal(r[i].wrong, 0);
    }
    assert_int_equal(checkpoint_bytes_read(c), 4 * 2000 * 16);
    checkpoint_free(c);
    temp_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_headers),
        cmocka_unit_test(hostile_headers_are_refused),
        cmocka_unit_test(hostile_lengths_are_refused),
        cmocka_unit_test(truncation_is_found_when_opening),
        cmocka_unit_test(damaged_headers_never_crash),
        cmocka_unit_test(reads_are_counted_and_checked),
        cmocka_unit_test(full_disk_keeps_the_old_tensors),
        cmocka_unit_test(fingerprint_sees_headers_sizes_and_weights),
        cmocka_unit_test(fingerprint_of_a_large_file),
        cmocka_unit_test(a_changed_file_is_seen),
        cmocka_unit_test(long_lists_cost_no_memory),
        cmocka_unit_test(hundred_thousand_tensors_stay_small),
        cmocka_unit_test(any_thread_may_read),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
