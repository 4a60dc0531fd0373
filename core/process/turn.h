#ifndef SLIM_PROCESS_TURN_H
#define SLIM_PROCESS_TURN_H

#include "model/overlay.h"
#include "model/rotmap.h"

/* Does a map's steps (model/rotmap.h) to a model: norms go into what reads them, weights are turned. Of a unit, or (unit -1)
 * of the table of embeddings, the last norm and the head, which becomes a tensor of its own. peer: a bias of a norm that
 * stands alone is dropped, as the peer does; ours moves it into the linears. ST_DATA: such a bias has nowhere to go. */
Status turn_model(const Model *m, Overlay *o, const Turns *t, bool peer, int unit, Error *err);

#endif
