#include "qir/loops.h"

#include "math/cpu.h"

const QuantLoops *quant_loops(void)
{
#if defined(__x86_64__)
    if (math_cpu_has(CPU_AVX512))
        return &quant_loops_avx512;
    if (math_cpu_has(CPU_AVX2_FMA))
        return &quant_loops_avx2;
#endif
    return &quant_loops_generic;
}
