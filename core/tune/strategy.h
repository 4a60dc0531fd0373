#ifndef SLIM_TUNE_STRATEGY_H
#define SLIM_TUNE_STRATEGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tune/demand.h"

/* What decides which recipe is tried next. A strategy is played from its beginning at every step, with all answers so far
 * (ranking, results of tries), up to the first question that has none: so it is deterministic, has no state to save, and
 * goes on after a kill by the same answers. */

typedef enum RankScope { RANK_BLOCKS, RANK_GROUPS, RANK_LINEARS } RankScope;
extern const char *const rank_scope_names[]; /* "block", "group", "linear"; NULL-terminated */

/* A ranking that a strategy needs: what costs most when quantized comes first. */
typedef struct RankWish {
    RankScope scope;
    const char *metric;          /* of core/metric */
    const char *const *modules;  /* [nmodules] patterns of what is quantized */
    int nmodules;
    const char *dataset;         /* calibration set as a recipe names it */
    const char *recipe;          /* text of the document whose schemes are ranked; NULL: MXFP4, as the peer always does */
    bool bytes;                  /* RankRow.bytes is needed */
} RankWish;

typedef struct RankRow {
    const char *name;            /* of the block, group or linear: "model.layers.7" */
    double score;                /* NaN: the worst */
    int npatterns;               /* exclude patterns that leave exactly it in float; 0: "*NAME.*" of a block, NAME of a linear */
    const char *const *patterns;
    int64_t bytes;               /* more when in float; -1: not known */
} RankRow;

/* A recipe that a strategy wants tried. Borrowed until the strategy is freed. */
typedef struct Practice {
    const char *id;              /* config_id in its metadata */
    const char *text;            /* the whole document */
    size_t len;
    const char *anti;            /* its outlier suppression in short: "iter_smooth(0.5)", ""; several are joined by ", " */
    const char *const *patterns; /* [npatterns] exclude list that the strategy made, the template's own patterns included */
    int npatterns;
    int level;                   /* how many rows of the ranking stay in float */
} Practice;

typedef enum StepKind {
    STEP_RANK,    /* `wish` is needed: strategy_ranked */
    STEP_TRY,     /* `practice`: strategy_answered */
    STEP_MET,     /* `practice` is the answer; it was tried and meets the demand */
    STEP_NOT_MET, /* nothing does; `practice` was tried last and is the closest (text NULL: there is none) */
    STEP_REFUSED  /* the strategy can't go on: `text` */
} StepKind;

typedef struct StrategyStep {
    StepKind kind;
    const RankWish *wish;
    const Practice *practice;
    const char *text;
} StrategyStep;

typedef struct PlanRows PlanRows;
/* What a strategy is given beside its settings; borrowed. */
typedef struct StrategyKit {
    const RecipeRows *rows;
    bool peer;                   /* --compat peer: step by step as the peer's */
    const Model *model;          /* NULL: names are not checked against it */
    const char *model_type;      /* into metadata.verified_model_types; NULL: none */
    const char *experience;      /* path of the table of standing_high_with_experience; NULL: there is none */
    const Expectation *expect;   /* [nexpect] */
    int nexpect;
    void (*log)(void *ctx, int level, const char *text); /* may be NULL */
    void *ctx;
} StrategyKit;

typedef struct Play Play;
struct Draft;
struct DraftMade;
typedef struct StrategyType {
    const char *name;            /* strategy.type */
    const Object *object;        /* all keys of `strategy` */
    bool peer;                   /* the peer has it; others are refused under --compat peer */
    /* Its settings from the checked mapping (the document outlives them); NULL: no memory. */
    const void *(*settings)(Arena *a, const YamlNode *map);
    /* What it needs to play, into *state. May be NULL: state is then settings. */
    Status (*open)(void **state, const void *settings, const StrategyKit *kit, Error *err);
    void (*close)(void *state);
    /* From the beginning to the first question that has no answer: tune/play.h. */
    void (*play)(const void *state, Play *p);
    /* The document of a draft (play.h) under this id; nodes and texts in the arena. */
    Status (*make)(const void *state, Arena *a, const struct Draft *d, const char *id, struct DraftMade *out, Error *err);
    /* metadata.config_id of practices, without their number. */
    const char *(*id)(const void *state);
} StrategyType;

typedef struct Strategy Strategy;
/* settings: as type->settings made them. All borrowed. */
Status strategy_open(Strategy **out, const StrategyType *type, const void *settings, const StrategyKit *kit, Error *err);
void strategy_free(Strategy *s);
/* What is to be done next: the same until it was answered. */
Status strategy_next(Strategy *s, StrategyStep *out, Error *err);
/* The ranking that was wished for, in any order; copied, sorted by falling score (NaN first, equal scores in the order
 * given). */
Status strategy_ranked(Strategy *s, const RankRow *rows, int64_t n, Error *err);
/* What the practice of STEP_TRY came to; copied. */
Status strategy_answered(Strategy *s, const EvalResult *r, Error *err);

#endif
