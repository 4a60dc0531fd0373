#include <arpa/inet.h>
#include <curl/curl.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/ascii.h"
#include "base/mem.h"
#include "evaluate/http.h"

enum { WAIT_MS = 100 };

/* Built with the one or the other, they have the same functions. */
static const char *const libraries[] = {"libcurl.so.4", "libcurl-gnutls.so.4"};

/* The functions of libcurl that are called, each with the type its header gives it. */
#define CURL_CALLS(CALL)                                                                                             \
    CALL(global_init)                                                                                                \
    CALL(global_cleanup) CALL(easy_init) CALL(easy_cleanup) CALL(easy_setopt) CALL(easy_getinfo) CALL(easy_strerror) \
        CALL(multi_init) CALL(multi_cleanup) CALL(multi_add_handle) CALL(multi_remove_handle) CALL(multi_perform)    \
            CALL(multi_poll) CALL(multi_info_read) CALL(slist_append) CALL(slist_free_all)

#define CALL_MEMBER(name) __typeof__(&curl_##name) name;
#define CALL_NAME(name) "curl_" #name,
static const char *const call_names[] = {CURL_CALLS(CALL_NAME)};
enum { CALLS = sizeof call_names / sizeof *call_names };

struct Http {
    void *library;
    union {
        struct {
            CURL_CALLS(CALL_MEMBER)
        };
        void *address[CALLS];
    } curl;
    bool begun; /* global_init */
    CURL *easy;
    CURLM *multi;
    struct curl_slist *headers;
    char reason[CURL_ERROR_SIZE];
};

static Status load(Http *h, Error *err)
{
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries && !h->library; i++)
        h->library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!h->library)
        return error_set(
            err, ST_FAIL,
            "the server can't be reached without libcurl, which is not installed: install the package libcurl4");
    for (int i = 0; i < CALLS; i++)
        if (!(h->curl.address[i] = dlsym(h->library, call_names[i])))
            return error_set(err, ST_FAIL, "the installed libcurl is too old: it has no %s", call_names[i]);
    return ST_OK;
}

Status http_open(Http **out, Error *err)
{
    Http *h = *out = mem_zarray(1, sizeof *h);
    if (!h)
        return error_nomem(err, "an HTTP client");
    Status st = load(h, err);
    if (st == ST_OK) {
        h->begun = h->curl.global_init(CURL_GLOBAL_NOTHING) == CURLE_OK;
        h->easy = h->begun ? h->curl.easy_init() : NULL;
        h->multi = h->begun ? h->curl.multi_init() : NULL;
        h->headers = h->begun ? h->curl.slist_append(NULL, "Content-Type: application/json") : NULL;
        if (!h->easy || !h->multi || !h->headers)
            st = error_nomem(err, "an HTTP client");
    }
    if (st != ST_OK) {
        http_close(h);
        *out = NULL;
    }
    return st;
}

void http_close(Http *h)
{
    if (!h)
        return;
    if (h->easy)
        h->curl.easy_cleanup(h->easy);
    if (h->multi)
        h->curl.multi_cleanup(h->multi);
    if (h->headers)
        h->curl.slist_free_all(h->headers);
    if (h->begun)
        h->curl.global_cleanup();
    if (h->library)
        dlclose(h->library);
    free(h);
}

/* ---- addresses ---- */

static bool local4(uint32_t a)
{
    static const struct {
        uint32_t net, mask;
    } nets[] = {{0x7f000000, 0xff000000}, {0x0a000000, 0xff000000}, {0xac100000, 0xfff00000},
                {0xc0a80000, 0xffff0000}, {0xa9fe0000, 0xffff0000}, {0x00000000, 0xffffffff}};
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++)
        if ((a & nets[i].mask) == nets[i].net)
            return true;
    return false;
}

static bool local6(const struct in6_addr *a)
{
    uint32_t v4;
    memcpy(&v4, a->s6_addr + 12, sizeof v4);
    if (IN6_IS_ADDR_V4MAPPED(a))
        return local4(ntohl(v4));
    return IN6_IS_ADDR_LOOPBACK(a) || IN6_IS_ADDR_UNSPECIFIED(a) || IN6_IS_ADDR_LINKLOCAL(a) ||
           (a->s6_addr[0] & 0xfe) == 0xfc;
}

static bool local_address(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return local4(ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr));
    return a->sa_family == AF_INET6 && local6(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

HostKind host_kind(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (ascii_casecmp(host, "localhost") == 0)
        return HOST_LOCAL;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return local4(ntohl(v4.s_addr)) ? HOST_LOCAL : HOST_PUBLIC;
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return local6(&v6) ? HOST_LOCAL : HOST_PUBLIC;
    size_t n = strlen(host);
    bool digits = true; /* "1.2.3": neither an address nor a name */
    for (const char *p = host; *p; p++) {
        if (!ascii_is_alnum(*p) && *p != '.' && *p != '-' && *p != '_')
            return HOST_BAD;
        digits = digits && (ascii_is_digit(*p) || *p == '.');
    }
    return n == 0 || n > 253 || digits || host[0] == '-' || host[0] == '.' ? HOST_BAD : HOST_NAME;
}

Status host_resolves(const char *host, Error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int rc = getaddrinfo(host, NULL, &hints, &list);
    if (rc != 0)
        return error_set(err, ST_DATA, "the host '%s' is not found: %s", host, gai_strerror(rc));
    Status st = ST_OK;
    for (const struct addrinfo *a = list; a && st == ST_OK; a = a->ai_next)
        if (!local_address(a->ai_addr))
            st = error_set(err, ST_DATA,
                           "the host '%s' is a public address: name localhost, or a host of a private network", host);
    freeaddrinfo(list);
    return st;
}

void host_url(Str *out, const char *host, int port)
{
    bool v6 = strchr(host, ':') != NULL;
    str_printf(out, "http://%s%s%s:%d", v6 ? "[" : "", host, v6 ? "]" : "", port);
}

/* ---- a request ---- */

typedef struct Answer {
    Str *body;
    size_t most;
    bool full, refused;
} Answer;

static size_t take_body(char *p, size_t size, size_t n, void *ctx)
{
    Answer *a = ctx;
    if (n * size > a->most - a->body->len) {
        a->full = true;
        return 0;
    }
    str_append(a->body, p, n * size);
    return a->body->oom ? 0 : n * size;
}

/* A name may resolve to something else than it did: what is connected to is looked at. */
static curl_socket_t open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *a)
{
    (void)purpose;
    if (!local_address(&a->addr)) {
        ((Answer *)ctx)->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static bool prepare(Http *h, const HttpRequest *r, Answer *a)
{
    CURL *e = h->easy;
    const struct {
        CURLoption option;
        long value;
    } numbers[] = {{CURLOPT_NOSIGNAL, 1},
                   {CURLOPT_FOLLOWLOCATION, 0},
                   {CURLOPT_TIMEOUT_MS, r->timeout < 1e6 ? (long)(r->timeout * 1000) + 1 : 1000000000L},
                   {CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1},
                   {r->json ? CURLOPT_POST : CURLOPT_HTTPGET, 1}};
    const struct {
        CURLoption option;
        void *value;
    } pointers[] = {{CURLOPT_URL, (void *)(uintptr_t)r->url},
                    {CURLOPT_PROTOCOLS_STR, (void *)(uintptr_t)"http"},
                    {CURLOPT_PROXY, (void *)(uintptr_t)""},
                    {CURLOPT_USERAGENT, (void *)(uintptr_t)"slimscope"},
                    {CURLOPT_HTTPHEADER, r->json ? h->headers : NULL},
                    {CURLOPT_POSTFIELDS, (void *)(uintptr_t)r->json},
                    {CURLOPT_WRITEDATA, a},
                    {CURLOPT_OPENSOCKETDATA, a},
                    {CURLOPT_ERRORBUFFER, h->reason}};
    bool ok = h->curl.easy_setopt(e, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK &&
              h->curl.easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, open_socket) == CURLE_OK;
    for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++)
        if (r->json || pointers[i].option != CURLOPT_POSTFIELDS)
            ok = ok && h->curl.easy_setopt(e, pointers[i].option, pointers[i].value) == CURLE_OK;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        ok = ok && h->curl.easy_setopt(e, numbers[i].option, numbers[i].value) == CURLE_OK;
    return ok;
}

/* Drives the transfer; *result is libcurl's when ST_OK. */
static Status transfer(Http *h, const Cancel *cancel, CURLcode *result, Error *err)
{
    for (;;) {
        int running = 0, left;
        if (cancel_level(cancel))
            return cancel_check(cancel, err);
        if (h->curl.multi_perform(h->multi, &running) != CURLM_OK)
            return error_nomem(err, "a request");
        for (CURLMsg *m; (m = h->curl.multi_info_read(h->multi, &left));)
            if (m->msg == CURLMSG_DONE) {
                *result = m->data.result;
                return ST_OK;
            }
        if (h->curl.multi_poll(h->multi, NULL, 0, WAIT_MS, NULL) != CURLM_OK)
            return error_nomem(err, "a request");
    }
}

static Status explain(const Http *h, const HttpRequest *r, const Answer *a, CURLcode code, Error *err)
{
    static const struct {
        CURLcode code;
        const char *text;
    } reasons[] = {{CURLE_COULDNT_CONNECT, "nothing listens there"},
                   {CURLE_COULDNT_RESOLVE_HOST, "the host is not found"},
                   {CURLE_GOT_NOTHING, "the server closed the connection without an answer"},
                   {CURLE_RECV_ERROR, "the server closed the connection"},
                   {CURLE_SEND_ERROR, "the server closed the connection"},
                   {CURLE_PARTIAL_FILE, "the server closed the connection in the middle of its answer"}};
    if (a->body->oom || code == CURLE_OUT_OF_MEMORY)
        return error_nomem(err, "an answer of a server");
    if (a->refused)
        return error_set(err, ST_FAIL, "%s: this is a public address, which is not asked", r->url);
    if (a->full)
        return error_set(err, ST_FAIL, "%s: the answer is longer than %zu bytes", r->url, a->most);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return error_set(err, ST_FAIL, "%s: no answer within %g s", r->url, r->timeout);
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].code == code)
            return error_set(err, ST_FAIL, "%s: %s", r->url, reasons[i].text);
    return error_set(err, ST_FAIL, "%s: %s", r->url, h->reason[0] ? h->reason : h->curl.easy_strerror(code));
}

Status http_call(Http *h, const HttpRequest *r, int *code, Str *body, Error *err)
{
    Answer a = {.body = body, .most = r->most};
    CURLcode result = CURLE_OK;
    long status = 0;
    str_free(body);
    *code = 0;
    h->reason[0] = '\0';
    if (!prepare(h, r, &a) || h->curl.multi_add_handle(h->multi, h->easy) != CURLM_OK)
        return error_nomem(err, "a request");
    Status st = transfer(h, r->cancel, &result, err);
    h->curl.multi_remove_handle(h->multi, h->easy);
    if (st == ST_OK && result != CURLE_OK)
        st = explain(h, r, &a, result, err);
    if (st == ST_OK) {
        h->curl.easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &status);
        *code = (int)status;
    }
    return st;
}
