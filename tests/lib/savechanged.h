#ifndef TESTS_SAVECHANGED_H
#define TESTS_SAVECHANGED_H

#include "tests/lib/savefeed.h"

/* The part of a recorded output that processors made: as changes of the model, promises and gifts. */

/* Fills f->overlay and f->changes by what differs between the model and its output in the folder `out`. */
void savechanged_find(SaveFeed *f, const char *out);
void savechanged_free(SaveFeed *f);
/* What processors give with this layer. */
void savechanged_give(const SaveFeed *f, const SaveFormat *s, void *self, int layer);
/* Scales of a static linear's rows, found again from deq_scale: [out], the caller's. */
float *savechanged_scales(const SaveFeed *f, const Linear *l);

#endif
