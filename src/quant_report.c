/* What 'quant' would do and what it did, for people and as JSON. */
#include "session/calibset.h"
#include "src/quant_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { PATTERNS_SHOWN = 6, ERRORS_SHOWN = 10 };

/* What one level holds. */
typedef struct LevelSum {
    int64_t linears, params;
    uint64_t bytes;
    char **pattern;
    int npatterns;
} LevelSum;

static void level_sum_fini(LevelSum *l)
{
    for (int i = 0; i < l->npatterns; i++)
        free(l->pattern[i]);
    free(l->pattern);
}

static Status sum_level(Session *s, int level, LevelSum *out, Error *err)
{
    const Model *m = session_model(s);
    *out = (LevelSum){0};
    bool *want = mem_zarray((size_t)m->nlinears + 1, sizeof *want);
    if (!want)
        return error_nomem(err, "the outline");
    for (int64_t i = 0; i < m->nlinears; i++) {
        if (session_level_of(s, i) != level)
            continue;
        want[i] = true;
        out->linears++;
        out->params += m->linears[i].out * m->linears[i].in;
        out->bytes += recipe_linear_bytes(session_recipe(s), m, i, level, session_options(s)->peer);
    }
    Status st = out->linears ? pattern_cover(m, want, &out->pattern, &out->npatterns, err) : ST_OK;
    free(want);
    return st;
}

static void text_level(const char *name, const LevelSum *l, Str *out)
{
    str_printf(out, "  %-22s %7lld linears  %8.2f M weights  ", name, (long long)l->linears, (double)l->params / 1e6);
    str_bytes(out, l->bytes);
    for (int i = 0; i < l->npatterns && i < PATTERNS_SHOWN; i++)
        str_printf(out, "%s%s", i ? " " : "\n      ", l->pattern[i]);
    if (l->npatterns > PATTERNS_SHOWN)
        str_printf(out, " … and %d more patterns", l->npatterns - PATTERNS_SHOWN);
    str_putc(out, '\n');
}

static void json_level(const char *name, const LevelSum *l, bool first, Str *out)
{
    str_puts(out, first ? "{\"level\":" : ",{\"level\":");
    str_json(out, name);
    str_printf(out, ",\"linears\":%lld,\"parameters\":%lld,\"bytes\":%llu,\"patterns\":[", (long long)l->linears,
               (long long)l->params, (unsigned long long)l->bytes);
    for (int i = 0; i < l->npatterns; i++) {
        str_puts(out, i ? "," : "");
        str_json(out, l->pattern[i]);
    }
    str_puts(out, "]}");
}

static Status put_levels(Session *s, OutFormat f, Str *out, Error *err)
{
    bool first = true;
    for (int k = session_levels(s) - 1; k >= 0; k--) { /* float last */
        LevelSum l;
        Status st = sum_level(s, k, &l, err);
        if (st == ST_OK && l.linears) {
            if (f == OUT_JSON)
                json_level(session_level_name(s, k), &l, first, out);
            else
                text_level(session_level_name(s, k), &l, out);
            first = false;
        }
        level_sum_fini(&l);
        RETURN_IF_ERROR(st);
    }
    return ST_OK;
}

/* Weights line by line, the small files in one. */
static void text_saver(const SaveFile *files, int n, Str *out)
{
    const char *sep = "  with ";
    for (int k = 0; k < n; k++) {
        if (files[k].bytes == 0)
            continue;
        str_printf(out, "  %s  ", files[k].name);
        str_bytes(out, files[k].bytes);
        str_putc(out, '\n');
    }
    for (int k = 0; k < n; k++) {
        if (files[k].bytes)
            continue;
        str_printf(out, "%s%s", sep, files[k].name);
        sep = ", ";
    }
    str_putc(out, '\n');
}

void saver_files_text(const char *type, const char *dir, uint64_t bytes, const SaveFile *files, int n, Str *out)
{
    str_printf(out, "%s writes into %s, ", type, dir);
    str_bytes(out, bytes);
    str_puts(out, " of weights:\n");
    text_saver(files, n, out);
}

static void text_names(const char *what, const NameList *l, Str *out)
{
    if (l->n == 0)
        return;
    str_puts(out, what);
    for (size_t i = 0; i < l->n; i++)
        str_printf(out, "%s%s", i ? ", " : "", l->s[i]);
    str_putc(out, '\n');
}

void save_target_text(const SaveTarget *t, const char *dir, bool force, const char *unit, const char *if_what, Str *out)
{
    if (t->done && !force) {
        str_printf(out, "%s holds this model already: whole, nothing would be written%s\n", dir, if_what);
        text_names("leaves     ", &t->left, out);
        return;
    }
    if (t->model[0])
        str_printf(out, "%s holds %s%s as %s wrote it\n", dir, t->other ? "another model, " : "", t->model, t->saver);
    if (t->stopped)
        str_printf(out, "%s holds a stopped run, %d %s done%s\n", dir, t->stopped, unit,
                   t->goes_on ? ": --resume goes on with it" : ", of another model or recipe");
    text_names(force ? "replaces   " : "there already, replaced with --force only   ", &t->replaced, out);
    text_names("removes    ", &t->removed, out);
    text_names("leaves     ", &t->left, out);
}

void names_json(const char *key, const NameList *l, Str *out)
{
    str_printf(out, "\"%s\":[", key);
    for (size_t i = 0; i < l->n; i++) {
        str_puts(out, i ? "," : "");
        str_json(out, l->s[i]);
    }
    str_putc(out, ']');
}

void save_target_json(const SaveTarget *t, Str *out)
{
    str_printf(out, ",\"target\":{\"done\":%s,", t->done ? "true" : "false");
    names_json("replaced", &t->replaced, out);
    str_putc(out, ',');
    names_json("removed", &t->removed, out);
    str_putc(out, ',');
    names_json("left", &t->left, out);
    str_putc(out, '}');
}

void saver_files_json(const char *type, uint64_t bytes, const SaveFile *files, int n, Str *out)
{
    str_puts(out, "{\"saver\":");
    str_json(out, type);
    str_printf(out, ",\"bytes\":%llu,\"files\":[", (unsigned long long)bytes);
    for (int k = 0; k < n; k++) {
        str_puts(out, k ? ",{\"name\":" : "{\"name\":");
        str_json(out, files[k].name);
        str_printf(out, ",\"bytes\":%llu}", (unsigned long long)files[k].bytes);
    }
    str_puts(out, "]}");
}

/* People are told of another arithmetic than the default. */
static void put_arith(const Session *s, OutFormat f, Str *out)
{
    ArithMode arith = session_options(s)->arith;
    if (f == OUT_JSON)
        str_printf(out, ",\"arithmetic\":\"%s\"", arith_name(arith));
    else if (arith)
        str_printf(out, "arithmetic   %s\n", arith_name(arith));
}

Status quant_outline_text(Session *s, const QuantizeOptions *opt, const QuantizeOutline *o, OutFormat f, Str *out,
                          Error *err)
{
    const char *calib = o->needs_data ? session_calib_title(s) : NULL;
    const char *recipe = recipe_name(session_recipe(s));
    if (f == OUT_JSON) {
        str_puts(out, "{\"model\":");
        str_json(out, session_model(s)->path);
        str_puts(out, ",\"recipe\":");
        str_json(out, recipe);
        put_arith(s, f, out);
        str_puts(out, ",\"calibration\":");
        if (calib)
            str_json(out, calib);
        else
            str_puts(out, "null");
        str_printf(out, ",\"kv_caches\":%d,\"attentions\":[", o->caches);
        for (int i = 0; i < o->nattention; i++)
            str_printf(out, "%s{\"type\":\"%s\",\"attentions\":%d}", i ? "," : "", o->attention[i].type, o->attention[i].n);
        str_puts(out, "],\"levels\":[");
        RETURN_IF_ERROR(put_levels(s, f, out, err));
        str_puts(out, "],\"savers\":[");
        for (int i = 0; i < o->nsavers; i++) {
            str_puts(out, i ? "," : "");
            saver_files_json(o->saver[i].type, o->saver[i].bytes, o->saver[i].files, o->saver[i].nfiles, out);
        }
        str_putc(out, ']');
        save_target_json(&o->target, out);
        str_puts(out, "}\n");
        return ST_OK;
    }
    str_printf(out, "model        %s\nrecipe       %s\ncalibration  %s\n", session_model(s)->path, recipe,
               calib ? calib : "none needed");
    put_arith(s, f, out);
    if (o->caches)
        str_printf(out, "KV cache     int8 scales (C8) for %d attention%s\n", o->caches, o->caches == 1 ? "" : "s");
    for (int i = 0; i < o->nattention; i++)
        str_printf(out, "%s%s for %d attention%s\n", i ? "             " : "attention    ", o->attention[i].type, o->attention[i].n,
                   o->attention[i].n == 1 ? "" : "s");
    str_puts(out, "levels\n");
    RETURN_IF_ERROR(put_levels(s, f, out, err));
    for (int i = 0; i < o->nsavers; i++)
        saver_files_text(o->saver[i].type, opt->save_path, o->saver[i].bytes, o->saver[i].files, o->saver[i].nfiles, out);
    save_target_text(&o->target, opt->save_path, opt->force, "layers",
                     o->needs_data ? " if the calibration texts are still the same" : "", out);
    return ST_OK;
}

static int by_error(const void *pa, const void *pb)
{
    const VerifyRow *a = pa, *b = pb;
    if (isnan(a->error) != isnan(b->error))
        return isnan(a->error) ? -1 : 1;
    if (a->error != b->error && !isnan(a->error))
        return a->error > b->error ? -1 : 1;
    return a->linear < b->linear ? -1 : a->linear > b->linear;
}

/* The worst linears, and whatever is wrong. */
static void text_verify(const Session *s, const char *saver, const VerifyReport *v, Str *out)
{
    const Model *m = session_model(s);
    VerifyRow *rows = mem_array((size_t)v->n + 1, sizeof *rows);
    out->oom = out->oom || !rows;
    str_printf(out, "%s read back: %lld linears, %lld quantized, ", saver, (long long)v->n, (long long)v->quantized);
    str_bytes(out, v->bytes);
    str_printf(out, "; %lld problem%s\n", (long long)v->problems, v->problems == 1 ? "" : "s");
    for (int i = 0; i < v->problems && i < VERIFY_PROBLEMS; i++)
        str_printf(out, "  ! %s\n", v->problem[i]);
    if (v->n && rows) {
        memcpy(rows, v->rows, (size_t)v->n * sizeof *rows);
        qsort(rows, (size_t)v->n, sizeof *rows, by_error);
    }
    for (int64_t i = 0, shown = 0; rows && i < v->n && shown < ERRORS_SHOWN; i++) {
        if (strcmp(rows[i].label, "FLOAT") == 0)
            continue;
        if (shown++ == 0)
            str_puts(out, "  relative error of the weight, worst first\n");
        str_printf(out, "  %10.4e  %-14s %s\n", rows[i].error, rows[i].label, m->linears[rows[i].linear].name);
    }
    free(rows);
}

static void json_verify(const Session *s, const QuantizeDone *d, Str *out)
{
    for (int i = 0; i < d->nverified; i++) {
        const VerifyReport *v = &d->verify[i];
        str_puts(out, i ? ",{\"saver\":" : "{\"saver\":");
        str_json(out, d->saver[i]);
        str_printf(out, ",\"problems\":%lld,\"first\":[", (long long)v->problems);
        for (int k = 0; k < v->problems && k < VERIFY_PROBLEMS; k++) {
            str_puts(out, k ? "," : "");
            str_json(out, v->problem[k]);
        }
        str_puts(out, "],\"layers\":[");
        for (int64_t k = 0; k < v->n; k++) {
            str_puts(out, k ? ",{\"name\":" : "{\"name\":");
            str_json(out, session_model(s)->linears[v->rows[k].linear].name);
            str_puts(out, ",\"type\":");
            str_json(out, v->rows[k].label);
            str_puts(out, ",\"error\":");
            str_double(out, v->rows[k].error);
            str_putc(out, '}');
        }
        str_puts(out, "]}");
    }
}

static void text_written(const QuantizeDone *d, Str *out)
{
    const SaveResult *r = &d->run;
    double mb = (double)(r->bytes_read + r->bytes_written) * 1e-6;
    str_printf(out, "%s: %lld linears quantized, %lld float, ", d->save_path, (long long)r->quantized,
               (long long)r->floats);
    str_bytes(out, r->bytes_written);
    str_printf(out, " written in %.1f s", d->seconds);
    if (d->seconds > 0)
        str_printf(out, " (%.0f MB/s read and written)", mb / d->seconds);
    str_putc(out, '\n');
}

void quant_done_text(Session *s, const QuantizeDone *d, OutFormat f, const ProfileReport *profile, Str *out)
{
    const SaveResult *r = &d->run;
    if (f == OUT_JSON) {
        str_puts(out, "{\"model\":");
        str_json(out, session_model(s)->path);
        str_puts(out, ",\"save_path\":");
        str_json(out, d->save_path);
        put_arith(s, f, out);
        str_printf(out, ",\"quantized\":%lld,\"float\":%lld,\"unseen\":%lld,\"bytes_read\":%llu,\"bytes_written\":%llu,"
                        "\"layers_resumed\":%d,\"there_already\":%s,\"seconds\":%.3f,\"verify\":[",
                   (long long)r->quantized, (long long)r->floats, (long long)r->unseen,
                   (unsigned long long)r->bytes_read, (unsigned long long)r->bytes_written, r->layers_resumed,
                   r->there ? "true" : "false", d->seconds);
        json_verify(s, d, out);
        str_puts(out, "],\"removed\":");
        str_json(out, r->removed);
        output_profile_json(profile, out);
        str_puts(out, "}\n");
        return;
    }
    if (r->there)
        str_printf(out, "%s holds this model already: whole, nothing written\n", d->save_path);
    else
        text_written(d, out);
    put_arith(s, f, out);
    if (r->removed[0])
        str_printf(out, "of the older output removed: %s\n", r->removed);
    if (r->layers_resumed)
        str_printf(out, "%d layers were there already from the run that was stopped\n", r->layers_resumed);
    for (int i = 0; i < d->nverified; i++)
        text_verify(s, d->saver[i], &d->verify[i], out);
}
