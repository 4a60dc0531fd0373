#include "tests/lib/npz.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

static uint32_t le(const uint8_t *p, int n)
{
    uint32_t v = 0;
    for (int i = n - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static uint8_t *slurp(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("can't open '%s'", path);
    fseek(f, 0, SEEK_END);
    *len = (size_t)ftell(f);
    rewind(f);
    uint8_t *p = malloc(*len + 1);
    assert_non_null(p);
    assert_int_equal(fread(p, 1, *len, f), *len);
    fclose(f);
    return p;
}

static void parse_npy(NpyArray *a, const uint8_t *p, size_t n)
{
    assert_true(n > 10 && memcmp(p, "\x93NUMPY", 6) == 0);
    size_t head = p[6] == 1 ? 10 + le(p + 8, 2) : 12 + le(p + 8, 4);
    assert_true(head < n || (head == n));
    char text[512] = {0};
    size_t at = p[6] == 1 ? 10 : 12;
    assert_true(head - at < sizeof text);
    memcpy(text, p + at, head - at);
    const char *d = strstr(text, "'descr': '");
    assert_non_null(d);
    d += 10;
    assert_true(d[0] == '<' || d[0] == '|');
    a->kind = d[1];
    a->size = atoi(d + 2);
    assert_non_null(strstr(text, "'fortran_order': False"));
    const char *s = strstr(text, "'shape': (");
    assert_non_null(s);
    s += 10;
    a->count = 1;
    while (*s != ')') {
        char *end;
        long v = strtol(s, &end, 10);
        assert_true(end != s && a->ndim < 4);
        a->shape[a->ndim++] = v;
        a->count *= v;
        s = end;
        while (*s == ',' || *s == ' ')
            s++;
    }
    size_t bytes = (size_t)a->count * (size_t)a->size;
    assert_int_equal(n - head, bytes);
    a->data = malloc(bytes + 1);
    assert_non_null(a->data);
    memcpy(a->data, p + head, bytes);
}

static void inflate_raw(const uint8_t *src, uint32_t n, uint8_t *dst, uint32_t out)
{
    z_stream z = {.next_in = (uint8_t *)(uintptr_t)src, .avail_in = n, .next_out = dst, .avail_out = out};
    assert_int_equal(inflateInit2(&z, -15), Z_OK);
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    inflateEnd(&z);
}

Npz *npz_open(const char *path)
{
    size_t len;
    uint8_t *f = slurp(path, &len);
    assert_true(len >= 22);
    size_t end = len - 22;
    while (end > 0 && le(f + end, 4) != 0x06054b50u)
        end--;
    int n = (int)le(f + end + 10, 2);
    size_t at = le(f + end + 16, 4);
    Npz *z = calloc(1, sizeof *z);
    assert_non_null(z);
    z->arrays = calloc((size_t)n, sizeof *z->arrays);
    assert_non_null(z->arrays);
    for (int i = 0; i < n; i++) {
        const uint8_t *e = f + at;
        assert_int_equal(le(e, 4), 0x02014b50u);
        uint32_t method = le(e + 10, 2), packed = le(e + 20, 4), size = le(e + 24, 4), nl = le(e + 28, 2);
        const uint8_t *local = f + le(e + 42, 4);
        const uint8_t *data = local + 30 + le(local + 26, 2) + le(local + 28, 2);
        NpyArray *a = &z->arrays[z->count++];
        assert_true(nl > 4 && nl - 4 < sizeof a->name);
        memcpy(a->name, e + 46, nl - 4); /* without ".npy" */
        uint8_t *plain = malloc(size + 1u);
        assert_non_null(plain);
        if (method == 8)
            inflate_raw(data, packed, plain, size);
        else
            memcpy(plain, data, size);
        parse_npy(a, plain, size);
        free(plain);
        at += 46 + nl + le(e + 30, 2) + le(e + 32, 2);
    }
    free(f);
    return z;
}

void npz_free(Npz *z)
{
    if (!z)
        return;
    for (int i = 0; i < z->count; i++)
        free(z->arrays[i].data);
    free(z->arrays);
    free(z);
}

static const NpyArray *find(const Npz *z, const char *name)
{
    for (int i = 0; i < z->count; i++)
        if (strcmp(z->arrays[i].name, name) == 0)
            return &z->arrays[i];
    return NULL;
}

#define FORMAT_NAME(buf, fmt)                     \
    do {                                          \
        va_list ap_;                              \
        va_start(ap_, fmt);                       \
        vsnprintf(buf, sizeof(buf), fmt, ap_);    \
        va_end(ap_);                              \
    } while (0)

const NpyArray *npz_find(const Npz *z, const char *name, ...)
{
    char buf[128];
    FORMAT_NAME(buf, name);
    return find(z, buf);
}

static const NpyArray *need(const Npz *z, const char *name, char kind, int size)
{
    const NpyArray *a = find(z, name);
    if (!a)
        fail_msg("no array '%s'", name);
    if (a->kind != kind || a->size != size)
        fail_msg("array '%s' is %c%d", name, a->kind, a->size);
    return a;
}

const float *npz_f32(const Npz *z, const NpyArray **a, const char *name, ...)
{
    char buf[128];
    FORMAT_NAME(buf, name);
    const NpyArray *f = need(z, buf, 'f', 4);
    if (a)
        *a = f;
    return f->data;
}

const int8_t *npz_i8(const Npz *z, const NpyArray **a, const char *name, ...)
{
    char buf[128];
    FORMAT_NAME(buf, name);
    const NpyArray *f = need(z, buf, 'i', 1);
    if (a)
        *a = f;
    return f->data;
}
