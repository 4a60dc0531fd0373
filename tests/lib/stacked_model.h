#ifndef SLIM_TEST_STACKED_MODEL_H
#define SLIM_TEST_STACKED_MODEL_H

#include <stdbool.h>

#include "model/model.h"

/* How the experts of a model are stored in two tensors a layer. */
typedef struct StackedForm {
    bool columns;      /* [experts][in][out] instead of [experts][out][in] */
    int spare;         /* gates and ups behind those of the experts, filled with noise */
    const char *block; /* the module's name, NULL: the model's own */
} StackedForm;

/* Writes the model `m` of the folder `from`, whose experts are stored one by one in float32, into `dir` with stacked
 * ones. A failure fails the test. */
void stacked_model_write(const Model *m, const char *from, const char *dir, const StackedForm *form);

#endif
