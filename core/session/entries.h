#ifndef SLIM_SESSION_ENTRIES_H
#define SLIM_SESSION_ENTRIES_H

#include "session/assignment.h"
#include "session/job.h"
#include "session/results.h"
#include "session/keeper.h"

/* Of the first record, or of the one that a newer program's sitting begins with. Since 2 fingerprints cover a model's
 * weights; since 3 the arithmetic that was "model" is "exact". */
enum { FORMAT_FINGERPRINTS = 2, FORMAT_EXACT = 3, JOURNAL_FORMAT = FORMAT_EXACT };

/* The records of the journal: what a person does and a job finds, handed over to the keeper (nothing happens without
 * one, or while the session is being restored). restore.c reads them. Owner thread, but for the last two. */
void entry_open(Session *s);
void entry_format(Session *s);                                   /* the records of an older journal go on in today's */
void entry_model(Session *s);                                    /* goes on with a model that is another than recorded */
void entry_data(Session *s, const char *set, const DataInfo *d); /* "calib", "eval": the texts that were read */
void entry_edit(Session *s, const Edit *e);
void entry_recipe(Session *s, const Recipe *r, const RuleList *rules); /* NULL: the model's first */
void entry_text(Session *s, const char *kind, const char *text); /* text may be NULL: "undo", "redo" */
void entry_setting(Session *s, const char *key, const char *value);
void entry_view(Session *s);                                     /* when it is another than the last one */
void entry_kept_filter(Session *s, const char *name, const char *text); /* one that is kept; "": no more */
void entry_run_end(Session *s, int run, Status st);
void entry_quantize_end(Session *s, Status st);
void entry_measured(Session *s, const Measured *m);
void entry_mark(Session *s, const char *which, const char *thing);
void entry_drop(Session *s, const char *run);
struct Trial;
void entry_trial(Session *s, const struct Trial *t);             /* other calibration texts are tried */
void entry_loaded(Session *s, const Metric *m);                  /* scores of another program */
void entry_interact(Session *s);                                 /* a question about interactions */
void entry_together(Session *s, size_t first);                   /* what sets do, from this one on */
void entry_tune(Session *s);                                     /* a search begins, or goes on */
void entry_tune_end(Session *s, bool stopped);
void entry_autotune(Session *s);                                 /* a tuning plan begins, or goes on */
void entry_autotune_end(Session *s, bool stopped);
/* Something was said of an entry of the guide, or tried. text may be NULL; ids of measurements, 0: none. */
void entry_guide(Session *s, const char *what, const char *item, const char *text, int measured, int against);
/* What a search came to: its end ("met"), after how many measurements, with which of them (id, 0: none), how many bytes more than the
 * recipe gives. */
void entry_guide_search(Session *s, const char *item, const char *goal, const char *end, int tries, int measured, int64_t more);

/* Hands a record over, which it frees; what a person would miss makes the session worth keeping. */
void entry_put(Session *s, Str *record, bool sync);
/* jobrecord.c. The record of a job that is queued; what its start leaves in the journal, made now and written then, by the
 * job thread; its end; that it is off the list; the order of those that wait, and which are paused. */
void entry_job(const Session *s, const Job *j, Str *out);
void entry_job_begin(Session *s, Job *j);
void entry_job_started(Keeper *kp, Job *j);
void entry_job_end(Session *s, const JobRow *row);
void entry_job_gone(Session *s, int id);
void entry_queue(Session *s);

/* The record of a finished layer, without its stream's digest. Job thread. */
void entry_layer(const Job *j, const PassStep *step, KeptLayer *out);
/* The same of one whose stream is not kept, whole. Job thread. */
void entry_rows(const Job *j, const PassStep *step, Str *out);
/* The record of a step that leaves nothing but scores. Job thread. */
void entry_scores(const Job *j, const PassStep *step, Str *out);

#endif
