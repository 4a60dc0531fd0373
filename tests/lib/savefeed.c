#include "tests/lib/savefeed.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "io/file.h"
#include "io/json.h"
#include "math/convert.h"
#include "save/marks.h"
#include "tests/lib/configs.h"
#include "tests/lib/savechanged.h"
#include "tests/lib/tempdir.h"

static void join(char out[512], const char *a, const char *b)
{
    snprintf(out, 512, "%s/%s", a, b);
}

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

const TensorInfo *savefeed_find(const SaveFeed *f, const char *name, const Checkpoint **c)
{
    for (int i = 0; i < f->nfiles; i++) {
        const TensorInfo *t = checkpoint_find(f->files[i], name);
        if (t) {
            *c = f->files[i];
            return t;
        }
    }
    return NULL;
}

static void *bytes_of(const SaveFeed *f, const char *module, const char *suffix, const TensorInfo **info)
{
    char name[300];
    const Checkpoint *c;
    Error err = {0};
    snprintf(name, sizeof name, "%s%s", module, suffix);
    const TensorInfo *t = savefeed_find(f, name, &c);
    if (info)
        *info = t;
    if (!t)
        return NULL;
    void *p = malloc(t->nbytes + 1);
    assert_non_null(p);
    ok(checkpoint_read(c, t, 0, t->nbytes, p, &err), &err);
    return p;
}

float *savefeed_floats(const SaveFeed *f, const char *module, const char *suffix)
{
    const TensorInfo *t;
    void *raw = bytes_of(f, module, suffix, &t);
    if (!raw || t->dtype == DT_F32)
        return raw;
    size_t n = t->nbytes / 2;
    float *v = malloc(n * sizeof *v);
    assert_non_null(v);
    for (size_t i = 0; i < n; i++) {
        uint16_t h = ((uint16_t *)raw)[i];
        v[i] = t->dtype == DT_BF16 ? bf16_to_float(h) : f16_to_float(h);
    }
    free(raw);
    return v;
}

static bool has(const SaveFeed *f, const char *module, const char *suffix)
{
    char name[300];
    const Checkpoint *c;
    snprintf(name, sizeof name, "%s%s", module, suffix);
    return savefeed_find(f, name, &c) != NULL;
}

/* compressed-tensors keeps no labels: what is there tells. */
static const char *label_of(const SaveFeed *f, const char *module)
{
    if (f->labels) {
        char name[300];
        snprintf(name, sizeof name, "%s.weight", module);
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(f->labels, name);
        return cJSON_IsString(v) ? v->valuestring : "FLOAT";
    }
    if (has(f, module, ".input_offset"))
        return "W8A8_MIX";
    if (has(f, module, ".input_scale"))
        return "W8A8";
    if (has(f, module, ".weight_offset"))
        return "W8A16";
    return has(f, module, ".weight_scale") ? "W8A8_DYNAMIC" : "FLOAT";
}

static bool zero(const SaveFeed *f, const char *module, const char *suffix)
{
    const TensorInfo *t;
    bool all = true;
    float *v = savefeed_floats(f, module, suffix);
    if (!v)
        return true;
    free(bytes_of(f, module, suffix, &t));
    int64_t n = t->ndim ? t->shape[0] * (t->ndim > 1 ? t->shape[1] : 1) : 1;
    for (int64_t i = 0; i < n; i++)
        all = all && v[i] == 0;
    free(v);
    return all;
}

/* The first row of the table with this name whose symmetry fits. */
static QConfig config_of(const SaveFeed *f, const char *module, const char *label, int64_t in)
{
    QConfig q = {0};
    const TensorInfo *t = NULL;
    free(bytes_of(f, module, ".weight_scale", &t));
    int64_t groups = t && t->ndim > 1 ? t->shape[1] : 1;
    bool act_sym = f->labels ? zero(f, module, ".input_offset") : !has(f, module, ".input_zero_point");
    bool grouped = groups > 1 && t->dtype == DT_F32;
    for (const Scheme *s = scheme_table; s->name; s++) {
        if (strcmp(s->name, label) != 0 || (s->weight_scope == QS_PER_GROUP) != grouped)
            continue;
        q.act = (QSpec){.dtype = s->act_type, .scope = s->act_scope, .symmetric = s->act_sym < 0 ? act_sym : s->act_sym,
                        .method = "minmax"};
        q.weight = (QSpec){.dtype = s->weight_type, .scope = s->weight_scope,
                           .symmetric = s->weight_sym < 0 ? zero(f, module, ".weight_offset") : s->weight_sym,
                           .method = "minmax", .ext.group_size = grouped ? in / groups : 0};
        return q;
    }
    fail_msg("no scheme called %s", label);
    return q;
}

static void open_files(SaveFeed *f, const char *out)
{
    DIR *d = opendir(out);
    const struct dirent *e;
    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        char path[512];
        Error err = {0};
        size_t n = strlen(e->d_name);
        join(path, out, e->d_name);
        if (n > 12 && strcmp(e->d_name + n - 12, ".safetensors") == 0) {
            assert_true(f->nfiles < 16);
            ok(checkpoint_open(&f->files[f->nfiles++], path, &err), &err);
        } else if (strncmp(e->d_name, "quant_model_description", 23) == 0 && !f->labels) {
            ok(json_parse_file(path, 1 << 20, &f->labels, &err), &err);
        }
    }
    closedir(d);
}

void savefeed_open(SaveFeed *f, const char *model, const char *out, int fp32_from)
{
    Error err = {0};
    *f = (SaveFeed){.fp32_from = fp32_from};
    ok(model_open(&f->m, model, NULL, &err), &err);
    open_files(f, out);
    f->level = calloc((size_t)f->m->nlinears, sizeof *f->level);
    f->cache_layer = calloc((size_t)f->m->cfg.layers, sizeof *f->cache_layer);
    for (int64_t i = 0; i < f->m->nlinears; i++) {
        const Linear *l = &f->m->linears[i];
        char label[64];
        snprintf(label, sizeof label, "%s", label_of(f, l->name));
        (void)label_unmark(label);
        if (strcmp(label, "FLOAT") == 0)
            continue;
        QConfig q = config_of(f, l->name, label, l->in);
        int k = 0;
        while (k < f->nlevels && !config_equal(&f->levels[k], &q))
            k++;
        assert_true(k < 8);
        if (k == f->nlevels)
            f->levels[f->nlevels++] = q;
        f->level[i] = (int16_t)(k + 1);
    }
    for (int i = 0; i < f->m->cfg.layers; i++) {
        char name[96];
        const Checkpoint *c;
        snprintf(name, sizeof name, "model.layers.%d.self_attn.k_proj.kv_cache_scale", i);
        const TensorInfo *t = savefeed_find(f, name, &c);
        f->cache_layer[i] = t != NULL;
        f->cache_dtype = t ? t->dtype : f->cache_dtype;
        f->any_cache = f->any_cache || t;
    }
    savechanged_find(f, out);
}

void savefeed_close(SaveFeed *f)
{
    for (int i = 0; i < f->nfiles; i++)
        checkpoint_free(f->files[i]);
    savechanged_free(f);
    cJSON_Delete(f->labels);
    free(f->level);
    free(f->cache_layer);
    model_free(f->m);
}

/* max |w| / 127 in the model's arithmetic: what a static scheme does not store. */
static float *row_scales(const SaveFeed *f, int64_t i)
{
    const Linear *l = &f->m->linears[i];
    Error err = {0};
    uint8_t *raw = malloc(l->weight->nbytes);
    float *s = malloc((size_t)l->out * sizeof *s);
    assert_non_null(raw);
    assert_non_null(s);
    ok(checkpoint_read(f->m->ckpt, l->weight, 0, l->weight->nbytes, raw, &err), &err);
    for (int64_t o = 0; o < l->out; o++) {
        float mx = 0;
        for (int64_t k = 0; k < l->in; k++) {
            float v;
            if (l->weight->dtype == DT_F32)
                memcpy(&v, raw + (size_t)(o * l->in + k) * 4, 4);
            else {
                uint16_t h;
                memcpy(&h, raw + (size_t)(o * l->in + k) * 2, 2);
                v = l->weight->dtype == DT_BF16 ? bf16_to_float(h) : f16_to_float(h);
            }
            v = v < 0 ? -v : v;
            mx = v > mx ? v : mx;
        }
        mx /= 127;
        s[o] = l->weight->dtype == DT_BF16   ? bf16_to_float(bf16_of_float(mx))
               : l->weight->dtype == DT_F16 ? f16_to_float(f16_of_float(mx)) : mx;
    }
    free(raw);
    return s;
}

/* Whether these scales of the rows are those behind the recorded deq_scale. */
static bool gives_deq(const SaveFeed *f, const Linear *l, const float *scale)
{
    float *is = savefeed_floats(f, l->name, ".input_scale");
    const TensorInfo *t;
    uint32_t *raw = bytes_of(f, l->name, ".deq_scale", &t);
    bool same = true;
    for (int64_t o = 0; o < l->out && same; o++) {
        float deq, p = scale[o] * is[0];
        memcpy(&deq, &raw[t->dtype == DT_I64 ? 2 * o : o], 4);
        same = fabsf(p - deq) <= 0.01f * deq; /* rounded to the model's type or not */
    }
    free(raw);
    free(is);
    return same;
}

static void unpack(const QSpec *q, const uint8_t *raw, const TensorInfo *t, const Linear *l, uint8_t *code)
{
    if (q->dtype == QT_MXFP4) {
        assert_int_equal(t->nbytes * 2, l->out * l->in);
        for (int64_t i = 0; i < l->out * l->in; i++)
            code[i] = i % 2 ? raw[i / 2] >> 4 : raw[i / 2] & 15;
    } else if (q->dtype == QT_INT4 && t->shape[0] * 2 == l->out) {
        for (int64_t o = 0; o < l->out; o++)
            for (int64_t k = 0; k < l->in; k++) {
                int v = raw[o / 2 * l->in + k];
                v = o % 2 ? v >> 4 : v & 15;
                code[o * l->in + k] = (uint8_t)(int8_t)(v > 7 ? v - 16 : v);
            }
    } else {
        assert_int_equal(t->nbytes, l->out * l->in);
        memcpy(code, raw, t->nbytes);
    }
}

void savefeed_linear(const SaveFeed *f, int64_t i, SaveLinear *l, QWeight *w)
{
    const Linear *n = &f->m->linears[i];
    const QConfig *q = &f->levels[f->level[i] - 1];
    const TensorInfo *t, *s = NULL;
    DType md = n->weight->dtype;
    uint8_t *raw = bytes_of(f, n->name, ".weight", &t);
    *w = (QWeight){.dtype = q->weight.dtype, .scope = q->weight.scope, .symmetric = q->weight.symmetric,
                   .out = n->out, .in = n->in};
    w->code = malloc((size_t)(n->out * n->in));
    unpack(&q->weight, raw, t, n, w->code);
    free(raw);
    free(bytes_of(f, n->name, ".weight_scale", &s));
    w->groups = s && s->ndim > 1 ? s->shape[1] : 1;
    w->group = q->weight.dtype == QT_MXFP8 || q->weight.dtype == QT_MXFP4 ? 32 : n->in / w->groups;
    if (w->group == 32 && s && s->dtype == DT_U8)
        w->exponent = bytes_of(f, n->name, ".weight_scale", NULL);
    else
        w->scale = s ? savefeed_floats(f, n->name, ".weight_scale") : row_scales(f, i);
    if (!s && has(f, n->name, ".deq_scale") && !gives_deq(f, n, w->scale)) { /* the weight was another one */
        free(w->scale);
        w->scale = savechanged_scales(f, n);
    }
    if (!q->weight.symmetric)
        w->offset = savefeed_floats(f, n->name, ".weight_offset");
    *l = (SaveLinear){.linear = i, .config = q, .scheme = scheme_find(q), .weight = w,
                      .act_dtype = n->layer >= f->fp32_from ? DT_F32 : md};
    float *is = savefeed_floats(f, n->name, ".input_scale"), *io = savefeed_floats(f, n->name, ".input_offset");
    if (!io)
        io = savefeed_floats(f, n->name, ".input_zero_point");
    l->has_act = is != NULL;
    l->act = (QParam){is ? is[0] : 0, io ? io[0] : 0};
    free(is);
    free(io);
    if (n->bias) {
        SaveFeed own = {.nfiles = 1, .files = {f->m->ckpt}};
        l->bias = savefeed_floats(&own, n->bias->name, "");
    } else {
        l->bias = savefeed_floats(f, n->name, ".bias");
    }
}

void savefeed_drop(SaveLinear *l, QWeight *w)
{
    free(w->code);
    free(w->scale);
    free(w->offset);
    free(w->exponent);
    free((void *)l->bias);
}

static void feed_cache(const SaveFeed *f, const SaveFormat *s, void *self, int layer)
{
    static const char *const suffix[] = {".k_proj.kv_cache_scale", ".k_proj.kv_cache_offset", ".v_proj.kv_cache_scale",
                                         ".v_proj.kv_cache_offset"};
    char name[96];
    float *v[4];
    Error err = {0};
    const Unit *lt = &f->m->units[layer];
    snprintf(name, sizeof name, "model.layers.%d.self_attn", layer);
    for (int k = 0; k < 4; k++)
        v[k] = savefeed_floats(f, name, suffix[k]);
    SaveCache c = {.layer = layer, .attention = name, .n = f->m->linears[unit_linear(lt, "k")].out,
                   .k_scale = v[0], .k_offset = v[1], .v_scale = v[2], .v_offset = v[3], .dtype = f->cache_dtype};
    ok(s->ops->cache(self, &c, &err), &err);
    for (int k = 0; k < 4; k++)
        free(v[k]);
}

void savefeed_layer(const SaveFeed *f, const SaveFormat *s, void *self, int layer)
{
    const Unit *lt = &f->m->units[layer];
    for (int32_t i = lt->first; i < lt->first + lt->count; i++) {
        SaveLinear l;
        QWeight w;
        Error err = {0};
        if (f->level[i] == 0)
            continue;
        savefeed_linear(f, i, &l, &w);
        ok(s->ops->linear(self, &l, &err), &err);
        savefeed_drop(&l, &w);
    }
    if (f->cache_layer[layer])
        feed_cache(f, s, self, layer);
    savechanged_give(f, s, self, layer);
}

SavePlan savefeed_plan(const SaveFeed *f, const char *dir, bool peer)
{
    return (SavePlan){.model = f->m, .dir = dir, .model_type = "", .part_file_size = 4, .levels = f->levels,
                      .nlevels = f->nlevels, .level = f->level, .cache_layer = f->any_cache ? f->cache_layer : NULL,
                      .cache_dtype = f->cache_dtype, .overlay = f->overlay, .changes = f->changes, .peer = peer};
}

void savefeed_layers(const SaveFeed *f, const SaveFormat *s, void *self, int from, int to)
{
    Error err = {0};
    for (int i = from; i < to; i++) {
        savefeed_layer(f, s, self, i);
        ok(s->ops->layer_done(self, i, &err), &err);
    }
}

void *savefeed_start(const SaveFormat *s, const SavePlan *plan)
{
    Error err = {0};
    void *self;
    int first = -1;
    ok(s->ops->check(s, plan, &err), &err);
    ok(s->ops->open(&self, s, plan, false, &first, &err), &err);
    assert_int_equal(first, 0);
    return self;
}

void savefeed_end(const SaveFeed *f, const SaveFormat *s, void *self, int from)
{
    Error err = {0};
    savefeed_layers(f, s, self, from, f->m->cfg.layers);
    ok(s->ops->finish(self, &err), &err);
    s->ops->close(self, false);
}


void assert_same_file(const char *a, const char *b)
{
    size_t na, nb, i = 0;
    char *x = temp_get(a, &na), *y = temp_get(b, &nb);
    while (i < na && i < nb && x[i] == y[i])
        i++;
    if (na != nb || i < na)
        fail_msg("%s and %s differ at byte %zu of %zu and %zu", a, b, i, na, nb);
    free(x);
    free(y);
}
