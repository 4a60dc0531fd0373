#ifndef SLIM_TEXT_CSV_H
#define SLIM_TEXT_CSV_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/str.h"

/* Comma-separated values (RFC 4180): fields in quotes may hold commas, line breaks and doubled quotes. */

/* Appends a field, quoted where it must be. */
void csv_field(Str *out, const char *s);

/* One record after the other of a text that is borrowed and changed in place. */
typedef struct CsvReader {
    char *at, *end;  /* the text [at, end), with a NUL that may be written at *end */
    int line;        /* of the record read last, 1-based */
    int next_line;   /* 0 to begin with */
    char sep;        /* ',', or the one that the file has: ';' or a tab */
    char **field;    /* of the record read last, NUL-terminated, borrowed from the text */
    size_t n, cap;
} CsvReader;
/* The next record; false in *got behind the last. Lines without anything are passed over. ST_DATA for a quote that isn't
 * closed, or text behind a closed one. */
Status csv_next(CsvReader *r, bool *got, Error *err);
void csv_fini(CsvReader *r);

#endif
