/* help analyses: the table of metrics as text. */
#include <string.h>

#include "src/commands.h"
#include "src/internal.h"

/* A text of several lines, each indented. */
static void indented(Str *out, const char *indent, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        str_printf(out, "%s%.*s\n", indent, (int)n, text);
        text += n + (text[n] == '\n');
    }
}

void help_metric(const Metric *m, Str *out)
{
    str_printf(out, "%s (%s; one score a %s; %s)\n", m->name, m->title, scope_name(m->scope), m->cost);
    indented(out, "    ", m->explain);
    for (int k = 0; k < metric_parts(m); k++) {
        const MetricPart *p = &m->parts[k];
        str_printf(out, "%s%s%s%s (%s)", k ? ", " : "    beside it: ", p->name, p->unit[0] ? " in " : "", p->unit,
                   p->text);
    }
    str_puts(out, m->parts ? "\n" : "");
}

void help_analyses(Str *out)
{
    str_puts(out, "Analyses. Run one or several:\n"
                  "  slimscope analyze --model_path DIR --metrics NAME...   (at the prompt: analyze NAME...)\n"
                  "and print what was found again with 'rank NAME'. A higher score is more sensitive unless it says so.\n");
    for (int f = 0; f < METRIC_FAMILIES; f++) {
        bool any = false;
        for (int i = 0; metric_table[i]; i++) {
            if ((int)metric_table[i]->family != f)
                continue;
            if (!any)
                str_printf(out, "\n%s\n", metric_family_title((MetricFamily)f));
            any = true;
            Str one = {0};
            help_metric(metric_table[i], &one);
            indented(out, "  ", str_text(&one));
            str_free(&one);
        }
    }
}
