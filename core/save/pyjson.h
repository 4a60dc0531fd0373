#ifndef SLIM_SAVE_PYJSON_H
#define SLIM_SAVE_PYJSON_H

#include "base/error.h"
#include "base/str.h"

/* JSON text as Python's json.dump writes it: ASCII only, ": " and, with an indent, one member a line. */

/* A string with its quotes, everything beyond ASCII escaped. */
void pyjson_string(Str *out, const char *s, size_t n);
/* A double as repr() prints it: shortest digits that read back, "1e-06", "10000.0". */
void pyjson_double(Str *out, double v);
/* `text` (one document, as json_parse_loose accepts) written anew with this indent into out. Members of the root, and of the
 * object "text_config" in it, called one of `drop` (NULL-terminated; NULL: none) are left out, *dropped counts them.
 * `add` (may be NULL) is the body of more members ("\"key\": {…}", already indented) at the root's end. */
Status pyjson_rewrite(const char *text, size_t len, const char *name, int indent, const char *const *drop,
                      int *dropped, const char *add, Str *out, Error *err);

#endif
