#ifndef SLIM_TUNE_LOOPKEYS_H
#define SLIM_TUNE_LOOPKEYS_H

#include "tune/history.h"

/* What answers are kept under (specs/tuning.md 9). */

enum { LOOP_KEY_MAX = 140 };

/* The peer's: md5 of the evaluation section, "-", md5 of {apiversion, spec}; each of the canonical text. Ours: SHA-256, of what
 * an accuracy depends on beside the recipe (model, calibration set, evaluator with its settings and data files, not the
 * demand). */
Status loop_evaluation_key(const Plan *p, const PlanRows *rows, bool peer, const char *model_id, const char *data_id, char out[65],
                           Error *err);
/* Of a practice's document. */
Status loop_practice_key(const PlanRows *rows, bool peer, const char *text, size_t len, char out[65], Error *err);
/* Of a ranking: its wish, the model and the calibration set. */
void loop_ranking_key(const RankWish *w, const char *model_id, const char *data_id, char out[65]);

#endif
