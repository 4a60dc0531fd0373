#ifndef SLIM_TEXT_LEXER_H
#define SLIM_TEXT_LEXER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/str.h"

/* The one lexer of the prompt, scripts, the rc file and history: words as sh splits them (single and double quotes,
 * backslash, adjacent pieces joined), '#' at the start of a word begins a comment. No expansion of any kind: patterns
 * stay as they are. */
typedef struct Words {
    int n;
    char **word;    /* NULL-terminated like argv */
    bool *quoted;   /* any part of it was quoted or escaped */
    size_t *start;  /* byte offset of each word in the line */
    bool comment;   /* a comment ended the line */
    char open;      /* lexer_partial: the quote that is still open ('\\' for a last backslash), 0 none */
} Words;

/* Splits a line (without its newline). An open quote or a last backslash: ST_USAGE with the column. Free with
 * words_fini. */
Status lexer_split(const char *line, Words *out, Error *err);
/* The same for a line that is still being typed: an open quote is no error, and a line that ends outside a word gets
 * one last, empty word. */
Status lexer_partial(const char *line, Words *out, Error *err);
void words_fini(Words *w);

/* Appends `word` quoted so that lexer_split gives it back unchanged; words of plain characters stay bare. */
void lexer_quote(Str *out, const char *word);

#endif
