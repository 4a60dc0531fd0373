#ifndef SLIM_PROCESS_PROCESSOR_H
#define SLIM_PROCESS_PROCESSOR_H

#include "recipe/field.h"

/* What a processor needs to run. */
enum {
    PROCESSOR_DATA = 1 /* a calibration pass */
};

/* How a type of spec.process is run. */
typedef struct Processor {
    unsigned needs; /* PROCESSOR_*, whatever its settings */
} Processor;

extern const ProcessorType processor_linear_quant, processor_dynamic_cache; /* rows of core/registry.c */

#endif
