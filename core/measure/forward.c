#include "measure/forward.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "math/convert.h"
#include "model/block.h"

/* Tensors collected for the file; data is float32 until it is written. */
typedef struct Collected {
    TensorOut *t;
    bool *wide;      /* [n] stays float32 in every arithmetic */
    size_t n, cap, wide_cap;
    Arena arena;     /* names */
} Collected;

typedef struct Forward {
    Runner *r;
    const Model *m;
    int64_t tokens;
    Collected all;
    float **in;      /* [linears] captured inputs, owned by `all`, or (experts') here until their statistics are made */
    int64_t *rows;   /* [linears] of them */
    float **attn;    /* [2 layers], those of second halves behind the others */
    float **ffn;     /* [layers] */
    float **router[3];   /* [layers] logits, chosen experts (as numbers), weights */
    float *logits;
} Forward;

static Status add_tensor(Collected *c, const char *name, DType dtype, int ndim, const int64_t *shape, void **data,
                         Error *err)
{
    int64_t n = 1;
    for (int i = 0; i < ndim; i++)
        if (!mul_i64(n, shape[i], &n))
            return error_nomem(err, name);
    *data = mem_zarray((size_t)n, (size_t)dtype_size(dtype));
    char *copy = arena_strdup(&c->arena, name);
    if (!*data || !copy || !mem_grow(&c->t, &c->cap, c->n + 1, sizeof *c->t) ||
        !mem_grow(&c->wide, &c->wide_cap, c->n + 1, sizeof *c->wide)) {
        free(*data);
        *data = NULL;
        return error_nomem(err, name);
    }
    c->wide[c->n] = false;
    TensorOut *t = &c->t[c->n++];
    *t = (TensorOut){.name = copy, .dtype = dtype, .ndim = ndim, .data = *data};
    memcpy(t->shape, shape, (size_t)ndim * sizeof *shape);
    return ST_OK;
}

/* A float32 tensor [1][tokens][width]. */
static Status add_states(Forward *f, const char *name, int64_t width, float **data, Error *err)
{
    void *p;
    RETURN_IF_ERROR(add_tensor(&f->all, name, DT_F32, 3, (const int64_t[]){1, f->tokens, width}, &p, err));
    *data = p;
    return ST_OK;
}

static Status add_numbered(Forward *f, const char *what, int i, int64_t width, float **data, Error *err)
{
    Str name = {0};
    str_printf(&name, "%s.%d", what, i);
    Status st = name.oom ? error_nomem(err, what) : add_states(f, name.s, width, data, err);
    str_free(&name);
    return st;
}

/* [rows][width] */
static Status add_input(Forward *f, const char *linear, int64_t rows, int64_t width, float **data, Error *err)
{
    Str name = {0};
    void *p = NULL;
    str_printf(&name, "in.%s", linear);
    Status st = name.oom ? error_nomem(err, linear)
                         : add_tensor(&f->all, name.s, DT_F32, 2, (const int64_t[]){rows, width}, &p, err);
    *data = p;
    str_free(&name);
    return st;
}

/* count, sum, sumsq, max, min, mean, population std, population excess kurtosis */
static void eight_statistics(const float *x, int64_t n, double out[8])
{
    double sum = 0, sq = 0, max = -INFINITY, min = INFINITY, m2 = 0, m4 = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = (double)x[i];
        sum += v;
        sq += v * v;
        max = v > max || isnan(v) ? v : max;
        min = v < min || isnan(v) ? v : min;
    }
    double mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)x[i] - mean;
        m2 += d * d;
        m4 += d * d * (d * d);
    }
    m2 /= (double)n;
    m4 /= (double)n;
    const double v[8] = {(double)n, sum, sq, max, min, mean, sqrt(m2), m4 / (m2 * m2) - 3};
    memcpy(out, v, sizeof v);
}

static Status add_statistics(Forward *f, const char *linear, const float *x, int64_t rows, int64_t width, Error *err)
{
    Str name = {0};
    void *p = NULL;
    str_printf(&name, "stat.%s", linear);
    const int64_t eight = 8;
    Status st = name.oom ? error_nomem(err, linear) : add_tensor(&f->all, name.s, DT_F64, 1, &eight, &p, err);
    if (st == ST_OK)
        eight_statistics(x, rows * width, p);
    str_free(&name);
    return st;
}

/* ---- the observer ---- */

static bool is_router_tap(TapKind k)
{
    return k == TAP_ROUTER || k == TAP_EXPERTS || k == TAP_EXPERT_WEIGHTS;
}

/* Routers are recorded by what they decide, not as linears. */
static bool wants_tap(void *self, Tap tap)
{
    const Forward *f = self;
    if (tap.kind == TAP_LINEAR_IN)
        return f->m->linears[tap.linear].kind != LK_ROUTER;
    return tap.kind == TAP_ATTN || tap.kind == TAP_FFN || is_router_tap(tap.kind);
}

static float **tap_slot(Forward *f, Tap tap)
{
    if (tap.kind == TAP_LINEAR_IN)
        return &f->in[tap.linear];
    if (is_router_tap(tap.kind))
        return &f->router[tap.kind - TAP_ROUTER][tap.layer];
    if (tap.kind == TAP_ATTN)
        return &f->attn[tap.layer + (tap.linear < 0 ? 0 : f->m->cfg.layers)];
    return &f->ffn[tap.layer];
}

/* How the unit's experts are chosen. */
static const MoeRule *rule_of(const Unit *u)
{
    for (int i = 0; i < u->nblocks; i++)
        if (u->block[i].type == &block_moe)
            return ((const MoeConf *)u->block[i].conf)->rule;
    return NULL;
}

/* Blocks of attention in each unit. */
static int attentions(const Model *m)
{
    int n = 0;
    while (unit_block(&m->units[0], ROLE_ATTENTION, n))
        n++;
    return n;
}

static Status add_router(Forward *f, Tap tap, int64_t width, float **data, Error *err)
{
    static const char *const what[] = {"logits", "idx", "w"};
    char name[64];
    void *p;
    snprintf(name, sizeof name, "router.%d.%s", tap.layer, what[tap.kind - TAP_ROUTER]);
    Status st = add_tensor(&f->all, name, tap.kind == TAP_EXPERTS ? DT_I64 : DT_F32, 2,
                           (const int64_t[]){f->tokens, width}, &p, err);
    *data = p;
    const MoeRule *rule = rule_of(&f->m->units[tap.layer]);
    if (st == ST_OK)
        f->all.wide[f->all.n - 1] =
            tap.kind == TAP_ROUTER
                ? (!rule->router_linear && !rule->round_logits && !rule->round_steps) || rule->router_wide
                : !rule->round_weights;
    return st;
}

static Status tap_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *err)
{
    Forward *f = self;
    float **slot = tap_slot(f, tap);
    if (is_router_tap(tap.kind))
        return add_router(f, tap, width, slot, err);
    if (tap.kind == TAP_ATTN && attentions(f->m) > 1) {
        char name[32];
        snprintf(name, sizeof name, "attn.%d", tap.layer);
        return add_numbered(f, name, tap.linear >= 0, width, slot, err);
    }
    if (tap.kind != TAP_LINEAR_IN)
        return add_numbered(f, tap.kind == TAP_ATTN ? "attn" : "mlp", tap.layer, width, slot, err);
    const Linear *l = &f->m->linears[tap.linear];
    f->rows[tap.linear] = start[samples];
    if (l->expert < 0)
        return add_input(f, l->name, start[samples], width, slot, err);
    *slot = mem_array((size_t)(start[samples] * width), sizeof **slot);
    return *slot ? ST_OK : error_nomem(err, l->name);
}

static void tap_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width,
                     int64_t ld)
{
    (void)sample;
    if (tap.kind == TAP_EXPERTS) {
        int64_t *e = (int64_t *)(void *)*tap_slot(self, tap) + row0 * width;
        for (int64_t i = 0; i < rows * width; i++)
            e[i] = (int64_t)x[i / width * ld + i % width];
        return;
    }
    float *dst = *tap_slot(self, tap) + row0 * width;
    for (int64_t i = 0; i < rows; i++)
        memcpy(dst + i * width, x + i * ld, (size_t)width * sizeof *x);
}

/* An expert's statistics, under the module name that experts have in every family; its input is let go. */
static Status tap_end(void *self, Tap tap, Error *err)
{
    Forward *f = self;
    const Linear *l = tap.kind == TAP_LINEAR_IN ? &f->m->linears[tap.linear] : NULL;
    if (!l || l->expert < 0)
        return ST_OK;
    char name[96];
    snprintf(name, sizeof name, "model.layers.%d.mlp.experts.%d.%s", l->layer, l->expert, linear_kind_name(l->kind));
    Status st = add_statistics(f, name, f->in[tap.linear], f->rows[tap.linear], l->in, err);
    free(f->in[tap.linear]);
    f->in[tap.linear] = NULL;
    return st;
}

static void keep_logits(void *ctx, int worker, int64_t row0, int64_t rows, int64_t v0, int64_t nv, const float *logits,
                        int64_t ld, const float *w)
{
    (void)worker;
    (void)w;
    Forward *f = ctx;
    int64_t vocab = f->m->cfg.vocab;
    for (int64_t i = 0; i < rows; i++)
        memcpy(f->logits + (row0 + i) * vocab + v0, logits + i * ld, (size_t)nv * sizeof *logits);
}

/* ---- the run ---- */

/* h.i, [1][tokens][hidden], or [1][tokens][copies][hidden] with hyper-connections. */
static Status add_state(Forward *f, int i, float **data, Error *err)
{
    const ModelConfig *c = &f->m->cfg;
    RETURN_IF_ERROR(add_numbered(f, "h", i, c->stream_width, data, err));
    TensorOut *t = &f->all.t[f->all.n - 1];
    if (c->hyper.copies) {
        t->ndim = 4;
        t->shape[2] = c->hyper.copies;
        t->shape[3] = c->hidden;
    }
    return ST_OK;
}

static Status run_layers(Forward *f, Stream *h, Error *err)
{
    static const ObserverOps ops = {.name = "forward", .wants_tap = wants_tap, .tap_begin = tap_begin,
                                    .tap_tile = tap_tile, .tap_end = tap_end};
    const Observer obs = {&ops, f};
    const ModelConfig *c = &f->m->cfg;
    size_t bytes = (size_t)(h->rows * h->width) * sizeof *h->data;
    float *copy;
    for (int i = 0; i < c->layers; i++) {
        RETURN_IF_ERROR(add_state(f, i, &copy, err));
        memcpy(copy, h->data, bytes);
        RETURN_IF_ERROR(runner_layer(f->r, i, NULL, h, h, &obs, 1, err));
    }
    RETURN_IF_ERROR(add_state(f, c->layers, &copy, err));
    memcpy(copy, h->data, bytes);
    return ST_OK;
}

static Status run_logits(Forward *f, const Stream *normed, Error *err)
{
    const ModelConfig *c = &f->m->cfg;
    float *in;
    RETURN_IF_ERROR(add_input(f, "lm_head", f->tokens, c->hidden, &in, err));
    RETURN_IF_ERROR(add_states(f, "logits", c->vocab, &f->logits, err));
    memcpy(in, normed->data, (size_t)(normed->rows * normed->width) * sizeof *in);
    RETURN_IF_ERROR(add_statistics(f, "lm_head", in, f->tokens, c->hidden, err));
    return runner_logits(f->r, normed, keep_logits, f, err);
}

static Status run_head(Forward *f, const Stream *h, Error *err)
{
    Stream normed;
    float *norm;
    RETURN_IF_ERROR(runner_final_norm(f->r, h, &normed, NULL, 0, err));
    Status st = add_states(f, "norm", f->m->cfg.hidden, &norm, err);
    if (st == ST_OK)
        memcpy(norm, normed.data, (size_t)(normed.rows * normed.width) * sizeof *norm);
    if (st == ST_OK && f->m->exit.head)
        st = run_logits(f, &normed, err);
    stream_fini(&normed);
    return st;
}

static Status run_all(Forward *f, const TokenSet *t, Error *err)
{
    void *ids;
    RETURN_IF_ERROR(add_tensor(&f->all, "input_ids", DT_I64, 2, (const int64_t[]){1, f->tokens}, &ids, err));
    for (int64_t i = 0; i < f->tokens; i++)
        ((int64_t *)ids)[i] = t->ids[i];
    Stream h;
    RETURN_IF_ERROR(runner_embed(f->r, t, &h, err));
    Status st = run_layers(f, &h, err);
    if (st == ST_OK)
        st = run_head(f, &h, err);
    stream_fini(&h);
    const Model *m = f->m;
    for (int64_t i = 0; st == ST_OK && i < m->nlinears; i++) {
        const Linear *l = &m->linears[i];
        if (l->expert < 0 && l->kind != LK_ROUTER)
            st = add_statistics(f, l->name, f->in[l->input], f->rows[l->input], l->in, err);
    }
    return st;
}

/* Narrows the float32 tensors to the model dtype, in place: every value is representable. */
static void to_model_dtype(Collected *c, DType dtype)
{
    if (dtype != DT_BF16 && dtype != DT_F16)
        return;
    for (size_t i = 0; i < c->n; i++) {
        TensorOut *t = &c->t[i];
        if (t->dtype != DT_F32 || c->wide[i])
            continue;
        int64_t n = 1;
        for (int d = 0; d < t->ndim; d++)
            n *= t->shape[d];
        unsigned char *bytes = (unsigned char *)(uintptr_t)t->data;
        for (int64_t k = 0; k < n; k++) {
            float v;
            memcpy(&v, bytes + 4 * k, sizeof v);
            uint16_t h = dtype == DT_BF16 ? bf16_of_float(v) : f16_of_float(v);
            memcpy(bytes + 2 * k, &h, sizeof h);
        }
        t->dtype = dtype;
    }
}

/* What the file's tensors take while they are collected, against the runner's limit. */
static Status check_memory(const Forward *f, Error *err)
{
    const Model *m = f->m;
    double width = (double)m->cfg.hidden * ((attentions(m) + 1) * m->cfg.layers + 2) + (double)m->cfg.vocab;
    width += (double)m->cfg.stream_width * (m->cfg.layers + 1);
    for (int64_t i = 0; i < m->nlinears; i++)
        if (m->linears[i].input == i && m->linears[i].expert < 0)
            width += (double)m->linears[i].in * (m->linears[i].groups > 1 ? m->linears[i].groups : 1);
    double bytes = width * sizeof(float) * (double)f->tokens, limit = (double)runner_mem_limit(f->r);
    if (limit > 0 && bytes > limit)
        return error_set(err, ST_NOMEM,
                         "the %lld tokens' tensors take %.1f MB but the limit is %.1f MB: raise --mem or give fewer "
                         "tokens",
                         (long long)f->tokens, bytes / 1e6, limit / 1e6);
    return ST_OK;
}

Status forward_write(Runner *r, const TokenSet *t, const char *path, Error *err)
{
    if (t->samples != 1 || t->start[1] < 1)
        return error_set(err, ST_USAGE, "a forward pass takes one text of at least one token, not %d texts",
                         t->samples);
    Forward f = {.r = r, .m = runner_model(r), .tokens = t->start[1]};
    RETURN_IF_ERROR(check_memory(&f, err));
    f.in = mem_zarray((size_t)f.m->nlinears, sizeof *f.in);
    f.rows = mem_zarray((size_t)f.m->nlinears, sizeof *f.rows);
    f.attn = mem_zarray(2 * (size_t)f.m->cfg.layers, sizeof *f.attn);
    for (int i = 0; i < 3; i++)
        f.router[i] = mem_zarray((size_t)f.m->cfg.layers, sizeof **f.router);
    f.ffn = mem_zarray((size_t)f.m->cfg.layers, sizeof *f.ffn);
    bool ready = f.in && f.rows && f.attn && f.ffn && f.router[0] && f.router[1] && f.router[2];
    Status st = ready ? run_all(&f, t, err) : error_nomem(err, "the forward pass");
    if (st == ST_OK) {
        const char *const about[] = {"arithmetic", arith_name(runner_arith(r)), NULL};
        if (arith_table[runner_arith(r)].rounds)
            to_model_dtype(&f.all, f.m->cfg.dtype);
        st = safetensors_write(path, f.all.t, (int64_t)f.all.n, about, err);
    }
    for (size_t i = 0; i < f.all.n; i++)
        free((void *)(uintptr_t)f.all.t[i].data);
    for (int64_t i = 0; f.in && i < f.m->nlinears; i++)
        if (f.m->linears[i].expert >= 0)
            free(f.in[i]);
    for (int i = 0; i < 3; i++)
        free(f.router[i]);
    free(f.rows);
    free(f.all.wide);
    free(f.all.t);
    arena_free(&f.all.arena);
    free(f.in);
    free(f.attn);
    free(f.ffn);
    return st;
}
