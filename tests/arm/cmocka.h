#ifndef SLIM_TESTS_ARM_CMOCKA_H
#define SLIM_TESTS_ARM_CMOCKA_H

/* What tests of core/math use of cmocka, for tests/arm.sh, which has no arm64 build of it. The first failure ends the
 * program. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};
#define cmocka_unit_test(f) {#f, f}
#define print_message(...) printf(__VA_ARGS__)
#define fail_msg(...) (printf(__VA_ARGS__), printf("\n%s:%d: failed\n", __FILE__, __LINE__), exit(1))
#define assert_true(c) ((c) ? (void)0 : fail_msg("not true: %s", #c))
#define assert_int_equal(a, b) assert_true((long long)(a) == (long long)(b))
#define assert_ptr_equal(a, b) assert_true((const void *)(a) == (const void *)(b))
#define assert_non_null(p) assert_true((p) != NULL)
#define assert_memory_equal(a, b, n) assert_true(memcmp(a, b, n) == 0)
#define cmocka_run_group_tests(tests, setup, teardown) run_tests(tests, (int)(sizeof(tests) / sizeof *(tests)))

static inline int run_tests(const struct CMUnitTest *tests, int n)
{
    void *state = NULL;
    for (int i = 0; i < n; i++) {
        tests[i].run(&state);
        printf("ok %d - %s\n", i + 1, tests[i].name);
    }
    printf("%d tests passed\n", n);
    return 0;
}

#endif
