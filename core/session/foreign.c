/* Another session beside this one: its scores as columns, its measurements behind one's own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/effectrecord.h"
#include "session/entries.h"
#include "session/fields.h"
#include "session/kept.h"
#include "session/loaded.h"
#include "session/madewith.h"
#include "session/parts.h"
#include "session/rulerecord.h"

/* Takes m over, also on an error; the one of this run and number goes. */
static Status put_foreign(Session *s, const char *run, Measured *m, Error *err)
{
    Kept *k = s->kept;
    int i = 0;
    while (i < k->nforeign && (k->foreign[i].m.id != m->id || strcmp(k->foreign[i].run, run) != 0))
        i++;
    if (i == k->nforeign && !mem_grow(&k->foreign, &k->cap_foreign, (size_t)i + 1, sizeof *k->foreign)) {
        measured_fini(m);
        return error_nomem(err, "a measurement");
    }
    if (i < k->nforeign)
        measured_fini(&k->foreign[i].m);
    else
        k->nforeign++;
    k->foreign[i] = (Foreign){.m = *m};
    snprintf(k->foreign[i].run, sizeof k->foreign[i].run, "%s", run);
    k->version++;
    return ST_OK;
}

int foreign_drop(Session *s, const char *run)
{
    Kept *k = s->kept;
    int left = 0, all = k->nforeign;
    for (int i = 0; i < all; i++)
        if (strcmp(k->foreign[i].run, run) == 0)
            measured_fini(&k->foreign[i].m);
        else
            k->foreign[left++] = k->foreign[i];
    k->nforeign = left;
    k->version++;
    return all - left;
}

/* ---- the journal ---- */

static void entry_foreign(Session *s, const char *run, const Measured *m)
{
    char key[65], fit[65];
    Str b = {0};
    digest_hex(&m->key, key);
    digest_hex(&m->fit, fit);
    str_puts(&b, "{\"t\":\"foreign\",\"run\":");
    str_json(&b, run);
    str_printf(&b, ",\"id\":%d,\"key\":\"%s\",\"fit\":\"%s\",\"arith\":\"%s\"", m->id, key, fit, arith_name(m->effect.arith));
    levels_record(&b, m->level, s->model->nlinears);
    effect_record(&b, &m->effect);
    made_record(&b, &m->made);
    if (m->blocks)
        blocks_record(&b, m->blocks);
    if (m->rules_text) {
        str_puts(&b, ",\"rules\":");
        str_json(&b, m->rules_text);
    }
    if (m->recipe) {
        size_t len;
        str_puts(&b, ",\"recipe\":");
        str_json(&b, recipe_name(m->recipe));
        str_puts(&b, ",\"source\":");
        str_json(&b, recipe_source(m->recipe, &len));
    }
    str_putc(&b, '}');
    entry_put(s, &b, true);
}

static Status parse_foreign(Session *s, const cJSON *o, Measured *m, Error *err)
{
    const char *arith = text_of(o, "arith"), *source = text_of(o, "source"), *rules = text_of(o, "rules"), *name = text_of(o, "recipe");
    if (!arith || !digest_parse(text_of(o, "key"), &m->key) || !digest_parse(text_of(o, "fit"), &m->fit) || (m->id = (int)whole_in(o, "id", 1, INT32_MAX, 0)) == 0)
        return error_set(err, ST_DATA, "the record of another session's measurement is damaged");
    RETURN_IF_ERROR(effect_parse(o, s->model->nlinears, &m->effect, err));
    if (!arith_find(arith, &m->effect.arith))
        return error_set(err, ST_DATA, "it computes in '%.20s' arithmetic, which this slimscope doesn't know", arith);
    RETURN_IF_ERROR(levels_parse(o, s->model->nlinears, s->assignment->level, &m->level, err));
    RETURN_IF_ERROR(blocks_parse(o, &m->effect, &m->blocks, err));
    made_parse(o, &m->made);
    m->rules_text = rules ? strdup(rules) : NULL;
    if (source)
        RETURN_IF_ERROR(recipe_parse_file(&m->recipe, &recipe_rows, source, strlen(source), name ? name : "recipe", NULL, err));
    return ST_OK;
}

Status foreign_restore(Session *s, const cJSON *record, Error *err)
{
    Measured m = {.id = 0};
    const char *run = text_of(record, "run");
    Status st = parse_foreign(s, record, &m, err);
    if (st == ST_OK)
        return put_foreign(s, run ? run : "other", &m, err);
    measured_fini(&m);
    return st;
}

/* ---- bringing one in ---- */

static Status copy_measured(const Session *s, const Measured *from, Measured *to, Error *err)
{
    size_t bytes = (size_t)s->model->nlinears * sizeof *to->level;
    *to = (Measured){.id = from->id, .key = from->key, .fit = from->fit, .effect = from->effect, .made = from->made};
    to->level = malloc(bytes + 1);
    to->blocks = from->blocks ? blocks_copy(from->blocks) : NULL;
    to->rules_text = from->rules_text ? strdup(from->rules_text) : NULL;
    if (!to->level || (from->blocks && !to->blocks) || (from->rules_text && !to->rules_text)) {
        measured_fini(to);
        return error_nomem(err, "a measurement");
    }
    memcpy(to->level, from->level, bytes);
    to->recipe = from->recipe ? recipe_hold(from->recipe) : NULL;
    return ST_OK;
}

/* Whether its levels can be told of the linears here. */
static bool same_linears(const Model *a, const Model *b)
{
    bool same = a->nlinears == b->nlinears;
    for (int64_t i = 0; same && i < a->nlinears; i++)
        same = strcmp(a->linears[i].name, b->linears[i].name) == 0;
    return same;
}

static Status take_measured(Session *s, const Session *other, const char *run, Error *err)
{
    const Results *r = other->results;
    for (size_t i = 0; same_linears(s->model, other->model) && i < r->nmeasured; i++) {
        Measured m;
        RETURN_IF_ERROR(copy_measured(s, &r->measured[i], &m, err));
        RETURN_IF_ERROR(put_foreign(s, run, &m, err));
        entry_foreign(s, run, &r->measured[i]);
    }
    return ST_OK;
}

Status session_keep_other(Session *s, const char *id, const char *name, int *columns, int *measured, Error *err)
{
    Session *other;
    SessionOptions o = s->opt;
    char what[300], run[32];
    o.read_only = true;
    o.profile = false;
    if (strcmp(id, s->id) == 0)
        return error_set(err, ST_USAGE, "'%s' is this session", id);
    snprintf(run, sizeof run, "%s", name ? name : id);
    RETURN_IF_ERROR(session_restore(&other, &o, id, err));
    kept_made_of(other, what, sizeof what);
    Status st = loaded_keep(s, other, run, what, false, columns, err);
    if (st == ST_OK)
        st = take_measured(s, other, run, err);
    *measured = same_linears(s->model, other->model) ? (int)other->results->nmeasured : 0;
    if (st == ST_OK && !*columns && !*measured)
        st = error_set(err, ST_DATA, "session %s has no fresh score and no measurement of a layer of this model", id);
    session_free(other);
    return st;
}
