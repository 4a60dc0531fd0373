#ifndef SLIM_RUN_BLOCK_H
#define SLIM_RUN_BLOCK_H

#include "model/block.h"
#include "run/past.h"

/* What the kinds of block compute: one BlockOps a kind, beside its BlockType in block_table. */

/* Activations of a chunk, by row; those that RowNeed has no room for are NULL. */
typedef struct ChunkBuffers {
    float *x, *mid, *act, *tap, *up, *mix;
    const float *in; /* the state the block reads */
    float *out;      /* and the one it leaves; may be the same */
    FeedPiece next;  /* what is read after the block; nseg 0: not known */
} ChunkBuffers;

/* Float32 values that one row needs during a unit. */
typedef struct RowNeed {
    int64_t x;   /* the normed input of a block */
    int64_t mid; /* what stands between a block's linears; each block has the place anew */
    int64_t act; /* fake-quantized inputs of a variant */
    int64_t tap; /* an output before it is joined to the state, when that needs it or it is watched */
    int64_t up;  /* the second factor of the gate, when the two are watched */
    int64_t mix; /* hyper-connections: how the block's output enters the state */
} RowNeed;
int64_t row_need_floats(const RowNeed *n);

/* Who multiplies: what is float32 whatever the arithmetic, the arithmetic's own, and that of codes. */
enum { NEED_F32, NEED_PRODUCTS, NEED_CODES, NEED_GEMMS };

/* What a block is asked to foresee: before a run, for any variant, or by the pass that is about to run it. */
typedef struct NeedAsk {
    const Linear *linears; /* of the model */
    const ModelConfig *cfg;
    int threads;
    int64_t rows, longest; /* of the stream, and of its longest sample */
    int64_t band;          /* rows of the largest tile */
    const GemmOps *gemms[NEED_GEMMS]; /* what multiplies; NULL: that does not */
    const int16_t *level;  /* without a pass: [linears] those above 0 have a form that fake-quantizes the input; those of one
                            * input at the first one's level share it. NULL: none has */
    bool inputs, branches; /* without a pass: inputs of linears may be changed, branches run beside them (RunnerAsk) */
    const Pass *ps;        /* the pass, whose forms and observers are known; NULL: none yet */
    const BlockRun *run;
    bool back;             /* of BlockOps.backward */
} NeedAsk;

typedef struct BlockNeed {
    RowNeed row;
    WorkerNeed worker; /* beside the panels and tiles of its linears */
    uint64_t whole;    /* bytes beside the stream, over all its rows, of a block that sees them at once: at most */
    uint64_t least;    /* and what it can't do without */
    int64_t kept;      /* bytes a row of the stream carries beside its state */
} BlockNeed;

/* Runs the present chunk of a block, or all of it (BlockOps.whole). */
typedef Status BlockFn(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err);

struct BlockOps {
    bool whole; /* sees all rows of the stream at once; the others run chunk by chunk */
    void (*need)(const Block *b, const NeedAsk *ask, BlockNeed *out);
    /* Slots of the linears it reads first; returns how many (0: it reads other things first), *gate: as Stage.gate.
     * NULL: other things. */
    int (*first)(const Block *b, int slot[STAGE_MAX], bool *gate);
    /* The chunk's rows of buf->in to buf->out, joined to the state. */
    BlockFn *forward;
    /* Gradients through it and its join. buf->in: the state that forward read; buf->out: the gradient of the one it left,
     * which becomes that of buf->in. NULL: there are none through this kind yet. */
    BlockFn *backward;
    /* What that needs, joins apart. Set where backward is. */
    void (*backward_need)(const Block *b, const NeedAsk *ask, BlockNeed *out);
    /* Multiply-adds of a row beside those of its slots' linears, NULL: none. */
    double (*work)(const Block *b, const ModelConfig *cfg);
    /* What it keeps of rows, so that it can go on with those behind them; NULL: its rows don't know of each other. */
    void (*past)(const Block *b, const ModelConfig *cfg, PastShape *out);
    /* Whether it takes over what an earlier unit kept in the stream for samples up to `longest`; NULL: never. */
    bool (*carries)(const Block *b, const ModelConfig *cfg, int64_t longest);

    /* Of a join instead of forward (ROLE_JOIN): x[rows][hidden] = what the block reads of state[rows][stream_width],
     * mix: what write needs, RowNeed.mix a row. ops: the arithmetic of what comes in. */
    Status (*read)(Pass *ps, const BlockRun *join, const Ops *ops, const float *state, int64_t rows, float *x,
                   float *mix, Error *err);
    /* The state behind the block, which gave y[rows][hidden] (left changed); out may be state. */
    Status (*write)(Pass *ps, const BlockRun *join, const float *mix, const float *state, float *y, int64_t rows,
                    float *out, Error *err);
    /* Gradients of the two, where nothing rounds; buf as BlockOps.backward has it, its tap what write was given, its mix
     * what read left, its up the gradient of that. Of write: dy[rows][hidden], and buf->out to what of it is the state's
     * own. NULL: there are none through this kind yet. */
    Status (*write_back)(Pass *ps, const BlockRun *join, const ChunkBuffers *buf, float *dy, Error *err);
    /* Of read: adds to buf->out what dx[rows][hidden] and buf->up are of the state. */
    Status (*read_back)(Pass *ps, const BlockRun *join, const ChunkBuffers *buf, const float *dx, Error *err);
    /* Whether write does more than add, so that y has to stand somewhere first. */
    bool (*aside)(const Block *join);
};
typedef struct BlockOps BlockOps;

/* A kind of block: both halves of its row. */
typedef struct BlockKind {
    const BlockType *type;
    const BlockOps *ops;
} BlockKind;
extern const BlockKind block_table[]; /* ends with a row without a type (core/registry.c) */
const BlockOps *block_ops(const BlockType *t);

/* ---- what blocks share ---- */

/* buf->x = what the block reads of the chunk's state. */
Status block_read(Pass *ps, BlockRun *b, const ChunkBuffers *buf, Error *err);
/* The block's last linear, in `slot`, over x[rows][in]; what it gives is fed to its taps and joined to the state. */
Status block_end(Pass *ps, BlockRun *b, int slot, const float *x, const ChunkBuffers *buf, Error *err);

/* Linears over one input, and where their outputs go. */
typedef struct Projection {
    const float *x;
    int n, slot[STAGE_MAX];
    float *y[STAGE_MAX];
    int64_t ld[STAGE_MAX]; /* 0: as wide as the output */
} Projection;
/* One stage over them, their outputs fed to the taps. next: what is read afterwards (may be NULL). */
Status block_project(Pass *ps, BlockRun *b, const Projection *p, float *act, const FeedPiece *next, Error *err);
/* The first piece of a stage over the linears in these slots. */
void block_piece(const Pass *ps, const BlockRun *b, const int *slot, int n, bool gate, FeedPiece *out);

/* Tap.linear of the block's own taps: -1 but for a unit's second block of its role, which is told by its last linear.
 */
int64_t block_tap_linear(const BlockRun *b, int slot);

/* Floats of a row of the fake-quantized inputs of these slots' linears, which read the same. */
int64_t need_acts(const Block *b, const NeedAsk *ask, const int *slot, int n);
/* Whether the asking pass has observers of the tap. */
bool need_watched(const NeedAsk *ask, TapKind kind, int64_t linear);
/* Room for the input, for what the block gives before it is joined, and for the inputs of its last linear. */
void need_ends(const Block *b, const NeedAsk *ask, int last, BlockNeed *out);
/* Adds what products up to m x n x k need, and what panels of n outputs with k inputs do. */
void need_product(const NeedAsk *ask, WorkerNeed *w, int64_t m, int64_t n, int64_t k);
void need_panel(const NeedAsk *ask, WorkerNeed *w, int64_t n, int64_t k);

#endif
