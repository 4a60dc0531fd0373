#include "export/export.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* ---- which form ---- */

static bool has_extension(const ExportForm *f, const char *path)
{
    for (int i = 0; f->ext[i]; i++)
        if (str_ends_with(path, f->ext[i]))
            return true;
    return false;
}

static Status choose_by_path(const char *path, const ExportForm **out, Error *err)
{
    Str names = {0};
    int n = 0;
    for (int i = 0; path && export_form_table[i]; i++) {
        if (!has_extension(export_form_table[i], path))
            continue;
        *out = export_form_table[i];
        str_printf(&names, "%s%s", n ? " or " : "", (*out)->name);
        n++;
    }
    if (n == 0)
        *out = export_form_table[0];
    Status st = n < 2 ? ST_OK : error_set(err, ST_USAGE, "'%s' may be several forms: say --as %s", path, str_text(&names));
    str_free(&names);
    return st;
}

Status export_form_choose(const char *as, const char *path, const ExportForm **out, Error *err)
{
    if (!as)
        return choose_by_path(path, out, err);
    for (int i = 0; export_form_table[i]; i++)
        if (strcmp(export_form_table[i]->name, as) == 0) {
            *out = export_form_table[i];
            return ST_OK;
        }
    return error_set(err, ST_USAGE, "--as is one of " EXPORT_WORDS ", not '%s'", as);
}

/* ---- levels ---- */

/* The first linear at a level, -1 when it isn't in use. */
static int64_t first_at(const ExportInput *in, int level)
{
    for (int64_t i = 0; i < in->model->nlinears; i++)
        if (in->level[i] == level)
            return i;
    return -1;
}

/* Finds the levels that are written alike; refuses one in use that the form has no words for. */
static Status find_same(const ExportForm *f, const ExportInput *in, Str *setting, int16_t *same, Error *err)
{
    int n = recipe_entries(in->recipe) + 1;
    for (int k = 0; k < n; k++) {
        Error why = {0};
        same[k] = (int16_t)k;
        Status st = f->setting ? f->setting(in, k, &setting[k], &why) : ST_OK;
        int64_t first = st != ST_OK ? first_at(in, k) : -1;
        if (st != ST_OK && first < 0)
            str_clear(&setting[k]); /* nothing is at it */
        if (first >= 0)
            return error_set(err, st, "%s can't be written for %s: %s (first layer at it: '%s')", in->level_name[k],
                             f->tool, why.text, in->model->linears[first].name);
        if (setting[k].oom)
            return error_nomem(err, "an export");
        for (int j = 0; j < k; j++)
            if (setting[j].len && strcmp(str_text(&setting[j]), str_text(&setting[k])) == 0) {
                same[k] = (int16_t)j;
                break;
            }
    }
    return ST_OK;
}

/* Levels of different names that come out alike are told: the file can't tell them apart. */
static void tell_same(const ExportForm *f, const ExportInput *in, Export *out)
{
    for (int k = 1; k <= recipe_entries(in->recipe); k++)
        if (in->same[k] != k && first_at(in, k) >= 0)
            export_add_check(out, true, false, "%s and %s are one setting for %s", in->level_name[in->same[k]],
                             in->level_name[k], f->tool);
}

/* ---- proof ---- */

static Status prove(const ExportForm *f, const ExportInput *in, Export *out, Error *err)
{
    const Model *m = in->model;
    int16_t *got = mem_zarray((size_t)m->nlinears + 1, sizeof *got);
    Error why = {0};
    Status st = got ? f->expand(in, str_text(&out->text), out->text.len, got, &why) : error_nomem(&why, "an export");
    if (st != ST_OK)
        st = error_set(err, st == ST_NOMEM ? st : ST_INTERNAL, "the text for %s can't be read again: %s", f->tool, why.text);
    for (int64_t i = 0; i < m->nlinears && st == ST_OK; i++)
        if (got[i] != in->same[in->level[i]])
            st = error_set(err, ST_INTERNAL,
                           "the text for %s gives '%s' another level: not written, please report this", f->tool,
                           m->linears[i].name);
    free(got);
    if (st == ST_OK)
        export_add_check(out, true, true, "round trip: read again by the rules of %s, all %lld layers at their level",
                         f->tool, (long long)m->nlinears);
    return st;
}

static void check_groups(const ExportInput *in, Export *out)
{
    const Model *m = in->model;
    int64_t split = 0, first = -1;
    for (int64_t g = 0; g < m->ngroups; g++)
        for (int32_t k = 1; k < m->groups[g].count; k++)
            if (in->same[in->level[group_linear(&m->groups[g], k)]] != in->same[in->level[m->groups[g].first]]) {
                first = split++ ? first : m->groups[g].first;
                break;
            }
    if (split)
        export_add_check(out, false, true, "%lld fused group%s split, first that of '%s': what is loaded as one matrix "
                         "needs one level", (long long)split, split == 1 ? "" : "s", m->linears[first].name);
    else
        export_add_check(out, true, true, "fused groups whole");
}

static Status write_proved(const ExportForm *f, ExportInput *in, Export *out, Error *err)
{
    int64_t quantized = 0;
    for (int64_t i = 0; i < in->model->nlinears; i++)
        quantized += in->level[i] > 0;
    if (f->some && !quantized)
        return error_set(err, ST_DATA, "every layer is float: there is nothing for %s to do", f->tool);
    RETURN_IF_ERROR(f->write(in, out, err));
    if (out->text.oom)
        return error_nomem(err, "an export");
    if (!f->expand)
        return ST_OK;
    RETURN_IF_ERROR(prove(f, in, out, err));
    if (f->groups)
        check_groups(in, out);
    tell_same(f, in, out);
    if (f->use)
        export_add_check(out, true, false, "%s", f->use);
    return ST_OK;
}

Status export_write(const ExportForm *f, const ExportInput *in, Export *out, Error *err)
{
    size_t n = (size_t)recipe_entries(in->recipe) + 1;
    Str *setting = mem_zarray(n, sizeof *setting);
    int16_t *same = mem_zarray(n, sizeof *same);
    ExportInput with = *in;
    *out = (Export){0};
    with.same = same;
    Status st = setting && same ? find_same(f, in, setting, same, err) : error_nomem(err, "an export");
    if (st == ST_OK)
        st = write_proved(f, &with, out, err);
    for (size_t k = 0; setting && k < n; k++)
        str_free(&setting[k]);
    free(setting);
    free(same);
    if (st != ST_OK)
        export_fini(out);
    return st;
}
