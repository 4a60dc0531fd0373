#ifndef SLIM_SESSION_STREAMFILE_H
#define SLIM_SESSION_STREAMFILE_H

#include <stdbool.h>

#include "base/error.h"
#include "model/model.h"
#include "run/stream.h"

/* The hidden states behind a layer of a pass, in a file: FOLDER/streams/RUN-LAYER.safetensors. */

/* Writes it, and removes that of the layer before the last one. carried: with what an indexer chose (runner_carries).
 * sha: digest of what was written. */
Status streamfile_write(const char *folder, int run, int layer, const Stream *h, bool carried, char sha[65],
                        Error *err);
/* Reads it into *out (initialised here, without ids): ST_DATA when it does not fit the model or has another digest. */
Status streamfile_read(const char *folder, int run, int layer, const char *sha, const Model *m, Stream *out,
                       Error *err);

/* Removes the streams of every other pass than this one (-1: of all), and what a killed writer left. Not while one is
 * being written. */
void streamfile_keep_only(const char *folder, int run);

#endif
