#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "recipe/pattern.h"
#include "tune/play.h"

/* binary_fallback (specs/tuning.md 6): how many candidates, from the first, have to be in a list of a complete recipe, by
 * halving. */

typedef struct FallbackSettings {
    const YamlNode *root;       /* the template */
    const char *path;
    const YamlNode *candidates; /* NULL: the ranking */
    const char *dataset;
    const char *id;
    RankScope scope;
    const char *metric;
} FallbackSettings;

typedef struct Fallback {
    const StrategyKit *kit;
    FallbackSettings set;
    Arena arena;
    RankWish wish;
    RankRow *row;               /* [n] the candidates of the plan */
    int64_t n;
} Fallback;

/* ---- keys ---- */

/* The field of a key that a mapping of the template lacks; NULL: it may have no such key. */
static const Field *absent_field(const YamlNode *parent, const char *key, int len)
{
    const YamlNode *type = yaml_get(parent, "type");
    const Object o = type && type->kind == YAML_STR ? processor_object(&recipe_rows, type->text) : recipe_spec_object;
    for (const Field *f = o.fields; f && f->key; f++)
        if (strlen(f->key) == (size_t)len && memcmp(f->key, key, (size_t)len) == 0)
            return f;
    return NULL;
}

static void check_path(Check *c, const YamlNode *path, const YamlNode *root)
{
    const char *part;
    int len;
    const YamlNode *at = practice_path(root, path->text, &part, &len);
    if (at) {
        if (at->kind != YAML_SEQ)
            check_fail(c, path, "must lead to a list of template, '%s' is %s", path->text, yaml_kind_name(at->kind));
        return;
    }
    const YamlNode *parent = root;
    if (part > path->text) {
        char *head = strndup(path->text, (size_t)(part - path->text) - 1);
        const char *p;
        int l;
        parent = head ? practice_path(root, head, &p, &l) : NULL;
        free(head);
    }
    const Field *f = parent && parent->kind == YAML_MAP && !part[len] ? absent_field(parent, part, len) : NULL;
    if (f && f->type == F_PATTERNS)
        return;
    if (f) {
        check_fail(c, path, "must lead to a list of template, '%s' is none", path->text);
        return;
    }
    if (parent && parent->kind == YAML_SEQ)
        check_fail(c, path, "'%.*s' is no place in the list at '%.*s', which has %d items", len, part,
                   (int)(part > path->text ? part - path->text - 1 : 0), path->text, parent->count);
    else
        check_fail(c, path, "'%.*s' isn't there in template%s%.*s", len, part, part > path->text ? ", at " : "",
                   (int)(part > path->text ? part - path->text - 1 : 0), path->text);
}

static void check(Check *c, const YamlNode *map)
{
    const YamlNode *path = yaml_get(map, "rollback_path"), *root = yaml_get(map, "template");
    if (!path || path->kind != YAML_STR || !root || root->kind != YAML_MAP)
        return;
    size_t was = check_push(c, "rollback_path");
    check_path(c, path, root);
    check_pop(c, was);
}

static const Field fields[] = {
    FIELD_TYPE,
    {.key = "template", .type = F_CHECKED, .value = check_practice, .required = true},
    {.key = "rollback_path", .type = F_STR, .required = true, .filled = true, .longest = 1000},
    {.key = "rollback_candidates", .type = F_STRINGS, .nullable = true, .filled = true},
    {.key = "analysis_dataset", .type = F_STR, .nullable = true, .longest = 4096},
    {.key = "scope", .type = F_ENUM, .words = rank_scope_names, .ours = true},
    {.key = "metric", .type = F_STR, .filled = true, .longest = 100, .ours = true},
    FIELD_END,
};
static const Object object = {.fields = fields, .check = check};

static const char *text_of(const YamlNode *v, const char *absent)
{
    return v && v->kind == YAML_STR ? v->text : absent;
}

static const void *settings(Arena *a, const YamlNode *map)
{
    FallbackSettings *s = arena_alloc(a, sizeof *s);
    if (!s)
        return NULL;
    const YamlNode *root = yaml_get(map, "template"), *list = yaml_get(map, "rollback_candidates");
    *s = (FallbackSettings){.root = root, .path = yaml_get(map, "rollback_path")->text,
                            .candidates = list && list->kind == YAML_SEQ && list->count ? list : NULL,
                            .dataset = text_of(yaml_get(map, "analysis_dataset"),
                                               text_of(yaml_get(yaml_get(root, "spec"), "dataset"), "mix_calib.jsonl")),
                            .id = text_of(yaml_get(yaml_get(root, "metadata"), "config_id"), "Unknown"),
                            .metric = text_of(yaml_get(map, "metric"), "block_error")};
    for (int i = 0; rank_scope_names[i]; i++)
        if (node_is(yaml_get(map, "scope"), rank_scope_names[i]))
            s->scope = (RankScope)i;
    return s;
}

/* ---- candidates ---- */

/* Whether a name is a linear of the model, or a block of one: what has linears below it. */
typedef enum NameKind { NAME_NOTHING, NAME_LINEAR, NAME_ABOVE } NameKind;
static NameKind kind_of(const Model *m, const char *name)
{
    size_t n = strlen(name);
    NameKind kind = NAME_NOTHING;
    for (int64_t i = 0; m && i < m->nlinears && kind != NAME_LINEAR; i++) {
        const char *l = m->linears[i].name;
        if (strncmp(l, name, n) == 0)
            kind = l[n] == '\0' ? NAME_LINEAR : l[n] == '.' ? NAME_ABOVE : kind;
    }
    return kind;
}

/* The peer wraps all that has no star, a linear's own name too, which then matches nothing. */
static const char *pattern_of(Fallback *f, const char *entry)
{
    bool plain = f->kit->peer ? !strchr(entry, '*') : !strpbrk(entry, "*?[{") && kind_of(f->kit->model, entry) != NAME_LINEAR;
    size_t size = strlen(entry) + 4;
    char *text = arena_alloc(&f->arena, size);
    if (text && plain) {
        text[0] = '*';
        memcpy(text + 1, entry, size - 4);
        memcpy(text + size - 3, ".*", 3);
    } else if (text) {
        memcpy(text, entry, size - 3);
    }
    return text;
}

/* How many linears of the model a pattern leaves in float, said when it is none. */
static Status warn_empty(const Fallback *f, const char *pattern, Error *err)
{
    const Model *m = f->kit->model;
    if (!m || f->kit->peer)
        return ST_OK;
    bool *hit = mem_zarray((size_t)m->nlinears + 1, sizeof *hit);
    Pattern *p = NULL;
    Status st = hit ? pattern_compile(&p, pattern, err) : error_nomem(err, "a candidate");
    if (st == ST_OK && pattern_hits(p, m, hit) == 0)
        kit_say(f->kit, 1, "rollback_candidates: '%s' names no linear of this model", pattern);
    pattern_free(p);
    free(hit);
    return st;
}

static Status read_candidates(Fallback *f, Error *err)
{
    const YamlNode *list = f->set.candidates;
    f->row = arena_alloc(&f->arena, (size_t)list->count * sizeof *f->row);
    if (!f->row)
        return error_nomem(err, "candidates");
    for (; f->n < list->count; f->n++) {
        const char **pattern = arena_alloc(&f->arena, sizeof *pattern), *entry = list->items[f->n]->text;
        if (!pattern || !(*pattern = pattern_of(f, entry)))
            return error_nomem(err, "candidates");
        RETURN_IF_ERROR(warn_empty(f, *pattern, err));
        f->row[f->n] = (RankRow){.name = entry, .npatterns = 1, .patterns = pattern, .bytes = -1};
    }
    return ST_OK;
}

static void close_it(void *state)
{
    Fallback *f = state;
    arena_free(&f->arena);
    free(f);
}

static Status make(const void *state, Arena *a, const Draft *d, const char *id, DraftMade *out, Error *err)
{
    const Fallback *f = state;
    PracticeWish w = {.id = id, .peer = f->kit->peer, .model_type = f->kit->peer ? NULL : f->kit->model_type};
    w.patterns = draft_patterns(a, d, f->wish.scope, &w.npatterns);
    out->anti = "";
    return w.patterns ? practice_fallback(a, f->set.root, f->set.path, &w, &out->doc, err) : error_nomem(err, "a practice");
}

static Status make_wish(Fallback *f, Error *err)
{
    static const char *const all[] = {"*"};
    f->wish = (RankWish){.scope = f->kit->peer ? RANK_BLOCKS : f->set.scope, .metric = f->kit->peer ? "mse_layer_wise" : f->set.metric,
                         .modules = all, .nmodules = 1, .dataset = f->set.dataset};
    if (f->kit->peer)
        return ST_OK;
    DraftMade m = {0};
    const Draft d = {0};
    Status st = make(f, &f->arena, &d, "ranking", &m, err);
    if (st == ST_OK && !(f->wish.recipe = arena_strndup(&f->arena, m.doc.text.s, m.doc.text.len)))
        st = error_nomem(err, "a strategy");
    practice_made_free(&m.doc);
    return st;
}

static Status open_it(void **state, const void *set, const StrategyKit *kit, Error *err)
{
    Fallback *f = calloc(1, sizeof *f);
    if (!f)
        return error_nomem(err, "a strategy");
    f->kit = kit;
    f->set = *(const FallbackSettings *)set;
    Status st = make_wish(f, err);
    if (st == ST_OK && f->set.candidates)
        st = read_candidates(f, err);
    if (st != ST_OK)
        close_it(f);
    else
        *state = f;
    return st;
}

static const char *id(const void *state)
{
    return ((const Fallback *)state)->set.id;
}

/* ---- the search ---- */

typedef struct Halving {
    const Fallback *f;
    Play *p;
    const RankRow *rows;
    int64_t n;
    int built;
} Halving;

static Draft first_of(Halving *h, int64_t n)
{
    return (Draft){.number = h->built++, .rows = h->rows, .n = n};
}

static bool met(Halving *h, const Draft *d, bool *yes)
{
    const EvalResult *r;
    if (!play_try(h->p, d, &r))
        return false;
    *yes = r->satisfied;
    return true;
}

/* Candidates, once the template alone has missed the demand; false: return. */
static bool candidates(Halving *h)
{
    if (!h->f->row)
        return play_ranking(h->p, &h->f->wish, &h->rows, &h->n);
    h->rows = h->f->row;
    h->n = h->f->n;
    return true;
}

static const char no_rows[] = "Code: 302, Message: Accuracy demand not satisfied with zero rollback and no rollback candidates "
                              "available. TIP: Provide rollback_candidates or ensure sensitivity analysis returns layers.";
static const char all_rows[] = "Code: 302, Message: Accuracy demand not satisfied with maximum rollback. TIP: Relax accuracy "
                               "expectations or extend rollback_candidates.";

static void missed(Halving *h, const Draft *d)
{
    const bool peer = h->p->kit->peer;
    if (peer)
        play_end(h->p, STEP_REFUSED, d, h->n ? all_rows : no_rows);
    else
        play_end(h->p, STEP_NOT_MET, d,
                 h->n ? "the demand is missed with every candidate in float: give more rollback_candidates, or relax the demand"
                      : "the demand is missed, and there are no candidates to leave in float: give rollback_candidates");
}

static void play(const void *state, Play *p)
{
    Halving h = {.f = state, .p = p};
    bool yes;
    if (p->kit->peer && !candidates(&h)) /* the peer ranks before it tries */
        return;
    Draft d = first_of(&h, 0);
    if (!met(&h, &d, &yes))
        return;
    if (yes) {
        play_end(p, STEP_MET, &d, NULL);
        return;
    }
    if (!candidates(&h))
        return;
    if (h.n == 0) {
        missed(&h, &d);
        return;
    }
    int64_t lo = 1, hi = h.n;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        d = first_of(&h, mid);
        if (!met(&h, &d, &yes))
            return;
        if (yes)
            hi = mid;
        else
            lo = mid + 1;
    }
    d = first_of(&h, lo);
    if (!met(&h, &d, &yes))
        return;
    if (!yes) {
        missed(&h, &d);
        return;
    }
    if (p->kit->peer) { /* and once more */
        d = first_of(&h, lo);
        if (!met(&h, &d, &yes))
            return;
    }
    play_end(p, STEP_MET, &d, NULL);
}

const StrategyType strategy_binary_fallback = {
    .name = "binary_fallback",
    .object = &object,
    .peer = true,
    .settings = settings,
    .open = open_it,
    .close = close_it,
    .play = play,
    .make = make,
    .id = id,
};
