#include "export/export.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "metric/scope.h"
#include "text/csv.h"

/* A table with a line for each linear, for spreadsheets (RFC 4180). Read again by the names in its first line. */

static void put_line(const ExportInput *in, int64_t i, Str *group, Str *out)
{
    const Model *m = in->model;
    const Linear *l = &m->linears[i];
    uint64_t bytes = recipe_linear_bytes(in->recipe, m, i, in->level[i], in->sizing && in->sizing->peer);
    str_clear(group);
    scope_unit_name(m, SCOPE_GROUP, l->group, group);
    csv_field(out, l->name);
    str_putc(out, ',');
    csv_field(out, str_text(group));
    str_putc(out, ',');
    csv_field(out, in->level_name[in->level[i]]);
    str_printf(out, ",%.4g,%llu", 8.0 * (double)bytes / ((double)l->out * (double)l->in), (unsigned long long)bytes);
    for (int c = 0; c < in->ncolumns; c++) {
        str_putc(out, ',');
        if (isfinite(in->column[c].value[i]))
            str_double(out, in->column[c].value[i]);
    }
    str_putc(out, '\n');
}

static Status write(const ExportInput *in, Export *x, Error *err)
{
    Str group = {0};
    str_puts(&x->text, "name,group,level,bits,bytes");
    for (int c = 0; c < in->ncolumns; c++) {
        str_putc(&x->text, ',');
        csv_field(&x->text, in->column[c].name);
    }
    str_putc(&x->text, '\n');
    for (int64_t i = 0; i < in->model->nlinears; i++)
        put_line(in, i, &group, &x->text);
    bool oom = group.oom;
    str_free(&group);
    return oom ? error_nomem(err, "an export") : ST_OK;
}

static int column(const CsvReader *r, const char *name)
{
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->field[i], name) == 0)
            return (int)i;
    return -1;
}

static Status read_line(const ExportInput *in, const CsvReader *r, int name, int word, int16_t *level, Error *err)
{
    int64_t i = r->n > (size_t)name && r->n > (size_t)word ? model_find_linear(in->model, r->field[name]) : -1;
    if (i < 0)
        return error_set(err, ST_DATA, "line %d is no layer's", r->line);
    for (int k = 0; k <= recipe_entries(in->recipe); k++)
        if (strcmp(in->level_name[k], r->field[word]) == 0) {
            level[i] = (int16_t)k;
            return ST_OK;
        }
    return error_set(err, ST_DATA, "line %d: '%.40s' is no level", r->line, r->field[word]);
}

static Status expand(const ExportInput *in, const char *text, size_t len, int16_t *level, Error *err)
{
    char *copy = mem_array(len + 1, 1);
    if (!copy)
        return error_nomem(err, "an export");
    memcpy(copy, text, len + 1);
    memset(level, 0xff, (size_t)in->model->nlinears * sizeof *level);
    CsvReader r = {.at = copy, .end = copy + len, .sep = ','};
    bool got = false;
    Status st = csv_next(&r, &got, err);
    int name = column(&r, "name"), word = column(&r, "level");
    if (st == ST_OK && (name < 0 || word < 0))
        st = error_set(err, ST_DATA, "no columns name and level");
    while (st == ST_OK) {
        st = csv_next(&r, &got, err);
        if (st != ST_OK || !got)
            break;
        st = read_line(in, &r, name, word, level, err);
    }
    csv_fini(&r);
    free(copy);
    return st;
}

const ExportForm form_csv = {
    .name = "csv", .ext = {".csv"}, .tool = "spreadsheets", .write = write, .expand = expand,
};
