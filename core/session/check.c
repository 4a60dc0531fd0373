/* Whether a session's folder is whole: what a restore would find, without changing anything. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "session/fields.h"
#include "session/folder.h"

typedef struct Check {
    SessionFinding *found;
    void *ctx;
    Status st;
    char *model, *type;
    char fingerprint[65];
    int run, layer;        /* of the newest rows */
    bool ended, has_stream;
    int rows, edits;
} Check;

static void __attribute__((format(printf, 3, 4))) say(Check *c, bool bad, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (c->st == ST_OK)
        c->st = c->found(c->ctx, bad, text);
}

static void take_open(Check *c, const cJSON *o)
{
    const char *model = text_of(o, "model"), *print = text_of(o, "fingerprint"), *type = text_of(o, "model_type");
    c->model = model ? strdup(model) : NULL;
    c->type = type ? strdup(type) : NULL;
    snprintf(c->fingerprint, sizeof c->fingerprint, "%s", print ? print : "");
}

static Status look(void *ctx, const char *json, uint32_t len, Error *err)
{
    Check *c = ctx;
    cJSON *o;
    RETURN_IF_ERROR(json_parse(json, len, "journal", &o, err));
    const char *t = text_of(o, "t"), *sha = text_of(o, "stream"), *print = text_of(o, "fingerprint");
    if (t && strcmp(t, "open") == 0 && !c->model) {
        take_open(c, o);
    } else if (t && strcmp(t, "model") == 0 && print) {
        snprintf(c->fingerprint, sizeof c->fingerprint, "%s", print);
    } else if (t && strcmp(t, "rows") == 0) {
        c->run = (int)whole_in(o, "run", 0, INT32_MAX, 0);
        c->layer = (int)whole_in(o, "layer", 0, INT32_MAX, 0);
        c->rows += cJSON_GetArraySize(json_get(o, "rows"));
        c->ended = false;
        c->has_stream = sha && sha[0];
    } else if (t && strcmp(t, "run_end") == 0) {
        c->ended = num_of(o, "status", 1) == ST_OK;
    } else if (t && (strcmp(t, "edit") == 0 || strcmp(t, "rules") == 0)) {
        c->edits++;
    }
    cJSON_Delete(o);
    return ST_OK;
}

static void tell_journal(Check *c, const JournalEnd *end)
{
    unsigned long long first = end->records + 1, torn = end->torn;
    if (end->found)
        say(c, true, "records %llu to %llu are missing: what stands behind them (%llu bytes) cannot be used", first,
            (unsigned long long)end->found - 1, torn);
    else if (torn)
        say(c, true, "the last %llu bytes are no whole record", torn);
    say(c, false, "%llu whole records: %d rows, %d edits", (unsigned long long)end->records, c->rows, c->edits);
}

static void tell_model(Check *c)
{
    Model *m;
    Error why = {0};
    if (!c->model || model_open(&m, c->model, c->type, &why) != ST_OK) {
        say(c, true, "its model: %s", c->model ? why.text : "the first record names none");
        return;
    }
    if (strcmp(m->fingerprint, c->fingerprint) != 0)
        say(c, true, "the model at '%s' has changed since: its fingerprint is %.16s, the session's %.16s", c->model,
            m->fingerprint, c->fingerprint);
    model_free(m);
}

static void tell_stopped(Check *c, const char *dir)
{
    char name[64];
    if (c->ended || !c->rows)
        return;
    snprintf(name, sizeof name, "streams/%d-%d.safetensors", c->run, c->layer);
    char *path = path_join(dir, name);
    bool there = path && c->has_stream && file_exists(path);
    free(path);
    if (there)
        say(c, false, "an analysis was stopped behind layer %d: resume goes on with it", c->layer + 1);
    else
        say(c, true, "an analysis was stopped behind layer %d, but '%s' is missing: it can't go on from there", c->layer + 1,
            name);
}

Status session_check(const char *dir, SessionFinding *found, void *ctx, Error *err)
{
    Check c = {.found = found, .ctx = ctx};
    JournalEnd end = {0};
    Journal *j = NULL;
    char *path = path_join(dir, "journal"), *aside = path_join(dir, "journal.damaged");
    Status st = path && aside ? journal_open(&j, path, JOURNAL_READ, look, &c, &end, err) : error_nomem(err, "a path");
    if (st == ST_OK) {
        tell_journal(&c, &end);
        if (file_exists(aside))
            say(&c, false, "'journal.damaged' holds what an earlier opening could not use");
        tell_model(&c);
        tell_stopped(&c, dir);
        st = c.st;
    }
    journal_close(j, NULL);
    free(path);
    free(aside);
    free(c.model);
    free(c.type);
    return st;
}
