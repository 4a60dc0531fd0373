#ifndef SLIM_BASE_DTYPE_H
#define SLIM_BASE_DTYPE_H

#include <stdbool.h>

/* Types of stored values, as safetensors names them. */
typedef enum DType {
    DT_F64, DT_F32, DT_F16, DT_BF16, DT_F8_E4M3, DT_F8_E5M2, DT_F8_E8M0,
    DT_I64, DT_I32, DT_I16, DT_I8, DT_U64, DT_U32, DT_U16, DT_U8, DT_BOOL,
    DT_COUNT
} DType;

/* Size of one element in bytes, and its name in safetensors headers ("BF16"). */
int dtype_size(DType t);
const char *dtype_name(DType t);
/* F32, F16 or BF16: stored as the values themselves, which float32 holds exactly. */
bool dtype_plain(DType t);

#endif
