#ifndef SLIM_EVALUATE_TASK_H
#define SLIM_EVALUATE_TASK_H

#include "evaluate/subject.h"
#include "evaluate/taskfile.h"
#include "text/chat.h"
#include "text/tokenizer.h"
#include "tune/evaluator.h"

/* Answering the questions of a file: a choice by likelihood, an exact answer by greedy generation. */

typedef enum TaskNorm { NORM_NONE, NORM_TOKENS, NORM_BYTES, TASK_NORMS } TaskNorm;          /* of a choice's likelihood */
typedef enum TaskMatch { MATCH_EQUAL, MATCH_CONTAINS, MATCH_NUMBER, TASK_MATCHES } TaskMatch; /* of a reply */

/* How a data set of a plan is asked. */
typedef struct TaskSet {
    const char *name, *path;
    TaskKind kind;
    int64_t limit;             /* the first so many questions; 0: all */
    bool chat;                 /* in the model's chat template */
    /* choice */
    TaskNorm norm;
    /* exact */
    int64_t max_tokens;
    TaskMatch match;
    const char *extract;       /* regular expression (PCRE2): its last match in the reply, the first group where it has one;
                                * NULL: the reply is taken whole */
    const char *const *until;  /* [nuntil] texts at which a reply ends; nuntil -1: where a line ends, or, of a number, before
                                * the next question */
    int nuntil;
    bool precheck;             /* replies that are no language make the try bad */
    bool percent;              /* accuracy from 0 to 100 */
    bool base;                 /* the float model is asked, too */
} TaskSet;

/* Who answers. */
typedef struct TaskModel {
    Subject *subject;
    Dist *dist;                /* ranks that ask the same model, each a part of the questions; NULL: alone */
    const Tokenizer *tok;
    const ChatForm *chat;      /* NULL without TaskSet.chat */
    const int32_t *stop;       /* [nstop] */
    int nstop;
    int64_t vocab;
    bool peer;
} TaskModel;

typedef struct TaskScore {
    int64_t right, n;
    int64_t garbled;           /* replies that fail the precheck, and of the first of them the rule: */
    const char *rule;
} TaskScore;

/* The keys of a data set in a plan, and what a checked mapping of them says (texts are the document's); false: no memory. */
extern const Object task_set_object;
bool task_set_read(Arena *a, const char *name, const YamlNode *map, TaskSet *s);
/* Adds the data set's accuracy; base: the float model's score, may be NULL. More than half of the replies no language: the
 * model is bad. */
Status task_add_score(const TaskSet *set, const TaskScore *score, const TaskScore *base, EvalResult *r, Error *err);

/* Right: the choice with the greatest sum of the logarithms of its tokens' probabilities behind the question (the first of
 * equal ones), divided as TaskSet.norm says, is the answer. */
Status choice_run(const TaskModel *m, const TaskSet *set, const TaskFile *file, TaskScore *out, Error *err);
/* Right: the reply, as TaskSet says, matches one of the answers. */
Status exact_run(const TaskModel *m, const TaskSet *set, const TaskFile *file, TaskScore *out, Error *err);
/* Whether a reply (NUL-terminated) is right. ST_DATA: the expression of `extract` can't be read. */
Status exact_match(const TaskSet *set, const TaskItem *item, const char *reply, bool *right, Error *err);
/* Where a reply ends: its length, or where a text stands that ends it. */
size_t task_reply_end(const TaskSet *set, const TaskItem *item, const char *reply);
/* Whether an expression can be read. */
Status exact_check(const char *extract, Error *err);

/* Texts as token sets grow them. */
typedef struct TaskTexts {
    int64_t *start;
    int32_t *ids;
    size_t starts, start_cap, cap;
} TaskTexts;
/* Adds a text of n tokens; ST_DATA where one isn't in the vocabulary, or where there is none. `where`: whose text it is. */
Status task_add(TaskTexts *t, const int32_t *ids, size_t n, int64_t vocab, int line, Error *err);
TokenSet task_tokens(const TaskTexts *t);
void task_texts_free(TaskTexts *t);
/* Appends a choice to its question, with a space between them unless one has it or the question is in a chat template. */
void task_choice(const char *choice, bool chat, Str *question);
/* The question as the model gets it. */
void task_ask(const TaskModel *m, const TaskItem *item, Str *out);

#endif
