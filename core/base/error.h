#ifndef SLIM_BASE_ERROR_H
#define SLIM_BASE_ERROR_H

/* Result codes and error text.  Every fallible function returns a Status and fills the caller's Error. */

typedef enum Status {
    ST_OK = 0,
    ST_FAIL,      /* the job failed or a target was not met; partial results are kept */
    ST_INTERNAL,  /* a bug in slimscope */
    ST_USAGE,     /* the command line or a command is wrong */
    ST_DATA,      /* a model, data set, YAML file or pattern is bad */
    ST_IO,        /* reading or writing failed */
    ST_CANCELLED, /* stopped by the user */
    ST_NOMEM      /* memory could not be had, or would pass --mem */
} Status;

enum { ERROR_TEXT_MAX = 1024 };

/* text: one line, lower case, no final stop: what, where, what to do. Untouched by success. */
typedef struct Error {
    Status status;
    char text[ERROR_TEXT_MAX];
} Error;

/* Fills `err` (may be NULL) with a formatted text and returns `st`. Long text is cut, control bytes are made printable.
 */
Status error_set(Error *err, Status st, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts formatted text before the present one ("FILE: " say) of an error that becomes, or stays, `st`; returns `st`. */
Status error_prefix(Error *err, Status st, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* error_set(err, ST_NOMEM, …) with a standard text; `what` names what the memory was for. */
Status error_nomem(Error *err, const char *what);

/* The process exit code of a status: 0, 1, 2, 64, 65, 74, 130 (DESIGN 8). */
int status_exit_code(Status st);

/* Returns from the calling function when `expr` is not ST_OK. */
#define RETURN_IF_ERROR(expr)                  \
    do {                                       \
        Status status_of_expr_ = (expr);       \
        if (status_of_expr_ != ST_OK)          \
            return status_of_expr_;            \
    } while (0)

#endif
