#ifndef SLIM_SESSION_MADEWITH_H
#define SLIM_SESSION_MADEWITH_H

#include "base/str.h"
#include "io/json.h"
#include "session/job.h"
#include "session/rules.h"

/* What a job's measurement was made with, as of now. */
void made_with(const Session *s, const Job *j, MadeWith *out);

/* Appends ,"made":{...}; nothing of one that tells nothing. */
void made_record(Str *b, const MadeWith *m);
/* Reads it back out of the whole record; all zero when there is none. */
void made_parse(const cJSON *record, MadeWith *out);

/* The rows that are on as lines of level and text, by the levels of their recipe (NULL: not known, levels are numbers).
 * malloced; NULL without memory. */
char *rules_lines(const RuleList *l, const Recipe *r);

#endif
