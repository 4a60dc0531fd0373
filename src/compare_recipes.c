/* measure RECIPE...: several recipes of one model, each measured once on the same tokens, beside the first. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/comparing.h"
#include "src/compare.h"
#include "src/output.h"
#include "text/csv.h"

/* What became of one recipe. */
typedef struct RecipeRow {
    const char *path;
    int id;              /* of its measurement */
    Effect effect;
    SizeReport size;
    bool sized;
    int64_t floats, linears;
    Paired against;      /* this - the first */
} RecipeRow;

static Status measure_one(App *a, const CommandLine *cl, RecipeRow *row, Error *err)
{
    Session *s = a->session;
    int at;
    RETURN_IF_ERROR(session_open_recipe(s, row->path, NULL, err));
    RETURN_IF_ERROR(session_measure(s, cl_given(cl, "full"), err));
    RETURN_IF_ERROR(app_wait(a, err));
    RETURN_IF_ERROR(session_measurement_find(s, "present", &at, err));
    const Measurement m = session_measurement(s, at);
    row->id = m.id;
    row->effect = *m.effect;
    row->sized = session_measurement_size(s, &m, &row->size);
    row->linears = session_model(s)->nlinears;
    for (int64_t i = 0; i < row->linears; i++)
        row->floats += m.level[i] == 0;
    return ST_OK;
}

static int place_of(const Session *s, int id)
{
    int i = session_measurements(s);
    while (i-- > 0 && session_measurement(s, i).id != id)
        ;
    return i;
}

/* The paired difference to the first; measurements are there by now whatever came later. */
static Status hold_against(const Session *s, const RecipeRow *first, RecipeRow *row, Error *err)
{
    MeasuredPair pair;
    if (row->id == first->id) { /* recipes that give the same levels are one measurement */
        row->against = (Paired){.state = PAIR_OK, .tokens = row->effect.tokens};
        return ST_OK;
    }
    RETURN_IF_ERROR(measured_pair(s, place_of(s, row->id), place_of(s, first->id), &pair, err));
    row->against = pair.p;
    measured_pair_fini(&pair);
    return ST_OK;
}

static Verdict verdict(const RecipeRow *r)
{
    return r->against.state == PAIR_OK ? verdict_of(r->against.kl, r->against.kl_se) : VERDICT_UNDECIDED;
}

/* ---- output ---- */

static void rows_text(const RecipeRow *r, int n, Str *b)
{
    size_t wide = strlen("recipe");
    for (int i = 0; i < n; i++)
        wide = strlen(r[i].path) > wide ? strlen(r[i].path) : wide;
    str_printf(b, "perplexity in float %.4g, %lld tokens; differences are paired, against the first\n", r[0].effect.ppl_float,
               (long long)r[0].effect.tokens);
    str_printf(b, "%-*s  %10s  %7s  %-22s %-22s %-25s %s\n", (int)wide, "recipe", "size", "float", "KL", "perplexity", "KL against the first",
               "verdict");
    for (int i = 0; i < n; i++) {
        const Effect *e = &r[i].effect;
        Str size = {0}, kl = {0}, ppl = {0}, more = {0};
        if (r[i].sized)
            str_bytes(&size, r[i].size.bytes);
        str_printf(&kl, isfinite(e->kl_se) ? "%.4g +- %.2g" : "%.4g", e->kl_mean, e->kl_se);
        str_printf(&ppl, "%.4g (%+.1f %%)", e->ppl_quant, 100 * e->ppl_change);
        if (i && isfinite(r[i].against.kl))
            str_printf(&more, isfinite(r[i].against.kl_se) ? "%+.3g +- %.2g" : "%+.3g", r[i].against.kl, r[i].against.kl_se);
        str_printf(b, "%-*s  %10s  %3lld/%-3lld  %-22s %-22s %-25s %s\n", (int)wide, r[i].path,
                   size.len ? str_text(&size) : "?", (long long)r[i].floats, (long long)r[i].linears, str_text(&kl),
                   str_text(&ppl), str_text(&more), i ? verdict_word(verdict(&r[i])) : "the first");
        b->oom = b->oom || size.oom || kl.oom || ppl.oom || more.oom;
        str_free(&size);
        str_free(&kl);
        str_free(&ppl);
        str_free(&more);
    }
}

/* Columns of the other two forms. */
typedef struct Column {
    const char *name;
    double (*value)(const RecipeRow *r);
} Column;

static double kl(const RecipeRow *r)
{
    return r->effect.kl_mean;
}
static double kl_se(const RecipeRow *r)
{
    return r->effect.kl_se;
}
static double ppl(const RecipeRow *r)
{
    return r->effect.ppl_quant;
}
static double ppl_float(const RecipeRow *r)
{
    return r->effect.ppl_float;
}
static double top1(const RecipeRow *r)
{
    return r->effect.top1;
}
static double bytes(const RecipeRow *r)
{
    return r->sized ? (double)r->size.bytes : (double)NAN;
}
static double floats(const RecipeRow *r)
{
    return (double)r->floats;
}
static double tokens(const RecipeRow *r)
{
    return (double)r->effect.tokens;
}
static double more_kl(const RecipeRow *r)
{
    return r->against.kl;
}
static double more_kl_se(const RecipeRow *r)
{
    return r->against.kl_se;
}
static double more_ppl(const RecipeRow *r)
{
    return r->against.ppl;
}
static double more_ppl_se(const RecipeRow *r)
{
    return r->against.ppl_se;
}
static const Column columns[] = {
    {"bytes", bytes},         {"float", floats},          {"tokens", tokens},       {"kl", kl},
    {"kl_se", kl_se},         {"perplexity", ppl},        {"perplexity_float", ppl_float}, {"top1", top1},
    {"kl_more", more_kl},     {"kl_more_se", more_kl_se}, {"perplexity_more", more_ppl},   {"perplexity_more_se", more_ppl_se},
};
enum { COLUMNS = sizeof columns / sizeof *columns };

/* A row's cells behind its name, in JSON (with their names) or CSV (an empty cell where there is no number). */
static void put_cells(const RecipeRow *r, bool json, Str *b)
{
    for (int k = 0; k < COLUMNS; k++) {
        double v = columns[k].value(r);
        if (json)
            str_printf(b, ",\"%s\":", columns[k].name);
        else
            str_putc(b, ',');
        if (json || isfinite(v))
            str_double(b, v);
    }
}

static const char *verdict_name(const RecipeRow *r, int i)
{
    return i ? verdict_word(verdict(&r[i])) : "first";
}

static void rows_json(const RecipeRow *r, int n, Str *b)
{
    str_puts(b, "{\"recipes\":[");
    for (int i = 0; i < n; i++) {
        str_printf(b, "%s\n{\"recipe\":", i ? "," : "");
        str_json(b, r[i].path);
        put_cells(&r[i], true, b);
        str_printf(b, ",\"verdict\":\"%s\"}", verdict_name(r, i));
    }
    str_puts(b, "]}\n");
}

static void rows_csv(const RecipeRow *r, int n, Str *b)
{
    str_puts(b, "recipe");
    for (int k = 0; k < COLUMNS; k++)
        str_printf(b, ",%s", columns[k].name);
    str_puts(b, ",verdict\n");
    for (int i = 0; i < n; i++) {
        csv_field(b, r[i].path);
        put_cells(&r[i], false, b);
        str_printf(b, ",%s\n", verdict_name(r, i));
    }
}

/* ---- the command ---- */

static Status measure_all(App *a, const CommandLine *cl, RecipeRow *row, int n, Error *err)
{
    for (int i = 0; i < n; i++) {
        row[i].path = cl->words[i];
        if (a->face == FACE_CLI) /* a bad one is told before minutes of work */
            RETURN_IF_ERROR(session_open_recipe(a->session, row[i].path, NULL, err));
    }
    for (int i = 0; i < n; i++) {
        Status st = measure_one(a, cl, &row[i], err);
        if (st != ST_OK)
            return strstr(err->text, row[i].path) ? st : error_prefix(err, st, "%s: ", row[i].path);
    }
    for (int i = 0; i < n; i++)
        RETURN_IF_ERROR(hold_against(a->session, &row[0], &row[i], err));
    return ST_OK;
}

Status measure_recipes(App *a, const CommandLine *cl, OutFormat f, Str *b, Error *err)
{
    static void (*const forms[])(const RecipeRow *r, int n, Str *b) = {
        [OUT_TEXT] = rows_text, [OUT_JSON] = rows_json, [OUT_CSV] = rows_csv};
    if (cl_given(cl, "recipe") || cl_given(cl, "exclude"))
        return error_set(err, ST_USAGE, "--recipe and --exclude are of one recipe: name each beside the others");
    if (!app_waits(a))
        return error_set(err, ST_USAGE, "several recipes are measured on the command line or by a script");
    RecipeRow *row = mem_zarray((size_t)cl->nwords, sizeof *row);
    if (!row)
        return error_nomem(err, "a comparison");
    Status st = measure_all(a, cl, row, cl->nwords, err);
    if (st == ST_OK)
        forms[f](row, cl->nwords, b);
    free(row);
    return st;
}
