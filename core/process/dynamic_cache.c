#include "process/cachelayers.h"
#include "process/processor.h"

#include <string.h>

/* dynamic_cache: scales for the keys and values that an int8 cache holds (specs/quantization.md 10). */

static const Field fields[] = {
    FIELD_TYPE,
    {.key = "qconfig", .type = F_OBJECT, .object = &qspec_object, .required = true},
    FIELD_PATTERNS,
    FIELD_END,
};

/* The peer's loader takes any qconfig, its run only this one. */
static void check(Check *c, const YamlNode *map)
{
    const YamlNode *qc = yaml_get(map, "qconfig");
    QSpec q;
    if (!qc || !qspec_read(qc, &q))
        return; /* said already */
    if (q.dtype != QT_INT8 || q.scope != QS_PER_CHANNEL || strcmp(q.method, "minmax") != 0)
        check_block(c, qc, "dynamic_cache runs with per_channel int8 minmax, not with %s %s %s", qscope_name(q.scope),
                    qtype_name(q.dtype), q.method);
    check_ext(c, qc, "qconfig", &q);
}

static const void *settings(Arena *a, const YamlNode *map)
{
    RecipeCache *k = arena_alloc(a, sizeof *k);
    if (!k)
        return NULL;
    *k = (RecipeCache){.ninclude = 0};
    k->include = texts_read(a, yaml_get(map, "include"), &k->ninclude);
    qspec_read(yaml_get(map, "qconfig"), &k->q);
    k->exclude = texts_read(a, yaml_get(map, "exclude"), &k->nexclude);
    return k->include && k->exclude ? k : NULL;
}

static const Object object = {.fields = fields, .check = check};
static const Processor run = {.needs = PROCESSOR_DATA};

const ProcessorType processor_dynamic_cache = {
    .name = "dynamic_cache",
    .object = &object,
    .settings = settings,
    .run = &run,
};
