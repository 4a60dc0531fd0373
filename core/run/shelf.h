#ifndef SLIM_RUN_SHELF_H
#define SLIM_RUN_SHELF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pool.h"
#include "dist/dist.h"
#include "model/model.h"

/* The weights of one layer's linears as they lie in the checkpoint, read once by ranks that run the same layers in the same
 * order: each reads its part of the bytes and gets those of the others. */
typedef struct Shelf Shelf;
Status shelf_new(Shelf **out, const Model *m, Dist *dist, Error *err);
void shelf_free(Shelf *s);
/* Bytes that it takes: those of the largest layer. */
uint64_t shelf_bytes(const Model *m);
/* Has the unit's weights from here on, instead of those before; of the same unit: nothing. A call of all ranks. What one of
 * them can't read is the error of all. */
Status shelf_hold(Shelf *s, int unit, Pool *pool, const Cancel *cancel, Error *err);
/* Bytes [begin, begin + n) of the tensor into dst; false: they are not here. Any thread. */
bool shelf_copy(Shelf *s, const TensorInfo *t, uint64_t begin, uint64_t n, void *dst);

#endif
