#include "tests/lib/trial.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "io/safetensors.h"

Status try_open(const char *path, Error *e)
{
    Checkpoint *c;
    memset(e, 0, sizeof *e);
    Status st = checkpoint_open(&c, path, e);
    assert_true((st == ST_OK) == (c != NULL));
    checkpoint_free(c);
    return st;
}
