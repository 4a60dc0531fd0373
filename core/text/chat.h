#ifndef SLIM_TEXT_CHAT_H
#define SLIM_TEXT_CHAT_H

#include "base/error.h"
#include "base/str.h"

/* How a model for conversations wants one turn of a person written, up to where it answers: known by a mark in the template
 * that comes with the model. */
typedef struct ChatForm {
    const char *mark;          /* in the template */
    const char *before, *after; /* the person's text between them */
    const char *end;           /* token that ends the answer */
} ChatForm;

/* Of a model's folder: chat_template.jinja, or chat_template of tokenizer_config.json. ST_DATA: there is none, or one of
 * a form that is not known. */
Status chat_form(const char *model_path, const ChatForm **out, Error *err);

#endif
