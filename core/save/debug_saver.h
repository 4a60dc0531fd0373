#ifndef SLIM_SAVE_DEBUG_SAVER_H
#define SLIM_SAVE_DEBUG_SAVER_H

#include "save/format.h"

/* `--debug` as one more saver of a run: what every quantized linear was handed over with, written to DIR/debug_info
 * when the run is whole (save/debug_info.h). Only a type, a title and what drives it: it is not in saver_table, no recipe
 * names it. A resumed run describes only the layers that it wrote itself. */
extern const SaveFormat saver_debug_info;

#endif
