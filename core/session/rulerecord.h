#ifndef SLIM_SESSION_RULERECORD_H
#define SLIM_SESSION_RULERECORD_H

#include "io/json.h"
#include "session/rules.h"

/* Rules and recipes in the journal. */

/* Appends a list as a member: ,"rules":[...]. */
void rules_record(Str *b, const RuleList *l);
/* Reads such a list back, for the open recipe; ST_DATA when it does not fit that or the model. Caller frees with rules_fini. */
Status rules_parse(const Session *s, const cJSON *record, RuleList *out, Error *err);
/* Read the records back, each one undo step: the "rules" of a step; a recipe with the rules after it (without: one that
 * dropped everything, as older programs did, or the first one of a model, which is no step); an older program's cells of
 * linear, from, to; and its text for the step before. */
Status rules_restore(Session *s, const cJSON *record, Error *err);
Status recipe_restore(Session *s, const cJSON *record, Error *err);
Status cells_restore(Session *s, const cJSON *cells, Error *err);
/* Appends the level of every linear as a member, in runs: ,"levels":[level,times,...]. */
void levels_record(Str *b, const int16_t *level, int64_t n);
/* Reads them back into a fresh list; a record without them has those of `missing`. */
Status levels_parse(const cJSON *record, int64_t n, const int16_t *missing, int16_t **out, Error *err);
Status text_restore(Session *s, const char *text, Error *err);

#endif
