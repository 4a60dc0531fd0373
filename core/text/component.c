#include "text/component.h"

#include <string.h>

enum { DEPTH_MAX = 8 };

static Status read_node(const ComponentReader *r, const cJSON *node, int depth, Error *err)
{
    if (!node || cJSON_IsNull(node))
        return ST_OK;
    const char *type = NULL;
    if (cJSON_IsObject(node))
        RETURN_IF_ERROR(json_str(node, "type", &type, NULL, err));
    if (!type)
        return error_set(err, ST_DATA, "%s: no 'type'", r->what);
    if (strcmp(type, "Sequence") != 0)
        return r->step(r->ctx, node, type, err);
    const cJSON *list = json_get(node, r->list), *one;
    if (!cJSON_IsArray(list) || depth >= DEPTH_MAX)
        return error_set(err, ST_DATA, "%s Sequence: '%s' is no list, or nested too deeply", r->what, r->list);
    cJSON_ArrayForEach(one, list) RETURN_IF_ERROR(read_node(r, one, depth + 1, err));
    return ST_OK;
}

Status component_read(const ComponentReader *r, const cJSON *node, Error *err)
{
    return read_node(r, node, 0, err);
}

Status component_pattern(const cJSON *step, const char *what, Matcher **out, Error *err)
{
    const cJSON *pattern = json_get(step, "pattern");
    const char *literal = NULL, *regex = NULL;
    if (cJSON_IsObject(pattern)) {
        RETURN_IF_ERROR(json_str(pattern, "String", &literal, NULL, err));
        RETURN_IF_ERROR(json_str(pattern, "Regex", &regex, NULL, err));
    }
    if (literal)
        return matcher_literal(out, literal, strlen(literal), err);
    if (regex)
        return matcher_regex(out, regex, strlen(regex), err);
    return error_set(err, ST_DATA, "%s: 'pattern' has neither 'String' nor 'Regex'", what);
}
