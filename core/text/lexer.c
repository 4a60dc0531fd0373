#include "text/lexer.h"

#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"

void words_fini(Words *w)
{
    for (int i = 0; i < w->n; i++)
        free(w->word[i]);
    free(w->word);
    free(w->quoted);
    free(w->start);
    memset(w, 0, sizeof *w);
}

/* Takes the text of `b` as the next word. */
static bool add_word(Words *w, Str *b, bool quoted, size_t start)
{
    size_t n = (size_t)w->n + 2;
    char **word = realloc(w->word, n * sizeof *word);
    if (word)
        w->word = word;
    bool *q = realloc(w->quoted, n * sizeof *q);
    if (q)
        w->quoted = q;
    size_t *s = realloc(w->start, n * sizeof *s);
    if (s)
        w->start = s;
    char *text = word && q && s ? str_detach(b) : NULL;
    if (!text)
        return false;
    w->word[w->n] = text;
    w->quoted[w->n] = quoted;
    w->start[w->n] = start;
    w->word[++w->n] = NULL;
    return true;
}

/* Reads one word at p into b; gives the end. *open gets the quote that the line's end leaves open, *open_at where it
 * began. */
static const char *read_word(const char *p, Str *b, bool *quoted, char *open, const char **open_at)
{
    char q = 0;
    const char *q_at = NULL;
    for (; *p && (q || !ascii_is_space(*p)); p++) {
        if (q ? *p == q : (*p == '\'' || *p == '"')) {
            *quoted = true;
            q = q ? 0 : *p;
            q_at = p;
        } else if (*p == '\\' && q != '\'') {
            *quoted = true;
            if (!p[1]) {
                *open = '\\';
                *open_at = p;
                return p + 1;
            }
            if (q && !strchr("\"\\$`", p[1]))
                str_putc(b, '\\');
            str_putc(b, *++p);
        } else {
            str_putc(b, *p);
        }
    }
    *open = q;
    *open_at = q_at;
    return p;
}

static Status split(const char *line, bool partial, Words *out, Error *err)
{
    memset(out, 0, sizeof *out);
    const char *p = line;
    for (;;) {
        while (*p && ascii_is_space(*p))
            p++;
        if (*p == '#') {
            out->comment = true;
            break;
        }
        if (!*p && !partial)
            break;
        Str b = {0};
        bool quoted = false;
        const char *open_at = p;
        size_t start = (size_t)(p - line);
        p = read_word(p, &b, &quoted, &out->open, &open_at);
        if (out->open && !partial) {
            char c = out->open;
            str_free(&b);
            words_fini(out);
            if (c == '\\')
                return error_set(err, ST_USAGE, "the line ends in a backslash: nothing follows to escape");
            return error_set(err, ST_USAGE, "the %c opened at column %d is not closed", c, (int)(open_at - line) + 1);
        }
        str_append(&b, "", 0);
        if (!add_word(out, &b, quoted, start)) {
            str_free(&b);
            words_fini(out);
            return error_nomem(err, "a command line");
        }
        if (!*p)
            break; /* the word reaches the end of the line: nothing empty follows */
    }
    return ST_OK;
}

Status lexer_split(const char *line, Words *out, Error *err)
{
    return split(line, false, out, err);
}

Status lexer_partial(const char *line, Words *out, Error *err)
{
    return split(line, true, out, err);
}

/* Bytes that need no quotes anywhere in a word. UTF-8 is plain; '*' and braces too, since nothing expands them. */
static bool is_plain(const char *s)
{
    if (!*s || *s == '#' || strcmp(s, "!") == 0)
        return false;
    for (; *s; s++)
        if (ascii_is_space(*s) || strchr("'\"\\", *s))
            return false;
    return true;
}

void lexer_quote(Str *out, const char *word)
{
    if (is_plain(word)) {
        str_puts(out, word);
        return;
    }
    str_putc(out, '\'');
    for (; *word; word++) {
        if (*word == '\'')
            str_puts(out, "'\\''");
        else
            str_putc(out, *word);
    }
    str_putc(out, '\'');
}
