#ifndef SLIM_CONVERT_RUN_H
#define SLIM_CONVERT_RUN_H

#include "convert/impl.h"
#include "io/file.h"

/* What the journal of a run says. */
typedef struct ConvertMark {
    bool head, forced;
    const char *differs;   /* why it can't be gone on with, a clause; NULL: it can */
    size_t item;           /* everything before unit `unit` of this item is on the disk */
    int64_t unit;
    uint64_t bytes;        /* written so far */
} ConvertMark;
/* Opens it and reads it to its end. */
Status convert_journal(const ConvertPlan *p, const char *path, JournalMode mode, Journal **out, ConvertMark *mark, Error *err);

/* Units of an item: bytes of a copy, matrices of a turned stack, else rows. */
int64_t item_units(const ConvertItem *it);
/* Units of it that `values` values make at most, 1 at least. */
int64_t item_step(const ConvertItem *it, int64_t values);

/* Room of one worker. */
typedef struct Room {
    size_t raw, scale, values, out, more; /* bytes */
} Room;
/* What units of the item need. */
void room_for(const ConvertPlan *p, const ConvertItem *it, int64_t units, Room *most);
typedef struct Scratch {
    unsigned char *raw, *scale, *out, *more, *back;
    float *values;
} Scratch;

/* Units [at, at + n) of an item. */
typedef struct Piece {
    size_t item;
    int64_t at, n;
    double error, sum;     /* of a quantized one that is compared: squared differences, squares */
} Piece;
/* fd: [2] files of its parts, for offsets of the layout. compare: nothing is written, what lies there is held against it. */
typedef struct Work {
    ConvertPlan *p;
    const char *dir;
    const int *fd;         /* [files] */
    bool compare;
} Work;
Status convert_piece(const Work *w, Piece *piece, Scratch *s, Error *err);
/* Bytes that a piece puts into the layout. */
uint64_t piece_bytes(const ConvertPlan *p, const Piece *piece);

SaveOut convert_out(const ConvertPlan *p);

#endif
