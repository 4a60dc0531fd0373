#include "save/changes.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"

enum { ADDS_BIAS = 1, SCALES_INPUT = 2, ADDS_BRANCH = 4 };

typedef struct Note {
    SaveNote where;
    const char *key, *json;
} Note;

struct SaveChanges {
    const Model *m;
    bool values, untied;
    uint8_t *linear;   /* [nlinears] of the flags above; NULL before the first */
    const char **mark; /* [nlinears]; NULL before the first */
    Map norm;          /* name -> 1 */
    SaveMade *made;
    size_t nmade, made_cap;
    Map made_of;       /* name -> index into made */
    Note *note;
    size_t nnotes, note_cap;
    const char *unsaved;
    Arena strings;
};

Status save_changes_new(SaveChanges **out, const Model *m, Error *err)
{
    *out = mem_zarray(1, sizeof **out);
    if (!*out)
        return error_nomem(err, "the plan");
    (*out)->m = m;
    return ST_OK;
}

void save_changes_free(SaveChanges *c)
{
    if (!c)
        return;
    free(c->linear);
    free(c->mark);
    free(c->made);
    free(c->note);
    map_free(&c->norm);
    map_free(&c->made_of);
    arena_free(&c->strings);
    free(c);
}

/* ---- for promises ---- */

void save_changes_values(SaveChanges *c)
{
    c->values = true;
}

void save_changes_untie(SaveChanges *c)
{
    c->untied = true;
}

static Status flag_linear(SaveChanges *c, int64_t linear, int flag, Error *err)
{
    if (linear < 0 || linear >= c->m->nlinears)
        return error_set(err, ST_INTERNAL, "there is no linear %lld to change", (long long)linear);
    if (!c->linear && !(c->linear = mem_zarray((size_t)c->m->nlinears, sizeof *c->linear)))
        return error_nomem(err, "the plan");
    c->linear[linear] |= (uint8_t)flag;
    return ST_OK;
}

Status save_changes_bias(SaveChanges *c, int64_t linear, Error *err)
{
    return flag_linear(c, linear, ADDS_BIAS, err);
}

Status save_changes_input_scale(SaveChanges *c, int64_t linear, Error *err)
{
    return flag_linear(c, linear, SCALES_INPUT, err);
}

Status save_changes_branch(SaveChanges *c, int64_t linear, Error *err)
{
    return flag_linear(c, linear, ADDS_BRANCH, err);
}

Status save_changes_mark(SaveChanges *c, int64_t linear, const char *mark, Error *err)
{
    if (linear < 0 || linear >= c->m->nlinears)
        return error_set(err, ST_INTERNAL, "there is no linear %lld to change", (long long)linear);
    if (!c->mark && !(c->mark = mem_zarray((size_t)c->m->nlinears, sizeof *c->mark)))
        return error_nomem(err, "the plan");
    const char *have = c->mark[linear];
    if (have && strcmp(have, mark) != 0)
        return error_set(err, ST_DATA, "'%s' would be both %s and %s, which no label says: leave it out of one of the two",
                         c->m->linears[linear].name, have + 1, mark + 1);
    if (!have && !(c->mark[linear] = arena_strdup(&c->strings, mark)))
        return error_nomem(err, "the plan");
    return ST_OK;
}

Status save_changes_norm_bias(SaveChanges *c, const TensorInfo *norm, Error *err)
{
    const char *name = arena_strdup(&c->strings, norm->name);
    if (!name || !map_add(&c->norm, name, strlen(name), 1, NULL))
        return error_nomem(err, "the plan");
    return ST_OK;
}

static bool same_text(const char *a, const char *b)
{
    return !a == !b && (!a || strcmp(a, b) == 0);
}

static bool same_made(const SaveMade *a, const SaveMade *b)
{
    bool same = a->linear == b->linear && a->layer == b->layer && a->ndim == b->ndim && a->int8 == b->int8
                && a->branch == b->branch && a->dtype == b->dtype && a->unlisted == b->unlisted && a->as_linear == b->as_linear && same_text(a->file, b->file)
                && same_text(a->label, b->label) && same_text(a->entry, b->entry);
    for (int d = 0; d < a->ndim && same; d++)
        same = a->shape[d] == b->shape[d];
    return same;
}

Status save_changes_made(SaveChanges *c, const SaveMade *t, Error *err)
{
    int64_t at = map_get(&c->made_of, t->name, strlen(t->name), -1);
    if (at >= 0)
        return same_made(&c->made[at], t) ? ST_OK : error_set(err, ST_INTERNAL, "'%s' was promised twice", t->name);
    SaveMade own = *t;
    own.name = arena_strdup(&c->strings, t->name);
    own.file = t->file ? arena_strdup(&c->strings, t->file) : NULL;
    own.label = t->label ? arena_strdup(&c->strings, t->label) : NULL;
    own.entry = t->entry ? arena_strdup(&c->strings, t->entry) : NULL;
    if (!own.name || (t->file && !own.file) || (t->label && !own.label) || (t->entry && !own.entry) || !mem_grow(&c->made, &c->made_cap, c->nmade + 1, sizeof *c->made)
        || !map_add(&c->made_of, own.name, strlen(own.name), (int64_t)c->nmade, NULL))
        return error_nomem(err, "the plan");
    c->made[c->nmade++] = own;
    return ST_OK;
}

Status save_changes_note(SaveChanges *c, SaveNote where, const char *key, const char *json, Error *err)
{
    Note n = {.where = where, .key = arena_strdup(&c->strings, key), .json = arena_strdup(&c->strings, json)};
    if (!n.key || !n.json)
        return error_nomem(err, "the plan");
    for (size_t i = 0; i < c->nnotes; i++)
        if (c->note[i].where == where && strcmp(c->note[i].key, key) == 0) {
            c->note[i] = n;
            return ST_OK;
        }
    if (!mem_grow(&c->note, &c->note_cap, c->nnotes + 1, sizeof *c->note))
        return error_nomem(err, "the plan");
    c->note[c->nnotes++] = n;
    return ST_OK;
}

Status save_changes_unsaved(SaveChanges *c, const char *text, Error *err)
{
    if (!c->unsaved && !(c->unsaved = arena_strdup(&c->strings, text)))
        return error_nomem(err, "the plan");
    return ST_OK;
}

/* ---- for savers ---- */

bool save_changes_has_values(const SaveChanges *c)
{
    return c && c->values;
}

bool save_changes_has_bias(const SaveChanges *c, int64_t linear)
{
    return c && c->linear && (c->linear[linear] & ADDS_BIAS);
}

bool save_changes_has_norm_bias(const SaveChanges *c, const TensorInfo *norm)
{
    return c && map_get(&c->norm, norm->name, strlen(norm->name), 0) != 0;
}

bool save_changes_has_input_scale(const SaveChanges *c, int64_t linear)
{
    return c && c->linear && (c->linear[linear] & SCALES_INPUT);
}

bool save_changes_has_branch(const SaveChanges *c, int64_t linear)
{
    return c && c->linear && (c->linear[linear] & ADDS_BRANCH);
}

const char *save_changes_mark_of(const SaveChanges *c, int64_t linear)
{
    return c && c->mark ? c->mark[linear] : NULL;
}

bool save_changes_has_untied(const SaveChanges *c)
{
    return c && c->untied;
}

const SaveMade *save_changes_made_at(const SaveChanges *c, size_t i)
{
    return c && i < c->nmade ? &c->made[i] : NULL;
}

bool save_changes_note_at(const SaveChanges *c, SaveNote where, size_t i, const char **key, const char **json)
{
    for (size_t k = 0; c && k < c->nnotes; k++)
        if (c->note[k].where == where && i-- == 0) {
            *key = c->note[k].key;
            *json = c->note[k].json;
            return true;
        }
    return false;
}

const char *save_changes_has_unsaved(const SaveChanges *c)
{
    return c ? c->unsaved : NULL;
}
