#ifndef SLIM_SESSION_JOBRECORD_H
#define SLIM_SESSION_JOBRECORD_H

#include "io/json.h"
#include "session/job.h"

/* Jobs back from the journal's records (entry_job and its like write them). Owner thread, before any job runs. */

/* Finds in the journal of a folder which jobs were queued and have not begun. */
void jobs_find_waiting(Session *s, const char *dir);
/* A job: a row of the list; one that still waits is made anew, of the session as it is at this record, and waits until
 * session_release_jobs. */
Status job_restore(Session *s, const cJSON *record, Error *err);
Status job_end_restore(Session *s, const cJSON *record, Error *err);
Status job_gone_restore(Session *s, const cJSON *record, Error *err);
Status queue_restore(Session *s, const cJSON *record, Error *err);
/* A row for what an earlier sitting of a program without such records left unfinished; what of it is not NULL or 0 here is
 * the caller's. */
Status jobs_show_unfinished(Session *s, JobRow row, const char *dir, Error *err);

#endif
