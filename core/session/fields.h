#ifndef SLIM_SESSION_FIELDS_H
#define SLIM_SESSION_FIELDS_H

#include <stdint.h>

#include "base/hash.h"
#include "io/json.h"

/* Members of a journal record, which may hold anything. */
const char *text_of(const cJSON *o, const char *key); /* NULL: no text */
double num_of(const cJSON *o, const char *key, double missing);
/* A number of a record as a whole one: false when it is none, has a fraction or lies outside lo..hi. */
bool whole_of(double v, int64_t lo, int64_t hi, int64_t *out);
/* The same of a member; `missing` when it is not there or no such number. */
int64_t whole_in(const cJSON *o, const char *key, int64_t lo, int64_t hi, int64_t missing);
/* A digest in hexadecimal; false: it is none. */
bool digest_parse(const char *hex, Digest *d);

#endif
