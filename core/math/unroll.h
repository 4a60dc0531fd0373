#ifndef SLIM_MATH_UNROLL_H
#define SLIM_MATH_UNROLL_H

/* Before a loop of a constant number of turns, at most 24: every compiler makes all of them, or what the loop keeps would
 * not stay in registers. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 24")
#endif

#endif
