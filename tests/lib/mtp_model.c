#include "tests/lib/mtp_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "math/convert.h"
#include "model/model.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/tiny_model.h"

enum { TENSORS_MAX = 400 };

typedef struct Made {
    TensorOut t[TENSORS_MAX];
    char name[TENSORS_MAX][96];
    int n;
} Made;

static void put(Made *w, const char *name, const TensorInfo *like, void *data)
{
    assert_true(w->n < TENSORS_MAX);
    snprintf(w->name[w->n], sizeof w->name[w->n], "%s", name);
    TensorOut *t = &w->t[w->n];
    *t = (TensorOut){.name = w->name[w->n++], .dtype = like->dtype, .ndim = like->ndim, .data = data};
    memcpy(t->shape, like->shape, sizeof *t->shape * (size_t)like->ndim);
}

static void *bytes_of(const Checkpoint *c, const TensorInfo *t)
{
    void *raw = malloc(t->nbytes);
    assert_non_null(raw);
    assert_int_equal(checkpoint_read(c, t, 0, t->nbytes, raw, NULL), ST_OK);
    return raw;
}

/* Values around `mean` in the model's dtype. */
static void put_random(Made *w, const char *name, DType dtype, int64_t rows, int64_t cols, double mean, double std)
{
    uint32_t seed = 77u + (uint32_t)w->n;
    int64_t n = rows * (cols ? cols : 1);
    TensorInfo like = {.dtype = dtype, .ndim = cols ? 2 : 1, .shape = {rows, cols}};
    unsigned char *data = malloc((size_t)n * 4);
    assert_non_null(data);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        float v = (float)(mean + std * 3.46 * ((double)(seed >> 8) / 16777216.0 - 0.5));
        uint16_t h = bf16_of_float(v);
        memcpy(data + (dtype == DT_F32 ? 4 * i : 2 * i), dtype == DT_F32 ? (void *)&v : (void *)&h,
               dtype == DT_F32 ? 4 : 2);
    }
    put(w, name, &like, data);
}

char *mtp_model_write(const MtpRecipe *r)
{
    char *dir = temp_folder(), prefix[64], name[96];
    Model *m = test_model_open(r->model, NULL);
    Made *w = calloc(1, sizeof *w);
    assert_non_null(w);
    const ModelConfig *c = &m->cfg;
    int last = snprintf(prefix, sizeof prefix, "model.layers.%d.", c->layers - 1);
    for (int64_t i = 0; i < checkpoint_count(m->ckpt); i++) {
        const TensorInfo *t = checkpoint_at(m->ckpt, i);
        put(w, t->name, t, bytes_of(m->ckpt, t));
        snprintf(name, sizeof name, "model.layers.%d.%s", c->layers, t->name + last);
        if (strncmp(t->name, prefix, (size_t)last) == 0 && (!r->drop || strcmp(t->name + last, r->drop) != 0))
            put(w, name, t, bytes_of(m->ckpt, t));
    }
    const struct {
        const char *name;
        int64_t rows, cols;
        double mean, std;
    } own[] = {
        {"enorm.weight", c->hidden, 0, 1, 0.3}, {"hnorm.weight", c->hidden, 0, 1, 0.3},
        {"eh_proj.weight", c->hidden, r->eh_cols ? r->eh_cols : 2 * c->hidden, 0, 0.2},
        {"shared_head.norm.weight", c->hidden, 0, 1, 0.3}, {"shared_head.head.weight", c->vocab, c->hidden, 0, 1},
        {"embed_tokens.weight", c->vocab, c->hidden, 0, 1},
    };
    for (size_t i = 0; i < sizeof own / sizeof *own - !r->own_table; i++) {
        snprintf(name, sizeof name, "model.layers.%d.%s", c->layers, own[i].name);
        if (!r->drop || strcmp(own[i].name, r->drop) != 0)
            put_random(w, name, c->dtype, own[i].rows, own[i].cols, own[i].mean, own[i].std);
    }
    Error e = {0};
    if (safetensors_write(temp_path(dir, "model.safetensors"), w->t, w->n, NULL, &e) != ST_OK)
        fail_msg("%s", e.text);
    for (int i = 0; i < w->n; i++)
        free((void *)(uintptr_t)w->t[i].data);
    free(w);
    char *config = temp_get(temp_path(r->model, "config.json"), NULL), *at;
    if (r->model_type && (at = strstr(config, "\"deepseek_v3\"")))
        snprintf(at, strlen(at), "\"%s\"%s", r->model_type, strchr(at, ','));
    temp_puts(temp_path(dir, "config.json"), config);
    free(config);
    model_free(m);
    return dir;
}
