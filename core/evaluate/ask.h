#ifndef SLIM_EVALUATE_ASK_H
#define SLIM_EVALUATE_ASK_H

#include "evaluate/server.h"

/* Questions to a model that is served over the OpenAI API. */
typedef struct ChatQuestion {
    const char *message;
    int64_t max_tokens;
    double temperature, timeout;
} ChatQuestion;

/* POSTs one user message to /v1/chat/completions; the content of the answer's first choice into *reply, which is
 * emptied first (caller frees). peer: the body as the peer sends it. ST_FAIL: no usable answer came, err says why;
 * ST_CANCELLED. */
Status ask_chat(Http *http, const Endpoint *at, const ChatQuestion *q, bool peer, const Cancel *cancel, Str *reply,
                Error *err);

/* Runs the plan's prechecks. *bad (of 300 bytes): which one the model doesn't pass, "" when it passes all; *failed:
 * likewise for a request that came to nothing, which counts as passed under --compat peer. */
Status ask_prechecks(const Service *s, Http *http, const EvalKit *kit, char *bad, char *failed, Error *err);

#endif
