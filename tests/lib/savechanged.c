#include "tests/lib/savechanged.h"

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

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

static void *bytes_of(const Checkpoint *c, const TensorInfo *t)
{
    Error err = {0};
    void *p = malloc(t->nbytes + 1);
    assert_non_null(p);
    ok(checkpoint_read(c, t, 0, t->nbytes, p, &err), &err);
    return p;
}

/* ---- values ---- */

/* A tensor of the model that came out with other values in its own type. */
static void find_values(SaveFeed *f, const TensorInfo *t)
{
    const Checkpoint *c;
    Error err = {0};
    const TensorInfo *out = savefeed_find(f, t->name, &c);
    if (!out || out->dtype != t->dtype || out->nbytes != t->nbytes)
        return;
    void *a = bytes_of(c, out), *b = bytes_of(f->m->ckpt, t);
    if (memcmp(a, b, t->nbytes) != 0)
        ok(overlay_replace_tensor(f->overlay, t, savefeed_floats(f, t->name, ""), &err), &err);
    free(a);
    free(b);
}

static void find_bias(SaveFeed *f, int64_t i)
{
    Error err = {0};
    float *b = f->m->linears[i].bias ? NULL : savefeed_floats(f, f->m->linears[i].name, ".bias");
    if (!b)
        return;
    ok(overlay_add_bias(f->overlay, i, b, &err), &err);
    ok(save_changes_bias(f->changes, i, &err), &err);
    free(b);
}

/* A norm that has a bias only in the output. */
static void find_norm_bias(SaveFeed *f, const TensorInfo *t)
{
    char name[300];
    Error err = {0};
    if (!ends_with(t->name, "norm.weight"))
        return;
    snprintf(name, sizeof name, "%.*s.bias", (int)(strlen(t->name) - strlen(".weight")), t->name);
    float *b = checkpoint_find(f->m->ckpt, name) ? NULL : savefeed_floats(f, name, "");
    if (!b)
        return;
    ok(overlay_shift_norm(f->overlay, t, b, &err), &err);
    ok(save_changes_norm_bias(f->changes, t, &err), &err);
    free(b);
}

float *savechanged_scales(const SaveFeed *f, const Linear *l)
{
    char name[300];
    const Checkpoint *c;
    snprintf(name, sizeof name, "%s.deq_scale", l->name);
    const TensorInfo *t = savefeed_find(f, name, &c);
    float *in = savefeed_floats(f, l->name, ".input_scale"), *s = malloc((size_t)l->out * sizeof *s);
    assert_true(t && in && s);
    uint32_t *raw = bytes_of(c, t), bits;
    for (int64_t o = 0; o < l->out; o++) {
        float deq, near;
        memcpy(&deq, &raw[t->dtype == DT_I64 ? 2 * o : o], 4);
        near = deq / in[0];
        memcpy(&bits, &near, 4);
        uint32_t step = l->weight->dtype == DT_BF16 ? 1u << 16 : 1, first = bits - bits % step - 8 * step;
        bool found = false;
        for (uint32_t k = 0; k <= 16 && !found; k++) {
            uint32_t b = first + k * step;
            memcpy(&s[o], &b, 4);
            float p = s[o] * in[0];
            found = (l->weight->dtype == DT_BF16 ? bf16_to_float(bf16_of_float(p)) : p) == deq;
        }
        assert_true(found);
    }
    free(raw);
    free(in);
    return s;
}

/* ---- what is made ---- */

static int64_t linear_named(const Model *m, const char *name, size_t n)
{
    for (int64_t i = 0; i < m->nlinears; i++)
        if (strlen(m->linears[i].name) == n && memcmp(m->linears[i].name, name, n) == 0)
            return i;
    return -1;
}

static void find_rotation(SaveFeed *f, const TensorInfo *t)
{
    static const char *const ends[] = {".heads_rotation", ".kronecker_rotation_m", ".kronecker_rotation_n"};
    Error err = {0};
    for (size_t k = 0; k < sizeof ends / sizeof ends[0]; k++) {
        if (!ends_with(t->name, ends[k]))
            continue;
        int64_t i = linear_named(f->m, t->name, strlen(t->name) - strlen(ends[k]));
        assert_true(i >= 0);
        const SaveMade made = {.name = t->name, .linear = i, .layer = f->m->linears[i].layer, .ndim = 2,
                               .shape = {t->shape[0], t->shape[1]}, .unlisted = true};
        ok(save_changes_made(f->changes, &made, &err), &err);
    }
}

/* FlatQuant's tensors of a linear, told by the first of them. */
static void find_transform(SaveFeed *f, const TensorInfo *t)
{
    static const char *const ends[] = {".left_trans", ".right_trans", ".clip_ratio"};
    Error err = {0};
    if (!ends_with(t->name, ends[0]))
        return;
    int64_t i = linear_named(f->m, t->name, strlen(t->name) - strlen(ends[0]));
    assert_true(i >= 0);
    for (size_t k = 0; k < sizeof ends / sizeof ends[0]; k++) {
        char name[300];
        const Checkpoint *c;
        snprintf(name, sizeof name, "%s%s", f->m->linears[i].name, ends[k]);
        const TensorInfo *one = savefeed_find(f, name, &c);
        if (!one)
            continue;
        const SaveMade made = {.name = name, .linear = i, .layer = f->m->linears[i].layer, .ndim = one->ndim,
                               .shape = {one->shape[0], one->ndim > 1 ? one->shape[1] : 0}, .as_linear = true};
        ok(save_changes_made(f->changes, &made, &err), &err);
    }
    ok(save_changes_mark(f->changes, i, "_FLATQUANT", &err), &err);
}

static void find_global(SaveFeed *f, const char *out)
{
    char path[512];
    Error err = {0};
    snprintf(path, sizeof path, "%s/optional/quarot.safetensors", out);
    if (!file_exists(path))
        return;
    assert_true(f->nfiles < 16);
    ok(checkpoint_open(&f->files[f->nfiles++], path, &err), &err);
    const TensorInfo *t = checkpoint_find(f->files[f->nfiles - 1], "global_rotation");
    assert_non_null(t);
    const SaveMade made = {.name = t->name, .linear = -1, .layer = -1, .ndim = 2, .shape = {t->shape[0], t->shape[1]},
                           .file = "optional/quarot.safetensors"};
    ok(save_changes_made(f->changes, &made, &err), &err);
}

static void find_notes(SaveFeed *f, const char *object, SaveNote where)
{
    const cJSON *e;
    Error err = {0};
    cJSON_ArrayForEach(e, json_get(f->labels, object)) {
        char *text = cJSON_PrintUnformatted(e);
        assert_non_null(text);
        ok(save_changes_note(f->changes, where, e->string, text, &err), &err);
        free(text);
    }
}

void savechanged_find(SaveFeed *f, const char *out)
{
    char path[512];
    Error err = {0};
    ok(overlay_new(&f->overlay, f->m, &err), &err);
    ok(save_changes_new(&f->changes, f->m, &err), &err);
    for (int64_t i = 0; i < checkpoint_count(f->m->ckpt); i++) {
        find_values(f, checkpoint_at(f->m->ckpt, i));
        find_norm_bias(f, checkpoint_at(f->m->ckpt, i));
    }
    for (int64_t i = 0; i < f->m->nlinears; i++)
        if (f->level[i])
            find_bias(f, i);
    for (int k = 0; k < f->nfiles; k++)
        for (int64_t i = 0; i < checkpoint_count(f->files[k]); i++) {
            find_rotation(f, checkpoint_at(f->files[k], i));
            find_transform(f, checkpoint_at(f->files[k], i));
        }
    find_global(f, out);
    find_notes(f, "metadata", SAVE_METADATA);
    find_notes(f, "optional", SAVE_OPTIONAL);
    snprintf(path, sizeof path, "%s/debug_info/debug_info.json", out);
    if (!file_exists(path))
        return;
    ok(json_parse_file(path, 1 << 20, &f->debug, &err), &err);
    snprintf(path, sizeof path, "%s/debug_info/debug_info.safetensors", out);
    ok(checkpoint_open(&f->debug_tensors, path, &err), &err);
}

void savechanged_free(SaveFeed *f)
{
    overlay_free(f->overlay);
    save_changes_free(f->changes);
    cJSON_Delete(f->debug);
    checkpoint_free(f->debug_tensors);
}

/* ---- gifts ---- */

/* In two pieces. */
static void give_made(const SaveFeed *f, const SaveFormat *s, void *self, const SaveMade *t)
{
    Error err = {0};
    float *v = savefeed_floats(f, t->name, "");
    int64_t all = t->ndim > 1 ? t->shape[0] * t->shape[1] : t->shape[0], half = all / 2;
    assert_non_null(v);
    ok(s->ops->tensor(self, &(SaveValues){.name = t->name, .at = 0, .n = half, .values = v}, &err), &err);
    ok(s->ops->tensor(self, &(SaveValues){.name = t->name, .at = half, .n = all - half, .values = v + half}, &err), &err);
    free(v);
}

/* The document names tensors one too low, and of an earlier namespace they are lost: any of that number serves. */
static void give_debug(const SaveFeed *f, const SaveFormat *s, void *self, const cJSON *space, const cJSON *e, bool lost)
{
    Error err = {0};
    char name[32];
    int number = atoi(json_get(e, "_key")->valuestring + strlen("tensor_"));
    float any = (float)number, *v = &any;
    SaveDebug d = {.space = space->string, .key = e->string, .ndim = 1, .shape = {1}};
    snprintf(name, sizeof name, "tensor_%d", number + 1);
    const TensorInfo *t = lost ? NULL : checkpoint_find(f->debug_tensors, name);
    assert_true(lost || (t && t->ndim <= TENSOR_MAX_DIMS));
    if (t) {
        const SaveFeed own = {.nfiles = 1, .files = {f->debug_tensors}};
        v = savefeed_floats(&own, name, "");
        d.dtype = t->dtype;
        d.ndim = t->ndim;
        memcpy(d.shape, t->shape, (size_t)t->ndim * sizeof *t->shape);
    }
    d.values = v;
    ok(s->ops->debug(self, &d, &err), &err);
    if (t)
        free(v);
}

void savechanged_give(const SaveFeed *f, const SaveFormat *s, void *self, int layer)
{
    const SaveMade *t;
    for (size_t i = 0; s->ops->tensor && (t = save_changes_made_at(f->changes, i)) != NULL; i++)
        if ((t->layer < 0 ? 0 : t->layer) == layer)
            give_made(f, s, self, t);
    const cJSON *space, *e;
    if (!s->ops->debug || layer != 0)
        return;
    cJSON_ArrayForEach(space, f->debug)
        cJSON_ArrayForEach(e, space)
            give_debug(f, s, self, space, e, space->next != NULL);
}
