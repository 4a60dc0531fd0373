#include "convert/run.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/num.h"
#include "io/json.h"

enum { PANEL_VALUES = 1 << 20, PANEL_LEAST = 1 << 14, BATCH = 4, SYNC_BYTES = 512 << 20 };

/* ---- the journal ---- */

typedef struct Reading {
    const ConvertPlan *p;
    ConvertMark *mark;
} Reading;

static Status replay(void *ctx, const char *json, uint32_t len, Error *err)
{
    const Reading *r = ctx;
    cJSON *o;
    const char *run = NULL;
    int64_t item = 0, unit = 0, bytes = 0;
    RETURN_IF_ERROR(json_parse(json, len, "the progress record", &o, err));
    Status st = json_str(o, "convert", &run, NULL, err);
    if (st == ST_OK && !r->mark->head) {
        r->mark->head = true;
        r->mark->differs = run && strcmp(run, r->p->digest) == 0 ? NULL : "the model or the document is another";
        st = json_bool(o, "force", &r->mark->forced, NULL, err);
    } else if (st == ST_OK) {
        st = json_int(o, "item", &item, NULL, err);
        if (st == ST_OK)
            st = json_int(o, "unit", &unit, NULL, err);
        if (st == ST_OK)
            st = json_int(o, "bytes", &bytes, NULL, err);
        if (st == ST_OK && item >= 0 && item <= (int64_t)r->p->n && unit >= 0 && bytes >= 0 && !r->mark->differs) {
            r->mark->item = (size_t)item;
            r->mark->unit = unit;
            r->mark->bytes = (uint64_t)bytes;
        }
    }
    cJSON_Delete(o);
    return st;
}

Status convert_journal(const ConvertPlan *p, const char *path, JournalMode mode, Journal **out, ConvertMark *mark, Error *err)
{
    Reading r = {p, mark};
    *mark = (ConvertMark){0};
    return journal_open(out, path, mode, replay, &r, NULL, err);
}

/* ---- a run ---- */

typedef struct Run {
    ConvertPlan *p;
    const ConvertOptions *o;
    ConvertDone *done;
    SaveOut out;
    Journal *journal;
    ConvertMark at;            /* where it is */
    uint64_t synced;           /* at.bytes at the last record */
    int64_t values;            /* of a panel */
    int lanes;
    Room room;
    Scratch *scratch;          /* [lanes] */
    int *fd;                   /* [files], -1: closed */
    bool compare;
    Piece *piece;              /* [BATCH * lanes] */
    size_t npieces;
    atomic_size_t next;
    pthread_mutex_t lock;
    size_t bad_at;             /* of the first piece that failed */
    Error bad;
    double error, sum;
} Run;

static size_t room_bytes(const Room *r)
{
    return r->raw + r->scale + r->values + r->out + r->more + (r->out > r->raw ? r->out : r->raw) + r->values / 2;
}

/* The largest panel, and the most workers, that the bound takes. */
static Status plan_room(Run *r, Error *err)
{
    const uint64_t mem = r->o->mem ? r->o->mem : UINT64_MAX;
    const int threads = pool_threads(r->o->pool);
    size_t most = 0;
    for (r->values = PANEL_VALUES;; r->values /= 4) {
        const ConvertItem *largest = NULL;
        most = 0;
        r->room = (Room){0};
        for (size_t i = 0; i < r->p->n; i++) {
            const ConvertItem *it = &r->p->item[i];
            Room own = {0};
            room_for(r->p, it, item_step(it, r->values), &own);
            room_for(r->p, it, item_step(it, r->values), &r->room);
            if (room_bytes(&own) > most) {
                most = room_bytes(&own);
                largest = it;
            }
        }
        uint64_t fit = room_bytes(&r->room) ? mem / room_bytes(&r->room) : (uint64_t)threads;
        r->lanes = (int)min_u64(fit, (uint64_t)threads);
        if (r->lanes == threads || r->values <= PANEL_LEAST) {
            if (r->lanes < 1)
                return error_set(err, ST_NOMEM, "--mem of %.1f MiB is too little: converting '%s' takes %.1f MiB; give as much",
                                 (double)mem / 0x1p20, largest->name, (double)room_bytes(&r->room) / 0x1p20);
            r->done->threads = r->lanes;
            r->done->buffers = (uint64_t)r->lanes * room_bytes(&r->room);
            return ST_OK;
        }
    }
}

static Status make_room(Run *r, Error *err)
{
    RETURN_IF_ERROR(plan_room(r, err));
    r->scratch = mem_zarray((size_t)r->lanes, sizeof *r->scratch);
    r->piece = mem_array((size_t)r->lanes * BATCH, sizeof *r->piece);
    r->fd = mem_array((size_t)r->p->layout.files + 1, sizeof *r->fd);
    bool good = r->scratch && r->piece && r->fd;
    for (int i = 0; r->fd && i < r->p->layout.files; i++)
        r->fd[i] = -1;
    const size_t back = max_u64(max_u64(r->room.raw, r->room.out), r->room.values / 2);
    for (int i = 0; i < r->lanes && good; i++) {
        Scratch *s = &r->scratch[i];
        s->raw = mem_aligned(r->room.raw + 1, 1);
        s->scale = mem_aligned(r->room.scale + 1, 1);
        s->values = mem_aligned(r->room.values + 1, 1);
        s->out = mem_aligned(r->room.out + 1, 1);
        s->more = mem_aligned(r->room.more + 1, 1);
        s->back = r->o->verify ? mem_aligned(back + 1, 1) : NULL;
        good = s->raw && s->scale && s->values && s->out && s->more && (s->back || !r->o->verify);
    }
    return good ? ST_OK : error_nomem(err, "a conversion");
}

static void close_files(Run *r, int below)
{
    for (int i = 0; r->fd && i < below && i < r->p->layout.files; i++) {
        if (r->fd[i] >= 0)
            close(r->fd[i]);
        r->fd[i] = -1;
    }
}

static void free_room(Run *r)
{
    close_files(r, r->p->layout.files);
    for (int i = 0; r->scratch && i < r->lanes; i++) {
        Scratch *s = &r->scratch[i];
        free(s->raw);
        free(s->scale);
        free(s->values);
        free(s->out);
        free(s->more);
        free(s->back);
    }
    free(r->scratch);
    free(r->piece);
    free(r->fd);
}

/* ---- a batch of pieces ---- */

static void fail(Run *r, size_t i, const Error *why)
{
    pthread_mutex_lock(&r->lock);
    if (i < r->bad_at) {
        r->bad_at = i;
        r->bad = *why;
    }
    pthread_mutex_unlock(&r->lock);
}

static void lane(void *ctx, int64_t index, int worker)
{
    Run *r = ctx;
    (void)worker;
    const Work w = {.p = r->p, .dir = r->out.store.dir, .fd = r->fd, .compare = r->compare};
    for (;;) {
        size_t i = atomic_fetch_add(&r->next, 1);
        Error why = {0};
        if (i >= r->npieces || cancel_level(r->o->cancel) > 0)
            return;
        if (convert_piece(&w, &r->piece[i], &r->scratch[index], &why) != ST_OK)
            fail(r, i, &why);
    }
}

/* The next pieces, files opened; *next: the position behind them. */
static Status gather(Run *r, ConvertMark *next, Error *err)
{
    int first = r->p->layout.files;
    r->npieces = 0;
    *next = r->at;
    while (r->npieces < (size_t)r->lanes * BATCH && next->item < r->p->n) {
        const ConvertItem *it = &r->p->item[next->item];
        int64_t left = item_units(it) - next->unit, n = min_i64(left, item_step(it, r->values));
        if (n > 0) {
            Piece *piece = &r->piece[r->npieces++];
            *piece = (Piece){.item = next->item, .at = next->unit, .n = n};
            next->bytes += piece_bytes(r->p, piece);
        }
        for (int k = 0; k < it->parts; k++) {
            int file = r->p->layout.t[it->out + k].file;
            first = file < first ? file : first;
            if (r->fd[file] < 0)
                RETURN_IF_ERROR(store_part_open(&r->out.store, file, &r->fd[file], err));
        }
        next->unit += n > 0 ? n : 0;
        if (n >= left) {
            next->item++;
            next->unit = 0;
        }
    }
    close_files(r, first);
    return ST_OK;
}

static Status run_batch(Run *r, Error *err)
{
    ConvertMark next;
    RETURN_IF_ERROR(gather(r, &next, err));
    atomic_store(&r->next, 0);
    r->bad_at = SIZE_MAX;
    pool_run(r->o->pool, PHASE_OTHER, r->lanes, lane, r, r->o->cancel);
    if (r->bad_at != SIZE_MAX) {
        if (err)
            *err = r->bad;
        return r->bad.status;
    }
    RETURN_IF_ERROR(cancel_check(r->o->cancel, err));
    for (size_t i = 0; i < r->npieces; i++) {
        r->error += r->piece[i].error;
        r->sum += r->piece[i].sum;
    }
    r->at = next;
    return ST_OK;
}

/* Everything so far is on the disk, and a run that goes on begins behind it. */
static Status record(Run *r, Error *err)
{
    char text[120];
    RETURN_IF_ERROR(store_sync(&r->out.store, err));
    snprintf(text, sizeof text, "{\"item\":%zu,\"unit\":%lld,\"bytes\":%llu}", r->at.item, (long long)r->at.unit,
             (unsigned long long)r->at.bytes);
    RETURN_IF_ERROR(journal_append(r->journal, text, true, err));
    for (int i = 0; i < r->p->layout.files; i++) /* whoever is written to again is not synced yet */
        r->out.store.dirty[i] = r->fd[i] >= 0;
    r->synced = r->at.bytes;
    return ST_OK;
}

static Status write_all(Run *r, Error *err)
{
    Status st = ST_OK;
    while (r->at.item < r->p->n && st == ST_OK) {
        st = run_batch(r, err);
        if (st == ST_OK && r->at.bytes - r->synced >= SYNC_BYTES)
            st = record(r, err);
        if (r->o->progress)
            r->o->progress(r->o->ctx, r->at.bytes, r->p->layout.payload);
    }
    if (st == ST_OK || st == ST_CANCELLED) {
        Status last = record(r, st == ST_OK ? err : NULL);
        st = st == ST_OK ? last : st;
    }
    return st;
}

/* Reads all of it back. */
static Status compare_all(Run *r, Error *err)
{
    const ConvertMark end = r->at;
    r->at = (ConvertMark){0};
    r->compare = true;
    r->error = r->sum = 0;
    while (r->at.item < r->p->n) {
        RETURN_IF_ERROR(run_batch(r, err));
        if (r->o->progress)
            r->o->progress(r->o->ctx, r->at.bytes, r->p->layout.payload);
    }
    r->at = end;
    r->done->verified = true;
    r->done->compared = (int64_t)r->p->layout.n;
    r->done->error = r->sum > 0 ? sqrt(r->error / r->sum) : 0;
    return ST_OK;
}

/* ---- from the target to the target ---- */

static Status start_journal(Run *r, Error *err)
{
    char text[120];
    snprintf(text, sizeof text, "{\"convert\":\"%s\"%s}", r->p->digest, r->p->save.force ? ",\"force\":true" : "");
    return journal_append(r->journal, text, true, err);
}

static Status open_run(Run *r, Error *err)
{
    SaveOut *s = &r->out;
    RETURN_IF_ERROR(store_open(&s->store, r->p->save.dir, r->p->format.type, r->p->shell.path, err));
    RETURN_IF_ERROR(saveout_check_names(s, err));
    char *path = path_join(s->store.temp, "journal");
    if (!path)
        return error_nomem(err, "a path");
    if (!r->o->resume) /* what an earlier run left is not gone on with */
        unlink(path);
    Status st = convert_journal(r->p, path, JOURNAL_CUT, &r->journal, &r->at, err);
    free(path);
    RETURN_IF_ERROR(st);
    if (r->at.differs)
        return error_set(err, ST_DATA, "the stopped run in '%s' can't be continued: %s; start again without --resume, by %s",
                         s->store.dir, r->at.differs, save_force_word(&r->p->save));
    const bool go_on = r->at.head;
    s->forced = s->forced || r->at.forced;
    if (go_on)
        RETURN_IF_ERROR(store_take_ready(&s->store, &s->is_ready, err));
    RETURN_IF_ERROR(store_create(&s->store, &s->layout, go_on, err));
    if (go_on && !s->is_ready)
        RETURN_IF_ERROR(store_check(&s->store, &s->layout, NULL, err));
    r->done->skipped = r->synced = r->at.bytes;
    return go_on ? ST_OK : start_journal(r, err);
}

static Status make_ready(Run *r, Error *err)
{
    RETURN_IF_ERROR(write_all(r, err));
    if (r->o->verify)
        RETURN_IF_ERROR(compare_all(r, err));
    return saveout_seal(&r->out, err);
}

static Status run_open(Run *r, Error *err)
{
    SaveOut *s = &r->out;
    RETURN_IF_ERROR(make_room(r, err));
    RETURN_IF_ERROR(open_run(r, err));
    if (!s->is_ready) {
        Status st = make_ready(r, err);
        if (st != ST_OK)
            return store_nothing_replaced(s->store.dir, st, err);
    }
    return saveout_install(s, err);
}

Status convert_run(ConvertPlan *p, const ConvertOptions *o, ConvertDone *done, Error *err)
{
    const SaveFormat *const savers[] = {&p->format};
    const int64_t begin = clock_ns();
    Run r = {.p = p, .o = o, .done = done, .out = convert_out(p)};
    *done = (ConvertDone){0};
    RETURN_IF_ERROR(save_target_check(savers, &p->save, 1, o->resume, &done->there, err));
    if (done->there)
        return ST_OK;
    pthread_mutex_init(&r.lock, NULL);
    Status st = run_open(&r, err);
    if (st == ST_OK) /* before the run's folder goes */
        st = save_target_clean(savers, &p->save, 1, &done->removed, err);
    done->written = r.at.bytes - done->skipped;
    free_room(&r);
    (void)journal_close(r.journal, NULL); /* what counts was synced as it was written */
    bool keep = o->resume || r.out.is_ready || (r.at.bytes > 0 && st != ST_DATA && st != ST_INTERNAL); /* bad data is bad again */
    store_close(&r.out.store, keep && !r.out.finished);
    pthread_mutex_destroy(&r.lock);
    done->seconds = (double)(clock_ns() - begin) * 1e-9;
    return st;
}

void convert_done_fini(ConvertDone *d)
{
    names_free(&d->removed);
}
