#ifndef SLIM_BENCH_PEAK_H
#define SLIM_BENCH_PEAK_H

#include <stdbool.h>
#include <stdint.h>

/* What one core can do at most: loops of one instruction whose operands never leave the registers. */
typedef enum PeakKind {
    PEAK_F32_256,
    PEAK_F32_512,
    PEAK_F64_256,
    PEAK_F64_512,
    PEAK_BF16_512,
    PEAK_F32_NEON,
    PEAK_F64_NEON,
    PEAKS
} PeakKind;
const char *peak_name(PeakKind k);
/* Whether this build and processor have it. */
bool peak_runs(PeakKind k);
/* 10^9 operations a second of this thread's CPU time, a multiply-add counting 2: of about 10 ms. */
double peak_gflops(PeakKind k);

/* CPU seconds of the calling thread, of the process. */
double thread_seconds(void);
double process_seconds(void);

#endif
