#include "tune/loopkeys.h"

#include <stdio.h>
#include <string.h>

#include <nettle/md5.h>

#include "tune/canon.h"

static void md5_hex(const Str *text, char out[65])
{
    uint8_t b[MD5_DIGEST_SIZE];
    struct md5_ctx ctx;
    md5_init(&ctx);
    md5_update(&ctx, text->len, (const uint8_t *)str_text(text));
    md5_digest(&ctx, sizeof b, b);
    for (size_t i = 0; i < sizeof b; i++)
        snprintf(out + 2 * i, 3, "%02x", b[i]);
}

static void text_hex(const Str *text, bool peer, char out[65])
{
    if (peer) {
        md5_hex(text, out);
        return;
    }
    Digest d = digest_of(str_text(text), text->len);
    digest_hex(&d, out);
}

Status loop_evaluation_key(const Plan *p, const PlanRows *rows, bool peer, const char *model_id, const char *data_id, char out[65],
                           Error *err)
{
    const EvaluatorType *e = plan_evaluator(p);
    Str text = {0};
    canon_object(rows->recipe, plan_evaluation(p), e->object, peer ? NULL : "demand", &text);
    Status st = text.oom ? error_nomem(err, "a key") : ST_OK;
    if (st == ST_OK && peer) {
        md5_hex(&text, out);
    } else if (st == ST_OK) {
        Hasher h;
        hasher_init(&h);
        hasher_str(&h, "slimscope tune 1");
        hasher_str(&h, model_id ? model_id : "");
        hasher_str(&h, data_id ? data_id : "");
        hasher_str(&h, str_text(&text));
        if (e->digest)
            st = e->digest(plan_evaluator_settings(p), &h, err);
        Digest d = hasher_end(&h);
        digest_hex(&d, out);
    }
    str_free(&text);
    return st;
}

Status loop_practice_key(const PlanRows *rows, bool peer, const char *text, size_t len, char out[65], Error *err)
{
    YamlDoc *doc;
    Str canon = {0};
    RETURN_IF_ERROR(yaml_parse(&doc, text, len, "practice", err));
    canon_practice(rows->recipe, yaml_root(doc), &canon);
    yaml_doc_free(doc);
    Status st = canon.oom ? error_nomem(err, "a key") : ST_OK;
    if (st == ST_OK)
        text_hex(&canon, peer, out);
    str_free(&canon);
    return st;
}

void loop_ranking_key(const RankWish *w, const char *model_id, const char *data_id, char out[65])
{
    Hasher h;
    hasher_init(&h);
    hasher_str(&h, "slimscope ranking 1");
    hasher_str(&h, model_id ? model_id : "");
    hasher_str(&h, data_id ? data_id : "");
    hasher_u64(&h, (uint64_t)w->scope);
    hasher_str(&h, w->metric);
    hasher_str(&h, w->dataset);
    hasher_str(&h, w->recipe ? w->recipe : "");
    hasher_u64(&h, w->bytes);
    for (int i = 0; i < w->nmodules; i++)
        hasher_str(&h, w->modules[i]);
    Digest d = hasher_end(&h);
    digest_hex(&d, out);
}
