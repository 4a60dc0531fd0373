#ifndef SLIM_SAVE_MARKS_H
#define SLIM_SAVE_MARKS_H

#include "save/layout.h"

/* What a processor adds to the type of a linear's tensors in a description, because more than that type belongs to the linear:
 * "W8A8_DYNAMIC" with the mark "_FLATQUANT" is "W8A8_FLATQUANT_DYNAMIC", "W4A4_MXFP4" is "W4A4_MXFP4_FLATQUANT". */

/* The label with the mark (NULL: the label as it is), kept by the layout; NULL: no memory. */
const char *layout_marked(SaveLayout *l, const char *label, const char *mark);
/* Takes a mark that this build knows out of the label, in place; whether there was one. */
bool label_unmark(char *label);

#endif
