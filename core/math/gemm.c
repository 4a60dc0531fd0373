#include "math/gemm.h"

#include <string.h>

const GemmOps *gemm_find(GemmKind kind)
{
    int i = 0;
    while (gemm_table[i] && (gemm_table[i]->kind != kind || !gemm_table[i]->runs()))
        i++;
    return gemm_table[i];
}

size_t gemm_rows_bytes(int64_t n, int64_t k)
{
    return (size_t)n * (size_t)k * sizeof(float);
}

void gemm_pack_rows(DType t, const void *w, int64_t n, int64_t k, int64_t ldw, void *packed)
{
    const unsigned char *from = w;
    float *to = packed;
    for (int64_t o = 0; o < n && w != packed; o++, from += ldw * dtype_size(t), to += k)
        math_widen(math_fast(), t, from, k, to);
}
