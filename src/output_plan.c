/* The tries of a tuning plan, as text and JSON. */
#include "src/output_plan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void plan_accuracies(const LoopTry *t, Str *out)
{
    const EvalResult *r = &t->result;
    if (!t->known) {
        str_printf(out, "%s%s", r->text[0] ? "failed: " : "runs", r->text);
        return;
    }
    for (int i = 0; i < r->n; i++) {
        const Accuracy *a = &r->accuracy[i];
        str_printf(out, "%s%s ", i ? ", " : "", a->dataset);
        decimal_put(&a->value, out);
        if (isfinite(a->error))
            str_printf(out, "+-%.2g", a->error);
        if (a->has_base) {
            str_puts(out, " (float ");
            decimal_put(&a->base, out);
            str_putc(out, ')');
        }
    }
    if (r->state != EVAL_DONE)
        str_printf(out, "%s%s: %s", r->n ? "; " : "", r->state == EVAL_BAD ? "bad" : "not evaluated", r->text);
}

static const char *try_word(const LoopTry *t)
{
    return !t->known ? "" : t->result.state == EVAL_FAILED ? "failed" : t->result.satisfied ? "met" : "not met";
}

static void try_text(const AutotuneView *v, int i, int width, Str *out)
{
    const LoopTry *t = loop_try(v->loop, i);
    const Practice *p = t->practice;
    str_printf(out, "%c %-4d %-*s %-9s ", i == loop_best(v->loop) ? '>' : ' ', t->number, width, p->id, try_word(t));
    if (t->linears)
        str_printf(out, "%6lld of %-5lld ", (long long)t->floats, (long long)t->linears);
    if (t->bytes) {
        size_t at = out->len;
        str_bytes(out, t->bytes);
        str_printf(out, "%*s", at + 11 > out->len ? (int)(at + 11 - out->len) : 1, "");
    }
    if (t->cached)
        str_printf(out, "%7s  ", "known");
    else
        str_printf(out, "%5.0f s  ", t->seconds + t->result.seconds);
    plan_accuracies(t, out);
    if (p->anti[0])
        str_printf(out, "; %s", p->anti);
    str_putc(out, '\n');
}

static void plan_text(const AutotuneView *v, Str *out)
{
    int n = v->loop ? loop_tries(v->loop) : 0;
    str_printf(out, "%s by %s, evaluated by %s\n%s\n", v->plan, v->strategy, v->evaluator, v->text);
    int width = (int)strlen("recipe");
    for (int i = 0; i < n; i++)
        width = (int)strlen(loop_try(v->loop, i)->practice->id) > width ? (int)strlen(loop_try(v->loop, i)->practice->id) : width;
    if (n)
        str_printf(out, "\n  try  %-*s demand        in float  size           took  found\n", width, "recipe");
    for (int i = 0; i < n; i++)
        try_text(v, i, width, out);
    if (v->state == AUTOTUNE_ENDED && v->id)
        str_printf(out, "\n%s/best_practice.yaml is the recipe; %s/report.md tells all tries\n", v->save_path, v->save_path);
    else if (n)
        str_printf(out, "\n%s/report.md tells all tries\n", v->save_path);
}

static const char *const state_words[] = {[AUTOTUNE_NONE] = "none", [AUTOTUNE_RUNS] = "running", [AUTOTUNE_STOPPED] = "stopped",
                                          [AUTOTUNE_ENDED] = "ended"};

static void put_text(Str *out, const char *name, const char *text)
{
    str_printf(out, ",\"%s\":", name);
    str_json(out, text);
}

static void try_json(const LoopTry *t, Str *out)
{
    const EvalResult *r = &t->result;
    static const char *const words[] = {[EVAL_DONE] = "done", [EVAL_BAD] = "bad", [EVAL_FAILED] = "failed"};
    str_printf(out, "{\"try\":%d", t->number);
    put_text(out, "id", t->practice->id);
    put_text(out, "anti_outlier", t->practice->anti);
    str_printf(out, ",\"level\":%d,\"cached\":%s,\"bytes\":%llu,\"float_bytes\":%llu,\"linears\":%lld,\"floats\":%lld",
               t->practice->level, t->cached ? "true" : "false", (unsigned long long)t->bytes,
               (unsigned long long)t->float_bytes, (long long)t->linears, (long long)t->floats);
    str_puts(out, ",\"patterns\":[");
    for (int i = 0; i < t->practice->npatterns; i++) {
        str_puts(out, i ? "," : "");
        str_json(out, t->practice->patterns[i]);
    }
    str_puts(out, "],\"quantize_seconds\":");
    str_double(out, t->seconds);
    if (t->known) {
        put_text(out, "state", words[r->state]);
        put_text(out, "text", r->text);
        str_printf(out, ",\"satisfied\":%s,\"evaluate_seconds\":", r->satisfied ? "true" : "false");
        str_double(out, r->seconds);
        str_puts(out, ",\"accuracies\":[");
        for (int i = 0; i < r->n; i++) {
            str_puts(out, i ? ",{\"dataset\":" : "{\"dataset\":");
            str_json(out, r->accuracy[i].dataset);
            str_puts(out, ",\"value\":");
            decimal_put(&r->accuracy[i].value, out);
            str_puts(out, ",\"error\":");
            str_double(out, r->accuracy[i].error);
            str_putc(out, '}');
        }
        str_putc(out, ']');
    }
    str_putc(out, '}');
}

static void plan_json(const AutotuneView *v, Str *out)
{
    int n = v->loop ? loop_tries(v->loop) : 0;
    str_puts(out, "{\"plan\":");
    str_json(out, v->plan);
    put_text(out, "save_path", v->save_path);
    put_text(out, "strategy", v->strategy);
    put_text(out, "evaluator", v->evaluator);
    put_text(out, "state", state_words[v->state]);
    put_text(out, "text", v->text);
    if (v->state == AUTOTUNE_ENDED)
        put_text(out, "verdict", loop_end_word(v->end));
    if (v->id)
        put_text(out, "best", v->id);
    str_printf(out, ",\"met\":%s,\"tries\":[", v->state == AUTOTUNE_ENDED && v->id ? "true" : "false");
    for (int i = 0; i < n; i++) {
        str_puts(out, i ? ",\n" : "\n");
        try_json(loop_try(v->loop, i), out);
    }
    str_puts(out, "]}\n");
}

Status output_plan(OutFormat f, const AutotuneView *v, Str *out, Error *err)
{
    if (f == OUT_JSON)
        plan_json(v, out);
    else
        plan_text(v, out);
    return out->oom ? error_nomem(err, "the tries") : ST_OK;
}
