#ifndef SLIM_SAVE_FAMILIES_H
#define SLIM_SAVE_FAMILIES_H

#include "save/saver.h"

enum { FAMILY_KEYS_MAX = 6 };

/* What single families want beyond the format (specs/formats.md 2: what the peer's adapters do behind its saver). */
typedef struct SaveFamily {
    const char *model_type; /* config.json's, or that of the family's Arch */
    const char *named;      /* beginning of the user's --model_type that means it, NULL: none */
    /* Members of config.json of a model with a linear in W4A8_DYNAMIC: inference engines read from them how attention
     * and experts are quantized. */
    const char *config[FAMILY_KEYS_MAX][2];
    /* The description says how an indexer is quantized where attention has scales for each token; turned: only of a model
     * that was rotated. */
    bool indexer, indexer_turned;
    bool router_wide;       /* --compat peer: a router is written as float32, with e_score_correction_bias, which of
                             * other families is a buffer and left out */
} SaveFamily;

/* Whether every family of the list is one of arch_table's or another name of one. */
bool save_families_known(void);
/* NULL: nothing. */
const SaveFamily *save_family_of(const SavePlan *plan);

#endif
