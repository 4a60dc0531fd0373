#include <stdio.h>
#include <string.h>

#include "base/ascii.h"
#include "recipe/practice_impl.h"

/* The six-step search for a practice, its trace, and the question before it is used (specs/config.md 11). */

const char *const practice_quant_types[] = {
    "w4a4",  "w4a8",   "w4a4c8", "w4a4f8", "w4a8c8",  "w8a16", "w8a8",
    "w8a8s", "w8a8c8", "w8a8f8", "w4a4f4", "w16a16s", NULL,
};

enum { STEPS = 6 };

/* How a practice meets a request. */
typedef enum Fit { FIT_MATCH, FIT_STANDBY, FIT_TYPE, FIT_MODEL, FIT_NO_SCENARIO } Fit;

/* A quant type taken apart. */
typedef struct Bits {
    int w, a, fa;
    bool sparse, kv;
} Bits;

static const char own_type[] = "w8a8"; /* what is tried when nothing else is there */

static bool parse_type(const char *s, Bits *b)
{
    int used = 0;
    *b = (Bits){0};
    if (sscanf(s, "w%2da%2d%n", &b->w, &b->a, &used) != 2)
        return false;
    s += used;
    b->kv = strncmp(s, "c8", 2) == 0;
    b->fa = strncmp(s, "f4", 2) == 0 ? 4 : strncmp(s, "f8", 2) == 0 ? 8 : 0;
    s += b->kv || b->fa ? 2 : 0;
    b->sparse = *s == 's';
    return !s[b->sparse];
}

static bool known_type(const char *s)
{
    for (const char *const *t = practice_quant_types; *t; t++)
        if (strcmp(*t, s) == 0)
            return true;
    return false;
}

static bool scenario_has(const PracticeScenario *s, const PracticeQuery *q)
{
    for (int i = 0; i < q->ntags; i++) {
        bool found = false;
        for (int k = 0; k < s->ntags && !found; k++)
            found = practice_same_name(s->tags[k], q->tags[i]);
        if (!found)
            return false;
    }
    return true;
}

/* How p meets model, tags and bits. any_model: it is searched as a default practice. */
static Fit fit_of(const Practice *p, const PracticeQuery *q, const Bits *b, bool any_model)
{
    if (p->w_bit != b->w || p->a_bit != b->a || p->sparse != b->sparse || p->kv_cache != b->kv || p->fa_bit != b->fa)
        return FIT_TYPE;
    if (any_model)
        return FIT_MATCH;
    for (int i = 0; i < p->ntypes; i++)
        if (strcmp(p->types[i], q->model_type) == 0)
            return FIT_MATCH;
    if (p->ntypes)
        return FIT_MODEL;
    bool verified = false;
    for (int i = 0; i < p->nscenarios; i++)
        if (strcmp(p->scenarios[i].model_type, q->model_type) == 0) {
            verified = true;
            if (scenario_has(&p->scenarios[i], q))
                return FIT_MATCH;
        }
    return verified ? FIT_STANDBY : FIT_NO_SCENARIO;
}

/* A request with what follows from it. */
typedef struct PracticeSearch {
    PracticeLibrary *lib;
    const PracticeQuery *q;
    const char *pedigree, *type; /* pedigree: `default` when a guessed one has no folder */
    bool own_is_default;
} PracticeSearch;

static bool is_default(const char *pedigree)
{
    return ascii_casecmp(pedigree, "default") == 0;
}

/* Steps 1-3 look for the type asked for, 4-6 for w8a8: own folder verified, own folder with other tags, default. */
static const char *step_folder(const PracticeSearch *s, int step)
{
    return step % 3 == 2 ? "default" : s->pedigree;
}

static const char *step_type(const PracticeSearch *s, int step)
{
    return step < 3 ? s->type : own_type;
}

/* Why a step has nothing to look at, or NULL. */
static const char *step_skipped(const PracticeSearch *s, int step)
{
    if (step >= 3 && strcmp(s->type, own_type) == 0)
        return "w8a8 was looked for already";
    if (step % 3 == 2 && s->own_is_default)
        return "is the model's own folder";
    return NULL;
}

static const Practice *run_step(const PracticeSearch *s, int step)
{
    size_t n;
    const Practice *p = practice_sorted(s->lib, &n);
    const char *folder = step_folder(s, step);
    Bits bits;
    if (step_skipped(s, step) || !parse_type(step_type(s, step), &bits))
        return NULL;
    for (size_t i = 0; i < n; i++)
        if (ascii_casecmp(p[i].pedigree, folder) == 0 &&
            fit_of(&p[i], s->q, &bits, is_default(folder)) == (step % 3 == 1 ? FIT_STANDBY : FIT_MATCH))
            return &p[i];
    return NULL;
}

static PracticeAsk ask_of(const PracticeSearch *s, int step)
{
    const bool deflt = step % 3 == 2 || s->own_is_default;
    if (step % 3 == 1)
        return PRACTICE_STANDBY;
    if (!s->q->quant_type)
        return deflt ? PRACTICE_NO_TYPE_DEFAULT : PRACTICE_NO_TYPE_BEST;
    if (step >= 3)
        return deflt ? PRACTICE_W8A8_DEFAULT : PRACTICE_W8A8_BEST;
    return deflt ? PRACTICE_DEFAULT : PRACTICE_SILENT;
}

static void put_tags(Str *out, const char *const *tags, int n)
{
    for (int i = 0; i < n; i++)
        str_printf(out, "%s%s", i ? ", " : "", tags[i]);
}

static void put_reason(const PracticeSearch *s, PracticeChoice *out)
{
    const char *id = out->practice->id, *model = s->q->model_type;
    const char *changed = out->step > 3 ? ", and it is w8a8" : "";
    Str tags = {0};
    put_tags(&tags, s->q->tags, s->q->ntags);
    switch (out->ask) {
    case PRACTICE_SILENT:
        break;
    case PRACTICE_NO_TYPE_BEST:
        snprintf(out->reason, sizeof out->reason,
                 "no quantization type was given: '%s', the w8a8 practice of %s, is used", id, model);
        break;
    case PRACTICE_NO_TYPE_DEFAULT:
        snprintf(out->reason, sizeof out->reason,
                 "no quantization type was given: '%s', the default practice of w8a8, is used", id);
        break;
    case PRACTICE_DEFAULT:
        snprintf(out->reason, sizeof out->reason, "there is no %s practice of %s: '%s', the default one, is used",
                 s->type, model, id);
        break;
    case PRACTICE_W8A8_BEST:
        snprintf(out->reason, sizeof out->reason, "there is no %s practice of %s: '%s', its w8a8 practice, is used",
                 s->type, model, id);
        break;
    case PRACTICE_W8A8_DEFAULT:
        snprintf(out->reason, sizeof out->reason,
                 "there is no %s practice of %s: '%s', the default practice of w8a8, is used", s->type, model, id);
        break;
    case PRACTICE_STANDBY:
        snprintf(out->reason, sizeof out->reason,
                 "no practice of %s is verified for [%s]: '%s', verified for others, is used%s", model, str_text(&tags),
                 id, changed);
        break;
    }
    str_free(&tags);
}

/* ---- the trace ---- */

static void trace_step(const PracticeSearch *s, int step, const PracticeChoice *found, Str *why)
{
    static const char *const kinds[] = {"verified", "verified for other tags", "any model"};
    const char *skipped = step_skipped(s, step);
    str_printf(why, "step %d: %s, %s, %s: ", step + 1, step_folder(s, step), step_type(s, step), kinds[step % 3]);
    if (skipped)
        str_printf(why, "skipped, %s\n", skipped);
    else if (found->practice && found->step == step + 1)
        str_printf(why, "takes %s\n", found->practice->id);
    else
        str_puts(why, found->practice && found->step < step + 1 ? "not reached\n" : "none\n");
}

static void put_bits(Str *out, const Practice *p)
{
    str_printf(out, "w%ga%g%s%s", p->w_bit, p->a_bit, p->kv_cache == 1 ? "c8" : "",
               p->fa_bit == 8 ? "f8" : p->fa_bit == 4 ? "f4" : "");
    str_puts(out, p->sparse == 1 ? "s" : "");
}

static void trace_candidate(const PracticeSearch *s, const Practice *p, const PracticeChoice *found, Str *why)
{
    static const char *const sources[] = {"custom", "plugin", "official"};
    const bool any = is_default(p->pedigree);
    Bits bits;
    const char *type = s->type;
    Fit fit = parse_type(type, &bits) ? fit_of(p, s->q, &bits, any) : FIT_TYPE;
    if (fit == FIT_TYPE && parse_type(own_type, &bits)) {
        fit = fit_of(p, s->q, &bits, any);
        type = own_type;
    }
    str_printf(why, "  %s %s/%s (score %g, %s%s): ", p == found->practice ? "*" : "-", p->pedigree, p->id, p->score,
               sources[p->source], p->runs ? "" : ", doesn't run here");
    switch (fit) {
    case FIT_TYPE:
        str_puts(why, "is ");
        put_bits(why, p);
        break;
    case FIT_MATCH:
        str_printf(why, "%s, %s", type, any ? "for every model" : "verified for this model");
        break;
    case FIT_STANDBY:
        str_printf(why, "%s, verified for this model with other tags:", type);
        for (int i = 0; i < p->nscenarios; i++)
            if (strcmp(p->scenarios[i].model_type, s->q->model_type) == 0) {
                str_puts(why, " [");
                put_tags(why, p->scenarios[i].tags, p->scenarios[i].ntags);
                str_puts(why, "]");
            }
        break;
    case FIT_MODEL:
        str_printf(why, "%s, verified for ", type);
        put_tags(why, p->types, p->ntypes);
        break;
    case FIT_NO_SCENARIO:
        str_printf(why, "%s, not verified for this model", type);
        break;
    }
    str_putc(why, '\n');
}

static void trace(const PracticeSearch *s, const PracticeChoice *found, Str *why)
{
    str_printf(why, "model %s, folder %s%s, quantization type %s%s, tags [", s->q->model_type, s->pedigree,
               ascii_casecmp(s->pedigree, s->q->pedigree) != 0 ? " (it has none of its own)" : "", s->type,
               s->q->quant_type ? "" : " (none given)");
    put_tags(why, s->q->tags, s->q->ntags);
    str_puts(why, "]\n");
    for (int step = 0; step < STEPS; step++)
        trace_step(s, step, found, why);
    size_t n;
    const Practice *p = practice_sorted(s->lib, &n);
    str_puts(why, "candidates:\n");
    for (int own = 1; own >= 0; own--)
        for (size_t i = 0; i < n; i++) {
            const bool mine = ascii_casecmp(p[i].pedigree, s->pedigree) == 0;
            if (own ? mine : !mine && is_default(p[i].pedigree))
                trace_candidate(s, &p[i], found, why);
        }
}

/* ---- */

static Status search_new(PracticeLibrary *lib, const PracticeQuery *q, PracticeSearch *s, Error *err)
{
    *s = (PracticeSearch){.lib = lib, .q = q, .pedigree = q->pedigree,
                          .type = q->quant_type ? q->quant_type : own_type};
    if (!known_type(s->type)) {
        Str list = {0};
        for (const char *const *t = practice_quant_types; *t; t++)
            str_printf(&list, " %s", *t);
        error_set(err, ST_USAGE, "there is no quantization type '%.40s'; there are%s", s->type, str_text(&list));
        str_free(&list);
        return ST_USAGE;
    }
    if (!practice_has_pedigree(lib, s->pedigree) && q->guessed)
        s->pedigree = "default";
    s->own_is_default = is_default(s->pedigree);
    if (!practice_has_pedigree(lib, s->pedigree))
        return error_set(err, ST_DATA,
                         "the practice library has no folder '%s' for %s: name a recipe with --config_path",
                         s->pedigree, q->model_type);
    return ST_OK;
}

Status practice_choose(PracticeLibrary *lib, const PracticeQuery *q, PracticeChoice *out, Str *why, Error *err)
{
    PracticeSearch s;
    *out = (PracticeChoice){0};
    RETURN_IF_ERROR(search_new(lib, q, &s, err));
    for (int step = 0; step < STEPS && !out->practice; step++) {
        out->practice = run_step(&s, step);
        out->step = step + 1;
        out->ask = ask_of(&s, step);
    }
    if (out->practice)
        put_reason(&s, out);
    if (why)
        trace(&s, out, why);
    if (why && why->oom)
        return error_nomem(err, "a trace");
    if (!out->practice)
        return error_set(err, ST_DATA,
                         "no practice of %s fits %s, none of w8a8 and no default one either: name a recipe with "
                         "--config_path or another --quant_type",
                         q->model_type, s.type);
    return ST_OK;
}

Status practice_confirm(const PracticeChoice *choice, bool yes, PracticeAnswer *answer, void *ctx, Error *err)
{
    char question[480], line[64];
    if (choice->ask == PRACTICE_SILENT || yes)
        return ST_OK;
    snprintf(question, sizeof question, "%s. Go on? (y or yes; anything else stops): ", choice->reason);
    if (!answer(ctx, question, line, sizeof line))
        return error_set(err, ST_FAIL, "%s: not confirmed, the input has ended; --yes confirms beforehand",
                         choice->reason);
    const char *word = line + strspn(line, " \t");
    size_t n = strlen(word);
    while (n && ascii_is_space(word[n - 1]))
        n--;
    if ((n == 1 || n == 3) && ascii_ncasecmp(word, "yes", n) == 0)
        return ST_OK;
    return error_set(err, ST_FAIL, "stopped: name a recipe with --config_path or another --quant_type");
}
