#ifndef SLIM_SAVE_STORE_H
#define SLIM_SAVE_STORE_H

#include <time.h>

#include "save/layout.h"

/* The files of a run while they are being written: `DIR/.slimscope-TYPE/` holds them, the lock and the progress record
 * until everything is whole; then each is renamed into the target. Two runs never share it. No link within the target is
 * followed. */

/* One file of the output: what it is called while it is made, and in the target. */
typedef struct StoreFile {
    char from[32];
    char *to;            /* may lie in one folder below the target: "debug_info/debug_info.json" */
    uint64_t bytes;
} StoreFile;

typedef struct Store {
    char *dir, *temp;    /* the target and the folder within it, as messages and the progress record call them */
    int at, temp_at;     /* both as descriptors, -1: whatever becomes of the names, files go where the lock is */
    char *type;
    int lock;            /* flock held while open, -1 */
    bool made_dir;       /* the target was made by us */
    int fd;              /* the file written last, -1 */
    int fd_file;
    uint8_t *dirty;      /* [files] written since the last sync */
    int files;
    StoreFile *out;      /* [nout] in the order in which they are put into the target */
    size_t nout, out_cap;
} Store;
#define STORE_CLOSED ((Store){.at = -1, .temp_at = -1, .lock = -1, .fd = -1, .fd_file = -1})
#define STORE_PREFIX ".slimscope-"
#define STORE_READY "ready" /* in the temporary folder: everything is made, only renames are left */

/* Name of the folder in the target in which a saver of this type keeps what isn't whole yet. */
void store_temp_name(const char *type, char *out, size_t size);
/* A closed store that knows its names; `name`: that of the temporary folder. */
Status store_begin(Store *s, const char *dir, const char *type, char name[128], Error *err);
/* Checks and makes the target folder, takes the lock. `model` is the source's folder: writing into it is refused. */
Status store_open(Store *s, const char *dir, const char *type, const char *model, Error *err);
/* Room for every file, headers included. The disk is asked for all of it now. resume: they are there already. */
Status store_create(Store *s, const SaveLayout *l, bool resume, Error *err);
/* Several processes write into the same files: the one that opened the store leaves a mark of n bytes in its folder, by which
 * the others know that folder. ST_IO: it is not there. They make, rename and remove nothing, and have no list. */
Status store_mark(const Store *s, const void *mark, size_t n, Error *err);
Status store_join(Store *s, const char *dir, const char *type, const SaveLayout *l, const void *mark, size_t n, Error *err);
/* Whether a resumed run finds the files that it left; packed (may be NULL) tells those that were repacked. */
Status store_check(const Store *s, const SaveLayout *l, const uint8_t *packed, Error *err);
/* Bytes [at, at+n) of tensor t. */
Status store_write(Store *s, const OutTensor *t, uint64_t at, const void *data, size_t n, Error *err);
Status store_read(Store *s, const OutTensor *t, uint64_t at, void *data, size_t n, Error *err);
/* A note of layer `layer` for a run that goes on, and what a stopped one left (*data is the caller's, NULL: nothing). */
Status store_keep(const Store *s, int layer, const void *data, size_t n, Error *err);
Status store_kept(const Store *s, int layer, void **data, size_t *n, Error *err);
/* A descriptor of file `file`, for threads that write at places of their own; the caller closes it. What is written through it
 * before the next store_sync is synced by that. */
Status store_part_open(Store *s, int file, int *fd, Error *err);
/* Everything written so far is on the disk after this. */
Status store_sync(Store *s, Error *err);

/* "part-00001" (as laid out first) or "out-00001" (repacked). */
void store_name(const char *kind, int file, char out[32]);
/* A file of its own for a repack: created with its size, the header written. The caller closes *fd. */
Status store_repack_open(const Store *s, const SaveLayout *l, int file, int *fd, Error *err);
/* Forgets the open file: after its path was removed or renamed. */
void store_drop_fd(Store *s);
/* ---- storefiles.c: everything is made first, then only renames are left ---- */

/* How a document is made; NULL: as the umask says, now. */
typedef struct StoreMode {
    unsigned mode;                  /* less what the umask takes away */
    const struct timespec *times;   /* [2] of last access and change, NULL: now */
} StoreMode;
/* A small file of the output; an earlier one for the same name is replaced. */
Status store_put(Store *s, const char *to, const void *data, size_t n, const StoreMode *how, Error *err);
/* What was put for `to`, NULL: nothing. */
const StoreFile *store_find(const Store *s, const char *to);
/* File `file` of the layout is called `to`. mode: 0 leaves it as it is. */
Status store_add_part(Store *s, int file, const char *to, uint64_t bytes, unsigned mode, Error *err);
/* Lists a file that lies in the temporary folder already. */
Status store_add(Store *s, const char *from, const char *to, uint64_t bytes, Error *err);
/* The list is empty again (a run that goes on makes its documents anew). */
void store_clear_list(Store *s);
/* What was listed last comes first. */
void store_to_front(Store *s);
/* Everything in the list is whole and on the disk, and a run that goes on finds it so. */
Status store_make_ready(Store *s, Error *err);
/* Whether an earlier run got there; its list is taken. */
Status store_take_ready(Store *s, bool *ready, Error *err);
/* Puts the list into the target, in its order; what is there already moved is left. The error says how far it came. */
Status store_install(Store *s, Error *err);
/* Behind an error of a file, or of memory, before the first rename: that what lies in `dir` is as it was, and what to do. */
Status store_nothing_replaced(const char *dir, Status st, Error *err);
/* Whether `name` is that of a file of ours in the temporary folder. */
bool store_owns(const char *name);

/* ST_IO when another process, or another run of this one, is writing into the folder `at`. */
Status store_check_free(int at, const char *dir, const char *but_type, Error *err);

/* keep: leaves the temporary folder for a resume. Else it goes, and a target that we made and that is empty, too. */
void store_close(Store *s, bool keep);

#endif
