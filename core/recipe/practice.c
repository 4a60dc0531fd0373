#include "recipe/practice.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "io/file.h"
#include "recipe/practice_impl.h"
#include "recipe/recipe_impl.h"

/* The library: folders of recipes and what their metadata says. The search is in practice_choose.c. */

struct PracticeLibrary {
    const RecipeRows *rows;
    Practice *practice;
    size_t n, cap;
    char **folder; /* pedigrees that have a folder, empty ones too */
    size_t nfolders, folders_cap;
    bool sorted;
    Str notes;
    Arena arena;
};

Status practice_library_new(PracticeLibrary **out, const RecipeRows *rows, Error *err)
{
    *out = calloc(1, sizeof **out);
    if (!*out)
        return error_nomem(err, "the practice library");
    (*out)->rows = rows;
    return ST_OK;
}

void practice_library_free(PracticeLibrary *lib)
{
    if (!lib)
        return;
    free(lib->practice);
    free(lib->folder);
    str_free(&lib->notes);
    arena_free(&lib->arena);
    free(lib);
}

const char *practice_notes(const PracticeLibrary *lib)
{
    return str_text(&lib->notes);
}

bool practice_has_pedigree(const PracticeLibrary *lib, const char *pedigree)
{
    for (size_t i = 0; i < lib->nfolders; i++)
        if (ascii_casecmp(lib->folder[i], pedigree) == 0)
            return true;
    return false;
}

static Status add_pedigree(PracticeLibrary *lib, const char *pedigree, Error *err)
{
    if (practice_has_pedigree(lib, pedigree))
        return ST_OK;
    char *copy = arena_strdup(&lib->arena, pedigree);
    if (!copy || !mem_grow(&lib->folder, &lib->folders_cap, lib->nfolders + 1, sizeof *lib->folder))
        return error_nomem(err, "the practice library");
    lib->folder[lib->nfolders++] = copy;
    return ST_OK;
}

/* ---- metadata ---- */

/* A label's value as a number: true is 1; absent: deflt; anything else equals nothing. */
static double label_number(const YamlNode *label, const char *key, double deflt)
{
    const YamlNode *v = yaml_get(label, key);
    if (!v)
        return deflt;
    return v->kind == YAML_INT || v->kind == YAML_FLOAT || v->kind == YAML_BOOL ? v->f : NAN;
}

static void read_label(const YamlNode *label, Practice *p)
{
    const YamlNode *fa = yaml_get(label, "fa_bit");
    p->w_bit = label_number(label, "w_bit", NAN);
    p->a_bit = label_number(label, "a_bit", NAN);
    p->sparse = label_number(label, "is_sparse", 0);
    p->kv_cache = label_number(label, "kv_cache", 0);
    if (fa && fa->kind != YAML_NULL)
        p->fa_bit = label_number(label, "fa_bit", NAN);
    else
        p->fa_bit = label_number(label, "fa_quant", 0) == 1 ? 8 : 0;
}

/* Texts of a checked list, copied. */
static const char *const *copy_texts(Arena *a, const YamlNode *list, int *n)
{
    *n = list ? list->count : 0;
    const char **out = arena_alloc(a, ((size_t)*n + 1) * sizeof *out);
    for (int i = 0; out && i < *n; i++)
        if (!(out[i] = arena_strdup(a, list->items[i]->text)))
            return NULL;
    return out;
}

static bool read_scenarios(Arena *a, const YamlNode *tags, Practice *p)
{
    size_t n = 0;
    for (int i = 0; tags && i < tags->count; i++)
        n += (size_t)tags->vals[i]->count;
    PracticeScenario *s = arena_alloc(a, (n + 1) * sizeof *s);
    p->scenarios = s;
    for (int i = 0; s && tags && i < tags->count; i++) {
        const char *type = arena_strdup(a, tags->keys[i]->text ? tags->keys[i]->text : "");
        for (int k = 0; k < tags->vals[i]->count; k++) {
            PracticeScenario *to = &s[p->nscenarios++];
            to->model_type = type;
            to->tags = copy_texts(a, tags->vals[i]->items[k], &to->ntags);
            if (!type || !to->tags)
                return false;
        }
    }
    return s != NULL;
}

static Status add_recipe(PracticeLibrary *lib, const char *pedigree, PracticeSource source, const char *path,
                         const Recipe *r, Error *err)
{
    Arena *a = &lib->arena;
    const YamlNode *meta = yaml_get(yaml_root(r->old ? r->old : r->doc), "metadata");
    const YamlNode *id = yaml_get(meta, "config_id"), *score = yaml_get(meta, "score");
    Practice p = {.source = source, .score = 100, .runs = recipe_can_run(r, NULL)};
    if (score && (!lax_float(score, &p.score) || isnan(p.score)))
        p.score = 0;
    read_label(yaml_get(meta, "label"), &p);
    p.pedigree = arena_strdup(a, pedigree);
    p.path = arena_strdup(a, path);
    p.id = arena_strdup(a, id ? id->text : "Unknown");
    p.types = copy_texts(a, yaml_get(meta, "verified_model_types"), &p.ntypes);
    if (!p.pedigree || !p.path || !p.id || !p.types || !read_scenarios(a, yaml_get(meta, "verified_tags"), &p) ||
        !mem_grow(&lib->practice, &lib->cap, lib->n + 1, sizeof *lib->practice))
        return error_nomem(err, "the practice library");
    lib->practice[lib->n++] = p;
    lib->sorted = false;
    return ST_OK;
}

Status practice_add(PracticeLibrary *lib, const char *pedigree, PracticeSource source, const char *path,
                    const char *text, size_t len, Error *err)
{
    Recipe *r = NULL;
    Error why = {0};
    RETURN_IF_ERROR(add_pedigree(lib, pedigree, err));
    Status st = recipe_parse(&r, lib->rows, text, len, path, NULL, &why);
    if (st == ST_OK)
        st = add_recipe(lib, pedigree, source, path, r, err);
    else if (st == ST_NOMEM)
        st = error_set(err, st, "%s", why.text);
    else {
        str_printf(&lib->notes, "left out: %s\n", why.text);
        st = ST_OK;
    }
    recipe_free(r);
    return st;
}

/* ---- folders ---- */

/* Names in a folder, sorted: *out and each is the caller's. An unreadable folder has none and gets a note. */
static Status list_folder(PracticeLibrary *lib, const char *path, char ***out, size_t *n, Error *err)
{
    size_t cap = 0;
    DIR *d = opendir(path);
    *out = NULL;
    *n = 0;
    if (!d) {
        str_printf(&lib->notes, "left out: practice folder %s can't be read\n", path);
        return ST_OK;
    }
    Status st = ST_OK;
    for (struct dirent *e; st == ST_OK && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        char *name = strdup(e->d_name);
        if (!name || !mem_grow(out, &cap, *n + 1, sizeof **out)) {
            free(name);
            st = error_nomem(err, "the practice library");
            break;
        }
        size_t at = (*n)++;
        for (; at && strcmp((*out)[at - 1], name) > 0; at--)
            (*out)[at] = (*out)[at - 1];
        (*out)[at] = name;
    }
    closedir(d);
    return st;
}

static void free_names(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

static Status add_file(PracticeLibrary *lib, const char *dir, const char *name, const char *pedigree,
                       PracticeSource source, Error *err)
{
    size_t len;
    char *text = NULL, *path = path_join(dir, name);
    Error why = {0};
    if (!path)
        return error_nomem(err, "the practice library");
    Status st = file_read(path, YAML_BYTES_MAX, &text, &len, &why);
    if (st == ST_OK)
        st = practice_add(lib, pedigree, source, path, text, len, err);
    else if (st == ST_NOMEM)
        st = error_set(err, st, "%s", why.text);
    else {
        str_printf(&lib->notes, "left out: %s\n", why.text);
        st = ST_OK;
    }
    free(text);
    free(path);
    return st;
}

static Status add_pedigree_folder(PracticeLibrary *lib, const char *root, const char *pedigree, PracticeSource source,
                                  Error *err)
{
    char **name = NULL, *dir = path_join(root, pedigree);
    size_t n = 0;
    if (!dir)
        return error_nomem(err, "the practice library");
    Status st = ST_OK;
    if (dir_exists(dir)) {
        st = add_pedigree(lib, pedigree, err);
        if (st == ST_OK)
            st = list_folder(lib, dir, &name, &n, err);
    }
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        size_t len = strlen(name[i]);
        if (len > 5 && strcmp(name[i] + len - 5, ".yaml") == 0)
            st = add_file(lib, dir, name[i], pedigree, source, err);
    }
    free_names(name, n);
    free(dir);
    return st;
}

Status practice_add_folder(PracticeLibrary *lib, const char *root, PracticeSource source, const char *pedigree,
                           Error *err)
{
    char **name;
    size_t n;
    Status st = list_folder(lib, root, &name, &n, err);
    for (size_t i = 0; i < n && st == ST_OK; i++)
        if (!pedigree || ascii_casecmp(name[i], pedigree) == 0 || ascii_casecmp(name[i], "default") == 0)
            st = add_pedigree_folder(lib, root, name[i], source, err);
    free_names(name, n);
    if (st == ST_OK && lib->notes.oom)
        st = error_nomem(err, "the practice library");
    return st;
}

/* Best first; of equals the custom ones. */
static int by_score(const void *a, const void *b)
{
    const Practice *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    int d = strcmp(x->id, y->id);
    if (!d)
        d = (int)x->source - (int)y->source;
    return d ? d : strcmp(x->path, y->path);
}

const Practice *practice_sorted(PracticeLibrary *lib, size_t *n)
{
    if (!lib->sorted && lib->n)
        qsort(lib->practice, lib->n, sizeof *lib->practice, by_score);
    lib->sorted = true;
    *n = lib->n;
    return lib->practice;
}
