#include "process/processor.h"

/* linear_quant: linears to the quantized form of their level. */

static const Processor run = {.needs = 0}; /* what its quantizers need */

const ProcessorType processor_linear_quant = {
    .name = "linear_quant",
    .object = &linear_quant_object,
    .levels = true,
    .run = &run,
};
