#ifndef SLIM_TUNE_DECIMAL_H
#define SLIM_TUNE_DECIMAL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"
#include "io/yaml.h"

/* A decimal number as it is written: scores and what is demanded of them are compared digit by digit, so that 83 - 2 is met
 * by 81 and missed by 80.99. */
enum { DECIMAL_DIGITS = 38, DECIMAL_EXPONENT = 99 };
typedef struct Decimal {
    bool minus;
    int n;                     /* digits, 1..DECIMAL_DIGITS */
    unsigned char digit[DECIMAL_DIGITS]; /* 0..9, the highest first; a leading zero only in 0 itself */
    int exponent;              /* power of ten of the last digit, -DECIMAL_EXPONENT..DECIMAL_EXPONENT */
} Decimal;

/* [+-] digits [. digits] [e [+-] digits], blanks around; false for anything else (nan, too many digits, too far from 1). */
bool decimal_parse(const char *text, size_t len, Decimal *out);
/* A number or text of YAML; a float by its shortest digits. */
bool decimal_of_node(const YamlNode *n, Decimal *out);
/* A double by the fewest digits that read back as it; false for nan, infinities and what is too far from 1. */
bool decimal_of(double v, Decimal *out);
double decimal_value(const Decimal *d);
/* Appends it as Python's str(Decimal(...)) does: every digit that was written stays, "1E+3" where the last digit is above the
 * point. */
void decimal_put(const Decimal *d, Str *out);
/* The sign of a - b - c, exactly: -1, 0, 1. b, c may be NULL (0). */
int decimal_sign(const Decimal *a, const Decimal *b, const Decimal *c);

#endif
