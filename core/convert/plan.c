#include "convert/impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/num.h"
#include "io/file.h"
#include "io/json.h"
#include "model/config.h"
#include "model/storage.h"
#include "save/practice_yaml.h"

enum { CONFIG_MAX = 10000000 };
enum { SEEN_COPY, SEEN_LINEAR, SEEN_STACK, SEEN_USED };

static Status plan_note(ConvertPlan *p, Error *err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static Status plan_note(ConvertPlan *p, Error *err, const char *fmt, ...)
{
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    char *kept = arena_strdup(&p->arena, text);
    if (!kept || !mem_grow(&p->note, &p->notes_cap, p->nnotes + 1, sizeof *p->note))
        return error_nomem(err, "a conversion");
    p->note[p->nnotes++] = kept;
    return ST_OK;
}

/* ---- names ---- */

static Status add_entry(ConvertPlan *p, const char *name, const TensorInfo *t, Error *err)
{
    Entries *all = &p->all;
    bool added;
    if (!mem_grow(&all->e, &all->cap, all->n + 1, sizeof *all->e) ||
        !map_add(&all->by_name, name, strlen(name), (int64_t)all->n, &added))
        return error_nomem(err, "the list of tensors");
    if (!added)
        return error_set(err, ST_DATA, "two tensors would be called '%s' after renaming", name);
    all->e[all->n++] = (Entry){.name = name, .t = t};
    return ST_OK;
}

/* Through every renaming, one after the other; the peer keeps the old name beside the new one. */
static Status add_renamed(ConvertPlan *p, const TensorInfo *t, Str *room, Error *err)
{
    const char *name = t->name;
    for (int i = 0; i < p->doc->nsteps; i++) {
        bool hit = false;
        if (!p->doc->step[i].rename)
            continue;
        RETURN_IF_ERROR(renaming_apply(p->doc->step[i].rename, name, &hit, room, err));
        if (!hit || strcmp(str_text(room), name) == 0)
            continue;
        if (p->save.peer)
            RETURN_IF_ERROR(add_entry(p, name, t, err));
        name = arena_strdup(&p->arena, str_text(room));
        if (!name)
            return error_nomem(err, "the list of tensors");
        if (!*name)
            return error_set(err, ST_DATA, "tensor '%s' would have no name after renaming", t->name);
    }
    return add_entry(p, name, t, err);
}

static Status list_entries(ConvertPlan *p, Error *err)
{
    Str room = {0};
    int64_t n = checkpoint_count(p->shell.ckpt);
    Status st = map_reserve(&p->all.by_name, (size_t)n) ? ST_OK : error_nomem(err, "the list of tensors");
    for (int64_t i = 0; i < n && st == ST_OK; i++)
        st = add_renamed(p, checkpoint_at(p->shell.ckpt, i), &room, err);
    str_free(&room);
    return st;
}

/* ---- rules ---- */

/* The first rule that takes a module, -1: none; *pattern: which of all patterns did. */
static int rule_for(const ConvertDoc *d, const char *module, int *pattern)
{
    int at = 0;
    for (int r = 0; r < d->nrules; r++)
        for (int k = 0; k < d->rule[r].nmatch; k++, at++)
            if (convert_glob(d->rule[r].match[k], module)) {
                *pattern = at;
                return r;
            }
    return -1;
}

/* The rule of a linear of this kind, counted. */
static int take_rule(ConvertPlan *p, const char *module)
{
    int pattern = 0, r = rule_for(p->doc, module, &pattern);
    if (r >= 0)
        p->hits[pattern]++;
    return r;
}

/* Whether the rule can be followed for a linear that is stored as `from`. */
static Status check_route(const ConvertPlan *p, const char *module, ConvertKind from, const TensorInfo *t, int rule, Error *err)
{
    const ConvertRule *r = &p->doc->rule[rule];
    bool on = r->nroute == 0;
    for (int i = 0; i < r->nroute; i++)
        on = on || r->route[i] == from;
    if (!on)
        return error_set(err, ST_DATA, "%s:%d: '%s' is stored as %s, which is not on the route: route auto, or another rule in front",
                         p->doc->name, r->line, module, convert_kind_name(from));
    if (convert_reaches(from, r->to))
        return ST_OK;
    Str can = {0};
    convert_reachable(from, &can);
    Status st = error_set(err, ST_DATA, "%s:%d: '%s' is stored as %s (%s), of which %s can't be made%s%s", p->doc->name, r->line, module,
                          convert_kind_name(from), dtype_name(t->dtype), convert_kind_name(r->to), can.len ? ": of it can " :
                          ": give the checkpoint that it was made from, or leave it out of the rule", str_text(&can));
    str_free(&can);
    return st;
}

static bool is_stack(const ConvertDoc *d, const Entry *e, const Found *f, const ConvertStep **step)
{
    for (int i = 0; i < d->nsteps; i++)
        for (int k = 0; d->step[i].chunk && k < d->step[i].nsource; k++)
            if (convert_glob(d->step[i].source[k], e->name) || convert_glob(d->step[i].source[k], f->base)) {
                *step = &d->step[i];
                return true;
            }
    return false;
}

/* What each entry is; rule[i] of linears. */
static void sort_entries(ConvertPlan *p, unsigned char *seen, int32_t *rule)
{
    const ConvertStep *step;
    Found f;
    for (size_t i = 0; i < p->all.n; i++) {
        const Entry *e = &p->all.e[i];
        rule[i] = -1;
        if (seen[i] == SEEN_USED || !convert_look(&p->all, e, &f))
            continue;
        bool matrix = !f.plain || e->t->ndim == 2;
        if (e->t->ndim >= 3 && is_stack(p->doc, e, &f, &step))
            seen[i] = SEEN_STACK;
        else if (matrix)
            rule[i] = take_rule(p, f.base);
        if (matrix && seen[i] == SEEN_COPY)
            seen[i] = SEEN_LINEAR;
        if ((seen[i] == SEEN_STACK || rule[i] >= 0) && f.scale_at >= 0)
            seen[f.scale_at] = SEEN_USED;
        if ((seen[i] == SEEN_STACK || rule[i] >= 0) && f.shape_at >= 0)
            seen[f.shape_at] = SEEN_USED;
    }
}

/* ---- items ---- */

static Status new_item(ConvertPlan *p, const ConvertItem *it, Error *err)
{
    if (!mem_grow(&p->item, &p->cap, p->n + 1, sizeof *p->item))
        return error_nomem(err, "the list of tensors");
    p->item[p->n++] = *it;
    return ST_OK;
}

static Status count_way(ConvertPlan *p, const ConvertItem *it, uint64_t in, uint64_t out, Error *err)
{
    ConvertWay *w = NULL;
    for (size_t i = 0; i < p->nways && !w; i++)
        if (p->way[i].rule == it->rule && p->way[i].from == it->from && p->way[i].to == it->to)
            w = &p->way[i];
    if (!w) {
        if (!mem_grow(&p->way, &p->ways_cap, p->nways + 1, sizeof *p->way))
            return error_nomem(err, "a conversion");
        w = &p->way[p->nways++];
        *w = (ConvertWay){.from = it->from, .to = it->to, .rule = it->rule, .first = it->name};
    }
    w->linears++;
    w->bytes_in += in;
    w->bytes_out += out;
    return ST_OK;
}

/* Tensors that a linear becomes. */
static Status add_parts(ConvertPlan *p, ConvertItem *it, Error *err)
{
    static const char *const scheme[CK_COUNT] = {[CK_W8A8_MXFP8] = "W8A8_MXFP8", [CK_W4A4_MXFP4] = "W4A4_MXFP4",
                                                 [CK_W4A8_MXFP8] = "W4A8_MXFP"};
    QConfig q;
    QPart part[SCHEME_PARTS_MAX];
    const Linear *l = it->l;
    if (!scheme_config(scheme[it->to], &q))
        return error_set(err, ST_INTERNAL, "no scheme for %s", convert_kind_name(it->to));
    if (it->matrices != 1)
        return error_set(err, ST_DATA, "'%s' is a stack of %lld matrices, of which %s can't be made: cut it by a chunk step, or give "
                         "target FLOAT", it->name, (long long)it->matrices, convert_kind_name(it->to));
    if (it->to != CK_W8A8_MXFP8 && l->in % 2)
        return error_set(err, ST_DATA, "'%s' has %lld inputs: %s packs columns in pairs; leave it out of the rule", it->name,
                         (long long)l->in, convert_kind_name(it->to));
    const SchemeLinear of = {.l = l, .peer = p->save.peer, .model = DT_BF16};
    it->parts = scheme_parts(scheme_find(&q), &q, &of, part);
    for (int k = 0; k < it->parts; k++)
        RETURN_IF_ERROR(layout_add(&p->layout, it->name, part[k].suffix, part[k].dtype, part[k].ndim, part[k].shape, part[k].label,
                                   (int32_t)p->n, k, err));
    return ST_OK;
}

static Status add_float(ConvertPlan *p, ConvertItem *it, const char *suffix, Error *err)
{
    const int64_t each = it->l->out / it->matrices, in = it->l->in;
    const int64_t one[2] = {each, in}, stack[3] = {it->matrices, it->turned ? in : each, it->turned ? each : in};
    const bool stacked = !*suffix && it->matrices > 1;
    it->parts = 1;
    return layout_add(&p->layout, it->name, suffix, DT_BF16, stacked ? 3 : 2, stacked ? stack : one, "FLOAT", (int32_t)p->n, 0, err);
}

/* A linear whose rows are read: it->l is there. */
static Status put_linear(ConvertPlan *p, ConvertItem *it, bool stacked, Error *err)
{
    it->out = (int64_t)p->layout.n;
    RETURN_IF_ERROR(it->to == CK_FLOAT ? add_float(p, it, stacked ? "" : ".weight", err) : add_parts(p, it, err));
    uint64_t out = 0;
    for (int k = 0; k < it->parts; k++)
        out += p->layout.t[it->out + k].nbytes;
    RETURN_IF_ERROR(count_way(p, it, weight_bytes(it->l), out, err));
    return new_item(p, it, err);
}

static Status put_copy(ConvertPlan *p, ConvertItem *it, const char *suffix, int ndim, const int64_t *shape, Error *err)
{
    it->out = (int64_t)p->layout.n;
    it->parts = 1;
    RETURN_IF_ERROR(layout_add(&p->layout, it->name, suffix, it->widen ? DT_F32 : it->t->dtype, ndim, shape, "FLOAT", (int32_t)p->n, 0,
                               err));
    if (it->linear && it->rule >= 0)
        RETURN_IF_ERROR(count_way(p, it, it->n, it->n, err));
    p->sums.copied++;
    p->sums.copied_bytes += it->n;
    return new_item(p, it, err);
}

static const char *keep(ConvertPlan *p, const char *name)
{
    return arena_strdup(&p->arena, name);
}

/* "model.layers.0.mlp.experts.3.gate_proj" of "model.layers.0.mlp.experts.gate_up_proj". */
static const char *expert_name(ConvertPlan *p, const char *stack, int64_t m, const char *projection)
{
    char number[32];
    const char *dot = strrchr(stack, '.');
    Str s = {0};
    snprintf(number, sizeof number, "%lld", (long long)m);
    str_append(&s, stack, dot ? (size_t)(dot - stack) : 0);
    str_printf(&s, "%s%s.%s", dot ? "." : "", number, projection);
    const char *kept = s.oom ? NULL : keep(p, str_text(&s));
    str_free(&s);
    return kept;
}

static Status put_expert(ConvertPlan *p, const Entry *e, const Found *f, const ConvertItem *stack, int64_t m, int64_t first, int64_t rows,
                         const char *projection, Error *err)
{
    ConvertItem it = {.t = e->t, .from = f->kind, .linear = true, .coded = !f->plain, .matrices = 1};
    it.name = expert_name(p, f->base, m, projection);
    if (!it.name)
        return error_nomem(err, "the list of tensors");
    it.rule = take_rule(p, it.name);
    it.to = it.rule >= 0 ? p->doc->rule[it.rule].to : f->kind;
    if (it.rule >= 0)
        RETURN_IF_ERROR(check_route(p, it.name, f->kind, e->t, it.rule, err));
    else if (!f->plain)
        return error_set(err, ST_DATA, "'%s' is cut out of a stack of %s, and no rule says what becomes of it: give one with target FLOAT",
                         it.name, convert_kind_name(f->kind));
    if (f->plain && it.to == CK_FLOAT) {
        uint64_t row = (uint64_t)stack->l->in * (uint64_t)dtype_size(e->t->dtype);
        uint64_t each = (uint64_t)(stack->l->out / stack->matrices);
        it.begin = ((uint64_t)m * each + (uint64_t)first) * row;
        it.n = (uint64_t)rows * row;
        return put_copy(p, &it, ".weight", 2, (int64_t[]){rows, stack->l->in}, err);
    }
    RETURN_IF_ERROR(convert_reader_part(p, stack, m, first, rows, &it, err));
    return put_linear(p, &it, false, err);
}

static Status put_stack(ConvertPlan *p, const Entry *e, const Found *f, Error *err)
{
    const ConvertStep *step = NULL;
    (void)is_stack(p->doc, e, f, &step);
    ConvertItem stack = {.name = e->name, .t = e->t, .from = f->kind, .to = CK_FLOAT};
    if (f->kind == CK_MXFP4 && step->nprojections > 1)
        return error_set(err, ST_DATA, "%s:%d: '%s' has the rows of its parts in turn, not one part behind the other: they can't be cut "
                         "by chunk", p->doc->name, step->line, e->name);
    RETURN_IF_ERROR(convert_reader(p, e, f, &stack, err));
    int64_t each = stack.matrices ? stack.l->out / stack.matrices : 0, rows = each / step->nprojections;
    if (each == 0 || rows * step->nprojections != each)
        return error_set(err, ST_DATA, "%s:%d: the matrices of '%s' have %lld rows, which can't be cut into %d parts", p->doc->name,
                         step->line, e->name, (long long)each, step->nprojections);
    for (int64_t m = 0; m < stack.matrices; m++)
        for (int k = 0; k < step->nprojections; k++)
            RETURN_IF_ERROR(put_expert(p, e, f, &stack, m, k * rows, rows, step->projections[k], err));
    return ST_OK;
}

/* A linear as it lies in the checkpoint. */
static Status put_found(ConvertPlan *p, const Entry *e, const Found *f, int32_t rule, Error *err)
{
    ConvertItem it = {.name = keep(p, f->base), .t = e->t, .from = f->kind, .to = f->kind, .rule = rule, .linear = true,
                      .coded = !f->plain, .matrices = 1, .n = e->t->nbytes};
    if (!it.name)
        return error_nomem(err, "the list of tensors");
    if (rule >= 0) {
        it.to = p->doc->rule[rule].to;
        RETURN_IF_ERROR(check_route(p, it.name, f->kind, e->t, rule, err));
    }
    if (it.to == it.from) {
        it.name = e->name;
        return put_copy(p, &it, "", e->t->ndim, e->t->shape, err);
    }
    RETURN_IF_ERROR(convert_reader(p, e, f, &it, err));
    return put_linear(p, &it, f->how && f->how->weight[0] != '.', err);
}

/* Whether the tensor is the bias of a linear that is quantized. */
static bool widens(const ConvertPlan *p, const Map *quantized, const Entry *e)
{
    size_t n = strlen(e->name);
    return p->doc->ascend && str_ends_with(e->name, ".bias") && dtype_plain(e->t->dtype) && e->t->dtype != DT_F32 &&
           map_get(quantized, e->name, n - 5, 0) == 1;
}

static Status put_plain(ConvertPlan *p, const Entry *e, const Map *quantized, Error *err)
{
    ConvertItem it = {.name = e->name, .t = e->t, .rule = -1, .matrices = 1, .n = e->t->nbytes, .widen = widens(p, quantized, e)};
    return put_copy(p, &it, "", e->t->ndim, e->t->shape, err);
}

/* Names of linears that will be quantized, for their biases. */
static Status list_quantized(ConvertPlan *p, const unsigned char *seen, const int32_t *rule, Map *quantized, Error *err)
{
    Found f;
    for (size_t i = 0; i < p->all.n; i++) {
        if (seen[i] != SEEN_LINEAR || rule[i] < 0 || p->doc->rule[rule[i]].to == CK_FLOAT || !convert_look(&p->all, &p->all.e[i], &f))
            continue;
        const char *name = keep(p, f.base);
        if (!name || !map_add(quantized, name, strlen(name), 1, NULL))
            return error_nomem(err, "the list of tensors");
    }
    return ST_OK;
}

static Status put_all(ConvertPlan *p, const unsigned char *seen, const int32_t *rule, Error *err)
{
    Map quantized = {0};
    Found f;
    Status st = list_quantized(p, seen, rule, &quantized, err);
    for (size_t i = 0; i < p->all.n && st == ST_OK; i++) {
        const Entry *e = &p->all.e[i];
        if (seen[i] == SEEN_USED) {
            p->sums.dropped++;
            p->sums.dropped_bytes += e->t->nbytes;
        } else if (seen[i] == SEEN_COPY) {
            st = put_plain(p, e, &quantized, err);
        } else {
            (void)convert_look(&p->all, e, &f);
            st = seen[i] == SEEN_STACK ? put_stack(p, e, &f, err) : put_found(p, e, &f, rule[i], err);
        }
    }
    map_free(&quantized);
    return st;
}

static Status make_items(ConvertPlan *p, Error *err)
{
    unsigned char *seen = mem_zarray(p->all.n + 1, sizeof *seen);
    int32_t *rule = mem_array(p->all.n + 1, sizeof *rule);
    int patterns = 0;
    for (int i = 0; i < p->doc->nrules; i++)
        patterns += p->doc->rule[i].nmatch;
    p->hits = mem_zarray((size_t)patterns + 1, sizeof *p->hits);
    Status st = seen && rule && p->hits ? ST_OK : error_nomem(err, "the list of tensors");
    if (st == ST_OK) {
        sort_entries(p, seen, rule);
        st = put_all(p, seen, rule, err);
    }
    free(seen);
    free(rule);
    return st;
}

/* ---- what there is to know ---- */

static Status note_patterns(ConvertPlan *p, bool guessed, Error *err)
{
    int at = 0;
    if (!p->nways && p->all.n)
        return plan_note(p, err, "%s: no rule takes a linear: everything is copied as it is", p->doc->name);
    if (guessed)
        return ST_OK;
    for (int r = 0; r < p->doc->nrules; r++)
        for (int k = 0; k < p->doc->rule[r].nmatch; k++, at++)
            if (!p->hits[at])
                RETURN_IF_ERROR(plan_note(p, err, "%s:%d: '%s' takes no linear%s", p->doc->name, p->doc->rule[r].line,
                                          p->doc->rule[r].match[k], at ? " that none before it takes" : ""));
    return ST_OK;
}

/* Coded weights that no rule takes. */
static Status note_coded(ConvertPlan *p, Error *err)
{
    const ConvertItem *first = NULL;
    int64_t n = 0;
    for (size_t i = 0; i < p->n; i++)
        if (p->item[i].coded && !p->item[i].l) {
            first = first ? first : &p->item[i];
            n++;
        }
    if (!n)
        return ST_OK;
    if (p->doc->ascend && !p->save.peer)
        return error_set(err, ST_DATA, "%s: no rule takes '%s', which is stored as %s%s: ascendv1 has no word for that; give a rule with "
                         "target FLOAT, or save as huggingface", p->doc->name, first->name, convert_kind_name(first->from),
                         n > 1 ? ", nor others" : "");
    return plan_note(p, err, "%lld weight%s as %s as %s: no rule takes %s ('%s')", (long long)n, n == 1 ? " stays" : "s stay",
                     n == 1 ? "it is" : "they are", convert_kind_name(first->from), n == 1 ? "it" : "them", first->name);
}

/* ---- the whole ---- */

/* Block sizes of config.json; what it says that isn't read matters only where codes are met that aren't. */
static Status read_config(ConvertPlan *p, Hasher *h, Error *err)
{
    char *path = path_join(p->shell.path, "config.json"), *text = NULL;
    size_t n = 0;
    cJSON *root = NULL;
    bool foreign = false;
    if (!path)
        return error_nomem(err, "a path");
    p->shell.cfg.block_out = p->shell.cfg.block_in = 128;
    Error why = {0};
    Status st = ST_OK;
    if (file_exists(path)) {
        st = file_read(path, CONFIG_MAX, &text, &n, err);
        if (st == ST_OK)
            st = json_parse_loose(text, n, path, &root, err);
        if (st == ST_OK && storage_config(root, config_text(root), &p->shell.cfg, &foreign, &why) != ST_OK)
            st = foreign ? plan_note(p, err, "%s", why.text) : error_set(err, why.status, "'%s': %s", path, why.text);
    }
    if (p->save.peer) /* one size for both */
        p->shell.cfg.block_in = p->shell.cfg.block_out;
    hasher_u64(h, n);
    hasher_bytes(h, text ? text : "", n);
    cJSON_Delete(root);
    free(text);
    free(path);
    return st;
}

static Status open_source(ConvertPlan *p, const char *model, Error *err)
{
    Hasher h;
    hasher_init(&h);
    p->shell.path = arena_strdup(&p->arena, model);
    if (!p->shell.path)
        return error_nomem(err, "a path");
    RETURN_IF_ERROR(checkpoint_open(&p->shell.ckpt, model, err));
    if (checkpoint_note(p->shell.ckpt))
        RETURN_IF_ERROR(plan_note(p, err, "%s", checkpoint_note(p->shell.ckpt)));
    RETURN_IF_ERROR(read_config(p, &h, err));
    hasher_str(&h, checkpoint_fingerprint(p->shell.ckpt));
    Digest d = hasher_end(&h);
    digest_hex(&d, p->shell.fingerprint);
    return ST_OK;
}

/* The peer reads sharded checkpoints only: of others it makes an empty output. */
static Status source_entries(ConvertPlan *p, Error *err)
{
    char *index = path_join(p->shell.path, "model.safetensors.index.json");
    if (!index)
        return error_nomem(err, "a path");
    bool single = p->save.peer && !file_exists(index);
    free(index);
    if (single)
        return plan_note(p, err, "'%s' has no model.safetensors.index.json: the original writes nothing of it, and so does --compat peer",
                         p->shell.path);
    return list_entries(p, err);
}

static Status lay_out(ConvertPlan *p, Error *err)
{
    if (!p->n && !p->save.peer)
        return error_set(err, ST_DATA, "'%s' has no tensors to convert", p->shell.path);
    layout_cut(&p->layout, save_limit(&p->save));
    if (!p->n)
        p->layout.files = 0;
    RETURN_IF_ERROR(layout_place(&p->layout, err));
    for (size_t i = 0; i < p->all.n; i++)
        p->sums.bytes_in += p->all.e[i].t->nbytes;
    p->sums.bytes_out = p->layout.payload;
    p->save.steps = (int)(p->layout.payload >> 20) + 1;
    return ST_OK;
}

static Status digest(ConvertPlan *p, Error *err)
{
    char side[65];
    Hasher h;
    RETURN_IF_ERROR(save_side_digest(&p->save, p->format.code_only, side, err));
    hasher_init(&h);
    hasher_str(&h, "slimscope-convert-1");
    hasher_str(&h, p->shell.fingerprint);
    hasher_str(&h, side);
    hasher_str(&h, p->practice_name);
    hasher_u64(&h, p->save.peer);
    hasher_u64(&h, p->doc->len);
    hasher_bytes(&h, p->doc->text, p->doc->len);
    for (size_t i = 0; i < p->layout.n; i++) {
        const OutTensor *t = &p->layout.t[i];
        hasher_str(&h, t->name);
        hasher_u64(&h, (uint64_t)t->dtype);
        hasher_u64(&h, (uint64_t)t->file);
        hasher_u64(&h, t->offset);
    }
    Digest d = hasher_end(&h);
    digest_hex(&d, p->digest);
    return ST_OK;
}

static Status fill(ConvertPlan *p, const ConvertAsk *ask, Error *err)
{
    p->format = convert_saver(p->doc->ascend);
    p->save = (SavePlan){.model = &p->shell, .dir = ask->dir, .model_type = ask->model_type, .peer = ask->peer, .force = ask->force,
                         .part_file_size = ask->peer ? 4 : p->doc->part_file_size, .flow = "convert", .extra = &p->extra};
    RETURN_IF_ERROR(open_source(p, ask->model, err));
    RETURN_IF_ERROR(source_entries(p, err));
    RETURN_IF_ERROR(make_items(p, err));
    RETURN_IF_ERROR(note_patterns(p, ask->guessed, err));
    RETURN_IF_ERROR(note_coded(p, err));
    RETURN_IF_ERROR(lay_out(p, err));
    RETURN_IF_ERROR(practice_yaml(p->doc->text, p->doc->len, p->doc->name, &p->practice, err));
    practice_yaml_name(ask->model_type ? ask->model_type : "convert", p->practice_name);
    p->extra = (SaveExtra){p->practice_name, str_text(&p->practice), p->practice.len};
    return digest(p, err);
}

Status convert_plan_make(ConvertPlan **out, const ConvertDoc *doc, const ConvertAsk *ask, Error *err)
{
    *out = NULL;
    ConvertPlan *p = calloc(1, sizeof *p);
    if (!p)
        return error_nomem(err, "a conversion");
    p->doc = doc;
    Status st = fill(p, ask, err);
    if (st == ST_OK)
        *out = p;
    else
        convert_plan_free(p);
    return st;
}

void convert_plan_free(ConvertPlan *p)
{
    if (!p)
        return;
    layout_free(&p->layout);
    checkpoint_free(p->shell.ckpt);
    map_free(&p->all.by_name);
    free(p->all.e);
    free(p->item);
    free(p->hits);
    free(p->way);
    free(p->note);
    str_free(&p->practice);
    arena_free(&p->arena);
    free(p);
}

const ConvertWay *convert_ways(const ConvertPlan *p, int *n)
{
    *n = (int)p->nways;
    return p->way;
}

const char *const *convert_notes(const ConvertPlan *p, int *n)
{
    *n = (int)p->nnotes;
    return p->note;
}

ConvertSums convert_sums(const ConvertPlan *p)
{
    return p->sums;
}

const SaveFormat *convert_format(const ConvertPlan *p)
{
    return &p->format;
}

const SavePlan *convert_save_plan(const ConvertPlan *p)
{
    return &p->save;
}
