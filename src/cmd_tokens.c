/* tokenize: what the tokenizer makes of texts. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"
#include "src/commands.h"
#include "src/internal.h"
#include "text/tokenizer.h"

enum { TEXT_MAX_BYTES = 1 << 30 };

/* Appends one JSON array of ids and a line end. */
static Status put_ids(const Tokenizer *t, const char *text, size_t len, bool special, Str *out, Error *err)
{
    int32_t *ids = NULL;
    size_t n = 0;
    TextLimits limits = {.cancel = interrupt_cancel()};
    Status st = tokenizer_encode(t, text, len, special, &limits, &ids, &n, err);
    if (st == ST_OK) {
        str_putc(out, '[');
        for (size_t i = 0; i < n; i++)
            str_printf(out, "%s%d", i ? ", " : "", (int)ids[i]);
        str_puts(out, "]\n");
        st = out->oom ? error_nomem(err, "the ids") : ST_OK;
    }
    free(ids);
    return st;
}

static Status put_file(const Tokenizer *t, const char *path, bool special, Str *out, Error *err)
{
    char *text;
    size_t len;
    RETURN_IF_ERROR(file_read(path, TEXT_MAX_BYTES, &text, &len, err));
    Status st = put_ids(t, text, len, special, out, err);
    free(text);
    return st;
}

/* The string in `field` of one JSON line. */
static Status put_record(const Tokenizer *t, const char *field, const char *line, size_t len, const char *name,
                         bool special, Str *out, Error *err)
{
    cJSON *doc;
    RETURN_IF_ERROR(json_parse(line, len, name, &doc, err));
    const char *text = NULL;
    Status st = ST_OK;
    if (!cJSON_IsObject(doc))
        st = error_set(err, ST_DATA, "%s: not a JSON object", name);
    else if ((st = json_str(doc, field, &text, NULL, err)) != ST_OK)
        error_prefix(err, st, "%s: ", name);
    if (st == ST_OK && !text)
        st = error_set(err, ST_DATA, "%s: no field '%s'", name, field);
    if (st == ST_OK)
        st = put_ids(t, text, strlen(text), special, out, err);
    cJSON_Delete(doc);
    return st;
}

static Status put_jsonl(const Tokenizer *t, const char *field, const char *path, bool special, Str *out, Error *err)
{
    char *text;
    size_t len;
    RETURN_IF_ERROR(file_read(path, TEXT_MAX_BYTES, &text, &len, err));
    Status st = ST_OK;
    int number = 0;
    for (char *p = text, *end = text + len, *next; p < end && st == ST_OK; p = next) {
        char *nl = memchr(p, '\n', (size_t)(end - p));
        next = nl ? nl + 1 : end;
        size_t n = (size_t)((nl ? nl : end) - p);
        number++;
        if (strspn(p, " \t\r") >= n)
            continue;
        char name[512];
        snprintf(name, sizeof name, "%s:%d", path, number);
        st = put_record(t, field, p, n, name, special, out, err);
    }
    free(text);
    return st;
}

static Status run_tokenize(App *a, const CommandLine *cl, Error *err)
{
    const char *model = cl_str(cl, "model_path"), *file = cl_str(cl, "tokenizer");
    int njsonl;
    const char **jsonl = cl_list(cl, "jsonl", &njsonl);
    if (!jsonl)
        return error_nomem(err, "a command line");
    const char *field = njsonl == 2 ? jsonl[0] : NULL, *jsonl_path = njsonl == 2 ? jsonl[1] : NULL;
    free(jsonl);
    if (!model == !file)
        return error_set(err, ST_USAGE, "give either --model_path DIR or --tokenizer FILE");
    if (cl_given(cl, "jsonl") && !field)
        return error_set(err, ST_USAGE, "--jsonl takes a field's name and a file: --jsonl FIELD FILE");
    if (cl_given(cl, "text") + cl_given(cl, "file") + cl_given(cl, "jsonl") != 1)
        return error_set(err, ST_USAGE, "give one of --text S, --file F and --jsonl FIELD FILE");
    Tokenizer *t;
    RETURN_IF_ERROR(tokenizer_open(&t, model ? model : file, err));
    bool special = !cl_given(cl, "no-special");
    const char *text = cl_str(cl, "text");
    Str out = {0};
    Status st = field ? put_jsonl(t, field, jsonl_path, special, &out, err)
                : text ? put_ids(t, text, strlen(text), special, &out, err)
                       : put_file(t, cl_str(cl, "file"), special, &out, err);
    if (st == ST_OK)
        st = app_result(a, &out, NULL, err);
    str_free(&out);
    tokenizer_free(t);
    return st;
}

static const Option tokenize_options[] = {
    {"model_path", ARG_PATH, "DIR", "a model's folder, for its tokenizer", COMP_FILE},
    {"tokenizer", ARG_PATH, "FILE", "a tokenizer.json", COMP_FILE},
    {"text", ARG_TEXT, "S", "one text", COMP_NONE},
    {"file", ARG_PATH, "F", "a file as one text", COMP_FILE},
    {"jsonl", ARG_LIST, "FIELD FILE", "the strings in FIELD of a file with one JSON object a line", COMP_FILE},
    {"no-special", ARG_FLAG, NULL, "the template adds nothing; added tokens inside the text still count", COMP_NONE},
    {0},
};
const Command command_tokenize = {
    .name = "tokenize",
    .args = "",
    .summary = "Print the token ids of texts, one JSON array a line.",
    .flags = CMD_CLI_ONLY | CMD_NO_LOG,
    .options = tokenize_options,
    .run = run_tokenize,
};
