#include "math/lapack.h"

#include <limits.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/mem.h"

/* OpenBLAS's LAPACK has no C header in Debian. Fortran: every argument by address, lengths of strings at the end. */
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t uplo_len);
void dtrtri_(const char *uplo, const char *diag, const int *n, double *a, const int *lda, int *info, size_t uplo_len,
             size_t diag_len);

Status lapack_inverse(const CholeskyTask *t, bool *definite, Error *err)
{
    double *a = t->n <= INT_MAX ? mem_aligned((size_t)t->n * (size_t)t->n, sizeof *a) : NULL;
    int n = (int)t->n, info = 0;
    if (!a)
        return error_nomem(err, "a Cholesky factor");
    for (int64_t i = 0; i < t->n; i++)
        t->read(t->ctx, i, 0, i + 1, a + i * t->n);
    /* our rows are Fortran's columns, so our lower triangle is its upper one */
    dpotrf_("U", &n, a, &n, &info, 1);
    if (info == 0)
        dtrtri_("U", "N", &n, a, &n, &info, 1, 1);
    *definite = info == 0;
    for (int64_t i = 0; i < t->n && *definite; i++)
        t->write(t->ctx, i, 0, i + 1, a + i * t->n);
    free(a);
    return cancel_check(t->cancel, err);
}

uint64_t lapack_bytes(int64_t n)
{
    return (uint64_t)n * (uint64_t)n * sizeof(double);
}
