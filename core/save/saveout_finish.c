#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "save/pyjson.h"
#include "save/saveout.h"

enum { COPY_BYTES = 4 << 20 };

/* ---- repack: the layout changed after it was planned ---- */

typedef struct Target {
    int fd;
    const char *dir;
    const OutTensor *t;
} Target;

static Status put_fd(void *ctx, uint64_t at, const void *data, size_t n, Error *err)
{
    const Target *p = ctx;
    const char *b = data;
    if (at > p->t->nbytes || n > p->t->nbytes - at)
        return error_set(err, ST_INTERNAL, "'%s' would be written beyond its end", p->t->name);
    while (n) {
        ssize_t w = pwrite(p->fd, b, n, (off_t)(p->t->offset + at));
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return file_error(err, "write into", p->dir, w < 0 ? errno : ENOSPC);
        b += w;
        at += (uint64_t)w;
        n -= (size_t)w;
    }
    return ST_OK;
}

/* The tensor of the same name as planned, NULL when it is new. */
static const OutTensor *planned(const SaveOut *s, const OutTensor *t)
{
    const SaveLayout *l = &s->layout;
    for (int64_t i = s->tensor_of[t->item]; i >= 0 && i < (int64_t)l->n && l->t[i].item == t->item; i++)
        if (strcmp(l->t[i].name, t->name) == 0 && l->t[i].dtype == t->dtype && l->t[i].nbytes == t->nbytes)
            return &l->t[i];
    return NULL;
}

static Status move_tensor(SaveOut *s, Target *to, char *buf, Error *err)
{
    const OutTensor *t = to->t;
    const SaveItem *it = &s->walk.items[t->item];
    if (it->kind == SI_LINEAR && (s->state[it->linear] & SAVE_KEPT_FLOAT))
        return save_copy_sound(s->plan, it, t->part == 1, put_fd, to, err);
    const OutTensor *from = planned(s, t);
    if (!from)
        return error_set(err, ST_INTERNAL, "'%s' was never written", t->name);
    for (uint64_t at = 0; at < t->nbytes;) {
        size_t n = t->nbytes - at < COPY_BYTES ? (size_t)(t->nbytes - at) : COPY_BYTES;
        RETURN_IF_ERROR(store_read(&s->store, from, at, buf, n, err));
        RETURN_IF_ERROR(put_fd(to, at, buf, n, err));
        at += n;
    }
    return ST_OK;
}

static Status repack_file(SaveOut *s, const SaveLayout *l, int file, Error *err)
{
    Target to = {.dir = s->store.dir};
    char *buf = malloc(COPY_BYTES);
    if (!buf)
        return error_nomem(err, "copying a file");
    Status st = store_repack_open(&s->store, l, file, &to.fd, err);
    if (st == ST_OK) {
        for (size_t i = l->begin[file]; i < l->begin[file + 1] && st == ST_OK; i++) {
            to.t = &l->t[l->order[i]];
            st = move_tensor(s, &to, buf, err);
        }
        if (st == ST_OK && fsync(to.fd) != 0)
            st = file_error(err, "sync files in", s->store.dir, errno);
        close(to.fd);
    }
    free(buf);
    return st;
}

/* Same tensors at the same places: the file as planned serves. */
static Status same_file(const SaveOut *s, const SaveLayout *l, int file, bool *same, Error *err)
{
    *same = false;
    if (file >= s->layout.files || l->size[file] != s->layout.size[file])
        return ST_OK;
    Str a = {0}, b = {0};
    Status st = layout_header(l, file, &a, err);
    if (st == ST_OK)
        st = layout_header(&s->layout, file, &b, err);
    *same = st == ST_OK && a.len == b.len && memcmp(a.s, b.s, a.len) == 0;
    str_free(&a);
    str_free(&b);
    return st;
}

/* The new file is whole: remembered, and the one it replaces goes (room for the next). */
static Status took_over(SaveOut *s, int file, Error *err)
{
    char rec[48];
    snprintf(rec, sizeof rec, "{\"packed\":%d}", file);
    RETURN_IF_ERROR(journal_append(s->journal, rec, true, err));
    char *old = store_path(&s->store, "part", file);
    if (!old)
        return error_nomem(err, "a path");
    store_drop_fd(&s->store);
    unlink(old);
    free(old);
    return ST_OK;
}

/* Without the peer's rule tensors keep their file, so that each file is made of the old one and the model alone. */
static Status repack_all(SaveOut *s, const SaveLayout *l, Error *err)
{
    bool one_by_one = !s->plan->peer;
    for (int f = 0; f < l->files; f++) {
        bool same;
        if (one_by_one && s->packed && f < s->layout.files && s->packed[f])
            continue;
        RETURN_IF_ERROR(same_file(s, l, f, &same, err));
        if (same)
            continue;
        RETURN_IF_ERROR(repack_file(s, l, f, err));
        if (one_by_one)
            RETURN_IF_ERROR(took_over(s, f, err));
    }
    return ST_OK;
}

Status saveout_repack(SaveOut *s, Error *err)
{
    SaveLayout l = {0};
    int32_t *first = NULL;
    Status st = ST_OK;
    if (!s->plan->peer) {
        first = mem_array(s->walk.n, sizeof *first);
        if (!first)
            return error_nomem(err, "the list of tensors");
        for (size_t i = 0; i < s->walk.n; i++)
            first[i] = s->layout.t[s->tensor_of[i]].file;
    }
    st = saveout_layout(s, first, &l, err);
    if (st == ST_OK && !s->finishing)
        st = repack_all(s, &l, err);
    free(first);
    if (st != ST_OK) {
        layout_free(&l);
        return st;
    }
    layout_free(&s->layout);
    s->layout = l;
    for (size_t t = l.n; t-- > 0;)
        s->tensor_of[l.t[t].item] = (int64_t)t;
    return ST_OK;
}

/* ---- into place ---- */

/* The peer's weights and descriptions are for their owner alone; ours follow the umask, so that the account that serves
 * the model can read them. */
static void private_mode(const SaveOut *s, const char *name)
{
    char *path = path_join(s->store.dir, name);
    if (path)
        (void)chmod(path, 0600);
    free(path);
}

Status save_document(SaveOut *s, const char *name, const Str *text, Error *err)
{
    if (text->oom)
        return error_nomem(err, name);
    char *path = path_join(s->store.dir, name);
    bool fresh = path && !file_exists(path);
    Status st = path ? file_write_atomic(path, str_text(text), text->len, err) : error_nomem(err, "a path");
    free(path);
    if (st == ST_OK && fresh && s->plan->peer && saver_description(name))
        private_mode(s, name);
    return st;
}

static Status write_index(SaveOut *s, const char *index, Error *err)
{
    Str out = {0};
    str_printf(&out, "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n  \"weight_map\": {",
               (unsigned long long)s->layout.payload);
    for (size_t i = 0; i < s->layout.n; i++) {
        const OutTensor *t = &s->layout.t[i];
        char file[256];
        save_file_name(s, t->file, s->layout.files, file);
        str_puts(&out, i ? ",\n    " : "\n    ");
        pyjson_string(&out, t->name, strlen(t->name));
        str_puts(&out, ": ");
        pyjson_string(&out, file, strlen(file));
    }
    str_puts(&out, "\n  }\n}");
    Status st = save_document(s, index, &out, err);
    str_free(&out);
    return st;
}

Status saveout_install(SaveOut *s, Error *err)
{
    char index[256];
    for (int f = 0; f < s->layout.files; f++) {
        char name[256];
        save_file_name(s, f, s->layout.files, name);
        RETURN_IF_ERROR(store_install(&s->store, f, name, err));
        if (s->plan->peer)
            private_mode(s, name);
    }
    store_sync_dir(&s->store);
    save_index_name(s, index);
    if (index[0])
        RETURN_IF_ERROR(write_index(s, index, err));
    RETURN_IF_ERROR(s->format->documents(s, err));
    save_remove_old(s);
    store_sync_dir(&s->store);
    return ST_OK;
}
