#include "model/storage.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "base/num.h"
#include "math/convert.h"

enum { STORE_NAME_BYTES = 200, BLOCK_DEFAULT = 128, BLOCK_MAX_VALUES = 1 << 20, MX_GROUP = 32 };

/* ---- codes ---- */

static void e4m3_values(float *lut)
{
    for (int i = 0; i < 256; i++)
        lut[i] = e4m3_to_float((uint8_t)i);
}

static void e2m1_values(float *lut)
{
    for (int i = 0; i < 16; i++)
        lut[i] = e2m1_to_float((uint8_t)i);
}

static void int4_values(float *lut)
{
    for (int i = 0; i < 16; i++)
        lut[i] = (float)(i - 8);
}

static const CodeTable e4m3 = {.bits = 8, .largest = 448, .values = e4m3_values};
static const CodeTable e2m1 = {.bits = 4, .largest = 6, .values = e2m1_values};
static const CodeTable int4 = {.bits = 4, .largest = 8, .values = int4_values};

/* Of rows with the same codes' tensor the one whose scales are there is meant; the first names what is missing. */
const Storage storage_table[] = {
    {.name = "fp8", .title = "FP8 E4M3", .weight = ".weight", .scale = ".weight_scale_inv", .code = &e4m3,
     .dtype = DT_F8_E4M3, .scale_dtype = DT_COUNT, .codes = 1},
    {.name = "fp8", .title = "FP8 E4M3", .weight = "", .scale = "_scale_inv", .code = &e4m3, .dtype = DT_F8_E4M3,
     .scale_dtype = DT_COUNT, .codes = 1},
    {.name = "fp8_e8m0", .title = "FP8 E4M3 with E8M0 scales", .weight = ".weight", .scale = ".scale", .code = &e4m3,
     .dtype = DT_F8_E4M3, .scale_dtype = DT_F8_E8M0, .codes = 1},
    {.name = "fp4_e8m0", .title = "FP4 E2M1 with E8M0 scales", .weight = ".weight", .scale = ".scale", .code = &e2m1,
     .dtype = DT_I8, .scale_dtype = DT_F8_E8M0, .codes = 2, .group = MX_GROUP},
    {.name = "int4_packed", .title = "packed INT4", .weight = ".weight_packed", .scale = ".weight_scale",
     .shape = ".weight_shape", .refused = ".weight_zero_point", .code = &int4, .dtype = DT_I32,
     .scale_dtype = DT_COUNT, .codes = 8, .group = -1},
    {.name = "mxfp4", .title = "MXFP4", .weight = "_blocks", .scale = "_scales", .code = &e2m1, .dtype = DT_U8,
     .scale_dtype = DT_U8, .codes = 2, .group = MX_GROUP},
    {0},
};

/* ---- config.json ---- */

static Status refused(Error *err, const char *what, const char *value)
{
    return error_set(err, ST_DATA,
                     "'quantization_config': %s '%s' is not read (fp8 and mxfp4 are, and compressed-tensors' "
                     "pack-quantized): give the checkpoint it was made from", what, value);
}

static Status read_fp8(const cJSON *q, ModelConfig *cfg, bool *foreign, Error *err)
{
    const char *fmt = "e4m3";
    RETURN_IF_ERROR(json_str(q, "fmt", &fmt, NULL, err));
    *foreign = strcmp(fmt, "e4m3") != 0;
    if (*foreign)
        return refused(err, "fmt", fmt);
    const cJSON *b = json_get(q, "weight_block_size");
    if (!b)
        return ST_OK;
    int64_t *const out[] = {&cfg->block_out, &cfg->block_in};
    bool good = cJSON_IsArray(b) && cJSON_GetArraySize(b) == 2;
    for (int i = 0; i < 2 && good; i++) {
        const cJSON *n = cJSON_GetArrayItem(b, i);
        good = cJSON_IsNumber(n) && n->valuedouble >= 1 && n->valuedouble <= BLOCK_MAX_VALUES &&
               n->valuedouble == (double)(int64_t)n->valuedouble;
        *out[i] = good ? (int64_t)n->valuedouble : 0;
    }
    return good ? ST_OK : error_set(err, ST_DATA, "'quantization_config': 'weight_block_size' must be two whole "
                                                  "numbers from 1 to %d", BLOCK_MAX_VALUES);
}

/* compressed-tensors: every group of linears must be coded as symmetric integers of 4 bits. */
static Status read_compressed(const cJSON *q, ModelConfig *cfg, bool *foreign, Error *err)
{
    (void)cfg;
    const char *format = "pack-quantized";
    RETURN_IF_ERROR(json_str(q, "format", &format, NULL, err));
    *foreign = strcmp(format, "pack-quantized") != 0;
    if (*foreign)
        return refused(err, "compressed-tensors format", format);
    const cJSON *groups = json_get(q, "config_groups");
    for (const cJSON *g = cJSON_IsObject(groups) ? groups->child : NULL; g; g = g->next) {
        const cJSON *w = json_get(g, "weights");
        int64_t bits = 4;
        bool symmetric = true;
        const char *type = "int";
        if (!cJSON_IsObject(w))
            continue;
        RETURN_IF_ERROR(json_int(w, "num_bits", &bits, NULL, err));
        RETURN_IF_ERROR(json_bool(w, "symmetric", &symmetric, NULL, err));
        RETURN_IF_ERROR(json_str(w, "type", &type, NULL, err));
        char text[80];
        snprintf(text, sizeof text, "%lld-bit %s%.30s", (long long)bits, symmetric ? "" : "asymmetric ", type);
        *foreign = bits != 4 || !symmetric || strcmp(type, "int") != 0;
        if (*foreign)
            return refused(err, "pack-quantized of", text);
    }
    return ST_OK;
}

static const struct {
    const char *name;
    Status (*read)(const cJSON *q, ModelConfig *cfg, bool *foreign, Error *err); /* NULL: nothing but the method matters */
} methods[] = {{"fp8", read_fp8}, {"compressed-tensors", read_compressed}, {"mxfp4", NULL}};

Status storage_config(const cJSON *root, const cJSON *config, ModelConfig *cfg, bool *foreign, Error *err)
{
    *foreign = false;
    const cJSON *q = json_get(config, "quantization_config");
    q = q ? q : json_get(root, "quantization_config");
    cfg->block_out = cfg->block_in = BLOCK_DEFAULT;
    if (!q)
        return ST_OK;
    if (!cJSON_IsObject(q))
        return error_set(err, ST_DATA, "'quantization_config' must be an object");
    const char *method = NULL;
    RETURN_IF_ERROR(json_str(q, "quant_method", &method, NULL, err));
    if (!method)
        return error_set(err, ST_DATA, "'quantization_config': 'quant_method' is missing");
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strcmp(methods[i].name, method) == 0)
            return methods[i].read ? methods[i].read(q, cfg, foreign, err) : ST_OK;
    *foreign = true;
    return refused(err, "quant_method", method);
}

/* ---- tensors ---- */

static const TensorInfo *find(const Checkpoint *c, const char *base, const char *end)
{
    char name[STORE_NAME_BYTES];
    size_t n = text_join(name, sizeof name, (const char *const[]){base, end}, 2);
    return n > 0 && n < STORE_NAME_BYTES ? checkpoint_find(c, name) : NULL;
}

/* The row that codes `base`, NULL when it isn't coded. */
static const Storage *storage_of(const Checkpoint *c, const char *base)
{
    const Storage *first = NULL;
    for (const Storage *s = storage_table; s->name; s++) {
        const TensorInfo *t = checkpoint_has(c, s->dtype) ? find(c, base, s->weight) : NULL;
        if (!t || t->dtype != s->dtype)
            continue;
        if (find(c, base, s->scale))
            return s;
        first = first ? first : s;
    }
    return first;
}

bool storage_found(const Open *o, const char *base)
{
    return storage_of(o->m->ckpt, base) != NULL;
}

/* Codes or scales against the shape they must have; ndim up to TENSOR_MAX_DIMS. */
static Status check_shape(const Open *o, const TensorInfo *t, int ndim, const int64_t *want, const char *why)
{
    bool same = t->ndim == ndim;
    Str got = {0}, need = {0};
    for (int i = 0; i < t->ndim; i++)
        str_printf(&got, "%s%lld", i ? "," : "", (long long)t->shape[i]);
    for (int i = 0; i < ndim; i++) {
        same = same && t->shape[i] == want[i];
        str_printf(&need, "%s%lld", i ? "," : "", (long long)want[i]);
    }
    Status st = same ? ST_OK : error_set(o->err, ST_DATA, "'%s': tensor '%s' has shape [%s], expected [%s] (%s)",
                                         open_file_of(o, t), t->name, str_text(&got), str_text(&need), why);
    str_free(&got);
    str_free(&need);
    return st;
}

/* Storages that are not read, by what they put beside a weight or in its place. */
static const struct {
    const char *end, *other; /* ends of tensor names; other: also there, NULL: none */
    const char *what;
} foreign_storages[] = {
    {".qweight", ".g_idx", "GPTQ"},
    {".qweight", NULL, "AWQ or GPTQ"},
    {".weight.absmax", NULL, "bitsandbytes with 4 bits"},
    {".SCB", NULL, "bitsandbytes with 8 bits"},
    {".weight_scale_2", NULL, "NVFP4"},
    {".W_q", NULL, "HQQ"},
    {".weight._data", NULL, "quanto"},
    {".weight_offset", NULL, "integers with offsets, as quantized models have them"},
    {".weight_scale", NULL, "codes with a scale for each tensor or row"},
};

bool storage_foreign(const Open *o, const char *base, char *text, size_t size)
{
    for (size_t i = 0; i < sizeof foreign_storages / sizeof *foreign_storages; i++) {
        const TensorInfo *t = find(o->m->ckpt, base, foreign_storages[i].end);
        if (!t || (foreign_storages[i].other && !find(o->m->ckpt, base, foreign_storages[i].other)))
            continue;
        snprintf(text, size, "'%.150s' is there: weights stored as %s are not read: give the checkpoint they were made from",
                 t->name, foreign_storages[i].what);
        return true;
    }
    return false;
}

static Status missing(const Open *o, const char *base, const char *end, const TensorInfo *weight)
{
    char text[400];
    if (storage_foreign(o, base, text, sizeof text))
        return error_set(o->err, ST_DATA, "'%s': tensor '%s' is %s, and %s", open_file_of(o, weight), weight->name,
                         dtype_name(weight->dtype), text);
    return error_set(o->err, ST_DATA, "'%s': tensor '%s%s' is missing: '%s' is %s and means nothing without it",
                     open_file_of(o, NULL), base, end, weight->name, dtype_name(weight->dtype));
}

static bool scale_dtype_fits(const Storage *s, DType t)
{
    return s->scale_dtype == DT_COUNT ? dtype_plain(t) : t == s->scale_dtype;
}

/* Codes' shape: [matrices][rows][elements], MXFP4's with the elements in groups. */
static Status check_codes(const Open *o, const TensorInfo *t, const Storage *s, int64_t matrices, int64_t rows,
                          int64_t in, const char *keys)
{
    int64_t want[TENSOR_MAX_DIMS] = {matrices, rows};
    int n = matrices ? 2 : 1;
    want[n - 1] = rows;
    bool grouped = s->dtype == DT_U8;
    if (s->group > 0 && in % s->group)
        return error_set(o->err, ST_DATA, "'%s': tensor '%s' codes rows of %lld values in groups of %lld (%s)",
                         open_file_of(o, t), t->name, (long long)in, (long long)s->group, keys);
    want[n++] = grouped ? in / s->group : div_up(in, s->codes);
    if (grouped)
        want[n++] = s->group / s->codes;
    return check_shape(o, t, n, want, keys);
}

/* Scales' shape; fills the store's blocks. */
static Status check_scales(const Open *o, int64_t matrices, WeightStore *w)
{
    const TensorInfo *t = w->scale;
    const Storage *s = w->how;
    const ModelConfig *c = &o->m->cfg;
    if (!scale_dtype_fits(s, t->dtype))
        return error_set(o->err, ST_DATA, "'%s': tensor '%s' is %s: the scales of %s weights are %s",
                         open_file_of(o, t), t->name, dtype_name(t->dtype), s->title,
                         s->scale_dtype == DT_COUNT ? "F32, F16 or BF16" : dtype_name(s->scale_dtype));
    w->block_out = s->group ? 1 : c->block_out;
    w->block_in = s->group > 0 ? s->group : c->block_in;
    if (s->group < 0) {
        int64_t cols = t->ndim == 2 ? t->shape[1] : 0;
        if (cols < 1 || w->in % cols)
            return error_set(o->err, ST_DATA, "'%s': tensor '%s' has %lld scales a row, which do not divide %lld "
                                              "values", open_file_of(o, t), t->name, (long long)cols,
                             (long long)w->in);
        w->block_in = w->in / cols;
    }
    int64_t want[3] = {matrices}, n = matrices ? 1 : 0;
    want[n++] = div_up(w->rows, w->block_out);
    want[n++] = div_up(w->in, w->block_in);
    char why[100];
    snprintf(why, sizeof why, "one scale for %lldx%lld values", (long long)w->block_out, (long long)w->block_in);
    return check_shape(o, t, (int)n, want, why);
}

static Status take_rest(Open *o, const char *base, int64_t matrices, WeightStore *w)
{
    const Storage *s = w->how;
    const TensorInfo *extra = s->refused ? find(o->m->ckpt, base, s->refused) : NULL;
    if (extra)
        return error_set(o->err, ST_DATA, "'%s': tensor '%s': %s weights with offsets are not read",
                         open_file_of(o, extra), extra->name, s->title);
    w->shape = s->shape ? find(o->m->ckpt, base, s->shape) : NULL;
    if (w->shape && (w->shape->ndim != 1 || w->shape->shape[0] != 2 ||
                     (w->shape->dtype != DT_I64 && w->shape->dtype != DT_I32)))
        return error_set(o->err, ST_DATA, "'%s': tensor '%s' must be two integers", open_file_of(o, w->shape),
                         w->shape->name);
    RETURN_IF_ERROR(check_scales(o, matrices, w));
    open_use(o, w->scale);
    if (w->shape)
        open_use(o, w->shape);
    return ST_OK;
}

Status storage_take(Open *o, const char *base, int64_t matrices, int64_t rows, int64_t in, const char *keys,
                    const TensorInfo **weight, const WeightStore **store)
{
    const Storage *s = storage_of(o->m->ckpt, base);
    *weight = NULL;
    *store = NULL;
    if (!s)
        return ST_OK;
    const TensorInfo *t = find(o->m->ckpt, base, s->weight);
    WeightStore w = {.how = s, .scale = find(o->m->ckpt, base, s->scale), .rows = rows, .in = in,
                     .row_bytes = div_up(in, s->codes) * dtype_size(s->dtype)};
    if (!w.scale)
        return missing(o, base, s->scale, t);
    RETURN_IF_ERROR(check_codes(o, t, s, matrices, rows, in, keys));
    RETURN_IF_ERROR(take_rest(o, base, matrices, &w));
    WeightStore *kept = arena_alloc(&o->m->arena, sizeof *kept);
    if (!kept)
        return error_nomem(o->err, "the model's tensors");
    if (open_use(o, t))
        o->m->params += (matrices ? matrices : 1) * rows * in; /* fits: the codes' bytes do, eight to an element */
    *kept = w;
    *weight = t;
    *store = kept;
    return ST_OK;
}

Status storage_width(const Model *m, const TensorInfo *t, WeightStore *w, Error *err)
{
    const Open o = {.m = (Model *)(uintptr_t)m, .err = err}; /* only read */
    int64_t shape[2];
    int32_t narrow[2];
    bool wide = w->shape->dtype == DT_I64;
    if (w->shape->ndim != 1 || w->shape->shape[0] != 2 || (!wide && w->shape->dtype != DT_I32))
        return error_set(err, ST_DATA, "'%s': tensor '%s' must be two integers", open_file_of(&o, w->shape), w->shape->name);
    RETURN_IF_ERROR(checkpoint_read(m->ckpt, w->shape, 0, w->shape->nbytes, wide ? (void *)shape : (void *)narrow, err));
    int64_t in = wide ? shape[1] : narrow[1];
    if (in < 1 || div_up(in, w->how->codes) != t->shape[t->ndim - 1])
        return error_set(err, ST_DATA, "'%s': tensor '%s' says rows of %lld values, '%s' has %lld elements in one",
                         open_file_of(&o, w->shape), w->shape->name, (long long)in, t->name, (long long)t->shape[t->ndim - 1]);
    w->in = in;
    return ST_OK;
}

Status storage_scales(const Model *m, int64_t matrices, WeightStore *w, Error *err)
{
    const Open o = {.m = (Model *)(uintptr_t)m, .err = err}; /* only read */
    return check_scales(&o, matrices, w);
}

Status storage_loose(const Model *m, const TensorInfo *t, Linear *l, WeightStore *w, Error *err)
{
    Open o = {.m = (Model *)(uintptr_t)m, .err = err}; /* the checks below only read it */
    const Storage *s = storage_role(m->ckpt, t).how;
    char base[STORE_NAME_BYTES];
    if (!s || t->ndim != 2)
        return error_set(err, ST_DATA, "'%s': tensor '%s' is coded, belongs to no part of the decoder and is no matrix: "
                         "it can't be decoded; --compat peer leaves it out", open_file_of(&o, t), t->name);
    snprintf(base, sizeof base, "%.*s", (int)(strlen(t->name) - strlen(s->weight)), t->name);
    *w = (WeightStore){.how = s, .scale = find(m->ckpt, base, s->scale), .rows = t->shape[0],
                       .in = t->shape[1] * s->codes, .row_bytes = t->shape[1] * dtype_size(s->dtype)};
    w->shape = s->shape ? find(m->ckpt, base, s->shape) : NULL;
    if (w->shape) /* the last element of a row may hold fewer codes */
        RETURN_IF_ERROR(storage_width(m, t, w, err));
    *l = (Linear){.weight = t, .store = w, .out = w->rows, .in = w->in, .layer = -1, .expert = -1};
    if (s->refused && find(m->ckpt, base, s->refused))
        return error_set(err, ST_DATA, "'%s': '%s': %s weights with offsets are not read", open_file_of(&o, t), t->name,
                         s->title);
    RETURN_IF_ERROR(check_scales(&o, 0, w));
    return weight_verify(m, l, err);
}

static bool ends_with(const char *s, size_t n, const char *end)
{
    size_t k = strlen(end);
    return n >= k && memcmp(s + n - k, end, k) == 0;
}

StorageRole storage_role(const Checkpoint *c, const TensorInfo *t)
{
    size_t n = strlen(t->name);
    for (const Storage *s = storage_table; s->name; s++) {
        const char *const end[] = {s->weight, s->scale, s->shape};
        for (int i = 0; i < 3 && checkpoint_has(c, s->dtype); i++) {
            char base[STORE_NAME_BYTES];
            if (!end[i] || !ends_with(t->name, n, end[i]) || n - strlen(end[i]) >= sizeof base)
                continue;
            size_t k = n - strlen(end[i]);
            memcpy(base, t->name, k);
            base[k] = 0;
            const TensorInfo *codes = find(c, base, s->weight), *scales = find(c, base, s->scale);
            if (codes && scales && codes->dtype == s->dtype && scale_dtype_fits(s, scales->dtype) &&
                (i == 0 ? codes : i == 1 ? scales : find(c, base, s->shape)) == t)
                return (StorageRole){s, i == 0, i == 1};
        }
    }
    return (StorageRole){0};
}
