#ifndef SLIM_SESSION_PICTURE_H
#define SLIM_SESSION_PICTURE_H

#include "metric/weightlook.h"
#include "metric/weightview.h"
#include "session/session.h"

/* Pictures of one weight, read from the checkpoint when they are looked at: made on a thread of their own, so that neither keys
 * nor jobs wait for them, and kept while they are looked at. Owner thread. */

typedef enum PictureKind { PICTURE_LOOK, PICTURE_HEAT, PICTURE_CELL } PictureKind;
typedef struct PictureAsk {
    PictureKind kind;
    int64_t linear;
    bool quantized;    /* by q; else a look has only the weight itself, the others are of 9.1's groups */
    QSpec q;
    int64_t group;     /* as in HeatAsk, of a map and a cell */
    HeatArea area;
    int rows, cols;
} PictureAsk;
typedef struct Picture {
    PictureAsk ask;
    char why[ERROR_TEXT_MAX]; /* why there is none of it, "": there is */
    WeightLook look;          /* what its kind names */
    WeightHeat heat;
    WeightCell cell;
    uint64_t used;            /* private */
} Picture;

enum { PICTURES_KEPT = 8 };

/* The picture, borrowed until PICTURES_KEPT - 1 others were asked for; NULL: it is being made, or there is no memory to
 * make it. A newer wish stops what is being made for an older one. */
const Picture *session_picture(Session *s, const PictureAsk *ask);
/* Whether one is being made. session_fd becomes readable when it is there, and session_pump takes it in. */
bool session_picture_waits(const Session *s);
/* Waits for it. */
void session_picture_wait(Session *s);
/* Makes it here and now, on the thread that calls, when it isn't there. cancel may be NULL. ST_CANCELLED, ST_NOMEM; a picture that
 * there can't be says so in its `why`. */
Status session_picture_now(Session *s, const PictureAsk *ask, const Cancel *cancel, const Picture **out, Error *err);

/* ---- for the session ---- */
/* Takes in what was made; EV_PICTURE where there was something. */
unsigned pictures_pump(Session *s);
/* Stops the thread and drops all: before the model goes. */
void pictures_drop(Session *s);

#endif
