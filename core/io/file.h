#ifndef SLIM_IO_FILE_H
#define SLIM_IO_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* "cannot VERB 'PATH': REASON" of an errno: ST_NOMEM for ENOMEM, else ST_IO. */
Status file_error(Error *err, const char *verb, const char *path, int code);

/* Whole file into *out (NUL-terminated, caller frees), its length without the NUL into *len.
 * Larger than `max` bytes, a directory, unreadable: one clear line. */
Status file_read(const char *path, size_t max, char **out, size_t *len, Error *err);

/* Opens a regular file for reading (anything else is refused, without waiting on a pipe); its size now into *size.
 * The caller closes *fd. */
Status file_open(const char *path, int *fd, uint64_t *size, Error *err);

/* pread of exactly n bytes; a short read names path, wanted and found bytes. */
Status file_pread(int fd, const char *path, void *dst, size_t n, uint64_t offset, Error *err);

/* pwrite of exactly n bytes, whatever interrupts it; VERB as in file_error. */
Status file_pwrite(int fd, const char *verb, const char *path, const void *p, size_t n, uint64_t offset, Error *err);

/* Makes this process's id and a newline the content of a lock file that is open for writing; VERB as in file_error. */
Status file_write_pid(int fd, const char *verb, const char *path, Error *err);

/* The process id that a lock file names, 0 when it can't be read. */
long file_read_pid(int fd);

/* A file written under a temporary name beside its target, then synced and renamed over it: readers see the old or
 * the new content, never a part. Any failure (a full disk, RLIMIT_FSIZE) leaves the old file as it was. */
typedef struct AtomicFile AtomicFile;
Status atomic_open(AtomicFile **out, const char *path, Error *err);
Status atomic_write(AtomicFile *f, const void *p, size_t n, Error *err);
/* Syncs and renames; frees f in every case. */
Status atomic_commit(AtomicFile *f, Error *err);
/* Removes the temporary file and frees f (NULL is fine). */
void atomic_abort(AtomicFile *f);
/* Makes what was created or renamed in the folder of path durable; file systems that can't sync a folder are left alone.
 */
void file_sync_name(const char *path);
/* open + write + commit. */
Status file_write_atomic(const char *path, const void *p, size_t n, Error *err);

/* Whether the file is there and holds exactly these bytes. */
bool file_holds(const char *path, const void *p, size_t n);

/* mkdir -p with mode 0700. */
Status dir_make(const char *path, Error *err);
/* mkdir -p with `mode`, less what the umask takes away. *made: the last part is new. */
Status dir_make_mode(const char *path, unsigned mode, bool *made, Error *err);
/* The folder and all below it; what a link points to stays. */
Status dir_remove(const char *path, Error *err);
bool file_exists(const char *path);
bool dir_exists(const char *path);
/* Joins with one '/'; caller frees; NULL when memory is short. */
char *path_join(const char *dir, const char *name);
/* As seen from the working folder, if it isn't absolute; caller frees; NULL when memory is short. */
char *path_absolute(const char *path);
/* Part after the last '/'. */
const char *path_base(const char *path);
/* The path as it is written in the current folder: what is behind that folder's name when it lies below, else all. */
const char *path_here(const char *path);

#endif
