#ifndef SLIM_MODEL_DEFAULTS_H
#define SLIM_MODEL_DEFAULTS_H

#include "io/json.h"
#include "model/model.h"

/* Gives every key of the family's table that `config` lacks, or has as null, the value that Hugging Face's configuration
 * class reads it as. ST_DATA names a null that the class can't use. */
Status config_defaults(cJSON *config, const Arch *arch, Error *err);

#endif
