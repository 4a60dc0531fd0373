#ifndef SLIM_UI_CHOICES_H
#define SLIM_UI_CHOICES_H

#include "ui/workbench.h"

/* What the open input line could become: a list above it, which scrolls, and of which one can be chosen. */
typedef struct Choices {
    struct Choice {
        char *word, *help; /* help "": none */
    } *list;
    int n;
    size_t head;  /* bytes that all words share and that are not shown */
    int chosen;   /* -1: none */
    int top;      /* first line shown */
    int page;     /* lines that were drawn last */
    bool tall;    /* asked for: it may take more of the screen */
} Choices;

/* What the last word of `line` could become; where it is a command's name that none begins with, those whose summary
 * holds it. Without memory: nothing. */
void choices_fill(App *a, const char *line, Choices *c);
void choices_drop(Choices *c);
/* Chooses the next one, or the one before; above the first: none. false: there is nothing there. */
bool choices_choose(Choices *c, int by);
void choices_scroll(Choices *c, int pages);
/* Also notes how many lines there is room for. */
void choices_draw(Ui *ui, Choices *c);

#endif
