/* Sets kept under names, to go between them. */
#include "session/sets.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "base/mem.h"
#include "session/assignment.h"
#include "session/entries.h"
#include "session/parts.h"
#include "session/results.h"
#include "session/sizes.h"
#include "session/whatif.h"

static void set_fini(KeptSet *k)
{
    rules_fini(&k->rules);
    recipe_free(k->recipe);
    free(k->level);
    *k = (KeptSet){0};
}

void kept_sets_clear(KeptSets *k)
{
    for (int i = 0; i < k->n; i++)
        set_fini(&k->set[i]);
    free(k->set);
    *k = (KeptSets){0};
}

static int find(const KeptSets *k, const char *name)
{
    for (int i = 0; i < k->n; i++)
        if (strcmp(k->set[i].name, name) == 0)
            return i;
    return -1;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A letter, then letters, digits and - _ . */
static Status check_name(const char *name, Error *err)
{
    size_t n = strlen(name), k = 1;
    bool good = n > 0 && n < SET_NAME_MAX && is_letter(name[0]);
    for (; good && k < n; k++)
        good = is_letter(name[k]) || ascii_is_digit(name[k]) || strchr("-_.", name[k]);
    return good ? ST_OK
                : error_set(err, ST_USAGE, "'%.40s' is no name of a set: a letter, then letters, digits, - _ . (A, B, small)",
                            name);
}

/* The present assignment as a set. */
static Status present(const Session *s, const char *name, KeptSet *out, Error *err)
{
    const Assignment *a = s->assignment;
    size_t n = (size_t)s->model->nlinears;
    *out = (KeptSet){.level = mem_array(n, sizeof *out->level)};
    snprintf(out->name, sizeof out->name, "%s", name);
    Status st = out->level ? rules_copy(&a->rules, 0, &out->rules, err) : error_nomem(err, "a set");
    if (st == ST_OK) {
        memcpy(out->level, a->level, n * sizeof *out->level);
        out->recipe = recipe_hold(s->recipe);
    } else {
        set_fini(out);
    }
    return st;
}

Status session_keep(Session *s, const char *name, bool *replaced, Error *err)
{
    KeptSet fresh;
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    KeptSets *k = &s->whatifs->sets;
    RETURN_IF_ERROR(check_name(name, err));
    RETURN_IF_ERROR(present(s, name, &fresh, err));
    int at = find(k, name);
    KeptSet *more = at < 0 ? realloc(k->set, (size_t)(k->n + 1) * sizeof *more) : k->set;
    if (!more) {
        set_fini(&fresh);
        return error_nomem(err, "a set");
    }
    k->set = more;
    if (at >= 0)
        set_fini(&k->set[at]);
    k->set[at >= 0 ? at : k->n++] = fresh;
    if (replaced)
        *replaced = at >= 0;
    snprintf(k->last, SET_NAME_MAX, "%s", name);
    entry_text(s, "keep", name);
    return ST_OK;
}

static Status no_set(const KeptSets *k, const char *name, Error *err)
{
    Str all = {0};
    for (int i = 0; i < k->n; i++)
        str_printf(&all, "%s%s", i ? ", " : "", k->set[i].name);
    if (k->n)
        error_set(err, ST_USAGE, "no set is kept as '%.40s': there are %s", name, str_text(&all));
    else
        error_set(err, ST_USAGE, "no set is kept yet: keep A keeps the present one");
    str_free(&all);
    return ST_USAGE;
}

Status session_keep_not(Session *s, const char *name, Error *err)
{
    KeptSets *k = &s->whatifs->sets;
    int at = s->model ? find(k, name) : -1;
    if (at < 0)
        return no_set(k, name, err);
    set_fini(&k->set[at]);
    memmove(&k->set[at], &k->set[at + 1], (size_t)(k->n - at - 1) * sizeof *k->set);
    k->n--;
    entry_text(s, "keep_not", name);
    return ST_OK;
}

static bool is_present(const Session *s, const KeptSet *k)
{
    return k->recipe == s->recipe &&
           memcmp(k->level, s->assignment->level, (size_t)s->model->nlinears * sizeof *k->level) == 0;
}

/* The set to go to without a name: the next behind the one that stands; where none does, the one that was kept last. What was
 * taken and undone in between makes no difference, so that a history without it comes to the same. */
static int other(const Session *s, const KeptSets *k)
{
    int last = find(k, k->last);
    for (int i = 0; i < k->n; i++)
        if (is_present(s, &k->set[i]))
            return (i + 1) % k->n;
    return last >= 0 ? last : k->n - 1;
}

static int64_t differing(const Session *s, const int16_t *was)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->model->nlinears; i++)
        n += was[i] != s->assignment->level[i];
    return n;
}

static Status take(Session *s, const KeptSet *k, Error *err)
{
    RuleList l;
    RETURN_IF_ERROR(rules_copy(&k->rules, 0, &l, err));
    if (k->recipe == s->recipe)
        return rules_push(s, &l, false, NULL, err);
    Status st = assignment_change_recipe(s, k->recipe, &l, NULL, err);
    rules_fini(&l);
    return st;
}

Status session_swap(Session *s, const char *name, int64_t *changed, const char **took, Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    KeptSets *k = &s->whatifs->sets;
    int at = name ? find(k, name) : other(s, k);
    if (at < 0 || !k->n)
        return no_set(k, name ? name : "A", err);
    size_t n = (size_t)s->model->nlinears;
    int16_t *was = mem_array(n, sizeof *was);
    if (!was)
        return error_nomem(err, "the levels");
    memcpy(was, s->assignment->level, n * sizeof *was);
    Status st = take(s, &k->set[at], err);
    if (st == ST_OK) {
        *changed = differing(s, was);
        *took = k->set[at].name;
    }
    free(was);
    return st;
}

int session_kept_sets(const Session *s)
{
    return s->model ? s->whatifs->sets.n : 0;
}

KeptView session_kept_set(Session *s, int i)
{
    KeptSets *all = &s->whatifs->sets;
    KeptSet *k = &all->set[i];
    KeptView v = {.name = k->name, .recipe = k->recipe, .level = k->level, .present = is_present(s, k),
                  .comparable = k->recipe == s->recipe, .measurement = -1};
    if (!v.comparable) {
        sizes_of(s, k->recipe, k->level, &v.predicted.size);
        v.predicted.kl.value = NAN;
        return v;
    }
    if (!k->known || k->results != s->results->version || k->opened != s->assignment->opened_version) {
        k->predicted = predict_levels(s, k->level);
        k->results = s->results->version;
        k->opened = s->assignment->opened_version;
        k->known = !k->predicted.no_memory;
    }
    v.predicted = k->predicted;
    const Measured *m = results_find(s, k->level, 0);
    v.measurement = m ? (int)(m - s->results->measured) : -1;
    return v;
}
