#ifndef SLIM_TESTS_FOLDED_H
#define SLIM_TESTS_FOLDED_H

#include "process/pipeline.h"
#include "tests/lib/bench.h"

/* A model behind the processors of a recipe that change it, of which no linear is quantized. */
typedef struct Folded {
    Recipe *recipe;
    int16_t *level;
    Pipeline *p;
    Runner *r; /* sees the changes */
    int layers, steps; /* of prior stages, as they were told; of their searches */
    bool over;         /* and that they were over */
} Folded;
/* process: the list of spec.process in YAML's flow form, "[{type: kv_smooth}]"; behind it there may be lines of further keys
 * of spec. Prior stages read calib, too. Initialises *f also after an error, and *err before. */
Status folded_run(Folded *f, const TestRun *base, const char *process, bool peer, const TokenSet *calib, Error *err);
void folded_fini(Folded *f);
/* What processors told, each in one line, the first few of them. */
typedef struct Told {
    char text[8][512];
    int n;
} Told;
/* What is said of a run over n texts of these lengths: why it can't be, else what was told first, "" when nothing was. *st as
 * the run ends. Holds until the next call. */
const char *folded_says(const char *dir, const char *process, const int *lens, int n, Status *st, Told *t);
/* [rows][vocab] of a pass in float over all layers; caller frees. */
float *folded_logits(Runner *r, const TokenSet *t, int64_t *n);
/* Of a model with experts that one token goes through: those it chose have a changed down_proj behind process, the others are
 * as they were. */
void folded_experts_of_one_token(const char *process);

#endif
