/* The table as it is looked at, as a file: its rows in their order, those that the filter lets through. */
#include <math.h>
#include <string.h>

#include "io/file.h"
#include "session/columns.h"
#include "session/fold.h"
#include "src/commands.h"
#include "src/internal.h"
#include "text/csv.h"

/* What is told of a row. */
typedef struct Shown {
    int64_t linear, rank, second_rank;
    const char *name, *kind, *group, *level, *state, *advice, *rule;
    double score, interval, second, cost;
    bool tied, tagged;
} Shown;

static double score_of(const Session *s, const Metric *m, int64_t linear, const char **state)
{
    static const char *const names[] = {
        [SCORE_NONE] = "none", [SCORE_QUEUED] = "queued", [SCORE_OK] = "", [SCORE_FAILED] = "failed", [SCORE_STALE] = "stale",
    };
    Score sc = m ? session_score(s, m, linear) : (Score){.state = SCORE_NONE};
    *state = names[sc.state];
    return sc.state == SCORE_OK || sc.state == SCORE_STALE ? sc.value : NAN;
}

static Shown shown_row(Session *s, int64_t i)
{
    const Model *m = session_model(s);
    const Linear *l = &m->linears[i];
    const char *dot = strrchr(l->name, '.'), *unused;
    Advice a = session_advice(s, i);
    Shown r = {.linear = i, .rank = session_rank(s, i), .second_rank = session_second_rank(s, i), .name = l->name,
               .kind = dot ? dot + 1 : l->name, .group = m->groups[l->group].label,
               .level = session_level_name(s, session_level_of(s, i)), .advice = a.word, .rule = a.rule,
               .interval = session_metric(s) ? session_interval(s, session_metric(s), i) : NAN,
               .cost = session_linear_cost(s, i), .tied = session_tied(s, i), .tagged = session_tagged(s, i)};
    r.score = score_of(s, session_metric(s), i, &r.state);
    r.second = score_of(s, session_second(s), i, &unused);
    return r;
}

/* A number, nothing where it is none. */
static void put_number(Str *out, double v)
{
    if (!isnan(v))
        str_double(out, v);
}

static void csv_row(Session *s, const Shown *r, Str *out)
{
    str_printf(out, "%lld,%s,", (long long)r->rank, r->tied ? "tied" : "");
    csv_field(out, r->name);
    str_printf(out, ",%s,%s,", r->kind, r->group);
    csv_field(out, r->level);
    str_putc(out, ',');
    put_number(out, r->score);
    str_printf(out, ",%s,", r->state);
    put_number(out, r->interval);
    str_putc(out, ',');
    if (session_second(s)) {
        put_number(out, r->second);
        str_printf(out, ",%lld,", (long long)r->second_rank);
    }
    str_printf(out, "%.0f,%s,%s,%s\n", r->cost, r->tagged ? "tagged" : "", r->advice, r->rule);
}

static void csv_table(Session *s, const int64_t *order, int64_t n, Str *out)
{
    str_puts(out, "rank,tie,name,kind,group,level,");
    csv_field(out, session_metric(s) ? session_metric(s)->name : "score");
    str_puts(out, ",state,interval95,");
    if (session_second(s)) {
        csv_field(out, session_second(s)->name);
        str_puts(out, ",second_rank,");
    }
    str_puts(out, "float_costs_bytes,tag,advice,rule\n");
    for (int64_t i = 0; i < n; i++) {
        Shown r = shown_row(s, order[i]);
        csv_row(s, &r, out);
    }
}

static void json_text(Str *out, const char *key, const char *value)
{
    str_printf(out, ",\"%s\":", key);
    str_json(out, value);
}

/* A number or null. */
static void json_number(Str *out, const char *key, double v)
{
    str_printf(out, ",\"%s\":", key);
    if (isnan(v))
        str_puts(out, "null");
    else
        str_double(out, v);
}

static void json_table(Session *s, const int64_t *order, int64_t n, Str *out)
{
    bool up;
    SortKey k = session_sort_key(s, &up);
    str_puts(out, "{\"model\":");
    str_json(out, session_model(s)->path);
    json_text(out, "metric", session_metric(s) ? session_metric(s)->name : "");
    json_text(out, "second", session_second(s) ? session_second(s)->name : "");
    json_text(out, "filter", session_filter_text(s));
    json_text(out, "sort", sort_key_name(k));
    str_printf(out, ",\"ascending\":%s,\"rows\":[", up ? "true" : "false");
    for (int64_t i = 0; i < n; i++) {
        Shown r = shown_row(s, order[i]);
        str_printf(out, "%s\n{\"rank\":%lld,\"tied\":%s", i ? "," : "", (long long)r.rank, r.tied ? "true" : "false");
        json_text(out, "name", r.name);
        json_text(out, "kind", r.kind);
        json_text(out, "group", r.group);
        json_text(out, "level", r.level);
        json_number(out, "score", r.score);
        json_text(out, "state", r.state);
        json_number(out, "interval95", r.interval);
        json_number(out, "second", r.second);
        str_printf(out, ",\"second_rank\":%lld", (long long)r.second_rank);
        json_number(out, "float_costs_bytes", r.cost);
        str_printf(out, ",\"tagged\":%s", r.tagged ? "true" : "false");
        json_text(out, "advice", r.advice);
        json_text(out, "rule", r.rule);
        str_putc(out, '}');
    }
    str_puts(out, "\n]}\n");
}

static void text_table(Session *s, const int64_t *order, int64_t n, Str *out)
{
    str_printf(out, "# %s of %s", session_metric(s) ? session_metric(s)->name : "no metric", session_model(s)->path);
    if (session_filter_text(s)[0])
        str_printf(out, ", filter %s", session_filter_text(s));
    str_puts(out, "\n");
    for (int64_t i = 0; i < n; i++) {
        Shown r = shown_row(s, order[i]);
        str_printf(out, "%6lld%c %c%c %12.4e", (long long)r.rank, r.tied ? '=' : ' ', r.tagged ? '*' : ' ',
                   strcmp(r.level, "float") == 0 ? 'X' : ' ', r.score);
        if (session_second(s))
            str_printf(out, " %12.4e #%-6lld", r.second, (long long)r.second_rank);
        str_printf(out, "  %-14s %-10s %s\n", r.level, r.advice, r.name);
    }
}

static Status sheet_run(App *a, const CommandLine *cl, Error *err)
{
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    const char *path = cl->words[0], *dot = strrchr(path, '.');
    int64_t n;
    Str out = {0};
    if (session_options(a->session)->read_only)
        return error_set(err, ST_USAGE, "opened with --read-only: nothing is written");
    if (!cl->bang && file_exists(path))
        return error_set(err, ST_IO, "'%s' is there already: add ! to replace it", path);
    const int64_t *order = session_order(a->session, &n, false);
    if (dot && strcmp(dot, ".csv") == 0)
        csv_table(a->session, order, n, &out);
    else if (dot && strcmp(dot, ".json") == 0)
        json_table(a->session, order, n, &out);
    else
        text_table(a->session, order, n, &out);
    Status st = app_result(a, &out, path, err);
    str_free(&out);
    if (st == ST_OK)
        app_note(a, n == 1 ? "written: %s, %lld row" : "written: %s, %lld rows", path, (long long)n);
    return st;
}
const Command command_sheet = {
    .name = "sheet",
    .args = "FILE[!]",
    .summary = "Write the table as it is shown: its rows in their order, as .csv, .json or text.",
    .help = "Only rows that the filter lets through are written, with both metrics, intervals, ties, levels, costs and advice.\n"
            "Example: sheet worst.csv",
    .flags = CMD_NEEDS_MODEL | CMD_DESTROYS | CMD_NEUTRAL,
    .completes = COMP_FILE,
    .run = sheet_run,
};
