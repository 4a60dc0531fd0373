#ifndef SLIM_TEXT_CALIB_H
#define SLIM_TEXT_CALIB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "text/tokenizer.h"

/* How the text of an item was made. */
typedef enum CalibForm { CALIB_PLAIN, CALIB_MESSAGES, CALIB_CONVERSATIONS, CALIB_INSTRUCTION, CALIB_FORMS } CalibForm;
/* The same in words, for people: "what the messages say, ...". */
const char *calib_form_text(CalibForm form);

/* Texts of a calibration or evaluation file, before tokenizing. `.json`: a list of strings or objects. `.jsonl`: one
 * string or object a line. An object has its text in `inputs_pretokenized`, else `prompt`, else `text`, or token ids in
 * `input_ids` (specs/analysis.md 4), or it is a chat: `messages`, `conversations`, or `instruction` with `input` and
 * `output`. Members that nobody reads may hold what they like. Blank lines are skipped. */
typedef struct CalibFile {
    char *path, *name;     /* name: last component */
    char **added;          /* [nadded] paths of files that were appended */
    int nadded;
    uint64_t bytes;        /* that it takes */
    char sha256[65];       /* of the file's bytes; of a set that was changed: of those of its files and of what is out */
    int count;
    struct CalibItem {
        char *text;        /* NULL when ids are given */
        size_t len;
        int32_t *ids;
        int64_t nids;
        int line;          /* 1-based; of a .json list: the item's number */
        const char *from;  /* path of its file */
        bool out;          /* no token set takes it */
    } *items;
    int skipped_blank;
    int bad_utf8;          /* items in which bytes were replaced by U+FFFD */
    int made[CALIB_FORMS]; /* items of each form */
} CalibFile;

/* Errors name the line. An empty set is ST_DATA. peer: the peer's rules: a list holds strings only, and a line
 * without `inputs_pretokenized` is its own raw text; otherwise it is an error that names the fields looked for. limits (may be
 * NULL): the file and its texts together; more is ST_NOMEM. */
Status calib_open(CalibFile **out, const char *path, bool peer, const TextLimits *limits, Error *err);
void calib_free(CalibFile *c);
/* Puts the items of `more` behind those of c; `more` is taken, also on an error. */
Status calib_append(CalibFile *c, CalibFile *more, Error *err);
/* Takes items out, by their numbers from 1 on, which rise. ST_DATA when there is none of such a number, or when nothing is
 * left. */
Status calib_take_out(CalibFile *c, const int *number, int n, Error *err);

/* Packed token ids of several samples. */
typedef struct TokenSet {
    char *name;
    char sha256[65];       /* of the ids and starts: what a result depends on */
    char file_sha256[65];
    int samples;
    int64_t *start;        /* [samples+1] */
    int32_t *ids;          /* [start[samples]] */
    int *item;             /* [samples] which item of the file */
    int dropped_empty;     /* texts without a token, none of those that are out */
    int truncated;         /* texts cut to seq_len */
    int first;             /* samples before these in the set that they are a part of: for what is told of one */
} TokenSet;

/* max_samples, seq_len: 0 = no limit. tok may be NULL when every item has ids. add_special as the peer: true.
 * vocab: ids >= vocab are an error naming the line (0: unchecked). limits (may be NULL): the ids of the set. */
Status tokens_make(TokenSet **out, const CalibFile *c, const Tokenizer *tok, int max_samples, int64_t seq_len,
                   int64_t vocab, const TextLimits *limits, Error *err);
/* Cuts each text of `c` into windows of ctx tokens (the last may be short; windows below 2 tokens are dropped): the
 * first window of every text, then the second of every text, …, until max_tokens (0: all) are reached. For
 * evaluation. */
Status tokens_windows(TokenSet **out, const CalibFile *c, const Tokenizer *tok, int64_t ctx, int64_t max_tokens,
                      int64_t vocab, const TextLimits *limits, Error *err);
void tokens_free(TokenSet *t);
/* n samples of t from `first` on. *out borrows their ids; the caller frees out->start. */
Status tokens_part(TokenSet *out, const TokenSet *t, int first, int n, Error *err);

#endif
