#ifndef SLIM_SRC_QUANT_REPORT_H
#define SLIM_SRC_QUANT_REPORT_H

#include "session/session.h"
#include "src/output.h"

/* Appends what a quantization of the present assignment would do: OUT_TEXT or OUT_JSON. */
Status quant_outline_text(Session *s, const QuantizeOptions *opt, const QuantizeOutline *o, OutFormat f, Str *out,
                          Error *err);
/* Appends what a quantization did. profile: of OUT_JSON, NULL: none is given. */
void quant_done_text(Session *s, const QuantizeDone *d, OutFormat f, const ProfileReport *profile, Str *out);

#endif
