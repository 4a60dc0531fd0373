#include "recipe/device.h"

#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "recipe/recipe_impl.h"

enum { DEVICES_MAX = 4096, DIGITS_MAX = 6 };

/* ---- --device ---- */

/* The next item of a list, without the blanks around it. false: behind the last. */
static bool next_item(const char **list, const char **item, size_t *n)
{
    const char *s = *list, *end = strchr(s, ',');
    if (!*s)
        return false;
    end = end ? end : s + strlen(s);
    *list = *end ? end + 1 : end;
    while (s < end && ascii_is_space(*s))
        s++;
    while (end > s && ascii_is_space(end[-1]))
        end--;
    *item = s;
    *n = (size_t)(end - s);
    return true;
}

static bool is_number(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!ascii_is_digit(s[i]))
            return false;
    return n > 0 && n <= DIGITS_MAX;
}

/* Counts the items; seen: [DEVICES_MAX] numbers. */
static Status read_list(const char *text, const char *list, int *seen, Device *out, Error *err)
{
    const char *item;
    size_t n;
    while (next_item(&list, &item, &n)) {
        if (!n)
            continue;
        if (!is_number(item, n))
            return error_set(err, ST_USAGE, "device '%.80s': '%.*s' is no device number: write it as npu:0,1,2,3", text,
                             (int)(n < 40 ? n : 40), item);
        const int number = atoi(item);
        if (out->count == DEVICES_MAX)
            return error_set(err, ST_USAGE, "device '%.80s...': more than %d devices", text, DEVICES_MAX);
        for (int i = 0; i < out->count; i++)
            if (seen[i] == number)
                return error_set(err, ST_USAGE, "device '%.80s': device %d stands there twice: leave one out", text, number);
        seen[out->count++] = number;
    }
    if (!out->count)
        return error_set(err, ST_USAGE, "device '%.80s': the list names no device: write it as npu:0,1,2,3", text);
    if (!out->npu && out->count > 1)
        return error_set(err, ST_USAGE,
                         "device '%.80s': cpu takes one number at most: 'mpirun -n %d slimscope ...' computes with several "
                         "processes", text, out->count);
    return ST_OK;
}

Status device_parse(const char *text, Device *out, Error *err)
{
    *out = (Device){0};
    const char *s = text;
    while (ascii_is_space(*s))
        s++;
    const char *colon = strchr(s, ':'), *end = colon ? colon : s + strlen(s);
    while (end > s && ascii_is_space(end[-1]))
        end--;
    const bool npu = end - s == 3 && memcmp(s, "npu", 3) == 0, cpu = end - s == 3 && memcmp(s, "cpu", 3) == 0;
    if (!npu && !cpu)
        return error_set(err, ST_USAGE, "unknown device '%.80s': give --device cpu, or npu with the list that msModelSlim "
                                        "takes, as npu:0,1,2,3", text);
    out->npu = npu;
    const char *list = colon ? colon + 1 : "";
    while (ascii_is_space(*list))
        list++;
    if (!*list)
        return ST_OK;
    int *seen = mem_array(DEVICES_MAX, sizeof *seen);
    const Status st = seen ? read_list(text, list, seen, out, err) : error_nomem(err, "a list of devices");
    free(seen);
    return st;
}

/* ---- spec.runner ---- */

RecipeRunner recipe_runner(const Recipe *r)
{
    static const char *const words[] = {"auto", "model_wise", "layer_wise", "dp_layer_wise"}; /* as RecipeRunner */
    if (r->api != &api_v1)
        return RUNNER_LAYER_WISE;
    const YamlNode *v = yaml_get(yaml_get(yaml_root(r->doc), "spec"), "runner");
    for (int i = RUNNER_AUTO; v && i <= RUNNER_DP_LAYER_WISE; i++)
        if (node_is(v, words[i]))
            return (RecipeRunner)i;
    return RUNNER_AUTO;
}

bool recipe_divides(const Recipe *r, int devices)
{
    const RecipeRunner runner = r ? recipe_runner(r) : RUNNER_AUTO;
    return devices > 1 && (runner == RUNNER_AUTO || runner == RUNNER_DP_LAYER_WISE);
}

static bool step_divides(const Recipe *r, const RecipeStep *s)
{
    const ProcessorType *p = s->processor;
    bool fine = p && p->peer_divides;
    for (int i = 0; fine && p->peer_alone && s->entry >= 0 && i < s->entries; i++)
        fine = strcmp(recipe_entry(r, s->entry + i)->q.weight.method, p->peer_alone) != 0;
    return fine;
}

static void name_it(Str *out, const char *type)
{
    str_printf(out, "%s'%.60s'", out->len ? ", " : "", type);
}

void recipe_undivided(const Recipe *r, Str *out)
{
    for (int i = 0; i < recipe_stages(r); i++)
        for (int k = 0; k < recipe_stage(r, i)->nunits; k++) {
            const RecipeUnit *u = &recipe_stage(r, i)->units[k];
            bool any = false; /* of a group, one that can is enough: so the peer asks */
            for (int j = 0; j < u->nsteps; j++)
                any = any || step_divides(r, &u->steps[j]);
            if (!any)
                name_it(out, u->nsteps == 1 ? u->steps[0].type : "group");
        }
    for (int i = 0; i < recipe_savers(r); i++) {
        SaverType t = {0};
        for (int k = 0; r->rows->saver(k, &t) && strcmp(t.name, recipe_saver(r, i)->type) != 0; k++)
            ;
        if (!t.processor) /* those that are processors, too, are those that the peer divides */
            name_it(out, recipe_saver(r, i)->type);
    }
}
