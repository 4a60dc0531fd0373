#ifndef SLIM_IO_JOURNAL_H
#define SLIM_IO_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Append-only record file: u32 length, u32 CRC-32 (zlib), then the payload (JSON text), little endian; one write(2)
 * each. */
typedef struct Journal Journal;

/* Called for every whole record, in order, while opening. Stops the opening when it gives an error. */
typedef Status JournalReplay(void *ctx, const char *json, uint32_t len, Error *err);

/* Opens or creates. Replays what is there; a torn or damaged tail is cut off and its length given in *torn (may be
 * NULL). */
Status journal_open(Journal **out, const char *path, JournalReplay *replay, void *ctx, uint64_t *torn, Error *err);
/* Appends one record. Synced at most once a second; `sync` forces it now. */
Status journal_append(Journal *j, const char *json, bool sync, Error *err);
Status journal_sync(Journal *j, Error *err);
void journal_close(Journal *j);

#endif
