/* The reference for ranges, in the words of pyquant_semantics.h. */
#include <math.h>

#include "../simd/scalar.h"

PQ_INLINE int widen(float *low, float *high, float v)
{
    if (v < *low) *low = v;
    if (v > *high) *high = v;
    return !isfinite(v);
}

#define RANGE(in, IN)                                                                                           \
    int pq_range_##in##_scalar(const void *x, size_t runs, size_t length, float *low, float *high)              \
    {                                                                                                           \
        int bad = 0;                                                                                            \
        for (size_t r = 0; r < runs; r++) {                                                                     \
            float a = INFINITY, b = -INFINITY;                                                                  \
            for (size_t i = 0; i < length; i++) bad |= widen(&a, &b, read_f(x, r * length + i, IN));            \
            low[r] = a + 0.0f; /* -0.0 is 0.0 */                                                                \
            high[r] = b + 0.0f;                                                                                 \
        }                                                                                                       \
        return bad;                                                                                             \
    }                                                                                                           \
    int pq_absmax_##in##_scalar(const void *x, size_t runs, size_t length, float *absmax)                       \
    {                                                                                                           \
        int bad = 0;                                                                                            \
        for (size_t r = 0; r < runs; r++) {                                                                     \
            float a = 0.0f, b = 0.0f;                                                                           \
            for (size_t i = 0; i < length; i++) bad |= widen(&a, &b, fabsf(read_f(x, r * length + i, IN)));     \
            absmax[r] = b;                                                                                      \
        }                                                                                                       \
        return bad;                                                                                             \
    }                                                                                                           \
    int pq_range_columns_##in##_scalar(const void *x, size_t rows, size_t columns, size_t stride, float *low,   \
                                       float *high)                                                             \
    {                                                                                                           \
        int bad = 0;                                                                                            \
        for (size_t r = 0; r < rows; r++)                                                                       \
            for (size_t c = 0; c < columns; c++) bad |= widen(low + c, high + c, read_f(x, r * stride + c, IN)); \
        return bad;                                                                                             \
    }
RANGE(f32, PQ_F32)
RANGE(f16, PQ_F16)
RANGE(bf16, PQ_BF16)

#include "plain.inc"
