#include "text/csv.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void csv_field(Str *out, const char *s)
{
    if (!strpbrk(s, ",\"\r\n")) {
        str_puts(out, s);
        return;
    }
    str_putc(out, '"');
    for (; *s; s++) {
        if (*s == '"')
            str_putc(out, '"');
        str_putc(out, *s);
    }
    str_putc(out, '"');
}

static Status add(CsvReader *r, char *field, Error *err)
{
    if (!mem_grow(&r->field, &r->cap, r->n + 1, sizeof *r->field))
        return error_nomem(err, "a line of a table");
    r->field[r->n++] = field;
    return ST_OK;
}

/* A field in quotes, whose first one was passed; it is moved together in place. *end: where its text ends. */
static Status read_quoted(CsvReader *r, char **end, Error *err)
{
    char *to = r->at;
    for (; r->at < r->end; r->at++) {
        if (*r->at == '"' && (r->at + 1 == r->end || r->at[1] != '"'))
            break;
        r->at += *r->at == '"';
        r->next_line += *r->at == '\n';
        *to++ = *r->at;
    }
    if (r->at >= r->end)
        return error_set(err, ST_DATA, "line %d: a quote is not closed", r->line);
    r->at++;
    *end = to;
    if (r->at < r->end && *r->at != r->sep && *r->at != '\n' && *r->at != '\r')
        return error_set(err, ST_DATA, "line %d: text behind a closed quote", r->line);
    return ST_OK;
}

Status csv_next(CsvReader *r, bool *got, Error *err)
{
    while (r->at < r->end && (*r->at == '\n' || *r->at == '\r')) {
        r->next_line += *r->at == '\n';
        r->at++;
    }
    r->line = r->next_line + 1;
    r->n = 0;
    *got = r->at < r->end;
    for (bool more = *got; more;) {
        char *field = r->at, *end = field;
        if (field < r->end && *field == '"') {
            field = ++r->at;
            RETURN_IF_ERROR(read_quoted(r, &end, err));
        } else {
            while (r->at < r->end && *r->at != r->sep && *r->at != '\n' && *r->at != '\r')
                r->at++;
            end = r->at;
        }
        more = r->at < r->end && *r->at == r->sep;
        if (r->at < r->end && *r->at == '\r' && r->at + 1 < r->end && r->at[1] == '\n')
            r->at++;
        r->next_line += r->at < r->end && *r->at == '\n';
        r->at += r->at < r->end;
        *end = '\0';
        RETURN_IF_ERROR(add(r, field, err));
    }
    return ST_OK;
}

void csv_fini(CsvReader *r)
{
    free(r->field);
    *r = (CsvReader){0};
}
