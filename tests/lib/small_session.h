#ifndef TESTS_SMALL_SESSION_H
#define TESTS_SMALL_SESSION_H

#include "session/session.h"

/* Sessions on a random Llama of four layers with two short texts, for tests of jobs and of what comes back. */

/* Where model and sessions are, between small_begin and small_end. */
extern char small_model[64];
extern char *small_root;

/* cmocka's set-up and tear-down of a group. */
int small_begin(void **state);
int small_end(void **state);
/* One thread, evaluation windows of 4 tokens, kept below small_root. */
SessionOptions small_options(void);
/* With model, calibration and evaluation set open; its id. Fails the test when that can't be. */
Session *small_session(char id[40]);

#endif
