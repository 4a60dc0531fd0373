#ifndef SLIM_SESSION_FOLDER_H
#define SLIM_SESSION_FOLDER_H

#include "io/journal.h"
#include "session/session.h"

/* The folder of a session below the state folder, by its id. Owner thread. */

/* Begins a new one for the model that was just opened. Where that can't be (a full disk) the work goes on and a message
 * says so. */
Status folder_begin(Session *s, Error *err);
/* Opens the one with this id and replays it: to go on with it, or read-only (by wish, or because another process has
 * it). */
Status folder_open(Session *s, const char *id, JournalReplay *replay, Error *err);
/* The same of one that another process has open and `a` is connected to: read, and followed as it grows. */
struct Attach;
Status folder_follow(Session *s, const char *id, JournalReplay *replay, struct Attach *a, Error *err);
/* Gives the records of this one to `replay`, whatever has it open, and its log to `s`, which stays without a model. */
Status folder_look(Session *s, const char *id, JournalReplay *replay, void *ctx, Error *err);
/* Writes what is left, unlocks. The first error of all writing. */
Status folder_end(Session *s, Error *err);
/* Where the session with this id lies; caller frees, NULL without memory. */
char *folder_path(const char *state_dir, const char *id);
/* Id of the newest session; ST_DATA when there is none (sessions.c). */
Status folder_newest(const char *state_dir, char id[40], Error *err);
/* Where there is no session with this id, but one of this name: its id in its place, the newest's (sessions.c). */
void folder_by_name(const char *state_dir, char id[40]);
/* Deletes closed sessions, least recently used first, until all together take no more than the setting session-cap. One with
 * edits that were not exported stays, and a message says so. */
void folder_make_room(Session *s);
/* Says whether the newest other session of this model has work in it. */
void folder_tell_older(Session *s);

#endif
