#ifndef SLIM_UI_RANK_H
#define SLIM_UI_RANK_H

#include "session/fold.h"
#include "ui/actions.h"
#include "ui/detail.h"

/* What the files of the Rank screen share: its table's columns, cells and rows. */

enum {
    C_RANK, C_STATE, C_NAME, C_COUNT, C_SCORE, C_MEAN, C_INTERVAL, C_BAR, C_SECOND, C_SECOND_RANK, C_LEVEL, C_COST,
    C_GROUP, C_KIND, C_ADVICE, COLUMNS
};

typedef struct Rank {
    ListPos pos;
    bool head;           /* the cursor is on the head of its linear's fold, also where that is open */
    int page;
    size_t skip;         /* bytes of each name not shown */
    bool parts;          /* members of an open fold show only what its name does not say */
    ScoreRange range;    /* of the scores shown, for the bars */
    char model[65];      /* fingerprint of the model that these are of: */
    size_t prefix;       /* bytes that every name begins with */
    int longest;         /* name */
    int kind_longest;    /* last part of a name */
    Here detail_of;      /* whose details these are: */
    Scroll detail;
    int w[COLUMNS];      /* widths of the columns as they are drawn, 0: not there */
    int borrowed;        /* cells of the name's heading that the score's has: the metric's name is longer than a score */
    int64_t anchor;      /* linear where a range of rows begins, while `range_on` */
    bool range_on;
} Rank;

/* Pattern of a text with signs of the pattern language; NULL: it has none. Caller frees. */
Pattern *rank_pattern(const char *text);
/* The column whose values a sort key orders; COLUMNS: none does. */
int rank_sort_column(SortKey k);
/* Finds widths and what names leave out for a table of so many cells, into st->w, st->skip, st->parts. */
void rank_fit(Ui *ui, Rank *st, int width);
/* The line of headings; sets st->borrowed. */
void rank_draw_title(Ui *ui, Rect r, Rank *st);
/* Line y of the table. here: the cursor's row; ranged: of the range that is being marked. */
void rank_draw_row(Ui *ui, const Rank *st, Rect r, int y, const TableRow *row, bool here, bool ranged);
/* Appends a row as plain text, whole. */
void rank_copy_row(Ui *ui, const Rank *st, const TableRow *row, Str *out);

/* KeyRow.run: the second metric, the columns behind it; tags of rows like this one (arg); a range. */
KeyAction rank_second, rank_columns, rank_tag_like, rank_range;
enum { TAG_KIND, TAG_BLOCK, UNTAG_BLOCK };
/* Whether a row is in the range that is being marked, which began in anchor_row (-1: hidden). */
bool rank_in_range(const Rank *st, int64_t anchor_row, int64_t row);
/* View.cancel: gives the range up. */
bool rank_leave_range(Ui *ui, void *state);

#endif
