#ifndef SLIM_TEXT_FALLBACK_H
#define SLIM_TEXT_FALLBACK_H

#include <stddef.h>

#include <cjson/cJSON.h>

#include "base/error.h"
#include "text/bpe.h"

/* A tokenizer without tokenizer.json, put into its form (specs/models.md 3.1, "Fallback files"): vocab.json with
 * merges.txt, or tiktoken.model. */
typedef struct Fallback {
    cJSON *root;    /* as a tokenizer.json, the lists empty; without `model` when `ranks` is there */
    BpeLists lists;
    char *merges;   /* text of merges.txt, in which lists.merges lies */
    char *ranks;  /* text of tiktoken.model */
    size_t len;
    char *path;   /* of the file the vocabulary comes from */
} Fallback;

/* Reads what is in `folder`. Patterns and normalizer are built in, by tokenizer_config.json's tokenizer_class; a class
 * that isn't known, files of another kind, or none at all are refused in one line. Free with fallback_fini. */
Status fallback_read(Fallback *f, const char *folder, Error *err);
void fallback_fini(Fallback *f);

#endif
