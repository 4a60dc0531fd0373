#include "text/added.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/unicode.h"

/* Children of a node are a list; the root's are a table, for there every byte of a text is looked up. */
struct AddedNode {
    uint32_t child, sibling; /* 0: none; node 0 is the root */
    int32_t token;           /* that ends here, or -1 */
    unsigned char byte;
};

static uint32_t child_of(const AddedSet *a, uint32_t node, unsigned char byte)
{
    if (node == 0)
        return a->first[byte];
    uint32_t c = a->node[node].child;
    while (c && a->node[c].byte != byte)
        c = a->node[c].sibling;
    return c;
}

Status added_insert(AddedSet *a, const char *content, size_t len, const struct AddedToken *token, Error *err)
{
    if (!len)
        return ST_OK;
    if (a->nodes + len + 1 > UINT32_MAX || !mem_grow(&a->node, &a->node_cap, a->nodes + len + 1, sizeof *a->node) ||
        !mem_grow(&a->token, &a->token_cap, a->count + 1, sizeof *a->token))
        return error_nomem(err, "added tokens");
    if (!a->nodes)
        a->node[a->nodes++] = (struct AddedNode){.token = -1};
    uint32_t at = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)content[i];
        uint32_t next = child_of(a, at, byte);
        if (!next) {
            next = (uint32_t)a->nodes++;
            a->node[next] = (struct AddedNode){.token = -1, .byte = byte, .sibling = at ? a->node[at].child : 0};
            if (at)
                a->node[at].child = next;
            else
                a->first[byte] = next;
        }
        at = next;
    }
    a->node[at].token = (int32_t)a->count;
    a->token[a->count++] = *token;
    return ST_OK;
}

void added_free(AddedSet *a)
{
    free(a->token);
    free(a->node);
    memset(a, 0, sizeof *a);
}

/* The longest token at text[i]: its index and end. */
static int32_t match_at(const AddedSet *a, const char *text, size_t len, size_t i, size_t *end)
{
    int32_t best = -1;
    uint32_t at = 0;
    for (; i < len && (at = child_of(a, at, (unsigned char)text[i])); i++)
        if (a->node[at].token >= 0) {
            best = a->node[at].token;
            *end = i + 1;
        }
    return best;
}

static bool alone(const char *text, size_t len, size_t start, size_t end)
{
    int n;
    return !(start > 0 && unicode_is_word(utf8_next(utf8_before(text + start), &n))) &&
           !(end < len && unicode_is_word(utf8_next(text + end, &n)));
}

bool added_next(const AddedSet *a, const char *text, size_t len, size_t *pos, size_t *scan, AddedSpan *span)
{
    if (*pos >= len)
        return false;
    size_t end = 0;
    for (size_t i = *scan; a->count && i < len; i++) {
        int32_t k = a->first[(unsigned char)text[i]] ? match_at(a, text, len, i, &end) : -1;
        if (k < 0)
            continue;
        const struct AddedToken *t = &a->token[k];
        size_t start = i;
        int n;
        if (t->single_word && !alone(text, len, start, end)) {
            i = end - 1;
            continue;
        }
        while (t->lstrip && start > *pos && unicode_is_space(utf8_next(utf8_before(text + start), &n)))
            start = (size_t)(utf8_before(text + start) - text);
        if (start > *pos) { /* the text before it first; the token is found again */
            *span = (AddedSpan){.start = *pos, .end = start, .id = -1};
            *pos = start;
            *scan = i;
            return true;
        }
        size_t stop = end;
        while (t->rstrip && stop < len && unicode_is_space(utf8_next(text + stop, &n)))
            stop += (size_t)n;
        *span = (AddedSpan){.start = start, .end = stop, .id = t->id};
        *pos = *scan = stop;
        return true;
    }
    *span = (AddedSpan){.start = *pos, .end = len, .id = -1};
    *pos = len;
    return true;
}
