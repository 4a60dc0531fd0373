#ifndef SLIM_TEST_WEIGHTS_H
#define SLIM_TEST_WEIGHTS_H

#include "session/session.h"

/* As if block_error had been analyzed: every fused group at every level k of the recipe gets what `v` says of it. Every
 * failure fails the test. */
void give_block_errors(Session *s, double (*v)(const Model *m, int64_t group, int level));
/* The same: so much for each of a group's linears, at any level. */
void give_equal_errors(Session *s, double each);
/* As if the present assignment had been measured on so many tokens. */
void give_effect(Session *s, double kl, double ppl_change, int64_t tokens);

#endif
