/* compare runs: the scores of a file against the session's, or another file's. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"
#include "session/disagree.h"
#include "session/runpair.h"
#include "src/compare.h"

/* One side: a file, or the session. */
typedef struct Side {
    const char *path; /* NULL: the session */
    ScoreFile file;
} Side;

static Status read_side(const Session *s, const char *path, Side *out, Error *err)
{
    char *text;
    size_t len;
    *out = (Side){.path = path};
    RETURN_IF_ERROR(file_read(path, SCORE_FILE_MAX, &text, &len, err));
    Status st = score_file_read(text, len, path, s ? session_model(s) : NULL, &out->file, err);
    free(text);
    return st;
}

/* ---- where scores come from ---- */

static void json_word(const cJSON *o, const char *key, const char *before, Str *out)
{
    const cJSON *v = json_get(o, key);
    if (cJSON_IsString(v))
        str_printf(out, "%s%s", before, v->valuestring);
}

/* The run of this metric (NULL: the first) in a document of ours. */
static const cJSON *run_of(const cJSON *root, const char *metric)
{
    const cJSON *runs = json_get(root, "runs"), *run;
    if (!cJSON_IsArray(runs))
        return root;
    cJSON_ArrayForEach(run, runs) {
        const cJSON *name = json_get(run, "metric");
        if (!metric || (cJSON_IsString(name) && strcmp(name->valuestring, metric) == 0))
            return run;
    }
    return NULL;
}

/* What a JSON document of ours tells of its run; nothing for other files. */
static void file_origin(const char *path, const char *metric, Str *out)
{
    cJSON *root;
    size_t n = strlen(path);
    if (n < 5 || strcmp(path + n - 5, ".json") != 0 || json_parse_file(path, SCORE_FILE_MAX, &root, NULL) != ST_OK)
        return;
    const cJSON *run = run_of(root, metric), *data = json_get(run, "calibration");
    json_word(data, "name", "calibration ", out);
    if (cJSON_IsNumber(json_get(data, "samples")) && cJSON_IsNumber(json_get(data, "tokens")))
        str_printf(out, " (%.0f samples, %.0f tokens)", json_get(data, "samples")->valuedouble,
                   json_get(data, "tokens")->valuedouble);
    json_word(run, "scheme", ", scheme ", out);
    json_word(run, "arithmetic", ", arithmetic ", out);
    cJSON_Delete(root);
}

static void side_origin(const Session *s, const Side *side, const char *metric, Str *out)
{
    if (side->path) {
        file_origin(side->path, metric, out);
        return;
    }
    DataInfo d = session_calib_info(s);
    if (d.samples)
        str_printf(out, "calibration %s (%d samples, %lld tokens), ", path_base(d.name), d.samples, (long long)d.tokens);
    str_printf(out, "arithmetic %s", arith_name(session_options(s)->arith));
}

/* ---- one metric of both ---- */

typedef struct Matched {
    const char *metric; /* "" when no file names it */
    const ScoreColumn *a, *b;
    Str from[2];        /* side_origin */
    RunPair p;
} Matched;

static void matched_fini(Matched *m)
{
    run_pair_fini(&m->p);
    str_free(&m->from[0]);
    str_free(&m->from[1]);
}

static void matched_text(const Matched *m, const Side side[2], int64_t rows, Str *out)
{
    const RunPair *p = &m->p;
    str_printf(out, "%s%s%lld names in both", m->metric, m->metric[0] ? ": " : "", (long long)p->n);
    if (p->only_a || p->only_b)
        str_printf(out, ", %lld only in A, %lld only in B", (long long)p->only_a, (long long)p->only_b);
    str_putc(out, '\n');
    for (int i = 0; i < 2; i++)
        str_printf(out, "%c  %s%s%s\n", "AB"[i], side[i].path ? side[i].path : "this session", m->from[i].len ? ": " : "",
                   str_text(&m->from[i]));
    output_agreement(&p->agreement, out);
    str_printf(out, "\n%16s       # %16s       #    moved  layer\n", "A", "B");
    for (int64_t i = 0; i < p->n && i < rows; i++)
        str_printf(out, "%16.6g %7g %16.6g %7g %+8g  %s\n", p->row[i].a, p->row[i].rank_a, p->row[i].b, p->row[i].rank_b,
                   p->row[i].rank_a - p->row[i].rank_b, p->row[i].name);
    if (p->n > rows)
        str_printf(out, "      ... and %lld more that moved less\n", (long long)(p->n - rows));
}

static void side_json(const char *key, const Side *side, const Str *from, Str *out)
{
    str_printf(out, ",\"%s\":{\"file\":", key);
    if (side->path)
        str_json(out, side->path);
    else
        str_puts(out, "null");
    str_puts(out, ",\"origin\":");
    str_json(out, str_text(from));
    str_putc(out, '}');
}

static void matched_json(const Matched *m, const Side side[2], Str *out)
{
    const RunPair *p = &m->p;
    str_puts(out, "{\"metric\":");
    str_json(out, m->metric);
    side_json("a", &side[0], &m->from[0], out);
    side_json("b", &side[1], &m->from[1], out);
    output_agreement_json(&p->agreement, out);
    str_printf(out, ",\"only_a\":%lld,\"only_b\":%lld,\"rows\":[", (long long)p->only_a, (long long)p->only_b);
    for (int64_t i = 0; i < p->n; i++) {
        const NamedPair *r = &p->row[i];
        str_puts(out, i ? ",\n{\"name\":" : "\n{\"name\":");
        str_json(out, r->name);
        str_puts(out, ",\"a\":");
        str_double(out, r->a);
        str_printf(out, ",\"rank_a\":%g,\"b\":", r->rank_a);
        str_double(out, r->b);
        str_printf(out, ",\"rank_b\":%g}", r->rank_b);
    }
    str_puts(out, "]}");
}

static const ScoreColumn *column_of(const ScoreFile *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (name && f->column[i].name && strcmp(f->column[i].name, name) == 0)
            return &f->column[i];
    return NULL;
}

/* The column of b for one of a: of the same name; where each has one, and one of them no name, that. */
static const ScoreColumn *partner(const ScoreFile *a, size_t i, const ScoreFile *b)
{
    const ScoreColumn *c = column_of(b, a->column[i].name);
    bool single = a->n == 1 && b->n == 1 && (!a->column[0].name || !b->column[0].name);
    return c || !single ? c : &b->column[0];
}

/* The session's scores of the metrics that the file has; of the shown metric where it names none. */
static Status session_side(const Session *s, const ScoreFile *other, Side *out, Error *err)
{
    *out = (Side){.path = NULL};
    for (size_t i = 0; i < other->n; i++) {
        const char *name = other->column[i].name;
        const Metric *m = name ? session_metric_find(s, name) : other->n == 1 ? session_metric(s) : NULL;
        if (m && session_has_run(s, m))
            RETURN_IF_ERROR(session_column(s, m, &out->file, err));
    }
    return ST_OK;
}

static Status match_one(const Session *s, const Side side[2], size_t i, Matched *m, Error *err)
{
    const ScoreColumn *a = &side[0].file.column[i], *b = partner(&side[0].file, i, &side[1].file);
    const char *name = a->name ? a->name : b->name;
    const Metric *metric = name ? metric_find(name) : NULL;
    *m = (Matched){.metric = name ? name : "", .a = a, .b = b};
    RETURN_IF_ERROR(run_pair(a, b, metric ? metric->direction : 1, PAIR_TOP, &m->p, err));
    for (int k = 0; k < 2; k++)
        side_origin(s, &side[k], name, &m->from[k]);
    return ST_OK;
}

static Status pair_all(const Session *s, const Side side[2], OutFormat f, int64_t rows, Str *out, Error *err)
{
    int n = 0;
    for (size_t i = 0; i < side[0].file.n; i++) {
        Matched m;
        if (!partner(&side[0].file, i, &side[1].file))
            continue;
        RETURN_IF_ERROR(match_one(s, side, i, &m, err));
        if (f == OUT_JSON) {
            str_puts(out, n ? ",\n" : "{\"runs\":[\n");
            matched_json(&m, side, out);
        } else {
            str_puts(out, n ? "\n" : "");
            matched_text(&m, side, rows, out);
        }
        n++;
        matched_fini(&m);
    }
    if (!n)
        return error_set(err, ST_DATA, "no metric of '%s' is in %s", path_base(side[0].path),
                         side[1].path ? path_base(side[1].path) : "this session: analyze it first");
    str_puts(out, f == OUT_JSON ? "]}\n" : "");
    return ST_OK;
}

Status compare_runs(App *a, const CommandLine *cl, OutFormat f, Str *out, Error *err)
{
    Side side[2] = {{.path = NULL}, {.path = NULL}};
    int64_t rows;
    RETURN_IF_ERROR(want_words(cl, 2, 3, err));
    RETURN_IF_ERROR(compare_rows(cl, &rows, err));
    if (cl->nwords < 3)
        RETURN_IF_ERROR(app_need_model(a, err));
    Status st = read_side(a->session, cl->words[1], &side[0], err);
    if (st == ST_OK)
        st = cl->nwords > 2 ? read_side(a->session, cl->words[2], &side[1], err)
                            : session_side(a->session, &side[0].file, &side[1], err);
    if (st == ST_OK)
        st = pair_all(a->session, side, f, rows, out, err);
    score_file_fini(&side[0].file);
    score_file_fini(&side[1].file);
    return st;
}
