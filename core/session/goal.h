#ifndef SLIM_SESSION_GOAL_H
#define SLIM_SESSION_GOAL_H

#include <stdbool.h>

#include "base/error.h"

/* What fit and tune are to reach, as it is typed: "kl=0.1", "ppl=+1%", "bytes=+20M", "bytes=300M", "bits=5.2";
 * where the figure says what it is of also without the name: "+20M", "+1%", "5.2bits". */
typedef enum GoalKind { GOAL_KL, GOAL_PPL, GOAL_BYTES, GOAL_BITS } GoalKind;
typedef struct Goal {
    GoalKind kind;
    double value;      /* nats per token; relative change of perplexity; bytes; weight bits per weight */
    bool more;         /* GOAL_BYTES: so many more than what the recipe gives by itself */
    char text[48];     /* with its name */
} Goal;
/* ST_USAGE naming the forms there are. */
Status goal_parse(const char *text, Goal *out, Error *err);

#endif
