#ifndef SLIM_SESSION_ASKED_H
#define SLIM_SESSION_ASKED_H

#include "evaluate/subject.h"
#include "session/session.h"

/* The session's model as it is asked outside the queue of jobs: the float one, or as the present decision quantizes it, by
 * the session's settings and calibration set. */
typedef struct Asked Asked;
typedef struct AskedOptions {
    bool quantized;
    const Cancel *cancel;
    void (*progress)(void *ctx, const char *phase, int64_t done, int64_t total); /* may be NULL */
    void *ctx;
} AskedOptions;
/* ST_USAGE while a job runs, whose memory it would take. */
Status asked_new(Asked **out, Session *s, const AskedOptions *o, Error *err);
void asked_free(Asked *a);
Subject *asked_subject(Asked *a);

#endif
