/* The range of data that a thread holds, in the fewest instructions: what is not finite shows in it, and need not be
 * counted apart. */
#ifndef PQ_EXTREMES_CUH
#define PQ_EXTREMES_CUH

#include "range.cuh"

/* The smallest and largest, NaN as soon as one is there: as floats, or two halves of a word at a time. */
template <class T> struct Extremes {
    Range<T> range;

    __device__ __forceinline__ void see(const Words<16> &v) { range.see_vector(v); }
    __device__ __forceinline__ Bounds bounds() const
    {
        const Bounds b = {range.low, range.high, range.poison != 0};
        return b;
    }
};

#if defined(PQ_HOST) || __CUDA_ARCH__ >= 800
template <> struct Extremes<F32> {
    float low = PQ_INFINITY, high = -PQ_INFINITY;

    __device__ __forceinline__ void see(const Words<16> &v)
    {
#pragma unroll
        for (int k = 0; k < 4; k++) {
            low = min_or_nan(low, F32::get(v, k));
            high = max_or_nan(high, F32::get(v, k));
        }
    }
    __device__ __forceinline__ Bounds bounds() const
    {
        const Bounds b = {low, high, low != low};
        return b;
    }
};

template <class T, bool brain, bool smaller> PQ_DEVICE u32 packed_extreme(u32 a, u32 b)
{
#ifdef PQ_HOST
    const Words<4> x = {{a}}, y = {{b}};
    Words<4> z;
    for (int k = 0; k < 2; k++) {
        const float s = T::get(x, k), t = T::get(y, k);
        T::put(z, k, smaller ? min_or_nan(s, t) : max_or_nan(s, t));
    }
    return z.word[0];
#else
    if (smaller && !brain) asm("min.NaN.f16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
    if (!smaller && !brain) asm("max.NaN.f16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
    if (smaller && brain) asm("min.NaN.bf16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
    if (!smaller && brain) asm("max.NaN.bf16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
    return a;
#endif
}

template <class T, bool brain, u32 infinity> struct PackedExtremes {
    u32 low = infinity, high = infinity | 0x80008000u;

    __device__ __forceinline__ void see(const Words<16> &v)
    {
#pragma unroll
        for (int k = 0; k < 4; k++) {
            low = packed_extreme<T, brain, true>(low, v.word[k]);
            high = packed_extreme<T, brain, false>(high, v.word[k]);
        }
    }
    __device__ __forceinline__ Bounds bounds() const
    {
        const Words<4> l = {{low}}, h = {{high}};
        const float a = min_or_nan(T::get(l, 0), T::get(l, 1));
        const Bounds b = {a, max_or_nan(T::get(h, 0), T::get(h, 1)), a != a};
        return b;
    }
};
template <> struct Extremes<F16> : PackedExtremes<F16, false, 0x7c007c00u> {};
template <> struct Extremes<BF16> : PackedExtremes<BF16, true, 0x7f807f80u> {};
#endif

#endif
