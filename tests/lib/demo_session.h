#ifndef TESTS_DEMO_SESSION_H
#define TESTS_DEMO_SESSION_H

#include "session/session.h"

/* Sessions on the demo model over few tokens, for tests of decisions. */

/* Fails the test with the error's text unless the status is ST_OK. */
void session_ok(Status st, const Error *err);
/* One thread, 4 texts of 64 tokens, 128 evaluation tokens; kept in `dir` (NULL: nowhere). */
SessionOptions demo_session_options(const char *dir);
/* With the model open. */
Session *demo_session(const char *dir);

#endif
