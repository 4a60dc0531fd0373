#include "tune/trials.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"

/* The accuracy of a data set as written, with its error where it is known: "81.5 ± 0.3"; "-": there is none. */
static void put_accuracy(const EvalResult *r, const char *dataset, Str *out)
{
    const Accuracy *a = eval_result_of(r, dataset);
    if (!a) {
        str_putc(out, '-');
        return;
    }
    decimal_put(&a->value, out);
    if (isfinite(a->error))
        str_printf(out, " ± %.2g", a->error);
}

void trials_expectation(const Expectation *e, Str *out)
{
    if (e->at_most) {
        str_puts(out, "at most ");
        decimal_put(&e->target, out);
        str_puts(out, e->relative ? "% more than the float model's" : "");
        return;
    }
    decimal_put(&e->target, out);
    str_puts(out, ", less no more than ");
    decimal_put(&e->tolerance, out);
}

/* The figure of the first expectation, such that more is better; false: there is none. */
static bool first_figure(const Loop *l, const LoopTry *t, double *out)
{
    int n;
    const Expectation *e = plan_demand(loop_options(l)->plan, &n);
    const Accuracy *a = t->known && t->result.state == EVAL_DONE ? eval_result_of(&t->result, e->dataset) : NULL;
    if (a)
        *out = e->at_most ? -decimal_value(&a->value) : decimal_value(&a->value);
    return a != NULL;
}

bool trials_on_front(const Loop *l, int i)
{
    double mine, other;
    const LoopTry *t = loop_try(l, i);
    if (!t->bytes || !first_figure(l, t, &mine))
        return false;
    for (int k = 0; k < loop_tries(l); k++) {
        const LoopTry *o = loop_try(l, k);
        if (k == i || !o->bytes || !first_figure(l, o, &other))
            continue;
        bool as_good = o->bytes <= t->bytes && other >= mine, same = o->bytes == t->bytes && other == mine;
        if (as_good && (!same || k < i))
            return false;
    }
    return true;
}

/* ---- Markdown ---- */

/* A text in a cell. */
static void put_cell(Str *out, const char *s)
{
    for (; *s; s++)
        if (*s == '|')
            str_puts(out, "\\|");
        else
            str_putc(out, *s == '\n' ? ' ' : *s);
}

static void put_size(Str *out, uint64_t bytes)
{
    if (bytes)
        str_printf(out, "%.1f MiB", (double)bytes / (1 << 20));
    else
        str_putc(out, '-');
}

/* The first patterns, and how many there are. */
static void put_patterns(Str *out, const Practice *p)
{
    enum { SHOWN = 4 };
    for (int i = 0; i < p->npatterns && i < SHOWN; i++) {
        str_puts(out, i ? " `" : "`");
        put_cell(out, p->patterns[i]);
        str_putc(out, '`');
    }
    if (p->npatterns > SHOWN)
        str_printf(out, " and %d more", p->npatterns - SHOWN);
    if (p->npatterns == 0)
        str_putc(out, '-');
}

static const char *word_of(const LoopTry *t)
{
    if (!t->known)
        return t->result.text[0] ? "failed" : "not done";
    return t->result.state == EVAL_BAD ? "garbage" : t->result.satisfied ? "met" : "missed";
}

static void put_row(const Loop *l, int i, const LoopStep *done, Str *out)
{
    const LoopTry *t = loop_try(l, i);
    int n;
    const Expectation *e = plan_demand(loop_options(l)->plan, &n);
    str_printf(out, "| %s%d%s | ", i == done->best ? "**" : "", t->number, i == done->best ? "**" : "");
    put_cell(out, t->practice->anti[0] ? t->practice->anti : "-");
    str_puts(out, " | ");
    put_patterns(out, t->practice);
    if (t->linears)
        str_printf(out, " | %lld of %lld | ", (long long)t->floats, (long long)t->linears);
    else
        str_puts(out, " | - | ");
    put_size(out, t->bytes);
    for (int k = 0; k < n; k++) {
        str_puts(out, " | ");
        put_accuracy(&t->result, e[k].dataset, out);
    }
    str_printf(out, " | %s%s%s | %.1f | %.1f | %s |\n", word_of(t), loop_borderline(l, i) ? ", within its error" : "", t->cached ? " (known before)" : "", t->seconds, t->result.seconds,
               trials_on_front(l, i) ? "yes" : "");
}

static void put_table(const Loop *l, const LoopStep *done, Str *out)
{
    int n;
    const Expectation *e = plan_demand(loop_options(l)->plan, &n);
    str_puts(out, "| try | suppression | patterns in float | linears in float | size");
    for (int k = 0; k < n; k++) {
        str_puts(out, " | ");
        put_cell(out, e[k].dataset);
    }
    str_puts(out, " | demand | s to quantize | s to evaluate | on the front |\n|---|---|---|---|---");
    for (int k = 0; k < n; k++)
        str_puts(out, "|---");
    str_puts(out, "|---|---|---|---|\n");
    for (int i = 0; i < loop_tries(l); i++)
        put_row(l, i, done, out);
}

static void put_demand(const Plan *p, Str *out)
{
    int n;
    const Expectation *e = plan_demand(p, &n);
    for (int k = 0; k < n; k++) {
        str_printf(out, "- %s: ", e[k].dataset);
        trials_expectation(&e[k], out);
        str_putc(out, '\n');
    }
}

void trials_markdown(const Loop *l, const LoopStep *done, const TrialsAbout *about, Str *out)
{
    const LoopOptions *o = loop_options(l);
    const bool over = done->kind == LOOP_DONE;
    str_printf(out, "# Tuning of %s\n\n**%s**%s%s\n\n", about->model ? about->model : "a model", over ? loop_end_word(done->end) : "RUNNING",
               over ? ": " : "", over ? done->text : "");
    str_printf(out, "Plan `%s`, strategy `%s`, evaluator `%s`, %.0f s in this run. Demanded:\n\n", plan_name(o->plan), plan_strategy(o->plan)->name,
               plan_evaluator(o->plan)->name, about->seconds);
    put_demand(o->plan, out);
    str_printf(out, "\n## Tries\n\n%s\n\n", loop_tries(l) ? "The best one is bold. On the front: no other try is smaller and as good on the first "
                                                         "data set."
                                                       : "There was none.");
    if (loop_tries(l))
        put_table(l, done, out);
    if (over && done->final)
        str_printf(out, "\n## The recipe\n\nIt is `best_practice.yaml`, and `quant_model` holds the model quantized by it:\n\n    slimscope quant "
                        "--model_path MODEL --save_path OUT --config_path best_practice.yaml\n\n```yaml\n%.*s```\n",
                   (int)done->final_len, done->final);
    else if (over && done->best >= 0)
        str_printf(out, "\nNo try meets the demand; the closest is try %d, whose recipe is `history/%s.yaml`.\n", done->best + 1,
                   loop_try(l, done->best)->practice->id);
}

/* ---- JSON ---- */

static void put_key(Str *out, const char *key, const char *value)
{
    str_printf(out, "\"%s\": ", key);
    if (value)
        str_json(out, value);
    else
        str_puts(out, "null");
}

static void put_decimal(Str *out, const char *key, const Decimal *d)
{
    Str s = {0};
    decimal_put(d, &s);
    str_puts(out, ", ");
    put_key(out, key, str_text(&s));
    str_free(&s);
}

static void put_expectations(const Plan *p, Str *out)
{
    int n;
    const Expectation *e = plan_demand(p, &n);
    str_puts(out, "\"demand\": [");
    for (int k = 0; k < n; k++) {
        str_puts(out, k ? ", {" : "{");
        put_key(out, "dataset", e[k].dataset);
        put_decimal(out, e[k].relative ? "at_most_percent_more" : e[k].at_most ? "at_most" : "target", &e[k].target);
        if (!e[k].at_most)
            put_decimal(out, "tolerance", &e[k].tolerance);
        str_putc(out, '}');
    }
    str_putc(out, ']');
}

static void put_accuracies(const EvalResult *r, Str *out)
{
    str_puts(out, "\"accuracies\": [");
    for (int k = 0; k < r->n; k++) {
        const Accuracy *a = &r->accuracy[k];
        str_puts(out, k ? ", {" : "{");
        put_key(out, "dataset", a->dataset);
        put_decimal(out, "accuracy", &a->value);
        str_puts(out, ", \"error\": ");
        str_double(out, a->error);
        if (a->has_base)
            put_decimal(out, "base", &a->base);
        str_putc(out, '}');
    }
    str_putc(out, ']');
}

static void put_try(const Loop *l, int i, Str *out)
{
    const LoopTry *t = loop_try(l, i);
    str_printf(out, "%s\n{\"try\": %d, ", i ? "," : "", t->number);
    put_key(out, "id", t->practice->id);
    str_puts(out, ", ");
    put_key(out, "suppression", t->practice->anti);
    str_printf(out, ", \"level\": %d, \"patterns\": [", t->practice->level);
    for (int k = 0; k < t->practice->npatterns; k++) {
        str_puts(out, k ? ", " : "");
        str_json(out, t->practice->patterns[k]);
    }
    str_printf(out, "], \"linears\": %lld, \"linears_in_float\": %lld, \"bytes\": %llu, \"float_bytes\": %llu, ", (long long)t->linears,
               (long long)t->floats, (unsigned long long)t->bytes, (unsigned long long)t->float_bytes);
    put_key(out, "state", word_of(t));
    str_printf(out, ", \"satisfied\": %s, \"known_before\": %s, \"on_front\": %s, \"within_error\": %s, ", t->known && t->result.satisfied ? "true" : "false",
               t->cached ? "true" : "false", trials_on_front(l, i) ? "true" : "false", loop_borderline(l, i) ? "true" : "false");
    put_accuracies(&t->result, out);
    str_puts(out, ", \"quantize_seconds\": ");
    str_double(out, t->seconds);
    str_puts(out, ", \"evaluate_seconds\": ");
    str_double(out, t->result.seconds);
    str_puts(out, ", ");
    put_key(out, "note", t->result.text);
    str_putc(out, '}');
}

static void put_json(const Loop *l, const LoopStep *done, const TrialsAbout *about, Str *out)
{
    const LoopOptions *o = loop_options(l);
    const bool over = done->kind == LOOP_DONE;
    str_putc(out, '{');
    put_key(out, "verdict", over ? loop_end_word(done->end) : "RUNNING");
    str_puts(out, ", ");
    put_key(out, "text", over ? done->text : "");
    str_puts(out, ",\n");
    put_key(out, "model", about->model);
    str_puts(out, ", ");
    put_key(out, "model_type", o->model_type);
    str_puts(out, ", ");
    put_key(out, "plan", plan_name(o->plan));
    str_puts(out, ", ");
    put_key(out, "strategy", plan_strategy(o->plan)->name);
    str_puts(out, ", ");
    put_key(out, "evaluator", plan_evaluator(o->plan)->name);
    str_puts(out, ", \"seconds\": ");
    str_double(out, about->seconds);
    str_puts(out, ",\n");
    put_expectations(o->plan, out);
    str_printf(out, ",\n\"best\": ");
    if (done->best >= 0)
        str_printf(out, "%d", done->best + 1);
    else
        str_puts(out, "null");
    str_puts(out, ", \"tries\": [");
    for (int i = 0; i < loop_tries(l); i++)
        put_try(l, i, out);
    str_puts(out, "],\n");
    put_key(out, "final_id", over ? done->final_id : NULL);
    str_puts(out, ", ");
    put_key(out, "final_yaml", over ? done->final : NULL);
    str_puts(out, "}\n");
}

/* ---- files ---- */

static Status write_one(const Loop *l, const char *name, const Str *text, Error *err)
{
    char *path = path_join(loop_options(l)->save_path, name);
    Status st = path && !text->oom ? file_write_atomic(path, text->s, text->len, err) : error_nomem(err, name);
    free(path);
    return st;
}

Status trials_write(const Loop *l, const LoopStep *done, const TrialsAbout *about, Error *err)
{
    Str md = {0}, json = {0};
    trials_markdown(l, done, about, &md);
    put_json(l, done, about, &json);
    Status st = write_one(l, "report.md", &md, err);
    if (st == ST_OK)
        st = write_one(l, "report.json", &json, err);
    str_free(&md);
    str_free(&json);
    return st;
}
