#ifndef SLIM_UI_INPUT_KINDS_H
#define SLIM_UI_INPUT_KINDS_H

#include "ui/choices.h"
#include "ui/input.h"

/* The kinds of input lines: what each looks at while it is typed, and does with it. Private to ui/input.c, which edits
 * them. */

enum { MAX_NOTE = 512 };

/* What one kind of line does. */
typedef struct Kind {
    const char *label;
    const char *verb;                                /* what its words are completed behind; NULL: not at all */
    const char *hint;                                /* shown where there is no note */
    void (*changed)(Ui *ui, const char *text, Input *p);
    unsigned (*done)(Ui *ui, const char *text);
    void (*cancelled)(Ui *ui);
    void (*list)(Ui *ui, const char *text, Choices *out); /* Tab in a pattern: what it takes; NULL: Tab completes */
    void (*ask)(Ui *ui, const char *text, AskNote *out); /* in the place of `changed`: also before a key */
    const char *command;                             /* and of `done`: Enter runs it with the text behind it */
} Kind;

struct Input {
    InputKind kind;
    char note[MAX_NOTE];     /* below the line */
    char figures[MAX_NOTE];  /* above it, where there is a line */
    Slot note_slot;
    Choices choices;         /* what the line could become */
    char *asked;             /* what ^R looks for in the history; NULL: nothing */
    int ups;                 /* how far Up went into the history */
    int recalled;            /* history line that is in it now; -1: none */
    bool changed;            /* since the kind looked at it */
    bool done;               /* Enter: readline handed the line over */
    char *line;
    int64_t origin;          /* linear of the cursor before a search or a filter */
    char *before;            /* the filter before this one */
};
extern const Kind input_kinds[INPUT_KINDS];
/* Lets the open line's kind look at the text; does what Enter is for. */
void input_look(Ui *ui, const char *text);
unsigned input_run(Ui *ui, const Kind *k, const char *text);
/* Keeps a line in the history that Up and ^R go through, each line once. */
void input_remember(const char *line);

#endif
