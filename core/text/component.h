#ifndef SLIM_TEXT_COMPONENT_H
#define SLIM_TEXT_COMPONENT_H

#include "io/json.h"
#include "text/matcher.h"

/* The parts of tokenizer.json that are one step or a Sequence of steps: normalizer, pre_tokenizer, post_processor. */
typedef struct ComponentReader {
    const char *what; /* as errors call it */
    const char *list; /* the member of a Sequence that holds its steps */
    Status (*step)(void *ctx, const cJSON *node, const char *type, Error *err);
    void *ctx;
} ComponentReader;

/* Gives every step to r->step in order, Sequences entered; an absent or null node has none. ST_DATA for a node without
 * a 'type' and for Sequences nested too deeply. */
Status component_read(const ComponentReader *r, const cJSON *node, Error *err);
/* The step's "pattern", {"String": literal} or {"Regex": expression}; the caller frees it. ST_DATA for another, told as
 * one of `what`. */
Status component_pattern(const cJSON *step, const char *what, Matcher **out, Error *err);

#endif
