#ifndef SLIM_IO_DIRLIST_H
#define SLIM_IO_DIRLIST_H

#include <dirent.h>

#include "base/error.h"

/* Lists the folder behind the descriptor `at`, which stays open and where it was; `dir` names it in errors. The caller
 * ends with closedir. */
Status dir_list_at(int at, const char *dir, DIR **out, Error *err);

#endif
