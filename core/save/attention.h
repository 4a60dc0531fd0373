#ifndef SLIM_SAVE_ATTENTION_H
#define SLIM_SAVE_ATTENTION_H

#include <stdbool.h>

#include "qir/scheme.h"
#include "save/changes.h"

/* What descriptions say of attentions that read quantized queries, keys and values (FAQuant, specs/formats.md 9): an entry
 * `<attention>.quant_type`, and tensors with the scales that a calibration found. */
#define ATTENTION_TYPE ".quant_type" /* behind the attention's name */
#define ATTENTION_LABEL "FAQuant"    /* of its tensors */

enum { ATTENTION_PARTS = 3, ATTENTION_TYPE_MAX = 96 };
extern const char *const attention_parts[ATTENTION_PARTS]; /* "fa_q", "fa_k", "fa_v": modules below the attention */

/* One of them; dtype QT_FLOAT: it is read as it is. */
typedef struct AttentionPart {
    QType dtype;
    bool dynamic; /* by scales that it finds as it runs */
} AttentionPart;

/* "INT8", "QK_FP8_DYNAMIC_V_INT8"; "" when all are float. */
void attention_type(const AttentionPart part[ATTENTION_PARTS], char out[ATTENTION_TYPE_MAX]);
/* The other way round; false: it is no such text. */
bool attention_type_read(const char *text, AttentionPart part[ATTENTION_PARTS]);

/* What of them a plan's processors promised. */
enum { ATTENTION_STATIC = 1, ATTENTION_TOKEN = 2, ATTENTION_BLOCK = 4, ATTENTION_MXFP8 = 8 };
unsigned attention_kinds(const SaveChanges *c);
/* How many attentions are of each type, those beyond the last with it. Returns how many types there are. */
enum { ATTENTION_TYPES_MAX = 4 };
typedef struct AttentionCount {
    char type[ATTENTION_TYPE_MAX];
    int n;
} AttentionCount;
int attention_count(const SaveChanges *c, AttentionCount out[ATTENTION_TYPES_MAX]);
/* The first entry that says so of this type, NULL: none does. */
const SaveMade *attention_with(const SaveChanges *c, QType dtype);

#endif
