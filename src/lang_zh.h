#ifndef SLIM_SRC_LANG_ZH_H
#define SLIM_SRC_LANG_ZH_H

#include "src/lang.h"

/* The tables of simplified Chinese, each with the words that begin as its name says; end with en == NULL. */
extern const LangText lang_zh_signs[], lang_zh_capitals[], lang_zh_a_m[], lang_zh_n_z[];
extern const LangText lang_zh_lines[]; /* Lang.lines */

#endif
