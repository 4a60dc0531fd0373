#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/ascii.h"
#include "base/mem.h"
#include "evaluate/aisbench.h"
#include "evaluate/child.h"
#include "evaluate/outcome.h"
#include "io/file.h"
#include "io/json.h"
#include "save/pyjson.h"

enum { LOG_MOST = 256 << 20, LOG_READ = 64 << 20, RESULT_MOST = 16 << 20, LINE_SHOWN = 140, PATH_MOST = 4096 };
static const double grace_seconds = 10, python_seconds = 60;
static const char models_below[] = "benchmark/configs/models", folder_mark[] = "Current exp folder:";

/* ---- its model file ---- */

static void put_python(const YamlNode *v, Str *out)
{
    bool map = v->kind == YAML_MAP;
    switch (v->kind) {
    case YAML_NULL:
        str_puts(out, "None");
        return;
    case YAML_BOOL:
        str_puts(out, v->b ? "True" : "False");
        return;
    case YAML_INT:
        str_printf(out, "%lld", (long long)v->i);
        return;
    case YAML_FLOAT:
        pyjson_double(out, v->f);
        return;
    case YAML_STR:
    case YAML_DATE:
        str_json(out, v->text);
        return;
    case YAML_SEQ:
    case YAML_MAP:
        break;
    }
    str_putc(out, map ? '{' : '[');
    for (int i = 0; i < v->count; i++) {
        str_puts(out, i ? ", " : "");
        if (map) {
            str_json(out, v->keys[i]->text ? v->keys[i]->text : "");
            str_puts(out, ": ");
        }
        put_python(map ? v->vals[i] : v->items[i], out);
    }
    str_putc(out, map ? '}' : ']');
}

static void put_string(Str *out, const char *key, const char *text)
{
    str_printf(out, "        %s=", key);
    str_json(out, text);
    str_puts(out, ",\n");
}

void aisbench_model_text(const Service *s, const BenchSet *set, const char *folder, Str *out)
{
    const Bench *b = &s->bench;
    bool post = b->postprocessor[0] != '\0', calls = false;
    int64_t longest = set->max_out_len ? set->max_out_len : b->max_out_len;
    str_printf(out, "from ais_bench.benchmark.models import %s\n", set->api_chat_type);
    if (post)
        str_printf(out, "from ais_bench.benchmark.utils.model_postprocessors import %s\n", b->postprocessor);
    str_puts(out, "\nmodels = [\n    dict(\n");
    put_string(out, "attr", b->attr);
    str_printf(out, "        type=%s,\n", set->api_chat_type);
    put_string(out, "abbr", b->abbr);
    put_string(out, "path", folder);
    put_string(out, "model", s->at.served);
    str_puts(out, "        request_rate=");
    pyjson_double(out, set->request_rate > 0 ? set->request_rate : b->request_rate);
    str_printf(out, ",\n        retry=%lld,\n", (long long)b->retry);
    put_string(out, "host_ip", s->at.host);
    str_printf(out, "        host_port=%d,\n        max_out_len=%lld,\n        batch_size=%lld,\n", s->at.port,
               (long long)longest, (long long)b->batch_size);
    if (set->returns_tool_calls && lax_bool(set->returns_tool_calls, &calls))
        str_printf(out, "        returns_tool_calls=%s,\n", calls ? "True" : "False");
    str_printf(out,
               "        trust_remote_code=%s,\n        generation_kwargs=", b->trust_remote_code ? "True" : "False");
    if (b->generation_kwargs)
        put_python(b->generation_kwargs, out);
    else
        str_puts(out, "{}");
    str_puts(out, ",\n");
    if (set->chat_template_kwargs && set->chat_template_kwargs->count) {
        str_puts(out, "        chat_template_kwargs=");
        put_python(set->chat_template_kwargs, out);
        str_puts(out, ",\n");
    }
    if (post)
        str_printf(out, "        pred_postprocessor=dict(type=%s),\n", b->postprocessor);
    str_puts(out, "    )\n]\n");
}

/* The folder of model files: as the plan says, else where the installed package has it. */
static Status models_folder(const Service *s, const EvalKit *kit, Str *out, Error *err)
{
    static const char script[] =
        "import importlib.util as u; print(u.find_spec('ais_bench').submodule_search_locations[0])";
    const Bench *b = &s->bench;
    Str log = {0};
    ChildEnd end;
    if (b->directory[0]) {
        str_puts(out, b->directory);
        return out->oom ? error_nomem(err, "a path") : ST_OK;
    }
    char *python = child_find("python", NULL);
    if (!python)
        python = child_find("python3", NULL);
    if (!python)
        return error_set(err, ST_DATA, "no python is found in PATH to look for AISBench with");
    const char *const argv[] = {python, "-c", script, NULL};
    Status st = eval_place(kit, "aisbench_logs", "python.log", &log, err);
    if (st == ST_OK) {
        ChildSpec spec = {.argv = argv, .log = log.s, .most = 1 << 20, .grace = 1};
        unlink(log.s);
        st = child_run(&spec, python_seconds, kit->cancel, &end, err);
    }
    if (st == ST_OK && end.fate == CHILD_EXITED && end.number == 0) {
        child_last_line(log.s, 4096, out);
        str_printf(out, "/%s/%s", models_below, b->subdir);
        unlink(log.s);
    } else if (st == ST_OK)
        st = error_set(err, ST_DATA,
                       "AISBench (the Python package ais_bench) is not installed for '%s': install it, or name the "
                       "folder of its model files in evaluation.aisbench.model_meta.directory",
                       python);
    free(python);
    str_free(&log);
    return st == ST_OK && out->oom ? error_nomem(err, "a path") : st;
}

Status aisbench_ready(const Service *s, const EvalKit *kit, Error *err)
{
    char *program = child_find(s->bench.binary, NULL);
    Str dir = {0};
    if (!program)
        return error_set(err, ST_DATA,
                         "no program '%s' in PATH: install AISBench, or have another evaluation (type: native, command "
                         "or manual)",
                         s->bench.binary);
    free(program);
    Status st = models_folder(s, kit, &dir, err);
    if (st == ST_OK && !dir_exists(dir.s))
        st = error_set(err, ST_DATA, "the folder of AISBench's model files '%s' is not there", dir.s);
    str_free(&dir);
    return st;
}

/* The name of the model file without its ending. */
static void model_name(const Bench *b, int number, Str *out)
{
    size_t from = out->len;
    str_printf(out, "%s_", b->base_name);
    if (strcmp(b->name_suffix, "auto") == 0)
        str_printf(out, "trial_%d_%lld", number, (long long)time(NULL));
    else
        str_puts(out, b->name_suffix);
    for (size_t i = from; i < out->len; i++)
        if (!ascii_is_alnum(out->s[i]) && out->s[i] != '_' && out->s[i] != '-')
            out->s[i] = '_';
}

/* ---- its result ---- */

/* The folder that its log names last; false: none. */
static bool find_folder(const char *log, Str *out)
{
    char *text = NULL;
    size_t len;
    if (file_read(log, LOG_READ, &text, &len, NULL) != ST_OK)
        return false;
    const char *at = NULL;
    for (const char *p = text; (p = strstr(p, folder_mark)); p++)
        at = p + sizeof folder_mark - 1;
    if (at) {
        at += strspn(at, " \t");
        size_t n = strcspn(at, "\r\n");
        while (n && (at[n - 1] == ' ' || at[n - 1] == '\t'))
            n--;
        for (size_t esc = 0; esc < n; esc++) /* what colours the line is no part of it */
            if (at[esc] == '\033')
                n = esc;
        str_append(out, at, n);
    }
    free(text);
    return out->len > 0;
}

static bool is_result(const char *name)
{
    return name[0] != '.' && str_ends_with(name, ".json");
}

/* The first *.json of the folder by name: whether there is a folder into *there. */
static void first_result(const char *dir, bool *there, Str *out)
{
    char best[NAME_MAX + 1] = "";
    DIR *d = opendir(dir);
    *there = d != NULL;
    for (const struct dirent *e; d && (e = readdir(d));)
        if (is_result(e->d_name) && (!best[0] || strcmp(e->d_name, best) < 0))
            snprintf(best, sizeof best, "%s", e->d_name);
    if (d)
        closedir(d);
    if (best[0])
        str_printf(out, "%s/%s", dir, best);
}

static bool read_accuracy(const char *path, Decimal *out)
{
    cJSON *doc = NULL;
    bool ok = false;
    if (json_parse_file(path, RESULT_MOST, &doc, NULL) == ST_OK && cJSON_IsObject(doc)) {
        const cJSON *a = json_get(doc, "accuracy");
        if (cJSON_IsNumber(a))
            ok = decimal_of(a->valuedouble, out);
        else if (cJSON_IsString(a))
            ok = decimal_parse(a->valuestring, strlen(a->valuestring), out);
    }
    cJSON_Delete(doc);
    return ok;
}

static void find_accuracy(const Bench *b, const char *log, BenchResult *r)
{
    Str dir = {0}, file = {0};
    bool there = false;
    if (!find_folder(log, &dir))
        snprintf(r->why, sizeof r->why, "AISBench's log has no line '%s'", folder_mark);
    else {
        str_printf(&dir, "/results/%s", b->abbr);
        first_result(str_text(&dir), &there, &file);
        r->lost = !there;
        if (!there)
            snprintf(r->why, sizeof r->why, "AISBench left no folder '%.200s'", str_text(&dir));
        else if (!file.len)
            snprintf(r->why, sizeof r->why, "AISBench left no result in '%.200s'", str_text(&dir));
        else if (!(r->scored = read_accuracy(str_text(&file), &r->value)))
            snprintf(r->why, sizeof r->why, "AISBench's result '%.200s' has no number 'accuracy'", str_text(&file));
    }
    str_free(&dir);
    str_free(&file);
}

/* ---- its run ---- */

typedef struct Run {
    Str models, name, file, log, work, note;
    char *program, *folder;
    const char **argv;
    int n;
} Run;

/* The model file of a run that was killed lies in the installed package still: the note in the folder of the run says
 * where. */
static void forget_model_file(const char *note)
{
    char *path = NULL;
    size_t n;
    if (!file_exists(note) || file_read(note, PATH_MOST, &path, &n, NULL) != ST_OK)
        return;
    if (str_ends_with(path, ".py"))
        unlink(path);
    unlink(note);
    free(path);
}

static Status plan_run(Run *r, const Service *s, const BenchSet *set, const EvalKit *kit, const EvalTrial *t,
                       Error *err)
{
    const Bench *b = &s->bench;
    char name[300];
    if (!(r->program = child_find(b->binary, NULL)))
        return aisbench_ready(s, kit, err);
    RETURN_IF_ERROR(eval_full_path(t->folder, &r->folder, err));
    RETURN_IF_ERROR(eval_place(kit, "aisbench_logs", "model_file", &r->note, err));
    if (b->cleanup)
        forget_model_file(r->note.s);
    RETURN_IF_ERROR(models_folder(s, kit, &r->models, err));
    model_name(b, t->number, &r->name);
    str_printf(&r->file, "%s/%s.py", str_text(&r->models), str_text(&r->name));
    snprintf(name, sizeof name, "%.200s_trial%d.log", set->key, t->number);
    RETURN_IF_ERROR(eval_place(kit, "aisbench_logs", name, &r->log, err));
    if (b->log_dir[0]) {
        const char *base = path_base(r->log.s);
        Str log = {0};
        str_printf(&log, "%s/%s", b->log_dir, base);
        str_free(&r->log);
        r->log = log;
        RETURN_IF_ERROR(dir_make(b->log_dir, err));
    }
    RETURN_IF_ERROR(eval_place(kit, "", "aisbench_output", &r->work, err));
    const char *const words[] = {r->program,
                                 "--models",
                                 str_text(&r->name),
                                 "--datasets",
                                 set->config_name,
                                 "--mode",
                                 set->mode[0] ? set->mode : b->mode,
                                 "--work-dir",
                                 r->work.s};
    int fixed = sizeof words / sizeof *words;
    r->argv = mem_array((size_t)(fixed + b->nextra + set->nextra + 1), sizeof *r->argv);
    if (!r->argv || r->name.oom || r->file.oom || r->log.oom)
        return error_nomem(err, "a benchmark");
    for (int i = 0; i < fixed; i++)
        r->argv[r->n++] = words[i];
    for (int i = 0; i < b->nextra; i++)
        r->argv[r->n++] = b->extra_args[i];
    for (int i = 0; i < set->nextra; i++)
        r->argv[r->n++] = set->extra_args[i];
    r->argv[r->n] = NULL;
    return ST_OK;
}

/* The model file, and a log that begins with the command. */
static Status write_files(const Run *r, const Service *s, const BenchSet *set, Error *err)
{
    Str text = {0}, head = {0};
    aisbench_model_text(s, set, r->folder, &text);
    for (int i = 0; i < r->n; i++)
        str_printf(&head, "%s%s", i ? " " : "", r->argv[i]);
    str_puts(&head, "\n\n");
    Status st = text.oom || head.oom ? error_nomem(err, "a benchmark") : dir_make(r->models.s, err);
    if (st == ST_OK && s->bench.cleanup)
        st = file_write_atomic(r->note.s, r->file.s, r->file.len, err);
    if (st == ST_OK)
        st = file_write_atomic(r->file.s, text.s, text.len, err);
    if (st == ST_OK)
        st = file_write_atomic(r->log.s, head.s, head.len, err);
    str_free(&text);
    str_free(&head);
    return st;
}

Status aisbench_run(const Service *s, const BenchSet *set, const EvalKit *kit, const EvalTrial *t, BenchResult *out,
                    Error *err)
{
    Run r = {0};
    ChildEnd end;
    *out = (BenchResult){0};
    Status st = plan_run(&r, s, set, kit, t, err);
    if (st == ST_OK)
        st = write_files(&r, s, set, err);
    if (st == ST_OK) {
        ChildSpec spec = {.argv = r.argv, .log = r.log.s, .most = LOG_MOST, .grace = grace_seconds};
        st = child_run(&spec, s->bench.timeout, kit->cancel, &end, err);
        if (s->bench.cleanup)
            forget_model_file(r.note.s);
    }
    if (st == ST_OK && end.fate == CHILD_EXITED && end.number == 0)
        find_accuracy(&s->bench, r.log.s, out);
    else if (st == ST_OK) {
        char how[60];
        Str last = {0};
        child_last_line(r.log.s, LINE_SHOWN, &last);
        snprintf(out->why, sizeof out->why, "AISBench failed (%s): %s",
                 child_end_text(&end, s->bench.timeout, how, sizeof how), str_text(&last));
        str_free(&last);
    }
    str_free(&r.models);
    str_free(&r.name);
    str_free(&r.file);
    str_free(&r.log);
    str_free(&r.work);
    str_free(&r.note);
    free(r.program);
    free(r.folder);
    free(r.argv);
    return st;
}
