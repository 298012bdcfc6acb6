/* What CuPy's own kernels cannot do here: they flush subnormals, and they do not know bfloat16. An element a thread:
 * parameters, gradients and biases are small beside the arrays that the other units move. */
#include "elements.cuh"

/* From float64 to two bytes by way of float32, which is exact for what comes here: values that had two bytes once. */
template <class In, class Out> PQ_DEVICE void cast(const void *from, void *to, i64 n)
{
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (i64)gridDim.x * blockDim.x)
        Out::store(to, i, (typename Out::value)In::load(from, i));
}

#define CAST(in, IN, out, OUT)                                                                                  \
    PQ_KERNEL cast_##in##_##out(const void *from, void *to, i64 n) { cast<IN, OUT>(from, to, n); }
CAST(f16, F16, f32, F32)
CAST(bf16, BF16, f32, F32)
CAST(f64, F64, f32, F32)
CAST(f16, F16, f64, F64)
CAST(bf16, BF16, f64, F64)
CAST(f32, F32, f64, F64)
CAST(f32, F32, f16, F16)
CAST(f64, F64, f16, F16)
CAST(f32, F32, bf16, BF16)
CAST(f64, F64, bf16, BF16)

/* (q - zero_point) * scale of int32, as biases are: the difference is exact, and rounded once to float32. The zero
 * points are int64, or null for 0; block is 0 for one scale an index of the axis. */
template <class Out>
PQ_DEVICE void dequantize_i32(const int *q, const float *scales, const i64 *zero_points, void *x, i64 outer, i64 axis,
                              i64 inner, i64 block)
{
    const i64 n = outer * axis * inner;
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (i64)gridDim.x * blockDim.x) {
        const i64 row = i / inner, along = row % axis;
        i64 p = along;
        if (block) p = (row / axis * ((axis + block - 1) / block) + along / block) * inner + i % inner;
        const i64 steps = (i64)q[i] - (zero_points ? zero_points[p] : 0);
        Out::store(x, i, (typename Out::value)((float)steps * scales[p]));
    }
}

#define DEQUANTIZE(out, OUT)                                                                                    \
    PQ_KERNEL dequantize_i32_##out(const int *q, const float *scales, const i64 *zero_points, void *x, i64 outer, \
                                   i64 axis, i64 inner, i64 block)                                              \
    {                                                                                                           \
        dequantize_i32<OUT>(q, scales, zero_points, x, outer, axis, inner, block);                              \
    }
DEQUANTIZE(f32, F32)
DEQUANTIZE(f16, F16)
DEQUANTIZE(bf16, BF16)
DEQUANTIZE(f64, F64)
