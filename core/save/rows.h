#ifndef SLIM_SAVE_ROWS_H
#define SLIM_SAVE_ROWS_H

#include "save/saver.h"

/* Rows of saver_table, one file each. */
extern const Saver saver_ascendv1;
extern const Saver saver_mindie;
extern const Saver saver_compressed_tensors;

#endif
