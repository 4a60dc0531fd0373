#ifndef SLIM_BASE_PRIORITY_H
#define SLIM_BASE_PRIORITY_H

#include <stdbool.h>

/* How the system shares processors between who answers a person and who computes. None of it needs a privilege; where the
 * system has it not, nothing happens. */

/* The calling thread computes: nice +5. attended: somebody waits for the screen beside it, so it also never interrupts
 * another thread on waking (SCHED_BATCH), and threads that it starts don't either. */
void thread_computes(bool attended);
/* The calling thread answers keys: it asks for short slices of time (EEVDF's request of a thread, Linux 6.12), by which it
 * comes on sooner. Threads that it starts don't inherit that. */
void thread_answers(void);

#endif
