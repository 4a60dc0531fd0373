/* forward: one text through the model, every step written to a file. */
#include "measure/forward.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/gemm.h"
#include "src/commands.h"
#include "src/internal.h"
#include "text/tokenizer.h"

/* "1,2,3" into fresh ids; every one must be below vocab. */
static Status parse_ids(const char *text, int64_t vocab, int32_t **out, size_t *n, Error *err)
{
    size_t cap = 0;
    *out = NULL;
    *n = 0;
    for (const char *p = text;;) {
        char *end;
        errno = 0;
        long long v = *p >= '0' && *p <= '9' ? strtoll(p, &end, 10) : -1;
        if (v < 0 || errno || (*end && *end != ',')) {
            free(*out);
            return error_set(err, ST_USAGE,
                             "--ids takes whole numbers with commas between, like 1,2,3; at '%.20s' there is none", p);
        }
        if (v >= vocab) {
            free(*out);
            return error_set(err, ST_USAGE, "--ids: %lld is no token of this model: its vocabulary has %lld", v,
                             (long long)vocab);
        }
        if (!mem_grow(out, &cap, *n + 1, sizeof **out)) {
            free(*out);
            return error_nomem(err, "the ids");
        }
        (*out)[(*n)++] = (int32_t)v;
        if (!*end)
            return ST_OK;
        p = end + 1;
    }
}

static Status encode_text(const Model *m, const char *text, int32_t **out, size_t *n, Error *err)
{
    Tokenizer *t;
    *out = NULL;
    RETURN_IF_ERROR(tokenizer_open(&t, m->path, err));
    Status st = tokenizer_encode(t, text, strlen(text), true, NULL, out, n, err);
    tokenizer_free(t);
    for (size_t i = 0; i < *n && st == ST_OK; i++)
        if ((*out)[i] >= m->cfg.vocab)
            st = error_set(err, ST_DATA, "the tokenizer gives id %d, but the model's vocabulary has %lld",
                           (int)(*out)[i], (long long)m->cfg.vocab);
    if (st == ST_OK && *n == 0)
        st = error_set(err, ST_USAGE, "the text has no token");
    if (st != ST_OK) {
        free(*out);
        *out = NULL;
    }
    return st;
}

/* Runs the one sample; t borrows ids. */
static Status run_sample(const CommandLine *cl, const Model *m, int32_t *ids, size_t n, Error *err)
{
    int64_t start[2] = {0, (int64_t)n};
    int item = 0, threads;
    TokenSet t = {.name = (char *)"the given text", .samples = 1, .start = start, .ids = ids, .item = &item};
    const char *sim = cl_str(cl, "dtype-sim");
    ArithMode arith = ARITH_FP32;
    Pool *pool;
    Runner *r;
    if (sim && !arith_find(sim, &arith))
        return error_set(err, ST_INTERNAL, "no arithmetic '%s'", sim);
    RETURN_IF_ERROR(cl_threads(cl, &threads, err));
    RETURN_IF_ERROR(pool_new(&pool, threads, err));
    RunnerOptions o = {.pool = pool, .arith = arith, .mem_limit = cl_size(cl, "mem", 0)};
    Status st = gemm_ready(pool_threads(pool), err);
    if (st == ST_OK)
        st = runner_new(&r, m, &o, err);
    if (st == ST_OK) {
        st = forward_write(r, &t, cl_str(cl, "out"), err);
        runner_free(r);
    }
    pool_free(pool);
    return st;
}

static Status run_forward(App *a, const CommandLine *cl, Error *err)
{
    const char *path = cl_str(cl, "model_path"), *ids_text = cl_str(cl, "ids"), *text = cl_str(cl, "text");
    if (!path || !cl_str(cl, "out"))
        return error_set(err, ST_USAGE, "'forward' needs --model_path DIR and --out FILE");
    if (!ids_text == !text)
        return error_set(err, ST_USAGE, "give either --ids 1,2,3 or --text S");
    RETURN_IF_ERROR(app_session(a, err));
    RETURN_IF_ERROR(app_open_model(a, path, cl_str(cl, "model_type"), err));
    const Model *m = session_model(a->session);
    int32_t *ids = NULL;
    size_t n = 0;
    RETURN_IF_ERROR(text ? encode_text(m, text, &ids, &n, err) : parse_ids(ids_text, m->cfg.vocab, &ids, &n, err));
    Status st = run_sample(cl, m, ids, n, err);
    free(ids);
    return st;
}

static const Option forward_options[] = {
    {"model_path", ARG_PATH, "DIR", "the model's folder", COMP_FILE},
    {"model_type", ARG_STR, "TYPE", "the model's family (default: read from config.json)", COMP_NONE},
    {"ids", ARG_STR, "1,2,3", "token ids of the text", COMP_NONE},
    {"text", ARG_TEXT, "S", "the text itself", COMP_NONE},
    {"out", ARG_PATH, "FILE", "safetensors file to write (whole or not at all)", COMP_FILE},
    OPTION_ARITH,
    {"threads", ARG_INT, "N", "compute threads (0, the default: every core this process may use)", COMP_NONE},
    {"mem", ARG_SIZE, "SIZE", "memory bound, 300M or 4G (default: none)", COMP_NONE},
    {0},
};
const Command command_forward = {
    .name = "forward",
    .args = "",
    .summary = "Run one text through the model and write every step to a safetensors file.",
    .flags = CMD_CLI_ONLY | CMD_NO_LOG,
    .options = forward_options,
    .run = run_forward,
};
