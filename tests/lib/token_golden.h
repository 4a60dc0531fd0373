#ifndef TESTS_TOKEN_GOLDEN_H
#define TESTS_TOKEN_GOLDEN_H

/* Opens a tokenizer and compares its ids, with and without special tokens, with a golden.json: 62 texts and their ids.
 * A difference fails the test. */
void token_golden(const char *tokenizer, const char *golden);

#endif
