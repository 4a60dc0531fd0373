#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipe/pattern_impl.h"
#include "recipe/diff.h"
#include "recipe/recipe_impl.h"
#include "recipe/runtime.h"

/* Export: plan the lists that give an assignment, edit the source, read the result again and prove it. */

#define MARK "# slimscope: "

typedef struct Planner {
    const Recipe *r;
    const Model *m;
    const int16_t *level;
    bool *must, *forbid, *in, *out, *need, *scratch; /* [nlinears] */
    Error *err;
} Planner;

static void plan_free(const Recipe *r, EntryPlan *plan)
{
    for (size_t k = 0; plan && k < r->nentries; k++) {
        ListPlan *l[2] = {&plan[k].include, &plan[k].exclude};
        for (int s = 0; s < 2; s++) {
            for (int i = 0; i < l[s]->nadded; i++)
                free(l[s]->added[i]);
            free(l[s]->added);
            free(l[s]->keep);
        }
    }
    free(plan);
}

static Status keep_all(ListPlan *p, const ListRef *l, Error *err)
{
    p->keep = mem_array((size_t)l->n + 1, sizeof *p->keep);
    if (!p->keep)
        return error_nomem(err, "an export");
    memset(p->keep, true, (size_t)l->n + 1);
    p->edit = l->node && l->node->kind == YAML_NULL; /* the peer refuses null */
    return ST_OK;
}

/* Fills need from a condition and covers it; nothing to do when it is empty. */
static Status add_cover(Planner *pl, ListPlan *p)
{
    bool any = false;
    for (int64_t i = 0; i < pl->m->nlinears; i++)
        any |= pl->need[i];
    if (!any)
        return ST_OK;
    p->edit = true;
    return pattern_cover_within(pl->m, pl->need, pl->scratch, &p->added, &p->nadded, pl->err);
}

/* include: what must be taken and isn't yet. */
static Status plan_include(Planner *pl, const ListRef *l, ListPlan *p)
{
    int64_t n = pl->m->nlinears;
    RETURN_IF_ERROR(keep_all(p, l, pl->err));
    memset(pl->in, 0, (size_t)n);
    for (int k = 0; k < l->n; k++)
        pattern_hits(l->pattern[k], pl->m, pl->in);
    for (int64_t i = 0; i < n; i++) {
        pl->need[i] = pl->must[i] && !pl->in[i];
        pl->scratch[i] = pl->must[i] || pl->in[i];
    }
    RETURN_IF_ERROR(add_cover(pl, p));
    for (int64_t i = 0; i < n; i++)
        pl->in[i] |= pl->need[i];
    return ST_OK;
}

/* exclude: patterns that hit what must be taken go; what is then left to exclude is covered. */
static Status plan_exclude(Planner *pl, const ListRef *l, ListPlan *p)
{
    int64_t n = pl->m->nlinears;
    RETURN_IF_ERROR(keep_all(p, l, pl->err));
    memset(pl->out, 0, (size_t)n);
    for (int k = 0; k < l->n; k++) {
        memset(pl->scratch, 0, (size_t)n);
        pattern_hits(l->pattern[k], pl->m, pl->scratch);
        for (int64_t i = 0; i < n && p->keep[k]; i++)
            p->keep[k] = !(pl->scratch[i] && pl->must[i]);
        p->edit |= !p->keep[k];
        for (int64_t i = 0; i < n && p->keep[k]; i++)
            pl->out[i] |= pl->scratch[i];
    }
    for (int64_t i = 0; i < n; i++) {
        pl->need[i] = pl->in[i] && pl->forbid[i] && !pl->out[i];
        pl->scratch[i] = pl->in[i] && pl->forbid[i];
    }
    return add_cover(pl, p);
}

static Status plan_entries(Planner *pl, EntryPlan *plan)
{
    for (size_t k = 0; k < pl->r->nentries; k++) {
        int level = (int)k + 1;
        for (int64_t i = 0; i < pl->m->nlinears; i++) {
            pl->must[i] = pl->level[i] == level;
            pl->forbid[i] = pl->level[i] == 0 || pl->level[i] > level; /* taken earlier: no matter */
        }
        RETURN_IF_ERROR(plan_include(pl, &pl->r->entry[k].include, &plan[k].include));
        RETURN_IF_ERROR(plan_exclude(pl, &pl->r->entry[k].exclude, &plan[k].exclude));
    }
    return ST_OK;
}

static Status make_plan(const Recipe *r, const Model *m, const int16_t *level, EntryPlan **out, Error *err)
{
    size_t n = (size_t)m->nlinears;
    for (size_t i = 0; i < n; i++)
        if (level[i] < 0 || (size_t)level[i] > r->nentries)
            return error_set(err, ST_USAGE, "'%s' has level %d, the recipe has %zu linear_quant entries",
                             m->linears[i].name, level[i], r->nentries);
    EntryPlan *plan = mem_zarray(r->nentries + 1, sizeof *plan);
    bool *buf = mem_zarray(n * 6 + 1, 1);
    Planner pl = {r, m, level, buf, buf + n, buf + 2 * n, buf + 3 * n, buf + 4 * n, buf + 5 * n, err};
    Status st = plan && buf ? plan_entries(&pl, plan) : error_nomem(err, "an export");
    free(buf);
    if (st != ST_OK) {
        plan_free(r, plan);
        return st;
    }
    *out = plan;
    return ST_OK;
}

/* ---- provenance ---- */

/* Puts the comment lines at the top; those of an earlier export go. comments == NULL leaves the text as it is. */
static void put_comments(Str *out, const Str *text, const char *const *comments)
{
    const char *s = str_text(text), *end = s + text->len;
    if (!comments) {
        str_append(out, s, text->len);
        return;
    }
    if (strncmp(s, "\xef\xbb\xbf", 3) == 0) {
        str_append(out, s, 3);
        s += 3;
    }
    const char *nl = strpbrk(s, "\r\n");
    const char *eol = !nl || *nl == '\n' ? "\n" : nl[1] == '\n' ? "\r\n" : "\r";
    for (const char *const *c = comments; *c; c++) {
        str_puts(out, MARK);
        for (const char *p = *c; *p; p++)
            str_putc(out, (unsigned char)*p < 0x20 || *p == 0x7f ? ' ' : *p);
        str_puts(out, eol);
    }
    while (strncmp(s, MARK, strlen(MARK)) == 0) {
        s += strcspn(s, "\r\n");
        s += *s == '\r';
        s += *s == '\n';
    }
    str_append(out, s, (size_t)(end - s));
}

/* ---- proof and checks ---- */

/* First linear whose level in the text differs from `level`, -1 when there is none. */
static Status prove(const Recipe *again, const Model *m, const int16_t *level, int64_t *differs, Error *err)
{
    int16_t *got = mem_array((size_t)m->nlinears + 1, sizeof *got);
    Status st = got ? recipe_assign(again, m, got, err) : error_nomem(err, "an export");
    *differs = -1;
    for (int64_t i = 0; st == ST_OK && i < m->nlinears && *differs < 0; i++)
        if (got[i] != level[i])
            *differs = i;
    free(got);
    return st;
}

void export_add_check(Export *e, bool ok, bool blocking, const char *fmt, ...)
{
    if (e->nchecks == EXPORT_MAX_CHECKS)
        return;
    ExportCheck *c = &e->checks[e->nchecks++];
    c->ok = ok;
    c->blocking = blocking;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->text, sizeof c->text, fmt, ap);
    va_end(ap);
}

/* The engines' rules: a line for each that is broken, and for groups and patterns also where all is well. Groups that
 * are split and what breaks a rule of the engine asked for block. */
static Status check_rules(Export *e, const RuntimeQuery *q, Error *err)
{
    RuntimeReport r;
    bool split = false, empty = false;
    Status st = runtime_check(q, &r, err);
    for (size_t i = 0; st == ST_OK && i < r.n; i++) {
        const RuntimeFinding *f = &r.f[i];
        const bool group = f->rule->kind == RULE_GROUP || f->rule->kind == RULE_GROUP_OR_FLOAT;
        split = split || group;
        empty = empty || f->rule->kind == RULE_PATTERN;
        export_add_check(e, false, group || q->runtime, "%s", f->text);
        e->checks[e->nchecks - 1].rule = q->runtime != NULL;
    }
    if (st == ST_OK && !split)
        export_add_check(e, true, true, "fused groups whole");
    if (st == ST_OK && !empty && r.patterns)
        export_add_check(e, true, false, r.patterns == 1 ? "%d pattern, which selects at least one layer"
                                                         : "%d patterns, each selects at least one layer", r.patterns);
    runtime_report_fini(&r);
    return st;
}

/* Entries whose pair this build can't run are fine in a file; pairs no saver writes were refused when it was read. */
static void check_size(Export *e, const Recipe *r, const Model *m, const int16_t *level, const RecipeSizing *sizing)
{
    SizeReport s;
    recipe_sizes(r, m, level, sizing, &s);
    export_add_check(e, true, false, "%.2f MiB of %.2f MiB in float, %.2f bits a weight, %lld of %lld layers quantized",
              (double)s.bytes / 1048576.0, (double)s.float_bytes / 1048576.0, s.average_bits, (long long)s.quantized,
              (long long)(s.quantized + s.floats));
}

/* Reads the new text again and compares; ST_FAIL when it doesn't hold (*differs: the linear, -1 when it isn't even
 * read). */
static Status read_again(const Recipe *r, const Str *text, const Model *m, const int16_t *level, Recipe **again,
                         int64_t *differs, Error *err)
{
    *again = NULL;
    *differs = -1;
    Status st = recipe_parse(again, r->rows, str_text(text), text->len, r->name, NULL, err);
    if (st != ST_OK)
        return st == ST_NOMEM ? st : ST_FAIL;
    RETURN_IF_ERROR(prove(*again, m, level, differs, err));
    return *differs < 0 ? ST_OK : ST_FAIL;
}

/* The edit that touches least and holds. */
static Status write_proved(const Recipe *r, const Model *m, const int16_t *level, const EntryPlan *plan,
                           const char *const *comments, Str *text, Recipe **again, Error *err)
{
    Status st = ST_OK;
    int64_t differs = -1;
    for (int reach = EDIT_LISTS; reach <= EDIT_ALL; reach++) {
        Str body = {0};
        str_clear(text);
        st = recipe_edit(r, plan, (EditReach)reach, &body, err);
        if (st == ST_OK)
            put_comments(text, &body, comments);
        if (st == ST_OK && (body.oom || text->oom))
            st = error_nomem(err, "an export");
        str_free(&body);
        if (st != ST_OK)
            return st;
        st = read_again(r, text, m, level, again, &differs, err);
        if (st != ST_FAIL)
            return st;
        recipe_free(*again);
        *again = NULL;
    }
    if (differs >= 0)
        return error_set(err, ST_INTERNAL,
                         "the exported text gives '%s' another level: not written, please report this",
                         m->linears[differs].name);
    return error_prefix(err, ST_INTERNAL, "the exported text can't be read again: ");
}

/* Model name for a generated document: the folder's. */
static const char *model_name(const Model *m)
{
    const char *slash = m->path ? strrchr(m->path, '/') : NULL, *base = slash ? slash + 1 : m->path;
    return base && *base && strcmp(base, ".") != 0 && strcmp(base, "..") != 0 ? base : m->cfg.model_type;
}

static Status export_from(const Recipe *r, const Model *m, const int16_t *level, const RecipeSizing *sizing, const Runtime *runtime,
                          const char *const *comments, const char *against, Export *out, Error *err)
{
    EntryPlan *plan = NULL;
    Recipe *again = NULL;
    RETURN_IF_ERROR(make_plan(r, m, level, &plan, err));
    Status st = write_proved(r, m, level, plan, comments, &out->text, &again, err);
    for (size_t k = 0; k < r->nentries; k++)
        out->added += plan[k].include.nadded + plan[k].exclude.nadded;
    plan_free(r, plan);
    if (st == ST_OK) {
        export_add_check(out, true, true, "round trip: read again, all %lld layers at their level",
                         (long long)m->nlinears);
        st = check_rules(out, &(RuntimeQuery){again, m, level, runtime, sizing && sizing->peer}, err);
    }
    if (st == ST_OK) {
        export_add_check(out, true, true, "only known keys and characters the quantizer accepts");
        check_size(out, again, m, level, sizing);
        const char *old = against ? against : yaml_source(r->doc, NULL);
        st = diff_unified(&out->diff, r->name, old, "export", str_text(&out->text), err);
    }
    recipe_free(again);
    return st;
}

Status recipe_export(const Recipe *r, const Model *m, const int16_t *level, const RecipeSizing *sizing, const Runtime *runtime,
                     const char *const *comments, const char *against, Export *out, Error *err)
{
    *out = (Export){0};
    Error e = {0};
    Recipe *named = NULL;
    Status st = ST_OK;
    if (r->generated) {
        Str text = {0};
        recipe_default_text(&text, model_name(m));
        st = text.oom ? error_nomem(&e, "an export") : recipe_parse(&named, r->rows, text.s, text.len, r->name,
                                                                           NULL, &e);
        str_free(&text);
    }
    if (st == ST_OK)
        st = export_from(named ? named : r, m, level, sizing, runtime, comments, against, out, &e);
    recipe_free(named);
    if (st != ST_OK) {
        export_fini(out);
        return error_set(err, st, "%s", e.text);
    }
    return ST_OK;
}

void export_fini(Export *e)
{
    str_free(&e->text);
    str_free(&e->diff);
    *e = (Export){0};
}
