#include "model/model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/map.h"
#include "base/str.h"
#include "io/file.h"
#include "model/config.h"

enum { CONFIG_MAX = 10000000, LINEARS_PER_LAYER = 7, GROUPS_PER_LAYER = 4 };

/* What building one model needs besides the model. */
typedef struct Open {
    Model *m;
    Map used; /* names of the tensors the decoder uses */
    Error *err;
} Open;

/* The file a tensor's error is about: its own, or (missing tensors) the folder's only one or index. */
static const char *file_of(const Open *o, const TensorInfo *t)
{
    const Checkpoint *c = o->m->ckpt;
    return t || checkpoint_files(c) == 1 ? checkpoint_file_path(c, t ? t->file : 0) : o->m->path;
}

static bool float_dtype(DType t)
{
    return t == DT_F32 || t == DT_F16 || t == DT_BF16;
}

static void shape_text(Str *b, int ndim, const int64_t *shape)
{
    str_putc(b, '[');
    for (int i = 0; i < ndim; i++)
        str_printf(b, "%s%lld", i ? "," : "", (long long)shape[i]);
    str_putc(b, ']');
}

static Status wrong_shape(Open *o, const TensorInfo *t, int ndim, const int64_t *want, const char *keys)
{
    Str a = {0}, b = {0};
    shape_text(&a, t->ndim, t->shape);
    shape_text(&b, ndim, want);
    error_set(o->err, ST_DATA, "'%s': tensor '%s' has shape %s, config.json says %s (%s)", file_of(o, t), t->name,
              str_text(&a), str_text(&b), keys);
    str_free(&a);
    str_free(&b);
    return ST_DATA;
}

/* Finds tensor `name` of shape [rows] (cols 0) or [rows][cols]. `keys` names the config keys the shape comes from.
 * Absent: *out NULL when optional, else an error. */
static Status take(Open *o, const char *name, bool optional, int64_t rows, int64_t cols, const char *keys,
                   const TensorInfo **out)
{
    const TensorInfo *t = checkpoint_find(o->m->ckpt, name);
    *out = t;
    if (!t && optional)
        return ST_OK;
    if (!t)
        return error_set(o->err, ST_DATA, "'%s': tensor '%s' is missing", file_of(o, NULL), name);
    if (!float_dtype(t->dtype))
        return error_set(o->err, ST_DATA, "'%s': tensor '%s' is %s: only F32, F16 and BF16 weights can be used",
                         file_of(o, t), name, dtype_name(t->dtype));
    int64_t want[2] = {rows, cols};
    int ndim = cols ? 2 : 1;
    if (t->ndim != ndim || t->shape[0] != rows || (cols && t->shape[1] != cols))
        return wrong_shape(o, t, ndim, want, keys);
    bool added;
    if (!map_add(&o->used, t->name, strlen(t->name), 0, &added))
        return error_nomem(o->err, "the model's tensors");
    if (added)
        o->m->params += rows * (cols ? cols : 1); /* fits: nbytes of the tensor does */
    return ST_OK;
}

static Status take_norm(Open *o, int layer, const char *what, int64_t n, const char *keys, const TensorInfo **out)
{
    char name[128];
    snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, what);
    return take(o, name, false, n, 0, keys, out);
}

/* The linears of a layer in definition order. rows and cols are filled per model. */
typedef struct LinearSpec {
    const char *module, *keys;
    LinearKind kind;
    int group_first, group_count; /* within the layer */
    const char *label;
} LinearSpec;

static const LinearSpec layer_linears[LINEARS_PER_LAYER] = {
    {"self_attn.q_proj", "num_attention_heads x head_dim, hidden_size", LK_Q, 0, 3, "qkv"},
    {"self_attn.k_proj", "num_key_value_heads x head_dim, hidden_size", LK_K, 0, 3, "qkv"},
    {"self_attn.v_proj", "num_key_value_heads x head_dim, hidden_size", LK_V, 0, 3, "qkv"},
    {"self_attn.o_proj", "hidden_size, num_attention_heads x head_dim", LK_O, 3, 1, "."},
    {"mlp.gate_proj", "intermediate_size, hidden_size", LK_GATE, 4, 2, "gu"},
    {"mlp.up_proj", "intermediate_size, hidden_size", LK_UP, 4, 2, "gu"},
    {"mlp.down_proj", "hidden_size, intermediate_size", LK_DOWN, 6, 1, "."},
};

static void linear_size(const ModelConfig *c, LinearKind kind, int64_t *out, int64_t *in)
{
    int64_t q = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    *in = kind == LK_O ? q : kind == LK_DOWN ? c->inter : c->hidden;
    *out = kind == LK_Q                       ? q
           : kind == LK_K || kind == LK_V     ? kv
           : kind == LK_GATE || kind == LK_UP ? c->inter
                                              : c->hidden;
}

static Status take_linear(Open *o, int layer, const LinearSpec *s, Linear *l)
{
    char name[128];
    snprintf(name, sizeof name, "model.layers.%d.%s", layer, s->module);
    l->name = arena_strdup(&o->m->arena, name);
    if (!l->name || !map_add(&o->m->by_name, l->name, strlen(l->name), l - o->m->linears, NULL))
        return error_nomem(o->err, "the model's layers");
    l->layer = layer;
    l->kind = s->kind;
    linear_size(&o->m->cfg, s->kind, &l->out, &l->in);
    snprintf(name, sizeof name, "%s.weight", l->name);
    RETURN_IF_ERROR(take(o, name, false, l->out, l->in, s->keys, &l->weight));
    snprintf(name, sizeof name, "%s.bias", l->name);
    return take(o, name, true, l->out, 0, s->keys, &l->bias);
}

static Status take_layer(Open *o, int layer)
{
    Model *m = o->m;
    LayerTensors *lt = &m->layers[layer];
    RETURN_IF_ERROR(take_norm(o, layer, "input_layernorm", m->cfg.hidden, "hidden_size", &lt->input_norm));
    RETURN_IF_ERROR(take_norm(o, layer, "post_attention_layernorm", m->cfg.hidden, "hidden_size", &lt->post_norm));
    if (m->arch->qk_norm) {
        RETURN_IF_ERROR(take_norm(o, layer, "self_attn.q_norm", m->cfg.head_dim, "head_dim", &lt->q_norm));
        RETURN_IF_ERROR(take_norm(o, layer, "self_attn.k_norm", m->cfg.head_dim, "head_dim", &lt->k_norm));
    }
    int32_t base = (int32_t)m->nlinears;
    for (int i = 0; i < LINEARS_PER_LAYER; i++) {
        const LinearSpec *s = &layer_linears[i];
        Linear *l = &m->linears[m->nlinears++];
        RETURN_IF_ERROR(take_linear(o, layer, s, l));
        l->input = base + s->group_first;
        if (s->group_first == i) {
            FusedGroup *g = &m->groups[m->ngroups++];
            g->first = base + i;
            g->count = s->group_count;
            snprintf(g->label, sizeof g->label, "%s", s->label);
        }
        l->group = (int32_t)m->ngroups - 1;
    }
    lt->q = base;
    lt->k = base + 1;
    lt->v = base + 2;
    lt->o = base + 3;
    lt->gate = base + 4;
    lt->up = base + 5;
    lt->down = base + 6;
    return ST_OK;
}

static Status take_all(Open *o, bool has_dtype)
{
    Model *m = o->m;
    ModelConfig *c = &m->cfg;
    size_t layers = (size_t)c->layers;
    m->linears = mem_zarray(layers * LINEARS_PER_LAYER, sizeof *m->linears);
    m->groups = mem_zarray(layers * GROUPS_PER_LAYER, sizeof *m->groups);
    m->layers = mem_zarray(layers, sizeof *m->layers);
    if (!m->linears || !m->groups || !m->layers)
        return error_nomem(o->err, "the model's layers");
    static const char table[] = "vocab_size, hidden_size";
    RETURN_IF_ERROR(take(o, "model.embed_tokens.weight", false, c->vocab, c->hidden, table, &m->embed));
    for (int i = 0; i < c->layers; i++)
        RETURN_IF_ERROR(take_layer(o, i));
    RETURN_IF_ERROR(take(o, "model.norm.weight", false, c->hidden, 0, "hidden_size", &m->final_norm));
    if (!c->tied)
        RETURN_IF_ERROR(take(o, "lm_head.weight", true, c->vocab, c->hidden, table, &m->head));
    if (!m->head) {
        m->head = m->embed;
        c->tied = true;
    }
    if (!has_dtype)
        c->dtype = m->embed->dtype;
    return ST_OK;
}

/* The first tensor of a decoder layer that has no place in it; *count of them. rotary_emb.inv_freq is recomputed. */
static const TensorInfo *unused_tensor(const Open *o, int64_t *count)
{
    const Checkpoint *c = o->m->ckpt;
    const TensorInfo *first = NULL;
    *count = 0;
    for (int64_t i = 0; i < checkpoint_count(c); i++) {
        const TensorInfo *t = checkpoint_at(c, i);
        if (strncmp(t->name, "model.layers.", 13) != 0 || strstr(t->name, "rotary_emb.inv_freq") ||
            map_get(&o->used, t->name, strlen(t->name), -1) >= 0)
            continue;
        if (strtol(t->name + 13, NULL, 10) >= o->m->cfg.layers) /* multi-token prediction layers */
            continue;
        first = first ? first : t;
        ++*count;
    }
    return first;
}

static void warn(Str *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void warn(Str *w, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (w->len)
        str_puts(w, "; ");
    str_vprintf(w, fmt, ap);
    va_end(ap);
}

static Status check_unused(Open *o, bool known, Str *w)
{
    int64_t n;
    const TensorInfo *t = unused_tensor(o, &n);
    if (!t)
        return ST_OK;
    if (!known)
        return error_set(o->err, ST_DATA, "'%s': tensor '%s' has no place in a Llama decoder", file_of(o, t), t->name);
    warn(w, "%lld tensors of the decoder layers are not used, the first is '%s'", (long long)n, t->name);
    return ST_OK;
}

/* What the user's --model_type (may be NULL) has to say about the type found in config.json. */
static void check_user_type(const Model *m, const char *user, bool known, Str *w)
{
    const char *type = m->cfg.model_type;
    if (!known)
        warn(w, "model_type '%s' is not built in: its tensors fit a Llama decoder, so it runs as one; compare a result "
                "before you trust it", type);
    if (!user || strcmp(user, type) == 0)
        return;
    const Arch *a = arch_find(user);
    if (!a)
        warn(w, "--model_type '%s' is not known: config.json says '%s', which is used", user, type);
    else if (a != m->arch || !known)
        warn(w, "--model_type '%s' means '%s', but config.json says '%s', which is used", user, a->model_type, type);
}

static void fingerprint(Model *m, const char *config, size_t len)
{
    Hasher h;
    hasher_init(&h);
    hasher_u64(&h, len);
    hasher_bytes(&h, config, len);
    hasher_str(&h, checkpoint_fingerprint(m->ckpt));
    Digest d = hasher_end(&h);
    digest_hex(&d, m->fingerprint);
}

/* config.json into m->cfg and m->arch. */
static Status read_config(Model *m, const cJSON *root, const char *path, bool *known, bool *has_dtype, Error *err)
{
    if (!cJSON_IsObject(root))
        return error_set(err, ST_DATA, "'%s': expected an object", path);
    const cJSON *config = config_text(root);
    Status st = config_model_type(config, m->cfg.model_type, err);
    if (st == ST_OK) {
        m->arch = arch_find(m->cfg.model_type);
        *known = m->arch != NULL;
        if (!m->arch)
            m->arch = arch_find("llama");
        if (!m->arch)
            return error_set(err, ST_INTERNAL, "no row for 'llama' in the table of architectures");
        st = config_read(config, m->arch, *known, &m->arena, &m->cfg, has_dtype, err);
    }
    if (st == ST_DATA)
        error_prefix(err, "'%s': ", path);
    return st;
}

static Status build(Open *o, const char *dir, bool known, bool has_dtype, const char *user_type)
{
    Model *m = o->m;
    Str w = {0};
    Status st = checkpoint_open(&m->ckpt, dir, o->err);
    if (st == ST_OK)
        st = take_all(o, has_dtype);
    if (st == ST_OK)
        st = check_unused(o, known, &w);
    if (st == ST_OK)
        check_user_type(m, user_type, known, &w);
    if (st == ST_OK && (w.oom || (w.len && !(m->warning = arena_strdup(&m->arena, w.s)))))
        st = error_nomem(o->err, "the model");
    str_free(&w);
    return st;
}

/* Names the built-in types in front of an error about a type that has no row. */
static void explain_unknown(const Model *m, Error *err)
{
    Str b = {0};
    for (const Arch *const *a = arch_table; *a; a++)
        str_printf(&b, "%s%s", b.len ? ", " : "", (*a)->model_type);
    error_prefix(err, "model_type '%s' is not built in (%s are) and cannot run as a Llama: ", m->cfg.model_type,
                 str_text(&b));
    str_free(&b);
}

static Status open_in(Model *m, const char *config_path, const char *user_type, Error *err)
{
    char *text;
    size_t len;
    cJSON *root;
    bool known = true, has_dtype = false;
    RETURN_IF_ERROR(file_read(config_path, CONFIG_MAX, &text, &len, err));
    Status st = json_parse(text, len, config_path, &root, err);
    if (st == ST_OK)
        st = read_config(m, root, config_path, &known, &has_dtype, err);
    cJSON_Delete(root);
    if (st == ST_OK) {
        Open o = {.m = m, .err = err};
        st = build(&o, m->path, known, has_dtype, user_type);
        map_free(&o.used);
    }
    if (st == ST_OK)
        fingerprint(m, text, len);
    else if (st == ST_DATA && !known)
        explain_unknown(m, err);
    free(text);
    return st;
}

Status model_open(Model **out, const char *path, const char *model_type, Error *err)
{
    *out = NULL;
    Model *m = calloc(1, sizeof *m);
    char *config_path = path_join(path, "config.json");
    Status st;
    if (!m || !config_path || !(m->path = strdup(path)))
        st = error_nomem(err, "a model");
    else
        st = open_in(m, config_path, model_type, err);
    free(config_path);
    if (st != ST_OK) {
        model_free(m);
        return st;
    }
    *out = m;
    return ST_OK;
}

void model_free(Model *m)
{
    if (!m)
        return;
    checkpoint_free(m->ckpt);
    map_free(&m->by_name);
    free(m->linears);
    free(m->groups);
    free(m->layers);
    free(m->path);
    arena_free(&m->arena);
    free(m);
}

int64_t model_find_linear(const Model *m, const char *name)
{
    return map_get(&m->by_name, name, strlen(name), -1);
}
