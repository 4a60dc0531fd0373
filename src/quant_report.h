#ifndef SLIM_SRC_QUANT_REPORT_H
#define SLIM_SRC_QUANT_REPORT_H

#include "session/session.h"
#include "src/output.h"

/* Appends what a quantization of the present assignment would do: OUT_TEXT or OUT_JSON. */
Status quant_outline_text(Session *s, const QuantizeOptions *opt, const QuantizeOutline *o, OutFormat f, Str *out,
                          Error *err);
/* Appends what a quantization did. profile: of OUT_JSON, NULL: none is given. */
void quant_done_text(Session *s, const QuantizeDone *d, OutFormat f, const ProfileReport *profile, Str *out);

/* What one saver would write: files with sizes, then the small ones in one line; as an object. */
void saver_files_text(const char *type, const char *dir, uint64_t bytes, const SaveFile *files, int n, Str *out);
void saver_files_json(const char *type, uint64_t bytes, const SaveFile *files, int n, Str *out);
/* What lies in the target. unit: what a stopped run is counted in; if_what: on what it hangs that nothing is to be done; as a
 * member of an object, with a comma in front. */
void save_target_text(const SaveTarget *t, const char *dir, bool force, const char *unit, const char *if_what, Str *out);
void save_target_json(const SaveTarget *t, Str *out);
/* A list as a member of an object. */
void names_json(const char *key, const NameList *l, Str *out);

#endif
