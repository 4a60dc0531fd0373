#ifndef SLIM_IO_YAML_H
#define SLIM_IO_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* A YAML document as a tree built from libyaml events: line, column and byte span of every node kept, YAML 1.1 (PyYAML)
 * resolution of plain scalars (specs/config.md 1). */
typedef enum YamlKind { YAML_NULL, YAML_BOOL, YAML_INT, YAML_FLOAT, YAML_STR, YAML_DATE, YAML_SEQ, YAML_MAP } YamlKind;
typedef enum YamlStyle {
    YAML_PLAIN,
    YAML_SINGLE,
    YAML_DOUBLE,
    YAML_LITERAL,
    YAML_FOLDED,
    YAML_FLOW,
    YAML_BLOCK
} YamlStyle;

typedef struct YamlNode YamlNode;
struct YamlNode {
    YamlKind kind;
    YamlStyle style;
    int line, column;        /* 1-based */
    size_t begin, end; /* byte span in the text, without anchor and tag; a block collection ends with its last item */
    size_t start;            /* where the anchor or tag before it starts; else begin */
    const char *text;        /* scalars: the text as written (escapes resolved) */
    size_t len;
    bool b;                  /* YAML_BOOL */
    int64_t i;               /* YAML_INT */
    double f;                /* YAML_FLOAT */
    const char *anchor;      /* &name, or NULL */
    int alias_uses;          /* how many *name refer to this node */
    bool from_alias;         /* this occurrence was reached through an alias: `target` is the anchored node */
    const YamlNode *target;
    int count;               /* items of a sequence, pairs of a mapping */
    YamlNode **items;        /* sequence: count nodes */
    YamlNode **keys, **vals; /* mapping: count pairs, merge keys expanded */
    int own;                 /* mapping: the first `own` pairs are its own, the rest came through merge keys */
    int64_t expanded;        /* nodes below it and itself, aliases counted as what they stand for */
    int depth;               /* levels below it, aliases entered */
};

typedef struct YamlDoc YamlDoc;
/* Limits of a document; aliases count as what they stand for. */
enum { YAML_BYTES_MAX = 1 << 20, YAML_DEPTH_MAX = 100, YAML_NODES_MAX = 500000 };

/* text is copied. Limits as above; one document; UTF-8; duplicate keys, unknown or recursive aliases and non-standard
 * tags are errors `name:line:column: …`. Caller frees. */
Status yaml_parse(YamlDoc **out, const char *text, size_t len, const char *name, Error *err);
void yaml_doc_free(YamlDoc *d); /* (libyaml exports a yaml_free of its own) */
const YamlNode *yaml_root(const YamlDoc *d); /* NULL for an empty document */
const char *yaml_source(const YamlDoc *d, size_t *len);
/* Every alias occurrence of the text in order, those of merge keys too. */
YamlNode *const *yaml_aliases(const YamlDoc *d, int *n);
/* What a plain scalar of this text is ("1e-5" is a string): specs/config.md 1. */
YamlKind yaml_resolve(const char *text, size_t len, bool *b, int64_t *i, double *f);
const char *yaml_kind_name(YamlKind k); /* "list", "integer", … for messages */
const YamlNode *yaml_get(const YamlNode *map, const char *key); /* NULL when absent */

#endif
