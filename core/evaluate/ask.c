#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate/ask.h"
#include "evaluate/outcome.h"
#include "evaluate/precheck.h"
#include "io/json.h"
#include "save/pyjson.h"

typedef struct ChatQuestion {
    const char *message;
    int64_t max_tokens;
    double temperature, timeout;
} ChatQuestion;

enum { TEXT_MAX = 300, ANSWER_MOST = 16 << 20, SHOWN = 100 };
static const double precheck_temperature = 0.1;
static const char chat_path[] = "/v1/chat/completions", text_path[] = "/v1/completions";

static void put_text(Str *out, const char *key, const char *text)
{
    str_printf(out, ", \"%s\": ", key);
    pyjson_string(out, text, strlen(text));
}

/* {"model": …: what every body begins with. */
static void begin_body(const Endpoint *at, Str *out)
{
    str_puts(out, "{\"model\": ");
    pyjson_string(out, at->served, strlen(at->served));
}

static void put_message(Str *out, const char *message)
{
    str_puts(out, ", \"messages\": [{\"role\": \"user\", \"content\": ");
    pyjson_string(out, message, strlen(message));
    str_puts(out, "}]");
}

static void put_limits(Str *out, int64_t max_tokens, double temperature)
{
    str_printf(out, ", \"max_tokens\": %lld, \"temperature\": ", (long long)max_tokens);
    pyjson_double(out, temperature);
}

/* What the peer wraps in extra_body the client library of OpenAI would have unwrapped; servers read it at the top. */
static const char no_thoughts[] = ", \"chat_template_kwargs\": {\"thinking\": false, \"enable_thinking\": false}";
static const char no_thoughts_peer[] = ", \"extra_body\": {\"chat_template_kwargs\": {\"thinking\": false}}";

/* POSTs a body (freed) and takes the answer's first choice apart: the document into *doc (freed by the caller), the
 * choice into *first. *url (freed by the caller) is what was asked. */
static Status post(Http *http, const Endpoint *at, const char *path, Str *json, double timeout, const Cancel *cancel,
                   Str *url, cJSON **doc, const cJSON **first, Error *err)
{
    Str body = {0};
    Error why = {0};
    int code = 0;
    *doc = NULL;
    *first = NULL;
    host_url(url, at->host, at->port);
    str_puts(url, path);
    HttpRequest r = {
        .url = str_text(url), .json = str_text(json), .timeout = timeout, .most = ANSWER_MOST, .cancel = cancel};
    Status st = url->oom || json->oom ? error_nomem(err, "a request") : http_call(http, &r, &code, &body, err);
    str_free(json);
    if (st == ST_OK && code != 200) {
        size_t n = body.len < SHOWN ? body.len : SHOWN;
        st = error_set(err, ST_FAIL, "%s answers %d: %.*s", r.url, code, (int)n, str_text(&body));
    }
    if (st == ST_OK) {
        st = json_parse_loose(str_text(&body), body.len, "answer", doc, &why);
        if (st == ST_NOMEM)
            st = error_set(err, st, "%s", why.text);
        else if (st != ST_OK)
            st = error_set(err, ST_FAIL, "%s: the answer is no JSON", r.url);
    }
    str_free(&body);
    if (st != ST_OK)
        return st;
    const cJSON *choices = cJSON_IsObject(*doc) ? json_get(*doc, "choices") : NULL;
    *first = cJSON_IsArray(choices) ? choices->child : NULL;
    return cJSON_IsObject(*first) ? ST_OK : error_set(err, ST_FAIL, "%s: the answer has no choices", r.url);
}

static Status no_member(const Str *url, const char *what, Error *err)
{
    return error_set(err, ST_FAIL, "%s: the answer has no choices[0].%s", str_text(url), what);
}

/* choices[0].message.content, where there is none (and not `peer`) what the model thinks; choices[0].text. */
static Status read_reply(const cJSON *first, bool chat, bool peer, const Str *url, Str *reply, Error *err)
{
    const cJSON *message = chat ? json_get(first, "message") : first;
    if (!cJSON_IsObject(message))
        return no_member(url, "message", err);
    const cJSON *content = json_get(message, chat ? "content" : "text");
    if (!content && chat && !peer)
        content = json_get(message, "reasoning_content");
    if (content ? !cJSON_IsString(content) : !chat)
        return no_member(url, chat ? "message.content" : "text", err);
    if (content)
        str_puts(reply, content->valuestring);
    return reply->oom ? error_nomem(err, "an answer") : ST_OK;
}

/* POSTs one user message to /v1/chat/completions; the content of the answer's first choice into *reply, which is
 * emptied first (caller frees). peer: the body as the peer sends it. ST_FAIL: no usable answer came, err says why;
 * ST_CANCELLED. */
static Status ask_chat(Http *http, const Endpoint *at, const ChatQuestion *q, bool peer, const Cancel *cancel, Str *reply,
                Error *err)
{
    Str url = {0}, json = {0};
    cJSON *doc;
    const cJSON *first;
    str_free(reply);
    begin_body(at, &json);
    put_message(&json, q->message);
    put_limits(&json, q->max_tokens, q->temperature);
    str_puts(&json, peer ? no_thoughts_peer : no_thoughts);
    str_putc(&json, '}');
    Status st = post(http, at, chat_path, &json, q->timeout, cancel, &url, &doc, &first, err);
    if (st == ST_OK)
        st = read_reply(first, true, peer, &url, reply, err);
    cJSON_Delete(doc);
    str_free(&url);
    return st;
}

Status ask_text(Http *http, const Endpoint *at, const TextQuestion *q, const Cancel *cancel, Str *reply, Error *err)
{
    Str url = {0}, json = {0};
    cJSON *doc;
    const cJSON *first;
    str_free(reply);
    begin_body(at, &json);
    if (q->chat)
        put_message(&json, q->text);
    else
        put_text(&json, "prompt", q->text);
    put_limits(&json, q->max_tokens, 0);
    for (int i = 0; i < q->nstop; i++) {
        str_puts(&json, i ? ", " : ", \"stop\": [");
        pyjson_string(&json, q->stop[i], strlen(q->stop[i]));
    }
    str_puts(&json, q->nstop ? "]" : "");
    str_puts(&json, q->chat ? no_thoughts : "");
    str_putc(&json, '}');
    Status st = post(http, at, q->chat ? chat_path : text_path, &json, q->timeout, cancel, &url, &doc, &first, err);
    if (st == ST_OK)
        st = read_reply(first, q->chat, false, &url, reply, err);
    cJSON_Delete(doc);
    str_free(&url);
    return st;
}

/* Adds up the tokens that reach behind `from` and begin before `end`, both in characters: tokens that were generated
 * stand behind the echo. false: lists that don't fit each other. */
static bool add_logprobs(const cJSON *first, int64_t from, int64_t end, double *sum, int64_t *tokens)
{
    const cJSON *all = json_get(first, "logprobs");
    const cJSON *p = cJSON_IsObject(all) ? json_get(all, "token_logprobs") : NULL;
    const cJSON *at = cJSON_IsObject(all) ? json_get(all, "text_offset") : NULL;
    if (!cJSON_IsArray(p) || !cJSON_IsArray(at))
        return false;
    p = p->child;
    for (at = at->child; at && p; at = at->next, p = p->next) {
        if (!cJSON_IsNumber(at) || (at->next && !cJSON_IsNumber(at->next)))
            return false;
        double begins = at->valuedouble, ends = at->next ? at->next->valuedouble : (double)end;
        if (ends <= (double)from || begins >= (double)end)
            continue;
        if (!cJSON_IsNumber(p)) /* that of the first token of all is null */
            return false;
        *sum += p->valuedouble;
        ++*tokens;
    }
    return !at && !p && *tokens > 0;
}

static int64_t characters(const char *s, size_t n)
{
    int64_t k = 0;
    for (size_t i = 0; i < n; i++)
        k += ((unsigned char)s[i] & 0xc0) != 0x80;
    return k;
}

Status ask_likelihood(Http *http, const Endpoint *at, const char *text, size_t from, double timeout,
                      const Cancel *cancel, double *sum, int64_t *tokens, Error *err)
{
    Str url = {0}, json = {0};
    cJSON *doc;
    const cJSON *first;
    *sum = 0;
    *tokens = 0;
    begin_body(at, &json);
    put_text(&json, "prompt", text);
    put_limits(&json, 1, 0);
    str_puts(&json, ", \"echo\": true, \"logprobs\": 1}");
    Status st = post(http, at, text_path, &json, timeout, cancel, &url, &doc, &first, err);
    if (st == ST_OK && !add_logprobs(first, characters(text, from), characters(text, strlen(text)), sum, tokens))
        st = error_set(
            err, ST_FAIL,
            "%s: the answer has no logprobs of the echoed text: the server has to support echo with logprobs, "
            "as vLLM does",
            str_text(&url));
    cJSON_Delete(doc);
    str_free(&url);
    return st;
}

/* What a reply is not, into *bad. */
static Status judge(const Precheck *p, const Question *q, const Str *reply, bool peer, char *bad, Error *err)
{
    const char *text = str_text(reply);
    bool found = true;
    int fired = -1;
    if (p->garbled)
        RETURN_IF_ERROR(precheck_garbled(text, reply->len, q->items, peer, &fired, err));
    else
        RETURN_IF_ERROR(precheck_expected(text, q->answers, q->nanswers, &found, err));
    size_t n = reply->len < SHOWN ? reply->len : SHOWN;
    while (n && n < reply->len && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    if (fired >= 0)
        snprintf(bad, TEXT_MAX, "precheck garbled_text (%s): '%.80s' is answered with '%.*s'", garbled_names[fired],
                 q->message, (int)n, text);
    else if (!found)
        snprintf(bad, TEXT_MAX, "precheck expected_answer: '%.60s' is answered without '%.40s': '%.*s'", q->message,
                 q->answers[0], (int)n, text);
    return ST_OK;
}

static Status ask_one(const Service *s, const Precheck *p, const Question *q, Http *http, const EvalKit *kit, char *bad,
                      char *failed, Error *err)
{
    ChatQuestion chat = {
        .message = q->message, .max_tokens = p->max_tokens, .temperature = precheck_temperature, .timeout = p->timeout};
    Str reply = {0};
    Error why = {0};
    Status st = ask_chat(http, &s->at, &chat, kit->peer, kit->cancel, &reply, &why);
    if (st == ST_OK)
        st = judge(p, q, &reply, kit->peer, bad, &why);
    else if (st == ST_FAIL) {
        eval_log(kit, "precheck: %s%s", why.text, kit->peer ? "; counts as passed" : "");
        if (!kit->peer)
            snprintf(failed, TEXT_MAX, "a precheck could not be asked: %.240s", why.text);
        st = ST_OK;
    }
    str_free(&reply);
    return st == ST_OK ? ST_OK : error_set(err, st, "%s", why.text);
}

Status ask_prechecks(const Service *s, Http *http, const EvalKit *kit, char *bad, char *failed, Error *err)
{
    bad[0] = failed[0] = '\0';
    for (int i = 0; i < s->nprechecks && !bad[0] && !failed[0]; i++) {
        const Precheck *p = &s->precheck[i];
        for (int k = 0; k < p->n && !bad[0] && !failed[0] && !(kit->peer && p->omitted); k++) {
            eval_progress(kit, "prechecks", i, s->nprechecks);
            RETURN_IF_ERROR(ask_one(s, p, &p->question[k], http, kit, bad, failed, err));
        }
    }
    return ST_OK;
}
