#ifndef SLIM_TEST_NPZ_H
#define SLIM_TEST_NPZ_H

#include <stdint.h>

/* Reader of the golden .npz files (zip of .npy, stored or deflated; little-endian, row-major). Test code: a bad file or
 * a missing array fails the test at once. */
typedef struct NpyArray {
    char name[96];
    char kind;    /* 'f', 'i', 'u', 'b' */
    int size;     /* bytes of one element */
    int ndim;
    int64_t shape[4];
    int64_t count;
    void *data;
} NpyArray;

typedef struct Npz {
    NpyArray *arrays;
    int count;
} Npz;

Npz *npz_open(const char *path);
void npz_free(Npz *z);
/* NULL when absent. `name` is a printf format. */
const NpyArray *npz_find(const Npz *z, const char *name, ...) __attribute__((format(printf, 2, 3)));
/* The data of a float32 or int8 array; fails the test when it is absent or of another type. *a may be NULL. */
const float *npz_f32(const Npz *z, const NpyArray **a, const char *name, ...) __attribute__((format(printf, 3, 4)));
const int8_t *npz_i8(const Npz *z, const NpyArray **a, const char *name, ...) __attribute__((format(printf, 3, 4)));

#endif
