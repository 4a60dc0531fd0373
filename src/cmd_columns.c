/* What the table shows beside the metric: a second metric, kinds, advice. */
#include <string.h>

#include "session/columns.h"
#include "src/commands.h"
#include "src/internal.h"

/* COLUMN_ bit of a name, 0: it is none. */
static unsigned column_bit(const char *name)
{
    for (int i = 0; table_column_name(i); i++)
        if (strcmp(table_column_name(i), name) == 0)
            return 1u << i;
    return 0;
}

/* What is shown, what could be, and how advice is come by. */
static void list_columns(const Session *s, Str *out)
{
    Advice a;
    str_puts(out, "shown: ");
    if (session_second(s))
        str_printf(out, "%s ", session_second(s)->name);
    for (int i = 0; table_column_name(i); i++)
        if (session_columns(s) & 1u << i)
            str_printf(out, "%s ", table_column_name(i));
    str_puts(out, session_second(s) || session_columns(s) ? "\n" : "none\n");
    str_puts(out, "there are: the name of a metric (its score and rank), kind, advice; columns none takes them away\n"
                  "advice, the first rule that holds:\n");
    for (int i = 0; advice_rule(i, &a); i++)
        str_printf(out, "  %-10s  %-17s  %s\n", a.word, a.rule, a.why);
}

static Status unknown_column(const Session *s, const char *word, Error *err)
{
    const char *names[128] = {"kind", "advice", "none"};
    int n = 3;
    for (const Metric *const *m = session_metrics(s); *m && n < 127; m++)
        names[n++] = (*m)->name;
    const char *near = nearest_name(word, names);
    return error_set(err, ST_USAGE, "'%s' is no column: give a metric, kind, advice or none%s%s%s", word,
                     near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static Status columns_run(App *a, const CommandLine *cl, Error *err)
{
    const Metric *second = NULL;
    unsigned bits = 0;
    if (cl->nwords == 0) {
        Str out = {0};
        list_columns(a->session, &out);
        Status st = app_result(a, &out, NULL, err);
        str_free(&out);
        return st;
    }
    for (int i = 0; i < cl->nwords; i++) {
        const char *word = cl->words[i];
        const Metric *m = session_metric_find(a->session, word);
        if (strcmp(word, "none") == 0 && cl->nwords == 1)
            continue;
        if (m && second)
            return error_set(err, ST_USAGE, "one second metric fits beside the shown one: '%s' or '%s'", second->name, word);
        if (m)
            second = m;
        else if (column_bit(word))
            bits |= column_bit(word);
        else
            return unknown_column(a->session, word, err);
    }
    session_set_columns(a->session, second, bits);
    return ST_OK;
}
const Command command_columns = {
    .name = "columns",
    .args = "[METRIC] [kind] [advice] | none",
    .summary = "Show these columns beside the metric; without words what there is.",
    .help = "A metric's name shows its score and its rank beside those of the shown metric; kind is the last part of a "
            "layer's name, advice what a small table of rules says of it (keep float, 8-bit, group 64, fine).\n"
            "Example: columns kurtosis advice",
    .flags = CMD_NEEDS_MODEL | CMD_NEUTRAL,
    .completes = COMP_COLUMN,
    .run = columns_run,
};
