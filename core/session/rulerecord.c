/* Rules and recipes in the journal. */
#include "session/rulerecord.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/assignment.h"
#include "session/fields.h"
#include "session/parts.h"

void rules_record(Str *b, const RuleList *l)
{
    str_puts(b, ",\"rules\":[");
    for (int i = 0; i < l->n; i++) {
        str_puts(b, i ? ",{\"text\":" : "{\"text\":");
        str_json(b, l->row[i].rule->text);
        str_printf(b, ",\"to\":%d,\"on\":%s%s}", l->row[i].to, l->row[i].on ? "true" : "false",
                   l->row[i].fitted ? ",\"fitted\":true" : "");
    }
    str_putc(b, ']');
}

static Status damaged(Error *err)
{
    return error_set(err, ST_DATA, "a record of rules is damaged");
}

/* `levels`: of the recipe that the rows are for. */
static Status read_rules(const Session *s, const cJSON *rows, int levels, RuleList *out, Error *err)
{
    const cJSON *v;
    int n = cJSON_GetArraySize(rows);
    *out = (RuleList){.row = mem_zarray((size_t)n + 1, sizeof *out->row)};
    Status st = !cJSON_IsArray(rows) ? damaged(err) : out->row ? ST_OK : error_nomem(err, "the what-if list");
    for (v = st == ST_OK ? rows->child : NULL; v && st == ST_OK; v = v->next) {
        const char *text = text_of(v, "text");
        int64_t to = whole_in(v, "to", WHATIF_QUANTIZE, levels - 1, INT64_MIN);
        Rule *r = NULL;
        st = text && to != INT64_MIN ? rule_new(s, text, &r, err) : damaged(err);
        if (st == ST_OK)
            out->row[out->n++] = (RuleRow){r, (int16_t)to, cJSON_IsTrue(json_get(v, "on")), cJSON_IsTrue(json_get(v, "fitted"))};
    }
    if (st != ST_OK)
        rules_fini(out);
    return st;
}

Status rules_parse(const Session *s, const cJSON *record, RuleList *out, Error *err)
{
    return read_rules(s, json_get(record, "rules"), s->assignment->nlevels, out, err);
}

Status rules_restore(Session *s, const cJSON *record, Error *err)
{
    RuleList l;
    RETURN_IF_ERROR(rules_parse(s, record, &l, err));
    return rules_push(s, &l, true, NULL, err);
}

Status recipe_restore(Session *s, const cJSON *record, Error *err)
{
    const char *path = text_of(record, "text"), *source = text_of(record, "source");
    const cJSON *rows = json_get(record, "rules");
    Recipe *r;
    RuleList l = {0};
    if (!path)
        RETURN_IF_ERROR(recipe_default(&r, &recipe_rows, err));
    else if (source)
        RETURN_IF_ERROR(recipe_parse_file(&r, &recipe_rows, source, strlen(source), path, NULL, err));
    else
        RETURN_IF_ERROR(recipe_open(&r, &recipe_rows, path, NULL, err));
    Status st = rows ? read_rules(s, rows, recipe_entries(r) + 1, &l, err) : ST_OK;
    if (st == ST_OK && rows)
        st = assignment_change_recipe(s, r, &l, NULL, err);
    else if (st == ST_OK)
        st = recipe_adopt(s, r, &l, NULL, err);
    rules_fini(&l);
    recipe_free(r);
    return st;
}

void levels_record(Str *b, const int16_t *level, int64_t n)
{
    str_puts(b, ",\"levels\":[");
    for (int64_t i = 0, next; i < n; i = next) {
        for (next = i + 1; next < n && level[next] == level[i]; next++)
            ;
        str_printf(b, "%s%d,%lld", i ? "," : "", level[i], (long long)(next - i));
    }
    str_putc(b, ']');
}

Status levels_parse(const cJSON *record, int64_t n, const int16_t *missing, int16_t **out, Error *err)
{
    const cJSON *list = json_get(record, "levels"), *v = list ? list->child : NULL;
    *out = mem_array((size_t)n, sizeof **out);
    if (!*out)
        return error_nomem(err, "a measurement");
    if (!list)
        memcpy(*out, missing, (size_t)n * sizeof **out);
    int64_t i = list ? 0 : n, level, times;
    while (i < n && v && v->next && whole_of(v->valuedouble, 0, INT16_MAX, &level) &&
           whole_of(v->next->valuedouble, 1, n - i, &times)) {
        for (v = v->next->next; times > 0; times--)
            (*out)[i++] = (int16_t)level;
    }
    if (i == n && !(list && v))
        return ST_OK;
    free(*out);
    *out = NULL;
    return error_set(err, ST_DATA, "a measurement record is damaged");
}

/* ---- of older programs ---- */

/* Three numbers: linear, from, to. */
static bool take_cell(const Session *s, const cJSON **v, EditCell *out)
{
    int64_t x[3];
    for (int k = 0; k < 3; k++, *v = (*v)->next)
        if (!cJSON_IsNumber(*v) ||
            !whole_of((*v)->valuedouble, 0, k ? s->assignment->nlevels - 1 : s->model->nlinears - 1, &x[k]))
            return false;
    *out = (EditCell){(int32_t)x[0], (int16_t)x[1], (int16_t)x[2]};
    return true;
}

/* What a cell asked for: float ones that went to the recipe's level were to be quantized. */
static int cell_wish(const Session *s, const EditCell *c)
{
    return c->from == 0 && c->to == s->assignment->home[c->linear] ? WHATIF_QUANTIZE : c->to;
}

static Status read_cells(const Session *s, const cJSON *cells, EditCell **out, int *n, Error *err)
{
    const cJSON *v = cells ? cells->child : NULL;
    *n = cJSON_GetArraySize(cells) / 3;
    *out = *n ? mem_array((size_t)*n, sizeof **out) : NULL;
    if (!*out)
        return *n ? error_nomem(err, "an edit") : error_set(err, ST_DATA, "an edit record is damaged");
    for (int i = 0; i < *n; i++)
        if (!take_cell(s, &v, *out + i))
            return error_set(err, ST_DATA,
                             "an edit doesn't fit the model or the recipe (did the recipe's file change?)");
    return ST_OK;
}

/* One wish about all linears of `want`. */
static Status wish_all(Session *s, const bool *want, int to, RuleList *l, Error *err)
{
    char **texts;
    int n = 0;
    RETURN_IF_ERROR(rules_texts(s, want, &texts, &n, err));
    Status st = rules_wish(s, l, (const char *const *)texts, n, to, false, err);
    for (int i = 0; i < n; i++)
        free(texts[i]);
    free(texts);
    return st;
}

Status cells_restore(Session *s, const cJSON *record, Error *err)
{
    EditCell *cell = NULL;
    int n = 0;
    RuleList l = {0};
    bool *want = mem_zarray((size_t)s->model->nlinears, 1);
    Status st = want ? read_cells(s, record, &cell, &n, err) : error_nomem(err, "an edit");
    if (st == ST_OK)
        st = rules_copy(&s->assignment->rules, 0, &l, err);
    for (int to = WHATIF_QUANTIZE; st == ST_OK && to < s->assignment->nlevels; to++) {
        bool any = false;
        memset(want, 0, (size_t)s->model->nlinears);
        for (int i = 0; i < n; i++)
            if (cell_wish(s, &cell[i]) == to)
                any = want[cell[i].linear] = true;
        if (any)
            st = wish_all(s, want, to, &l, err);
    }
    free(want);
    free(cell);
    if (st == ST_OK)
        return rules_push(s, &l, true, NULL, err);
    rules_fini(&l);
    return st;
}

/* The pattern that was typed stands for the rows that its cells were made into, when it takes all of what they do and
 * changes no level. */
Status text_restore(Session *s, const char *text, Error *err)
{
    Assignment *a = s->assignment;
    Edit *e = a->edit_pos ? &a->edits[a->edit_pos - 1] : NULL;
    if (!e || e->kind != EDIT_RULES)
        return ST_OK;
    RuleList l;
    size_t n = (size_t)s->model->nlinears;
    int16_t *level = mem_array(n, sizeof *level);
    const char *const target[] = {text};
    RETURN_IF_ERROR(level ? rules_copy(&e->after, 0, &l, err) : error_nomem(err, "an edit"));
    Status st = rules_wish(s, &l, target, 1, 0, false, err);
    int at = st != ST_OK ? -1 : l.n > e->after.n ? l.n - 1 : rules_find(s, &l, text);
    const Rule *own = at >= 0 ? l.row[at].rule : NULL;
    for (int i = l.n - 1; own && i >= 0; i--) { /* rows that this step made of the same linears */
        bool old = l.row[i].rule == own, inside = l.row[i].to == 0;
        for (int k = 0; k < e->before.n; k++)
            old |= e->before.row[k].rule == l.row[i].rule;
        for (int64_t j = 0, k = 0; inside && j < l.row[i].rule->nclosed; j++) {
            while (k < own->nclosed && own->closed[k] < l.row[i].rule->closed[j])
                k++;
            inside = k < own->nclosed && own->closed[k] == l.row[i].rule->closed[j];
        }
        if (!old && inside)
            rules_drop(&l, i);
    }
    if (st == ST_OK)
        rules_levels(s, &l, level);
    if (st == ST_OK && memcmp(level, a->level, n * sizeof *level) == 0)
        st = rules_amend(s, &l, err);
    rules_fini(&l);
    free(level);
    return st;
}
