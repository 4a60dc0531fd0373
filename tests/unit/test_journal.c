#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "base/str.h"
#include "io/journal.h"
#include "tests/lib/tempdir.h"

static const char *const records[] = {"{\"a\":1}", "{}", "{\"text\":\"\xe4\xb8\xad\"}", "[1,2,3]"};
/* The same with their numbers, as they lie in the file. */
static const char *const stored[] = {"{\"seq\":1,\"a\":1}", "{\"seq\":2}", "{\"seq\":3,\"text\":\"\xe4\xb8\xad\"}",
                                     "[1,2,3]"};
enum { N = 4 };

static Status collect(void *ctx, const char *json, uint32_t len, Error *err)
{
    (void)err;
    assert_int_equal(strlen(json), len);
    str_puts(ctx, json);
    str_putc(ctx, '\n');
    return ST_OK;
}

static Status refuse_second(void *ctx, const char *json, uint32_t len, Error *err)
{
    (void)json;
    (void)len;
    return ++*(int *)ctx == 2 ? error_set(err, ST_DATA, "second") : ST_OK;
}

/* A journal with the four records; the end of each in ends[]. */
static void make(const char *path, size_t ends[N])
{
    Error e = {0};
    Journal *j;
    unlink(path);
    assert_int_equal(journal_open(&j, path, JOURNAL_KEEP, NULL, NULL, NULL, &e), ST_OK);
    size_t at = 0;
    for (int i = 0; i < N; i++) {
        assert_int_equal(journal_append(j, records[i], i == 1, &e), ST_OK);
        ends[i] = at += 8 + strlen(stored[i]);
    }
    assert_int_equal(journal_close(j, &e), ST_OK);
}

/* Opens, expects the first `n` records and `torn` bytes cut, appends one more and finds it again. */
static void expect(const char *path, int n, uint64_t torn_want)
{
    Error e = {0};
    Journal *j;
    Str got = {0}, want = {0};
    JournalEnd end = {.torn = 77};
    assert_int_equal(journal_open(&j, path, JOURNAL_KEEP, collect, &got, &end, &e), ST_OK);
    for (int i = 0; i < n; i++)
        str_printf(&want, "%s\n", records[i]);
    assert_string_equal(str_text(&got), str_text(&want));
    assert_int_equal(end.torn, torn_want);
    assert_int_equal(end.records, n);
    assert_int_equal(end.found, 0);
    assert_int_equal(journal_append(j, "\"more\"", true, &e), ST_OK);
    assert_int_equal(journal_close(j, &e), ST_OK);
    str_clear(&got);
    str_puts(&want, "\"more\"\n");
    assert_int_equal(journal_open(&j, path, JOURNAL_KEEP, collect, &got, &end, &e), ST_OK);
    assert_string_equal(str_text(&got), str_text(&want));
    assert_int_equal(end.torn, 0);
    assert_int_equal(journal_close(j, &e), ST_OK);
    str_free(&got);
    str_free(&want);
}

static void bytes_are_as_documented(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *path = temp_path(dir, "j");
    size_t ends[N], n;
    make(path, ends);
    unsigned char *b = (unsigned char *)temp_get(path, &n);
    assert_int_equal(n, ends[N - 1]);
    uint32_t crc = (uint32_t)crc32(0, (const unsigned char *)stored[0], 15);
    unsigned char want[8] = {15, 0, 0, 0, (unsigned char)crc, (unsigned char)(crc >> 8), (unsigned char)(crc >> 16),
                             (unsigned char)(crc >> 24)};
    assert_memory_equal(b, want, 8);
    assert_memory_equal(b + 8, stored[0], 15);
    free(b);
    temp_remove(dir);
}

static void torn_at_every_byte(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *path = temp_path(dir, "j");
    size_t ends[N];
    make(path, ends);
    for (size_t cut = 0; cut <= ends[N - 1]; cut++) {
        make(path, ends);
        assert_int_equal(truncate(path, (off_t)cut), 0);
        int whole = 0;
        while (whole < N && ends[whole] <= cut)
            whole++;
        expect(path, whole, cut - (whole ? ends[whole - 1] : 0));
    }
    temp_remove(dir);
}

static void damaged_at_every_byte(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *path = temp_path(dir, "j");
    size_t ends[N], n;
    make(path, ends);
    char *good = temp_get(path, &n);
    for (size_t at = 0; at < n; at++) {
        good[at] ^= 0x40;
        temp_put(path, good, n);
        good[at] ^= 0x40;
        int whole = 0;
        while (whole < N && ends[whole] <= at)
            whole++;
        expect(path, whole, n - (whole ? ends[whole - 1] : 0));
    }
    free(good);
    temp_remove(dir);
}

static void hostile_tails_are_cut(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
    } tails[] = {
        {"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16}, /* zeros: an empty record's CRC is 0 too */
        {"\xff\xff\xff\xff\0\0\0\0", 8},           /* 4 GiB */
        {"\xff\xff\xff\x7f\0\0\0\0abc", 11},
        {"\x01\0\0\x04\0\0\0\0abc", 11},           /* above the limit of a record */
        {"\x03\0\0\0\0\0\0\0abc", 11},             /* wrong CRC */
        {"\x04\0\0\0\xc2\x41\x24\x35" "abc", 11},  /* right CRC of a shorter text */
    };
    char *dir = temp_folder();
    const char *path = temp_path(dir, "j");
    size_t ends[N], n;
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        make(path, ends);
        char *b = temp_get(path, &n);
        b = realloc(b, n + tails[i].n);
        assert_non_null(b);
        memcpy(b + n, tails[i].bytes, tails[i].n);
        temp_put(path, b, n + tails[i].n);
        free(b);
        expect(path, N, tails[i].n);
    }
    temp_remove(dir);
}

/* Reading changes nothing; for writing, what is no whole record is in a file of its own before it is cut. */
static void readers_leave_a_damaged_end(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *path = temp_path(dir, "j");
    size_t ends[N], n, m, aside;
    make(path, ends);
    char *good = temp_get(path, &n);
    good[ends[1] + 9] ^= 0x40;
    temp_put(path, good, n);
    Error e = {0};
    Journal *j;
    Str got = {0};
    JournalEnd end;
    assert_int_equal(journal_open(&j, path, JOURNAL_READ, collect, &got, &end, &e), ST_OK);
    assert_int_equal(end.torn, n - ends[1]);
    assert_string_equal(str_text(&got), "{\"a\":1}\n{}\n");
    assert_int_equal(journal_append(j, "{}", true, &e), ST_IO);
    assert_int_equal(journal_close(j, &e), ST_OK);
    char *still = temp_get(path, &m);
    assert_int_equal(m, n);
    assert_memory_equal(still, good, n);
    assert_int_equal(temp_entries(dir), 1);
    for (int round = 1; round <= 2; round++) { /* a second damage goes behind the first */
        assert_int_equal(journal_open(&j, path, JOURNAL_KEEP, NULL, NULL, &end, &e), ST_OK);
        assert_int_equal(journal_close(j, &e), ST_OK);
        free(temp_get(path, &m));
        assert_int_equal(m, ends[1]);
        char *damaged = temp_get(temp_path(dir, "j.damaged"), &aside);
        assert_int_equal(aside, (size_t)round * (n - ends[1]));
        assert_memory_equal(damaged + aside - (n - ends[1]), good + ends[1], n - ends[1]);
        free(damaged);
        temp_put(path, good, n);
    }
    assert_int_equal(journal_open(&j, path, JOURNAL_CUT, NULL, NULL, &end, &e), ST_OK);
    assert_int_equal(journal_close(j, &e), ST_OK);
    free(temp_get(temp_path(dir, "j.damaged"), &m));
    assert_int_equal(m, aside);
    assert_int_equal(journal_open(&j, temp_path(dir, "none"), JOURNAL_READ, NULL, NULL, NULL, &e), ST_IO);
    free(good);
    free(still);
    str_free(&got);
    temp_remove(dir);
}

/* A record that was lost as a whole leaves no damage: its number is missing. */
static void a_hole_ends_the_replay(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *path = temp_path(dir, "j");
    size_t ends[N], n, m;
    make(path, ends);
    char *b = temp_get(path, &n);
    memmove(b + ends[0], b + ends[1], n - ends[1]);
    temp_put(path, b, n - (ends[1] - ends[0]));
    free(b);
    Error e = {0};
    Journal *j;
    JournalEnd end;
    Str got = {0};
    assert_int_equal(journal_open(&j, path, JOURNAL_READ, collect, &got, &end, &e), ST_OK);
    assert_string_equal(str_text(&got), "{\"a\":1}\n");
    assert_int_equal(end.records, 1);
    assert_int_equal(end.found, 3);
    assert_int_equal(end.torn, n - ends[1]);
    assert_int_equal(journal_close(j, &e), ST_OK);
    str_clear(&got);
    assert_int_equal(journal_open(&j, path, JOURNAL_KEEP, collect, &got, &end, &e), ST_OK);
    assert_int_equal(journal_append(j, "{}", true, &e), ST_OK); /* not on the hole: as number 2 */
    assert_int_equal(journal_close(j, &e), ST_OK);
    free(temp_get(temp_path(dir, "j.damaged"), &m));
    assert_int_equal(m, n - ends[1]);
    assert_int_equal(journal_open(&j, path, JOURNAL_READ, NULL, NULL, &end, &e), ST_OK);
    assert_int_equal(end.records, 2);
    assert_int_equal(end.found, 0);
    assert_int_equal(journal_close(j, &e), ST_OK);
    str_free(&got);
    temp_remove(dir);
}

/* What was written without numbers is counted, so that numbers begin behind it. */
static void records_without_numbers_are_read(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *path = temp_path(dir, "j");
    static const char old[] = "{\"old\":1}";
    unsigned char b[8 + sizeof old - 1] = {sizeof old - 1};
    uint32_t crc = (uint32_t)crc32(0, (const unsigned char *)old, sizeof old - 1);
    for (int i = 0; i < 4; i++)
        b[4 + i] = (unsigned char)(crc >> 8 * i);
    memcpy(b + 8, old, sizeof old - 1);
    temp_put(path, b, sizeof b);
    Error e = {0};
    Journal *j;
    JournalEnd end;
    Str got = {0};
    size_t n;
    assert_int_equal(journal_open(&j, path, JOURNAL_KEEP, NULL, NULL, &end, &e), ST_OK);
    assert_int_equal(journal_append(j, "{\"new\":1}", true, &e), ST_OK);
    assert_int_equal(journal_close(j, &e), ST_OK);
    char *all = temp_get(path, &n);
    assert_memory_equal(all + sizeof b + 8, "{\"seq\":2,\"new\":1}", 17);
    free(all);
    assert_int_equal(journal_open(&j, path, JOURNAL_READ, collect, &got, &end, &e), ST_OK);
    assert_string_equal(str_text(&got), "{\"old\":1}\n{\"new\":1}\n");
    assert_int_equal(end.found, 0);
    assert_int_equal(journal_close(j, &e), ST_OK);
    str_free(&got);
    temp_remove(dir);
}

static void glanced_at(void *ctx, uint64_t seq, const char *json, uint32_t len)
{
    str_printf(ctx, "%llu %u %.20s\n", (unsigned long long)seq, (unsigned)len, json);
}

static void a_glance_sees_every_record(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *path = temp_path(dir, "j");
    size_t ends[N];
    Error e = {0};
    Str got = {0};
    make(path, ends);
    assert_int_equal(truncate(path, (off_t)ends[N - 1] - 2), 0);
    assert_int_equal(journal_glance(path, glanced_at, &got, &e), ST_OK);
    assert_string_equal(str_text(&got), "1 7 {\"a\":1}\n2 2 {}\n3 14 {\"text\":\"\xe4\xb8\xad\"}\n");
    str_free(&got);
    temp_remove(dir);
}

static void replay_may_stop(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *path = temp_path(dir, "j");
    size_t ends[N], n;
    make(path, ends);
    Error e = {0};
    Journal *j;
    int calls = 0;
    assert_int_equal(journal_open(&j, path, JOURNAL_KEEP, refuse_second, &calls, NULL, &e), ST_DATA);
    assert_null(j);
    assert_int_equal(calls, 2);
    free(temp_get(path, &n));
    assert_int_equal(n, ends[N - 1]); /* nothing was cut */
    assert_int_equal(journal_open(&j, dir, JOURNAL_KEEP, NULL, NULL, NULL, &e), ST_IO);
    assert_int_equal(journal_open(&j, temp_path(dir, "no/j"), JOURNAL_KEEP, NULL, NULL, NULL, &e), ST_IO);
    assert_int_equal(journal_close(NULL, &e), ST_OK);
    temp_remove(dir);
}

static int append_until_full(void *ctx)
{
    Error e = {0};
    Journal *j;
    if (journal_open(&j, ctx, JOURNAL_KEEP, NULL, NULL, NULL, &e) != ST_OK)
        return 1;
    char text[101];
    memset(text, '1', 100);
    text[100] = 0;
    int n = 0;
    while (journal_append(j, text, false, &e) == ST_OK)
        n++;
    if (e.status != ST_IO || !strstr(e.text, "cannot write"))
        return 2;
    /* what fits is still taken: the part of the long record is gone */
    if (journal_append(j, "\"fits\"", true, &e) != ST_OK)
        return 3;
    if (journal_close(j, &e) != ST_OK)
        return 5;
    return n == 9 ? 0 : 4;
}

static void full_disk_leaves_whole_records(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *path = temp_path(dir, "j");
    assert_int_equal(temp_with_limit(1000, append_until_full, (void *)(uintptr_t)path), 0);
    Error e = {0};
    Journal *j;
    Str got = {0};
    JournalEnd end;
    assert_int_equal(journal_open(&j, path, JOURNAL_KEEP, collect, &got, &end, &e), ST_OK);
    assert_int_equal(end.torn, 0);
    assert_int_equal(got.len, 9 * 101 + 7);
    assert_int_equal(journal_close(j, &e), ST_OK);
    str_free(&got);
    temp_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_as_documented), cmocka_unit_test(torn_at_every_byte),
        cmocka_unit_test(damaged_at_every_byte),   cmocka_unit_test(hostile_tails_are_cut),
        cmocka_unit_test(readers_leave_a_damaged_end),
        cmocka_unit_test(a_hole_ends_the_replay),
        cmocka_unit_test(records_without_numbers_are_read),
        cmocka_unit_test(a_glance_sees_every_record),
        cmocka_unit_test(replay_may_stop),         cmocka_unit_test(full_disk_leaves_whole_records),
    };
    return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
