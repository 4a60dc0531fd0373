/* The calibration set as a person changed it: texts added and taken out, as undo steps. */
#include "session/texts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/file.h"
#include "session/assignment.h"
#include "session/fields.h"
#include "session/parts.h"
#include "session/results.h"
#include "session/table.h"

static void change_fini(TextsChange *c)
{
    for (int i = 0; i < c->nadded; i++)
        free(c->added[i]);
    free(c->added);
    free(c->print);
    free(c->out);
    *c = (TextsChange){0};
}

void texts_end(Texts *t)
{
    texts_forget(t);
    texts_view_free(t->view);
    change_fini(&t->change);
    for (int i = 0; i < t->ntrials; i++)
        trial_fini(&t->trial[i]);
    free(t->trial);
    free(t->tagged);
    free(t->filter);
    *t = (Texts){0};
}

void texts_base(const Session *s, char out[128])
{
    snprintf(out, 128, "%s", s->calib_path ? s->calib_print : session_calib(s));
}

const TextsChange *texts_now(const Session *s)
{
    char base[128];
    const TextsChange *c = &s->texts->change;
    if (!c->nadded && !c->nout)
        return NULL;
    texts_base(s, base);
    return strcmp(base, c->base) == 0 ? c : NULL;
}

void texts_hash(const Session *s, Hasher *h)
{
    const TextsChange *c = texts_now(s);
    if (!c)
        return;
    hasher_u64(h, (uint64_t)c->nadded);
    for (int i = 0; i < c->nadded; i++)
        hasher_str(h, c->print[i]);
    hasher_u64(h, (uint64_t)c->nout);
    for (int i = 0; i < c->nout; i++)
        hasher_u64(h, (uint64_t)c->out[i]);
}

const char *session_calib_title(const Session *s)
{
    const TextsChange *c = texts_now(s);
    char *title = s->texts->title;
    size_t size = sizeof s->texts->title;
    int n = snprintf(title, size, "%s", session_calib(s));
    for (int i = 0; c && i < c->nadded && n < (int)size; i++)
        n += snprintf(title + n, size - (size_t)n, " + %s", path_base(c->added[i]));
    if (c && c->nout && n < (int)size)
        snprintf(title + n, size - (size_t)n, " - %d text%s", c->nout, c->nout == 1 ? "" : "s");
    return title;
}

Status texts_fill(const Session *s, DataSpec *d, Error *err)
{
    const TextsChange *c = texts_now(s);
    d->name = strdup(session_calib_title(s));
    if (!d->name)
        return error_nomem(err, "the data set");
    if (!c)
        return ST_OK;
    d->added = mem_zarray((size_t)c->nadded + 1, sizeof *d->added);
    d->out = mem_array((size_t)c->nout + 1, sizeof *d->out);
    if (!d->added || !d->out)
        return error_nomem(err, "the data set");
    for (; d->nadded < c->nadded; d->nadded++)
        if (!(d->added[d->nadded] = strdup(c->added[d->nadded])))
            return error_nomem(err, "the data set");
    d->nout = c->nout;
    if (c->nout)
        memcpy(d->out, c->out, (size_t)c->nout * sizeof *d->out);
    return ST_OK;
}

/* ---- as text ---- */

static char *change_text(const TextsChange *c, Error *err)
{
    Str b = {0};
    str_puts(&b, "{\"base\":");
    str_json(&b, c->base);
    str_puts(&b, ",\"added\":[");
    for (int i = 0; i < c->nadded; i++) {
        str_puts(&b, i ? ",{\"path\":" : "{\"path\":");
        str_json(&b, c->added[i]);
        str_printf(&b, ",\"print\":\"%s\"}", c->print[i]);
    }
    str_puts(&b, "],\"out\":[");
    for (int i = 0; i < c->nout; i++)
        str_printf(&b, "%s%d", i ? "," : "", c->out[i]);
    str_puts(&b, "]}");
    char *text = str_detach(&b);
    if (!text)
        error_nomem(err, "the changes of the calibration set");
    return text;
}

static Status damaged(Error *err)
{
    return error_set(err, ST_DATA, "a record of the calibration set's texts is damaged");
}

static Status parse_added(const cJSON *list, TextsChange *c, Error *err)
{
    int n = cJSON_GetArraySize(list);
    const cJSON *o;
    c->added = mem_zarray((size_t)n + 1, sizeof *c->added);
    c->print = mem_zarray((size_t)n + 1, sizeof *c->print);
    if (!c->added || !c->print)
        return error_nomem(err, "the calibration set");
    cJSON_ArrayForEach(o, list) {
        const char *path = text_of(o, "path"), *print = text_of(o, "print");
        if (!path || !print || strlen(print) != 64)
            return damaged(err);
        if (!(c->added[c->nadded] = strdup(path)))
            return error_nomem(err, "the calibration set");
        memcpy(c->print[c->nadded++], print, 65);
    }
    return ST_OK;
}

static Status parse_out(const cJSON *list, TextsChange *c, Error *err)
{
    const cJSON *v;
    int64_t number, before = 0;
    c->out = mem_array((size_t)cJSON_GetArraySize(list) + 1, sizeof *c->out);
    if (!c->out)
        return error_nomem(err, "the calibration set");
    cJSON_ArrayForEach(v, list) {
        if (!cJSON_IsNumber(v) || !whole_of(v->valuedouble, before + 1, INT32_MAX, &number))
            return damaged(err);
        c->out[c->nout++] = (int)number;
        before = number;
    }
    return ST_OK;
}

static Status change_parse(const char *json, TextsChange *c, Error *err)
{
    cJSON *o;
    *c = (TextsChange){0};
    RETURN_IF_ERROR(json_parse(json, strlen(json), "the calibration set's texts", &o, err));
    const char *base = text_of(o, "base");
    Status st = base ? parse_added(json_get(o, "added"), c, err) : damaged(err);
    if (st == ST_OK)
        st = parse_out(json_get(o, "out"), c, err);
    if (st == ST_OK)
        snprintf(c->base, sizeof c->base, "%s", base);
    else
        change_fini(c);
    cJSON_Delete(o);
    return st;
}

Status texts_set(Session *s, const char *json, Error *err)
{
    TextsChange c;
    if (session_busy(s))
        return error_set(err, ST_USAGE, "a job runs: stop it before changing the data");
    RETURN_IF_ERROR(change_parse(json, &c, err));
    change_fini(&s->texts->change);
    s->texts->change = c;
    s->texts->version++;
    results_mark_stale(s);
    return ST_OK;
}

static bool is_out(const TextsChange *c, int number)
{
    for (int i = 0; i < c->nout; i++)
        if (c->out[i] == number)
            return true;
    return false;
}

/* Numbers that the one has and the other has not: "5", "5, 7", "5 and 3 more". */
static int put_others(const TextsChange *c, const TextsChange *than, Str *what)
{
    int n = 0;
    for (int i = 0; i < c->nout; i++)
        if (!is_out(than, c->out[i]) && ++n <= 3)
            str_printf(what, "%s%d", n > 1 ? ", " : "", c->out[i]);
    if (n > 3)
        str_printf(what, " and %d more", n - 3);
    return n;
}

void texts_describe(const char *from, const char *to, Str *what)
{
    TextsChange a, b;
    Str out = {0}, in = {0};
    if (change_parse(from, &a, NULL) != ST_OK)
        return;
    if (change_parse(to, &b, NULL) != ST_OK) {
        change_fini(&a);
        return;
    }
    int nout = put_others(&b, &a, &out), nin = put_others(&a, &b, &in);
    if (nout)
        str_printf(what, "text %s %s out", str_text(&out), nout == 1 ? "is" : "are");
    if (nin)
        str_printf(what, "%stext %s %s in again", nout ? ", " : "", str_text(&in), nin == 1 ? "is" : "are");
    if (a.nadded != b.nadded)
        str_printf(what, "%s%s is %s", nout || nin ? ", " : "", path_base(a.nadded > b.nadded ? a.added[a.nadded - 1] : b.added[b.nadded - 1]),
                   a.nadded > b.nadded ? "gone from the set" : "in the set again");
    str_free(&out);
    str_free(&in);
    change_fini(&a);
    change_fini(&b);
}

/* ---- steps ---- */

/* The change that the next one starts from: another set's is none of it. */
static Status change_begin(const Session *s, TextsChange *c, Error *err)
{
    const TextsChange *now = texts_now(s);
    char base[128];
    texts_base(s, base);
    if (!now) {
        *c = (TextsChange){0};
        memcpy(c->base, base, sizeof base);
        return ST_OK;
    }
    char *text = change_text(now, err);
    Status st = text ? change_parse(text, c, err) : ST_NOMEM;
    free(text);
    return st;
}

/* Makes *c the change, as one undo step; takes it. */
static Status push(Session *s, TextsChange *c, Error *err)
{
    Edit e = {.kind = EDIT_TEXTS, .from = change_text(&s->texts->change, err), .to = change_text(c, err)};
    change_fini(c);
    if (e.from && e.to)
        return edit_push(s, e, err);
    edit_fini(&e);
    return ST_NOMEM;
}

static Status need_idle(const Session *s, Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    return session_busy(s) ? error_set(err, ST_USAGE, "a job runs: stop it before changing the data") : ST_OK;
}

/* The file has to be one that texts are read from. */
static Status look_at(const Session *s, const char *path, Error *err)
{
    CalibFile *file;
    RETURN_IF_ERROR(calib_open(&file, path, s->opt.peer, NULL, err));
    calib_free(file);
    return ST_OK;
}

static Status append_file(const Session *s, TextsChange *c, const char *path, Error *err)
{
    size_t n = (size_t)c->nadded;
    char *full = realpath(path, NULL);
    if (!full)
        return error_set(err, ST_DATA, "'%s': no such file", path);
    Status st = look_at(s, full, err);
    char **added = st == ST_OK ? realloc(c->added, (n + 1) * sizeof *added) : NULL;
    c->added = added ? added : c->added;
    char (*print)[65] = added ? realloc(c->print, (n + 1) * sizeof *print) : NULL;
    c->print = print ? print : c->print;
    if (st == ST_OK && !print)
        st = error_nomem(err, "the calibration set");
    if (st == ST_OK)
        st = data_print(full, c->print[n], err);
    if (st != ST_OK) {
        free(full);
        return st;
    }
    c->added[c->nadded++] = full;
    return ST_OK;
}

Status session_texts_add(Session *s, const char *path, Error *err)
{
    TextsChange c;
    RETURN_IF_ERROR(need_idle(s, err));
    RETURN_IF_ERROR(change_begin(s, &c, err));
    Status st = append_file(s, &c, path, err);
    if (st == ST_OK)
        return push(s, &c, err);
    change_fini(&c);
    return st;
}

/* The numbers that are out when those with a hit are `out`; others stay as they are. */
static Status make_out(TextsChange *c, const bool *hit, int n, bool out, int *changed, Error *err)
{
    int *list = mem_array((size_t)n + 1, sizeof *list), k = 0, moved = 0;
    if (!list)
        return error_nomem(err, "the calibration set");
    for (int i = 0; i < n; i++) {
        bool was = is_out(c, i + 1), is = hit[i] ? out : was;
        moved += was != is;
        if (is)
            list[k++] = i + 1;
    }
    free(c->out);
    c->out = list;
    c->nout = k;
    *changed = moved;
    return k < n ? ST_OK
                 : error_set(err, ST_USAGE, "no text would be left of the calibration set: keep at least one of its %d", n);
}

Status session_texts_take(Session *s, const char *const *targets, int n, bool out, int *changed, Error *err)
{
    TextsChange c = {0};
    int total, moved = 0;
    bool *hit;
    RETURN_IF_ERROR(need_idle(s, err));
    RETURN_IF_ERROR(texts_target(s, targets, n, &hit, &total, err));
    Status st = change_begin(s, &c, err);
    if (st == ST_OK)
        st = make_out(&c, hit, total, out, &moved, err);
    free(hit);
    if (changed)
        *changed = moved;
    if (st == ST_OK && moved)
        return push(s, &c, err);
    change_fini(&c);
    return st;
}
