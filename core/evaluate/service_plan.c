#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "base/mem.h"
#include "evaluate/http.h"
#include "evaluate/precheck.h"
#include "evaluate/service.h"
#include "evaluate/task.h"
#include "save/pyjson.h"

/* The keys of a plan's `evaluation` of type service_oriented, their rules, and the settings they come to. */

enum { NAME_MAX_CHARACTERS = 200, HEALTH_MAX = 1000 };
static const double request_timeout = 300;

bool service_word(const char *s)
{
    if (!*s)
        return false;
    for (; *s; s++)
        if (!ascii_is_alnum(*s) && !strchr("_-./{}:\",", *s))
            return false;
    return true;
}

/* A scalar as Python's str() has it. */
static void put_scalar(const YamlNode *v, Str *out)
{
    if (v->kind == YAML_BOOL)
        str_puts(out, v->b ? "True" : "False");
    else if (v->kind == YAML_NULL)
        str_puts(out, "None");
    else if (v->kind == YAML_INT)
        str_printf(out, "%lld", (long long)v->i);
    else if (v->kind == YAML_FLOAT)
        pyjson_double(out, v->f);
    else
        str_puts(out, v->text);
}

static void put_compact(const YamlNode *v, Str *out)
{
    bool map = v->kind == YAML_MAP;
    if (map || v->kind == YAML_SEQ) {
        str_putc(out, map ? '{' : '[');
        for (int i = 0; i < v->count; i++) {
            str_puts(out, i ? "," : "");
            if (map) {
                const char *key = v->keys[i]->text ? v->keys[i]->text : "null";
                pyjson_string(out, key, strlen(key));
                str_putc(out, ':');
            }
            put_compact(map ? v->vals[i] : v->items[i], out);
        }
        str_putc(out, map ? '}' : ']');
    } else if (v->kind == YAML_STR || v->kind == YAML_DATE)
        pyjson_string(out, v->text, v->len);
    else if (v->kind == YAML_BOOL)
        str_puts(out, v->b ? "true" : "false");
    else if (v->kind == YAML_NULL)
        str_puts(out, "null");
    else
        put_scalar(v, out);
}

void service_value(const YamlNode *v, Str *out)
{
    if (v->kind == YAML_MAP)
        put_compact(v, out);
    else
        put_scalar(v, out);
}

/* ---- rules of single values ---- */

static void check_host(Check *c, const YamlNode *v, const Field *f)
{
    (void)f;
    if (v->kind != YAML_STR) {
        check_fail(c, v, "must be text, not %s", yaml_kind_name(v->kind));
        return;
    }
    HostKind kind = host_kind(v->text);
    if (kind == HOST_PUBLIC)
        check_fail(
            c, v, "'%.80s' is a public address: only localhost and loopback, private or link-local addresses are asked",
            v->text);
    else if (kind == HOST_BAD)
        check_fail(c, v, "'%.80s' is no host name and no address", v->text);
}

static void check_health(Check *c, const YamlNode *v, const Field *f)
{
    (void)f;
    bool fine =
        v->kind == YAML_STR && v->text[0] == '/' && v->text[1] != '/' && v->len <= HEALTH_MAX && !strstr(v->text, "..");
    for (const char *p = fine ? v->text : ""; *p; p++)
        fine = fine && (ascii_is_alnum(*p) || strchr("_-/", *p));
    if (!fine)
        check_fail(c, v, "must be a path: one / at its beginning, then letters, digits, _, - and /");
}

/* The word that a value becomes. */
static void check_value_word(Check *c, const YamlNode *v)
{
    Str word = {0};
    service_value(v, &word);
    if (!service_word(str_text(&word)))
        check_fail(c, v, "'%.80s' has a character other than letters, digits and _-./{}:\",", str_text(&word));
    str_free(&word);
}

static void check_server_word(Check *c, const YamlNode *v, const Field *f)
{
    (void)f;
    if (v->kind != YAML_STR)
        check_fail(c, v, "must be text, not %s", yaml_kind_name(v->kind));
    else
        check_value_word(c, v);
}

/* What goes into a file of Python as a name. */
static void check_identifier(Check *c, const YamlNode *v, const Field *f)
{
    (void)f;
    const char *s = v->kind == YAML_STR ? v->text : "1";
    bool fine = !ascii_is_digit(*s);
    for (; *s && fine; s++)
        fine = ascii_is_alnum(*s) || *s == '_';
    if (!fine)
        check_fail(c, v, "must be a name of letters, digits and _, not %s",
                   v->text ? v->text : yaml_kind_name(v->kind));
}

/* Option names and values of the server's command line. */
static void check_args(Check *c, const YamlNode *v, const Field *f)
{
    (void)f;
    if (v->kind != YAML_MAP) {
        check_fail(c, v, "must be a mapping, not %s", yaml_kind_name(v->kind));
        return;
    }
    for (int i = 0; i < v->count; i++) {
        const char *key = v->keys[i]->text ? v->keys[i]->text : "";
        const YamlNode *value = v->vals[i];
        size_t was = check_push(c, key);
        if (!*key || key[strspn(key, "-_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")])
            check_fail(c, v->keys[i], "is no option name: letters, digits, - and _");
        if (value->kind == YAML_SEQ)
            check_fail(c, value, "must be text, a number, true, false or a mapping, not a list");
        else if (value->kind != YAML_NULL && value->kind != YAML_BOOL)
            check_value_word(c, value);
        check_pop(c, was);
    }
}

static void check_env(Check *c, const YamlNode *v, const Field *f)
{
    (void)f;
    if (v->kind != YAML_MAP)
        check_fail(c, v, "must be a mapping, not %s", yaml_kind_name(v->kind));
    for (int i = 0; v->kind == YAML_MAP && i < v->count; i++) {
        const char *key = v->keys[i]->text ? v->keys[i]->text : "";
        size_t was = check_push(c, key);
        if (!*key || strchr(key, '='))
            check_fail(c, v->keys[i], "is no name of a variable");
        if (v->vals[i]->kind == YAML_SEQ || v->vals[i]->kind == YAML_MAP)
            check_fail(c, v->vals[i], "must be text, a number, true or false, not a %s",
                       yaml_kind_name(v->vals[i]->kind));
        check_pop(c, was);
    }
}

/* ---- prechecks ---- */

static const char *const precheck_types[] = {"expected_answer", "garbled_text", NULL};
enum { PRECHECK_EXPECTED, PRECHECK_GARBLED };

static const Field question_expected_fields[] = {
    {.key = "message", .type = F_STR, .required = true},
    {.key = "expected_answer", .type = F_ANY, .required = true},
    FIELD_END,
};
static const Object question_expected = {.fields = question_expected_fields};

/* A text, or a list of texts. */
static void check_answer(Check *c, const YamlNode *v)
{
    if (v->kind != YAML_STR && v->kind != YAML_SEQ)
        check_fail(c, v, "must be text or a list of texts, not %s%s", yaml_kind_name(v->kind),
                   v->kind < YAML_STR ? ": quote it" : "");
    for (int i = 0; v->kind == YAML_SEQ && i < v->count; i++)
        if (v->items[i]->kind != YAML_STR)
            check_fail(c, v->items[i], "must be text, not %s%s", yaml_kind_name(v->items[i]->kind),
                       v->items[i]->kind < YAML_STR ? ": quote it" : "");
}

/* {question: answer}, or {message, expected_answer}. */
static void check_expected_case(Check *c, const YamlNode *item)
{
    bool pair = item->kind == YAML_MAP && item->count == 1 && item->keys[0]->kind == YAML_STR;
    if (!pair)
        check_object(c, item, &question_expected);
    const YamlNode *answer = pair ? item->vals[0] : yaml_get(item, "expected_answer");
    if (answer)
        check_answer(c, answer);
}

static void check_item_names(Check *c, const YamlNode *v, const Field *f)
{
    const Field one = {.type = F_ENUM, .words = garbled_names};
    (void)f;
    if (v->kind != YAML_SEQ)
        check_fail(c, v, "must be a list, not %s", yaml_kind_name(v->kind));
    for (int i = 0; v->kind == YAML_SEQ && i < v->count; i++) {
        size_t was = check_push_index(c, i);
        check_value(c, v->items[i], &one);
        check_pop(c, was);
    }
}

static const Field question_garbled_fields[] = {
    {.key = "message", .type = F_STR, .required = true},
    {.key = "items", .type = F_CHECKED, .value = check_item_names, .nullable = true},
    FIELD_END,
};
static const Object question_garbled = {.fields = question_garbled_fields};

static void check_cases(Check *c, const YamlNode *v, bool garbled)
{
    if (v->kind != YAML_SEQ) {
        check_fail(c, v, "must be a list, not %s", yaml_kind_name(v->kind));
        return;
    }
    for (int i = 0; i < v->count; i++) {
        size_t was = check_push_index(c, i);
        if (garbled)
            check_object(c, v->items[i], &question_garbled);
        else
            check_expected_case(c, v->items[i]);
        check_pop(c, was);
    }
}

static void check_precheck_cases(Check *c, const YamlNode *map)
{
    const YamlNode *cases = yaml_get(map, "test_cases"), *type = yaml_get(map, "type");
    size_t was = check_push(c, "test_cases");
    if (cases && cases->kind != YAML_NULL)
        check_cases(c, cases, node_is(type, precheck_types[PRECHECK_GARBLED]));
    check_pop(c, was);
}

static const Field precheck_fields[] = {
    {.key = "type", .type = F_ENUM, .words = precheck_types, .required = true},
    {.key = "test_cases", .type = F_ANY},
    {.key = "max_tokens", .type = F_INT, .bounded = true, .lo = 1, .hi = 1e9, .absent = "512"},
    {.key = "timeout",
     .type = F_FLOAT,
     .bounded = true,
     .open = true,
     .lo = 0,
     .hi = 1e9,
     .absent = "60",
     .canon = canon_number},
    FIELD_END,
};
static const Object precheck_object = {.fields = precheck_fields, .check = check_precheck_cases};

/* A list, or one mapping. */
static void check_prechecks(Check *c, const YamlNode *v, const Field *f)
{
    const Field list = {.type = F_OBJECTS, .object = &precheck_object};
    (void)f;
    if (v->kind == YAML_MAP)
        check_object(c, v, &precheck_object);
    else
        check_value(c, v, &list);
}

/* ---- the tables ---- */

#define POSITIVE .bounded = true, .open = true, .lo = 0, .hi = 1e12
#define FROM_ZERO .bounded = true, .lo = 0, .hi = 1e12
#define COUNT .bounded = true, .lo = 1, .hi = 1e12
#define FIELD_ENDPOINT                                                                           \
    {.key = "host", .type = F_CHECKED, .value = check_host, .absent = "\"localhost\""},          \
        {.key = "port", .type = F_INT, .bounded = true, .lo = 1, .hi = 65535, .absent = "1234"}, \
        {.key = "served_model_name",                                                             \
         .type = F_STR,                                                                          \
         .filled = true,                                                                         \
         .longest = NAME_MAX_CHARACTERS,                                                         \
         .absent = "\"served_model_name\""}

static const Field set_fields[] = {
    {.key = "config_name", .type = F_STR, .required = true, .filled = true, .longest = NAME_MAX_CHARACTERS},
    {.key = "mode", .type = F_STR, .absent = "\"\""},
    {.key = "request_rate", .type = F_FLOAT, FROM_ZERO, .absent = "0.0"},
    {.key = "max_out_len", .type = F_INT, COUNT, .nullable = true, .absent = "null"},
    {.key = "returns_tool_calls", .type = F_BOOL, .nullable = true, .absent = "null"},
    {.key = "api_chat_type", .type = F_CHECKED, .value = check_identifier, .absent = "\"VLLMCustomAPIChat\""},
    {.key = "chat_template_kwargs", .type = F_MAP, .absent = "{}"},
    {.key = "extra_args", .type = F_STRINGS, .absent = "[]"},
    FIELD_END,
};
static const Object set_object = {.fields = set_fields};

static const Field meta_fields[] = {
    {.key = "directory", .type = F_STR, .absent = "\"\""},
    {.key = "subdir", .type = F_STR, .absent = "\"vllm_api\""},
    {.key = "base_name", .type = F_STR, .filled = true, .absent = "\"vllm_api_general_chat\""},
    {.key = "name_suffix", .type = F_STR, .absent = "\"auto\""},
    {.key = "abbr", .type = F_STR, .filled = true, .absent = "\"vllm-api-general-chat\""},
    {.key = "attr", .type = F_STR, .absent = "\"service\""},
    FIELD_END,
};
static const Object meta_object = {.fields = meta_fields};

static const char *const binaries[] = {"ais_bench", NULL};
static const Field bench_fields[] = {
    {.key = "binary", .type = F_ENUM, .words = binaries, .absent = "\"ais_bench\""},
    {.key = "mode", .type = F_STR, .filled = true, .absent = "\"all\""},
    {.key = "timeout", .type = F_FLOAT, POSITIVE, .absent = "7200", .canon = canon_number},
    {.key = "cleanup_model_config", .type = F_BOOL, .absent = "true"},
    {.key = "request_rate", .type = F_FLOAT, POSITIVE, .absent = "1.0"},
    {.key = "pred_postprocessor",
     .type = F_CHECKED,
     .value = check_identifier,
     .nullable = true,
     .absent = "\"extract_non_reasoning_content\""},
    {.key = "retry", .type = F_INT, FROM_ZERO, .absent = "2"},
    {.key = "batch_size", .type = F_INT, COUNT, .absent = "1"},
    {.key = "max_out_len", .type = F_INT, COUNT, .absent = "512"},
    {.key = "trust_remote_code", .type = F_BOOL, .absent = "false"},
    {.key = "generation_kwargs", .type = F_MAP, .absent = "{}"},
    {.key = "extra_args", .type = F_STRINGS, .absent = "[]"},
    {.key = "log_dir", .type = F_STR, .absent = "\"\""},
    {.key = "model_meta", .type = F_OBJECT, .object = &meta_object, .absent = "{}"},
    FIELD_END,
};
static const Object bench_object = {.fields = bench_fields};

static const char *const bench_types[] = {"aisbench", NULL};
static const Field config_fields[] = {
    {.key = "type", .type = F_ENUM, .words = bench_types, .absent = "\"aisbench\""},
    FIELD_ENDPOINT,
    {.key = "datasets", .type = F_MAP, .object = &set_object, .absent = "{}"},
    {.key = "aisbench", .type = F_OBJECT, .object = &bench_object, .absent = "{}"},
    {.key = "precheck", .type = F_CHECKED, .value = check_prechecks, .absent = "[]"},
    {.key = "tasks", .type = F_MAP, .object = &task_set_object, .ours = true},
    {.key = "request_timeout", .type = F_FLOAT, POSITIVE, .ours = true},
    FIELD_END,
};
static const Object config_object = {.fields = config_fields};

static const char *const engine_types[] = {"vllm-ascend", NULL};
static const Field engine_fields[] = {
    {.key = "type", .type = F_ENUM, .words = engine_types, .required = true},
    {.key = "entrypoint",
     .type = F_CHECKED,
     .value = check_server_word,
     .absent = "\"vllm.entrypoints.openai.api_server\""},
    {.key = "env_vars", .type = F_CHECKED, .value = check_env, .absent = "{}"},
    FIELD_ENDPOINT,
    {.key = "health_check_endpoint", .type = F_CHECKED, .value = check_health, .absent = "\"/v1/models\""},
    {.key = "startup_timeout", .type = F_FLOAT, POSITIVE, .absent = "600", .canon = canon_number},
    {.key = "args", .type = F_CHECKED, .value = check_args, .absent = "{}"},
    FIELD_END,
};
static const Object engine_object = {.fields = engine_fields};

/* ---- what the tables can't say ---- */

/* The value of a key, or what stands for it when it is absent, as text. */
static const char *value_text(const YamlNode *map, const Field *fields, const char *key, char *buf, size_t size)
{
    const YamlNode *v = map ? yaml_get(map, key) : NULL;
    if (v)
        return v->text && v->kind != YAML_NULL ? v->text : "";
    const Field *f = fields;
    while (strcmp(f->key, key) != 0)
        f++;
    size_t n = strlen(f->absent), cut = f->absent[0] == '"';
    snprintf(buf, size, "%.*s", (int)(n - 2 * cut), f->absent + cut);
    return strcmp(buf, "null") == 0 ? "" : buf;
}

static bool loopback(const char *host)
{
    return ascii_casecmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0;
}

static bool same_place(const char *key, const char *asked, const char *serves)
{
    bool everywhere = strcmp(serves, "0.0.0.0") == 0 || strcmp(serves, "::") == 0;
    return ascii_casecmp(asked, serves) == 0 ||
           (strcmp(key, "host") == 0 && (everywhere || (loopback(asked) && loopback(serves))));
}

/* What is asked has to be what was started: the peer lets them differ, and then asks somebody else. */
static void check_same(Check *c, const YamlNode *config, const YamlNode *engine)
{
    static const char *const keys[] = {"host", "port", "served_model_name"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char a[NAME_MAX_CHARACTERS], b[NAME_MAX_CHARACTERS];
        const char *asked = value_text(config, config_fields, keys[i], a, sizeof a);
        const char *serves = value_text(engine, engine_fields, keys[i], b, sizeof b);
        if (same_place(keys[i], asked, serves))
            continue;
        const YamlNode *at = yaml_get(config, keys[i]);
        size_t was = check_push(c, "evaluation");
        check_push(c, keys[i]);
        check_fail(c, at ? at : config, "is %.80s, but inference_engine's is %.80s: they have to be the same", asked,
                   serves);
        check_pop(c, was);
    }
}

/* The names of the configured data sets: "; there are a, b", or nothing. */
static void list_keys(const YamlNode *const *maps, int n, char *text, size_t size)
{
    size_t len = 0;
    text[0] = '\0';
    for (int m = 0; m < n; m++)
        for (int k = 0; maps[m] && k < maps[m]->count && len < size; k++)
            len += (size_t)snprintf(text + len, size - len, "%s%.40s", len ? ", " : "; there are ",
                                    maps[m]->keys[k]->text);
}

/* Every data set that is expected has to be configured, once. */
static void check_sets(Check *c, const YamlNode *demand, const YamlNode *sets, const YamlNode *tasks)
{
    const YamlNode *list = yaml_get(demand, "expectations"), *const maps[] = {sets, tasks};
    size_t was = check_push(c, "demand");
    check_push(c, "expectations");
    for (int i = 0; list && list->kind == YAML_SEQ && i < list->count; i++) {
        const YamlNode *name = yaml_get(list->items[i], "dataset"), *most = yaml_get(list->items[i], "at_most");
        bool text = name && name->kind == YAML_STR;
        size_t at = check_push_index(c, i);
        if (most)
            check_fail(c, most, "a benchmark gives accuracies, which are demanded by target and tolerance");
        check_push(c, "dataset");
        char keys[300];
        list_keys(maps, 2, keys, sizeof keys);
        if (text && !yaml_get(sets, name->text) && !yaml_get(tasks, name->text))
            check_fail(c, name, "'%.80s' is none of evaluation.evaluation.datasets%s", name->text, keys);
        else if (text && yaml_get(sets, name->text) && yaml_get(tasks, name->text))
            check_fail(c, name, "'%.80s' is in datasets and in tasks", name->text);
        check_pop(c, at);
    }
    check_pop(c, was);
}

/* The likelihood of a text is told of plain ones only. */
static void check_tasks(Check *c, const YamlNode *tasks)
{
    size_t was = check_push(c, "evaluation");
    check_push(c, "tasks");
    for (int i = 0; tasks && tasks->kind == YAML_MAP && i < tasks->count; i++) {
        const YamlNode *on = yaml_get(tasks->vals[i], "template");
        bool chat = false;
        size_t at = check_push(c, tasks->keys[i]->text ? tasks->keys[i]->text : "?");
        check_push(c, "template");
        if (on && lax_bool(on, &chat) && chat && node_is(yaml_get(tasks->vals[i], "kind"), "choice"))
            check_fail(c, on,
                       "a server tells the likelihood of plain texts only: leave template out, or take kind exact");
        check_pop(c, at);
    }
    check_pop(c, was);
}

static void check_service(Check *c, const YamlNode *map)
{
    const YamlNode *demand = yaml_get(map, "demand"), *config = yaml_get(map, "evaluation");
    const YamlNode *engine = yaml_get(map, "inference_engine"), *sets = NULL;
    bool maps = config && config->kind == YAML_MAP;
    if (maps && (sets = yaml_get(config, "datasets")) && sets->kind != YAML_MAP)
        return;
    if (maps && demand && demand->kind == YAML_MAP)
        check_sets(c, demand, sets, yaml_get(config, "tasks"));
    if (maps)
        check_tasks(c, yaml_get(config, "tasks"));
    if (maps && engine && engine->kind == YAML_MAP && !check_peer(c))
        check_same(c, config, engine);
}

static const Field service_fields[] = {
    FIELD_EVALUATION,
    {.key = "evaluation", .type = F_OBJECT, .object = &config_object, .required = true},
    {.key = "inference_engine", .type = F_OBJECT, .object = &engine_object, .required = true},
    FIELD_END,
};
const Object service_object = {.fields = service_fields, .check = check_service};

/* ---- settings ---- */

/* A mapping that is being read by its table; what an absent key stands for is kept in the arena. */
typedef struct Reader {
    Arena *a;
    const YamlNode *map; /* NULL: every key is absent */
    const Field *fields;
    bool oom;
} Reader;

static const char *read_text(Reader *r, const char *key)
{
    char buf[NAME_MAX_CHARACTERS];
    const char *text = value_text(r->map, r->fields, key, buf, sizeof buf);
    if (text == buf && !(text = arena_strdup(r->a, buf)))
        r->oom = true;
    return text ? text : "";
}

static double read_number(Reader *r, const char *key)
{
    char buf[NAME_MAX_CHARACTERS];
    const YamlNode *v = r->map ? yaml_get(r->map, key) : NULL;
    double x = 0;
    if (!v || !lax_float(v, &x))
        x = strtod(value_text(r->map, r->fields, key, buf, sizeof buf), NULL);
    return x;
}

static bool read_bool(Reader *r, const char *key)
{
    char buf[NAME_MAX_CHARACTERS];
    const YamlNode *v = r->map ? yaml_get(r->map, key) : NULL;
    bool b = false;
    if (!v || !lax_bool(v, &b))
        b = strcmp(value_text(r->map, r->fields, key, buf, sizeof buf), "true") == 0;
    return b;
}

static const YamlNode *read_node(const Reader *r, const char *key, YamlKind kind)
{
    const YamlNode *v = r->map ? yaml_get(r->map, key) : NULL;
    return v && v->kind == kind ? v : NULL;
}

static const char *const *read_texts(Reader *r, const char *key, int *n)
{
    const char *const *list = texts_read(r->a, read_node(r, key, YAML_SEQ), n);
    r->oom = r->oom || !list;
    return list;
}

static Endpoint read_endpoint(Reader *r)
{
    return (Endpoint){
        .host = read_text(r, "host"), .port = (int)read_number(r, "port"), .served = read_text(r, "served_model_name")};
}

static void read_engine(Reader *r, Engine *e)
{
    *e = (Engine){
        .at = read_endpoint(r),
        .entrypoint = read_text(r, "entrypoint"),
        .health = read_text(r, "health_check_endpoint"),
        .env = read_node(r, "env_vars", YAML_MAP),
        .args = read_node(r, "args", YAML_MAP),
        .startup = read_number(r, "startup_timeout"),
    };
}

static void read_bench(Reader *r, Bench *b)
{
    Reader meta = {.a = r->a, .map = read_node(r, "model_meta", YAML_MAP), .fields = meta_fields};
    *b = (Bench){
        .binary = read_text(r, "binary"),
        .mode = read_text(r, "mode"),
        .log_dir = read_text(r, "log_dir"),
        .postprocessor = read_text(r, "pred_postprocessor"),
        .directory = read_text(&meta, "directory"),
        .subdir = read_text(&meta, "subdir"),
        .base_name = read_text(&meta, "base_name"),
        .name_suffix = read_text(&meta, "name_suffix"),
        .abbr = read_text(&meta, "abbr"),
        .attr = read_text(&meta, "attr"),
        .timeout = read_number(r, "timeout"),
        .request_rate = read_number(r, "request_rate"),
        .retry = (int64_t)read_number(r, "retry"),
        .batch_size = (int64_t)read_number(r, "batch_size"),
        .max_out_len = (int64_t)read_number(r, "max_out_len"),
        .cleanup = read_bool(r, "cleanup_model_config"),
        .trust_remote_code = read_bool(r, "trust_remote_code"),
        .generation_kwargs = read_node(r, "generation_kwargs", YAML_MAP),
    };
    b->extra_args = read_texts(r, "extra_args", &b->nextra);
    r->oom = r->oom || meta.oom;
}

static void read_set(Reader *r, const char *key, BenchSet *s)
{
    *s = (BenchSet){
        .key = key,
        .config_name = read_text(r, "config_name"),
        .mode = read_text(r, "mode"),
        .api_chat_type = read_text(r, "api_chat_type"),
        .request_rate = read_number(r, "request_rate"),
        .max_out_len = (int64_t)read_number(r, "max_out_len"),
        .returns_tool_calls = yaml_get(r->map, "returns_tool_calls"),
        .chat_template_kwargs = read_node(r, "chat_template_kwargs", YAML_MAP),
    };
    if (s->returns_tool_calls && s->returns_tool_calls->kind == YAML_NULL)
        s->returns_tool_calls = NULL;
    s->extra_args = read_texts(r, "extra_args", &s->nextra);
}

/* The texts of an answer: one, or a list. */
static bool read_answers(Arena *a, const YamlNode *v, Question *q)
{
    const char **one = arena_alloc(a, sizeof *one);
    if (one)
        *one = v->text;
    q->answers = v->kind == YAML_SEQ ? texts_read(a, v, &q->nanswers) : one;
    if (v->kind != YAML_SEQ)
        q->nanswers = 1;
    return q->answers != NULL && one;
}

static unsigned read_items(const YamlNode *list)
{
    unsigned items = 0;
    if (!list || list->kind != YAML_SEQ)
        return GARBLED_ALL;
    for (int i = 0; i < list->count; i++)
        for (int k = 0; k < GARBLED_ITEMS; k++)
            items |= node_is(list->items[i], garbled_names[k]) ? 1u << k : 0;
    return items;
}

static bool read_question(Arena *a, const YamlNode *item, bool garbled, Question *q)
{
    const YamlNode *message = yaml_get(item, "message");
    if (garbled) {
        *q = (Question){.message = message->text, .items = read_items(yaml_get(item, "items"))};
        return true;
    }
    bool pair = item->count == 1;
    *q = (Question){.message = pair ? item->keys[0]->text : message->text};
    return read_answers(a, pair ? item->vals[0] : yaml_get(item, "expected_answer"), q);
}

static const char *const default_answer[] = {"4"};
static const Question default_questions[] = {
    [PRECHECK_EXPECTED] = {.message = "What is 2+2?", .answers = default_answer, .nanswers = 1},
    [PRECHECK_GARBLED] = {.message = "How are you?", .items = GARBLED_ALL},
};

static bool read_precheck(Arena *a, const YamlNode *map, Precheck *p)
{
    Reader r = {.a = a, .map = map, .fields = precheck_fields};
    bool garbled = node_is(yaml_get(map, "type"), precheck_types[PRECHECK_GARBLED]);
    const YamlNode *cases = yaml_get(map, "test_cases");
    *p = (Precheck){.garbled = garbled,
                    .max_tokens = (int64_t)read_number(&r, "max_tokens"),
                    .timeout = read_number(&r, "timeout"),
                    .question = &default_questions[garbled],
                    .n = 1,
                    .omitted = garbled && !cases};
    if (!cases || cases->kind != YAML_SEQ)
        return true;
    Question *q = arena_alloc(a, (size_t)(cases->count + 1) * sizeof *q);
    bool fine = q != NULL;
    for (int i = 0; i < cases->count && fine; i++)
        fine = read_question(a, cases->items[i], garbled, &q[i]);
    p->question = q;
    p->n = cases->count;
    return fine;
}

static bool read_prechecks(Arena *a, const YamlNode *v, Service *s)
{
    s->nprechecks = !v ? 0 : v->kind == YAML_MAP ? 1 : v->count;
    Precheck *p = arena_alloc(a, (size_t)(s->nprechecks + 1) * sizeof *p);
    bool fine = p != NULL;
    for (int i = 0; i < s->nprechecks && fine; i++)
        fine = read_precheck(a, v->kind == YAML_MAP ? v : v->items[i], &p[i]);
    s->precheck = p;
    return fine;
}

static bool read_tasks(Arena *a, const YamlNode *config, Service *s)
{
    const YamlNode *tasks = yaml_get(config, "tasks"), *timeout = yaml_get(config, "request_timeout");
    int n = tasks ? tasks->count : 0;
    TaskSet *set = arena_alloc(a, (size_t)(n + 1) * sizeof *set);
    bool fine = set != NULL;
    for (int i = 0; i < n && fine; i++)
        fine = task_set_read(a, tasks->keys[i]->text, tasks->vals[i], &set[i]);
    s->task = set;
    s->ntasks = n;
    s->request_timeout = request_timeout;
    if (timeout)
        lax_float(timeout, &s->request_timeout);
    return fine;
}

const void *service_settings(Arena *a, const YamlNode *map)
{
    Service *s = arena_alloc(a, sizeof *s);
    const YamlNode *config = yaml_get(map, "evaluation"), *sets = yaml_get(config, "datasets");
    Reader r = {.a = a, .map = config, .fields = config_fields};
    Reader engine = {.a = a, .map = yaml_get(map, "inference_engine"), .fields = engine_fields};
    Reader bench = {.a = a, .map = yaml_get(config, "aisbench"), .fields = bench_fields};
    int n = sets ? sets->count : 0;
    BenchSet *set = arena_alloc(a, (size_t)(n + 1) * sizeof *set);
    if (!s || !set)
        return NULL;
    *s = (Service){.at = read_endpoint(&r), .set = set, .nsets = n};
    read_engine(&engine, &s->engine);
    read_bench(&bench, &s->bench);
    for (int i = 0; i < n && !r.oom; i++) {
        Reader one = {.a = a, .map = sets->vals[i], .fields = set_fields};
        read_set(&one, sets->keys[i]->text, &set[i]);
        r.oom = one.oom;
    }
    bool fine = read_prechecks(a, yaml_get(config, "precheck"), s) && read_tasks(a, config, s);
    return fine && !r.oom && !engine.oom && !bench.oom ? s : NULL;
}

const BenchSet *service_set(const Service *s, const char *key)
{
    for (int i = 0; i < s->nsets; i++)
        if (strcmp(s->set[i].key, key) == 0)
            return &s->set[i];
    return NULL;
}

const TaskSet *service_task(const Service *s, const char *key)
{
    for (int i = 0; i < s->ntasks; i++)
        if (strcmp(s->task[i].name, key) == 0)
            return &s->task[i];
    return NULL;
}
