/* compare list, compare measurements: measurements of a session or of files side by side. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/comparing.h"
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
    for (int i = 0; i < session_measurements_all(s); i++) {
        Measurement m = session_measurement(s, i);
        SizeReport size;
        Str bytes = {0};
        if (session_measurement_size(s, &m, &size))
            str_bytes(&bytes, size.bytes);
        str_printf(b, "%4s  %9.4g", m.name, m.effect->kl_mean);
        if (isfinite(m.effect->kl_se))
            str_printf(b, " +- %-7.2g", m.effect->kl_se);
        else
            str_printf(b, "%11s", "");
        str_printf(b, "  %9.4g (%+.1f %%)  %7lld  %-10s %10s  ", m.effect->ppl_quant, 100 * m.effect->ppl_change,
                   (long long)m.effect->tokens, arith_name(m.effect->arith), bytes.len ? str_text(&bytes) : "?");
        str_clear(&bytes);
        if (m.recipe)
            work_name_changes(m.recipe, &bytes);
        str_printf(b, "%s%s%s, %lld of %lld linears float%s%s\n", recipe_text(&m), bytes.len ? " with " : "", str_text(&bytes),
                   (long long)floats_of(s, &m), (long long)session_model(s)->nlinears, m.base ? " (base)" : "",
                   m.present ? " (present)" : "");
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
    str_printf(b, "{\"number\":%d,\"name\":", m->id);
    str_json(b, m->name);
    str_puts(b, ",\"recipe\":");
    if (m->recipe)
        str_json(b, recipe_name(m->recipe));
    else
        str_puts(b, "null");
    output_changes_json(m->recipe, b);
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

Status compare_list(App *a, const CommandLine *cl, OutFormat f, Str *b, Error *err)
{
    const Session *s = a->session;
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    if (f != OUT_JSON) {
        if (session_measurements_all(s))
            list_text(s, b);
        else
            str_puts(b, "nothing is measured yet\n");
        return ST_OK;
    }
    str_puts(b, "{\"measurements\":[");
    for (int i = 0; i < session_measurements_all(s); i++) {
        Measurement m = session_measurement(s, i);
        str_puts(b, i ? ",\n" : "\n");
        measurement_json(s, &m, b);
    }
    str_puts(b, "]}\n");
    return ST_OK;
}

void offer_measurements(const App *a, OfferWord *put, void *ctx)
{
    const Session *s = a->session;
    for (int i = 0; s && i < session_measurements_all(s); i++) {
        Measurement m = session_measurement(s, i);
        Str means = {0};
        str_printf(&means, "KL %.4g, ", m.effect->kl_mean);
        session_measurement_levels(s, &m, true, &means);
        put(ctx, m.name, str_text(&means));
        str_free(&means);
    }
    put(ctx, "present", "the measurement of the present assignment");
    put(ctx, "previous", "the one before it");
    put(ctx, "base", "what the recipe gives by itself");
}

/* ---- two measurements ---- */

/* The two that words name; without words those that are marked, else the present one, where it is measured, and the one
 * before it. */
static Status two_of(const Session *s, const CommandLine *cl, MeasuredPair *p, Error *err)
{
    int i = session_marked_measurement(s, MARK_A), k = session_marked_measurement(s, MARK_B);
    if (cl->nwords > 1 || i < 0 || k < 0) {
        Status st = session_measurement_find(s, cl->nwords > 1 ? cl->words[1] : "present", &i, err);
        if (st != ST_OK && cl->nwords < 2 && session_measurements(s)) {
            i = session_measurements(s) - 1;
            st = ST_OK;
        }
        RETURN_IF_ERROR(st);
        RETURN_IF_ERROR(session_measurement_find(s, cl->nwords > 2 ? cl->words[2] : "previous", &k, err));
    }
    return measured_pair(s, i, k, p, err);
}

static void head_text(const Session *s, const char *name, const Measurement *m, Str *b)
{
    str_printf(b, "%s  #%s%s%s: %s, %lld of %lld linears float, %lld tokens, %s arithmetic\n", name, m->name,
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

static void changes_text(const Session *s, const MeasuredPair *p, Str *b)
{
    str_printf(b, "levels           %lld linear%s", (long long)p->changes, p->changes == 1 ? " differs" : "s differ");
    for (int64_t i = 0; i < p->changes && i < NAMES_SHOWN; i++)
        str_printf(b, "%s%s (%s, in B %s)", i ? ", " : ": ", session_model(s)->linears[p->change[i].linear].name,
                   p->change[i].from, p->change[i].to);
    if (p->changes > NAMES_SHOWN)
        str_printf(b, " and %lld more", (long long)p->changes - NAMES_SHOWN);
    str_putc(b, '\n');
}

/* What they were made with, where that differs; recipe and rules as lines of A behind - and of B behind +. */
static void differs_text(const MeasuredPair *p, Str *b)
{
    str_puts(b, "differs          ");
    measured_pair_differs(p, b);
    str_putc(b, '\n');
    for (int i = 0; i < p->ndiffers; i++)
        str_printf(b, "  %-18s A %s\n  %-18s B %s\n", p->differs[i].what, p->differs[i].a, "", p->differs[i].b);
    for (const char *l = str_text(&p->config), *end; *l; l = end + 1) {
        end = strchr(l, '\n');
        str_printf(b, "  %.*s\n", (int)(end - l), l);
    }
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

static void measurements_text(const Session *s, const MeasuredPair *p, Str *b)
{
    head_text(s, "A", &p->a, b);
    head_text(s, "B", &p->b, b);
    figures_text(p->a.effect, p->b.effect, &p->p, b);
    if (p->sized)
        put_sizes(p->size[0].bytes, p->size[1].bytes, b);
    changes_text(s, p, b);
    differs_text(p, b);
    verdict_text(&p->p, b);
}

static void differs_json(const MeasuredPair *p, Str *b)
{
    str_puts(b, "],\n\"differs\":[");
    for (int i = 0; i < p->ndiffers; i++) {
        str_printf(b, "%s{\"what\":\"%s\",\"a\":", i ? "," : "", p->differs[i].what);
        str_json(b, p->differs[i].a);
        str_puts(b, ",\"b\":");
        str_json(b, p->differs[i].b);
        str_putc(b, '}');
    }
    str_printf(b, "],\"recorded\":%s,\"config\":", p->told ? "true" : "false");
    str_json(b, str_text(&p->config));
    str_puts(b, "}\n");
}

static void measurements_json(const Session *s, const MeasuredPair *p, Str *b)
{
    str_puts(b, "{\"a\":");
    measurement_json(s, &p->a, b);
    str_puts(b, ",\n\"b\":");
    measurement_json(s, &p->b, b);
    str_puts(b, ",\n\"difference\":");
    output_paired_json(&p->p, b);
    str_puts(b, ",\n\"levels\":[");
    for (int64_t i = 0; i < p->changes; i++) {
        str_puts(b, i ? ",\n{\"name\":" : "\n{\"name\":");
        str_json(b, session_model(s)->linears[p->change[i].linear].name);
        str_puts(b, ",\"a\":");
        str_json(b, p->change[i].from);
        str_puts(b, ",\"b\":");
        str_json(b, p->change[i].to);
        str_putc(b, '}');
    }
    differs_json(p, b);
}

/* ---- files, and one beside a measurement of the session ---- */

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

/* What a word names: a file, or a measurement of the session, of which it has the same. */
static Status named_read(const Session *s, const char *word, MeasuredFile *out, Error *err)
{
    int i;
    SizeReport size;
    *out = (MeasuredFile){.blocks = NULL};
    if (measured_file_named(word))
        return measured_file_read(word, out, err);
    RETURN_IF_ERROR(session_measurement_find(s, word, &i, err));
    Measurement m = session_measurement(s, i);
    out->effect = *m.effect;
    out->bytes = session_measurement_size(s, &m, &size) ? (double)size.bytes : (double)NAN;
    str_puts(&out->recipe, recipe_text(&m));
    out->blocks = m.blocks ? blocks_copy(m.blocks) : NULL;
    return m.blocks && !out->blocks ? error_nomem(err, "a measurement") : ST_OK;
}

static Status files_run(const Session *s, const char *const path[2], OutFormat f, Str *b, Error *err)
{
    MeasuredFile file[2] = {{.blocks = NULL}, {.blocks = NULL}};
    Status st = ST_OK;
    for (int i = 0; i < 2 && st == ST_OK; i++)
        st = named_read(s, path[i], &file[i], err);
    if (st == ST_OK) {
        Paired p = paired_of(&file[0].effect, file[0].blocks, &file[1].effect, file[1].blocks);
        (f == OUT_JSON ? files_json : files_text)(path, file, &p, b);
    }
    for (int i = 0; i < 2; i++)
        measured_file_fini(&file[i]);
    return st;
}

Status compare_measurements(App *a, const CommandLine *cl, OutFormat f, Str *b, Error *err)
{
    MeasuredPair p;
    RETURN_IF_ERROR(want_words(cl, 0, 3, err));
    int files = 0;
    for (int i = 1; i < 3 && cl->nwords == 3; i++)
        files += measured_file_named(cl->words[i]);
    if (files < 2)
        RETURN_IF_ERROR(app_need_model(a, err));
    if (files)
        return files_run(a->session, cl->words + 1, f, b, err);
    RETURN_IF_ERROR(two_of(a->session, cl, &p, err));
    if (f == OUT_JSON)
        measurements_json(a->session, &p, b);
    else
        measurements_text(a->session, &p, b);
    measured_pair_fini(&p);
    return ST_OK;
}
