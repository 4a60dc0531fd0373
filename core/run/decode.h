#ifndef SLIM_RUN_DECODE_H
#define SLIM_RUN_DECODE_H

#include "run/runner.h"

/* Generation: texts that grow, of which every token goes through the model once. What the blocks keep of it (run/past.h)
 * makes the next token's logits those of a pass over the whole text: keys and values as they entered attention, entries of
 * compressed attention, states of linear attention. Weights stay ready in memory while there is room (run/ready.h). Results
 * depend neither on which texts go together nor on the number of threads. */

typedef struct Decoder Decoder;
typedef struct DecoderOptions {
    int texts;                     /* at a time */
    int64_t rows;                  /* tokens of each, at most */
    const Variant *const *variant; /* [layers] of every pass, NULL (or an entry that is): float; borrowed. No form may have
                                    * to see the whole input (LinearForm.prepare) */
    uint64_t ready;                /* bytes that weights may take which stay ready; 0: none do */
} DecoderOptions;
/* ST_DATA naming the layer where a kind of block can't go on with a text; ST_USAGE naming the linear whose form wants to see
 * all of the input. The runner belongs to the decoder until it is freed, but for its own passes. */
Status decoder_new(Decoder **out, Runner *r, const DecoderOptions *o, Error *err);
void decoder_free(Decoder *d);

/* The next tokens of n texts (each once): ids [start[i], start[i+1]), at least one each, are put behind text[i]. logits
 * [n][vocab]: of what follows the last of them; NULL: not asked for. ST_USAGE where a text would become too long. */
typedef struct DecodeStep {
    int n;
    const int *text;
    const int64_t *start;
    const int32_t *ids;
} DecodeStep;
Status decoder_step(Decoder *d, const DecodeStep *s, float *logits, Error *err);
/* Texts at a time, and the vocabulary. */
int decoder_texts(const Decoder *d);
int64_t decoder_vocab(const Decoder *d);
/* Tokens of a text so far; it begins anew. */
int64_t decoder_length(const Decoder *d, int text);
void decoder_forget(Decoder *d, int text);

/* Bytes that it takes beside the weights that stay: what blocks keep, the texts, a step's logits. */
uint64_t decoder_bytes(const Model *m, int texts, int64_t rows);
/* Bytes of all weights, were they to stay: at most. */
uint64_t decoder_ready_bytes(const Model *m);
/* What became of them: bytes that stay, and linears that there was no room for. */
uint64_t decoder_ready(const Decoder *d, int64_t *left);

/* ---- greedy generation ---- */

typedef struct GreedyOptions {
    const int32_t *stop;   /* [nstop] tokens that end a text, and don't belong to it */
    int nstop;
    int64_t max_tokens;    /* of what is generated, each text */
    /* [job] A token that was put behind prompt `text`: of one text in their order. False: that text ends with it. May be
     * NULL. */
    bool (*token)(void *ctx, int text, int32_t id);
    void *ctx;
} GreedyOptions;
typedef enum GreedyEnd { GREEDY_STOP, GREEDY_LENGTH, GREEDY_TOLD } GreedyEnd;
typedef struct Greedy {
    int texts;
    int64_t *start;        /* [texts + 1] */
    int32_t *ids;
    GreedyEnd *end;        /* [texts] why it ended: a stop token, max_tokens, or what `token` said */
    int64_t steps;         /* passes that it took */
} Greedy;
/* The token with the largest logit (the first of equal ones) behind each prompt, again and again; as many texts at a time as
 * the decoder has, the next one when one of them ends. All its texts begin anew. ST_DATA where logits are no numbers. Caller
 * frees with greedy_fini. */
Status decode_greedy(Decoder *d, const TokenSet *prompts, const GreedyOptions *o, Greedy *out, Error *err);
void greedy_fini(Greedy *g);

#endif
