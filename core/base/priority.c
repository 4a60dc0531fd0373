#include "base/priority.h"

#include <sched.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NICE = 5, SLICE_NS = 100000 /* the least that the system takes */ };

void thread_computes(bool attended)
{
#ifdef SYS_gettid
    if (attended)
        sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
#else
    (void)attended;
#endif
}

void thread_answers(void)
{
#ifdef SYS_sched_setattr
    enum { RESET_ON_FORK = 1 };
    struct { /* struct sched_attr, which not every libc has */
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } a = {.size = sizeof a, .policy = SCHED_OTHER, .flags = RESET_ON_FORK, .nice = getpriority(PRIO_PROCESS, 0),
           .runtime = SLICE_NS};
    syscall(SYS_sched_setattr, 0, &a, 0);
#endif
}
