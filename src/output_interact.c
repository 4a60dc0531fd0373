/* Interactions as text and JSON. */
#include <math.h>
#include <stdlib.h>

#include "metric/scope.h"
#include "src/output.h"

/* "+4.0 %" */
static void put_excess(Str *out, double joint, double sum)
{
    if (isfinite(joint) && sum > 0)
        str_printf(out, "%+.1f %%", 100 * (joint / sum - 1));
    else
        str_puts(out, "?");
}

static void put_name(Session *s, int64_t group, Str *out)
{
    scope_unit_name(session_model(s), SCOPE_GROUP, group, out);
}

static void as_text(Session *s, const InteractView *v, Str *out)
{
    str_printf(out, "interactions of %lld groups, KL on %lld tokens with everything else in float", (long long)v->groups,
               (long long)v->tokens);
    if (v->known < v->wanted)
        str_printf(out, ": %lld of %lld sets are known%s", (long long)v->known, (long long)v->wanted,
                   v->runs ? "" : "; interact goes on");
    str_printf(out, "\nsum of each alone  %.5g\nall together       %.5g +- %.2g\ninteraction        ", v->sum, v->joint, v->error);
    put_excess(out, v->joint, v->sum);
    str_putc(out, '\n');
    if (v->npairs)
        str_puts(out, "    each alone    together        +-   interaction  pair\n");
    for (int64_t i = 0; i < v->npairs; i++) {
        const InteractPair *p = &v->pair[i];
        Str more = {0};
        put_excess(&more, p->joint, p->apart);
        str_printf(out, "  %12.5g  %10.5g  %8.2g  %12s  ", p->apart, p->joint, p->error, str_text(&more));
        str_free(&more);
        put_name(s, p->a, out);
        str_puts(out, " x ");
        put_name(s, p->b, out);
        str_putc(out, '\n');
    }
}

static void put_named(Session *s, const char *key, int64_t group, Str *out)
{
    Str name = {0};
    put_name(s, group, &name);
    str_printf(out, "\"%s\":", key);
    str_json(out, str_text(&name));
    out->oom = out->oom || name.oom;
    str_free(&name);
}

static void put_figures(double apart, double joint, double error, Str *out)
{
    str_puts(out, ",\"sum\":");
    str_double(out, apart);
    str_puts(out, ",\"joint\":");
    str_double(out, joint);
    str_puts(out, ",\"joint_se\":");
    str_double(out, error);
    str_puts(out, ",\"interaction\":");
    str_double(out, apart > 0 ? joint / apart - 1 : NAN);
}

static void as_json(Session *s, const InteractView *v, Str *out)
{
    str_puts(out, "{\"model\":");
    str_json(out, session_model(s)->path);
    str_puts(out, ",\"recipe\":");
    str_json(out, recipe_name(session_recipe(s)));
    str_printf(out, ",\"tokens\":%lld,\"sets\":%lld,\"known\":%lld", (long long)v->tokens, (long long)v->wanted,
               (long long)v->known);
    put_figures(v->sum, v->joint, v->error, out);
    str_puts(out, ",\"groups\":[");
    for (int64_t i = 0; i < v->groups; i++) {
        str_puts(out, i ? ",\n{" : "\n{");
        put_named(s, "group", v->group[i], out);
        str_putc(out, '}');
    }
    str_puts(out, "],\"pairs\":[");
    for (int64_t i = 0; i < v->npairs; i++) {
        str_puts(out, i ? ",\n{" : "\n{");
        put_named(s, "a", v->pair[i].a, out);
        str_putc(out, ',');
        put_named(s, "b", v->pair[i].b, out);
        put_figures(v->pair[i].apart, v->pair[i].joint, v->pair[i].error, out);
        str_putc(out, '}');
    }
    str_puts(out, "]}\n");
}

void output_interactions(Session *s, OutFormat f, const InteractView *v, Str *out)
{
    (f == OUT_JSON ? as_json : as_text)(s, v, out);
}
