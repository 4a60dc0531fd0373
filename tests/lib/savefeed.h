#ifndef TESTS_SAVEFEED_H
#define TESTS_SAVEFEED_H

#include "save/format.h"

/* A recorded quantized model, taken apart by a reader of its own and handed to a saver again. Anything that fails fails
 * the test. */
typedef struct SaveFeed {
    Model *m;
    Checkpoint *files[16];
    int nfiles;
    struct cJSON *labels;    /* the description; NULL: compressed-tensors */
    QConfig levels[8];
    int nlevels;
    int16_t *level;          /* [nlinears] */
    bool *cache_layer;       /* [layers] */
    DType cache_dtype;
    bool any_cache;
    int fp32_from;           /* layers from here on had float32 activations */
    Overlay *overlay;        /* what processors changed (tests/lib/savechanged.h) */
    SaveChanges *changes;
    struct cJSON *debug;     /* debug_info.json, NULL: none */
    Checkpoint *debug_tensors;
} SaveFeed;

void savefeed_open(SaveFeed *f, const char *model, const char *out, int fp32_from);
/* The plan of a peer-mode or default run of it into dir, part_file_size 4. */
SavePlan savefeed_plan(const SaveFeed *f, const char *dir, bool peer);
void savefeed_close(SaveFeed *f);
/* NULL when absent. */
const TensorInfo *savefeed_find(const SaveFeed *f, const char *name, const Checkpoint **c);
/* Values of a F32, BF16 or F16 tensor "module.suffix"; NULL when absent. Caller frees. */
float *savefeed_floats(const SaveFeed *f, const char *module, const char *suffix);
/* The linear as a quantizer would hand it over; what it borrows lives until savefeed_drop. */
void savefeed_linear(const SaveFeed *f, int64_t i, SaveLinear *l, QWeight *w);
void savefeed_drop(SaveLinear *l, QWeight *w);
/* Everything of one layer into an open saver, without its layer_done. */
void savefeed_layer(const SaveFeed *f, const SaveFormat *s, void *self, int layer);
/* Opens s anew for the plan. */
void *savefeed_start(const SaveFormat *s, const SavePlan *plan);
/* Layers [from, to) with their layer_done. */
void savefeed_layers(const SaveFeed *f, const SaveFormat *s, void *self, int from, int to);
/* What is left from layer `from` on, finish and close. */
void savefeed_end(const SaveFeed *f, const SaveFormat *s, void *self, int from);

/* Fails when the two files differ, naming the first byte. */
void assert_same_file(const char *a, const char *b);

#endif
