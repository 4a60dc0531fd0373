#include <math.h>
#include <string.h>

#include "tune/history_impl.h"

static void put_decimal(const char *key, const Decimal *d, const char *indent, Str *out)
{
    str_printf(out, "%s  %s: '", indent, key);
    decimal_put(d, out);
    str_puts(out, "'\n");
}

static void put_accuracies(const EvalResult *r, const char *indent, bool peer, Str *out)
{
    str_printf(out, "%saccuracies:%s\n", indent, r->n ? "" : " []");
    for (int i = 0; i < r->n; i++) {
        const Accuracy *a = &r->accuracy[i];
        str_printf(out, "%s- dataset: ", indent);
        str_json(out, a->dataset);
        str_putc(out, '\n');
        put_decimal("accuracy", &a->value, indent, out);
        if (!peer && isfinite(a->error)) {
            str_printf(out, "%s  error: ", indent);
            str_double(out, a->error);
            str_putc(out, '\n');
        }
        if (!peer && a->has_base)
            put_decimal("base", &a->base, indent, out);
    }
}

void tunehist_put_expectations(const Expectation *e, int n, const char *indent, Str *out)
{
    str_printf(out, "%sexpectations:%s\n", indent, n ? "" : " []");
    for (int i = 0; i < n; i++) {
        str_printf(out, "%s- dataset: ", indent);
        str_json(out, e[i].dataset);
        str_putc(out, '\n');
        if (e[i].at_most) {
            str_printf(out, "%s  at_most: '%s", indent, e[i].relative ? "+" : "");
            decimal_put(&e[i].target, out);
            str_printf(out, "%s'\n", e[i].relative ? "%" : "");
            continue;
        }
        put_decimal("target", &e[i].target, indent, out);
        put_decimal("tolerance", &e[i].tolerance, indent, out);
    }
}

static void put_satisfied(const EvalResult *r, const char *indent, Str *out)
{
    str_printf(out, "%sis_satisfied: %s\n", indent, r->satisfied ? "true" : "false");
}

static void put_seconds(const char *key, double v, Str *out)
{
    str_printf(out, "    %s: %.3f\n", key, isfinite(v) ? v : 0);
}

void tunehist_put_entry(const HistoryEntry *e, bool peer, Str *out)
{
    str_json(out, e->key);
    str_puts(out, ":\n");
    put_accuracies(&e->a.r, "  ", peer, out);
    str_puts(out, e->expectations);
    put_satisfied(&e->a.r, "  ", out);
    if (peer)
        return;
    str_printf(out, "  ours:\n    state: %s\n    note: ", e->a.r.state == EVAL_BAD ? "bad" : "done");
    str_json(out, e->a.r.text);
    str_putc(out, '\n');
    put_seconds("quantize_seconds", e->a.seconds, out);
    put_seconds("evaluate_seconds", e->a.r.seconds, out);
    str_printf(out, "    bytes: %llu\n    float_bytes: %llu\n    linears: %lld\n    linears_in_float: %lld\n",
               (unsigned long long)e->a.bytes, (unsigned long long)e->a.float_bytes, (long long)e->a.linears, (long long)e->a.floats);
}

void tunehist_put_record(const char *id, const char *key, const EvalResult *r, const Expectation *e, int n, const char *when,
                        bool peer, Str *out)
{
    const char *dash = strrchr(key, '-');
    if (strcmp(str_text(out), "records: []\n") == 0) {
        str_clear(out);
        str_puts(out, "records:\n");
    }
    str_puts(out, "- practice_id: ");
    str_json(out, id);
    str_puts(out, "\n  evaluation:\n");
    put_accuracies(r, "    ", peer, out);
    tunehist_put_expectations(e, n, "    ", out);
    put_satisfied(r, "    ", out);
    str_printf(out, "  quant_config_md5: %s\n  time: '%s'\n", dash ? dash + 1 : key, when);
}
