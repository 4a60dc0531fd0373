#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/str.h"

static void error_text_is_one_printable_line(void **state)
{
    (void)state;
    Error e = {0};
    assert_int_equal(error_set(&e, ST_DATA, "bad '%s' at\n%d", "na\x01me", 7), ST_DATA);
    assert_string_equal(e.text, "bad 'na?me' at 7");
    error_prefix(&e, "%s: ", "file");
    assert_string_equal(e.text, "file: bad 'na?me' at 7");
    error_set(&e, ST_IO, "again: %s", e.text); /* an argument may be the old text */
    assert_string_equal(e.text, "again: file: bad 'na?me' at 7");
    assert_int_equal(status_exit_code(e.status), 74);
}

static void str_json_escapes(void **state)
{
    (void)state;
    Str b = {0};
    str_json(&b, "a\"\\\n\xe4\xb8\xad\xff\x7f");
    assert_string_equal(str_text(&b), "\"a\\\"\\\\\\u000a\xe4\xb8\xad\xef\xbf\xbd\\u007f\"");
    str_free(&b);
}

static void utf8_refuses_ill_formed(void **state)
{
    (void)state;
    unsigned cp;
    assert_int_equal(utf8_decode("\xc0\x80", 2, &cp), 0);         /* overlong */
    assert_int_equal(utf8_decode("\xed\xa0\x80", 3, &cp), 0);     /* surrogate */
    assert_int_equal(utf8_decode("\xf4\x90\x80\x80", 4, &cp), 0); /* above U+10FFFF */
    assert_int_equal(utf8_decode("\xe4\xb8", 2, &cp), 0);         /* cut */
    assert_int_equal(utf8_decode("\xf0\x9f\x98\x80", 4, &cp), 4);
    assert_int_equal(cp, 0x1f600);
    char out[4];
    assert_int_equal(utf8_encode(cp, out), 4);
    assert_memory_equal(out, "\xf0\x9f\x98\x80", 4);
}

static void map_holds_many(void **state)
{
    (void)state;
    Map m = {0};
    enum { N = 5000 };
    char(*key)[16] = malloc(N * sizeof *key);
    assert_non_null(key);
    for (int i = 0; i < N; i++) {
        int n = snprintf(key[i], sizeof key[i], "k%d", i);
        assert_true(map_add(&m, key[i], (size_t)n, i, NULL));
    }
    bool added = true;
    assert_true(map_add(&m, "k7", 2, 99, &added));
    assert_false(added);
    for (int i = 0; i < N; i++)
        assert_int_equal(map_get(&m, key[i], strlen(key[i]), -1), i);
    assert_int_equal(map_get(&m, "nope", 4, -1), -1);
    map_free(&m);
    free(key);
}

static void sha256_known_answer(void **state)
{
    (void)state;
    char hex[65];
    Digest d = digest_of("abc", 3);
    digest_hex(&d, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void add_index(void *ctx, int64_t i, int worker)
{
    (void)worker;
    ((int64_t *)ctx)[i] += i;
}

static void pool_runs_each_task_once(void **state)
{
    (void)state;
    Error e;
    enum { N = 1000 };
    int64_t seen[N];
    for (int threads = 1; threads <= 4; threads++) {
        Pool *p;
        assert_int_equal(pool_new(&p, threads, &e), ST_OK);
        assert_int_equal(pool_threads(p), threads);
        for (int round = 0; round < 20; round++) {
            memset(seen, 0, sizeof seen);
            pool_run(p, N, add_index, seen, NULL);
            for (int i = 0; i < N; i++)
                assert_int_equal(seen[i], i);
        }
        Cancel c = {1};
        memset(seen, 0, sizeof seen);
        pool_run(p, N, add_index, seen, &c);
        assert_int_equal(seen[N - 1], 0);
        pool_free(p);
    }
}

static void distance_finds_typos(void **state)
{
    (void)state;
    assert_int_equal(str_distance("kurtosis", "kurtossi", 3), 2);
    assert_int_equal(str_distance("", "abc", 2), 3);
    assert_int_equal(str_distance("x", "x", 2), 0);
}

static void arrays_refuse_overflow(void **state)
{
    (void)state;
    assert_null(mem_array(SIZE_MAX / 2, 3));
    assert_null(mem_aligned(SIZE_MAX, 2));
    int64_t v;
    assert_false(mul_i64(INT64_MAX, 2, &v));
    Arena a = {0};
    for (int i = 0; i < 1000; i++)
        assert_non_null(arena_strdup(&a, "some text"));
    assert_non_null(arena_alloc(&a, 3u << 20));
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_text_is_one_printable_line), cmocka_unit_test(str_json_escapes),
        cmocka_unit_test(utf8_refuses_ill_formed),          cmocka_unit_test(map_holds_many),
        cmocka_unit_test(sha256_known_answer),              cmocka_unit_test(pool_runs_each_task_once),
        cmocka_unit_test(distance_finds_typos),             cmocka_unit_test(arrays_refuse_overflow),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
