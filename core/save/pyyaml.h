#ifndef SLIM_SAVE_PYYAML_H
#define SLIM_SAVE_PYYAML_H

#include "base/str.h"
#include "io/yaml.h"

/* A tree as PyYAML's dump(sort_keys=False) writes it: block style, aliases written out, lines folded at 80 columns,
 * strings quoted only where a plain one would be read as something else, ASCII only. */
void pyyaml_dump(const YamlNode *root, Str *out);

#endif
