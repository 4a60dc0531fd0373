#ifndef SLIM_SESSION_CALIBSET_H
#define SLIM_SESSION_CALIBSET_H

#include "session/session.h"

/* The texts of the calibration set: what each is like, what it does to ranges, and which are taken out. Texts have the
 * numbers from 1 on that they have in their set, in the files that were added behind those of the set itself. */

/* ---- the set as it was changed ---- */

/* "mix_calib.jsonl", "mix_calib.jsonl - 2 texts", "mix_calib.jsonl + bad.jsonl": what every output calls it; borrowed until
 * the next call. */
const char *session_calib_title(const Session *s);
/* Puts the texts of a file behind the others; one undo step, as the next. */
Status session_texts_add(Session *s, const char *path, Error *err);
/* Takes texts out, or back. Targets: "5", "5-9", "tagged", "flagged" (TextRow.flag), else a part of the text, with * ? [ a
 * pattern of the whole text. It waits until the texts are read (session_texts_wait). ST_DATA when a target selects nothing, or
 * nothing would be left. *changed (may be NULL): texts that are in or out now and were not before. */
Status session_texts_take(Session *s, const char *const *targets, int n, bool out, int *changed, Error *err);
/* The texts that are in as JSON lines, {"inputs_pretokenized": TEXT} or {"input_ids": [...]}: what calibration sets are read
 * from here and by msModelSlim. */
Status session_texts_save(Session *s, Str *out, int *texts, Error *err);

/* ---- what the texts are ---- */

/* Reads and tokenizes them on a thread of its own, also while a job runs; nothing where that is done or under way. Readable on
 * session_fd when done. */
void session_texts_begin(Session *s);
bool session_texts_reading(const Session *s);
/* The same, and waits for it: why it can't be. */
Status session_texts_wait(Session *s, Error *err);

/* Kinds of characters, by which languages and code are told apart. */
typedef enum Script {
    SCRIPT_LATIN, SCRIPT_HAN, SCRIPT_KANA, SCRIPT_HANGUL, SCRIPT_CYRILLIC, SCRIPT_ARABIC, SCRIPT_OTHER, SCRIPT_DIGIT,
    SCRIPT_SIGN, SCRIPTS
} Script;
const char *script_name(Script k); /* "Latin", ..., "signs" */

typedef enum TextState { TEXT_USED, TEXT_CUT, TEXT_OUT, TEXT_EMPTY, TEXT_BEYOND, TEXT_STATES } TextState;
/* "used", "cut to --seq-len", "taken out", "no token", "beyond --max-samples" */
const char *text_state_name(TextState k);

/* What a single text does to the ranges of inputs, by text_range. */
typedef struct TextRanges {
    int64_t sets;       /* linears of which it alone sets an end of the range */
    int64_t widens;     /* of these, the ones that it makes at least TEXT_WIDE times wider */
    double middle, most; /* factor: the median of those that it sets, and the greatest; NaN: none */
    double share;       /* of the ranges: the part of a range that no other text needs, its width with the text less that without it
                         * over that with it, mean over all linears with a known range (0 where it sets no end) */
    int64_t sole;       /* linears (of experts) that no other text reaches */
    const char *worst_of; /* the shown metric, or another one, whose scores are means over texts; NULL: none has scores */
    int64_t worst, units; /* of how many of its units this text has most of the score, and of how many that is known */
    double worst_share; /* and how much of it, mean over these */
} TextRanges;
#define TEXT_WIDE 1.5
/* A text is flagged when it makes the range of at least this share of the linears TEXT_WIDE times wider. */
#define TEXT_FLAG 0.05

typedef struct TextRow {
    int number;
    const char *text;   /* len bytes of UTF-8, any; NULL: it is token ids */
    size_t len;
    const char *file;   /* last part of the name of the file it is from */
    int line;
    TextState state;
    int64_t tokens;     /* of all of it */
    int64_t used;       /* that are taken */
    int distinct;       /* different ones */
    int same_as;        /* number of an earlier text with the same tokens, 0: none */
    double script[SCRIPTS]; /* shares of the characters that are no blanks */
    bool tagged, flag;
    TextRanges ranges;
    double loss;        /* its share of what block_error adds up to: 1 less the sum without it over that with it; NaN: not known */
    double loo, loo_se; /* KL without it less KL with it, and its paired error; NaN: not measured */
} TextRow;

/* The kind that it has most of. */
Script text_script(const TextRow *row);

typedef struct TextSums {
    int texts, used, out, cut, empty, beyond, same; /* same: used ones that another used one equals */
    int64_t tokens;         /* that are used */
    int64_t shortest, middle, longest; /* of those used */
    double script[SCRIPTS]; /* of the characters of those used */
    int64_t distinct, vocab; /* different tokens among them */
    /* against the evaluation set; eval_tokens 0: it can't be read */
    int64_t eval_tokens, eval_seen; /* seen: whose id comes in the used texts, too */
    double eval_script[SCRIPTS];
    /* of text_range */
    int64_t linears, ranged, stale; /* ranged: with a known range by text; stale: of these, under other texts or settings */
    int flagged;
    int tagged;
} TextSums;

enum { TEXT_BINS = 40 };
/* Used texts by their length, in bins of `width` tokens from 0 on. */
typedef struct TextLengths {
    int64_t width;
    int n, count[TEXT_BINS];
} TextLengths;

typedef struct TextTable {
    int n;
    const TextRow *row;  /* [n] by number */
    int shown;
    const int *order;    /* [shown] rows as they are sorted and filtered */
    TextSums sums;
    TextLengths lengths;
} TextTable;
/* NULL while the texts are not read: *why (may be NULL) tells, "" when nobody has asked for them. Borrowed until the next call
 * that changes the session. */
const TextTable *session_texts(Session *s, const char **why);
/* The tokens of a text, by number; NULL: not read. */
const int32_t *session_text_ids(Session *s, int number, int64_t *n);

/* Appends what a text's tokens stand for with "|" between them, but for those that make one character together; its ids where that is not known. */
void session_text_tokens(Session *s, int number, Str *out);

/* ---- the present assignment under other texts ---- */

/* A measurement of the present assignment, calibrated on other texts: without one text of the set (number), or on another
 * set (name). */
typedef struct CalibTrial {
    int number;
    const char *name;
    bool applies;         /* the text is one of the set that is open, and in */
    const Effect *effect; /* NULL: not measured, under the present assignment and settings */
    const MadeWith *made;
    Paired paired;        /* it less the measurement with the set as it is */
    double loss;          /* session_loss without the text, at the present levels and settings; NaN: not known */
} CalibTrial;
/* Queues a measurement without each of these texts (targets as session_texts_take has them; none: flagged ones, else the four
 * that widen ranges most), and of the set as it is where that is missing. What is measured already is not run again. *queued:
 * jobs. full as session_measure. */
Status session_texts_loo(Session *s, const char *const *targets, int n, bool full, int *queued, Error *err);
/* The same by block_error, without a measurement: queues an analysis of the set less each text, whose scores leave the session's as they
 * are, and of the set as it is where that is missing. */
Status session_texts_loo_loss(Session *s, const char *const *targets, int n, int *queued, Error *err);
/* What block_error's scores add up to over the groups that are quantized now; NaN where one of them is missing or stale. */
double session_loss(Session *s);
/* The same on other sets, by name or path. */
Status session_calib_compare(Session *s, const char *const *names, int n, bool full, int *queued, Error *err);
/* What was asked for so far. */
int session_calib_trials(Session *s);
CalibTrial session_calib_trial(Session *s, int i);

/* ---- as a person looks at them ---- */

typedef enum TextSort {
    TEXT_SORT_NUMBER, TEXT_SORT_TOKENS, TEXT_SORT_SETS, TEXT_SORT_FACTOR, TEXT_SORT_SHARE, TEXT_SORT_LOO, TEXT_SORT_SCRIPT, TEXT_SORT_TEXT,
    TEXT_SORT_STATE, TEXT_SORTS
} TextSort;
const char *text_sort_name(TextSort k); /* "number", ... */
int text_sort_find(const char *name);   /* -1 */
Status session_texts_sort(Session *s, TextSort k, bool ascending);
TextSort session_texts_sort_key(const Session *s, bool *ascending);
/* Words that must all hold: a part of the text, tokens>100, tokens<20, sets>9, script=Han, file=NAME, used, out, cut, tagged,
 * flagged, same; !word negates. "" shows all. */
Status session_texts_filter(Session *s, const char *expr, Error *err);
const char *session_texts_filter_text(const Session *s);
/* Tags by the targets of session_texts_take; *changed may be NULL. */
Status session_texts_tag(Session *s, const char *const *targets, int n, bool on, int *changed, Error *err);

/* One linear whose range a text sets. */
typedef struct TextLinear {
    int64_t linear;
    double lo, hi;       /* with the text */
    double lo_less, hi_less; /* without it; NaN: no other text reaches it */
    double factor;
} TextLinear;
/* Those of a text, the widest first; caller frees *out. */
Status session_text_linears(Session *s, int number, TextLinear **out, int64_t *n, Error *err);

#endif
