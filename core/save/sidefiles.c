#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/file.h"
#include "save/pyjson.h"
#include "save/saveout.h"

enum { SIDE_FILE_MAX = 256 << 20, CONFIG_MAX = 64 << 20 };

static bool ends_with_any(const char *s, const char *const *ends)
{
    for (; *ends; ends++)
        if (str_ends_with(s, *ends))
            return true;
    return false;
}

/* What of the model's folder goes along. The peer's list loses tokenizers that are no text. */
static bool goes_along(const char *name, bool peer, bool only_code)
{
    static const char *const code[] = {".json", ".py", NULL};
    static const char *const text[] = {".json", ".py", ".txt", ".jinja", NULL};
    static const char *const more[] = {".model", ".tiktoken", ".md", NULL};
    if (str_ends_with(name, "index.json") || name[0] == '.')
        return false;
    if (peer)
        return ends_with_any(name, only_code ? code : text);
    return ends_with_any(name, text) || ends_with_any(name, more) || strncmp(name, "LICENSE", 7) == 0
           || strncmp(name, "NOTICE", 6) == 0;
}

static Status collect(DIR *d, const SavePlan *plan, bool only_code, char ***names, size_t *n, Error *err)
{
    size_t cap = 0;
    const struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        struct stat st;
        if (!goes_along(e->d_name, plan->peer, only_code) || saver_description(e->d_name)
            || fstatat(dirfd(d), e->d_name, &st, 0) != 0 || !S_ISREG(st.st_mode))
            continue; /* a folder or a dangling link that is called like one */
        char *copy = mem_grow(names, &cap, *n + 1, sizeof **names) ? strdup(e->d_name) : NULL;
        if (!copy)
            return error_nomem(err, "the list of files");
        (*names)[(*n)++] = copy;
    }
    if (*n)
        qsort(*names, *n, sizeof **names, compare_strings);
    return ST_OK;
}

static void free_names(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

Status save_side_names(const SavePlan *plan, bool only_code, char ***names, size_t *n, Error *err)
{
    const char *dir = plan->model->path;
    *names = NULL;
    *n = 0;
    DIR *d = opendir(dir);
    if (!d && errno == ENOTDIR)
        return ST_OK; /* the model is a single file */
    if (!d)
        return file_error(err, "read folder", dir, errno);
    Status st = collect(d, plan, only_code, names, n, err);
    closedir(d);
    if (st != ST_OK) {
        free_names(*names, *n);
        *names = NULL;
        *n = 0;
    }
    return st;
}

static Status copy_file(SaveOut *s, const char *name, Error *err)
{
    char *from = path_join(s->plan->model->path, name), *text = NULL;
    size_t n;
    struct stat st;
    Status r = from ? ST_OK : error_nomem(err, "a path");
    if (r == ST_OK && stat(from, &st) != 0)
        r = file_error(err, "stat", from, errno);
    if (r == ST_OK)
        r = file_read(from, SIDE_FILE_MAX, &text, &n, err);
    if (r == ST_OK) {
        const struct timespec times[2] = {st.st_atim, st.st_mtim};
        r = store_put(&s->store, name, text, n, &(StoreMode){s->plan->peer ? 0600 : 0666, times}, err);
    }
    free(from);
    free(text);
    return r;
}

Status save_side_files(SaveOut *s, bool only_code, Error *err)
{
    char **names;
    size_t n;
    RETURN_IF_ERROR(save_side_names(s->plan, only_code, &names, &n, err));
    Status st = ST_OK;
    for (size_t i = 0; i < n && st == ST_OK; i++)
        st = copy_file(s, names[i], err);
    free_names(names, n);
    return st;
}

static Status hash_file(const char *dir, const char *name, Hasher *h, Error *err)
{
    char *path = path_join(dir, name), *text = NULL;
    size_t n = 0;
    Status st = path ? file_read(path, SIDE_FILE_MAX, &text, &n, err) : error_nomem(err, "a path");
    if (st == ST_OK) {
        hasher_str(h, name);
        hasher_u64(h, n);
        hasher_bytes(h, text, n);
    }
    free(text);
    free(path);
    return st;
}

Status save_side_digest(const SavePlan *plan, bool only_code, char hex[65], Error *err)
{
    char **names;
    size_t n;
    Hasher h;
    RETURN_IF_ERROR(save_side_names(plan, only_code, &names, &n, err));
    hasher_init(&h);
    Status st = ST_OK;
    for (size_t i = 0; i < n && st == ST_OK; i++)
        st = hash_file(plan->model->path, names[i], &h, err);
    free_names(names, n);
    Digest d = hasher_end(&h);
    digest_hex(&d, hex);
    return st;
}

Status save_edit_config(SaveOut *s, const char *const *drop, const char *add, bool always, Error *err)
{
    const StoreFile *f = store_find(&s->store, "config.json");
    if (!f)
        return ST_OK; /* the model has none */
    const PyjsonEdit edit = {.drop = drop, .add = add, .set = save_untied(s->plan) ? "tie_word_embeddings" : NULL,
                             .to = "false"};
    char *path = path_join(s->store.temp, f->from), *text = NULL;
    size_t n;
    int dropped = 0;
    Str out = {0};
    Status st = path ? file_read(path, CONFIG_MAX, &text, &n, err) : error_nomem(err, "a path");
    if (st == ST_OK)
        st = pyjson_rewrite(text, n, "config.json", 2, &edit, &dropped, &out, err);
    if (st == ST_OK && (dropped || add || edit.set || always))
        st = save_document(s, "config.json", &out, err);
    str_free(&out);
    free(text);
    free(path);
    return st;
}
