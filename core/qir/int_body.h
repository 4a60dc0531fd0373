/* The integer quantizers' loops, compiled for several processors: see loops.h. */

/* *t cut to [lo, hi], no NaN. */
VEC_INLINE void clamp(VF *t, float lo, float hi)
{
    VF low = lo - (VF){0}, high = hi - (VF){0}; /* minus: the compiler drops it, and the loop's caller does it once */
#ifdef VEC_MIN
    *t = (VF)VEC_MIN(VEC_MAX(*t, low), high);
#else
    VI below = *t < lo, above = *t > hi;
    VU low_bits = (VU)low, high_bits = (VU)high;
    select_bits(t, &below, &low_bits);
    select_bits(t, &above, &high_bits);
#endif
}

/* *t becomes the integer level of *t, as float. offset NULL: 0, which only makes +0 of -0, as the rounding does. */
VEC_INLINE void level_by(VF *t, const VF *scale, const VF *offset, float lo, float hi, DType T)
{
    *t = *t / *scale;
    round_to(t, T);
    if (offset) {
        *t = *t + *offset;
        round_to(t, T);
    }
    VI number = *t == *t;
    *t = (VF)((VU)*t & (VU)number);
    clamp(t, lo, hi); /* the bounds are integers: before rounding is the same */
    *t = (*t + RINT_MAGIC) - RINT_MAGIC;
}

VEC_INLINE void value_by(VF *t, const VF *scale, const VF *offset, DType T)
{
    if (offset) {
        *t = *t - *offset;
        round_to(t, T);
    }
    *t = *t * *scale;
    round_to(t, T);
}

VEC_INLINE void level_of(VF *t, QParam p, float lo, float hi, DType T)
{
    VF scale = p.scale - (VF){0}, offset = p.offset - (VF){0};
    level_by(t, &scale, &offset, lo, hi, T);
}

VEC_INLINE void value_of(VF *t, QParam p, DType T)
{
    VF scale = p.scale - (VF){0}, offset = p.offset - (VF){0};
    value_by(t, &scale, &offset, T);
}

VEC_INLINE void int_fake_loop(const float *x, int64_t n, QParam p, float lo, float hi, DType T, float *y)
{
    for (int64_t i = 0; i < n; i += LANES) {
        VF t;
        load_lanes(&t, x + i, n - i);
        level_of(&t, p, lo, hi, T);
        value_of(&t, p, T);
        store_lanes(&t, y + i, n - i);
    }
}

VEC_INLINE void int_quantize_loop(const float *x, int64_t n, QParam p, float lo, float hi, DType T, int8_t *q)
{
    for (int64_t i = 0; i < n; i += LANES) {
        VF t;
        load_lanes(&t, x + i, n - i);
        level_of(&t, p, lo, hi, T);
        VI level = __builtin_convertvector(t, VI);
        store_bytes(&level, q + i, n - i);
    }
}

VEC_TARGET static void int_quantize(const float *x, int64_t n, QParam p, int bits, DType T, int8_t *q)
{
    float lo = bits == 4 ? -8.0f : -128.0f, hi = bits == 4 ? 7.0f : 127.0f;
    WITH_DTYPE(T, k, int_quantize_loop(x, n, p, lo, hi, k, q));
}

VEC_INLINE void int_dequantize_loop(const int8_t *q, int64_t n, QParam p, DType T, float *y)
{
    for (int64_t i = 0; i < n; i += LANES) {
        VB b = {0};
        if (n - i >= LANES)
            memcpy(&b, q + i, sizeof b);
        else
            memcpy(&b, q + i, (size_t)(n - i));
        VF t = __builtin_convertvector(b, VF);
        value_of(&t, p, T);
        store_lanes(&t, y + i, n - i);
    }
}

VEC_TARGET static void int_dequantize(const int8_t *q, int64_t n, QParam p, DType T, float *y)
{
    WITH_DTYPE(T, k, int_dequantize_loop(q, n, p, k, y));
}

VEC_INLINE void int_codes_loop(const float *x, int64_t n, QParam p, float lo, float hi, DType T, float *y)
{
    for (int64_t i = 0; i < n; i += LANES) {
        VF t;
        load_lanes(&t, x + i, n - i);
        level_of(&t, p, lo, hi, T);
        t = t - p.offset;
        round_to(&t, T);
        store_lanes(&t, y + i, n - i);
    }
}

VEC_TARGET static void int_codes(const float *x, int64_t n, QParam p, int bits, DType T, float *y)
{
    float lo = bits == 4 ? -8.0f : -128.0f, hi = bits == 4 ? 7.0f : 127.0f;
    WITH_DTYPE(T, k, int_codes_loop(x, n, p, lo, hi, k, y));
}

VEC_TARGET static void int_fake(const float *x, int64_t n, QParam p, int bits, DType T, float *y)
{
    float lo = bits == 4 ? -8.0f : -128.0f, hi = bits == 4 ? 7.0f : 127.0f;
    WITH_DTYPE(T, k, int_fake_loop(x, n, p, lo, hi, k, y));
}

VEC_INLINE void int_fake_each_loop(const float *x, int64_t n, const float *scale, const float *offset, float lo, float hi,
                                   DType T, float *y)
{
    for (int64_t i = 0; i < n; i += LANES) {
        VF t, s, o;
        load_lanes(&t, x + i, n - i);
        load_lanes(&s, scale + i, n - i);
        load_lanes(&o, offset + i, n - i);
        level_by(&t, &s, &o, lo, hi, T);
        value_by(&t, &s, &o, T);
        store_lanes(&t, y + i, n - i);
    }
}

VEC_TARGET static void int_fake_each(const float *x, int64_t n, const float *scale, const float *offset, int bits, DType T,
                                     float *y)
{
    float lo = bits == 4 ? -8.0f : -128.0f, hi = bits == 4 ? 7.0f : 127.0f;
    WITH_DTYPE(T, k, int_fake_each_loop(x, n, scale, offset, lo, hi, k, y));
}

/* ---- the fit ---- */

/* Sums of eight: element i belongs to sum i % 8, in vectors of doubles as wide as the floats', so that they stay in
 * registers. */
enum { FIT_SUMS = 8, DLANES = LANES / 2, DVECS = FIT_SUMS / DLANES, STEP = LANES > FIT_SUMS ? LANES : FIT_SUMS };
typedef double VD __attribute__((vector_size(8 * DLANES)));

/* Lanes of t, which begin at element `at` of a step, to their sums. */
VEC_INLINE void add_lanes(VD *sum, const VF *t, const int at)
{
#ifdef VEC_LOW
    sum[at % FIT_SUMS / DLANES] += (VD)VEC_LOW(*t);
    sum[(at + DLANES) % FIT_SUMS / DLANES] += (VD)VEC_HIGH(*t);
#else
    for (int k = 0; k < LANES; k++)
        sum[(at + k) % FIT_SUMS / DLANES][k % DLANES] += (double)(*t)[k];
#endif
}

/* Added in their order, so that every form gives the same bits. */
VEC_INLINE double sum_lanes(const VD *v)
{
    double lane[FIT_SUMS], s = 0.0;
    memcpy(lane, v, sizeof lane);
    for (int k = 0; k < FIT_SUMS; k++)
        s += lane[k];
    return s;
}

typedef struct FitSums {
    VD xq[DVECS], qq[DVECS], err[DVECS];
    VF squares; /* of q in float32: whole numbers, exact up to 2^24, until they go into qq */
} FitSums;

/* Steps whose squares, each at most 128 * 128 a lane, stay exact in float32; two of LANES elements at most. */
enum { EXACT_STEPS = 512 };

/* The LANES elements of t, from element `at` of a step on. */
VEC_INLINE void fit_lanes(FitSums *sum, VF t, int at, const VF *scale, float lo, float hi, DType T, DType M)
{
    VF q = t, d, a;
    level_by(&q, scale, NULL, lo, hi, T);
    a = t * q;
    round_to(&a, T);
    add_lanes(sum->xq, &a, at);
    a = q * q;
    if (T == DT_F32) {
        sum->squares = sum->squares + a;
    } else {
        round_to(&a, T);
        add_lanes(sum->qq, &a, at);
    }
    d = q;
    value_by(&d, scale, NULL, T);
    d = t - d;
    round_to(&d, M);
    d = d * d;
    round_to(&d, M);
    add_lanes(sum->err, &d, at);
}

VEC_INLINE void fit_loop(const float *x, int64_t n, float scale, float lo, float hi, DType T, DType M, IntFit *out)
{
    VF s = scale - (VF){0}, t;
    FitSums sum = {.xq = {{0}}};
    int64_t i = 0;
    while (i + STEP <= n) {
        int64_t end = n - i < EXACT_STEPS * STEP ? i + (n - i) / STEP * STEP : i + EXACT_STEPS * STEP;
        sum.squares = (VF){0};
        for (; i < end; i += STEP)
            UNROLL
            for (int at = 0; at < STEP; at += LANES) {
                memcpy(&t, x + i + at, sizeof t);
                fit_lanes(&sum, t, at, &s, lo, hi, T, M);
            }
        add_lanes(sum.qq, &sum.squares, 0);
    }
    sum.squares = (VF){0};
    for (int at = 0; at < STEP && i + at < n; at += LANES) {
        load_lanes(&t, x + i + at, n - i - at); /* missing lanes are 0, which adds nothing */
        fit_lanes(&sum, t, at, &s, lo, hi, T, M);
    }
    add_lanes(sum.qq, &sum.squares, 0);
    *out = (IntFit){.xq = sum_lanes(sum.xq), .qq = sum_lanes(sum.qq), .err = sum_lanes(sum.err)};
}

VEC_TARGET static void int_fit(const float *x, int64_t n, float scale, int bits, DType T, DType M, IntFit *out)
{
    float lo = bits == 4 ? -8.0f : -128.0f, hi = bits == 4 ? 7.0f : 127.0f;
    if (T == DT_F32)
        fit_loop(x, n, scale, lo, hi, DT_F32, DT_F32, out);
    else if (T == DT_BF16 && M == DT_F32)
        fit_loop(x, n, scale, lo, hi, DT_BF16, DT_F32, out);
    else if (T == DT_BF16)
        fit_loop(x, n, scale, lo, hi, DT_BF16, DT_BF16, out);
    else if (M == DT_F32)
        fit_loop(x, n, scale, lo, hi, DT_F16, DT_F32, out);
    else
        fit_loop(x, n, scale, lo, hi, DT_F16, DT_F16, out);
}

VEC_TARGET static void int_range(const float *x, int64_t n, float *mn, float *mx)
{
    VF lo = (VF){0} + x[0], hi = lo;
    VI bad = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        VF t;
        memcpy(&t, x + i, sizeof t);
#ifdef VEC_MIN
        lo = (VF)VEC_MIN(t, lo);
        hi = (VF)VEC_MAX(t, hi);
#else
        VI less = t < lo, more = t > hi;
        VU bits = (VU)t;
        select_bits(&lo, &less, &bits);
        select_bits(&hi, &more, &bits);
#endif
        bad |= t != t;
    }
    float a = x[0], b = x[0];
    int any = 0;
    for (int k = 0; k < LANES; k++) {
        a = lo[k] < a ? lo[k] : a;
        b = hi[k] > b ? hi[k] : b;
        any |= bad[k];
    }
    for (; i < n; i++) {
        a = x[i] < a ? x[i] : a;
        b = x[i] > b ? x[i] : b;
        any |= isnan(x[i]);
    }
    if (any || isnan(x[0]))
        a = b = NAN;
    *mn = a + 0.0f; /* which zero comes first would depend on the lanes */
    *mx = b + 0.0f;
}

/* ---- gptq: columns of ROWS rows side by side ---- */

/* x[i] -= left * u, for columns [a, b) behind column j; each product is rounded. */
VEC_INLINE void spread(const GptqColumns *c, int64_t j, int64_t a, int64_t b, const VF *left, int v)
{
    for (int64_t i = a; i < b; i++) {
        VF t;
        memcpy(&t, c->x[i] + v, sizeof t);
        t = t - *left * c->u[j * c->ldu + i];
        memcpy(c->x[i] + v, &t, sizeof t);
    }
}

/* What LOOP_COLUMNS columns from a on spread to column i, one after the other. */
VEC_INLINE void spread_all(const GptqColumns *c, int64_t a, int64_t b, int64_t i, const VF *left, int v)
{
    VF t;
    memcpy(&t, c->x[i] + v, sizeof t);
    UNROLL
    for (int64_t j = 0; j < LOOP_COLUMNS; j++)
        if (a + j < b)
            t = t - left[j] * c->u[(a + j) * c->ldu + i];
    memcpy(c->x[i] + v, &t, sizeof t);
}

VEC_TARGET static void gptq_columns(const GptqColumns *c, int64_t a, int64_t b)
{
    float lo = c->bits == 4 ? -8.0f : -128.0f, hi = c->bits == 4 ? 7.0f : 127.0f;
    for (int v = 0; v < LOOP_ROWS; v += LANES) {
        VF left[LOOP_COLUMNS] = {{0}};
        for (int64_t j = a; j < b; j++) {
            VF t, d, scale, offset;
            memcpy(&t, c->x[j] + v, sizeof t);
            memcpy(&scale, c->scale[j - a] + v, sizeof scale);
            memcpy(&offset, c->offset[j - a] + v, sizeof offset);
            d = t;
            level_by(&d, &scale, &offset, lo, hi, DT_F32);
            VI level = __builtin_convertvector(d, VI);
            store_bytes(&level, c->code[j] + v, LANES);
            value_by(&d, &scale, &offset, DT_F32);
            t = (t - d) / c->u[j * c->ldu + j];
            memcpy(c->x[j] + v, &t, sizeof t);
            left[j - a] = t;
            spread(c, j, j + 1, b, &t, v);
        }
        if (b - a == LOOP_COLUMNS)
            for (int64_t i = b; i < c->n; i++)
                spread_all(c, a, a + LOOP_COLUMNS, i, left, v);
        else
            for (int64_t i = b; i < c->n; i++)
                spread_all(c, a, b, i, left, v);
    }
}
