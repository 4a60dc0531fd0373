#ifndef SLIM_SRC_CMDLINE_H
#define SLIM_SRC_CMDLINE_H

#include <stdbool.h>
#include <stdint.h>

#include "src/app.h"
#include "text/lexer.h"

/* A command's words and options, taken apart by its option table. Strings are borrowed from the words that were parsed.
 */
typedef struct OptionValue {
    const Option *option;
    const char *value; /* NULL for a flag, and for a list given without a value */
} OptionValue;

struct CommandLine {
    const Command *command;
    int nwords;
    const char **words; /* positional, NULL-terminated */
    int nvalues;
    OptionValue *values; /* in the order given; a list has one entry per value */
    bool bang;           /* ended in ! */
    bool help;           /* -h or --help was given */
};

/* Parses argv[1..argc) of `cmd` (argv[0] is the verb). Options: --name VALUE, --name=VALUE, '-' and '_' equal,
 * unambiguous beginnings accepted, -h, -x FILE where the table has "script"; a list takes words up to the next option;
 * "--" ends options. Types and choices are checked here. quoted (may be NULL) tells which words were quoted: a quoted !
 * is a word. Free with cmdline_fini. */
Status cmdline_parse(const Command *cmd, int argc, char *const *argv, const bool *quoted, CommandLine *out, Error *err);
void cmdline_fini(CommandLine *cl);

bool cl_given(const CommandLine *cl, const char *name);
/* Value of a scalar option, NULL when not given. */
const char *cl_str(const CommandLine *cl, const char *name);
/* Values of a list option into a fresh NULL-terminated array of borrowed strings (caller frees the array); NULL when
 * memory is short. *n = 0 when absent or empty. */
const char **cl_list(const CommandLine *cl, const char *name, int *n);
/* A number of an ARG_INT option (its text was checked), `missing` when not given. */
int64_t cl_int(const CommandLine *cl, const char *name, int64_t missing);
uint64_t cl_size(const CommandLine *cl, const char *name, uint64_t missing);
/* --threads of a command without a session, 0 when not given: every core. */
Status cl_threads(const CommandLine *cl, int *out, Error *err);

/* A whole number in decimal. */
bool parse_int(const char *text, int64_t *out);

/* The nearest of `names` (NULL-terminated) to `word`, or NULL when none is near: for "did you mean". */
const char *nearest_name(const char *word, const char *const *names);
/* The option of this table that `name` means (without the dashes; beginnings count); NULL + err when none or several.
 */
const Option *option_find(const Command *cmd, const char *name, size_t len, Error *err);
/* Usage line, summary and options of a command for people. */
void command_usage(const Command *cmd, Str *out);

#endif
