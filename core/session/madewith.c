/* What a measurement was made with: kept beside it, in the journal too. */
#include "session/madewith.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "session/fields.h"
#include "session/levelnames.h"
#include "session/parts.h"
#include "session/results.h"

static void data_print(const DataInfo *d, const char *name, DataPrint *out)
{
    *out = (DataPrint){.samples = d->samples, .tokens = d->tokens};
    snprintf(out->name, sizeof out->name, "%s", name ? name : "");
    snprintf(out->sha256, sizeof out->sha256, "%s", d->sha256);
}

void made_with(const Session *s, const Job *j, MadeWith *out)
{
    const Results *r = s->results; /* tells of texts that were there already */
    *out = (MadeWith){.when = (int64_t)time(NULL), .version = SLIMSCOPE_VERSION, .peer = j->opt.peer,
                      .ctx = j->eval.ctx, .seed = j->opt.seed};
    data_print(j->calib_info.samples ? &j->calib_info : &r->calib_info, j->calib.name, &out->calib);
    data_print(j->eval_info.samples ? &j->eval_info : &r->eval_info, j->eval.name, &out->eval);
}

/* ---- the journal ---- */

static void data_record(Str *b, const char *key, const DataPrint *d)
{
    str_printf(b, ",\"%s\":{\"name\":", key);
    str_json(b, d->name);
    str_printf(b, ",\"sha256\":\"%s\",\"samples\":%d,\"tokens\":%lld}", d->sha256, d->samples, (long long)d->tokens);
}

static void take_text(const cJSON *o, const char *key, char *out, size_t size)
{
    const char *text = text_of(o, key);
    snprintf(out, size, "%s", text ? text : "");
}

static void data_parse(const cJSON *o, const char *key, DataPrint *out)
{
    const cJSON *d = json_get(o, key);
    *out = (DataPrint){.samples = (int)whole_in(d, "samples", 0, INT32_MAX, 0), .tokens = whole_in(d, "tokens", 0, INT64_MAX, 0)};
    take_text(d, "name", out->name, sizeof out->name);
    take_text(d, "sha256", out->sha256, sizeof out->sha256);
}

void made_record(Str *b, const MadeWith *m)
{
    if (!m->when)
        return;
    str_printf(b, ",\"made\":{\"when\":%lld,\"version\":", (long long)m->when);
    str_json(b, m->version);
    data_record(b, "calib", &m->calib);
    data_record(b, "eval", &m->eval);
    str_printf(b, ",\"peer\":%s,\"ctx\":%lld,\"seed\":%llu}", m->peer ? "true" : "false",
               (long long)m->ctx, (unsigned long long)m->seed);
}

void made_parse(const cJSON *record, MadeWith *out)
{
    const cJSON *o = json_get(record, "made");
    *out = (MadeWith){.when = whole_in(o, "when", 1, INT64_MAX, 0)};
    if (!out->when)
        return;
    take_text(o, "version", out->version, sizeof out->version);
    data_parse(o, "calib", &out->calib);
    data_parse(o, "eval", &out->eval);
    out->peer = cJSON_IsTrue(json_get(o, "peer"));
    out->ctx = whole_in(o, "ctx", 0, INT64_MAX, 0);
    out->seed = (uint64_t)whole_in(o, "seed", 0, INT64_MAX, 0);
}

/* ---- rules ---- */

char *rules_lines(const RuleList *l, const Recipe *r)
{
    LevelNames names;
    Str text = {0};
    if (levelnames_of(r, &names, NULL) != ST_OK)
        return NULL;
    for (int i = 0; i < l->n; i++) {
        char level[48] = "quantized";
        if (l->row[i].to != WHATIF_QUANTIZE)
            levelnames_name(&names, l->row[i].to, level);
        if (l->row[i].on)
            str_printf(&text, "%s %s\n", level, l->row[i].rule->text);
    }
    levelnames_fini(&names);
    char *out = text.len || text.oom ? str_detach(&text) : strdup("");
    return out;
}
