#ifndef SLIM_MEASURE_FORWARD_H
#define SLIM_MEASURE_FORWARD_H

#include "base/error.h"
#include "run/runner.h"

/* Runs one text through the model and writes every step to a safetensors file (specs/models.md 2.8): input_ids [1][T]
 * I64, h.i (input of layer i; h.L the last output), attn.i, mlp.i, norm [1][T][hidden], logits [1][T][vocab] (of a
 * model with a head), in.<linear> [T][in] for the first linear of each shared input and lm_head, stat.<linear> F64[8]
 * for every linear: count, sum, sum of squares, max, min, mean, standard deviation and excess kurtosis (both of the
 * population). F32,
 * or the model dtype where the arithmetic rounds. The result is collected in memory under the runner's limit before the file is
 * written. t holds one sample, else ST_USAGE. */
Status forward_write(Runner *r, const TokenSet *t, const char *path, Error *err);

#endif
