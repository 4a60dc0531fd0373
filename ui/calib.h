#ifndef SLIM_UI_CALIB_H
#define SLIM_UI_CALIB_H

#include "session/calibset.h"
#include "ui/workbench.h"

/* Screen 6: the texts of the calibration set. */

/* Names of scripts; translated where they are drawn. */
extern const char *const calib_script_words[SCRIPTS];
/* The texts, NULL while they are not read: *why tells. Without a terminal nobody would see them come: then it waits. */
const TextTable *calib_texts(Ui *ui, const char **why);
/* "Latin 79 %, Han 7 %": the most first, up to `most` of them that are at least 2 in a hundred. */
void calib_script_text(const double share[SCRIPTS], int most, char *out, size_t size);
/* "1.25x", "" where it is not known. */
void calib_factor_text(char *out, size_t size, double v);
/* A DetailContent: text `number` with what it does to ranges and scores, and its tokens. */
int calib_text_content(Ui *ui, Rect r, int64_t number, int spare);

#endif
