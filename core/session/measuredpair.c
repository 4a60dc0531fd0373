/* Two measurements: what differs between them, and how one of them becomes the present assignment again. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/file.h"
#include "recipe/diff.h"
#include "session/allot.h"
#include "session/assignment.h"
#include "session/kept.h"
#include "session/levelnames.h"
#include "session/parts.h"
#include "session/results.h"

/* ---- what they were made with ---- */

static void data_text(const DataPrint *d, char *out, size_t size)
{
    snprintf(out, size, "%s, %d text%s, %lld tokens, #%.4s", path_base(d->name), d->samples, d->samples == 1 ? "" : "s",
             (long long)d->tokens, d->sha256);
}

static void recipe_aspect(const Measurement *m, char *out, size_t size)
{
    snprintf(out, size, "%s", m->recipe ? recipe_name(m->recipe) : "not known");
}

static void changes_aspect(const Measurement *m, char *out, size_t size)
{
    Str names = {0};
    if (m->recipe)
        work_name_changes(m->recipe, &names);
    snprintf(out, size, "%s", names.len ? str_text(&names) : m->recipe ? "none that change the model" : "not known");
    str_free(&names);
}

static void calib_aspect(const Measurement *m, char *out, size_t size)
{
    data_text(&m->made->calib, out, size);
}

static void eval_aspect(const Measurement *m, char *out, size_t size)
{
    data_text(&m->made->eval, out, size);
}

static void tokens_aspect(const Measurement *m, char *out, size_t size)
{
    snprintf(out, size, "%lld tokens", (long long)m->effect->tokens);
}

static void window_aspect(const Measurement *m, char *out, size_t size)
{
    snprintf(out, size, "%lld tokens", (long long)m->made->ctx);
}

static void arith_aspect(const Measurement *m, char *out, size_t size)
{
    snprintf(out, size, "%s", arith_name(m->effect->arith));
}

static void compat_aspect(const Measurement *m, char *out, size_t size)
{
    snprintf(out, size, "%s", m->made->peer ? "peer" : "none");
}

static void seed_aspect(const Measurement *m, char *out, size_t size)
{
    snprintf(out, size, "%llu", (unsigned long long)m->made->seed);
}

static void version_aspect(const Measurement *m, char *out, size_t size)
{
    snprintf(out, size, "slimscope %s", m->made->version);
}

static const struct Aspect {
    const char *what;
    void (*text)(const Measurement *m, char *out, size_t size);
    bool made;   /* known only where a measurement tells what it was made with */
} aspects[] = {
    {"recipe", recipe_aspect, false},        {"processors", changes_aspect, false},
    {"calibration", calib_aspect, true},     {"evaluation set", eval_aspect, true},
    {"evaluation tokens", tokens_aspect, false}, {"evaluation window", window_aspect, true}, {"arithmetic", arith_aspect, false},
    {"compat", compat_aspect, true},         {"seed", seed_aspect, true},            {"program", version_aspect, true},
};
enum { ASPECTS = sizeof aspects / sizeof *aspects };
_Static_assert((int)ASPECTS <= (int)DIFFERENCES_MAX, "each can differ");

static bool same_recipe(const Recipe *a, const Recipe *b)
{
    size_t na, nb;
    if (a == b || !a || !b)
        return a == b;
    const char *ta = recipe_source(a, &na), *tb = recipe_source(b, &nb);
    return na == nb && memcmp(ta, tb, na) == 0;
}

static void find_differences(MeasuredPair *p)
{
    p->told = p->a.made->when && p->b.made->when;
    for (int i = 0; i < ASPECTS; i++) {
        Difference d = {.what = aspects[i].what};
        if (aspects[i].made && !p->told)
            continue;
        aspects[i].text(&p->a, d.a, sizeof d.a);
        aspects[i].text(&p->b, d.b, sizeof d.b);
        bool other = aspects[i].text == recipe_aspect ? !same_recipe(p->a.recipe, p->b.recipe) : strcmp(d.a, d.b) != 0;
        if (other)
            p->differs[p->ndiffers++] = d;
    }
}

/* ---- recipe and rules ---- */

static Status put_part(Str *out, const char *what, const char *a, const char *b, Error *err)
{
    Str lines = {0};
    Status st = diff_lines(&lines, a, b, err);
    if (st == ST_OK && lines.len)
        str_printf(out, "%s\n%s", what, str_text(&lines));
    str_free(&lines);
    return st;
}

static Status find_config(MeasuredPair *p, Error *err)
{
    size_t len;
    if (p->a.recipe && p->b.recipe && !same_recipe(p->a.recipe, p->b.recipe))
        RETURN_IF_ERROR(put_part(&p->config, "recipe", recipe_source(p->a.recipe, &len), recipe_source(p->b.recipe, &len), err));
    if (p->a.rules && p->b.rules)
        RETURN_IF_ERROR(put_part(&p->config, "rules", p->a.rules, p->b.rules, err));
    return p->config.oom ? error_nomem(err, "a comparison") : ST_OK;
}

/* ---- the pair ---- */

Status measured_pair(const Session *s, int a, int b, MeasuredPair *out, Error *err)
{
    *out = (MeasuredPair){.a = session_measurement(s, a), .b = session_measurement(s, b), .p = session_paired(s, a, b)};
    if (a == b)
        return error_set(err, ST_USAGE, "both are measurement %s", out->a.name);
    out->sized = session_measurement_size(s, &out->a, &out->size[0]) && session_measurement_size(s, &out->b, &out->size[1]);
    find_differences(out);
    Status st = session_level_changes(s, &out->a, &out->b, &out->change, &out->changes, err);
    if (st == ST_OK)
        st = find_config(out, err);
    if (st != ST_OK)
        measured_pair_fini(out);
    return st;
}

void measured_pair_fini(MeasuredPair *p)
{
    free(p->change);
    str_free(&p->config);
    *p = (MeasuredPair){.changes = 0};
}

void measured_pair_differs(const MeasuredPair *p, Str *out)
{
    int n = p->ndiffers + (p->changes > 0);
    if (p->changes)
        str_printf(out, "levels of %lld linear%s", (long long)p->changes, p->changes == 1 ? "" : "s");
    for (int i = 0; i < p->ndiffers; i++)
        str_printf(out, "%s%s", i || p->changes ? ", " : "", p->differs[i].what);
    if (!p->told)
        str_printf(out, "%s; data and settings of %s", n ? "" : "no level", p->a.made->when || p->b.made->when ? "one are not recorded" : "both are not recorded");
    else
        str_puts(out, n == 0 ? "nothing" : n == 1 ? " only" : "");
}

/* ---- the levels of one ---- */

/* What is behind the last dot: down_proj. */
static const char *kind_name(const char *linear)
{
    const char *dot = strrchr(linear, '.');
    return dot ? dot + 1 : linear;
}

/* Appends the linears of a level by their last names, in the order in which these come. */
static void put_kinds(const Session *s, const int16_t *level, int16_t which, bool brief, Str *out)
{
    enum { KINDS_TOLD = 24 };
    const char *kind[KINDS_TOLD];
    int64_t count[KINDS_TOLD], others = 0;
    int n = 0;
    for (int64_t i = 0; i < s->model->nlinears; i++) {
        const char *name = kind_name(s->model->linears[i].name);
        int k = 0;
        if (level[i] != which)
            continue;
        while (k < n && strcmp(kind[k], name) != 0)
            k++;
        if (k == KINDS_TOLD) {
            others++;
            continue;
        }
        if (k == n) {
            kind[n] = name;
            count[n++] = 0;
        }
        count[k]++;
    }
    for (int k = 0; k < n; k++) { /* those of which there are as many stand together: "q k v x7, down x3" */
        size_t len = strlen(kind[k]) - (brief && str_ends_with(kind[k], "_proj") ? strlen("_proj") : 0);
        str_printf(out, "%s%.*s", k == 0 ? "" : count[k] == count[k - 1] ? " " : ", ", (int)len, kind[k]);
        if (k + 1 == n || count[k + 1] != count[k])
            str_printf(out, " x%lld", (long long)count[k]);
    }
    if (others)
        str_printf(out, ", %lld more", (long long)others);
}

void session_measurement_levels(const Session *s, const Measurement *m, bool brief, Str *out)
{
    enum { LEVELS_TOLD = 64 };
    int64_t n = s->model->nlinears, count[LEVELS_TOLD] = {0};
    int most = 0, told = 0;
    LevelNames names;
    if (levelnames_of(m->recipe, &names, NULL) != ST_OK)
        return;
    for (int64_t i = 0; i < n; i++)
        count[m->level[i] < LEVELS_TOLD ? m->level[i] : LEVELS_TOLD - 1]++;
    for (int k = 1; k < LEVELS_TOLD; k++)
        most = count[k] > count[most] ? k : most;
    for (int k = 0; k < LEVELS_TOLD; k++) {
        char name[48];
        levelnames_name(&names, k, name);
        if (count[k] == n)
            str_printf(out, "all %s", name);
        if (count[k] == 0 || k == most)
            continue;
        str_printf(out, "%s%s: ", told++ ? "; " : "", name);
        put_kinds(s, m->level, (int16_t)k, brief, out);
    }
    levelnames_fini(&names);
}

/* ---- back to one ---- */

static int64_t count_changes(const int16_t *a, const int16_t *b, int64_t n)
{
    int64_t changed = 0;
    for (int64_t i = 0; i < n; i++)
        changed += a[i] != b[i];
    return changed;
}

Status session_take(Session *s, int i, int64_t *changed, Error *err)
{
    const int own = session_measurements(s);
    const Measured *m = i < own ? &s->results->measured[i] : &s->kept->foreign[i - own].m;
    int64_t n = s->model->nlinears;
    RuleList l;
    if (!m->recipe)
        return error_set(err, ST_USAGE, "the recipe of measurement %d is not known: an older slimscope recorded it", m->id);
    bool open = same_recipe(m->recipe, s->recipe);
    if (!open && !m->ruled)
        return error_set(err, ST_USAGE, "measurement %d is of recipe %s: open that first, then take it", m->id,
                         recipe_name(m->recipe));
    if (open && !m->ruled)
        return levels_apply(s, m->level, LEVELS_ANEW, changed, err);
    int16_t *was = mem_array((size_t)n, sizeof *was);
    if (!was)
        return error_nomem(err, "the edit");
    memcpy(was, s->assignment->level, (size_t)n * sizeof *was);
    Status st = rules_copy(&m->rules, 0, &l, err);
    if (st == ST_OK && open) {
        st = rules_push(s, &l, false, changed, err);
    } else if (st == ST_OK) {
        st = assignment_change_recipe(s, m->recipe, &l, NULL, err);
        rules_fini(&l);
        if (changed && st == ST_OK)
            *changed = count_changes(was, s->assignment->level, n);
    }
    free(was);
    return st;
}
