#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "evaluate/aisbench.h"
#include "evaluate/server.h"
#include "io/file.h"
#include "tests/lib/evaltest.h"
#include "tests/lib/server_process.h"
#include "tests/lib/tempdir.h"
#include "tune/canon.h"
#include "tune/plan.h"

/* The evaluator service_oriented against a real server process and a real program in the place of AISBench. */

extern const EvaluatorType evaluator_service_oriented;

/* ais_bench and the python itself (not what a version manager has in its place, which takes longer than the tests) in a
 * folder of PATH, and the folder of model files. */
static char *world, *models;

static void link_python(void)
{
    char line[1000] = "";
    FILE *f = popen("python3 -c 'import sys; print(sys.executable)'", "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    assert_int_equal(pclose(f), 0);
    line[strcspn(line, "\n")] = '\0';
    assert_int_equal(symlink(line, temp_path(world, "python")), 0);
    assert_int_equal(symlink(line, temp_path(world, "python3")), 0);
}

static void link_bench(void)
{
    char here[1000], path[1100];
    assert_non_null(getcwd(here, sizeof here));
    snprintf(path, sizeof path, "%s/tests/lib/fake_ais_bench.py", here);
    assert_int_equal(symlink(path, temp_path(world, "ais_bench")), 0);
}

static int world_up(void **state)
{
    (void)state;
    char path[3000];
    world = temp_folder();
    models = strdup(temp_path(world, "models"));
    assert_int_equal(mkdir(models, 0700), 0);
    link_bench();
    link_python();
    snprintf(path, sizeof path, "%s:%s", world, getenv("PATH"));
    setenv("PATH", path, 1);
    setenv("FAKE_MODELS", models, 1);
    setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
    return 0;
}

static int world_down(void **state)
{
    (void)state;
    temp_remove(world);
    free(models);
    return 0;
}

/* What a plan of these tests says beside its places; NULL: nothing. */
typedef struct Wish {
    const char *mode;           /* of the server: what is wrong with it */
    const char *first, *second; /* config names of the data sets a and b */
    const char *bench;          /* more keys of evaluation.aisbench: ", key: value" */
    const char *set;            /* of the first data set */
    const char *precheck;       /* the value of evaluation.precheck */
    const char *engine;         /* more lines of inference_engine */
    const char *args;           /* more of its args */
} Wish;

#define OR(a, b) ((a) ? (a) : (b))

static const char *write_plan(const Wish *p, int port, const char *pid)
{
    static char text[4000];
    char second[200] = "";
    if (p->second)
        snprintf(second, sizeof second, "    b: {config_name: %s}\n", p->second);
    snprintf(
        text, sizeof text,
        "type: service_oriented\n"
        "demand: {expectations: [{dataset: a, target: 80, tolerance: 0}%s]}\n"
        "evaluation:\n"
        "  type: aisbench\n"
        "  port: %d\n"
        "  host: 127.0.0.1\n"
        "  precheck: %s\n"
        "  aisbench: {model_meta: {directory: \"%s\"}%s}\n"
        "  datasets:\n"
        "    a: {config_name: %s%s}\n"
        "%s"
        "inference_engine:\n"
        "  type: vllm-ascend\n"
        "  entrypoint: fake_server\n"
        "  host: 127.0.0.1\n"
        "  port: %d\n"
        "  env_vars: {PYTHONPATH: tests/lib}\n"
        "%s"
        "  args: {trust-remote-code: true, absent: null, no: false, extra: {a: 1, b: x}, mode: \"%s\", pid: %s%s}\n",
        p->second ? ", {dataset: b, target: 0.5, tolerance: 0}" : "", port, OR(p->precheck, "[]"), models,
        OR(p->bench, ""), OR(p->first, "acc_81.5"), OR(p->set, ""), second, port, OR(p->engine, ""), OR(p->mode, ","),
        pid, OR(p->args, ""));
    return text;
}

static void open_plan(EvalTest *t, const Wish *p)
{
    char pid[600];
    snprintf(pid, sizeof pid, "%s", temp_path(world, "server.pid"));
    unlink(pid);
    evaltest_open(t, &evaluator_service_oriented, write_plan(p, free_port(), pid));
}

/* The server of the last plan and what it started are gone. */
static void expect_gone(void)
{
    const char *pid = temp_path(world, "server.pid");
    if (file_exists(pid))
        assert_false(process_runs(file_number(pid)));
}

static void expect_plan(const Wish *p, EvalState state, const char *says, const char *a, const char *b)
{
    EvalTest t;
    open_plan(&t, p);
    evaltest_expect(&t, state, says);
    assert_string_equal(evaltest_value(&t, "a"), a);
    assert_string_equal(evaltest_value(&t, "b"), b);
    expect_gone();
    assert_int_equal(temp_entries(models), 0); /* its model file is removed */
    evaltest_close(&t);
}

static void test_scores(void **state)
{
    (void)state;
    EvalTest t;
    open_plan(&t, &(Wish){.mode = "late", .second = "ask"});
    evaltest_expect(&t, EVAL_DONE, "");
    assert_string_equal(evaltest_value(&t, "a"), "81.5");
    assert_string_equal(evaltest_value(&t, "b"), "100.0");
    assert_true(t.result.satisfied);
    expect_gone();
    char *log = temp_get(temp_path(t.save, "vllm_server.log"), NULL), *bench, *seen, want[600];
    /* argv and environment as specified, a session of its own, and the name it is asked by */
    snprintf(want, sizeof want, "argv ['--model', '%s', '--host', '127.0.0.1', '--port', '", t.model);
    assert_non_null(strstr(log, want));
    assert_non_null(strstr(log, "'--served-model-name', 'served_model_name', '--trust-remote-code', '--extra', "
                                "'{\"a\":1,\"b\":\"x\"}', '--mode', 'late'"));
    assert_non_null(strstr(log, "session True"));
    bench = temp_get(temp_path(t.save, "aisbench_logs/b_trial3.log"), NULL);
    assert_non_null(strstr(bench, "ais_bench --models vllm_api_general_chat_trial_3_"));
    assert_non_null(strstr(bench, "--datasets ask --mode all --work-dir "));
    assert_non_null(strstr(bench, "some progress"));
    seen = temp_get(temp_path(t.save, "seen.json"), NULL);
    snprintf(want, sizeof want, "\"path\": \"%s\"", t.model);
    assert_non_null(strstr(seen, want));
    free(log);
    free(bench);
    free(seen);
    evaltest_close(&t);
}

/* The first that is not met ends it. */
static void test_first_unmet(void **state)
{
    (void)state;
    expect_plan(&(Wish){.first = "acc_79.9", .second = "ask"}, EVAL_DONE, "", "79.9", "-");
}

static void test_bench_fails(void **state)
{
    (void)state;
    static const struct {
        const char *set, *says;
    } cases[] = {
        {"crash", "AISBench failed (exit code 1): RuntimeError: no such data set"},
        {"silent", "has no line 'Current exp folder:'"},
        {"lost", "left no folder"},
        {"none", "left no result in"},
        {"bad", "has no number 'accuracy'"},
        {"word", "has no number 'accuracy'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_plan(&(Wish){.first = cases[i].set}, EVAL_FAILED, cases[i].says, "-", "-");
    expect_plan(&(Wish){.first = "hang", .bench = ", timeout: 0.5"}, EVAL_FAILED,
                "AISBench failed (no end within 0.5 s)", "-", "-");
    /* the server falls while it is asked: this is the reason, not what the bench makes of it */
    expect_plan(&(Wish){.first = "ask", .mode = "fall"}, EVAL_FAILED, "the server ended (exit code 9)", "-", "-");
}

/* Under --compat peer what could not be scored is accuracy 0, and a results folder that lacks ends the run. */
static void test_peer_scores(void **state)
{
    (void)state;
    EvalTest t;
    open_plan(&t, &(Wish){.first = "crash", .second = "ask"});
    t.kit.peer = true;
    evaltest_expect(&t, EVAL_DONE, "");
    assert_string_equal(evaltest_value(&t, "a"), "0");
    assert_string_equal(evaltest_value(&t, "b"), "-");
    assert_false(t.result.satisfied);
    assert_non_null(strstr(t.log.s, "no such data set"));
    evaltest_close(&t);
    open_plan(&t, &(Wish){.first = "lost"});
    t.kit.peer = true;
    assert_int_equal(evaltest_run(&t, 1), ST_FAIL);
    expect_gone();
    evaltest_close(&t);
}

static void test_server_fails(void **state)
{
    (void)state;
    static const struct {
        const char *mode, *engine, *says;
    } cases[] = {
        {"fail", NULL, "the server ended (exit code 3): ValueError: no such quantization: ascend"},
        {"die", NULL, "the server ended (exit code 1): argv"},
        {"sick", "  startup_timeout: 0.5\n", "the server is not ready after 0.5 s"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_plan(&(Wish){.mode = cases[i].mode, .engine = cases[i].engine}, EVAL_FAILED, cases[i].says, "-", "-");
    EvalTest t;
    open_plan(&t, &(Wish){.mode = "fail"});
    t.kit.peer = true;
    assert_int_equal(evaltest_run(&t, 1), ST_FAIL);
    assert_non_null(strstr(t.err.text, "no such quantization"));
    expect_gone();
    evaltest_close(&t);
}

/* What listens there already is not what is to be evaluated. */
static void test_place_taken(void **state)
{
    (void)state;
    EvalTest t;
    int port = free_port();
    Child *other = server_start(world, port, "", NULL);
    evaltest_open(&t, &evaluator_service_oriented, write_plan(&(Wish){0}, port, temp_path(world, "server.pid")));
    assert_int_equal(evaltest_run(&t, 1), ST_FAIL);
    assert_non_null(strstr(t.err.text, "another server answers at 127.0.0.1:"));
    child_stop(other);
    evaltest_close(&t);
}

/* ---- prechecks ---- */

static void precheck(const char *value, const char *mode, const char *reply, bool peer, EvalState state,
                     const char *says, const char *a)
{
    EvalTest t;
    char file[600], args[700] = "";
    if (reply) {
        Str json = {0};
        snprintf(file, sizeof file, "%s", temp_path(world, "replies.json"));
        str_puts(&json, "{\"What is 2+2?\": ");
        str_json(&json, reply);
        str_puts(&json, ", \"How are you?\": ");
        str_json(&json, reply);
        str_puts(&json, "}");
        temp_puts(file, json.s);
        str_free(&json);
        snprintf(args, sizeof args, ", replies: %s", file);
    }
    open_plan(&t, &(Wish){.precheck = value, .mode = mode, .args = args});
    t.kit.peer = peer;
    evaltest_expect(&t, state, says);
    if (strcmp(evaltest_value(&t, "a"), a) != 0)
        fail_msg("%s: %s, not %s", value, evaltest_value(&t, "a"), a);
    expect_gone();
    evaltest_close(&t);
}

static void test_prechecks(void **state)
{
    (void)state;
    static const char both[] = "[{type: expected_answer}, {type: garbled_text, test_cases: null}]";
    precheck(both, NULL, NULL, false, EVAL_DONE, "", "81.5");
    precheck("{type: expected_answer}", NULL, "five", false, EVAL_BAD,
             "precheck expected_answer: 'What is 2+2?' is answered without '4': 'five'", "-");
    precheck("[{type: expected_answer}]", NULL, "five", true, EVAL_DONE, "", "0");
    precheck("{type: garbled_text}", NULL, "!!!!!!!!!!!!!!!!!!!!!!!!", false, EVAL_BAD, "garbled_text (repeated_char)",
             "-");
    precheck("{type: garbled_text}", NULL, "!!!!!!!!!!!!!!!!!!!!!!!!", true, EVAL_DONE, "", "81.5"); /* omitted: none */
    precheck("{type: garbled_text, test_cases: null}", NULL, "hello", true, EVAL_DONE, "", "0");
    precheck("{type: garbled_text, test_cases: null}", NULL, "", false, EVAL_BAD, "empty_text", "-");
    precheck("{type: garbled_text, test_cases: [{message: How are you?, items: [control_char]}]}", NULL,
             "\xe5\xa5\xbd\xe7\x9a\x84\xe5\xa5\xbd\xe7\x9a\x84", false, EVAL_DONE, "", "81.5");
}

/* A question that comes to nothing says nothing of the model; the peer lets it pass. */
static void test_prechecks_fail(void **state)
{
    (void)state;
    static const char one[] = "{type: expected_answer}", soon[] = "{type: expected_answer, timeout: 0.2}";
    static const struct {
        const char *mode, *says;
    } cases[] = {
        {"error", "a precheck could not be asked: http://127.0.0.1:"},
        {"nojson", "is no JSON"},
        {"nochoice", "has no choices"},
        {"close", "closed the connection"},
        {"fall", "the server ended (exit code 9)"},
        {"huge", "longer than"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        precheck(one, cases[i].mode, NULL, false, EVAL_FAILED, cases[i].says, "-");
    precheck(soon, "slow", NULL, false, EVAL_FAILED, "no answer within 0.2 s", "-");
    precheck(one, "error", NULL, true, EVAL_DONE, "", "81.5");
}

/* ---- data sets that we ask ourselves ---- */

static const char exact_lines[] = "{\"question\": \"2+2?\", \"answer\": \"4\"}\n"
                                  "{\"question\": \"3+3?\", \"answer\": \"6\"}\n"
                                  "{\"question\": \"首都?\", \"answer\": \"北京\"}\n"
                                  "{\"question\": \"5+5?\", \"answer\": \"10\"}\n";
/* The second question has its right choice told as less likely. */
static const char choice_lines[] =
    "{\"prompt\": \"The sky is\", \"choices\": [\"green\", \"blue\"], \"answer\": 1}\n"
    "{\"prompt\": \"Grass is\", \"choices\": [\"green\", \"red of late\"], \"answer\": 1}\n"
    "{\"prompt\": \"Das Meer heißt\", \"choices\": [\"grün\", \"blue\", \"rot\"], \"answer\": \"B\"}\n"
    "{\"prompt\": \"Snow is\", \"choices\": [\"of late blue\", \"white\"], \"answer\": 0}\n";
static const char replies[] =
    "{\"Question: 2+2?\\nAnswer:\": \" 4\\nQuestion: 9?\", \"Question: 3+3?\\nAnswer:\": \"7\", "
    "\"Question: 首都?\\nAnswer:\": \"北京。\", \"2+2?\": \"It is 4.\", \"3+3?\": \"Six\", "
    "\"首都?\": \"北京\", \"5+5?\": \"!!!!!!!!!!!!!!!!!!!!!!!!!!!!\", \"likely\": \"blue of late\"}";

static void tasks(const char *keys, const char *lines, const char *mode, EvalState state, const char *says,
                  const char *value, bool met)
{
    EvalTest t;
    char yaml[3000], file[600], reply[600];
    int port = free_port();
    snprintf(file, sizeof file, "%s", temp_path(world, "task.jsonl"));
    snprintf(reply, sizeof reply, "%s", temp_path(world, "replies.json"));
    temp_puts(file, lines);
    temp_puts(reply, replies);
    snprintf(
        yaml, sizeof yaml,
        "type: service_oriented\n"
        "demand: {expectations: [{dataset: mine, target: 0.75, tolerance: 0.25}]}\n"
        "evaluation: {port: %d, request_timeout: 20, tasks: {mine: {path: %s, %s}}}\n"
        "inference_engine: {type: vllm-ascend, port: %d, entrypoint: fake_server, env_vars: {PYTHONPATH: tests/lib},\n"
        "  args: {replies: %s, mode: \"%s,\", pid: %s}}\n",
        port, file, keys, port, reply, mode, temp_path(world, "server.pid"));
    evaltest_open(&t, &evaluator_service_oriented, yaml);
    unlink(temp_path(world, "ais_bench")); /* isn't needed */
    evaltest_expect(&t, state, says);
    link_bench();
    if (strcmp(evaltest_value(&t, "mine"), value) != 0)
        fail_msg("%s: %s, not %s", keys, evaltest_value(&t, "mine"), value);
    assert_int_equal(t.result.satisfied, met);
    expect_gone();
    evaltest_close(&t);
}

static void test_tasks(void **state)
{
    (void)state;
    /* 4 and 北京 of four; "It is 4." contains it, "Six" is none; of numbers 4 alone */
    tasks("kind: exact", exact_lines, "", EVAL_DONE, "", "0.5", true);
    tasks("kind: exact, limit: 2", exact_lines, "", EVAL_DONE, "", "0.5", true);
    tasks("kind: exact, template: true", exact_lines, "", EVAL_DONE, "", "0.25", false);
    tasks("kind: exact, template: true, match: contains, percent: true", exact_lines, "", EVAL_DONE, "", "50", true);
    tasks("kind: exact, template: true, precheck: true", "{\"question\": \"5+5?\", \"answer\": \"10\"}\n", "", EVAL_BAD,
          "mine: 1 of 1 replies are no language (repeated_char)", "0", false);
    /* sums: blue over green; "green" -3 over "red of late" -4; blue; "of late blue" -1.5 over "white" -3 */
    tasks("kind: choice", choice_lines, "", EVAL_DONE, "", "0.75", true);
    /* by tokens "red of late" is -4/3, over -3 */
    tasks("kind: choice, normalize: tokens", choice_lines, "", EVAL_DONE, "", "1", true);
    /* -6.5/3 over -3; were the question's last word counted, too, both would be -1.75 and the first taken */
    tasks("kind: choice, normalize: tokens",
          "{\"prompt\": \"He likes blue\", \"choices\": [\"green\", \"green blue green\"], \"answer\": 1}\n", "",
          EVAL_DONE, "", "1", true);
}

static void test_tasks_fail(void **state)
{
    (void)state;
    tasks("kind: exact", exact_lines, "error", EVAL_FAILED, "mine, line 1: http://localhost:", "-", false);
    tasks("kind: choice", choice_lines, "noprobs", EVAL_FAILED, "no logprobs of the echoed text", "-", false);
    tasks("kind: exact", exact_lines, "fall", EVAL_FAILED, "the server ended (exit code 9)", "-", false);
}

/* ---- whatever happens, it is stopped ---- */

static void *raise_when_there(void *ctx)
{
    EvalTest *t = ctx;
    char pid[600];
    snprintf(pid, sizeof pid, "%s/bench.pid", t->save);
    file_number(pid);
    atomic_store(&t->cancel.level, 2);
    return NULL;
}

static void test_cancelled(void **state)
{
    (void)state;
    EvalTest t;
    pthread_t thread;
    open_plan(&t, &(Wish){.first = "hang", .mode = "child"});
    assert_int_equal(pthread_create(&thread, NULL, raise_when_there, &t), 0);
    assert_int_equal(evaltest_run(&t, 1), ST_CANCELLED);
    pthread_join(thread, NULL);
    expect_gone();
    assert_false(process_runs(file_number(temp_path(world, "server.pid.child"))));
    assert_false(process_runs(file_number(temp_path(t.save, "bench.pid"))));
    assert_int_equal(temp_entries(models), 0);
    evaltest_close(&t);
}

/* We are killed while the benchmark runs: server, its worker and the benchmark end. */
static void test_killed(void **state)
{
    (void)state;
    EvalTest t;
    int status;
    open_plan(&t, &(Wish){.first = "hang", .mode = "child"});
    pid_t us = fork();
    assert_true(us >= 0);
    if (us == 0) {
        evaltest_run(&t, 1);
        _exit(1);
    }
    long bench = file_number(temp_path(t.save, "bench.pid")), server = file_number(temp_path(world, "server.pid"));
    long worker = file_number(temp_path(world, "server.pid.child"));
    assert_true(process_runs(bench) && process_runs(server) && process_runs(worker));
    kill(us, SIGKILL);
    assert_int_equal(waitpid(us, &status, 0), us);
    assert_true(process_ends(bench));
    assert_true(process_ends(server));
    assert_true(process_ends(worker));
    unlink(temp_path(world, "server.pid.child"));
    unlink(temp_path(t.save, "bench.pid"));
    /* the model file that was left goes with the next run there */
    assert_int_equal(temp_entries(models), 1);
    t.cancel.level = 0;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, raise_when_there, &t), 0);
    assert_int_equal(evaltest_run(&t, 2), ST_CANCELLED);
    pthread_join(thread, NULL);
    assert_int_equal(temp_entries(models), 0);
    unlink(temp_path(world, "server.pid.child"));
    evaltest_close(&t);
}

/* The server's words: the peer gives no name of the model, and takes no path with a blank. */
static void test_words(void **state)
{
    (void)state;
    EvalTest t;
    Wish w = {0};
    Str words = {0};
    Error e = {0};
    int n;
    evaltest_open(&t, &evaluator_service_oriented, write_plan(&w, 1234, "x"));
    const Engine *engine = &((const Service *)t.settings)->engine;
    assert_int_equal(engine_words(engine, "/a b", false, &words, &n, &e), ST_OK);
    assert_int_equal(n, 17);
    str_clear(&words);
    assert_int_equal(engine_words(engine, "/ab", true, &words, &n, &e), ST_OK);
    assert_int_equal(n, 15);
    for (size_t i = 0; i + 1 < words.len; i++)
        words.s[i] = words.s[i] ? words.s[i] : ' ';
    assert_string_equal(words.s, "-m fake_server --model /ab --host 127.0.0.1 --port 1234 --trust-remote-code --extra "
                                 "{\"a\":1,\"b\":\"x\"} --mode , --pid x");
    str_clear(&words);
    assert_int_equal(engine_words(engine, "/a b", true, &words, &n, &e), ST_DATA);
    str_free(&words);
    evaltest_close(&t);
}

/* ---- before any work ---- */

static void test_not_ready(void **state)
{
    (void)state;
    EvalTest t;
    char *path = strdup(getenv("PATH"));
    open_plan(&t, &(Wish){0});
    setenv("PATH", "/nowhere", 1);
    assert_int_equal(evaltest_run(&t, 1), ST_DATA);
    assert_non_null(strstr(t.err.text, "no python"));
    char *only = strdup(temp_path(world, "bin")), *python = child_find("python3", path);
    mkdir(only, 0700);
    assert_int_equal(symlink(python, temp_path(only, "python3")), 0);
    setenv("PATH", only, 1);
    assert_int_equal(evaltest_run(&t, 1), ST_DATA);
    assert_non_null(strstr(t.err.text, "no program 'ais_bench' in PATH"));
    setenv("PATH", path, 1);
    evaltest_close(&t);
    /* without a folder of model files the installed package's is looked for */
    Wish p = {0};
    char plain[4000];
    snprintf(plain, sizeof plain, "%s", write_plan(&p, free_port(), temp_path(world, "other.pid")));
    char *at = strstr(plain, "model_meta: {directory");
    memmove(at, strchr(at, '}') + 1, strlen(strchr(at, '}')));
    evaltest_open(&t, &evaluator_service_oriented, plain);
    assert_int_equal(evaltest_run(&t, 1), ST_DATA);
    assert_non_null(strstr(t.err.text, "ais_bench) is not installed"));
    char *package = strdup(temp_path(world, "ais_bench_site"));
    char deep[800];
    snprintf(deep, sizeof deep, "%s/ais_bench/benchmark/configs/models/vllm_api", package);
    assert_int_equal(dir_make(deep, &t.err), ST_OK);
    setenv("PYTHONPATH", package, 1);
    evaltest_expect(&t, EVAL_FAILED, "FileNotFoundError"); /* the fake looks elsewhere; the file lay in the package */
    unsetenv("PYTHONPATH");
    evaltest_close(&t);
    free(package);
    free(only);
    free(python);
    free(path);
}

/* ---- plans ---- */

static void test_plans(void **state)
{
    (void)state;
    static const char base[] = "type: service_oriented\n"
                               "demand: {expectations: [{dataset: a, target: 1, tolerance: 0}]}\n"
                               "evaluation: {datasets: {a: {config_name: c%s}}%s}\n"
                               "inference_engine: {type: vllm-ascend%s}\n";
    static const struct {
        const char *set, *config, *engine, *error;
    } cases[] = {
        {"", "", "", ""},
        {"", ", host: 8.8.8.8", ", host: 8.8.8.8", "inference_engine.host: '8.8.8.8' is a public address"},
        {"", ", host: a b", "", "evaluation.host: 'a b' is no host name"},
        {"", ", port: 0", "", "evaluation.port: must lie in 1"},
        {"", "", ", port: 70000", "inference_engine.port: must lie in 1 … 65535, not 70000"},
        {"", ", port: 1235", "", "evaluation.port: is 1235, but inference_engine's is 1234"},
        {"", ", host: localhost", ", host: 127.0.0.1", ""},
        {"", ", host: localhost", ", host: 0.0.0.0", ""},
        {"", ", host: 10.0.0.1", "", "host: is 10.0.0.1, but inference_engine's is localhost"},
        {"", ", served_model_name: x", "", "served_model_name: is x, but"},
        {"", ", served_model_name: ' '", "", "must not be blank"},
        {", mode: 3", "", "", "datasets.a.mode: must be text"},
        {", request_rate: -1", "", "", "datasets.a.request_rate"},
        {", max_out_len: 0", "", "", "datasets.a.max_out_len"},
        {", max_out_len: null, returns_tool_calls: null", "", "", ""},
        {", api_chat_type: 'x; import os'", "", "", "api_chat_type: must be a name"},
        {", metric: x", "", "", "datasets.a.metric: unknown key"},
        {"", ", aisbench: {default_metric_keys: [x]}", "", "default_metric_keys: unknown key"},
        {"", ", aisbench: {binary: rm}", "", "'rm' is none of ais_bench"},
        {"", ", aisbench: {timeout: 0}", "", "aisbench.timeout"},
        {"", ", aisbench: {retry: -1}", "", "aisbench.retry"},
        {"", ", aisbench: {batch_size: 0}", "", "aisbench.batch_size"},
        {"", ", aisbench: {pred_postprocessor: null}", "", ""},
        {"", ", aisbench: {pred_postprocessor: 'f()'}", "", "pred_postprocessor: must be a name"},
        {"", ", type: lm_eval", "", "'lm_eval' is none of aisbench"},
        {"", "", ", entrypoint: 'a b'", "entrypoint: 'a b' has a character"},
        {"", "", ", health_check_endpoint: v1", "health_check_endpoint: must be a path"},
        {"", "", ", health_check_endpoint: //v1", "health_check_endpoint: must be a path"},
        {"", "", ", health_check_endpoint: /a/../b", "health_check_endpoint: must be a path"},
        {"", "", ", health_check_endpoint: '/a?b'", "health_check_endpoint: must be a path"},
        {"", "", ", startup_timeout: 0", "startup_timeout"},
        {"", "", ", args: {a: 'x y'}", "args.a: 'x y' has a character"},
        {"", "", ", args: {'a=b': 1}", "is no option name"},
        {"", "", ", args: {a: [1]}", "args.a: must be text, a number"},
        {"", "", ", args: {a: {b: [1]}}", "args.a: '{\"b\":[1]}' has a character"},
        {"", "", ", args: {a: {b: x y}}", "has a character"},
        {"", "", ", args: {a: 0.9, b: 8, c: true, d: {e: f}}", ""},
        {"", "", ", env_vars: {A: [1]}", "env_vars.A: must be text"},
        {"", ", tasks: {m: {path: f, kind: exact, template: true}}", "", ""},
        {"", ", tasks: {m: {path: f, kind: choice, template: true}}", "",
         "evaluation.tasks.m.template: a server tells"},
        {"", ", tasks: {m: {path: f}}", "", "tasks.m.kind: is missing"},
        {"", ", tasks: {a: {path: f, kind: exact}}", "", "'a' is in datasets and in tasks"},
        {"", ", precheck: [{type: x}]", "", "precheck.0.type: 'x' is none of expected_answer, garbled_text"},
        {"", ", precheck: {type: expected_answer, test_cases: [{q: 4}]}", "",
         "must be text or a list of texts, not integer: quote it"},
        {"", ", precheck: {type: expected_answer, test_cases: [{q: '4'}, {message: m, expected_answer: [a, b]}]}", "",
         ""},
        {"", ", precheck: {type: expected_answer, test_cases: [{a: x, b: y}]}", "", "test_cases.0.a: unknown key"},
        {"", ", precheck: {type: garbled_text, test_cases: [{message: m, items: [x]}]}", "",
         "items.0: 'x' is none of empty_text"},
        {"", ", precheck: {type: garbled_text, max_tokens: 0}", "", "precheck.max_tokens"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1000], *all;
        snprintf(text, sizeof text, base, cases[i].set, cases[i].config, cases[i].engine);
        all = evaltest_errors(&evaluator_service_oriented, text, false);
        if (cases[i].error[0] ? !strstr(all, cases[i].error) : all[0])
            fail_msg("%s: %s", text, all);
        free(all);
    }
    char same[1000];
    snprintf(same, sizeof same, base, "", ", port: 1235", "");
    char *all = evaltest_errors(&evaluator_service_oriented, same, true); /* the peer lets them differ */
    assert_string_equal(all, "");
    free(all);
    all = evaltest_errors(
        &evaluator_service_oriented,
        "type: service_oriented\n"
        "demand: {expectations: [{dataset: aime25, target: 83, tolerance: 2}, {dataset: g, at_most: 1}]}\n"
        "evaluation: {datasets: {gsm8k: {config_name: c}, g: {config_name: d}}}\n"
        "inference_engine: {type: vllm-ascend}\n",
        false);
    assert_non_null(
        strstr(all, "plan:2:35: demand.expectations.0.dataset: 'aime25' is none of evaluation.evaluation.datasets; "
                    "there are gsm8k, g\n"));
    assert_non_null(strstr(all, "demand.expectations.1: a benchmark gives accuracies"));
    free(all);
}

/* The plans that were handed to the original: what it refused for its evaluation is refused, for the same reason. */
static void test_recorded_plans(void **state)
{
    (void)state;
    static const struct {
        const char *file, *error;
    } cases[] = {
        {"30-good-plan", ""},
        {"31-plan-dataset-not-configured", ":15:37: evaluation.demand.expectations.0.dataset: 'aime25' is none of "
                                           "evaluation.evaluation.datasets; there are gsm8k"},
        {"33-good-binary_fallback-plan", ""},
        {"35-plan-tolerance-negative", "evaluation.demand.expectations.0.tolerance: must be at least 0, not -1"},
        {"36-plan-port-out-of-range", "evaluation.inference_engine.port: must lie in 1 … 65535, not 70000"},
        {"37-plan-public-host", "evaluation.inference_engine.host: '8.8.8.8' is a public address"},
    };
    for (int peer = 0; peer < 2; peer++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            char path[200];
            Plan *p = NULL;
            Error e = {0};
            snprintf(path, sizeof path, "tests/golden/config/broken/%s.yaml", cases[i].file);
            Status st = plan_open(&p, &plan_rows, path, peer, NULL, &e);
            if (cases[i].error[0] ? st != ST_DATA || !strstr(e.text, cases[i].error) : st != ST_OK)
                fail_msg("%s: %d %s", path, st, e.text);
            plan_free(p);
        }
}

/* The original's text of an evaluation with every default in it, of which its cache key is made. */
static void test_recorded_defaults(void **state)
{
    (void)state;
    static const char mark[] = "\nevaluation json: ";
    static const char *const plans[] = {
        "type: service_oriented\n"
        "demand: {expectations: [{dataset: d, target: 83, tolerance: '2'}]}\n"
        "evaluation: {type: aisbench, datasets: {d: {config_name: c}}}\n"
        "inference_engine: {type: vllm-ascend}\n",
        "type: service_oriented\n"
        "demand: {expectations: [{tolerance: 2, target: '83', dataset: d}]}\n"
        "inference_engine: {type: vllm-ascend, startup_timeout: 600, port: '1234', args: {}}\n"
        "evaluation: {precheck: [], datasets: {d: {max_out_len: null, config_name: c, request_rate: 0}}, aisbench: "
        "{timeout: 7200, "
        "request_rate: 1, model_meta: {subdir: vllm_api}}}\n"};
    char *all = temp_get("tests/golden/config/tuning_traces.txt", NULL), *want = strstr(all, mark);
    assert_non_null(want);
    want += sizeof mark - 1;
    want[strcspn(want, "\n")] = '\0';
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        YamlDoc *doc;
        Error e = {0};
        Str got = {0};
        assert_int_equal(yaml_parse(&doc, plans[i], strlen(plans[i]), "plan", &e), ST_OK);
        canon_object(NULL, yaml_root(doc), &service_object, NULL, &got);
        assert_string_equal(got.s, want);
        str_free(&got);
        yaml_doc_free(doc);
    }
    free(all);
}

/* The whole schema, as it reaches the bench's model file and command. */
static void test_model_file(void **state)
{
    (void)state;
    EvalTest t;
    Wish p = {.first = "acc_90",
              .set =
                  ", mode: infer, request_rate: 2.5, max_out_len: 64, returns_tool_calls: true, api_chat_type: Chat, "
                  "chat_template_kwargs: {enable_thinking: false}, extra_args: [--b, 'x y']",
              .bench = ", request_rate: 3, retry: 5, batch_size: 7, trust_remote_code: true, extra_args: [--a], "
                       "generation_kwargs: {temperature: 0.5, stop: [\"a\\\"b\", null]}, cleanup_model_config: false, "
                       "pred_postprocessor: null, log_dir: LOGS"};
    evaltest_open(&t, &evaluator_service_oriented, write_plan(&p, 1234, "x"));
    Str text = {0};
    aisbench_model_text(t.settings, service_set(t.settings, "a"), "/model \"x\"", &text);
    assert_string_equal(text.s, "from ais_bench.benchmark.models import Chat\n"
                                "\n"
                                "models = [\n"
                                "    dict(\n"
                                "        attr=\"service\",\n"
                                "        type=Chat,\n"
                                "        abbr=\"vllm-api-general-chat\",\n"
                                "        path=\"/model \\\"x\\\"\",\n"
                                "        model=\"served_model_name\",\n"
                                "        request_rate=2.5,\n"
                                "        retry=5,\n"
                                "        host_ip=\"127.0.0.1\",\n"
                                "        host_port=1234,\n"
                                "        max_out_len=64,\n"
                                "        batch_size=7,\n"
                                "        returns_tool_calls=True,\n"
                                "        trust_remote_code=True,\n"
                                "        generation_kwargs={\"temperature\": 0.5, \"stop\": [\"a\\\"b\", None]},\n"
                                "        chat_template_kwargs={\"enable_thinking\": False},\n"
                                "    )\n"
                                "]\n");
    str_free(&text);
    evaltest_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores),         cmocka_unit_test(test_first_unmet),
        cmocka_unit_test(test_bench_fails),    cmocka_unit_test(test_peer_scores),
        cmocka_unit_test(test_server_fails),   cmocka_unit_test(test_place_taken),
        cmocka_unit_test(test_prechecks),      cmocka_unit_test(test_prechecks_fail),
        cmocka_unit_test(test_cancelled),      cmocka_unit_test(test_killed),
        cmocka_unit_test(test_not_ready),      cmocka_unit_test(test_plans),
        cmocka_unit_test(test_tasks),          cmocka_unit_test(test_tasks_fail),
        cmocka_unit_test(test_words),          cmocka_unit_test(test_model_file),
        cmocka_unit_test(test_recorded_plans), cmocka_unit_test(test_recorded_defaults),
    };
    return cmocka_run_group_tests(tests, world_up, world_down);
}
