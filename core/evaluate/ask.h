#ifndef SLIM_EVALUATE_ASK_H
#define SLIM_EVALUATE_ASK_H

#include "evaluate/server.h"

/* Questions to a model that is served over the OpenAI API. */
/* A text that is gone on with, or (chat) a user message that is answered, greedily. */
typedef struct TextQuestion {
    const char *text;
    bool chat;
    int64_t max_tokens;
    const char *const *stop; /* texts before which the reply ends */
    int nstop;
    double timeout;
} TextQuestion;

/* POSTs it to /v1/completions, or /v1/chat/completions; the reply into *reply, which is emptied first (caller frees).
 * ST_FAIL: no usable answer came, err says why; ST_CANCELLED. */
Status ask_text(Http *http, const Endpoint *at, const TextQuestion *q, const Cancel *cancel, Str *reply, Error *err);

/* *sum: the logarithms of the probabilities of the tokens of `text` behind its first `from` bytes, a token that begins
 * before and ends behind being one of them; *tokens: their number. From the logprobs of an echoed prompt
 * (/v1/completions with echo, as vLLM has it). Errors as of ask_text. */
Status ask_likelihood(Http *http, const Endpoint *at, const char *text, size_t from, double timeout,
                      const Cancel *cancel, double *sum, int64_t *tokens, Error *err);

/* Runs the plan's prechecks. *bad (of 300 bytes): which one the model doesn't pass, "" when it passes all; *failed:
 * likewise for a request that came to nothing, which counts as passed under --compat peer. */
Status ask_prechecks(const Service *s, Http *http, const EvalKit *kit, char *bad, char *failed, Error *err);

#endif
