#include "save/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/dirlist.h"
#include "io/file.h"
#include "io/json.h"

#define BEGIN ".slimscope."
#define END ".json"
enum { MANIFEST_MAX = 64 << 20 };

void manifest_name(const char *type, char out[128])
{
    snprintf(out, 128, BEGIN "%s" END, type);
}

Status manifest_add(Manifest *m, const char *name, uint64_t bytes, bool old, Error *err)
{
    if (!mem_grow(&m->files, &m->cap, m->n + 1, sizeof *m->files))
        return error_nomem(err, "the list of files");
    ManifestFile *f = &m->files[m->n];
    *f = (ManifestFile){strdup(name), bytes, old};
    if (!f->name)
        return error_nomem(err, "the list of files");
    m->n++;
    return ST_OK;
}

const ManifestFile *manifest_find(const Manifest *m, const char *name, bool old)
{
    for (size_t i = 0; i < m->n; i++)
        if ((old || !m->files[i].old) && strcmp(m->files[i].name, name) == 0)
            return &m->files[i];
    return NULL;
}

static void put_files(const Manifest *m, bool old, Str *out)
{
    const char *sep = "";
    for (size_t i = 0; i < m->n; i++) {
        if (m->files[i].old != old)
            continue;
        str_printf(out, "%s\n    [", sep);
        str_json(out, m->files[i].name);
        str_printf(out, ", %llu]", (unsigned long long)m->files[i].bytes);
        sep = ",";
    }
}

void manifest_text(const Manifest *m, Str *out)
{
    str_puts(out, "{\n  \"written_by\": \"slimscope\",\n  \"saver\": ");
    str_json(out, m->saver);
    str_puts(out, ",\n  \"model\": ");
    str_json(out, m->model);
    str_puts(out, ",\n  \"fingerprint\": ");
    str_json(out, m->fingerprint);
    if (m->arith[0]) {
        str_puts(out, ",\n  \"arithmetic\": ");
        str_json(out, m->arith);
    }
    str_printf(out, ",\n  \"plan\": \"%s\",\n  \"run\": \"%s\",\n  \"files\": [", m->plan, m->run);
    put_files(m, false, out);
    str_puts(out, "\n  ],\n  \"old\": [");
    put_files(m, true, out);
    str_puts(out, "\n  ]\n}\n");
}

void manifest_fini(Manifest *m)
{
    for (size_t i = 0; i < m->n; i++)
        free(m->files[i].name);
    free(m->files);
    free(m->saver);
    free(m->model);
    *m = (Manifest){0};
}

void manifest_list_free(Manifest *m, size_t n)
{
    for (size_t i = 0; i < n; i++)
        manifest_fini(&m[i]);
    free(m);
}

/* ---- reading: a folder may come from anywhere, and so may what its manifests say ---- */

/* A plain name, or one in a folder that outputs have. */
static bool is_safe(const char *name)
{
    static const char *const folders[] = {"debug_info/", "optional/"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (strncmp(name, folders[i], strlen(folders[i])) == 0) {
            name += strlen(folders[i]);
            break;
        }
    return name[0] && name[0] != '.' && !strchr(name, '/');
}

static Status take_files(Manifest *m, const cJSON *list, bool old, Error *err)
{
    const cJSON *e;
    cJSON_ArrayForEach(e, list) {
        const cJSON *name = cJSON_GetArrayItem(e, 0), *bytes = cJSON_GetArrayItem(e, 1);
        if (cJSON_IsString(name) && cJSON_IsNumber(bytes) && bytes->valuedouble >= 0 && is_safe(name->valuestring))
            RETURN_IF_ERROR(manifest_add(m, name->valuestring, (uint64_t)bytes->valuedouble, old, err));
    }
    return ST_OK;
}

static Status take(Manifest *m, const cJSON *o, bool *good, Error *err)
{
    const char *by = "", *saver = "", *model = "", *print = "", *plan = "", *run = "", *arith = "";
    *good = json_str(o, "written_by", &by, NULL, NULL) == ST_OK && strcmp(by, "slimscope") == 0
            && json_str(o, "saver", &saver, NULL, NULL) == ST_OK && json_str(o, "model", &model, NULL, NULL) == ST_OK
            && json_str(o, "fingerprint", &print, NULL, NULL) == ST_OK && json_str(o, "plan", &plan, NULL, NULL) == ST_OK
            && strlen(plan) < sizeof m->plan && json_str(o, "run", &run, NULL, NULL) == ST_OK && strlen(run) < sizeof m->run;
    if (!*good)
        return ST_OK;
    m->saver = strdup(saver);
    m->model = strdup(model);
    if (!m->saver || !m->model)
        return error_nomem(err, "the list of files");
    snprintf(m->plan, sizeof m->plan, "%s", plan);
    snprintf(m->run, sizeof m->run, "%s", run);
    snprintf(m->fingerprint, sizeof m->fingerprint, "%s", print);
    if (json_str(o, "arithmetic", &arith, NULL, NULL) == ST_OK) /* not in what older programs wrote */
        snprintf(m->arith, sizeof m->arith, "%s", arith);
    RETURN_IF_ERROR(take_files(m, json_get(o, "files"), false, err));
    return take_files(m, json_get(o, "old"), true, err);
}

/* The text of a regular file of the folder, NULL when it is none. */
static Status read_text(int at, const char *name, const char *dir, char **text, size_t *len, Error *err)
{
    struct stat st;
    *text = NULL;
    int fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno == ELOOP ? ST_OK : file_error(err, "read what an older run wrote in", dir, errno);
    Status r = fstat(fd, &st) == 0 ? ST_OK : file_error(err, "read what an older run wrote in", dir, errno);
    if (r == ST_OK && S_ISREG(st.st_mode) && st.st_size > 0 && st.st_size <= MANIFEST_MAX) {
        *len = (size_t)st.st_size;
        *text = malloc(*len + 1);
        r = *text ? file_pread(fd, dir, *text, *len, 0, err) : error_nomem(err, "the list of files");
    }
    close(fd);
    if (r == ST_OK && *text)
        (*text)[*len] = 0;
    if (r != ST_OK) {
        free(*text);
        *text = NULL;
    }
    return r;
}

static Status read_one(int at, const char *name, const char *dir, Manifest *m, bool *good, Error *err)
{
    char *text;
    size_t len;
    cJSON *o = NULL;
    *good = false;
    *m = (Manifest){0};
    RETURN_IF_ERROR(read_text(at, name, dir, &text, &len, err));
    if (!text)
        return ST_OK;
    Error bad = {0};
    Status st = json_parse(text, len, name, &o, &bad);
    if (st == ST_OK)
        st = take(m, o, good, err);
    else if (st == ST_NOMEM)
        error_nomem(err, "the list of files");
    else
        st = ST_OK; /* not ours */
    cJSON_Delete(o);
    free(text);
    if (st != ST_OK || !*good)
        manifest_fini(m);
    return st;
}

static int by_saver(const void *a, const void *b)
{
    return strcmp(((const Manifest *)a)->saver, ((const Manifest *)b)->saver);
}

static bool is_manifest(const char *name)
{
    size_t n = strlen(name);
    return n > sizeof BEGIN + sizeof END - 2 && strncmp(name, BEGIN, sizeof BEGIN - 1) == 0
           && strcmp(name + n - (sizeof END - 1), END) == 0;
}

Status manifest_list(int at, const char *dir, Manifest **out, size_t *n, Error *err)
{
    size_t cap = 0;
    *out = NULL;
    *n = 0;
    DIR *d;
    RETURN_IF_ERROR(dir_list_at(at, dir, &d, err));
    Status st = ST_OK;
    const struct dirent *e;
    while (st == ST_OK && (e = readdir(d)) != NULL) {
        bool good;
        char own[128];
        if (!is_manifest(e->d_name))
            continue;
        if (!mem_grow(out, &cap, *n + 1, sizeof **out)) {
            st = error_nomem(err, "the list of files");
            break;
        }
        Manifest *m = &(*out)[*n];
        st = read_one(at, e->d_name, dir, m, &good, err);
        if (st != ST_OK || !good)
            continue;
        manifest_name(m->saver, own);
        if (strcmp(own, e->d_name) == 0)
            (*n)++;
        else
            manifest_fini(m); /* one that was copied under another name */
    }
    closedir(d);
    if (st == ST_OK && *n)
        qsort(*out, *n, sizeof **out, by_saver);
    if (st != ST_OK) {
        manifest_list_free(*out, *n);
        *out = NULL;
        *n = 0;
    }
    return st;
}

bool manifest_is_there(int at, const ManifestFile *f)
{
    struct stat st;
    const char *slash = strchr(f->name, '/');
    int folder = at;
    if (slash) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(slash - f->name), f->name);
        folder = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (folder < 0)
            return false;
    }
    bool there = fstatat(folder, slash ? slash + 1 : f->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)
                 && (uint64_t)st.st_size == f->bytes;
    if (folder != at)
        close(folder);
    return there;
}
