#include "io/fingerprint.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/rng.h"
#include "io/file.h"

enum { SMALL = 64 << 10, PLACE = 128, PIECE = 4 << 20 };

/* Where place i of a file is: somewhere in stretch i of `places`. */
static uint64_t place_at(uint64_t size, int i, int places)
{
    uint64_t stretch = size / (uint64_t)places;
    Rng r = rng_of(size, (uint64_t)i);
    return (uint64_t)i * stretch + rng_below(&r, stretch - PLACE + 1);
}

Status fingerprint_sample(int fd, const char *path, uint64_t size, int places, Hasher *h, Error *err)
{
    unsigned char bytes[PLACE];
    if (size <= SMALL || size / (uint64_t)places < PLACE)
        return fingerprint_whole(fd, path, size, NULL, NULL, NULL, h, err);
    for (int i = 0; i < places; i++) /* a cold disk fetches them side by side */
        posix_fadvise(fd, (off_t)place_at(size, i, places), PLACE, POSIX_FADV_WILLNEED);
    for (int i = 0; i < places; i++) {
        RETURN_IF_ERROR(file_pread(fd, path, bytes, PLACE, place_at(size, i, places), err));
        hasher_bytes(h, bytes, PLACE);
    }
    return ST_OK;
}

Status fingerprint_whole(int fd, const char *path, uint64_t size, const Cancel *cancel,
                         void (*progress)(void *ctx, uint64_t bytes), void *ctx, Hasher *h, Error *err)
{
    size_t room = size < PIECE ? (size_t)size : PIECE;
    unsigned char *buf = malloc(room ? room : 1);
    if (!buf)
        return error_nomem(err, path);
    Status st = ST_OK;
    for (uint64_t at = 0; st == ST_OK && at < size;) {
        size_t n = size - at < room ? (size_t)(size - at) : room;
        st = cancel ? cancel_check(cancel, err) : ST_OK;
        if (st == ST_OK)
            st = file_pread(fd, path, buf, n, at, err);
        if (st != ST_OK)
            break;
        hasher_bytes(h, buf, n);
        at += n;
        if (progress)
            progress(ctx, at);
    }
    free(buf);
    return st;
}
