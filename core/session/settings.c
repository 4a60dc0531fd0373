/* What says how runs compute, and how it is written: one row a setting. */
#include "session/settings.h"

#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "base/str.h"
#include "session/budget.h"

enum { TOKENS_MOST = 1000000000 };

static Status parse_count(const char *key, const char *value, int64_t min, int64_t most, int64_t *out, Error *err)
{
    char *end;
    long long v = strtoll(value, &end, 10);
    if (!*value || *end || v < min)
        return error_set(err, ST_USAGE, "%s takes a whole number of at least %lld, not '%s'", key, (long long)min,
                         value);
    if (v > most)
        return error_set(err, ST_USAGE, "%s takes at most %lld, not '%s'", key, (long long)most, value);
    *out = v;
    return ST_OK;
}

bool setting_bytes(const char *text, uint64_t *out)
{
    static const char units[] = "KMGT";
    char *end;
    double v = ascii_is_digit(*text) ? strtod(text, &end) : -1;
    if (!(v >= 0))
        return false;
    const char *u = *end ? strchr(units, *end >= 'a' ? *end - 32 : *end) : NULL;
    if (u) {
        v *= (double)(UINT64_C(1024) << 10 * (u - units));
        end += end[1] == 'i' ? 2 : 1;
    }
    if (*end == 'B' || *end == 'b')
        end++;
    if (*end || !(v < 1e18))
        return false;
    *out = (uint64_t)v;
    return true;
}

static Status set_threads(SessionOptions *o, const char *v, Error *err)
{
    int64_t n = 0;
    RETURN_IF_ERROR(parse_count("threads", v, 0, THREADS_MOST, &n, err));
    o->threads = (int)n;
    return ST_OK;
}

static Status set_mem(SessionOptions *o, const char *v, Error *err)
{
    if (!setting_bytes(v, &o->mem))
        return error_set(err, ST_USAGE, "mem takes a size like 300M or 4G, not '%s'", v);
    return ST_OK;
}

static Status set_dtype_sim(SessionOptions *o, const char *v, Error *err)
{
    ArithMode arith;
    if (!arith_find(v, &arith))
        return error_set(err, ST_USAGE, "dtype-sim is one of " ARITH_WORDS ", not '%s'", v);
    if (o->peer && arith != ARITH_EXACT)
        return error_set(err, ST_USAGE, "compat=peer computes in %s arithmetic: set compat=none first",
                         arith_name(ARITH_EXACT));
    o->arith = arith;
    return ST_OK;
}

static Status set_compat(SessionOptions *o, const char *v, Error *err)
{
    if (strcmp(v, "peer") != 0 && strcmp(v, "none") != 0)
        return error_set(err, ST_USAGE, "compat is peer or none, not '%s'", v);
    o->peer = strcmp(v, "peer") == 0;
    if (o->peer)
        o->arith = ARITH_EXACT;
    return ST_OK;
}

static Status set_max_samples(SessionOptions *o, const char *v, Error *err)
{
    int64_t n = 0;
    RETURN_IF_ERROR(parse_count("max-samples", v, 0, INT32_MAX, &n, err));
    o->max_samples = (int)n;
    return ST_OK;
}

static Status set_seq_len(SessionOptions *o, const char *v, Error *err)
{
    return parse_count("seq-len", v, 0, TOKENS_MOST, &o->seq_len, err);
}

static Status set_ctx(SessionOptions *o, const char *v, Error *err)
{
    return parse_count("ctx", v, 2, TOKENS_MOST, &o->ctx, err);
}

static Status set_eval_tokens(SessionOptions *o, const char *v, Error *err)
{
    return parse_count("eval-tokens", v, 0, TOKENS_MOST, &o->eval_tokens, err);
}

static Status set_tokens(SessionOptions *o, const char *v, Error *err)
{
    return parse_count("tokens", v, 0, TOKENS_MOST, &o->tokens, err);
}

static Status set_seed(SessionOptions *o, const char *v, Error *err)
{
    int64_t n = 0;
    RETURN_IF_ERROR(parse_count("seed", v, 0, INT64_MAX, &n, err));
    o->seed = (uint64_t)n;
    return ST_OK;
}

static Status set_labels(SessionOptions *o, const char *v, Error *err)
{
    if (strcmp(v, "model") != 0 && strcmp(v, "data") != 0)
        return error_set(err, ST_USAGE, "labels is model or data, not '%s'", v);
    o->data_labels = strcmp(v, "data") == 0;
    return ST_OK;
}

static Status set_runtime(SessionOptions *o, const char *v, Error *err)
{
    const Runtime *r = runtime_find(v);
    if (!r && strcmp(v, "none") != 0)
        return error_set(err, ST_USAGE, "runtime is one of " RUNTIME_WORDS "|none, not '%s'", v);
    o->runtime = r;
    return ST_OK;
}

static Status set_budget(SessionOptions *o, const char *v, Error *err)
{
    return budget_parse(v, &o->budget, err);
}

static Status set_session_cap(SessionOptions *o, const char *v, Error *err)
{
    if (!setting_bytes(v, &o->session_cap))
        return error_set(err, ST_USAGE, "session-cap takes a size like 500M or 2G, 0 for no limit, not '%s'", v);
    return ST_OK;
}

static Status set_profile(SessionOptions *o, const char *v, Error *err)
{
    if (strcmp(v, "on") != 0 && strcmp(v, "off") != 0)
        return error_set(err, ST_USAGE, "profile is on or off, not '%s'", v);
    o->profile = strcmp(v, "on") == 0;
    return ST_OK;
}

const Setting setting_table[] = {
    {"threads", set_threads, false},
    {"mem", set_mem, false},
    {"max-samples", set_max_samples, false},
    {"seq-len", set_seq_len, false},
    {"ctx", set_ctx, false},
    {"eval-tokens", set_eval_tokens, false},
    {"tokens", set_tokens, false},
    {"labels", set_labels, false},
    {"dtype-sim", set_dtype_sim, false},
    {"compat", set_compat, false},
    {"seed", set_seed, false},
    {"runtime", set_runtime, true},
    {"budget", set_budget, true},
    {"profile", set_profile, true},
    {"session-cap", set_session_cap, true},
    {.key = NULL},
};

static bool same_key(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if ((*a == '_' ? '-' : *a) != (*b == '_' ? '-' : *b))
            return false;
    return *a == *b;
}

const Setting *setting_find(const char *key, Error *err)
{
    Str names = {0};
    for (const Setting *s = setting_table; s->key; s++) {
        if (same_key(s->key, key)) {
            str_free(&names);
            return s;
        }
        str_printf(&names, "%s%s", s == setting_table ? "" : " ", s->key);
    }
    error_set(err, ST_USAGE, "no setting '%s': there are %s", key, str_text(&names));
    str_free(&names);
    return NULL;
}
