#include "export/scorefile.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"
#include "text/csv.h"

enum { NAME_MAX_BYTES = 1024 };

void score_file_fini(ScoreFile *f)
{
    for (size_t i = 0; i < f->n; i++) {
        free(f->column[i].score);
        map_free(&f->column[i].seen);
    }
    free(f->column);
    arena_free(&f->made);
    *f = (ScoreFile){0};
}

Status score_column(ScoreFile *f, const char *name, ScoreColumn **out, Error *err)
{
    for (size_t i = 0; i < f->n; i++) {
        const char *have = f->column[i].name;
        *out = &f->column[i];
        if (have == name || (have && name && strcmp(have, name) == 0))
            return ST_OK;
    }
    if (f->n == SCORE_COLUMNS_MAX)
        return error_set(err, ST_DATA, "more than %d columns of scores", SCORE_COLUMNS_MAX);
    char *copy = name ? arena_strdup(&f->made, name) : NULL;
    if ((name && !copy) || !mem_grow(&f->column, &f->cap, f->n + 1, sizeof *f->column))
        return error_nomem(err, "the scores");
    f->column[f->n] = (ScoreColumn){.name = copy};
    *out = &f->column[f->n++];
    return ST_OK;
}

Status score_add(ScoreFile *f, ScoreColumn *c, const char *name, size_t len, int matrix, double value, Error *err)
{
    if (len == 0 || len > NAME_MAX_BYTES || memchr(name, 0, len))
        return error_set(err, ST_DATA, "a score without a name, or with one of more than %d bytes", NAME_MAX_BYTES);
    char *key = arena_alloc(&f->made, len + 16);
    bool added = false;
    if (!key || !mem_grow(&c->score, &c->cap, c->n + 1, sizeof *c->score))
        return error_nomem(err, "the scores");
    memcpy(key, name, len);
    key[len] = '\0';
    size_t all = len + 1 + (size_t)snprintf(key + len + 1, 15, "%d", matrix);
    if (!map_add(&c->seen, key, all, 0, &added))
        return error_nomem(err, "the scores");
    if (!added) {
        key[text_fit_terminal(key, len, false)] = '\0';
        return error_set(err, ST_DATA, "'%.100s' is there twice", key);
    }
    c->score[c->n++] = (FileScore){key, matrix, value};
    return ST_OK;
}

bool score_number(const char *text, double *out)
{
    char *end;
    while (*text == ' ' || *text == '\t')
        text++;
    if (!strchr("+-.0123456789nNiI", *text) || strpbrk(text, "xXpP"))
        return false;
    *out = strtod(text, &end);
    while (*end == ' ' || *end == '\t')
        end++;
    return end != text && *end == '\0';
}

/* ---- the log of msModelSlim's analyze ----
 * "=== Layer Analysis Results (std method) ===" and lines "  1. NAME   | Score:   1.4911e+01" behind it, behind what a logger
 * writes before each. Ours prints the same without a logger. */

static const char score_mark[] = "| Score:";

/* "…Results (std method)…": the method, which is cut off in place; NULL: another line. */
static char *method_of(char *line)
{
    static const char head[] = "=== Layer Analysis Results (";
    char *at = strstr(line, head), *end = at ? strstr(at, " method)") : NULL;
    if (!end)
        return NULL;
    *end = '\0';
    return at + strlen(head);
}

static Status read_score_line(ScoreFile *f, char *line, char *mark, ScoreColumn *c, Error *err)
{
    char *end = mark, *value = mark + strlen(score_mark);
    double v;
    while (end > line && end[-1] == ' ')
        end--;
    char *name = end;
    while (name > line && name[-1] != ' ')
        name--;
    value += strspn(value, " ");
    value[strcspn(value, " |\r")] = '\0'; /* further numbers of ours follow */
    if (name == end || !score_number(value, &v))
        return error_set(err, ST_DATA, "a line with '%s' has no name or no number", score_mark);
    return score_add(f, c, name, (size_t)(end - name), -1, v, err);
}

static Status read_log(char *text, size_t len, const Model *m, ScoreFile *f, Error *err)
{
    ScoreColumn *c = NULL;
    (void)len, (void)m;
    for (char *line = text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        char *method = method_of(line), *mark = strstr(line, score_mark);
        if (method)
            RETURN_IF_ERROR(score_column(f, method, &c, err));
        else if (mark && !c)
            return error_set(err, ST_DATA, "scores stand before the line that names their metric");
        else if (mark)
            RETURN_IF_ERROR(read_score_line(f, line, mark, c, err));
    }
    return ST_OK;
}

/* ---- JSON ----
 * Ours ({"metric", "layers": [{"name", "score"}]}, several under "runs"; also "layer_scores" and "scores"), a list of such
 * objects, or {NAME: NUMBER}. */

static double number_of(const cJSON *v)
{
    double d;
    if (cJSON_IsNumber(v))
        return v->valuedouble;
    return cJSON_IsString(v) && score_number(v->valuestring, &d) ? d : NAN;
}

static Status read_rows(ScoreFile *f, const cJSON *rows, const char *metric, Error *err)
{
    ScoreColumn *c;
    const cJSON *row;
    RETURN_IF_ERROR(score_column(f, metric, &c, err));
    cJSON_ArrayForEach(row, rows)
    {
        const cJSON *name = json_get(row, "name"), *score = cJSON_GetObjectItemCaseSensitive(row, "score");
        if (!cJSON_IsObject(row) || !cJSON_IsString(name) || !score)
            return error_set(err, ST_DATA, "an entry is no object with name and score");
        RETURN_IF_ERROR(score_add(f, c, name->valuestring, strlen(name->valuestring), -1, number_of(score), err));
    }
    return ST_OK;
}

static Status read_object(ScoreFile *f, const cJSON *o, Error *err)
{
    static const char *const lists[] = {"layers", "layer_scores", "scores"};
    const cJSON *metric = json_get(o, "metric"), *v;
    ScoreColumn *c;
    for (int i = 0; i < 3; i++)
        if (cJSON_IsArray(json_get(o, lists[i])))
            return read_rows(f, json_get(o, lists[i]), cJSON_IsString(metric) ? metric->valuestring : NULL, err);
    RETURN_IF_ERROR(score_column(f, NULL, &c, err));
    cJSON_ArrayForEach(v, o)
    {
        if (!cJSON_IsNumber(v) && !cJSON_IsNull(v))
            return error_set(err, ST_DATA, "'%.60s' has no number", v->string);
        RETURN_IF_ERROR(score_add(f, c, v->string, strlen(v->string), -1, number_of(v), err));
    }
    return ST_OK;
}

static Status read_json(char *text, size_t len, const Model *m, ScoreFile *f, Error *err)
{
    cJSON *root;
    (void)m;
    RETURN_IF_ERROR(json_parse_loose(text, len, "scores", &root, err));
    const cJSON *runs = json_get(root, "runs"), *run;
    Status st = ST_OK;
    if (cJSON_IsArray(runs)) {
        cJSON_ArrayForEach(run, runs)
            if (st == ST_OK)
                st = read_object(f, run, err);
    } else {
        st = cJSON_IsArray(root)    ? read_rows(f, root, NULL, err)
             : cJSON_IsObject(root) ? read_object(f, root, err)
                                    : error_set(err, ST_DATA, "neither an object nor a list");
    }
    cJSON_Delete(root);
    return st;
}

/* ---- CSV ----
 * A line of names first: one of them "name", "layer", "module" or "tensor"; "score" (with "metric" where there are several, as
 * rank writes it), or every other column whose first value is a number. Without such a line: a name and a number. */

typedef struct CsvPlan {
    int name, score, metric;
    bool whole; /* every number */
} CsvPlan;

static int find_field(const CsvReader *r, const char *const *names)
{
    for (; *names; names++)
        for (size_t i = 0; i < r->n; i++)
            if (strcmp(r->field[i], *names) == 0)
                return (int)i;
    return -1;
}

/* Columns of tables of ours that are no scores. */
static bool is_figure(const char *name)
{
    static const char *const figures[] = {"rank", "bits", "bytes", "parameters", "tokens", NULL};
    for (int i = 0; figures[i]; i++)
        if (strcmp(figures[i], name) == 0)
            return true;
    return false;
}

static Status csv_line(ScoreFile *f, const CsvReader *r, const CsvPlan *p, char *const *head, size_t nhead, Error *err)
{
    if (r->n <= (size_t)p->name)
        return error_set(err, ST_DATA, "line %d has no name", r->line);
    const char *name = r->field[p->name];
    for (size_t i = 0; i < r->n && i < nhead; i++) {
        ScoreColumn *c;
        double v;
        if (p->whole ? (int)i == p->name || is_figure(head[i]) : (int)i != p->score)
            continue;
        bool empty = !r->field[i][0];
        if (!empty && !score_number(r->field[i], &v)) {
            if (p->whole)
                continue;
            return error_set(err, ST_DATA, "line %d has no number for its score", r->line);
        }
        const char *metric = p->whole ? head[i] : p->metric >= 0 && (size_t)p->metric < r->n ? r->field[p->metric] : NULL;
        RETURN_IF_ERROR(score_column(f, metric, &c, err));
        RETURN_IF_ERROR(score_add(f, c, name, strlen(name), -1, empty ? NAN : v, err));
    }
    return ST_OK;
}

static char separator(const char *text)
{
    size_t line = strcspn(text, "\n");
    if (memchr(text, ',', line))
        return ',';
    return memchr(text, '\t', line) ? '\t' : memchr(text, ';', line) ? ';' : ',';
}

/* What the first record says of the others; *data: it is one of them itself. */
static Status csv_plan(const CsvReader *r, CsvPlan *p, bool *data, Error *err)
{
    static const char *const names[] = {"name", "layer", "module", "tensor", NULL}, *const scores[] = {"score", NULL},
                      *const metrics[] = {"metric", NULL};
    double v;
    *p = (CsvPlan){find_field(r, names), find_field(r, scores), find_field(r, metrics), false};
    *data = false;
    if (p->name >= 0) {
        p->whole = p->score < 0;
        return ST_OK;
    }
    if (r->n != 2 || !score_number(r->field[1], &v))
        return error_set(err, ST_DATA, "no table of scores: no column is called name, and the first line isn't a name and a number");
    *p = (CsvPlan){0, 1, -1, false};
    *data = true;
    return ST_OK;
}

static Status read_csv(char *text, size_t len, const Model *m, ScoreFile *f, Error *err)
{
    CsvReader r = {.at = text, .end = text + len, .sep = separator(text)};
    CsvPlan p = {0};
    bool got, data = false;
    char **head = NULL;
    (void)m;
    Status st = csv_next(&r, &got, err);
    if (st == ST_OK && !got)
        st = error_set(err, ST_DATA, "nothing is in it");
    if (st == ST_OK)
        st = csv_plan(&r, &p, &data, err);
    size_t nhead = r.n;
    if (st == ST_OK && !(head = mem_array(nhead + 1, sizeof *head)))
        st = error_nomem(err, "the scores");
    if (st == ST_OK)
        memcpy(head, r.field, nhead * sizeof *head);
    while (st == ST_OK) {
        if (data)
            st = csv_line(f, &r, &p, head, nhead, err);
        data = true;
        if (st == ST_OK)
            st = csv_next(&r, &got, err);
        if (st != ST_OK || !got)
            break;
    }
    free(head);
    csv_fini(&r);
    return st;
}

/* ---- which ---- */

static bool looks_gguf(const char *text, size_t len, const char *path)
{
    (void)path;
    return len >= 4 && memcmp(text, "GGUF", 4) == 0;
}

/* Binary files of llama.cpp begin with a number of entries, which has a zero byte. */
static bool looks_dat(const char *text, size_t len, const char *path)
{
    return memchr(text, 0, len < 4096 ? len : 4096) || str_ends_with(path, ".dat") || str_ends_with(path, ".imatrix");
}

static bool looks_json(const char *text, size_t len, const char *path)
{
    (void)len, (void)path;
    text += strspn(text, " \t\r\n");
    return *text == '{' || *text == '[';
}

static bool looks_log(const char *text, size_t len, const char *path)
{
    (void)len, (void)path;
    return strstr(text, score_mark) != NULL;
}

static bool looks_csv(const char *text, size_t len, const char *path)
{
    (void)text, (void)len, (void)path;
    return true;
}

static const struct {
    const char *kind;
    bool (*looks)(const char *text, size_t len, const char *path);
    ScoreReader *read;
} readers[] = {
    {"an imatrix of llama.cpp", looks_gguf, score_read_gguf}, {"an imatrix of llama.cpp", looks_dat, score_read_dat},
    {"JSON", looks_json, read_json},                          {"a log of msModelSlim", looks_log, read_log},
    {"CSV", looks_csv, read_csv},
};

Status score_file_read(char *text, size_t len, const char *path, const Model *m, ScoreFile *out, Error *err)
{
    size_t k = 0, scores = 0;
    Error why = {0};
    *out = (ScoreFile){0};
    while (!readers[k].looks(text, len, path))
        k++;
    out->kind = readers[k].kind;
    Status st = readers[k].read(text, len, m, out, &why);
    for (size_t i = 0; i < out->n; i++)
        scores += out->column[i].n;
    if (st == ST_OK && scores == 0)
        st = error_set(&why, ST_DATA, "no scores are in it");
    if (st == ST_OK)
        return ST_OK;
    return error_set(err, st, "'%s' can't be read as %s: %s", path_base(path), out->kind, why.text);
}
