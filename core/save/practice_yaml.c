#include "save/practice_yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/file.h"
#include "io/yaml.h"
#include "save/pyyaml.h"

enum { TOP_MAX = 64, META = 5 };

/* A mapping made of borrowed nodes. */
typedef struct Made {
    YamlNode map;
    YamlNode names[META];
    YamlNode *keys[TOP_MAX], *vals[TOP_MAX];
} Made;

static void add(Made *m, YamlNode *key, YamlNode *val)
{
    m->keys[m->map.count] = key;
    m->vals[m->map.count++] = val;
}

static void made_init(Made *m)
{
    *m = (Made){.map = {.kind = YAML_MAP}};
    m->map.keys = m->keys;
    m->map.vals = m->vals;
}

static YamlNode string_node(const char *s)
{
    return (YamlNode){.kind = YAML_STR, .text = s, .len = strlen(s)};
}

static int index_of(const YamlNode *map, const char *key)
{
    for (int i = 0; map && map->kind == YAML_MAP && i < map->count; i++)
        if (map->keys[i]->kind == YAML_STR && strcmp(map->keys[i]->text, key) == 0)
            return i;
    return -1;
}

/* What the score's field of the peer's class makes of an integer or a numeric string. */
static void as_score(YamlNode *v)
{
    if (v->kind == YAML_INT) {
        v->f = (double)v->i;
        v->kind = YAML_FLOAT;
    } else if (v->kind == YAML_BOOL) {
        v->f = v->b ? 1 : 0;
        v->kind = YAML_FLOAT;
    } else if (v->kind == YAML_STR) {
        char *end;
        double d = strtod(v->text, &end);
        if (end != v->text && *end == 0) {
            v->f = d;
            v->kind = YAML_FLOAT;
        }
    }
}

typedef struct Metadata {
    Made made;
    YamlNode defaults[META], score;
} Metadata;

static YamlNode *metadata_of(const YamlNode *given, Metadata *m)
{
    static const char *const keys[META] = {"config_id", "score", "label", "verified_model_types", "verified_tags"};
    made_init(&m->made);
    m->defaults[0] = string_node("Unknown");
    m->defaults[1] = (YamlNode){.kind = YAML_FLOAT, .f = 100};
    m->defaults[2] = (YamlNode){.kind = YAML_MAP};
    m->defaults[3] = (YamlNode){.kind = YAML_SEQ};
    m->defaults[4] = (YamlNode){.kind = YAML_MAP};
    for (int k = 0; k < META; k++) {
        int at = index_of(given, keys[k]);
        YamlNode *v = at >= 0 ? given->vals[at] : &m->defaults[k];
        if (k == 1) {
            m->score = *v;
            as_score(&m->score);
            v = &m->score;
        }
        m->made.names[k] = string_node(keys[k]);
        add(&m->made, &m->made.names[k], v);
    }
    m->made.map.own = m->made.map.count;
    return &m->made.map;
}

static Status dump(const YamlNode *root, const char *name, Str *out, Error *err)
{
    static const char *const first[] = {"apiversion", "spec", "metadata"};
    if (!root || root->kind != YAML_MAP || root->count + 3 > TOP_MAX)
        return error_set(err, ST_DATA, "'%s' is no recipe: a mapping with apiversion and spec is expected", name);
    Made *top = mem_zarray(1, sizeof *top);
    Metadata *meta = mem_zarray(1, sizeof *meta);
    if (!top || !meta) {
        free(top);
        free(meta);
        return error_nomem(err, name);
    }
    made_init(top);
    for (int k = 0; k < 3; k++) {
        int at = index_of(root, first[k]);
        top->names[k] = string_node(first[k]);
        if (k == 2)
            add(top, &top->names[k], metadata_of(at >= 0 ? root->vals[at] : NULL, meta));
        else if (at >= 0)
            add(top, &top->names[k], root->vals[at]);
    }
    for (int i = 0; i < root->count; i++) {
        const YamlNode *key = root->keys[i];
        bool known = false;
        for (int k = 0; k < 3; k++)
            known = known || (key->kind == YAML_STR && strcmp(key->text, first[k]) == 0);
        if (!known)
            add(top, root->keys[i], root->vals[i]);
    }
    top->map.own = top->map.count;
    pyyaml_dump(&top->map, out);
    free(top);
    free(meta);
    return out->oom ? error_nomem(err, name) : ST_OK;
}

Status practice_yaml(const char *text, size_t len, const char *name, Str *out, Error *err)
{
    YamlDoc *doc;
    RETURN_IF_ERROR(yaml_parse(&doc, text, len, name, err));
    Status st = dump(yaml_root(doc), name, out, err);
    yaml_doc_free(doc);
    return st;
}

void practice_yaml_name(const char *model_type, char out[320])
{
    snprintf(out, 320, "%.250s_best_practice.yaml", model_type && model_type[0] ? model_type : "default");
    for (char *p = out; *p; p++)
        if (*p == '/')
            *p = '_';
}
