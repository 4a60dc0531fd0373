#ifndef SLIM_TESTS_MTP_MODEL_H
#define SLIM_TESTS_MTP_MODEL_H

#include <stdbool.h>
#include <stdint.h>

/* The recorded model with an MTP layer, but for the tensor "….<drop>" of it (may be NULL); own_table: with embeddings of
 * its own, unlike the model's. eh_cols 0: those it must have. model_type NULL: its own. */
typedef struct MtpRecipe {
    const char *model, *drop, *model_type;
    bool own_table;
    int64_t eh_cols;
} MtpRecipe;
/* The folder, which temp_remove takes away. */
char *mtp_model_write(const MtpRecipe *r);

#endif
