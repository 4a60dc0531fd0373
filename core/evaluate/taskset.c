#include <math.h>
#include <stdio.h>
#include <string.h>

#include "evaluate/outcome.h"
#include "evaluate/task.h"

/* How a plan says that a data set of questions is asked, and what its score comes to. */

enum { TOKENS_DEFAULT = 256 };

static const char *const kinds[] = {[TASK_CHOICE] = "choice", [TASK_EXACT] = "exact", NULL};
static const char *const norms[] = {[NORM_NONE] = "none", [NORM_TOKENS] = "tokens", [NORM_BYTES] = "bytes", NULL};
static const char *const match_words[] = {
    [MATCH_EQUAL] = "equal", [MATCH_CONTAINS] = "contains", [MATCH_NUMBER] = "number", NULL};

static int word_of(const YamlNode *map, const char *key, const char *const *words)
{
    const YamlNode *v = yaml_get(map, key);
    int i = 0;
    while (v && words[i] && !node_is(v, words[i]))
        i++;
    return v && words[i] ? i : 0;
}

static void check_set(Check *c, const YamlNode *map)
{
    static const char *const of_exact[] = {"max_tokens", "match", "extract", "until", "precheck"};
    const YamlNode *extract = yaml_get(map, "extract");
    Error e = {0};
    for (size_t i = 0; i < sizeof of_exact / sizeof *of_exact; i++)
        if (word_of(map, "kind", kinds) == TASK_CHOICE && yaml_get(map, of_exact[i]))
            check_fail(c, map, "%s is of kind exact", of_exact[i]);
    if (word_of(map, "kind", kinds) == TASK_EXACT && yaml_get(map, "normalize"))
        check_fail(c, map, "normalize is of kind choice");
    if (extract && extract->kind == YAML_STR && exact_check(extract->text, &e) != ST_OK)
        check_fail(c, extract, "%s", e.text);
}

static const Field set_fields[] = {
    {.key = "path", .type = F_STR, .required = true, .filled = true},
    {.key = "kind", .type = F_ENUM, .required = true, .words = kinds},
    {.key = "limit", .type = F_INT, .bounded = true, .lo = 1, .hi = 1e9},
    {.key = "template", .type = F_BOOL},
    {.key = "percent", .type = F_BOOL},
    {.key = "base", .type = F_BOOL},
    {.key = "normalize", .type = F_ENUM, .words = norms},
    {.key = "max_tokens", .type = F_INT, .bounded = true, .lo = 1, .hi = 1 << 20},
    {.key = "match", .type = F_ENUM, .words = match_words},
    {.key = "extract", .type = F_STR, .filled = true},
    {.key = "until", .type = F_STRINGS},
    {.key = "precheck", .type = F_BOOL},
    FIELD_END,
};
const Object task_set_object = {.fields = set_fields, .check = check_set};

static bool flag_of(const YamlNode *map, const char *key, bool absent)
{
    const YamlNode *v = yaml_get(map, key);
    bool on = absent;
    if (v)
        lax_bool(v, &on);
    return on;
}

static int64_t number_of(const YamlNode *map, const char *key, int64_t absent)
{
    const YamlNode *v = yaml_get(map, key);
    int64_t n = absent;
    if (v)
        lax_int(v, &n);
    return n;
}

bool task_set_read(Arena *a, const char *name, const YamlNode *map, TaskSet *s)
{
    const YamlNode *extract = yaml_get(map, "extract"), *until = yaml_get(map, "until");
    *s = (TaskSet){.name = name,
                   .path = yaml_get(map, "path")->text,
                   .kind = (TaskKind)word_of(map, "kind", kinds),
                   .limit = number_of(map, "limit", 0),
                   .chat = flag_of(map, "template", false),
                   .norm = (TaskNorm)word_of(map, "normalize", norms),
                   .max_tokens = number_of(map, "max_tokens", TOKENS_DEFAULT),
                   .match = (TaskMatch)word_of(map, "match", match_words),
                   .extract = extract ? extract->text : NULL,
                   .nuntil = -1,
                   .precheck = flag_of(map, "precheck", false),
                   .percent = flag_of(map, "percent", false),
                   .base = flag_of(map, "base", true)};
    if (until)
        s->until = texts_read(a, until, &s->nuntil);
    return !until || s->until;
}

/* ---- scores ---- */

static double deviation(const TaskScore *s)
{
    double p = (double)s->right / (double)s->n;
    return s->n > 1 ? sqrt(p * (1 - p) / (double)(s->n - 1)) : NAN;
}

/* right / n, by six digits behind the point. */
static Decimal share(const TaskSet *set, const TaskScore *s)
{
    Decimal d = {.n = 1};
    double p = (double)s->right / (double)s->n * (set->percent ? 100 : 1);
    char text[40];
    size_t n = (size_t)snprintf(text, sizeof text, set->percent ? "%.4f" : "%.6f", p);
    while (n && text[n - 1] == '0')
        n--;
    n -= n && text[n - 1] == '.';
    decimal_parse(text, n, &d);
    return d;
}

Status task_add_score(const TaskSet *set, const TaskScore *score, const TaskScore *base, EvalResult *r, Error *err)
{
    Accuracy a = {
        .value = share(set, score), .error = deviation(score) * (set->percent ? 100 : 1), .has_base = base != NULL};
    snprintf(a.dataset, sizeof a.dataset, "%s", set->name);
    if (base)
        a.base = share(set, base);
    if (2 * score->garbled > score->n)
        eval_says(r, EVAL_BAD, "%s: %lld of %lld replies are no language (%s)", set->name, (long long)score->garbled,
                  (long long)score->n, score->rule);
    return eval_result_add(r, &a, err);
}
