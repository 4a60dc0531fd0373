/* analyze and rank: sensitivity scores of the linears. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/file.h"
#include "recipe/device.h"
#include "src/commands.h"
#include "src/internal.h"
#include "src/output.h"

/* A scope word of the peer's command line: its default metric and its patterns option. */
typedef struct Scope {
    const char *name, *metric, *list;
    MetricScope scope;
} Scope;
static const Scope scopes[] = {
    {"linear", "kurtosis", "pattern", SCOPE_LINEAR},
    {"layer", "mse_layer_wise", "quant_modules", SCOPE_BLOCK},
    {"attn", "attention_mse", NULL, SCOPE_ATTENTION},
};

/* Names of the metrics of a scope word, NULL: of all. */
static void built_metrics(const Scope *scope, Str *out)
{
    for (int i = 0; metric_table[i]; i++)
        if (!scope || metric_table[i]->scope == scope->scope)
            str_printf(out, "%s%s", out->len ? ", " : "", metric_table[i]->name);
}

/* A metric by name, of this scope when one is given (NULL: any). */
static Status find_metric(const Session *s, const char *name, const Scope *scope, const Metric **out, Error *err)
{
    *out = session_metric_find(s, name);
    for (int i = 0; scope && !*out && metric_table[i]; i++)
        if (metric_table[i]->peer_name && strcmp(metric_table[i]->peer_name, name) == 0)
            *out = metric_table[i];
    if (*out && (!scope || (*out)->scope == scope->scope))
        return ST_OK;
    Str built = {0};
    built_metrics(scope, &built);
    if (*out)
        error_set(err, ST_USAGE, "metric '%s' scores each %s, scope '%s' has others: use %s, or leave the scope out", name,
                  scope_name((*out)->scope), scope->name, str_text(&built));
    else
        error_set(err, ST_USAGE, "metric '%s' is not in this build: use %s", name, str_text(&built));
    str_free(&built);
    return ST_USAGE;
}

/* What an analyze or rank line asks for. */
typedef struct Ask {
    const Scope *scope;                     /* NULL: none given */
    const Metric **metrics;                 /* NULL-terminated, room for every row of metric_table */
    int nmetrics;
    const char **patterns;                  /* caller's array of borrowed strings */
    int npatterns;
    int topk;
    OutFormat format;
    const char *out;
    bool set_chosen;                        /* the calibration set is not the peer's default */
    bool by_default;                        /* no metric was named: it is the guide's */
} Ask;

static Status add_metric(const Session *s, Ask *ask, const char *name, Error *err)
{
    const Metric *m;
    RETURN_IF_ERROR(find_metric(s, name, ask->scope, &m, err));
    for (int i = 0; i < ask->nmetrics; i++)
        if (ask->metrics[i] == m)
            return error_set(err, ST_USAGE, "metric '%s' is asked for twice", name);
    ask->metrics[ask->nmetrics++] = m;
    return ST_OK;
}

static Status ask_metrics(const App *a, const CommandLine *cl, Ask *ask, Error *err)
{
    int first = 0;
    ask->metrics = mem_zarray(metric_list_len(session_metrics(a->session)) + 1, sizeof *ask->metrics);
    if (!ask->metrics)
        return error_nomem(err, "a list of metrics");
    for (size_t i = 0; i < sizeof scopes / sizeof *scopes && cl->nwords && cl->command == &command_analyze; i++)
        if (strcmp(cl->words[0], scopes[i].name) == 0)
            ask->scope = &scopes[i];
    first = ask->scope != NULL;
    for (int i = first; i < cl->nwords; i++)
        RETURN_IF_ERROR(add_metric(a->session, ask, cl->words[i], err));
    int n;
    const char **list = cl_list(cl, "metrics", &n);
    if (!list)
        return error_nomem(err, "a list of metrics");
    Status st = ST_OK;
    for (int i = 0; i < n && st == ST_OK; i++)
        st = add_metric(a->session, ask, list[i], err);
    free(list);
    RETURN_IF_ERROR(st);
    if (cl_given(cl, "metrics") && n == 0)
        return error_set(err, ST_USAGE, "--metrics needs at least one name");
    if (ask->nmetrics)
        return ST_OK;
    const Metric *shown = a->session && a->face != FACE_CLI ? session_metric(a->session) : NULL;
    if (shown && !ask->scope)
        return add_metric(a->session, ask, shown->name, err);
    ask->by_default = !ask->scope;
    return add_metric(a->session, ask, ask->scope ? ask->scope->metric : "kurtosis", err);
}

/* Whether linears play no part in what is asked for: attentions are scored, all of them. */
static bool asks_attentions(const Ask *ask)
{
    for (int i = 0; i < ask->nmetrics; i++)
        if (!ask->metrics[i]->pass->fixed)
            return false;
    return true;
}

static Status ask_patterns(App *a, const CommandLine *cl, Ask *ask, Error *err)
{
    const char *list = ask->scope ? ask->scope->list : "pattern";
    static const char *const lists[] = {"pattern", "quant_modules"};
    for (int i = 0; i < 2; i++)
        if (cl_given(cl, lists[i]) && (!list || strcmp(list, lists[i]) != 0))
            return error_set(err, ST_USAGE, "--%s does not go with %s%s", lists[i],
                             ask->scope ? "scope " : "no scope word", ask->scope ? ask->scope->name : "");
    ask->patterns = cl_list(cl, list ? list : "pattern", &ask->npatterns);
    if (!ask->patterns)
        return error_nomem(err, "a list of patterns");
    for (int i = 0; i < ask->npatterns; i++) {
        Pattern *p;
        RETURN_IF_ERROR(pattern_compile(&p, ask->patterns[i], err));
        pattern_free(p);
    }
    if (ask->npatterns && a->face == FACE_CLI && asks_attentions(ask)) { /* as msModelSlim takes its older command line */
        app_note(a, "note: --pattern names linears: %s scores all attention modules", ask->metrics[0]->name);
        ask->npatterns = 0;
    }
    return ST_OK;
}

static Status ask_output(const App *a, const CommandLine *cl, Ask *ask, Error *err)
{
    int64_t topk = cl_int(cl, "topk", 15);
    if (topk < 1 || topk > INT32_MAX)
        return error_set(err, ST_USAGE, "--topk must be above 0, not %lld", (long long)topk);
    ask->topk = (int)topk;
    ask->format = out_format(cl_str(cl, "format"));
    ask->out = cl_str(cl, "out");
    if (ask->format == OUT_YAML && ask->nmetrics > 1)
        return error_set(err, ST_USAGE, "--format yaml writes one exclude list: ask for one metric, not %d",
                         ask->nmetrics);
    if (cl->command == &command_analyze && !app_waits(a) &&
        (cl_given(cl, "format") || ask->out || cl_given(cl, "topk")))
        return error_set(
            err, ST_USAGE,
            "the analysis goes on in the background: give --topk, --format and --out to 'rank' when it is done");
    return ST_OK;
}

Status check_peer_options(App *a, const CommandLine *cl, Error *err)
{
    const char *device = cl_str(cl, "device"), *trust = cl_str(cl, "trust_remote_code");
    Device d;
    if (device)
        RETURN_IF_ERROR(device_parse(device, &d, err));
    if (trust && strcmp(trust, "True") == 0)
        app_note(a, "note: --trust_remote_code True changes nothing: code that comes with a model is never run");
    return ST_OK;
}

/* Linears the patterns select; *out stays NULL without patterns. Caller frees. */
static Status ask_selected(const App *a, const Ask *ask, bool **out, Error *err)
{
    *out = NULL;
    if (!ask->npatterns)
        return ST_OK;
    return select_linears(a->session, ask->patterns, ask->npatterns, out, err);
}

static Status print_ranking(App *a, const Ask *ask, const bool *selected, bool stopped, const ProfileReport *profile,
                            Error *err)
{
    RankRequest r = {ask->metrics, ask->patterns, ask->npatterns, selected, ask->topk, stopped, profile};
    Str text = {0};
    Status st = output_ranking(a->session, ask->format, &r, &text, err);
    if (st == ST_OK)
        st = app_result(a, &text, ask->out, err);
    str_free(&text);
    return st;
}

Status open_for_run(App *a, const CommandLine *cl, const char *calib, Error *err)
{
    const char *path = cl_str(cl, "model_path"), *set = cl_str(cl, "calib_dataset");
    if (a->face != FACE_CLI && (path || cl_given(cl, "model_type")))
        return error_set(err, ST_USAGE,
                         "--model_path and --model_type belong to the program's command line: use 'open' here");
    if (a->face == FACE_CLI && !path)
        return error_set(err, ST_USAGE, "'%s' needs --model_path DIR", cl->command->name);
    apply_progress(a, cl);
    RETURN_IF_ERROR(run_kept(a, cl, err));
    RETURN_IF_ERROR(apply_run_options(a, cl, err));
    if (path)
        RETURN_IF_ERROR(app_open_model(a, path, cl_str(cl, "model_type"), err));
    RETURN_IF_ERROR(run_named(a, cl, err));
    RETURN_IF_ERROR(app_need_model(a, err));
    if (set || (calib && a->face == FACE_CLI))
        RETURN_IF_ERROR(session_set_calib(a->session, set ? set : calib, err));
    return ST_OK;
}

/* An analysis in which a row failed has failed, however many have a score. */
static Status check_failed(App *a, const Ask *ask, const bool *selected, Error *err)
{
    for (int i = 0; i < ask->nmetrics; i++) {
        RankCount n;
        RETURN_IF_ERROR(ranking_count(a->session, ask->metrics[i], selected, &n, err));
        if (n.failed && ask->metrics[i]->pass->has)
            return error_set(err, ST_FAIL,
                             "%s: %lld of %lld have no score: 'slimscope check %s' looks for NaN and Inf in the weights",
                             ask->metrics[i]->name, (long long)n.failed, (long long)n.wanted,
                             session_model(a->session)->path);
        if (n.failed)
            return error_set(err, ST_FAIL, "%s: %lld of %lld have no score, each with its reason", ask->metrics[i]->name,
                             (long long)n.failed, (long long)n.wanted);
    }
    return ST_OK;
}

/* Whether one of the metrics needs data at all. */
static bool reads_texts(const Ask *ask)
{
    for (int i = 0; i < ask->nmetrics; i++)
        if (!ask->metrics[i]->pass->data_free)
            return true;
    return false;
}

/* What the scores come from when nobody chose: the defaults of analyze and of everything else differ. */
static void note_data(App *a)
{
    DataInfo d = session_calib_info(a->session);
    if (d.samples)
        app_note(a,
                 "calibrated with %s, as msModelSlim's analyze is (%d texts, %lld tokens); measure, quant and the workbench "
                 "take mix_calib.jsonl",
                 path_base(d.name), d.samples, (long long)d.tokens);
}

static Status analyze_and_print(App *a, const Ask *ask, Error *err)
{
    const char **names = mem_zarray((size_t)ask->nmetrics + 1, sizeof *names);
    bool *selected = NULL;
    Status st = names ? ask_selected(a, ask, &selected, err) : error_nomem(err, "a list of metrics");
    for (int i = 0; names && i < ask->nmetrics; i++)
        names[i] = ask->metrics[i]->name;
    if (st == ST_OK)
        st = session_analyze(a->session, names, ask->patterns, ask->npatterns, a->face == FACE_UI, err);
    free(names);
    if (st == ST_OK && app_waits(a)) {
        st = app_wait(a, err);
        bool kept = dist_leads(a->dist) && (st == ST_OK || st == ST_CANCELLED || st == ST_FAIL);
        if (kept) { /* finished rows are worth having whatever stopped the rest */
            Error second = {0};
            ProfileReport profile;
            app_profile(a, &profile);
            Status printed = print_ranking(a, ask, selected, st == ST_CANCELLED, &profile, &second);
            if (printed == ST_OK && st == ST_OK)
                printed = check_failed(a, ask, selected, &second);
            if (st == ST_OK && printed != ST_OK) {
                st = printed;
                *err = second;
            }
        }
        if (a->face == FACE_CLI && !ask->set_chosen && reads_texts(ask))
            note_data(a);
        if (st == ST_OK && a->face == FACE_CLI && ask->by_default)
            app_note(a, "kurtosis describes inputs; what the model loses by each layer is ranked by --metrics block_error");
        app_note_memory(a);
        app_note_profile(a, ask->format);
    }
    free(selected);
    return st;
}

/* What linears are quantized with where a metric asks: a recipe, a scheme by name, or what msModelSlim takes. */
static Status take_scheme(App *a, const CommandLine *cl, Error *err)
{
    const char *recipe = cl_str(cl, "recipe"), *scheme = cl_str(cl, "scheme");
    if (recipe && a->face != FACE_CLI)
        return error_set(err, ST_USAGE, "--recipe belongs to the program's command line: use 'recipe' here");
    if (recipe && scheme)
        return error_set(err, ST_USAGE, "--recipe and --scheme both say how to quantize: give one of them");
    if (recipe)
        RETURN_IF_ERROR(session_open_recipe(a->session, recipe, NULL, err));
    const char *missing = a->face == FACE_CLI && !recipe ? "peer" : "recipe";
    return session_set_scheme(a->session, scheme ? scheme : missing, err);
}

static Status run_analyze(App *a, const CommandLine *cl, Error *err)
{
    Ask ask = {0};
    Status st = ask_metrics(a, cl, &ask, err);
    if (st == ST_OK)
        st = ask_patterns(a, cl, &ask, err);
    if (st == ST_OK)
        st = ask_output(a, cl, &ask, err);
    if (st == ST_OK)
        st = check_peer_options(a, cl, err);
    ask.set_chosen = ask.scope || cl_given(cl, "calib_dataset");
    if (st == ST_OK)
        st = open_for_run(a, cl, !reads_texts(&ask) ? NULL : ask.scope ? "mix_calib.jsonl" : "boolq.jsonl", err);
    if (st == ST_OK)
        st = take_scheme(a, cl, err);
    if (st == ST_OK)
        st = ranks_for_devices(a, cl, NULL, err);
    if (st == ST_OK)
        st = analyze_and_print(a, &ask, err);
    free(ask.patterns);
    free(ask.metrics);
    return st;
}

#define OPTIONS_RESULT                                                                                                 \
    {"topk", ARG_INT, "N", "text and YAML: show the first N groups of equal scores (default 15)", COMP_NONE},          \
        {"format", ARG_CHOICE, "text|json|csv|yaml",                                                                   \
         "json and csv hold every row; yaml is an exclude list (default text)", COMP_NONE},                            \
    {                                                                                                                  \
        "out", ARG_PATH, "FILE", "write the result to FILE (whole or not at all) instead of standard output",          \
            COMP_FILE                                                                                                  \
    }

static const Option analyze_options[] = {
    {"model_path", ARG_PATH, "DIR", "the model's folder", COMP_FILE},
    {"model_type", ARG_STR, "TYPE", "the model's family (default: read from config.json)", COMP_NONE},
    OPTION_DEVICE,
    {"trust_remote_code", ARG_CHOICE, "True|False",
     "accepted for compatibility: code that comes with a model is never run", COMP_NONE},
    {"pattern", ARG_LIST, "PATTERN...", "analyze only linears that one of the patterns selects (default *)",
     COMP_LAYER},
    {"quant_modules", ARG_LIST, "PATTERN...", "scope layer: the linears that are quantized in each block (default *)",
     COMP_LAYER},
    {"scheme", ARG_STR, "NAME",
     "quantize all linears so, where a metric quantizes: W8A8, W4A8_DYNAMIC, ..., or peer (default), or recipe", COMP_NONE},
    {"recipe", ARG_PATH, "FILE", "quantize as this recipe says, where a metric quantizes", COMP_FILE},
    {"metrics", ARG_LIST, "NAME...", "what to compute; one pass serves all (default kurtosis)", COMP_METRIC},
    {"calib_dataset", ARG_PATH, "FILE", "calibration set (default boolq.jsonl; with a scope word mix_calib.jsonl)",
     COMP_FILE},
    {"tokens", ARG_INT, "N", "alone, block_error, fisher, errors of outputs: on N tokens of texts' beginnings (default 128, 512, 1,024, 1,024)", COMP_NONE},
    OPTION_LABELS,
    OPTIONS_RESULT,
    OPTIONS_RUN,
    OPTION_SESSION,
    OPTION_PROGRESS,
    OPTION_READ,
    {0},
};
const Command command_analyze = {
    .name = "analyze",
    .args = "[linear|layer|attn] [METRIC...]",
    .summary = "Score every linear's sensitivity to quantization.",
    .help = "One pass over the calibration set; a higher score means more sensitive. The text result ends in a block "
            "to paste into a recipe's exclude list.",
    .flags = CMD_LONG | CMD_CLI | CMD_RANKS,
    .completes = COMP_METRIC,
    .options = analyze_options,
    .run = run_analyze,
};

static Status rank_run(App *a, const CommandLine *cl, Error *err)
{
    Ask ask = {0};
    bool *selected = NULL;
    Status st = ask_metrics(a, cl, &ask, err);
    if (st == ST_OK)
        st = ask_patterns(a, cl, &ask, err);
    if (st == ST_OK)
        st = ask_output(a, cl, &ask, err);
    for (int i = 0; i < ask.nmetrics && st == ST_OK; i++)
        if (!session_has_run(a->session, ask.metrics[i]))
            st = error_set(err, ST_USAGE, "%s has not been computed: 'analyze %s' first", ask.metrics[i]->name,
                           ask.metrics[i]->name);
    if (st == ST_OK)
        st = ask_selected(a, &ask, &selected, err);
    if (st == ST_OK)
        st = print_ranking(a, &ask, selected, false, NULL, err);
    free(selected);
    free(ask.patterns);
    free(ask.metrics);
    return st;
}

static const Option rank_options[] = {
    {"pattern", ARG_LIST, "PATTERN...", "only linears that one of the patterns selects", COMP_LAYER},
    OPTIONS_RESULT,
    {0},
};
const Command command_rank = {
    .name = "rank",
    .args = "[METRIC...]",
    .summary = "Print the ranking that an analysis found.",
    .flags = CMD_NEEDS_MODEL,
    .completes = COMP_METRIC,
    .options = rank_options,
    .run = rank_run,
};
