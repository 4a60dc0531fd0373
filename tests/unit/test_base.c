#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/ascii.h"
#include "base/base64.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/radix.h"
#include "base/str.h"
#include "tests/lib/tempdir.h"

static void error_text_is_one_printable_line(void **state)
{
    (void)state;
    Error e = {0};
    assert_int_equal(error_set(&e, ST_DATA, "bad '%s' at\n%d", "na\x01me", 7), ST_DATA);
    assert_string_equal(e.text, "bad 'na?me' at 7");
    assert_int_equal(error_prefix(&e, ST_DATA, "%s: ", "file"), ST_DATA);
    assert_string_equal(e.text, "file: bad 'na?me' at 7");
    error_set(&e, ST_IO, "again: %s", e.text); /* an argument may be the old text */
    assert_string_equal(e.text, "again: file: bad 'na?me' at 7");
    assert_int_equal(status_exit_code(e.status), 74);
    assert_int_equal(error_prefix(NULL, ST_NOMEM, "%s: ", "file"), ST_NOMEM); /* nobody asks for the text */
    assert_int_equal(error_prefix(&e, ST_INTERNAL, "no: "), ST_INTERNAL);
    assert_int_equal(e.status, ST_INTERNAL);
}

/* A text that has lost bytes must not look whole after it is emptied and filled again. */
static void str_stays_short_of_memory(void **state)
{
    (void)state;
    Str b = {0};
    str_puts(&b, "x");
    str_append(&b, "y", (size_t)-2); /* more than there can be */
    assert_true(b.oom);
    str_clear(&b);
    str_puts(&b, "z");
    assert_true(b.oom);
    assert_int_equal(b.len, 0);
    str_free(&b);
    assert_false(b.oom);
    str_puts(&b, "w");
    assert_string_equal(str_text(&b), "w");
    str_free(&b);
}

static void ascii_agrees_with_the_c_locale(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        assert_int_equal(ascii_is_digit(c), !!isdigit(c));
        assert_int_equal(ascii_is_upper(c), !!isupper(c));
        assert_int_equal(ascii_is_alpha(c), !!isalpha(c));
        assert_int_equal(ascii_is_alnum(c), !!isalnum(c));
        assert_int_equal(ascii_is_xdigit(c), !!isxdigit(c));
        assert_int_equal(ascii_is_space(c), !!isspace(c));
        assert_int_equal(ascii_lower(c), tolower(c));
    }
    assert_false(ascii_is_alpha((char)0xe9)); /* a negative char */
    assert_int_equal(ascii_casecmp("MinMax", "mINmAX"), 0);
    assert_true(ascii_casecmp("ab", "ABC") < 0);
    assert_true(ascii_casecmp("b", "ABC") > 0);
    assert_int_equal(ascii_ncasecmp("YESterday", "yes", 3), 0);
}

/* The vectors of RFC 4648, what isn't base64, and a text longer than one chunk. */
static void base64_both_ways(void **state)
{
    (void)state;
    static const char *const vector[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"},
                                            {"foob", "Zm9vYg=="}, {"foobar", "Zm9vYmFy"}};
    static const char *const wrong[] = {"Z", "Zg", "Zg=", "Zg=a", "Z===", "====", "Zm9 v", "Zm\n9", "    ", "Zm9-", "Zh=="};
    char out[64];
    size_t n;
    for (size_t i = 0; i < sizeof vector / sizeof *vector; i++) {
        Str b = {0};
        base64_put(&b, vector[i][0], strlen(vector[i][0]));
        assert_string_equal(str_text(&b), vector[i][1]);
        assert_true(base64_get(vector[i][1], strlen(vector[i][1]), out, &n));
        assert_int_equal(n, strlen(vector[i][0]));
        assert_memory_equal(out, vector[i][0], n);
        str_free(&b);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(base64_get(wrong[i], strlen(wrong[i]), out, &n));
    enum { LONG = 5000 };
    unsigned char bytes[LONG], back[LONG + 3];
    for (int i = 0; i < LONG; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 256);
    Str b = {0};
    base64_put(&b, bytes, LONG);
    assert_int_equal(b.len, (LONG + 2) / 3 * 4);
    assert_true(base64_get(b.s, b.len, back, &n));
    assert_int_equal(n, LONG);
    assert_memory_equal(back, bytes, LONG);
    str_free(&b);
}

static void make_group(const char *root, const char *sub, const char *max, const char *now)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", root, sub);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/%s/memory.max", root, sub);
    temp_puts(path, max);
    snprintf(path, sizeof path, "%s/%s/memory.current", root, sub);
    temp_puts(path, now);
}

/* The tightest limit on the way up counts, wherever it stands. */
static void cgroups_are_nested(void **state)
{
    (void)state;
    char *root = temp_folder();
    const char *self = temp_path(root, "self");
    temp_puts(self, "1:name=systemd:/else\n0::/a/b\n");
    assert_int_equal(mem_cgroup_left(self, root), UINT64_MAX);
    make_group(root, ".", "9000\n", "1000\n");
    assert_int_equal(mem_cgroup_left(self, root), 8000);
    make_group(root, "a", "7000\n", "500\n");
    make_group(root, "a/b", "max\n", "400\n");
    assert_int_equal(mem_cgroup_left(self, root), 6500);
    make_group(root, "a/b", "300\n", "400\n"); /* over its limit already */
    assert_int_equal(mem_cgroup_left(self, root), 0);
    temp_puts(self, "0::/\n");
    assert_int_equal(mem_cgroup_left(self, root), 8000);
    temp_remove(root);
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

/* Keys of every length that differ in one byte, wherever that is; the whole of a key counts. */
static void map_tells_every_byte(void **state)
{
    (void)state;
    enum { LONGEST = 40 };
    char key[LONGEST][LONGEST] = {{0}};
    for (size_t n = 0; n < LONGEST; n++) {
        Map m = {0};
        for (size_t i = 0; i < n; i++) {
            memset(key[i], 'x', n);
            key[i][i] = 'y';
            assert_true(map_add(&m, key[i], n, (int64_t)i, NULL));
        }
        char plain[LONGEST] = {0};
        memset(plain, 'x', n);
        bool added = false;
        assert_true(map_add(&m, plain, n, 99, &added));
        assert_true(added);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(map_get(&m, key[i], n, -1), (int64_t)i);
        assert_int_equal(map_get(&m, plain, n, -1), 99);
        assert_int_equal(map_get(&m, plain, n ? n - 1 : 1, -1), -1);
        map_free(&m);
    }
}

static void texts_are_joined(void **state)
{
    (void)state;
    static const char *const part[] = {"ab", "", "cde", "f"};
    char want[16], got[16], digits[12];
    for (size_t size = 0; size <= sizeof got; size++) {
        memset(want, '#', sizeof want);
        memset(got, '#', sizeof got);
        int n = snprintf(want, size, "%s%s%s%s", part[0], part[1], part[2], part[3]);
        assert_int_equal(text_join(got, size, part, 4), n);
        assert_memory_equal(got, want, sizeof got);
    }
    assert_string_equal(text_int(digits, 0), "0");
    assert_string_equal(text_int(digits, 10), "10");
    assert_string_equal(text_int(digits, INT_MAX), "2147483647");
}

/* Looked up many at a time keys have the values they have alone; room made before moves none of them. */
static void map_seeks_as_it_gets(void **state)
{
    (void)state;
    enum { N = 3000 };
    Map m = {0}, none = {0};
    static char key[2 * N][8];
    static MapSeek at[2 * N];
    assert_true(map_reserve(&m, N));
    const struct MapSlot *slots = m.slot;
    const struct MapEntry *entries = m.entry;
    for (int i = 0; i < 2 * N; i++)
        snprintf(key[i], sizeof key[i], "%d", i * 7);
    for (int i = 0; i < N; i++)
        assert_true(map_add(&m, key[i], strlen(key[i]), i, NULL));
    assert_ptr_equal(m.slot, slots);
    assert_ptr_equal(m.entry, entries);
    for (int i = 0; i < 2 * N; i++)
        at[i] = map_seek(&m, key[i], strlen(key[i]));
    for (int i = 0; i < 2 * N; i++)
        map_near(&m, &at[i]);
    for (int i = 0; i < 2 * N; i++)
        assert_int_equal(map_sought(&m, &at[i], -5), i < N ? i : -5);
    MapSeek lost = map_seek(&none, "a", 1);
    map_near(&none, &lost);
    assert_int_equal(map_sought(&none, &lost, -5), -5);
    map_free(&m);
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
            pool_run(p, PHASE_OTHER, N, add_index, seen, NULL);
            for (int i = 0; i < N; i++)
                assert_int_equal(seen[i], i);
        }
        Cancel c = {.level = 1};
        memset(seen, 0, sizeof seen);
        pool_run(p, PHASE_OTHER, N, add_index, seen, &c);
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

static int by_key_and_place(const void *pa, const void *pb)
{
    const RadixPair *a = pa, *b = pb;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return a->value < b->value ? -1 : a->value > b->value;
}

/* Against qsort with the place as the second key; doubles of all signs and sizes, many of them alike. */
static void radix_sorts_and_keeps_places(void **state)
{
    (void)state;
    enum { N = 5000 };
    static RadixPair got[N], want[N];
    const double some[] = {-INFINITY, -3e300, -1, -1e-310, -0.0, 0.0, 1e-310, 0.5, 1, 7, 3e300, INFINITY};
    const int nsome = sizeof some / sizeof *some;
    uint64_t seed = 5;
    for (int i = 0; i < N; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        double v = i % 3 ? (double)(int64_t)seed * 1e-9 : some[(seed >> 40) % (unsigned)nsome];
        got[i] = want[i] = (RadixPair){radix_of_double(v), i};
    }
    assert_true(radix_sort(got, N));
    qsort(want, N, sizeof *want, by_key_and_place);
    assert_memory_equal(got, want, sizeof got);
    for (int i = 0; i < nsome; i++)
        for (int k = 0; k < nsome; k++) {
            assert_int_equal(radix_of_double(some[i]) < radix_of_double(some[k]), some[i] < some[k]);
            assert_int_equal(radix_of_double(some[i]) == radix_of_double(some[k]), some[i] == some[k]);
        }
    assert_true(radix_sort(got, 1));
    assert_true(radix_sort(NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_text_is_one_printable_line), cmocka_unit_test(str_json_escapes),
        cmocka_unit_test(utf8_refuses_ill_formed),          cmocka_unit_test(map_holds_many),
        cmocka_unit_test(map_tells_every_byte),     cmocka_unit_test(map_seeks_as_it_gets),
        cmocka_unit_test(texts_are_joined),
        cmocka_unit_test(sha256_known_answer),              cmocka_unit_test(pool_runs_each_task_once),
        cmocka_unit_test(distance_finds_typos),             cmocka_unit_test(arrays_refuse_overflow),
        cmocka_unit_test(str_stays_short_of_memory),        cmocka_unit_test(ascii_agrees_with_the_c_locale),
        cmocka_unit_test(base64_both_ways),                 cmocka_unit_test(cgroups_are_nested),
        cmocka_unit_test(radix_sorts_and_keeps_places),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
