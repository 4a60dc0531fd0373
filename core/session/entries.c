/* The records of the journal. */
#include "session/entries.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "session/autotuning.h"
#include "session/effectrecord.h"
#include "session/madewith.h"
#include "session/parts.h"
#include "session/record.h"
#include "session/rulerecord.h"
#include "session/tuning.h"
#include "session/table.h"
#include "session/texts.h"
#include "session/whatif.h"

/* What a start leaves by itself, and what goes with other records. */
static bool slight(const char *json)
{
    static const char *const kinds[] = {"{\"t\":\"open\"", "{\"t\":\"recipe\"}", "{\"t\":\"view\"", "{\"t\":\"cmd\"",
                                        "{\"t\":\"set\"", "{\"t\":\"data\""};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strncmp(json, kinds[i], strlen(kinds[i])) == 0)
            return true;
    return false;
}

static void put(Session *s, Str *b, bool sync)
{
    s->worth = s->worth || !slight(str_text(b));
    if (s->keeper && !s->restoring)
        keeper_put(s->keeper, b, sync);
    str_free(b);
}

void entry_put(Session *s, Str *record, bool sync)
{
    put(s, record, sync);
}

void entry_open(Session *s)
{
    Str b = {0};
    str_printf(&b, "{\"t\":\"open\",\"format\":%d,\"linears\":%lld,\"layers\":%d,\"version\":", JOURNAL_FORMAT,
               (long long)s->model->nlinears, model_depth(s->model));
    str_json(&b, SLIMSCOPE_VERSION);
    str_puts(&b, ",\"model\":");
    char *real = realpath(s->model->path, NULL);
    str_json(&b, real ? real : s->model->path);
    free(real);
    if (s->model_type) {
        str_puts(&b, ",\"model_type\":");
        str_json(&b, s->model_type);
    }
    str_puts(&b, ",\"fingerprint\":");
    str_json(&b, s->model->fingerprint);
    str_printf(&b,
               ",\"arith\":\"%s\",\"peer\":%s,\"max_samples\":%d,\"seq_len\":%lld,\"ctx\":%lld,\"eval_tokens\":%lld,"
               "\"tokens\":%lld,\"data_labels\":%s,\"seed\":%llu}",
               arith_name(s->opt.arith), s->opt.peer ? "true" : "false", s->opt.max_samples, (long long)s->opt.seq_len,
               (long long)s->opt.ctx, (long long)s->opt.eval_tokens, (long long)s->opt.tokens,
               s->opt.data_labels ? "true" : "false", (unsigned long long)s->opt.seed);
    put(s, &b, true);
}

void entry_format(Session *s)
{
    Str b = {0};
    str_printf(&b, "{\"t\":\"format\",\"format\":%d}", JOURNAL_FORMAT);
    put(s, &b, false);
}

void entry_model(Session *s)
{
    Str b = {0};
    str_puts(&b, "{\"t\":\"model\",\"fingerprint\":");
    str_json(&b, s->model->fingerprint);
    str_putc(&b, '}');
    put(s, &b, true);
}

void entry_data(Session *s, const char *set, const DataInfo *d)
{
    Str b = {0};
    str_printf(&b, "{\"t\":\"data\",\"set\":\"%s\",\"name\":", set);
    str_json(&b, d->name);
    str_printf(&b, ",\"sha256\":\"%s\",\"samples\":%d,\"tokens\":%lld}", d->sha256, d->samples, (long long)d->tokens);
    put(s, &b, false);
}

void entry_text(Session *s, const char *kind, const char *text)
{
    Str b = {0};
    str_printf(&b, "{\"t\":\"%s\"", kind);
    if (text) {
        str_puts(&b, ",\"text\":");
        str_json(&b, text);
    }
    str_putc(&b, '}');
    put(s, &b, false);
}

void entry_setting(Session *s, const char *key, const char *value)
{
    Str b = {0};
    str_puts(&b, "{\"t\":\"set\",\"key\":");
    str_json(&b, key);
    str_puts(&b, ",\"value\":");
    str_json(&b, value);
    str_putc(&b, '}');
    put(s, &b, false);
}

/* With the text of its file, which may be another one when the session is resumed. */
void entry_recipe(Session *s, const Recipe *r, const RuleList *rules)
{
    Str b = {0};
    size_t len;
    str_puts(&b, "{\"t\":\"recipe\"");
    if (recipe_path(r)) {
        str_puts(&b, ",\"text\":");
        char *full = realpath(recipe_path(r), NULL);
        str_json(&b, full ? full : recipe_path(r));
        free(full);
        str_puts(&b, ",\"source\":");
        str_json(&b, recipe_source(r, &len));
    }
    if (rules)
        rules_record(&b, rules);
    str_putc(&b, '}');
    put(s, &b, false);
}

void entry_edit(Session *s, const Edit *e)
{
    Str b = {0};
    if (e->kind == EDIT_RECIPE) {
        entry_recipe(s, e->fresh, &e->after);
        return;
    }
    if (e->kind == EDIT_RULES) {
        str_puts(&b, "{\"t\":\"rules\"");
        rules_record(&b, &e->after);
        str_putc(&b, '}');
        put(s, &b, false);
        return;
    }
    str_printf(&b, "{\"t\":\"edit\",\"kind\":%d", (int)e->kind);
    if (e->kind == EDIT_FILTER || e->kind == EDIT_TEXTS) {
        str_puts(&b, ",\"from\":");
        str_json(&b, e->from);
        str_puts(&b, ",\"to\":");
        str_json(&b, e->to);
    } else {
        str_puts(&b, ",\"cells\":[");
        for (int i = 0; i < e->n; i++)
            str_printf(&b, "%s%d,%d,%d", i ? "," : "", e->cells[i].linear, e->cells[i].from, e->cells[i].to);
        str_putc(&b, ']');
    }
    str_putc(&b, '}');
    put(s, &b, false);
}

void entry_view(Session *s)
{
    const Table *t = s->table;
    if (!s->model || !t->metric || !s->keeper || s->restoring)
        return;
    Str b = {0};
    str_puts(&b, "{\"t\":\"view\",\"metric\":");
    str_json(&b, t->metric->name);
    str_printf(&b, ",\"sort\":\"%s\",\"ascending\":%s,\"fold\":\"%s\",\"cursor\":%lld", sort_key_name(t->sort),
               t->ascending ? "true" : "false", fold_mode_name(t->folds.mode), (long long)t->cursor);
    if (t->second) {
        str_puts(&b, ",\"second\":");
        str_json(&b, t->second->name);
    }
    if (t->columns)
        str_printf(&b, ",\"columns\":%u", t->columns);
    if (t->tensors[0]) {
        str_puts(&b, ",\"tensors\":");
        str_json(&b, t->tensors);
    }
    str_putc(&b, '}');
    if (strcmp(str_text(&b), s->saved_view) == 0) {
        str_free(&b);
        return;
    }
    snprintf(s->saved_view, sizeof s->saved_view, "%s", str_text(&b));
    put(s, &b, false);
}

void entry_kept_filter(Session *s, const char *name, const char *text)
{
    Str b = {0};
    str_puts(&b, "{\"t\":\"kept_filter\",\"name\":");
    str_json(&b, name);
    str_puts(&b, ",\"text\":");
    str_json(&b, text);
    str_putc(&b, '}');
    put(s, &b, false);
}

void entry_run_end(Session *s, int run, Status st)
{
    Str b = {0};
    str_printf(&b, "{\"t\":\"run_end\",\"run\":%d,\"status\":%d}", run, (int)st);
    put(s, &b, true);
}

void entry_quantize_end(Session *s, Status st)
{
    Str b = {0};
    str_printf(&b, "{\"t\":\"quantize_end\",\"status\":%d}", (int)st);
    put(s, &b, true);
}

void entry_trial(Session *s, const struct Trial *t)
{
    Str b = {0};
    str_puts(&b, "{\"t\":\"trial\",");
    trial_record(&b, t);
    str_putc(&b, '}');
    put(s, &b, false);
}

void entry_measured(Session *s, const Measured *m)
{
    char key[65], fit[65];
    digest_hex(&m->key, key);
    digest_hex(&m->fit, fit);
    Str b = {0};
    str_printf(&b, "{\"t\":\"effect\",\"key\":\"%s\",\"fit\":\"%s\",\"arith\":\"%s\"", key, fit,
               arith_name(m->effect.arith));
    levels_record(&b, m->level, s->model->nlinears);
    effect_record(&b, &m->effect);
    made_record(&b, &m->made);
    if (m->aside)
        str_puts(&b, ",\"aside\":true");
    if (m->ruled)
        rules_record(&b, &m->rules);
    if (m->blocks)
        blocks_record(&b, m->blocks);
    str_putc(&b, '}');
    put(s, &b, true);
}

void entry_mark(Session *s, const char *which, const char *thing)
{
    Str b = {0};
    str_printf(&b, "{\"t\":\"mark\",\"which\":\"%s\",\"thing\":", which);
    str_json(&b, thing);
    str_putc(&b, '}');
    put(s, &b, false);
}

void entry_drop(Session *s, const char *run)
{
    Str b = {0};
    str_puts(&b, "{\"t\":\"drop\",\"run\":");
    str_json(&b, run);
    str_putc(&b, '}');
    put(s, &b, false);
}

void entry_loaded(Session *s, const Metric *m)
{
    Str b = {0};
    str_puts(&b, "{\"t\":\"loaded\",\"name\":");
    str_json(&b, m->name);
    str_puts(&b, ",\"file\":");
    str_json(&b, m->loaded->file);
    str_printf(&b, ",\"scope\":\"%s\",\"kept\":%s,\"direction\":%d,\"values\":[", scope_name(m->scope),
               m->loaded->kept ? "true" : "false", m->direction);
    for (int64_t i = 0; i < scope_units(s->model, m->scope); i++) {
        str_puts(&b, i ? "," : "");
        str_double(&b, m->loaded->value[i]);
    }
    str_puts(&b, "]}");
    put(s, &b, true);
}

void entry_interact(Session *s)
{
    const Interactions *i = &s->whatifs->interactions;
    Str b = {0};
    str_printf(&b, "{\"t\":\"interact\",\"among\":%lld,\"given_back\":%s,\"groups\":[", (long long)i->among,
               i->given_back ? "true" : "false");
    for (int64_t k = 0; k < i->ngroups; k++)
        str_printf(&b, "%s%d", k ? "," : "", i->group[k]);
    str_puts(&b, "],\"levels\":[");
    for (int64_t k = 0; k < i->ngroups; k++)
        str_printf(&b, "%s%d", k ? "," : "", i->level[k]);
    str_puts(&b, "]}");
    put(s, &b, true);
}

void entry_together(Session *s, size_t first)
{
    const Interactions *all = &s->whatifs->interactions;
    Str b = {0};
    if (first == all->nscore)
        return;
    const SetScore *k = &all->score[first];
    str_printf(&b, "{\"t\":\"together\",\"data\":\"%016" PRIx64 "\",\"want\":%lld,\"tokens\":%lld,\"sets\":[", k->data,
               (long long)k->want, (long long)k->tokens);
    for (size_t i = first; i < all->nscore; i++) {
        k = &all->score[i];
        str_puts(&b, i > first ? ",{\"g\":[" : "{\"g\":[");
        for (int64_t m = 0; m < k->n; m++)
            str_printf(&b, "%s%d", m ? "," : "", k->group[m]);
        str_puts(&b, "],\"d\":[");
        for (int64_t m = 0; m < k->n; m++)
            str_printf(&b, "%s\"%016" PRIx64 "\"", m ? "," : "", k->digest[m]);
        str_puts(&b, "],\"kl\":");
        str_double(&b, k->kl);
        str_puts(&b, ",\"se\":");
        str_double(&b, k->error);
        str_putc(&b, '}');
    }
    str_puts(&b, "]}");
    put(s, &b, true);
}

void entry_tune(Session *s)
{
    const Tuning *t = s->tuning;
    Str b = {0};
    str_puts(&b, "{\"t\":\"tune\",\"goal\":");
    str_json(&b, t->goal.text);
    str_printf(&b, ",\"full\":%s,\"fixed\":[", t->opt.full ? "true" : "false");
    for (int64_t g = 0, n = 0; g < s->model->ngroups; g++)
        if (t->fixed[g])
            str_printf(&b, "%s%lld", n++ ? "," : "", (long long)g);
    str_putc(&b, ']');
    levels_record(&b, t->base, s->model->nlinears);
    str_putc(&b, '}');
    put(s, &b, true);
}

void entry_tune_end(Session *s, bool stopped)
{
    Str b = {0};
    str_printf(&b, "{\"t\":\"tune_end\",\"stopped\":%s}", stopped ? "true" : "false");
    put(s, &b, true);
}

void entry_autotune(Session *s)
{
    const Autotune *t = s->autotune;
    Str b = {0};
    str_puts(&b, "{\"t\":\"autotune\",\"plan\":");
    str_json(&b, t->plan_path);
    str_puts(&b, ",\"save_path\":");
    str_json(&b, t->save_path);
    if (t->model_type) {
        str_puts(&b, ",\"model_type\":");
        str_json(&b, t->model_type);
    }
    if (t->practices) {
        str_puts(&b, ",\"practices\":");
        str_json(&b, t->practices);
    }
    str_puts(&b, ",\"timeout\":");
    str_double(&b, t->timeout);
    str_putc(&b, '}');
    put(s, &b, true);
}

void entry_autotune_end(Session *s, bool stopped)
{
    Str b = {0};
    str_printf(&b, "{\"t\":\"autotune_end\",\"stopped\":%s}", stopped ? "true" : "false");
    put(s, &b, true);
}

void entry_guide(Session *s, const char *what, const char *item, const char *text, int measured, int against)
{
    Str b = {0};
    str_printf(&b, "{\"t\":\"guide\",\"do\":\"%s\",\"item\":\"%s\"", what, item);
    if (text) {
        str_puts(&b, ",\"text\":");
        str_json(&b, text);
    }
    if (measured)
        str_printf(&b, ",\"measured\":%d,\"against\":%d", measured, against);
    str_putc(&b, '}');
    put(s, &b, true);
}

void entry_guide_search(Session *s, const char *item, const char *goal, const char *end, int tries, int measured, int64_t more)
{
    Str b = {0};
    str_printf(&b, "{\"t\":\"guide\",\"do\":\"search\",\"item\":\"%s\",\"text\":", item);
    str_json(&b, goal);
    str_printf(&b, ",\"end\":\"%s\",\"tries\":%d,\"measured\":%d,\"more\":%lld}", end, tries, measured, (long long)more);
    put(s, &b, true);
}

void entry_layer(const Job *j, const PassStep *step, KeptLayer *out)
{
    int layer = (int)step->done - 1;
    *out = (KeptLayer){.run = j->row->run, .layer = layer};
    str_printf(&out->head, "{\"t\":\"rows\",\"run\":%d,\"needs\":%u,\"layer\":%d,\"n\":%d,\"stream\":", j->row->run,
               j->plan.needs, layer, step->nlinear);
    str_puts(&out->tail, ",\"rows\":");
    record_results(&out->tail, step->linear, step->nlinear, j->model);
    str_putc(&out->tail, '}');
}

void entry_rows(const Job *j, const PassStep *step, Str *out)
{
    KeptLayer l;
    entry_layer(j, step, &l);
    str_append(out, str_text(&l.head), l.head.len);
    str_json(out, "");
    str_append(out, str_text(&l.tail), l.tail.len);
    out->oom |= l.head.oom || l.tail.oom;
    str_free(&l.head);
    str_free(&l.tail);
}

void entry_scores(const Job *j, const PassStep *step, Str *out)
{
    str_printf(out, "{\"t\":\"scores\",\"run\":%d,\"done\":%lld,\"total\":%lld,\"metrics\":", j->row->run,
               (long long)step->done, (long long)step->total);
    record_scores(out, step->score, step->nscore);
    str_putc(out, '}');
}
