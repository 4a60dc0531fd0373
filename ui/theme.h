#ifndef SLIM_UI_THEME_H
#define SLIM_UI_THEME_H

#include <stdbool.h>

#include "base/error.h"
#include "base/str.h"

/* Semantic slots: what a cell means, never which colour it has. X(id, name, colours of the default theme, attributes
 * without colour) */
#define THEME_SLOTS(X)                                                       \
    X(SL_TEXT, "text", "default", "")                                        \
    X(SL_DIM, "text.dim", "bright-black", "dim")                             \
    X(SL_STRONG, "text.strong", "default - bold", "bold")                    \
    X(SL_TITLE, "title", "black cyan", "reverse")                            \
    X(SL_TAB, "tab", "bright-black", "")                                     \
    X(SL_TAB_ON, "tab.on", "cyan - bold", "bold underline")                  \
    X(SL_HEADER, "table.header", "cyan - underline", "underline")            \
    X(SL_ROW, "table.row", "default", "")                                    \
    X(SL_CURSOR, "table.cursor", "- - reverse", "reverse")                   \
    X(SL_EXCLUDED, "table.excluded", "bright-black - dim", "dim")            \
    X(SL_TAGGED, "table.tagged", "yellow - bold", "bold")                    \
    X(SL_MATCH, "table.match", "black yellow", "reverse")                    \
    X(SL_LOW, "score.low", "#4e9a5f", "")                                    \
    X(SL_MID, "score.mid", "#c4a000", "")                                    \
    X(SL_HIGH, "score.high", "#ef4a3a", "bold")                              \
    X(SL_BAR, "hist.bar", "#5fafd7", "")                                     \
    X(SL_CLIP, "hist.clip", "magenta - bold", "bold")                        \
    X(SL_OUTLIER, "hist.outlier", "red - bold", "bold")                      \
    X(SL_AXIS, "hist.axis", "bright-black", "dim")                           \
    X(SL_RUNNING, "state.running", "cyan - bold", "bold")                    \
    X(SL_DONE, "state.done", "green", "")                                    \
    X(SL_FAILED, "state.failed", "red - bold", "bold")                       \
    X(SL_STALE, "state.stale", "yellow", "underline")                        \
    X(SL_PREDICTED, "state.predicted", "magenta", "")                        \
    X(SL_FOCUS, "border.focus", "cyan", "bold")                              \
    X(SL_BLUR, "border.blur", "bright-black", "dim")                         \
    X(SL_OK, "status.ok", "green", "")                                       \
    X(SL_WARN, "status.warn", "yellow", "bold")                              \
    X(SL_ERR, "status.err", "red - bold", "bold")                            \
    X(SL_KEY, "key", "cyan - bold", "bold")                                  \
    X(SL_KEY_TEXT, "key.text", "default", "")                                \
    X(SL_ADDED, "diff.added", "green", "bold")                               \
    X(SL_REMOVED, "diff.removed", "red", "dim")

typedef enum Slot {
#define X(id, name, color, mono) id,
    THEME_SLOTS(X)
#undef X
    SLOTS
} Slot;

/* The files that ship in themes/, for messages. */
#define THEME_NAMES "default, light, mono, high-contrast, colour-blind, console-16"

enum { TA_BOLD = 1, TA_DIM = 2, TA_UNDERLINE = 4, TA_REVERSE = 8 };
enum { THEME_DEFAULT = -1, THEME_RGB = 1 << 24 }; /* colour: -1, 0..255, or THEME_RGB | 0xRRGGBB */

typedef struct Look {
    int fg, bg;
    unsigned attr; /* TA_* */
} Look;
typedef struct Theme {
    char name[32];
    Look look[SLOTS];
} Theme;

/* How many colours there are to draw with. */
typedef enum Depth { DEPTH_MONO, DEPTH_8, DEPTH_16, DEPTH_256, DEPTH_DIRECT } Depth;

/* The theme built in: what every other one inherits from. */
void theme_default(Theme *t);
/* Attributes only: what stands for every theme where there is no colour. */
void theme_mono(Theme *t);
/* Text of `include NAME`; a malloced text, or NULL with err set. */
typedef char *ThemeLoad(void *ctx, const char *name, Error *err);
/* Reads lines "slot = fg [bg] [attr...]", "include NAME", "# comment" over *t. What is wrong goes as "file:line: text"
 * lines into `warnings` and is skipped. ST_DATA only for includes nested deeper than 8. */
Status theme_parse(Theme *t, const char *text, const char *file, ThemeLoad *load, void *ctx, Str *warnings,
                   Error *err);
/* Colour as the terminal knows it at this depth: -1 default, a palette index, or 0xRRGGBB for DEPTH_DIRECT. *bright (may
 * be NULL): 8 colours only, the colour asks for bold; bright black has none there and is the default. */
int theme_color(int color, Depth depth, bool *bright);
/* The colour between two at t in 0..1. Palette colours count by their usual RGB. */
int theme_mix(int a, int b, double t);

/* Whether colours are used: the command line's word, else NO_COLOR, else the setting (each -1: not given, 0 never,
 * 1 always), else what the terminal is able to. A terminal that is not able never gets any. */
bool theme_wants_color(int flag, const char *no_color, int config, bool able);

#endif
