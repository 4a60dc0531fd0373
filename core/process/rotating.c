#include "process/rotating.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "math/hadamard.h"
#include "model/block.h"
#include "process/turn.h"
#include "save/changes.h"

/* ---- settings ---- */

bool rotate_settings(Arena *a, const YamlNode *map, RotateSettings *out)
{
    const YamlNode *list = yaml_get(map, "down_proj_online_layers"), *v;
    int n = list && list->kind == YAML_SEQ ? list->count : 0;
    int64_t *layers = arena_alloc(a, (size_t)(n + 1) * sizeof *layers);
    *out = (RotateSettings){.block = -1, .max_tp = 4, .export_info = true, .layers = layers, .nlayers = n};
    for (int i = 0; layers && i < n; i++)
        lax_int(list->items[i], &layers[i]);
    if ((v = yaml_get(map, "block_size")) != NULL)
        lax_int(v, &out->block);
    if ((v = yaml_get(map, "max_tp_size")) != NULL)
        lax_int(v, &out->max_tp);
    if ((v = yaml_get(map, "online")) != NULL)
        lax_bool(v, &out->online);
    if ((v = yaml_get(map, "export_extra_info")) != NULL)
        lax_bool(v, &out->export_info);
    return layers != NULL;
}

void rotate_hash(const RotateSettings *s, Hasher *h)
{
    hasher_u64(h, (uint64_t)s->block);
    hasher_u64(h, (uint64_t)s->max_tp);
    hasher_u64(h, (uint64_t)s->online << 1 | s->export_info);
    hasher_u64(h, (uint64_t)s->nlayers);
    for (int i = 0; i < s->nlayers; i++)
        hasher_u64(h, (uint64_t)s->layers[i]);
}

/* ---- what it can be told to ---- */

/* Steps that stand before this one in its stage have calibrated, or changed, what it would turn. */
static Status check_order(const ProcessorCtx *ctx, Error *err)
{
    const Recipe *recipe = ctx->work->recipe;
    for (int i = 0; recipe && i < recipe_stages(recipe); i++) {
        const RecipeStage *stage = recipe_stage(recipe, i);
        const RecipeStep *before = NULL;
        for (int u = 0; u < stage->nunits; u++)
            for (int k = 0; k < stage->units[u].nsteps; k++) {
                const RecipeStep *s = &stage->units[u].steps[k];
                if (s == ctx->step && before)
                    return error_set(err, ST_DATA, "line %d: '%s' has to stand before '%s': a model is turned before its "
                                     "inputs are looked at", s->line, s->type, before->type);
                if (s->processor && !s->processor->first && !s->processor->anywhere)
                    before = before ? before : s;
            }
    }
    return ST_OK;
}

static const GqaConf *heads_of(const Unit *u)
{
    const Block *b = unit_block(u, ROLE_ATTENTION, 0);
    return b && b->type == &block_gqa ? b->conf : NULL;
}

static bool has_down(const Unit *u)
{
    const Block *b = unit_block(u, ROLE_FEED_FORWARD, 0);
    return b && b->type == &block_dense;
}

static bool is_listed(const RotateSettings *s, int unit)
{
    for (int i = 0; i < s->nlayers; i++)
        if (s->layers[i] == unit)
            return true;
    return false;
}

/* Sizes and units of the rotations at run time. */
static Status check_online(const Rotating *r, Error *err)
{
    const Model *m = r->m;
    const RotateSettings *s = r->set;
    const TurnSpec *spec = rotmap_spec(m);
    if (r->peer && !(spec && spec->online))
        return error_set(err, ST_DATA, "the original has no rotations at run time for %s: leave 'online' out",
                         m->arch->title);
    for (int i = 0; i < m->nunits; i++) {
        const GqaConf *c = heads_of(&m->units[i]);
        if (!c || c->gate || unit_block(&m->units[i], ROLE_ATTENTION, 1))
            return error_set(err, ST_DATA, "online: the attention of layer %d has no heads that can be mixed in front of "
                             "o_proj", i);
    }
    for (int i = 0; i < s->nlayers; i++)
        if (s->layers[i] >= m->nunits || s->layers[i] < 0 || !has_down(&m->units[s->layers[i]]))
            return error_set(err, ST_DATA, "down_proj_online_layers: there is no down_proj of its own in layer %lld (the "
                             "model has layers 0 to %d)", (long long)s->layers[i], m->nunits - 1);
    if (m->cfg.heads % s->max_tp)
        return error_set(err, ST_DATA, "max_tp_size %lld doesn't divide the %d heads: choose a power of two that does",
                         (long long)s->max_tp, m->cfg.heads);
    if (!r->peer && s->max_tp > m->cfg.heads / s->max_tp)
        return error_set(err, ST_DATA, "max_tp_size %lld: the %lld heads that are mixed have to stay together, so %d heads can "
                         "be spread over %lld ranks at most: choose a smaller one", (long long)s->max_tp,
                         (long long)s->max_tp, m->cfg.heads, (long long)(m->cfg.heads / s->max_tp));
    return ST_OK;
}

/* down_proj's input seen as a matrix, and its two rotations. */
static Status make_factors(Rotating *r, Error *err)
{
    int64_t a, b, n = r->m->cfg.inter;
    if (!hadamard_split(n, &a, &b))
        return error_set(err, ST_DATA, "intermediate_size %lld is no product of two sizes up to 256 with a Hadamard matrix: "
                         "leave down_proj_online_layers empty", (long long)n);
    if (a % r->set->max_tp)
        return error_set(err, ST_DATA, "max_tp_size %lld doesn't divide %lld, the first factor of intermediate_size %lld",
                         (long long)r->set->max_tp, (long long)a, (long long)n);
    RETURN_IF_ERROR(rotation_hadamard(&r->m_factor, a, r->set->max_tp, err));
    RETURN_IF_ERROR(hadamard_check(b, "the second factor of intermediate_size", err));
    return rotation_hadamard(&r->n_factor, b, -1, err);
}

static Status start_online(Rotating *r, Error *err)
{
    RETURN_IF_ERROR(check_online(r, err));
    RETURN_IF_ERROR(rotation_hadamard(&r->heads, r->m->cfg.heads, r->set->max_tp, err));
    return r->set->nlayers || r->peer ? make_factors(r, err) : ST_OK;
}

Status rotating_start(Rotating *r, const ProcessorCtx *ctx, const RotateSettings *set, bool stream, Error *err)
{
    *r = (Rotating){.m = ctx->model, .set = set, .peer = ctx->work->peer};
    RETURN_IF_ERROR(check_order(ctx, err));
    RETURN_IF_ERROR(rotmap_check(r->m, r->peer, err));
    Turns t;
    Rotation *any = NULL; /* of the right size: which one is not known yet */
    if (stream)
        RETURN_IF_ERROR(rotation_identity(&any, r->m->cfg.hidden, err));
    Status st = rotmap_turns(r->m, r->peer, set->block, any, &t, err);
    if (st == ST_OK)
        turns_free(&t);
    rotation_free(any);
    RETURN_IF_ERROR(st);
    return set->online ? start_online(r, err) : ST_OK;
}

void rotating_end(Rotating *r)
{
    turns_free(&r->turns);
    rotation_free(r->heads);
    rotation_free(r->m_factor);
    rotation_free(r->n_factor);
}

/* ---- the run ---- */

/* *all <- *all r, NULL: r. */
static Status turn_on(Rotation **all, const Rotation *r, Error *err)
{
    if (!*all) {
        *all = rotation_share(r);
        return ST_OK;
    }
    int64_t n = rotation_size(r);
    float *m = mem_array((size_t)(n * n), sizeof *m), *scratch = mem_aligned((size_t)rotation_bytes(r), 1);
    Rotation *both = NULL;
    Status st = m && scratch ? rotation_rows(*all, m, err) : error_nomem(err, "a rotation");
    if (st == ST_OK) {
        rotation_right(r, m, n, n, n, scratch);
        st = rotation_dense(&both, m, n, err);
        m = NULL;
    }
    free(m);
    free(scratch);
    RETURN_IF_ERROR(st);
    rotation_free(*all);
    *all = both;
    return ST_OK;
}

Status rotating_begin(Rotating *r, const UnitRun *u, const Rotation *stream, Error *err)
{
    turns_free(&r->turns);
    RETURN_IF_ERROR(rotmap_turns(r->m, r->peer, r->set->block, stream, &r->turns, err));
    RETURN_IF_ERROR(turn_on(u->turned, r->turns.r[TURN_STREAM], err));
    return turn_model(r->m, u->overlay, &r->turns, r->peer, -1, err);
}

/* W <- W (M x N) and the same of what comes in. The peer rounds between M and N. */
static Status both_sides(const Rotating *r, Overlay *o, int64_t linear, const Rotation *m, const Rotation *n, Error *err)
{
    Rotation *k;
    (void)r;
    RETURN_IF_ERROR(rotation_kron(&k, m, n, err));
    Status st = overlay_rotate_inputs(o, linear, k, err);
    if (st == ST_OK)
        st = overlay_input_rotate(o, linear, k, err);
    rotation_free(k);
    return st;
}

static Status turn_heads(Rotating *r, const UnitRun *u, Error *err)
{
    Rotation *one;
    RETURN_IF_ERROR(rotation_identity(&one, r->m->cfg.head_dim, err));
    Status st = both_sides(r, u->overlay, unit_linear(&r->m->units[u->unit], "o"), r->heads, one, err);
    rotation_free(one);
    return st;
}

/* The peer turns by N, then by M, and rounds twice. */
static Status turn_down(Rotating *r, const UnitRun *u, Error *err)
{
    const Block *b = unit_block(&r->m->units[u->unit], ROLE_FEED_FORWARD, 0);
    int64_t linear = b->linear[DENSE_DOWN];
    if (!r->peer)
        return both_sides(r, u->overlay, linear, r->m_factor, r->n_factor, err);
    Rotation *m, *n = NULL;
    RETURN_IF_ERROR(rotation_identity(&m, rotation_size(r->m_factor), err));
    Status st = rotation_identity(&n, rotation_size(r->n_factor), err);
    if (st == ST_OK)
        st = both_sides(r, u->overlay, linear, m, r->n_factor, err);
    if (st == ST_OK)
        st = both_sides(r, u->overlay, linear, r->m_factor, n, err);
    rotation_free(m);
    rotation_free(n);
    return st;
}

Status rotating_learn(Rotating *r, const UnitRun *u, Error *err)
{
    RETURN_IF_ERROR(turn_model(r->m, u->overlay, &r->turns, r->peer, u->unit, err));
    if (r->set->online)
        RETURN_IF_ERROR(turn_heads(r, u, err));
    return r->set->online && is_listed(r->set, u->unit) ? turn_down(r, u, err) : ST_OK;
}

/* ---- what is written ---- */

static const char rotation_file[] = "optional/quarot.safetensors";

static Status promise_square(SaveChanges *to, const char *name, int64_t linear, int layer, int64_t n, Error *err)
{
    return save_changes_made(to, &(SaveMade){.name = name, .linear = linear, .layer = layer, .ndim = 2, .shape = {n, n},
                                             .file = layer < 0 ? rotation_file : NULL, .unlisted = true}, err);
}

/* Name of what is made for a linear. */
static void made_name(const Rotating *r, int64_t linear, const char *end, char out[320])
{
    snprintf(out, 320, "%s.%s", r->m->linears[linear].name, end);
}

static int64_t down_of(const Rotating *r, int unit)
{
    return unit_block(&r->m->units[unit], ROLE_FEED_FORWARD, 0)->linear[DENSE_DOWN];
}

/* Adds the names of linears as a JSON list. */
static void list_layers(const Rotating *r, bool down, Str *out)
{
    const char *comma = "";
    str_printf(out, "\"%s\": {\"layers\": [", down ? "kronecker_rotation" : "heads_rotation");
    for (int i = 0; i < r->m->nunits; i++) {
        if (down && !is_listed(r->set, i))
            continue;
        int64_t linear = down ? down_of(r, i) : unit_linear(&r->m->units[i], "o");
        str_printf(out, "%s\"%s\"", comma, r->m->linears[linear].name);
        comma = ", ";
    }
    str_printf(out, "]}");
}

static Status promise_online(const Rotating *r, SaveChanges *to, Error *err)
{
    char name[320];
    for (int i = 0; i < r->m->nunits; i++) {
        int64_t o = unit_linear(&r->m->units[i], "o");
        made_name(r, o, "heads_rotation", name);
        RETURN_IF_ERROR(promise_square(to, name, o, i, rotation_size(r->heads), err));
        if (!is_listed(r->set, i))
            continue;
        made_name(r, down_of(r, i), "kronecker_rotation_m", name);
        RETURN_IF_ERROR(promise_square(to, name, down_of(r, i), i, rotation_size(r->m_factor), err));
        made_name(r, down_of(r, i), "kronecker_rotation_n", name);
        RETURN_IF_ERROR(promise_square(to, name, down_of(r, i), i, rotation_size(r->n_factor), err));
    }
    Str json = {0};
    str_printf(&json, "{\"max_tp_size\": %lld, ", (long long)r->set->max_tp);
    list_layers(r, false, &json);
    str_printf(&json, ", ");
    list_layers(r, true, &json);
    str_printf(&json, "}");
    Status st = json.oom ? error_nomem(err, "the description")
                         : save_changes_note(to, SAVE_METADATA, "quarot", str_text(&json), err);
    str_free(&json);
    return st;
}

Status rotating_promise(const Rotating *r, bool info, SavePlan *plan, Error *err)
{
    SaveChanges *to = plan->changes;
    save_changes_values(to);
    if (r->m->exit.head && r->m->exit.head == r->m->entry.table)
        save_changes_untie(to);
    if (info && r->set->export_info) {
        RETURN_IF_ERROR(promise_square(to, "global_rotation", -1, -1, r->m->cfg.hidden, err));
        RETURN_IF_ERROR(save_changes_note(to, SAVE_OPTIONAL, "quarot",
                                          "{\"rotation_map\": {\"global_rotation\": \"optional/quarot.safetensors\"}}", err));
    }
    return r->set->online ? promise_online(r, to, err) : ST_OK;
}

static Status give_square(const Rotation *rot, const char *name, const Gifts *to, Error *err)
{
    int64_t n = rotation_size(rot);
    float *m = mem_array((size_t)(n * n), sizeof *m);
    Status st = m ? rotation_rows(rot, m, err) : error_nomem(err, "a rotation");
    if (st == ST_OK)
        st = to->tensor(to->self, &(SaveValues){.name = name, .n = n * n, .values = m}, err);
    free(m);
    return st;
}

Status rotating_give(const Rotating *r, bool info, const UnitRun *u, const Gifts *to, Error *err)
{
    char name[320];
    if (to->debug && u->unit == 0)
        RETURN_IF_ERROR(rotating_tell(r, to, err));
    if (info && r->set->export_info && u->unit == 0)
        RETURN_IF_ERROR(give_square(r->turns.r[TURN_STREAM], "global_rotation", to, err));
    if (!r->set->online)
        return ST_OK;
    made_name(r, unit_linear(&r->m->units[u->unit], "o"), "heads_rotation", name);
    RETURN_IF_ERROR(give_square(r->heads, name, to, err));
    if (!is_listed(r->set, u->unit))
        return ST_OK;
    made_name(r, down_of(r, u->unit), "kronecker_rotation_m", name);
    RETURN_IF_ERROR(give_square(r->m_factor, name, to, err));
    made_name(r, down_of(r, u->unit), "kronecker_rotation_n", name);
    return give_square(r->n_factor, name, to, err);
}
