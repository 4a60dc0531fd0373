#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "evaluate/task.h"
#include "measure/effect.h"
#include "process/pipeline.h"
#include "session/asked.h"
#include "tests/lib/bench.h"
#include "tests/lib/demo_session.h"
#include "tests/lib/evaltest.h"
#include "tests/lib/tempdir.h"

/* The evaluator that asks the quantized model in this process: files of questions, likelihoods, replies, and that all of it
 * is the model that a measurement runs. */

extern const EvaluatorType evaluator_native;

static const char demo[] = "lab_models/demo";

/* ---- a model that is asked ---- */

typedef struct World {
    TestRun run;
    Tokenizer *tok;
    Recipe *recipe;
    int16_t *level;
    TokenSet *calib;
} World;

static void world_open(World *w, const char *process, ArithMode arith, int threads)
{
    char text[1024];
    Error e = {0};
    *w = (World){.tok = NULL};
    test_run_open(&w->run, demo, arith, threads, NULL);
    assert_int_equal(tokenizer_open(&w->tok, demo, &e), ST_OK);
    w->calib = test_tokens((const int[]){24, 17}, 2, w->run.m->cfg.vocab, 9);
    int n = snprintf(text, sizeof text, "apiversion: modelslim_v1\nspec:\n  process: %s\n", process);
    if (recipe_parse(&w->recipe, &recipe_rows, text, (size_t)n, "a test", NULL, &e) != ST_OK)
        fail_msg("%s", e.text);
    w->level = calloc((size_t)w->run.m->nlinears, sizeof *w->level);
    assert_int_equal(recipe_assign(w->recipe, w->run.m, w->level, &e), ST_OK);
}

static void world_close(World *w)
{
    recipe_free(w->recipe);
    free(w->level);
    tokenizer_free(w->tok);
    test_tokens_free(w->calib);
    test_run_close(&w->run);
}

static Status give_texts(void *ctx, Pipeline *p, const TokenSet **calib, Error *err)
{
    (void)p;
    (void)err;
    *calib = ((World *)ctx)->calib;
    return ST_OK;
}

static Subject *subject_of(World *w, const Work *work, uint64_t mem)
{
    Subject *s;
    Error e = {0};
    const SubjectOptions o = {.model = w->run.m, .pool = w->run.pool, .arith = runner_arith(w->run.r), .mem = mem, .work = work,
                              .texts = give_texts, .ctx = w};
    if (subject_new(&s, &o, &e) != ST_OK)
        fail_msg("%s", e.text);
    return s;
}

#define LINEAR_QUANT(act, weight) "[{type: linear_quant, qconfig: {act: {" act "}, weight: {" weight "}}}]"
#define W8 "scope: per_channel, dtype: int8, symmetric: true, method: minmax"
#define W4 "scope: per_channel, dtype: int4, symmetric: true, method: ssz"
#define STATIC "scope: per_tensor, dtype: int8, symmetric: false, method: minmax"
#define TOKEN "scope: per_token, dtype: int8, symmetric: true, method: minmax"
#define FLOAT "scope: per_tensor, dtype: float, symmetric: true, method: none"
static const char *const recipes[] = {
    LINEAR_QUANT(STATIC, W8), LINEAR_QUANT(TOKEN, W8), LINEAR_QUANT(TOKEN, W4), LINEAR_QUANT(FLOAT, W8),
    "[{type: iter_smooth}, {type: linear_quant, qconfig: {act: {" STATIC "}, weight: {" W8 "}}}]",
    "[{type: quarot}, {type: linear_quant, qconfig: {act: {" TOKEN "}, weight: {" W8 "}}}]",
};

/* Likelihoods are those of the model that a measurement runs, and what is generated goes on as it would. */
static void the_model_is_the_one_that_is_measured(void **state)
{
    (void)state;
    static const int lengths[] = {21, 13, 30};
    for (size_t k = 0; k < sizeof recipes / sizeof *recipes; k++) {
        World w;
        Error e = {0};
        Effect effect;
        EffectLab *lab;
        double sum[3], all = 0;
        world_open(&w, recipes[k], ARITH_FP32, 2);
        TokenSet *eval = test_tokens(lengths, 3, w.run.m->cfg.vocab, 4);
        const Work work = {.recipe = w.recipe, .level = w.level, .lenient = true};
        const EffectOptions eo = {.calib = w.calib, .eval = eval, .cache_bytes = 1 << 24, .seed = 1};
        Pipeline *p;
        Runner *r;
        assert_int_equal(effectlab_new(&lab, w.run.m, &eo, &e), ST_OK);
        assert_int_equal(pipeline_new(&p, w.run.m, &work, &e), ST_OK);
        assert_int_equal(runner_new(&r, w.run.m, &(RunnerOptions){.pool = w.run.pool, .overlay = pipeline_overlay(p)}, &e), ST_OK);
        if (effectlab_measure(lab, r, p, &effect, NULL, &e) != ST_OK)
            fail_msg("%s", e.text);
        runner_free(r);
        pipeline_free(p);
        effectlab_free(lab);
        Subject *s = subject_of(&w, &work, 0);
        assert_int_equal(subject_likelihood(s, eval, (const int64_t[]){1, 1, 1}, sum, &e), ST_OK);
        for (int i = 0; i < 3; i++)
            all += sum[i];
        double got = exp(-all / (double)effect.predicted);
        if (fabs(got / effect.ppl_quant - 1) > 1e-6)
            fail_msg("recipe %zu: perplexity %.9g, measured %.9g", k, got, effect.ppl_quant);
        assert_true(fabs(effect.ppl_quant / effect.ppl_float - 1) > 1e-7);

        /* each token that is generated is the likeliest of a pass over the whole text: nothing else has more */
        Greedy g;
        SubjectFacts f;
        enum { MOST = 10 };
        assert_int_equal(subject_generate(s, eval, &(GreedyOptions){.max_tokens = MOST}, &g, &f, &e), ST_OK);
        assert_true(f.ready > 0 && f.left == 0 && f.at_once == 3);
        for (int i = 0; i < 3; i++) {
            int32_t text[64];
            int64_t n = lengths[i];
            memcpy(text, eval->ids + eval->start[i], (size_t)n * sizeof *text);
            memcpy(text + n, g.ids + g.start[i], MOST * sizeof *text);
            double at[2], other[2];
            int64_t start[2] = {0, n + MOST};
            TokenSet t = {.name = (char *)(uintptr_t)"t", .samples = 1, .start = start, .ids = text};
            for (int64_t last = n; last < n + MOST; last += 3) {
                start[1] = last + 1;
                assert_int_equal(subject_likelihood(s, &t, &last, at, &e), ST_OK);
                int32_t keep = text[last];
                for (int c = 0; c < 3; c++) {
                    text[last] = (keep + 1 + 411 * c) % (int32_t)w.run.m->cfg.vocab;
                    assert_int_equal(subject_likelihood(s, &t, &last, other, &e), ST_OK);
                    assert_true(other[0] < at[0]);
                }
                text[last] = keep;
            }
        }
        greedy_fini(&g);
        subject_free(s);
        test_tokens_free(eval);
        world_close(&w);
    }
}

/* The same tokens with weights that are made anew in every step, and with threads. */
static void neither_memory_nor_threads_change_a_token(void **state)
{
    (void)state;
    enum { MOST = 8 };
    int32_t want[2 * MOST];
    for (int run = 0; run < 2; run++) {
        World w;
        Error e = {0};
        Greedy g;
        SubjectFacts f;
        world_open(&w, recipes[1], ARITH_FP32, run ? 2 : 1);
        const Work work = {.recipe = w.recipe, .level = w.level};
        Subject *s = subject_of(&w, &work, run ? (uint64_t)60 << 20 : 0);
        assert_int_equal(subject_generate(s, w.calib, &(GreedyOptions){.max_tokens = MOST}, &g, &f, &e), ST_OK);
        assert_int_equal(g.start[2], 2 * MOST);
        if (run) {
            assert_memory_equal(want, g.ids, sizeof want);
            assert_true(f.bound <= (uint64_t)60 << 20);
        } else {
            memcpy(want, g.ids, sizeof want);
        }
        greedy_fini(&g);
        subject_free(s);
        Subject *none;
        const SubjectOptions small = {.model = w.run.m, .pool = w.run.pool, .arith = ARITH_FP32, .mem = 1 << 20, .work = &work,
                                      .texts = give_texts, .ctx = &w};
        assert_int_equal(subject_new(&none, &small, &e), ST_NOMEM);
        assert_non_null(strstr(e.text, "--mem"));
        world_close(&w);
    }
}

/* ---- files of questions ---- */

static char *write_file(const char *dir, const char *text)
{
    char *path = strdup(temp_path(dir, "q.jsonl"));
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
    return path;
}

typedef struct ChoiceLine {
    const char *line, *prompt;
    int choices, right;
    const char *first;
} ChoiceLine;

static void choices_have_many_names(void **state)
{
    (void)state;
    static const ChoiceLine rows[] = {
        {"{\"question\":\"is it so\",\"answer\":true,\"passage\":\"P.\"}", "P.\nQuestion: is it so\nAnswer:", 2, 1, "no"},
        {"{\"question\":\"q\",\"choices\":[\"a\",\"b\",\"c\",\"d\"],\"answer\":2}", "Question: q\nAnswer:", 4, 2, "a"},
        {"{\"question\":\"q\",\"choices\":{\"text\":[\"x\",\"y\"],\"label\":[\"1\",\"2\"]},\"answerKey\":\"2\"}", "Question: q\nAnswer:", 2, 1, "x"},
        {"{\"question\":\"q\",\"A\":\"w\",\"B\":\"x\",\"C\":\"y\",\"D\":\"z\",\"target\":\"c\"}", "Question: q\nAnswer:", 4, 2, "w"},
        {"{\"ctx\":\"He went\",\"endings\":[\"up\",\"down\"],\"label\":\"1\"}", "He went", 2, 1, "up"},
        {"{\"goal\":\"g\",\"sol1\":\"s\",\"sol2\":\"t\",\"label\":0}", "g", 2, 0, "s"},
        {"{\"sentence\":\"S\",\"option1\":\"o\",\"option2\":\"p\",\"answer\":\"2\"}", "S", 2, 1, "o"},
        {"{\"query\":\"q\",\"options\":{\"A\":\"k\",\"B\":\"l\"},\"gold\":\"B\"}", "Question: q\nAnswer:", 2, 1, "k"},
        {"{\"prompt\":\"raw\",\"choices\":[\"Yes\",\"No\"],\"answer\":\"No\",\"more\":[1,{}]}", "raw", 2, 1, "Yes"},
    };
    char *dir = temp_folder();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        TaskFile *t;
        Error e = {0};
        Str prompt = {0};
        char *path = write_file(dir, rows[i].line);
        if (task_open(&t, path, TASK_CHOICE, 0, &e) != ST_OK)
            fail_msg("%s", e.text);
        assert_int_equal(t->n, 1);
        assert_int_equal(t->item[0].choices, rows[i].choices);
        assert_int_equal(t->item[0].right, rows[i].right);
        assert_string_equal(t->item[0].choice[0], rows[i].first);
        task_prompt(&t->item[0], &prompt);
        assert_string_equal(str_text(&prompt), rows[i].prompt);
        str_free(&prompt);
        task_free(t);
        free(path);
    }
    temp_remove(dir);
}

static void bad_lines_are_named(void **state)
{
    (void)state;
    static const struct {
        TaskKind kind;
        const char *text, *says;
    } rows[] = {
        {TASK_CHOICE, "\n \n{\"question\":\"q\",\"choices\":[\"a\",\"b\"]}\n", ":3: no answer: one of answer, label, target"},
        {TASK_CHOICE, "{\"question\":\"q\",\"choices\":[\"a\"],\"answer\":0}\n", ":1: one choice alone is no question"},
        {TASK_CHOICE, "{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":2}\n", ":1: the answer is none of the 2 choices"},
        {TASK_CHOICE, "{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":\"z\"}\n", ":1: the answer 'z' is none of the 2"},
        {TASK_CHOICE, "{\"question\":\"q\",\"choices\":[\"a\",[]],\"answer\":0}\n", ":1: choice 2 is no text"},
        {TASK_CHOICE, "{\"question\":\"q\",\"answer\":0}\n", ":1: no choices: one of choices, options, endings"},
        {TASK_CHOICE, "{\"answer\":0,\"choices\":[\"a\",\"b\"]}\n", ":1: no question: one of question, query"},
        {TASK_CHOICE, "[1]\n", ":1: not a JSON object"},
        {TASK_CHOICE, "{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":0}\n{\"question\n", ":2:"},
        {TASK_EXACT, "{\"question\":\"q\"}\n", ":1: no answer: one of answer, answers"},
        {TASK_EXACT, "{\"question\":\"q\",\"answer\":\"  \"}\n", ":1: the answer is empty"},
        {TASK_EXACT, "{\"question\":\"q\",\"answer\":{}}\n", ":1: the answer is no text"},
        {TASK_EXACT, "{\"question\":\"q\",\"answers\":[]}\n", ":1: no answer: one of answer"},
        {TASK_EXACT, "\n\n", "holds no question"},
    };
    char *dir = temp_folder();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        TaskFile *t;
        Error e = {0};
        char *path = write_file(dir, rows[i].text);
        assert_int_equal(task_open(&t, path, rows[i].kind, 0, &e), ST_DATA);
        if (!strstr(e.text, rows[i].says) || !strstr(e.text, "q.jsonl"))
            fail_msg("'%s' without '%s'", e.text, rows[i].says);
        free(path);
    }
    char *huge = malloc((17 << 20) + 1), *path;
    TaskFile *t;
    Error e = {0};
    memset(huge, 'x', 17 << 20);
    huge[17 << 20] = '\0';
    path = write_file(dir, huge);
    assert_int_equal(task_open(&t, path, TASK_EXACT, 0, &e), ST_DATA);
    assert_non_null(strstr(e.text, ":1: a line of 17.8 MB is no question"));
    free(huge);
    free(path);
    path = write_file(dir, "{\"question\":\"q\",\"answer\":\"a\"}\nno JSON\n"); /* behind the limit */
    assert_int_equal(task_open(&t, path, TASK_EXACT, 1, &e), ST_OK);
    assert_int_equal(t->n, 1);
    task_free(t);
    free(path);
    temp_remove(dir);
}

static void replies_match_by_what_is_asked(void **state)
{
    (void)state;
    static const struct {
        TaskMatch how;
        const char *extract, *reply, *answer;
        bool number, right;
    } rows[] = {
        {MATCH_EQUAL, NULL, " Paris.\n", "paris", false, true},
        {MATCH_EQUAL, NULL, "《北京》。\n", "北京", false, true},
        {MATCH_EQUAL, NULL, "New   York", "new york", false, true},
        {MATCH_EQUAL, NULL, "in Paris", "paris", false, false},
        {MATCH_EQUAL, NULL, "", "paris", false, false},
        {MATCH_CONTAINS, NULL, "It is in Paris, France.", "Paris", false, true},
        {MATCH_CONTAINS, NULL, "Pari", "Paris", false, false},
        {MATCH_NUMBER, NULL, "so 3 + 4 = 7. It is 1,234.50 dollars", "1234.5", false, true},
        {MATCH_NUMBER, NULL, "x-2 is -2", "-2", false, true},
        {MATCH_NUMBER, NULL, "none", "7", false, false},
        {MATCH_EQUAL, NULL, "the answer is 72 .", "72", true, true},
        {MATCH_EQUAL, "answer is (\\w+)", "The answer is B. No, the answer is C!", "c", false, true},
        {MATCH_EQUAL, "[A-D]", "A or D", "D", false, true},
        {MATCH_EQUAL, "answer is (\\w+)", "nothing", "nothing", false, false},
        {MATCH_EQUAL, "(x)?.*", "\xc3\xa9", "a", false, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *answers[] = {"never", rows[i].answer};
        const TaskItem item = {.answer = answers, .answers = 2, .number = rows[i].number};
        const TaskSet set = {.kind = TASK_EXACT, .match = rows[i].how, .extract = rows[i].extract};
        bool right;
        Error e = {0};
        assert_int_equal(exact_match(&set, &item, rows[i].reply, &right, &e), ST_OK);
        if (right != rows[i].right)
            fail_msg("row %zu: '%s' against '%s'", i, rows[i].reply, rows[i].answer);
    }
    Error e = {0};
    assert_int_equal(exact_check("(a", &e), ST_DATA);
    assert_non_null(strstr(e.text, "'(a'"));
}

/* ---- likelihood against its definition ---- */

/* log p of ids[from..n) behind those before, by a pass over the text and the softmax written out in float64. */
static double defined_likelihood(Runner *r, const int32_t *ids, int64_t n, int64_t from)
{
    int64_t start[2] = {0, n}, vocab = runner_model(r)->cfg.vocab;
    TokenSet t = {.name = (char *)(uintptr_t)"t", .samples = 1, .start = start, .ids = (int32_t *)(uintptr_t)ids};
    Stream h, normed;
    Error e = {0};
    double sum = 0;
    assert_int_equal(runner_embed(r, &t, &h, &e), ST_OK);
    for (int i = 0; i < runner_model(r)->cfg.layers; i++)
        assert_int_equal(runner_layer(r, i, NULL, &h, &h, NULL, 0, &e), ST_OK);
    assert_int_equal(runner_final_norm(r, &h, &normed, NULL, 0, &e), ST_OK);
    float *logits = test_logits(r, &normed);
    for (int64_t k = from; k < n; k++) {
        const float *row = logits + (k - 1) * vocab;
        double all = 0, most = -INFINITY;
        for (int64_t v = 0; v < vocab; v++)
            most = fmax(most, (double)row[v]);
        for (int64_t v = 0; v < vocab; v++)
            all += exp((double)row[v] - most);
        sum += (double)row[ids[k]] - most - log(all);
    }
    free(logits);
    stream_fini(&h);
    stream_fini(&normed);
    return sum;
}

static const char questions[] =
    "{\"prompt\":\"The old house\",\"choices\":[\"was a little girl\",\"xyzzy\"],\"answer\":0}\n"
    "\n"
    "{\"question\":\"Who is there?\",\"choices\":[\"the\",\"a man\",\"nobody at all in the house\"],\"answer\":1}\n"
    "{\"prompt\":\"She was\",\"choices\":[\"same\",\"same\"],\"answer\":0}\n"
    "{\"prompt\":\"He said \",\"choices\":[\"and\",\"yes, and then he went to the old man\"],\"answer\":1}\n";

/* How many are right by the definition. */
static int64_t defined_right(World *w, const TaskFile *t, TaskNorm norm)
{
    int64_t right = 0;
    for (int q = 0; q < t->n; q++) {
        double best = -INFINITY;
        int at = -1;
        for (int c = 0; c < t->item[q].choices; c++) {
            Str ask = {0};
            int32_t *a, *b;
            size_t na, nb;
            task_prompt(&t->item[q], &ask);
            assert_int_equal(tokenizer_encode(w->tok, ask.s, ask.len, true, NULL, &a, &na, NULL), ST_OK);
            if (ask.s[ask.len - 1] != ' ')
                str_putc(&ask, ' ');
            str_puts(&ask, t->item[q].choice[c]);
            assert_int_equal(tokenizer_encode(w->tok, ask.s, ask.len, true, NULL, &b, &nb, NULL), ST_OK);
            size_t from = na < nb ? na : nb - 1;
            double s = defined_likelihood(w->run.r, b, (int64_t)nb, (int64_t)from);
            s /= norm == NORM_TOKENS ? (double)(nb - from) : norm == NORM_BYTES ? (double)strlen(t->item[q].choice[c]) : 1;
            if (s > best + 1e-9) {
                best = s;
                at = c;
            }
            free(a);
            free(b);
            str_free(&ask);
        }
        right += at == t->item[q].right;
    }
    return right;
}

static void choices_go_by_the_definition_of_likelihood(void **state)
{
    (void)state;
    World w;
    Error e = {0};
    TaskFile *t;
    char *dir = temp_folder(), *path = write_file(dir, questions);
    world_open(&w, recipes[0], ARITH_FP32, 2);
    assert_int_equal(task_open(&t, path, TASK_CHOICE, 0, &e), ST_OK);
    assert_int_equal(t->n, 4);
    assert_int_equal(t->blank, 1);
    Subject *s = subject_of(&w, NULL, 0);
    const TaskModel m = {.subject = s, .tok = w.tok, .vocab = w.run.m->cfg.vocab};
    for (int norm = 0; norm < TASK_NORMS; norm++) {
        TaskScore got;
        const TaskSet set = {.kind = TASK_CHOICE, .norm = (TaskNorm)norm};
        assert_int_equal(choice_run(&m, &set, t, &got, &e), ST_OK);
        assert_int_equal(got.n, 4);
        assert_int_equal(got.right, defined_right(&w, t, (TaskNorm)norm));
        assert_true(got.right >= 1); /* of equal ones the first counts */
    }
    subject_free(s);
    task_free(t);
    world_close(&w);
    free(path);
    temp_remove(dir);
}

/* ---- the evaluator ---- */

typedef struct Asking {
    World w;
    EvalTest t;
    int measured, texts;
} Asking;

static Asking *the; /* of the kit's functions, whose ctx is the EvalTest */

static Status stub_measure(void *ctx, const EvalTrial *t, bool full, Effect *out, Error *err)
{
    (void)ctx;
    (void)t;
    (void)err;
    the->measured++;
    assert_true(full);
    *out = (Effect){.kl_mean = 0.125, .kl_se = 0.5, .ppl_quant = 12.5, .ppl_float = 12, .ppl_quant_se = 1, .ppl_change_se = 0.125, .top1 = 0.75, .top1_se = 0.1};
    return ST_OK;
}

static Status stub_texts(void *ctx, const EvalTrial *t, Pipeline *p, const TokenSet **calib, Error *err)
{
    (void)ctx;
    (void)t;
    (void)p;
    (void)err;
    the->texts++;
    *calib = the->w.calib;
    return ST_OK;
}

static void asking_open(Asking *a, const char *yaml)
{
    *a = (Asking){.measured = 0};
    the = a;
    world_open(&a->w, recipes[1], ARITH_FP32, 2);
    evaltest_open(&a->t, &evaluator_native, yaml);
    a->t.kit.model = a->w.run.m;
    a->t.kit.model_path = demo;
    a->t.kit.pool = a->w.run.pool;
    a->t.kit.measure = stub_measure;
    a->t.kit.texts = stub_texts;
}

static void asking_run(Asking *a)
{
    const EvalTrial trial = {.recipe = a->w.recipe, .level = a->w.level, .number = 1, .id = "x_1"};
    EvalTest *t = &a->t;
    eval_result_free(&t->result);
    t->result = (EvalResult){0};
    if (t->type->ready(t->settings, t->expect, t->n, &t->kit, &t->err) != ST_OK ||
        t->type->run(t->settings, t->expect, t->n, &t->kit, &trial, &t->result, &t->err) != ST_OK)
        fail_msg("%s", t->err.text);
}

static void asking_close(Asking *a)
{
    evaltest_close(&a->t);
    world_close(&a->w);
}

static void a_plan_is_evaluated(void **state)
{
    (void)state;
    char *dir = temp_folder(), *path = write_file(dir, questions), yaml[1200];
    Asking a;
    snprintf(yaml, sizeof yaml,
             "type: native\nfull: true\n"
             "demand: {expectations: [{dataset: kl, at_most: 0.2}, {dataset: mine, target: 0.25, tolerance: 0}, {dataset: ppl, at_most: '+5%%'},"
             " {dataset: said, target: 1, tolerance: 1}, {dataset: top1, target: 0.7, tolerance: 0}]}\n"
             "datasets:\n  mine: {path: '%s', kind: choice, normalize: tokens}\n"
             "  said: {path: '%s', kind: exact, limit: 2, max_tokens: 6, match: contains, percent: true}\n",
             path, path);
    asking_open(&a, yaml);
    asking_run(&a);
    assert_int_equal(a.t.result.state, EVAL_DONE);
    assert_int_equal(a.measured, 1);
    assert_string_equal(evaltest_value(&a.t, "kl"), "0.125");
    assert_string_equal(evaltest_value(&a.t, "ppl"), "12.5");
    assert_string_equal(evaltest_value(&a.t, "top1"), "0.75");
    const Accuracy *mine = eval_result_of(&a.t.result, "mine"), *ppl = eval_result_of(&a.t.result, "ppl");
    assert_true(mine->has_base && decimal_value(&mine->value) >= 0.25 && decimal_value(&mine->value) <= 1);
    assert_true(mine->error >= 0 || decimal_value(&mine->value) == 1);
    assert_true(ppl->has_base && decimal_value(&ppl->base) == 12 && ppl->error == 1.5); /* paired: of 12 */
    assert_true(a.t.result.satisfied);
    assert_non_null(strstr(a.t.log.s, "mine: the float model is asked"));
    int asked = a.texts;
    assert_int_equal(asked, 2); /* one quantized model a data set: the float one comes between */
    str_free(&a.t.log);
    asking_run(&a); /* the float model's answers are kept */
    assert_null(strstr(str_text(&a.t.log), "the float model is asked"));
    assert_int_equal(a.texts, asked + 1);
    assert_true(eval_result_of(&a.t.result, "mine")->has_base);
    asking_close(&a);
    free(path);
    temp_remove(dir);
}

static void replies_that_are_no_language_are_bad(void **state)
{
    (void)state;
    char *dir = temp_folder(), yaml[800];
    char *path = write_file(dir, "{\"prompt\":\"The old house\",\"answer\":\"x\"}\n{\"prompt\":\"She was\",\"answer\":\"y\"}\n");
    Asking a;
    snprintf(yaml, sizeof yaml, "type: native\ndemand: {expectations: [{dataset: d, target: 1, tolerance: 1}]}\n"
             "datasets: {d: {path: '%s', kind: exact, max_tokens: 200, until: [ZZZ], precheck: true, base: false}}\n", path);
    asking_open(&a, yaml);
    asking_run(&a); /* the demo says the same again and again */
    assert_int_equal(a.t.result.state, EVAL_BAD);
    assert_false(a.t.result.satisfied);
    assert_non_null(strstr(a.t.result.text, "d: 2 of 2 replies are no language (repeated_pattern)"));
    assert_false(eval_result_of(&a.t.result, "d")->has_base);
    asking_close(&a);
    free(path);
    temp_remove(dir);
}

static void plans_are_checked(void **state)
{
    (void)state;
#define PLAN(sets) "type: native\ndemand: {expectations: [{dataset: d, target: 1, tolerance: 1}]}\ndatasets: " sets "\n"
    static const char *const rows[][2] = {
        {PLAN("{e: {path: f, kind: exact}}"), "data set 'd' is neither kl, ppl or top1 nor one of evaluation.datasets"},
        {PLAN("{d: {path: f}}"), "kind"},
        {PLAN("{d: {kind: exact}}"), "path"},
        {PLAN("{d: {path: f, kind: other}}"), "kind"},
        {PLAN("{d: {path: f, kind: choice, match: equal}}"), "match is of kind exact"},
        {PLAN("{d: {path: f, kind: exact, normalize: tokens}}"), "normalize is of kind choice"},
        {PLAN("{d: {path: f, kind: exact, extract: '(a'}}"), "the expression '(a' can't be read"},
        {PLAN("{d: {path: f, kind: exact}, kl: {path: f, kind: exact}}"), "'kl' is a figure of the measurement"},
        {PLAN("{d: {path: f, kind: exact, limit: 0}}"), "limit"},
        {PLAN("{d: {path: f, kind: exact, shots: 3}}"), "shots"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *all = evaltest_errors(&evaluator_native, rows[i][0], false);
        if (!strstr(all, rows[i][1]))
            fail_msg("row %zu: '%s' without '%s'", i, all, rows[i][1]);
        free(all);
    }
    EvalTest t;
    evaltest_open(&t, &evaluator_native, PLAN("{d: {path: /no/such/file, kind: exact}}"));
    assert_int_equal(t.type->ready(t.settings, t.expect, t.n, &t.kit, &t.err), ST_IO);
    assert_non_null(strstr(t.err.text, "data set 'd': "));
    evaltest_close(&t);
}

/* ---- as a job of a session ---- */

/* What the job says is what the model says that is asked outside of jobs, quantized and in float; an ended session has said
 * nothing. */
static void a_job_says_the_same(void **state)
{
    (void)state;
    enum { MOST = 6 };
    static const int32_t prompt[] = {11, 56, 30, 21, 14};
    Session *s = demo_session(NULL);
    Error e = {0};
    assert_null(session_said(s));
    for (int quantized = 0; quantized < 2; quantized++) {
        const GenerateAsk ask = {.prompt = "p", .ids = prompt, .nids = 5, .max_tokens = MOST, .quantized = quantized};
        session_ok(session_generate(s, &ask, &e), &e);
        session_ok(session_wait(s, &e), &e);
        const Said *said = session_said(s);
        assert_non_null(said);
        assert_int_equal(said->n, MOST);
        assert_int_equal(said->quantized, quantized);
        assert_string_equal(said->prompt, "p");
        Asked *a;
        Greedy g;
        int64_t start[2] = {0, 5};
        TokenSet t = {.name = (char *)(uintptr_t)"t", .samples = 1, .start = start, .ids = (int32_t *)(uintptr_t)prompt};
        session_ok(asked_new(&a, s, &(AskedOptions){.quantized = quantized}, &e), &e);
        session_ok(subject_generate(asked_subject(a), &t, &(GreedyOptions){.max_tokens = MOST}, &g, NULL, &e), &e);
        assert_memory_equal(g.ids, said->ids, MOST * sizeof *g.ids);
        greedy_fini(&g);
        asked_free(a);
    }
    session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model_is_the_one_that_is_measured),
        cmocka_unit_test(neither_memory_nor_threads_change_a_token),
        cmocka_unit_test(choices_have_many_names),
        cmocka_unit_test(bad_lines_are_named),
        cmocka_unit_test(replies_match_by_what_is_asked),
        cmocka_unit_test(choices_go_by_the_definition_of_likelihood),
        cmocka_unit_test(a_plan_is_evaluated),
        cmocka_unit_test(replies_that_are_no_language_are_bad),
        cmocka_unit_test(plans_are_checked),
        cmocka_unit_test(a_job_says_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
