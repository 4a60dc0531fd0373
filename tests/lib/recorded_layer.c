#include "tests/lib/recorded_layer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "run/source.h"
#include "tests/lib/bench.h"
#include "tests/lib/random_model.h"

enum { HIDDEN = 32, TENSORS_MAX = 24 };

static void ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("%s", err->text);
}

static void write_config(const RecordedLayer *r, const char *model_type, int64_t tokens)
{
    char path[128];
    snprintf(path, sizeof path, "%s/config.json", r->dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    const NpyArray *k = npz_find(r->z, "before/self_attn.k_proj.weight"), *up = npz_find(r->z, "before/mlp.up_proj.weight");
    fprintf(f,
            "{\"model_type\":\"%s\",\"torch_dtype\":\"float32\",\"hidden_size\":%d,\"intermediate_size\":%d,"
            "\"num_hidden_layers\":1,\"num_attention_heads\":4,\"num_key_value_heads\":%d,\"head_dim\":8,"
            "\"vocab_size\":%d,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-6,\"rope_theta\":10000.0,"
            "\"attention_bias\":true,\"tie_word_embeddings\":true,\"hidden_act\":\"silu\"}\n",
            model_type, HIDDEN, (int)up->shape[0], (int)k->shape[0] / 8, (int)tokens);
    assert_int_equal(fclose(f), 0);
}

static void write_tensors(const RecordedLayer *r, const float *table, int64_t tokens)
{
    Error err = {0};
    TensorOut t[TENSORS_MAX];
    char name[TENSORS_MAX][80], path[128];
    float ones[HIDDEN];
    int n = 0;
    for (int i = 0; i < HIDDEN; i++)
        ones[i] = 1;
    t[n++] = (TensorOut){"model.embed_tokens.weight", DT_F32, 2, {tokens, HIDDEN}, table};
    t[n++] = (TensorOut){"model.norm.weight", DT_F32, 1, {HIDDEN}, ones};
    for (int i = 0; i < r->z->count; i++) {
        const NpyArray *a = &r->z->arrays[i];
        if (strncmp(a->name, "before/", 7) != 0)
            continue;
        assert_true(n < TENSORS_MAX);
        snprintf(name[n], sizeof name[n], "model.layers.0.%s", a->name + 7);
        t[n] = (TensorOut){name[n], DT_F32, a->ndim, {a->shape[0], a->ndim == 2 ? a->shape[1] : 0}, a->data};
        n++;
    }
    snprintf(path, sizeof path, "%s/model.safetensors", r->dir);
    ok(safetensors_write(path, t, n, NULL, &err), &err);
}

void recorded_layer_write(const RecordedLayer *r, const char *model_type)
{
    const NpyArray *x0, *x1;
    const float *a = npz_f32(r->z, &x0, "x0"), *b = npz_f32(r->z, &x1, "x1");
    int64_t tokens = (x0->count + x1->count) / HIDDEN;
    float *table = malloc((size_t)(tokens * HIDDEN) * sizeof *table);
    assert_non_null(table);
    memcpy(table, a, (size_t)x0->count * sizeof *a);
    memcpy(table + x0->count, b, (size_t)x1->count * sizeof *b);
    write_config(r, model_type, tokens);
    write_tensors(r, table, tokens);
    free(table);
}

void recorded_layer_open(RecordedLayer *r, const char *name, const char *model_type)
{
    char path[128];
    snprintf(path, sizeof path, "tests/golden/outlier/%s.npz", name);
    *r = (RecordedLayer){.z = npz_open(path)};
    snprintf(r->dir, sizeof r->dir, "/tmp/slimscope-layer-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    recorded_layer_write(r, model_type);
    const NpyArray *x0 = npz_find(r->z, "x0"), *x1 = npz_find(r->z, "x1");
    const int lens[] = {(int)(x0->count / HIDDEN), (int)(x1->count / HIDDEN)};
    int64_t tokens = lens[0] + lens[1];
    r->calib = test_tokens(lens, 2, tokens, 1);
    for (int64_t i = 0; i < tokens; i++)
        r->calib->ids[i] = (int32_t)i;
}

void recorded_layer_close(RecordedLayer *r)
{
    random_model_remove(r->dir);
    test_tokens_free(r->calib);
    npz_free(r->z);
}

/* A bias that was added to the norm of this name, which has `end`, ".bias". */
static float *added_bias(const Model *m, const Overlay *o, char *full, char *end, int64_t *n)
{
    strcpy(end, ".weight");
    const TensorInfo *t = checkpoint_find(m->ckpt, full);
    const float *b = t ? overlay_norm_bias(o, t) : NULL;
    if (!b)
        return NULL;
    float *v = malloc((size_t)t->shape[0] * sizeof *v);
    assert_non_null(v);
    memcpy(v, b, (size_t)t->shape[0] * sizeof *v);
    *n = t->shape[0];
    return v;
}

/* What the model has of this name of a layer now, [*n]; caller frees. NULL: nothing. */
static float *now(const Model *m, const Overlay *o, const char *name, int64_t *n)
{
    Error err = {0};
    const Source s = {m, o};
    char full[160 + sizeof ".weight"];
    float *v = NULL;
    snprintf(full, sizeof full, "model.layers.0.%s", name);
    char *end = strrchr(full, '.');
    bool bias = strcmp(end, ".bias") == 0;
    *end = '\0';
    int64_t i = model_find_linear(m, full);
    if (i >= 0 && bias) {
        ok(source_bias(&s, NULL, &m->linears[i], &v, &err), &err);
        *n = m->linears[i].out;
        return v;
    }
    if (i >= 0) {
        *n = m->linears[i].out * m->linears[i].in;
        v = malloc((size_t)*n * sizeof *v);
        assert_non_null(v);
        ok(source_rows(&s, NULL, &m->linears[i], 0, m->linears[i].out, v, &err), &err);
        return v;
    }
    *end = '.';
    const TensorInfo *t = checkpoint_find(m->ckpt, full);
    if (!t)
        return bias ? added_bias(m, o, full, end, n) : NULL;
    *n = (int64_t)(t->nbytes / sizeof *v);
    ok(source_small(&s, NULL, t, &v, &err), &err);
    return v;
}

static bool all_zero(const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (v[i] != 0)
            return false;
    return true;
}

void recorded_layer_compare(const RecordedLayer *r, const Model *m, const Overlay *o, double most)
{
    for (int i = 0; i < r->z->count; i++) {
        const NpyArray *a = &r->z->arrays[i];
        int64_t n;
        if (strncmp(a->name, "after/", 6) != 0)
            continue;
        float *v = now(m, o, a->name + 6, &n);
        if (!v)
            fail_msg("the model has no %s", a->name + 6);
        assert_int_equal(n, a->count);
        bool zero = all_zero(a->data, n);
        double worst = zero ? !all_zero(v, n) : test_worst(a->data, v, n);
        if (!(worst <= most))
            fail_msg("%s is off by %g of its largest value", a->name, worst);
        free(v);
    }
}

void recorded_layer_outputs(const RecordedLayer *r, Runner *runner, double most)
{
    Error err = {0};
    Stream h;
    ok(runner_embed(runner, r->calib, &h, &err), &err);
    ok(runner_layer(runner, 0, NULL, &h, &h, NULL, 0, &err), &err);
    for (int i = 0; i < 2; i++) {
        const NpyArray *y;
        const float *want = npz_f32(r->z, &y, "y%d", i);
        double worst = test_worst(want, h.data + h.start[i] * HIDDEN, y->count);
        if (!(worst <= most))
            fail_msg("y%d is off by %g of its largest value", i, worst);
    }
    stream_fini(&h);
}
