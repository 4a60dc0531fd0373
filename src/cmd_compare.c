/* compare: two measurements, metrics or runs side by side. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "src/commands.h"
#include "src/compare.h"
#include "src/output.h"

enum { NAMES_SHOWN = 3 };

/* ---- the list ---- */

static const char *recipe_text(const Measurement *m)
{
    return m->recipe ? recipe_name(m->recipe) : "recipe not known";
}

static int64_t floats_of(const Session *s, const Measurement *m)
{
    int64_t n = 0;
    for (int64_t i = 0; i < session_model(s)->nlinears; i++)
        n += m->level[i] == 0;
    return n;
}

static void list_text(const Session *s, Str *b)
{
    str_puts(b, "   #           KL                perplexity       tokens  arithmetic       size  of\n");
    for (int i = 0; i < session_measurements(s); i++) {
        Measurement m = session_measurement(s, i);
        SizeReport size;
        Str bytes = {0};
        if (session_measurement_size(s, &m, &size))
            str_bytes(&bytes, size.bytes);
        str_printf(b, "%4d  %9.4g", m.id, m.effect->kl_mean);
        if (isfinite(m.effect->kl_se))
            str_printf(b, " +- %-7.2g", m.effect->kl_se);
        else
            str_printf(b, "%11s", "");
        str_printf(b, "  %9.4g (%+.1f %%)  %7lld  %-10s %10s  ", m.effect->ppl_quant, 100 * m.effect->ppl_change,
                   (long long)m.effect->tokens, arith_name(m.effect->arith), bytes.len ? str_text(&bytes) : "?");
        str_printf(b, "%s, %lld of %lld linears float%s%s\n", recipe_text(&m), (long long)floats_of(s, &m),
                   (long long)session_model(s)->nlinears, m.base ? " (base)" : "", m.present ? " (present)" : "");
        b->oom = b->oom || bytes.oom;
        str_free(&bytes);
    }
}

static void number_json(Str *b, const char *name, double v)
{
    str_printf(b, ",\"%s\":", name);
    str_double(b, v);
}

static void measurement_json(const Session *s, const Measurement *m, Str *b)
{
    const Effect *e = m->effect;
    SizeReport size;
    str_printf(b, "{\"number\":%d,\"recipe\":", m->id);
    if (m->recipe)
        str_json(b, recipe_name(m->recipe));
    else
        str_puts(b, "null");
    str_printf(b, ",\"present\":%s,\"base\":%s,\"arithmetic\":\"%s\",\"tokens\":%lld,\"predicted_tokens\":%lld",
               m->present ? "true" : "false", m->base ? "true" : "false", arith_name(e->arith), (long long)e->tokens,
               (long long)e->predicted);
    number_json(b, "kl", e->kl_mean);
    number_json(b, "kl_se", e->kl_se);
    number_json(b, "perplexity", e->ppl_quant);
    number_json(b, "perplexity_float", e->ppl_float);
    number_json(b, "top1", e->top1);
    str_printf(b, ",\"float\":%lld,\"bytes\":", (long long)floats_of(s, m));
    if (session_measurement_size(s, m, &size))
        str_printf(b, "%llu}", (unsigned long long)size.bytes);
    else
        str_puts(b, "null}");
}

static Status list_run(App *a, const CommandLine *cl, OutFormat f, Str *b, Error *err)
{
    const Session *s = a->session;
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    if (f != OUT_JSON) {
        if (session_measurements(s))
            list_text(s, b);
        else
            str_puts(b, "nothing is measured yet\n");
        return ST_OK;
    }
    str_puts(b, "{\"measurements\":[");
    for (int i = 0; i < session_measurements(s); i++) {
        Measurement m = session_measurement(s, i);
        str_puts(b, i ? ",\n" : "\n");
        measurement_json(s, &m, b);
    }
    str_puts(b, "]}\n");
    return ST_OK;
}

/* ---- two measurements ---- */

typedef struct Two {
    Measurement a, b;
    Paired p;
    LevelChange *change;
    int64_t changes;
} Two;

/* The present one, where it is measured, and the one before it, unless the words name others. */
static Status two_of(const Session *s, const CommandLine *cl, Two *t, Error *err)
{
    int i, k;
    Status st = session_measurement_find(s, cl->nwords > 1 ? cl->words[1] : "present", &i, err);
    if (st != ST_OK && cl->nwords < 2 && session_measurements(s)) {
        i = session_measurements(s) - 1;
        st = ST_OK;
    }
    RETURN_IF_ERROR(st);
    RETURN_IF_ERROR(session_measurement_find(s, cl->nwords > 2 ? cl->words[2] : "previous", &k, err));
    if (i == k)
        return error_set(err, ST_USAGE, "both are measurement %d", session_measurement(s, i).id);
    t->a = session_measurement(s, i);
    t->b = session_measurement(s, k);
    t->p = session_paired(s, i, k);
    return session_level_changes(s, &t->b, &t->a, &t->change, &t->changes, err);
}

static void head_text(const Session *s, const char *name, const Measurement *m, Str *b)
{
    str_printf(b, "%s  #%d%s%s: %s, %lld of %lld linears float, %lld tokens, %s arithmetic\n", name, m->id,
               m->present ? " (present)" : "", m->base ? " (base)" : "", recipe_text(m), (long long)floats_of(s, m),
               (long long)session_model(s)->nlinears, (long long)m->effect->tokens, arith_name(m->effect->arith));
}

/* A figure's row: how it is written, and whether less of it is better. */
typedef struct Figure {
    const char *name;
    double scale; /* of the two values */
    const char *value, *difference, *error;
    bool less;
} Figure;

static void put_number(Str *b, const char *format, double v)
{
    char text[32];
    snprintf(text, sizeof text, format, v);
    str_printf(b, " %12s", text);
}

/* d, se: the difference and its error, NaN where there is none. */
static void figure_text(Str *b, const Figure *f, double va, double vb, double d, double se)
{
    char error[32];
    str_printf(b, "%-16s", f->name);
    put_number(b, f->value, f->scale * va);
    put_number(b, f->value, f->scale * vb);
    if (isfinite(d))
        put_number(b, f->difference, d);
    if (isfinite(se)) {
        snprintf(error, sizeof error, f->error, se);
        str_printf(b, " +- %-9s %s", error, verdict_word(verdict_of(f->less ? d : -d, se)));
    }
    str_putc(b, '\n');
}

static void put_sizes(uint64_t of_a, uint64_t of_b, Str *b)
{
    Str x = {0}, y = {0}, d = {0};
    int64_t more = (int64_t)of_a - (int64_t)of_b;
    str_bytes(&x, of_a);
    str_bytes(&y, of_b);
    str_putc(&d, more < 0 ? '-' : '+');
    str_bytes(&d, (uint64_t)(more < 0 ? -more : more));
    str_printf(b, "%-16s %12s %12s %12s\n", "size", str_text(&x), str_text(&y), str_text(&d));
    b->oom = b->oom || x.oom || y.oom || d.oom;
    str_free(&x);
    str_free(&y);
    str_free(&d);
}

static void sizes_text(const Session *s, const Two *t, Str *b)
{
    SizeReport sa, sb;
    if (session_measurement_size(s, &t->a, &sa) && session_measurement_size(s, &t->b, &sb))
        put_sizes(sa.bytes, sb.bytes, b);
}

static void changes_text(const Session *s, const Two *t, Str *b)
{
    str_printf(b, "levels           %lld linear%s", (long long)t->changes, t->changes == 1 ? " differs" : "s differ");
    for (int64_t i = 0; i < t->changes && i < NAMES_SHOWN; i++)
        str_printf(b, "%s%s (%s, in B %s)", i ? ", " : ": ", session_model(s)->linears[t->change[i].linear].name,
                   t->change[i].to, t->change[i].from);
    if (t->changes > NAMES_SHOWN)
        str_printf(b, " and %lld more", (long long)t->changes - NAMES_SHOWN);
    str_putc(b, '\n');
}

static void figures_text(const Effect *x, const Effect *y, const Paired *p, Str *b)
{
    static const Figure kl = {"KL divergence", 1, "%.4g", "%+.3g", "%.2g", true},
                        ppl = {"perplexity", 1, "%.3f", "%+.2f %%", "%.2f", true},
                        top = {"same top token", 100, "%.2f %%", "%+.2f %%", "%.2f", false};
    str_printf(b, "\n%-16s %12s %12s %12s\n", "", "A", "B", "A - B");
    figure_text(b, &kl, x->kl_mean, y->kl_mean, p->kl, p->kl_se);
    figure_text(b, &ppl, x->ppl_quant, y->ppl_quant, 100 * p->ppl, 100 * p->ppl_se);
    figure_text(b, &top, x->top1, y->top1, 100 * p->top1, 100 * p->top1_se);
}

static void verdict_text(const Paired *p, Str *b)
{
    bool decided = p->state == PAIR_OK && verdict_of(p->kl, p->kl_se) != VERDICT_UNDECIDED;
    str_puts(b, decided ? "verdict          A is " : "verdict          ");
    output_verdict(p, b);
    str_putc(b, '\n');
}

static void measurements_text(const Session *s, const Two *t, Str *b)
{
    head_text(s, "A", &t->a, b);
    head_text(s, "B", &t->b, b);
    figures_text(t->a.effect, t->b.effect, &t->p, b);
    sizes_text(s, t, b);
    changes_text(s, t, b);
    verdict_text(&t->p, b);
}

static void measurements_json(const Session *s, const Two *t, Str *b)
{
    str_puts(b, "{\"a\":");
    measurement_json(s, &t->a, b);
    str_puts(b, ",\n\"b\":");
    measurement_json(s, &t->b, b);
    str_puts(b, ",\n\"difference\":");
    output_paired_json(&t->p, b);
    str_puts(b, ",\n\"levels\":[");
    for (int64_t i = 0; i < t->changes; i++) {
        str_puts(b, i ? ",\n{\"name\":" : "\n{\"name\":");
        str_json(b, session_model(s)->linears[t->change[i].linear].name);
        str_puts(b, ",\"a\":");
        str_json(b, t->change[i].to);
        str_puts(b, ",\"b\":");
        str_json(b, t->change[i].from);
        str_putc(b, '}');
    }
    str_puts(b, "]}\n");
}

/* ---- two files ---- */

static void files_text(const char *const path[2], const MeasuredFile f[2], const Paired *p, Str *b)
{
    for (int i = 0; i < 2; i++)
        str_printf(b, "%c  %s: %s, %lld tokens, %s arithmetic\n", "AB"[i], path[i], str_text(&f[i].recipe),
                   (long long)f[i].effect.tokens, arith_name(f[i].effect.arith));
    figures_text(&f[0].effect, &f[1].effect, p, b);
    if (f[0].bytes >= 0 && f[1].bytes >= 0 && f[0].bytes < 1e18 && f[1].bytes < 1e18)
        put_sizes((uint64_t)f[0].bytes, (uint64_t)f[1].bytes, b);
    verdict_text(p, b);
}

static void files_json(const char *const path[2], const MeasuredFile f[2], const Paired *p, Str *b)
{
    for (int i = 0; i < 2; i++) {
        str_puts(b, i ? "},\n\"b\":{\"file\":" : "{\"a\":{\"file\":");
        str_json(b, path[i]);
        number_json(b, "kl", f[i].effect.kl_mean);
        number_json(b, "perplexity", f[i].effect.ppl_quant);
        number_json(b, "top1", f[i].effect.top1);
        number_json(b, "bytes", f[i].bytes);
    }
    str_puts(b, "},\n\"difference\":");
    output_paired_json(p, b);
    str_puts(b, "}\n");
}

static Status files_run(const char *const path[2], OutFormat f, Str *b, Error *err)
{
    MeasuredFile file[2] = {{.blocks = NULL}, {.blocks = NULL}};
    Status st = ST_OK;
    for (int i = 0; i < 2 && st == ST_OK; i++)
        st = measured_file_read(path[i], &file[i], err);
    if (st == ST_OK) {
        Paired p = paired_of(&file[0].effect, file[0].blocks, &file[1].effect, file[1].blocks);
        (f == OUT_JSON ? files_json : files_text)(path, file, &p, b);
    }
    for (int i = 0; i < 2; i++)
        measured_file_fini(&file[i]);
    return st;
}

static Status measurements_run(App *a, const CommandLine *cl, OutFormat f, Str *b, Error *err)
{
    Two t = {.change = NULL};
    RETURN_IF_ERROR(want_words(cl, 0, 3, err));
    if (cl->nwords == 3 && measured_file_named(cl->words[1]) && measured_file_named(cl->words[2]))
        return files_run(cl->words + 1, f, b, err);
    RETURN_IF_ERROR(app_need_model(a, err));
    RETURN_IF_ERROR(two_of(a->session, cl, &t, err));
    if (f == OUT_JSON)
        measurements_json(a->session, &t, b);
    else
        measurements_text(a->session, &t, b);
    free(t.change);
    return ST_OK;
}

/* ---- the command ---- */

static const struct Kind {
    const char *name;
    bool model; /* needs a model that is open */
    Status (*run)(App *a, const CommandLine *cl, OutFormat f, Str *b, Error *err);
} kinds[] = {
    {"measurements", false, measurements_run},
    {"list", true, list_run},
    {"metrics", true, compare_metrics},
    {"runs", false, compare_runs},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static const struct Kind *kind_find(const char *name, Error *err)
{
    const char *names[KINDS + 1] = {0};
    Str all = {0};
    for (int i = 0; i < KINDS; i++) {
        names[i] = kinds[i].name;
        str_printf(&all, "%s%s", i ? ", " : "", names[i]);
        if (strcmp(name, names[i]) == 0) {
            str_free(&all);
            return &kinds[i];
        }
    }
    const char *near = nearest_name(name, names);
    error_set(err, ST_USAGE, "'%s' is nothing that is compared: %s%s%s", name, str_text(&all), near ? "; nearest: " : "",
              near ? near : "");
    str_free(&all);
    return NULL;
}

static Status compare_run(App *a, const CommandLine *cl, Error *err)
{
    const struct Kind *k = kind_find(cl->nwords ? cl->words[0] : "measurements", err);
    if (!k)
        return ST_USAGE;
    if (k->model)
        RETURN_IF_ERROR(app_need_model(a, err));
    Str b = {0};
    Status st = k->run(a, cl, out_format(cl_str(cl, "format")), &b, err);
    if (st == ST_OK && b.oom)
        st = error_nomem(err, "a comparison");
    if (st == ST_OK)
        st = app_result(a, &b, cl_str(cl, "out"), err);
    str_free(&b);
    return st;
}

static const Option compare_options[] = {
    {"format", ARG_CHOICE, "text|json", "of the result (default text)", COMP_NONE},
    {"out", ARG_PATH, "FILE", "write the result to FILE (whole or not at all) instead of standard output", COMP_FILE},
    {"topk", ARG_INT, "N", "rows of two metrics or runs that the text shows (default 10)", COMP_NONE},
    {0},
};
const Command command_compare = {
    .name = "compare",
    .args = "[list | measurements [A [B]] | measurements FILE FILE | metrics METRIC METRIC | runs FILE [FILE]]",
    .summary = "Set two measurements side by side, with the error of their difference, two metrics or two runs.",
    .help = "A measurement is named by its number in 'compare list', or is the present one, the previous one or base (what the "
            "recipe gives by itself); without names the present one is held against the previous one. The error of a "
            "difference is paired: over blocks of 16 tokens, so that what a hard text does to both cancels. A difference "
            "below two of its errors is undecided. Two files that measure wrote with --format json compare without a model. Of two metrics: how far they rank alike, and the layers that they rank most "
            "differently, first those of which the cause is known. A group, attention or block has the largest score of its linears. "
            "runs takes files that load takes, as the JSON and CSV of analyze: one against this session's scores, or two, which "
            "needs no model: what other texts, another scheme or another arithmetic change in a ranking.",
    .completes = COMP_METRIC,
    .flags = CMD_NEUTRAL | CMD_CLI,
    .options = compare_options,
    .run = compare_run,
};
