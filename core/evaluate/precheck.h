#ifndef SLIM_EVALUATE_PRECHECK_H
#define SLIM_EVALUATE_PRECHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* Whether a model's answer is no language at all (specs/tuning.md 8), so that no benchmark has to say it. */
typedef enum GarbledItem {
    GARBLED_EMPTY_TEXT,
    GARBLED_REPEATED_CHAR,
    GARBLED_NORMAL_CHAR_RATIO,
    GARBLED_CONTROL_CHAR,
    GARBLED_REPEATED_PATTERN,
    GARBLED_ITEMS
} GarbledItem;
/* Their names in a plan, NULL-terminated. */
extern const char *const garbled_names[GARBLED_ITEMS + 1];
enum { GARBLED_ALL = (1 << GARBLED_ITEMS) - 1 };

/* The first of the items (a set of bits) that a text of UTF-8 fires, -1: none does. With `peer` by the original's
 * rules; else shares count from 20 characters on, letters, marks, digits, punctuation and signs of every script are
 * normal, a repetition may begin anywhere and have any period, and a text of few different trigrams is one, too.
 * Ill-formed bytes count as U+FFFD. ST_NOMEM. */
Status precheck_garbled(const char *text, size_t len, unsigned items, bool peer, int *fired, Error *err);

/* Whether one of the n texts, unless it is empty, stands in the reply, upper and lower case being the same (simple case
 * mapping of Unicode). n = 0: nothing is expected, true. ST_NOMEM. */
Status precheck_expected(const char *reply, const char *const *texts, int n, bool *found, Error *err);

#endif
