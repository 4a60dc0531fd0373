#ifndef SLIM_EVALUATE_HTTP_H
#define SLIM_EVALUATE_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/pool.h"
#include "base/str.h"

/* Requests to a server of this machine or of its private network, through libcurl: no redirects, no proxy, no address
 * that is public, answers of a bounded size. libcurl is loaded by the first client (start-up would take half as long
 * again with it, and most runs send nothing). */
typedef struct Http Http;

/* A client, which keeps its connection open from one request to the next. One thread at a time. Caller frees.
 * ST_FAIL: libcurl is not installed. */
Status http_open(Http **out, Error *err);
void http_close(Http *h); /* NULL is fine */

typedef struct HttpRequest {
    const char *url;      /* http:// */
    const char *json;     /* body of a POST; NULL: a GET */
    double timeout;       /* seconds for the whole of it */
    size_t most;          /* bytes that an answer may have */
    const Cancel *cancel; /* may be NULL; heeded within 0.1 s */
} HttpRequest;

/* The answer's body into *body, which is emptied first (caller frees), and its status into *code. ST_OK for any status;
 * ST_FAIL: no whole answer came, err says why ("nothing listens", "no answer within 3 s", …); ST_CANCELLED. */
Status http_call(Http *h, const HttpRequest *r, int *code, Str *body, Error *err);

/* What a host is that a plan names. */
typedef enum HostKind {
    HOST_LOCAL,  /* "localhost", or a loopback, private, link-local or unspecified address */
    HOST_PUBLIC, /* another address */
    HOST_NAME,   /* a name: host_resolves says more */
    HOST_BAD     /* neither */
} HostKind;
HostKind host_kind(const char *host);
/* Whether a name resolves, and to no public address: ST_OK or one line. May wait for the resolver. */
Status host_resolves(const char *host, Error *err);
/* Appends http://host:port, an IPv6 address in brackets. */
void host_url(Str *out, const char *host, int port);

#endif
