#ifndef SLIM_SESSION_SETTINGS_H
#define SLIM_SESSION_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "session/session.h"

/* A setting of a session: a key of session_set, and of the options of the same name that commands take. */
typedef struct Setting {
    const char *key; /* "max-samples"; '-' and '_' are the same when given */
    Status (*set)(SessionOptions *o, const char *value, Error *err);
    bool neutral;    /* no number depends on it: it may change while a job runs, and results stay good */
} Setting;
enum { THREADS_MOST = 1024 };
/* In the order in which a command line's are set; ends with key == NULL. */
extern const Setting setting_table[];
/* The row of a key; NULL + err when there is none. */
const Setting *setting_find(const char *key, Error *err);

/* "300M", "4G", "1.5g", "4GiB", "65536": bytes. false: it is no size. */
bool setting_bytes(const char *text, uint64_t *out);

#endif
