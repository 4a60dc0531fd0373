#include "measure/predicted.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

Status predicted_list(Predicted *p, const TokenSet *t, Error *err)
{
    size_t n = (size_t)t->start[t->samples];
    *p = (Predicted){.sample_of = mem_array(n, sizeof *p->sample_of), .row_of = mem_array(n, sizeof *p->row_of),
                     .next = mem_array(n, sizeof *p->next)};
    if (!p->sample_of || !p->row_of || !p->next)
        return error_nomem(err, "the evaluation tokens");
    for (int s = 0; s < t->samples; s++) {
        for (int64_t i = t->start[s]; i + 1 < t->start[s + 1]; i++) {
            p->sample_of[p->n] = s;
            p->row_of[p->n] = i;
            p->next[p->n++] = t->ids[i + 1];
        }
    }
    return ST_OK;
}

Status predicted_init(Predicted *p, const TokenSet *t, Error *err)
{
    RETURN_IF_ERROR(predicted_list(p, t, err));
    if (p->n == 0)
        return error_set(err, ST_DATA, "evaluation set '%s' has no text of two tokens: nothing is predicted",
                         t->name ? t->name : "?");
    return ST_OK;
}

void predicted_fini(Predicted *p)
{
    free(p->sample_of);
    free(p->row_of);
    free(p->next);
    *p = (Predicted){0};
}

Status predicted_rows(const Predicted *p, Runner *r, const Stream *eval, Stream *normed, Error *err)
{
    int64_t start[2] = {0, p->n};
    Stream rows;
    RETURN_IF_ERROR(stream_init(&rows, 1, start, eval->width, err));
    for (int64_t i = 0; i < p->n; i++)
        memcpy(rows.data + i * rows.width, eval->data + p->row_of[i] * rows.width,
               (size_t)rows.width * sizeof *rows.data);
    Status st = runner_final_norm(r, &rows, normed, NULL, 0, err);
    stream_fini(&rows);
    return st;
}
