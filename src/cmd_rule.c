/* rule: the rows of the what-if list, and what they give. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "src/commands.h"
#include "src/internal.h"
#include "src/output.h"

/* ---- the list ---- */

/* "float", a level's name, or "quantized". */
static const char *level_text(const Session *s, const WhatIf *w)
{
    return w->to == WHATIF_QUANTIZE ? "quantized" : session_level_name(s, w->to);
}

static void put_change(Str *b, int64_t bytes, double share)
{
    Str t = {0};
    str_putc(&t, bytes < 0 ? '-' : '+');
    str_bytes(&t, (uint64_t)(bytes < 0 ? -bytes : bytes));
    str_printf(b, " %11s", str_text(&t));
    if (isfinite(share))
        str_printf(b, " %7.1f %%", 100 * share);
    else
        str_printf(b, " %9s", "?");
    b->oom = b->oom || t.oom;
    str_free(&t);
}

static void put_rows(Session *s, const WhatIf *row, int n, Str *b)
{
    if (!n) {
        str_puts(b, "no rule: every linear has the level that the recipe gives it\n");
        return;
    }
    str_puts(b, " on   level      hits        cost      loss   new        cost      loss  rule\n");
    for (const WhatIf *w = row; w < row + n; w++) {
        str_printf(b, " [%s]  %-9s %5lld", w->on ? "x" : " ", level_text(s, w), (long long)w->hits);
        put_change(b, w->bytes, w->share);
        str_printf(b, " %5lld", (long long)w->fresh);
        put_change(b, w->fresh_bytes, w->fresh_share);
        str_printf(b, "  %s\n", w->pattern);
        if (w->note[0])
            str_printf(b, "      ! %s\n", w->note);
    }
}

static void put_sums(Session *s, Str *b)
{
    Prediction p = session_predict(s);
    str_printf(b, "recipe      %s: %lld of %lld linears float, ", recipe_name(session_recipe(s)), (long long)p.size.floats,
               (long long)(p.size.floats + p.size.quantized));
    str_bytes(b, p.size.bytes);
    str_printf(b, ", %.2f bits per weight\npredicted   ", p.size.average_bits);
    output_prediction(&p, b);
    str_puts(b, "\nmeasured    ");
    output_measured(s, b);
    str_putc(b, '\n');
}

static void list_json(Session *s, const WhatIf *row, int n, Str *b)
{
    str_puts(b, "{\"recipe\":");
    str_json(b, recipe_name(session_recipe(s)));
    str_puts(b, ",\"rules\":[");
    for (const WhatIf *w = row; w < row + n; w++) {
        str_puts(b, w > row ? ",\n{\"rule\":" : "\n{\"rule\":");
        str_json(b, w->pattern);
        str_puts(b, ",\"level\":");
        str_json(b, level_text(s, w));
        str_printf(b, ",\"on\":%s,\"hits\":%lld,\"bytes\":%lld,\"share\":", w->on ? "true" : "false", (long long)w->hits,
                   (long long)w->bytes);
        str_double(b, w->share);
        str_printf(b, ",\"new\":%lld,\"new_bytes\":%lld,\"new_share\":", (long long)w->fresh, (long long)w->fresh_bytes);
        str_double(b, w->fresh_share);
        if (w->note[0]) {
            str_puts(b, ",\"note\":");
            str_json(b, w->note);
        }
        str_putc(b, '}');
    }
    Prediction p = session_predict(s);
    str_printf(b, "],\n\"float\":%lld,\"linears\":%lld,\"bytes\":%llu", (long long)p.size.floats,
               (long long)(p.size.floats + p.size.quantized), (unsigned long long)p.size.bytes);
    output_prediction_json(&p, b);
    output_measured_json(s, b);
    str_puts(b, "}\n");
}

static Status list(App *a, const CommandLine *cl, Error *err)
{
    Str b = {0};
    const WhatIf *row;
    int n;
    RETURN_IF_ERROR(session_whatif_list(a->session, &row, &n, err));
    if (out_format(cl_str(cl, "format")) == OUT_JSON) {
        list_json(a->session, row, n, &b);
    } else {
        put_rows(a->session, row, n, &b);
        put_sums(a->session, &b);
    }
    Status st = app_result(a, &b, NULL, err);
    str_free(&b);
    return st;
}

/* ---- changes ---- */

typedef struct Verb {
    const char *name;
    int words;
    Status (*run)(Session *s, const CommandLine *cl, int64_t *changed, Error *err);
    const char *done;
} Verb;

static Status verb_on(Session *s, const CommandLine *cl, int64_t *changed, Error *err)
{
    return session_rule_switch(s, cl->words[1], true, changed, err);
}

static Status verb_off(Session *s, const CommandLine *cl, int64_t *changed, Error *err)
{
    return session_rule_switch(s, cl->words[1], false, changed, err);
}

static Status verb_delete(Session *s, const CommandLine *cl, int64_t *changed, Error *err)
{
    return session_rule_delete(s, cl->words[1], changed, err);
}

static Status verb_edit(Session *s, const CommandLine *cl, int64_t *changed, Error *err)
{
    return session_rule_edit(s, cl->words[1], cl->words[2], changed, err);
}

static Status verb_up(Session *s, const CommandLine *cl, int64_t *changed, Error *err)
{
    return session_rule_move(s, cl->words[1], -1, changed, err);
}

static Status verb_down(Session *s, const CommandLine *cl, int64_t *changed, Error *err)
{
    return session_rule_move(s, cl->words[1], 1, changed, err);
}

static const Verb verbs[] = {
    {"on", 2, verb_on, "on"},          {"off", 2, verb_off, "off"}, {"delete", 2, verb_delete, "deleted"},
    {"edit", 3, verb_edit, "changed"}, {"up", 2, verb_up, "moved"}, {"down", 2, verb_down, "moved"},
};
enum { VERBS = sizeof verbs / sizeof *verbs };

static const Verb *verb_find(const char *name, Error *err)
{
    const char *names[VERBS + 1] = {0};
    for (int i = 0; i < VERBS; i++) {
        names[i] = verbs[i].name;
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    }
    const char *near = nearest_name(name, names);
    error_set(err, ST_USAGE, "'%s' is nothing that is done to a rule: on, off, delete, edit, up, down%s%s", name,
              near ? "; nearest: " : "", near ? near : "");
    return NULL;
}

static Status rule_run(App *a, const CommandLine *cl, Error *err)
{
    if (!cl->nwords)
        return list(a, cl, err);
    const Verb *v = verb_find(cl->words[0], err);
    if (!v)
        return ST_USAGE;
    RETURN_IF_ERROR(want_words(cl, v->words, v->words, err));
    int64_t changed;
    int depth = session_undo_depth(a->session);
    RETURN_IF_ERROR(v->run(a->session, cl, &changed, err));
    if (session_undo_depth(a->session) == depth)
        app_note(a, "rule '%s': nothing to change", cl->words[1]);
    else
        app_note(a, changed == 1 ? "rule '%s' %s: %lld linear changed" : "rule '%s' %s: %lld linears changed", cl->words[1],
                 v->done, (long long)changed);
    return ST_OK;
}

static const Option rule_options[] = {
    {"format", ARG_CHOICE, "text|json", "of the list (default text)", COMP_NONE},
    {0},
};
const Command command_rule = {
    .name = "rule",
    .args = "[on|off|delete|up|down RULE | edit RULE PATTERN]",
    .summary = "List the rules of the what-if screen with what they give, or change one.",
    .help = "A rule is a target of exclude, include or level; the levels of all linears follow from the recipe and the rules "
            "that are on, in their order, so switching one off leaves what the others take. hits, and the figures behind it, "
            "are the rule's by itself; new are the linears that the rules before it leave to it.",
    .flags = CMD_NEEDS_MODEL | CMD_EDIT,
    .completes = COMP_LAYER,
    .options = rule_options,
    .run = rule_run,
};
