#ifndef SLIM_RUN_STAGE_H
#define SLIM_RUN_STAGE_H

#include "run/feed.h"
#include "run/runner.h"
#include "run/source.h"
#include "run/taps.h"

struct Pass;

/* Output rows of one panel of a weight with `in` columns. */
int64_t panel_rows(int64_t in);
/* Rows of a band that go through a panel at a time, so that what follows the product finds its tile in the caches. */
enum { STAGE_TILE_ROWS = 192 };

/* One linear during a pass; lives through all chunks. */
typedef struct LinearRun {
    const Linear *lin;
    SourceWeight weight;
    int64_t index;          /* into Model.linears */
    const LinearForm *form; /* NULL: float */
    bool codes;             /* the form's integers are multiplied: weight_codes and act_codes in place of weight and act */
    float *scale;           /* [out] of weight_codes */
    const EditChain *inputs; /* what is done to its input before all else; NULL: nothing */
    const LowRank *low;     /* runs beside it on its input behind `inputs`; NULL: nothing does */
    float *bias;            /* widened, or NULL */
    bool bias_apart;        /* R(R(x·w) + bias) */
    int64_t panels;
    uint64_t weight_mask;   /* observers of the panels */
    double *energy;         /* [bands + samples][panels] sums of y^2, band b's rows of sample s at b + s; NULL when nobody asks */
} LinearRun;

/* A linear of which only the weight is of interest: what is read ahead. */
LinearRun linear_ahead(const Runner *r, const Linear *l);

enum {
    STAGE_MAX = 7,   /* the projections of compressed attention */
    STAGES_MAX = 12  /* of one stages_run */
};

/* Linears that read the same input, run as one batch (specs/models.md 2.3). Row pointers are those of the chunk's
 * first row. Without rows the weights are read for their observers and nothing else happens. */
typedef struct Stage {
    struct Pass *ps;
    int n;
    LinearRun *lin[STAGE_MAX];
    const Ops *ops;         /* NULL: the pass's */
    const float *x;         /* input, [rows][in]; of a block-diagonal linear [rows * groups][in] */
    const Stream *shape;    /* rows of a block-diagonal linear's input, NULL: the pass's */
    bool gate;              /* two linears: y[0] = R(R(act(lin 0)) * lin 1) */
    float *y[STAGE_MAX];    /* outputs, NULL: only `sum` (or the gate) is wanted */
    int64_t ldy[STAGE_MAX];
    const float *res;       /* residual, with `sum`: sum = R(res + y) */
    float *sum;
    int64_t lds;
    float *act_scratch;     /* room for inputs that are made: stage_input_floats a token, or those of the acts alone */
    bool packs;             /* plain inputs are packed there, too, instead of anew for every panel */
    bool hidden;            /* nobody is shown the input */
    /* filled by stage_run */
    const float *xsrc[STAGE_MAX];    /* what linear i reads, before its form: x, or x changed as its inputs say */
    int reads[STAGE_MAX];            /* the first linear that has the same done to it */
    uint64_t in_mask[STAGE_MAX];     /* observers of it, where that is i itself */
    const float *xlow[STAGE_MAX];    /* l1 x of linear i's branch, [rows][rank] */
    float *act_free;                 /* of act_scratch, behind the changed inputs and the branches' */
    const float *xin[STAGE_MAX];
    const void *xpack[STAGE_MAX];    /* the same as the products want it, NULL: they do it themselves */
    int64_t ldpack[STAGE_MAX];
    const float *xscale[STAGE_MAX];  /* of its rows, of codes */
    const void *raw[STAGE_MAX], *raw_scale[STAGE_MAX]; /* what the present piece's span of each linear read */
    int64_t g0, g1;         /* stage panels of the present piece */
    int64_t entry0, task0;  /* first entry of the ring, first task of the present pool call */
    int64_t raw_panel[STAGE_MAX]; /* first panel of each linear in the present piece */
} Stage;
/* Runs the stage over the chunk's rows. next: first piece of what follows, read ahead (may be NULL). */
Status stage_run(Stage *st, const FeedPiece *next, Error *err);
/* Without rows: has forms and observers see that there are none. No weight is read. */
Status stage_show_none(Stage *st, Error *err);
/* Up to STAGES_MAX stages in one pool call, each with a pass (rows of its own); nobody watches their inputs or weights.
 * piece: all their weights (stages_piece). */
Status stages_run(Stage *const *st, int n, const FeedPiece *piece, const FeedPiece *next, Error *err);
/* Adds all weights of a stage over these linears (two at most) to the piece of a stages_run. */
void stages_piece(const LinearRun *const *lin, int n, FeedPiece *piece);
/* The first piece of a stage over these linears. */
void stage_first_piece(const LinearRun *const *lin, int n, bool gate, uint64_t piece_max, FeedPiece *out);
/* Floats that a token's input takes in act_scratch: once for each distinct change of it, once for each branch, once for each distinct activation
 * transform among the forms, and packed as these products want it for those that read it as it is. */
int64_t stage_input_floats(LinearRun *const *lin, int n, const GemmOps *products);
/* Parts of it: of so many transforms of an input of this width, and of the packed plain one. */
int64_t stage_acts_floats(int64_t in, int64_t acts);
int64_t stage_plain_floats(int64_t in, const GemmOps *products);

#endif
