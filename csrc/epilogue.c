#include "epilogue.h"

#include <math.h>
#include <string.h>

#include "include/pyquant_semantics.h"
#include "layout.h"

static float multiplier_of(const pq_epilogue *e, float a_scale, size_t j)
{
    return (a_scale * e->b_scale[j * e->b_step]) / e->y.scale;
}

void pq_start_epilogue(pq_epilogue *e, const pq_result *y, const float *a_scale, size_t a_step, const float *b_scale,
                       size_t b_step, size_t n, float *multiplier)
{
    static const float one = 1.0f;
    const pq_kernels *k = pq_get_kernels();
    e->y = *y;
    e->size = pq_type_size(y->type);
    e->a_scale = a_scale ? a_scale : &one;
    e->b_scale = b_scale ? b_scale : &one;
    e->a_step = a_scale ? a_step : 0;
    e->b_step = b_scale ? b_step : 0;
    e->product_f32 = k->product_f32;
    e->requantize = e->size == 1 ? k->requantize_columns_i32_i8 : k->requantize_columns_i32_i16;
    e->multiplier = NULL;
    if (multiplier && e->size <= 2 && e->a_step == 0) {
        for (size_t j = 0; j < n; j++) multiplier[j] = multiplier_of(e, *e->a_scale, j);
        e->multiplier = multiplier;
    }
}

void pq_scatter_tile(const void *from, size_t from_stride, size_t size, size_t rows, size_t columns, char *to,
                     ptrdiff_t row_stride, ptrdiff_t column_stride)
{
    if (column_stride == 1) {
        for (size_t r = 0; r < rows; r++)
            memcpy(to + (ptrdiff_t)r * row_stride * (ptrdiff_t)size, (const char *)from + r * from_stride * size,
                   columns * size);
        return;
    }
#define SCATTER(type)                                                                                          \
    for (size_t j = 0; j < columns; j++)                                                                       \
        for (size_t r = 0; r < rows; r++)                                                                      \
            memcpy(to + ((ptrdiff_t)r * row_stride + (ptrdiff_t)j * column_stride) * (ptrdiff_t)sizeof(type),   \
                   (const type *)from + r * from_stride + j, sizeof(type));
    if (size == 4) {
        SCATTER(int32_t)
    } else if (size == 2) {
        SCATTER(int16_t)
    } else {
        SCATTER(int8_t)
    }
#undef SCATTER
}

void pq_widen_tile(const int32_t *acc, size_t stride, size_t rows, size_t columns, int add, int64_t *wide)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < columns; j++) {
            const size_t at = r * stride + j;
            wide[at] = (add ? wide[at] : 0) + acc[at];
        }
}

/* pq_product_f32_fn of accumulators of 64 bits. */
static void product_wide(const int64_t *acc, size_t acc_stride, float *y, size_t y_stride, size_t rows, size_t columns,
                         const float *a_scale, size_t a_step, const float *b_scale, size_t b_step, const float *bias,
                         float low, float high, int add)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < columns; j++) {
            float *const to = y + r * y_stride + j, before = 0.0f;
            if (add) memcpy(&before, to, sizeof before);
            float v = (float)acc[r * acc_stride + j] * (a_scale[r * a_step] * b_scale[j * b_step]);
            if (add) v = before + v;
            if (bias) v = v + bias[j];
            v = v < low ? low : v;
            v = v > high ? high : v;
            memcpy(to, &v, sizeof v);
        }
}

void pq_end_tile_f32(const pq_epilogue *e, pq_sums sums, const float *a_scale, size_t a_step, const float *b_scale,
                     size_t b_step, size_t n0, size_t rows, size_t columns, float *y, size_t y_stride, int add, int last)
{
    const float *const bias = last && e->y.bias ? (const float *)e->y.bias + n0 : NULL;
    const float low = last ? e->y.low : -INFINITY, high = last ? e->y.high : INFINITY;
    if (sums.wide)
        product_wide(sums.wide, sums.stride, y, y_stride, rows, columns, a_scale, a_step, b_scale, b_step, bias, low, high,
                     add);
    else
        e->product_f32(sums.acc, sums.stride, y, y_stride, rows, columns, a_scale, a_step, b_scale, b_step, bias, low, high,
                       add);
}

/* gemmlowp's and TFLite's fixed-point products, for accumulators of more than 32 bits. */
static int fixed_wide(int64_t acc, float multiplier, pq_requantize_mode mode)
{
    int exponent;
    const int mantissa = pq_fixed_mantissa(multiplier, &exponent);
    if (exponent > 31) return acc > 0 ? INT32_MAX : acc < 0 ? INT32_MIN : 0; /* a multiplier of 2^30 and more */
    if (31 - exponent > 100) return 0;
    const __int128 product = (__int128)acc * mantissa;
    __int128 rounded;
    if (mode == PQ_REQUANTIZE_FIXED_SINGLE) {
        const int shift = 31 - exponent;
        rounded = shift > 0 ? (product + ((__int128)1 << (shift - 1))) >> shift : product;
    } else {
        const int left = exponent > 0 ? exponent : 0, right = left - exponent;
        const __int128 half = (__int128)1 << 30, shifted = product << left;
        const __int128 high = (shifted + (shifted >= 0 ? half : 1 - half)) / ((__int128)1 << 31);
        const __int128 mask = ((__int128)1 << right) - 1, rest = high & mask;
        rounded = (high >> right) + (rest > (mask >> 1) + (high < 0));
    }
    return rounded > INT32_MAX ? INT32_MAX : rounded < INT32_MIN ? INT32_MIN : (int)rounded;
}

static void requantize_wide(const pq_epilogue *e, const int64_t *acc, size_t acc_stride, size_t m0, size_t n0, size_t rows,
                            size_t columns, char *q, size_t stride)
{
    const pq_result *const to = &e->y;
    const int32_t *const bias = to->bias ? (const int32_t *)to->bias + n0 : NULL;
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < columns; j++) {
            const float multiplier = multiplier_of(e, e->a_scale[(m0 + r) * e->a_step], n0 + j);
            const int64_t value = acc[r * acc_stride + j] + (bias ? bias[j] : 0);
            const int code = to->mode == PQ_REQUANTIZE_FLOAT
                                 ? pq_code_f32((float)value * multiplier, to->zero_point, to->qmin, to->qmax)
                                 : pq_clamp_code(fixed_wide(value, multiplier, to->mode), to->zero_point, to->qmin, to->qmax);
            const int16_t code16 = (int16_t)code;
            if (e->size == 1) q[r * stride + j] = (char)code;
            else memcpy(q + 2 * (r * stride + j), &code16, sizeof code16);
        }
}

static void requantize_tile(const pq_epilogue *e, pq_sums sums, size_t m0, size_t n0, size_t rows, size_t columns, void *q,
                            size_t stride)
{
    int32_t zero_point[PQ_TILE_COLUMNS];
    if (sums.wide) {
        requantize_wide(e, sums.wide, sums.stride, m0, n0, rows, columns, (char *)q, stride);
        return;
    }
    for (size_t j = 0; j < columns; j++) zero_point[j] = e->y.zero_point;
    if (e->multiplier) {
        e->requantize(sums.acc, sums.stride, q, rows, columns, stride, e->multiplier + n0, zero_point, e->y.qmin, e->y.qmax,
                      e->y.mode);
        return;
    }
    for (size_t r = 0; r < rows; r++) {
        float multiplier[PQ_TILE_COLUMNS];
        for (size_t j = 0; j < columns; j++) multiplier[j] = multiplier_of(e, e->a_scale[(m0 + r) * e->a_step], n0 + j);
        e->requantize(sums.acc + r * sums.stride, sums.stride, (char *)q + r * stride * e->size, 1, columns, stride, multiplier,
                      zero_point, e->y.qmin, e->y.qmax, e->y.mode);
    }
}

void pq_end_tile(const pq_epilogue *e, pq_sums sums, size_t m0, size_t n0, size_t rows, size_t columns, char *y)
{
    const pq_result *const to = &e->y;
    if (to->type == PQ_I32) {
        pq_scatter_tile(sums.acc, sums.stride, 4, rows, columns, y, to->row_stride, to->column_stride);
        return;
    }
    const int direct = to->column_stride == 1 && to->row_stride >= 0;
    float tile[PQ_TILE_ROWS * PQ_TILE_COLUMNS];
    void *const out = direct ? (void *)y : (void *)tile;
    const size_t stride = direct ? (size_t)to->row_stride : PQ_TILE_COLUMNS;
    if (to->type == PQ_F32)
        pq_end_tile_f32(e, sums, e->a_scale + m0 * e->a_step, e->a_step, e->b_scale + n0 * e->b_step,
                        e->b_step, n0, rows, columns, (float *)out, stride, 0, 1);
    else
        requantize_tile(e, sums, m0, n0, rows, columns, out, stride);
    if (!direct) pq_scatter_tile(tile, stride, e->size, rows, columns, y, to->row_stride, to->column_stride);
}
