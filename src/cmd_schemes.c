/* schemes: what each scheme loses of a model's weights, side by side. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "metric/schemes.h"
#include "quant/quantizer.h"
#include "src/commands.h"
#include "src/internal.h"

enum { MOST = 32, NAME = 40 };

typedef struct Asked {
    char name[MOST][NAME];
    SchemeLoss row[MOST];
    int n;
} Asked;

/* "W4A16/32": a scheme by its name, in groups of so many values. */
static Status read_name(const char *word, QConfig *q, Error *err)
{
    char name[NAME];
    const char *slash = strchr(word, '/');
    int64_t group = 0;
    snprintf(name, sizeof name, "%.*s", slash ? (int)(slash - word) : (int)strlen(word), word);
    if (!scheme_config(name, q))
        return error_set(err, ST_USAGE, "'%s' is no scheme: 'schemes' without names lists them", name);
    if (slash && (!parse_int(slash + 1, &group) || group < 1))
        return error_set(err, ST_USAGE, "'%s': behind the / stands the size of groups, like W4A16/32", word);
    if (slash) {
        q->weight.scope = QS_PER_GROUP;
        q->weight.ext.group_size = group;
    }
    if (q->weight.dtype == QT_FLOAT || !qconfig_runnable(q))
        return error_set(err, ST_USAGE, "'%s': this build can't quantize weights so", word);
    return ST_OK;
}

static Status add_name(Asked *k, const char *word, Error *err)
{
    QConfig q;
    RETURN_IF_ERROR(read_name(word, &q, err));
    for (int i = 0; i < k->n; i++)
        if (strcmp(k->name[i], word) == 0)
            return error_set(err, ST_USAGE, "'%s' is named twice", word);
    if (k->n == MOST || strlen(word) >= NAME)
        return error_set(err, ST_USAGE, "at most %d schemes are compared at a time", MOST);
    snprintf(k->name[k->n], NAME, "%s", word);
    k->row[k->n++].q = q;
    return ST_OK;
}

static Status add_all(Asked *k, Error *err)
{
    for (const Scheme *s = scheme_table; s->name; s++) {
        QConfig q;
        bool seen = false;
        for (int i = 0; i < k->n; i++)
            seen |= strcmp(k->name[i], s->name) == 0;
        if (!seen && scheme_config(s->name, &q) && q.weight.dtype != QT_FLOAT && qconfig_runnable(&q))
            RETURN_IF_ERROR(add_name(k, s->name, err));
    }
    return ST_OK;
}

static void schemes_text(const Model *m, const Asked *k, Str *out)
{
    str_printf(out, "What schemes lose of the weights of %lld linears (no data; |W - Q(W)| / |W|):\n", (long long)m->nlinears);
    str_printf(out, "%-22s %10s %10s %9s %7s %12s  %s\n", "", "mean", "worst", "SQNR dB", "bits", "bytes", "worst linear");
    for (int i = 0; i < k->n; i++) {
        const SchemeLoss *r = &k->row[i];
        str_printf(out, "%-22s", k->name[i]);
        if (r->linears)
            str_printf(out, " %10.3e %10.3e %9.2f %7.3f %12llu  %s", r->mean, r->worst, r->sqnr, r->bits,
                       (unsigned long long)r->bytes, m->linears[r->worst_linear].name);
        str_putc(out, '\n');
        if (r->unfit)
            str_printf(out, "%-22s %lld linears have no error: it does not fit them, or they hold a NaN or Inf\n", "",
                       (long long)r->unfit);
    }
}

static void value(Str *out, const char *key, double v)
{
    str_printf(out, ",\"%s\":", key);
    str_double(out, v);
}

static void schemes_json(const Model *m, const Asked *k, Str *out)
{
    str_puts(out, "{\"model\":");
    str_json(out, m->path);
    str_puts(out, ",\"calibration\":null,\"schemes\":[");
    for (int i = 0; i < k->n; i++) {
        const SchemeLoss *r = &k->row[i];
        char text[80];
        qconfig_describe(&r->q, text, sizeof text);
        str_puts(out, i ? ",\n{\"name\":" : "\n{\"name\":");
        str_json(out, k->name[i]);
        str_puts(out, ",\"scheme\":");
        str_json(out, text);
        str_printf(out, ",\"linears\":%lld,\"without\":%lld", (long long)r->linears, (long long)r->unfit);
        value(out, "mean", r->mean);
        value(out, "worst", r->linears ? r->worst : NAN);
        str_puts(out, ",\"worst_linear\":");
        if (r->linears)
            str_json(out, m->linears[r->worst_linear].name);
        else
            str_puts(out, "null");
        value(out, "sqnr", r->sqnr);
        value(out, "bits", r->bits);
        str_printf(out, ",\"bytes\":%llu}", (unsigned long long)r->bytes);
    }
    str_puts(out, "\n]}\n");
}

static Status compare(const CommandLine *cl, const Model *m, Asked *k, Error *err)
{
    int threads;
    Pool *pool;
    Runner *r = NULL;
    RETURN_IF_ERROR(cl_threads(cl, &threads, err));
    RETURN_IF_ERROR(pool_new(&pool, threads, err));
    RunnerOptions o = {.pool = pool, .arith = ARITH_FP32, .mem_limit = cl_size(cl, "mem", 0), .cancel = interrupt_cancel()};
    Status st = runner_new(&r, m, &o, err);
    if (st == ST_OK)
        st = schemes_compare(r, k->row, k->n, err);
    runner_free(r);
    pool_free(pool);
    return st;
}

static Status schemes_run(App *a, const CommandLine *cl, Error *err)
{
    const char *path = cl_str(cl, "model_path");
    if (!path)
        return error_set(err, ST_USAGE, "'schemes' needs --model_path DIR");
    Asked *k = mem_zarray(1, sizeof *k);
    Str text = {0};
    Status st = k ? ST_OK : error_nomem(err, "a comparison of schemes");
    for (int i = 0; st == ST_OK && i < cl->nwords; i++)
        st = add_name(k, cl->words[i], err);
    if (st == ST_OK && !cl->nwords)
        st = add_all(k, err);
    if (st == ST_OK)
        st = app_session(a, err);
    if (st == ST_OK)
        st = app_open_model(a, path, cl_str(cl, "model_type"), err);
    if (st == ST_OK)
        st = compare(cl, session_model(a->session), k, err);
    if (st == ST_OK && out_format(cl_str(cl, "format")) == OUT_JSON)
        schemes_json(session_model(a->session), k, &text);
    else if (st == ST_OK)
        schemes_text(session_model(a->session), k, &text);
    if (st == ST_OK)
        st = app_result(a, &text, cl_str(cl, "out"), err);
    str_free(&text);
    free(k);
    return st;
}

static const Option schemes_options[] = {
    {"model_path", ARG_PATH, "DIR", "the model's folder", COMP_FILE},
    {"model_type", ARG_STR, "TYPE", "the model's family (default: read from config.json)", COMP_NONE},
    {"format", ARG_CHOICE, "text|json", "of the result (default text)", COMP_NONE},
    {"out", ARG_PATH, "FILE", "write the result to FILE (whole or not at all) instead of standard output", COMP_FILE},
    {"threads", ARG_INT, "N", "compute threads (0, the default: every core this process may use)", COMP_NONE},
    {"mem", ARG_SIZE, "SIZE", "memory bound, 300M or 4G (default: none)", COMP_NONE},
    {0},
};
const Command command_schemes = {
    .name = "schemes",
    .args = "[NAME[/GROUP]...]",
    .summary = "Compare schemes by what they lose of a model's weights.",
    .help = "One reading of the weights, no data: for each scheme the mean and the worst relative error of the linears, the "
            "signal-to-noise ratio of all values, bits and bytes. NAME/GROUP is a scheme in groups of so many values, W4A16/32; "
            "without names all schemes that this build runs. It says nothing of activations: W8A8 and W8A16 lose the same here.",
    .flags = CMD_CLI_ONLY | CMD_NO_LOG,
    .options = schemes_options,
    .run = schemes_run,
};
