/* keep, swap and sets: assignments kept under names, and what is different between them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "metric/scope.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/output.h"

/* "9 of 56 linears float, 6.9 MiB, measured KL 0.0069"; brief: for a line of messages. */
static void put_figures(Session *s, const KeptView *v, bool brief, Str *out)
{
    const SizeReport *z = &v->predicted.size;
    const TuneRange *kl = &v->predicted.kl;
    str_printf(out, brief ? "%lld of %lld float, " : "%lld of %lld linears float, ", (long long)z->floats,
               (long long)(z->floats + z->quantized));
    str_bytes(out, z->bytes);
    if (v->measurement >= 0)
        str_printf(out, brief ? ", KL %.4g" : ", measured KL %.4g", session_measurement(s, v->measurement).effect->kl_mean);
    else if (isfinite(kl->value) && brief)
        str_printf(out, ", KL %.3g~", kl->value);
    else if (isfinite(kl->value))
        str_printf(out, ", predicted KL %.3g (%.2g to %.2g)", kl->value, kl->low, kl->high);
    if (!v->comparable)
        str_printf(out, ", recipe %s", recipe_name(v->recipe));
}

static int find(Session *s, const char *name)
{
    int n = session_kept_sets(s);
    while (n-- > 0 && strcmp(session_kept_set(s, n).name, name) != 0)
        ;
    return n;
}

static void offer_sets(const App *a, const char *const *words, int n, OfferWord *put, void *ctx)
{
    (void)words;
    for (int i = 0; n == 0 && a->session && i < session_kept_sets(a->session); i++)
        put(ctx, session_kept_set(a->session, i).name, "");
}

static Status run_keep(App *a, const CommandLine *cl, Error *err)
{
    bool replaced = false;
    Str text = {0};
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    if (cl_given(cl, "drop")) {
        RETURN_IF_ERROR(session_keep_not(a->session, cl->words[0], err));
        app_note(a, "set %s is no longer kept", cl->words[0]);
        return ST_OK;
    }
    RETURN_IF_ERROR(session_keep(a->session, cl->words[0], &replaced, err));
    const KeptView v = session_kept_set(a->session, find(a->session, cl->words[0]));
    put_figures(a->session, &v, true, &text);
    app_note(a, "set %s %s: %s", v.name, replaced ? "is this one now" : "kept", str_text(&text));
    str_free(&text);
    return ST_OK;
}
static const Option keep_options[] = {
    {"drop", ARG_FLAG, NULL, "forget the set of this name", COMP_NONE},
    {0},
};
const Command command_keep = {
    .name = "keep",
    .args = "NAME",
    .summary = "Keep the present set, its rules and its recipe, under a name (A, B): swap goes back to it.",
    .flags = CMD_NEEDS_MODEL,
    .options = keep_options,
    .run = run_keep,
    .offer = offer_sets,
};

static Status run_swap(App *a, const CommandLine *cl, Error *err)
{
    int64_t changed;
    const char *took;
    Str text = {0};
    RETURN_IF_ERROR(want_words(cl, 0, 1, err));
    RETURN_IF_ERROR(session_swap(a->session, cl->nwords ? cl->words[0] : NULL, &changed, &took, err));
    const KeptView v = session_kept_set(a->session, find(a->session, took));
    put_figures(a->session, &v, true, &text);
    app_note(a, "set %s: %lld linear%s changed, %s", took, (long long)changed, changed == 1 ? "" : "s", str_text(&text));
    str_free(&text);
    return ST_OK;
}
const Command command_swap = {
    .name = "swap",
    .args = "[NAME]",
    .summary = "Make a kept set the present one (none named: the next).",
    .help = "One undo step, also where the set was kept under another recipe.",
    .flags = CMD_NEEDS_MODEL | CMD_EDIT,
    .run = run_swap,
    .offer = offer_sets,
};

/* ---- sets ---- */

/* Groups to which the second set gives another level. */
static Status differences(Session *s, const KeptView *a, const KeptView *b, bool json, Str *out, Error *err)
{
    const Model *m = session_model(s);
    const Measurement x = {.recipe = a->recipe, .level = a->level}, y = {.recipe = b->recipe, .level = b->level};
    LevelChange *list;
    int64_t n, told = 0;
    Str name = {0};
    RETURN_IF_ERROR(session_level_changes(s, &x, &y, &list, &n, err));
    for (int64_t i = 0; i < n; i++) {
        const FusedGroup *f = &m->groups[m->linears[list[i].linear].group];
        if (group_linear(f, 0) != list[i].linear)
            continue;
        str_clear(&name);
        scope_unit_name(m, SCOPE_GROUP, m->linears[list[i].linear].group, &name);
        if (json) {
            str_puts(out, told ? ",\n{\"group\":" : "\n{\"group\":");
            str_json(out, str_text(&name));
            str_printf(out, ",\"from\":\"%s\",\"to\":\"%s\"}", list[i].from, list[i].to);
        } else {
            str_printf(out, "  %-48s %s -> %s\n", str_text(&name), list[i].from, list[i].to);
        }
        told++;
    }
    if (!told && !json)
        str_puts(out, "  the same levels\n");
    out->oom = out->oom || name.oom;
    str_free(&name);
    free(list);
    return ST_OK;
}

static Status sets_text(Session *s, Str *out, Error *err)
{
    int n = session_kept_sets(s);
    if (!n)
        str_puts(out, "no set is kept yet: keep A keeps the present one\n");
    for (int i = 0; i < n; i++) {
        const KeptView v = session_kept_set(s, i);
        str_printf(out, "%c %-8s ", v.present ? '*' : ' ', v.name);
        put_figures(s, &v, false, out);
        str_putc(out, '\n');
    }
    for (int i = 1; i < n; i++) {
        const KeptView a = session_kept_set(s, i - 1), b = session_kept_set(s, i);
        str_printf(out, "%s to %s: ", a.name, b.name);
        str_delta(out, (double)b.predicted.size.bytes - (double)a.predicted.size.bytes);
        if (a.measurement >= 0 && b.measurement >= 0) {
            const Paired p = session_paired(s, b.measurement, a.measurement);
            str_puts(out, ", ");
            output_verdict(&p, out);
        }
        str_putc(out, '\n');
        RETURN_IF_ERROR(differences(s, &a, &b, false, out, err));
    }
    return ST_OK;
}

static Status sets_json(Session *s, Str *out, Error *err)
{
    int n = session_kept_sets(s);
    str_puts(out, "{\"sets\":[");
    for (int i = 0; i < n; i++) {
        const KeptView v = session_kept_set(s, i);
        str_puts(out, i ? ",\n{\"name\":" : "\n{\"name\":");
        str_json(out, v.name);
        str_puts(out, ",\"recipe\":");
        str_json(out, recipe_name(v.recipe));
        str_printf(out, ",\"present\":%s,\"float\":%lld,\"bytes\":%llu,\"kl_predicted\":", v.present ? "true" : "false",
                   (long long)v.predicted.size.floats, (unsigned long long)v.predicted.size.bytes);
        str_double(out, v.comparable && !v.predicted.measured ? v.predicted.kl.value : NAN);
        str_puts(out, ",\"kl_measured\":");
        str_double(out, v.measurement >= 0 ? session_measurement(s, v.measurement).effect->kl_mean : NAN);
        str_putc(out, '}');
    }
    str_puts(out, "],\"differences\":[");
    for (int i = 1; i < n; i++) {
        const KeptView a = session_kept_set(s, i - 1), b = session_kept_set(s, i);
        str_puts(out, i > 1 ? ",\n{\"from\":" : "\n{\"from\":");
        str_json(out, a.name);
        str_puts(out, ",\"to\":");
        str_json(out, b.name);
        str_printf(out, ",\"bytes\":%lld,\"groups\":[", (long long)b.predicted.size.bytes - (long long)a.predicted.size.bytes);
        RETURN_IF_ERROR(differences(s, &a, &b, true, out, err));
        str_puts(out, "]}");
    }
    str_puts(out, "]}\n");
    return ST_OK;
}

static Status run_sets(App *a, const CommandLine *cl, Error *err)
{
    Str text = {0};
    RETURN_IF_ERROR(want_words(cl, 0, 0, err));
    bool json = out_format(cl_str(cl, "format")) == OUT_JSON;
    Status st = (json ? sets_json : sets_text)(a->session, &text, err);
    if (st == ST_OK)
        st = text.oom ? error_nomem(err, "the sets") : app_result(a, &text, NULL, err);
    str_free(&text);
    return st;
}
static const Option sets_options[] = {
    {"format", ARG_CHOICE, "text|json", "of the result (default text)", COMP_NONE},
    {0},
};
const Command command_sets = {
    .name = "sets",
    .args = "",
    .summary = "List the kept sets with their sizes and what they lose, and the groups each next one gives another level.",
    .flags = CMD_NEEDS_MODEL | CMD_NO_LOG,
    .options = sets_options,
    .run = run_sets,
};
