/* Results as JSON for the journal, and back. Histograms and channel maxima are packed bytes in base64: varints of key
 * deltas and counts; float32 little endian. */
#include "session/record.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "io/json.h"
#include "session/fields.h"

static void put_b64(Str *b, const void *p, size_t n)
{
    str_putc(b, '"');
    base64_put(b, p, n);
    str_putc(b, '"');
}

static unsigned char *get_b64(const char *s, size_t *n)
{
    size_t len = strlen(s);
    unsigned char *out = malloc(len / 4 * 3 + 1);
    if (!out || base64_get(s, len, out, n))
        return out;
    free(out);
    return NULL;
}

static void put_varint(Str *b, uint64_t v)
{
    for (; v >= 128; v >>= 7)
        str_putc(b, (char)(v | 128));
    str_putc(b, (char)v);
}

static bool get_varint(const unsigned char **p, const unsigned char *end, uint64_t *v)
{
    *v = 0;
    for (int shift = 0; *p < end && shift < 64; shift += 7) {
        unsigned char c = *(*p)++;
        *v |= (uint64_t)(c & 127) << shift;
        if (c < 128)
            return true;
    }
    return false;
}

/* Keys are stored in the histogram's own order (by value), so a delta may be negative: zigzag. */
static void put_hist(Str *b, const KeyHist *h)
{
    Str raw = {0};
    put_varint(&raw, h->nan);
    int prev = 0;
    for (int i = 0; i < h->n; i++) {
        int d = (int)h->key[i] - prev;
        put_varint(&raw, d >= 0 ? (uint64_t)d * 2 : (uint64_t)(-d) * 2 - 1);
        put_varint(&raw, h->count[i]);
        prev = h->key[i];
    }
    put_b64(b, str_text(&raw), raw.len);
    str_free(&raw);
}

static Status get_hist(const char *s, KeyHist *h, Error *err)
{
    size_t n;
    unsigned char *raw = get_b64(s, &n);
    if (!raw)
        return error_set(err, ST_DATA, "a histogram in the journal is damaged");
    const unsigned char *p = raw, *end = raw + n;
    memset(h, 0, sizeof *h);
    size_t max = n / 2 + 1;
    h->key = mem_array(max, sizeof *h->key);
    h->count = mem_array(max, sizeof *h->count);
    bool good = h->key && h->count && get_varint(&p, end, &h->nan);
    int key = 0;
    while (good && p < end) {
        uint64_t z, c;
        good = get_varint(&p, end, &z) && get_varint(&p, end, &c) && z < 1u << 18;
        key += good ? (z & 1 ? -(int)((z + 1) / 2) : (int)(z / 2)) : 0;
        good = good && key >= 0 && key < 65536;
        if (good) {
            h->key[h->n] = (uint16_t)key;
            h->count[h->n++] = c;
            h->total += c;
        }
    }
    free(raw);
    if (good)
        return ST_OK;
    keyhist_fini(h);
    return error_set(err, ST_DATA, "a histogram in the journal is damaged");
}

static void put_num(Str *b, const char *key, double v)
{
    if (isfinite(v))
        str_printf(b, ",\"%s\":%.17g", key, v);
    else
        str_printf(b, ",\"%s\":\"%s\"", key, isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
}

static double get_num(const cJSON *o, const char *key)
{
    const cJSON *v = json_get(o, key);
    if (cJSON_IsNumber(v))
        return v->valuedouble;
    if (cJSON_IsString(v))
        return strcmp(v->valuestring, "inf") == 0 ? INFINITY : strcmp(v->valuestring, "-inf") == 0 ? -INFINITY : NAN;
    return NAN;
}

static const struct Field {
    const char *key;
    size_t at;
} fields[] = {
    {"min", offsetof(LinearResult, in.min)},           {"max", offsetof(LinearResult, in.max)},
    {"mean", offsetof(LinearResult, in.mean)},         {"std", offsetof(LinearResult, in.std)},
    {"kurtosis", offsetof(LinearResult, in.kurtosis)}, {"quantile", offsetof(LinearResult, in.quantile)},
    {"sstd", offsetof(LinearResult, in.std_score)},    {"tms", offsetof(LinearResult, in.token_max_sq)},
    {"ms", offsetof(LinearResult, in.mean_sq)},        {"wmin", offsetof(LinearResult, weight.min)},
    {"wmax", offsetof(LinearResult, weight.max)},      {"wmean", offsetof(LinearResult, weight.mean)},
    {"wstd", offsetof(LinearResult, weight.std)},      {"ew8", offsetof(LinearResult, err.weight_err[0])},
    {"ew4", offsetof(LinearResult, err.weight_err[1])}, {"ea0", offsetof(LinearResult, err.act_err[0])},
    {"ea1", offsetof(LinearResult, err.act_err[1])},   {"ea2", offsetof(LinearResult, err.act_err[2])},
    {"ea3", offsetof(LinearResult, err.act_err[3])},   {"ea4", offsetof(LinearResult, err.act_err[4])},
    {"ea5", offsetof(LinearResult, err.act_err[5])},
    {"ysq", offsetof(LinearResult, err.output_sq)},
};
enum { NFIELDS = sizeof fields / sizeof *fields };

/* "eKEY": error, of the errors that were asked for. */
static void put_extras(Str *b, const LocalError *e)
{
    for (int k = 0; k < e->extras; k++) {
        char key[20];
        snprintf(key, sizeof key, "e%016" PRIx64, e->extra[k].key);
        put_num(b, key, e->extra[k].err);
    }
}

static void get_extras(const cJSON *o, LocalError *e)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, o) {
        char *end = NULL;
        if (!v->string || strlen(v->string) != 17 || v->string[0] != 'e' || e->extras == LOCAL_EXTRA)
            continue;
        uint64_t key = strtoull(v->string + 1, &end, 16);
        if (*end)
            continue;
        e->extra[e->extras].key = key;
        e->extra[e->extras++].err = cJSON_IsNumber(v) ? v->valuedouble : NAN;
    }
}

/* Whether two linears saw the same: what reads one input of the model may be given it in different scales. */
static bool same_input(const Model *m, const LinearResult *a, const LinearResult *b)
{
    const KeyHist *h = &a->in.hist, *g = &b->in.hist;
    const float *c = a->in.channel_max, *d = b->in.channel_max;
    if (m->linears[a->linear].input != m->linears[b->linear].input || h->n != g->n || !c != !d ||
        a->in.width != b->in.width)
        return false;
    return (!h->n || (memcmp(h->key, g->key, (size_t)h->n * sizeof *h->key) == 0 &&
                      memcmp(h->count, g->count, (size_t)h->n * sizeof *h->count) == 0)) &&
           (!c || memcmp(c, d, (size_t)a->in.width * sizeof *c) == 0);
}

void record_results(Str *b, const LinearResult *r, int n, const Model *m)
{
    str_putc(b, '[');
    for (int i = 0; i < n; i++, r++) {
        str_printf(b, "%s{\"i\":%lld,\"n\":%lld,\"rows\":%lld,\"w\":%lld,\"s\":%d,\"have\":%s", i ? "," : "",
                   (long long)r->linear, (long long)r->in.values, (long long)r->in.rows, (long long)r->in.width,
                   r->in.samples, r->err.have ? "true" : "false");
        for (int k = 0; k < NFIELDS; k++) {
            double v;
            memcpy(&v, (const char *)r + fields[k].at, sizeof v);
            put_num(b, fields[k].key, v);
        }
        put_extras(b, &r->err);
        if (r->in.bad) {
            str_puts(b, ",\"bad\":");
            str_json(b, r->in.bad_text);
        }
        if (r->weight.bad) {
            str_puts(b, ",\"wbad\":");
            str_json(b, r->weight.bad_text);
        }
        bool own = i == 0 || !same_input(m, r - 1, r); /* shared inputs are stored once */
        if (own && r->in.hist.n) {
            str_puts(b, ",\"h\":");
            put_hist(b, &r->in.hist);
        }
        if (own && r->in.channel_max) {
            str_puts(b, ",\"c\":");
            put_b64(b, r->in.channel_max, (size_t)r->in.width * sizeof(float));
        }
        if (r->weight.hist.n) {
            str_puts(b, ",\"wh\":");
            put_hist(b, &r->weight.hist);
        }
        str_putc(b, '}');
    }
    str_putc(b, ']');
}

static Status get_arrays(const cJSON *o, LinearResult *r, const LinearResult *prev, Error *err)
{
    const cJSON *h = json_get(o, "h"), *c = json_get(o, "c"), *wh = json_get(o, "wh");
    if (cJSON_IsString(h))
        RETURN_IF_ERROR(get_hist(h->valuestring, &r->in.hist, err));
    else if (prev)
        RETURN_IF_ERROR(keyhist_add(&r->in.hist, &prev->in.hist, err));
    if (cJSON_IsString(wh))
        RETURN_IF_ERROR(get_hist(wh->valuestring, &r->weight.hist, err));
    size_t bytes = (size_t)r->in.width * sizeof(float), n = 0;
    if (cJSON_IsString(c)) {
        r->in.channel_max = (float *)(void *)get_b64(c->valuestring, &n);
        if (!r->in.channel_max || n != bytes)
            return error_set(err, ST_DATA, "channel maxima in the journal are damaged");
    } else if (prev && prev->in.channel_max && prev->in.width == r->in.width) {
        r->in.channel_max = mem_array((size_t)r->in.width, sizeof(float));
        if (!r->in.channel_max)
            return error_nomem(err, "restored rows");
        memcpy(r->in.channel_max, prev->in.channel_max, bytes);
    }
    return ST_OK;
}

Status record_parse(const cJSON *rows, const Model *m, LinearResult **out, int *n, Error *err)
{
    int count = cJSON_GetArraySize(rows), done = 0;
    LinearResult *list = mem_zarray((size_t)count, sizeof *list);
    if (!list)
        return error_nomem(err, "restored rows");
    Status st = ST_OK;
    const cJSON *o;
    cJSON_ArrayForEach(o, rows) {
        LinearResult *r = &list[done++];
        r->linear = whole_in(o, "i", 0, m->nlinears - 1, -1);
        r->in.width = whole_in(o, "w", 0, INT32_MAX, -1);
        if (r->linear < 0 || r->in.width < 0) {
            st = error_set(err, ST_DATA, "a row in the journal doesn't fit the model");
            break;
        }
        r->in.values = whole_in(o, "n", 0, INT64_MAX, 0);
        r->in.rows = whole_in(o, "rows", 0, INT64_MAX, 0);
        r->in.samples = (int)whole_in(o, "s", 0, INT32_MAX, 0);
        r->err.have = cJSON_IsTrue(json_get(o, "have"));
        for (int k = 0; k < NFIELDS; k++) {
            double v = get_num(o, fields[k].key);
            memcpy((char *)r + fields[k].at, &v, sizeof v);
        }
        get_extras(o, &r->err);
        const cJSON *bad = json_get(o, "bad"), *wbad = json_get(o, "wbad");
        r->in.bad = cJSON_IsString(bad);
        if (r->in.bad)
            snprintf(r->in.bad_text, sizeof r->in.bad_text, "%s", bad->valuestring);
        r->weight.bad = cJSON_IsString(wbad);
        if (r->weight.bad)
            snprintf(r->weight.bad_text, sizeof r->weight.bad_text, "%s", wbad->valuestring);
        const LinearResult *prev =
            done > 1 && m->linears[r->linear].input == m->linears[r[-1].linear].input ? r - 1 : NULL;
        st = get_arrays(o, r, prev, err);
        if (st != ST_OK)
            break;
    }
    if (st != ST_OK) {
        for (int i = 0; i < done; i++)
            linear_result_fini(&list[i]);
        free(list);
        return st;
    }
    *out = list;
    *n = done;
    return ST_OK;
}

/* ---- values of passes ---- */

void record_scores(Str *b, const PassScore *s, int64_t n)
{
    str_putc(b, '{');
    for (int64_t i = 0; i < n; i++) {
        const UnitScore *u = &s[i].s;
        bool opens = i == 0 || s[i].metric != s[i - 1].metric;
        if (opens) {
            str_puts(b, i ? "]," : "");
            str_json(b, s[i].metric->name);
            str_puts(b, ":[");
        }
        str_printf(b, "%s{\"i\":%lld,\"n\":%lld,\"s\":%d,\"levels\":\"%016" PRIx64 "\"", opens ? "" : ",",
                   (long long)u->unit, (long long)u->tokens, u->samples, u->levels);
        put_num(b, "v", u->value);
        put_num(b, "sum", u->sum);
        for (int k = 0; k < metric_parts(s[i].metric); k++)
            put_num(b, s[i].metric->parts[k].name, u->part[k]);
        if (u->why[0]) {
            str_puts(b, ",\"why\":");
            str_json(b, u->why);
        }
        str_puts(b, u->absent ? ",\"absent\":true}" : "}");
    }
    str_puts(b, n ? "]}" : "}");
}

static Status parse_unit(const cJSON *o, const Metric *m, Scores *to, Error *err)
{
    UnitScore u = {.unit = whole_in(o, "i", 0, scope_units(to->m, m->scope) - 1, -1),
                   .tokens = whole_in(o, "n", 0, INT64_MAX, 0),
                   .samples = (int)whole_in(o, "s", 0, INT32_MAX, 0),
                   .value = get_num(o, "v"),
                   .sum = get_num(o, "sum")};
    const char *levels = text_of(o, "levels"), *why = text_of(o, "why");
    if (u.unit < 0)
        return error_set(err, ST_DATA, "a score in the journal doesn't fit the model");
    for (int k = 0; k < metric_parts(m); k++)
        u.part[k] = get_num(o, m->parts[k].name);
    u.levels = levels ? strtoull(levels, NULL, 16) : 0;
    snprintf(u.why, sizeof u.why, "%s", why ? why : "");
    u.absent = cJSON_IsTrue(json_get(o, "absent"));
    return scores_put(to, m, &u, err);
}

Status record_parse_scores(const cJSON *metrics, Scores *to, Error *err)
{
    const cJSON *list, *o;
    cJSON_ArrayForEach(list, metrics) {
        const Metric *m = list->string ? metric_find(list->string) : NULL;
        if (!m || m->pass->has)
            continue;
        cJSON_ArrayForEach(o, list)
            RETURN_IF_ERROR(parse_unit(o, m, to, err));
    }
    return ST_OK;
}
