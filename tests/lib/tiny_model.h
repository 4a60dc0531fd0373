#ifndef SLIM_TEST_TINY_MODEL_H
#define SLIM_TEST_TINY_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "model/model.h"

/* A Llama of two layers whose config and tensors (all zeros) can be changed. Anything that fails fails the test. */

#define TINY_MODEL_CONFIG \
    "{\"model_type\":\"llama\",\"hidden_size\":8,\"intermediate_size\":12,\"vocab_size\":10,\"num_hidden_layers\":2," \
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5," \
    "\"rope_theta\":10000.0,\"torch_dtype\":\"float32\"}"

/* What to do to the tensor list: drop `name`, or write it as dtype or with another shape; or add `name`. */
typedef struct TensorChange {
    const char *name;
    bool drop, add;
    DType dtype;
    int64_t rows, cols;
} TensorChange;

/* dir/model.safetensors; ch may be NULL. */
void tiny_model_write(const char *dir, const TensorChange *ch);
/* dir/config.json: TINY_MODEL_CONFIG without the key `drop`, with the keys of the object `add` (each may be NULL) in
 * the place of its own. */
void tiny_model_config(const char *dir, const char *drop, const char *add);
/* dir/config.json: the text `config`, changed in the same way. */
void config_edited(const char *dir, const char *config, const char *drop, const char *add);
/* Opens a model that must open. */
Model *test_model_open(const char *path, const char *type);

#endif
