#ifndef SLIM_EVALUATE_TASKFILE_H
#define SLIM_EVALUATE_TASKFILE_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

/* Questions with their answers, a JSON object a line; blank lines are skipped. Members go by several names, as public data
 * sets have them (taskfile.c has the table):
 *   the question  question, query, problem: asked as "Question: ...\nAnswer:"; prompt, inputs_pretokenized, input, ctx,
 *                 sentence, goal, text: taken as it is
 *   its text      passage, context, article, story: stands before it
 *   choices       choices, options, endings: a list of texts, {text: [...], label: [...]} or {A: ..., B: ...};
 *                 or members A, B, C, D; sol1, sol2; option1, option2; with an answer true or false none: "no", "yes"
 *   the answer    answer, label, target, gold, answerKey, answer_idx, correct: of a choice its number from 0, its letter or
 *                 label, its text, or true and false; of an exact one a text, a number or a list of them (answers, targets,
 *                 too); behind "####" in it stands a number */
typedef enum TaskKind { TASK_CHOICE, TASK_EXACT } TaskKind;

typedef struct TaskItem {
    int line;                 /* 1-based */
    const char *before;       /* text before the question, NULL: none */
    const char *question;
    bool raw;                 /* it is taken as it is */
    const char **choice;      /* TASK_CHOICE: [choices], at least two */
    int choices, right;
    const char **answer;      /* TASK_EXACT: [answers], at least one */
    int answers;
    bool number;              /* the answer is the number behind "####" */
} TaskItem;

typedef struct TaskFile {
    TaskItem *item;
    int n, blank;
    size_t cap;
    Arena arena;
} TaskFile;
/* limit: the first so many questions, 0: all. Errors name file and line; a file without a question is ST_DATA. */
Status task_open(TaskFile **out, const char *path, TaskKind kind, int limit, Error *err);
void task_free(TaskFile *t);
/* What the model is asked, without a chat template. */
void task_prompt(const TaskItem *t, Str *out);

#endif
