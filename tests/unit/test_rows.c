/* Each row of the engine's tables says which test is about it: a row without one fails here, and so does a line whose row
 * or test is gone. The test is a function that its file registers; rows of the architecture table have a recorded model. */
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "metric/metric.h"
#include "model/weight.h"
#include "recipe/field.h"
#include "save/format.h"
#include "tests/lib/tempdir.h"

/* Name of row i; NULL after the last. */
static const char *metric_row(int i)
{
    return metric_table[i] ? metric_table[i]->name : NULL;
}

static const char *storage_row(int i)
{
    return storage_table[i].name;
}

static const char *saver_row(int i)
{
    return saver_table[i] ? saver_table[i]->type : NULL;
}


static const char *processor_row(int i)
{
    return recipe_rows.processor(i) ? recipe_rows.processor(i)->name : NULL;
}

static const char *arch_row(int i)
{
    return arch_table[i] ? arch_table[i]->model_type : NULL;
}

typedef struct Tested {
    const char *row, *file, *test; /* file below tests/unit */
} Tested;

static const Tested metrics[] = {
    {"kurtosis", "test_metric.c", "recorded_fp32"},
    {"std", "test_metric.c", "recorded_fp32"},
    {"quantile", "test_metric.c", "recorded_fp32"},
    {"local_error", "test_metric.c", "local_error_is_its_formula"},
    {0},
};
static const Tested storages[] = {
    {"fp8", "test_storage.c", "recorded_weights_are_decoded_bit_by_bit"},
    {"fp8_e8m0", "test_storage.c", "recorded_weights_are_decoded_bit_by_bit"},
    {"fp4_e8m0", "test_storage.c", "recorded_weights_are_decoded_bit_by_bit"},
    {"int4_packed", "test_storage.c", "recorded_weights_are_decoded_bit_by_bit"},
    {"mxfp4", "test_storage.c", "codes_are_their_formats"},
    {0},
};
static const Tested savers[] = {
    {"ascendv1_saver", "test_sink_save.c", "recorded_runs_are_reproduced"},
    {"mindie_format_saver", "test_sink_save.c", "recorded_runs_are_reproduced"},
    {"compressed_tensors", "test_sink_save.c", "recorded_runs_are_reproduced"},
    {0},
};
static const Tested archs[] = {
    {"glm4_moe_lite", "test_moe.c", "glm_flash_is_deepseek_v3"}, /* the others have a recorded model */
    {0},
};

static void fail_row(const char *table, const char *row, const char *what)
{
    fail_msg("%s '%s': %s", table, row, what);
}

/* The file has the function and hands it to cmocka. */
static void check_test(const char *table, const Tested *t)
{
    char path[128], call[128];
    size_t n;
    snprintf(path, sizeof path, "tests/unit/%s", t->file);
    char *text = temp_get(path, &n);
    snprintf(call, sizeof call, "void %s(void **", t->test);
    const bool there = strstr(text, call) != NULL;
    snprintf(call, sizeof call, "(%s", t->test);
    const bool run = strstr(text, call) != NULL;
    free(text);
    if (!there || !run)
        fail_row(table, t->row, "its test is gone or not run");
}

static const Tested *tested(const Tested *list, const char *row)
{
    for (; list->row; list++)
        if (strcmp(list->row, row) == 0)
            return list;
    return NULL;
}

/* A recorded model says this model_type. */
static bool recorded(const char *type)
{
    glob_t found;
    char want[96];
    bool hit = false;
    snprintf(want, sizeof want, "\"model_type\": \"%s\"", type);
    if (glob("tests/golden/models/*/*/config.json", 0, NULL, &found) != 0)
        return false;
    for (size_t i = 0; i < found.gl_pathc && !hit; i++) {
        size_t n;
        char *text = temp_get(found.gl_pathv[i], &n);
        hit = strstr(text, want) != NULL;
        free(text);
    }
    globfree(&found);
    return hit;
}

static void both_ways(const char *table, const char *(*row)(int i), const Tested *list, bool models)
{
    for (int i = 0; row(i); i++)
        if (!tested(list, row(i)) && !(models && recorded(row(i))))
            fail_row(table, row(i), "no test names this row");
    for (const Tested *t = list; t->row; t++) {
        int i = 0;
        while (row(i) && strcmp(row(i), t->row) != 0)
            i++;
        if (!row(i))
            fail_row(table, t->row, "there is no such row");
        check_test(table, t);
    }
}

static void every_metric(void **state)
{
    (void)state;
    both_ways("metric", metric_row, metrics, false);
}

static void every_storage(void **state)
{
    (void)state;
    both_ways("storage", storage_row, storages, false);
}

static void every_saver(void **state)
{
    (void)state;
    both_ways("saver", saver_row, savers, false);
}

static void every_architecture(void **state)
{
    (void)state;
    both_ways("architecture", arch_row, archs, true);
}

static const Tested processors[] = {
    {"linear_quant", "test_pipeline.c", "flow_equals_the_recorded_one"},
    {"dynamic_cache", "test_sink_save.c", "ours_remembers_every_sample_of_a_cache"},
    {0},
};

static void every_processor(void **state)
{
    (void)state;
    both_ways("processor", processor_row, processors, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_metric),       cmocka_unit_test(every_storage),   cmocka_unit_test(every_saver),
        cmocka_unit_test(every_architecture), cmocka_unit_test(every_processor),
    };
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}
