#ifndef SLIM_SESSION_KEEPER_H
#define SLIM_SESSION_KEEPER_H

#include "base/str.h"
#include "io/journal.h"
#include "run/stream.h"

/* The folder of one session on disk: lock, journal, streams of the newest layers. A thread of its own does all writing
 * and syncing: in the order in which things were handed over, synced within a second and behind each layer.
 * After the first failure (also of memory: no record may be missing in the middle) nothing is written any more and
 * keeper_said tells it once: what is on the disk stays a whole beginning. */
typedef struct Keeper Keeper;

/* Locks dir, which is there, opens its journal and replays it. Where another process holds the lock, *out is NULL and
 * holder gets its id: keeper_read then. wake (any thread): keeper_said has something. *end: of what was
 * replayed; bytes behind it were put aside. */
Status keeper_open(Keeper **out, const char *dir, JournalReplay *replay, void *ctx, void (*wake)(void *), void *wake_ctx,
                  char holder[32], JournalEnd *end, Error *err);
/* Replays the journal of dir and changes nothing there. */
Status keeper_read(const char *dir, JournalReplay *replay, void *ctx, JournalEnd *end, Error *err);
/* Waits until everything is written and synced, unlocks, frees. The first error since the opening. */
Status keeper_close(Keeper *kp, Error *err);

/* Hands a record over (what json holds is taken); `sync`: behind it, not within a second. Never waits. */
void keeper_put(Keeper *kp, Str *json, bool sync);
/* The same for the job thread, which makes more of them: waits while many are on their way. */
void keeper_put_patiently(Keeper *kp, Str *json);
/* Hands lines of the log over (what text holds is taken), for the file beside the journal. A failure of that is told once, and
 * nothing else. Never waits. */
void keeper_log(Keeper *kp, Str *text);

/* A finished layer of a pass. Its record is head, the digest of the stream ("" when that could not be written), tail.
 */
typedef struct KeptLayer {
    int run, layer;
    bool carried;          /* the stream's choices belong to it (runner_carries) */
    Str head, tail;
} KeptLayer;
/* Hands a layer over (head and tail are taken). Waits while the one before is being written, so that one at most is
 * finished and not on the disk. `lend`: no memory for a copy of the stream, waits for this one, too. Job thread. */
void keeper_layer(Keeper *kp, KeptLayer *l, const Stream *h, bool lend);

/* Waits until what was handed over so far is written. */
void keeper_flush(Keeper *kp);
/* Behind what was handed over so far: removes the streams of every other pass than this one (-1: of all). */
void keeper_keep_streams(Keeper *kp, int run);
/* The newest layer of a pass that is on the disk with its stream: false when there is none. */
bool keeper_pass(Keeper *kp, int run, int *layer, char sha[65]);
/* Nothing has failed so far. */
bool keeper_works(Keeper *kp);
/* Tells and forgets a message of the writer, oldest first; false: there is none. */
bool keeper_said(Keeper *kp, int *level, Error *said);

#endif
