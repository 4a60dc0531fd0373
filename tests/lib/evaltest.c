#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/stat.h>

#include <cmocka.h>

#include "io/yaml.h"
#include "recipe/field.h"
#include "tests/lib/evaltest.h"
#include "tests/lib/tempdir.h"

typedef struct Body {
    const YamlNode *root;
    const Object *object;
} Body;

static void check_body(Check *c, void *ctx)
{
    const Body *b = ctx;
    check_object(c, b->root, b->object);
}

static YamlDoc *parse(const EvaluatorType *type, const char *yaml, bool peer, Str *all)
{
    YamlDoc *doc = NULL;
    Error e = {0};
    if (yaml_parse(&doc, yaml, strlen(yaml), "plan", &e) != ST_OK)
        fail_msg("%s", e.text);
    Body b = {.root = yaml_root(doc), .object = type->object};
    check_run(NULL, "plan", peer, all, check_body, &b, &e);
    return doc;
}

char *evaltest_errors(const EvaluatorType *type, const char *yaml, bool peer)
{
    Str all = {0};
    yaml_doc_free(parse(type, yaml, peer, &all));
    str_puts(&all, "");
    return str_detach(&all);
}

static void take_log(void *ctx, int level, const char *text)
{
    (void)level;
    str_printf(&((EvalTest *)ctx)->log, "%s\n", text);
}

static bool take_question(void *ctx, const char *question, char *line, size_t size)
{
    EvalTest *t = ctx;
    str_printf(&t->asked, "%s\n", question);
    if (!t->answers || !*t->answers)
        return false;
    snprintf(line, size, "%s", *t->answers++);
    return true;
}

void evaltest_open(EvalTest *t, const EvaluatorType *type, const char *yaml)
{
    Str all = {0};
    *t = (EvalTest){.type = type, .dir = temp_folder()};
    t->doc = parse(type, yaml, false, &all);
    if (all.len)
        fail_msg("%s", all.s);
    str_free(&all);
    t->settings = type->settings(&t->arena, yaml_root(t->doc));
    t->expect = demand_read(&t->arena, yaml_get(yaml_root(t->doc), "demand"), &t->n);
    assert_non_null(t->settings);
    assert_non_null(t->expect);
    t->save = strdup(temp_path(t->dir, "save"));
    t->model = strdup(temp_path(t->dir, "model"));
    assert_int_equal(mkdir(t->save, 0700) | mkdir(t->model, 0700), 0);
    assert_int_equal(pool_new(&t->pool, 2, &t->err), ST_OK);
    t->kit = (EvalKit){.pool = t->pool,
                       .model_path = "float model",
                       .work_dir = t->save,
                       .cancel = &t->cancel,
                       .log = take_log,
                       .ask = take_question,
                       .ctx = t};
}

Status evaltest_run(EvalTest *t, int number)
{
    EvalTrial trial = {.folder = t->model, .number = number, .id = "standing_high_7"};
    eval_result_free(&t->result);
    t->result = (EvalResult){0};
    t->err = (Error){0};
    Status st = t->type->ready ? t->type->ready(t->settings, t->expect, t->n, &t->kit, &t->err) : ST_OK;
    return st == ST_OK ? t->type->run(t->settings, t->expect, t->n, &t->kit, &trial, &t->result, &t->err) : st;
}

void evaltest_expect(EvalTest *t, EvalState state, const char *says)
{
    if (evaltest_run(t, 3) != ST_OK)
        fail_msg("%s", t->err.text);
    if (t->result.state != state || !strstr(t->result.text, says))
        fail_msg("state %d, '%s', without '%s'", t->result.state, t->result.text, says);
}

const char *evaltest_value(const EvalTest *t, const char *dataset)
{
    static char text[64];
    const Accuracy *a = eval_result_of(&t->result, dataset);
    Str s = {0};
    if (a)
        decimal_put(&a->value, &s);
    snprintf(text, sizeof text, "%s", a ? s.s : "-");
    str_free(&s);
    return text;
}

void evaltest_close(EvalTest *t)
{
    eval_result_free(&t->result);
    pool_free(t->pool);
    str_free(&t->log);
    str_free(&t->asked);
    arena_free(&t->arena);
    yaml_doc_free(t->doc);
    temp_remove(t->dir);
    free(t->save);
    free(t->model);
}
