#ifndef SLIM_UI_SIGNS_H
#define SLIM_UI_SIGNS_H

/* A heading, sign or figure of a screen, and what it means. */
typedef struct Sign {
    const char *sign; /* as it stands on the screen */
    const char *text;
} Sign;

/* Those of a view, by View.name, and those of the lines that all screens have; each list ends with text == NULL. NULL: the view has none. */
const Sign *signs_of(const char *view);
const Sign *signs_of_all(void);

#endif
