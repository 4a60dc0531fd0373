/* Words of the workbench in simplified Chinese. */
#include "src/lang_zh.h"

const Lang lang_zh = {.name = "zh", .tables = {lang_zh_signs, lang_zh_capitals, lang_zh_a_m, lang_zh_n_z}, .lines = lang_zh_lines};
