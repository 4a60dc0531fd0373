#ifndef SLIM_EXPORT_MODULES_H
#define SLIM_EXPORT_MODULES_H

#include "base/str.h"
#include "export/export.h"

/* Names of modules, and the regular expressions that tools select them by. */

typedef struct ModuleList {
    const char **name; /* of the model, or in `made` */
    size_t n, cap;
    Arena made;
} ModuleList;
void modules_fini(ModuleList *l);
/* The linears at a level, or at one that is written alike. */
Status modules_at(const ExportInput *in, int level, ModuleList *out, Error *err);
/* Modules with a weight of rows and columns that are none of the model's linears and that a tool may take for some: the
 * head (also a tied one), routers, what isn't run of the checkpoint. The embedding isn't among them. Appends. */
Status modules_beside(const Model *m, ModuleList *out, Error *err);

/* Appends JSON strings, separated by ",\n" and each behind `indent`: `lead` and a regular expression (save/ignore_regex.h)
 * that takes these names and no other, and `after` behind the string. There are several where one would be too long for
 * PCRE2. Sorts the list; none where it is empty. *any: something was put before. */
Status put_patterns(Str *out, ModuleList *l, const char *indent, const char *lead, const char *after, bool *any,
                    Error *err);

/* A pattern as Python's re or C++'s std::regex reads it, within what ignore_regex and the forms write: letters, escapes,
 * groups, alternatives, (?!…). */
typedef struct ToolRegex ToolRegex;
/* at_start: re.match; else std::regex_search. */
Status tool_regex(ToolRegex **out, const char *pattern, bool at_start, Error *err);
bool tool_regex_hits(const ToolRegex *r, const char *name);
void tool_regex_free(ToolRegex *r);

#endif
