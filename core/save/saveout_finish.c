#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
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
    char old[32];
    store_name("part", file, old);
    store_drop_fd(&s->store);
    unlinkat(s->store.temp_at, old, 0);
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
            first[i] = s->tensor_of[i] < 0 ? 0 : s->layout.t[s->tensor_of[i]].file;
    }
    st = saveout_layout(s, first, &l, err);
    if (st == ST_OK)
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

/* ---- what goes with the weights ---- */

/* The peer's weights and descriptions are for their owner alone; ours follow the umask, so that the account that serves
 * the model can read them. */
enum { OWNER_ONLY = 0600, BY_UMASK = 0666 };

Status save_document(SaveOut *s, const char *name, const Str *text, Error *err)
{
    if (text->oom)
        return error_nomem(err, name);
    bool own = s->plan->peer && (saver_description(name) || store_find(&s->store, name)); /* as it was copied */
    const StoreMode how = {.mode = own ? OWNER_ONLY : BY_UMASK};
    return store_put(&s->store, name, str_text(text), text->len, &how, err);
}

static Status write_index(SaveOut *s, const char *index, Error *err)
{
    Str out = {0};
    str_printf(&out, "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n  \"weight_map\": {",
               (unsigned long long)s->layout.payload);
    for (size_t i = 0; i < s->layout.n; i++) {
        const OutTensor *t = &s->layout.t[i];
        char file[256];
        if (t->own)
            continue;
        save_file_name(s, t->file, file);
        str_puts(&out, i ? ",\n    " : "\n    ");
        pyjson_string(&out, t->name, strlen(t->name));
        str_puts(&out, ": ");
        pyjson_string(&out, file, strlen(file));
    }
    str_puts(&out, s->layout.n ? "\n  }\n}" : "}\n}");
    Status st = save_document(s, index, &out, err);
    str_free(&out);
    return st;
}

/* ---- the manifest ---- */

/* What an earlier output of this saver left and this one doesn't replace. */
static Status add_old(const SaveOut *s, Manifest *m, Error *err)
{
    Manifest *all;
    size_t n;
    RETURN_IF_ERROR(manifest_list(s->store.at, s->store.dir, &all, &n, err));
    Status st = ST_OK;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < all[i].n && st == ST_OK && strcmp(all[i].saver, s->format->type) == 0; k++)
            if (!manifest_find(m, all[i].files[k].name, true) && manifest_is_there(s->store.at, &all[i].files[k]))
                st = manifest_add(m, all[i].files[k].name, all[i].files[k].bytes, true, err);
    manifest_list_free(all, n);
    return st;
}

static Status fill_manifest(const SaveOut *s, Manifest *m, Error *err)
{
    m->saver = strdup(s->format->type);
    m->model = strdup(path_base(s->plan->model->path));
    if (!m->saver || !m->model)
        return error_nomem(err, "the list of files");
    snprintf(m->fingerprint, sizeof m->fingerprint, "%s", s->plan->model->fingerprint);
    snprintf(m->arith, sizeof m->arith, "%s", s->plan->arith ? s->plan->arith : "");
    memcpy(m->plan, s->known, sizeof m->plan);
    memcpy(m->run, s->run, sizeof m->run);
    for (size_t i = 0; i < s->store.nout; i++)
        RETURN_IF_ERROR(manifest_add(m, s->store.out[i].to, s->store.out[i].bytes, false, err));
    return add_old(s, m, err);
}

/* It comes before all others: whatever lies in the target from then on has its owner. */
static Status put_manifest(SaveOut *s, Error *err)
{
    Manifest m = {0};
    Str text = {0};
    char name[128];
    manifest_name(s->format->type, name);
    Status st = fill_manifest(s, &m, err);
    if (st == ST_OK) {
        manifest_text(&m, &text);
        st = text.oom ? error_nomem(err, name) : store_put(&s->store, name, text.s, text.len, NULL, err);
    }
    if (st == ST_OK)
        store_to_front(&s->store);
    str_free(&text);
    manifest_fini(&m);
    return st;
}

Status saveout_list(SaveOut *s, Error *err)
{
    char name[256];
    store_clear_list(&s->store);
    for (int f = 0; f < s->layout.files; f++) {
        save_file_name(s, f, name);
        RETURN_IF_ERROR(store_add_part(&s->store, f, name, s->layout.size[f], s->plan->peer ? OWNER_ONLY : 0, err));
    }
    if (s->plan->extra) {
        const SaveExtra *x = s->plan->extra;
        RETURN_IF_ERROR(store_put(&s->store, x->name, x->text, x->len, NULL, err));
    }
    RETURN_IF_ERROR(s->format->documents(s, err));
    save_index_name(s, name);
    if (name[0])
        RETURN_IF_ERROR(write_index(s, name, err));
    return put_manifest(s, err);
}

Status saveout_check_appeared(const SaveOut *s, Error *err)
{
    Manifest *all;
    size_t n;
    RETURN_IF_ERROR(manifest_list(s->store.at, s->store.dir, &all, &n, err));
    const StoreFile *bad = NULL;
    for (size_t i = 0; i < s->store.nout && !bad; i++) {
        const StoreFile *f = &s->store.out[i];
        bool known = false;
        for (size_t k = 0; k < n && !known; k++) /* the first file is the manifest itself */
            known = (i == 0 && strcmp(all[k].saver, s->format->type) == 0) || manifest_find(&all[k], f->to, true);
        struct stat st;
        if (!known && fstatat(s->store.temp_at, f->from, &st, AT_SYMLINK_NOFOLLOW) == 0
            && fstatat(s->store.at, f->to, &st, AT_SYMLINK_NOFOLLOW) == 0)
            bad = f;
    }
    Status st = ST_OK;
    if (bad)
        st = error_set(err, ST_IO, "'%s' has come into '%s' since the run began: move it away, then --resume goes on",
                       bad->to, s->store.dir);
    manifest_list_free(all, n);
    return st;
}
