#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "model/block.h"
#include "recipe/pattern_impl.h"
#include "recipe/recipe_impl.h"
#include "recipe/runtime.h"

/* Holding a recipe against the table of runtime_table.c. */

enum { PATTERNS_TOLD = 3, NAMES_MAX = 200 };

typedef struct Checker {
    const Recipe *recipe;
    const Model *m;
    const int16_t *level;   /* [m->nlinears] */
    const Runtime *engine;  /* the present one, and the saver whose files it reads */
    const char *saver;
    bool alone;             /* m stands for a model that isn't there: a layer of the usual names */
    RuntimeReport *out;
    Error *err;
} Checker;

void runtime_report_fini(RuntimeReport *r)
{
    for (size_t i = 0; i < r->n; i++)
        free(r->f[i].text);
    free(r->f);
    *r = (RuntimeReport){0};
}

/* Adds a finding, once: several savers may have the same engine. */
static Status add(Checker *c, const RuntimeRule *rule, RuntimeFinding f, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static Status add(Checker *c, const RuntimeRule *rule, RuntimeFinding f, const char *fmt, ...)
{
    RuntimeReport *out = c->out;
    Str text = {0};
    va_list ap;
    f.rule = rule;
    if (f.engine)
        str_printf(&text, "%s ", f.engine);
    str_printf(&text, "%s: %s", rule->name, c->alone && f.linear >= 0 ? "in a layer of the usual names " : "");
    va_start(ap, fmt);
    str_vprintf(&text, fmt, ap);
    va_end(ap);
    str_printf(&text, ": %s", rule->says);
    f.text = str_detach(&text);
    f.linear = c->alone ? -1 : f.linear;
    if (!f.text || !mem_grow(&out->f, &out->cap, out->n + 1, sizeof *out->f)) {
        free(f.text);
        return error_nomem(c->err, "the runtime rules");
    }
    for (size_t i = 0; i < out->n; i++)
        if (strcmp(out->f[i].text, f.text) == 0) {
            free(f.text);
            return ST_OK;
        }
    out->f[out->n++] = f;
    return ST_OK;
}

static const RecipeEntry *entry_of(const Checker *c, int64_t linear)
{
    int level = c->level[linear];
    return level > 0 && level <= recipe_entries(c->recipe) ? recipe_entry(c->recipe, level - 1) : NULL;
}

static const char *scheme_of(const Checker *c, int64_t linear)
{
    const RecipeEntry *e = entry_of(c, linear);
    return !e ? "float" : e->scheme ? e->scheme->name : "no scheme";
}

static const char *many(int64_t n)
{
    return n == 1 ? "" : "s";
}

/* ---- groups ---- */

static bool labelled(const RuntimeRule *r, const char *label)
{
    for (int i = 0; r->labels[i]; i++)
        if (strcmp(r->labels[i], label) == 0)
            return true;
    return false;
}

/* First member whose level another one doesn't go with, -1: the group may stay as it is. *other: that one. */
static int32_t splits(const Checker *c, const RuntimeRule *r, const FusedGroup *g, int32_t *other)
{
    int32_t first = g->first;
    for (int32_t k = 1; k < g->count; k++) {
        int32_t i = group_linear(g, k);
        if (r->kind == RULE_GROUP_OR_FLOAT && c->level[first] == 0)
            first = i;
        else if (c->level[i] != c->level[first] && (r->kind == RULE_GROUP || c->level[i] != 0)) {
            *other = i;
            return first;
        }
    }
    return -1;
}

static Status split_groups(Checker *c, const RuntimeRule *r)
{
    RuntimeFinding f = {.engine = c->engine->name, .linear = -1};
    int32_t second = -1;
    for (int64_t g = 0; g < c->m->ngroups; g++) {
        int32_t other, at = labelled(r, c->m->groups[g].label) ? splits(c, r, &c->m->groups[g], &other) : -1;
        if (at >= 0 && f.count++ == 0) {
            f.linear = at;
            second = other;
        }
    }
    if (!f.count)
        return ST_OK;
    return add(c, r, f, "%lld fused group%s split, first at %s (%s) and %s (%s)", (long long)f.count, many(f.count),
               c->m->linears[f.linear].name, scheme_of(c, f.linear), c->m->linears[second].name, scheme_of(c, second));
}

/* ---- linears ---- */

/* The linears that `breaks` says of; first: the first one. */
static int64_t count_linears(const Checker *c, bool (*breaks)(const Checker *c, int64_t i), int64_t *first)
{
    int64_t n = 0;
    for (int64_t i = 0; i < c->m->nlinears; i++)
        if (c->level[i] > 0 && breaks(c, i) && n++ == 0)
            *first = i;
    return n;
}

static bool is_kept(const Checker *c, int64_t i)
{
    return c->m->linears[i].kept;
}

static Status kept_linears(Checker *c, const RuntimeRule *r)
{
    RuntimeFinding f = {.engine = c->engine->name, .linear = -1};
    f.count = count_linears(c, is_kept, &f.linear);
    return !f.count ? ST_OK
                    : add(c, r, f, "%lld linear%s quantized, first %s (%s)", (long long)f.count, many(f.count),
                          c->m->linears[f.linear].name, scheme_of(c, f.linear));
}

static bool is_stacked_expert(const Checker *c, int64_t i)
{
    const BlockSpec *s = c->m->arch ? arch_block(c->m->arch, &block_moe) : NULL;
    return c->m->linears[i].expert >= 0 && s && ((const MoeRule *)s->how)->stacked;
}

static Status stacked_experts(Checker *c, const RuntimeRule *r)
{
    RuntimeFinding f = {.engine = c->engine->name, .linear = -1};
    f.count = count_linears(c, is_stacked_expert, &f.linear);
    return !f.count ? ST_OK
                    : add(c, r, f, "%lld linear%s of experts quantized, first %s", (long long)f.count, many(f.count),
                          c->m->linears[f.linear].name);
}

/* ---- schemes ---- */

static unsigned module_of(const Linear *l)
{
    return l->expert >= 0 ? RT_EXPERT : RT_LINEAR;
}

/* The engine's class for an entry in what the saver (NULL: any) writes; modules: one of them is enough. */
static const RuntimeClass *class_of(const char *engine, const char *saver, const RecipeEntry *e, unsigned modules)
{
    for (const RuntimeClass *k = runtime_classes; k->engine; k++)
        if (strcmp(k->engine, engine) == 0 && (!saver || !k->saver || strcmp(k->saver, saver) == 0) &&
            strcmp(k->scheme, e->scheme->name) == 0 && k->weight == e->q.weight.scope && (k->modules & modules))
            return k;
    return NULL;
}

static bool reads(const Runtime *r, const char *saver)
{
    for (int i = 0; r->saver[i]; i++)
        if (strcmp(r->saver[i], saver) == 0)
            return true;
    return false;
}

/* " (mindie has one)": other engines that read the saver's files and know the scheme. */
static void put_others(const Checker *c, const RecipeEntry *e, unsigned modules, Str *out)
{
    int n = 0;
    for (const Runtime *r = runtime_table; r->name; r++)
        if (r != c->engine && reads(r, c->saver) && class_of(r->name, c->saver, e, modules))
            str_printf(out, "%s%s", n++ ? ", " : " (", r->name);
    str_puts(out, n == 0 ? "" : n == 1 ? " has one)" : " have one)");
}

static const char *scope_word(const RecipeEntry *e)
{
    return e->q.weight.scope == QS_PER_GROUP ? " per_group" : "";
}

static Status add_no_class(Checker *c, const RuntimeRule *r, const RecipeEntry *e, unsigned module, RuntimeFinding f)
{
    Str others = {0};
    const char *what = module == RT_EXPERT ? "routed experts" : module == RT_LINEAR ? "linears" : "anything";
    put_others(c, e, module, &others);
    Status st = others.oom ? error_nomem(c->err, "the runtime rules") : ST_OK;
    if (st == ST_OK && f.linear < 0)
        st = add(c, r, f, "%s%s of %s%s", e->scheme->name, scope_word(e), what, str_text(&others));
    else if (st == ST_OK)
        st = add(c, r, f, "%s%s of %s%s, %lld of them, first %s", e->scheme->name, scope_word(e), what,
                 str_text(&others), (long long)f.count, c->m->linears[f.linear].name);
    str_free(&others);
    return st;
}

/* A finding for each scheme and kind of linear. */
static Status missing_classes(Checker *c, const RuntimeRule *r)
{
    for (int k = 0; k < recipe_entries(c->recipe); k++) {
        const RecipeEntry *e = recipe_entry(c->recipe, k);
        static const unsigned modules[] = {RT_LINEAR, RT_EXPERT};
        for (int j = 0; e->scheme && j < 2; j++) {
            RuntimeFinding f = {.engine = c->engine->name, .linear = -1, .line = e->line};
            if (class_of(c->engine->name, c->saver, e, modules[j]))
                continue;
            for (int64_t i = 0; i < c->m->nlinears; i++) {
                const RecipeEntry *own = entry_of(c, i);
                bool same = own && own->scheme && strcmp(own->scheme->name, e->scheme->name) == 0 &&
                            own->q.weight.scope == e->q.weight.scope;
                if (same && !c->m->linears[i].kept && module_of(&c->m->linears[i]) == modules[j] && f.count++ == 0)
                    f.linear = i;
            }
            if (f.count && entry_of(c, f.linear) == e) /* once for entries of one scheme */
                RETURN_IF_ERROR(add_no_class(c, r, e, modules[j], f));
        }
    }
    return ST_OK;
}

static bool is_odd_shape(const Checker *c, int64_t i)
{
    const RecipeEntry *e = entry_of(c, i);
    const Linear *l = &c->m->linears[i];
    const RuntimeClass *k = e && e->scheme ? class_of(c->engine->name, c->saver, e, module_of(l)) : NULL;
    return k && k->multiple && l->in % k->multiple != 0;
}

static Status odd_shapes(Checker *c, const RuntimeRule *r)
{
    RuntimeFinding f = {.engine = c->engine->name, .linear = -1};
    f.count = count_linears(c, is_odd_shape, &f.linear);
    if (!f.count)
        return ST_OK;
    const Linear *l = &c->m->linears[f.linear];
    const RuntimeClass *k = class_of(c->engine->name, c->saver, entry_of(c, f.linear), module_of(l));
    return add(c, r, f, "%lld linear%s whose inputs are no multiple of %d, first %s (%lld inputs, %s)",
               (long long)f.count, many(f.count), k->multiple, l->name, (long long)l->in, k->scheme);
}

static Status mixed_targets(Checker *c, const RuntimeRule *r)
{
    RuntimeFinding f = {.engine = c->engine->name, .linear = -1};
    int64_t first = -1;
    for (int64_t i = 0; i < c->m->nlinears; i++) {
        const RecipeEntry *e = entry_of(c, i);
        if (!e || !e->scheme)
            continue;
        first = first < 0 ? i : first;
        if (e->q.act.scope != entry_of(c, first)->q.act.scope && f.count++ == 0)
            f.linear = i;
    }
    return !f.count ? ST_OK
                    : add(c, r, f, "%s and %s together, first at %s and %s", scheme_of(c, first),
                          scheme_of(c, f.linear), c->m->linears[first].name, c->m->linears[f.linear].name);
}

/* ---- patterns ---- */

/* Whether the pattern takes a name that this family hasn't but another one has, of experts or of what every engine
 * keeps float: such a pattern is written for all families. Of an exclude list also what is never quantized anyhow. */
static bool meant_for_others(const Pattern *p, bool exclude)
{
    static const char *const outside[] = {"lm_head", "model.lm_head", "model.embed_tokens", "model.norm", NULL};
    char name[NAMES_MAX];
    for (const Arch *const *a = arch_table; *a; a++)
        for (const BlockSpec *s = (*a)->blocks; s->type; s++) {
            const MoeRule *moe = s->type == &block_moe ? s->how : NULL;
            const char *prefix = (*a)->prefix ? (*a)->prefix : "model.layers.";
            const char *module = moe ? moe->block : block_module(s);
            const char *const parts[] = {moe ? moe->gate : NULL, moe ? moe->up : NULL, moe ? moe->down : NULL};
            for (int i = 0; s->type->kept && s->type->kept[i]; i++) {
                snprintf(name, sizeof name, "%s0.%s.%s", prefix, module ? module : "", s->type->kept[i]);
                if (pattern_match(p, name))
                    return true;
            }
            for (int i = 0; moe && i < 3; i++) {
                snprintf(name, sizeof name, "%s0.%s.experts.0.%s", prefix, module, parts[i]);
                if (pattern_match(p, name))
                    return true;
            }
        }
    if (pattern_match(p, "model.layers.1.eh_proj"))
        return true;
    for (int i = 0; exclude && outside[i]; i++)
        if (pattern_match(p, outside[i]))
            return true;
    return false;
}

/* What is told of patterns that select nothing. */
typedef struct Unhit {
    int n, all, line;
    Str told;
} Unhit;

static void tell_unhit(const Checker *c, const char *text, Unhit *u)
{
    Lint lint = {.kind = LINT_OK};
    const char *why = pattern_nowhere(text);
    if (u->n > PATTERNS_TOLD)
        return;
    str_printf(&u->told, "%s'%.80s'", u->n > 1 ? ", " : "", text);
    if (!c->alone && pattern_lint(text, c->m, NULL, &lint, NULL) == ST_OK && lint.hint[0])
        str_printf(&u->told, " (nearest: '%.80s')", lint.hint);
    else if (why)
        str_printf(&u->told, " (%s)", why);
}

/* Patterns of the lists but for an include of everything. Without a model: those that select nothing in any. */
static Status unhit_patterns(Checker *c, const RuntimeRule *r)
{
    Unhit u = {0};
    bool *hits = mem_zarray((size_t)c->m->nlinears + 1, 1);
    if (!hits)
        return error_nomem(c->err, "the runtime rules");
    for (size_t k = 0; k < c->recipe->nentries; k++) {
        const ListRef *lists[] = {&c->recipe->entry[k].include, &c->recipe->entry[k].exclude};
        for (int s = 0; s < 2; s++)
            for (int i = 0; i < lists[s]->n; i++) {
                const Pattern *p = lists[s]->pattern[i];
                if (s == 0 && strcmp(lists[s]->text[i], "*") == 0)
                    continue;
                u.all++;
                bool none = c->alone ? pattern_nowhere(lists[s]->text[i]) != NULL
                                     : pattern_hits(p, c->m, hits) == 0 && !meant_for_others(p, s == 1);
                if (!none)
                    continue;
                if (u.n++ == 0 && lists[s]->node && !c->recipe->old)
                    u.line = lists[s]->node->items[i]->line;
                tell_unhit(c, lists[s]->text[i], &u);
            }
    }
    free(hits);
    c->out->patterns = u.all;
    Status st = u.told.oom ? error_nomem(c->err, "the runtime rules") : ST_OK;
    if (st == ST_OK && u.n)
        st = add(c, r, (RuntimeFinding){.count = u.n, .linear = -1, .line = u.line},
                 "%d of %d pattern%s select%s no layer%s: %s%s", u.n, u.all, many(u.all), u.n == 1 ? "s" : "",
                 c->alone ? " of any model" : "", str_text(&u.told), u.n > PATTERNS_TOLD ? ", ..." : "");
    str_free(&u.told);
    return st;
}

/* ---- all of them ---- */

/* By RuntimeKind; rules of the engine's, for the files of one saver. */
static Status (*const checks[])(Checker *c, const RuntimeRule *r) = {
    [RULE_GROUP] = split_groups,    [RULE_GROUP_OR_FLOAT] = split_groups, [RULE_KEPT] = kept_linears,
    [RULE_CLASS] = missing_classes, [RULE_SHAPE] = odd_shapes,            [RULE_STACKED] = stacked_experts,
    [RULE_TARGETS] = mixed_targets, [RULE_PATTERN] = NULL,                [RULE_SAVER] = NULL,
};

static const RuntimeRule *rule_of(RuntimeKind kind)
{
    const RuntimeRule *r = runtime_rules;
    while (r->kind != kind)
        r++;
    return r;
}

static bool applies(const Checker *c, const RuntimeRule *r, bool peer)
{
    return checks[r->kind] && (!r->engine || strcmp(r->engine, c->engine->name) == 0) &&
           (!r->saver || strcmp(r->saver, c->saver) == 0) && (r->kind != RULE_TARGETS || peer);
}

/* Without a model: schemes that the engine has no class for whatever they are of. */
static Status missing_schemes(Checker *c, const RuntimeRule *r)
{
    for (int k = 0; k < recipe_entries(c->recipe); k++) {
        const RecipeEntry *e = recipe_entry(c->recipe, k);
        RuntimeFinding f = {.engine = c->engine->name, .linear = -1, .count = 1, .line = e->line};
        if (e->scheme && !class_of(c->engine->name, c->saver, e, RT_LINEAR | RT_EXPERT))
            RETURN_IF_ERROR(add_no_class(c, r, e, RT_LINEAR | RT_EXPERT, f));
    }
    return ST_OK;
}

/* The engine's rules about the files of one saver. */
static Status check_rules(Checker *c, bool peer)
{
    for (const RuntimeRule *r = runtime_rules; r->name; r++) {
        if (!applies(c, r, peer))
            continue;
        if (!c->alone || checks[r->kind] == split_groups)
            RETURN_IF_ERROR(checks[r->kind](c, r));
        else if (r->kind == RULE_CLASS)
            RETURN_IF_ERROR(missing_schemes(c, r));
    }
    return ST_OK;
}

/* Every saver's engine, or the one asked for and those savers that it reads. */
static Status check_engines(Checker *c, const RuntimeQuery *q)
{
    int read = 0, n = recipe_savers(q->recipe);
    for (int s = 0; s < (n ? n : 1); s++) {
        c->saver = n ? recipe_saver(q->recipe, s)->type : "ascendv1_saver"; /* what is used when none is named */
        c->engine = q->runtime ? q->runtime : runtime_of_saver(c->saver);
        if (!c->engine || !reads(c->engine, c->saver))
            continue;
        read++;
        RETURN_IF_ERROR(check_rules(c, q->peer));
    }
    if (read || !q->runtime)
        return ST_OK;
    const char *const *saver = q->runtime->saver;
    return add(c, rule_of(RULE_SAVER), (RuntimeFinding){.engine = q->runtime->name, .count = 1, .linear = -1},
               "reads what %s%s%s writes, not %s", saver[0], saver[1] ? " or " : "", saver[1] ? saver[1] : "",
               c->saver);
}

static Status check_all(Checker *c, const RuntimeQuery *q)
{
    RETURN_IF_ERROR(unhit_patterns(c, rule_of(RULE_PATTERN)));
    return check_engines(c, q);
}

/* A layer as most families have it: what splits its groups splits them in most models. */
static Status check_without(Checker *c, const RuntimeQuery *q)
{
    Linear linears[] = {{.name = "model.layers.0.self_attn.q_proj"}, {.name = "model.layers.0.self_attn.k_proj"},
                        {.name = "model.layers.0.self_attn.v_proj"}, {.name = "model.layers.0.mlp.gate_proj"},
                        {.name = "model.layers.0.mlp.up_proj"}};
    FusedGroup groups[] = {{"qkv", 0, 3, 0}, {"gu", 3, 2, 0}};
    enum { N = sizeof linears / sizeof linears[0] };
    int16_t level[N];
    for (int i = 0; i < N; i++)
        linears[i].expert = -1;
    const Model m = {.linears = linears, .nlinears = N, .groups = groups, .ngroups = 2};
    c->m = &m;
    c->level = level;
    c->alone = true;
    RETURN_IF_ERROR(recipe_assign(q->recipe, &m, level, c->err));
    return check_all(c, q);
}

Status runtime_check(const RuntimeQuery *q, RuntimeReport *out, Error *err)
{
    Checker c = {.recipe = q->recipe, .m = q->model, .level = q->level, .out = out, .err = err};
    int16_t *own = NULL;
    *out = (RuntimeReport){0};
    if (recipe_entries(q->recipe) == 0)
        return ST_OK;
    if (!q->model)
        return check_without(&c, q);
    Status st = ST_OK;
    if (!q->level) {
        own = mem_array((size_t)q->model->nlinears + 1, sizeof *own);
        st = own ? recipe_assign(q->recipe, q->model, own, err) : error_nomem(err, "the runtime rules");
        c.level = own;
    }
    if (st == ST_OK)
        st = check_all(&c, q);
    free(own);
    return st;
}
