#ifndef SLIM_MODEL_CONFIG_H
#define SLIM_MODEL_CONFIG_H

#include <stdbool.h>

#include "base/str.h"
#include "io/json.h"
#include "model/block.h"

enum { CONFIG_LAYERS_MAX = 10000, CONFIG_HEADS_MAX = 1 << 16 };
#define CONFIG_WIDTH_MAX (INT64_C(1) << 31)

/* A whole number in [1, max]; required unless *out is positive already. */
Status config_size(const cJSON *config, const char *key, int64_t max, int64_t *out, Error *err);
/* A number of type int under `key`, within [least, max]; *out keeps its value when the key is absent. */
Status config_count(const cJSON *config, const char *key, int64_t least, int64_t max, int *out, Error *err);
/* The family's own name of a key, or the usual one where it has none (NULL). */
const char *config_key(const char *own, const char *usual);

/* The object of config.json that describes the text decoder: the root, or text_config and the like in multimodal
 * files. */
cJSON *config_text(cJSON *root);

/* The model type config.json gives: model_type, else architectures[0] without "ForCausalLM", lower case. */
Status config_model_type(const cJSON *config, char out[64], Error *err);

/* Adds to the object, under the other names that the library's classes have for it, each value that only one of them
 * gives, and what the class of this type takes for granted. For types with a row. */
Status config_synonyms(cJSON *config, const char *model_type, Error *err);
/* ST_DATA for a key that changes what a decoder computes and that no row follows. Keys that may do so and that are not
 * known go to *unknown, as a list: those of rope_parameters, and in a file of a type without a row all. */
Status config_judge(const cJSON *config, bool known, Str *unknown, Error *err);

/* Fills *cfg except model_type and what only the checkpoint tells (tied and dtype as far as the file says: *has_dtype).
 * Lists are allocated from `a`. `known`: the file's own type has a row, `arch` is it; otherwise `arch` is the row that
 * stands in and every key that would make the decoder compute something else is refused. Errors name the key.
 * (specs/models.md 2.1) */
Status config_read(const cJSON *config, const Arch *arch, bool known, Arena *a, ModelConfig *cfg, bool *has_dtype,
                   Error *err);

/* rope_parameters or rope_scaling in either dialect; head_dim, max_positions of *cfg must be filled. `known`: as above; a
 * type without a row may rotate a part of each head. */
Status config_rope(const cJSON *config, const Arch *arch, bool known, Arena *a, ModelConfig *cfg, Error *err);

/* Makes cfg->window, a list of zeros. */
Status config_window_list(Arena *a, ModelConfig *cfg, Error *err);

/* The list under `key` that says something of every layer; *list NULL when it is absent or null. ST_DATA: no list, or one
 * of another length. Its entries: config_layer_word. */
Status config_layer_list(const cJSON *config, const char *key, const ModelConfig *cfg, const cJSON **list, Error *err);
/* The word an entry is, by its newest name, "(no string)" for anything else. */
const char *config_layer_word(const cJSON *entry);

/* Windows from layer_types: `window` for "sliding_attention", 0 for "full_attention"; *found tells whether the list is
 * there. window 0: a sliding layer is an error. */
Status config_layer_types(const cJSON *config, int64_t window, ModelConfig *cfg, bool *found, Error *err);

/* Windows of sliding_window (`window` when absent; 0: none) on all layers but every `pattern`-th (0: on all);
 * layer_types wins. */
Status config_windows(const cJSON *config, int64_t window, int pattern, ModelConfig *cfg, Error *err);

/* GqaSpec.windows of families with sliding_window on every layer, when there is one. */
Status config_windows_all(const cJSON *config, ModelConfig *cfg, Error *err);

/* Keys of the Qwen2 line: use_sliding_window, sliding_window, max_window_layers, layer_types. *window 0: none is in use,
 * or layer_types has told where; else layers before or behind the first *first have it. */
Status qwen_window(const cJSON *config, ModelConfig *cfg, int64_t *window, int64_t *first, Error *err);
/* GqaSpec.windows of the dense ones. */
Status qwen_windows(const cJSON *config, ModelConfig *cfg, Error *err);

#endif
