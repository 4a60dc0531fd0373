#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>
#include <time.h>

#include <cmocka.h>

#include "evaluate/http.h"
#include "tests/lib/server_process.h"
#include "tests/lib/tempdir.h"

/* Requests to a real server process over loopback. */

typedef struct Ask {
    char url[64];
    const char *json;
    double timeout;
    size_t most;
    Cancel *cancel;
} Ask;

/* One request with a client of its own; its status or -1, and what was said in *text (free). */
static int ask(const Ask *a, Status want, char **text)
{
    Http *h;
    Error e = {0};
    Str body = {0};
    int code = -1;
    assert_int_equal(http_open(&h, &e), ST_OK);
    HttpRequest r = {.url = a->url,
                     .json = a->json,
                     .timeout = a->timeout ? a->timeout : 20,
                     .most = a->most ? a->most : 1 << 20,
                     .cancel = a->cancel};
    Status st = http_call(h, &r, &code, &body, &e);
    if (st != want)
        fail_msg("%s: status %d, %s", a->url, st, e.text);
    *text = strdup(st == ST_OK ? str_text(&body) : e.text);
    str_free(&body);
    http_close(h);
    return st == ST_OK ? code : -1;
}

static const char question[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"2+2?\"}]}";

static void expect(int port, const char *path, const char *json, int code, const char *says)
{
    Ask a = {.json = json};
    char *text;
    snprintf(a.url, sizeof a.url, "http://127.0.0.1:%d%s", port, path);
    assert_int_equal(ask(&a, code < 0 ? ST_FAIL : ST_OK, &text), code);
    if (!strstr(text, says))
        fail_msg("'%s' is not in '%s'", says, text);
    free(text);
}

static void test_answers(void **state)
{
    (void)state;
    char *dir = temp_folder();
    int port = free_port();
    Child *c = server_start(dir, port, "", NULL);
    expect(port, "/v1/models", NULL, 200, "served_model_name");
    expect(port, "/v1/chat/completions", question, 200, "2 + 2 is 4.");
    assert_true(file_gets(temp_path(dir, "server.log"), question));
    child_stop(c);
    expect(port, "/v1/models", NULL, -1, "nothing listens there");
    temp_remove(dir);
}

/* One client, many requests, one connection, and proxies in the environment that it doesn't ask. */
static void test_keeps_connection(void **state)
{
    (void)state;
    char *dir = temp_folder(), url[64];
    int port = free_port(), code;
    Child *c = server_start(dir, port, "", NULL);
    Http *h;
    Error e = {0};
    Str body = {0};
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("all_proxy", "http://127.0.0.1:1", 1);
    assert_int_equal(http_open(&h, &e), ST_OK);
    snprintf(url, sizeof url, "http://localhost:%d/v1/chat/completions", port);
    for (int i = 0; i < 5; i++) {
        HttpRequest r = {.url = url, .json = i % 2 ? question : NULL, .timeout = 20, .most = 1000};
        if (http_call(h, &r, &code, &body, &e) != ST_OK)
            fail_msg("%s", e.text);
        assert_int_equal(code, 200);
        assert_non_null(strstr(body.s, i % 2 ? "2 + 2" : "list"));
    }
    http_close(h);
    str_free(&body);
    unsetenv("http_proxy");
    unsetenv("all_proxy");
    child_stop(c);
    temp_remove(dir);
}

static void test_failures(void **state)
{
    (void)state;
    static const struct {
        const char *mode, *path, *json;
        int code;
        const char *says;
    } cases[] = {
        {"error", "/v1/chat/completions", question, 500, "out of memory"},
        {"sick", "/v1/models", NULL, 503, "not yet"},
        {"close", "/v1/chat/completions", question, -1, "closed the connection"},
        {"half", "/v1/chat/completions", question, -1, "in the middle"},
        {"huge", "/v1/chat/completions", question, -1, "longer than 1048576 bytes"},
        {"fall", "/v1/chat/completions", question, -1, "closed the connection"},
        {"redirect", "/v1/models", NULL, 302, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *dir = temp_folder();
        int port = free_port();
        Child *c = server_start(dir, port, cases[i].mode, NULL);
        expect(port, cases[i].path, cases[i].json, cases[i].code, cases[i].says);
        child_stop(c);
        temp_remove(dir);
    }
}

static void *raise_later(void *cancel)
{
    struct timespec t = {.tv_nsec = 100000000L};
    nanosleep(&t, NULL);
    atomic_store(&((Cancel *)cancel)->level, 1);
    return NULL;
}

/* An answer that doesn't come: given up after the time, or when asked to. */
static void test_slow(void **state)
{
    (void)state;
    char *dir = temp_folder(), *text;
    int port = free_port();
    Child *c = server_start(dir, port, "slow", NULL);
    Cancel cancel = {0};
    Ask a = {.json = question, .timeout = 0.1};
    pthread_t thread;
    snprintf(a.url, sizeof a.url, "http://127.0.0.1:%d/v1/chat/completions", port);
    ask(&a, ST_FAIL, &text);
    assert_non_null(strstr(text, "no answer within 0.1 s"));
    free(text);
    a.timeout = 20;
    a.cancel = &cancel;
    assert_int_equal(pthread_create(&thread, NULL, raise_later, &cancel), 0);
    ask(&a, ST_CANCELLED, &text);
    assert_int_equal(pthread_join(thread, NULL), 0);
    free(text);
    child_stop(c);
    temp_remove(dir);
}

static void test_hosts(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        HostKind kind;
    } cases[] = {
        {"localhost", HOST_LOCAL},
        {"LOCALHOST", HOST_LOCAL},
        {"127.0.0.1", HOST_LOCAL},
        {"127.8.9.1", HOST_LOCAL},
        {"10.1.2.3", HOST_LOCAL},
        {"172.16.0.1", HOST_LOCAL},
        {"172.31.255.1", HOST_LOCAL},
        {"172.32.0.1", HOST_PUBLIC},
        {"192.168.3.4", HOST_LOCAL},
        {"169.254.1.1", HOST_LOCAL},
        {"0.0.0.0", HOST_LOCAL},
        {"8.8.8.8", HOST_PUBLIC},
        {"::1", HOST_LOCAL},
        {"fe80::1", HOST_LOCAL},
        {"fd00::12", HOST_LOCAL},
        {"::", HOST_LOCAL},
        {"2001:db8::1", HOST_PUBLIC},
        {"::ffff:10.0.0.1", HOST_LOCAL},
        {"::ffff:8.8.8.8", HOST_PUBLIC},
        {"node-3.cluster", HOST_NAME},
        {"npu_1", HOST_NAME},
        {"", HOST_BAD},
        {"a b", HOST_BAD},
        {"1.2.3", HOST_BAD},
        {"300.1.1.1", HOST_BAD},
        {"-x", HOST_BAD},
        {"a/b", HOST_BAD},
        {"user@host", HOST_BAD},
        {"::g", HOST_BAD},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (host_kind(cases[i].host) != cases[i].kind)
            fail_msg("%s: %d", cases[i].host, host_kind(cases[i].host));
    Error e = {0};
    assert_int_equal(host_resolves("localhost", &e), ST_OK);
    assert_int_equal(host_resolves("8.8.8.8", &e), ST_DATA);
    assert_non_null(strstr(e.text, "public"));
    Str s = {0};
    host_url(&s, "::1", 80);
    host_url(&s, "localhost", 1234);
    assert_string_equal(s.s, "http://[::1]:80http://localhost:1234");
    str_free(&s);
}

/* A public address is never connected to, nor is another protocol spoken. */
static void test_refuses(void **state)
{
    (void)state;
    Ask a = {.url = "http://8.8.8.8:9/"}, b = {.url = "file:///etc/passwd"};
    char *text;
    ask(&a, ST_FAIL, &text);
    assert_non_null(strstr(text, "public address"));
    free(text);
    ask(&b, ST_FAIL, &text);
    assert_null(strstr(text, "root"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),  cmocka_unit_test(test_keeps_connection),
        cmocka_unit_test(test_failures), cmocka_unit_test(test_slow),
        cmocka_unit_test(test_hosts),    cmocka_unit_test(test_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
