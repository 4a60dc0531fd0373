#ifndef SLIM_EVALUATE_SERVICE_H
#define SLIM_EVALUATE_SERVICE_H

#include "tune/evaluator.h"

/* What a plan says for the evaluator `service_oriented` (specs/tuning.md 7, 8). Texts and nodes are the document's. */

/* Where a server is, and under which name it serves the model. */
typedef struct Endpoint {
    const char *host, *served;
    int port;
} Endpoint;

/* inference_engine */
typedef struct Engine {
    Endpoint at;
    const char *entrypoint, *health;
    const YamlNode *env, *args; /* mappings; NULL: none */
    double startup;             /* seconds */
} Engine;

/* evaluation.datasets.KEY */
typedef struct BenchSet {
    const char *key, *config_name, *mode, *api_chat_type; /* mode "": the bench's */
    double request_rate;                                  /* 0: the bench's */
    int64_t max_out_len;                                  /* 0: the bench's */
    const YamlNode *returns_tool_calls;                   /* NULL: not told */
    const YamlNode *chat_template_kwargs;                 /* mapping or NULL */
    const char *const *extra_args;
    int nextra;
} BenchSet;

/* evaluation.aisbench */
typedef struct Bench {
    const char *binary, *mode, *log_dir, *postprocessor; /* postprocessor "": none */
    const char *directory, *subdir, *base_name, *name_suffix, *abbr, *attr;
    double timeout, request_rate;
    int64_t retry, batch_size, max_out_len;
    bool cleanup, trust_remote_code;
    const YamlNode *generation_kwargs; /* mapping or NULL */
    const char *const *extra_args;
    int nextra;
} Bench;

/* A question of a precheck, and what makes its answer good. */
typedef struct Question {
    const char *message;
    const char *const *answers; /* expected_answer: one of them has to be in the reply */
    int nanswers;
    unsigned items; /* garbled_text: bits of GarbledItem */
} Question;
typedef struct Precheck {
    bool garbled; /* else expected_answer */
    int64_t max_tokens;
    double timeout;
    const Question *question;
    int n;
    bool omitted; /* garbled_text without test_cases, which the peer takes for none */
} Precheck;

typedef struct Service {
    Endpoint at; /* of evaluation */
    Engine engine;
    Bench bench;
    const BenchSet *set;
    int nsets;
    const struct TaskSet *task; /* evaluation.tasks, ours: data sets that we ask ourselves */
    int ntasks;
    double request_timeout; /* seconds that one of their questions may take */
    const Precheck *precheck;
    int nprechecks;
} Service;

/* The keys, with every rule, and the settings of a checked mapping (NULL: no memory). */
extern const Object service_object;
const void *service_settings(Arena *a, const YamlNode *map);
/* The data set of this key; NULL: there is none. */
const BenchSet *service_set(const Service *s, const char *key);
/* The same of the data sets that we ask ourselves. */
const struct TaskSet *service_task(const Service *s, const char *key);
/* Words that the server may get: letters, digits and _-./{}:", at least one. */
bool service_word(const char *s);
/* Appends a value of args or env_vars as the peer makes text of it: Python's str(), a mapping as compact JSON. */
void service_value(const YamlNode *v, Str *out);

#endif
