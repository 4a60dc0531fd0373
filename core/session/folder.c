/* The folders of sessions below the state folder: begun, opened, closed. */
#include "session/folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "dist/dist.h"
#include "io/file.h"
#include "session/attach.h"
#include "session/entries.h"
#include "session/notes.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/serve.h"

static void make_id(char id[40], int twin)
{
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    size_t n = strftime(id, 40, "%Y%m%d-%H%M%S", &tm);
    n += (size_t)snprintf(id + n, 40 - n, "-%ld", (long)getpid());
    if (twin > 1)
        snprintf(id + n, 40 - n, "-%d", twin);
}

char *folder_path(const char *state_dir, const char *id)
{
    char *sessions = path_join(state_dir, "sessions");
    char *dir = sessions ? path_join(sessions, id) : NULL;
    free(sessions);
    return dir;
}

static void wake(void *ctx)
{
    queue_wake(ctx);
}

static Status open_keeper(Session *s, JournalReplay *replay, char holder[32], JournalEnd *end, Error *err)
{
    return keeper_open(&s->keeper, s->dir, replay, s, wake, s->queue, holder, end, err);
}

static Status name_folder(Session *s, Error *err)
{
    for (int twin = 1;; twin++) {
        make_id(s->id, twin);
        s->dir = folder_path(s->state_dir, s->id);
        if (!s->dir)
            return error_nomem(err, "the session folder");
        if (!dir_exists(s->dir))
            return ST_OK;
        free(s->dir);
    }
}

static void forget_folder(Session *s)
{
    free(s->log_path);
    s->log_path = NULL;
    free(s->dir);
    s->dir = NULL;
    s->id[0] = s->name[0] = s->saved_view[0] = 0;
    s->worth = false;
}

Status folder_begin(Session *s, Error *err)
{
    if (!s->state_dir || s->opt.read_only)
        return ST_OK;
    RETURN_IF_ERROR(name_folder(s, err));
    Error why = {0};
    char holder[32];
    JournalEnd end;
    Status st = dir_make(s->dir, &why);
    if (st == ST_OK)
        st = open_keeper(s, NULL, holder, &end, &why);
    if (st == ST_OK && !s->keeper)
        st = error_set(&why, ST_IO, "'%s' is in use by process %s", s->dir, holder);
    if (st == ST_OK)
        s->log_path = path_join(s->dir, "log");
    if (st != ST_OK) { /* a full or read-only disk doesn't stop the work */
        session_log(s, 1, "this session is not saved: %s", why.text);
        forget_folder(s);
        return ST_OK;
    }
    entry_open(s);
    serve_open(s);
    folder_tell_older(s);
    if (s->opt.session_cap)
        folder_make_room(s);
    return ST_OK;
}

/* What of the journal could not be used. */
static void tell_end(Session *s, const JournalEnd *end)
{
    unsigned long long torn = end->torn, first = end->records + 1;
    if (end->found > first + 1)
        session_log(s, 1, "records %llu to %llu of the journal are missing", first, (unsigned long long)end->found - 1);
    else if (end->found)
        session_log(s, 1, "record %llu of the journal is missing", first);
    if (torn && s->keeper)
        session_log(s, 1, "the journal's last %llu bytes %s: they are kept in '%s/journal.damaged'", torn,
                    end->found ? "stand behind what is missing and were not read" : "were damaged", s->dir);
    else if (torn)
        session_log(s, 1, "the journal's last %llu bytes %s", torn,
                    end->found ? "stand behind what is missing and were not read" : "are no whole record and were not read");
}

/* Takes the folder of this session, with the log that lies there: what is read next is being restored. */
static Status enter(Session *s, const char *id, Error *err)
{
    snprintf(s->id, sizeof s->id, "%s", id);
    s->dir = folder_path(s->state_dir, id);
    if (!s->dir)
        return error_nomem(err, "a path");
    if (!dir_exists(s->dir))
        return error_set(err, ST_DATA, "no session '%s': resume --list shows them", id);
    s->restoring = true;
    notes_restore(s, s->dir);
    return ST_OK;
}

Status folder_open(Session *s, const char *id, JournalReplay *replay, Error *err)
{
    char holder[32] = "";
    JournalEnd end = {0};
    RETURN_IF_ERROR(enter(s, id, err));
    const bool follows = !dist_leads(s->opt.dist); /* rank 0 has it, and writes */
    Status st = s->opt.read_only || follows ? ST_OK : open_keeper(s, replay, holder, &end, err);
    if (st == ST_OK && !s->keeper) {
        s->read_only = !follows;
        st = keeper_read(s->dir, replay, s, &end, err);
    }
    s->restoring = false;
    s->worth = true;
    if (st != ST_OK)
        return error_prefix(err, st, "session %s: ", id);
    s->log_path = path_join(s->dir, "log");
    if (s->keeper)
        serve_open(s);
    if (holder[0])
        session_log(s, 1, "session %s is open in process %s: this one is read-only", id, holder);
    tell_end(s, &end);
    return ST_OK;
}

Status folder_follow(Session *s, const char *id, JournalReplay *replay, Attach *a, Error *err)
{
    JournalEnd end = {0};
    RETURN_IF_ERROR(enter(s, id, err));
    s->read_only = s->worth = true;
    const Status st = attach_follow(a, s, replay, &end, err);
    s->restoring = false;
    return st == ST_OK ? ST_OK : error_prefix(err, st, "session %s: ", id);
}

Status folder_look(Session *s, const char *id, JournalReplay *replay, void *ctx, Error *err)
{
    JournalEnd end = {0};
    RETURN_IF_ERROR(enter(s, id, err));
    Status st = keeper_read(s->dir, replay, ctx, &end, err);
    s->restoring = false;
    if (st != ST_OK)
        return error_prefix(err, st, "session %s: ", id);
    tell_end(s, &end);
    return ST_OK;
}

Status folder_end(Session *s, Error *err)
{
    if (s->keeper)
        entry_view(s);
    bool empty = s->keeper && !s->worth;
    serve_end(s);
    Status st = keeper_close(s->keeper, err);
    s->keeper = NULL;
    serve_close(s);
    if (empty) /* nobody would go on with it */
        session_delete(s->state_dir, s->id, NULL);
    forget_folder(s);
    return st;
}

const char *session_log_file(const Session *s)
{
    return s->keeper ? s->log_path : NULL;
}

const char *session_name(const Session *s)
{
    return s->name;
}

Status session_set_name(Session *s, const char *name, Error *err)
{
    size_t n = strlen(name);
    if (!n || n >= sizeof s->name || name[0] == '.' || name[0] == '-' || strpbrk(name, "/\\\"' \t\n"))
        return error_set(err, ST_USAGE, "'%s' is no name for a session: up to %zu characters without blanks and /", name,
                         sizeof s->name - 1);
    snprintf(s->name, sizeof s->name, "%s", name);
    entry_text(s, "name", name);
    return ST_OK;
}

Status session_save(Session *s, const char *path, Error *err)
{
    char *from = s->dir ? path_join(s->dir, "journal") : NULL, *bytes = NULL;
    size_t n = 0;
    if (!from)
        return error_set(err, ST_USAGE, "this session is not on disk: there is nothing to save");
    if (s->keeper) {
        entry_view(s);
        keeper_flush(s->keeper);
    }
    Status st = file_read(from, UINT64_MAX, &bytes, &n, err);
    if (st == ST_OK)
        st = file_write_atomic(path, bytes, n, err);
    free(bytes);
    free(from);
    return st;
}

static void note_open(void *ctx, uint64_t seq, const char *json, uint32_t len)
{
    bool *found = ctx;
    (void)seq, (void)len;
    *found = *found || strncmp(json, "{\"t\":\"open\"", 11) == 0;
}

Status session_take_file(const char *state_dir, const char *path, char id[40], Error *err)
{
    bool is_one = false;
    char *bytes = NULL, *dir = NULL, *to = NULL;
    size_t n = 0;
    if (!file_exists(path))
        return error_set(err, ST_DATA, "'%s': no such file", path);
    if (journal_glance(path, note_open, &is_one, NULL) != ST_OK || !is_one)
        return error_set(err, ST_DATA, "'%s' is no saved session: 'save FILE' writes one", path);
    for (int twin = 1; twin < 1000; twin++) {
        free(dir);
        make_id(id, twin);
        dir = folder_path(state_dir, id);
        if (!dir || !dir_exists(dir))
            break;
    }
    to = dir ? path_join(dir, "journal") : NULL;
    Status st = to ? dir_make(dir, err) : error_nomem(err, "a path");
    if (st == ST_OK)
        st = file_read(path, UINT64_MAX, &bytes, &n, err);
    if (st == ST_OK)
        st = file_write_atomic(to, bytes, n, err);
    free(bytes);
    free(to);
    free(dir);
    return st;
}

const char *session_id(const Session *s)
{
    return s->id;
}

bool session_is_read_only(const Session *s)
{
    return s->read_only;
}

bool session_is_saved(const Session *s)
{
    return s->keeper && keeper_works(s->keeper);
}

const char *session_unkept(const Session *s)
{
    return s->read_only ? "read-only" : !s->state_dir || session_is_saved(s) ? NULL : "not saved";
}

bool session_has_work(const Session *s)
{
    return s->worth;
}
