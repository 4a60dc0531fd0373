#include "ui/glyphs.h"

#include <string.h>

static const Glyphs sets[] = {
    {
        .name = "braille",
        .hist = HIST_BRAILLE,
        .vline = L'\u2502',
        .hline = L'\u2500',
        .ellipsis = "\xe2\x80\xa6",
        .bar = {L' ', L'\u2847', L'\u28ff'},
        .bar_steps = 2,
        .mark = L'>',
    },
    {
        .name = "block",
        .hist = HIST_BLOCK,
        .vline = L'\u2502',
        .hline = L'\u2500',
        .ellipsis = "\xe2\x80\xa6",
        .bar = {L' ', L'\u258f', L'\u258e', L'\u258d', L'\u258c', L'\u258b', L'\u258a', L'\u2589', L'\u2588'},
        .bar_steps = 8,
        .mark = L'>',
    },
    {
        .name = "ascii",
        .hist = HIST_ASCII,
        .vline = L'|',
        .hline = L'-',
        .ellipsis = "..",
        .bar = {L' ', L'-', L'#'},
        .bar_steps = 2,
        .mark = L'>',
    },
};

static const Glyphs *set_find(const char *name)
{
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        if (strcmp(sets[i].name, name) == 0)
            return &sets[i];
    }
    return NULL;
}

/* Terminals whose fonts lack braille though they take UTF-8. */
static bool poor_font(const char *type)
{
    static const char *const types[] = {"linux", "cons25"};
    for (size_t i = 0; type && i < sizeof types / sizeof types[0]; i++) {
        size_t n = strlen(types[i]);
        if (strncmp(type, types[i], n) == 0 && (!type[n] || type[n] == '-'))
            return true;
    }
    return false;
}

bool glyphs_choose(const char *name, const char *type, bool utf8, int ambiguous, Glyphs *out)
{
    bool automatic = !name || strcmp(name, "auto") == 0, rich = ambiguous >= 0 && ambiguous <= 1 && !poor_font(type);
    const Glyphs *g = automatic ? set_find(rich ? "braille" : "ascii") : set_find(name);
    if (!g)
        return false;
    if (!utf8)
        g = set_find("ascii");
    *out = *g;
    if (ambiguous == 2) {
        const Glyphs *a = set_find("ascii");
        out->vline = a->vline;
        out->hline = a->hline;
        out->ellipsis = a->ellipsis;
    }
    return true;
}
