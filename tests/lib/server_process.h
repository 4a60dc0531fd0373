#ifndef SLIM_TEST_SERVER_PROCESS_H
#define SLIM_TEST_SERVER_PROCESS_H

#include <stdbool.h>

#include "evaluate/child.h"

/* The server of tests/lib/fake_server.py as a process of its own, and what tests ask of processes. Every failure fails
 * the test at once. */

/* A port of 127.0.0.1 that nothing listens on. */
int free_port(void);
/* Starts the server with these words of its --mode (and more words, NULL-terminated, may be NULL), its output in
 * dir/server.log; waits until it listens where it means to. End it with child_stop. */
Child *server_start(const char *dir, int port, const char *mode, const char *const *more);
/* Whether a process runs (a zombie doesn't). */
bool process_runs(long pid);
/* Waits up to 20 s for its end. */
bool process_ends(long pid);
/* Waits up to 20 s for a file that is there and not empty, and reads a number from it. */
long file_number(const char *path);
/* Waits up to 20 s for a text in a file. */
bool file_gets(const char *path, const char *text);

#endif
