#ifndef SLIM_TEST_FUZZ_H
#define SLIM_TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* One reader of foreign bytes. An input is a byte that chooses a variant, and the data. */
typedef struct FuzzTarget {
    const char *name;
    const char *const *seeds; /* globs from the tree's root, NULL-terminated: files that are inputs (without the first byte) */
    const char *const *words; /* what this kind of text is made of, NULL-terminated */
    size_t take;              /* at most so many bytes of a seed; 0: all */
    /* Reads the bytes and holds the result against what must be so; what may not be aborts. */
    void (*run)(int variant, const uint8_t *data, size_t n);
} FuzzTarget;
extern const FuzzTarget fuzz_safetensors, fuzz_index, fuzz_json, fuzz_config;
extern const FuzzTarget fuzz_tokenizer, fuzz_encode, fuzz_fallback, fuzz_calib, fuzz_regex;
extern const FuzzTarget fuzz_yaml, fuzz_recipe, fuzz_convert, fuzz_pattern, fuzz_lexer;
extern const FuzzTarget fuzz_plan, fuzz_answers, fuzz_questions;
extern const FuzzTarget fuzz_theme, fuzz_rc, fuzz_journal, fuzz_scores, fuzz_wire;

/* ---- for the targets ---- */

/* Ends the process: `what` is not as it must be. */
_Noreturn void fuzz_bad(const char *what, const char *detail);
/* An error is one line that a terminal only shows, and never blames slimscope itself. */
void fuzz_error(Status st, const Error *err);
/* A path in this process's own folder, in a buffer that four more calls keep valid, and a file there. */
const char *fuzz_path(const char *name);
void fuzz_put(const char *name, const void *bytes, size_t n);
/* NUL-terminated copy of the data; NULL when it holds a NUL. Free it. */
char *fuzz_text(const uint8_t *data, size_t n);

#endif
