#include "run/arith.h"

#include <string.h>

#define ARITH_ROW(id, text, number, words, ...) [ARITH_##id] = {.name = text, .code = number, .help = words, __VA_ARGS__},
const Arith arith_table[ARITH_MODES] = {ARITHS(ARITH_ROW, ARITH_ROW)};

const char *arith_name(ArithMode m)
{
    return arith_table[m].name;
}

void arith_names(unsigned set, Str *out)
{
    bool any = false;
    for (int i = 0; i < ARITH_MODES; i++)
        if (set >> i & 1) {
            str_printf(out, "%s%s", any ? " and " : "", arith_table[i].name);
            any = true;
        }
}

bool arith_find(const char *name, ArithMode *out)
{
    for (int i = 0; i < ARITH_MODES; i++)
        if (strcmp(arith_table[i].name, name) == 0) {
            *out = (ArithMode)i;
            return true;
        }
    return false;
}

GemmKind arith_products(ArithMode m, DType model)
{
    const Arith *a = &arith_table[m];
    return a->rounds && a->products == GEMM_BF16 && model != DT_BF16 ? GEMM_F32 : a->products;
}

DType arith_dtype(ArithMode m, DType model)
{
    return arith_table[m].rounds ? model : DT_F32;
}
