#include <stdlib.h>
#include <string.h>

#include "base/ascii.h"
#include "evaluate/part.h"

/* ---- texts ---- */

Status task_add(TaskTexts *t, const int32_t *ids, size_t n, int64_t vocab, int line, Error *err)
{
    if (!n)
        return error_set(err, ST_DATA, "line %d: the question has no token", line);
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= vocab)
            return error_set(err, ST_DATA, "line %d: token %d, but the model's vocabulary has %lld", line, (int)ids[i],
                             (long long)vocab);
    bool room = mem_grow(&t->start, &t->start_cap, t->starts + 2, sizeof *t->start);
    size_t at = room && t->starts ? (size_t)t->start[t->starts] : 0;
    if (!room || !mem_grow(&t->ids, &t->cap, at + n, sizeof *t->ids))
        return error_nomem(err, "the questions");
    memcpy(t->ids + at, ids, n * sizeof *ids);
    t->start[0] = 0;
    t->start[++t->starts] = (int64_t)(at + n);
    return ST_OK;
}

TokenSet task_tokens(const TaskTexts *t)
{
    return (TokenSet){.name = (char *)(uintptr_t)"the questions", .samples = (int)t->starts, .start = t->start, .ids = t->ids};
}

void task_texts_free(TaskTexts *t)
{
    free(t->start);
    free(t->ids);
    *t = (TaskTexts){.starts = 0};
}

void task_ask(const TaskModel *m, const TaskItem *item, Str *out)
{
    if (!m->chat) {
        task_prompt(item, out);
        return;
    }
    str_puts(out, m->chat->before);
    if (item->before)
        str_printf(out, "%s\n", item->before);
    str_puts(out, item->question);
    str_puts(out, m->chat->after);
}

/* ---- choices ---- */

/* A choice behind its question. */
typedef struct Asked {
    int64_t from;  /* its first token */
    int64_t tokens, bytes;
} Asked;

static Status encode(const TaskModel *m, const Str *text, int32_t **ids, size_t *n, Error *err)
{
    return text->oom ? error_nomem(err, "a question") : tokenizer_encode(m->tok, str_text(text), text->len, true, NULL, ids, n, err);
}

void task_choice(const char *choice, bool chat, Str *question)
{
    bool open = question->len && ascii_is_space((unsigned char)question->s[question->len - 1]);
    if (!chat && !open && choice[0] && !ascii_is_space((unsigned char)choice[0]))
        str_putc(question, ' ');
    str_puts(question, choice);
}

/* The tokens of a choice are those that the text has more than the question alone. */
static Status add_choice(const TaskModel *m, const TaskItem *item, const Str *question, size_t asked, const char *choice,
                         TaskTexts *texts, Asked *out, Error *err)
{
    Str all = {0};
    int32_t *ids = NULL;
    size_t n = 0;
    str_append(&all, str_text(question), question->len);
    task_choice(choice, m->chat != NULL, &all);
    Status st = encode(m, &all, &ids, &n, err);
    if (st == ST_OK && n < 2)
        st = error_set(err, ST_DATA, "line %d: question and choice '%.40s' are one token: there is nothing to tell it by", item->line,
                       choice);
    if (st == ST_OK)
        st = task_add(texts, ids, n, m->vocab, item->line, err);
    *out = (Asked){.from = asked < n ? (int64_t)asked : (int64_t)n - 1, .bytes = (int64_t)strlen(choice)};
    out->from = out->from < 1 ? 1 : out->from;
    out->tokens = (int64_t)n - out->from;
    free(ids);
    str_free(&all);
    return st;
}

static Status add_item(const TaskModel *m, const TaskItem *item, TaskTexts *texts, Asked *asked, Error *err)
{
    Str question = {0};
    int32_t *ids = NULL;
    size_t n = 0;
    task_ask(m, item, &question);
    Status st = encode(m, &question, &ids, &n, err);
    free(ids);
    for (int i = 0; i < item->choices && st == ST_OK; i++)
        st = add_choice(m, item, &question, n, item->choice[i], texts, &asked[i], err);
    str_free(&question);
    return st;
}

static double score_of(const Asked *a, TaskNorm norm, double sum)
{
    int64_t by = norm == NORM_TOKENS ? a->tokens : norm == NORM_BYTES ? a->bytes : 1;
    return sum / (double)(by > 0 ? by : 1);
}

static void count(const TaskSet *set, const TaskFile *file, const Asked *asked, const double *sum, TaskScore *out)
{
    int64_t at = 0;
    for (int q = 0; q < file->n; at += file->item[q++].choices) {
        int best = 0;
        for (int i = 1; i < file->item[q].choices; i++)
            if (score_of(&asked[at + i], set->norm, sum[at + i]) > score_of(&asked[at + best], set->norm, sum[at + best]))
                best = i;
        out->right += best == file->item[q].right;
    }
    out->n = file->n;
}

Status choice_run(const TaskModel *m, const TaskSet *set, const TaskFile *file, TaskScore *out, Error *err)
{
    size_t all = 0, at = 0;
    *out = (TaskScore){.n = 0};
    for (int q = 0; q < file->n; q++)
        all += (size_t)file->item[q].choices;
    TaskTexts texts = {.starts = 0};
    Asked *asked = mem_array(all, sizeof *asked);
    int64_t *from = mem_array(all, sizeof *from);
    double *sum = mem_array(all, sizeof *sum);
    Status st = asked && from && sum ? ST_OK : error_nomem(err, "the questions");
    for (int q = 0; q < file->n && st == ST_OK; at += (size_t)file->item[q++].choices)
        st = add_item(m, &file->item[q], &texts, asked + at, err);
    for (size_t i = 0; i < all && st == ST_OK; i++)
        from[i] = asked[i].from;
    const TokenSet t = task_tokens(&texts);
    TaskPart part = {.first = 0};
    if (st == ST_OK)
        st = task_part(&part, m->dist, &t, 0, err);
    if (st == ST_OK)
        st = subject_likelihood(m->subject, &part.mine, from + part.first, sum + part.first, err);
    if (st == ST_OK)
        st = task_part_gather(&part, sum, err);
    if (st == ST_OK)
        count(set, file, asked, sum, out);
    task_part_fini(&part);
    task_texts_free(&texts);
    free(asked);
    free(from);
    free(sum);
    return st;
}
