#include "math/lapack.h"

#include <limits.h>
#include <stddef.h>

/* OpenBLAS's LAPACK has no C header in Debian. Fortran: every argument by address, lengths of strings at the end. */
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t uplo_len);
void dtrtri_(const char *uplo, const char *diag, const int *n, double *a, const int *lda, int *info, size_t uplo_len,
             size_t diag_len);

bool lapack_inverse_factor(double *a, int64_t n)
{
    if (n <= 0 || n > INT_MAX)
        return false;
    int m = (int)n, info = 0;
    /* Our rows are Fortran's columns, so our lower triangle is its upper one. */
    dpotrf_("U", &m, a, &m, &info, 1);
    if (info == 0)
        dtrtri_("U", "N", &m, a, &m, &info, 1, 1);
    return info == 0;
}
