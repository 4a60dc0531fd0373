#ifndef SLIM_SAVE_STORE_H
#define SLIM_SAVE_STORE_H

#include "save/layout.h"

/* The files of a run while they are being written: `DIR/.slimscope-TYPE/` holds them, the lock and the progress record
 * until everything is whole. Two runs never share it. */
typedef struct Store {
    char *dir, *temp;    /* the target and the folder within it */
    char *type;
    int lock;            /* flock held while open, -1 */
    bool made_dir;       /* the target was made by us */
    int fd;              /* the file written last, -1 */
    int fd_file;
    uint8_t *dirty;      /* [files] written since the last sync */
    int files;
} Store;

/* Name of the folder in the target in which a saver of this type keeps what isn't whole yet. */
void store_temp_name(const char *type, char *out, size_t size);
/* Checks and makes the target folder, takes the lock. `model` is the source's folder: writing into it is refused. */
Status store_open(Store *s, const char *dir, const char *type, const char *model, Error *err);
/* Room for every file, headers included. The disk is asked for all of it now. resume: they are there already. */
Status store_create(Store *s, const SaveLayout *l, bool resume, Error *err);
/* Whether a resumed run finds the files that it left; packed (may be NULL) tells those that were repacked. */
Status store_check(const Store *s, const SaveLayout *l, const uint8_t *packed, Error *err);
/* Bytes [at, at+n) of tensor t. */
Status store_write(Store *s, const OutTensor *t, uint64_t at, const void *data, size_t n, Error *err);
Status store_read(Store *s, const OutTensor *t, uint64_t at, void *data, size_t n, Error *err);
/* Everything written so far is on the disk after this. */
Status store_sync(Store *s, Error *err);

/* "part-00001" (as laid out first) or "out-00001" (repacked) below the temporary folder; caller frees, NULL: memory. */
char *store_path(const Store *s, const char *kind, int file);
/* A file of its own for a repack: created with its size, the header written. The caller closes *fd. */
Status store_repack_open(const Store *s, const SaveLayout *l, int file, int *fd, Error *err);
/* Forgets the open file: after its path was removed or renamed. */
void store_drop_fd(Store *s);
/* Moves file `file` to `name` in the target; what is there already moved is left. */
Status store_install(Store *s, int file, const char *name, Error *err);
/* Syncs the target folder itself. */
void store_sync_dir(const Store *s);

/* keep: leaves the temporary folder for a resume. Else it goes, and a target that we made and that is empty, too. */
void store_close(Store *s, bool keep);

#endif
