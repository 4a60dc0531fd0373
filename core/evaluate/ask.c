#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate/ask.h"
#include "evaluate/outcome.h"
#include "evaluate/precheck.h"
#include "io/json.h"
#include "save/pyjson.h"

enum { TEXT_MAX = 300, ANSWER_MOST = 16 << 20, SHOWN = 100 };
static const double precheck_temperature = 0.1;

static void put_body(const Endpoint *at, const ChatQuestion *q, bool peer, Str *out)
{
    str_puts(out, "{\"model\": ");
    pyjson_string(out, at->served, strlen(at->served));
    str_puts(out, ", \"messages\": [{\"role\": \"user\", \"content\": ");
    pyjson_string(out, q->message, strlen(q->message));
    str_printf(out, "}], \"max_tokens\": %lld, \"temperature\": ", (long long)q->max_tokens);
    pyjson_double(out, q->temperature);
    /* What the peer wraps in extra_body the client library of OpenAI would have unwrapped; servers read it at the top.
     */
    str_puts(out, peer ? ", \"extra_body\": {\"chat_template_kwargs\": {\"thinking\": false}}}"
                       : ", \"chat_template_kwargs\": {\"thinking\": false, \"enable_thinking\": false}}");
}

/* choices[0].message.content; what a model thinks in its place, unless `peer`. */
static Status read_reply(const Str *body, const char *url, bool peer, Str *reply, Error *err)
{
    cJSON *doc = NULL;
    Error why = {0};
    Status st = json_parse_loose(str_text(body), body->len, "answer", &doc, &why);
    if (st == ST_NOMEM)
        return error_set(err, st, "%s", why.text);
    const cJSON *choices = st == ST_OK && cJSON_IsObject(doc) ? json_get(doc, "choices") : NULL;
    const cJSON *first = cJSON_IsArray(choices) ? choices->child : NULL;
    const cJSON *message = cJSON_IsObject(first) ? json_get(first, "message") : NULL;
    const cJSON *content = cJSON_IsObject(message) ? json_get(message, "content") : NULL;
    if (!content && !peer && cJSON_IsObject(message))
        content = json_get(message, "reasoning_content");
    if (st != ST_OK)
        st = error_set(err, ST_FAIL, "%s: the answer is no JSON", url);
    else if (!cJSON_IsObject(message) || (content && !cJSON_IsString(content)))
        st = error_set(err, ST_FAIL, "%s: the answer has no choices[0].message.content", url);
    else if (content)
        str_puts(reply, content->valuestring);
    cJSON_Delete(doc);
    return st == ST_OK && reply->oom ? error_nomem(err, "an answer") : st;
}

Status ask_chat(Http *http, const Endpoint *at, const ChatQuestion *q, bool peer, const Cancel *cancel, Str *reply,
                Error *err)
{
    Str url = {0}, json = {0}, body = {0};
    int code = 0;
    str_free(reply);
    host_url(&url, at->host, at->port);
    str_puts(&url, "/v1/chat/completions");
    put_body(at, q, peer, &json);
    HttpRequest r = {
        .url = str_text(&url), .json = str_text(&json), .timeout = q->timeout, .most = ANSWER_MOST, .cancel = cancel};
    Status st = url.oom || json.oom ? error_nomem(err, "a request") : http_call(http, &r, &code, &body, err);
    if (st == ST_OK && code != 200) {
        size_t n = body.len < SHOWN ? body.len : SHOWN;
        st = error_set(err, ST_FAIL, "%s answers %d: %.*s", r.url, code, (int)n, str_text(&body));
    }
    if (st == ST_OK)
        st = read_reply(&body, r.url, peer, reply, err);
    str_free(&url);
    str_free(&json);
    str_free(&body);
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
