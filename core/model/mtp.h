#ifndef SLIM_MODEL_MTP_H
#define SLIM_MODEL_MTP_H

#include "model/model.h"

/* Multi-token prediction layers that a checkpoint brings beside its decoder (specs/models.md 2.1): they are listed
 * here whatever they are; Model.mtp_layers tells whether one runs. */
typedef struct MtpInfo {
    int64_t layers, tensors;
    int64_t linears;    /* matrices but for embeddings, heads and norms; stacked experts count once */
    int64_t params;     /* values, scales not counted */
    char first[64];     /* prefix of the first layer: "model.layers.61" */
} MtpInfo;
void model_mtp(const Model *m, MtpInfo *out);
/* Whether a tensor of this name is one of multi-token prediction. */
bool model_mtp_tensor(const Model *m, const char *name);

#endif
