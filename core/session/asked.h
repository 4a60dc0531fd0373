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

/* The same of one prompt as a job, for faces that wait for nothing; all copied. */
typedef struct GenerateAsk {
    const char *prompt;   /* as people know it */
    const int32_t *ids, *stop;
    int64_t nids, max_tokens;
    int nstop;
    bool quantized;
} GenerateAsk;
Status session_generate(Session *s, const GenerateAsk *ask, Error *err);
/* What the newest such job of this sitting gave. */
typedef struct Said {
    char *prompt;
    int32_t *ids;
    int64_t n;
    bool quantized;
} Said;
/* NULL: nothing was said yet. */
const Said *session_said(const Session *s);

/* Within core/session. */
struct Job;
void said_take(Session *s, struct Job *j);
void said_free(Session *s);

#endif
