#ifndef SLIM_IO_JOURNAL_H
#define SLIM_IO_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Append-only record file: u32 length, u32 CRC-32 (zlib), then the payload (JSON text), little endian; one write(2)
 * each. A payload that is an object is numbered: {"seq":N, as its first member, N = 1 for the file's first record. Who
 * replays sees it as it was appended. One thread at a time. */
typedef struct Journal Journal;

typedef enum JournalMode {
    JOURNAL_READ, /* replays, changes nothing: the file may be another process's; appending is refused */
    JOURNAL_CUT,  /* creates; what is behind the last whole record is cut off */
    JOURNAL_KEEP, /* creates; what is behind the last whole record is put aside at the end of PATH.damaged, then cut */
} JournalMode;

/* Called for every whole record, in order, while opening. Stops the opening when it gives an error. */
typedef Status JournalReplay(void *ctx, const char *json, uint32_t len, Error *err);

/* Where the replay ended. */
typedef struct JournalEnd {
    uint64_t records; /* whole ones from the beginning */
    uint64_t torn;    /* bytes behind them */
    uint64_t found;   /* number of the record behind them when that is whole, but not the next one: those between are
                         missing; 0: no such record */
} JournalEnd;

/* Opens and replays up to the first record that is not whole or not the next one (*end, may be NULL): what follows a
 * missing record can mean something else without it. */
Status journal_open(Journal **out, const char *path, JournalMode mode, JournalReplay *replay, void *ctx,
                    JournalEnd *end, Error *err);
/* Of one that was opened for reading: replays what was appended since; *grew: there was something. A record that is not whole
 * is left for the next time. */
Status journal_follow(Journal *j, JournalReplay *replay, void *ctx, bool *grew, Error *err);
/* Called with the number (0: it has none) and the first bytes of a record, which are NUL-terminated. */
typedef void JournalGlance(void *ctx, uint64_t seq, const char *json, uint32_t len);
/* Looks at the beginning of every record, CRCs unchecked: for a list of many journals, of whatever length. */
Status journal_glance(const char *path, JournalGlance *glance, void *ctx, Error *err);
/* Appends one record; `sync`: it is on the disk when this returns. */
Status journal_append(Journal *j, const char *json, bool sync, Error *err);
/* What was appended is on the disk when this returns. After a failure the journal is broken for good (the system tells
 * a failed write back only once): this and every later call give an error. */
Status journal_sync(Journal *j, Error *err);
/* Syncs and frees; the error of the sync, ST_OK for NULL. */
Status journal_close(Journal *j, Error *err);

#endif
