/* The session's folder: journal, streams of the newest layers, lock. DESIGN 13. */
#include "session/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "session/notes.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/table.h"

enum { FORMAT = 1 };

void store_init(Store *st, bool read_only)
{
    st->lock_fd = -1;
    st->read_only = read_only;
    pthread_mutex_init(&st->journal_lock, NULL);
}

void store_fini(Store *st)
{
    free(st->dir);
    pthread_mutex_destroy(&st->journal_lock);
}

/* ---- lock and folder ---- */

/* Takes dir/lock. When another process has it, *holder gets its pid text and the session is read-only. */
static Status take_lock(const char *dir, int *fd, char holder[32], Error *err)
{
    char *path = path_join(dir, "lock");
    if (!path)
        return error_nomem(err, "a path");
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0) {
        error_set(err, ST_IO, "%s: %s", path, strerror(errno));
        free(path);
        return ST_IO;
    }
    free(path);
    holder[0] = 0;
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0) {
        char pid[32];
        int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
        if (ftruncate(*fd, 0) != 0 || pwrite(*fd, pid, (size_t)n, 0) != n)
            return error_set(err, ST_IO, "%s/lock: cannot write: %s", dir, strerror(errno));
        return ST_OK;
    }
    ssize_t n = pread(*fd, holder, 31, 0);
    holder[n > 0 ? n : 0] = 0;
    holder[strcspn(holder, "\n")] = 0;
    if (!holder[0])
        strcpy(holder, "unknown");
    close(*fd);
    *fd = -1;
    return ST_OK;
}

static void make_id(char id[40])
{
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    size_t n = strftime(id, 40, "%Y%m%d-%H%M%S", &tm);
    snprintf(id + n, 40 - n, "-%ld", (long)getpid());
}

static char *session_dir(const char *state_dir, const char *id)
{
    char *sessions = path_join(state_dir, "sessions");
    char *dir = sessions ? path_join(sessions, id) : NULL;
    free(sessions);
    return dir;
}

Status durable_open(Session *s, JournalReplay *replay, uint64_t *torn, Error *err)
{
    char holder[32];
    RETURN_IF_ERROR(take_lock(s->store->dir, &s->store->lock_fd, holder, err));
    if (holder[0]) {
        s->store->read_only = true;
        session_log(s, 1, "session %s is open in process %s: this one is read-only", s->store->id, holder);
    }
    char *path = path_join(s->store->dir, "journal");
    if (!path)
        return error_nomem(err, "a path");
    Status st = journal_open(&s->store->journal, path, replay, s, torn, err);
    free(path);
    return st;
}

Status durable_begin(Session *s, Error *err)
{
    if (!s->state_dir || s->opt.read_only)
        return ST_OK;
    make_id(s->store->id);
    free(s->store->dir);
    for (int twin = 2;; twin++) {
        s->store->dir = session_dir(s->state_dir, s->store->id);
        if (!s->store->dir)
            return error_nomem(err, "the session folder");
        if (!dir_exists(s->store->dir))
            break;
        free(s->store->dir);
        make_id(s->store->id);
        size_t n = strlen(s->store->id);
        snprintf(s->store->id + n, sizeof s->store->id - n, "-%d", twin);
    }
    Error why = {0};
    if (dir_make(s->store->dir, &why) != ST_OK ||
        durable_open(s, NULL, NULL, &why) != ST_OK) { /* a full or read-only disk doesn't stop the work */
        session_log(s, 1, "this session is not saved: %s", why.text);
        durable_end(s);
        return ST_OK;
    }
    Str b = {0};
    str_printf(&b, "{\"t\":\"open\",\"format\":%d,\"version\":", FORMAT);
    str_json(&b, SLIMSCOPE_VERSION);
    str_puts(&b, ",\"model\":");
    char *real = realpath(s->model->path, NULL);
    str_json(&b, real ? real : s->model->path);
    free(real);
    if (s->model_type) {
        str_puts(&b, ",\"model_type\":");
        str_json(&b, s->model_type);
    }
    str_puts(&b, ",\"fingerprint\":");
    str_json(&b, s->model->fingerprint);
    str_printf(&b,
               ",\"arith\":\"%s\",\"peer\":%s,\"max_samples\":%d,\"seq_len\":%lld,\"ctx\":%lld,\"eval_tokens\":%lld,"
               "\"seed\":%llu}",
               arith_name(s->opt.arith), s->opt.peer ? "true" : "false", s->opt.max_samples, (long long)s->opt.seq_len,
               (long long)s->opt.ctx, (long long)s->opt.eval_tokens, (unsigned long long)s->opt.seed);
    durable_line(s, &b, true);
    str_free(&b);
    return ST_OK;
}

void durable_end(Session *s)
{
    journal_close(s->store->journal);
    s->store->journal = NULL;
    if (s->store->lock_fd >= 0)
        close(s->store->lock_fd);
    s->store->lock_fd = -1;
    free(s->store->dir);
    s->store->dir = NULL;
    s->store->id[0] = 0;
}

const char *session_id(const Session *s)
{
    return s->store->id;
}

bool session_is_read_only(const Session *s)
{
    return s->store->read_only;
}

/* ---- writing ---- */

void durable_line(Session *s, const Str *json, bool sync)
{
    if (!s->store->journal || s->store->restoring || s->store->read_only)
        return;
    Error err = {0};
    pthread_mutex_lock(&s->store->journal_lock);
    Status st =
        json->oom ? error_nomem(&err, "a journal record") : journal_append(s->store->journal, str_text(json), false, &err);
    pthread_mutex_unlock(&s->store->journal_lock);
    if (st == ST_OK && sync)
        st = journal_sync(s->store->journal, &err); /* outside the lock: the screen never waits for the disk */
    if (st == ST_OK)
        return;
    pthread_mutex_lock(&s->store->journal_lock);
    bool told = s->store->journal_lost;
    s->store->journal_lost = true;
    pthread_mutex_unlock(&s->store->journal_lock);
    if (!told) {
        Event ev = {.kind = EVT_LOG, .level = 2};
        snprintf(ev.error.text, sizeof ev.error.text, "session not saved: %.900s", err.text);
        post(s, ev);
    }
}

void durable_text(Session *s, const char *kind, const char *text)
{
    Str b = {0};
    str_printf(&b, "{\"t\":\"%s\"", kind);
    if (text) {
        str_puts(&b, ",\"text\":");
        str_json(&b, text);
    }
    str_putc(&b, '}');
    durable_line(s, &b, false);
    str_free(&b);
}

void durable_move(Session *s, const char *what)
{
    durable_text(s, what, NULL);
}

void durable_edit(Session *s, const Edit *e)
{
    Str b = {0};
    str_printf(&b, "{\"t\":\"edit\",\"kind\":%d", (int)e->kind);
    if (e->kind == EDIT_FILTER) {
        str_puts(&b, ",\"from\":");
        str_json(&b, e->from);
        str_puts(&b, ",\"to\":");
        str_json(&b, e->to);
    } else {
        str_puts(&b, ",\"cells\":[");
        for (int i = 0; i < e->n; i++)
            str_printf(&b, "%s%d,%d,%d", i ? "," : "", e->cells[i].linear, e->cells[i].from, e->cells[i].to);
        str_putc(&b, ']');
    }
    str_putc(&b, '}');
    durable_line(s, &b, false);
    str_free(&b);
}

void durable_view(Session *s)
{
    const Table *t = s->table;
    if (!s->model || !t->metric)
        return;
    Str b = {0};
    str_puts(&b, "{\"t\":\"view\",\"metric\":");
    str_json(&b, t->metric->name);
    str_printf(&b, ",\"sort\":\"%s\",\"ascending\":%s,\"fold\":\"%s\",\"cursor\":%lld}", sort_key_name(t->sort),
               t->ascending ? "true" : "false", fold_mode_name(t->folds.mode), (long long)t->cursor);
    if (strcmp(str_text(&b), s->store->saved_view) != 0) {
        snprintf(s->store->saved_view, sizeof s->store->saved_view, "%s", str_text(&b));
        durable_line(s, &b, false);
    }
    str_free(&b);
}

void durable_run(Session *s, const Job *j)
{
    Str b = {0};
    str_printf(&b, "{\"t\":\"run\",\"run\":%d,\"needs\":%u,\"identity\":\"%s\",\"arith\":\"%s\"", j->run, j->needs,
               s->results->identity, s->results->run_arith);
    if (j->selected) {
        str_puts(&b, ",\"selected\":[");
        for (int64_t i = 0, n = 0; i < s->model->nlinears; i++)
            if (j->selected[i])
                str_printf(&b, "%s%lld", n++ ? "," : "", (long long)i);
        str_putc(&b, ']');
    }
    str_putc(&b, '}');
    durable_line(s, &b, true);
    str_free(&b);
}

void durable_run_end(Session *s, const Job *j, Status st)
{
    Str b = {0};
    str_printf(&b, "{\"t\":\"run_end\",\"run\":%d,\"status\":%d}", j->run, (int)st);
    durable_line(s, &b, true);
    str_free(&b);
}

static char *stream_path(const Session *s, int run, int layer)
{
    char name[64];
    snprintf(name, sizeof name, "streams/%d-%d.safetensors", run, layer);
    return path_join(s->store->dir, name);
}

/* carried: what an indexer chose is part of it (runner_carries). */
static Digest stream_digest(const Stream *h, bool carried)
{
    Hasher d;
    hasher_init(&d);
    hasher_bytes(&d, h->start, (size_t)(h->samples + 1) * sizeof *h->start);
    hasher_bytes(&d, h->data, (size_t)(h->rows * h->width) * sizeof *h->data);
    if (carried)
        hasher_bytes(&d, h->select, (size_t)(h->rows * h->select_words) * sizeof *h->select);
    return hasher_end(&d);
}

Status durable_layer(Session *s, const Job *j, int layer, const Stream *h, const Str *rows, char sha[65], Error *err)
{
    sha[0] = 0;
    if (s->store->read_only)
        return ST_OK;
    char *dir = path_join(s->store->dir, "streams"), *path = stream_path(s, j->run, layer),
         *old = stream_path(s, j->run, layer - 2);
    Status st = dir && path && old ? dir_make(dir, err) : error_nomem(err, "a path");
    bool carried = runner_carries(s->model, layer + 1, h);
    TensorOut t[3] = {
        {"h", DT_F32, 2, {h->rows, h->width}, h->data},
        {"start", DT_I64, 1, {h->samples + 1}, h->start},
        {"select", DT_I32, 2, {h->rows, h->select_words}, h->select},
    };
    Error why = {0};
    if (st == ST_OK && safetensors_write(path, t, carried ? 3 : 2, NULL, &why) == ST_OK) {
        Digest d = stream_digest(h, carried);
        digest_hex(&d, sha);
        unlink(old); /* the newest layer and the one before it stay */
    } else if (st == ST_OK) {
        post(s, (Event){.kind = EVT_LOG, .level = 1, .error = why}); /* rows are kept all the same */
    }
    if (st == ST_OK) {
        Str b = {0};
        str_printf(&b, "{\"t\":\"rows\",\"run\":%d,\"needs\":%u,\"layer\":%d,\"stream\":\"%s\",\"rows\":", j->run,
                   j->needs, layer, sha);
        str_append(&b, str_text(rows), rows->len);
        str_putc(&b, '}');
        durable_line(s, &b, true);
        str_free(&b);
    }
    free(dir);
    free(path);
    free(old);
    return st;
}

static Status load_select(const Checkpoint *c, int layer, Stream *out, Error *err)
{
    const TensorInfo *t = checkpoint_find(c, "select");
    RETURN_IF_ERROR(runner_carry(out, err));
    if (!t || t->dtype != DT_I32 || t->ndim != 2 || t->shape[0] != out->rows || t->shape[1] != out->select_words)
        return error_set(err, ST_DATA, "the saved stream of layer %d is damaged: run the analysis anew", layer);
    return checkpoint_read(c, t, 0, t->nbytes, out->select, err);
}

Status durable_load_stream(Session *s, int run, int layer, const char *sha, Stream *out, Error *err)
{
    *out = (Stream){0};
    char *path = stream_path(s, run, layer);
    if (!path)
        return error_nomem(err, "a path");
    Checkpoint *c;
    Status st = checkpoint_open(&c, path, err);
    free(path);
    RETURN_IF_ERROR(st);
    const TensorInfo *h = checkpoint_find(c, "h"), *start = checkpoint_find(c, "start");
    if (!h || !start || h->dtype != DT_F32 || h->ndim != 2 || start->dtype != DT_I64 || start->ndim != 1 ||
        start->shape[0] < 2 || h->shape[1] != s->model->cfg.stream_width) {
        checkpoint_free(c);
        return error_set(err, ST_DATA, "the saved stream of layer %d is damaged: run the analysis anew", layer);
    }
    int64_t *starts = mem_array((size_t)start->shape[0], sizeof *starts);
    st = starts ? checkpoint_read(c, start, 0, start->nbytes, starts, err) : error_nomem(err, "a stream");
    if (st == ST_OK && (starts[0] != 0 || starts[start->shape[0] - 1] != h->shape[0]))
        st = error_set(err, ST_DATA, "the saved stream of layer %d is damaged: run the analysis anew", layer);
    if (st == ST_OK)
        st = stream_init(out, (int)start->shape[0] - 1, starts, h->shape[1], err);
    if (st == ST_OK)
        st = checkpoint_read(c, h, 0, h->nbytes, out->data, err);
    free(starts);
    bool carried = st == ST_OK && runner_carries(s->model, layer + 1, out);
    if (carried)
        st = load_select(c, layer, out, err);
    checkpoint_free(c);
    if (st != ST_OK) {
        stream_fini(out);
        return st;
    }
    Digest d = stream_digest(out, carried);
    char now[65];
    digest_hex(&d, now);
    if (strcmp(now, sha) == 0)
        return ST_OK;
    stream_fini(out);
    return error_set(err, ST_DATA, "the saved stream of layer %d has changed: run the analysis anew", layer);
}

void durable_measured(Session *s, const Measured *m)
{
    char key[65];
    digest_hex(&m->key, key);
    const Effect *e = &m->effect;
    Str b = {0};
    str_printf(&b, "{\"t\":\"effect\",\"key\":\"%s\",\"local\":%.17g,\"texts\":%d,\"v\":[", key,
               m->local_sum == m->local_sum ? m->local_sum : -1.0, e->texts);
    const double v[] = {(double)e->tokens, (double)e->predicted, e->kl_mean,      e->kl_median,    e->kl_p99,
                        e->kl_max,         e->kl_se,             e->top1,         e->top1_se,      e->ppl_float,
                        e->ppl_quant,      e->ppl_float_se,      e->ppl_quant_se, e->out_mse,      e->out_mse_se,
                        e->first_layer_run, e->layers_run,       e->from_cache,   e->seconds,
                        (double)e->unseen.linears, (double)e->unseen.experts, (double)e->unseen.first};
    for (size_t i = 0; i < sizeof v / sizeof *v; i++)
        if (v[i] - v[i] == 0)
            str_printf(&b, "%s%.17g", i ? "," : "", v[i]);
        else
            str_printf(&b, "%snull", i ? "," : "");
    str_puts(&b, "]}");
    durable_line(s, &b, true);
    str_free(&b);
}

/* ---- listing ---- */

static int newest_first(const void *a, const void *b)
{
    const SessionInfo *x = a, *y = b;
    if (x->when != y->when)
        return x->when > y->when ? -1 : 1;
    return strcmp(y->id, x->id);
}

static bool is_locked(const char *dir)
{
    char *path = path_join(dir, "lock");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    free(path);
    if (fd < 0)
        return false;
    bool locked = flock(fd, LOCK_EX | LOCK_NB) != 0;
    close(fd);
    return locked;
}

/* The model's path stands in the journal's first record: its first bytes are enough. */
static bool read_info(const char *dir, const char *id, SessionInfo *info)
{
    char *path = path_join(dir, "journal"), text[4096];
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    free(path);
    struct stat sb;
    if (fd < 0 || fstat(fd, &sb) != 0) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    ssize_t len = read(fd, text, sizeof text - 1);
    close(fd);
    *info = (SessionInfo){.when = (int64_t)sb.st_mtime, .locked = is_locked(dir)};
    size_t n = strlen(id);
    memcpy(info->id, id, n < sizeof info->id ? n : sizeof info->id - 1);
    static const char key[] = "\"model\":\"";
    char *p = len > 0 ? memmem(text, (size_t)len, key, sizeof key - 1) : NULL;
    if (!p)
        return false;
    text[len] = 0;
    p += sizeof key - 1;
    n = strcspn(p, "\"");
    memcpy(info->model, p, n < sizeof info->model ? n : sizeof info->model - 1);
    return true;
}

Status session_list(const char *state_dir, SessionInfo **out, int *n, Error *err)
{
    *out = NULL;
    *n = 0;
    char *root = path_join(state_dir, "sessions");
    if (!root)
        return error_nomem(err, "the session list");
    DIR *d = opendir(root);
    size_t cap = 0;
    Status st = ST_OK;
    for (struct dirent *e; d && st == ST_OK && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.' || strlen(e->d_name) >= sizeof(*out)->id)
            continue;
        char *dir = path_join(root, e->d_name);
        if (!dir || !mem_grow(out, &cap, (size_t)*n + 1, sizeof **out))
            st = error_nomem(err, "the session list");
        else if (read_info(dir, e->d_name, &(*out)[*n]))
            (*n)++;
        free(dir);
    }
    if (d)
        closedir(d);
    free(root);
    if (*n)
        qsort(*out, (size_t)*n, sizeof **out, newest_first);
    return st;
}
