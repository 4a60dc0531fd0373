/* Reading the texts of the calibration set on a thread of its own: an analysis may run for hours meanwhile. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/results.h"
#include "session/texts.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

struct TextsReader {
    pthread_t thread;
    Queue *queue;          /* for its wake */
    Cancel cancel;
    atomic_bool done;
    bool peer;
    uint64_t limit;
    char *model;
    TextsRead *read;
};

static void texts_read_free(TextsRead *r)
{
    if (!r)
        return;
    for (int i = 0; r->item && i < r->file->count; i++)
        free(r->item[i].ids);
    free(r->item);
    free(r->eval_count);
    free(r->eval);
    free(r->piece);
    arena_free(&r->arena);
    calib_free(r->file);
    dataspec_fini(&r->spec);
    free(r);
}

/* ---- what characters a text has ---- */

static const struct ScriptRange {
    uint32_t from, to;
    Script script;
} script_ranges[] = { /* of letters; Unicode blocks */
    {0x41, 0x24f, SCRIPT_LATIN},       {0x400, 0x52f, SCRIPT_CYRILLIC},   {0x600, 0x6ff, SCRIPT_ARABIC},
    {0x750, 0x77f, SCRIPT_ARABIC},     {0x1100, 0x11ff, SCRIPT_HANGUL},   {0x1e00, 0x1eff, SCRIPT_LATIN},
    {0x2e80, 0x2fdf, SCRIPT_HAN},      {0x3005, 0x3007, SCRIPT_HAN},      {0x3041, 0x30ff, SCRIPT_KANA},
    {0x3130, 0x318f, SCRIPT_HANGUL},   {0x31f0, 0x31ff, SCRIPT_KANA},     {0x3400, 0x4dbf, SCRIPT_HAN},
    {0x4e00, 0x9fff, SCRIPT_HAN},      {0xac00, 0xd7af, SCRIPT_HANGUL},   {0xf900, 0xfaff, SCRIPT_HAN},
    {0xff21, 0xff5a, SCRIPT_LATIN},    {0xff66, 0xff9d, SCRIPT_KANA},     {0x20000, 0x323af, SCRIPT_HAN},
};

static Script script_of(uint32_t c)
{
    const char *category = unicode_category(c);
    if (category[0] == 'N')
        return SCRIPT_DIGIT;
    if (category[0] != 'L' && category[0] != 'M')
        return SCRIPT_SIGN;
    for (size_t i = 0; i < sizeof script_ranges / sizeof *script_ranges; i++)
        if (c >= script_ranges[i].from && c <= script_ranges[i].to)
            return script_ranges[i].script;
    return SCRIPT_OTHER;
}

static void count_scripts(const char *s, size_t n, int64_t count[SCRIPTS])
{
    for (const char *end = s + n; s < end;) {
        int len;
        uint32_t c = utf8_next(s, &len);
        if (!unicode_is_space(c))
            count[script_of(c)]++;
        s += len;
    }
}

const char *script_name(Script k)
{
    static const char *const names[] = {
        [SCRIPT_LATIN] = "Latin", [SCRIPT_HAN] = "Han", [SCRIPT_KANA] = "Kana", [SCRIPT_HANGUL] = "Hangul",
        [SCRIPT_CYRILLIC] = "Cyrillic", [SCRIPT_ARABIC] = "Arabic", [SCRIPT_OTHER] = "other", [SCRIPT_DIGIT] = "digits",
        [SCRIPT_SIGN] = "signs"};
    return names[k];
}

/* ---- the thread ---- */

static Status encode(struct TextsReader *t, Tokenizer **tok, const struct CalibItem *item, const TextLimits *limits,
                     int32_t **ids, int64_t *n, Error *err)
{
    size_t len = 0;
    if (!item->text) {
        *ids = mem_array((size_t)item->nids + 1, sizeof **ids);
        if (!*ids)
            return error_nomem(err, "token ids");
        memcpy(*ids, item->ids, (size_t)item->nids * sizeof **ids);
        *n = item->nids;
        return ST_OK;
    }
    if (!*tok)
        RETURN_IF_ERROR(tokenizer_open(tok, t->model, err));
    Status st = tokenizer_encode(*tok, item->text, item->len, true, limits, ids, &len, err);
    *n = (int64_t)len;
    return st == ST_OK ? ST_OK : error_prefix(err, st, "%s:%d: ", item->from, item->line);
}

static int compare_ids(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static Status count_distinct(TextItem *item, Error *err)
{
    int32_t *copy = mem_array((size_t)item->nids + 1, sizeof *copy);
    if (!copy)
        return error_nomem(err, "token ids");
    if (item->nids)
        memcpy(copy, item->ids, (size_t)item->nids * sizeof *copy);
    qsort(copy, (size_t)item->nids, sizeof *copy, compare_ids);
    for (int64_t i = 0; i < item->nids; i++)
        item->distinct += i == 0 || copy[i] != copy[i - 1];
    free(copy);
    return ST_OK;
}

/* Texts with the same tokens as an earlier one, by their digests. */
static Status find_same(TextsRead *r, Error *err)
{
    Map seen = {0};
    Status st = ST_OK;
    for (int i = 0; st == ST_OK && i < r->file->count; i++) {
        TextItem *item = &r->item[i];
        Digest d = digest_of(item->ids, (size_t)item->nids * sizeof *item->ids);
        int64_t at = item->nids ? map_get(&seen, (const char *)d.b, sizeof d.b, -1) : -1;
        item->same_as = (int)(at + 1);
        if (item->nids && at < 0 && !map_add(&seen, (const char *)d.b, sizeof d.b, i, NULL))
            st = error_nomem(err, "the texts");
    }
    map_free(&seen);
    return st;
}

static Status read_items(struct TextsReader *t, Tokenizer **tok, const TextLimits *limits, Error *err)
{
    TextsRead *r = t->read;
    r->item = mem_zarray((size_t)r->file->count + 1, sizeof *r->item);
    if (!r->item)
        return error_nomem(err, "the texts");
    for (int i = 0; i < r->file->count; i++) {
        const struct CalibItem *from = &r->file->items[i];
        TextItem *item = &r->item[i];
        RETURN_IF_ERROR(encode(t, tok, from, limits, &item->ids, &item->nids, err));
        RETURN_IF_ERROR(count_distinct(item, err));
        if (from->text)
            count_scripts(from->text, from->len, item->script);
    }
    return find_same(r, err);
}

/* What the tokens stand for; a set of token ids may be of a model without a tokenizer. */
static Status keep_pieces(struct TextsReader *t, Tokenizer **tok, Error *err)
{
    TextsRead *r = t->read;
    r->piece = mem_zarray((size_t)r->vocab + 1, sizeof *r->piece);
    if (!r->piece)
        return error_nomem(err, "the tokens");
    if (!*tok && tokenizer_open(tok, t->model, NULL) != ST_OK)
        return ST_OK;
    for (int i = 0; i < r->file->count; i++)
        for (int64_t k = 0; k < r->item[i].nids; k++) {
            size_t len;
            int32_t id = r->item[i].ids[k];
            const char *piece = id >= 0 && id < r->vocab && !r->piece[id] ? tokenizer_piece(*tok, id, &len) : NULL;
            if (piece && !(r->piece[id] = arena_strndup(&r->arena, piece, len)))
                return error_nomem(err, "the tokens");
        }
    return ST_OK;
}

/* What the evaluation set is like. One that can't be read is told of by what needs it. */
static Status read_eval(struct TextsReader *t, Tokenizer **tok, const TextLimits *limits, Error *err)
{
    TextsRead *r = t->read;
    CalibFile *file;
    r->eval_count = mem_zarray((size_t)r->vocab + 1, sizeof *r->eval_count);
    if (!r->eval_count)
        return error_nomem(err, "tokens of the evaluation set");
    if (!r->eval || calib_open(&file, r->eval, t->peer, limits, NULL) != ST_OK)
        return ST_OK;
    for (int i = 0; i < file->count; i++) {
        int32_t *ids = NULL;
        int64_t n = 0;
        if (encode(t, tok, &file->items[i], limits, &ids, &n, NULL) == ST_OK)
            for (int64_t k = 0; k < n; k++)
                if (ids[k] >= 0 && ids[k] < r->vocab) {
                    r->eval_count[ids[k]]++;
                    r->eval_tokens++;
                }
        free(ids);
        if (file->items[i].text)
            count_scripts(file->items[i].text, file->items[i].len, r->eval_script);
    }
    calib_free(file);
    return ST_OK;
}

static void *read_main(void *arg)
{
    struct TextsReader *t = arg;
    TextsRead *r = t->read;
    Tokenizer *tok = NULL;
    const TextLimits limits = {.bytes = t->limit, .cancel = &t->cancel};
    Status st = dataspec_open(&r->file, &r->spec, t->peer, &limits, &r->error);
    if (st == ST_OK)
        st = read_items(t, &tok, &limits, &r->error);
    if (st == ST_OK)
        st = keep_pieces(t, &tok, &r->error);
    if (st == ST_OK)
        st = read_eval(t, &tok, &limits, &r->error);
    tokenizer_free(tok);
    r->error.status = st;
    atomic_store(&t->done, true);
    queue_wake(t->queue);
    return NULL;
}

/* ---- the owner ---- */

static void reader_free(struct TextsReader *t)
{
    free(t->model);
    texts_read_free(t->read);
    free(t);
}

static void stop_reader(Texts *t)
{
    if (!t->reader)
        return;
    atomic_store(&t->reader->cancel.level, 2);
    pthread_join(t->reader->thread, NULL);
    reader_free(t->reader);
    t->reader = NULL;
}

void texts_forget(Texts *t)
{
    stop_reader(t);
    texts_read_free(t->read);
    t->read = NULL;
    t->version++;
}

/* What the thread made, once it has ended. */
static void take_over(Texts *t)
{
    struct TextsReader *r = t->reader;
    pthread_join(r->thread, NULL);
    texts_read_free(t->read);
    t->read = r->read;
    r->read = NULL;
    reader_free(r);
    t->reader = NULL;
    t->version++;
}

bool texts_pump(Session *s)
{
    Texts *t = s->texts;
    if (!t->reader || !atomic_load(&t->reader->done))
        return false;
    take_over(t);
    return true;
}

/* What is to be read: all of the set, whatever is out. */
static Status wanted(Session *s, TextsRead *r, Error *err)
{
    Error why = {0};
    r->spec.path = texts_path(s, err);
    if (!r->spec.path)
        return error_nomem(err, "a path");
    Status st = texts_fill(s, &r->spec, err);
    r->spec.nout = 0;
    r->eval = eval_path(s, &why);
    r->vocab = s->model->cfg.vocab;
    return st;
}

/* Takes r over. */
static Status start(Session *s, TextsRead *r, Error *err)
{
    struct TextsReader *t = mem_zarray(1, sizeof *t);
    char *model = strdup(s->model->path);
    if (!t || !model) {
        free(t);
        free(model);
        texts_read_free(r);
        return error_nomem(err, "the texts");
    }
    *t = (struct TextsReader){.queue = s->queue, .peer = s->opt.peer, .model = model, .read = r,
                              .limit = (s->opt.mem ? s->opt.mem : mem_available_bytes() / 10 * 7) / 4};
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&t->thread, NULL, read_main, t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        reader_free(t);
        return error_set(err, ST_NOMEM, "cannot start a thread to read the texts: memory or the system's limit of threads is "
                                        "too small");
    }
    s->texts->reader = t;
    return ST_OK;
}

static bool same_read(const TextsRead *a, const TextsRead *b)
{
    bool evals = a->eval && b->eval ? strcmp(a->eval, b->eval) == 0 : !a->eval && !b->eval;
    return a->vocab == b->vocab && evals && dataspec_same(&a->spec, &b->spec);
}

/* Begins to read what is not read yet. */
static Status begin(Session *s, Error *err)
{
    Texts *t = s->texts;
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    texts_pump(s);
    TextsRead *r = mem_zarray(1, sizeof *r);
    Status st = r ? wanted(s, r, err) : error_nomem(err, "the texts");
    const TextsRead *have = t->reader ? t->reader->read : t->read;
    if (st != ST_OK || (have && same_read(have, r))) {
        texts_read_free(r);
        return st;
    }
    stop_reader(t);
    return start(s, r, err);
}

void session_texts_begin(Session *s)
{
    Texts *t = s->texts;
    Error err = {0};
    char base[128];
    texts_base(s, base);
    if (t->asked == t->version + 1 && strcmp(t->asked_of, base) == 0)
        return;
    if (begin(s, &err) != ST_OK)
        session_log(s, 2, "%s", err.text);
    memcpy(t->asked_of, base, sizeof base);
    t->asked = t->version + 1;
}

bool session_texts_reading(const Session *s)
{
    return s->texts->reader != NULL;
}

Status session_texts_wait(Session *s, Error *err)
{
    Texts *t = s->texts;
    RETURN_IF_ERROR(begin(s, err));
    if (t->reader)
        take_over(t);
    return t->read->error.status == ST_OK ? ST_OK : error_set(err, t->read->error.status, "%s", t->read->error.text);
}
