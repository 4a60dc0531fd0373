#ifndef SLIM_TEXT_CALIB_RECORD_H
#define SLIM_TEXT_CALIB_RECORD_H

#include "base/str.h"
#include "io/json.h"
#include "text/calib.h"

/* Inside calib*.c: one object of a data set. */

/* The members that count; all others are not looked at. */
typedef enum CalibField {
    FIELD_INPUTS, FIELD_PROMPT, FIELD_TEXT, FIELD_IDS, FIELD_MESSAGES, FIELD_CONVERSATIONS, FIELD_INSTRUCTION,
    FIELD_INPUT, FIELD_OUTPUT, CALIB_FIELDS
} CalibField;

/* Values borrowed; NULL where the object lacks the member, or has null there. Token ids, of which there may be millions,
 * stay the text they are written in: value[FIELD_IDS] is NULL. */
typedef struct CalibRecord {
    const cJSON *value[CALIB_FIELDS];
    const char *ids;
    size_t ids_len;
} CalibRecord;

extern const char *const calib_field_names[CALIB_FIELDS];
/* "a number", "a list", ...: for error texts. */
const char *calib_kind(const cJSON *v);

/* The text of a record, appended to *text; *ids: the token ids are what counts (then *text is as it was). *form gets how
 * the text was made. Neither: ST_DATA with "none of the fields ... is there"; a member of the wrong type: ST_DATA naming
 * it. Errors without the place. */
Status calib_record_text(const CalibRecord *r, Str *text, bool *ids, CalibForm *form, Error *err);

#endif
