#ifndef SLIM_EXPORT_SCOREFILE_H
#define SLIM_EXPORT_SCOREFILE_H

#include "base/map.h"
#include "base/mem.h"
#include "model/model.h"

/* Scores that other programs wrote: the log of msModelSlim's analyze, llama.cpp's imatrix (.dat and GGUF), JSON and CSV,
 * ours and those of a name and a number. */

typedef struct FileScore {
    const char *name;  /* as in the file; of a tensor of llama.cpp "blk.0.attn_q.weight" */
    int matrix;        /* of several in one tensor: a layer's experts; -1: there is one */
    double value;      /* NaN or infinite where the file says so */
} FileScore;
typedef struct ScoreColumn {
    const char *name;  /* NULL: the file names none */
    FileScore *score;
    size_t n, cap;
    Map seen;          /* name and matrix */
} ScoreColumn;
enum { SCORE_COLUMNS_MAX = 64, SCORE_FILE_MAX = 1 << 30 };
typedef struct ScoreFile {
    const char *kind;  /* "a log of msModelSlim" */
    ScoreColumn *column;
    size_t n, cap;
    Arena made;        /* names */
} ScoreFile;
/* Reads a file's text, which a NUL follows and which is changed. path: for its kind and for errors. m: rows of legacy
 * imatrix files, which don't tell how many experts are in a tensor; may be NULL. ST_DATA in one line for what is cut off,
 * no such file, or has a name twice; out is the caller's in every case. */
Status score_file_read(char *text, size_t len, const char *path, const Model *m, ScoreFile *out, Error *err);
void score_file_fini(ScoreFile *f);

/* ---- for the readers ---- */
typedef Status ScoreReader(char *text, size_t len, const Model *m, ScoreFile *out, Error *err);
/* The column of this name (copied; NULL: the one without), made where it isn't there. */
Status score_column(ScoreFile *f, const char *name, ScoreColumn **out, Error *err);
/* Adds a score; name is copied. */
Status score_add(ScoreFile *f, ScoreColumn *c, const char *name, size_t len, int matrix, double value, Error *err);
/* A number that fills the text: also nan and inf in any letters. */
bool score_number(const char *text, double *out);
ScoreReader score_read_gguf, score_read_dat;

/* The linear that a tensor of llama.cpp is made of, of matrix `expert` where there are several (-1: one): -1 when none. */
int64_t gguf_linear(const Model *m, const char *tensor, int expert);

#endif
