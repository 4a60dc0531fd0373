#include "evaluate/taskfile.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "io/file.h"
#include "io/json.h"

enum { FILE_MAX_BYTES = 1 << 30, LINE_MAX_BYTES = 16 << 20, CHOICES_MAX = 64, SHOWN = 40 };

/* ---- names ---- */

typedef struct Name {
    const char *key;
    bool raw;
} Name;

static const Name questions[] = {{"question", false}, {"query", false}, {"problem", false}, {"prompt", true},
                                 {"inputs_pretokenized", true}, {"input", true}, {"ctx", true}, {"sentence", true},
                                 {"goal", true}, {"text", true}, {NULL, false}};
static const Name befores[] = {{"passage", false}, {"context", false}, {"article", false}, {"story", false}, {NULL, false}};
static const Name lists[] = {{"choices", false}, {"options", false}, {"endings", false}, {NULL, false}};
static const Name choice_answers[] = {{"answer", false}, {"label", false}, {"target", false}, {"gold", false},
                                      {"answerKey", false}, {"answer_idx", false}, {"correct", false}, {NULL, false}};
static const Name exact_answers[] = {{"answer", false}, {"answers", false}, {"target", false}, {"targets", false},
                                     {"label", false}, {"gold", false}, {NULL, false}};
/* Choices that are members of their own. */
static const char *const apart[][8] = {{"A", "B", "C", "D", "E", "F", NULL}, {"sol1", "sol2", NULL}, {"option1", "option2", NULL}};

static const cJSON *find(const cJSON *doc, const Name *names, const Name **which)
{
    for (const Name *n = names; n->key; n++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(doc, n->key);
        if (v && !cJSON_IsNull(v)) {
            if (which)
                *which = n;
            return v;
        }
    }
    return NULL;
}

static void name_all(const Name *names, char *out, size_t size)
{
    size_t at = 0;
    out[0] = '\0';
    for (const Name *n = names; n->key && at < size; n++)
        at += (size_t)snprintf(out + at, size - at, "%s%s", n == names ? "" : ", ", n->key);
}

/* ---- one line ---- */

typedef struct Reader {
    TaskFile *t;
    const char *where; /* "FILE:LINE" */
    TaskItem *item;
    const char *label[CHOICES_MAX]; /* of the choices, NULL: letters */
} Reader;

static Status nomem(Error *err)
{
    return error_nomem(err, "the questions");
}

static Status missing(const Reader *r, const char *what, const Name *names, Error *err)
{
    char all[200];
    name_all(names, all, sizeof all);
    return error_set(err, ST_DATA, "%s: no %s: one of %s", r->where, what, all);
}

/* A text or number as a text of the file's; NULL: it is neither, or no memory. */
static const char *text_of(Reader *r, const cJSON *v)
{
    char number[40];
    if (cJSON_IsString(v))
        return arena_strdup(&r->t->arena, v->valuestring);
    if (!cJSON_IsNumber(v))
        return NULL;
    snprintf(number, sizeof number, fabs(v->valuedouble) < 1e15 && v->valuedouble == floor(v->valuedouble) ? "%.0f" : "%.15g",
             v->valuedouble);
    return arena_strdup(&r->t->arena, number);
}

static Status read_question(Reader *r, const cJSON *doc, Error *err)
{
    const Name *name;
    const cJSON *q = find(doc, questions, &name), *before = find(doc, befores, NULL);
    if (!q || !cJSON_IsString(q))
        return missing(r, "question", questions, err);
    r->item->raw = name->raw;
    r->item->question = text_of(r, q);
    r->item->before = before && cJSON_IsString(before) ? text_of(r, before) : NULL;
    return r->item->question ? ST_OK : nomem(err);
}

static Status add_choice(Reader *r, const cJSON *v, const char *label, Error *err)
{
    TaskItem *t = r->item;
    if (t->choices == CHOICES_MAX)
        return error_set(err, ST_DATA, "%s: more than %d choices", r->where, CHOICES_MAX);
    if (!cJSON_IsString(v) && !cJSON_IsNumber(v))
        return error_set(err, ST_DATA, "%s: choice %d is no text", r->where, t->choices + 1);
    r->label[t->choices] = label ? arena_strdup(&r->t->arena, label) : NULL;
    t->choice[t->choices] = text_of(r, v);
    return t->choice[t->choices++] ? ST_OK : nomem(err);
}

/* [text, ...], {text: [...], label: [...]}, or {A: text, ...} */
static Status list_choices(Reader *r, const cJSON *list, Error *err)
{
    const cJSON *texts = cJSON_IsArray(list) ? list : cJSON_GetObjectItemCaseSensitive(list, "text"), *v;
    const cJSON *labels = cJSON_IsObject(list) ? cJSON_GetObjectItemCaseSensitive(list, "label") : NULL;
    int i = 0;
    if (cJSON_IsObject(list) && !cJSON_IsArray(texts)) {
        cJSON_ArrayForEach(v, list)
            RETURN_IF_ERROR(add_choice(r, v, v->string, err));
        return ST_OK;
    }
    cJSON_ArrayForEach(v, texts) {
        const cJSON *label = cJSON_IsArray(labels) ? cJSON_GetArrayItem(labels, i++) : NULL;
        RETURN_IF_ERROR(add_choice(r, v, cJSON_IsString(label) ? label->valuestring : NULL, err));
    }
    return ST_OK;
}

static Status members_as_choices(Reader *r, const cJSON *doc, Error *err)
{
    for (size_t k = 0; k < sizeof apart / sizeof *apart && !r->item->choices; k++)
        for (int i = 0; apart[k][i]; i++) {
            const char *key = apart[k][i];
            const cJSON *v = cJSON_GetObjectItemCaseSensitive(doc, key);
            bool counted = strncmp(key, "option", 6) == 0; /* its answers count from 1 */
            if (v)
                RETURN_IF_ERROR(add_choice(r, v, counted ? key + 6 : key, err));
        }
    return ST_OK;
}

static bool same_letters(const char *a, const char *b)
{
    while (*a && ascii_lower((unsigned char)*a) == ascii_lower((unsigned char)*b)) {
        a++;
        b++;
    }
    return !*a && !*b;
}

/* The choice that a text names: its label or letter, its text, or its number; -1: none. */
static int named_choice(const Reader *r, const char *s)
{
    const TaskItem *t = r->item;
    char letter[2] = "A", *end;
    for (int i = 0; i < t->choices; i++) {
        letter[0] = (char)('A' + i);
        if (r->label[i] ? same_letters(s, r->label[i]) : i < 26 && same_letters(s, letter))
            return i;
    }
    for (int i = 0; i < t->choices; i++)
        if (strcmp(s, t->choice[i]) == 0)
            return i;
    for (int i = 0; i < t->choices; i++)
        if (same_letters(s, t->choice[i]))
            return i;
    long n = strtol(s, &end, 10);
    return *s && !*end && n >= 0 && n < t->choices ? (int)n : -1;
}

static Status read_choices(Reader *r, const cJSON *doc, Error *err)
{
    TaskItem *t = r->item;
    const cJSON *list = find(doc, lists, NULL), *answer = find(doc, choice_answers, NULL);
    if (!answer)
        return missing(r, "answer", choice_answers, err);
    t->choice = arena_alloc(&r->t->arena, CHOICES_MAX * sizeof *t->choice);
    if (!t->choice)
        return nomem(err);
    if (list)
        RETURN_IF_ERROR(list_choices(r, list, err));
    else
        RETURN_IF_ERROR(members_as_choices(r, doc, err));
    if (!t->choices && cJSON_IsBool(answer)) {
        t->choice[0] = "no";
        t->choice[1] = "yes";
        t->choices = 2;
    }
    if (!t->choices)
        return missing(r, "choices", lists, err);
    if (t->choices < 2)
        return error_set(err, ST_DATA, "%s: one choice alone is no question", r->where);
    int last = cJSON_IsBool(answer) && t->choices == 2 ? cJSON_IsTrue(answer) : -1;
    if (cJSON_IsNumber(answer) && answer->valuedouble == floor(answer->valuedouble) && answer->valuedouble >= 0 &&
        answer->valuedouble < t->choices)
        last = (int)answer->valuedouble;
    if (cJSON_IsString(answer))
        last = named_choice(r, answer->valuestring);
    if (last < 0 && cJSON_IsString(answer))
        return error_set(err, ST_DATA, "%s: the answer '%.*s' is none of the %d choices", r->where, SHOWN, answer->valuestring,
                         t->choices);
    if (last < 0)
        return error_set(err, ST_DATA, "%s: the answer is none of the %d choices, which are counted from 0", r->where,
                         t->choices);
    t->right = last;
    return ST_OK;
}

static const char *trimmed(Reader *r, const char *s)
{
    while (ascii_is_space((unsigned char)*s))
        s++;
    size_t n = strlen(s);
    while (n && ascii_is_space((unsigned char)s[n - 1]))
        n--;
    return arena_strndup(&r->t->arena, s, n);
}

static Status add_answer(Reader *r, const cJSON *v, Error *err)
{
    TaskItem *t = r->item;
    const char *text = cJSON_IsBool(v) ? (cJSON_IsTrue(v) ? "yes" : "no") : text_of(r, v), *mark;
    if (!text)
        return cJSON_IsString(v) || cJSON_IsNumber(v) ? nomem(err)
                                                      : error_set(err, ST_DATA, "%s: the answer is no text", r->where);
    if ((mark = strstr(text, "####")) != NULL) {
        for (const char *later; (later = strstr(mark + 4, "####")) != NULL;)
            mark = later;
        t->number = true;
        text = mark + 4;
    }
    t->answer[t->answers] = trimmed(r, text);
    if (!t->answer[t->answers])
        return nomem(err);
    if (!t->answer[t->answers][0])
        return error_set(err, ST_DATA, "%s: the answer is empty", r->where);
    t->answers++;
    return ST_OK;
}

static Status read_answers(Reader *r, const cJSON *doc, Error *err)
{
    const cJSON *answer = find(doc, exact_answers, NULL), *v;
    int n = cJSON_IsArray(answer) ? cJSON_GetArraySize(answer) : 1;
    if (!answer || n < 1)
        return missing(r, "answer", exact_answers, err);
    r->item->answer = arena_alloc(&r->t->arena, (size_t)n * sizeof *r->item->answer);
    if (!r->item->answer)
        return nomem(err);
    if (!cJSON_IsArray(answer))
        return add_answer(r, answer, err);
    cJSON_ArrayForEach(v, answer)
        RETURN_IF_ERROR(add_answer(r, v, err));
    return ST_OK;
}

static Status read_line(TaskFile *t, const char *line, size_t len, const char *where, int number, TaskKind kind, Error *err)
{
    cJSON *doc;
    if (len > LINE_MAX_BYTES)
        return error_set(err, ST_DATA, "%s: a line of %.1f MB is no question", where, (double)len / 1e6);
    if (!mem_grow(&t->item, &t->cap, (size_t)t->n + 1, sizeof *t->item))
        return nomem(err);
    RETURN_IF_ERROR(json_parse(line, len, where, &doc, err));
    Reader r = {.t = t, .where = where, .item = &t->item[t->n]};
    *r.item = (TaskItem){.line = number};
    Status st = cJSON_IsObject(doc) ? read_question(&r, doc, err) : error_set(err, ST_DATA, "%s: not a JSON object", where);
    if (st == ST_OK)
        st = kind == TASK_CHOICE ? read_choices(&r, doc, err) : read_answers(&r, doc, err);
    cJSON_Delete(doc);
    t->n += st == ST_OK;
    return st;
}

/* ---- the file ---- */

static Status read_lines(TaskFile *t, const char *text, size_t len, const char *path, TaskKind kind, int limit, Error *err)
{
    const char *end = text + len;
    int number = 0;
    for (const char *p = text, *next; p < end && (!limit || t->n < limit); p = next) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((nl ? nl : end) - p);
        char where[512];
        next = nl ? nl + 1 : end;
        number++;
        size_t blank = 0;
        while (blank < n && ascii_is_space((unsigned char)p[blank]))
            blank++;
        if (blank == n) {
            t->blank++;
            continue;
        }
        snprintf(where, sizeof where, "%s:%d", path, number);
        RETURN_IF_ERROR(read_line(t, p, n, where, number, kind, err));
    }
    return t->n ? ST_OK : error_set(err, ST_DATA, "'%s' holds no question", path);
}

Status task_open(TaskFile **out, const char *path, TaskKind kind, int limit, Error *err)
{
    char *text;
    size_t len;
    *out = NULL;
    RETURN_IF_ERROR(file_read(path, FILE_MAX_BYTES, &text, &len, err));
    TaskFile *t = mem_zarray(1, sizeof *t);
    Status st = t ? read_lines(t, text, len, path, kind, limit, err) : nomem(err);
    free(text);
    if (st != ST_OK) {
        task_free(t);
        return st;
    }
    *out = t;
    return ST_OK;
}

void task_free(TaskFile *t)
{
    if (!t)
        return;
    free(t->item);
    arena_free(&t->arena);
    free(t);
}

void task_prompt(const TaskItem *t, Str *out)
{
    if (t->before)
        str_printf(out, "%s\n", t->before);
    if (t->raw)
        str_puts(out, t->question);
    else
        str_printf(out, "Question: %s\nAnswer:", t->question);
}
