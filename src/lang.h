#ifndef SLIM_SRC_LANG_H
#define SLIM_SRC_LANG_H

#include <stdarg.h>
#include <stddef.h>

#include "base/error.h"

/* Words of the workbench in another language than English. The words of the command language, results on standard output and
 * errors stay English: scripts read them, and people search for them. */

/* A text, or a format with the same conversions in the same order. */
typedef struct LangText {
    const char *en, *to;
} LangText;
enum { LANG_TABLES = 8 };
typedef struct Lang {
    const char *name; /* as `set lang=` takes it, and as LANG begins */
    /* Up to the first NULL, one behind the other in the order of strcmp over en; each ends with en == NULL. */
    const LangText *tables[LANG_TABLES + 1];
    const LangText *lines; /* of the log, each %s what stands there; the first that fits counts. Ends as the tables do */
} Lang;
extern const Lang lang_zh;
extern const Lang *const lang_table[]; /* NULL-terminated */

/* From here on tr gives this language: a row of lang_table, "en", or "auto", what LC_ALL, LC_MESSAGES or LANG say (LANGUAGE
 * is not asked). Another name: ST_USAGE with those there are. Before the first call: English. */
Status lang_choose(const char *name, Error *err);
/* The name of the language that was chosen. */
const char *lang_name(void);
/* The text in the chosen language; itself where the table lacks it. */
const char *tr(const char *english) __attribute__((format_arg(1)));
/* A whole line of the log in the chosen language, in buf; the line itself where no template fits, or it is longer. */
const char *tr_line(const char *line, char *buf, size_t size);
/* Marks a text of a table that is translated where it is drawn. */
#define N_(text) text
/* snprintf and its like with a format that is translated. */
int text_format(char *out, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
