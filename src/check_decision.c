/* check without a path: the decision of a session against its recipe's export and what engines load. No weight is read. */
#include <string.h>

#include "io/file.h"
#include "session/session.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/output.h"

static void put_line(bool ok, bool bad, const char *text, Str *out)
{
    str_printf(out, "  [%s] %s\n", ok ? "ok" : bad ? "!!" : "..", text);
}

/* What the recipe's savers break stands among the checks of the export already. */
static bool told(const Export *e, const RuntimeFinding *f)
{
    for (int i = 0; i < e->nchecks; i++)
        if (strstr(e->checks[i].text, f->text))
            return true;
    return false;
}

static Status put_checks(Session *s, int *bad, Str *out, Error *err)
{
    Export e = {0};
    RuntimeReport r = {0};
    RETURN_IF_ERROR(session_export_preview(s, NULL, NULL, &e, err));
    for (int i = 0; i < e.nchecks; i++) {
        put_line(e.checks[i].ok, e.checks[i].blocking, e.checks[i].text, out);
        *bad += !e.checks[i].ok && e.checks[i].blocking;
    }
    Status st = session_runtime(s, &r, err);
    for (size_t i = 0; st == ST_OK && i < r.n; i++)
        if (!told(&e, &r.f[i]))
            put_line(false, false, r.f[i].text, out);
    runtime_report_fini(&r);
    export_fini(&e);
    return st;
}

Status check_decision(App *a, Error *err)
{
    Session *s = a->session;
    Str out = {0};
    int bad = 0;
    RETURN_IF_ERROR(app_need_model(a, err));
    str_printf(&out, "%s under %s as decided now:\n", path_base(session_model(s)->path), recipe_name(session_recipe(s)));
    Status st = put_checks(s, &bad, &out, err);
    if (st == ST_OK)
        str_printf(&out, "%s. No weight was read: 'slimscope check MODEL' in a shell does.\n",
                   bad ? "What is marked !! keeps it from being exported" : "Nothing bad");
    if (st == ST_OK)
        st = out.oom ? error_nomem(err, "a report") : app_result(a, &out, NULL, err);
    str_free(&out);
    return st;
}
