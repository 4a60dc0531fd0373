#include "convert/impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"

static bool is(const YamlNode *v, const char *s)
{
    return v && v->kind == YAML_STR && strcmp(v->text, s) == 0;
}

Status convert_is_document(const char *text, size_t len, bool *yes, Error *err)
{
    YamlDoc *doc;
    *yes = false;
    Status st = yaml_parse(&doc, text, len, "", NULL);
    if (st != ST_OK)
        return st == ST_NOMEM ? error_nomem(err, "a document") : ST_OK;
    const YamlNode *root = yaml_root(doc);
    *yes = root && root->kind == YAML_MAP && is(yaml_get(root, "apiversion"), "modelslim_convert");
    yaml_doc_free(doc);
    return ST_OK;
}

/* ---- reading: everything was validated, so kinds of nodes are as the schema says ---- */

static Status bad(const ConvertDoc *d, const YamlNode *at, Error *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static Status bad(const ConvertDoc *d, const YamlNode *at, Error *err, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return error_set(err, ST_DATA, "%s:%d:%d: %s", d->name, at->line, at->column, text);
}

static Status strings(ConvertDoc *d, const YamlNode *list, const char *const **out, int *n, Error *err)
{
    *n = list && list->kind == YAML_SEQ ? list->count : 0;
    const char **s = arena_alloc(&d->arena, (size_t)(*n + 1) * sizeof *s);
    if (!s)
        return error_nomem(err, "a document");
    for (int i = 0; i < *n; i++)
        s[i] = list->items[i]->text ? list->items[i]->text : "";
    s[*n] = NULL;
    *out = s;
    return ST_OK;
}

static int kind_of(const YamlNode *v)
{
    for (int i = 0; convert_kind_words[i]; i++)
        if (is(v, convert_kind_words[i]))
            return i;
    return -1;
}

/* A target that no kind of source comes to. */
static Status check_target(const ConvertDoc *d, const YamlNode *at, ConvertKind to, Error *err)
{
    bool made = to == CK_FLOAT;
    Str can = {0};
    for (int k = 0; k < CK_COUNT; k++)
        made = made || (k != (int)to && convert_reaches((ConvertKind)k, to));
    convert_reachable(CK_FLOAT, &can);
    Status st = made ? ST_OK
                     : bad(d, at, err, "target %s can't be made by this build: FLOAT, %s can", convert_kind_name(to),
                           str_text(&can));
    if (made && to != CK_FLOAT && !d->ascend)
        st = bad(d, at, err, "%s requires the destination ascendv1: Hugging Face's layout takes FLOAT", convert_kind_name(to));
    str_free(&can);
    return st;
}

static Status read_route(ConvertDoc *d, const YamlNode *list, ConvertRule *r, Error *err)
{
    if (!list || list->kind != YAML_SEQ)
        return ST_OK; /* auto */
    if (list->count < 1 || list->count > CONVERT_ROUTE_MAX)
        return bad(d, list, err, "a route has from 1 to %d kinds, or is auto", CONVERT_ROUTE_MAX);
    for (int i = 0; i < list->count; i++)
        r->route[i] = (ConvertKind)kind_of(list->items[i]);
    r->nroute = list->count;
    if (r->route[r->nroute - 1] != r->to)
        return bad(d, list->items[r->nroute - 1], err, "the route ends with %s, the target is %s",
                   convert_kind_name(r->route[r->nroute - 1]), convert_kind_name(r->to));
    for (int i = 0; i + 1 < r->nroute; i++)
        if (!convert_reaches(r->route[i], r->route[i + 1])) {
            Str can = {0};
            convert_reachable(r->route[i], &can);
            Status st = bad(d, list->items[i + 1], err, "%s can't be made of %s%s%s", convert_kind_name(r->route[i + 1]),
                            convert_kind_name(r->route[i]), can.len ? ": of it can " : "", str_text(&can));
            str_free(&can);
            return st;
        }
    return ST_OK;
}

static Status read_rules(ConvertDoc *d, const YamlNode *list, Error *err)
{
    int n = list && list->kind == YAML_SEQ ? list->count : 0;
    d->rule = arena_alloc(&d->arena, (size_t)(n + 1) * sizeof *d->rule);
    if (!d->rule)
        return error_nomem(err, "a document");
    for (int i = 0; i < n; i++) {
        const YamlNode *map = list->items[i], *target = yaml_get(map, "target");
        ConvertRule *r = &d->rule[d->nrules++];
        *r = (ConvertRule){.to = (ConvertKind)kind_of(target), .line = map->line};
        RETURN_IF_ERROR(strings(d, yaml_get(map, "match"), &r->match, &r->nmatch, err));
        RETURN_IF_ERROR(check_target(d, target, r->to, err));
        RETURN_IF_ERROR(read_route(d, yaml_get(map, "route"), r, err));
    }
    return ST_OK;
}

static Status read_renames(ConvertDoc *d, const YamlNode *map, Error *err)
{
    const YamlNode *list = yaml_get(map, "patterns");
    for (int i = 0; list && list->kind == YAML_SEQ && i < list->count; i++) {
        const YamlNode *from = yaml_get(list->items[i], "from"), *to = yaml_get(list->items[i], "to");
        ConvertStep *s = &d->step[d->nsteps++];
        Error why = {0};
        *s = (ConvertStep){.line = list->items[i]->line};
        Status st = renaming_new(&s->rename, from->text, to->text, &why);
        if (st == ST_DATA)
            return bad(d, from, err, "%s", why.text);
        if (st != ST_OK)
            return error_nomem(err, "a renaming");
    }
    return ST_OK;
}

static Status read_chunk(ConvertDoc *d, const YamlNode *map, const YamlNode *op, Error *err)
{
    static const char *const usual[] = {"gate_proj", "up_proj", NULL};
    const YamlNode *dim = yaml_get(op, "dim"), *names = yaml_get(op, "projections");
    if (dim && dim->i != 1)
        return bad(d, dim, err, "chunk cuts rows of [experts][rows][columns]: dim 1 is what there is, not %lld", (long long)dim->i);
    ConvertStep *s = &d->step[d->nsteps++];
    *s = (ConvertStep){.chunk = true, .line = op->line, .projections = usual, .nprojections = 2};
    RETURN_IF_ERROR(strings(d, yaml_get(map, "source"), &s->source, &s->nsource, err));
    if (names)
        RETURN_IF_ERROR(strings(d, names, &s->projections, &s->nprojections, err));
    return s->nprojections ? ST_OK : bad(d, names, err, "chunk needs the names of the parts");
}

static Status read_ops(ConvertDoc *d, const YamlNode *map, Error *err)
{
    const YamlNode *ops = yaml_get(map, "ops");
    for (int i = 0; ops && ops->kind == YAML_SEQ && i < ops->count; i++) {
        const YamlNode *op = ops->items[i], *type = yaml_get(op, "type");
        if (!is(type, "chunk"))
            return bad(d, type, err, "the operation '%.40s' isn't done here%s: chunk is, which cuts a stack into experts",
                       type->text ? type->text : "", is(type, "merge") ? " (nor by the original)" : "");
        RETURN_IF_ERROR(read_chunk(d, map, op, err));
    }
    return ST_OK;
}

/* Steps that the list comes to at most. */
static int count_steps(const YamlNode *list)
{
    int n = 0;
    for (int i = 0; list && list->kind == YAML_SEQ && i < list->count; i++) {
        const YamlNode *p = yaml_get(list->items[i], "patterns"), *ops = yaml_get(list->items[i], "ops");
        n += (p && p->kind == YAML_SEQ ? p->count : 0) + (ops && ops->kind == YAML_SEQ ? ops->count : 0);
    }
    return n;
}

static Status read_steps(ConvertDoc *d, const YamlNode *list, Error *err)
{
    d->step = arena_alloc(&d->arena, (size_t)(count_steps(list) + 1) * sizeof *d->step);
    if (!d->step)
        return error_nomem(err, "a document");
    for (int i = 0; list && list->kind == YAML_SEQ && i < list->count; i++) {
        const YamlNode *map = list->items[i];
        RETURN_IF_ERROR(is(yaml_get(map, "type"), "rename") ? read_renames(d, map, err) : read_ops(d, map, err));
    }
    return ST_OK;
}

static bool is_ascend(const YamlNode *type)
{
    return !type || is(type, "ascendv1") || is(type, "ascend_v1") || is(type, "ascendv1_saver");
}

static Status read_saver(ConvertDoc *d, const YamlNode *spec, Error *err)
{
    const YamlNode *list = yaml_get(spec, "save");
    const YamlNode *save = list && list->kind == YAML_SEQ && list->count ? list->items[0] : NULL;
    const YamlNode *type = save ? yaml_get(save, "type") : yaml_get(yaml_get(spec, "defaults"), "dst_format");
    const YamlNode *size = save ? yaml_get(save, "part_file_size") : NULL;
    d->ascend = is_ascend(type);
    d->part_file_size = !size ? 4 : size->kind == YAML_INT ? (double)size->i : size->kind == YAML_FLOAT ? size->f : 4;
    if (!d->ascend && !is(type, "huggingface") && !is(type, "hf") && !is(type, "compressed_tensors"))
        return bad(d, type, err, "there is no destination '%.40s': ascend_v1 and huggingface are there", type->text ? type->text : "");
    return d->part_file_size >= 0 ? ST_OK : bad(d, size, err, "part_file_size must not be below 0");
}

static Status read_doc(ConvertDoc *d, Error *err)
{
    const YamlNode *spec = yaml_get(yaml_root(d->yaml), "spec");
    RETURN_IF_ERROR(read_saver(d, spec, err));
    RETURN_IF_ERROR(read_steps(d, yaml_get(spec, "preprocess"), err));
    return read_rules(d, yaml_get(spec, "linears"), err);
}

Status convert_doc_parse(ConvertDoc **out, const RecipeRows *rows, const char *text, size_t len, const char *path, Str *all,
                         Error *err)
{
    Recipe *recipe;
    *out = NULL;
    RETURN_IF_ERROR(recipe_parse_file(&recipe, rows, text, len, path, all, err));
    recipe_free(recipe);
    ConvertDoc *d = calloc(1, sizeof *d);
    if (!d)
        return error_nomem(err, "a document");
    Error why = {0};
    d->name = arena_strdup(&d->arena, path_base(path));
    Status st = d->name ? yaml_parse(&d->yaml, text, len, d->name, &why) : error_nomem(&why, "a document");
    if (st == ST_OK) {
        d->text = yaml_source(d->yaml, &d->len);
        st = read_doc(d, &why);
    }
    if (st == ST_OK) {
        *out = d;
        return ST_OK;
    }
    if (all)
        str_printf(all, "%s\n", why.text);
    convert_doc_free(d);
    return error_set(err, st, "%s", why.text);
}

void convert_doc_free(ConvertDoc *d)
{
    if (!d)
        return;
    for (int i = 0; i < d->nsteps; i++)
        renaming_free(d->step[i].rename);
    yaml_doc_free(d->yaml);
    arena_free(&d->arena);
    free(d);
}

const ConvertRule *convert_doc_rule(const ConvertDoc *d, int i)
{
    return &d->rule[i];
}

/* ---- writing ---- */

Status convert_doc_write(ConvertKind to, bool ascend, double part_file_size, const char *const *match, int n, Str *out, Error *err)
{
    static const char *const all[] = {"*"}, *const linears[] = {"*_proj", "*.w1", "*.w2", "*.w3"};
    if (n == 0) {
        match = to == CK_FLOAT ? all : linears;
        n = to == CK_FLOAT ? 1 : 4;
    }
    str_puts(out, "apiversion: modelslim_convert\nspec:\n  linears:\n  - match:\n");
    for (int i = 0; i < n; i++) {
        if (strchr(match[i], '\'') || strchr(match[i], '\n'))
            return error_set(err, ST_USAGE, "the pattern '%.80s' has a quotation mark or a line break, as no name has", match[i]);
        str_printf(out, "    - '%s'\n", match[i]);
    }
    str_printf(out, "    target: %s\n    route: auto\n  save:\n  - type: %s\n    part_file_size: ", convert_kind_name(to),
               ascend ? "ascend_v1" : "huggingface");
    str_double(out, part_file_size);
    str_putc(out, '\n');
    return out->oom ? error_nomem(err, "a document") : ST_OK;
}
