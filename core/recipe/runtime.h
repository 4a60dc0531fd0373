#ifndef SLIM_RECIPE_RUNTIME_H
#define SLIM_RECIPE_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/model.h"
#include "qir/scheme.h"
#include "recipe/recipe.h"

/* What inference engines load of what is written here: one table of rules (runtime_table.c), and one function that
 * holds a recipe against it, wherever a recipe meets a model. */

/* How an engine runs a linear that is quantized. A shared expert is a linear to all of them, and the head is never
 * quantized here. */
typedef enum RuntimeModule { RT_LINEAR = 1, RT_EXPERT = 2 /* of those a router chooses from */ } RuntimeModule;

enum { RT_SAVERS_MAX = 2 };
/* An engine. */
typedef struct Runtime {
    const char *name;                     /* "vllm-ascend" */
    const char *saver[RT_SAVERS_MAX + 1]; /* types of spec.save that it reads; the first is written for it; ends with
                                           * NULL */
} Runtime;
extern const Runtime runtime_table[]; /* ends with name == NULL */
/* The values of --runtime and of the setting. */
#define RUNTIME_WORDS "vllm-ascend|mindie|vllm|transformers|sglang"
/* Row of this name, NULL when there is none. */
const Runtime *runtime_find(const char *name);
/* The engine a saver writes for, NULL: none. */
const Runtime *runtime_of_saver(const char *saver);

/* A scheme that an engine has a class for. */
typedef struct RuntimeClass {
    const char *engine, *saver;
    const char *scheme;       /* as scheme_table calls it */
    QScope weight;            /* scope of its weights */
    unsigned modules;         /* RuntimeModule bits */
    int multiple;             /* inputs of a linear must be a multiple of it; 0: any */
} RuntimeClass;
extern const RuntimeClass runtime_classes[]; /* ends with engine == NULL */

typedef enum RuntimeKind {
    RULE_PATTERN,   /* each pattern selects a linear */
    RULE_GROUP,     /* the groups of these labels have one level */
    RULE_GROUP_OR_FLOAT, /* the same, but some of a group may stay float */
    RULE_KEPT,      /* Linear.kept is float */
    RULE_CLASS,     /* runtime_classes has the scheme */
    RULE_SHAPE,     /* RuntimeClass.multiple */
    RULE_STACKED,   /* experts of families that store them stacked are float */
    RULE_TARGETS,   /* --compat peer: all linears have one kind of activation */
    RULE_SAVER      /* the recipe names a saver that the engine reads */
} RuntimeKind;
/* A rule of an engine. */
typedef struct RuntimeRule {
    RuntimeKind kind;
    const char *name;         /* "split-group" */
    const char *engine;       /* NULL: of every engine */
    const char *saver;        /* of what it writes alone; NULL: of all */
    const char *labels[5];    /* of fused groups; ends with NULL */
    const char *says;         /* the sentence: what happens there */
} RuntimeRule;
extern const RuntimeRule runtime_rules[]; /* ends with name == NULL */

/* A rule that a recipe breaks. */
typedef struct RuntimeFinding {
    const RuntimeRule *rule;
    const char *engine;       /* NULL: every engine */
    int64_t count;            /* linears, groups or patterns that break it */
    int64_t linear;           /* the first of the linears, -1: it isn't about linears */
    int line;                 /* in the recipe, 0: it isn't about one */
    char *text;               /* one line: "vllm-ascend split-group: 2 fused groups split, first …" */
} RuntimeFinding;
typedef struct RuntimeReport {
    RuntimeFinding *f;
    size_t n, cap;
    int patterns;             /* of the recipe, an include of everything aside */
} RuntimeReport;
void runtime_report_fini(RuntimeReport *r);

typedef struct RuntimeQuery {
    const Recipe *recipe;
    const Model *model;       /* NULL: what can be said without */
    const int16_t *level;     /* [model.nlinears]; NULL: as the recipe assigns them */
    const Runtime *runtime;   /* NULL: the engine that each saver of the recipe writes for */
    bool peer;                /* --compat peer */
} RuntimeQuery;
/* Holds the recipe against every rule: one finding a rule (a rule and scheme, where it is about schemes), with how many
 * and the first. The report is the caller's in every case. A recipe without linear_quant entries breaks nothing. */
Status runtime_check(const RuntimeQuery *q, RuntimeReport *out, Error *err);

#endif
