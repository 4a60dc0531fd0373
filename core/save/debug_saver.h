#ifndef SLIM_SAVE_DEBUG_SAVER_H
#define SLIM_SAVE_DEBUG_SAVER_H

#include "save/format.h"

/* `--debug` as one more saver of a run: what every quantized linear was handed over with, written to DIR/debug_info when
 * the run is whole (save/debug_info.h). Not in saver_table, no row of which it has more than
 * type and ops: no recipe names it. A resumed run describes only the layers
 * that it wrote itself. */
extern const SaveFormat saver_debug_info;

#endif
