#include "tests/lib/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/json.h"
#include "tests/lib/tempdir.h"

Model *test_model_open(const char *path, const char *type)
{
    Error e = {0};
    Model *m;
    if (model_open(&m, path, type, &e) != ST_OK)
        fail_msg("%s: %s", path, e.text);
    return m;
}

enum { MAX_TENSORS = 64 };

static int add_tensor(TensorOut *t, int n, char names[][96], const char *name, int64_t rows, int64_t cols)
{
    static const float zeros[1024];
    snprintf(names[n], 96, "%s", name);
    t[n] = (TensorOut){names[n], DT_F32, cols ? 2 : 1, {rows, cols}, zeros};
    return n + 1;
}

void tiny_model_write(const char *dir, const TensorChange *ch)
{
    static const struct {
        const char *name;
        int64_t rows, cols;
    } layer[] = {
        {"input_layernorm.weight", 8, 0}, {"post_attention_layernorm.weight", 8, 0},
        {"self_attn.q_proj.weight", 8, 8}, {"self_attn.k_proj.weight", 4, 8},
        {"self_attn.v_proj.weight", 4, 8}, {"self_attn.o_proj.weight", 8, 8},
        {"mlp.gate_proj.weight", 12, 8}, {"mlp.up_proj.weight", 12, 8},
        {"mlp.down_proj.weight", 8, 12},
    };
    TensorOut t[MAX_TENSORS];
    char names[MAX_TENSORS][96], name[96];
    int n = add_tensor(t, 0, names, "model.embed_tokens.weight", 10, 8);
    n = add_tensor(t, n, names, "model.norm.weight", 8, 0);
    n = add_tensor(t, n, names, "lm_head.weight", 10, 8);
    for (int l = 0; l < 2; l++)
        for (size_t i = 0; i < sizeof layer / sizeof *layer; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s", l, layer[i].name);
            n = add_tensor(t, n, names, name, layer[i].rows, layer[i].cols);
        }
    if (ch && ch->add)
        n = add_tensor(t, n, names, ch->name, ch->rows, ch->cols);
    for (int i = 0; ch && !ch->add && i < n; i++) {
        if (strcmp(t[i].name, ch->name) != 0)
            continue;
        if (ch->drop)
            t[i--] = t[--n];
        else if (ch->rows)
            t[i] = (TensorOut){t[i].name, t[i].dtype, ch->cols ? 2 : 1, {ch->rows, ch->cols}, t[i].data};
        else
            t[i].dtype = ch->dtype;
    }
    Error e = {0};
    assert_int_equal(safetensors_write(temp_path(dir, "model.safetensors"), t, n, NULL, &e), ST_OK);
}

void tiny_model_config(const char *dir, const char *drop, const char *add)
{
    config_edited(dir, TINY_MODEL_CONFIG, drop, add);
}

void config_edited(const char *dir, const char *config, const char *drop, const char *add)
{
    cJSON *c = cJSON_Parse(config), *more = cJSON_Parse(add ? add : "{}"), *v;
    assert_non_null(more);
    if (drop)
        cJSON_DeleteItemFromObject(c, drop);
    cJSON_ArrayForEach(v, more)
    {
        cJSON_DeleteItemFromObject(c, v->string);
        cJSON_AddItemToObject(c, v->string, cJSON_Duplicate(v, 1));
    }
    char *text = cJSON_Print(c);
    temp_puts(temp_path(dir, "config.json"), text);
    free(text);
    cJSON_Delete(c);
    cJSON_Delete(more);
}
