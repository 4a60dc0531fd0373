#ifndef SLIM_SESSION_LOGFILE_H
#define SLIM_SESSION_LOGFILE_H

#include "base/str.h"
#include "session/session.h"

/* The log of a session as a text file: FOLDER/log, a line for each of its own, like
 * "2026-11-29 23:59:01 warn job #3 measure: stopped". At LOGFILE_MAX bytes it becomes FOLDER/log.1, and that one goes. */
enum { LOGFILE_MAX = 1 << 20 };

/* The line as it stands in the file, with its end; control characters of the text are blanks. */
void logfile_line(const LogLine *l, Str *out);
/* Appends lines. */
Status logfile_append(const char *folder, const char *text, size_t n, Error *err);
/* Called with each of the newest `most` lines of both files, oldest first; what is no line is passed over. */
typedef void LogFileLine(void *ctx, const LogLine *l);
void logfile_read(const char *folder, int most, LogFileLine *line, void *ctx);

#endif
