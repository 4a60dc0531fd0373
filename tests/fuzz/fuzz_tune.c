/* Tuning plans, played for some steps, and the answers that an earlier run left. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "evaluate/task.h"
#include "fuzz.h"
#include "io/file.h"
#include "tune/history.h"

/* Some tries with answers by the variant; every practice is YAML, and what is no recipe says so in a line. */
static void play(const Plan *p, int variant)
{
    static const char *const none[] = {"model.layers.0.mlp.down_proj"};
    const RankRow rows[] = {{.name = "model.layers.0", .score = 1, .bytes = 10}, {.name = "b", .score = 2, .npatterns = 1, .patterns = none, .bytes = -1}};
    StrategyKit kit = {.rows = &recipe_rows, .peer = variant & 1, .experience = "lab_practice/experience.yaml"};
    kit.expect = plan_demand(p, &kit.nexpect);
    Strategy *s;
    Error err = {0};
    Status st = strategy_open(&s, plan_strategy(p), plan_strategy_settings(p), &kit, &err);
    fuzz_error(st, &err);
    if (st != ST_OK)
        return;
    for (int i = 0; i < 8; i++) {
        StrategyStep step;
        st = strategy_next(s, &step, &err);
        fuzz_error(st, &err);
        if (st == ST_OK && step.kind == STEP_RANK) {
            st = strategy_ranked(s, rows, 2, &err);
        } else if (st == ST_OK && step.kind == STEP_TRY) {
            Recipe *r = NULL;
            EvalResult a = {.satisfied = variant >> i & 1};
            Status read = recipe_parse(&r, &recipe_rows, step.practice->text, step.practice->len, "practice", NULL, &err);
            fuzz_error(read, &err);
            if (read == ST_OK)
                recipe_free(r);
            st = strategy_answered(s, &a, &err);
        }
        if (st != ST_OK || step.kind > STEP_TRY)
            break;
    }
    strategy_free(s);
}

static void run_plan(int variant, const uint8_t *data, size_t n)
{
    Plan *p;
    Error err = {0};
    Status st = plan_parse(&p, &plan_rows, (const char *)data, n, "p", variant & 1, NULL, &err);
    fuzz_error(st, &err);
    if (st != ST_OK)
        return;
    play(p, variant);
    plan_free(p);
}

static const char *const plan_seeds[] = {"tests/golden/config/broken/3*.yaml", "tests/golden/config/broken/40*.yaml", "tests/fuzz/seeds/plan*.yaml", NULL};
static const char *const plan_words[] = {
    "  type: binary_fallback\n", "rollback_path: spec.process.0.exclude\n", "rollback_candidates: ['*a*', b]\n", "type: fewest_bytes\n", "scope: group\n",
    "  template: {process: []}\n", "anti_outlier_strategies: [[]]\n", "- []\n", "{dataset: kl, at_most: '+2%'}", "target: 83", "tolerance: -1", ".", "null",
    "type: manual\n", "structure_configs: [{type: GQA, include: ['*']}]\n", "quant_type: w8a8\n", "metadata: {config_id: a}\n", NULL};
const FuzzTarget fuzz_plan = {.name = "plan", .seeds = plan_seeds, .words = plan_words, .take = 4000, .run = run_plan};

static void run_answers(int variant, const uint8_t *data, size_t n)
{
    History *h;
    Error err = {0};
    HistoryOptions o = {.save_path = fuzz_path("."), .peer = variant & 1, .ids = {.model = "m"}};
    if (dir_make(fuzz_path("history"), &err) != ST_OK)
        fuzz_bad("no folder", err.text);
    fuzz_put("history/accuracy.yaml", data, n);
    fuzz_put(variant & 2 ? "history/ranking.json" : "history/run.json", data, n);
    Status st = tunehist_open(&h, &o, &err);
    fuzz_error(st, &err);
    if (st == ST_OK) {
        RankRow *rows;
        int64_t count;
        if (tunehist_ranking(h, "key", &rows, &count))
            free(rows);
        tunehist_free(h);
    }
    unlink(fuzz_path("history/accuracy.yaml.broken"));
    unlink(fuzz_path("history/run.json.broken"));
}

static const char *const answer_seeds[] = {"tests/fuzz/seeds/answers*.yaml", "tests/fuzz/seeds/ranking*.json", NULL};
static const char *const answer_words[] = {"accuracies: []\n", "- dataset: d\n", "    accuracy: '1'\n", "ours: {bytes: -1, linears: 1e30}\n", "is_satisfied: true\n",
                                           "\"rows\": [", "\"patterns\": [\"a\"]", "{\"key\": \"key\"", "&a ", "*a", NULL};
const FuzzTarget fuzz_answers = {.name = "answers", .seeds = answer_seeds, .words = answer_words, .take = 3000, .run = run_answers};

/* A file of questions, and its own lines as replies. */
static void run_questions(int variant, const uint8_t *data, size_t n)
{
    TaskFile *t;
    Error err = {0};
    fuzz_put("questions.jsonl", data, n);
    Status st = task_open(&t, fuzz_path("questions.jsonl"), variant & 1 ? TASK_EXACT : TASK_CHOICE, variant >> 4 & 3, &err);
    fuzz_error(st, &err);
    for (int i = 0; st == ST_OK && i < t->n; i++) {
        const TaskItem *q = &t->item[i];
        const TaskSet set = {.kind = TASK_EXACT, .match = (TaskMatch)((variant >> 1 & 3) % TASK_MATCHES),
                             .extract = variant & 8 ? "(\\d+)|\\w+$" : NULL};
        bool right;
        Str prompt = {0};
        task_prompt(q, &prompt);
        if (q->choices && (q->right < 0 || q->right >= q->choices || q->choices < 2))
            fuzz_bad("an answer that is no choice", q->question);
        if (q->answers)
            fuzz_error(exact_match(&set, q, str_text(&prompt), &right, &err), &err);
        str_free(&prompt);
    }
    if (st == ST_OK)
        task_free(t);
}

static const char *const question_seeds[] = {"tests/fuzz/seeds/questions*.jsonl", NULL};
static const char *const question_words[] = {
    "\"question\":\"q\"", "\"choices\":[\"a\",\"b\"]", "\"answer\":1", "\"answer\":true", "\"answer\":\"#### 7\"", "{\"text\":[\"a\"],\"label\":[\"A\"]}",
    "\"endings\":", "\"option1\":\"x\"", "\"answers\":[1,\"b\"]", "\"label\":\"B\"", "1e300", "\n", "-1", NULL};
const FuzzTarget fuzz_questions = {.name = "questions", .seeds = question_seeds, .words = question_words, .take = 3000, .run = run_questions};
