#ifndef SLIM_SESSION_START_H
#define SLIM_SESSION_START_H

#include "session/job.h"

/* Jobs as they were asked for once, made of the present session; the caller's until they are queued. */
Status start_analysis_again(Session *s, const Metric *const *metrics, const bool *selected, unsigned needs, Job **out, Error *err);
/* An analysis by one metric whose scores are not the session's (Job.aside). */
Status start_aside(Session *s, const Metric *m, const char *const *patterns, int npatterns, Job **out, Error *err);
/* An evaluation of the open recipe's own levels; e->folder, work_dir and id are copied, all else is borrowed. */
Status start_evaluation(Session *s, const EvaluateJob *e, Job **out, Error *err);
/* title NULL: how many are quantized. */
Status start_measurement(Session *s, Recipe *r, const int16_t *level, bool full, const char *title, Job **out, Error *err);
Status start_quantization(Session *s, const QuantizeOptions *o, Job **out, Error *err); /* quantize.c */
/* What a quantization compares with, and how much it is. */
void start_sort_quantization(const Session *s, Job *j);
/* An analysis over these texts (TEXTS_*), of the model as the open recipe's processors change it. */
Status start_analysis_of(Session *s, unsigned texts, Job **out, Error *err);
/* What scores are held against from now on is what this job finds. */
void start_origin(Session *s, Job *j);

/* The malloced path of a data file by its name, as the caller's search finds it. */
char *data_find(Session *s, const char *name, Error *err);
/* What the prior stages of the job's recipe read: found, as the calibration set is. */
Status job_take_priors(Session *s, const Recipe *r, Job *j, Error *err);

#endif
