#include "tests/lib/stacked_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/block.h"
#include "tests/lib/bench.h"
#include "tests/lib/tempdir.h"

enum { TENSORS_MAX = 256 };

/* The model's name for the module of its experts. */
static const char *own_block(const Model *m)
{
    for (int i = 0; i < m->units[m->nunits - 1].nblocks; i++)
        if (m->units[m->nunits - 1].block[i].type == &block_moe)
            return ((const MoeConf *)m->units[m->nunits - 1].block[i].conf)->rule->block;
    fail_msg("no experts");
    return NULL;
}

/* All experts' gate and up, or down. */
static float *stack(const Model *m, int layer, bool down, const StackedForm *form, int64_t shape[3])
{
    int64_t h = m->cfg.hidden, w = m->cfg.moe.inter, rows = down ? h : 2 * w, cols = down ? w : h;
    int64_t experts = m->cfg.moe.experts, all = experts + (down ? 0 : form->spare);
    float *v = calloc((size_t)(all * rows * cols), sizeof *v);
    assert_non_null(v);
    for (int64_t i = experts * rows * cols; i < all * rows * cols; i++)
        v[i] = (float)(i % 7) - 3;
    for (int64_t k = 0; k < 3 * experts; k++) {
        const Linear *l = &m->linears[unit_experts(&m->units[layer]) + k];
        if ((l->kind == LK_DOWN) != down)
            continue;
        float *one = test_tensor(m->ckpt, l->weight), *to = v + k / 3 * rows * cols;
        for (int64_t o = 0; o < l->out; o++)
            for (int64_t j = 0; j < l->in; j++) {
                int64_t row = o + (l->kind == LK_UP ? w : 0);
                to[form->columns ? j * rows + row : row * cols + j] = one[o * l->in + j];
            }
        free(one);
    }
    shape[0] = all;
    shape[1] = form->columns ? cols : rows;
    shape[2] = form->columns ? rows : cols;
    return v;
}

/* The name in the new file; free. */
static char *renamed(const char *name, const char *own, const char *block)
{
    char *out = malloc(strlen(name) + strlen(block) + 1), part[64];
    assert_non_null(out);
    snprintf(part, sizeof part, ".%s.", own);
    const char *at = strstr(name, part);
    if (!at)
        return strcpy(out, name);
    sprintf(out, "%.*s%s%s", (int)(at + 1 - name), name, block, at + 1 + strlen(own));
    return out;
}

void stacked_model_write(const Model *m, const char *from, const char *dir, const StackedForm *form)
{
    char path[256];
    snprintf(path, sizeof path, "%s/config.json", from);
    char *config = temp_get(path, NULL);
    temp_puts(temp_path(dir, "config.json"), config);
    free(config);
    const char *own = own_block(m), *block = form->block ? form->block : own;
    TensorOut out[TENSORS_MAX];
    int64_t n = 0;
    for (int64_t i = 0; i < checkpoint_count(m->ckpt); i++) {
        const TensorInfo *t = checkpoint_at(m->ckpt, i);
        if (strstr(t->name, ".experts."))
            continue;
        assert_true(n < TENSORS_MAX);
        out[n] = (TensorOut){.name = renamed(t->name, own, block), .dtype = DT_F32, .ndim = t->ndim,
                             .data = test_tensor(m->ckpt, t)};
        memcpy(out[n++].shape, t->shape, sizeof t->shape);
    }
    for (int layer = 0; layer < m->cfg.layers; layer++)
        for (int down = 0; down < 2 && unit_experts(&m->units[layer]) >= 0; down++) {
            assert_true(n < TENSORS_MAX);
            snprintf(path, sizeof path, "model.layers.%d.%s.experts.%s", layer, block, down ? "down_proj" : "gate_up_proj");
            out[n] = (TensorOut){.name = strdup(path), .dtype = DT_F32, .ndim = 3};
            out[n].data = stack(m, layer, down, form, out[n].shape);
            n++;
        }
    assert_int_equal(safetensors_write(temp_path(dir, "model.safetensors"), out, n, NULL, NULL), ST_OK);
    for (int64_t i = 0; i < n; i++) {
        free((void *)(uintptr_t)out[i].data);
        free((void *)(uintptr_t)out[i].name);
    }
}
