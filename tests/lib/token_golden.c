#include "tests/lib/token_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "io/file.h"
#include "text/tokenizer.h"

/* cJSON ends a string at an escaped NUL: such an escape is read as a private code point and put back afterwards. */
#define STAND_IN "\xee\xbf\xbf" /* U+EFFF */

static cJSON *golden_texts(const char *path)
{
    char *text;
    size_t len;
    Error err;
    assert_int_equal(file_read(path, 1 << 24, &text, &len, &err), ST_OK);
    for (char *at = text; (at = strstr(at, "\\u0000")) != NULL; at += 6)
        memcpy(at, "\\uefff", 6);
    cJSON *root = cJSON_ParseWithLength(text, len);
    free(text);
    assert_true(cJSON_IsArray(root));
    return root;
}

static size_t put_back(char *s)
{
    size_t n = 0;
    for (const char *at = s; *at;) {
        bool nul = strncmp(at, STAND_IN, 3) == 0;
        s[n++] = nul ? 0 : *at;
        at += nul ? 3 : 1;
    }
    return n;
}

static void same_ids(const char *kind, int text, bool special, const cJSON *want, const int32_t *ids, size_t n)
{
    const cJSON *e = want->child;
    for (size_t i = 0; i < n || e; i++, e = e->next)
        if (!e || i >= n || ids[i] != (int32_t)e->valuedouble)
            fail_msg("%s, text %d, %s special tokens: id %zu differs: %d of %zu, wanted %d of %d", kind, text,
                     special ? "with" : "without", i, i < n ? (int)ids[i] : -1, n, e ? e->valueint : -1,
                     cJSON_GetArraySize(want));
}

void token_golden(const char *tokenizer, const char *golden)
{
    Error err = {0};
    Tokenizer *t;
    if (tokenizer_open(&t, tokenizer, &err) != ST_OK)
        fail_msg("%s", err.text);
    cJSON *root = golden_texts(golden), *e;
    int seen = 0;
    cJSON_ArrayForEach(e, root) {
        char *text = cJSON_GetObjectItem(e, "text")->valuestring;
        size_t len = put_back(text);
        for (int special = 0; special < 2; special++) {
            int32_t *ids;
            size_t n;
            assert_int_equal(tokenizer_encode(t, text, len, special, NULL, &ids, &n, &err), ST_OK);
            same_ids(golden, seen, special, cJSON_GetObjectItem(e, special ? "ids" : "ids_no_special"), ids, n);
            for (size_t i = 0; i < n; i++)
                assert_true(ids[i] >= 0);
            free(ids);
        }
        seen++;
    }
    assert_int_equal(seen, 62);
    cJSON_Delete(root);
    tokenizer_free(t);
}
