#ifndef SLIM_SESSION_SERVE_H
#define SLIM_SESSION_SERVE_H

#include "session/session.h"

/* The session's side of the attach socket (session/wire.h). It has no thread: session_fd is readable when somebody who is
 * attached says something, and session_pump answers. Who does not read is put off, then left; nothing waits for it. Owner
 * thread. */
typedef struct Serve Serve;

/* Listens in the folder of the session, whose lock is held. Where that can't be, a line of the log says so and the work goes
 * on. */
void serve_open(Session *s);
/* Answers who is there, and tells them what is new. */
void serve_pump(Session *s);
/* A job has ended: told with the next pump. */
void serve_ended(Session *s, const JobView *v);
/* Takes the socket's name away, while the lock is still held: nobody new comes. */
void serve_end(Session *s);
/* Says that the session is closed and all of it on the disk. */
void serve_close(Session *s);
/* Readable when there is something for serve_pump or queue.pipe. */
int serve_fd(const Serve *v);

#endif
