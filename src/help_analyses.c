/* help analyses: the table of metrics as text. */
#include <string.h>

#include "src/commands.h"
#include "src/internal.h"

/* A text of several lines, each indented and broken between words. */
static void indented(Str *out, int indent, const char *text)
{
    int most = 108 - indent, used = 0;
    while (*text) {
        int n = (int)strcspn(text, " \n");
        bool fresh = used == 0;
        if (!fresh && used + 1 + n > most) {
            str_putc(out, '\n');
            fresh = true;
            used = 0;
        }
        str_printf(out, "%*s%.*s", fresh ? indent : 1, "", n, text);
        used += n + !fresh;
        text += n;
        if (*text == '\n') {
            str_putc(out, '\n');
            used = 0;
        }
        text += *text != 0;
    }
    str_puts(out, used ? "\n" : "");
}

/* At this indent, what follows the first line four deeper. */
static void metric_text(const Metric *m, int indent, Str *out)
{
    Str line = {0};
    str_printf(&line, "%s: %s, one score for each %s. Cost: %s.", m->name, m->title, scope_name(m->scope), m->cost);
    indented(out, indent, str_text(&line));
    indented(out, indent + 4, m->explain);
    str_clear(&line);
    for (int k = 0; k < metric_parts(m); k++) {
        const MetricPart *p = &m->parts[k];
        str_printf(&line, "%s%s%s%s (%s)", k ? ", " : "beside it: ", p->name, p->unit[0] ? " in " : "", p->unit, p->text);
    }
    indented(out, indent + 4, str_text(&line));
    str_free(&line);
}

void help_metric(const Metric *m, Str *out)
{
    metric_text(m, 0, out);
}

void help_analyses(Str *out)
{
    str_puts(out, "Analyses: which layers quantization hurts, and why. Run one or several, in a shell or at the prompt:\n"
                  "  slimscope analyze --model_path DIR --metrics NAME...      analyze NAME...\n\n"
                  "Begin with block_error and alone: what to give back. Then\n"
                  "  rank NAME, show NAME         print a ranking again, show it in the workbench\n"
                  "  fit kl=0.1, tune --until     let the program choose, by prediction or by measuring\n"
                  "  compare metrics A B          how far two of them agree, and why not\n"
                  "  hist, heat, schemes          one weight's histogram and errors, schemes side by side\n"
                  "  load scores FILE             what another program found, as one more column\n"
                  "  report FILE.html             all of it on one page\n\n"
                  "A higher score is more sensitive unless it says so. One analysis: 'slimscope help NAME'.\n");
    for (int f = 0; f < METRIC_FAMILIES; f++) {
        bool any = false;
        for (int i = 0; metric_table[i]; i++) {
            if ((int)metric_table[i]->family != f)
                continue;
            if (!any)
                str_printf(out, "\n%s\n", metric_family_title((MetricFamily)f));
            any = true;
            metric_text(metric_table[i], 2, out);
        }
    }
}
