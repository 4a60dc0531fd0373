#ifndef SLIM_SAVE_OUTCHECK_H
#define SLIM_SAVE_OUTCHECK_H

#include "save/format.h"

/* What a saver wrote, held against its own documents: names, types, shapes and scales of every tensor. The model it was
 * made of is not needed. */
typedef struct OutCheck OutCheck;

typedef struct OutFound {
    bool bad;            /* else to know */
    const char *tensor;  /* "" when it is about no single one */
    const char *text;
} OutFound;
typedef Status OutTell(void *ctx, const OutFound *f, Error *err);

/* What a tensor holds, as far as the documents tell. */
typedef enum OutRole { OUT_FLOAT, OUT_CODES, OUT_SCALE, OUT_OTHER } OutRole;

/* Reads documents and headers of what f wrote, or began to write, into the folder `path`, or into the folder of the
 * .safetensors file `path`: then only what this file holds is told and given. *out NULL: there is nothing of f, or
 * nothing that isn't read as a model. */
Status outcheck_open(OutCheck **out, const SaveFormat *f, const char *path, Error *err);
void outcheck_free(OutCheck *o);
/* Tells everything that is wrong. Reads scales, which must be above 0, and no other value. */
Status outcheck_run(OutCheck *o, OutTell *tell, void *ctx, Error *err);
/* Files that were asked for. */
int outcheck_files(const OutCheck *o);
const Checkpoint *outcheck_file(const OutCheck *o, int i);
/* Tensor i of that file; once outcheck_run is through. */
OutRole outcheck_role(const OutCheck *o, int file, int64_t i);

#endif
