#ifndef SLIM_UI_LINEPARTS_H
#define SLIM_UI_LINEPARTS_H

#include <stdbool.h>

#include "ui/theme.h"

/* A line made of parts. Where they don't all fit, whole ones go: a number is never cut. */

typedef struct LinePart {
    char text[160];
    Slot slot;
    int priority; /* the highest goes first; 0 last */
    int least;    /* above 0: a name, which is elided in the middle down to so many cells before it goes */
    int gap;      /* cells before it, where it is not the first */
    bool right;   /* it and what follows stands at the right end */
    int width;    /* cells it gets, by parts_fit; 0: it went */
} LinePart;
enum { PARTS_MAX = 14, PART_GAP = 2 };
typedef struct LineParts {
    LinePart f[PARTS_MAX];
    int n;
} LineParts;

/* Adds a part that is shown whole or not at all, PART_GAP behind the one before. Gives it, to be changed before
 * parts_fit; a spare one when the line is full. */
LinePart *part_add(LineParts *l, Slot slot, int priority, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Gives each part its width. The highest priority (of equal ones the last) goes until the rest fits; names are elided
 * only where that saves a part. Gives the cells used. */
int parts_fit(LineParts *l, int width);
/* The highest priority number that all parts up to it got room for; INT_MAX: all of them. */
int parts_kept(const LineParts *l);

#endif
