#ifndef TESTS_SCREEN_WORLD_H
#define TESTS_SCREEN_WORLD_H

#include <stdbool.h>

#include "ui/workbench.h"

/* A workbench on a null terminal, over the recorded session tests/golden/screens/session.jsonl.gz. */

#define SCREEN_CALIB "tests/golden/analysis/_models/calib5.jsonl"
#define SCREEN_RECORDING "tests/golden/screens/session.jsonl.gz"

typedef struct World {
    char *dir;      /* state folder, a temporary one */
    App app;
    Ui *ui;
    const Metric *metrics[5]; /* of the recording: a metric that comes later is on none of its screens */
} World;

/* Failures fail the test. `recorded` false: no session at all. read_only: nothing can be exported. */
void world_open(World *w, int cols, int rows, const char *glyphs, bool recorded, bool read_only);
/* The same over the recording with records of a journal behind it, NULL-terminated. */
void world_open_more(World *w, int cols, int rows, const char *glyphs, const char *const *records);
void world_close(World *w);
/* Keys by name with blanks between ("j Enter F5 ^R"), or a text typed as it is. Painted at the end. */
void world_keys(World *w, const char *names);
void world_type(World *w, const char *text);
void world_resize(World *w, int cols, int rows);
/* The painted screen; free with free(). */
char *world_screen(World *w);
/* Fails the test unless the text is on the screen, or is not where `want` is false. */
void world_shows(World *w, const char *text, bool want);
/* Pumps and paints until no job runs. */
void world_wait(World *w);

/* Times of day are made those of no day. */
void world_hide_times(char *screen);
/* Fails the test unless the file holds the text; with ACCEPT in the environment it is written there. */
void world_compare(const char *path, const Str *got);

/* Runs the engine on models/demo and writes the recording anew. */
void world_record(void);

#endif
