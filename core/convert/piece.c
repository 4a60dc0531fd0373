#include <math.h>
#include <string.h>

#include "base/num.h"
#include "convert/run.h"
#include "math/kernels.h"
#include "model/check.h"
#include "qir/mx.h"
#include "run/source.h"

/* A part of an item: read, converted, written into its place; or read back and held against what it must be. */

int64_t item_units(const ConvertItem *it)
{
    return !it->l ? (int64_t)it->n : it->turned ? it->matrices : it->l->out;
}

int64_t item_step(const ConvertItem *it, int64_t values)
{
    if (!it->l)
        return values * 4; /* bytes; whole values of every type */
    return it->turned ? 1 : max_i64(1, values / max_i64(it->l->in, 1));
}

static int64_t rows_of(const ConvertItem *it, int64_t units)
{
    return it->turned ? units * (it->l->out / it->matrices) : units;
}

static const OutTensor *part_of(const ConvertPlan *p, const ConvertItem *it, int k)
{
    return &p->layout.t[it->out + k];
}

/* Bytes of a row of part k. */
static size_t row_bytes(const ConvertPlan *p, const ConvertItem *it, int k)
{
    return (size_t)(part_of(p, it, k)->nbytes / (uint64_t)it->l->out);
}

uint64_t piece_bytes(const ConvertPlan *p, const Piece *piece)
{
    const ConvertItem *it = &p->item[piece->item];
    if (!it->l)
        return (uint64_t)piece->n * (it->widen ? 2 : 1);
    uint64_t n = 0;
    for (int k = 0; k < it->parts; k++)
        n += (uint64_t)rows_of(it, piece->n) * row_bytes(p, it, k);
    return n;
}

static void more(size_t *most, size_t n)
{
    *most = n > *most ? n : *most;
}

void room_for(const ConvertPlan *p, const ConvertItem *it, int64_t units, Room *most)
{
    units = min_i64(units, item_units(it));
    if (units < 1)
        return;
    if (!it->l) {
        more(&most->raw, (size_t)units);
        more(&most->values, it->widen ? (size_t)units * 2 : 0);
        return;
    }
    const Linear *l = it->l;
    int64_t rows = rows_of(it, units);
    more(&most->values, (size_t)(rows * l->in) * sizeof(float));
    if (l->store) {
        int64_t bands = div_up(rows, l->store->block_out) + 1 + rows / max_i64(l->store->rows, 1);
        more(&most->raw, (size_t)(rows * l->store->row_bytes));
        more(&most->scale, (size_t)(min_i64(bands, rows + 1) * div_up(l->in, l->store->block_in) * dtype_size(l->store->scale->dtype)));
    } else {
        more(&most->raw, (size_t)(rows * l->in * dtype_size(l->weight->dtype)));
    }
    more(&most->out, (size_t)rows * row_bytes(p, it, 0));
    more(&most->more, it->parts > 1 ? (size_t)rows * row_bytes(p, it, 1) : 0);
}

/* Bytes into part k, or what lies there against them. */
static Status put(const Work *w, const ConvertItem *it, int k, uint64_t at, const void *data, size_t n, Scratch *s, Error *err)
{
    const OutTensor *t = part_of(w->p, it, k);
    if (!w->compare)
        return file_pwrite(w->fd[t->file], "write into", w->dir, data, n, t->offset + at, err);
    RETURN_IF_ERROR(file_pread(w->fd[t->file], w->dir, s->back, n, t->offset + at, err));
    return memcmp(s->back, data, n) == 0
               ? ST_OK
               : error_set(err, ST_IO, "'%s' in '%s' is not what was written there: the disk or the memory is at fault; run again",
                           t->name, w->dir);
}

static Status copy(const Work *w, const ConvertItem *it, const Piece *piece, Scratch *s, Error *err)
{
    RETURN_IF_ERROR(checkpoint_read(w->p->shell.ckpt, it->t, it->begin + (uint64_t)piece->at, (uint64_t)piece->n, s->raw, err));
    if (!it->widen)
        return put(w, it, 0, (uint64_t)piece->at, s->raw, (size_t)piece->n, s, err);
    math_widen(math_fast(), it->t->dtype, s->raw, piece->n / 2, s->values);
    if (w->p->save.peer) /* its biases go through BF16, too */
        math_fast()->round_bf16(s->values, piece->n / 2);
    return put(w, it, 0, (uint64_t)piece->at * 2, s->values, (size_t)piece->n * 2, s, err);
}

/* ---- linears ---- */

/* The scale or code that made a value NaN or Inf. */
static Status bad_value(const ConvertPlan *p, const ConvertItem *it, int64_t row, int64_t index, bool nan, Error *err)
{
    const TensorInfo *scale = it->l->store && !it->bare ? it->l->store->scale : NULL;
    return error_set(err, ST_DATA, "'%s': tensor '%s' has %s at [%lld,%lld]%s%s%s: the model is damaged; 'slimscope check' names every "
                     "such tensor", checkpoint_file_path(p->shell.ckpt, it->t->file), it->t->name, nan ? "NaN" : "Inf",
                     (long long)(row + index / it->l->in), (long long)(index % it->l->in), scale ? " (with '" : "",
                     scale ? scale->name : "", scale ? "')" : "");
}

static Status read_rows(const ConvertPlan *p, const ConvertItem *it, int64_t r0, int64_t rows, Scratch *s, Error *err)
{
    const Linear *l = it->l;
    WeightSpan span = weight_span(l, r0, r0 + rows);
    RETURN_IF_ERROR(checkpoint_read(p->shell.ckpt, l->weight, span.begin, span.n, s->raw, err));
    if (it->bare) {
        float *one = (float *)(void *)s->scale;
        for (uint64_t i = 0; i < span.scale_n / sizeof *one; i++)
            one[i] = 1;
    } else if (l->store) {
        RETURN_IF_ERROR(checkpoint_read(p->shell.ckpt, l->store->scale, span.scale_begin, span.scale_n, s->scale, err));
    }
    weight_decode(math_fast(), l, r0, s->raw, s->scale, r0, rows, s->values);
    bool nan;
    int64_t at = values_first_bad(DT_F32, s->values, rows * l->in, &nan);
    return at < 0 ? ST_OK : bad_value(p, it, r0, at, nan, err);
}

/* [rows][in] as [in][rows], in BF16. */
static void turn(const float *w, int64_t rows, int64_t in, uint16_t *out)
{
    enum { SIDE = 32 };
    uint16_t line[SIDE];
    for (int64_t r0 = 0; r0 < rows; r0 += SIDE)
        for (int64_t c = 0; c < in; c++) {
            int64_t n = min_i64(SIDE, rows - r0);
            float v[SIDE];
            for (int64_t r = 0; r < n; r++)
                v[r] = w[(r0 + r) * in + c];
            source_encode(v, n, DT_BF16, line);
            memcpy(out + c * rows + r0, line, (size_t)n * sizeof *line);
        }
}

static Status put_floats(const Work *w, const ConvertItem *it, int64_t r0, int64_t rows, Scratch *s, Error *err)
{
    if (it->turned)
        turn(s->values, rows, it->l->in, (uint16_t *)(void *)s->out);
    else
        source_encode(s->values, rows * it->l->in, DT_BF16, s->out);
    size_t row = row_bytes(w->p, it, 0);
    return put(w, it, 0, (uint64_t)r0 * row, s->out, (size_t)rows * row, s, err);
}

/* Codes of a block of n values, packed: mxfp4 two to a byte, the first in the low half. */
static void pack_block(QType t, const uint8_t *code, int64_t n, uint8_t *out)
{
    if (t == QT_MXFP8) {
        memcpy(out, code, (size_t)n);
        return;
    }
    for (int64_t i = 0; i < n; i += 2)
        out[i / 2] = (uint8_t)(code[i] | (i + 1 < n ? code[i + 1] << 4 : 0));
}

/* One row into codes and exponents; piece's sums of errors where it is compared. */
static void quantize_row(const QuantLoops *k, QType t, const float *x, int64_t in, DType T, uint8_t *code, uint8_t *exponent,
                         Piece *piece)
{
    uint8_t c[MX_BLOCK];
    float y[MX_BLOCK];
    for (int64_t b = 0; b < in; b += MX_BLOCK) {
        int64_t n = min_i64(MX_BLOCK, in - b);
        float e = mx_exponent(t, mx_amax(k, x + b, n), T);
        exponent[b / MX_BLOCK] = mx_byte(e);
        mx_encode(k, t, x + b, n, e, T, c);
        pack_block(t, c, n, code + (t == QT_MXFP8 ? b : b / 2));
        if (!piece)
            continue;
        mx_decode(k, t, c, n, e, DT_F32, y);
        for (int64_t i = 0; i < n; i++) {
            piece->error += ((double)y[i] - (double)x[b + i]) * ((double)y[i] - (double)x[b + i]);
            piece->sum += (double)x[b + i] * (double)x[b + i];
        }
    }
}

/* The peer quantizes what BF16 holds; else the values are as float32 has them. */
static Status put_codes(const Work *w, const ConvertItem *it, Piece *piece, int64_t r0, int64_t rows, Scratch *s, Error *err)
{
    const bool peer = w->p->save.peer;
    const QType t = it->to == CK_W8A8_MXFP8 ? QT_MXFP8 : QT_MXFP4;
    const QuantLoops *k = quant_loops();
    size_t code = row_bytes(w->p, it, 0), exponent = row_bytes(w->p, it, 1);
    if (peer)
        math_fast()->round_bf16(s->values, rows * it->l->in);
    for (int64_t r = 0; r < rows; r++)
        quantize_row(k, t, s->values + r * it->l->in, it->l->in, peer ? DT_BF16 : DT_F32, s->out + (size_t)r * code,
                     s->more + (size_t)r * exponent, w->compare ? piece : NULL);
    RETURN_IF_ERROR(put(w, it, 0, (uint64_t)r0 * code, s->out, (size_t)rows * code, s, err));
    return put(w, it, 1, (uint64_t)r0 * exponent, s->more, (size_t)rows * exponent, s, err);
}

Status convert_piece(const Work *w, Piece *piece, Scratch *s, Error *err)
{
    const ConvertItem *it = &w->p->item[piece->item];
    if (!it->l)
        return copy(w, it, piece, s, err);
    int64_t r0 = rows_of(it, piece->at), rows = rows_of(it, piece->n);
    RETURN_IF_ERROR(read_rows(w->p, it, r0, rows, s, err));
    return it->to == CK_FLOAT ? put_floats(w, it, r0, rows, s, err) : put_codes(w, it, piece, r0, rows, s, err);
}
