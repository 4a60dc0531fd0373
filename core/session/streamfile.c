/* Hidden states between two layers, kept so that a stopped analysis can go on. */
#include "session/streamfile.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "run/runner.h"

static char *stream_path(const char *folder, int run, int layer)
{
    char name[64];
    snprintf(name, sizeof name, "streams/%d-%d.safetensors", run, layer);
    return path_join(folder, name);
}

/* carried: what an indexer chose is part of it (runner_carries). */
static Digest stream_digest(const Stream *h, bool carried)
{
    Hasher d;
    hasher_init(&d);
    hasher_bytes(&d, h->start, (size_t)(h->samples + 1) * sizeof *h->start);
    hasher_bytes(&d, h->data, (size_t)(h->rows * h->width) * sizeof *h->data);
    if (carried)
        hasher_bytes(&d, h->select, (size_t)(h->rows * h->select_words) * sizeof *h->select);
    return hasher_end(&d);
}

static Status write_as(const char *path, const Stream *h, bool carried, char sha[65], Error *err)
{
    TensorOut t[3] = {
        {"h", DT_F32, 2, {h->rows, h->width}, h->data},
        {"start", DT_I64, 1, {h->samples + 1}, h->start},
        {"select", DT_I32, 2, {h->rows, h->select_words}, h->select},
    };
    RETURN_IF_ERROR(safetensors_write(path, t, carried ? 3 : 2, NULL, err));
    Digest d = stream_digest(h, carried);
    digest_hex(&d, sha);
    return ST_OK;
}

Status streamfile_write(const char *folder, int run, int layer, const Stream *h, bool carried, char sha[65], Error *err)
{
    char *dir = path_join(folder, "streams"), *path = stream_path(folder, run, layer),
         *old = stream_path(folder, run, layer - 2);
    bool made = false;
    Status st = dir && path && old ? dir_make_mode(dir, 0700, &made, err) : error_nomem(err, "a path");
    if (st == ST_OK && made)
        file_sync_name(dir);
    if (st == ST_OK)
        st = write_as(path, h, carried, sha, err);
    if (st == ST_OK)
        unlink(old); /* the newest layer and the one before it stay */
    free(dir);
    free(path);
    free(old);
    return st;
}

static Status load_select(const Checkpoint *c, int layer, Stream *out, Error *err)
{
    const TensorInfo *t = checkpoint_find(c, "select");
    RETURN_IF_ERROR(runner_carry(out, err));
    if (!t || t->dtype != DT_I32 || t->ndim != 2 || t->shape[0] != out->rows || t->shape[1] != out->select_words)
        return error_set(err, ST_DATA, "the saved stream of layer %d is damaged: run the analysis anew", layer);
    return checkpoint_read(c, t, 0, t->nbytes, out->select, err);
}

Status streamfile_read(const char *folder, int run, int layer, const char *sha, const Model *m, Stream *out, Error *err)
{
    *out = (Stream){0};
    char *path = stream_path(folder, run, layer);
    if (!path)
        return error_nomem(err, "a path");
    Checkpoint *c;
    Status st = checkpoint_open(&c, path, err);
    free(path);
    RETURN_IF_ERROR(st);
    const TensorInfo *h = checkpoint_find(c, "h"), *start = checkpoint_find(c, "start");
    if (!h || !start || h->dtype != DT_F32 || h->ndim != 2 || start->dtype != DT_I64 || start->ndim != 1 ||
        start->shape[0] < 2 || h->shape[1] != m->cfg.stream_width) {
        checkpoint_free(c);
        return error_set(err, ST_DATA, "the saved stream of layer %d is damaged: run the analysis anew", layer);
    }
    int64_t *starts = mem_array((size_t)start->shape[0], sizeof *starts);
    st = starts ? checkpoint_read(c, start, 0, start->nbytes, starts, err) : error_nomem(err, "a stream");
    if (st == ST_OK && (starts[0] != 0 || starts[start->shape[0] - 1] != h->shape[0]))
        st = error_set(err, ST_DATA, "the saved stream of layer %d is damaged: run the analysis anew", layer);
    if (st == ST_OK)
        st = stream_init(out, (int)start->shape[0] - 1, starts, h->shape[1], err);
    if (st == ST_OK)
        st = checkpoint_read(c, h, 0, h->nbytes, out->data, err);
    free(starts);
    bool carried = st == ST_OK && runner_carries(m, layer + 1, out);
    if (carried)
        st = load_select(c, layer, out, err);
    checkpoint_free(c);
    if (st != ST_OK) {
        stream_fini(out);
        return st;
    }
    Digest d = stream_digest(out, carried);
    char now[65];
    digest_hex(&d, now);
    if (strcmp(now, sha) == 0)
        return ST_OK;
    stream_fini(out);
    return error_set(err, ST_DATA, "the saved stream of layer %d has changed: run the analysis anew", layer);
}

void streamfile_keep_only(const char *folder, int run)
{
    char *dir = path_join(folder, "streams"), kept[32];
    int n = snprintf(kept, sizeof kept, "%d-", run);
    DIR *d = dir ? opendir(dir) : NULL;
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        bool stream = (strstr(e->d_name, ".safetensors") && strncmp(e->d_name, kept, (size_t)n) != 0) ||
                      strncmp(e->d_name, ".slimscope-tmp-", 15) == 0; /* of a writer that was killed */
        char *path = stream ? path_join(dir, e->d_name) : NULL;
        if (path)
            unlink(path);
        free(path);
    }
    if (d)
        closedir(d);
    free(dir);
}
