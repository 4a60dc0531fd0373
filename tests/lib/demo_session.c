#include "tests/lib/demo_session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

void session_ok(Status st, const Error *err)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err->text);
}

static char *find_data(void *ctx, const char *name, Error *err)
{
    char path[200];
    (void)ctx, (void)err;
    snprintf(path, sizeof path, "lab_calib/%s", name);
    return strdup(path);
}

SessionOptions demo_session_options(const char *dir)
{
    SessionOptions o;
    session_options_default(&o);
    o.threads = 1;
    o.state_dir = dir;
    o.max_samples = 4;
    o.seq_len = 64;
    o.eval_tokens = 128;
    o.find_data = find_data;
    return o;
}

Session *demo_session(const char *dir)
{
    SessionOptions o = demo_session_options(dir);
    Session *s;
    Error err = {0};
    session_ok(session_new(&s, &o, &err), &err);
    session_ok(session_open_model(s, "lab_models/demo", NULL, &err), &err);
    return s;
}
