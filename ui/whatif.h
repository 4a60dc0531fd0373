#ifndef SLIM_UI_WHATIF_H
#define SLIM_UI_WHATIF_H

#include "ui/detail.h"

/* The parts of screen 2: the rules (view_whatif.c), the figures below them, the front. */
typedef struct Whatif {
    ListPos pos;
    int page;
    Scroll figures;          /* the panel below */
    bool noted;              /* the note of the cursor's row stands below the rules */
    /* what the engines' rules say of the present set, found once for it */
    uint64_t version;        /* session_edit_version */
    const Recipe *recipe;    /* NULL: not asked yet */
    const Runtime *runtime;
    char broken[400];        /* "": all is well */
    char asks[200];          /* the open question about interactions */
    bool front;              /* the front takes the place of rules and figures */
    ListPos point;           /* the cursor on it */
    int points;              /* lines of its table */
} Whatif;

/* What the set as a whole does: a DetailContent. */
int whatif_figures(Ui *ui, Rect r, int64_t what, int spare);

/* The front in the place of rules and figures: plot and table. */
void whatif_front_draw(Ui *ui, Whatif *st, Rect r);
/* Opens it with the cursor at the present set's size. */
void whatif_front_open(Ui *ui, Whatif *st);
bool whatif_front_move(Ui *ui, Whatif *st, Motion m);
/* Makes the set of the cursor's point the present one. Always DO_PAINT. */
unsigned whatif_front_take(Ui *ui, Whatif *st);
/* The plot alone, with at least PLOT_ROWS lines; false: there is no front yet. at: the row marked as the cursor's, -1: none. */
enum { PLOT_ROWS = 6 };
bool whatif_plot(Ui *ui, Rect r, int64_t at);

#endif
