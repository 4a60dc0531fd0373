#include "text/calib_record.h"

#include <string.h>

/* Data sets of chats are made for a model's template; calibration wants the words. Who says what is left out, and so is
 * all that is no text (images, calls of tools). */

const char *const calib_field_names[CALIB_FIELDS] = {
    [FIELD_INPUTS] = "inputs_pretokenized", [FIELD_PROMPT] = "prompt",   [FIELD_TEXT] = "text",
    [FIELD_IDS] = "input_ids",              [FIELD_MESSAGES] = "messages", [FIELD_CONVERSATIONS] = "conversations",
    [FIELD_INSTRUCTION] = "instruction",    [FIELD_INPUT] = "input",     [FIELD_OUTPUT] = "output",
};

const char *calib_kind(const cJSON *v)
{
    return cJSON_IsString(v)   ? "a string"
           : cJSON_IsNumber(v) ? "a number"
           : cJSON_IsArray(v)  ? "a list"
           : cJSON_IsObject(v) ? "an object"
           : cJSON_IsBool(v)   ? "true or false"
                               : "null";
}

static void next_part(Str *text, size_t begin, const char *s)
{
    if (text->len > begin)
        str_putc(text, '\n');
    str_puts(text, s);
}

static Status from_string(const CalibRecord *r, CalibField f, Str *text, Error *err)
{
    const cJSON *v = r->value[f];
    if (!cJSON_IsString(v))
        return error_set(err, ST_DATA, "'%s' must be a string, found %s", calib_field_names[f], calib_kind(v));
    str_puts(text, v->valuestring);
    return ST_OK;
}

/* The content of one message: a string, or a list of parts of which those with a text count. */
static Status add_content(const cJSON *content, const char *list, int64_t at, size_t begin, Str *text, Error *err)
{
    if (!content) /* a call of a tool has none */
        return ST_OK;
    if (cJSON_IsString(content)) {
        next_part(text, begin, content->valuestring);
        return ST_OK;
    }
    if (!cJSON_IsArray(content))
        return error_set(err, ST_DATA, "entry %lld of '%s': a string or a list of parts was expected, found %s",
                         (long long)at, list, calib_kind(content));
    const cJSON *part;
    cJSON_ArrayForEach(part, content) {
        const cJSON *t = cJSON_IsObject(part) ? json_get(part, "text") : cJSON_IsString(part) ? part : NULL;
        if (cJSON_IsString(t))
            next_part(text, begin, t->valuestring);
    }
    return ST_OK;
}

/* Entries of a list of turns; `key`: the member that holds what is said. */
static Status add_turns(const CalibRecord *r, CalibField f, const char *key, Str *text, Error *err)
{
    const cJSON *list = r->value[f], *turn;
    size_t begin = text->len;
    int64_t at = 0;
    if (!cJSON_IsArray(list))
        return error_set(err, ST_DATA, "'%s' must be a list of turns, found %s", calib_field_names[f],
                         calib_kind(list));
    cJSON_ArrayForEach(turn, list) {
        if (!cJSON_IsObject(turn))
            return error_set(err, ST_DATA, "entry %lld of '%s': an object with '%s' was expected, found %s",
                             (long long)at, calib_field_names[f], key, calib_kind(turn));
        RETURN_IF_ERROR(add_content(json_get(turn, key), calib_field_names[f], at, begin, text, err));
        at++;
    }
    return text->len > begin ? ST_OK
                             : error_set(err, ST_DATA, "no entry of '%s' has a text in '%s'", calib_field_names[f], key);
}

static Status from_messages(const CalibRecord *r, CalibField f, Str *text, Error *err)
{
    return add_turns(r, f, "content", text, err);
}

static Status from_conversations(const CalibRecord *r, CalibField f, Str *text, Error *err)
{
    return add_turns(r, f, "value", text, err);
}

/* The three parts of an instruction, those that are empty left out. */
static Status from_instruction(const CalibRecord *r, CalibField f, Str *text, Error *err)
{
    size_t begin = text->len;
    for (; f <= FIELD_OUTPUT; f++) {
        const cJSON *v = r->value[f];
        if (v && !cJSON_IsString(v))
            return error_set(err, ST_DATA, "'%s' must be a string, found %s", calib_field_names[f], calib_kind(v));
        if (v && v->valuestring[0])
            next_part(text, begin, v->valuestring);
    }
    return ST_OK;
}

/* The first row whose field is there decides. make NULL: token ids. */
static const struct {
    CalibField field;
    CalibForm form;
    Status (*make)(const CalibRecord *r, CalibField f, Str *text, Error *err);
} forms[] = {
    {FIELD_INPUTS, CALIB_PLAIN, from_string},
    {FIELD_PROMPT, CALIB_PLAIN, from_string},
    {FIELD_TEXT, CALIB_PLAIN, from_string},
    {FIELD_IDS, CALIB_PLAIN, NULL},
    {FIELD_MESSAGES, CALIB_MESSAGES, from_messages},
    {FIELD_CONVERSATIONS, CALIB_CONVERSATIONS, from_conversations},
    {FIELD_INSTRUCTION, CALIB_INSTRUCTION, from_instruction},
};

Status calib_record_text(const CalibRecord *r, Str *text, bool *ids, CalibForm *form, Error *err)
{
    *ids = false;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        *ids = !forms[i].make && r->ids;
        if (!r->value[forms[i].field] && !*ids)
            continue;
        *form = forms[i].form;
        return *ids ? ST_OK : forms[i].make(r, forms[i].field, text, err);
    }
    return error_set(err, ST_DATA,
                     "none of the fields 'inputs_pretokenized', 'prompt', 'text', 'input_ids', 'messages', "
                     "'conversations', 'instruction' is there");
}

const char *calib_form_text(CalibForm form)
{
    static const char *const text[CALIB_FORMS] = {
        [CALIB_PLAIN] = "as it stands",
        [CALIB_MESSAGES] = "what the messages say, one after the other on lines of their own, without a chat template",
        [CALIB_CONVERSATIONS] = "what the turns say, one after the other on lines of their own, without a chat template",
        [CALIB_INSTRUCTION] = "instruction, input and output on lines of their own, without a template",
    };
    return text[form];
}
