#include "tune/history.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/file.h"
#include "io/json.h"
#include "tune/history_impl.h"

static void say(const History *h, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void say(const History *h, int level, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (h->o.log)
        h->o.log(h->o.ctx, level, text);
}

static Status path_of(const History *h, const char *name, Str *out, Error *err)
{
    str_clear(out);
    str_printf(out, "%s/history/%s", h->o.save_path, name);
    return out->oom ? error_nomem(err, name) : ST_OK;
}

/* A file that can't be read goes aside: nothing of a person's is lost. */
static Status put_aside(const History *h, const char *name, const char *why, Error *err)
{
    Str from = {0}, to = {0};
    if (!dist_leads(h->o.dist))
        return ST_OK;
    Status st = path_of(h, name, &from, err);
    for (int i = 0; st == ST_OK; i++) {
        char other[80];
        snprintf(other, sizeof other, i ? "%s.broken%d" : "%s.broken", name, i);
        st = path_of(h, other, &to, err);
        if (st != ST_OK || !file_exists(to.s)) {
            say(h, 1, "history/%s can't be read and is put aside as %s (%s): this run starts without it", name, other, why);
            break;
        }
    }
    if (st == ST_OK && rename(from.s, to.s) != 0)
        st = file_error(err, "put aside", from.s, errno);
    str_free(&from);
    str_free(&to);
    return st;
}

/* The contents of a file as rank 0 reads them, on every rank; NULL: there is none, or it can't be read, *why says why.
 * Caller frees. */
static Status take_file(const History *h, const char *name, size_t most, char **text, size_t *len, Error *why, Error *err)
{
    Str path = {0};
    Pack p = {0};
    *text = NULL;
    *len = 0;
    Status st = path_of(h, name, &path, err);
    if (st == ST_OK && dist_leads(h->o.dist) && file_exists(path.s) && file_read(path.s, most, text, len, why) == ST_NOMEM)
        st = error_set(err, ST_NOMEM, "%s", why->text);
    str_free(&path);
    if (dist_size(h->o.dist) == 1)
        return st;
    if (*text)
        pack_put(&p, *text, *len + 1);
    p.oom = p.oom || st != ST_OK;
    st = dist_hand_out(h->o.dist, &p, err);
    if (st == ST_OK && !dist_leads(h->o.dist) && p.len) { /* which has its NUL */
        *text = (char *)p.data;
        *len = p.len - 1;
        p = (Pack){0};
    }
    pack_fini(&p);
    return st;
}

/* ---- accuracy.yaml ---- */

static HistoryEntry *entry_of(const History *h, const char *key)
{
    int64_t at = map_get(&h->by_key, key, strlen(key), -1);
    return at >= 0 ? h->entry[at] : NULL;
}

static Status add_entry(History *h, const char *key, HistoryEntry **out, Error *err)
{
    HistoryEntry *e = arena_alloc(&h->arena, sizeof *e);
    if (e)
        *e = (HistoryEntry){.key = arena_strdup(&h->arena, key)};
    if (!e || !e->key || !mem_grow(&h->entry, &h->entries_cap, h->nentries + 1, sizeof *h->entry) ||
        !map_add(&h->by_key, e->key, strlen(e->key), (int64_t)h->nentries, NULL))
        return error_nomem(err, "the history");
    h->entry[h->nentries++] = e;
    *out = e;
    return ST_OK;
}

static double number_of(const YamlNode *v, double absent)
{
    double x;
    return v && lax_float(v, &x) ? x : absent;
}

static bool read_accuracy(const YamlNode *m, Accuracy *a)
{
    const YamlNode *name = yaml_get(m, "dataset"), *value = yaml_get(m, "accuracy"), *base = yaml_get(m, "base");
    *a = (Accuracy){.error = number_of(yaml_get(m, "error"), NAN)};
    if (!name || name->kind != YAML_STR || name->len > DATASET_MAX || !value || !decimal_of_node(value, &a->value))
        return false;
    memcpy(a->dataset, name->text, name->len + 1);
    a->has_base = base && decimal_of_node(base, &a->base);
    return true;
}

/* What was demanded then, as it is written. */
static const char *keep_expectations(Arena *a, const YamlNode *list)
{
    Str text = {0};
    if (!list || list->kind != YAML_SEQ || list->count == 0)
        return "  expectations: []\n";
    str_puts(&text, "  expectations:\n");
    for (int i = 0; i < list->count; i++)
        for (int k = 0; list->items[i]->kind == YAML_MAP && k < list->items[i]->count; k++) {
            const YamlNode *key = list->items[i]->keys[k], *val = list->items[i]->vals[k];
            str_puts(&text, k ? "    " : "  - ");
            str_json(&text, key->text ? key->text : "");
            str_puts(&text, ": ");
            str_json(&text, val->text ? val->text : "");
            str_putc(&text, '\n');
        }
    const char *kept = text.oom ? NULL : arena_strdup(a, str_text(&text));
    str_free(&text);
    return kept;
}

/* An entry without accuracies is none. */
static Status read_entry(History *h, const char *key, const YamlNode *m, int *bad, Error *err)
{
    const YamlNode *list = yaml_get(m, "accuracies"), *ours = yaml_get(m, "ours"), *note = yaml_get(ours, "note");
    HistoryAnswer a = {.seconds = number_of(yaml_get(ours, "quantize_seconds"), 0)};
    bool fine = list && list->kind == YAML_SEQ;
    for (int i = 0; fine && i < list->count; i++) {
        Accuracy one;
        fine = read_accuracy(list->items[i], &one);
        if (fine && eval_result_add(&a.r, &one, err) != ST_OK) {
            eval_result_free(&a.r);
            return ST_NOMEM;
        }
    }
    if (!fine || !key) {
        eval_result_free(&a.r);
        ++*bad;
        return ST_OK;
    }
    bool yes = false;
    if (yaml_get(m, "is_satisfied"))
        lax_bool(yaml_get(m, "is_satisfied"), &yes);
    a.r.satisfied = yes;
    a.r.state = node_is(yaml_get(ours, "state"), "bad") ? EVAL_BAD : EVAL_DONE;
    a.r.seconds = number_of(yaml_get(ours, "evaluate_seconds"), 0);
    a.bytes = (uint64_t)number_of(yaml_get(ours, "bytes"), 0);
    a.float_bytes = (uint64_t)number_of(yaml_get(ours, "float_bytes"), 0);
    a.linears = (int64_t)number_of(yaml_get(ours, "linears"), 0);
    a.floats = (int64_t)number_of(yaml_get(ours, "linears_in_float"), 0);
    snprintf(a.r.text, sizeof a.r.text, "%s", note && note->kind == YAML_STR ? note->text : "");
    HistoryEntry *e = entry_of(h, key);
    Status st = e ? ST_OK : add_entry(h, key, &e, err);
    if (st != ST_OK) {
        eval_result_free(&a.r);
        return st;
    }
    eval_result_free(&e->a.r);
    e->a = a;
    e->expectations = keep_expectations(&h->arena, yaml_get(m, "expectations"));
    return e->expectations ? ST_OK : error_nomem(err, "the history");
}

static Status read_answers(History *h, const YamlNode *root, Error *err)
{
    int bad = 0;
    for (int i = 0; i < root->count; i++)
        RETURN_IF_ERROR(read_entry(h, root->keys[i]->text, root->vals[i], &bad, err));
    if (bad)
        say(h, 1, "history/accuracy.yaml: %d of %d entries have no accuracies and are dropped", bad, root->count);
    return ST_OK;
}

static Status load_answers(History *h, Error *err)
{
    char *text;
    size_t len;
    YamlDoc *doc = NULL;
    Error why = {0};
    Status st = take_file(h, "accuracy.yaml", YAML_BYTES_MAX, &text, &len, &why, err);
    if (st == ST_OK && (text || why.status != ST_OK)) {
        st = text ? yaml_parse(&doc, text, len, "accuracy.yaml", &why) : why.status;
        const YamlNode *root = st == ST_OK ? yaml_root(doc) : NULL;
        if (st == ST_OK && root && root->kind != YAML_MAP)
            st = error_set(&why, ST_DATA, "it is no mapping");
        if (st == ST_NOMEM)
            error_set(err, st, "%s", why.text);
        else if (st != ST_OK)
            st = put_aside(h, "accuracy.yaml", why.text, err);
        else if (root)
            st = read_answers(h, root, err);
    }
    yaml_doc_free(doc);
    free(text);
    return st;
}

static Status write_file(const History *h, const char *name, const Str *text, Error *err)
{
    Str path = {0};
    Status st = text->oom ? error_nomem(err, "the history") : path_of(h, name, &path, err);
    if (st == ST_OK && dist_leads(h->o.dist))
        st = file_write_atomic(path.s, str_text(text), text->len, err);
    str_free(&path);
    return st;
}

/* The newest entries, as many as a file of YAML may hold. */
static Status write_answers(const History *h, Error *err)
{
    Str text = {0};
    size_t from = h->nentries, bytes = 0;
    while (from > 0) {
        str_clear(&text);
        tunehist_put_entry(h->entry[from - 1], h->o.peer, &text);
        if ((bytes += text.len) > YAML_BYTES_MAX)
            break;
        from--;
    }
    str_clear(&text);
    for (size_t i = from; i < h->nentries; i++)
        tunehist_put_entry(h->entry[i], h->o.peer, &text);
    if (from == h->nentries)
        str_puts(&text, "{}\n");
    Status st = write_file(h, "accuracy.yaml", &text, err);
    str_free(&text);
    return st;
}

const HistoryAnswer *tunehist_get(const History *h, const char *key)
{
    const HistoryEntry *e = entry_of(h, key);
    return e ? &e->a : NULL;
}

Status tunehist_put(History *h, const char *key, const HistoryAnswer *a, const Expectation *e, int n, Error *err)
{
    HistoryEntry *at = entry_of(h, key);
    if (!at)
        RETURN_IF_ERROR(add_entry(h, key, &at, err));
    EvalResult r;
    RETURN_IF_ERROR(eval_result_copy(&r, &a->r, err));
    eval_result_free(&at->a.r);
    at->a = *a;
    at->a.r = r;
    Str text = {0};
    tunehist_put_expectations(e, n, "  ", &text);
    at->expectations = text.oom ? NULL : arena_strdup(&h->arena, str_text(&text));
    str_free(&text);
    return at->expectations ? write_answers(h, err) : error_nomem(err, "the history");
}

/* ---- tries ---- */

Status tunehist_record(History *h, const Practice *p, const char *key, const EvalResult *r, const Expectation *e, int n,
                      int64_t when, Error *err)
{
    char name[300], time_text[40];
    time_t t = (time_t)when;
    struct tm tm;
    Str text = {0};
    str_append(&text, p->text, p->len);
    snprintf(name, sizeof name, "%.250s.yaml", p->id);
    for (char *s = name; *s; s++)
        *s = *s == '/' ? '_' : *s;
    Status st = write_file(h, name, &text, err);
    str_free(&text);
    RETURN_IF_ERROR(st);
    gmtime_r(&t, &tm);
    strftime(time_text, sizeof time_text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    tunehist_put_record(p->id, key, r, e, n, time_text, h->o.peer, &h->records);
    return write_file(h, "history.yaml", &h->records, err);
}

/* ---- the ranking ---- */

static bool read_row(const cJSON *j, RankRow *r, const char **pattern, int room)
{
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(j, "name"), *list = cJSON_GetObjectItemCaseSensitive(j, "patterns");
    const cJSON *score = cJSON_GetObjectItemCaseSensitive(j, "score"), *bytes = cJSON_GetObjectItemCaseSensitive(j, "bytes"), *one;
    *r = (RankRow){.name = cJSON_GetStringValue(name), .patterns = pattern, .bytes = cJSON_IsNumber(bytes) ? (int64_t)bytes->valuedouble : -1,
                   .score = cJSON_IsNumber(score) ? score->valuedouble : NAN};
    cJSON_ArrayForEach(one, list)
    {
        if (r->npatterns == room || !cJSON_IsString(one))
            return false;
        pattern[r->npatterns++] = one->valuestring;
    }
    return r->name != NULL;
}

enum { RANKING_BYTES_MAX = 64 << 20 };

bool tunehist_ranking(History *h, const char *key, RankRow **rows, int64_t *n)
{
    char *file = NULL;
    size_t len;
    Error why = {0};
    cJSON *root = NULL;
    bool fine = !h->o.peer && take_file(h, "ranking.json", RANKING_BYTES_MAX, &file, &len, &why, &why) == ST_OK && file &&
                json_parse(file, len, "ranking.json", &root, &why) == ST_OK;
    free(file);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "rows"), *one;
    const char *of = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "key"));
    cJSON_Delete(h->ranking);
    h->ranking = root;
    if (!fine || !of || strcmp(of, key) != 0 || !cJSON_IsArray(list))
        return false;
    int count = cJSON_GetArraySize(list);
    size_t patterns = 0;
    cJSON_ArrayForEach(one, list) patterns += (size_t)cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(one, "patterns"));
    RankRow *r = mem_array((size_t)count + 1, sizeof *r);
    free(h->pattern);
    h->pattern = mem_array(patterns + 1, sizeof *h->pattern);
    fine = r && h->pattern;
    size_t used = 0;
    int i = 0;
    cJSON_ArrayForEach(one, list)
    {
        fine = fine && read_row(one, &r[i], h->pattern + used, (int)(patterns - used));
        if (!fine)
            break;
        used += (size_t)r[i++].npatterns;
    }
    if (!fine) {
        free(r);
        return false;
    }
    *rows = r;
    *n = count;
    return true;
}

Status tunehist_put_ranking(History *h, const char *key, const RankRow *rows, int64_t n, Error *err)
{
    Str text = {0};
    if (h->o.peer)
        return ST_OK;
    str_puts(&text, "{\"key\": ");
    str_json(&text, key);
    str_puts(&text, ", \"rows\": [");
    for (int64_t i = 0; i < n; i++) {
        str_puts(&text, i ? ",\n{\"name\": " : "\n{\"name\": ");
        str_json(&text, rows[i].name);
        str_puts(&text, ", \"score\": ");
        str_double(&text, rows[i].score);
        str_printf(&text, ", \"bytes\": %lld, \"patterns\": [", (long long)rows[i].bytes);
        for (int k = 0; k < rows[i].npatterns; k++) {
            str_puts(&text, k ? ", " : "");
            str_json(&text, rows[i].patterns[k]);
        }
        str_puts(&text, "]}");
    }
    str_puts(&text, "]}\n");
    Status st = write_file(h, "ranking.json", &text, err);
    str_free(&text);
    return st;
}

/* ---- what the last run was ---- */

static Status write_run(const History *h, Error *err)
{
    Str text = {0};
    const HistoryIds *i = &h->o.ids;
    str_printf(&text, "{\"model\": \"%s\", \"calibration\": \"%s\", \"evaluation\": \"%s\", \"plan\": \"%s\", \"kept\": ", i->model,
               i->data, i->evaluator, i->plan);
    str_json(&text, h->kept);
    str_puts(&text, "}\n");
    Status st = write_file(h, "run.json", &text, err);
    str_free(&text);
    return st;
}

static bool differs(const cJSON *root, const char *key, const char *now)
{
    const char *was = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, key));
    return was && *was && *now && strcmp(was, now) != 0;
}

/* Names what is not as it was. */
static Status load_run(History *h, Error *err)
{
    static const struct {
        const char *key, *says;
    } parts[] = {
        {"model", "the model is not the one of the last run in this folder: its answers don't count here"},
        {"calibration", "the calibration set is not the one of the last run in this folder: its answers don't count here"},
        {"evaluation", "evaluation has other settings or data than at the last run in this folder: its answers don't count here"},
        {"plan", "the plan is not the one of the last run in this folder: answers to the same recipes count"},
    };
    const char *now[] = {h->o.ids.model, h->o.ids.data, h->o.ids.evaluator, h->o.ids.plan};
    char *text;
    size_t len;
    cJSON *root = NULL;
    Error why = {0};
    Status st = take_file(h, "run.json", 1 << 20, &text, &len, &why, err);
    bool there = text || why.status != ST_OK;
    if (st == ST_OK && there && (!text || json_parse(text, len, "run.json", &root, &why) != ST_OK))
        st = put_aside(h, "run.json", why.text, err);
    free(text);
    bool said = false;
    for (size_t i = 0; st == ST_OK && i < sizeof parts / sizeof parts[0]; i++)
        if (differs(root, parts[i].key, now[i]) && !(i == 3 && said)) {
            say(h, 1, "%s", parts[i].says);
            said = true;
        }
    const char *kept = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "kept"));
    snprintf(h->kept, sizeof h->kept, "%s", kept ? kept : "");
    cJSON_Delete(root);
    return st == ST_OK ? write_run(h, err) : st;
}

const char *tunehist_kept(const History *h)
{
    return h->kept;
}

Status tunehist_put_kept(History *h, const char *key, Error *err)
{
    snprintf(h->kept, sizeof h->kept, "%s", key);
    return write_run(h, err);
}

/* ---- the folder ---- */

/* As the peer begins: practices of an earlier run go. */
static Status delete_practices(const History *h, Error *err)
{
    Str dir = {0}, path = {0};
    str_printf(&dir, "%s/history", h->o.save_path);
    DIR *d = dir.oom ? NULL : opendir(dir.s);
    Status st = d ? ST_OK : dir.oom ? error_nomem(err, "the history") : file_error(err, "read", dir.s, errno);
    for (struct dirent *e; st == ST_OK && (e = readdir(d)) != NULL;) {
        if (!str_ends_with(e->d_name, ".yaml") || strcmp(e->d_name, "accuracy.yaml") == 0 || strcmp(e->d_name, "history.yaml") == 0)
            continue;
        st = path_of(h, e->d_name, &path, err);
        if (st == ST_OK && unlink(path.s) != 0)
            st = file_error(err, "remove", path.s, errno);
    }
    if (d)
        closedir(d);
    str_free(&dir);
    str_free(&path);
    return st;
}

Status tunehist_open(History **out, const HistoryOptions *o, Error *err)
{
    History *h = calloc(1, sizeof *h);
    if (!h)
        return error_nomem(err, "the history");
    Str dir = {0};
    bool made;
    h->o = *o;
    str_printf(&dir, "%s/history", o->save_path);
    Status st = dir.oom ? error_nomem(err, "the history") : ST_OK;
    if (st == ST_OK && dist_leads(o->dist))
        st = dir_make_mode(dir.s, 0777, &made, err);
    str_free(&dir);
    str_puts(&h->records, "records: []\n");
    if (st == ST_OK && o->peer && dist_leads(o->dist))
        st = delete_practices(h, err);
    if (st == ST_OK)
        st = load_answers(h, err);
    if (st == ST_OK)
        st = write_file(h, "history.yaml", &h->records, err);
    if (st == ST_OK && !o->peer)
        st = load_run(h, err);
    if (st == ST_OK && o->peer)
        st = write_answers(h, err);
    if (st != ST_OK)
        tunehist_free(h);
    else
        *out = h;
    return st;
}

void tunehist_free(History *h)
{
    if (!h)
        return;
    for (size_t i = 0; i < h->nentries; i++)
        eval_result_free(&h->entry[i]->a.r);
    free(h->entry);
    map_free(&h->by_key);
    free(h->pattern);
    cJSON_Delete(h->ranking);
    str_free(&h->records);
    arena_free(&h->arena);
    free(h);
}
