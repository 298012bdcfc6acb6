/* The reference: one element at a time, in the words of pyquant_semantics.h. */
#include "../simd/scalar.h"

/* Element i with its scale s and zero point z. */
#define EACH_OF_RUNS(element)                                                                                   \
    (void)stream;                                                                                               \
    for (size_t r = 0; r < runs; r++) {                                                                         \
        const float s = scale[r];                                                                               \
        const int32_t z = zero_point ? zero_point[r] : 0;                                                       \
        for (size_t i = r * length; i < (r + 1) * length; i++) element;                                         \
    }

#define EACH_OF_COLUMNS(element)                                                                                \
    (void)stream;                                                                                               \
    for (size_t r = 0; r < rows; r++)                                                                           \
        for (size_t c = 0; c < columns; c++) {                                                                  \
            const size_t i = r * stride + c;                                                                    \
            const float s = scale[c];                                                                           \
            const int32_t z = zero_point ? zero_point[c] : 0;                                                   \
            element;                                                                                            \
        }

#define QUANTIZE(in, out, IN, OUT)                                                                              \
    void pq_quantize_##in##_##out##_scalar(const void *x, void *q, size_t runs, size_t length,                  \
                                           const float *scale, const int32_t *zero_point, int32_t qmin,         \
                                           int32_t qmax, int stream)                                            \
    {                                                                                                           \
        EACH_OF_RUNS(write_code(q, i, pq_quantize_f32(read_f(x, i, IN), s, z, qmin, qmax), OUT))                \
    }                                                                                                           \
    void pq_quantize_columns_##in##_##out##_scalar(const void *x, void *q, size_t rows, size_t columns,         \
                                                   size_t stride, const float *scale,                           \
                                                   const int32_t *zero_point, int32_t qmin, int32_t qmax,       \
                                                   int stream)                                                  \
    {                                                                                                           \
        EACH_OF_COLUMNS(write_code(q, i, pq_quantize_f32(read_f(x, i, IN), s, z, qmin, qmax), OUT))             \
    }
QUANTIZE(f32, i8, PQ_F32, PQ_I8)
QUANTIZE(f16, i8, PQ_F16, PQ_I8)
QUANTIZE(bf16, i8, PQ_BF16, PQ_I8)
QUANTIZE(f32, i16, PQ_F32, PQ_I16)
QUANTIZE(f16, i16, PQ_F16, PQ_I16)
QUANTIZE(bf16, i16, PQ_BF16, PQ_I16)

#define DEQUANTIZE(in, out, IN, OUT)                                                                            \
    void pq_dequantize_##in##_##out##_scalar(const void *q, void *x, size_t runs, size_t length,                \
                                             const float *scale, const int32_t *zero_point, int stream)         \
    {                                                                                                           \
        EACH_OF_RUNS(write_f(x, i, pq_dequantize_f32(read_code(q, i, IN), s, z), OUT))                          \
    }                                                                                                           \
    void pq_dequantize_columns_##in##_##out##_scalar(const void *q, void *x, size_t rows, size_t columns,       \
                                                     size_t stride, const float *scale,                         \
                                                     const int32_t *zero_point, int stream)                     \
    {                                                                                                           \
        EACH_OF_COLUMNS(write_f(x, i, pq_dequantize_f32(read_code(q, i, IN), s, z), OUT))                       \
    }
DEQUANTIZE(i8, f32, PQ_I8, PQ_F32)
DEQUANTIZE(u8, f32, PQ_U8, PQ_F32)
DEQUANTIZE(i16, f32, PQ_I16, PQ_F32)
DEQUANTIZE(u16, f32, PQ_U16, PQ_F32)
DEQUANTIZE(i8, f16, PQ_I8, PQ_F16)
DEQUANTIZE(u8, f16, PQ_U8, PQ_F16)
DEQUANTIZE(i16, f16, PQ_I16, PQ_F16)
DEQUANTIZE(u16, f16, PQ_U16, PQ_F16)
DEQUANTIZE(i8, bf16, PQ_I8, PQ_BF16)
DEQUANTIZE(u8, bf16, PQ_U8, PQ_BF16)
DEQUANTIZE(i16, bf16, PQ_I16, PQ_BF16)
DEQUANTIZE(u16, bf16, PQ_U16, PQ_BF16)

PQ_INLINE float fake_f32(float x, float scale, int32_t zero_point, int32_t qmin, int32_t qmax)
{
    return pq_dequantize_f32(pq_quantize_f32(x, scale, zero_point, qmin, qmax), scale, zero_point);
}

#define FAKE_QUANTIZE(in, IN)                                                                                   \
    void pq_fake_quantize_##in##_scalar(const void *x, void *y, size_t runs, size_t length, const float *scale, \
                                        const int32_t *zero_point, int32_t qmin, int32_t qmax, int stream)      \
    {                                                                                                           \
        EACH_OF_RUNS(write_f(y, i, fake_f32(read_f(x, i, IN), s, z, qmin, qmax), IN))                           \
    }                                                                                                           \
    void pq_fake_quantize_columns_##in##_scalar(const void *x, void *y, size_t rows, size_t columns,            \
                                                size_t stride, const float *scale, const int32_t *zero_point,   \
                                                int32_t qmin, int32_t qmax, int stream)                         \
    {                                                                                                           \
        EACH_OF_COLUMNS(write_f(y, i, fake_f32(read_f(x, i, IN), s, z, qmin, qmax), IN))                        \
    }
FAKE_QUANTIZE(f32, PQ_F32)
FAKE_QUANTIZE(f16, PQ_F16)
FAKE_QUANTIZE(bf16, PQ_BF16)

#include "plain.inc"
