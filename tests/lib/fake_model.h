#ifndef TESTS_FAKE_MODEL_H
#define TESTS_FAKE_MODEL_H

#include <stdbool.h>

#include "model/model.h"

/* A Model made of names, shapes and fused groups only: no checkpoint, no config. */
typedef struct FakeShape {
    int layers, experts; /* experts 0: dense mlp; else a router and three linears an expert */
    int64_t hidden, inter;
} FakeShape;
Model *fake_model(const FakeShape *s);
/* A model of exactly these names, each alone. */
Model *fake_model_names(const char *const *names, int n);
void fake_model_free(Model *m);
/* xorshift, for reproducible random tests. */
unsigned fake_random(unsigned long long *state);

#endif
