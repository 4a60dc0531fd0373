#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/ascii.h"
#include "base/mem.h"
#include "base/str.h"
#include "evaluate/child.h"
#include "evaluate/outcome.h"
#include "io/file.h"

/* Evaluator `command`: a program of the user's gets the folder of the quantized model and prints a line
 * `DATASET VALUE [VALUE OF THE FLOAT MODEL]` for each data set that is demanded. Its exit code tells what it is worth:
 * 0 done, `bad_exit` the model's answers are garbage, anything else it could not be evaluated. */

enum { OUT_MOST = 1 << 20, LINE_SHOWN = 120 };
static const double timeout_default = 7200, grace_seconds = 10;
/* Not 1 or 2, with which interpreters end over an error, a missing file or wrong options. */
static const int64_t bad_exit_default = 3;

typedef struct Command {
    const char *const *word;
    int n;
    double timeout;
    int64_t bad_exit;
} Command;

/* What words may hold, and what it stands for. */
typedef struct Holder {
    const char *name, *variable; /* in words; in the program's environment */
} Holder;
enum { HOLD_MODEL, HOLD_TRY, HOLD_ID, HOLDERS };
static const Holder holders[HOLDERS] = {[HOLD_MODEL] = {"{model}", "SLIMSCOPE_MODEL"},
                                        [HOLD_TRY] = {"{try}", "SLIMSCOPE_TRY"},
                                        [HOLD_ID] = {"{id}", "SLIMSCOPE_ID"}};

static void check_command(Check *c, const YamlNode *map)
{
    const YamlNode *run = yaml_get(map, "run");
    bool told = false;
    if (!run || run->kind != YAML_SEQ || run->count == 0)
        return;
    for (int i = 1; i < run->count; i++)
        told = told || (run->items[i]->kind == YAML_STR && strstr(run->items[i]->text, holders[HOLD_MODEL].name));
    size_t was = check_push(c, "run");
    if (!told)
        check_fail(
            c, run,
            "no word behind the program has {model}: the folder of the quantized model, which it is to evaluate");
    check_pop(c, was);
}

static const Field command_fields[] = {
    FIELD_EVALUATION,
    {.key = "run", .type = F_STRINGS, .required = true, .least = 1, .longest = 4096},
    {.key = "timeout", .type = F_FLOAT, .bounded = true, .open = true, .lo = 0, .hi = 1e9},
    {.key = "bad_exit", .type = F_INT, .bounded = true, .lo = 1, .hi = 255},
    FIELD_END,
};
static const Object command_object = {.fields = command_fields, .check = check_command};

static const void *command_settings(Arena *a, const YamlNode *map)
{
    Command *s = arena_alloc(a, sizeof *s);
    const YamlNode *timeout = yaml_get(map, "timeout"), *bad = yaml_get(map, "bad_exit");
    if (!s)
        return NULL;
    *s = (Command){.timeout = timeout_default, .bad_exit = bad_exit_default};
    if (timeout)
        lax_float(timeout, &s->timeout);
    if (bad)
        lax_int(bad, &s->bad_exit);
    s->word = texts_read(a, yaml_get(map, "run"), &s->n);
    return s->word ? s : NULL;
}

static Status command_ready(const void *settings, const Expectation *e, int n, const EvalKit *kit, Error *err)
{
    (void)e;
    (void)n;
    (void)kit;
    const Command *s = settings;
    char *program = child_find(s->word[0], NULL);
    Status st = program ? ST_OK
                        : error_set(err, ST_DATA, "evaluation.run: no program '%s' that can be run%s", s->word[0],
                                    strchr(s->word[0], '/') ? "" : " in PATH");
    free(program);
    return st;
}

/* ---- its words ---- */

typedef struct Words {
    Str text;
    const char **argv; /* [n + 1], into text */
    Str vars;
    const char *env[HOLDERS + 1];
} Words;

static void put_word(Str *out, const char *word, const char *const value[])
{
    while (*word) {
        int h = 0;
        while (h < HOLDERS && strncmp(word, holders[h].name, strlen(holders[h].name)) != 0)
            h++;
        if (h < HOLDERS)
            str_puts(out, value[h]);
        else
            str_putc(out, *word);
        word += h < HOLDERS ? strlen(holders[h].name) : 1;
    }
    str_putc(out, '\0');
}

/* Points at the n texts that lie one behind the other. */
static void point(const char **to, int n, const char *text)
{
    for (int i = 0; i < n; i++, text += strlen(text) + 1)
        to[i] = text;
    to[n] = NULL;
}

static Status words_fill(Words *w, const Command *s, const char *program, const EvalTrial *t, Error *err)
{
    char number[16], *folder = NULL;
    RETURN_IF_ERROR(eval_full_path(t->folder, &folder, err));
    snprintf(number, sizeof number, "%d", t->number);
    const char *const value[HOLDERS] = {[HOLD_MODEL] = folder, [HOLD_TRY] = number, [HOLD_ID] = t->id};
    w->argv = mem_array((size_t)s->n + 1, sizeof *w->argv);
    for (int i = 0; i < s->n; i++)
        put_word(&w->text, i ? s->word[i] : program,
                 i ? value : (const char *const[HOLDERS]){"{model}", "{try}", "{id}"});
    for (int h = 0; h < HOLDERS; h++) {
        str_printf(&w->vars, "%s=%s", holders[h].variable, value[h]);
        str_putc(&w->vars, '\0');
    }
    free(folder);
    if (!w->argv || w->text.oom || w->vars.oom)
        return error_nomem(err, "an evaluation");
    point(w->argv, s->n, w->text.s);
    point(w->env, HOLDERS, w->vars.s);
    return ST_OK;
}

static void words_free(Words *w)
{
    str_free(&w->text);
    str_free(&w->vars);
    free(w->argv);
}

/* ---- its answer ---- */

static bool parse_value(const char **at, Decimal *d)
{
    size_t n = strcspn(*at, " \t");
    bool ok = n && decimal_parse(*at, n, d);
    *at += n + strspn(*at + n, " \t");
    return ok;
}

/* "VALUE [VALUE]" behind a data set's name. */
static bool parse_values(const char *rest, Decimal *value, Decimal *base, bool *has_base)
{
    if (*rest != ' ' && *rest != '\t')
        return false;
    rest += strspn(rest, " \t");
    bool ok = parse_value(&rest, value);
    *has_base = ok && *rest;
    return ok && (!*rest || parse_value(&rest, base)) && !*rest;
}

/* Whether a line that names none of the data sets is one of a data set that isn't asked for. */
static bool another_set(const char *line)
{
    Decimal a, b;
    bool two;
    return parse_values(line + strcspn(line, " \t"), &a, &b, &two);
}

typedef struct Found {
    Decimal value, base;
    bool has, has_base;
} Found;

/* Reads the program's lines, which are cut up. Gives ST_OK, and says what is wrong in r. */
static Status read_lines(char *text, const Expectation *e, int n, Found *found, EvalResult *r)
{
    for (char *line = text, *next; *line; line = next) {
        size_t len = strcspn(line, "\n");
        next = line + len + (line[len] == '\n');
        while (len && ascii_is_space(line[len - 1]))
            len--;
        line[len] = '\0';
        line += strspn(line, " \t");
        int i = 0;
        Found f = {.has = true};
        for (; i < n; i++) {
            size_t k = strlen(e[i].dataset);
            if (strncmp(line, e[i].dataset, k) == 0 && parse_values(line + k, &f.value, &f.base, &f.has_base))
                break;
        }
        if (i < n && found[i].has)
            return eval_says(r, EVAL_FAILED, "the program gives '%.80s' twice", e[i].dataset);
        if (i == n && *line && !another_set(line))
            return eval_says(r, EVAL_FAILED,
                             "the program's line '%.*s' is no 'dataset value': anything else goes to standard "
                             "error",
                             LINE_SHOWN, line);
        if (i < n)
            found[i] = f;
    }
    return ST_OK;
}

static Status read_answer(const char *path, const Expectation *e, int n, EvalResult *r, Error *err)
{
    char *text = NULL;
    size_t len;
    Found *found = mem_zarray((size_t)n, sizeof *found);
    Status st = found ? file_read(path, OUT_MOST, &text, &len, err) : error_nomem(err, "an evaluation");
    if (st == ST_OK)
        st = strlen(text) < len ? eval_says(r, EVAL_FAILED, "the program's output is no text")
                                : read_lines(text, e, n, found, r);
    bool met = true;
    for (int i = 0; i < n && st == ST_OK && r->state == EVAL_DONE; i++)
        if (!found[i].has)
            st = eval_says(r, EVAL_FAILED, "the program gives no line for '%.80s'", e[i].dataset);
        else if (e[i].relative && !found[i].has_base)
            st = eval_says(r, EVAL_FAILED,
                           "the program gives no value of the float model for '%.80s', behind its value", e[i].dataset);
        else
            st = eval_add(r, &e[i], &found[i].value, found[i].has_base ? &found[i].base : NULL, &met, err);
    free(found);
    free(text);
    return st;
}

/* What a program that was not evaluated to the end says: its last line of standard error, or of its output. */
static Status say_end(const Command *s, const ChildEnd *end, const char *out, const char *errors, EvalResult *r,
                      Error *err)
{
    char how[80];
    Str last = {0};
    bool bad = end->fate == CHILD_EXITED && end->number == s->bad_exit;
    child_last_line(errors, LINE_SHOWN, &last);
    if (!last.len)
        child_last_line(out, LINE_SHOWN, &last);
    eval_says(r, bad ? EVAL_BAD : EVAL_FAILED, "%s%s%s: %.60s%s%s",
              bad ? "the program calls the model bad (" : "the program failed: ",
              child_end_text(end, s->timeout, how, sizeof how), bad ? ")" : "", path_base(s->word[0]),
              last.len ? ": " : "", str_text(&last));
    Status st = last.oom ? error_nomem(err, "an evaluation") : ST_OK;
    str_free(&last);
    return st;
}

static Status command_run(const void *settings, const Expectation *e, int n, const EvalKit *kit, const EvalTrial *t,
                          EvalResult *r, Error *err)
{
    const Command *s = settings;
    char name[40], *program = child_find(s->word[0], NULL);
    Words w = {0};
    Str out = {0}, errors = {0};
    ChildEnd end;
    if (!program)
        return command_ready(s, e, n, kit, err);
    snprintf(name, sizeof name, "try%d.out", t->number);
    Status st = eval_place(kit, "command", name, &out, err);
    snprintf(name, sizeof name, "try%d.log", t->number);
    if (st == ST_OK)
        st = eval_place(kit, "command", name, &errors, err);
    if (st == ST_OK)
        st = words_fill(&w, s, program, t, err);
    if (st == ST_OK) {
        ChildSpec spec = {
            .argv = w.argv, .env = w.env, .log = out.s, .errors = errors.s, .most = OUT_MOST, .grace = grace_seconds};
        unlink(out.s);
        unlink(errors.s);
        eval_progress(kit, "running the evaluation program", 0, 0);
        st = child_run(&spec, s->timeout, kit->cancel, &end, err);
    }
    if (st == ST_OK && end.fate == CHILD_EXITED && end.number == 0)
        st = read_answer(out.s, e, n, r, err);
    else if (st == ST_OK)
        st = say_end(s, &end, out.s, errors.s, r, err);
    demand_met(e, n, r);
    words_free(&w);
    str_free(&out);
    str_free(&errors);
    free(program);
    return st;
}

/* The program and every file that its words name: one that is changed may give other values. */
static Status command_digest(const void *settings, Hasher *h, Error *err)
{
    const Command *s = settings;
    Status st = ST_OK;
    for (int i = 0; i < s->n && st == ST_OK; i++) {
        char *program = i ? NULL : child_find(s->word[0], NULL);
        const char *path = program ? program : s->word[i];
        if (file_exists(path) && !dir_exists(path))
            st = eval_hash_file(path, h, err);
        free(program);
    }
    return st;
}

const EvaluatorType evaluator_command = {
    .name = "command",
    .object = &command_object,
    .folder = true,
    .settings = command_settings,
    .ready = command_ready,
    .run = command_run,
    .digest = command_digest,
};
