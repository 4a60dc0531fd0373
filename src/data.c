/* Where things are: shipped data, the user's state and settings. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "io/file.h"
#include "src/internal.h"

/* Folder of the running program, without a last '/'; false when the system doesn't tell. */
static bool program_dir(char out[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
    if (n <= 0)
        return false;
    out[n] = 0;
    char *slash = strrchr(out, '/');
    if (!slash)
        return false;
    *slash = 0;
    return true;
}

/* Data roots in DECISIONS' order; root i into `out`. false after the last. */
static bool data_root(int i, Str *out)
{
    char dir[PATH_MAX];
    const char *env = getenv("SLIMSCOPE_DATA");
    str_clear(out);
    switch (i) {
    case 0:
        if (env && *env)
            str_puts(out, env);
        return true;
    case 1:
        if (program_dir(dir))
            str_printf(out, "%s/../share/slimscope", dir);
        return true;
    case 2:
        if (program_dir(dir))
            str_printf(out, "%s/..", dir);
        return true;
    case 3:
        str_puts(out, SLIMSCOPE_PREFIX "/share/slimscope");
        return true;
    default:
        return false;
    }
}

char *app_find_data(const char *name, Error *err)
{
    Str root = {0};
    char *found = NULL;
    bool lost = false; /* memory was short */
    for (int i = 0; !found && !lost && data_root(i, &root); i++) {
        if (!root.len && !root.oom)
            continue;
        char *path = root.oom ? NULL : path_join(root.s, name);
        errno = 0;
        if (path && access(path, R_OK) == 0)
            found = realpath(path, NULL);
        lost = !path || (!found && errno == ENOMEM);
        free(path);
    }
    str_free(&root);
    if (lost)
        error_nomem(err, "a path");
    else if (!found)
        error_set(err, ST_DATA,
                  "'%s' was found neither in $SLIMSCOPE_DATA, beside the program, nor in " SLIMSCOPE_PREFIX
                  "/share/slimscope: "
                  "set SLIMSCOPE_DATA to the folder that holds it",
                  name);
    return found;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Appends the names of the data sets in the shipped folder, sorted, ", " between. */
static void list_datasets(Str *out)
{
    enum { MAX = 40 };
    char *names[MAX];
    int n = 0;
    char *dir = app_find_data("lab_calib", NULL);
    DIR *d = dir ? opendir(dir) : NULL;
    for (struct dirent *e; d && n < MAX && (e = readdir(d));) {
        const char *dot = strrchr(e->d_name, '.');
        if (dot && (strcmp(dot, ".jsonl") == 0 || strcmp(dot, ".json") == 0) && (names[n] = strdup(e->d_name)))
            n++;
    }
    if (d)
        closedir(d);
    free(dir);
    qsort(names, (size_t)n, sizeof *names, by_name);
    for (int i = 0; i < n; i++) {
        str_printf(out, "%s%s", i ? ", " : "", names[i]);
        free(names[i]);
    }
}

/* The file beside the open recipe into *out, NULL when there is none. */
static Status in_recipe_folder(const App *a, const char *name, char **out, Error *err)
{
    *out = NULL;
    const Recipe *r = a->session ? session_recipe(a->session) : NULL;
    const char *path = r ? recipe_path(r) : NULL;
    if (!path)
        return ST_OK;
    size_t dir = (size_t)(path_base(path) - path);
    Str b = {0};
    str_append(&b, path, dir);
    str_puts(&b, name);
    char *full = str_detach(&b);
    if (!full)
        return error_nomem(err, "a path");
    if (file_exists(full))
        *out = full;
    else
        free(full);
    return ST_OK;
}

char *app_find_dataset(void *ctx, const char *name, Error *err)
{
    char *found = NULL;
    if (file_exists(name)) {
        found = strdup(name);
        if (!found)
            error_nomem(err, "a path");
        return found;
    }
    if (strncmp(name, "lab_practice/", strlen("lab_practice/")) == 0)
        return app_find_data(name, err);
    Error e = {0};
    Str rel = {0};
    str_printf(&rel, "%s%s", strncmp(name, "lab_", 4) == 0 ? "" : "lab_calib/", name); /* or with its folder */
    if (rel.oom)
        error_nomem(&e, "a path");
    else if (*name && name[0] != '/' && !strstr(name, ".."))
        found = app_find_data(rel.s, &e);
    str_free(&rel);
    if (!found && e.status != ST_NOMEM)
        e.status = in_recipe_folder(ctx, name, &found, &e);
    if (found)
        return found;
    if (e.status == ST_NOMEM) {
        error_nomem(err, "a path");
        return NULL;
    }
    Str names = {0};
    list_datasets(&names);
    error_set(err, ST_DATA, "data set '%s' was not found: give a path, or one of the shipped sets: %s", name,
              names.len ? str_text(&names) : "(none is installed; set SLIMSCOPE_DATA)");
    str_free(&names);
    return NULL;
}

/* $VAR/slimscope[/leaf], or ~/fallback/slimscope[/leaf]. */
static char *xdg_path(const char *var, const char *fallback, const char *leaf)
{
    const char *base = getenv(var), *home = getenv("HOME");
    Str b = {0};
    if (base && base[0] == '/')
        str_printf(&b, "%s/slimscope", base);
    else
        str_printf(&b, "%s/%s/slimscope", home && *home ? home : "/tmp", fallback);
    if (leaf)
        str_printf(&b, "/%s", leaf);
    return str_detach(&b);
}

char *app_state_dir(void)
{
    return xdg_path("XDG_STATE_HOME", ".local/state", NULL);
}

char *app_rc_path(void)
{
    return xdg_path("XDG_CONFIG_HOME", ".config", "rc");
}

char *absolute_path(const char *path)
{
    char *full = realpath(path, NULL);
    return full || errno == ENOMEM ? full : strdup(path);
}
