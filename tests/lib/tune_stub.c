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

#include "io/file.h"

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

bool stub_in_float(const Practice *p, const char *name)
{
    char wrapped[200];
    snprintf(wrapped, sizeof wrapped, "*%s.*", name);
    for (int i = 0; i < p->npatterns; i++)
        if (strcmp(p->patterns[i], wrapped) == 0 || strcmp(p->patterns[i], name) == 0)
            return true;
    return false;
}

static void give_ranking(Loop *l, StubWorld *w)
{
    RankRow *row = calloc((size_t)w->nrank + 1, sizeof *row);
    Error err = {0};
    for (int i = 0; i < w->nrank; i++)
        row[i] = (RankRow){.name = w->rank[i].name, .score = w->rank[i].score, .bytes = w->rank[i].bytes ? w->rank[i].bytes : -1};
    w->ranked++;
    assert_int_equal(loop_ranked(l, row, w->nrank, &err), ST_OK);
    free(row);
}

static void evaluate(Loop *l, StubWorld *w, const Practice *p)
{
    EvalResult r = {0};
    Error err = {0};
    w->evaluated++;
    w->answer(w->ctx, p, &r);
    assert_int_equal(loop_evaluated(l, &r, &err), ST_OK);
    eval_result_free(&r);
}

static void keep_folder(StubWorld *w, const LoopStep *s)
{
    char *name = path_join(s->kept, "of");
    Error err = {0};
    w->kept++;
    assert_int_equal(dir_make(s->kept, &err), ST_OK);
    assert_int_equal(file_write_atomic(name, s->trial.practice->id, strlen(s->trial.practice->id), &err), ST_OK);
    free(name);
}

static void told(Loop *l, StubWorld *w, const LoopStep *s)
{
    Error err = {0};
    /* what leaves more in float is larger */
    LoopMade made = {.st = w->fail_quantize ? ST_DATA : ST_OK, .why = "no room", .bytes = 1000 + (uint64_t)s->trial.practice->npatterns,
                     .float_bytes = 4000, .linears = 100, .floats = s->trial.practice->npatterns, .seconds = 2};
    if (s->kind == LOOP_RANK) {
        give_ranking(l, w);
    } else if (s->kind == LOOP_QUANTIZE) {
        w->quantized++;
        w->written += s->write;
        assert_int_equal(loop_quantized(l, &made, &err), ST_OK);
    } else if (s->kind == LOOP_EVALUATE) {
        evaluate(l, w, s->trial.practice);
    } else if (s->kind == LOOP_KEEP) {
        keep_folder(w, s);
        assert_int_equal(loop_kept(l, &err), ST_OK);
    }
}

static void show(const Loop *l, StubRun *out)
{
    for (int i = 0; i < loop_tries(l); i++) {
        const LoopTry *t = loop_try(l, i);
        str_printf(&out->shown, "%d %s [", t->number, t->practice->anti);
        for (int k = 0; k < t->practice->npatterns; k++)
            str_printf(&out->shown, "%s%s", k ? " " : "", t->practice->patterns[k]);
        str_printf(&out->shown, "] %s\n", !t->known ? "?" : t->result.satisfied ? "met" : "missed");
        out->cached += t->cached;
    }
    out->tries = loop_tries(l);
}

typedef struct Here {
    StubWorld *w;
    StubRun *out;
} Here;

static int64_t now(void *ctx)
{
    return stub_now(((Here *)ctx)->w->now);
}

static void keep_line(void *ctx, int level, const char *text)
{
    char *log = ((Here *)ctx)->out->log;
    size_t n = strlen(log);
    snprintf(log + n, sizeof ((Here *)ctx)->out->log - n, "%d %s\n", level, text);
}

static const LoopStep rank_first = {.kind = LOOP_RANK, .trial = {.practice = &(const Practice){.id = ""}}};

void stub_run(const char *text, bool peer, const char *dir, StubWorld *w, StubRun *out)
{
    *out = (StubRun){0};
    Here here = {w, out};
    Plan *plan = stub_plan(text, peer);
    LoopOptions o = {.plan = plan, .rows = &stub_rows, .save_path = dir, .peer = peer, .now = now, .ctx = &here,
                     .model_id = w->model_id, .data_id = w->data_id, .experience = w->experience, .timeout = w->timeout, .model_type = "Demo",
                     .model = w->model, .log = keep_line};
    Loop *l;
    LoopStep s = rank_first;
    Error err = {0};
    if (loop_open(&l, &o, &err) != ST_OK)
        fail_msg("%s", err.text);
    memcpy(out->notes, out->log, sizeof out->notes);
    for (int steps = 0;; steps++) {
        if (loop_next(l, &s, &err) != ST_OK)
            fail_msg("%s", err.text);
        if (s.kind == LOOP_DONE || steps == w->stop_after)
            break;
        if (s.kind == LOOP_RANK)
            s.trial = rank_first.trial;
        told(l, w, &s);
    }
    out->stopped = s.kind != LOOP_DONE;
    out->end = s.end;
    out->status = s.status;
    out->best = s.best;
    snprintf(out->text, sizeof out->text, "%s", s.text ? s.text : "");
    if (s.final)
        str_append(&out->final, s.final, s.final_len);
    show(l, out);
    if (w->at_end)
        w->at_end(w->end_ctx, l, &s);
    loop_free(l);
    plan_free(plan);
}

void stub_run_free(StubRun *r)
{
    str_free(&r->shown);
    str_free(&r->final);
}
