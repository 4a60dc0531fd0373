#ifndef SLIM_TUNE_STANDING_H
#define SLIM_TUNE_STANDING_H

#include "tune/play.h"

/* What the strategies that build on a template of their own share: its keys, its ranking, its practices. */

/* Keys of a mapping `strategy`, read. Texts and nodes are of its document. */
typedef struct StandingSettings {
    const YamlNode *strategies; /* list of lists of processors; NULL: one that is empty */
    const YamlNode *spec;       /* NULL: standing_default */
    const char *id;
    const YamlNode *label;
    RankScope scope;
    const char *metric;         /* NULL: block_error */
} StandingSettings;
const void *standing_settings(Arena *a, const YamlNode *map);

/* Values of fields of such strategies. */
extern const Object standing_metadata_object;
#define FIELD_RANKING                                                                                        \
    {.key = "scope", .type = F_ENUM, .words = rank_scope_names, .ours = true},                               \
        {.key = "metric", .type = F_STR, .filled = true, .longest = 100, .ours = true}
void standing_check_template(Check *c, const YamlNode *v, const Field *f);
void standing_check_strategies(Check *c, const YamlNode *v, const Field *f);

typedef struct Standing {
    const StrategyKit *kit;
    StandingSettings set;
    Arena arena;
    YamlDoc *own;               /* the document of set.spec where it isn't the plan's */
    RankWish wish;
    const YamlNode **front;     /* [n] lists of processors */
    int n;
} Standing;
/* own: as Standing, taken over, may be NULL. bytes: as RankWish. */
Status standing_new(Standing **out, const StandingSettings *set, YamlDoc *own, bool bytes, const StrategyKit *kit, Error *err);
Status standing_open(void **state, const void *settings, const StrategyKit *kit, Error *err);
void standing_close(void *state);
void standing_play(const void *state, Play *p);
Status standing_make(const void *state, Arena *a, const Draft *d, const char *id, DraftMade *out, Error *err);
const char *standing_id(const void *state);

#endif
