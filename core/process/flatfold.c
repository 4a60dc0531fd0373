#include "process/flatfold.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/block.h"
#include "model/subgraph.h"
#include "save/changes.h"

/* ---- sizes ---- */

static int64_t root(int64_t n)
{
    int64_t r = 0, step = 1;
    while (step * step <= n)
        step *= 2;
    for (; step > 0; step /= 2)
        if ((r + step) * (r + step) <= n)
            r += step;
    return r;
}

bool flat_split(int64_t n, bool peer, int64_t *left, int64_t *right)
{
    int64_t a = root(n);
    a += a * a < n;
    for (; n % 4 != 2 && 2 * a <= n + 1; a++) {
        int64_t b = root(a * a - n);
        if (b * b != a * a - n)
            continue;
        *left = a - b;
        *right = a + b;
        return true;
    }
    *left = root(n);
    while (!peer && n % *left)
        --*left;
    *right = n / *left;
    return !peer;
}

/* ---- what a unit has ---- */

static const Subgraph *graph_of(const Subgraph *g, int n, SubgraphType type, const int64_t *targets, int ntargets)
{
    for (int i = 0; i < n; i++) {
        bool same = g[i].type == type && g[i].ntargets == ntargets;
        for (int t = 0; t < ntargets && same; t++) {
            bool has = false;
            for (int k = 0; k < ntargets; k++)
                has = has || g[i].targets[k] == targets[t];
            same = has;
        }
        if (same)
            return &g[i];
    }
    return NULL;
}

/* One plain norm that only these linears read. */
static bool plain_norm(const Subgraph *g)
{
    return g && g->norm && !g->norm2 && g->gain == 1 && g->ntensors == 0;
}

static void attention_place(const Model *m, const Subgraph *g, int n, FlatPlace *p)
{
    const Unit *u = &m->units[p->unit];
    const Block *b = unit_block(u, ROLE_ATTENTION, 0);
    const GqaConf *c = b ? b->conf : NULL;
    if (!b || b->type != &block_gqa || c->fused || c->gate || unit_block(u, ROLE_ATTENTION, 1))
        return;
    const int64_t of[] = {b->linear[GQA_Q], b->linear[GQA_K], b->linear[GQA_V], b->linear[GQA_O]};
    const Subgraph *in = graph_of(g, n, SUBGRAPH_NORM_LINEAR, of, 3), *values = graph_of(g, n, SUBGRAPH_OV, of + 3, 1);
    if (!plain_norm(in) || !values || values->source != of[2])
        return;
    memcpy(p->linear + FLAT_Q, of, sizeof of);
    p->norm[FLAT_ATTENTION] = in->norm;
    p->norm_one = in->norm_one;
    p->on[FLAT_ATTENTION] = p->on[FLAT_VALUES] = p->diag[FLAT_ATTENTION] = true;
    p->left[FLAT_VALUES] = values->ov.heads;
    p->right[FLAT_VALUES] = values->ov.head_dim;
}

static void feed_forward_place(const Model *m, const Subgraph *g, int n, FlatPlace *p)
{
    const Unit *u = &m->units[p->unit];
    const Block *b = unit_block(u, ROLE_FEED_FORWARD, 0);
    const DenseConf *c = b ? b->conf : NULL;
    if (!b || b->type != &block_dense || c->fused || c->plain || unit_block(u, ROLE_FEED_FORWARD, 1))
        return;
    const int64_t of[] = {b->linear[DENSE_GATE], b->linear[DENSE_UP], b->linear[DENSE_DOWN]};
    const Subgraph *in = graph_of(g, n, SUBGRAPH_NORM_LINEAR, of, 2), *down = graph_of(g, n, SUBGRAPH_UP_DOWN, of + 2, 1);
    if (!plain_norm(in) || !down)
        return;
    memcpy(p->linear + FLAT_GATE, of, sizeof of);
    p->norm[FLAT_GATED] = in->norm;
    p->norm_one = in->norm_one;
    p->on[FLAT_GATED] = p->on[FLAT_UP_DOWN] = p->diag[FLAT_GATED] = true;
    p->diag[FLAT_UP_DOWN] = down->source == of[1];
}

static Status split_sides(const Model *m, bool peer, FlatPlace *p, Error *err)
{
    enum { LARGEST = 1024 };
    for (int k = 0; k < FLAT_PAIRS; k++) {
        if (!p->on[k])
            continue;
        const Linear *l = &m->linears[p->linear[k == FLAT_ATTENTION ? FLAT_Q : k == FLAT_VALUES ? FLAT_O
                                                : k == FLAT_GATED ? FLAT_GATE : FLAT_DOWN]];
        bool found = k == FLAT_VALUES || flat_split(l->in, peer, &p->left[k], &p->right[k]);
        if (!found)
            return error_set(err, ST_DATA, "'%s' reads %lld values, which the original finds no two sizes for: leave --compat "
                             "peer out", l->name, (long long)l->in);
        if (p->right[k] > LARGEST || p->left[k] > LARGEST)
            return error_set(err, ST_DATA, "'%s' reads %lld values, which are no product of two sizes up to %d that a transform "
                             "can be trained for: exclude it from flatquant", l->name, (long long)l->in, LARGEST);
    }
    return ST_OK;
}

Status flat_place(const Model *m, int unit, bool peer, FlatPlace *out, Error *err)
{
    Arena a = {0};
    Subgraph *g;
    int n;
    *out = (FlatPlace){.unit = unit};
    for (int i = 0; i < FLAT_SLOTS; i++)
        out->linear[i] = -1;
    Status st = subgraphs_of_unit(m, unit, SUBGRAPH_OURS, &a, &g, &n, NULL, err);
    if (st == ST_OK) {
        attention_place(m, g, n, out);
        feed_forward_place(m, g, n, out);
        st = split_sides(m, peer, out, err);
    }
    arena_free(&a);
    return st;
}

void flat_roll_back(FlatPlace *p, const bool taken[FLAT_SLOTS])
{
    for (int s = 0; s < FLAT_SLOTS; s++)
        p->on[flat_pair_of(s)] = p->on[flat_pair_of(s)] && taken[s];
    p->on[FLAT_VALUES] = p->on[FLAT_VALUES] && p->on[FLAT_ATTENTION];
    p->diag[FLAT_UP_DOWN] = p->diag[FLAT_UP_DOWN] && p->on[FLAT_GATED];
}

/* ---- what was found ---- */

/* Hands out n floats of `at`; NULL counts alone. */
static float *piece(float *all, int64_t *at, int64_t n)
{
    float *p = all ? all + *at : NULL;
    *at += n;
    return p;
}

static void lay_out(FlatFound *f, const Model *m, const FlatPlace *p)
{
    int64_t at = 0;
    for (int k = 0; k < FLAT_PAIRS; k++) {
        int64_t l = p->left[k], r = p->right[k];
        if (!p->on[k])
            continue;
        f->left[k] = (FlatSide){piece(f->all, &at, l * l), piece(f->all, &at, l * l)};
        f->right[k] = (FlatSide){piece(f->all, &at, r * r), piece(f->all, &at, r * r)};
        if (p->diag[k])
            f->diag[k] = piece(f->all, &at, l * r);
    }
    for (int s = 0; s < FLAT_SLOTS; s++)
        if (flat_on(p, s))
            f->clip[s] = piece(f->all, &at, 2 * m->linears[p->linear[s]].out);
    f->n = at;
}

Status flat_found_init(FlatFound *f, const Model *m, const FlatPlace *p, Error *err)
{
    *f = (FlatFound){.n = 0};
    lay_out(f, m, p);
    if (!(f->all = mem_zarray((size_t)f->n + 1, sizeof *f->all)))
        return error_nomem(err, "transforms");
    lay_out(f, m, p);
    return ST_OK;
}

void flat_found_fini(FlatFound *f)
{
    free(f->all);
    *f = (FlatFound){.n = 0};
}

/* ---- the fold ---- */

static Status dense(Rotation **out, const float *m, int64_t n, Error *err)
{
    float *copy = mem_array((size_t)(n * n), sizeof *copy);
    *out = NULL;
    if (!copy)
        return error_nomem(err, "a transform");
    memcpy(copy, m, (size_t)(n * n) * sizeof *copy);
    return rotation_dense(out, copy, n, err);
}

/* L x R; right NULL: the identity of size r. */
static Status kron(Rotation **out, const float *left, int64_t l, const float *right, int64_t r, Error *err)
{
    Rotation *a, *b = NULL;
    *out = NULL;
    Status st = dense(&a, left, l, err);
    if (st == ST_OK)
        st = right ? dense(&b, right, r, err) : rotation_identity(&b, r, err);
    if (st == ST_OK)
        st = rotation_kron(out, a, b, err);
    rotation_free(a);
    rotation_free(b);
    return st;
}

typedef struct Folding {
    const Model *m;
    const FlatPlace *p;
    const FlatFound *f;
    Overlay *o;
    DType round;
} Folding;

static Status divide_inputs(const Folding *k, int pair, int64_t linear, Error *err)
{
    int64_t n = k->p->left[pair] * k->p->right[pair];
    float *s = mem_array((size_t)n, sizeof *s);
    if (!s)
        return error_nomem(err, "a transform");
    for (int64_t i = 0; i < n; i++)
        s[i] = 1 / k->f->diag[pair][i];
    Status st = overlay_scale_inputs(k->o, linear, s, err);
    free(s);
    return st;
}

static Status turn_values(const Folding *k, int64_t v, Error *err)
{
    Rotation *r;
    Status st = dense(&r, k->f->right[FLAT_VALUES].t, k->p->right[FLAT_VALUES], err);
    if (st == ST_OK)
        st = overlay_rotate_outputs(k->o, v, r, err);
    rotation_free(r);
    return st;
}

static Status fold_weight(const Folding *k, int slot, const Rotation *inverse, Error *err)
{
    int pair = flat_pair_of(slot);
    int64_t linear = k->p->linear[slot];
    bool turned = slot == FLAT_V && k->p->on[FLAT_VALUES];
    overlay_round(k->o, DT_F32);
    if (k->f->diag[pair])
        RETURN_IF_ERROR(divide_inputs(k, pair, linear, err));
    RETURN_IF_ERROR(overlay_rotate_inputs(k->o, linear, inverse, err));
    if (!turned)
        overlay_round(k->o, k->round);
    RETURN_IF_ERROR(overlay_clamp_weight(k->o, linear, k->f->clip[slot], err));
    overlay_round(k->o, k->round);
    return turned ? turn_values(k, linear, err) : ST_OK;
}

/* What gives the channels, times the diagonal. */
static Status fold_source(const Folding *k, int pair, Error *err)
{
    const float *d = k->f->diag[pair];
    const TensorInfo *norm = k->p->norm[pair];
    if (!norm)
        return overlay_scale_outputs(k->o, k->p->linear[FLAT_UP], d, err);
    RETURN_IF_ERROR(k->p->norm_one ? overlay_scale_unit_norm(k->o, norm, d, err) : overlay_scale_tensor(k->o, norm, d, err));
    return overlay_scale_norm_bias(k->o, norm, d, err);
}

static Status fold_pair(const Folding *k, int pair, Error *err)
{
    const FlatPlace *p = k->p;
    int64_t l = p->left[pair], r = p->right[pair];
    Rotation *inverse, *input = NULL;
    Status st = kron(&inverse, k->f->left[pair].inv, l, k->f->right[pair].inv, r, err);
    if (st == ST_OK)
        st = kron(&input, k->f->left[pair].t, l, pair == FLAT_VALUES ? NULL : k->f->right[pair].t, r, err);
    for (int s = 0; s < FLAT_SLOTS && st == ST_OK; s++) {
        if (flat_pair_of(s) != pair || !flat_on(p, s))
            continue;
        st = fold_weight(k, s, inverse, err);
        if (st == ST_OK)
            st = overlay_input_rotate(k->o, p->linear[s], input, err);
        if (st == ST_OK)
            st = overlay_input_limit(k->o, p->linear[s], k->f->limit[s], err);
    }
    if (st == ST_OK && k->f->diag[pair])
        st = fold_source(k, pair, err);
    rotation_free(inverse);
    rotation_free(input);
    return st;
}

Status flat_fold(const Model *m, const FlatPlace *p, const FlatFound *f, Overlay *o, DType round, Error *err)
{
    const Folding k = {m, p, f, o, round};
    for (int pair = 0; pair < FLAT_PAIRS; pair++)
        if (p->on[pair])
            RETURN_IF_ERROR(fold_pair(&k, pair, err));
    return ST_OK;
}

/* ---- what is written ---- */

enum { MADE_LEFT, MADE_RIGHT, MADE_CLIP, MADE };

/* Tensor `what` of a slot's linear, and its values (f NULL: not asked for); false: it has none. */
static bool made_of(const Model *m, const FlatPlace *p, const FlatFound *f, int slot, int what, char name[320], SaveMade *t,
                    const float **v)
{
    static const char *const ends[MADE] = {"left_trans", "right_trans", "clip_ratio"};
    int pair = flat_pair_of(slot);
    if (what == MADE_RIGHT && pair == FLAT_VALUES)
        return false;
    int64_t n = what == MADE_LEFT ? p->left[pair] : what == MADE_RIGHT ? p->right[pair] : 1;
    snprintf(name, 320, "%s.%s", m->linears[p->linear[slot]].name, ends[what]);
    *t = (SaveMade){.name = name, .linear = p->linear[slot], .layer = p->unit, .ndim = what == MADE_CLIP ? 1 : 2,
                    .shape = {n, n}, .as_linear = true};
    if (f)
        *v = what == MADE_LEFT ? f->left[pair].t : what == MADE_RIGHT ? f->right[pair].t : &f->limit[slot];
    return true;
}

Status flat_promise(const Model *m, const FlatPlace *p, SaveChanges *to, Error *err)
{
    char name[320];
    SaveMade t;
    for (int s = 0; s < FLAT_SLOTS; s++) {
        if (!flat_on(p, s))
            continue;
        RETURN_IF_ERROR(save_changes_mark(to, p->linear[s], "_FLATQUANT", err));
        for (int what = 0; what < MADE; what++)
            if (made_of(m, p, NULL, s, what, name, &t, NULL))
                RETURN_IF_ERROR(save_changes_made(to, &t, err));
    }
    return ST_OK;
}

Status flat_give(const Model *m, const FlatPlace *p, const FlatFound *f, const Gifts *to, Error *err)
{
    char name[320];
    SaveMade t;
    const float *v;
    for (int s = 0; s < FLAT_SLOTS; s++)
        for (int what = 0; what < MADE && flat_on(p, s); what++)
            if (made_of(m, p, f, s, what, name, &t, &v)) {
                const SaveValues values = {.name = name, .n = t.ndim == 2 ? t.shape[0] * t.shape[1] : 1, .values = v};
                RETURN_IF_ERROR(to->tensor(to->self, &values, err));
            }
    return ST_OK;
}
