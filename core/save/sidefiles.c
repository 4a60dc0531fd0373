#include <dirent.h>
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

enum { SIDE_FILE_MAX = 256 << 20, CONFIG_MAX = 64 << 20 };

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

static bool ends_with_any(const char *s, const char *const *ends)
{
    for (; *ends; ends++)
        if (ends_with(s, *ends))
            return true;
    return false;
}

/* What of the model's folder goes along. The peer's list loses tokenizers that are no text. */
static bool goes_along(const char *name, bool peer, bool only_code)
{
    static const char *const code[] = {".json", ".py", NULL};
    static const char *const text[] = {".json", ".py", ".txt", ".jinja", NULL};
    static const char *const more[] = {".model", ".tiktoken", ".md", NULL};
    if (ends_with(name, "index.json") || name[0] == '.')
        return false;
    if (peer)
        return ends_with_any(name, only_code ? code : text);
    return ends_with_any(name, text) || ends_with_any(name, more) || strncmp(name, "LICENSE", 7) == 0
           || strncmp(name, "NOTICE", 6) == 0;
}

static Status copy_file(const SaveOut *s, const char *name, Error *err)
{
    char *from = path_join(s->plan->model->path, name), *to = path_join(s->store.dir, name), *text = NULL;
    size_t n;
    struct stat st;
    Status r = from && to ? ST_OK : error_nomem(err, "a path");
    if (r == ST_OK && (stat(from, &st) != 0 || !S_ISREG(st.st_mode)))
        goto done; /* a folder or a dangling link that is called like one */
    if (r == ST_OK)
        r = file_read(from, SIDE_FILE_MAX, &text, &n, err);
    if (r == ST_OK)
        r = file_write_atomic(to, text, n, err);
    if (r == ST_OK) {
        struct timespec times[2] = {st.st_atim, st.st_mtim};
        (void)utimensat(AT_FDCWD, to, times, 0);
        if (s->plan->peer)
            (void)chmod(to, 0600);
    }
done:
    free(from);
    free(to);
    free(text);
    return r;
}

Status save_side_files(const SaveOut *s, bool only_code, Error *err)
{
    const char *dir = s->plan->model->path;
    DIR *d = opendir(dir);
    if (!d && errno == ENOTDIR)
        return ST_OK; /* the model is a single file */
    if (!d)
        return file_error(err, "read folder", dir, errno);
    Status st = ST_OK;
    const struct dirent *e;
    while (st == ST_OK && (e = readdir(d)) != NULL)
        if (goes_along(e->d_name, s->plan->peer, only_code) && !saver_description(e->d_name))
            st = copy_file(s, e->d_name, err);
    closedir(d);
    return st;
}

Status save_edit_config(SaveOut *s, const char *const *drop, const char *add, bool always, Error *err)
{
    char *path = path_join(s->store.dir, "config.json"), *text = NULL;
    size_t n;
    int dropped = 0;
    Str out = {0};
    if (!path)
        return error_nomem(err, "a path");
    Status st = file_exists(path) ? file_read(path, CONFIG_MAX, &text, &n, err) : ST_OK;
    if (st == ST_OK && text)
        st = pyjson_rewrite(text, n, path, 2, drop, &dropped, add, &out, err);
    if (st == ST_OK && text && (dropped || add || always))
        st = save_document(s, "config.json", &out, err);
    str_free(&out);
    free(text);
    free(path);
    return st;
}

Status save_list_old(SaveOut *s, Error *err)
{
    DIR *d = opendir(s->store.dir);
    if (!d)
        return file_error(err, "read folder", s->store.dir, errno);
    Status st = ST_OK;
    const struct dirent *e;
    while (st == ST_OK && (e = readdir(d)) != NULL) {
        if (!ends_with(e->d_name, ".safetensors"))
            continue;
        if (!mem_grow(&s->old, &s->old_cap, s->nold + 1, sizeof *s->old)) {
            st = error_nomem(err, "the list of files");
            break;
        }
        OldFile *f = &s->old[s->nold++];
        snprintf(f->name, sizeof f->name, "%s", e->d_name);
        f->inode = (uint64_t)e->d_ino;
    }
    closedir(d);
    return st;
}

/* Only what was there before this run: another format of it may have put its own files there meanwhile. */
void save_remove_old(const SaveOut *s)
{
    for (size_t i = 0; i < s->nold; i++) {
        struct stat st;
        char *path = strchr(s->old[i].name, '/') ? NULL : path_join(s->store.dir, s->old[i].name);
        if (path && lstat(path, &st) == 0 && (uint64_t)st.st_ino == s->old[i].inode)
            unlink(path);
        free(path);
    }
}
