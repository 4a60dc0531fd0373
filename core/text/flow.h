#ifndef SLIM_TEXT_FLOW_H
#define SLIM_TEXT_FLOW_H

#include "text/tokenizer.h"

/* Text out of tokens, as they come: tokens may end within a character, which waits for its other bytes. Zero-initialise to
 * start. */
typedef struct TextFlow {
    Str held; /* bytes of a character that is not whole */
} TextFlow;
/* Appends what a token makes whole; bytes that are no UTF-8 become U+FFFD. */
void text_flow_put(TextFlow *f, const Tokenizer *t, int32_t id, Str *out);
/* Behind the last token: what was held is no character. */
void text_flow_end(TextFlow *f, Str *out);

#endif
