#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "base/str.h"
#include "evaluate/outcome.h"

/* Evaluator `manual`: a person tries the quantized model and types what it scores. */

enum { LINE_MAX_BYTES = 200 };

static const Field manual_fields[] = {FIELD_EVALUATION, FIELD_END};
static const Object manual_object = {.fields = manual_fields};
static const char nothing[] = "";

static const void *manual_settings(Arena *a, const YamlNode *map)
{
    (void)a;
    (void)map;
    return nothing;
}

static Status manual_ready(const void *settings, const Expectation *e, int n, const EvalKit *kit, Error *err)
{
    (void)settings;
    (void)e;
    (void)n;
    if (!kit->ask)
        return error_set(err, ST_USAGE,
                         "evaluation type manual asks a person, and there is nobody to ask: run it in a terminal, "
                         "or have a program evaluate (type: command)");
    return ST_OK;
}

/* "at least 83 - 2", "at most 0.1", "at most 2% above the float model's". */
static void demanded(const Expectation *e, Str *out)
{
    str_puts(out, e->at_most ? "at most " : "at least ");
    decimal_put(&e->target, out);
    if (e->relative)
        str_puts(out, "% above the float model's");
    else if (!e->at_most && decimal_sign(&e->tolerance, NULL, NULL) > 0) {
        str_puts(out, " - ");
        decimal_put(&e->tolerance, out);
    }
}

typedef enum Answer { ANSWER_VALUE, ANSWER_BAD, ANSWER_STOP, ANSWER_UNCLEAR } Answer;

/* "81.5", "81.5%", with the float model's behind it where `base` is wanted, "bad", "stop". */
static Answer read_line(const char *line, bool wants_base, Decimal *value, Decimal *base)
{
    static const struct {
        const char *word;
        Answer answer;
    } words[] = {{"bad", ANSWER_BAD}, {"b", ANSWER_BAD}, {"stop", ANSWER_STOP}, {"s", ANSWER_STOP}};
    Decimal *const to[] = {value, base};
    int n = 0;
    line += strspn(line, " \t");
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t k = strlen(words[i].word);
        if (ascii_ncasecmp(line, words[i].word, k) == 0 && !line[k + strspn(line + k, " \t\r\n")])
            return words[i].answer;
    }
    for (; *line && n < 2; n++) {
        size_t k = strcspn(line, " \t\r\n"), digits = k && line[k - 1] == '%' ? k - 1 : k;
        if (!decimal_parse(line, digits, to[n]))
            return ANSWER_UNCLEAR;
        line += k + strspn(line + k, " \t\r\n");
    }
    return n == 1 + wants_base && !*line ? ANSWER_VALUE : ANSWER_UNCLEAR;
}

/* Asks for one data set until the answer is clear. */
static Status ask(const EvalKit *kit, const EvalTrial *t, const Expectation *e, Answer *answer, Decimal *value,
                  Decimal *base, Error *err)
{
    char line[LINE_MAX_BYTES];
    Str q = {0}, want = {0};
    Status st = ST_OK;
    bool first = true;
    demanded(e, &want);
    *answer = ANSWER_UNCLEAR;
    while (st == ST_OK && *answer == ANSWER_UNCLEAR) {
        str_clear(&q);
        if (first)
            str_printf(
                &q, "try %d (%.60s) is in %.400s: its value on '%.100s' (wanted: %s)%s, or bad, or stop: ", t->number,
                t->id, t->folder, e->dataset, str_text(&want), e->relative ? " and the float model's behind it" : "");
        else
            str_printf(&q, "%s, or bad, or stop: ",
                       e->relative ? "two numbers are wanted, like 5.71 5.68" : "a number is wanted, like 81.5");
        first = false;
        if (q.oom || want.oom)
            st = error_nomem(err, "a question");
        else if (!kit->ask(kit->ctx, q.s, line, sizeof line))
            st = cancel_level(kit->cancel)
                     ? cancel_check(kit->cancel, err)
                     : error_set(err, ST_CANCELLED, "nobody answered: run it again to go on with this try");
        else
            *answer = read_line(line, e->relative, value, base);
    }
    str_free(&q);
    str_free(&want);
    return st;
}

static Status manual_run(const void *settings, const Expectation *e, int n, const EvalKit *kit, const EvalTrial *t,
                         EvalResult *r, Error *err)
{
    (void)settings;
    bool met = true;
    Status st = kit->ask ? ST_OK : manual_ready(settings, e, n, kit, err);
    for (int i = 0; i < n && st == ST_OK && met; i++) { /* no work for nothing: the first that is not met decides */
        Answer answer;
        Decimal value, base;
        eval_progress(kit, "waiting for your answer", i, n);
        st = ask(kit, t, &e[i], &answer, &value, &base, err);
        if (st != ST_OK)
            break;
        if (answer == ANSWER_STOP)
            return error_set(err, ST_CANCELLED, "stopped: run it again to go on with try %d", t->number);
        if (answer == ANSWER_BAD)
            return eval_says(r, EVAL_BAD, "called bad at '%.100s'", e[i].dataset);
        st = eval_add(r, &e[i], &value, e[i].relative ? &base : NULL, &met, err);
    }
    demand_met(e, n, r);
    return st;
}

const EvaluatorType evaluator_manual = {
    .name = "manual",
    .object = &manual_object,
    .folder = true,
    .settings = manual_settings,
    .ready = manual_ready,
    .run = manual_run,
};
