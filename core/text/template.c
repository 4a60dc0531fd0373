#include "text/template.h"

#include <stdlib.h>
#include <string.h>

#include "io/json.h"
#include "text/component.h"

enum { IDS_MAX = 64 };

/* The ids of one {"SpecialToken": {"id": NAME}}. */
static Status special_ids(const cJSON *specials, const cJSON *item, IdList *out, Error *err)
{
    const char *name = NULL;
    RETURN_IF_ERROR(json_str(item, "id", &name, NULL, err));
    const cJSON *entry = name ? json_get(specials, name) : NULL;
    const cJSON *ids = cJSON_IsObject(entry) ? json_get(entry, "ids") : NULL, *e;
    if (!cJSON_IsArray(ids))
        return error_set(err, ST_DATA, "post_processor: special token '%.80s' has no ids", name ? name : "");
    cJSON_ArrayForEach(e, ids) {
        if (!cJSON_IsNumber(e) || !(e->valuedouble >= 0) || e->valuedouble > INT32_MAX || out->n >= IDS_MAX)
            return error_set(err, ST_DATA, "post_processor: bad ids of special token '%.80s'", name);
        if (!id_push(out, (int32_t)e->valuedouble))
            return error_nomem(err, "a tokenizer");
    }
    return ST_OK;
}

static Status read_single(Template *t, const cJSON *node, Error *err)
{
    const cJSON *single = json_get(node, "single"), *specials = json_get(node, "special_tokens"), *item;
    bool seen = false;
    if (!cJSON_IsArray(single))
        return error_set(err, ST_DATA, "post_processor TemplateProcessing: 'single' is no list");
    template_free(t);
    cJSON_ArrayForEach(item, single) {
        const cJSON *special = cJSON_IsObject(item) ? json_get(item, "SpecialToken") : NULL;
        const cJSON *sequence = cJSON_IsObject(item) ? json_get(item, "Sequence") : NULL;
        if (cJSON_IsObject(special) && cJSON_IsObject(specials))
            RETURN_IF_ERROR(special_ids(specials, special, seen ? &t->after : &t->before, err));
        else if (sequence && !seen)
            seen = true;
        else
            return error_set(err, ST_DATA,
                             "post_processor TemplateProcessing: 'single' has an entry that is not understood");
    }
    if (!seen)
        return error_set(err, ST_DATA, "post_processor TemplateProcessing: 'single' has no place for the text");
    return ST_OK;
}

static Status read_step(void *ctx, const cJSON *node, const char *type, Error *err)
{
    if (strcmp(type, "ByteLevel") == 0)
        return ST_OK;
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_single(ctx, node, err);
    return error_set(err, ST_DATA, "post_processor '%s' is not supported", type);
}

Status template_read(Template *t, const cJSON *node, Error *err)
{
    return component_read(&(ComponentReader){"post_processor", "processors", read_step, t}, node, err);
}

void template_free(Template *t)
{
    free(t->before.id);
    free(t->after.id);
    memset(t, 0, sizeof *t);
}
