#include "base/profile.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"

const PhaseRow phase_table[PHASES] = {
    [PHASE_READ] = {"read", "reading weights"},
    [PHASE_DECODE] = {"decode", "decoding and packing weights"},
    [PHASE_PACK] = {"pack", "packing and gathering inputs"},
    [PHASE_LINEAR] = {"linear", "products of linears"},
    [PHASE_ATTENTION] = {"attention", "attention: scores, softmax, values"},
    [PHASE_ELEMENTS] = {"elements", "norms, rotations, residuals"},
    [PHASE_GATE] = {"gate", "gates and activations"},
    [PHASE_STATISTICS] = {"statistics", "statistics"},
    [PHASE_QUANT_ACT] = {"quantize_act", "quantizing activations"},
    [PHASE_QUANT_WEIGHT] = {"quantize_weight", "quantizing weights"},
    [PHASE_LOGITS] = {"logits", "logits and what is made of them"},
    [PHASE_SAVE] = {"save", "writing files"},
    [PHASE_TOKENIZE] = {"tokenize", "reading and tokenizing texts"},
    [PHASE_OTHER] = {"other", "other"},
};

typedef struct ProfileSlot {
    _Alignas(64) int64_t ns[PHASES]; /* a worker's counters share no cache line with another's */
    int64_t calls[PHASES];
    int64_t since; /* its CPU clock when it came to the present part */
    Phase now;
} ProfileSlot;

struct Profile {
    ProfileSlot *slot; /* [workers] */
    int workers;
    int64_t cpu0, wall0;
    _Atomic int64_t ns[PHASES], calls[PHASES]; /* of threads that are no workers */
};

static int64_t cpu_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t profile_thread_ns(void)
{
    return cpu_ns(CLOCK_THREAD_CPUTIME_ID);
}

Status profile_new(Profile **out, int workers, Error *err)
{
    *out = NULL;
    Profile *p = mem_zarray(1, sizeof *p);
    if (!p)
        return error_nomem(err, "the profile");
    p->slot = mem_aligned((size_t)workers, sizeof *p->slot);
    if (!p->slot) {
        free(p);
        return error_nomem(err, "the profile");
    }
    for (int i = 0; i < workers; i++)
        p->slot[i] = (ProfileSlot){.now = PHASE_OTHER};
    p->workers = workers;
    p->wall0 = clock_ns();
    p->cpu0 = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
    *out = p;
    return ST_OK;
}

void profile_free(Profile *p)
{
    if (!p)
        return;
    free(p->slot);
    free(p);
}

Phase profile_move(Profile *p, int worker, Phase to, int calls)
{
    ProfileSlot *s = &p->slot[worker];
    Phase from = s->now;
    s->calls[to] += calls;
    if (to == from)
        return from;
    int64_t now = profile_thread_ns();
    if (from != PHASE_OTHER) /* of which no clock runs: another thread may become this worker meanwhile */
        s->ns[from] += now - s->since;
    s->since = now;
    s->now = to;
    return from;
}

void profile_count(Profile *p, Phase phase, int64_t since)
{
    atomic_fetch_add_explicit(&p->ns[phase], profile_thread_ns() - since, memory_order_relaxed);
    atomic_fetch_add_explicit(&p->calls[phase], 1, memory_order_relaxed);
}

void profile_report(const Profile *p, ProfileReport *out)
{
    double sum = 0;
    *out = (ProfileReport){.workers = p->workers};
    for (int k = PHASE_OTHER + 1; k < PHASES; k++) {
        int64_t ns = atomic_load(&p->ns[k]), calls = atomic_load(&p->calls[k]);
        for (int i = 0; i < p->workers; i++) {
            ns += p->slot[i].ns[k];
            calls += p->slot[i].calls[k];
        }
        out->cpu[k] = (double)ns * 1e-9;
        out->calls[k] = calls;
        sum += out->cpu[k];
    }
    out->total = (double)(cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - p->cpu0) * 1e-9;
    out->wall = (double)(clock_ns() - p->wall0) * 1e-9;
    out->cpu[PHASE_OTHER] = out->total - sum;
}

void profile_report_process(ProfileReport *r)
{
    double total = (double)cpu_ns(CLOCK_PROCESS_CPUTIME_ID) * 1e-9;
    r->cpu[PHASE_OTHER] += total - r->total;
    r->total = total;
}

void profile_report_add(ProfileReport *to, const ProfileReport *more)
{
    for (int k = 0; k < PHASES; k++) {
        to->cpu[k] += more->cpu[k];
        to->calls[k] += more->calls[k];
    }
    to->total += more->total;
    to->wall += more->wall;
    to->workers = more->workers > to->workers ? more->workers : to->workers;
}
