#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "measure/spread.h"
#include "measure/statecache.h"

enum { BLOCK = 1000 };

static Digest key_of(int i)
{
    return digest_of(&i, sizeof i);
}

/* Block i: 700 + 300 bytes of a known pattern. */
static void put(StateCache *c, int i)
{
    uint8_t a[BLOCK];
    for (int k = 0; k < BLOCK; k++)
        a[k] = (uint8_t)(i * 31 + k);
    Digest key = key_of(i);
    statecache_put(c, &key, (StatePart[]){{a, 700}, {a + 700, 300}}, 2);
}

static bool get(StateCache *c, int i)
{
    uint8_t a[300], b[700];
    Digest key = key_of(i);
    if (!statecache_get(c, &key, (StatePart[]){{b, 700}, {a, 300}}, 2))
        return false;
    for (int k = 0; k < BLOCK; k++)
        assert_int_equal(k < 700 ? b[k] : a[k - 700], (uint8_t)(i * 31 + k));
    return true;
}

static bool has(StateCache *c, int i)
{
    Digest key = key_of(i);
    return statecache_has(c, &key);
}

static void least_recently_used_goes_first(void **state)
{
    (void)state;
    StateCache *c;
    assert_int_equal(statecache_new(&c, 3 * BLOCK + 10, NULL, 0, NULL), ST_OK);
    assert_false(get(c, 1));
    for (int i = 1; i <= 3; i++)
        put(c, i);
    assert_true(get(c, 1)); /* now 2 is the oldest */
    put(c, 4);
    assert_false(has(c, 2));
    assert_true(get(c, 1) && get(c, 3) && get(c, 4));
    put(c, 1); /* there already: used again, not stored twice */
    assert_int_equal(statecache_ram_bytes(c), 3 * BLOCK);
    put(c, 5);
    assert_false(has(c, 3));
    Digest key = key_of(5);
    uint8_t small[10];
    assert_false(statecache_get(c, &key, (StatePart[]){{small, 10}}, 1)); /* another size is no answer */
    statecache_free(c);
    assert_int_equal(statecache_new(&c, BLOCK - 1, NULL, 0, NULL), ST_OK);
    put(c, 1);
    assert_false(has(c, 1)); /* larger than the cap */
    statecache_free(c);
    statecache_free(NULL);
}

static char folder[] = "/tmp/slimscope-cache-XXXXXX";

static int files_in(const char *dir, char *last, size_t size)
{
    int n = 0;
    DIR *d = opendir(dir);
    if (!d)
        return 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(last, size, "%s/%s", dir, e->d_name);
        n++;
    }
    closedir(d);
    return n;
}

static void clean(const char *dir)
{
    char path[512];
    while (files_in(dir, path, sizeof path) > 0)
        assert_int_equal(unlink(path), 0);
    rmdir(dir);
}

static void spilled_blocks_come_back_and_respect_the_cap(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    char dir[256], path[512];
    snprintf(dir, sizeof dir, "%s/deep/er", folder);
    StateCache *c;
    assert_int_equal(statecache_new(&c, 2 * BLOCK, dir, 2 * BLOCK + 200, NULL), ST_OK);
    for (int i = 1; i <= 5; i++)
        put(c, i);
    assert_int_equal(files_in(dir, path, sizeof path), 2); /* 4, 5 in RAM; 2, 3 on disk; 1 gone */
    assert_true(statecache_dir_bytes(c) <= 2 * BLOCK + 200);
    assert_false(has(c, 1));
    assert_true(has(c, 3) && get(c, 5));
    assert_true(get(c, 2)); /* into RAM again: 4 goes to the folder, and 3, the oldest there, goes for good */
    assert_true(has(c, 4) && !has(c, 3));
    assert_int_equal(files_in(dir, path, sizeof path), 2);
    statecache_free(c);

    /* an other run finds what lies there */
    assert_int_equal(statecache_new(&c, 2 * BLOCK, dir, 2 * BLOCK + 200, NULL), ST_OK);
    int found = 0;
    for (int i = 1; i <= 5; i++)
        found += get(c, i);
    assert_int_equal(found, 2);
    statecache_free(c);

    /* one damaged byte, a cut file, an empty one: absent, and removed */
    for (int damage = 0; damage < 3; damage++) {
        assert_int_equal(statecache_new(&c, BLOCK, dir, 2 * BLOCK + 200, NULL), ST_OK);
        put(c, 7);
        put(c, 8 + damage); /* 7 is spilled unless it was already there */
        statecache_free(c);
        Digest key = key_of(7);
        char hex[65];
        digest_hex(&key, hex);
        snprintf(path, sizeof path, "%s/%s.state", dir, hex);
        FILE *f = fopen(path, "r+b");
        assert_non_null(f);
        fseek(f, 500, SEEK_SET);
        fputc(0xEE, f);
        fclose(f);
        if (damage > 0)
            assert_int_equal(truncate(path, damage == 1 ? 400 : 0), 0);
        assert_int_equal(statecache_new(&c, BLOCK, dir, 2 * BLOCK + 200, NULL), ST_OK);
        assert_false(get(c, 7));
        assert_false(has(c, 7));
        statecache_free(c);
        unlink(path);
    }
    clean(dir);
}

static void a_folder_that_cannot_be_made_is_only_a_smaller_cache(void **state)
{
    (void)state;
    StateCache *c;
    assert_int_equal(statecache_new(&c, BLOCK, "/dev/null/no", 10 * BLOCK, NULL), ST_OK);
    put(c, 1);
    put(c, 2);
    assert_false(has(c, 1));
    assert_true(get(c, 2));
    statecache_free(c);
}

/* ---- errors over texts ---- */

static void texts_are_the_units(void **state)
{
    (void)state;
    int item[] = {0, 0, 2, 3, 3};
    TokenSet t = {.samples = 5, .item = item};
    Texts x;
    assert_int_equal(texts_of(&t, &x, NULL), ST_OK);
    assert_int_equal(x.count, 3);
    assert_int_equal(x.texts, 3);
    assert_int_equal(x.of_sample[1], 0);
    assert_int_equal(x.of_sample[4], 2);
    texts_fini(&x);
    int one[] = {4, 4, 4};
    t = (TokenSet){.samples = 3, .item = one};
    assert_int_equal(texts_of(&t, &x, NULL), ST_OK);
    assert_int_equal(x.count, 3); /* its windows */
    assert_int_equal(x.texts, 1);
    texts_fini(&x);
}

static void bootstrap_error_is_near_the_formula(void **state)
{
    (void)state;
    UnitSums u;
    assert_int_equal(unit_sums_init(&u, 50, NULL), ST_OK);
    double mean = 0, square = 0;
    for (int i = 0; i < 50; i++) {
        u.sum[i] = 10.0 * ((i * 37) % 50);
        u.count[i] = 10;
        mean += u.sum[i] / 10 / 50;
    }
    for (int i = 0; i < 50; i++)
        square += (u.sum[i] / 10 - mean) * (u.sum[i] / 10 - mean);
    double want = sqrt(square) / 50, got = unit_sums_error(&u, 1);
    assert_true(fabs(unit_sums_mean(&u) - mean) < 1e-12);
    assert_true(got > 0.85 * want && got < 1.15 * want);
    assert_true(got == unit_sums_error(&u, 1));
    assert_true(got != unit_sums_error(&u, 2));
    unit_sums_fini(&u);
    assert_int_equal(unit_sums_init(&u, 3, NULL), ST_OK);
    u.sum[1] = 4;
    u.count[1] = 2;
    assert_true(isnan(unit_sums_error(&u, 1))); /* one text says nothing about the spread */
    u.count[0] = 2;
    assert_true(isfinite(unit_sums_error(&u, 1)));
    unit_sums_fini(&u);
}

static void ranks(void **state)
{
    (void)state;
    double x[] = {5, 1, 4, 2}, one[] = {3};
    assert_true(sorted_median(x, 4) == 3);
    assert_true(x[0] == 1 && x[3] == 5);
    assert_true(sorted_rank(x, 4, 0.99) == 5);
    assert_true(sorted_rank(x, 4, 0.5) == 2);
    assert_true(sorted_median(one, 1) == 3 && sorted_rank(one, 1, 0.99) == 3 && sorted_rank(one, 1, 0) == 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(least_recently_used_goes_first),
        cmocka_unit_test(spilled_blocks_come_back_and_respect_the_cap),
        cmocka_unit_test(a_folder_that_cannot_be_made_is_only_a_smaller_cache),
        cmocka_unit_test(texts_are_the_units),
        cmocka_unit_test(bootstrap_error_is_near_the_formula),
        cmocka_unit_test(ranks),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    char path[300];
    snprintf(path, sizeof path, "%s/deep", folder);
    rmdir(path);
    rmdir(folder);
    return rc;
}
