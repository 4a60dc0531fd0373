#ifndef SLIM_TESTS_RECORDED_LAYER_H
#define SLIM_TESTS_RECORDED_LAYER_H

#include "model/overlay.h"
#include "run/runner.h"
#include "tests/lib/npz.h"
#include "text/calib.h"

/* The layer of a recording of golden/outlier as a model of one layer, whose embedding table holds the recorded input
 * x0, x1 (a token is its row): running it feeds the layer what the peer fed it. Anything that fails fails the test. */
typedef struct RecordedLayer {
    char dir[64];
    Npz *z;
    TokenSet *calib; /* both inputs */
} RecordedLayer;
/* name: of the file without .npz. model_type: qwen2, or qwen3 where queries and keys are normed. */
void recorded_layer_open(RecordedLayer *r, const char *name, const char *model_type);
/* Writes the model anew, after the recording's arrays were changed. */
void recorded_layer_write(const RecordedLayer *r, const char *model_type);
void recorded_layer_close(RecordedLayer *r);
/* Holds every tensor after/... against what the model's layer is through the overlay: within `most` of the largest
 * value. */
void recorded_layer_compare(const RecordedLayer *r, const Model *m, const Overlay *o, double most);
/* The layer's output for the recorded inputs through the runner, against y0 and y1. */
void recorded_layer_outputs(const RecordedLayer *r, Runner *runner, double most);

#endif
