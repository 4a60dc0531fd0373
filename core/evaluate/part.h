#ifndef SLIM_EVALUATE_PART_H
#define SLIM_EVALUATE_PART_H

#include "dist/dist.h"
#include "evaluate/task.h"

/* Questions divided over ranks: each has texts that follow each other, as many tokens as its speed says (dist_speeds). What a model answers to a text
 * depends on no other text (products have the same bits whatever goes through the model together), so what is put together
 * is what one rank finds. */
typedef struct TaskPart {
    Dist *dist;
    TokenSet mine;  /* borrows its ids */
    int first;      /* text of the whole that mine begins with */
} TaskPart;
/* more: tokens that each text takes beside its own. */
Status task_part(TaskPart *p, Dist *d, const TokenSet *whole, int64_t more, Error *err);
void task_part_fini(TaskPart *p);
/* Of v[texts of the whole] this rank has filled its part; then every rank has all. */
Status task_part_gather(const TaskPart *p, double *v, Error *err);
/* The sum over the ranks of what is right and what is garbled; the rule is that of the first text that fails one. */
Status task_part_score(const TaskPart *p, TaskScore *s, Error *err);

#endif
