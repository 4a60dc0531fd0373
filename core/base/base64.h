#ifndef SLIM_BASE_BASE64_H
#define SLIM_BASE_BASE64_H

#include "base/str.h"

/* Base64 of RFC 4648 with padding, through nettle. */

/* Appends n bytes as base64. */
void base64_put(Str *b, const void *bytes, size_t n);
/* Decodes n digits into out[n / 4 * 3]; false when they aren't whole groups of four with padding only at the end. */
bool base64_get(const char *s, size_t n, void *out, size_t *len);

#endif
