#include "tests/lib/tune_stub.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const Field fields[] = {FIELD_EVALUATION, {.key = "seed", .type = F_INT, .absent = "1"}, FIELD_END};
static const Object object = {.fields = fields};

static const void *settings(Arena *a, const YamlNode *map)
{
    (void)a;
    return map;
}

static Status no_run(const void *set, const Expectation *e, int n, const EvalKit *kit, const EvalTrial *t, EvalResult *out, Error *err)
{
    (void)set, (void)e, (void)n, (void)kit, (void)t, (void)out;
    return error_set(err, ST_INTERNAL, "the stub is not run");
}

static const EvaluatorType stub = {.name = "stub", .object = &object, .folder = true, .peer = true, .settings = settings, .run = no_run};
static const EvaluatorType memory = {.name = "memory", .object = &object, .settings = settings, .run = no_run};

static const StrategyType *strategy(int i)
{
    return plan_rows.strategy(i);
}

static const EvaluatorType *evaluator(int i)
{
    static const EvaluatorType *const rows[] = {&stub, &memory, NULL};
    return rows[i];
}

const PlanRows stub_rows = {.recipe = &recipe_rows, .strategy = strategy, .evaluator = evaluator};

Plan *stub_plan(const char *text, bool peer)
{
    Plan *p = NULL;
    Error err = {0};
    if (plan_parse(&p, &stub_rows, text, strlen(text), "plan.yaml", peer, NULL, &err) != ST_OK)
        fail_msg("%s\n%s", err.text, text);
    return p;
}

void stub_answer(EvalResult *r, const char *dataset, const char *value)
{
    Accuracy a = {.error = NAN};
    Error err = {0};
    snprintf(a.dataset, sizeof a.dataset, "%s", dataset);
    assert_true(decimal_parse(value, strlen(value), &a.value));
    assert_int_equal(eval_result_add(r, &a, &err), ST_OK);
}

const char *stub_files(const char *save_path)
{
    static char text[4096];
    char path[512], *names[200];
    int n = 0;
    snprintf(path, sizeof path, "%s/history", save_path);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL && n < 200;)
        if (e->d_name[0] != '.')
            names[n++] = strdup(e->d_name);
    closedir(d);
    qsort(names, (size_t)n, sizeof *names, compare_strings);
    size_t len = 0;
    text[0] = '\0';
    for (int i = 0; i < n; i++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", i ? ", " : "", names[i]);
        free(names[i]);
    }
    return text;
}

int64_t stub_now(void *ctx)
{
    return ctx ? *(int64_t *)ctx : 1700000000;
}
