#include "text/chat.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"

enum { TEMPLATE_MAX = 16 << 20 };

/* Templates as their families publish them; what tells two of them apart comes first. */
static const ChatForm forms[] = {
    {"<|im_start|>", "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>"},
    {"<|start_header_id|>", "<|start_header_id|>user<|end_header_id|>\n\n",
     "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"},
    {"<start_of_turn>", "<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n", "<end_of_turn>"},
    {"<|start|>", "<|start|>user<|message|>", "<|end|><|start|>assistant", "<|return|>"},
    {"<\xef\xbd\x9cUser\xef\xbd\x9c>", "<\xef\xbd\x9cUser\xef\xbd\x9c>", "<\xef\xbd\x9c" "Assistant\xef\xbd\x9c>",
     "<\xef\xbd\x9c" "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"},
    {"<|end|>", "<|user|>\n", "<|end|>\n<|assistant|>\n", "<|end|>"},
    {"[INST]", "[INST] ", " [/INST]", "</s>"},
};

static Status form_of(const char *template, const char *where, const ChatForm **out, Error *err)
{
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (strstr(template, forms[i].mark)) {
            *out = &forms[i];
            return ST_OK;
        }
    return error_set(err, ST_DATA, "the chat template of '%s' is of a form that is not known here: write the whole prompt "
                     "yourself, without --chat", where);
}

/* A text, or a list of {name, template} of which the first named default counts, else the first. */
static const char *template_text(const cJSON *node)
{
    const cJSON *item, *first = NULL;
    if (cJSON_IsString(node))
        return node->valuestring;
    if (!cJSON_IsArray(node))
        return NULL;
    cJSON_ArrayForEach(item, node) {
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(item, "name");
        bool is_default = cJSON_IsString(name) && strcmp(name->valuestring, "default") == 0;
        first = !first || is_default ? item : first;
    }
    const cJSON *text = first ? cJSON_GetObjectItemCaseSensitive(first, "template") : NULL;
    return cJSON_IsString(text) ? text->valuestring : NULL;
}

static Status from_config(const char *model_path, const char *path, const ChatForm **out, Error *err)
{
    cJSON *doc = NULL;
    char *text = NULL;
    size_t len;
    if (file_exists(path)) {
        RETURN_IF_ERROR(json_read_file(path, TEMPLATE_MAX, &text, &len, err));
        Status st = json_parse_loose(text, len, path, &doc, err);
        free(text);
        RETURN_IF_ERROR(st);
    }
    const char *template = template_text(cJSON_GetObjectItemCaseSensitive(doc, "chat_template"));
    Status st = template ? form_of(template, model_path, out, err)
                         : error_set(err, ST_DATA, "'%s' has no chat template: it is no model for conversations; leave "
                                     "--chat out", model_path);
    cJSON_Delete(doc);
    return st;
}

Status chat_form(const char *model_path, const ChatForm **out, Error *err)
{
    char *own = path_join(model_path, "chat_template.jinja"), *config = path_join(model_path, "tokenizer_config.json");
    char *text = NULL;
    size_t len;
    Status st = own && config ? ST_OK : error_nomem(err, "a path");
    if (st == ST_OK && file_exists(own)) {
        st = file_read(own, TEMPLATE_MAX, &text, &len, err);
        if (st == ST_OK)
            st = form_of(text, model_path, out, err);
    } else if (st == ST_OK) {
        st = from_config(model_path, config, out, err);
    }
    free(text);
    free(own);
    free(config);
    return st;
}
