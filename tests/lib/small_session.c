#include "tests/lib/small_session.h"

#include <stdio.h>

#include "tests/lib/demo_session.h"
#include "tests/lib/random_model.h"
#include "tests/lib/tempdir.h"

char small_model[64];
char *small_root;

int small_begin(void **state)
{
    (void)state;
    const RandomShape shape = {.model_type = "llama", .layers = 4, .heads = 2, .kv_heads = 1, .head_dim = 8, .hidden = 16,
                               .inter = 24, .vocab = 64, .dtype = DT_F32, .seed = 7};
    random_model_write(&shape, small_model);
    small_root = temp_folder();
    temp_puts(temp_path(small_root, "texts.jsonl"), "{\"input_ids\":[1,2,3,4,5,6,7,8]}\n{\"input_ids\":[9,8,7,6,5,4]}\n");
    return 0;
}

int small_end(void **state)
{
    (void)state;
    random_model_remove(small_model);
    temp_remove(small_root);
    return 0;
}

SessionOptions small_options(void)
{
    SessionOptions o;
    session_options_default(&o);
    o.threads = 1;
    o.ctx = 4;
    o.state_dir = small_root;
    return o;
}

Session *small_session(char id[40])
{
    SessionOptions o = small_options();
    Error err = {0};
    Session *s;
    session_ok(session_new(&s, &o, &err), &err);
    session_ok(session_open_model(s, small_model, NULL, &err), &err);
    session_ok(session_set_calib(s, temp_path(small_root, "texts.jsonl"), &err), &err);
    session_ok(session_set_eval(s, temp_path(small_root, "texts.jsonl"), &err), &err);
    snprintf(id, 40, "%s", session_id(s));
    return s;
}
