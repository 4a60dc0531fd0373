#include "model/defaults.h"

#include <string.h>

static Status put(cJSON *config, const char *key, bool there, const char *value, Error *err)
{
    cJSON *v;
    RETURN_IF_ERROR(json_parse(value, strlen(value), key, &v, err));
    bool done = there ? cJSON_ReplaceItemInObjectCaseSensitive(config, key, v) : cJSON_AddItemToObject(config, key, v);
    if (!done) {
        cJSON_Delete(v);
        return error_nomem(err, "the configuration");
    }
    return ST_OK;
}

Status config_defaults(cJSON *config, const Arch *arch, Error *err)
{
    for (const ConfigDefault *d = arch->defaults; d && d->key; d++) {
        bool there = cJSON_GetObjectItemCaseSensitive(config, d->key) != NULL;
        const char *value = there ? d->null : d->absent;
        if (json_get(config, d->key) || !value || (d->other && json_get(config, d->other)))
            continue;
        if (strcmp(value, CONFIG_NO_NULL) == 0)
            return error_set(err, ST_DATA, "'%s' is null: give its value, or leave the key out", d->key);
        RETURN_IF_ERROR(put(config, d->key, there, value, err));
    }
    return ST_OK;
}
