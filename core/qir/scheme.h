#ifndef SLIM_QIR_SCHEME_H
#define SLIM_QIR_SCHEME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/dtype.h"
#include "base/hash.h"
#include "model/model.h"
#include "qir/ext.h"
#include "qir/part.h"

typedef enum QType { QT_FLOAT, QT_INT8, QT_INT4, QT_MXFP8, QT_MXFP4, QT_FP8_E4M3, QT_PLACEHOLDER, QT_COUNT } QType;
typedef enum QScope {
    QS_PER_TENSOR, QS_PER_CHANNEL, QS_PER_GROUP, QS_PER_BLOCK, QS_PER_TOKEN, QS_PD_MIX, QS_PER_HEAD, QS_DUAL_SCALE,
    QS_PLACEHOLDER, QS_COUNT
} QScope;
/* Names as in YAML ("int8", "per_channel"), NULL behind the last; -1 from the parse functions when unknown. */
extern const char *const qtype_names[QT_COUNT + 1], *const qscope_names[QS_COUNT + 1];
const char *qtype_name(QType t);
const char *qscope_name(QScope s);
int qtype_parse(const char *s);
int qscope_parse(const char *s);

/* One side of a qconfig (specs/quantization.md 1). method is a name of the QuantMethod table ("minmax"). */
typedef struct QSpec {
    QType dtype;
    QScope scope;
    bool symmetric;
    char method[24];
    QExt ext;
} QSpec;

typedef struct QConfig {
    QSpec act, weight;
} QConfig;

/* A pair that a saver can write (specs/quantization.md 2): a row of scheme_table. */
typedef struct Scheme {
    const char *name;      /* "W8A8", "W8A8_DYNAMIC", … */
    const char *svd;       /* the label of a linear that has a low-rank branch, too */
    QType act_type; QScope act_scope; int act_sym;       /* sym: 1, 0, or -1 = either */
    QType weight_type; QScope weight_scope; int weight_sym;
    const char *weight_method; /* only with this method; NULL: any that no row before this one asks for */
    int weight_bits, act_bits;
    bool data_free;        /* needs no calibration pass */
    bool runnable;         /* this build quantizes and measures it */
    bool ours;             /* the peer has nothing to write it with */
    unsigned char part[8]; /* QPartIds of a linear in the Ascend formats, in write order; ends with P_END */
    bool peer_zero;        /* the peer writes zeros for its offsets */
    bool labels_bias;      /* the bias is labelled as the scheme, not FLOAT */
    bool plain_bias;       /* it is of its own type, not float32 */
} Scheme;
extern const Scheme scheme_table[]; /* ends with name == NULL */
/* Whether a side is of this type and scope and of this sign (1, 0, or -1 = either). */
bool qspec_fits(const QSpec *q, QType type, QScope scope, int sym);
/* Of a label in a description what it says of the weight alone, "W8A8_DYNAMIC" of "W8A8_SVD_DYNAMIC": one of the schemes'
 * names, or "FLOAT"; a label that is none as it is. */
const char *scheme_of_label(const char *label);
#define FLOAT_SVD "FLOAT_SVD" /* of a float weight beside a low-rank branch */
/* Row for a qconfig, NULL when no saver can write the pair. */
const Scheme *scheme_find(const QConfig *q);

/* The plain pair of a scheme's name, as the peer's practices write it: minmax of per_channel, per_token or blocks, asymmetric
 * where an input may be either, with a method's own name where it has one (dualscale in blocks of 512). false: there is no
 * such scheme, or a processor's settings make it: W16A16S. */
bool scheme_config(const char *name, QConfig *out);

/* A linear as it is written. */
typedef struct SchemeLinear {
    const Linear *l;
    bool bias;          /* with one: the model's, or one that a run adds */
    bool peer;          /* under --compat peer */
    DType model;        /* deq_scale of models that aren't bf16 holds bit patterns in int64 */
} SchemeLinear;
enum { SCHEME_PARTS_MAX = 10 };
/* The tensors that ascendv1_saver writes for it, in order (specs/formats.md 7, 8, 12 for W4A16 and W8A8S). */
int scheme_parts(const Scheme *s, const QConfig *q, const SchemeLinear *of, QPart out[SCHEME_PARTS_MAX]);
/* Their bytes. */
uint64_t scheme_bytes(const Scheme *s, const QConfig *q, const SchemeLinear *of);
/* Elements of a row [in] of this side that share a scale; 128 is group_size's default. */
int64_t qspec_group(const QSpec *q, int64_t in);
/* Every field that can change a number: for cache keys and the digests of resumed runs. */
void qspec_hash(Hasher *h, const QSpec *q);
/* The same as a quick 64-bit key; it may be written to a file. */
uint64_t qspec_key(const QSpec *q);
/* "W8A8 per_tensor asym" for people. */
void qconfig_describe(const QConfig *q, char *buf, int size);

#endif
