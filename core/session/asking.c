/* What the job thread asks a person, and the answer. */
#include <stdio.h>
#include <time.h>

#include "session/autotune.h"
#include "session/parts.h"
#include "session/queue.h"

bool post_ask(Queue *q, Job *j, const char *question, char *line, size_t size)
{
    enum { LOOK_MS = 200 }; /* whether it is to stop */
    JobAsk *a = &j->ask;
    pthread_mutex_lock(&q->lock);
    a->state = ASK_OPEN;
    snprintf(a->question, sizeof a->question, "%s", question);
    pthread_mutex_unlock(&q->lock);
    post(q, j, EVT_ASK);
    pthread_mutex_lock(&q->lock);
    while (a->state == ASK_OPEN && atomic_load(&j->cancel.level) == 0) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += LOOK_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&q->answered, &q->lock, &until);
    }
    bool answered = a->state == ASK_ANSWERED;
    if (answered)
        snprintf(line, size, "%s", a->answer);
    a->state = ASK_NONE;
    pthread_mutex_unlock(&q->lock);
    return answered;
}

const char *session_question(const Session *s)
{
    Queue *q = s->queue;
    pthread_mutex_lock(&q->lock);
    const Job *j = q->running;
    const char *question = j && j->ask.state == ASK_OPEN ? j->ask.question : NULL; /* it waits: the text stays */
    pthread_mutex_unlock(&q->lock);
    return question;
}

Status session_answer(Session *s, const char *line, Error *err)
{
    Queue *q = s->queue;
    pthread_mutex_lock(&q->lock);
    Job *j = q->running && q->running->ask.state == ASK_OPEN ? q->running : NULL;
    if (j && line)
        snprintf(j->ask.answer, sizeof j->ask.answer, "%s", line);
    if (j)
        j->ask.state = line ? ASK_ANSWERED : ASK_NOBODY;
    pthread_cond_signal(&q->answered);
    pthread_mutex_unlock(&q->lock);
    return j ? ST_OK : error_set(err, ST_USAGE, "nothing was asked");
}
