#include "text/flow.h"

#include "text/unicode.h"

/* Bytes at the end of s that may be the beginning of a character. */
static size_t open_end(const char *s, size_t n)
{
    for (size_t k = 1; k <= 3 && k <= n; k++) {
        unsigned char c = (unsigned char)s[n - k];
        size_t len = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 0;
        if (c < 0x80 || c >= 0xc0)
            return len > k ? k : 0;
    }
    return 0;
}

void text_flow_put(TextFlow *f, const Tokenizer *t, int32_t id, Str *out)
{
    tokenizer_decode(t, id, &f->held);
    const char *s = str_text(&f->held);
    size_t n = f->held.len, open = open_end(s, n);
    Str rest = {0};
    str_append(&rest, s + n - open, open);
    utf8_repair(out, s, n - open);
    str_free(&f->held);
    f->held = rest;
}

void text_flow_end(TextFlow *f, Str *out)
{
    utf8_repair(out, str_text(&f->held), f->held.len);
    str_free(&f->held);
}
