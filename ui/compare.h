#ifndef SLIM_UI_COMPARE_H
#define SLIM_UI_COMPARE_H

#include "session/comparing.h"
#include "ui/detail.h"

/* Screen 4 is made of pages: lists of what can be compared, and what is compared. */

typedef enum ComparePage { PAGE_MEASURED, PAGE_ONE, PAGE_PAIR, COMPARE_PAGES } ComparePage;
typedef enum CompareSort { BY_NUMBER, BY_KL, BY_SIZE, COMPARE_SORTS } CompareSort;

/* A measurement as the list shows it. */
typedef struct CompareRow {
    Measurement m;
    int place;                 /* session_measurement */
    char set[200];             /* its levels */
    int64_t floats;
    bool sized;
    SizeReport size;
    bool against;              /* there is another one that it is held against: */
    Paired p;
    int64_t more;              /* bytes */
} CompareRow;

typedef struct Compare {
    ComparePage page;
    ListPos pos[COMPARE_PAGES];
    int seen[COMPARE_PAGES];   /* rows that fit */
    CompareSort sort;
    int id;                    /* number of the measurement that the cursor is on; 0: the first row */
    /* the list */
    bool have;
    uint64_t version;          /* session_compare_version that it was made for */
    char model[65];            /* fingerprint */
    CompareRow *row;
    int n;
    int against;               /* number of the measurement that the others are held against, 0: none */
    bool against_a;            /* because it is marked A */
    Scroll detail;             /* of the measurement of the cursor */
    /* the pair */
    bool paired, all;          /* all: every linear, not only those whose level differs */
    uint64_t pair_version;
    MeasuredPair pair;
    Error pair_why;            /* why there is none */
    bool aside;                /* what differs takes the list's place */
    Scroll config;
} Compare;

/* Makes what the page shows anew, where that changed. */
void compare_refresh(Ui *ui, Compare *st);
/* The row of the cursor, NULL: nothing is measured. */
const CompareRow *compare_row(Ui *ui, Compare *st);
void compare_fini(Compare *st);

void compare_draw_list(Ui *ui, Compare *st, Rect r);
void compare_draw_one(Ui *ui, Compare *st, Rect r);

void compare_draw_pair(Ui *ui, Compare *st, Rect r);
/* Rows of the pair's list, and the linear of row i. */
int64_t compare_pair_rows(Ui *ui, const Compare *st);
int64_t compare_pair_linear(const Compare *st, int64_t i);

#endif
