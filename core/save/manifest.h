#ifndef SLIM_SAVE_MANIFEST_H
#define SLIM_SAVE_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

/* What a saver put into a folder, kept there as ".slimscope.TYPE.json": only files that are named by one, and are still
 * of the size that it says, are ever deleted. */
typedef struct ManifestFile {
    char *name;
    uint64_t bytes;
    bool old;      /* of an output before this one, not removed yet */
} ManifestFile;

typedef struct Manifest {
    char *saver, *model; /* type, and what the model's folder was called */
    char fingerprint[65]; /* of the model */
    char plan[65], run[65]; /* digests of everything that decides the bytes: as far as it is known before the run, and all
                             * of it; "" when it isn't known */
    char arith[16];       /* name of the run's arithmetic; "" when it isn't known */
    ManifestFile *files;
    size_t n, cap;
} Manifest;

/* ".slimscope.TYPE.json". */
void manifest_name(const char *type, char out[128]);
/* Appends a file; the name is copied. */
Status manifest_add(Manifest *m, const char *name, uint64_t bytes, bool old, Error *err);
/* NULL: `name` is not one of its files (old ones do not count unless `old`). */
const ManifestFile *manifest_find(const Manifest *m, const char *name, bool old);
/* The document's text; m->saver and model must be set. */
void manifest_text(const Manifest *m, Str *out);
/* All manifests of folder `at` (a descriptor; `dir` names it in errors): *out and each of them are the caller's
 * (manifest_list_free). What is no manifest of this program, a link among them, does not count. */
Status manifest_list(int at, const char *dir, Manifest **out, size_t *n, Error *err);
void manifest_fini(Manifest *m);
void manifest_list_free(Manifest *m, size_t n);
/* Whether the file lies in folder `at`: a regular one, not a link, of the size that the manifest says. */
bool manifest_is_there(int at, const ManifestFile *f);

#endif
