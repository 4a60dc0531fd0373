#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "evaluate/part.h"
#include "evaluate/precheck.h"
#include "text/flow.h"

/* ---- what counts of a reply ---- */

static Status compile(const char *extract, pcre2_code **out, Error *err)
{
    int code;
    PCRE2_SIZE at;
    PCRE2_UCHAR why[120];
    *out = pcre2_compile((PCRE2_SPTR)extract, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &code, &at, NULL);
    if (*out)
        return ST_OK;
    pcre2_get_error_message(code, why, sizeof why);
    return error_set(err, ST_DATA, "the expression '%.60s' can't be read: %s at character %zu", extract, (const char *)why,
                     (size_t)at + 1);
}

Status exact_check(const char *extract, Error *err)
{
    pcre2_code *code = NULL;
    Status st = compile(extract, &code, err);
    pcre2_code_free(code);
    return st;
}

/* The last match, its first group where the expression has one, into out; *found false: there is none (or it takes too
 * long to look). */
static Status extracted(const char *extract, const char *reply, Str *out, bool *found, Error *err)
{
    pcre2_code *code;
    *found = false;
    RETURN_IF_ERROR(compile(extract, &code, err));
    pcre2_match_data *md = pcre2_match_data_create_from_pattern(code, NULL);
    size_t len = strlen(reply);
    for (size_t at = 0; md && at <= len;) {
        int n = pcre2_match(code, (PCRE2_SPTR)reply, len, at, 0, md, NULL);
        if (n < 1)
            break;
        const PCRE2_SIZE *v = pcre2_get_ovector_pointer(md);
        int g = n > 1 && v[2] != PCRE2_UNSET ? 1 : 0;
        str_free(out);
        str_append(out, reply + v[2 * g], v[2 * g + 1] - v[2 * g]);
        *found = true;
        at = v[1] > at ? v[1] : at + 1;
        while (at < len && ((unsigned char)reply[at] & 0xc0) == 0x80)
            at++;
    }
    pcre2_match_data_free(md);
    pcre2_code_free(code);
    return md ? ST_OK : error_nomem(err, "a reply");
}

/* The bytes of the punctuation that a text of n bytes begins with, or (end) ends with; 0: none. */
static size_t mark_of(const char *s, size_t n, bool end)
{
    static const char *const marks[] = {".", ",", "!", "?", ";", ":", "\"", "'", "`", "*", "(", ")", "[", "]", " ",
                                        "。", "，", "！", "？", "；", "：", "、", "“", "”", "‘", "’", "（", "）", "《", "》"};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        size_t k = strlen(marks[i]);
        if (k <= n && memcmp(end ? s + n - k : s, marks[i], k) == 0)
            return k;
    }
    return 0;
}

/* In small letters, white space as one space, without punctuation at its ends. */
static void normalized(const char *s, Str *out)
{
    bool gap = false;
    for (; *s; s++) {
        if (ascii_is_space((unsigned char)*s)) {
            gap = true;
            continue;
        }
        if (gap && out->len)
            str_putc(out, ' ');
        gap = false;
        str_putc(out, (char)ascii_lower((unsigned char)*s));
    }
    if (!out->s)
        return;
    size_t n = out->len, from = 0, k;
    while ((k = mark_of(out->s, n, true)))
        n -= k;
    while ((k = mark_of(out->s + from, n - from, false)))
        from += k;
    memmove(out->s, out->s + from, n - from);
    out->len = n - from;
    out->s[out->len] = '\0';
}

/* The last number of a text: digits, with commas between them and a point. */
static bool last_number(const char *s, double *out)
{
    bool found = false;
    for (const char *p = s; *p;) {
        char digits[64];
        size_t n = 0;
        if (!ascii_is_digit((unsigned char)*p)) {
            p++;
            continue;
        }
        if (p > s && p[-1] == '-' && !(p - 1 > s && ascii_is_alnum((unsigned char)p[-2])))
            digits[n++] = '-';
        for (; ascii_is_digit((unsigned char)*p) || (*p == ',' && ascii_is_digit((unsigned char)p[1])); p++)
            if (*p != ',' && n < sizeof digits - 2)
                digits[n++] = *p;
        if (*p == '.' && ascii_is_digit((unsigned char)p[1]))
            for (digits[n++] = *p++; ascii_is_digit((unsigned char)*p); p++)
                if (n < sizeof digits - 2)
                    digits[n++] = *p;
        digits[n] = '\0';
        *out = strtod(digits, NULL);
        found = true;
    }
    return found;
}

static bool matches(TaskMatch how, const char *reply, const char *answer)
{
    double a, b;
    if (how == MATCH_NUMBER)
        return last_number(reply, &a) && last_number(answer, &b) && a == b;
    Str r = {0}, w = {0};
    normalized(reply, &r);
    normalized(answer, &w);
    bool ok = how == MATCH_CONTAINS ? w.len && strstr(str_text(&r), str_text(&w)) : strcmp(str_text(&r), str_text(&w)) == 0;
    ok = ok && !r.oom && !w.oom;
    str_free(&r);
    str_free(&w);
    return ok;
}

Status exact_match(const TaskSet *set, const TaskItem *item, const char *reply, bool *right, Error *err)
{
    Str part = {0};
    bool found = true;
    Status st = set->extract ? extracted(set->extract, reply, &part, &found, err) : ST_OK;
    *right = false;
    for (int i = 0; i < item->answers && st == ST_OK && found && !*right; i++)
        *right = matches(item->number ? MATCH_NUMBER : set->match, set->extract ? str_text(&part) : reply, item->answer[i]);
    str_free(&part);
    return st;
}

/* ---- replies ---- */

/* A reply as it grows. */
typedef struct Reply {
    TextFlow flow;
    Str text;
} Reply;

typedef struct Replies {
    const TaskModel *m;
    const TaskSet *set;
    const TaskFile *file;
    Reply *reply; /* [file->n] */
    TaskPart part; /* of the questions, that this rank asks */
} Replies;

/* Where the reply ends: the first of the texts that end it; its length where none does. */
size_t task_reply_end(const TaskSet *set, const TaskItem *item, const char *s)
{
    static const char *const line[] = {"\n"}, *const next[] = {"\nQuestion:"};
    bool number = item->number || set->match == MATCH_NUMBER || set->extract;
    const char *const *until = set->nuntil < 0 ? (number ? next : line) : set->until;
    int n = set->nuntil < 0 ? !set->chat : set->nuntil;
    size_t len = strlen(s), lead = strspn(s, " \n\t\r");
    for (int i = 0; i < n; i++) {
        const char *at = strstr(s + lead, until[i]);
        if (at && (size_t)(at - s) < len)
            len = (size_t)(at - s);
    }
    return len;
}

static bool on_token(void *ctx, int text, int32_t id)
{
    Replies *r = ctx;
    Reply *p = &r->reply[text += r->part.first];
    text_flow_put(&p->flow, r->m->tok, id, &p->text);
    return task_reply_end(r->set, &r->file->item[text], str_text(&p->text)) == p->text.len;
}

/* What a reply comes to. */
static Status judge(const Replies *r, int i, TaskScore *out, Error *err)
{
    Reply *p = &r->reply[i];
    bool right;
    text_flow_end(&p->flow, &p->text);
    if (p->text.oom)
        return error_nomem(err, "a reply");
    size_t n = task_reply_end(r->set, &r->file->item[i], str_text(&p->text));
    if (p->text.s)
        p->text.s[n] = '\0';
    RETURN_IF_ERROR(exact_match(r->set, &r->file->item[i], str_text(&p->text), &right, err));
    out->right += right;
    if (!r->set->precheck)
        return ST_OK;
    int fired;
    RETURN_IF_ERROR(precheck_garbled(str_text(&p->text), n, GARBLED_ALL, r->m->peer, &fired, err));
    if (fired >= 0 && !out->garbled++)
        out->rule = garbled_names[fired];
    return ST_OK;
}

static Status add_prompts(const TaskModel *m, const TaskFile *file, TaskTexts *texts, Error *err)
{
    Status st = ST_OK;
    for (int q = 0; q < file->n && st == ST_OK; q++) {
        Str ask = {0};
        int32_t *ids = NULL;
        size_t n = 0;
        task_ask(m, &file->item[q], &ask);
        st = ask.oom ? error_nomem(err, "a question") : tokenizer_encode(m->tok, str_text(&ask), ask.len, true, NULL, &ids, &n, err);
        if (st == ST_OK)
            st = task_add(texts, ids, n, m->vocab, file->item[q].line, err);
        free(ids);
        str_free(&ask);
    }
    return st;
}

Status exact_run(const TaskModel *m, const TaskSet *set, const TaskFile *file, TaskScore *out, Error *err)
{
    TaskTexts texts = {.starts = 0};
    Replies r = {.m = m, .set = set, .file = file, .reply = mem_zarray((size_t)file->n, sizeof *r.reply)};
    Greedy g = {.texts = 0};
    *out = (TaskScore){.n = file->n};
    Status st = r.reply ? add_prompts(m, file, &texts, err) : error_nomem(err, "the replies");
    const TokenSet t = task_tokens(&texts);
    const GreedyOptions o = {.stop = m->stop, .nstop = m->nstop, .max_tokens = set->max_tokens, .token = on_token, .ctx = &r};
    if (st == ST_OK)
        st = task_part(&r.part, m->dist, &t, set->max_tokens, err);
    if (st == ST_OK && r.part.mine.samples)
        st = subject_generate(m->subject, &r.part.mine, &o, &g, NULL, err);
    for (int i = 0; i < r.part.mine.samples && st == ST_OK; i++)
        st = judge(&r, r.part.first + i, out, err);
    if (st == ST_OK)
        st = task_part_score(&r.part, out, err);
    for (int i = 0; r.reply && i < file->n; i++) {
        str_free(&r.reply[i].text);
        str_free(&r.reply[i].flow.held);
    }
    free(r.reply);
    greedy_fini(&g);
    task_part_fini(&r.part);
    task_texts_free(&texts);
    return st;
}
