#ifndef SLIM_UI_COMPARE_H
#define SLIM_UI_COMPARE_H

#include "session/comparing.h"
#include "session/disagree.h"
#include "src/plot.h"
#include "ui/detail.h"

/* Screen 4 is made of pages: lists of what can be compared, and what is compared. */

typedef enum ComparePage { PAGE_MEASURED, PAGE_ONE, PAGE_PAIR, PAGE_METRICS, PAGE_RANKS, PAGE_HIST, COMPARE_PAGES } ComparePage;
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

typedef enum RankSort { BY_MOVE, BY_A, BY_B, RANK_SORTS } RankSort;

enum { COMPARE_WIDE = 100 }; /* columns from which what differs besides levels stands beside two measurements */

typedef struct Compare {
    ComparePage page, list;    /* list: of the two lists the one that q leads back to */
    ListPos pos[COMPARE_PAGES];
    int seen[COMPARE_PAGES];   /* rows that fit */
    CompareSort sort;
    char name[48];             /* of the measurement that the cursor is on; "": the first row */
    /* the list */
    bool have;
    uint64_t version;          /* session_compare_version that it was made for */
    char model[65];            /* fingerprint */
    CompareRow *row;
    int n;
    char against[48];          /* the measurement that the others are held against, "": none */
    bool against_a;            /* because it is marked A */
    Scroll detail;             /* of the measurement of the cursor */
    /* the pair */
    bool paired, all;          /* all: every linear, not only those whose level differs */
    uint64_t pair_version;
    MeasuredPair pair;
    Error pair_why;            /* why there is none */
    bool aside;                /* what differs takes the list's place */
    Scroll config;
    /* metrics with scores, and two of them */
    const Metric **metric;
    uint64_t metric_version;
    int nmetrics;
    bool ranked;
    uint64_t rank_version;
    int64_t rank_made;         /* clock_ns */
    MetricPair ranks;
    Error rank_why;
    RankSort order;
    bool moved_only;
    int64_t *shown, nshown;    /* rows of ranks in the order shown */
    /* histograms of the layer of the cursor */
    ComparePage under;         /* the page whose rows they are of: PAGE_PAIR or PAGE_RANKS */
    PlotLook look;             /* linear and table count */
} Compare;

/* Makes what the page shows anew, where that changed. */
void compare_refresh(Ui *ui, Compare *st);
/* The row of the cursor, NULL: nothing is measured. */
const CompareRow *compare_row(Ui *ui, Compare *st);
void compare_fini(Compare *st);

/* With as many digits as a budget of some MiB asks for: "159.0 MiB". */
void compare_size(char *out, size_t size, uint64_t bytes);
void compare_draw_list(Ui *ui, Compare *st, Rect r);
void compare_draw_one(Ui *ui, Compare *st, Rect r);

void compare_draw_pair(Ui *ui, Compare *st, Rect r);
/* Makes the pair, or the two rankings, of the marks anew where those or what they name changed. */
void compare_pair_settle(Ui *ui, Compare *st);
void compare_ranks_settle(Ui *ui, Compare *st);
/* Rows of the pair's list, and the linear of row i. */
int64_t compare_pair_rows(Ui *ui, const Compare *st);
int64_t compare_pair_linear(const Compare *st, int64_t i);

void compare_draw_metrics(Ui *ui, Compare *st, Rect r);
/* The metric of the cursor, NULL: none has scores. */
const Metric *compare_metric(Ui *ui, Compare *st);
void compare_draw_ranks(Ui *ui, Compare *st, Rect r);
/* Puts the rows of the two metrics in the order that is asked for. */
void compare_order_ranks(Compare *st);
/* A linear of the cursor's unit, -1: there is no row. */
int64_t compare_rank_linear(Ui *ui, const Compare *st);
void compare_ranks_fini(Compare *st);
/* The row of the cursor, NULL: there is none. */
const PairRow *compare_rank_row(const Compare *st);

/* The page whose rows the cursor moves over. */
ComparePage compare_rows_page(const Compare *st);
/* The linear of the cursor of a page of two things, -1: there is no row. */
int64_t compare_linear(Ui *ui, const Compare *st);
/* The layer of the cursor as A and as B quantize it; of two metrics: what they score. */
void compare_draw_hist(Ui *ui, Compare *st, Rect r);

#endif
