#ifndef SLIM_EVALUATE_STOPS_H
#define SLIM_EVALUATE_STOPS_H

#include <stdint.h>

#include "base/error.h"
#include "text/tokenizer.h"

/* Tokens that end what a model says: eos_token_id of generation_config.json, where there is none of config.json (a number
 * or a list), and `also`, a token by its text (NULL: none). Caller frees *ids. Ids that are no token of `vocab` are left out. */
Status stop_tokens(const char *model_path, const Tokenizer *t, int64_t vocab, const char *also, int32_t **ids, int *n,
                   Error *err);

#endif
