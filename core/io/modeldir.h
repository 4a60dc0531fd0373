#ifndef SLIM_IO_MODELDIR_H
#define SLIM_IO_MODELDIR_H

#include <stddef.h>

#include "base/error.h"

/* What lies in a model's folder, by the names of its files. */

/* Names of shards, sorted; zero-initialise, free with modeldir_free. */
typedef struct ShardNames {
    char **name;
    int count;
} ShardNames;

/* The files model-NNNNN-of-NNNNN.safetensors of a folder; none: count 0. ST_DATA when some of them are missing. */
Status modeldir_shards(const char *dir, ShardNames *out, Error *err);
void modeldir_free(ShardNames *n);

/* ST_DATA: the folder has neither weights nor their index; says what it has instead (another framework's weights, a
 * quantized model, an adapter) and what to do. */
Status modeldir_no_weights(const char *dir, Error *err);

/* What a folder without config.json is, as the end of an error: "; it is a GGUF model: …". Never fails; into buf, ""
 * when nothing is known. */
void modeldir_hint(const char *dir, char *buf, size_t size);

#endif
