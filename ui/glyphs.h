#ifndef SLIM_UI_GLYPHS_H
#define SLIM_UI_GLYPHS_H

#include <stdbool.h>
#include <wchar.h>

#include "src/chart.h"

/* Characters to draw with. Texts themselves are ASCII everywhere. */
typedef struct Glyphs {
    const char *name;
    HistForm hist;
    wchar_t vline, hline;             /* frames */
    const char *ellipsis;             /* UTF-8 */
    wchar_t bar[9];                   /* a cell filled from the left by 0..steps parts */
    int bar_steps;
    wchar_t mark;                     /* pointer at the row of the cursor */
} Glyphs;

/* name: auto braille block ascii. type: the terminal's (TERM), NULL unknown; auto is ascii on those whose font has no
 * braille. utf8: the locale's codeset is UTF-8. ambiguous: measured width of an East-Asian-ambiguous character, 0 = it was
 * not asked for, -1 = the terminal does not say; auto is ascii unless it is 1 or was not asked for. Outside UTF-8 everything
 * becomes ascii; on a terminal with wide ambiguous characters frames are ASCII in every set. false: unknown name. */
bool glyphs_choose(const char *name, const char *type, bool utf8, int ambiguous, Glyphs *out);

#endif
