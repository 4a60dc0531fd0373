#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/file.h"
#include "tests/lib/tempdir.h"

static void reads_whole_regular_files(void **state)
{
    (void)state;
    char *dir = temp_folder();
    Error e = {0};
    char *text;
    size_t n;
    temp_put(temp_path(dir, "f"), "a\0bc", 4);
    assert_int_equal(file_read(temp_path(dir, "f"), 4, &text, &n, &e), ST_OK);
    assert_int_equal(n, 4);
    assert_memory_equal(text, "a\0bc", 5);
    free(text);
    assert_int_equal(file_read(temp_path(dir, "f"), 3, &text, &n, &e), ST_DATA);
    assert_non_null(strstr(e.text, "too large: 4 bytes, at most 3"));
    temp_put(temp_path(dir, "empty"), "", 0);
    assert_int_equal(file_read(temp_path(dir, "empty"), 0, &text, &n, &e), ST_OK);
    assert_string_equal(text, "");
    free(text);
    assert_int_equal(file_read(temp_path(dir, "none"), 9, &text, &n, &e), ST_IO);
    assert_non_null(strstr(e.text, "none': No such file"));
    assert_int_equal(file_read(dir, 9, &text, &n, &e), ST_IO);
    assert_non_null(strstr(e.text, "a directory"));
    /* a pipe nobody writes to must not block */
    assert_int_equal(mkfifo(temp_path(dir, "pipe"), 0600), 0);
    assert_int_equal(file_read(temp_path(dir, "pipe"), 9, &text, &n, &e), ST_IO);
    assert_non_null(strstr(e.text, "pipe"));
    assert_int_equal(file_read("/dev/zero", 9, &text, &n, &e), ST_IO);
    temp_remove(dir);
}

static void short_reads_name_the_bytes(void **state)
{
    (void)state;
    char *dir = temp_folder(), buf[16];
    Error e = {0};
    uint64_t size;
    int fd;
    temp_puts(temp_path(dir, "f"), "0123456789");
    assert_int_equal(file_open(temp_path(dir, "f"), &fd, &size, &e), ST_OK);
    assert_int_equal(size, 10);
    assert_int_equal(file_pread(fd, "f", buf, 4, 6, &e), ST_OK);
    assert_memory_equal(buf, "6789", 4);
    assert_int_equal(file_pread(fd, "f", buf, 5, 6, &e), ST_DATA);
    assert_string_equal(e.text, "'f' is truncated: wanted 5 bytes at offset 6, found 4");
    assert_int_equal(file_pread(fd, "f", buf, 1, UINT64_MAX, &e), ST_DATA);
    close(fd);
    temp_remove(dir);
}

static void replaces_atomically(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *path = temp_path(dir, "out");
    Error e = {0};
    assert_int_equal(file_write_atomic(path, "one", 3, &e), ST_OK);
    assert_int_equal(chmod(path, 0640), 0);
    AtomicFile *f;
    assert_int_equal(atomic_open(&f, path, &e), ST_OK);
    assert_int_equal(atomic_write(f, "tw", 2, &e), ST_OK);
    char *now = temp_get(path, NULL);
    assert_string_equal(now, "one"); /* until the commit */
    free(now);
    assert_int_equal(atomic_write(f, "o", 1, &e), ST_OK);
    assert_int_equal(atomic_commit(f, &e), ST_OK);
    now = temp_get(path, NULL);
    assert_string_equal(now, "two");
    free(now);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(atomic_open(&f, path, &e), ST_OK);
    assert_int_equal(atomic_write(f, "gone", 4, &e), ST_OK);
    atomic_abort(f);
    atomic_abort(NULL);
    assert_int_equal(temp_entries(dir), 1);
    /* a link stays one */
    assert_int_equal(symlink("out", temp_path(dir, "link")), 0);
    assert_int_equal(file_write_atomic(temp_path(dir, "link"), "three", 5, &e), ST_OK);
    assert_int_equal(lstat(temp_path(dir, "link"), &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    now = temp_get(path, NULL);
    assert_string_equal(now, "three");
    free(now);
    assert_int_equal(temp_entries(dir), 2);
    temp_remove(dir);
}

static void refuses_what_is_no_file(void **state)
{
    (void)state;
    char *dir = temp_folder();
    Error e = {0};
    assert_int_equal(file_write_atomic(dir, "x", 1, &e), ST_IO);
    assert_non_null(strstr(e.text, "a directory"));
    assert_int_equal(file_write_atomic("/dev/null", "x", 1, &e), ST_IO);
    struct stat st;
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
    assert_int_equal(file_write_atomic(temp_path(dir, "no/such/folder"), "x", 1, &e), ST_IO);
    assert_non_null(strstr(e.text, "No such file"));
    temp_remove(dir);
}

static int write_big(void *ctx)
{
    static char big[100000];
    Error e = {0};
    memset(big, 'x', sizeof big);
    Status st = file_write_atomic(ctx, big, sizeof big, &e);
    return st == ST_IO && strstr(e.text, "cannot write") && strstr(e.text, ctx) ? 0 : 1;
}

/* The error of one write is not forgotten by the commit. */
static int write_on_after_error(void *ctx)
{
    static char big[100000];
    Error e = {0};
    AtomicFile *f;
    if (atomic_open(&f, ctx, &e) != ST_OK || atomic_write(f, big, sizeof big, &e) != ST_IO)
        return 1;
    return atomic_commit(f, &e) == ST_IO ? 0 : 2;
}

static void full_disk_keeps_the_old_file(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *path = temp_path(dir, "keep");
    temp_puts(path, "old content");
    assert_int_equal(temp_with_limit(40000, write_big, (void *)(uintptr_t)path), 0);
    assert_int_equal(temp_with_limit(40000, write_on_after_error, (void *)(uintptr_t)path), 0);
    char *now = temp_get(path, NULL);
    assert_string_equal(now, "old content");
    free(now);
    assert_int_equal(temp_entries(dir), 1); /* no temporary file stays */
    temp_remove(dir);
}

static void folders_are_made_with_parents(void **state)
{
    (void)state;
    char *dir = temp_folder();
    Error e = {0};
    char deep[8192];
    snprintf(deep, sizeof deep, "%s//a/b/c/", dir);
    assert_int_equal(dir_make(deep, &e), ST_OK);
    assert_true(dir_exists(temp_path(dir, "a/b/c")));
    assert_int_equal(dir_make(deep, &e), ST_OK);
    struct stat st;
    assert_int_equal(stat(temp_path(dir, "a"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    temp_puts(temp_path(dir, "file"), "");
    assert_int_equal(dir_make(temp_path(dir, "file/x"), &e), ST_IO);
    assert_true(file_exists(temp_path(dir, "file")) && !dir_exists(temp_path(dir, "file")));
    assert_false(file_exists(dir));
    temp_remove(dir);
}

static void paths_are_joined(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a//", "/b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"},
        {".", "b/c", "./b/c"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *p = path_join(rows[i][0], rows[i][1]);
        assert_string_equal(p, rows[i][2]);
        free(p);
    }
    assert_string_equal(path_base("/x/y.z"), "y.z");
    assert_string_equal(path_base("y"), "y");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_whole_regular_files),    cmocka_unit_test(short_reads_name_the_bytes),
        cmocka_unit_test(replaces_atomically),          cmocka_unit_test(refuses_what_is_no_file),
        cmocka_unit_test(full_disk_keeps_the_old_file), cmocka_unit_test(folders_are_made_with_parents),
        cmocka_unit_test(paths_are_joined),
    };
    return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
