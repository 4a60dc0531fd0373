#ifndef SLIM_TEST_TEMPDIR_H
#define SLIM_TEST_TEMPDIR_H

#include <stddef.h>

/* Files for tests. Every failure fails the test at once. */

/* A new folder below $TMPDIR (/tmp); free with temp_remove, which deletes what is in it. */
char *temp_folder(void);
void temp_remove(char *dir);
/* dir/name in a buffer that four more calls keep valid. */
const char *temp_path(const char *dir, const char *name);
void temp_put(const char *path, const void *bytes, size_t n);
void temp_puts(const char *path, const char *text);
/* Whole file, NUL-terminated; free with free(). */
char *temp_get(const char *path, size_t *n);
/* Entries of a folder besides "." and "..". */
int temp_entries(const char *dir);
/* Runs fn in a child process that can't write files beyond `limit` bytes and ignores SIGXFSZ, as the program does;
 * what fn returns (0 to 100). */
int temp_with_limit(size_t limit, int (*fn)(void *ctx), void *ctx);

#endif
