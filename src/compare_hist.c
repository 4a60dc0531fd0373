/* compare hist: one layer as two decisions quantize it. */
#include <string.h>

#include "session/comparing.h"
#include "src/commands.h"
#include "src/compare.h"
#include "src/output.h"
#include "src/plot.h"

/* Of two measurements how each quantizes it, of two metrics what is under their scores. */
static Status find_panels(App *a, const CommandLine *cl, int64_t linear, PlotPanels *out, Error *err)
{
    Session *s = a->session;
    Measurement both[2];
    int metrics = 0;
    for (int i = 0; i < 2; i++) {
        const char *name = cl->nwords > 2 ? cl->words[2 + i] : session_marked(s, i);
        int at = 0;
        if (!*name)
            return error_set(err, ST_USAGE, "nothing is marked %c: compare mark %c THING, or name both behind the layer", "AB"[i], "AB"[i]);
        if (session_metric_find(s, name)) {
            metrics++;
            continue;
        }
        RETURN_IF_ERROR(session_measurement_find(s, name, &at, err));
        both[i] = session_measurement(s, at);
    }
    if (metrics == 1)
        return error_set(err, ST_USAGE, "a measurement and a metric don't compare: name two of a kind");
    return metrics ? plot_present(s, linear, true, interrupt_cancel(), out, err)
                   : plot_measured(s, linear, both, true, interrupt_cancel(), out, err);
}

static Status panels_json(const PlotPanels *p, Str *out, Error *err)
{
    str_puts(out, "{\"layer\":");
    str_json(out, p->linear->name);
    str_puts(out, ",\"plots\":[");
    int told = 0;
    for (int i = 0; i < p->n; i++) {
        const PlotLook look = {.kind = p->p[i].kind};
        if (p->p[i].d.why[0])
            continue;
        str_puts(out, told++ ? ",\n{\"title\":" : "\n{\"title\":");
        str_json(out, p->p[i].title);
        str_puts(out, ",\"numbers\":");
        RETURN_IF_ERROR(plot_numbers(&p->p[i].d, &look, OUT_JSON, out, err));
        str_putc(out, '}');
    }
    str_puts(out, "]}\n");
    return ST_OK;
}

static Status panels_text(PlotPanels *p, const CommandLine *cl, Str *out, Error *err)
{
    const PlotLook look = {.linear = cl_given(cl, "linear"), .table = cl_given(cl, "table")};
    Sheet c;
    int w, h;
    RETURN_IF_ERROR(plot_size(cl, &w, &h, err));
    if (!cl_given(cl, "size"))
        h = 40;
    RETURN_IF_ERROR(canvas_init(&c, w, h, canvas_form(cl_str(cl, "glyphs")), err));
    str_printf(out, "%s\n", p->linear->name);
    Status st = plot_panels_draw(p, &look, &c, err);
    canvas_print(&c, out);
    canvas_fini(&c);
    return st;
}

Status compare_hist(App *a, const CommandLine *cl, OutFormat f, Str *out, Error *err)
{
    PlotPanels p;
    int64_t linear;
    if (cl->nwords != 2 && cl->nwords != 4)
        return error_set(err, ST_USAGE, "compare hist takes a layer, and A and B where they are not the marked ones");
    RETURN_IF_ERROR(one_linear(a->session, cl->words[1], &linear, err));
    RETURN_IF_ERROR(find_panels(a, cl, linear, &p, err));
    return f == OUT_JSON ? panels_json(&p, out, err) : panels_text(&p, cl, out, err);
}
