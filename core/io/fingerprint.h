#ifndef SLIM_IO_FINGERPRINT_H
#define SLIM_IO_FINGERPRINT_H

#include "base/hash.h"
#include "base/pool.h"

/* What tells a weight file from another of the same layout: its bytes, at places that depend on its size alone. */

/* Adds bytes of an open file to the hash: all of a small one, of another 128 bytes at each of `places` places, one in
 * each of as many equal stretches. Reads at most max(64 KiB, places * 128) bytes. */
Status fingerprint_sample(int fd, const char *path, uint64_t size, int places, Hasher *h, Error *err);
/* Adds every byte of the file. cancel and progress (of the bytes read so far in this file) may be NULL. */
Status fingerprint_whole(int fd, const char *path, uint64_t size, const Cancel *cancel,
                         void (*progress)(void *ctx, uint64_t bytes), void *ctx, Hasher *h, Error *err);

#endif
