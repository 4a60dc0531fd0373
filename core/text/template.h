#ifndef SLIM_TEXT_TEMPLATE_H
#define SLIM_TEXT_TEMPLATE_H

#include <cjson/cJSON.h>

#include "base/error.h"
#include "text/bpe.h"

/* What the `post_processor` puts around the ids of one text. Zero-initialise to start. */
typedef struct Template {
    IdList before, after;
} Template;

/* node NULL or a JSON null: nothing. Reads TemplateProcessing (its `single`), ByteLevel (which adds nothing) and
 * Sequences of them; any other kind is refused by name. */
Status template_read(Template *t, const cJSON *node, Error *err);
void template_free(Template *t);

#endif
