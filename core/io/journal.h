#ifndef SLIM_IO_JOURNAL_H
#define SLIM_IO_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Append-only record file: u32 length, u32 CRC-32 (zlib), then the payload (JSON text), little endian; one write(2)
 * each. One thread at a time. */
typedef struct Journal Journal;

typedef enum JournalMode {
    JOURNAL_READ, /* replays, changes nothing: the file may be another process's; appending is refused */
    JOURNAL_CUT,  /* creates; what is behind the last whole record is cut off */
    JOURNAL_KEEP, /* creates; what is behind the last whole record is put aside at the end of PATH.damaged, then cut */
} JournalMode;

/* Called for every whole record, in order, while opening. Stops the opening when it gives an error. */
typedef Status JournalReplay(void *ctx, const char *json, uint32_t len, Error *err);

/* Opens and replays. The length of what is no whole record is given in *torn (may be NULL). */
Status journal_open(Journal **out, const char *path, JournalMode mode, JournalReplay *replay, void *ctx,
                    uint64_t *torn, Error *err);
/* Appends one record; `sync`: it is on the disk when this returns. */
Status journal_append(Journal *j, const char *json, bool sync, Error *err);
/* What was appended is on the disk when this returns. After a failure the journal is broken for good (the system tells
 * a failed write back only once): this and every later call give an error. */
Status journal_sync(Journal *j, Error *err);
/* Syncs and frees; the error of the sync, ST_OK for NULL. */
Status journal_close(Journal *j, Error *err);

#endif
