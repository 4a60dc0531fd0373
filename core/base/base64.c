#include "base/base64.h"

#include <nettle/base64.h>

void base64_put(Str *b, const void *bytes, size_t n)
{
    enum { GROUPS = 256 };
    const unsigned char *p = bytes;
    char digits[BASE64_ENCODE_RAW_LENGTH(3 * GROUPS)];
    for (size_t i = 0, k; i < n; i += k) {
        k = n - i < 3 * GROUPS ? n - i : 3 * GROUPS;
        base64_encode_raw(digits, k, p + i);
        str_append(b, digits, BASE64_ENCODE_RAW_LENGTH(k));
    }
}

bool base64_get(const char *s, size_t n, void *out, size_t *len)
{
    if (n % 4)
        return false;
    size_t pad = n && s[n - 1] == '=' ? 1 + (size_t)(s[n - 2] == '=') : 0;
    struct base64_decode_ctx ctx;
    base64_decode_init(&ctx);
    *len = n / 4 * 3;
    /* nettle skips white space: then fewer bytes come out than the digits hold */
    return base64_decode_update(&ctx, len, out, n, s) && base64_decode_final(&ctx) && *len == n / 4 * 3 - pad;
}
