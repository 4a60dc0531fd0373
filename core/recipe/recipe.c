#include "recipe/recipe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "io/file.h"
#include "recipe/recipe_impl.h"

static const char default_head[] = "apiversion: modelslim_v1\n"
                                   "metadata:\n";
static const char default_rest[] = "  score: 90.0\n"
                                   "  label:\n"
                                   "    w_bit: 8\n"
                                   "    a_bit: 8\n"
                                   "    is_sparse: false\n"
                                   "    kv_cache: false\n";
static const char default_spec[] = "spec:\n"
                                   "  process:\n"
                                   "    - type: 'linear_quant'\n"
                                   "      qconfig:\n"
                                   "        act:\n"
                                   "          scope: 'per_tensor'\n"
                                   "          dtype: 'int8'\n"
                                   "          symmetric: false\n"
                                   "          method: 'minmax'\n"
                                   "        weight:\n"
                                   "          scope: 'per_channel'\n"
                                   "          dtype: 'int8'\n"
                                   "          symmetric: true\n"
                                   "          method: 'minmax'\n"
                                   "      include:\n"
                                   "        - '*'\n"
                                   "  save:\n"
                                   "    - type: 'ascendv1_saver'\n"
                                   "      part_file_size: 4\n"
                                   "  dataset: 'mix_calib.jsonl'\n";

/* What of a model's name the peer lets into a text: a run of other characters becomes one '_', at the ends it goes. */
static void ascii_id(const char *model, char *id, size_t size)
{
    static const char marks[] = "_.-";
    size_t n = 0;
    for (; model && *model && n + 1 < size; model++) {
        bool keep = ascii_is_alnum(*model) || strchr(marks, *model);
        if (!(n == 0 && (!keep || strchr(marks, *model))) && (keep || id[n - 1] != '_'))
            id[n++] = keep ? *model : '_';
    }
    while (n && strchr(marks, id[n - 1]))
        n--;
    id[n] = '\0';
}

void recipe_default_text(Str *out, const char *model)
{
    char id[128];
    ascii_id(model, id, sizeof id);
    size_t n = strlen(id);
    str_puts(out, default_head);
    str_printf(out, "  config_id: '%s%sw8a8_static'\n", id, n ? "_" : "");
    str_puts(out, default_rest);
    if (n)
        str_printf(out, "  verified_model_types:\n    - '%s'\n", id);
    str_puts(out, default_spec);
}

/* What the peer's loader allows in a key or a text. */
static bool allowed_text(const char *s, size_t n)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_\"'><=[])(,}{: |/.*~?!+-\\";
    for (size_t i = 0; i < n; i++)
        if (!s[i] || !strchr(allowed, s[i]))
            return false;
    return true;
}

static void check_texts_in(Check *c, const YamlNode *n, bool in_list);

static void check_map_characters(Check *c, const YamlNode *n)
{
    for (int i = 0; i < n->count && c->errors < CHECK_ERRORS_MAX; i++) {
        const YamlNode *k = n->keys[i];
        size_t was = check_push(c, k->text ? k->text : "?");
        if (k->kind == YAML_STR && !allowed_text(k->text, k->len))
            check_fail(c, k, "the key has a character that the peer refuses");
        else if (k->kind == YAML_STR && k->len > 512)
            check_fail(c, k, "the key has more than 512 characters");
        check_texts_in(c, n->vals[i], false);
        check_pop(c, was);
    }
}

/* Every key and text that is reachable without passing a mapping in a list (specs/config.md 1). */
static void check_texts_in(Check *c, const YamlNode *n, bool in_list)
{
    if (n->kind == YAML_MAP && !in_list) {
        check_map_characters(c, n);
    } else if (n->kind == YAML_SEQ) {
        for (int i = 0; i < n->count && c->errors < CHECK_ERRORS_MAX; i++) {
            size_t was = check_push_index(c, i);
            check_texts_in(c, n->items[i], true);
            check_pop(c, was);
        }
    } else if (n->kind == YAML_STR && !allowed_text(n->text, n->len)) {
        check_fail(c, n,
                   "has a character that the peer refuses (letters, digits, space and _\"'><=[])(,}{:|/.*~?!+-\\ are "
                   "allowed)");
    }
}

void check_characters(Check *c, const YamlNode *n)
{
    check_texts_in(c, n, false);
}

static const ApiVersion *const apiversions[] = {&api_v1, &api_v0, &api_vlm, &api_sd, &api_convert, NULL};

bool node_is(const YamlNode *v, const char *s)
{
    return v && v->kind == YAML_STR && strcmp(v->text, s) == 0;
}

/* The format of a document; NULL: it names none that exists. */
static const ApiVersion *find_apiversion(Check *c, const YamlNode *root)
{
    const YamlNode *v = yaml_get(root, "apiversion");
    const char *names[8] = {NULL};
    char near[80];
    for (int i = 0; apiversions[i]; i++) {
        if (node_is(v, apiversions[i]->name))
            return apiversions[i];
        names[i] = apiversions[i]->name;
    }
    if (!v || v->kind != YAML_STR)
        check_fail(c, v ? v : root, "apiversion is missing: 'apiversion: modelslim_v1' is expected");
    else
        check_fail(c, v, "unknown apiversion '%.80s'%s", v->text, check_nearest(v->text, names, near, sizeof near));
    return NULL;
}

static void check_document(Check *c, const YamlNode *root)
{
    if (!root || root->kind != YAML_MAP) {
        check_fail(c, root, "a mapping is expected, not %s", root ? yaml_kind_name(root->kind) : "an empty file");
        return;
    }
    check_characters(c, root);
    const ApiVersion *api = find_apiversion(c, root);
    if (!api)
        return;
    if (!c->instead)
        c->r->api = api;
    if (api->blocks)
        check_block(c, yaml_get(root, "apiversion"), "apiversion %s: %s", api->name, api->blocks);
    c->gather = api->process;
    check_root(c, root, api);
}

static void drop_entries(Recipe *r)
{
    for (size_t i = 0; i < r->nentries; i++) {
        for (int k = 0; k < r->entry[i].include.n; k++)
            pattern_free(r->entry[i].include.pattern[k]);
        for (int k = 0; k < r->entry[i].exclude.n; k++)
            pattern_free(r->entry[i].exclude.pattern[k]);
    }
    r->nentries = 0;
}

/* Puts the translation of r's document in its place where there is one that holds; else notes say why not. */
static Status translate(Recipe *r, Error *err)
{
    Check *c = calloc(1, sizeof *c);
    Str text = {0};
    YamlDoc *doc = NULL;
    if (!c)
        return error_nomem(err, "a recipe");
    const YamlNode *root = yaml_root(r->doc);
    *c = (Check){.r = r, .err = err};
    r->api->translate(c, root, &text);
    Status st = text.oom || c->status == ST_NOMEM ? error_nomem(err, "a recipe") : ST_OK;
    if (st == ST_OK && text.len) {
        Error why = {0};
        st = yaml_parse(&doc, text.s, text.len, r->name, &why);
        if (st == ST_DATA) { /* too large, or a text that needs another style */
            check_block(c, root, "can't be translated to modelslim_v1: %s", why.text);
            st = ST_OK;
        }
    }
    if (st == ST_OK && doc) {
        const YamlNode *spec = yaml_get(root, "spec");
        *c = (Check){.r = r, .err = err, .instead = spec ? spec : root};
        check_document(c, yaml_root(doc));
        st = c->status;
    }
    if (st == ST_OK && doc && !c->errors) {
        r->old = r->doc;
        r->doc = doc;
        doc = NULL;
    } else {
        drop_entries(r);
    }
    yaml_doc_free(doc);
    str_free(&text);
    free(c);
    return st;
}

static Status validate(Recipe *r, Str *all, Error *err)
{
    Check *c = calloc(1, sizeof *c);
    if (!c)
        return error_nomem(err, "a recipe");
    *c = (Check){.r = r, .all = all, .err = err};
    check_document(c, yaml_root(r->doc));
    Status st = c->errors ? c->status : ST_OK;
    free(c);
    if (st == ST_OK && r->api->translate)
        st = translate(r, err);
    if (st != ST_OK)
        return st;
    const YamlNode *data = yaml_get(yaml_get(yaml_root(r->doc), "spec"), "dataset");
    r->dataset = data && data->kind == YAML_STR ? data->text : r->api->dataset;
    for (size_t i = 0; r->old && i < r->nentries; i++)
        r->entry[i].pub.line = 0;
    return recipe_build_units(r, err);
}

static Status parse(Recipe **out, const RecipeRows *rows, const char *text, size_t len, const char *name,
                    const char *path, bool generated, Str *all, Error *err)
{
    Recipe *r = calloc(1, sizeof *r);
    if (!r)
        return error_nomem(err, "a recipe");
    Error first = {0};
    atomic_init(&r->holders, 1);
    r->rows = rows;
    r->generated = generated;
    r->name = arena_strdup(&r->arena, name);
    r->path = path ? arena_strdup(&r->arena, path) : NULL;
    Status st =
        r->name && (!path || r->path) ? yaml_parse(&r->doc, text, len, name, &first) : error_nomem(&first, "a recipe");
    if (st != ST_OK && all)
        str_printf(all, "%s\n", first.text);
    if (st == ST_OK)
        st = validate(r, all, &first);
    if (st != ST_OK) {
        recipe_free(r);
        return error_set(err, st, "%s", first.text);
    }
    *out = r;
    return ST_OK;
}

Status recipe_parse(Recipe **out, const RecipeRows *rows, const char *text, size_t len, const char *name, Str *all,
                    Error *err)
{
    return parse(out, rows, text, len, name, NULL, false, all, err);
}

Status recipe_parse_file(Recipe **out, const RecipeRows *rows, const char *text, size_t len, const char *path, Str *all,
                         Error *err)
{
    return parse(out, rows, text, len, path_base(path), path, false, all, err);
}

Status document_read(const char *path, char **text, size_t *len, Str *all, Error *err)
{
    Error e = {0};
    Status st = file_read(path, YAML_BYTES_MAX, text, len, &e);
    if (st == ST_OK)
        return ST_OK;
    if (all)
        str_printf(all, "%s\n", e.text);
    return error_set(err, st, "%s", e.text);
}

Status recipe_open(Recipe **out, const RecipeRows *rows, const char *path, Str *all, Error *err)
{
    char *text;
    size_t len;
    RETURN_IF_ERROR(document_read(path, &text, &len, all, err));
    Status st = recipe_parse_file(out, rows, text, len, path, all, err);
    free(text);
    return st;
}

Status recipe_default(Recipe **out, const RecipeRows *rows, Error *err)
{
    Str text = {0};
    recipe_default_text(&text, NULL);
    Status st =
        text.oom ? error_nomem(err, "a recipe")
                 : parse(out, rows, text.s, text.len, "w8a8_static", NULL, true, NULL, err);
    str_free(&text);
    RETURN_IF_ERROR(st);
    for (size_t i = 0; i < (*out)->nentries; i++)
        (*out)->entry[i].pub.line = 0;
    return ST_OK;
}

Recipe *recipe_hold(Recipe *r)
{
    atomic_fetch_add(&r->holders, 1);
    return r;
}

void recipe_free(Recipe *r)
{
    if (!r || atomic_fetch_sub(&r->holders, 1) > 1)
        return;
    drop_entries(r);
    free(r->entry);
    free(r->note);
    yaml_doc_free(r->doc);
    yaml_doc_free(r->old);
    arena_free(&r->arena);
    free(r);
}

const char *recipe_name(const Recipe *r)
{
    return r->name;
}

const char *recipe_path(const Recipe *r)
{
    return r->path;
}

const char *recipe_source(const Recipe *r, size_t *len)
{
    return yaml_source(r->old ? r->old : r->doc, len);
}

const char *recipe_dataset(const Recipe *r)
{
    return r->dataset;
}

int recipe_entries(const Recipe *r)
{
    return (int)r->nentries;
}

const RecipeEntry *recipe_entry(const Recipe *r, int i)
{
    return &r->entry[i].pub;
}

int recipe_notes(const Recipe *r)
{
    return (int)r->nnotes;
}

const RecipeNote *recipe_note(const Recipe *r, int i)
{
    return &r->note[i];
}

Status recipe_assign(const Recipe *r, const Model *m, int16_t *level, Error *err)
{
    if (!r->old && !r->api->process) {
        const RecipeNote *why = NULL;
        for (size_t i = 0; i < r->nnotes && !why; i++)
            why = r->note[i].blocks ? &r->note[i] : NULL;
        return error_set(err, ST_DATA, "%s:%d:%d: gives no layer a level: %s", r->name, why ? why->line : 1,
                         why ? why->column : 1, why ? why->text : r->api->name);
    }
    bool *in = mem_array((size_t)m->nlinears, 1), *out = mem_array((size_t)m->nlinears, 1);
    if (!in || !out) {
        free(in);
        free(out);
        return error_nomem(err, "an assignment");
    }
    memset(level, 0, (size_t)m->nlinears * sizeof *level);
    Status st = ST_OK;
    for (size_t e = 0; e < r->nentries && st == ST_OK; e++) {
        const Entry *en = &r->entry[e];
        if (en->bad)
            st = error_set(err, ST_DATA, "%s: line %d: %s", r->name, en->map->line, en->bad);
        memset(in, 0, (size_t)m->nlinears);
        memset(out, 0, (size_t)m->nlinears);
        for (int k = 0; k < en->include.n; k++)
            pattern_hits(en->include.pattern[k], m, in);
        for (int k = 0; k < en->exclude.n; k++)
            pattern_hits(en->exclude.pattern[k], m, out);
        for (int64_t i = 0; i < m->nlinears; i++)
            if (!level[i] && in[i] && !out[i])
                level[i] = (int16_t)(e + 1);
    }
    free(in);
    free(out);
    return st;
}

/* Bytes of one stored float weight of the model. */
static uint64_t float_size(const Model *m, const Linear *l)
{
    return (uint64_t)dtype_size(l->weight && !l->store ? l->weight->dtype : m->cfg.dtype);
}

/* What a linear at this level is quantized to; NULL: it stays float. */
static const RecipeEntry *entry_at(const Recipe *r, int level)
{
    const RecipeEntry *e = level > 0 && (size_t)level <= r->nentries ? &r->entry[level - 1].pub : NULL;
    return e && e->scheme ? e : NULL;
}

uint64_t recipe_linear_bytes(const Recipe *r, const Model *m, int64_t linear, int level, bool peer)
{
    const Linear *l = &m->linears[linear];
    const RecipeEntry *e = entry_at(r, level);
    if (e)
        return scheme_bytes(e->scheme, &e->q, &(SchemeLinear){l, l->bias != NULL, peer, m->cfg.dtype});
    return (uint64_t)l->out * (uint64_t)l->in * float_size(m, l) +
           (l->bias ? (uint64_t)l->out * (uint64_t)dtype_size(l->bias->dtype) : 0);
}

uint64_t recipe_memo_bytes(SizeMemo *memo, const Recipe *r, const Model *m, int64_t linear, int level, bool peer)
{
    const Linear *l = &m->linears[linear];
    int16_t weight = (int16_t)float_size(m, l), bias = l->bias ? (int16_t)dtype_size(l->bias->dtype) : 0;
    uint64_t mixed = (uint64_t)l->in * 31 + (uint64_t)l->out * 7 + (uint64_t)level * 17;
    struct SizeOf *s = &memo->of[(mixed ^ mixed >> 7) % SIZE_MEMO];
    if (!s->known || s->in != l->in || s->out != l->out || s->level != level || s->weight != weight || s->bias != bias)
        *s = (struct SizeOf){l->in, l->out, (int64_t)recipe_linear_bytes(r, m, linear, level, peer), (int16_t)level, weight, bias,
                             true};
    return (uint64_t)s->bytes;
}

double recipe_linear_bits(const Recipe *r, const Model *m, int64_t linear, int level)
{
    const Linear *l = &m->linears[linear];
    const RecipeEntry *e = entry_at(r, level);
    return (double)((uint64_t)l->out * (uint64_t)l->in) * (e ? e->scheme->weight_bits : (int)float_size(m, l) * 8);
}

/* What linears take more for biases that processors give them. */
static uint64_t bias_bytes(const Recipe *r, const Model *m, const int16_t *level, const RecipeSizing *how)
{
    uint64_t bytes = 0;
    for (int64_t i = 0; how->bias && i < m->nlinears; i++) {
        const Linear *l = &m->linears[i];
        const RecipeEntry *e = entry_at(r, level[i]);
        if (how->bias[i] && !e)
            bytes += (uint64_t)l->out * float_size(m, l);
        else if (how->bias[i])
            bytes += scheme_bytes(e->scheme, &e->q, &(SchemeLinear){l, true, how->peer, m->cfg.dtype}) -
                     scheme_bytes(e->scheme, &e->q, &(SchemeLinear){l, false, how->peer, m->cfg.dtype});
    }
    return bytes;
}

void recipe_sizes(const Recipe *r, const Model *m, const int16_t *level, const RecipeSizing *sizing, SizeReport *out)
{
    const RecipeSizing none = {.peer = false}, *how = sizing ? sizing : &none;
    const bool peer = how->peer;
    *out = (SizeReport){.bytes = how->added + bias_bytes(r, m, level, how)};
    if ((peer || how->untied) && m->exit.head == m->entry.table && !m->exit.spare)
        out->bytes += m->entry.table->nbytes;
    uint64_t params = 0;
    double bits = 0;
    SizeMemo memo = {0};
    for (int64_t i = 0; i < m->nlinears; i++) {
        const Linear *l = &m->linears[i];
        uint64_t n = (uint64_t)l->out * (uint64_t)l->in;
        const RecipeEntry *e = entry_at(r, level[i]);
        out->bytes += recipe_memo_bytes(&memo, r, m, i, level[i], peer);
        out->float_bytes += recipe_memo_bytes(&memo, r, m, i, 0, peer);
        out->quantized += e != NULL;
        out->floats += !e;
        params += n + (l->bias ? (uint64_t)l->out : 0);
        bits += recipe_linear_bits(r, m, i, level[i]);
    }
    uint64_t others =
        (uint64_t)m->params > params ? ((uint64_t)m->params - params) * (uint64_t)dtype_size(m->cfg.dtype) : 0;
    out->bytes += others;
    out->float_bytes += others;
    double weights = 0;
    for (int64_t i = 0; i < m->nlinears; i++)
        weights += (double)m->linears[i].out * (double)m->linears[i].in;
    out->average_bits = weights > 0 ? bits / weights : 0;
}
