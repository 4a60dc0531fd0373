#ifndef SLIM_SAVE_PYJSON_H
#define SLIM_SAVE_PYJSON_H

#include "base/error.h"
#include "base/str.h"

/* JSON text as Python's json.dump writes it: ASCII only, ": " and, with an indent, one member a line. */

/* A string with its quotes, everything beyond ASCII escaped. */
void pyjson_string(Str *out, const char *s, size_t n);
/* A double as repr() prints it: shortest digits that read back, "1e-06", "10000.0". */
void pyjson_double(Str *out, double v);
/* How a document is changed as it is written anew; {0}: not at all. Members named here are those of the root, and of the
 * object "text_config" in it. */
typedef struct PyjsonEdit {
    const char *const *drop; /* NULL-terminated: members that are left out; NULL: none */
    const char *add;         /* body of more members ("\"key\": {…}", already indented) at the root's end; NULL: none */
    const char *set, *to;    /* member `set` has this value, whether it was there or not; NULL: none */
} PyjsonEdit;
/* `text` (one document, as json_parse_loose accepts) written anew with this indent into out. *dropped (may be NULL) counts
 * what was left out. */
Status pyjson_rewrite(const char *text, size_t len, const char *name, int indent, const PyjsonEdit *edit, int *dropped,
                      Str *out, Error *err);

#endif
