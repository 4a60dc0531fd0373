#ifndef SLIM_SESSION_EFFECTRECORD_H
#define SLIM_SESSION_EFFECTRECORD_H

#include "base/str.h"
#include "io/json.h"
#include "measure/effect.h"

/* Appends the figures of a measurement as members: ,"effect":{...}. */
void effect_record(Str *b, const Effect *e);
/* Reads them back out of the whole record, also from those that came before the names: a list "v" of numbers and
 * "texts". ST_DATA when they are neither, or name a linear that the model has not. */
Status effect_parse(const cJSON *record, int64_t nlinears, Effect *out, Error *err);

/* Appends ,"blocks":{...}: the blocks as packed bytes in base64. */
void blocks_record(Str *b, const TokenBlocks *blocks);
/* Reads them back for the measurement of the same record, the caller's; NULL where a record has none, as older ones
 * have not. ST_DATA when they are not the measurement's. */
Status blocks_parse(const cJSON *record, const Effect *e, TokenBlocks **out, Error *err);

#endif
