#ifndef SLIM_EVALUATE_SERVER_H
#define SLIM_EVALUATE_SERVER_H

#include "evaluate/child.h"
#include "evaluate/http.h"
#include "evaluate/service.h"

/* The inference server of a plan: started on a quantized model, asked until it is ready, and stopped whatever happens.
 */
typedef struct Server {
    Child *child;
    Http *http;
    Str log; /* path of what it writes */
} Server;

/* Before any work: whether its program is there, its host resolves, and nothing else listens at its place. */
Status server_ready(const Engine *e, const EvalKit *kit, Error *err);
/* Starts it on `folder` and waits until it is healthy. ST_OK and *out: it is, or it is not, and *why (of 300 bytes)
 * says so. A process that ends is noticed at once, and told with the last line it wrote. End it with server_stop in
 * every case. */
Status server_start_on(const Engine *e, const EvalKit *kit, const char *folder, Server *out, bool *healthy, char *why,
                       Error *err);
/* Whether the process has ended, after something went wrong with it (one that falls closes its connections first, and
 * is given a moment); *why (of 300 bytes) then says how. */
bool server_fell(Server *s, char *why);
void server_stop(Server *s); /* SIGTERM, 10 s, SIGKILL */

/* The argv behind python, a word a string of `out`, each with its NUL: what the peer's server gets; and, unless `peer`,
 * --served-model-name, which the peer leaves to `args`. *n: their number. */
Status engine_words(const Engine *e, const char *folder, bool peer, Str *out, int *n, Error *err);

#endif
