#include "convert/convert.h"

#include <string.h>

/* Kinds and the edges between them: who can be made of whom in one step. */

const char *convert_kind_name(ConvertKind k)
{
    static const char *const more[] = {"MXFP4", "FP8_E8M0", "FP4_E8M0"};
    return k <= CK_UNKNOWN ? convert_kind_words[k] : k < CK_COUNT ? more[k - CK_MXFP4] : "?";
}

static const struct {
    ConvertKind from, to;
} edges[] = {
    {CK_FP8_BLOCK, CK_FLOAT},    {CK_INT4_PACKED, CK_FLOAT},  {CK_MXFP4, CK_FLOAT},         {CK_FP8_E8M0, CK_FLOAT},
    {CK_FP4_E8M0, CK_FLOAT},     {CK_FLOAT, CK_W8A8_MXFP8},   {CK_FLOAT, CK_W4A4_MXFP4},    {CK_FLOAT, CK_W4A8_MXFP8},
};

/* Kinds that can be come to, as bits. */
static unsigned reach(ConvertKind from)
{
    unsigned seen = 1u << from, before;
    do {
        before = seen;
        for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
            if (seen >> edges[i].from & 1)
                seen |= 1u << edges[i].to;
    } while (seen != before);
    return seen;
}

bool convert_reaches(ConvertKind from, ConvertKind to)
{
    return from != CK_UNKNOWN && (reach(from) >> to & 1);
}

void convert_reachable(ConvertKind from, Str *out)
{
    unsigned left = reach(from) & ~(1u << from);
    for (int k = 0; k < CK_COUNT; k++) {
        if (!(left >> k & 1))
            continue;
        left &= ~(1u << k);
        str_printf(out, "%s%s", convert_kind_name((ConvertKind)k), !left ? "" : (left & (left - 1)) ? ", " : " and ");
    }
}
