/* What the tiles of all x86-64 processors share. Not a header to include elsewhere. */
#include <immintrin.h>

#include "math/tile.h"

static unsigned flush_begin(void)
{
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040u); /* FTZ and DAZ */
    return before;
}

static void flush_end(unsigned before)
{
    _mm_setcsr(before);
}
