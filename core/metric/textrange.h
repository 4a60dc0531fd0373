#ifndef SLIM_METRIC_TEXTRANGE_H
#define SLIM_METRIC_TEXTRANGE_H

#include <stdbool.h>

/* The parts of metric_text_range, in their order. Texts count from 1, as their set has them. Of a linear that a single text
 * reaches there is no score, and lo_next and hi_next are NaN. */
enum {
    TEXT_RANGE_TEXT, TEXT_RANGE_LO, TEXT_RANGE_LO_TEXT, TEXT_RANGE_LO_NEXT, TEXT_RANGE_HI, TEXT_RANGE_HI_TEXT,
    TEXT_RANGE_HI_NEXT, TEXT_RANGE_TEXTS
};

/* The range of the input when the text is left out, exact for any one text; false: none is left, or it is not known. */
bool text_range_without(const double *part, int text, double *lo, double *hi);
/* How many times wider the range is with the text than without it (both as far as 0, which a static range always holds): 1:
 * it changes nothing; NaN: not known; INFINITY: without it every input is 0. */
double text_range_factor(const double *part, int text);

#endif
