#include "io/filekind.h"

#include <string.h>

static const struct {
    const char *magic;
    size_t n;
    const char *what;
} kinds[] = {
    {"version https://git-lfs", 23, "is a Git LFS pointer, not the file itself: fetch it with 'git lfs pull'"},
    {"\x1f\x8b", 2, "is a gzip file: unpack it"},
    {"\x28\xb5\x2f\xfd", 4, "is a Zstandard file: unpack it"},
    {"\xfd" "7zXZ", 5, "is an xz file: unpack it"},
    {"PK\x03\x04", 4, "is a zip archive (as PyTorch's .bin and .pt files are): give the file it was made from"},
    {"PAR1", 4, "is a Parquet file: convert it to .jsonl"},
    {"ARROW1", 6, "is an Arrow file: convert it to .jsonl"},
    {"GGUF", 4, "is a GGUF file: give the Hugging Face checkpoint it was made from"},
    {"\xff\xfe", 2, "is UTF-16 text: convert it to UTF-8"},
    {"\xfe\xff", 2, "is UTF-16 text: convert it to UTF-8"},
    {"<!DOCTYPE", 9, "is a web page, not the file: download it again"},
    {"<!doctype", 9, "is a web page, not the file: download it again"},
    {"<html", 5, "is a web page, not the file: download it again"},
};

const char *file_foreign_kind(const void *bytes, size_t n)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (n >= kinds[i].n && memcmp(bytes, kinds[i].magic, kinds[i].n) == 0)
            return kinds[i].what;
    return NULL;
}
